package ops

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func gradTranspose(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if !n.HasAttr("perm") { // the reverse order is its own inverse
		return b.done(b.add("Transpose", nil, dout[0]))
	}
	perm, err := axesOf(n.Ints("perm"), len(n.Ints("perm")))
	if err != nil {
		return nil, err
	}
	back := make([]int64, len(perm))
	for i, p := range perm {
		back[p] = int64(i)
	}
	return b.done(b.add("Transpose", ir.MakeAttrs("perm", back), dout[0]))
}

func gradConcat(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	names := make([]string, len(n.In))
	sizes := make([]int64, len(n.In))
	for i, v := range n.In {
		names[i] = v.Name + "_grad"
		if v.Type.Unranked {
			return b.done(b.fail("the gradient needs the shape of %%%s, it is %v", v.Name, v.Type))
		}
		axis, err := axisOf(n.Int("axis"), v.Type.Rank())
		if err != nil {
			return nil, err
		}
		if d := v.Type.Dims[axis]; !d.Known() {
			return b.done(b.fail("the gradient needs the shape of %%%s, it is %v", v.Name, v.Type))
		} else {
			sizes[i] = int64(d.N)
		}
	}
	return b.done(b.node("Split", b.copyAttrs("axis"), []*ir.Value{dout[0], b.ints(sizes...)}, names...)...)
}

func gradSplit(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	parts := slices.Clone(dout)
	for i, v := range n.Out {
		if parts[i] == nil && v == nil {
			return b.done(b.fail("output %d is absent", i))
		} else if parts[i] == nil {
			parts[i] = b.zeros(v)
		}
	}
	return b.done(b.add("Concat", ir.MakeAttrs("axis", n.Int("axis")), parts...))
}

func gradExpand(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	return b.done(b.reduceTo(dout[0], n.In[0]))
}

// gradMoved serves operators whose outputs are elements of the first input,
// chosen by the other inputs and the attributes alone, or zeros: the operator
// itself, applied to the numbers 1, 2, …, tells where each came from. The gradients
// are added in the order of the output.
func gradMoved(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	x := n.In[0]
	i64 := func(k int64) *ir.Value { return r.Const(b.label()+"_const", tensor.Scalar(k)) }
	size := b.add("Size", nil, x)
	numbers := b.add("Range", nil, i64(1), b.add("Add", nil, size, i64(1)), i64(1))
	in := slices.Clone(n.In)
	in[0] = b.add("Reshape", ir.MakeAttrs("allowzero", 1), numbers, b.add("Shape", nil, x))
	if n.Op.Name == "Pad" && len(in) > 2 && in[2] != nil {
		in[2] = nil
	}
	at := b.add("Reshape", nil, b.add(n.Op.Name, slices.Clone(n.Attrs), in...), b.ints(-1))
	room := b.add("Expand", nil, b.number(x, 0), b.add("Reshape", nil, b.add("Add", nil, size, i64(1)), b.ints(1)))
	d := b.add("Reshape", nil, dout[0], b.ints(-1))
	all := b.add("ScatterElements", ir.MakeAttrs("reduction", "add"), room, at, d)
	last := b.add("Reshape", nil, b.add("Add", nil, size, i64(1)), b.ints(1))
	return b.done(b.reshapeTo(b.add("Slice", nil, all, b.ints(1), last), x))
}

// gradPad of zeros around data is what lies between them.
func gradPad(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	pads, ok := knownInts(n, 1)
	axes, haveAxes := knownInts(n, 3)
	if !ok || n.Input(3) != nil && !haveAxes || n.In[0].Type.Unranked || n.Str("mode") != "constant" || slices.Min(pads) < 0 {
		return gradMoved(r, n, dout)
	}
	before, after, err := padsOf(n.In[0].Type.Rank(), pads, axes)
	if err != nil {
		return nil, err
	}
	var at, starts, ends []int64
	for i := range before {
		if before[i] == 0 && after[i] == 0 {
			continue
		}
		end := int64(math.MaxInt64)
		if after[i] > 0 {
			end = -int64(after[i])
		}
		at, starts, ends = append(at, int64(i)), append(starts, int64(before[i])), append(ends, end)
	}
	b := backprop{r: r, n: n}
	if at == nil {
		return b.done(dout[0])
	}
	return b.done(b.add("Slice", nil, dout[0], b.ints(starts...), b.ints(ends...), b.ints(at...)))
}

