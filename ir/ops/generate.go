package ops

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name:  "Range",
	Doc:   "The vector start, start+delta, … up to but without limit: element i is start + i·delta, for f32 and f64 the product rounded first.",
	Since: 11,
	In:    "start, limit, delta", Out: "output",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantLike(n, 0, 1, 2); err != nil {
			return nil, err
		}
		e := n.In[0].Type.Elem
		start, ok0 := knownInt(n, 0)
		limit, ok1 := knownInt(n, 1)
		delta, ok2 := knownInt(n, 2)
		count := ir.Unknown
		switch {
		case n.ConstIn(0) != nil && n.ConstIn(1) != nil && n.ConstIn(2) != nil:
			k, err := rangeLen(n.ConstIn(0), n.ConstIn(1), n.ConstIn(2))
			if err != nil {
				return nil, err
			}
			count = ir.Fixed(k)
		case ok0 && ok1 && ok2:
			k, err := intRangeLen(start, limit, delta)
			if err != nil {
				return nil, err
			}
			count = ir.Fixed(k)
		case ok0 && ok2 && start == 0 && delta == 1 && len(n.In[1].Contents) == 1:
			count = n.In[1].Contents[0]
		}
		if ok0 && ok2 && count.Known() && count.N <= 64 && start >= 0 && delta >= 0 {
			c := make([]ir.Dim, count.N)
			for i := range c {
				c[i] = dimOf(start + int64(i)*delta)
			}
			setContents(n, 0, c)
		}
		return types(ir.TensorType(e, count))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		k, err := rangeLen(in[0], in[1], in[2])
		if err != nil {
			return nil, err
		}
		e := in[0].Elem()
		if err := fits(e, []int{k}); err != nil {
			return nil, err
		}
		if e.IsInt() {
			start, delta := in[0].Int64s()[0], in[2].Int64s()[0]
			out := make([]int64, k)
			for i := range out {
				out[i] = start + int64(i)*delta
			}
			return results(tensor.FromInt64s(e, out, k))
		}
		if e == tensor.F64 {
			start, delta := in[0].Float64s()[0], in[2].Float64s()[0]
			out := make([]float64, k)
			for i := range out {
				out[i] = start + float64(float64(i)*delta)
			}
			return results(tensor.Of(out, k))
		}
		start, delta := in[0].Float32s()[0], in[2].Float32s()[0]
		out := make([]float32, k)
		for i := range out {
			out[i] = start + float32(float32(i)*delta)
		}
		return results(tensor.FromFloat32s(e, out, k))
	},
})

// rangeLen returns how many elements a Range has.
func rangeLen(start, limit, delta *tensor.Tensor) (int, error) {
	for _, t := range []*tensor.Tensor{start, limit, delta} {
		if t.Len() != 1 || t.Elem() != start.Elem() || !t.Elem().IsInt() && !t.Elem().IsFloat() {
			return 0, fmt.Errorf("%v to %v by %v is no range of numbers", ir.TypeOf(start), ir.TypeOf(limit), ir.TypeOf(delta))
		}
	}
	if start.Elem().IsInt() {
		return intRangeLen(start.Int64s()[0], limit.Int64s()[0], delta.Int64s()[0])
	}
	k := math.Ceil((limit.Float64s()[0] - start.Float64s()[0]) / delta.Float64s()[0])
	switch {
	case k <= 0:
		return 0, nil
	case k < tensor.MaxBytes:
		return int(k), nil
	}
	return 0, fmt.Errorf("%w: a range of %v elements", tensor.ErrTooLarge, k)
}

func intRangeLen(start, limit, delta int64) (int, error) {
	if delta == 0 {
		return 0, errors.New("a range with steps of 0")
	}
	if delta > 0 && limit <= start || delta < 0 && limit >= start {
		return 0, nil
	}
	way, step := uint64(limit)-uint64(start), uint64(delta)
	if delta < 0 {
		way, step = uint64(start)-uint64(limit), -uint64(delta)
	}
	k := (way-1)/step + 1
	if k > tensor.MaxBytes {
		return 0, fmt.Errorf("%w: a range of %d elements", tensor.ErrTooLarge, k)
	}
	return int(k), nil
}

