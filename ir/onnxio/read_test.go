package onnxio

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// Models in tests are written in protobuf's text form. graph wraps the fields
// of a GraphProto as a model of IR version 8 and opset 17.
func graph(fields string) string {
	return `ir_version: 8 opset_import { version: 17 } graph { name: "g" ` + fields + ` }`
}

const (
	x = `input { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_param: "N" } dim { dim_value: 2 } } } } } `
	y = `output { name: "y" } `
)

// weight is an initializer of two f32 elements.
func weight(name string, a, b float32) string {
	return fmt.Sprintf(`initializer { name: %q dims: 2 data_type: 1 float_data: %g float_data: %g } `, name, a, b)
}

func node(op, in, out string, attrs ...string) string {
	s := fmt.Sprintf("node { op_type: %q ", op)
	for _, n := range strings.Fields(in) {
		s += fmt.Sprintf("input: %q ", strings.Trim(n, "_"))
	}
	for _, n := range strings.Fields(out) {
		s += fmt.Sprintf("output: %q ", strings.Trim(n, "_"))
	}
	return s + strings.Join(attrs, " ") + "} "
}

func encodeText(t testing.TB, text string) []byte {
	t.Helper()
	var m onnxpb.ModelProto
	if err := prototext.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	data, err := proto.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRead(t *testing.T) {
	intAttr := `attribute { name: "value_int" type: INT i: 7 } `
	branch := func(name, op string) string {
		return fmt.Sprintf(`attribute { name: %q type: GRAPH g { name: %q %s output { name: "r" } } } `, name, name, node(op, "x", "r"))
	}
	for _, c := range []struct{ name, model, want, notes string }{
		{
			name:  "one node",
			model: graph(x + node("Relu", "x", "y", `name: "act" doc_string: "d"`) + y),
			want:  "x f32[N,2] | Relu act (x) -> y f32[N,2] | y",
		},
		{
			name:  "initializer among the inputs",
			model: graph(x + strings.ReplaceAll(x, `"x"`, `"w"`) + `initializer { name: "w" dims: 1 dims: 2 data_type: 1 float_data: 1 float_data: 2 }` + node("Add", "x w", "y") + y),
			want:  "x f32[N,2] | w = [1 2] | Add  (x, w) -> y f32[N,2] | y",
		},
		{
			name:  "out of order",
			model: graph(x + node("Relu", "a", "y") + node("Neg", "x", "a") + y),
			want:  "x f32[N,2] | Neg  (x) -> a f32[N,2] | Relu  (a) -> y f32[N,2] | y",
		},
		{
			name:  "stale batch size",
			model: graph(strings.Replace(x, `dim_param: "N"`, "dim_value: 1", 1) + node("Relu", "x", "a") + node("Relu", "a", "y") + y + strings.NewReplacer("input", "value_info", `"x"`, `"a"`, `dim_param: "N"`, "dim_value: 8").Replace(x)),
			want:  "x f32[1,2] | Relu  (x) -> a f32[1,2] | Relu  (a) -> y f32[1,2] | y",
			notes: "%a: declared as f32[8,2], but the operators give f32[1,2]",
		},
		{
			name:  "minus one is an unknown dimension",
			model: graph(strings.Replace(x, `dim_param: "N"`, "dim_value: -1", 1) + node("Relu", "x", "y") + y),
			want:  "x f32[?,2] | Relu  (x) -> y f32[?,2] | y",
		},
		{
			name: "constants",
			model: graph(node("Constant", "", "a", intAttr) + node("Constant", "", "b", `attribute { name: "value_ints" type: INTS ints: 1 ints: 2 }`) +
				node("Constant", "", "c", `attribute { name: "value_float" type: FLOAT f: 2.5 }`) + node("Constant", "", "d", `attribute { name: "value_floats" type: FLOATS floats: 1.5 }`) +
				node("Constant", "", "e", `attribute { name: "value_string" type: STRING s: "s" }`) + node("Constant", "", "f", `attribute { name: "value_strings" type: STRINGS strings: "t" }`) +
				node("Constant", "", "h", `attribute { name: "value" type: TENSOR t { dims: 1 data_type: 3 int32_data: -3 } }`) +
				node("Constant", "", "y", `attribute { name: "sparse_value" type: SPARSE_TENSOR sparse_tensor { dims: 2 dims: 2 values { dims: 2 data_type: 1 float_data: 5 float_data: 6 } indices { dims: 2 dims: 2 data_type: 7 int64_data: 0 int64_data: 1 int64_data: 1 int64_data: 0 } } }`) + y),
			want: "| a = [7] | b = [1 2] | c = [2.5] | d = [1.5] | e = [s] | f = [t] | h = [-3] | y = [0 5 6 0] | y",
		},
		{
			name:  "sparse initializer with linear indices",
			model: graph(x + `sparse_initializer { dims: 2 values { name: "w" dims: 1 data_type: 1 float_data: 3 } indices { dims: 1 data_type: 7 int64_data: 1 } }` + node("Mul", "x w", "y") + y),
			want:  "x f32[N,2] | w = [0 3] | Mul  (x, w) -> y f32[N,2] | y",
		},
		{
			name:  "branches that capture",
			model: graph(x + `input { name: "c" type { tensor_type { elem_type: 9 shape { } } } }` + node("If", "c", "y", branch("then_branch", "Relu"), branch("else_branch", "Neg")) + y),
			want:  "x f32[N,2] c bool[] | If  (c) {| Neg  (x) -> r_1 f32[N,2] | r_1} {| Relu  (x) -> r f32[N,2] | r} -> y f32[N,2] | y",
		},
		{
			name: "a body returns what it captures",
			model: graph(x + `input { name: "c" type { tensor_type { elem_type: 9 shape { } } } }` + node("If", "c", "y", branch("then_branch", "Relu"),
				`attribute { name: "else_branch" type: GRAPH g { name: "e" output { name: "x" } } }`) + y),
			want: "x f32[N,2] c bool[] | If  (c) {| Identity  (x) -> x_1 f32[N,2] | x_1} {| Relu  (x) -> r f32[N,2] | r} -> y f32[N,2] | y",
		},
		{
			name: "function with attributes",
			model: graph(x+node("F", "x", "y", `name: "call" domain: "my" attribute { name: "a" type: FLOAT f: 0.5 }`)+y) + ` opset_import { domain: "my" version: 1 } functions { domain: "my" name: "F" input: "i" output: "o" attribute: "a" opset_import { version: 17 } ` +
				node("LeakyRelu", "i", "x", `attribute { name: "alpha" type: FLOAT ref_attr_name: "a" }`) + node("Elu", "x", "o", `attribute { name: "alpha" type: FLOAT ref_attr_name: "b" }`) + `attribute_proto { name: "b" type: FLOAT f: 3 } }`,
			want: "x f32[N,2] | LeakyRelu  alpha=0.5 (x) -> call/x f32[N,2] | Elu  alpha=3 (call/x) -> y f32[N,2] | y",
		},
		{
			name:  "function that returns its input",
			model: graph(x+node("F", "x", "y", `domain: "my"`)+y) + `opset_import { domain: "my" version: 1 } functions { domain: "my" name: "F" input: "i" output: "i" }`,
			want:  "x f32[N,2] | Identity  (x) -> y f32[N,2] | y",
		},
		{
			name:  "a value of a function takes no name of the graph",
			model: graph(x+node("F", "x", "y", `domain: "my" name: "a"`)+node("Relu", "x", "a/t")+y+`output { name: "a/t" }`) + `opset_import { domain: "my" version: 1 } functions { domain: "my" name: "F" input: "i" output: "o" opset_import { version: 17 } ` + node("Neg", "i", "t") + node("Neg", "t", "o") + `}`,
			want:  "x f32[N,2] | Neg  (x) -> a/t_ f32[N,2] | Neg  (a/t_) -> y f32[N,2] | Relu  (x) -> a/t f32[N,2] | y a/t",
		},
		{
			name:  "absent optional inputs and unused domains",
			model: graph(x+node("Clip", "x _ m", "y")+`initializer { name: "m" data_type: 1 float_data: 6 }`+y) + ` opset_import { domain: "com.acme" version: 9 }`,
			want:  "x f32[N,2] | m = [6] | Clip  (x, -, m) -> y f32[N,2] | y",
		},
		{
			name:  "training information is ignored",
			model: graph(x+node("Relu", "x", "y")+y) + ` training_info { }`,
			want:  "x f32[N,2] | Relu  (x) -> y f32[N,2] | y",
			notes: "the model's training information is ignored",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var notes []string
			r := Reader{Ops: ops.Table(), Note: func(p Problem) { notes = append(notes, p.String()) }}
			g, err := r.Decode(encodeText(t, c.model), "")
			if err != nil {
				t.Fatal(err)
			}
			if err := ir.Verify(g); err != nil {
				t.Error(err)
			}
			if got := outline(g); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if got := strings.Join(notes, "; "); got != c.notes {
				t.Errorf("notes %q, want %q", got, c.notes)
			}
		})
	}
}

