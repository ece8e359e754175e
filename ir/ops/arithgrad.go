package ops

import (
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
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

func gradMod(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	whole := b.over(b.minus(n.In[0], n.Out[0]), n.In[1])
	return b.done(b.reduceTo(dout[0], n.In[0]), b.reduceTo(b.fn("Neg", b.times(dout[0], whole)), n.In[1]))
}

// gradPow leaves Y without a gradient unless it is of X's type; where X is not
// positive that gradient is not a number.
func gradPow(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, p := n.In[0], n.In[1]
	if p.Type.Elem != x.Type.Elem {
		p = b.add("CastLike", nil, p, x)
	}
	dx := b.reduceTo(b.times(dout[0], b.times(p, b.add("Pow", nil, x, b.shifted(p, -1)))), x)
	if n.In[1].Type.Elem != x.Type.Elem {
		return b.done(dx, nil)
	}
	return b.done(dx, b.reduceTo(b.times(dout[0], b.times(n.Out[0], b.fn("Log", x))), n.In[1]))
}

// gradSum serves Sum and Mean.
func gradSum(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	d := dout[0]
	if n.Op.Name == "Mean" {
		d = b.over(d, b.number(d, float64(len(n.In))))
	}
	out := make([]*ir.Value, len(n.In))
	for i, v := range n.In {
		out[i] = b.reduceTo(d, v)
	}
	return b.done(out...)
}

// gradMax serves Max and Min: inputs that are equal share the gradient.
func gradMax(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	is := make([]*ir.Value, len(n.In))
	var count *ir.Value
	for i, v := range n.In {
		is[i] = b.add("CastLike", nil, b.add("Equal", nil, v, n.Out[0]), v)
		if count == nil {
			count = is[i]
		} else {
			count = b.plus(count, is[i])
		}
	}
	d := b.over(dout[0], count)
	for i, v := range n.In {
		is[i] = b.reduceTo(b.times(d, is[i]), v)
	}
	return b.done(is...)
}

func gradPRelu(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, d := n.In[0], dout[0]
	below := b.compare("Less", x, 0)
	return b.done(b.where(below, b.times(d, n.In[1]), d), b.reduceTo(b.where(below, b.times(d, x), b.number(x, 0)), n.In[1]))
}

// gradClip passes the gradient on between the limits, to a limit where that counts.
func gradClip(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x, zero := n.In[0], b.number(n.In[0], 0)
	out := []*ir.Value{b.add("thriftc.ClipGrad", nil, append([]*ir.Value{dout[0], n.Out[0]}, n.In[1:]...)...)}
	for i, relation := range []string{"Less", "Greater"} {
		if v := n.Input(i + 1); v != nil {
			out = append(out, b.reduceTo(b.where(b.add(relation, nil, x, v), dout[0], zero), v))
		} else {
			out = append(out, nil)
		}
	}
	return b.done(out...)
}

func gradWhere(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	zero := b.number(dout[0], 0)
	return b.done(nil, b.reduceTo(b.where(n.In[0], dout[0], zero), n.In[1]), b.reduceTo(b.where(n.In[0], zero, dout[0]), n.In[2]))
}

func gradCast(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if !n.In[0].Type.Elem.IsFloat() {
		return b.done(nil)
	}
	return b.done(b.add("CastLike", nil, dout[0], n.In[0]))
}

// gradDropout needs to know whether the node drops anything; the mask is drawn again
// from the seed where the node does not return it.
func gradDropout(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if n.Input(2) == nil {
		return b.done(dout[0])
	}
	mode := n.ConstIn(2)
	if mode == nil {
		return b.done(b.fail("training_mode is computed"))
	}
	if !tensor.Data[bool](mode)[0] {
		return b.done(dout[0])
	}
	mask := n.Output(1)
	if mask == nil {
		mask = b.node("Dropout", slices.Clone(n.Attrs), n.In, "", b.label())[1]
	}
	scale := b.number(dout[0], 2)
	if v := n.Input(1); v != nil {
		scale = b.fn("Reciprocal", b.from(1, b.add("CastLike", nil, v, dout[0])))
	}
	return b.done(b.where(mask, b.times(dout[0], scale), b.number(dout[0], 0)))
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

// gradEinsum exchanges each operand with the output in the equation; letters that
// only the operand has are those along which the gradient does not change.
func gradEinsum(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	left, right, explicit := strings.Cut(strings.ReplaceAll(n.Str("equation"), " ", ""), "->")
	terms := strings.Split(left, ",")
	if !explicit || strings.Contains(left, ".") || len(terms) != len(n.In) {
		return nil, fmt.Errorf("the gradient of equation %q is not built: it needs an explicit output and no ellipsis", n.Str("equation"))
	}
	for _, t := range append(slices.Clone(terms), right) {
		for i, l := range t {
			if strings.IndexRune(t, l) != i {
				return nil, fmt.Errorf("the gradient of equation %q is not built: %q repeats a letter", n.Str("equation"), t)
			}
		}
	}
	out := make([]*ir.Value, len(terms))
	for k, t := range terms {
		from, in := slices.Clone(terms), slices.Clone(n.In)
		from[k], in[k] = right, dout[0]
		others := strings.Join(from, "")
		var to string
		var alone []int64
		for i, l := range t {
			if strings.ContainsRune(others, l) {
				to += string(l)
			} else {
				alone = append(alone, int64(i))
			}
		}
		d := b.add("Einsum", ir.MakeAttrs("equation", strings.Join(from, ",")+"->"+to), in...)
		if len(alone) > 0 {
			d = b.expandTo(b.add("Unsqueeze", nil, d, b.ints(alone...)), n.In[k])
		}
		out[k] = b.reduceTo(d, n.In[k])
	}
	return b.done(out...)
}
