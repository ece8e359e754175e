package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// indexIn returns the index in 0…n−1 that i, in −n…n−1, means.
func indexIn(i int64, n int) (int, error) {
	if i < -int64(n) || i >= int64(n) {
		return 0, fmt.Errorf("index %d is outside a dimension of size %d", i, n)
	}
	if i < 0 {
		i += int64(n)
	}
	return int(i), nil
}

var _ = define(ir.Op{
	Name:  "Gather",
	Roles: []ir.Role{1: ir.Setting},
	Doc:   "Takes the given indices of an axis; the shape of indices replaces that dimension.",
	Since: 11,
	In:    "data, indices", Out: "output", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the axis, −rank…rank−1"}},
	Grad:  gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in, ind := n.In[0].Type, n.In[1].Type
		if in.Unranked || ind.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		axis, err := axisOf(n.Int("axis"), in.Rank())
		if err != nil {
			return nil, err
		}
		t := ir.TensorType(in.Elem, slices.Concat(in.Dims[:axis], ind.Dims, in.Dims[axis+1:])...)
		at, ok := knownInts(n, 1)
		if d := in.Dims[axis]; ok && d.Known() {
			for _, i := range at {
				if _, err := indexIn(i, d.N); err != nil {
					return nil, err
				}
			}
			if c := n.In[0].Contents; in.Rank() == 1 && len(c) == d.N && ind.Rank() <= 1 {
				contents := make([]ir.Dim, len(at))
				for j, i := range at {
					k, _ := indexIn(i, d.N)
					contents[j] = c[k]
				}
				setContents(n, 0, contents)
			}
		}
		return types(t)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, ind := in[0], in[1].Int64s()
		axis, err := axisOf(n.Int("axis"), x.Rank())
		if err != nil {
			return nil, err
		}
		outer, size, inner := splitAt(x.Shape(), axis)
		at := make([]int, len(ind))
		for i, k := range ind {
			if at[i], err = indexIn(k, size); err != nil {
				return nil, err
			}
		}
		shape := slices.Concat(x.Shape()[:axis], in[1].Shape(), x.Shape()[axis+1:])
		return one(pick(x, shape, func(yield func(int) bool) {
			for o := range outer {
				for _, k := range at {
					for i := range inner {
						if !yield((o*size+k)*inner + i) {
							return
						}
					}
				}
			}
		}))
	},
})

var _ = define(ir.Op{
	Name:  "GatherElements",
	Roles: []ir.Role{1: ir.Setting},
	Doc:   "Output element (…,i,…) is data element (…,indices[…,i,…],…) along an axis.",
	Since: 11,
	In:    "data, indices", Out: "output", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the axis, −rank…rank−1"}},
	Grad:  gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		if err := elementIndices(n, 0, 1); err != nil {
			return nil, err
		}
		return types(n.In[1].Type.WithElem(n.In[0].Type.Elem))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		at, err := elementPositions(n, in[0].Shape(), in[1])
		if err != nil {
			return nil, err
		}
		return one(pick(in[0], in[1].Shape(), slices.Values(at)))
	},
})

// elementIndices checks the ranks and the axis of GatherElements and ScatterElements.
func elementIndices(n *ir.Node, data, indices int) error {
	d, i := n.In[data].Type, n.In[indices].Type
	if d.Unranked || i.Unranked {
		return nil
	}
	if d.Rank() != i.Rank() {
		return fmt.Errorf("data is %v, indices %v: ranks differ", d, i)
	}
	_, err := axisOf(n.Int("axis"), d.Rank())
	return err
}

// elementPositions returns for each element of indices the place in data that
// it names: its own coordinates, with the index itself along the axis.
func elementPositions(n *ir.Node, data []int, indices *tensor.Tensor) ([]int, error) {
	shape := indices.Shape()
	if len(shape) != len(data) {
		return nil, fmt.Errorf("data has shape %v, indices %v: ranks differ", data, shape)
	}
	axis, err := axisOf(n.Int("axis"), len(data))
	if err != nil {
		return nil, err
	}
	for d := range shape {
		if d != axis && shape[d] > data[d] {
			return nil, fmt.Errorf("indices %v do not fit data %v", shape, data)
		}
	}
	strides := stridesOf(data)
	step := slices.Clone(strides)
	step[axis] = 0
	out := make([]int, 0, indices.Len())
	ind := indices.Int64s()
	for base := range indexWalk(shape, step, 0) {
		k, err := indexIn(ind[len(out)], data[axis])
		if err != nil {
			return nil, err
		}
		out = append(out, base+k*strides[axis])
	}
	return out, nil
}