// gradSlice puts zeros between the elements, as the gradient of a pooling with windows
// of one element does, and around them.
func gradSlice(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	x := n.In[0].Type
	args := make([][]int64, 5)
	for i := 1; i < len(args); i++ {
		var ok bool
		if args[i], ok = knownInts(n, i); !ok && n.Input(i) != nil || x.Unranked {
			return gradMoved(r, n, dout)
		}
	}
	at, steps, err := sliceArgs(x.Rank(), args[1], args[2], args[3], args[4])
	if err != nil {
		return nil, err
	}
	rank := x.Rank()
	pads := make([]int64, 2*rank)
	strides := slices.Repeat([]int64{1}, max(0, rank-2))
	spatial := slices.Clone(strides)
	for i := range spatial {
		spatial[i] = int64(x.Dims[2+i].N)
	}
	for i, a := range at {
		if !x.Dims[a].Known() {
			return gradMoved(r, n, dout)
		}
		first, by, count, err := sliceRange(args[1][i], args[2][i], steps[i], x.Dims[a].N)
		if err != nil {
			return nil, err
		}
		if count == 0 || by < 0 || by > 1 && a < 2 {
			return gradMoved(r, n, dout)
		}
		taken := (count-1)*by + 1
		if left := x.Dims[a].N - first - taken; by > 1 && left < by {
			taken += left
		}
		if a >= 2 {
			strides[a-2], spatial[a-2] = int64(by), int64(taken)
		}
		pads[a], pads[rank+a] = int64(first), int64(x.Dims[a].N-first-taken)
	}
	b := backprop{r: r, n: n}
	d := dout[0]
	if slices.ContainsFunc(strides, func(s int64) bool { return s > 1 }) {
		if slices.ContainsFunc(x.Dims[2:], func(d ir.Dim) bool { return !d.Known() }) {
			return gradMoved(r, n, dout)
		}
		ones := slices.Repeat([]int64{1}, len(strides))
		d = b.add("thriftc.AveragePoolGrad", ir.MakeAttrs("kernel_shape", ones, "strides", strides, "spatial", spatial), d)
	}
	if slices.Max(pads) > 0 {
		d = b.add("Pad", nil, d, b.ints(pads...))
	}
	return b.done(d)
}

func gradCumSum(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	a := b.copyAttrs("exclusive")
	a.Set("reverse", int64(1-n.Int("reverse")))
	return b.done(b.add("CumSum", a, dout[0], n.In[1]))
}

func gradTopK(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	return b.done(b.add("ScatterElements", ir.MakeAttrs("axis", n.Int("axis")), b.zeros(n.In[0]), n.Out[1], dout[0]))
}

// gradScatter serves ScatterElements and ScatterND. Of several updates of one
// place without a reduction all get the gradient, though only the last counts.
func gradScatter(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	gather := map[string]string{"ScatterElements": "GatherElements", "ScatterND": "GatherND"}[n.Op.Name]
	du := b.add(gather, b.copyAttrs("axis"), dout[0], n.In[1])
	switch red := n.Str("reduction"); red {
	case "add":
		return b.done(dout[0], nil, du)
	case "none":
		return b.done(b.add(n.Op.Name, b.copyAttrs("axis"), dout[0], n.In[1], b.zeros(n.In[2])), nil, du)
	default:
		return b.done(b.fail("reduction %s has no gradient", red))
	}
}

func gradMaxUnpool(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if n.Input(2) != nil {
		return b.done(b.fail("with output_shape it has no gradient"))
	}
	flat := func(v *ir.Value) *ir.Value { return b.add("Reshape", nil, v, b.ints(-1)) }
	return b.done(b.reshapeTo(b.add("GatherElements", nil, flat(dout[0]), flat(n.In[1])), n.In[0]))
}

func gradResize(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	if n.Str("mode") != "nearest" || n.Str("coordinate_transformation_mode") == "tf_crop_and_resize" {
		b := backprop{r: r, n: n}
		return b.done(b.fail("only mode nearest without cropping has a gradient"))
	}
	return gradMoved(r, n, dout)
}