var _ = define(ir.Op{
	Name:  "OneHot",
	Roles: []ir.Role{1: ir.Setting},
	Doc:   "For each index a vector of depth elements along a new axis: values[1] at the index, values[0] elsewhere and for indices outside −depth…depth−1.",
	Since: 11,
	In:    "indices, depth, values", Out: "output",
	Attrs: []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Default: int64(-1), Doc: "the new axis, −rank−1…rank"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantNumbers(n, 0, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		e := n.In[2].Type.Elem
		if in.Unranked {
			return types(ir.UnrankedType(e))
		}
		axis, err := axisOf(n.Int("axis"), in.Rank()+1)
		if err != nil {
			return nil, err
		}
		depth := ir.Unknown
		if d := n.ConstIn(1); d != nil && d.Len() == 1 && (d.Elem().IsInt() || d.Elem().IsFloat()) {
			depth = dimOf(d.Int64s()[0])
		} else if ds := n.In[1].Contents; len(ds) == 1 {
			depth = ds[0]
		}
		return types(stacked(in.WithElem(e), axis, depth))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[1].Len() != 1 || in[2].Len() != 2 {
			return nil, fmt.Errorf("depth is %v, values %v, expected one and two elements", ir.TypeOf(in[1]), ir.TypeOf(in[2]))
		}
		depth := in[1].Int64s()[0]
		axis, err := axisOf(n.Int("axis"), in[0].Rank()+1)
		if err != nil {
			return nil, err
		}
		shape := slices.Insert(slices.Clone(in[0].Shape()), axis, int(depth))
		if err := fits(in[2].Elem(), shape); err != nil {
			return nil, err
		}
		outer, _, inner := splitAt(shape, axis)
		ind := in[0].Int64s()
		return one(pick(in[2], shape, func(yield func(int) bool) {
			for o := range outer {
				for d := range depth {
					for i := range inner {
						k := ind[o*inner+i]
						if !yield(boolInt(k == d || k+depth == d)) {
							return
						}
					}
				}
			}
		}))
	},
})

var _ = define(ir.Op{
	Name:  "EyeLike",
	Doc:   "A matrix of the input's shape with ones on a diagonal and zeros elsewhere.",
	Since: 9,
	In:    "input", Out: "output",
	Attrs: []ir.AttrSpec{
		{Name: "dtype", Kind: ir.IntAttr, Doc: "the element type, as numbered by ONNX; absent: the input's"},
		{Name: "k", Kind: ir.IntAttr, Default: int64(0), Doc: "the diagonal: 0 the main one, above it if positive"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantRank(n, 0, 2); err != nil {
			return nil, err
		}
		e, err := dtypeOf(n, "dtype", n.In[0].Type.Elem)
		if err != nil {
			return nil, err
		}
		return types(n.In[0].Type.WithElem(e))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		e, err := dtypeOf(n, "dtype", in[0].Elem())
		if err != nil {
			return nil, err
		}
		bits, err := cast(tensor.Of([]float32{0, 1}, 2), e)
		if err != nil {
			return nil, err
		}
		return one(pick(bits, in[0].Shape(), func(yield func(int) bool) {
			for i := range in[0].Shape()[0] {
				for j := range in[0].Shape()[1] {
					if !yield(boolInt(j-i == n.Int("k"))) {
						return
					}
				}
			}
		}))
	},
})

// dtypeOf returns the element type that an attribute names by its ONNX number.
func dtypeOf(n *ir.Node, name string, otherwise tensor.Elem) (tensor.Elem, error) {
	if !n.HasAttr(name) {
		return otherwise, nil
	}
	e := tensor.FromONNXType(n.Int(name))
	if e == tensor.Invalid || e == tensor.String {
		return e, fmt.Errorf("%s is %d, which names no supported element type", name, n.Int(name))
	}
	return e, nil
}

var _ = define(ir.Op{
	Name:  "Trilu",
	Doc:   "The upper or lower triangle of the matrices in the last two dimensions, zeros elsewhere.",
	Since: 14,
	In:    "input, k?", Out: "output",
	Attrs: []ir.AttrSpec{{Name: "upper", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: the elements on and above diagonal k, 0: on and below it"}},
	Grad:  gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		if t := n.In[0].Type; !t.Unranked && t.Rank() < 2 {
			return nil, fmt.Errorf("input is %v, expected at least two dimensions", t)
		}
		return sameType(n)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		k := int64(0)
		if len(in) > 1 && in[1] != nil && in[1].Len() == 1 {
			k = in[1].Int64s()[0]
		}
		s := in[0].Shape()
		rows, cols := s[len(s)-2], s[len(s)-1]
		return one(pick(in[0], s, func(yield func(int) bool) {
			for i := range in[0].Len() {
				row, col := int64(i/cols%rows), int64(i%cols)
				at := i
				if upper := n.Int("upper") != 0; upper && col < sat(row, k) || !upper && col > sat(row, k) {
					at = -1
				}
				if !yield(at) {
					return
				}
			}
		}))
	},
})

// sat adds without overflow to a number that is far from both ends.
func sat(x, y int64) int64 {
	const far = 1 << 60
	return x + max(-far, min(y, far))
}

var _ = define(cumulative(ir.Op{
	Name: "CumSum", Since: 11,
	Doc:  "Running sums along an axis, added one after the other; f16 and bf16 are added in f32.",
	Grad: gradCumSum,
}, runningSum))

var _ = define(cumulative(ir.Op{
	Name: "CumProd", Since: 26,
	Doc:    "Running products along an axis, multiplied one after the other; f16 and bf16 are multiplied in f32.",
	NoGrad: "it is met in shape arithmetic only",
}, runningProduct))

// cumulative completes the declaration of an operator that runs along an axis.
func cumulative(o ir.Op, run func(x *tensor.Tensor, axis int, exclusive, reverse bool) *tensor.Tensor) ir.Op {
	o.In, o.Out = "x, axis", "y"
	o.Attrs = []ir.AttrSpec{
		{Name: "exclusive", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: ends before the element, so that the first is what nothing gives"},
		{Name: "reverse", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: from the end"},
	}
	o.Cost = func(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.In[0].Type)} }
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		if err := wantNumbers(n, 0); err != nil {
			return nil, err
		}
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		if a, ok := knownInt(n, 1); ok && !in.Unranked {
			if _, err := axisOf(int(a), in.Rank()); err != nil {
				return nil, err
			}
		}
		return sameType(n)
	}
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[1].Len() != 1 {
			return nil, fmt.Errorf("axis is %v, expected one element", ir.TypeOf(in[1]))
		}
		x := in[0]
		axis, err := axisOf(int(in[1].Int64s()[0]), x.Rank())
		if err != nil {
			return nil, err
		}
		return results(run(x, axis, n.Int("exclusive") != 0, n.Int("reverse") != 0))
	}
	return o
}

