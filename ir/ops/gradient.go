package ops

import (
	"fmt"
	"slices"

	"thriftc/ir"
)

var _ = define(ir.Op{
	Name: "ai.onnx.preview.training.Gradient",
	Doc: `The derivatives of y with respect to xs, of ONNX's preview of training. Reading
replaces it by the nodes that compute them, where every operator between has a gradient.`,
	In: "Inputs*", Out: "Outputs*",
	Attrs: []ir.AttrSpec{
		{Name: "xs", Kind: ir.StringsAttr, Required: true, Doc: "values to differentiate with respect to"},
		{Name: "y", Kind: ir.StringAttr, Required: true, Doc: "value to differentiate"},
		{Name: "zs", Kind: ir.StringsAttr, Doc: "other values that y depends on"},
	},
	Import: importGradient,
})

// importGradient walks from y back to the node's inputs, in reverse order of
// the graph, and adds up the gradients that reach each value.
func importGradient(r *ir.Rewriter, n *ir.Node, _ int) error {
	g := r.Graph()
	y := g.Value(n.Str("y"))
	if y == nil {
		return fmt.Errorf("y names %q, which this graph does not compute", n.Str("y"))
	}
	xs := n.Strs("xs")
	if len(n.Out) != len(xs) || len(n.In) != len(xs)+len(n.Strs("zs")) {
		return fmt.Errorf("%d inputs and %d outputs for %d xs and %d zs", len(n.In), len(n.Out), len(xs), len(n.Strs("zs")))
	}
	for i, name := range slices.Concat(xs, n.Strs("zs")) {
		if n.In[i] == nil || n.In[i].Name != name {
			return fmt.Errorf("input %d is not the value %q: derivatives elsewhere are not supported", i, name)
		}
	}
	shape, ok := y.Type.Static()
	if !ok {
		return fmt.Errorf("the shape of y is %v, expected numbers", y.Type)
	}
	b := r.Before(n)
	ones := make([]float64, sizeOf(shape))
	for i := range ones {
		ones[i] = 1
	}
	grads := map[*ir.Value]*ir.Value{y: b.Const(y.Name+"_grad", floatsOf(y.Type.Elem, ones, shape))}
	for _, m := range slices.Backward(slices.Clone(g.Nodes[:slices.Index(g.Nodes, n)])) {
		if len(m.Out) != 1 || grads[m.Out[0]] == nil || slices.Contains(n.In, m.Out[0]) {
			continue
		}
		if m.Op.Grad == nil {
			return fmt.Errorf("operator %s of %s has no gradient", m.Op.Name, m.Label())
		}
		din, err := m.Op.Grad(b, m, []*ir.Value{grads[m.Out[0]]})
		if err != nil {
			return fmt.Errorf("%s: %w", m.Label(), err)
		}
		for i, d := range din {
			if have := grads[m.In[i]]; have != nil {
				d = b.Must1("Add", "", nil, have, d)
			}
			grads[m.In[i]] = d
		}
	}
	for i := range xs {
		d := grads[n.In[i]]
		if d == nil {
			return fmt.Errorf("y does not depend on %q", xs[i])
		}
		m, err := b.Add("Identity", "", nil, []*ir.Value{d})
		if err != nil {
			return err
		}
		r.ReplaceUses(n.Out[i], m.Out[0])
	}
	r.Erase(n)
	return nil
}

// sameShapes refuses broadcasting, whose gradient is a sum.
func sameShapes(n *ir.Node) error {
	a, okA := n.In[0].Type.Static()
	b, okB := n.In[1].Type.Static()
	if !okA || !okB || !slices.Equal(a, b) {
		return fmt.Errorf("the gradient of %s needs inputs of one known shape, they are %v and %v", n.Op.Name, n.In[0].Type, n.In[1].Type)
	}
	return nil
}

func gradAdd(_ *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	return []*ir.Value{dout[0], dout[0]}, sameShapes(n)
}

func gradMul(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	if err := sameShapes(n); err != nil {
		return nil, err
	}
	return []*ir.Value{r.Must1("Mul", "", nil, dout[0], n.In[1]), r.Must1("Mul", "", nil, dout[0], n.In[0])}, nil
}
