package ops

import (
	"errors"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// gradSoftmax serves Softmax and LogSoftmax.
func gradSoftmax(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	d, y, axis := dout[0], n.Out[0], int64(n.Int("axis"))
	if n.Op.Name == "LogSoftmax" {
		return b.done(b.logSoftmaxGrad(d, y, axis))
	}
	return b.done(b.times(b.minus(d, b.sum(b.times(d, y), axis)), y))
}

func (b *backprop) logSoftmaxGrad(d, y *ir.Value, axis int64) *ir.Value {
	return b.minus(d, b.times(b.fn("Exp", y), b.sum(d, axis)))
}

func gradLpNormalization(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	d, x, y, axis := dout[0], n.In[0], n.Out[0], int64(n.Int("axis"))
	op, direction := "ReduceL2", y
	if n.Int("p") == 1 {
		op, direction = "ReduceL1", b.fn("Sign", x)
	}
	norm := b.add(op, nil, x, b.ints(axis))
	dx := b.over(b.minus(d, b.times(direction, b.sum(b.times(d, y), axis))), norm)
	return b.done(b.where(b.compare("Equal", norm, 0), b.number(x, 0), dx)) // a line of zeros stays
}

// gradLRN builds sums over neighbouring channels as means of windows in [N, 1, C, rest].
func gradLRN(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	d, x := dout[0], n.In[0]
	size := n.Int("size")
	before := (size - 1) / 2
	window := func(v *ir.Value, lo, hi int) *ir.Value {
		flat := b.add("Reshape", nil, v, b.ints(0, 1, -1, b.inner(x)))
		m := b.add("AveragePool", ir.MakeAttrs("kernel_shape", []int{size, 1}, "pads", []int{lo, 0, hi, 0}, "count_include_pad", 1), flat)
		return b.scaled(b.reshapeTo(m, x), float64(size))
	}
	beta, share := b.attr("beta"), b.attr("alpha")/float64(size)
	base := b.shifted(b.scaled(window(b.square(x), before, size-1-before), share), b.attr("bias"))
	direct := b.times(d, b.add("Pow", nil, base, b.number(x, -beta)))
	around := window(b.over(b.times(direct, x), base), size-1-before, before)
	return b.done(b.minus(direct, b.scaled(b.times(x, around), 2*beta*share)))
}

// inner returns the number of positions of a channel of x.
func (b *backprop) inner(x *ir.Value) int64 {
	p := int64(1)
	if x.Type.Rank() > 2 {
		for _, d := range b.spatial(x) {
			p *= d
		}
	}
	return p
}

// perChannel gives a vector over channels dimensions for those after them.
func (b *backprop) perChannel(v, x *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	if x.Type.Unranked {
		return b.fail("the gradient needs the rank of %%%s", x.Name)
	}
	var axes []int64
	for i := 1; i < x.Type.Rank()-1; i++ {
		axes = append(axes, int64(i))
	}
	if len(axes) == 0 {
		return v
	}
	return b.add("Unsqueeze", nil, v, b.ints(axes...))
}

// channelSum adds d up over everything but channels.
func (b *backprop) channelSum(d *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	axes := []int64{0}
	for i := 2; i < d.Type.Rank(); i++ {
		axes = append(axes, int64(i))
	}
	return b.add("ReduceSum", ir.MakeAttrs("keepdims", 0), d, b.ints(axes...))
}

func gradBatchNorm(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	if len(dout) > 1 && (dout[1] != nil || len(dout) > 2 && dout[2] != nil) {
		return nil, errors.New("the running statistics have no gradient")
	}
	b := backprop{r: r, n: n}
	x, d := n.In[0], dout[0]
	if n.Int("training_mode") != 0 {
		l := b.label()
		stats := b.node("thriftc.BatchNormTrain", b.copyAttrs("epsilon"), n.In[:3], l, l, l)
		return b.done(b.node("thriftc.BatchNormTrainGrad", b.copyAttrs("epsilon"), []*ir.Value{d, x, n.In[1], stats[1], stats[2]}, l, l, l)...)
	}
	v := b.shifted(n.In[4], b.attr("epsilon"))
	inv := b.fn("Reciprocal", b.fn("Sqrt", v))
	a := b.times(n.In[1], inv)
	along := b.channelSum(b.times(d, b.minus(x, b.perChannel(n.In[3], x))))
	db := b.channelSum(d)
	return b.done(b.times(d, b.perChannel(a, x)), b.times(along, inv), db,
		b.fn("Neg", b.times(db, a)), b.scaled(b.over(b.times(along, a), v), -0.5))
}

// normBack returns the gradient through v = (x − mean)/√(var + ε) over axes, given that
// of v, and v; without centre the mean is 0.
func (b *backprop) normBack(x, dv *ir.Value, epsilon float64, centre bool, axes ...int64) (dx, v *ir.Value) {
	c := x
	if centre {
		c = b.minus(x, b.mean(x, axes...))
	}
	inv := b.fn("Reciprocal", b.fn("Sqrt", b.shifted(b.mean(b.square(c), axes...), epsilon)))
	v = b.times(c, inv)
	dx = b.minus(dv, b.times(v, b.mean(b.times(dv, v), axes...)))
	if centre {
		dx = b.minus(dx, b.mean(dv, axes...))
	}
	return b.times(dx, inv), v
}

// gradGroupNorm serves InstanceNormalization and GroupNormalization.
func gradGroupNorm(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, d := n.In[0], dout[0]
	groups := []int64{0, 0, -1}
	if n.Op.Name == "GroupNormalization" {
		groups[1] = int64(n.Int("num_groups"))
	}
	flat := func(v *ir.Value) *ir.Value { return b.add("Reshape", nil, v, b.ints(groups...)) }
	dx, v := b.normBack(flat(x), flat(b.times(d, b.perChannel(n.In[1], x))), b.attr("epsilon"), true, -1)
	return b.done(b.reshapeTo(dx, x), b.channelSum(b.times(d, b.reshapeTo(v, x))), b.channelSum(d))
}

// gradLayerNorm serves LayerNormalization and RMSNormalization.
func gradLayerNorm(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	for _, d := range dout[1:] {
		if d != nil {
			return nil, errors.New("the statistics have no gradient")
		}
	}
	b := backprop{r: r, n: n}
	x, d, rank := n.In[0], dout[0], n.In[0].Type.Rank()
	axis, err := axisOf(n.Int("axis"), rank)
	if err != nil {
		return nil, err
	}
	dx, v := b.normBack(x, b.times(d, n.In[1]), b.attr("epsilon"), n.Op.Name == "LayerNormalization", everyAxis(rank)[axis:]...)
	out := []*ir.Value{dx, b.reduceTo(b.times(d, v), n.In[1])}
	if n.Input(2) != nil {
		out = append(out, b.reduceTo(d, n.In[2]))
	}
	return b.done(out...)
}

func gradMeanVariance(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, d, axes := n.In[0], dout[0], n.Ints("axes")
	c := b.minus(x, b.mean(x, axes...))
	std := b.fn("Sqrt", b.mean(b.square(c), axes...))
	by := b.shifted(std, 1e-9)
	through := b.over(b.times(c, b.mean(b.times(d, n.Out[0]), axes...)), std)
	return b.done(b.over(b.minus(b.minus(d, b.mean(d, axes...)), through), by))
}

// gradLoss serves NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss; weights
// have no gradient.
func gradLoss(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, labels := n.In[0], n.In[1]
	if x.Type.Unranked || !x.Type.Dims[1].Known() {
		return b.done(b.fail("the gradient needs the number of classes, %%%s is %v", x.Name, x.Type))
	}
	log := x
	if n.Op.Name == "SoftmaxCrossEntropyLoss" {
		if log = n.Output(1); log == nil {
			log = b.add("LogSoftmax", ir.MakeAttrs("axis", 1), x)
		}
	}
	var d *ir.Value
	if dout[0] != nil {
		d = b.likelihoodGrad(x, labels, dout[0])
	}
	if len(dout) > 1 && dout[1] != nil && d != nil {
		d = b.plus(d, dout[1])
	} else if d == nil {
		d = dout[1]
	}
	if log != x {
		d = b.logSoftmaxGrad(d, log, 1)
	}
	return b.done(d)
}

// likelihoodGrad returns the gradient of the loss with respect to log-probabilities
// like x.
func (b *backprop) likelihoodGrad(x, labels, dloss *ir.Value) *ir.Value {
	n := b.n
	var share *ir.Value // the weight of each element, [N, …]
	if w := n.Input(2); w != nil {
		share = w
	} else {
		share = b.r.Const(b.label()+"_const", filledFloats(x.Type.Elem, 1, x.Type.Dims[1].N))
	}
	if n.HasAttr("ignore_index") {
		ignored := b.add("Equal", nil, labels, b.r.Const(b.label()+"_const", tensor.FromInt64s(labels.Type.Elem, []int64{int64(n.Int("ignore_index"))})))
		zero := b.r.Const(b.label()+"_const", tensor.FromInt64s(labels.Type.Elem, []int64{0}))
		share = b.where(ignored, b.number(x, 0), b.add("Gather", nil, share, b.where(ignored, zero, labels)))
	} else {
		share = b.add("Gather", nil, share, labels)
	}
	each := dloss
	if n.Str("reduction") == "mean" {
		each = b.over(dloss, b.add("ReduceSum", ir.MakeAttrs("keepdims", 0), share))
	}
	values := b.r.Const(b.label()+"_const", floatsOf(x.Type.Elem, []float64{0, -1}, []int{2}))
	hot := b.add("OneHot", ir.MakeAttrs("axis", 1), labels, b.ints(int64(x.Type.Dims[1].N)), values)
	return b.times(hot, b.add("Unsqueeze", nil, b.times(share, each), b.ints(1)))
}

func filledFloats(e tensor.Elem, v float64, n int) *tensor.Tensor {
	x := make([]float64, n)
	for i := range x {
		x[i] = v
	}
	return floatsOf(e, x, []int{n})
}
