package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// scalar is a function of one number, in both precisions.
type scalar struct {
	f32 func(float32) float32
	f64 func(float64) float64
}

// scalars holds, for every element-wise floating-point operator with one
// input, its function with the node's attributes filled in.
var scalars = map[string]func(n *ir.Node) scalar{}

// Scalar returns the function that an element-wise operator applies to every
// f32 element of its only input, nil for other operators. Engines use it to
// fuse such operators into others.
func Scalar(n *ir.Node) func(float32) float32 {
	if f := scalars[n.Op.Name]; f != nil {
		return f(n).f32
	}
	return nil
}

// elementwise completes and defines an operator that applies a function to
// every element of its floating-point input.
func elementwise(o ir.Op, f func(n *ir.Node) scalar) *ir.Op {
	o.In, o.Out, o.Infer, o.Cost, o.Elementwise = "X", "Y", floatType, perElement, true
	if s := slopes[o.Name]; s != nil {
		o.Grad = gradSlope(s)
	}
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := f(n)
		return one(mapFloat(in[0], s.f32, s.f64))
	}
	scalars[o.Name] = f
	return define(o)
}

// unary is elementwise for functions without attributes.
func unary(name string, since int, doc string, f func(float32) float32, f64 func(float64) float64) *ir.Op {
	s := scalar{f, f64}
	return elementwise(ir.Op{Name: name, Since: since, Doc: doc}, func(*ir.Node) scalar { return s })
}

// activation is unary for functions that networks use as non-linearities.
func activation(name string, since int, doc string, f func(float32) float32, f64 func(float64) float64) *ir.Op {
	s := scalar{f, f64}
	return elementwise(ir.Op{Name: name, Since: since, Doc: doc, Epilogue: true}, func(*ir.Node) scalar { return s })
}

// narrow makes a float32 function of one on float64 by rounding its result once.
func narrow(f func(float64) float64) func(float32) float32 {
	return func(x float32) float32 { return float32(f(float64(x))) }
}

var (
	_ = unary("Exp", 6, "The exponential of every element, correctly rounded but for rare cases (package f32).", f32.Exp, f32.Exp64)
	_ = unary("Log", 6, "The natural logarithm of every element; NaN below 0.", f32.Log, f32.Log64)
	_ = unary("Sqrt", 6, "The square root of every element, correctly rounded; NaN below 0.", f32.Sqrt, math.Sqrt)
	_ = unary("Reciprocal", 6, "1/x of every element.", func(x float32) float32 { return 1 / x }, func(x float64) float64 { return 1 / x })
	_ = unary("Floor", 6, "Every element rounded down to a whole number.", narrow(math.Floor), math.Floor)
	_ = unary("Ceil", 6, "Every element rounded up to a whole number.", narrow(math.Ceil), math.Ceil)
	_ = unary("Round", 11, "Every element rounded to the nearest whole number, half to even.", narrow(math.RoundToEven), math.RoundToEven)
	_ = unary("Erf", 9, "The error function of every element.", f32.Erf, f32.Erf64)
	_ = unary("Sin", 7, "The sine of every element, in radians.", f32.Sin, f32.Sin64)
	_ = unary("Cos", 7, "The cosine of every element, in radians.", f32.Cos, f32.Cos64)
	_ = unary("Tan", 7, "The tangent of every element, in radians.", f32.Tan, f32.Tan64)
	_ = unary("Asin", 7, "The arc sine of every element, in radians; NaN outside −1…1.", f32.Asin, f32.Asin64)
	_ = unary("Acos", 7, "The arc cosine of every element, in radians; NaN outside −1…1.", f32.Acos, f32.Acos64)
	_ = unary("Atan", 7, "The arc tangent of every element, in radians.", f32.Atan, f32.Atan64)
	_ = unary("Sinh", 9, "The hyperbolic sine of every element.", f32.Sinh, f32.Sinh64)
	_ = unary("Cosh", 9, "The hyperbolic cosine of every element.", f32.Cosh, f32.Cosh64)
	_ = activation("Tanh", 6, "The hyperbolic tangent of every element.", f32.Tanh, f32.Tanh64)
	_ = unary("Asinh", 9, "The inverse hyperbolic sine of every element.", f32.Asinh, f32.Asinh64)
	_ = unary("Acosh", 9, "The inverse hyperbolic cosine of every element; NaN below 1.", f32.Acosh, f32.Acosh64)
	_ = unary("Atanh", 9, "The inverse hyperbolic tangent of every element; NaN outside −1…1.", f32.Atanh, f32.Atanh64)
	_ = activation("Sigmoid", 6, "1/(1 + e⁻ˣ) of every element.", f32.Sigmoid, f32.Sigmoid64)
	_ = activation("Softplus", 1, "ln(1 + eˣ) of every element.", f32.Softplus, f32.Softplus64)
	_ = activation("Softsign", 1, "x/(1 + |x|) of every element; the sum and the quotient are rounded once each.",
		func(x float32) float32 { return x / (1 + absOf(x)) }, func(x float64) float64 { return x / (1 + absOf(x)) })
)

func absOf[T float32 | float64](x T) T { return T(math.Abs(float64(x))) }

