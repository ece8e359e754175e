package onnxio

import (
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/internal/onnxschema"
	"github.com/thriftc/thriftc/ir/tensor"
)

// verify returns what a strict reader, the checker of onnx or ONNX Runtime, would refuse in
// a model: names that stand twice or for nothing, nodes before what they use, and nodes that
// their operator does not have in the opset that the model states. It looks at the file's
// form alone and knows nothing of how the model was made.
func verify(m *onnxpb.ModelProto) []Problem {
	v := &verifier{imports: map[string]int{}, nodes: map[string]bool{}}
	for _, o := range m.OpsetImport {
		d := domain(o.GetDomain())
		if _, twice := v.imports[d]; twice {
			v.problem("", "domain %q is imported twice", d)
		}
		v.imports[d] = int(o.GetVersion())
	}
	if _, ok := v.imports[""]; !ok {
		v.problem("", "the model does not say its opset")
	}
	if m.Graph == nil {
		v.problem("", "the model has no graph")
		return v.problems
	}
	v.graph(m.Graph, nil)
	return v.problems
}

type verifier struct {
	imports  map[string]int
	nodes    map[string]bool // names of nodes, of all graphs
	problems []Problem
}

func (v *verifier) problem(where, format string, args ...any) {
	v.problems = append(v.problems, Problem{where, fmt.Sprintf(format, args...)})
}

// typeScope holds the types of the values that a graph defines, "" where they are not known.
type typeScope struct {
	types map[string]string
	outer *typeScope
}

func (s *typeScope) lookup(name string) (string, bool) {
	for ; s != nil; s = s.outer {
		if t, ok := s.types[name]; ok {
			return t, true
		}
	}
	return "", false
}

// graph checks a graph and returns the types of its outputs.
func (v *verifier) graph(g *onnxpb.GraphProto, outer *typeScope) []string {
	sc := &typeScope{types: map[string]string{}, outer: outer}
	where := fmt.Sprintf("graph %q", g.GetName())
	if g.GetName() == "" {
		v.problem("", "a graph has no name")
	}
	define := func(what, name, typ string) {
		if _, twice := sc.lookup(name); twice {
			v.problem(where, "%s %q: the name stands for two values", what, name)
		}
		sc.types[name] = typ
	}
	inputs := map[string]bool{}
	for _, in := range g.Input {
		if in.GetName() == "" {
			v.problem(where, "an input has no name")
		}
		if outer == nil && in.Type == nil {
			v.problem(where, "input %q has no type", in.GetName())
		}
		define("input", in.GetName(), typeText(in.Type))
		inputs[in.GetName()] = true
	}
	for _, t := range g.Initializer {
		name, typ := t.GetName(), elemText(t.GetDataType())
		switch {
		case name == "":
			v.problem(where, "an initializer has no name")
		case inputs[name]: // a default; it stands among the inputs too
			delete(inputs, name)
			if sc.types[name] != typ {
				v.problem(where, "initializer %q is %s, the input of its name %s", name, typ, sc.types[name])
			}
		default:
			define("initializer", name, typ)
		}
		v.tensor(where+": initializer "+name, t)
	}
	declared := map[string]string{}
	for _, i := range g.ValueInfo {
		if _, twice := declared[i.GetName()]; twice {
			v.problem(where, "value_info names %q twice", i.GetName())
		}
		declared[i.GetName()] = typeText(i.Type)
	}
	for _, o := range g.Output {
		if t := typeText(o.Type); t != "" {
			declared[o.GetName()] = t
		}
	}
	for name, typ := range sc.types {
		if d := declared[name]; d != "" && typ != "" && d != typ {
			v.problem(where, "%q is %s, declared as %s", name, typ, d)
		}
	}
	for _, n := range g.Node {
		v.node(n, sc, declared)
	}
	outs := map[string]bool{}
	var types []string
	for _, o := range g.Output {
		if outs[o.GetName()] {
			v.problem(where, "output %q stands twice", o.GetName())
		}
		outs[o.GetName()] = true
		t, ok := sc.types[o.GetName()]
		if !ok {
			v.problem(where, "output %q is not defined", o.GetName())
		}
		if outer == nil && typeText(o.Type) == "" {
			v.problem(where, "output %q has no type", o.GetName())
		}
		types = append(types, t)
	}
	for _, i := range g.ValueInfo {
		if _, ok := sc.types[i.GetName()]; !ok {
			v.problem(where, "value_info names %q, which is not there", i.GetName())
		}
	}
	return types
}