func runningSum(x *tensor.Tensor, axis int, exclusive, reverse bool) *tensor.Tensor {
	switch e := x.Elem(); {
	case e == tensor.F64:
		return tensor.Of(running(x.Float64s(), x.Shape(), axis, exclusive, reverse, 0, add[float64]), x.Shape()...)
	case e.IsFloat():
		return tensor.FromFloat32s(e, running(x.Float32s(), x.Shape(), axis, exclusive, reverse, 0, add[float32]), x.Shape()...)
	}
	return fromNumbers(x.Elem(), running(x.Int64s(), x.Shape(), axis, exclusive, reverse, 0, add[int64]), x.Shape()...)
}

func runningProduct(x *tensor.Tensor, axis int, exclusive, reverse bool) *tensor.Tensor {
	switch e := x.Elem(); {
	case e == tensor.F64:
		return tensor.Of(running(x.Float64s(), x.Shape(), axis, exclusive, reverse, 1, multiply[float64]), x.Shape()...)
	case e.IsFloat():
		return tensor.FromFloat32s(e, running(x.Float32s(), x.Shape(), axis, exclusive, reverse, 1, multiply[float32]), x.Shape()...)
	}
	return fromNumbers(x.Elem(), running(x.Int64s(), x.Shape(), axis, exclusive, reverse, 1, multiply[int64]), x.Shape()...)
}

func add[T float32 | float64 | int64](a, b T) T      { return a + b }
func multiply[T float32 | float64 | int64](a, b T) T { return a * b }

// running applies op to the elements along an axis one after the other, from start on.
func running[T float32 | float64 | int64](x []T, shape []int, axis int, exclusive, reverse bool, start T, op func(a, b T) T) []T {
	out := make([]T, len(x))
	outer, size, inner := splitAt(shape, axis)
	for o := range outer {
		for i := range inner {
			sum := start
			for j := range size {
				if reverse {
					j = size - 1 - j
				}
				at := (o*size+j)*inner + i
				if exclusive {
					out[at] = sum
				}
				if sum = op(sum, x[at]); !exclusive {
					out[at] = sum
				}
			}
		}
	}
	return out
}

