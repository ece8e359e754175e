package tensor

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// MaxBytes is the largest tensor, in bytes of memory, that Alloc hands out.
// A model file of a kilobyte can ask for a terabyte; no CNN needs this much.
const MaxBytes = 4 << 30

// ErrTooLarge is wrapped by the errors for shapes whose element count
// overflows or whose tensor would exceed MaxBytes.
var ErrTooLarge = errors.New("tensor too large")

// Container is the set of Go types that hold elements in memory. float16 and
// bfloat16 are held as their bits in a uint16; integers in the smallest Go
// integer that is wide enough; Bipolar as −1 and +1 in an int8.
type Container interface {
	float32 | float64 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool | string
}

// Tensor is a dense tensor in row-major order. Tensors are immutable once
// they are part of a graph or handed to somebody else: whoever allocates one may
// fill it, nobody writes to it afterwards.
type Tensor struct {
	elem  Elem
	shape []int
	data  any // a slice of the container type
}

// NumElems returns the number of elements of a shape, or an error when a
// dimension is negative or the product overflows.
func NumElems(shape []int) (int, error) {
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("negative dimension in shape %v", shape)
		}
	}
	if slices.Contains(shape, 0) {
		return 0, nil
	}
	n := 1
	for _, d := range shape {
		if n > math.MaxInt/d {
			return 0, fmt.Errorf("%w: shape %v overflows", ErrTooLarge, shape)
		}
		n *= d
	}
	return n, nil
}

// Alloc returns a zeroed tensor (zero is false, +0 and "" too; for Bipolar the
// caller must fill every element), or an error for a bad shape, one beyond MaxBytes, or
// more memory than there is.
func Alloc(e Elem, shape ...int) (*Tensor, error) {
	n, err := NumElems(shape)
	if err != nil {
		return nil, err
	}
	if cb := e.ContainerBytes(); cb == 0 || e.IsSequence() {
		return nil, fmt.Errorf("cannot allocate elements of type %v", e)
	} else if n > MaxBytes/cb {
		return nil, fmt.Errorf("%w: %v%v takes %.0f bytes, the limit is %d", ErrTooLarge, e, shape, float64(n)*float64(cb), MaxBytes)
	}
	if err := Reserve(int64(n) * int64(e.ContainerBytes())); err != nil {
		return nil, fmt.Errorf("%v%v: %w", e, shape, err)
	}
	return &Tensor{elem: e, shape: slices.Clone(shape), data: makeContainer(e, n)}, nil
}

// New is Alloc for shapes that are known to be good; it panics otherwise.
func New(e Elem, shape ...int) *Tensor {
	t, err := Alloc(e, shape...)
	if err != nil {
		panic(err)
	}
	return t
}

func makeContainer(e Elem, n int) any {
	switch e {
	case F32:
		return make([]float32, n)
	case F64:
		return make([]float64, n)
	case F16, BF16:
		return make([]uint16, n)
	case Bool:
		return make([]bool, n)
	case Bipolar:
		return make([]int8, n)
	case String:
		return make([]string, n)
	}
	signed := e.Kind() == IntKind
	switch e.ContainerBytes() {
	case 1:
		if signed {
			return make([]int8, n)
		}
		return make([]uint8, n)
	case 2:
		if signed {
			return make([]int16, n)
		}
		return make([]uint16, n)
	case 4:
		if signed {
			return make([]int32, n)
		}
		return make([]uint32, n)
	}
	if signed {
		return make([]int64, n)
	}
	return make([]uint64, n)
}

// ElemOf returns the element type that a Go type stands for by default:
// uint16 is U16 (never F16), int8 is I8.
func ElemOf[T Container]() Elem {
	var z T
	switch any(z).(type) {
	case float32:
		return F32
	case float64:
		return F64
	case int8:
		return I8
	case int16:
		return I16
	case int32:
		return I32
	case int64:
		return I64
	case uint8:
		return U8
	case uint16:
		return U16
	case uint32:
		return U32
	case uint64:
		return U64
	case bool:
		return Bool
	}
	return String
}

// Of wraps data, which it does not copy, as a tensor of T's default element
// type. It panics when the shape does not fit the data.
func Of[T Container](data []T, shape ...int) *Tensor { return OfElem(ElemOf[T](), data, shape...) }

// OfElem wraps data as a tensor of element type e, whose container must be T.
// It panics when shape, data and e do not fit together.
func OfElem[T Container](e Elem, data []T, shape ...int) *Tensor {
	if n, err := NumElems(shape); err != nil || n != len(data) {
		panic(fmt.Sprintf("tensor: %d elements do not fit shape %v", len(data), shape))
	}
	if _, ok := makeContainer(e, 0).([]T); !ok {
		panic(fmt.Sprintf("tensor: %T does not hold %v", data, e))
	}
	return &Tensor{elem: e, shape: slices.Clone(shape), data: data}
}

