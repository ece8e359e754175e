package ops

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// arithmetic is an operation on two numbers for every kind of number. Integers
// are handed over as i64 and wrap to their type afterwards; u64 serves for
// unsigned types where that would be wrong, and may be nil. Without f32 and f64
// the operation is for integers only.
type arithmetic struct {
	f32 func(x, y float32) float32
	f64 func(x, y float64) float64
	i64 func(x, y int64) int64
	u64 func(x, y uint64) uint64

	dim     func(x, y int) (int, bool) // what shape inference does with parts of shapes; may be nil
	nonzero bool                       // y must not be an integer 0
}

// mapPairs applies an operation to two tensors of one shape and element type;
// f16 and bf16 are computed in f32 and rounded.
func mapPairs(x, y *tensor.Tensor, op arithmetic) (*tensor.Tensor, error) {
	e := x.Elem()
	switch {
	case e == tensor.F64:
		a, b := tensor.Data[float64](x), tensor.Data[float64](y)
		out := make([]float64, len(a))
		for i, v := range a {
			out[i] = op.f64(v, b[i])
		}
		return tensor.Of(out, x.Shape()...), nil
	case e.IsFloat():
		a, b := x.Float32s(), y.Float32s()
		out := make([]float32, len(a))
		for i, v := range a {
			out[i] = op.f32(v, b[i])
		}
		return tensor.FromFloat32s(e, out, x.Shape()...), nil
	case e.IsInt():
		a, b := x.Int64s(), y.Int64s()
		out := make([]int64, len(a))
		if op.u64 != nil && !e.IsSigned() {
			for i, v := range a {
				out[i] = wrapInt(e, int64(op.u64(uint64(v), uint64(b[i]))))
			}
		} else {
			for i, v := range a {
				out[i] = wrapInt(e, op.i64(v, b[i]))
			}
		}
		return tensor.FromInt64s(e, out, x.Shape()...), nil
	}
	return nil, fmt.Errorf("elements of type %v, expected numbers", e)
}

// binary completes and defines an operator on two numbers of one type, with
// broadcasting.
func binary(o ir.Op, op arithmetic) *ir.Op {
	o.In, o.Out, o.Cost, o.Elementwise = "A, B", "C", perElement, true
	o.Import = importBinary
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		if e := n.In[0].Type.Elem; op.f32 == nil && !e.IsInt() {
			return nil, fmt.Errorf("A is %v, expected integers", n.In[0].Type)
		}
		t, err := inferArith(n)
		if err != nil {
			return nil, err
		}
		if op.dim != nil {
			inferContents(n, op.dim)
		}
		return []ir.Type{t}, nil
	}
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		if op.nonzero && b[1].Elem().IsInt() && slices.Contains(b[1].Int64s(), 0) {
			return nil, errors.New("integer division by zero")
		}
		return one(mapPairs(b[0], b[1], op))
	}
	return define(o)
}

// inferArith is the shape rule of operators on numbers of one type, with broadcasting.
func inferArith(n *ir.Node) (ir.Type, error) {
	types := make([]ir.Type, len(n.In))
	like := make([]int, len(n.In))
	for i, v := range n.In {
		if v == nil {
			return ir.Type{}, fmt.Errorf("input %d is missing", i)
		}
		types[i], like[i] = v.Type, i
	}
	if e := types[0].Elem; !e.IsFloat() && !e.IsInt() {
		return ir.Type{}, fmt.Errorf("%s is %v, expected numbers", portName(n, 0), types[0])
	}
	if err := wantLike(n, 0, like...); err != nil {
		return ir.Type{}, err
	}
	return broadcastType(types[0].Elem, types...)
}

// importBinary turns the broadcasting of opset 6, where B's dimensions were
// matched to those of A from axis on, into today's.
func importBinary(r *ir.Rewriter, n *ir.Node, opset int) error {
	if opset >= 7 {
		return nil
	}
	if n.Int("broadcast") == 0 || !n.HasAttr("axis") {
		r.DeleteAttr(n, "broadcast")
		r.DeleteAttr(n, "axis")
		return nil
	}
	axis := n.Int("axis")
	r.DeleteAttr(n, "broadcast")
	r.DeleteAttr(n, "axis")
	return alignAxis(r, n, axis)
}

