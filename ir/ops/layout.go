package ops

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Transpose",
	Same: sameIf(func(n *ir.Node) bool {
		perm, err := permOf(n, n.In[0].Type.Rank())
		return err == nil && !n.In[0].Type.Unranked && slices.IsSorted(perm)
	}),
	PerSample: func(n *ir.Node) bool {
		p := n.Ints("perm")
		return len(p) > 0 && p[0] == 0
	},
	Doc:   "Permutes the dimensions: output dimension i is input dimension perm[i].",
	Since: 1,
	In:    "data", Out: "transposed", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{{Name: "perm", Kind: ir.IntsAttr, Doc: "a permutation of 0…rank−1; absent: the reverse order"}},
	Grad:  gradTranspose,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		in := n.In[0].Type
		if in.Unranked {
			if p := n.Ints("perm"); p != nil && len(p) <= maxRank {
				return types(ir.TensorType(in.Elem, unknownDims(len(p))...))
			}
			return types(ir.UnrankedType(in.Elem))
		}
		perm, err := permOf(n, in.Rank())
		if err != nil {
			return nil, err
		}
		t := ir.TensorType(in.Elem, permuted(in.Dims, perm)...)
		keepContents(n, t)
		return types(t)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		perm, err := permOf(n, in[0].Rank())
		if err != nil {
			return nil, err
		}
		return one(transpose(in[0], perm))
	},
})

func permOf(n *ir.Node, rank int) ([]int, error) {
	if !n.HasAttr("perm") {
		p := allAxes(rank)
		slices.Reverse(p)
		return p, nil
	}
	p, err := axesOf(n.Ints("perm"), rank)
	if err == nil && len(p) != rank {
		err = fmt.Errorf("perm %v does not permute %d dimensions", p, rank)
	}
	return p, err
}

func permuted[D any](dims []D, perm []int) []D {
	out := make([]D, len(perm))
	for i, p := range perm {
		out[i] = dims[p]
	}
	return out
}

func transpose(t *tensor.Tensor, perm []int) (*tensor.Tensor, error) {
	shape := permuted(t.Shape(), perm)
	return pick(t, shape, indexWalk(shape, permuted(stridesOf(t.Shape()), perm), 0))
}

var _ = define(ir.Op{
	Name: "Concat",
	Same: alone,
	PerSample: func(n *ir.Node) bool {
		return besideAxis(n) && !slices.ContainsFunc(n.In, (*ir.Value).HasData)
	},
	Doc:   "Joins the inputs along an axis.",
	Since: 4,
	In:    "inputs*", Out: "concat_result", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Required: true, Doc: "the axis, −rank…rank−1"}},
	Grad:  gradConcat,
	Infer: inferConcat,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		axis, err := axisOf(n.Int("axis"), in[0].Rank())
		if err != nil {
			return nil, err
		}
		return one(concat(axis, in...))
	},
})

func inferConcat(n *ir.Node) ([]ir.Type, error) {
	var known *ir.Value // the first of known rank
	for i, v := range n.In {
		if v == nil {
			return nil, fmt.Errorf("input %d is missing", i)
		}
		if known == nil && !v.Type.Unranked {
			known = v
		}
	}
	if len(n.In) == 0 {
		return nil, errors.New("has no inputs")
	}
	if err := wantLike(n, 0, allAxes(len(n.In))...); err != nil {
		return nil, err
	}
	elem := n.In[0].Type.Elem
	if known == nil {
		return types(ir.UnrankedType(elem))
	}
	axis, err := axisOf(n.Int("axis"), known.Type.Rank())
	if err != nil {
		return nil, err
	}
	dims := slices.Clone(known.Type.Dims)
	along := make([]ir.Dim, len(n.In))
	var contents []ir.Dim
	followed := true
	for i, v := range n.In {
		t := v.Type
		if t.Unranked {
			along[i], followed = ir.Unknown, false
			continue
		}
		if t.Rank() != len(dims) {
			return nil, fmt.Errorf("input %d is %v, input %%%s is %v: ranks differ", i, t, known.Name, known.Type)
		}
		for d := range dims {
			if d == axis {
				continue
			}
			if dims[d], err = unify(dims[d], t.Dims[d]); err != nil {
				return nil, fmt.Errorf("input %d is %v, input %%%s is %v: %w", i, t, known.Name, known.Type, err)
			}
		}
		along[i] = t.Dims[axis]
		if k, ok := vectorLen(t); ok && v.Contents == nil && k <= maxRank && t.Elem.IsInt() {
			contents = append(contents, unknownDims(k)...)
		} else if ok && len(v.Contents) == k {
			contents = append(contents, v.Contents...)
		} else {
			followed = false
		}
	}
	dims[axis] = sumDims(along...)
	if followed && len(dims) == 1 {
		setContents(n, 0, contents)
	}
	return types(ir.TensorType(elem, dims...))
}

