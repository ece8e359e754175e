package ops

import (
	"thriftc/ir"
)

func gradAdd(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	return b.done(b.reduceTo(dout[0], n.In[0]), b.reduceTo(dout[0], n.In[1]))
}

func gradSub(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	return b.done(b.reduceTo(dout[0], n.In[0]), b.add("Neg", nil, b.reduceTo(dout[0], n.In[1])))
}

func gradMul(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	return b.done(b.reduceTo(b.times(dout[0], n.In[1]), n.In[0]), b.reduceTo(b.times(dout[0], n.In[0]), n.In[1]))
}

func gradDiv(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	da := b.over(dout[0], n.In[1])
	db := b.add("Neg", nil, b.times(da, n.Out[0]))
	return b.done(b.reduceTo(da, n.In[0]), b.reduceTo(db, n.In[1]))
}

// gradReshape serves operators that keep the elements of their first input in order.
func gradReshape(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if n.Op.Name == "Identity" {
		return b.done(dout[0])
	}
	return b.done(b.reshapeTo(dout[0], n.In[0]))
}

// transposed swaps the last two dimensions of v.
func (b *backprop) transposed(v *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	rank := v.Type.Rank()
	if rank < 2 {
		return b.fail("the gradient needs the rank of %%%s, it is %v", v.Name, v.Type)
	}
	perm := everyAxis(rank)
	perm[rank-1], perm[rank-2] = perm[rank-2], perm[rank-1]
	return b.add("Transpose", ir.MakeAttrs("perm", perm), v)
}

func gradMatMul(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, y, d := n.In[0], n.In[1], dout[0]
	if x.Type.Rank() < 1 || y.Type.Rank() < 1 {
		b.fail("the gradient needs known ranks, A is %v and B %v", x.Type, y.Type)
		return b.done()
	}
	row, column := x.Type.Rank() == 1, y.Type.Rank() == 1
	if row { // a row becomes a matrix of one, a column likewise, and d gets both dimensions
		x = b.add("Unsqueeze", nil, x, b.ints(0))
		d = b.add("Unsqueeze", nil, d, b.ints(int64(boolInt(column)-2)))
	}
	if column {
		y = b.add("Unsqueeze", nil, y, b.ints(1))
		d = b.add("Unsqueeze", nil, d, b.ints(-1))
	}
	dx := b.reduceTo(b.add("MatMul", nil, d, b.transposed(y)), x)
	dy := b.reduceTo(b.add("MatMul", nil, b.transposed(x), d), y)
	if row {
		dx = b.add("Squeeze", nil, dx, b.ints(0))
	}
	if column {
		dy = b.add("Squeeze", nil, dy, b.ints(1))
	}
	return b.done(dx, dy)
}

func gradGemm(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	d, x, y := dout[0], n.In[0], n.In[1]
	ta, tb := n.Int("transA") != 0, n.Int("transB") != 0
	product := func(p, q *ir.Value, tp, tq bool) *ir.Value {
		a := ir.MakeAttrs("transA", boolInt(tp), "transB", boolInt(tq))
		if alpha := n.Float("alpha"); alpha != 1 {
			a.Set("alpha", alpha)
		}
		return b.add("Gemm", a, p, q)
	}
	var dx, dy *ir.Value
	if ta {
		dx = product(y, d, tb, true)
	} else {
		dx = product(d, y, false, !tb)
	}
	if tb {
		dy = product(d, x, true, ta)
	} else {
		dy = product(x, d, !ta, false)
	}
	if n.Input(2) == nil {
		return b.done(dx, dy)
	}
	return b.done(dx, dy, b.scaled(b.reduceTo(d, n.In[2]), float64(n.Float("beta"))))
}