// alignAxis gives the second input trailing dimensions of length 1, so that
// its first lies at the given axis of the first input.
func alignAxis(r *ir.Rewriter, n *ir.Node, axis int) error {
	if len(n.In) < 2 || n.In[0] == nil || n.In[1] == nil {
		return errors.New("has fewer than two inputs")
	}
	a, b := n.In[0].Type, n.In[1].Type
	if a.Unranked || b.Unranked {
		return fmt.Errorf("the broadcasting of old opsets needs known ranks, got %v and %v", a, b)
	}
	axis, err := axisOf(axis, max(a.Rank(), 1))
	if err != nil {
		return err
	}
	if len(b.Dims) == 0 || len(b.Dims) == 1 && b.Dims[0] == ir.Fixed(1) {
		return nil
	}
	var axes []int64
	for i := b.Rank(); i < a.Rank()-axis; i++ {
		axes = append(axes, int64(i))
	}
	e := expansion{r: r.Before(n), n: n}
	v := e.unsqueeze(n.In[1], axes...)
	if e.err == nil {
		r.SetInput(n, 1, v)
	}
	return e.err
}

// inferContents follows integer arithmetic on small values, such as the parts
// of a shape.
func inferContents(n *ir.Node, f func(x, y int) (int, bool)) {
	a, b := n.In[0].Contents, n.In[1].Contents
	if len(a) == 0 || len(b) == 0 || len(a) != len(b) && len(a) != 1 && len(b) != 1 || !n.In[0].Type.Elem.IsInt() {
		return
	}
	out := make([]ir.Dim, max(len(a), len(b)))
	for i := range out {
		x, y := a[i%len(a)], b[i%len(b)]
		out[i] = ir.Unknown
		if x.Known() && y.Known() {
			if v, ok := f(x.N, y.N); ok {
				out[i] = ir.Fixed(v)
			}
		}
	}
	n.Out[0].Contents = out
}

var (
	_ = binary(ir.Op{Name: "Add", Same: neutral(0, true), Epilogue: true, Combines: true, Since: 7, Doc: "A + B, with broadcasting. Integers wrap.", Grad: gradAdd}, arithmetic{
		f32: func(x, y float32) float32 { return x + y },
		f64: func(x, y float64) float64 { return x + y },
		i64: func(x, y int64) int64 { return x + y },
		dim: func(x, y int) (int, bool) { return x + y, x+y >= 0 },
	})
	_ = binary(ir.Op{Name: "Sub", Same: neutral(0, false), Epilogue: true, Combines: true, Since: 7, Grad: gradSub, Doc: "A − B, with broadcasting. Integers wrap."}, arithmetic{
		f32: func(x, y float32) float32 { return x - y },
		f64: func(x, y float64) float64 { return x - y },
		i64: func(x, y int64) int64 { return x - y },
		dim: func(x, y int) (int, bool) { return x - y, x >= y },
	})
	_ = binary(ir.Op{Name: "Mul", Same: neutral(1, true), Epilogue: true, Combines: true, Since: 7, Doc: "A·B, with broadcasting. Integers wrap.", Grad: gradMul}, arithmetic{
		f32: func(x, y float32) float32 { return float32(x * y) },
		f64: func(x, y float64) float64 { return float64(x * y) },
		i64: func(x, y int64) int64 { return x * y },
		dim: func(x, y int) (int, bool) {
			hi, lo := bits.Mul64(uint64(x), uint64(y))
			return int(lo), hi == 0 && lo <= math.MaxInt
		},
	})
	_ = binary(ir.Op{Name: "Div", Same: neutral(1, false), Epilogue: true, Combines: true, Since: 7, Grad: gradDiv, Doc: "A/B, with broadcasting. Integer quotients are cut toward zero; dividing an integer by zero is an error."}, arithmetic{
		f32: func(x, y float32) float32 { return x / y },
		f64: func(x, y float64) float64 { return x / y },
		i64: func(x, y int64) int64 { return x / y },
		u64: func(x, y uint64) uint64 { return x / y },
		dim: func(x, y int) (int, bool) {
			if y == 0 {
				return 0, false
			}
			return x / y, true
		},
		nonzero: true,
	})
	_ = binary(ir.Op{Name: "BitwiseAnd", Since: 18, Doc: "A and B bit by bit, with broadcasting."}, arithmetic{
		i64: func(x, y int64) int64 { return x & y },
	})
	_ = binary(ir.Op{Name: "BitwiseOr", Since: 18, Doc: "A or B bit by bit, with broadcasting."}, arithmetic{
		i64: func(x, y int64) int64 { return x | y },
	})
	_ = binary(ir.Op{Name: "BitwiseXor", Since: 18, Doc: "A exclusive-or B bit by bit, with broadcasting."}, arithmetic{
		i64: func(x, y int64) int64 { return x ^ y },
	})
)

