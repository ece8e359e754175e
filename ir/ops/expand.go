package ops

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
)

// expansion turns one node into several that compute the same: new nodes stand
// before it, and the node itself becomes the last of them, so that its outputs
// stay what they are. The first error is kept and returned by become.
type expansion struct {
	r   *ir.Rewriter // inserts before n
	n   *ir.Node
	err error
}

// add inserts a node and returns its only output.
func (e *expansion) add(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	if e.err != nil {
		return nil
	}
	m, err := e.r.Add(op, "", attrs, in, e.n.Out[0].Name+"_"+op)
	if err != nil {
		e.err = err
		return nil
	}
	return m.Out[0]
}

// number returns a scalar constant of the element type of the node's first input.
func (e *expansion) number(x float64) *ir.Value {
	t := floatsOf(e.n.In[0].Type.Elem, []float64{x}, nil)
	return e.r.Const(e.n.Out[0].Name+"_const", t)
}

// ints returns a one-dimensional i64 constant.
func (e *expansion) ints(x ...int64) *ir.Value { return e.r.Ints(e.n.Out[0].Name+"_const", x...) }

// become makes the node an application of another operator.
func (e *expansion) become(op string, attrs ir.Attrs, in ...*ir.Value) error {
	if e.err != nil {
		return e.err
	}
	for _, a := range append(ir.Attrs{}, e.n.Attrs...) {
		e.r.DeleteAttr(e.n, a.Name)
	}
	e.r.SetOp(e.n, op)
	for _, a := range attrs {
		e.r.SetAttr(e.n, a.Name, a.Value)
	}
	e.r.SetInputs(e.n, in...)
	return nil
}

// unsqueeze returns v with axes of length 1 inserted at the given places of the
// result: a new constant if v is one.
func (e *expansion) unsqueeze(v *ir.Value, axes ...int64) *ir.Value {
	if len(axes) == 0 {
		return v
	}
	if !v.IsConst() {
		return e.add("Unsqueeze", nil, v, e.ints(axes...))
	}
	var shape []int
	src := v.Data.Shape()
	for i := range len(src) + len(axes) {
		if slices.Contains(axes, int64(i)) {
			shape = append(shape, 1)
		} else {
			shape = append(shape, src[0])
			src = src[1:]
		}
	}
	return e.r.Const(v.Name, v.Data.Reshape(shape...))
}