// outline prints a graph on one line.
func outline(g *ir.Graph) string {
	var parts []string
	inputs := ""
	for _, v := range g.Inputs {
		inputs += fmt.Sprintf("%s %v ", v.Name, v.Type)
	}
	for _, v := range g.Consts {
		parts = append(parts, fmt.Sprintf("%s = %v", v.Name, v.Data.Container()))
	}
	names := func(vs []*ir.Value, types bool) string {
		var out []string
		for _, v := range vs {
			switch {
			case v == nil:
				out = append(out, "-")
			case types:
				out = append(out, v.Name+" "+v.Type.String())
			default:
				out = append(out, v.Name)
			}
		}
		return strings.Join(out, ", ")
	}
	for _, n := range g.Nodes {
		s := n.Op.Name + " " + n.Name
		bodies := ""
		for _, a := range n.Attrs {
			if b, ok := a.Value.(*ir.Graph); ok {
				bodies += " {" + outline(b) + "}"
			} else {
				s += fmt.Sprintf(" %s=%v", a.Name, a.Value)
			}
		}
		parts = append(parts, s+" ("+names(n.In, false)+")"+bodies+" -> "+names(n.Out, true))
	}
	outs := ""
	for _, v := range g.Outputs {
		outs += " " + v.Name
	}
	return inputs + "| " + strings.Join(parts, " | ") + " |" + outs
}

