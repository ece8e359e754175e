package ops

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name:  "TopK",
	Doc:   "The k greatest or least elements along an axis and their indices (i64); of equal ones those with smaller indices. NaN comes first.",
	Since: 11,
	In:    "X, K", Out: "Values, Indices",
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Default: int64(-1), Doc: "the axis, −rank…rank−1"},
		{Name: "largest", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: the greatest, 0: the least"},
		{Name: "sorted", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: sorted, best first; 0: any order (here sorted as well)"},
		{Name: "k", Kind: ir.IntAttr, Doc: "K, before opset 10; never present in a graph"},
	},
	Grad: gradTopK,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantNumbers(n, 0); err != nil {
			return nil, err
		}
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		if in.Unranked {
			return types(ir.UnrankedType(in.Elem), ir.UnrankedType(tensor.I64))
		}
		axis, err := axisOf(n.Int("axis"), in.Rank())
		if err != nil {
			return nil, err
		}
		dims := slices.Clone(in.Dims)
		dims[axis] = ir.Unknown
		if k, ok := knownInt(n, 1); ok {
			if d := in.Dims[axis]; k < 0 || d.Known() && k > int64(d.N) {
				return nil, fmt.Errorf("K is %d, axis %d of %v", k, axis, in)
			}
			dims[axis] = ir.Fixed(int(k))
		}
		return types(ir.TensorType(in.Elem, dims...), ir.TensorType(tensor.I64, dims...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x := in[0]
		axis, err := axisOf(n.Int("axis"), x.Rank())
		if err != nil {
			return nil, err
		}
		if in[1].Len() != 1 {
			return nil, fmt.Errorf("K is %v, expected one element", ir.TypeOf(in[1]))
		}
		k := in[1].Int64s()[0]
		if k < 0 || k > int64(x.Shape()[axis]) {
			return nil, fmt.Errorf("K is %d, axis %d of %v", k, axis, ir.TypeOf(x))
		}
		before := inOrder(x, n.Int("largest") != 0)
		shape := slices.Clone(x.Shape())
		shape[axis] = int(k)
		outer, size, inner := splitAt(x.Shape(), axis)
		from := make([]int, outer*int(k)*inner)
		which := make([]int64, len(from))
		order := make([]int, size)
		for o := range outer {
			for i := range inner {
				place := func(j int) int { return (o*size+j)*inner + i }
				for j := range order {
					order[j] = j
				}
				slices.SortStableFunc(order, func(a, b int) int { return before(place(a), place(b)) })
				for j, a := range order[:k] {
					at := (o*int(k)+j)*inner + i
					from[at], which[at] = place(a), int64(a)
				}
			}
		}
		values, err := pick(x, shape, slices.Values(from))
		if err != nil {
			return nil, err
		}
		return results(values, tensor.Of(which, shape...))
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset < 10 {
			r.SetInput(n, 1, r.Ints(n.Out[0].Name+"_k", int64(n.Int("k"))))
		}
		r.DeleteAttr(n, "k")
		return nil
	},
	Cost: func(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.In[0].Type)} },
})

var _ = define(ir.Op{
	Name:  "NonZero",
	Doc:   "The coordinates of the elements that are not zero, in row-major order: one row per dimension, one column per element.",
	Since: 9,
	In:    "X", Out: "Y",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantNumbers(n, 0); err != nil {
			return nil, err
		}
		rows := ir.Unknown
		if r := n.In[0].Type.Rank(); r >= 0 {
			rows = ir.Fixed(r)
		}
		return types(ir.TensorType(tensor.I64, rows, ir.Unknown))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x := in[0]
		var at []int
		for i, nz := range nonZero(x) {
			if nz {
				at = append(at, i)
			}
		}
		out := make([]int64, 0, x.Rank()*len(at))
		strides := stridesOf(x.Shape())
		for d, s := range strides {
			for _, i := range at {
				out = append(out, int64(i/s%x.Shape()[d]))
			}
		}
		return results(tensor.Of(out, x.Rank(), len(at)))
	},
})

// nonZero says of each element whether it differs from zero; NaN does.
func nonZero(t *tensor.Tensor) []bool {
	out := make([]bool, t.Len())
	if t.Elem().IsFloat() {
		for i, v := range t.Float64s() {
			out[i] = v != 0
		}
		return out
	}
	for i, v := range t.Int64s() {
		out[i] = v != 0
	}
	return out
}

