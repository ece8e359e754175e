// Package onnxgo lets programs that are built on github.com/owulveryck/onnx-go
// run their models on thriftc: a Backend takes the graph that onnx-go decodes
// and hands it, as an ir.Graph, to a function that runs it.
//
// onnx-go keeps neither opset nor domains nor node names and loads neither
// subgraphs nor narrow element types, so models that need these are to be read
// with package onnxio instead.
package onnxgo

import (
	"errors"
	"fmt"

	"github.com/owulveryck/onnx-go"
	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/simple"
	"google.golang.org/protobuf/proto"
	gorgonia "gorgonia.org/tensor"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Run computes the outputs of a graph from its inputs, both in the graph's order.
type Run func(g *ir.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error)

// Backend implements onnx-go's backend.ComputationBackend.
type Backend struct {
	*simple.WeightedDirectedGraph
	ops   *ir.Registry
	opset int
	run   Run
	calls []call

	// After the first Run: the graph, and which nodes are its inputs and outputs.
	g       *ir.Graph
	in, out []*node
	bound   []*node // inputs that are constants of the graph
}

// call is one applied operation.
type call struct {
	op  onnx.Operation
	out []*node
}

// node is a value of the model.
type node struct {
	id       int64
	name     string
	doc      string
	value    gorgonia.Tensor
	in       []*node // operands of the operation that computes it
	computed bool
	used     bool
	declared bool           // had a type in the file
	fed      bool           // was set after the model was complete: an input
	first    bool           // is the first operand of an operation
	bound    *tensor.Tensor // the value with which the graph was built
	b        *Backend
}

// New returns a backend for one model, whose operators are those of the given
// opset, which onnx-go does not pass on.
func New(ops *ir.Registry, opset int, run Run) *Backend {
	return &Backend{WeightedDirectedGraph: simple.NewWeightedDirectedGraph(0, 0), ops: ops, opset: opset, run: run}
}

func (n *node) ID() int64                  { return n.id }
func (n *node) SetName(s string)           { n.name = s }
func (n *node) GetName() string            { return n.name }
func (n *node) SetDescription(s string)    { n.doc = s }
func (n *node) GetDescription() string     { return n.doc }
func (n *node) GetTensor() gorgonia.Tensor { return n.value }
func (n *node) label() string              { return fmt.Sprintf("n%d", n.id) }
func (n *node) absent() bool               { return !n.computed && n.value == nil }
func (b *Backend) complete() bool          { return len(b.calls) > 0 }
func (n *node) SetTensor(t gorgonia.Tensor) error {
	if n.b.complete() && !n.computed {
		if !n.fed {
			n.b.g = nil // one more input
		}
		n.fed = true
	} else {
		n.declared = true
	}
	n.value = t
	return nil
}

// parameter reports whether an input looks like a shape, scales or axes: a short
// list that is never the first operand. Such inputs hardly change, and what an
// operator makes of the others depends on them, so they are part of the graph,
// which is built anew when they do change.
func (n *node) parameter() bool {
	return !n.first && n.value.Dims() <= 1 && n.value.Size() <= 8
}

// NewNode returns a node that is not yet in the graph.
func (b *Backend) NewNode() graph.Node {
	return &node{id: b.WeightedDirectedGraph.NewNode().ID(), b: b}
}

// SetWeightedEdge makes an edge's end an operand of its start; the weight is
// the position. A value may be the operand of a node more than once.
func (b *Backend) SetWeightedEdge(e graph.WeightedEdge) {
	from, to := e.From().(*node), e.To().(*node)
	for len(from.in) <= int(e.Weight()) {
		from.in = append(from.in, nil)
	}
	from.in[int(e.Weight())] = to
	to.used = true
	to.first = to.first || e.Weight() == 0
	if from != to {
		b.WeightedDirectedGraph.SetWeightedEdge(e)
	}
}

// ApplyOperation records that an operation computes the given nodes.
func (b *Backend) ApplyOperation(op onnx.Operation, out ...graph.Node) error {
	c := call{op: op}
	for _, o := range out {
		n := o.(*node)
		n.computed = true
		c.out = append(c.out, n)
	}
	b.calls = append(b.calls, c)
	b.g = nil
	return nil
}

// Run computes the model and leaves the results in the nodes' tensors.
func (b *Backend) Run() error {
	for _, n := range b.bound {
		if t, err := fromGorgonia(n.value); err != nil || !tensor.Equal(t, n.bound) {
			b.g = nil
		}
	}
	if b.g == nil {
		if err := b.build(); err != nil {
			return err
		}
	}
	in := make([]*tensor.Tensor, len(b.in))
	for i, n := range b.in {
		t, err := fromGorgonia(n.value)
		if err != nil {
			return fmt.Errorf("input %q: %w", n.name, err)
		}
		in[i] = t
	}
	out, err := b.run(b.g, in)
	if err != nil {
		return err
	}
	for i, n := range b.out {
		if n.value, err = toGorgonia(out[i]); err != nil {
			return fmt.Errorf("output %q: %w", n.name, err)
		}
	}
	return nil
}

// build turns what onnx-go told into a model and reads it like any other, so
// that old forms of operators are understood. Values that were set once the
// model was complete are inputs, the others constants.
func (b *Backend) build() error {
	g := &onnxpb.GraphProto{Name: proto.String("onnx-go")}
	b.in, b.out, b.bound = nil, nil, nil
	for it := b.WeightedDirectedGraph.Nodes(); it.Next(); {
		n := it.Node().(*node)
		switch {
		case n.computed && (n.declared || !n.used):
			b.out = append(b.out, n)
		case !n.computed && n.fed && n.parameter():
			b.bound = append(b.bound, n)
		case !n.computed && n.fed:
			b.in = append(b.in, n)
		}
	}
	sortNodes(b.in)
	sortNodes(b.out)
	for _, n := range b.in {
		t, err := fromGorgonia(n.value)
		if err != nil {
			return fmt.Errorf("input %q: %w", n.name, err)
		}
		shape := &onnxpb.TensorShapeProto{}
		for range t.Shape() {
			shape.Dim = append(shape.Dim, &onnxpb.TensorShapeProto_Dimension{})
		}
		g.Input = append(g.Input, &onnxpb.ValueInfoProto{Name: proto.String(n.label()), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{
			TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(t.Elem().ONNXType())), Shape: shape},
		}}})
	}
	for _, n := range b.out {
		g.Output = append(g.Output, &onnxpb.ValueInfoProto{Name: proto.String(n.label())})
	}
	for _, n := range b.bound {
		t, err := fromGorgonia(n.value)
		if err != nil {
			return fmt.Errorf("input %q: %w", n.name, err)
		}
		n.bound = t
	}
	constants := map[*node]bool{}
	for _, c := range b.calls {
		p, err := b.node(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.op.Name, err)
		}
		g.Node = append(g.Node, p)
		for _, n := range c.out[0].in {
			if n.computed || n.fed && n.bound == nil || n.absent() || constants[n] {
				continue
			}
			constants[n] = true
			tp, err := tensorProto(n.label(), n.value)
			if err != nil {
				return fmt.Errorf("initializer %q: %w", n.name, err)
			}
			g.Initializer = append(g.Initializer, tp)
		}
	}
	data, err := proto.Marshal(&onnxpb.ModelProto{
		IrVersion:   proto.Int64(onnxio.MaxIR),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(int64(b.opset))}},
		Graph:       g,
	})
	if err != nil {
		return err
	}
	b.g, err = onnxio.Decode(data, "", b.ops)
	var u *onnxio.Unsupported
	if errors.As(err, &u) {
		return &onnx.ErrNotImplemented{Operator: u.Problems[0].Node, Message: u.Error()}
	}
	return err
}