var _ = define(ir.Op{
	Name:  "GatherND",
	Roles: []ir.Role{1: ir.Setting},
	Doc:   "Each vector along the last axis of indices names an element or a slice of data.",
	Since: 12,
	In:    "data, indices", Out: "output", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{{Name: "batch_dims", Kind: ir.IntAttr, Default: int64(0), Doc: "leading dimensions that data and indices share"}},
	Grad:  gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in, ind := n.In[0].Type, n.In[1].Type
		b := n.Int("batch_dims")
		if in.Unranked || ind.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		if ind.Rank() < 1 || b < 0 || b >= ind.Rank() || b >= in.Rank() {
			return nil, fmt.Errorf("data is %v, indices %v, batch_dims %d", in, ind, b)
		}
		k := ind.Dims[ind.Rank()-1]
		if !k.Known() {
			return types(ir.UnrankedType(in.Elem))
		}
		if k.N < 1 || k.N > in.Rank()-b {
			return nil, fmt.Errorf("indices %v name %d of the %d dimensions of data", ind, k.N, in.Rank()-b)
		}
		dims := slices.Clone(ind.Dims[:ind.Rank()-1])
		for d := range b {
			u, err := unify(in.Dims[d], dims[d])
			if err != nil {
				return nil, err
			}
			dims[d] = u
		}
		return types(ir.TensorType(in.Elem, append(dims, in.Dims[b+k.N:]...)...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, ind := in[0], in[1]
		starts, inner, err := slicePositions(x.Shape(), ind, n.Int("batch_dims"))
		if err != nil {
			return nil, err
		}
		last := ind.Rank() - 1
		shape := slices.Concat(ind.Shape()[:last], x.Shape()[n.Int("batch_dims")+ind.Shape()[last]:])
		return one(pick(x, shape, func(yield func(int) bool) {
			for _, s := range starts {
				for i := range inner {
					if !yield(s + i) {
						return
					}
				}
			}
		}))
	},
})

// slicePositions returns where in data the slices begin that the vectors along
// the last axis of indices name, and how many elements each has.
func slicePositions(data []int, indices *tensor.Tensor, batch int) (starts []int, inner int, err error) {
	shape := indices.Shape()
	last := len(shape) - 1
	if last < 0 || batch < 0 || batch > last || batch > len(data) || shape[last] > len(data)-batch ||
		!slices.Equal(data[:batch], shape[:batch]) {
		return nil, 0, fmt.Errorf("data %v, indices %v, %d batch dimensions do not fit", data, shape, batch)
	}
	k := shape[last]
	strides := stridesOf(data)
	inner = sizeOf(data[batch+k:])
	perBatch := sizeOf(shape[batch:last])
	ind := indices.Int64s()
	for i := range sizeOf(shape[:last]) {
		pos := 0
		if batch > 0 {
			pos = i / perBatch * strides[batch-1]
		}
		for j := range k {
			x, err := indexIn(ind[i*k+j], data[batch+j])
			if err != nil {
				return nil, 0, err
			}
			pos += x * strides[batch+j]
		}
		starts = append(starts, pos)
	}
	return starts, inner, nil
}

var _ = define(ir.Op{
	Name:        "Where",
	Elementwise: true,
	Doc:         "Takes the element of X where condition is true, that of Y elsewhere; all three are broadcast.",
	Since:       9,
	In:          "condition, X, Y", Out: "output",
	Grad: gradWhere,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if c := n.In[0].Type; c.Elem != tensor.Bool && c.Elem != tensor.Invalid {
			return nil, fmt.Errorf("condition is %v, expected bool", c)
		}
		if err := wantLike(n, 1, 2); err != nil {
			return nil, err
		}
		t, err := broadcastType(n.In[1].Type.Elem, n.In[0].Type, n.In[1].Type, n.In[2].Type)
		if err != nil {
			return nil, err
		}
		whereContents(n, t)
		return types(t)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		all, err := broadcast(in[0], in[1], in[2])
		if err != nil {
			return nil, err
		}
		out, err := tensor.Alloc(in[1].Elem(), all[0].Shape()...)
		if err != nil {
			return nil, err
		}
		cond := tensor.Data[bool](all[0])
		from := func(t *tensor.Tensor, want bool) {
			var at []int
			for i, c := range cond {
				if c == want {
					at = append(at, i)
				}
			}
			move(out, t, len(at), func(i int) (int, int) { return at[i], at[i] })
		}
		from(all[1], true)
		from(all[2], false)
		return results(out)
	},
})

// whereContents follows a Where on constants or vectors of the same length, as
// exporters use it to put dimensions where a target shape says −1.
func whereContents(n *ir.Node, t ir.Type) {
	k, ok := vectorLen(t)
	cond := n.ConstIn(0)
	x, y := n.In[1].Contents, n.In[2].Contents
	if !ok || cond == nil || k > 64 || len(x) == 0 || len(y) == 0 || cond.Elem() != tensor.Bool {
		return
	}
	c := tensor.Data[bool](cond)
	if len(c) != 1 && len(c) != k {
		return
	}
	out := make([]ir.Dim, k)
	for i := range out {
		from := y
		if c[i%len(c)] {
			from = x
		}
		out[i] = from[i%len(from)]
	}
	setContents(n, 0, out)
}
