package conformance

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/thriftc/thriftc/ir/tensor"
)

// drawer draws the attributes and inputs of one node.
type drawer struct {
	*rand.Rand
	c *randomNode
}

// chance is true once in n times.
func (r *drawer) chance(n int) bool { return r.IntN(n) == 0 }

func pick[T any](r *drawer, of ...T) T { return of[r.IntN(len(of))] }

// has reports whether the operator has an attribute in the drawn opset.
func (r *drawer) has(attr string) bool { return r.c.form.Attr(attr) != nil }

// set sets an attribute, if the drawn opset has it.
func (r *drawer) set(attr string, v any) {
	if r.has(attr) {
		r.c.attrs.Set(attr, v)
	}
}

// maybe sets an attribute half of the times.
func (r *drawer) maybe(attr string, v any) {
	if r.chance(2) {
		r.set(attr, v)
	}
}

// flag sets an attribute that says yes or no, or leaves it at its default.
func (r *drawer) flag(attr string) {
	if r.chance(3) {
		return
	}
	r.set(attr, r.IntN(2))
}

// flags is flag for several.
func (r *drawer) flags(attrs ...string) {
	for _, a := range attrs {
		r.flag(a)
	}
}

// in adds inputs.
func (r *drawer) in(t ...*tensor.Tensor) { r.c.in = append(r.c.in, t...) }

// optional adds an input half of the times, a gap otherwise.
func (r *drawer) optional(t *tensor.Tensor) {
	if r.chance(2) {
		t = nil
	}
	r.in(t)
}

// list adds integers as an input, or as an attribute where the opset has that.
func (r *drawer) list(name string, v ...int) {
	if r.has(name) {
		r.set(name, v)
		return
	}
	r.in(int64s(v...))
}

func int64s(v ...int) *tensor.Tensor {
	x := make([]int64, len(v))
	for i := range v {
		x[i] = int64(v[i])
	}
	return tensor.Of(x, len(x))
}

// elem draws an element type that a port allows in the drawn opset, mostly f32.
func (r *drawer) elem(port int) tensor.Elem {
	var of []tensor.Elem
	for _, s := range r.c.form.Types(r.c.form.In[port]) {
		if e, err := tensor.ParseElem(s); err == nil && e != tensor.String && e.Bits() >= 8 && e != tensor.BF16 || err == nil && e == tensor.Bool {
			of = append(of, e)
		}
	}
	if slices.Contains(of, tensor.F32) && !r.chance(3) {
		return tensor.F32
	}
	return of[r.IntN(len(of))]
}

// float draws a floating-point type that port 0 allows.
func (r *drawer) float() tensor.Elem {
	for range 8 {
		if e := r.elem(0); e.IsFloat() {
			return e
		}
	}
	return tensor.F32
}

// shape draws a shape of a rank from least to most.
func (r *drawer) shape(least, most int) []int {
	s := make([]int, least+r.IntN(most-least+1))
	for i := range s {
		s[i] = pick(r, 1, 2, 2, 3, 3, 4, 5)
	}
	return s
}

// axis draws an axis of a rank, from the end in half of the cases.
func (r *drawer) axis(rank int) int { return r.IntN(2*rank) - rank }

// axes draws different axes.
func (r *drawer) axes(rank, least int) []int {
	p := r.Perm(rank)[:least+r.IntN(rank-least+1)]
	for i := range p {
		if r.chance(2) {
			p[i] -= rank
		}
	}
	return p
}

// of draws a tensor. Floats are of a few hundred values around 0, some of them whole;
// integers are small, so that products do not leave their type.
func (r *drawer) of(e tensor.Elem, shape ...int) *tensor.Tensor {
	t := tensor.New(e, shape...)
	x := make([]float64, t.Len())
	for i := range x {
		switch {
		case e == tensor.Bool:
			x[i] = float64(r.IntN(2))
		case e.IsFloat() && r.chance(4):
			x[i] = float64(r.IntN(9) - 4)
		case e.IsFloat():
			x[i] = math.Round(r.NormFloat64()*200) / 100
		case e.IsSigned():
			x[i] = float64(r.IntN(15) - 7)
		default:
			x[i] = float64(r.IntN(12))
		}
	}
	return numbersOf(e, x, shape...)
}

