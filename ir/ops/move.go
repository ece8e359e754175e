package ops

import (
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// move copies n elements: for each i, at(i) says from where in t to where in out.
func move(out, t *tensor.Tensor, n int, at func(i int) (dst, src int)) {
	switch d := out.Container().(type) {
	case []float32:
		moveIn(d, tensor.Data[float32](t), n, at)
	case []float64:
		moveIn(d, tensor.Data[float64](t), n, at)
	case []int8:
		moveIn(d, tensor.Data[int8](t), n, at)
	case []int16:
		moveIn(d, tensor.Data[int16](t), n, at)
	case []int32:
		moveIn(d, tensor.Data[int32](t), n, at)
	case []int64:
		moveIn(d, tensor.Data[int64](t), n, at)
	case []uint8:
		moveIn(d, tensor.Data[uint8](t), n, at)
	case []uint16:
		moveIn(d, tensor.Data[uint16](t), n, at)
	case []uint32:
		moveIn(d, tensor.Data[uint32](t), n, at)
	case []uint64:
		moveIn(d, tensor.Data[uint64](t), n, at)
	case []bool:
		moveIn(d, tensor.Data[bool](t), n, at)
	case []string:
		moveIn(d, tensor.Data[string](t), n, at)
	}
}

func moveIn[T tensor.Container](dst, src []T, n int, at func(i int) (dst, src int)) {
	for i := range n {
		d, s := at(i)
		dst[d] = src[s]
	}
}

// mapAxes returns a tensor whose element (i₀,i₁,…) is t's element
// (from[0][i₀], from[1][i₁], …), or the single element of fill (zero if fill
// is nil) where one of these is negative.
func mapAxes(t *tensor.Tensor, from [][]int, fill *tensor.Tensor) (*tensor.Tensor, error) {
	shape := make([]int, len(from))
	for d := range from {
		shape[d] = len(from[d])
	}
	strides := stridesOf(t.Shape())
	var holes []int
	out, err := pick(t, shape, func(yield func(int) bool) {
		at := make([]int, len(shape))
		for i := range sizeOf(shape) {
			pos := 0
			for d, j := range at {
				if from[d][j] < 0 {
					pos = -1
					break
				}
				pos += from[d][j] * strides[d]
			}
			if pos < 0 && fill != nil {
				holes = append(holes, i)
			}
			if !yield(pos) {
				return
			}
			advance(at, shape)
		}
	})
	if err == nil && fill != nil {
		move(out, fill, len(holes), func(i int) (int, int) { return holes[i], 0 })
	}
	return out, err
}

// advance moves an index to the next one in row-major order.
func advance(at, shape []int) {
	for d := len(shape) - 1; d >= 0; d-- {
		if at[d]++; at[d] < shape[d] {
			return
		}
		at[d] = 0
	}
}

// splitAt returns the numbers of elements before, along and after an axis.
func splitAt(shape []int, axis int) (outer, size, inner int) {
	outer, inner = 1, 1
	for d, n := range shape {
		if d < axis {
			outer *= n
		} else if d > axis {
			inner *= n
		}
	}
	return outer, shape[axis], inner
}

// types and results spare the literal where one is returned.
func types(t ...ir.Type) ([]ir.Type, error) { return t, nil }

func results(t ...*tensor.Tensor) ([]*tensor.Tensor, error) { return t, nil }

// allAxes returns 0…rank−1.
func allAxes(rank int) []int {
	out := make([]int, rank)
	for i := range out {
		out[i] = i
	}
	return out
}