var _ = define(ir.Op{
	Name: "Mod", Since: 28,
	Elementwise: true,
	Doc: `The remainder of A/B, with broadcasting: with the sign of B, or with fmod = 1
with the sign of A. Floating-point operands with the sign of B came with opset 28. The result of fmod = 1 is exact.`,
	In: "A, B", Out: "C",
	Attrs: []ir.AttrSpec{{Name: "fmod", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the remainder has the sign of A, as in C"}},
	Grad:  gradMod,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferArith(n)
		return []ir.Type{t}, err
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		if b[1].Elem().IsInt() && slices.Contains(b[1].Int64s(), 0) {
			return nil, errors.New("integer division by zero")
		}
		cSign := n.Int("fmod") != 0
		mod := math.Mod
		if !cSign {
			mod = floorMod
		}
		return one(mapPairs(b[0], b[1], arithmetic{
			f32: func(x, y float32) float32 { return float32(mod(float64(x), float64(y))) },
			f64: mod,
			i64: func(x, y int64) int64 {
				m := x % y
				if !cSign && m != 0 && (m < 0) != (y < 0) {
					m += y
				}
				return m
			},
			u64: func(x, y uint64) uint64 { return x % y },
		}))
	},
	Export: func(_ *ir.Rewriter, n *ir.Node, opset int) error {
		if n.In[0].Type.Elem.IsFloat() && n.Int("fmod") == 0 {
			return fmt.Errorf("fmod = 0 of %v needs opset 28", n.In[0].Type)
		}
		return nil
	},
})

// floorMod returns x − ⌊x/y⌋·y with the sign of y, also for a result of 0.
func floorMod(x, y float64) float64 {
	m := math.Mod(x, y)
	switch {
	case m == 0:
		return math.Copysign(0, y)
	case (m < 0) != (y < 0):
		return m + y
	}
	return m
}

var _ = define(ir.Op{
	Name: "BitShift", Since: 28,
	Elementwise: true,
	Doc: "A shifted by B bits, with broadcasting; a shift by the width or more gives 0. Signed integers (opset 28) keep their sign when they go to the right, " +
		"and a negative B is a shift by the width.",
	In: "A, B", Out: "C",
	Attrs: []ir.AttrSpec{{Name: "direction", Kind: ir.StringAttr, Required: true, Doc: "LEFT or RIGHT"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if d := n.Str("direction"); d != "LEFT" && d != "RIGHT" {
			return nil, fmt.Errorf("direction is %q, expected LEFT or RIGHT", d)
		}
		if t := n.In[0].Type; !t.Elem.IsInt() {
			return nil, fmt.Errorf("A is %v, expected integers", t)
		}
		t, err := inferArith(n)
		return []ir.Type{t}, err
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		shift, signed := func(x, y uint64) uint64 { return x << y }, func(x, y int64) int64 { return x << uint64(y) }
		if n.Str("direction") == "RIGHT" {
			shift, signed = func(x, y uint64) uint64 { return x >> y }, func(x, y int64) int64 { return x >> uint64(y) }
		}
		return one(mapPairs(b[0], b[1], arithmetic{u64: shift, i64: signed}))
	},
	Export: func(_ *ir.Rewriter, n *ir.Node, opset int) error {
		if n.In[0].Type.Elem.IsSigned() {
			return fmt.Errorf("a shift of %v needs opset 28", n.In[0].Type)
		}
		return nil
	},
})

var _ = define(ir.Op{
	Name: "Pow", Since: 12,
	Elementwise: true,
	Doc: `X to the power Y, with broadcasting; Y may be of another type than X, and the
result is of X's. Floating-point powers are computed in float64 and rounded once.
An integer to an integer power is exact and wraps (a negative power gives 0
unless X is 1 or −1); to a floating-point power it is cut toward zero.`,
	In: "X, Y", Out: "Z",
	Import: importBinary,
	Grad:   gradPow,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		for i, v := range n.In {
			if e := v.Type.Elem; !e.IsFloat() && !e.IsInt() {
				return nil, fmt.Errorf("%s is %v, expected numbers", portName(n, i), v.Type)
			}
		}
		t, err := broadcastType(n.In[0].Type.Elem, n.In[0].Type, n.In[1].Type)
		return []ir.Type{t}, err
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		x, y := b[0], b[1]
		if x.Elem().IsInt() && y.Elem().IsInt() {
			p := y.Int64s()
			i := -1
			return one(mapInt(x, func(v int64) int64 { i++; return intPow(v, p[i]) }), nil)
		}
		p := y.Float64s()
		out := slices.Clone(x.Float64s())
		for i, v := range out {
			out[i] = f32.Pow64(v, p[i])
		}
		if x.Elem().IsInt() {
			cut := make([]int64, len(out))
			for i, v := range out {
				cut[i] = wrapInt(x.Elem(), int64FromFloat(v))
			}
			return one(tensor.FromInt64s(x.Elem(), cut, x.Shape()...), nil)
		}
		return one(floatsOf(x.Elem(), out, x.Shape()), nil)
	},
})

// int64FromFloat cuts toward zero; what is out of range or NaN becomes the
// nearest int64 or 0, where Go leaves the result to the CPU.
func int64FromFloat(x float64) int64 {
	switch {
	case x != x:
		return 0
	case x >= 1<<63:
		return math.MaxInt64
	case x < -1<<63:
		return math.MinInt64
	}
	return int64(x)
}

func intPow(x, p int64) int64 {
	if p < 0 {
		switch {
		case x == 1 || x == -1 && p%2 == 0:
			return 1
		case x == -1:
			return -1
		}
		return 0
	}
	out := int64(1)
	for ; p > 0; p >>= 1 {
		if p&1 == 1 {
			out *= x
		}
		x *= x
	}
	return out
}

// variadic completes and defines an operator that combines any number of
// inputs, one after the other, with broadcasting; finish, if not nil, gets the
// result and the number of inputs.
func variadic(o ir.Op, op arithmetic, finish func(x *tensor.Tensor, count int) (*tensor.Tensor, error)) *ir.Op {
	o.Elementwise = true
	o.In, o.Cost = "data_0*", func(n *ir.Node) ir.Cost {
		return ir.Cost{Adds: elemCount(n.Out[0].Type) * int64(len(n.In))}
	}
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		if len(n.In) == 0 {
			return nil, errors.New("has no inputs")
		}
		t, err := inferArith(n)
		if err == nil && op.i64 == nil && !t.Elem.IsFloat() {
			err = fmt.Errorf("data_0 is %v, expected floating point", n.In[0].Type)
		}
		return []ir.Type{t}, err
	}
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		acc := b[0]
		for _, x := range b[1:] {
			if acc, err = mapPairs(acc, x, op); err != nil {
				return nil, err
			}
		}
		if finish != nil {
			return one(finish(acc, len(in)))
		}
		return one(acc, nil)
	}
	return define(o)
}