// concat joins tensors of the same type along an axis.
func concat(axis int, in ...*tensor.Tensor) (*tensor.Tensor, error) {
	shape := slices.Clone(in[0].Shape())
	for _, t := range in[1:] {
		s := slices.Clone(t.Shape())
		if t.Rank() != len(shape) {
			return nil, fmt.Errorf("cannot join %v and %v", ir.TypeOf(in[0]), ir.TypeOf(t))
		}
		shape[axis] += s[axis]
		s[axis] = shape[axis]
		if !slices.Equal(s, shape) || t.Elem() != in[0].Elem() {
			return nil, fmt.Errorf("cannot join %v and %v along axis %d", ir.TypeOf(in[0]), ir.TypeOf(t), axis)
		}
	}
	out, err := tensor.Alloc(in[0].Elem(), shape...)
	if err != nil {
		return nil, err
	}
	_, size, inner := splitAt(shape, axis)
	at := 0
	for _, t := range in {
		row := t.Shape()[axis] * inner // contiguous in t
		base := at
		move(out, t, t.Len(), func(i int) (int, int) { return base + i/row*size*inner + i%row, i })
		at += row
	}
	return out, nil
}

var _ = define(ir.Op{
	Name:  "Split",
	Same:  alone,
	Roles: []ir.Role{1: ir.Setting}, PerSample: besideAxis,
	Doc:   "Cuts the input into pieces along an axis: of the sizes in split, or num_outputs equal ones, the last of which may be smaller.",
	Since: 18,
	In:    "input, split?", Out: "outputs*", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the axis, −rank…rank−1"},
		{Name: "num_outputs", Kind: ir.IntAttr, Doc: "the number of pieces when split is absent"},
	},
	Grad: gradSplit,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		if n.Input(1) == nil && n.HasAttr("num_outputs") && n.Int("num_outputs") != len(n.Out) {
			return nil, fmt.Errorf("num_outputs is %d, the node has %d outputs", n.Int("num_outputs"), len(n.Out))
		}
		in := n.In[0].Type
		out := make([]ir.Type, len(n.Out))
		if in.Unranked {
			for i := range out {
				out[i] = ir.UnrankedType(in.Elem)
			}
			return out, nil
		}
		axis, err := axisOf(n.Int("axis"), in.Rank())
		if err != nil {
			return nil, err
		}
		sizes := unknownDims(len(n.Out))
		if lens, ok := knownInts(n, 1); n.Input(1) == nil || ok {
			if d := in.Dims[axis]; d.Known() {
				if lens, err = splitSizes(n, lens, d.N); err != nil {
					return nil, err
				}
			}
			if len(lens) > 0 && len(lens) != len(n.Out) {
				return nil, fmt.Errorf("split names %d pieces, the node has %d outputs", len(lens), len(n.Out))
			}
			for i, x := range lens {
				sizes[i] = dimOf(x)
			}
		}
		at := 0
		for i, d := range sizes {
			dims := slices.Clone(in.Dims)
			dims[axis] = d
			out[i] = ir.TensorType(in.Elem, dims...)
			if c := n.In[0].Contents; d.Known() && len(dims) == 1 && at <= len(c)-d.N {
				setContents(n, i, c[at:at+d.N])
				at += d.N
			}
		}
		return out, nil
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		axis, err := axisOf(n.Int("axis"), in[0].Rank())
		if err != nil {
			return nil, err
		}
		var lens []int64
		if len(in) > 1 && in[1] != nil {
			lens = in[1].Int64s()
		}
		if lens, err = splitSizes(n, lens, in[0].Shape()[axis]); err != nil {
			return nil, err
		}
		var out []*tensor.Tensor
		at := 0
		for _, k := range lens {
			t, err := cut(in[0], axis, at, int(k))
			if err != nil {
				return nil, err
			}
			out = append(out, t)
			at += int(k)
		}
		return out, nil
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset < 13 {
			toInput(r, n, "split", 1)
		}
		if opset < 18 && n.Input(1) == nil {
			r.SetAttr(n, "num_outputs", len(n.Out))
		}
		return nil
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.Input(1) == nil {
			axis, err := axisOf(n.Int("axis"), n.In[0].Type.Rank())
			if err != nil {
				return err
			}
			d := n.In[0].Type.Dims[axis]
			if !d.Known() {
				return fmt.Errorf("pieces of a dimension %v may be unequal, which opset %d cannot say", d, opset)
			}
			lens, err := splitSizes(n, nil, d.N)
			if err != nil {
				return err
			}
			if lens[0] != lens[len(lens)-1] {
				r.SetInput(n, 1, r.Ints("split", lens...))
			}
		}
		r.DeleteAttr(n, "num_outputs")
		return nil
	},
})