func numbersOf(e tensor.Elem, x []float64, shape ...int) *tensor.Tensor {
	if e == tensor.F64 {
		return tensor.Of(x, shape...)
	}
	if e == tensor.Bool {
		b := make([]bool, len(x))
		for i := range x {
			b[i] = x[i] != 0
		}
		return tensor.Of(b, shape...)
	}
	if e.IsFloat() {
		f := make([]float32, len(x))
		for i := range x {
			f[i] = float32(x[i])
		}
		return tensor.FromFloat32s(e, f, shape...)
	}
	n := make([]int64, len(x))
	for i := range x {
		n[i] = int64(x[i])
	}
	return tensor.FromInt64s(e, n, shape...)
}

// within draws floats from lo to hi.
func (r *drawer) within(e tensor.Elem, lo, hi float64, shape ...int) *tensor.Tensor {
	x := make([]float64, size(shape))
	for i := range x {
		x[i] = lo + (hi-lo)*float64(r.IntN(1001))/1000
	}
	return numbersOf(e, x, shape...)
}

// wholes draws integers from lo to below hi.
func (r *drawer) wholes(e tensor.Elem, lo, hi int, shape ...int) *tensor.Tensor {
	x := make([]float64, size(shape))
	for i := range x {
		x[i] = float64(lo + r.IntN(hi-lo))
	}
	return numbersOf(e, x, shape...)
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// odd puts some special floats into a tensor.
func (r *drawer) odd(t *tensor.Tensor) *tensor.Tensor {
	if !t.Elem().IsFloat() || t.Len() == 0 || !r.chance(3) {
		return t
	}
	x := slices.Clone(t.Float64s())
	for range 1 + r.IntN(2) {
		x[r.IntN(len(x))] = pick(r, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1))
	}
	return numbersOf(t.Elem(), x, t.Shape()...)
}

// alike returns a shape that broadcasts with s to s, or with it to a larger one.
func (r *drawer) alike(s []int) []int {
	out := slices.Clone(s[r.IntN(len(s)+1):])
	for i := range out {
		if r.chance(4) {
			out[i] = 1
		}
	}
	return out
}

// dim draws where a shape is 1 or not, so that both operands are stretched.
func (r *drawer) pair(e, f tensor.Elem) {
	s := r.shape(0, 4)
	a, b := s, r.alike(s)
	for i := range a {
		if r.chance(5) && len(b) == len(a) {
			a = slices.Clone(a)
			a[i] = 1
		}
	}
	if r.chance(2) {
		a, b = b, a
	}
	r.in(r.odd(r.of(e, a...)), r.of(f, b...))
}

func unary(r *drawer)  { r.in(r.odd(r.of(r.elem(0), r.shape(0, 4)...))) }
func binary(r *drawer) { e := r.elem(0); r.pair(e, e) }

func several(r *drawer) {
	e, s := r.elem(0), r.shape(0, 4)
	r.in(r.of(e, s...))
	for range r.IntN(4) {
		r.in(r.of(e, r.alike(s)...))
	}
}

// attributed is unary with floats for attributes.
func attributed(attrs ...string) func(*drawer) {
	return func(r *drawer) {
		for _, a := range attrs {
			r.maybe(a, pick[float32](r, 0.1, 0.5, 1, 1.7, 2, -0.3))
		}
		unary(r)
	}
}

// draws holds, for every operator that is compared with ONNX Runtime, how its nodes are drawn.
var draws = map[string]func(*drawer){}

func add(draw func(*drawer), names ...string) {
	for _, n := range names {
		draws[n] = draw
	}
}