func (b *Backend) node(c call) (*onnxpb.NodeProto, error) {
	p := &onnxpb.NodeProto{OpType: proto.String(c.op.Name)}
	for _, n := range c.out {
		p.Output = append(p.Output, n.label())
	}
	for _, n := range c.out[0].in {
		if n.absent() { // onnx-go makes up an input where there is none
			p.Input = append(p.Input, "")
		} else {
			p.Input = append(p.Input, n.label())
		}
	}
	for len(p.Input) > 0 && p.Input[len(p.Input)-1] == "" {
		p.Input = p.Input[:len(p.Input)-1]
	}
	for _, name := range sortedNames(c.op.Attributes) {
		a := &onnxpb.AttributeProto{Name: proto.String(name)}
		switch v := c.op.Attributes[name].(type) {
		case float32:
			a.Type, a.F = onnxpb.AttributeProto_FLOAT.Enum(), proto.Float32(v)
		case int64:
			a.Type, a.I = onnxpb.AttributeProto_INT.Enum(), proto.Int64(v)
		case string:
			a.Type, a.S = onnxpb.AttributeProto_STRING.Enum(), []byte(v)
		case []float32:
			a.Type, a.Floats = onnxpb.AttributeProto_FLOATS.Enum(), v
		case []int64:
			a.Type, a.Ints = onnxpb.AttributeProto_INTS.Enum(), v
		case []string:
			a.Type = onnxpb.AttributeProto_STRINGS.Enum()
			for _, s := range v {
				a.Strings = append(a.Strings, []byte(s))
			}
		case gorgonia.Tensor:
			t, err := tensorProto("", v)
			if err != nil {
				return nil, fmt.Errorf("attribute %s: %w", name, err)
			}
			a.Type, a.T = onnxpb.AttributeProto_TENSOR.Enum(), t
		default:
			return nil, fmt.Errorf("attribute %s is a %T", name, v)
		}
		p.Attribute = append(p.Attribute, a)
	}
	return p, nil
}
