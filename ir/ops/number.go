package ops

import (
	"math"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir/tensor"
)

// float is the set of types in which floating-point operators compute: f32
// (also for f16 and bf16, rounded at the end) and f64.
type float interface{ float32 | float64 }

// number is float, and int64 for all integer types but u64.
type number interface{ float | int64 }

// numbers returns t's elements in the type in which they are computed with;
// callers must not change them.
func numbers[T number](t *tensor.Tensor) []T {
	var out any
	var zero T
	switch any(zero).(type) {
	case float32:
		out = t.Float32s()
	case float64:
		out = t.Float64s()
	default:
		out = t.Int64s()
	}
	return out.([]T)
}

// fromNumbers is the inverse of numbers: floats are rounded to e, integers wrap.
func fromNumbers[T number](e tensor.Elem, y []T, shape ...int) *tensor.Tensor {
	switch y := any(y).(type) {
	case []float32:
		return tensor.FromFloat32s(e, y, shape...)
	case []float64:
		return tensor.Of(y, shape...)
	case []int64:
		for i, v := range y {
			y[i] = wrapInt(e, v)
		}
		return tensor.FromInt64s(e, y, shape...)
	}
	panic("ops: unreachable")
}

// alloc returns n zeros to compute an output of the given shape in, or an
// error when the output would be too large.
func alloc[T number](shape ...int) ([]T, error) {
	var e tensor.Elem = tensor.F64
	var zero T
	if _, ok := any(zero).(float32); ok {
		e = tensor.F32
	}
	if _, ok := any(zero).(int64); ok {
		e = tensor.I64
	}
	t, err := tensor.Alloc(e, shape...)
	if err != nil {
		return nil, err
	}
	return t.Container().([]T), nil
}

// axpy does y[i·ys] = x[i·xs]·w + y[i·ys] for n numbers, each rounded once.
func axpy[T number](y []T, ys int, x []T, xs int, w T, n int) {
	switch y := any(y).(type) {
	case []float32:
		x, w := any(x).([]float32), any(w).(float32)
		for i, j := 0, 0; n > 0; n-- {
			y[i] = f32.FMA(x[j], w, y[i])
			i += ys
			j += xs
		}
	case []float64:
		x, w := any(x).([]float64), any(w).(float64)
		for i, j := 0, 0; n > 0; n-- {
			y[i] = math.FMA(x[j], w, y[i])
			i += ys
			j += xs
		}
	case []int64:
		x, w := any(x).([]int64), any(w).(int64)
		for i, j := 0, 0; n > 0; n-- {
			y[i] += x[j] * w
			i += ys
			j += xs
		}
	}
}

// fma returns x·y + z rounded once.
func fma[T float](x, y, z T) T {
	if x, ok := any(x).(float32); ok {
		return T(f32.FMA(x, float32(y), float32(z)))
	}
	return T(math.FMA(float64(x), float64(y), float64(z)))
}

// sqrt returns the correctly rounded square root.
func sqrt[T float](x T) T { return T(math.Sqrt(float64(x))) }

// viaFloat64 applies a function that is computed in float64 and rounded once.
func viaFloat64[T float](f func(float64) float64, x T) T { return T(f(float64(x))) }