func TestReadRefuses(t *testing.T) {
	deep := `node { op_type: "Relu" input: "x" output: "y" }`
	for i := range 110 {
		deep = fmt.Sprintf(`node { op_type: "If" input: "x" output: "y%d" attribute { name: "then_branch" type: GRAPH g { %s } } }`, i, deep)
	}
	function := func(name, body string) string {
		return fmt.Sprintf(` opset_import { domain: "my" version: 1 } functions { domain: "my" name: %q input: "x" output: "y" opset_import { version: 17 } opset_import { domain: "my" version: 1 } %s }`, name, body)
	}
	laughs := graph(x + node("F0", "x", "y", `domain: "my"`) + y)
	for i := range 20 {
		body := node("Relu", "x", "y")
		if i < 19 {
			next := fmt.Sprintf("F%d", i+1)
			body = node(next, "x", "a", `domain: "my"`) + node(next, "a", "y", `domain: "my"`)
		}
		laughs += function(fmt.Sprintf("F%d", i), body)
	}
	relu := node("Relu", "x", "y")
	for _, c := range []struct {
		name, model, want string
		unsupported       bool
	}{
		{name: "no graph", model: `ir_version: 8`, want: "it has no graph"},
		{name: "before IR 3", model: `ir_version: 1 graph { }`, want: "IR version 1", unsupported: true},
		{name: "future IR", model: `ir_version: 99 graph { }`, want: "IR version 99", unsupported: true},
		{name: "old opset", model: `ir_version: 3 opset_import { version: 5 } graph { }`, want: "opset 5 is not supported", unsupported: true},
		{name: "two opsets", model: `ir_version: 3 opset_import { version: 7 } opset_import { domain: "ai.onnx" version: 8 } graph { }`, want: "in versions 7 and 8"},
		{name: "domain not imported", model: `ir_version: 8 graph { name: "g" ` + x + relu + y + ` }`, want: `does not import domain ""`},
		{name: "unknown operators", model: graph(x + node("Foo", "x", "a", `name: "one"`) + node("Relu", "a", "b") + node("Bar", "b", "y") + y), want: "Foo one: operator Foo is not supported\n  Bar %y: operator Bar is not supported", unsupported: true},
		{name: "undefined input", model: graph(x + node("Relu", "q", "y") + y), want: `input "q" is not defined`},
		{name: "undefined output", model: graph(x + relu + `output { name: "q" }`), want: `output "q" of graph "g" is not defined`},
		{name: "output defined twice", model: graph(x + relu + relu + y), want: `output "y" stands for two values`},
		{name: "output shadows input", model: graph(x + node("Relu", "x", "x") + y), want: "nodes in a cycle: %x"},
		{name: "initializer twice", model: graph(x + weight("w", 1, 2) + weight("w", 1, 2) + relu + y), want: `initializer "w": the name stands for two values`},
		{name: "input twice", model: graph(x + x + relu + y), want: `input "x": is declared twice`},
		{name: "input without type", model: graph(`input { name: "x" }` + relu + y), want: `input "x": has no type`},
		{name: "sequence input", model: graph(`input { name: "x" type { sequence_type { elem_type { } } } }` + relu + y), want: "type sequence of other than tensors is not supported", unsupported: true},
		{name: "float8", model: graph(strings.Replace(x, "elem_type: 1", "elem_type: 17", 1) + relu + y), want: "type FLOAT8E4M3FN is not supported", unsupported: true},
		{name: "float6", model: graph(strings.Replace(x, "elem_type: 1", "elem_type: 27", 1) + relu + y), want: "type FLOAT6E2M3 is not supported", unsupported: true},
		{name: "no element type", model: graph(strings.Replace(x, "elem_type: 1", "elem_type: 77", 1) + relu + y), want: "77 is not an element type"},
		{name: "cycle", model: graph(x + node("Add", "x b", "a") + node("Relu", "a", "b") + node("Relu", "b", "y") + y), want: "nodes in a cycle: %b, %a"},
		{name: "negative dimension", model: graph(strings.Replace(x, "dim_value: 2", "dim_value: -7", 1) + relu + y), want: "dimension -7 is negative"},
		{name: "overflowing shape", model: graph(strings.Replace(x, "dim_value: 2", "dim_value: 4000000000 } dim { dim_value: 4000000000", 1) + relu + y), want: "too large"},
		{name: "terabyte", model: graph(x + `initializer { name: "w" dims: 1000000 dims: 1000000 data_type: 1 raw_data: "abcd" }` + relu + y), want: "takes 4000000000000 bytes, the file has 4"},
		{name: "sparse terabyte", model: graph(x + `sparse_initializer { dims: 1000000 dims: 1000000 values { name: "w" dims: 0 data_type: 1 } indices { dims: 0 data_type: 7 } }` + relu + y), want: "too large"},
		{name: "sparse index outside", model: graph(x + `sparse_initializer { dims: 2 values { name: "w" dims: 1 data_type: 1 float_data: 1 } indices { dims: 1 data_type: 7 int64_data: 2 } }` + relu + y), want: "indices must be inside the shape"},
		{name: "NaN", model: graph(x + strings.Replace(weight("w", 1, 2), "float_data: 2", "float_data: nan", 1) + node("Add", "x w", "y") + y), want: `initializer "w": element 1 is not a number`},
		{name: "data twice", model: graph(x + `initializer { name: "w" dims: 1 data_type: 1 float_data: 1 raw_data: "abcd" }` + relu + y), want: "given twice"},
		{name: "data in another field", model: graph(x + `initializer { name: "w" dims: 1 data_type: 1 int32_data: 1 }` + relu + y), want: "in another type's field"},
		{name: "too few data", model: graph(x + `initializer { name: "w" dims: 3 data_type: 1 float_data: 1 }` + relu + y), want: "takes 3 entries, the file has 1"},
		{name: "out of range", model: graph(x + `initializer { name: "w" dims: 1 data_type: 3 int32_data: 128 }` + relu + y), want: "element 0 is 128, outside i8"},
		{name: "external without folder", model: graph(x + `initializer { name: "w" dims: 1 data_type: 1 data_location: EXTERNAL external_data { key: "location" value: "w.bin" } }` + relu + y), want: "not read from a file"},
		{name: "attribute twice", model: graph(x + node("Elu", "x", "y", `attribute { name: "alpha" type: FLOAT f: 1 }`, `attribute { name: "alpha" type: FLOAT f: 2 }`) + y), want: "attribute alpha stands twice"},
		{name: "unknown attribute", model: graph(x + node("Relu", "x", "y", `attribute { name: "beta" type: FLOAT f: 1 }`) + y), want: "attribute beta is not known"},
		{name: "attribute of another type", model: graph(x + node("Elu", "x", "y", `attribute { name: "alpha" type: INT i: 1 }`) + y), want: "attribute alpha is int, expected float"},
		{name: "value in another field", model: graph(x + node("Elu", "x", "y", `attribute { name: "alpha" type: FLOAT i: 1 }`) + y), want: "type FLOAT, but the value is of type INT"},
		{name: "attribute without type", model: graph(x + node("Elu", "x", "y", `attribute { name: "alpha" }`) + y), want: "has no type"},
		{name: "reference outside of functions", model: graph(x + node("Elu", "x", "y", `attribute { name: "alpha" type: FLOAT ref_attr_name: "a" }`) + y), want: "stands in no function"},
		{name: "too few inputs", model: graph(x + node("Add", "x", "y") + y), want: "input 1 (B) is missing"},
		{name: "newer operator", model: strings.Replace(graph(x+node("Gelu", "x", "y")+y), "version: 17", "version: 13", 1), want: "Gelu %y: operator Gelu exists from opset 20 on, the model declares opset 13", unsupported: true},
		{name: "newer attribute", model: strings.Replace(graph(x+node("Shape", "x", "y", `attribute { name: "end" type: INT i: 1 }`)+y), "version: 17", "version: 13", 1), want: "attribute end of Shape exists from opset 15 on, the model declares opset 13", unsupported: true},
		{name: "no output", model: graph(x + node("Relu", "x", "") + y), want: "has no output"},
		{name: "other element type declared", model: graph(x + relu + `output { name: "y" type { tensor_type { elem_type: 6 } } }`), want: `value "y": declared as i32[...], but it is f32[N,2]`},
		{name: "other rank declared", model: graph(x + relu + `output { name: "y" type { tensor_type { elem_type: 1 shape { } } } }`), want: `value "y": declared as f32[], but it is f32[N,2]`},
		{name: "deep recursion", model: graph(x + deep + y), want: "not an ONNX file"},
		{name: "function calls itself", model: graph(x+node("F", "x", "y", `domain: "my"`)+y) + function("F", node("F", "x", "y", `domain: "my"`)), want: "function my.F calls itself"},
		{name: "billion laughs", model: laughs, want: fmt.Sprintf("more than %d nodes", maxNodes)},
		{name: "metadata key twice", model: graph(x+relu+y) + ` metadata_props { key: "k" value: "1" } metadata_props { key: "k" value: "2" }`, want: `metadata key "k" stands twice`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(encodeText(t, c.model), "", ops.Table())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want %q", err, c.want)
			}
			var u *Unsupported
			if errors.As(err, &u) != c.unsupported {
				t.Errorf("%T, want *Unsupported: %v", err, c.unsupported)
			}
		})
	}
}