// splitSizes returns the sizes of the pieces of a dimension d, checked; lens
// are the given ones, empty if none are.
func splitSizes(n *ir.Node, lens []int64, d int) ([]int64, error) {
	if n.Input(1) == nil {
		k := n.Int("num_outputs")
		if k < 1 || k != len(n.Out) {
			return nil, fmt.Errorf("num_outputs is %d, the node has %d outputs", k, len(n.Out))
		}
		piece := int64((d + k - 1) / k)
		lens = slices.Repeat([]int64{piece}, k)
		lens[k-1] = int64(d) - piece*int64(k-1)
	}
	sum := int64(0)
	for _, x := range lens {
		if x < 0 || x > int64(d) {
			return nil, fmt.Errorf("cannot cut a dimension %d into pieces %v", d, lens)
		}
		sum += x
	}
	if sum != int64(d) || len(lens) != len(n.Out) {
		return nil, fmt.Errorf("cannot cut a dimension %d into pieces %v for %d outputs", d, lens, len(n.Out))
	}
	return lens, nil
}

// cut returns size elements of an axis, from the given one on.
func cut(t *tensor.Tensor, axis, from, size int) (*tensor.Tensor, error) {
	shape := slices.Clone(t.Shape())
	shape[axis] = size
	strides := stridesOf(t.Shape())
	return pick(t, shape, indexWalk(shape, strides, from*strides[axis]))
}

var _ = define(ir.Op{
	Name: "Slice",
	Same: sameIf(func(n *ir.Node) bool {
		s := n.Input(4)
		return (s == nil || s.IsConst() && isAll(s.Data, 1)) && sameShape(n.In[0].Type, n.Out[0].Type)
	}),
	Roles: []ir.Role{1: ir.Setting, 2: ir.Setting, 3: ir.Setting, 4: ir.Setting}, PerSample: slicePerSample,
	Doc:   "Takes from each of axes the indices starts, starts+steps, … before ends; negative ones count from the end.",
	Since: 10,
	In:    "data, starts, ends, axes?, steps?", Out: "output", Elements: ir.Moved,
	Grad:  gradSlice,
	Infer: inferSlice,
	Eval:  evalSlice,
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset < 10 {
			toInput(r, n, "starts", 1)
			toInput(r, n, "ends", 2)
			toInput(r, n, "axes", 3)
		}
		return nil
	},
})

// sliceRange returns the first index, the step and the number of indices that
// a slice takes from a dimension d.
func sliceRange(start, end, step int64, d int) (first, by, count int, err error) {
	if step == 0 {
		return 0, 0, 0, errors.New("step is 0")
	}
	n := int64(d)
	step = max(-n-1, min(step, n+1)) // more makes no difference, and cannot overflow
	from := func(x int64) int64 {
		if x < 0 {
			return x + n
		}
		return x
	}
	start, end = from(start), from(end)
	if step > 0 {
		start, end = min(max(start, 0), n), min(max(end, 0), n)
		return int(start), int(step), int(max(0, end-start+step-1) / step), nil
	}
	start, end = min(max(start, 0), n-1), min(max(end, -1), n-1)
	return int(start), int(step), int(max(0, start-end-step-1) / -step), nil
}