// node checks a node and defines its outputs.
func (v *verifier) node(n *onnxpb.NodeProto, sc *typeScope, declared map[string]string) {
	where := n.GetOpType() + " " + label(n)
	if name := n.GetName(); name != "" {
		if v.nodes[name] {
			v.problem(where, "another node has the same name")
		}
		v.nodes[name] = true
	}
	in := make([]string, len(n.Input))
	for i, name := range n.Input {
		if name == "" {
			continue
		}
		t, ok := sc.lookup(name)
		if !ok {
			v.problem(where, "input %q is not defined before it", name)
		}
		in[i] = t
	}
	bodies := map[string][]string{} // types of the outputs of subgraphs
	seen := map[string]bool{}
	for _, a := range n.Attribute {
		if seen[a.GetName()] {
			v.problem(where, "attribute %s stands twice", a.GetName())
		}
		seen[a.GetName()] = true
		if a.T != nil {
			v.tensor(where+": attribute "+a.GetName(), a.T)
		}
		if a.G != nil {
			bodies[a.GetName()] = v.graph(a.G, sc)
		}
	}
	out := make([]string, len(n.Output))
	d := domain(n.GetDomain())
	opset, imported := v.imports[d]
	switch {
	case !imported:
		v.problem(where, "the model does not import domain %q", d)
	case d == "":
		op, first := onnxschema.Lookup(n.GetOpType(), opset)
		if op == nil {
			v.problem(where, "operator is not in opset %d%s", opset, sinceOpset(first, opset))
			break
		}
		v.attributes(where, n, op)
		v.types(where, n, op, in, out)
		if b := bodies["then_branch"]; len(b) == len(out) {
			copy(out, b)
		}
	}
	for i, name := range n.Output {
		if name == "" {
			continue
		}
		if _, twice := sc.lookup(name); twice {
			v.problem(where, "output %q: the name stands for two values", name)
		}
		if d := declared[name]; d != "" {
			if out[i] != "" && out[i] != d {
				v.problem(where, "output %q is %s, declared as %s", name, out[i], d)
			}
			out[i] = d
		}
		sc.types[name] = out[i]
	}
}

func (v *verifier) attributes(where string, n *onnxpb.NodeProto, op *onnxschema.Operator) {
	for _, a := range n.Attribute {
		spec := op.Attr(a.GetName())
		if spec == nil {
			v.problem(where, "attribute %s is not in opset %d", a.GetName(), v.imports[""])
		} else if a.GetType().String() != spec.Kind {
			v.problem(where, "attribute %s is of type %v, expected %s", a.GetName(), a.GetType(), spec.Kind)
		}
	}
	for _, spec := range op.Attrs {
		if spec.Required && !slices.ContainsFunc(n.Attribute, func(a *onnxpb.AttributeProto) bool { return a.GetName() == spec.Name }) {
			v.problem(where, "attribute %s is missing", spec.Name)
		}
	}
}