// Nodes of QONNX whose domain is not imported, as tools leave them that rename domains,
// and the versions that today's onnx package writes by default.
func TestReadUnimported(t *testing.T) {
	scalar := func(name, value string) string {
		return fmt.Sprintf(`initializer { name: %q data_type: 1 float_data: %s }`, name, value)
	}
	quant := node("Quant", "x s z b", "y", `domain: "qonnx.custom_op.general"`, `attribute { name: "rounding_mode" type: STRING s: "ROUND_TO_ZERO" }`)
	g, err := Decode(encodeText(t, `ir_version: 14 opset_import { version: 28 } opset_import { domain: "onnx.brevitas" version: 1 } graph { name: "g" `+
		x+scalar("s", "1")+scalar("z", "0")+scalar("b", "4")+quant+y+` }`), "", ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	if n := g.Nodes[len(g.Nodes)-1]; n.Op.Name != "thriftc.Quant" || n.Str("rounding_mode") != "DOWN" {
		t.Errorf("read as %s, rounding %s", n.Op.Name, n.Str("rounding_mode"))
	}
}

// TestReadFlags: any number but 0 says yes.
func TestReadFlags(t *testing.T) {
	attr := func(name string, i int) string { return fmt.Sprintf(`attribute { name: %q type: INT i: %d }`, name, i) }
	g, err := Decode(encodeText(t, graph(x+node("Gemm", "x x", "y", `name: "N"`, attr("transB", 2), attr("transA", 0))+y)), "", ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	if a := g.Nodes[0].Attrs; a.Get("transB") != int64(1) || a.Get("transA") != int64(0) {
		t.Errorf("transB 2 and transA 0 are read as %v", a)
	}
}