// sliceArgs returns the slice of each axis, from the elements of the inputs
// (nil where absent).
func sliceArgs(rank int, starts, ends, axes, steps []int64) ([]int, []int64, error) {
	if axes == nil {
		for i := range min(len(starts), rank+1) {
			axes = append(axes, int64(i))
		}
	}
	at, err := axesOf(axes, rank)
	if err != nil {
		return nil, nil, err
	}
	if steps == nil {
		steps = slices.Repeat([]int64{1}, len(at))
	}
	if len(starts) != len(at) || len(ends) != len(at) || len(steps) != len(at) {
		return nil, nil, fmt.Errorf("%d starts, %d ends, %d axes and %d steps", len(starts), len(ends), len(at), len(steps))
	}
	return at, steps, nil
}

func inferSlice(n *ir.Node) ([]ir.Type, error) {
	if err := needInts(n, 1, 2, 3, 4); err != nil {
		return nil, err
	}
	in := n.In[0].Type
	if in.Unranked {
		return types(ir.UnrankedType(in.Elem))
	}
	axes, haveAxes := knownInts(n, 3)
	steps, haveSteps := knownInts(n, 4)
	starts, haveStarts := knownInts(n, 1)
	ends, haveEnds := knownInts(n, 2)
	startDims, ok1 := knownDims(n, 1)
	endDims, ok2 := knownDims(n, 2)
	if n.Input(3) != nil && !haveAxes || !ok1 || !ok2 {
		return types(ir.TensorType(in.Elem, unknownDims(in.Rank())...))
	}
	if !haveSteps && n.Input(4) != nil {
		steps = make([]int64, len(startDims))
	}
	at, steps, err := sliceArgs(in.Rank(), make([]int64, len(startDims)), make([]int64, len(endDims)), axes, steps)
	if err != nil {
		return nil, err
	}
	dims := slices.Clone(in.Dims)
	var contents []ir.Dim
	for i, a := range at {
		d := dims[a]
		dims[a] = ir.Unknown
		if steps[i] == 0 && haveSteps {
			return nil, errors.New("step is 0")
		}
		stepKnown := haveSteps || n.Input(4) == nil
		switch {
		case haveStarts && haveEnds && stepKnown && d.Known():
			first, by, count, err := sliceRange(starts[i], ends[i], steps[i], d.N)
			if err != nil {
				return nil, err
			}
			dims[a] = ir.Fixed(count)
			if c := n.In[0].Contents; len(in.Dims) == 1 && len(c) == d.N {
				contents = make([]ir.Dim, count)
				for j := range contents {
					contents[j] = c[first+j*by]
				}
			}
		case haveStarts && starts[i] == 0 && steps[i] == 1 && (haveEnds && ends[i] >= math.MaxInt32 || endDims[i].Same(d)),
			haveStarts && haveEnds && starts[i] == -1 && steps[i] == -1 && ends[i] <= -math.MaxInt32:
			dims[a] = d // all of it
		}
	}
	if contents != nil {
		setContents(n, 0, contents)
	}
	return types(ir.TensorType(in.Elem, dims...))
}

// slicePerSample: dimension 0 stays whole.
func slicePerSample(n *ir.Node) bool {
	rank := n.In[0].Type.Rank()
	args := make([][]int64, 5)
	for i := 1; i < 5; i++ {
		v := n.Input(i)
		if v != nil && !v.HasData() {
			return false
		} else if v != nil {
			args[i] = v.Data.Int64s()
		}
	}
	at, steps, err := sliceArgs(rank, args[1], args[2], args[3], args[4])
	i := slices.Index(at, 0)
	return err == nil && (i < 0 || args[1][i] == 0 && steps[i] == 1)
}

