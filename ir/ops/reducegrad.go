package ops

import (
	"github.com/thriftc/thriftc/ir"
)

// spread gives v, which is like the output of a Reduce node, the dimensions
// of size 1 that keepdims would have kept.
func (b *backprop) spread(v *ir.Value) *ir.Value {
	n := b.n
	axes, ok := knownInts(n, 1)
	switch {
	case n.Input(1) != nil && !ok:
		return b.fail("the axes are not known")
	case n.Int("keepdims") != 0, len(axes) == 0 && n.Int("noop_with_empty_axes") != 0:
		return v
	case len(axes) == 0:
		if n.In[0].Type.Unranked {
			return b.fail("the gradient needs the rank of %%%s", n.In[0].Name)
		}
		axes = everyAxis(n.In[0].Type.Rank())
	}
	if len(axes) == 0 || b.err != nil {
		return v
	}
	return b.add("Unsqueeze", nil, v, b.ints(axes...))
}

// gradReduce makes the gradient of a Reduce operator of the derivative of y
// with respect to x, both with all dimensions.
func gradReduce(slope func(b *backprop, d, x, y *ir.Value) *ir.Value) func(*ir.Rewriter, *ir.Node, []*ir.Value) ([]*ir.Value, error) {
	return func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		return b.done(slope(&b, b.spread(dout[0]), n.In[0], b.spread(n.Out[0])))
	}
}

// share returns d divided by the number of elements of x for each element of y.
func (b *backprop) share(d, x, y *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	if from, ok := volumeOf(x.Type.Dims).over(volumeOf(y.Type.Dims)); ok && from != nil && len(from.syms) == 0 && !x.Type.Unranked && !y.Type.Unranked {
		return b.over(d, b.number(x, float64(from.n)))
	}
	count := b.add("Div", nil, b.add("Size", nil, x), b.add("Size", nil, y))
	return b.over(d, b.add("CastLike", nil, count, d))
}

// reduceSlopes are the gradients of the Reduce operators.
var reduceSlopes = map[string]func(b *backprop, d, x, y *ir.Value) *ir.Value{
	"ReduceSum":  func(b *backprop, d, x, _ *ir.Value) *ir.Value { return b.expandTo(d, x) },
	"ReduceMean": func(b *backprop, d, x, y *ir.Value) *ir.Value { return b.expandTo(b.share(d, x, y), x) },
	// of a product with a factor 0 it is not a number
	"ReduceProd": func(b *backprop, d, x, y *ir.Value) *ir.Value { return b.over(b.times(d, y), x) },
	"ReduceL1":   func(b *backprop, d, x, _ *ir.Value) *ir.Value { return b.times(d, b.add("Sign", nil, x)) },
	"ReduceSumSquare": func(b *backprop, d, x, _ *ir.Value) *ir.Value {
		return b.times(b.scaled(d, 2), x)
	},
	"ReduceL2":     func(b *backprop, d, x, y *ir.Value) *ir.Value { return b.times(b.over(d, y), x) },
	"ReduceLogSum": func(b *backprop, d, x, y *ir.Value) *ir.Value { return b.expandTo(b.over(d, b.add("Exp", nil, y)), x) },
	"ReduceLogSumExp": func(b *backprop, d, x, y *ir.Value) *ir.Value {
		return b.times(d, b.add("Exp", nil, b.minus(x, y)))
	},
	"ReduceMax": gradExtreme,
	"ReduceMin": gradExtreme,
}

// gradExtreme shares the gradient out among the elements that are the extreme.
func gradExtreme(b *backprop, d, x, y *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	is := b.add("CastLike", nil, b.add("Equal", nil, x, y), x)
	return b.times(b.over(d, b.reduceTo(is, y)), is)
}