var (
	_ = variadic(ir.Op{Name: "Max", Same: alone, Epilogue: true, Combines: true, Since: 8, Grad: gradMax, Out: "max", Doc: "The greatest of the inputs, element by element, with broadcasting; NaN if one is, and +0 rather than −0."}, arithmetic{
		f32: func(x, y float32) float32 { return max(x, y) },
		f64: func(x, y float64) float64 { return max(x, y) },
		i64: func(x, y int64) int64 { return max(x, y) },
		u64: func(x, y uint64) uint64 { return max(x, y) },
	}, nil)
	_ = variadic(ir.Op{Name: "Min", Same: alone, Epilogue: true, Combines: true, Since: 8, Grad: gradMax, Out: "min", Doc: "The least of the inputs, element by element, with broadcasting; NaN if one is, and −0 rather than +0."}, arithmetic{
		f32: func(x, y float32) float32 { return min(x, y) },
		f64: func(x, y float64) float64 { return min(x, y) },
		i64: func(x, y int64) int64 { return min(x, y) },
		u64: func(x, y uint64) uint64 { return min(x, y) },
	}, nil)
	sumOfTwo = arithmetic{
		f32: func(x, y float32) float32 { return x + y },
		f64: func(x, y float64) float64 { return x + y },
	}
	_ = variadic(ir.Op{Name: "Sum", Same: alone, Combines: true, Since: 8, Grad: gradSum, Out: "sum", Doc: "The sum of the inputs, added in order, with broadcasting."}, sumOfTwo, nil)
	_ = variadic(ir.Op{Name: "Mean", Same: alone, Combines: true, Since: 8, Grad: gradSum, Out: "mean", Doc: "The sum of the inputs, added in order, divided by their number, with broadcasting."}, sumOfTwo,
		func(x *tensor.Tensor, count int) (*tensor.Tensor, error) {
			return mapFloat(x, func(v float32) float32 { return v / float32(count) }, func(v float64) float64 { return v / float64(count) })
		})
)