// Scalar returns a tensor of rank 0.
func Scalar[T Container](v T) *Tensor { return Of([]T{v}) }

// SequenceOf returns the sequence of the given tensors, which it does not
// copy. It panics when one of them has other elements than e.
func SequenceOf(e Elem, members ...*Tensor) *Tensor {
	for _, m := range members {
		if m.elem != e {
			panic(fmt.Sprintf("tensor: %v in a sequence of %v", m.elem, e))
		}
	}
	return &Tensor{elem: Sequence(e), shape: []int{len(members)}, data: members}
}

// Members returns the tensors of a sequence; callers must not change the
// slice. It panics when t is not a sequence.
func (t *Tensor) Members() []*Tensor { return t.data.([]*Tensor) }

// Data returns t's elements, shared with t: callers read, and only whoever
// allocated t writes. It panics when T is not t's container type.
func Data[T Container](t *Tensor) []T {
	d, ok := t.data.([]T)
	if !ok {
		var z T
		panic(fmt.Sprintf("tensor: %v read as %T", t.elem, z))
	}
	return d
}

// Elem returns t's element type.
func (t *Tensor) Elem() Elem { return t.elem }

// Shape returns t's dimensions; callers must not change them.
func (t *Tensor) Shape() []int { return t.shape }

// Rank returns the number of dimensions.
func (t *Tensor) Rank() int { return len(t.shape) }

// Len returns the number of elements.
func (t *Tensor) Len() int {
	n, _ := NumElems(t.shape)
	return n
}

// Container returns the slice that holds t's elements, for type switches.
func (t *Tensor) Container() any { return t.data }

// Reshape returns a tensor of another shape over the same data; it panics when
// the number of elements differs.
func (t *Tensor) Reshape(shape ...int) *Tensor {
	if n, err := NumElems(shape); err != nil || n != t.Len() {
		panic(fmt.Sprintf("tensor: cannot reshape %v to %v", t.shape, shape))
	}
	return &Tensor{elem: t.elem, shape: slices.Clone(shape), data: t.data}
}

// WithElem returns a tensor over the same data with another element type of
// the same container, as in i8 to i5 or u16 to f16. It does not check that the
// values fit; CheckRange does.
func (t *Tensor) WithElem(e Elem) *Tensor {
	if fmt.Sprintf("%T", makeContainer(e, 0)) != fmt.Sprintf("%T", t.data) {
		panic(fmt.Sprintf("tensor: %v does not fit the container of %v", e, t.elem))
	}
	return &Tensor{elem: e, shape: t.shape, data: t.data}
}

// CheckRange reports the first element that lies outside an integer type's range.
func (t *Tensor) CheckRange() error {
	if !t.elem.IsInt() && t.elem != Bipolar {
		return nil
	}
	lo, hi := t.elem.Range()
	if t.elem == U64 {
		return nil
	}
	for i, v := range t.Int64s() {
		if v < lo || v > hi || t.elem == Bipolar && v == 0 {
			return fmt.Errorf("element %d is %d, outside %v", i, v, t.elem)
		}
	}
	return nil
}

// Equal reports whether a and b have the same element type, shape and bits;
// NaNs with equal bits are equal, +0 and −0 are not.
func Equal(a, b *Tensor) bool {
	if a.elem != b.elem || !slices.Equal(a.shape, b.shape) {
		return false
	}
	switch x := a.data.(type) {
	case []float32:
		return slices.EqualFunc(x, b.data.([]float32), func(p, q float32) bool { return math.Float32bits(p) == math.Float32bits(q) })
	case []float64:
		return slices.EqualFunc(x, b.data.([]float64), func(p, q float64) bool { return math.Float64bits(p) == math.Float64bits(q) })
	case []int8:
		return slices.Equal(x, b.data.([]int8))
	case []int16:
		return slices.Equal(x, b.data.([]int16))
	case []int32:
		return slices.Equal(x, b.data.([]int32))
	case []int64:
		return slices.Equal(x, b.data.([]int64))
	case []uint8:
		return slices.Equal(x, b.data.([]uint8))
	case []uint16:
		return slices.Equal(x, b.data.([]uint16))
	case []uint32:
		return slices.Equal(x, b.data.([]uint32))
	case []uint64:
		return slices.Equal(x, b.data.([]uint64))
	case []bool:
		return slices.Equal(x, b.data.([]bool))
	case []string:
		return slices.Equal(x, b.data.([]string))
	case []*Tensor:
		return slices.EqualFunc(x, b.data.([]*Tensor), Equal)
	}
	return false
}