var _ = define(ir.Op{
	Name:  "Compress",
	Doc:   "Takes the indices of an axis, or of the flattened input, at which condition is true.",
	Since: 11,
	In:    "input, condition", Out: "output",
	Attrs: []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Doc: "the axis, −rank…rank−1; absent: the input is flattened"}},
	Grad:  gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantBool(n, 1); err != nil {
			return nil, err
		}
		if err := wantRank(n, 1, 1); err != nil {
			return nil, err
		}
		in, count := n.In[0].Type, ir.Unknown
		if c := n.ConstIn(1); c != nil && c.Elem() == tensor.Bool {
			k := 0
			for _, b := range tensor.Data[bool](c) {
				k += boolInt(b)
			}
			count = ir.Fixed(k)
		}
		if !n.HasAttr("axis") {
			return types(ir.TensorType(in.Elem, count))
		}
		if in.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		axis, err := axisOf(n.Int("axis"), in.Rank())
		if err != nil {
			return nil, err
		}
		dims := slices.Clone(in.Dims)
		dims[axis] = count
		return types(ir.TensorType(in.Elem, dims...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, axis := in[0], 0
		if n.HasAttr("axis") {
			var err error
			if axis, err = axisOf(n.Int("axis"), x.Rank()); err != nil {
				return nil, err
			}
		} else {
			x = x.Reshape(x.Len())
		}
		from := make([][]int, x.Rank())
		for d, k := range x.Shape() {
			from[d] = allAxes(k)
		}
		from[axis] = nil
		for i, c := range tensor.Data[bool](in[1]) {
			if c && i >= x.Shape()[axis] {
				return nil, fmt.Errorf("condition %d is true, the axis has %d indices", i, x.Shape()[axis])
			} else if c {
				from[axis] = append(from[axis], i)
			}
		}
		return one(mapAxes(x, from, nil))
	},
})

var _ = define(ir.Op{
	Name: "Unique",
	Doc: "The different elements, or slices along an axis, sorted or in order of appearance; for each the index of its first " +
		"appearance; for each input element its place among them; for each how often it appears.",
	Since: 11,
	In:    "X", Out: "Y, indices?, inverse_indices?, counts?",
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Doc: "the axis, −rank…rank−1; absent: the input is flattened"},
		{Name: "sorted", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: in ascending order, slices compared element by element, NaN first; 0: in order of appearance"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		in := n.In[0].Type
		if err := wantNumbers(n, 0); err != nil {
			return nil, err
		}
		y, all := ir.TensorType(in.Elem, ir.Unknown), ir.Unknown
		if n.HasAttr("axis") && in.Unranked {
			y = ir.UnrankedType(in.Elem)
		} else if n.HasAttr("axis") {
			axis, err := axisOf(n.Int("axis"), in.Rank())
			if err != nil {
				return nil, err
			}
			all = in.Dims[axis]
			y.Dims = slices.Clone(in.Dims)
			y.Dims[axis] = ir.Unknown
		} else if !in.Unranked {
			all = volumeOf(in.Dims).dim()
		}
		count := ir.TensorType(tensor.I64, ir.Unknown)
		return types(y, count, ir.TensorType(tensor.I64, all), count)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, axis := in[0], 0
		if n.HasAttr("axis") {
			var err error
			if axis, err = axisOf(n.Int("axis"), x.Rank()); err != nil {
				return nil, err
			}
		} else {
			x = x.Reshape(x.Len())
		}
		return unique(x, axis, n.Int("sorted") != 0)
	},
})

func unique(x *tensor.Tensor, axis int, sorted bool) ([]*tensor.Tensor, error) {
	outer, size, inner := splitAt(x.Shape(), axis)
	element := inOrder(x, false)
	compare := func(a, b int) int {
		for o := range outer {
			for i := range inner {
				if c := element((o*size+a)*inner+i, (o*size+b)*inner+i); c != 0 {
					return c
				}
			}
		}
		return 0
	}
	order := allAxes(size)
	slices.SortStableFunc(order, compare)
	var first []int // of each group of equal slices, in sorted order
	group := make([]int, size)
	for i, k := range order {
		if i == 0 || compare(order[i-1], k) != 0 {
			first = append(first, k)
		}
		group[k] = len(first) - 1
	}
	rank := allAxes(len(first)) // the place of each group in the output
	if !sorted {
		by := allAxes(len(first))
		slices.SortFunc(by, func(a, b int) int { return cmp.Compare(first[a], first[b]) })
		for place, g := range by {
			rank[g] = place
		}
	}
	from := make([][]int, x.Rank())
	for d, k := range x.Shape() {
		from[d] = allAxes(k)
	}
	from[axis] = make([]int, len(first))
	indices, counts, inverse := make([]int64, len(first)), make([]int64, len(first)), make([]int64, size)
	for g, k := range first {
		from[axis][rank[g]], indices[rank[g]] = k, int64(k)
	}
	for i, g := range group {
		inverse[i] = int64(rank[g])
		counts[rank[g]]++
	}
	y, err := mapAxes(x, from, nil)
	if err != nil {
		return nil, err
	}
	return results(y, tensor.Of(indices, len(indices)), tensor.Of(inverse, size), tensor.Of(counts, len(counts)))
}