// numericUnary completes and defines an operator that applies a function to
// every element of its input, integer or floating point. Integers wrap.
func numericUnary(o ir.Op, s scalar, f func(int64) int64) *ir.Op {
	o.In, o.Out, o.Cost, o.Elementwise = "X", "Y", perElement, true
	if s := slopes[o.Name]; s != nil {
		o.Grad = gradSlope(s)
	}
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Elem.IsFloat() && !x.Elem.IsInt() {
			return nil, fmt.Errorf("X is %v, expected numbers", x)
		}
		return sameType(n)
	}
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if x := in[0]; x.Elem().IsInt() {
			return one(mapInt(x, f), nil)
		}
		return one(mapFloat(in[0], s.f32, s.f64))
	}
	scalars[o.Name] = func(*ir.Node) scalar { return s }
	return define(o)
}

// mapInt applies f to every element of an integer tensor. f sees u64 as the
// int64 of the same bits; its results wrap to the element type.
func mapInt(x *tensor.Tensor, f func(int64) int64) *tensor.Tensor {
	src := x.Int64s()
	y := make([]int64, len(src))
	for i, v := range src {
		y[i] = wrapInt(x.Elem(), f(v))
	}
	return tensor.FromInt64s(x.Elem(), y, x.Shape()...)
}

// wrapInt returns the number of type e with the same low bits as v.
func wrapInt(e tensor.Elem, v int64) int64 {
	s := 64 - e.Bits()
	if e.IsSigned() {
		return v << s >> s
	}
	return int64(uint64(v) << s >> s)
}

var (
	_ = numericUnary(ir.Op{Name: "Abs", Since: 6, Doc: "The magnitude of every element; the least integer stays as it is."},
		scalar{absOf[float32], math.Abs},
		func(x int64) int64 { return max(x, -x) })
	_ = numericUnary(ir.Op{Name: "Neg", Since: 6, Doc: "Every element with the opposite sign; the least integer stays as it is."},
		scalar{func(x float32) float32 { return -x }, func(x float64) float64 { return -x }},
		func(x int64) int64 { return -x })
	_ = numericUnary(ir.Op{Name: "Sign", Since: 9, Doc: "−1, 0 or 1 with the sign of every element; NaN stays NaN."},
		scalar{signOf[float32], signOf[float64]}, signOf[int64])
	_ = numericUnary(ir.Op{Name: "Relu", Epilogue: true, Homogeneous: true, Since: 6, Grad: gradRelu, Doc: "0 where x < 0, else x: −0 and NaN stay."},
		scalar{reluOf[float32], reluOf[float64]}, reluOf[int64])
)

func signOf[T float32 | float64 | int64](x T) T {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
}

func reluOf[T float32 | float64 | int64](x T) T {
	if x < 0 {
		return 0
	}
	return x
}

var _ = define(ir.Op{
	Name: "IsNaN", Since: 9, Doc: "Whether every element is not a number.", In: "X", Out: "Y",
	Elementwise: true,
	Infer:       toBool, Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return one(testFloat(in[0], math.IsNaN), nil)
	},
})

var _ = define(ir.Op{
	Name: "IsInf", Since: 10, Doc: "Whether every element is infinite.", In: "X", Out: "Y",
	Elementwise: true,
	Attrs: []ir.AttrSpec{
		{Name: "detect_negative", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "0: −∞ does not count"},
		{Name: "detect_positive", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "0: +∞ does not count"},
	},
	Infer: toBool, Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		neg, pos := n.Int("detect_negative") != 0, n.Int("detect_positive") != 0
		return one(testFloat(in[0], func(x float64) bool {
			return pos && math.IsInf(x, 1) || neg && math.IsInf(x, -1)
		}), nil)
	},
})

// toBool is the shape rule of tests on floating-point elements.
func toBool(n *ir.Node) ([]ir.Type, error) {
	if err := wantFloat(n, 0); err != nil {
		return nil, err
	}
	return []ir.Type{n.In[0].Type.WithElem(tensor.Bool)}, nil
}

func testFloat(x *tensor.Tensor, f func(float64) bool) *tensor.Tensor {
	src := x.Float64s()
	y := make([]bool, len(src))
	for i, v := range src {
		y[i] = f(v)
	}
	return tensor.Of(y, x.Shape()...)
}

var _ = define(ir.Op{
	Name: "Not", Since: 1, Doc: "The opposite of every element.", In: "X", Out: "Y",
	Elementwise: true,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; x.Elem != tensor.Bool {
			return nil, fmt.Errorf("X is %v, expected bool", x)
		}
		return sameType(n)
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x := tensor.Data[bool](in[0])
		y := make([]bool, len(x))
		for i, v := range x {
			y[i] = !v
		}
		return one(tensor.Of(y, in[0].Shape()...), nil)
	},
})

var _ = define(ir.Op{
	Name: "BitwiseNot", Since: 18, Doc: "Every element with all its bits inverted.", In: "X", Out: "Y",
	Elementwise: true,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Elem.IsInt() {
			return nil, fmt.Errorf("X is %v, expected integers", x)
		}
		return sameType(n)
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return one(mapInt(in[0], func(x int64) int64 { return ^x }), nil)
	},
})

// perElement is the cost of one operation for every element of the output.
func perElement(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.Out[0].Type)} }

// elemCount returns the number of elements of a type; dimensions that are not
// numbers count as 1.
func elemCount(t ir.Type) int64 {
	n := int64(1)
	for _, d := range t.Dims {
		if d.Known() {
			n *= int64(d.N)
		}
	}
	return n
}
