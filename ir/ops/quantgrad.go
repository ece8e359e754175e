package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func gradQuant(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	a := b.copyAttrs("axis", "signed", "narrow", "rounding_mode", "zero_point_order")
	l := b.label()
	d := b.node("thriftc.QuantGrad", a, append([]*ir.Value{dout[0]}, n.In...), l, l+"_scale")
	return b.done(d...)
}

var _ = define(ir.Op{
	Name: "thriftc.QuantGrad",
	Doc: `The straight-through gradient of thriftc.Quant. With t = x/scale + zero_point, rounded
after each operation, dx is dY where lo ≤ t ≤ hi, else 0. dscale is the sum, in the order of
reductions (f32.Sum), of dY·((q − zero_point) − x/scale) where that holds, and of
dY·(q − zero_point) elsewhere, each operation rounded, q being the integer of x
(learned step size quantisation, arXiv:1902.08153, equation 3, without its factor).
zero_point and bits have no gradient.`,
	In: "dY, x, scale, zero_point, bits", Out: "dx, dscale",
	Attrs: quantAttrs,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0, 1, 2, 3); err != nil {
			return nil, err
		}
		dy, x, s := n.In[0].Type, n.In[1].Type, n.In[2].Type
		if !dy.Compatible(x) {
			return nil, fmt.Errorf("dY is %v and x %v", dy, x)
		}
		return []ir.Type{x.WithElem(x.Elem), s.WithElem(s.Elem)}, checkQuant(n, 1)
	},
	Cost: func(n *ir.Node) ir.Cost {
		return ir.Cost{MACs: elemCount(n.In[0].Type), Adds: 4 * elemCount(n.In[0].Type)}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return quantGrad[float64](n, in)
		}
		return quantGrad[float32](n, in)
	},
})

func quantGrad[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	q, err := quantSpecOf(n, in[4])
	if err != nil {
		return nil, err
	}
	along, err := alongAxis(in[1].Shape(), n.Int("axis"), 0, in[2], in[3])
	if err != nil {
		return nil, err
	}
	dy, x, scale, zero := numbers[T](in[0]), numbers[T](in[1]), numbers[T](in[2]), numbers[T](in[3])
	if len(dy) != len(x) {
		return nil, fmt.Errorf("dY has shape %v, x %v", in[0].Shape(), in[1].Shape())
	}
	dx, terms := make([]T, len(x)), make([][]T, len(scale))
	for i, v := range x {
		k := along(i, len(scale))
		s, z := scale[k], zero[along(i, len(zero))]
		ratio := v / s
		slope := T(q.level(float64(ratio), float64(z))) - z
		if t := ratio + z; t >= T(q.lo) && t <= T(q.hi) {
			dx[i] = dy[i]
			slope -= ratio
		}
		terms[k] = append(terms[k], T(dy[i]*slope))
	}
	ds := make([]T, len(scale))
	for k := range ds {
		ds[k] = f32.Sum(terms[k])
	}
	e := in[0].Elem()
	return []*tensor.Tensor{fromNumbers(e, dx, in[1].Shape()...), fromNumbers(e, ds, in[2].Shape()...)}, nil
}

// gradBipolarQuant is straight through where |x| ≤ 1; for scale it is the
// derivative.
func gradBipolarQuant(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, s := n.In[0], n.In[1]
	dx := b.where(b.compare("LessOrEqual", b.fn("Abs", x), 1), dout[0], b.number(x, 0))
	d := b.times(dout[0], b.piece(x, "GreaterOrEqual", 0, b.number(x, 1), b.number(x, -1)))
	if b.err != nil || s.Type.Unranked || x.Type.Unranked {
		return b.done(dx, nil)
	}
	axis, err := axisOf(n.Int("axis"), max(x.Type.Rank(), 1))
	if err != nil || s.Type.Rank() != 1 || s.Type.Dims[0] == ir.Fixed(1) {
		axis = -1 // one scale for all
	}
	var axes []int64
	for i := range x.Type.Rank() {
		if i != axis {
			axes = append(axes, int64(i))
		}
	}
	return b.done(dx, b.reshapeTo(b.add("ReduceSum", ir.MakeAttrs("keepdims", 0, "noop_with_empty_axes", 1), d, b.ints(axes...)), s))
}
