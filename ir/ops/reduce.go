package ops

import (
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// A reduction in f32 and f64 is over the reduced elements in row-major order,
// with f32.Sum where it adds; f16 and bf16 are computed in f32 and rounded once.
// Integers are exact, and wrap as 64-bit integers do.

// reduction is the arithmetic of one Reduce operator; the slices it is handed
// are its own to change.
type reduction struct {
	f32 func([]float32) float32
	f64 func([]float64) float64
	int func([]int64) int64
}

func sumInts(x []int64) int64 {
	s := int64(0)
	for _, v := range x {
		s += v
	}
	return s
}

func each[T any](x []T, f func(T) T) []T {
	for i, v := range x {
		x[i] = f(v)
	}
	return x
}

func abs[T float32 | float64 | int64](x T) T {
	if x < 0 {
		return -x
	}
	return x + 0 // −0 + 0 is +0
}

// square returns x·x rounded once; the conversion keeps it from being fused.
func square[T float32 | float64 | int64](x T) T { return T(x * x) }

func sumOf[T float32 | float64](f func(T) T) func([]T) T {
	return func(x []T) T { return f32.Sum(each(x, f)) }
}

func sumOfInts(f func(int64) int64) func([]int64) int64 {
	return func(x []int64) int64 { return sumInts(each(x, f)) }
}

func product[T float32 | float64 | int64](x []T) T {
	p := T(1)
	for _, v := range x {
		p = T(p * v)
	}
	return p
}

// logSumExp returns m + log Σ exp(x−m), m being the greatest element.
func logSumExp[T float32 | float64](exp, log func(T) T) func([]T) T {
	return func(x []T) T {
		m := T(math.Inf(-1))
		for _, v := range x {
			m = max(m, v)
		}
		if math.IsInf(float64(m), 0) || m != m {
			return m // −∞ for an empty sum too
		}
		return m + log(f32.Sum(each(x, func(v T) T { return exp(v - m) })))
	}
}

func mean[T float32 | float64](x []T) T { return f32.Sum(x) / T(len(x)) }

// whole cuts a logarithm toward zero; of no positive number it is 0.
func whole(x float64) int64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return 0
	}
	return int64(x)
}

func truncSqrt(x int64) int64 { return int64(math.Sqrt(float64(x))) }

var _ = defineReduce("ReduceSum", 13, "the sum", reduction{f32.Sum[float32], f32.Sum[float64], sumInts})
var _ = defineReduce("ReduceMean", 18, "the mean, for integers cut toward zero", reduction{mean[float32], mean[float64], func(x []int64) int64 {
	return sumInts(x) / max(1, int64(len(x)))
}})
var _ = defineReduce("ReduceProd", 18, "the product, from the first element on", reduction{product[float32], product[float64], product[int64]})
var _ = defineReduce("ReduceL1", 18, "the sum of absolute values", reduction{sumOf(abs[float32]), sumOf(abs[float64]), sumOfInts(abs[int64])})
var _ = defineReduce("ReduceSumSquare", 18, "the sum of squares, each rounded", reduction{sumOf(square[float32]), sumOf(square[float64]), sumOfInts(square[int64])})
var _ = defineReduce("ReduceL2", 18, "the square root of the sum of squares", reduction{
	func(x []float32) float32 { return f32.Sqrt(sumOf(square[float32])(x)) },
	func(x []float64) float64 { return math.Sqrt(sumOf(square[float64])(x)) },
	func(x []int64) int64 { return truncSqrt(sumOfInts(square[int64])(x)) },
})
var _ = defineReduce("ReduceLogSum", 18, "the natural logarithm of the sum, for integers cut toward zero", reduction{
	func(x []float32) float32 { return f32.Log(f32.Sum(x)) },
	func(x []float64) float64 { return f32.Log64(f32.Sum(x)) },
	func(x []int64) int64 { return whole(f32.Log64(float64(sumInts(x)))) },
})
var _ = defineReduce("ReduceLogSumExp", 18, "the natural logarithm of the sum of exponentials, relative to the greatest element, for integers cut toward zero",
	reduction{logSumExp(f32.Exp, f32.Log), logSumExp(f32.Exp64, f32.Log64), func(x []int64) int64 {
		y := make([]float64, len(x))
		for i, v := range x {
			y[i] = float64(v)
		}
		return whole(logSumExp(f32.Exp64, f32.Log64)(y))
	}})
