package ops

import (
	"errors"
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
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

// importGradient replaces the node by the nodes that compute it.
func importGradient(r *ir.Rewriter, n *ir.Node, _ int) error {
	y := r.Graph().Value(n.Str("y"))
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
	grads, err := Gradients(r.Before(n), y, n.In[:len(xs)], n.In)
	if err != nil {
		return err
	}
	for i, d := range grads {
		if d == nil {
			return fmt.Errorf("y does not depend on %q", xs[i])
		}
		m, err := r.Before(n).Add("Identity", "", nil, []*ir.Value{d})
		if err != nil {
			return err
		}
		r.ReplaceUses(n.Out[i], m.Out[0])
	}
	r.Erase(n)
	return nil
}

// Obstacle is a node through which no gradient passes, and why.
type Obstacle struct {
	Node   *ir.Node
	Reason string
}

// String names the node and says why.
func (o Obstacle) String() string {
	return fmt.Sprintf("%s %s has no gradient: %s", o.Node.Op.Name, o.Node.Label(), o.Reason)
}

// path marks the values between wrt and y: those that depend on one of wrt
// through floating-point values and on which y depends. It also returns the
// nodes that compute them, in order.
func path(y *ir.Value, wrt, fixed []*ir.Value) (on map[*ir.Value]bool, nodes []*ir.Node) {
	after := map[*ir.Value]bool{}
	for _, v := range wrt {
		after[v] = true
	}
	g := y.Graph()
	for _, n := range g.Nodes {
		depends := slices.ContainsFunc(n.In, func(v *ir.Value) bool { return v != nil && after[v] }) ||
			slices.ContainsFunc(n.Captures(), func(v *ir.Value) bool { return after[v] })
		for _, v := range n.Out {
			if v != nil && depends && v.Type.Elem.IsFloat() && !slices.Contains(fixed, v) {
				after[v] = true
			}
		}
	}
	on = map[*ir.Value]bool{y: after[y]}
	for _, n := range slices.Backward(g.Nodes) {
		if !slices.ContainsFunc(n.Out, func(v *ir.Value) bool { return v != nil && on[v] }) {
			continue
		}
		nodes = append(nodes, n)
		for _, v := range slices.Concat(n.In, n.Captures()) {
			if v != nil && after[v] {
				on[v] = true
			}
		}
	}
	slices.Reverse(nodes)
	return on, nodes
}

// Obstacles lists the nodes between wrt and y that have no gradient, in order.
func Obstacles(y *ir.Value, wrt []*ir.Value) []Obstacle {
	_, nodes := path(y, wrt, nil)
	return obstacles(nodes)
}

func obstacles(nodes []*ir.Node) []Obstacle {
	var out []Obstacle
	for _, n := range nodes {
		if n.Op.Grad == nil {
			out = append(out, Obstacle{n, n.Op.NoGrad})
		}
	}
	return out
}

// Gradients adds nodes at r's position that compute the gradients of y, or of the
// sum of its elements, with respect to values that it depends on, and returns
// them; nil where y does not depend on a value, or only through operators that
// pass no gradient to that input. Values in fixed are taken as given, not as
// computed by their nodes. Where a value is used more than once the gradients are
// added in the reverse order of the uses. Nodes without a gradient between
// are all named in the error.
func Gradients(r *ir.Rewriter, y *ir.Value, wrt, fixed []*ir.Value) ([]*ir.Value, error) {
	if !y.Type.Elem.IsFloat() {
		return nil, fmt.Errorf("%%%s is %v, expected floating point", y.Name, y.Type)
	}
	on, nodes := path(y, wrt, fixed)
	if obs := obstacles(nodes); len(obs) > 0 {
		errs := make([]error, len(obs))
		for i, o := range obs {
			errs[i] = fmt.Errorf("%v", o)
		}
		return nil, errors.Join(errs...)
	}
	g := r.Graph()
	forward := make(map[*ir.Node]bool, len(g.Nodes))
	for _, n := range g.Nodes {
		forward[n] = true
	}
	seed, err := ones(r, y)
	if err != nil {
		return nil, err
	}
	grads := map[*ir.Value]*ir.Value{y: seed}
	for _, n := range slices.Backward(nodes) {
		dout := make([]*ir.Value, len(n.Out))
		given := false
		for i, v := range n.Out {
			if v != nil && !slices.Contains(fixed, v) {
				dout[i] = grads[v]
			}
			given = given || dout[i] != nil
		}
		if !given {
			continue
		}
		din, err := n.Op.Grad(r, n, dout)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err)
		}
		for i, d := range din {
			v := n.Input(i)
			if d == nil || v == nil || !on[v] {
				continue
			}
			if have := grads[v]; have != nil {
				sum, err := r.Add("Add", "", nil, []*ir.Value{have, d}, v.Name+"_grad")
				if err != nil {
					return nil, fmt.Errorf("gradients of %%%s: %w", v.Name, err)
				}
				d = sum.Out[0]
			}
			grads[v] = d
		}
	}
	out := make([]*ir.Value, len(wrt))
	keep := map[*ir.Value]bool{}
	for i, v := range wrt {
		out[i] = grads[v]
		keep[out[i]] = true
	}
	for _, n := range slices.Backward(slices.Clone(g.Nodes)) { // gradients that nobody asked for
		used := forward[n]
		for _, v := range n.Out {
			used = used || v != nil && (keep[v] || !v.Unused())
		}
		if !used {
			r.Erase(n)
		}
	}
	return out, nil
}

// ones returns ones of the shape of y.
func ones(r *ir.Rewriter, y *ir.Value) (*ir.Value, error) {
	one := r.Const(y.Name+"_grad", floatsOf(y.Type.Elem, []float64{1}, nil))
	if y.Type.Rank() == 0 {
		return one, nil
	}
	if shape, ok := y.Type.Static(); ok {
		t, err := filled(one.Data, shape)
		if err != nil {
			return nil, err
		}
		r.SetData(one, t)
		return one, nil
	}
	s, err := r.Add("Shape", "", nil, []*ir.Value{y})
	if err != nil {
		return nil, err
	}
	n, err := r.Add("Expand", "", nil, []*ir.Value{one, s.Out[0]}, y.Name+"_grad")
	if err != nil {
		return nil, err
	}
	return n.Out[0], nil
}
