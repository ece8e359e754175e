package onnxio

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/internal/onnxschema"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Every default that the table states can be written out and is right, or goes, at every opset.
func TestConform(t *testing.T) {
	for _, op := range ops.Table().Ops() {
		if op.Domain() != "" {
			continue
		}
		for opset := MinWriteOpset; opset <= MaxOpset; opset++ {
			s, _ := onnxschema.Lookup(op.Name, opset)
			if s == nil {
				continue
			}
			g := ir.NewGraph("g", ops.Table())
			r := ir.NewRewriter(g)
			var attrs ir.Attrs
			for _, a := range op.Attrs {
				if a.Default != nil {
					attrs.Set(a.Name, a.Default)
				}
			}
			n, err := r.AddRaw(op.Name, "n", attrs, nil, "y")
			if err != nil {
				t.Fatal(err)
			}
			u := &Unsupported{}
			conform(g, opset, u)
			for _, p := range u.Problems {
				t.Errorf("opset %d: %v", opset, p)
			}
			for _, a := range n.Attrs {
				if s.Attr(a.Name) == nil {
					t.Errorf("%s at opset %d keeps attribute %s", op.Name, opset, a.Name)
				}
			}
			for _, a := range op.Attrs {
				// GridSample's mode had other words before opset 20, its Export writes them.
				if old := s.Attr(a.Name); old != nil && old.HasDefault && a.Default != nil && old.Default != attrText(a.Default) && !n.Attrs.Has(a.Name) {
					t.Errorf("%s at opset %d: %s is %s if absent, here %v", op.Name, opset, a.Name, old.Default, a.Default)
				}
			}
		}
	}
}

// at states another opset in a model that graph made.
func at(opset int, model string) string {
	return strings.Replace(model, "version: 17", fmt.Sprintf("version: %d", opset), 1)
}

func TestWriteAttributesOfTheOpset(t *testing.T) {
	for _, op := range []string{"ReduceMean", "ReduceMax", "ReduceL2", "ReduceProd"} {
		g := decodeText(t, at(20, graph(x+node(op, "x", "y", `name: "r" attribute { name: "noop_with_empty_axes" type: INT i: 0 } attribute { name: "keepdims" type: INT i: 1 }`)+y)))
		_, m := again(t, g, WriteOptions{})
		for _, a := range m.Graph.Node[0].Attribute {
			if a.GetName() == "noop_with_empty_axes" {
				t.Errorf("%s at opset %d has the attribute %s", op, m.OpsetImport[0].GetVersion(), a.GetName())
			}
		}
	}
	g := decodeText(t, at(19, graph(x+`initializer { name: "s" dims: 2 data_type: 1 float_data: 1 float_data: 2 }`+
		node("Resize", "x _ s", "y", `attribute { name: "mode" type: STRING s: "linear" } attribute { name: "coordinate_transformation_mode" type: STRING s: "half_pixel_symmetric" }`)+y)))
	if _, m := again(t, g, WriteOptions{}); m.OpsetImport[0].GetVersion() != 19 {
		t.Errorf("half_pixel_symmetric is written at opset %d, expected 19, the first that has it", m.OpsetImport[0].GetVersion())
	}
	if _, err := Encode(g, WriteOptions{Opset: 18}); err == nil || !strings.Contains(err.Error(), "half_pixel_symmetric") {
		t.Errorf("at opset 18: %v", err)
	}
}

func TestWriteNodeNames(t *testing.T) {
	branch := func(out string) string {
		return fmt.Sprintf(`type: GRAPH g { name: "b" node { op_type: "Relu" name: "same" input: "x" output: "%s" } output { name: "%s" type { tensor_type { elem_type: 1 } } } }`, out, out)
	}
	g := decodeText(t, graph(x+`input { name: "c" type { tensor_type { elem_type: 9 shape { } } } }`+
		node("Relu", "x", "a", `name: "same"`)+node("Neg", "a", "b", `name: "same_1"`)+node("Neg", "b", "d", `name: "same"`)+
		node("If", "c", "e", `name: "same" attribute { name: "then_branch" `+branch("p")+` } attribute { name: "else_branch" `+branch("q")+` }`)+
		node("Add", "d e", "y")+y))
	back, m := again(t, g, WriteOptions{})
	var names []string
	back.Walk(func(n *ir.Node) { names = append(names, n.Name) })
	if got, want := strings.Join(names, " "), "same same_1 same_2 same_3 same_4 same_5 "; got != want {
		t.Errorf("nodes are called %q, want %q", got, want)
	}
	if problems := verify(m); len(problems) > 0 {
		t.Error(problems)
	}
}