var _ = defineReduce("ReduceMax", 18, "the greatest element, NaN if there is one; of none the least value of the type", reduction{})
var _ = defineReduce("ReduceMin", 18, "the least element, NaN if there is one; of none the greatest value of the type", reduction{})

// defineReduce defines a Reduce operator; an empty reduction selects an element.
func defineReduce(name string, since int, what string, red reduction) *ir.Op {
	selects, elements := red.f32 == nil, ir.Computed
	if selects {
		elements = ir.Selected
	}
	return define(ir.Op{
		Name:  name,
		Doc:   "For each index of the other axes, " + what + " over the given axes.",
		Since: since,
		In:    "data, axes?", Out: "reduced", Elements: elements, Roles: []ir.Role{1: ir.Setting},
		Combines: name == "ReduceMean" || name == "ReduceSum",
		Attrs: []ir.AttrSpec{
			{Name: "keepdims", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: reduced axes stay with size 1; 0: they go"},
			{Name: "noop_with_empty_axes", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "what axes absent or empty means; 0: all axes; 1: none, the output is the input"},
		},
		Grad: gradReduce(reduceSlopes[name]),
		Infer: func(n *ir.Node) ([]ir.Type, error) {
			e := n.In[0].Type.Elem
			if ok := e.IsFloat() || e.IsInt() && (selects || red.int != nil) || selects && e == tensor.Bool; !ok && e != tensor.Invalid {
				return nil, fmt.Errorf("%s of %v is not defined", name, n.In[0].Type)
			}
			return inferReduce(n)
		},
		Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
			axes, err := axesOf(reduceAxes(n, in), in[0].Rank())
			if err != nil {
				return nil, err
			}
			if selects {
				return one(reduceSelect(in[0], axes, n.Int("keepdims") != 0, name == "ReduceMax"))
			}
			return one(reduce(in[0], axes, n.Int("keepdims") != 0, red))
		},
		Cost: func(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.In[0].Type)} },
		Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
			if opset < since {
				toInput(r, n, "axes", 1)
			}
			return nil
		},
		Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
			if n.Int("noop_with_empty_axes") != 0 {
				axes, ok := knownInts(n, 1)
				if n.Input(1) == nil || ok && len(axes) == 0 {
					r.SetOp(n, "Identity")
					r.SetInputs(n, n.In[0])
					r.DeleteAttr(n, "keepdims")
				} else if !ok {
					return fmt.Errorf("noop_with_empty_axes does not exist at opset %d", opset)
				}
				r.DeleteAttr(n, "noop_with_empty_axes")
			}
			if n.Op.Name == "Identity" {
				return nil
			}
			if t := n.ConstIn(1); t != nil && t.Len() == 0 {
				r.SetInputs(n, n.In[0])
			}
			return toAttr(r, n, 1, "axes", opset)
		},
	})
}

// reduceAxes returns the axes that a Reduce node names, with in as its inputs.
func reduceAxes(n *ir.Node, in []*tensor.Tensor) []int64 {
	if len(in) > 1 && in[1] != nil && in[1].Len() > 0 {
		return in[1].Int64s()
	}
	if n.Int("noop_with_empty_axes") != 0 {
		return nil
	}
	return everyAxis(in[0].Rank())
}