// The windows are a₀ − a₁·cos(2πk/N) + a₂·cos(4πk/N), computed in f64; N is
// size, or size − 1 for a symmetric one.
var _ = defineWindow("HannWindow", 0.5, 0.5, 0)
var _ = defineWindow("HammingWindow", 25.0/46, 21.0/46, 0)
var _ = defineWindow("BlackmanWindow", 0.42, 0.5, 0.08)

func defineWindow(name string, a0, a1, a2 float64) *ir.Op {
	return define(ir.Op{
		Name:  name,
		Doc:   fmt.Sprintf("The window %.4g − %.4g·cos(2πk/N) + %.4g·cos(4πk/N), k = 0…size−1.", a0, a1, a2),
		Since: 17,
		In:    "size", Out: "output",
		Attrs: []ir.AttrSpec{
			{Name: "periodic", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: N is size, 0: N is size − 1"},
			{Name: "output_datatype", Kind: ir.IntAttr, Default: int64(1), Doc: "the element type, as numbered by ONNX"},
		},
		Infer: func(n *ir.Node) ([]ir.Type, error) {
			if err := needInts(n, 0); err != nil {
				return nil, err
			}
			e, err := dtypeOf(n, "output_datatype", tensor.F32)
			if err != nil {
				return nil, err
			}
			size := ir.Unknown
			if k, ok := knownInt(n, 0); ok {
				size = dimOf(k)
			}
			return types(ir.TensorType(e, size))
		},
		Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
			e, err := dtypeOf(n, "output_datatype", tensor.F32)
			if err != nil {
				return nil, err
			}
			if in[0].Len() != 1 {
				return nil, fmt.Errorf("size is %v, expected one element", ir.TypeOf(in[0]))
			}
			size := int(in[0].Int64s()[0])
			if err := fits(tensor.F64, []int{size}); err != nil {
				return nil, err
			}
			period := size
			if n.Int("periodic") == 0 {
				period = size - 1
			}
			out := make([]float64, size)
			for k := range out {
				turn := 0.0
				if period > 0 {
					turn = float64(2*math.Pi*float64(k)) / float64(period)
				}
				out[k] = a0 - float64(a1*f32.Cos64(turn)) + float64(a2*f32.Cos64(2*turn))
			}
			return one(cast(tensor.Of(out, size), e))
		},
	})
}

var _ = define(ir.Op{
	Name:  "ReverseSequence",
	Doc:   "Reverses the first sequence_lens[b] steps of each batch b.",
	Since: 10,
	In:    "input, sequence_lens", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "batch_axis", Kind: ir.IntAttr, Default: int64(1), Doc: "0 or 1"},
		{Name: "time_axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the other of 0 and 1"},
	},
	Grad: gradMoved,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		if b, t := n.Int("batch_axis"), n.Int("time_axis"); b+t != 1 || b*t != 0 {
			return nil, fmt.Errorf("batch_axis is %d, time_axis %d, expected 0 and 1", b, t)
		}
		if t := n.In[0].Type; !t.Unranked && t.Rank() < 2 {
			return nil, fmt.Errorf("input is %v, expected at least two dimensions", t)
		}
		return sameType(n)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, lens := in[0], in[1].Int64s()
		ba, ta := n.Int("batch_axis"), n.Int("time_axis")
		if len(lens) != x.Shape()[ba] {
			return nil, fmt.Errorf("%d sequence_lens for %v", len(lens), ir.TypeOf(x))
		}
		for _, k := range lens {
			if k < 0 || k > int64(x.Shape()[ta]) {
				return nil, fmt.Errorf("sequence length %d in %v", k, ir.TypeOf(x))
			}
		}
		strides := stridesOf(x.Shape())
		at := make([]int, x.Rank())
		return one(pick(x, x.Shape(), func(yield func(int) bool) {
			for i := range x.Len() {
				if k := int(lens[at[ba]]); at[ta] < k {
					i += (k - 1 - 2*at[ta]) * strides[ta]
				}
				if !yield(i) {
					return
				}
				advance(at, x.Shape())
			}
		}))
	},
})