func evalSlice(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	args := make([][]int64, 5)
	for i, t := range in[:min(len(in), 5)] {
		if i > 0 && t != nil {
			args[i] = t.Int64s()
		}
	}
	x := in[0]
	at, steps, err := sliceArgs(x.Rank(), args[1], args[2], args[3], args[4])
	if err != nil {
		return nil, err
	}
	shape, strides := slices.Clone(x.Shape()), stridesOf(x.Shape())
	offset := 0
	for i, a := range at {
		first, by, count, err := sliceRange(args[1][i], args[2][i], steps[i], shape[a])
		if err != nil {
			return nil, err
		}
		offset += first * strides[a]
		shape[a] = count
		strides[a] *= by
	}
	return one(pick(x, shape, indexWalk(shape, strides, offset)))
}

var _ = define(ir.Op{
	Name:  "Tile",
	Same:  sameIf(func(n *ir.Node) bool { return sameShape(n.In[0].Type, n.Out[0].Type) }),
	Roles: []ir.Role{1: ir.Setting},
	Doc:   "Repeats the input along each dimension as often as repeats says.",
	Since: 6,
	In:    "input, repeats", Out: "output", Elements: ir.Moved,
	Grad: gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		if in.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		reps, ok := knownDims(n, 1)
		if !ok {
			return types(ir.TensorType(in.Elem, unknownDims(in.Rank())...))
		}
		if len(reps) != in.Rank() {
			return nil, fmt.Errorf("%d repeats for %v", len(reps), in)
		}
		dims := make([]ir.Dim, len(reps))
		for i, r := range reps {
			dims[i] = volumeOf([]ir.Dim{in.Dims[i], r}).dim()
		}
		return types(ir.TensorType(in.Elem, dims...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, reps := in[0], intsOf(in[1])
		if len(reps) != x.Rank() {
			return nil, fmt.Errorf("%d repeats for %v", len(reps), ir.TypeOf(x))
		}
		if _, err := tensor.NumElems(reps); err != nil {
			return nil, err
		}
		// Seen as r₀×d₀×r₁×d₁×…, the output repeats along every second dimension.
		var shape, strides, flat []int
		for i, s := range stridesOf(x.Shape()) {
			shape = append(shape, reps[i], x.Shape()[i])
			strides = append(strides, 0, s)
			d, err := tensor.NumElems([]int{reps[i], x.Shape()[i]})
			if err != nil {
				return nil, err
			}
			flat = append(flat, d)
		}
		return one(pick(x, flat, indexWalk(shape, strides, 0)))
	},
})

var _ = define(ir.Op{
	Name:      "DepthToSpace",
	PerSample: byFirst,
	Doc:       "Moves blocks of channels into space: [N, C·b·b, H, W] becomes [N, C, H·b, W·b].",
	Since:     11,
	In:        "input", Out: "output", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{
		{Name: "blocksize", Kind: ir.IntAttr, Required: true, Doc: "b, from 1 to 65536"},
		{Name: "mode", Kind: ir.StringAttr, Default: "DCR", Doc: "order in which channels are read: DCR block first, CRD channel first"},
	},
	Grad: gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if m := n.Str("mode"); m != "DCR" && m != "CRD" {
			return nil, fmt.Errorf("mode is %q, expected DCR or CRD", m)
		}
		return inferBlocks(n, func(c, h, w, b ir.Dim) ([3]ir.Dim, bool) {
			q, ok := volumeOf([]ir.Dim{c}).over(volumeOf([]ir.Dim{b, b}))
			return [3]ir.Dim{q.dim(), volumeOf([]ir.Dim{h, b}).dim(), volumeOf([]ir.Dim{w, b}).dim()}, ok
		})
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, s := n.Int("blocksize"), in[0].Shape()
		if len(s) != 4 || b < 1 || s[1]%b != 0 || s[1]/b%b != 0 {
			return nil, fmt.Errorf("%v has no blocks of %d", ir.TypeOf(in[0]), b)
		}
		split, perm := []int{s[0], b, b, s[1] / b / b, s[2], s[3]}, []int{0, 3, 4, 1, 5, 2}
		if n.Str("mode") == "CRD" {
			split, perm = []int{s[0], s[1] / b / b, b, b, s[2], s[3]}, []int{0, 1, 4, 2, 5, 3}
		}
		t, err := transpose(in[0].Reshape(split...), perm)
		if err != nil {
			return nil, err
		}
		return results(t.Reshape(s[0], s[1]/b/b, s[2]*b, s[3]*b))
	},
})