// types checks the types of a node's inputs and sets those of the outputs that follow.
func (v *verifier) types(where string, n *onnxpb.NodeProto, op *onnxschema.Operator, in, out []string) {
	bound := map[string]string{} // what the type variables stand for
	for i, t := range in {
		p := portAt(op.In, i)
		switch {
		case p == nil:
			v.problem(where, "has %d inputs, at most %d are known", len(in), len(op.In))
			return
		case n.Input[i] == "":
			if !p.Optional {
				v.problem(where, "input %d is missing", i)
			}
			continue
		case t == "":
			continue
		}
		if !slices.Contains(op.Types(*p), t) {
			v.problem(where, "input %d (%q) is %s, opset %d takes %s", i, n.Input[i], t, v.imports[""], strings.Join(op.Types(*p), ", "))
			continue
		}
		if op.Variable(p.Type) && (!p.Repeats || p.OneType) {
			if b := bound[p.Type]; b != "" && b != t {
				v.problem(where, "input %d (%q) is %s, expected %s as the inputs before it", i, n.Input[i], t, b)
			}
			bound[p.Type] = t
		}
	}
	if len(in) < op.MinIn {
		v.problem(where, "has %d inputs, %d are needed", len(in), op.MinIn)
	}
	if len(out) < op.MinOut {
		v.problem(where, "has %d outputs, %d are needed", len(out), op.MinOut)
	}
	said := saidType(n)
	for i := range out {
		p := portAt(op.Out, i)
		if p == nil {
			v.problem(where, "has %d outputs, at most %d are known", len(out), len(op.Out))
			return
		}
		if p.Repeats && !p.OneType {
			continue
		}
		types := op.Types(*p)
		switch b := bound[p.Type]; {
		case said != "" && b == "":
			out[i] = said
		case b != "":
			out[i] = b
		case len(types) == 1:
			out[i] = types[0]
		}
		if out[i] != "" && !slices.Contains(types, out[i]) {
			v.problem(where, "output %d is %s, opset %d gives %s", i, out[i], v.imports[""], strings.Join(types, ", "))
		}
	}
}

// portAt returns the formal port of input or output i, or nil.
func portAt(ports []onnxschema.Port, i int) *onnxschema.Port {
	if n := len(ports); i >= n {
		if n == 0 || !ports[n-1].Repeats {
			return nil
		}
		i = n - 1
	}
	return &ports[i]
}

// saidType returns the element type that a node's attributes give its output, or "".
func saidType(n *onnxpb.NodeProto) string {
	for _, a := range n.Attribute {
		switch a.GetName() {
		case "to", "dtype", "output_dtype", "output_datatype":
			t := elemText(int32(a.GetI()))
			if t != "" && n.GetOpType() == "SequenceEmpty" {
				t = "seq(" + t + ")"
			}
			if a.GetI() != 0 {
				return t
			}
		case "value":
			if a.T != nil {
				return elemText(a.T.GetDataType())
			}
		}
	}
	return ""
}

// tensor checks that a tensor's bytes are those of its shape.
func (v *verifier) tensor(where string, t *onnxpb.TensorProto) {
	n := 1
	for _, d := range t.Dims {
		n *= int(d)
	}
	e := tensor.FromONNXType(int(t.GetDataType()))
	if e == tensor.Invalid {
		v.problem(where, "has an unknown element type, %d", t.GetDataType())
		return
	}
	external := t.GetDataLocation() == onnxpb.TensorProto_EXTERNAL
	if e == tensor.String || external {
		if external && len(t.RawData) > 0 {
			v.problem(where, "has data inside and outside the file")
		}
		return
	}
	if want := (n*e.Bits() + 7) / 8; e != tensor.Bool && t.RawData != nil && len(t.RawData) != want {
		v.problem(where, "holds %d bytes, its shape needs %d", len(t.RawData), want)
	}
}

// typeText returns a declared type in the words of onnxschema, or "".
func typeText(t *onnxpb.TypeProto) string {
	switch x := t.GetValue().(type) {
	case *onnxpb.TypeProto_TensorType:
		return elemText(x.TensorType.GetElemType())
	case *onnxpb.TypeProto_SequenceType:
		if member := typeText(x.SequenceType.GetElemType()); member != "" {
			return "seq(" + member + ")"
		}
	}
	return ""
}

// elemText returns an element type in the words of onnxschema, "" if it is not known here.
func elemText(onnxType int32) string {
	e := tensor.FromONNXType(int(onnxType))
	if e == tensor.Invalid {
		return ""
	}
	return e.String()
}