// What a strict reader refuses, made by breaking a good model in one place each.
func TestVerify(t *testing.T) {
	good := `ir_version: 8 opset_import { version: 17 } opset_import { domain: "d" version: 1 } graph { name: "g"
		input { name: "x" type { tensor_type { elem_type: 1 shape { dim { dim_value: 2 } } } } }
		initializer { name: "w" dims: 2 data_type: 1 raw_data: "\000\000\000\000\000\000\000\000" }
		node { op_type: "Add" name: "add" input: "x" input: "w" output: "s" }
		node { op_type: "LeakyRelu" name: "leaky" input: "s" output: "l" attribute { name: "alpha" type: FLOAT f: 0.5 } }
		node { op_type: "Own" domain: "d" name: "own" input: "l" output: "o" }
		node { op_type: "Concat" name: "cat" input: "o" input: "l" output: "y" attribute { name: "axis" type: INT i: 0 } }
		value_info { name: "s" type { tensor_type { elem_type: 1 } } }
		output { name: "y" type { tensor_type { elem_type: 1 } } } }`
	parse := func(text string) *onnxpb.ModelProto {
		m := &onnxpb.ModelProto{}
		if err := prototext.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if p := verify(parse(good)); len(p) > 0 {
		t.Fatalf("a good model: %v", p)
	}
	for _, c := range []struct{ old, new, want string }{
		{`name: "leaky"`, `name: "add"`, "another node has the same name"},
		{`output: "l"`, `output: "s"`, "stands for two values"},
		{`output: "l"`, `output: "x"`, "stands for two values"},
		{`input: "s" output: "l"`, `input: "o" output: "l"`, `input "o" is not defined before it`},
		{`input: "w"`, `input: "v"`, `input "v" is not defined`},
		{`input: "w"`, ``, "has 1 inputs, 2 are needed"},
		{`input: "w"`, `input: ""`, "input 1 is missing"},
		{`input: "w"`, `input: "w" input: "w"`, "has 3 inputs, at most 2"},
		{`"alpha"`, `"beta"`, "attribute beta is not in opset 17"},
		{`type: FLOAT f: 0.5`, `type: INT i: 1`, "attribute alpha is of type INT, expected FLOAT"},
		{`{ name: "axis" type: INT i: 0 }`, `{ name: "axis" type: INT i: 0 } attribute { name: "axis" type: INT i: 0 }`, "attribute axis stands twice"},
		{`attribute { name: "axis" type: INT i: 0 }`, ``, "attribute axis is missing"},
		{`"LeakyRelu"`, `"Gelu"`, "operator is not in opset 17, it needs 20"},
		{`"LeakyRelu"`, `"Upsample"`, "operator is not in opset 17"},
		{`domain: "d" version: 1`, `domain: "e" version: 1`, `does not import domain "d"`},
		{`domain: "d" version: 1`, `domain: "" version: 1`, `domain "" is imported twice`},
		{`data_type: 1 raw_data`, `data_type: 7 raw_data`, "holds 8 bytes, its shape needs 16"},
		{`dims: 2 data_type: 1 raw_data`, `dims: 1 data_type: 7 raw_data`, `input 1 ("w") is i64, expected f32`},
		{`elem_type: 1 shape`, `elem_type: 9 shape`, `input 0 ("x") is bool`},
		{`{ name: "s" type { tensor_type { elem_type: 1 } } }`, `{ name: "s" type { tensor_type { elem_type: 10 } } }`, `output "s" is f32, declared as f16`},
		{`value_info { name: "s"`, `value_info { name: "gone"`, `value_info names "gone", which is not there`},
		{`output { name: "y" type { tensor_type { elem_type: 1 } } }`, `output { name: "z" type { tensor_type { elem_type: 1 } } }`, `output "z" is not defined`},
		{`output { name: "y" type { tensor_type { elem_type: 1 } } }`, `output { name: "y" }`, `output "y" has no type`},
		{`graph { name: "g"`, `graph { name: ""`, "a graph has no name"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("%q is not in the model", c.old)
		}
		got := fmt.Sprint(verify(parse(strings.Replace(good, c.old, c.new, 1))))
		if !strings.Contains(got, c.want) {
			t.Errorf("with %q: %s, want %q", c.new, got, c.want)
		}
	}
}

// Files with mistakes that can be read around are read, unless the reader is strict.
func TestStrict(t *testing.T) {
	data := encodeText(t, graph(x+node("Relu", "x", "a", `name: "same"`)+node("Neg", "a", "y", `name: "same"`)+
		`output { name: "y" type { tensor_type { elem_type: 1 } } } `))
	if _, err := (&Reader{Ops: ops.Table()}).Decode(data, ""); err != nil {
		t.Error(err)
	}
	if _, err := (&Reader{Ops: ops.Table(), Strict: true}).Decode(data, ""); err == nil || !strings.Contains(err.Error(), "another node has the same name") {
		t.Errorf("a strict reader: %v", err)
	}
}

// A graph that no opset can say is refused as a whole: nothing wrong is written in silence.
func TestWriteRefusesWhatReadersRefuse(t *testing.T) {
	g := ir.NewGraph("g", ops.Table())
	r := ir.NewRewriter(g)
	in := r.Input("x", ir.TensorType(tensor.F32, ir.Fixed(2)))
	n, err := r.Add("Neg", "neg", nil, []*ir.Value{in}, "y")
	if err != nil {
		t.Fatal(err)
	}
	r.Output(n.Out[0])
	n.Attrs.Set("no_such_attribute", 1)
	if _, err := Encode(g, WriteOptions{}); err == nil || !strings.Contains(err.Error(), "Neg neg: attribute no_such_attribute is not in opset") {
		t.Errorf("error %v", err)
	}
}