var _ = define(ir.Op{
	Name: "NonMaxSuppression",
	Doc: "Picks boxes: for each batch and class, boxes in order of descending score (equal ones by index) whose overlap with none picked " +
		"before is above a threshold. A row of the output is batch, class, box.",
	Since: 10,
	In:    "boxes, scores, max_output_boxes_per_class?, iou_threshold?, score_threshold?", Out: "selected_indices",
	Attrs: []ir.AttrSpec{{Name: "center_point_box", Kind: ir.IntAttr, Flag: true, Default: int64(0),
		Doc: "boxes are 0: two opposite corners y, x, y, x; 1: centre x, y, width, height"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		for i := range 2 {
			if err := wantRank(n, i, 3); err != nil {
				return nil, err
			}
			if t := n.In[i].Type; t.Elem != tensor.F32 && t.Elem != tensor.Invalid {
				return nil, fmt.Errorf("%s is %v, expected f32", portName(n, i), t)
			}
		}
		if err := needInts(n, 2); err != nil {
			return nil, err
		}
		for i := 3; i < len(n.In); i++ {
			if v := n.In[i]; v != nil && v.Type.Elem != tensor.F32 {
				return nil, fmt.Errorf("%s is %v, expected f32", portName(n, i), v.Type)
			}
		}
		return types(ir.TensorType(tensor.I64, ir.Unknown, ir.Fixed(3)))
	},
	Eval: evalNMS,
})

func evalNMS(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	most, iou, least, filter := int64(0), float32(0), float32(0), false
	for i, t := range in[2:] {
		if t == nil || t.Len() == 0 {
			continue
		}
		switch i {
		case 0:
			most = t.Int64s()[0]
		case 1:
			iou = t.Float32s()[0]
		case 2:
			least, filter = t.Float32s()[0], true
		}
	}
	bs, ss := in[0].Shape(), in[1].Shape()
	if len(bs) != 3 || len(ss) != 3 || bs[2] != 4 || bs[0] != ss[0] || bs[1] != ss[2] {
		return nil, fmt.Errorf("boxes are %v, scores %v", ir.TypeOf(in[0]), ir.TypeOf(in[1]))
	}
	boxes, scores := in[0].Float32s(), in[1].Float32s()
	out := []int64{}
	for b := range ss[0] {
		corners := make([][4]float32, bs[1])
		for i := range corners {
			corners[i] = boxCorners([4]float32(boxes[(b*bs[1]+i)*4:]), n.Int("center_point_box") != 0)
		}
		for c := range ss[1] {
			score := scores[(b*ss[1]+c)*ss[2]:][:ss[2]]
			var order []int
			for i, s := range score {
				if !filter || s > least {
					order = append(order, i)
				}
			}
			slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(score[j], score[i]) })
			var kept []int
			for _, i := range order {
				if int64(len(kept)) >= most {
					break
				}
				if !slices.ContainsFunc(kept, func(k int) bool { return overlap(corners[i], corners[k]) > iou }) {
					kept = append(kept, i)
					out = append(out, int64(b), int64(c), int64(i))
				}
			}
		}
	}
	return results(tensor.Of(out, len(out)/3, 3))
}

// boxCorners returns a box as its least and greatest coordinates.
func boxCorners(b [4]float32, centre bool) [4]float32 {
	if centre {
		w, h := float32(b[2]/2), float32(b[3]/2)
		return [4]float32{b[0] - w, b[1] - h, b[0] + w, b[1] + h}
	}
	return [4]float32{min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])}
}

// overlap returns the area of the intersection of two boxes over that of their union.
func overlap(a, b [4]float32) float32 {
	area := func(x [4]float32) float32 { return float32((x[2] - x[0]) * (x[3] - x[1])) }
	w := min(a[2], b[2]) - max(a[0], b[0])
	h := min(a[3], b[3]) - max(a[1], b[1])
	if w <= 0 || h <= 0 || area(a) <= 0 || area(b) <= 0 {
		return 0
	}
	both := float32(w * h)
	return both / (area(a) + area(b) - both)
}