func everyAxis(rank int) []int64 {
	out := make([]int64, rank)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func inferReduce(n *ir.Node) ([]ir.Type, error) {
	if err := needInts(n, 1); err != nil {
		return nil, err
	}
	in := n.In[0].Type
	keep := n.Int("keepdims") != 0
	axes, ok := knownInts(n, 1)
	switch {
	case n.Input(1) != nil && !ok:
		if in.Unranked || !keep {
			return types(ir.UnrankedType(in.Elem))
		}
		return types(ir.TensorType(in.Elem, unknownDims(in.Rank())...))
	case len(axes) == 0 && n.Int("noop_with_empty_axes") != 0:
		return types(in.WithElem(in.Elem))
	case len(axes) == 0 && !keep:
		if n.Op.Name == "ReduceProd" && in.Rank() == 1 && len(n.In[0].Contents) > 0 {
			setContents(n, 0, []ir.Dim{volumeOf(n.In[0].Contents).dim()})
		}
		return types(ir.TensorType(in.Elem))
	case in.Unranked:
		return types(ir.UnrankedType(in.Elem))
	case len(axes) == 0:
		axes = everyAxis(in.Rank())
	}
	at, err := axesOf(axes, in.Rank())
	if err != nil {
		return nil, err
	}
	t := ir.TensorType(in.Elem, reducedShape(in.Dims, at, keep, ir.Fixed(1))...)
	if n.Op.Name == "ReduceProd" && in.Rank() == 1 && len(n.In[0].Contents) > 0 {
		setContents(n, 0, []ir.Dim{volumeOf(n.In[0].Contents).dim()})
	}
	return types(t)
}

func reducedShape[D any](dims []D, axes []int, keep bool, one D) []D {
	out := []D{}
	for i, d := range dims {
		if !slices.Contains(axes, i) {
			out = append(out, d)
		} else if keep {
			out = append(out, one)
		}
	}
	return out
}

// groups yields, for each element of a reduction's output, the flat indices of
// the elements that it reduces, in row-major order; the slice is used again.
func groups(shape, axes []int) func(yield func([]int) bool) {
	strides := stridesOf(shape)
	var outShape, outStep, inShape, inStep []int
	for d, k := range shape {
		if slices.Contains(axes, d) {
			inShape, inStep = append(inShape, k), append(inStep, strides[d])
		} else {
			outShape, outStep = append(outShape, k), append(outStep, strides[d])
		}
	}
	within := slices.Collect(indexWalk(inShape, inStep, 0))
	group := make([]int, len(within))
	return func(yield func([]int) bool) {
		for base := range indexWalk(outShape, outStep, 0) {
			for i, w := range within {
				group[i] = base + w
			}
			if !yield(group) {
				return
			}
		}
	}
}

func reduceBy[T any](x []T, shape, axes []int, f func([]T) T) []T {
	out := []T{}
	var buf []T
	for g := range groups(shape, axes) {
		buf = buf[:0]
		for _, i := range g {
			buf = append(buf, x[i])
		}
		out = append(out, f(buf))
	}
	return out
}

// reduce applies a reduction over axes.
func reduce(x *tensor.Tensor, axes []int, keep bool, red reduction) (*tensor.Tensor, error) {
	shape := reducedShape(x.Shape(), axes, keep, 1)
	switch e := x.Elem(); {
	case e == tensor.F64:
		return tensor.Of(reduceBy(x.Float64s(), x.Shape(), axes, red.f64), shape...), nil
	case e.IsFloat():
		return tensor.FromFloat32s(e, reduceBy(x.Float32s(), x.Shape(), axes, red.f32), shape...), nil
	default:
		return fromNumbers(e, reduceBy(x.Int64s(), x.Shape(), axes, red.int), shape...), nil
	}
}

// reduceSelect returns the greatest or least elements over axes.
func reduceSelect(x *tensor.Tensor, axes []int, keep, greatest bool) (*tensor.Tensor, error) {
	shape := reducedShape(x.Shape(), axes, keep, 1)
	if x.Len() == 0 {
		return filled(extreme(x.Elem(), !greatest), shape)
	}
	before := inOrder(x, greatest)
	return pick(x, shape, func(yield func(int) bool) {
		for g := range groups(x.Shape(), axes) {
			if !yield(slices.MinFunc(g, before)) {
				return
			}
		}
	})
}

// inOrder returns a comparison of t's elements by their indices, for the
// least or the greatest first; NaN comes before all, as it must win either way.
func inOrder(t *tensor.Tensor, greatest bool) func(i, j int) int {
	if t.Elem().IsFloat() {
		x := t.Float64s()
		return func(i, j int) int {
			a, b := x[i], x[j]
			switch {
			case a != a || b != b:
				return boolInt(b != b) - boolInt(a != a)
			case a == b:
				return 0
			}
			return 1 - 2*boolInt((a < b) != greatest)
		}
	}
	x := t.Int64s()
	if t.Elem() == tensor.U64 {
		x = each(slices.Clone(x), func(v int64) int64 { return v ^ math.MinInt64 })
	}
	return func(i, j int) int {
		if x[i] == x[j] {
			return 0
		}
		return 1 - 2*boolInt((x[i] < x[j]) != greatest)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// extreme returns the greatest or least value of an element type.
func extreme(e tensor.Elem, greatest bool) *tensor.Tensor {
	lo, hi := e.Range()
	switch {
	case e.IsFloat() && greatest:
		return tensor.FromFloat32s(e, []float32{float32(math.Inf(1))})
	case e.IsFloat():
		return tensor.FromFloat32s(e, []float32{float32(math.Inf(-1))})
	case e == tensor.U64 && greatest:
		return tensor.Scalar(uint64(math.MaxUint64))
	case greatest:
		return tensor.FromInt64s(e, []int64{hi})
	}
	return tensor.FromInt64s(e, []int64{lo})
}

var _ = defineArg("ArgMax", "greatest")
var _ = defineArg("ArgMin", "least")

func defineArg(name, what string) *ir.Op {
	return define(ir.Op{
		Name:  name,
		Doc:   "The index, as i64, of the " + what + " element along an axis; NaN counts as that.",
		Since: 13,
		In:    "data", Out: "reduced",
		Attrs: []ir.AttrSpec{
			{Name: "axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the axis, −rank…rank−1"},
			{Name: "keepdims", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: the axis stays with size 1; 0: it goes"},
			{Name: "select_last_index", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "of equal elements 0: the first, 1: the last"},
		},
		Infer: func(n *ir.Node) ([]ir.Type, error) {
			if err := wantNumbers(n, 0); err != nil {
				return nil, err
			}
			in := n.In[0].Type
			if in.Unranked {
				return types(ir.UnrankedType(tensor.I64))
			}
			axis, err := axisOf(n.Int("axis"), in.Rank())
			if err != nil {
				return nil, err
			}
			if in.Dims[axis] == ir.Fixed(0) {
				return nil, fmt.Errorf("axis %d of %v is empty", axis, in)
			}
			return types(ir.TensorType(tensor.I64, reducedShape(in.Dims, []int{axis}, n.Int("keepdims") != 0, ir.Fixed(1))...))
		},
		Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
			x := in[0]
			axis, err := axisOf(n.Int("axis"), x.Rank())
			if err != nil {
				return nil, err
			}
			if x.Shape()[axis] == 0 {
				return nil, fmt.Errorf("axis %d of %v is empty", axis, ir.TypeOf(x))
			}
			before := inOrder(x, name == "ArgMax")
			last := n.Int("select_last_index") != 0
			out := []int64{}
			for g := range groups(x.Shape(), []int{axis}) {
				best := 0
				for i := range g {
					if c := before(g[i], g[best]); c < 0 || c == 0 && last {
						best = i
					}
				}
				out = append(out, int64(best))
			}
			return results(tensor.Of(out, reducedShape(x.Shape(), []int{axis}, n.Int("keepdims") != 0, 1)...))
		},
		Cost: func(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.In[0].Type)} },
	})
}
