package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var reductionAttr = ir.AttrSpec{Name: "reduction", Kind: ir.StringAttr, Default: "none",
	Doc: "how an update meets what is there, in the order of the updates: none: replaces it; add, mul, max, min"}

var _ = define(ir.Op{
	Name:  "ScatterElements",
	Doc:   "A copy of data in which element (…,indices[…,i,…],…) along an axis becomes updates element (…,i,…).",
	Since: 18,
	In:    "data, indices, updates", Out: "output",
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the axis, −rank…rank−1"},
		reductionAttr,
	},
	Grad: gradScatter,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := elementIndices(n, 0, 1); err != nil {
			return nil, err
		}
		i, u := n.In[1].Type, n.In[2].Type
		if !i.Unranked && !u.Unranked && !slices.EqualFunc(i.Dims, u.Dims, ir.Dim.MayEqual) {
			return nil, fmt.Errorf("indices are %v, updates %v: shapes differ", i, u)
		}
		return inferScatter(n)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		at, err := elementPositions(n, in[0].Shape(), in[1])
		if err != nil {
			return nil, err
		}
		return one(scatter(in[0], in[2], at, n.Str("reduction")))
	},
	Export: exportScatter,
})

var _ = define(ir.Op{
	Name:  "Scatter",
	Doc:   "The name of ScatterElements before opset 11; read as that, never present in a graph.",
	Since: 9,
	In:    "data, indices, updates", Out: "output",
	Attrs: []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the axis, −rank…rank−1"}},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		r.SetOp(n, "ScatterElements")
		return nil
	},
})

var _ = define(ir.Op{
	Name:  "ScatterND",
	Doc:   "A copy of data in which the elements or slices named by the vectors along the last axis of indices become those of updates.",
	Since: 18,
	In:    "data, indices, updates", Out: "output",
	Attrs: []ir.AttrSpec{reductionAttr},
	Grad:  gradScatter,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		d, i, u := n.In[0].Type, n.In[1].Type, n.In[2].Type
		if r := i.Rank(); r == 0 {
			return nil, fmt.Errorf("indices are %v, expected at least one dimension", i)
		} else if r > 0 && !d.Unranked && i.Dims[r-1].Known() {
			k := i.Dims[r-1].N
			if k > d.Rank() {
				return nil, fmt.Errorf("indices %v name %d dimensions, data is %v", i, k, d)
			}
			want := slices.Concat(i.Dims[:r-1], d.Dims[k:])
			if !u.Unranked && !slices.EqualFunc(u.Dims, want, ir.Dim.MayEqual) {
				return nil, fmt.Errorf("updates are %v, expected %v", u, d.WithDims(want...))
			}
		}
		return inferScatter(n)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		starts, inner, err := slicePositions(in[0].Shape(), in[1], 0)
		if err != nil {
			return nil, err
		}
		at := make([]int, 0, len(starts)*inner)
		for _, s := range starts {
			for i := range inner {
				at = append(at, s+i)
			}
		}
		return one(scatter(in[0], in[2], at, n.Str("reduction")))
	},
	Export: exportScatter,
})

func inferScatter(n *ir.Node) ([]ir.Type, error) {
	if err := needInts(n, 1); err != nil {
		return nil, err
	}
	if err := wantLike(n, 0, 2); err != nil {
		return nil, err
	}
	t := n.In[0].Type
	red := n.Str("reduction")
	if !slices.Contains([]string{"none", "add", "mul", "max", "min"}, red) {
		return nil, fmt.Errorf("reduction is %q, expected none, add, mul, max or min", red)
	}
	if red != "none" && t.Elem != tensor.Invalid && !t.Elem.IsFloat() && !t.Elem.IsInt() {
		return nil, fmt.Errorf("reduction %s of %v is not defined", red, t)
	}
	return types(t.WithElem(t.Elem))
}

func exportScatter(r *ir.Rewriter, n *ir.Node, opset int) error {
	red := n.Str("reduction")
	if opset < 16 && red != "none" || opset < 18 && (red == "max" || red == "min") {
		return fmt.Errorf("reduction %s does not exist at opset %d", red, opset)
	}
	if opset < 16 {
		r.DeleteAttr(n, "reduction")
	}
	return nil
}

// scatter returns a copy of data in which updates, in order, have met the
// elements at the given places.
func scatter(data, updates *tensor.Tensor, at []int, red string) (*tensor.Tensor, error) {
	if len(at) != updates.Len() {
		return nil, fmt.Errorf("%d places for updates %v", len(at), ir.TypeOf(updates))
	}
	if red == "none" {
		out, err := pick(data, data.Shape(), indexWalk([]int{data.Len()}, []int{1}, 0))
		if err == nil {
			move(out, updates, len(at), func(i int) (int, int) { return at[i], i })
		}
		return out, err
	}
	e, shape := data.Elem(), data.Shape()
	switch {
	case e == tensor.F64:
		return tensor.Of(scatterWith(data.Float64s(), updates.Float64s(), at, red), shape...), nil
	case e.IsFloat():
		return tensor.FromFloat32s(e, scatterWith(data.Float32s(), updates.Float32s(), at, red), shape...), nil
	case e == tensor.U64:
		return tensor.Of(scatterWith(tensor.Data[uint64](data), tensor.Data[uint64](updates), at, red), shape...), nil
	case e.IsInt():
		return fromNumbers(e, scatterWith(data.Int64s(), updates.Int64s(), at, red), shape...), nil
	}
	return nil, fmt.Errorf("reduction %s of %v is not defined", red, ir.TypeOf(data))
}

func scatterWith[T float32 | float64 | int64 | uint64](data, updates []T, at []int, red string) []T {
	out := slices.Clone(data)
	for i, k := range at {
		switch red {
		case "add":
			out[k] += updates[i]
		case "mul":
			out[k] *= updates[i]
		case "max":
			out[k] = max(out[k], updates[i])
		case "min":
			out[k] = min(out[k], updates[i])
		}
	}
	return out
}