func init() {
	add(unary, "Abs", "Neg", "Floor", "Ceil", "Round", "Sqrt", "Exp", "Log", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh",
		"Tanh", "Asinh", "Acosh", "Atanh", "Sigmoid", "Softplus", "Softsign", "Erf", "Reciprocal", "Sign", "Relu", "HardSwish", "Mish",
		"IsNaN", "Not", "BitwiseNot", "Identity", "Shape", "Size", "NonZero")
	add(binary, "Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
	add(several, "Max", "Min", "Sum", "Mean")
	add(attributed("alpha"), "Elu", "LeakyRelu", "ThresholdedRelu", "Celu", "Swish")
	add(attributed("alpha", "gamma"), "Selu")
	add(attributed("alpha", "beta"), "HardSigmoid")
	add(attributed("bias", "lambd"), "Shrink")
	add(func(r *drawer) { r.flags("detect_negative", "detect_positive"); unary(r) }, "IsInf")
	add(func(r *drawer) { r.maybe("approximate", pick(r, "tanh", "none")); unary(r) }, "Gelu")
	add(func(r *drawer) {
		e := r.float()
		s := r.shape(1, 4)
		r.in(r.of(e, s...), r.of(e, r.alike(s)...))
	}, "PRelu")
	add(func(r *drawer) {
		e := r.elem(0)
		r.in(r.odd(r.of(e, r.shape(0, 3)...)))
		if r.has("min") {
			r.maybe("min", float32(-1))
			r.maybe("max", float32(1.5))
			return
		}
		lo, hi := -1.0, 2.0
		if !e.IsSigned() {
			lo = 1
		}
		if r.chance(6) {
			lo = 3
		}
		r.optional(numbersOf(e, []float64{lo}))
		r.optional(numbersOf(e, []float64{hi}))
	}, "Clip")
	add(func(r *drawer) {
		e, f := r.elem(0), r.elem(1)
		s := r.shape(1, 3)
		if e.IsFloat() {
			r.in(r.within(e, 0.1, 4, s...))
		} else {
			r.in(r.wholes(e, 1, 5, s...))
		}
		r.in(r.wholes(f, 0, 4, r.alike(s)...))
	}, "Pow")
	add(func(r *drawer) {
		e := r.elem(0)
		r.flag("fmod")
		if e.IsFloat() {
			r.set("fmod", 1)
		}
		s := r.shape(1, 3)
		b := r.wholes(e, 1, 6, r.alike(s)...)
		if e.IsSigned() && r.chance(2) {
			b = r.wholes(e, -5, 0, r.alike(s)...)
		}
		r.in(r.of(e, s...), b)
	}, "Mod")
	add(func(r *drawer) {
		e := r.elem(0)
		s := r.shape(1, 3)
		r.set("direction", pick(r, "LEFT", "RIGHT"))
		r.in(r.of(e, s...), r.wholes(e, 0, 7, r.alike(s)...))
	}, "BitShift")
	add(func(r *drawer) {
		from := r.elem(0)
		to := pick(r, tensor.F32, tensor.F64, tensor.F16, tensor.I8, tensor.U8, tensor.I16, tensor.U16, tensor.I32, tensor.U32, tensor.I64, tensor.U64, tensor.Bool)
		r.set("to", to.ONNXType())
		t := r.of(from, r.shape(0, 3)...)
		if to.IsSigned() || to.IsFloat() || to == tensor.Bool || !from.IsSigned() {
			r.in(t)
			return
		}
		r.in(r.wholes(from, 0, 9, t.Shape()...))
	}, "Cast")
	add(func(r *drawer) { e := r.elem(0); s := r.shape(0, 3); r.in(r.wholes(e, 0, 9, s...), r.of(r.elem(1), 2)) }, "CastLike")
	add(func(r *drawer) {
		e := r.elem(1)
		s := r.shape(0, 4)
		r.in(r.of(tensor.Bool, r.alike(s)...), r.of(e, s...), r.of(e, r.alike(s)...))
	}, "Where")
	reduce := func(r *drawer) {
		e, s := r.elem(0), r.shape(0, 4)
		r.flags("keepdims", "noop_with_empty_axes")
		x := r.of(e, s...)
		if r.c.op == "ReduceLogSum" { // of positive numbers
			if x = r.within(e, 0.1, 3, s...); !e.IsFloat() {
				x = r.wholes(e, 1, 9, s...)
			}
		}
		r.in(x)
		switch {
		case len(s) == 0 || r.chance(4):
			if r.chance(3) && !r.has("axes") {
				r.in(int64s())
			}
		default:
			r.list("axes", r.axes(len(s), 1)...)
		}
	}
	add(reduce, "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		r.maybe("axis", r.axis(len(s)))
		r.flags("keepdims", "select_last_index")
		r.in(r.wholes(r.elem(0), 0, 4, s...))
	}, "ArgMax", "ArgMin")
	add(func(r *drawer) {
		s := r.shape(1, 3)
		axis := r.axis(len(s))
		r.set("axis", axis)
		k := 1 + r.IntN(s[(axis+len(s))%len(s)])
		r.flag("largest")
		r.set("sorted", 1)
		r.c.outs = 2
		r.in(r.of(r.elem(0), s...))
		if r.has("k") {
			r.set("k", k)
		} else {
			r.in(int64s(k))
		}
	}, "TopK")
	add(func(r *drawer) {
		s := r.shape(1, 3)
		r.flags("exclusive", "reverse")
		r.in(r.of(r.elem(0), s...), tensor.Scalar(int64(r.axis(len(s)))))
	}, "CumSum")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		r.maybe("axis", r.axis(len(s)))
		r.in(r.of(r.elem(0), s...))
	}, "Softmax", "LogSoftmax", "Hardmax", "Flatten")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		r.maybe("axis", r.axis(len(s)))
		r.maybe("p", pick(r, 1, 2))
		r.in(r.within(r.elem(0), 0.1, 3, s...))
	}, "LpNormalization")
	add(func(r *drawer) {
		r.set("size", pick(r, 1, 3, 5))
		r.maybe("alpha", float32(0.3))
		r.maybe("beta", float32(0.6))
		r.maybe("bias", float32(2))
		s := r.shape(4, 4)
		s[1] += r.IntN(5)
		r.in(r.of(r.elem(0), s...))
	}, "LRN")
	add(func(r *drawer) {
		e, s := r.float(), r.shape(2, 4)
		r.maybe("epsilon", float32(0.01))
		r.in(r.of(e, s...), r.of(e, s[1]), r.of(e, s[1]), r.of(e, s[1]), r.within(e, 0.2, 3, s[1]))
	}, "BatchNormalization")
	add(func(r *drawer) {
		e, s := r.float(), r.shape(3, 4)
		s[2] += 2
		r.maybe("epsilon", float32(0.01))
		r.in(r.of(e, s...), r.of(e, s[1]), r.of(e, s[1]))
	}, "InstanceNormalization")
	add(func(r *drawer) {
		e, s := r.float(), r.shape(2, 4)
		s[len(s)-1] += 2
		axis := r.axis(len(s))
		r.set("axis", axis)
		r.maybe("epsilon", float32(0.01))
		from := (axis + len(s)) % len(s)
		r.in(r.of(e, s...), r.of(e, s[from:]...))
		r.optional(r.of(e, s[from:]...))
		r.c.outs = 1
		r.c.loose = 1e-4
	}, "LayerNormalization", "RMSNormalization")
	add(func(r *drawer) {
		e, s := r.float(), r.shape(3, 4)
		groups := pick(r, 1, 2, 3)
		s[1] = groups * (1 + r.IntN(3))
		s[2] += 2
		r.set("num_groups", groups)
		n := s[1]
		if r.c.opset < 21 {
			n = groups
		}
		r.in(r.of(e, s...), r.of(e, n), r.of(e, n))
		r.c.loose = 1e-4
	}, "GroupNormalization")
	add(func(r *drawer) {
		s := r.shape(4, 4)
		s[2] += 2
		r.maybe("axes", pick(r, []int{0, 2, 3}, []int{2, 3}, []int{0, 1, 2, 3}))
		r.c.loose = 1e-4
		r.in(r.of(r.float(), s...))
	}, "MeanVarianceNormalization")
	add(func(r *drawer) {
		r.in(r.of(r.float(), r.shape(0, 3)...))
		if r.has("ratio") {
			r.maybe("ratio", float32(0.3))
		} else {
			r.optional(tensor.Scalar(float32(0.3)))
		}
		r.c.outs = 1 + r.IntN(2)
	}, "Dropout")
}