var _ = define(ir.Op{
	Name:      "SpaceToDepth",
	PerSample: byFirst,
	Doc: "Moves blocks of space into channels: [N, C, H, W] becomes [N, b·b·C, H/b, W/b], ordered by the place in the block first (DCR) " +
		"or by the channel first (CRD, since opset 28).",
	Since: 28,
	In:    "input", Out: "output", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{
		{Name: "blocksize", Kind: ir.IntAttr, Required: true, Doc: "b, from 1 to 65536"},
		{Name: "mode", Kind: ir.StringAttr, Default: "DCR", Doc: "DCR or CRD"},
	},
	Export: exportSpaceToDepth,
	Grad:   gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if m := n.Str("mode"); m != "DCR" && m != "CRD" {
			return nil, fmt.Errorf("mode is %q, expected DCR or CRD", m)
		}
		return inferBlocks(n, func(c, h, w, b ir.Dim) ([3]ir.Dim, bool) {
			qh, ok1 := volumeOf([]ir.Dim{h}).over(volumeOf([]ir.Dim{b}))
			qw, ok2 := volumeOf([]ir.Dim{w}).over(volumeOf([]ir.Dim{b}))
			return [3]ir.Dim{volumeOf([]ir.Dim{c, b, b}).dim(), qh.dim(), qw.dim()}, ok1 && ok2
		})
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, s := n.Int("blocksize"), in[0].Shape()
		if len(s) != 4 || b < 1 || s[2]%b != 0 || s[3]%b != 0 {
			return nil, fmt.Errorf("%v has no blocks of %d", ir.TypeOf(in[0]), b)
		}
		order := []int{0, 3, 5, 1, 2, 4}
		if n.Str("mode") == "CRD" {
			order = []int{0, 1, 3, 5, 2, 4}
		}
		t, err := transpose(in[0].Reshape(s[0], s[1], s[2]/b, b, s[3]/b, b), order)
		if err != nil {
			return nil, err
		}
		return results(t.Reshape(s[0], b*b*s[1], s[2]/b, s[3]/b))
	},
})

// exportSpaceToDepth says the order CRD, which came with opset 28, by a Transpose of the channels.
func exportSpaceToDepth(r *ir.Rewriter, n *ir.Node, opset int) error {
	crd := n.Str("mode") == "CRD"
	r.DeleteAttr(n, "mode")
	if !crd {
		return nil
	}
	b, c := n.Int("blocksize"), n.In[0].Type
	s := n.Out[0].Type
	if c.Unranked || !c.Dims[1].Known() || !s.Dims[2].Known() || !s.Dims[3].Known() {
		return fmt.Errorf("mode CRD of %v needs opset 28, or known dimensions", c)
	}
	e := expansion{r: r.Before(n), n: n}
	k, h, w := int64(c.Dims[1].N), int64(s.Dims[2].N), int64(s.Dims[3].N)
	x := e.add("SpaceToDepth", ir.MakeAttrs("blocksize", b), n.In[0])
	x = e.add("Reshape", nil, x, e.ints(-1, int64(b*b), k, h*w))
	x = e.add("Transpose", ir.MakeAttrs("perm", []int{0, 2, 1, 3}), x)
	return e.become("Reshape", nil, x, e.ints(-1, int64(b*b)*k, h, w))
}

// inferBlocks is the shape rule of DepthToSpace and SpaceToDepth; to says what
// channels, height and width become, and whether they can.
func inferBlocks(n *ir.Node, to func(c, h, w, b ir.Dim) ([3]ir.Dim, bool)) ([]ir.Type, error) {
	b := n.Int("blocksize")
	if b < 1 || b > 1<<16 {
		return nil, fmt.Errorf("blocksize is %d, expected 1 to 65536", b)
	}
	if err := wantRank(n, 0, 4); err != nil {
		return nil, err
	}
	in := n.In[0].Type
	if in.Unranked {
		return types(ir.TensorType(in.Elem, unknownDims(4)...))
	}
	out, ok := to(in.Dims[1], in.Dims[2], in.Dims[3], ir.Fixed(b))
	if !ok {
		return nil, fmt.Errorf("%v has no blocks of %d", in, b)
	}
	return types(ir.TensorType(in.Elem, in.Dims[0], out[0], out[1], out[2]))
}
