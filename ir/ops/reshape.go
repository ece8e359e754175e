package ops

import (
	"errors"
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name:      "Identity",
	Same:      sameIf(func(*ir.Node) bool { return true }),
	PerSample: byFirst,
	Sequences: true,
	Doc:       "Returns its input.",
	Since:     1,
	In:        "input", Out: "output", Elements: ir.Kept,
	Grad: gradReshape,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		setContents(n, 0, n.In[0].Contents)
		return types(n.In[0].Type)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) { return results(in[0]) },
})

var zeroF32 = tensor.Of([]float32{0}, 1)

var _ = define(ir.Op{
	Name:  "ConstantOfShape",
	Doc:   "A tensor of the given shape, filled with one value.",
	Since: 9,
	In:    "input", Out: "output",
	Attrs: []ir.AttrSpec{{Name: "value", Kind: ir.TensorAttr, Default: zeroF32, Doc: "the value and element type: a tensor of one element"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		v := n.TensorAttr("value")
		if v.Len() != 1 {
			return nil, fmt.Errorf("value has %d elements, expected 1", v.Len())
		}
		if err := needInts(n, 0); err != nil {
			return nil, err
		}
		if x, ok := knownInts(n, 0); ok && slices.ContainsFunc(x, func(d int64) bool { return d < 0 }) {
			return nil, fmt.Errorf("negative dimension in shape %v", x)
		}
		dims, ok := knownDims(n, 0)
		if !ok {
			return types(ir.UnrankedType(v.Elem()))
		}
		t := ir.TensorType(v.Elem(), dims...)
		if k, ok := vectorLen(t); ok && k <= 64 && v.Elem().IsInt() {
			setContents(n, 0, slices.Repeat([]ir.Dim{dimOf(v.Int64s()[0])}, k))
		}
		return types(t)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return one(filled(n.TensorAttr("value"), intsOf(in[0])))
	},
})

// filled returns a tensor with the one element of t everywhere.
func filled(t *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
	if _, err := tensor.NumElems(shape); err != nil {
		return nil, err
	}
	return pick(t, shape, indexWalk(shape, make([]int, len(shape)), 0))
}

// intsOf returns an integer tensor's elements as ints, as for a shape.
func intsOf(t *tensor.Tensor) []int {
	out := make([]int, t.Len())
	for i, x := range t.Int64s() {
		out[i] = int(x)
	}
	return out
}

var _ = define(ir.Op{
	Name:  "Shape",
	Doc:   "The input's shape, or the part of it from start to end, as a vector of i64.",
	Since: 15,
	In:    "data", Out: "shape",
	Attrs: []ir.AttrSpec{
		{Name: "start", Kind: ir.IntAttr, Default: int64(0), Doc: "first dimension; negative counts from the end; cut to 0…rank"},
		{Name: "end", Kind: ir.IntAttr, Doc: "the dimension after the last; negative counts from the end; cut to 0…rank; absent: rank"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t := n.In[0].Type
		if t.Unranked {
			return types(ir.TensorType(tensor.I64, ir.Unknown))
		}
		lo, hi := shapeRange(n, t.Rank())
		setContents(n, 0, slices.Clone(t.Dims[lo:hi]))
		return types(ir.TensorType(tensor.I64, ir.Fixed(hi-lo)))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		lo, hi := shapeRange(n, in[0].Rank())
		out := make([]int64, hi-lo)
		for i, d := range in[0].Shape()[lo:hi] {
			out[i] = int64(d)
		}
		return results(tensor.Of(out, len(out)))
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		start, cut := int64(n.Int("start")), n.HasAttr("end")
		end := int64(1<<63 - 1)
		if cut {
			end = int64(n.Int("end"))
		}
		r.DeleteAttr(n, "start")
		r.DeleteAttr(n, "end")
		if start == 0 && !cut {
			return nil
		}
		out, t := n.Out[0], n.Out[0].Type
		out.Type = ir.TensorType(tensor.I64, ir.Unknown)
		if err := n.Infer(); err != nil {
			return err
		}
		r = r.After(n)
		s, err := r.Add("Slice", "", nil, []*ir.Value{out, r.Ints("starts", start), r.Ints("ends", end), r.Ints("axes", 0)})
		if err != nil {
			return err
		}
		s.Out[0].Type = t
		r.ReplaceUses(out, s.Out[0])
		r.SetInput(s, 0, out)
		return nil
	},
})

func shapeRange(n *ir.Node, rank int) (lo, hi int) {
	cut := func(x int) int {
		if x < 0 {
			x = max(x, -rank) + rank
		}
		return min(x, rank)
	}
	lo, hi = cut(n.Int("start")), rank
	if n.HasAttr("end") {
		hi = cut(n.Int("end"))
	}
	return lo, max(lo, hi)
}

var _ = define(ir.Op{
	Name:  "Size",
	Doc:   "The number of elements of the input, as a scalar i64.",
	Since: 1,
	In:    "data", Out: "size",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if t := n.In[0].Type; !t.Unranked {
			setContents(n, 0, []ir.Dim{volumeOf(t.Dims).dim()})
		}
		return types(ir.TensorType(tensor.I64))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return results(tensor.Scalar(int64(in[0].Len())))
	},
})

var _ = define(ir.Op{
	Name:  "Reshape",
	Roles: []ir.Role{1: ir.Shape}, PerSample: byFirst,
	Doc:   "The same elements in another shape. One dimension may be −1: what is left; 0 keeps the input's dimension.",
	Since: 14,
	In:    "data, shape", Out: "reshaped", Elements: ir.Kept,
	Attrs: []ir.AttrSpec{{Name: "allowzero", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: a 0 in shape is the dimension 0"}},
	Grad:  gradReshape,
	Infer: inferReshape,
	Eval:  evalReshape,
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.Int("allowzero") != 0 {
			x, ok := knownInts(n, 1)
			if !ok || slices.Contains(x, 0) {
				return fmt.Errorf("allowzero does not exist at opset %d", opset)
			}
		}
		r.DeleteAttr(n, "allowzero")
		return nil
	},
})

func inferReshape(n *ir.Node) ([]ir.Type, error) {
	if err := needInts(n, 1); err != nil {
		return nil, err
	}
	in := n.In[0].Type
	target, ok := knownDims(n, 1)
	if !ok {
		return types(ir.UnrankedType(in.Elem))
	}
	if x, ok := knownInts(n, 1); ok {
		free := 0
		for _, d := range x {
			if d < -1 {
				return nil, fmt.Errorf("dimension %d in shape %v", d, x)
			} else if d == -1 {
				free++
			}
		}
		if free > 1 {
			return nil, fmt.Errorf("more than one dimension of shape %v is -1", x)
		}
	}
	// A dimension copied by 0 stands on both sides, so it may be unknown.
	from, to := slices.Clone(in.Dims), slices.Clone(target)
	out := slices.Clone(target)
	var gone []int
	for i, d := range target {
		if d != ir.Fixed(0) || n.Int("allowzero") != 0 {
			continue
		}
		if in.Unranked {
			out[i] = ir.Unknown
			continue
		}
		if i >= len(in.Dims) {
			return nil, fmt.Errorf("dimension %d of shape %v is 0, the input is %v", i, target, in)
		}
		out[i] = in.Dims[i]
		gone = append(gone, i)
	}
	for i := len(gone) - 1; i >= 0; i-- {
		from, to = slices.Delete(from, gone[i], gone[i]+1), slices.Delete(to, gone[i], gone[i]+1)
	}
	free := slices.Index(out, ir.Unknown)
	if !in.Unranked && free >= 0 && slices.Index(to, ir.Unknown) >= 0 && slices.Index(out[free+1:], ir.Unknown) < 0 {
		i := slices.Index(to, ir.Unknown)
		q, ok := volumeOf(from).over(volumeOf(slices.Delete(slices.Clone(to), i, i+1)))
		if !ok {
			return nil, fmt.Errorf("%v does not fit shape %v", in, target)
		}
		out[free] = q.dim()
	} else if a, b := volumeOf(from), volumeOf(to); !in.Unranked && a != nil && b != nil &&
		len(a.syms)+len(b.syms) == 0 && a.n != b.n {
		return nil, fmt.Errorf("%v does not fit shape %v", in, target)
	}
	t := ir.TensorType(in.Elem, out...)
	keepContents(n, t)
	return types(t)
}

func evalReshape(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	shape := intsOf(in[1])
	free := -1
	for i, d := range shape {
		switch {
		case d == -1 && free < 0:
			free = i
			shape[i] = 1
		case d < 0:
			return nil, fmt.Errorf("bad shape %v", intsOf(in[1]))
		case d == 0 && n.Int("allowzero") == 0:
			if i >= in[0].Rank() {
				return nil, fmt.Errorf("dimension %d of shape %v is 0, the input is %v", i, shape, ir.TypeOf(in[0]))
			}
			shape[i] = in[0].Shape()[i]
		}
	}
	rest, err := tensor.NumElems(shape)
	if err != nil {
		return nil, err
	}
	if free >= 0 {
		if rest == 0 {
			return nil, errors.New("a dimension of -1 beside one of 0 means nothing")
		}
		shape[free] = in[0].Len() / rest
		rest *= shape[free]
	}
	if rest != in[0].Len() {
		return nil, fmt.Errorf("%v does not fit shape %v", ir.TypeOf(in[0]), intsOf(in[1]))
	}
	return results(in[0].Reshape(shape...))
}

var _ = define(ir.Op{
	Name:  "Squeeze",
	Roles: []ir.Role{1: ir.Setting}, PerSample: byFirst,
	Doc:   "Removes dimensions of size 1: those in axes, or all.",
	Since: 13,
	In:    "data, axes?", Out: "squeezed", Elements: ir.Kept,
	Grad: gradReshape,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		axes, ok := knownInts(n, 1)
		if in.Unranked || n.Input(1) != nil && !ok {
			return types(ir.UnrankedType(in.Elem))
		}
		if n.Input(1) == nil {
			for i, d := range in.Dims {
				if !d.Known() {
					return types(ir.UnrankedType(in.Elem))
				}
				if d.N == 1 {
					axes = append(axes, int64(i))
				}
			}
		}
		drop, err := axesOf(axes, in.Rank())
		if err != nil {
			return nil, err
		}
		var dims []ir.Dim
		for i, d := range in.Dims {
			if !slices.Contains(drop, i) {
				dims = append(dims, d)
			} else if !d.MayEqual(ir.Fixed(1)) {
				return nil, fmt.Errorf("axis %d of %v is not 1", i, in)
			}
		}
		t := ir.TensorType(in.Elem, dims...)
		keepContents(n, t)
		return types(t)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		drop := make([]bool, in[0].Rank())
		for i, d := range in[0].Shape() {
			drop[i] = d == 1
		}
		if len(in) > 1 && in[1] != nil {
			axes, err := axesOf(in[1].Int64s(), in[0].Rank())
			if err != nil {
				return nil, err
			}
			clear(drop)
			for _, a := range axes {
				if drop[a] = true; in[0].Shape()[a] != 1 {
					return nil, fmt.Errorf("axis %d of %v is not 1", a, ir.TypeOf(in[0]))
				}
			}
		}
		var shape []int
		for i, d := range in[0].Shape() {
			if !drop[i] {
				shape = append(shape, d)
			}
		}
		return results(in[0].Reshape(shape...))
	},
	Import: importAxes,
})

// importAxes reads the form before opset 13, where axes was an attribute.
func importAxes(r *ir.Rewriter, n *ir.Node, opset int) error {
	if opset < 13 {
		toInput(r, n, "axes", 1)
	}
	return nil
}

var _ = define(ir.Op{
	Name:  "Unsqueeze",
	Roles: []ir.Role{1: ir.Setting}, PerSample: byFirst,
	Doc:   "Inserts dimensions of size 1 at axes, which count in the output.",
	Since: 13,
	In:    "data, axes", Out: "expanded", Elements: ir.Kept,
	Grad: gradReshape,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		axes, ok := knownInts(n, 1)
		if in.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		if !ok {
			if k, known := vectorLen(n.In[1].Type); known && k <= maxRank {
				return types(ir.TensorType(in.Elem, unknownDims(in.Rank()+k)...))
			}
			return types(ir.UnrankedType(in.Elem))
		}
		dims, err := unsqueezed(in.Dims, axes, ir.Fixed(1))
		if err != nil {
			return nil, err
		}
		t := ir.TensorType(in.Elem, dims...)
		keepContents(n, t)
		return types(t)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		shape, err := unsqueezed(in[0].Shape(), in[1].Int64s(), 1)
		if err != nil {
			return nil, err
		}
		return results(in[0].Reshape(shape...))
	},
	Import: importAxes,
})

