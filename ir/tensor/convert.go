package tensor

import (
	"fmt"
	"math"
)

// Float32s returns the elements as float32: t's own slice when t is F32, a
// converted copy otherwise (rounded to nearest even from f64 and 64-bit integers).
// It panics for String.
func (t *Tensor) Float32s() []float32 {
	switch x := t.data.(type) {
	case []float32:
		return x
	case []float64:
		return convert[float64, float32](x)
	case []uint16:
		if t.elem == F16 || t.elem == BF16 {
			out := make([]float32, len(x))
			for i, h := range x {
				if t.elem == F16 {
					out[i] = F16ToF32(h)
				} else {
					out[i] = BF16ToF32(h)
				}
			}
			return out
		}
		return convert[uint16, float32](x)
	case []int64:
		return convert[int64, float32](x)
	case []uint64:
		return convert[uint64, float32](x)
	}
	return convert[int64, float32](t.Int64s())
}

// Float64s returns the elements as float64: t's own slice when t is F64, a
// converted copy otherwise. It panics for String.
func (t *Tensor) Float64s() []float64 {
	switch x := t.data.(type) {
	case []float64:
		return x
	case []float32:
		return convert[float32, float64](x)
	case []uint64:
		return convert[uint64, float64](x)
	}
	if t.elem.IsFloat() {
		return convert[float32, float64](t.Float32s())
	}
	return convert[int64, float64](t.Int64s())
}

// Int64s returns the elements as int64: t's own slice when t is I64, a
// converted copy otherwise; floats are cut toward zero, true is 1. It panics for String.
func (t *Tensor) Int64s() []int64 {
	switch x := t.data.(type) {
	case []int64:
		return x
	case []int8:
		return convert[int8, int64](x)
	case []int16:
		return convert[int16, int64](x)
	case []int32:
		return convert[int32, int64](x)
	case []uint8:
		return convert[uint8, int64](x)
	case []uint32:
		return convert[uint32, int64](x)
	case []uint64:
		return convert[uint64, int64](x)
	case []float64:
		return convert[float64, int64](x)
	case []float32:
		return convert[float32, int64](x)
	case []uint16:
		if t.elem.IsFloat() {
			return convert[float32, int64](t.Float32s())
		}
		return convert[uint16, int64](x)
	case []bool:
		out := make([]int64, len(x))
		for i, b := range x {
			if b {
				out[i] = 1
			}
		}
		return out
	}
	panic(fmt.Sprintf("tensor: %v has no numbers", t.elem))
}

type number interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

func convert[A, B number](x []A) []B {
	out := make([]B, len(x))
	for i, v := range x {
		out[i] = B(v)
	}
	return out
}

// FromFloat32s returns a tensor of a floating-point type, rounding to nearest
// even; for F32 it wraps x without copying.
func FromFloat32s(e Elem, x []float32, shape ...int) *Tensor {
	switch e {
	case F32:
		return Of(x, shape...)
	case F64:
		return Of(convert[float32, float64](x), shape...)
	case F16, BF16:
		h := make([]uint16, len(x))
		for i, v := range x {
			if e == F16 {
				h[i] = F32ToF16(v)
			} else {
				h[i] = F32ToBF16(v)
			}
		}
		return OfElem(e, h, shape...)
	}
	panic(fmt.Sprintf("tensor: %v is not a floating-point type", e))
}

// FromInt64s returns a tensor of an integer, bool or bipolar type; values
// outside its container wrap as Go's conversions do.
func FromInt64s(e Elem, x []int64, shape ...int) *Tensor {
	t := New(e, shape...)
	if len(x) != t.Len() {
		panic(fmt.Sprintf("tensor: %d elements do not fit shape %v", len(x), shape))
	}
	switch d := t.data.(type) {
	case []int8:
		fill(d, x)
	case []int16:
		fill(d, x)
	case []int32:
		fill(d, x)
	case []int64:
		copy(d, x)
	case []uint8:
		fill(d, x)
	case []uint16:
		fill(d, x)
	case []uint32:
		fill(d, x)
	case []uint64:
		fill(d, x)
	case []bool:
		for i, v := range x {
			d[i] = v != 0
		}
	default:
		panic(fmt.Sprintf("tensor: %v is not an integer type", e))
	}
	return t
}

func fill[T number](dst []T, src []int64) {
	for i, v := range src {
		dst[i] = T(v)
	}
}

// F16ToF32 converts the bits of an IEEE binary16 exactly.
func F16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	man := uint32(h & 0x3ff)
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
	}
	f := float32(man) / (1 << 24) // subnormal or zero: exact
	return math.Float32frombits(math.Float32bits(f) | sign)
}

// F32ToF16 rounds to the bits of the nearest IEEE binary16, ties to even;
// too large numbers become infinite.
func F32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00
	case b >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case b < 0x38800000: // below the least normal number: round to a multiple of 2⁻²⁴
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(b))*(1<<24)))
	}
	b += 0xfff + b>>13&1
	return sign | uint16(b>>13-112<<10)
}

// BF16ToF32 converts the bits of a bfloat16 exactly.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F32ToBF16 rounds to the bits of the nearest bfloat16, ties to even.
func F32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