// unsqueezed inserts one at axes of the result.
func unsqueezed[D any](dims []D, axes []int64, one D) ([]D, error) {
	at, err := axesOf(axes, len(dims)+len(axes))
	if err != nil {
		return nil, err
	}
	slices.Sort(at)
	out := slices.Clone(dims)
	for _, a := range at {
		out = slices.Insert(out, a, one)
	}
	return out, nil
}

var _ = define(ir.Op{
	Name:  "Expand",
	Same:  sameIf(func(n *ir.Node) bool { return sameShape(n.In[0].Type, n.Out[0].Type) }),
	Roles: []ir.Role{1: ir.Shape},
	Doc:   "Broadcasts the input to a shape; where shape says 1 the input's dimension stays.",
	Since: 8,
	In:    "input, shape", Out: "output", Elements: ir.Moved,
	Grad: gradExpand,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		if err := wantRank(n, 1, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		shape, ok := knownDims(n, 1)
		if !ok || in.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		dims, err := broadcastDims(in.Dims, shape)
		if err != nil {
			return nil, err
		}
		t := ir.TensorType(in.Elem, dims...)
		if k, ok := vectorLen(t); ok && k <= 64 && in.Rank() <= 1 {
			switch c := n.In[0].Contents; len(c) {
			case k:
				setContents(n, 0, c)
			case 1:
				setContents(n, 0, slices.Repeat(c, k))
			}
		}
		return types(t)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		shape := intsOf(in[1])
		if _, err := tensor.NumElems(shape); err != nil {
			return nil, err
		}
		shape, err := broadcastShape(in[0].Shape(), shape)
		if err != nil {
			return nil, err
		}
		return one(expand(in[0], shape))
	},
})
