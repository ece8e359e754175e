package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// axisOf returns an axis counted from 0 for one that may count from the end.
func axisOf(axis, rank int) (int, error) {
	if axis < -rank || axis >= rank {
		return 0, fmt.Errorf("axis %d is outside rank %d", axis, rank)
	}
	if axis < 0 {
		axis += rank
	}
	return axis, nil
}

// axesOf is axisOf for a list, in which no axis may stand twice.
func axesOf(axes []int64, rank int) ([]int, error) {
	out := make([]int, len(axes))
	seen := make([]bool, rank)
	for i, a := range axes {
		k, err := axisOf(int(a), rank)
		if err != nil {
			return nil, err
		}
		if seen[k] {
			return nil, fmt.Errorf("axis %d stands twice in %v", a, axes)
		}
		out[i], seen[k] = k, true
	}
	return out, nil
}

// stridesOf returns the row-major strides of a shape, in elements.
func stridesOf(shape []int) []int {
	out := make([]int, len(shape))
	s := 1
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = s
		s *= shape[i]
	}
	return out
}

// sizeOf returns the number of elements of a shape that is known to be good.
func sizeOf(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// broadcastDims returns the multidirectional broadcast of shapes that may be
// symbolic. A symbol that meets a number other than 1 is taken to be that
// number or 1; what two different symbols give is unknown.
func broadcastDims(shapes ...[]ir.Dim) ([]ir.Dim, error) {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out := make([]ir.Dim, rank)
	for i := range out {
		out[i] = ir.Fixed(1)
		for _, s := range shapes {
			j := i - rank + len(s)
			if j < 0 || s[j] == ir.Fixed(1) {
				continue
			}
			switch d := s[j]; {
			case out[i] == ir.Fixed(1) || out[i].Same(d):
				out[i] = d
			case out[i].Known() && d.Known():
				return nil, fmt.Errorf("shapes %s do not broadcast", listDims(shapes))
			case d.Known():
				out[i] = d
			case !out[i].Known():
				out[i] = ir.Unknown
			}
		}
	}
	return out, nil
}

func listDims(shapes [][]ir.Dim) string {
	out := ""
	for i, s := range shapes {
		if i > 0 {
			out += ", "
		}
		t := ir.TensorType(tensor.Invalid, s...).String()
		out += t[len(tensor.Invalid.String()):]
	}
	return out
}

// broadcastType returns the type of elements e and the broadcast of the shapes
// of types; it is unranked when one of them is.
func broadcastType(e tensor.Elem, types ...ir.Type) (ir.Type, error) {
	shapes := make([][]ir.Dim, len(types))
	for i, t := range types {
		if t.Unranked {
			return ir.UnrankedType(e), nil
		}
		shapes[i] = t.Dims
	}
	dims, err := broadcastDims(shapes...)
	return ir.TensorType(e, dims...), err
}

// broadcastShape is broadcastDims for shapes of numbers.
func broadcastShape(shapes ...[]int) ([]int, error) {
	dims := make([][]ir.Dim, len(shapes))
	for i, s := range shapes {
		dims[i] = ir.Dims(s...)
	}
	out, err := broadcastDims(dims...)
	if err != nil {
		return nil, err
	}
	shape, _ := ir.TensorType(tensor.Invalid, out...).Static()
	return shape, nil
}

// broadcast expands tensors to their common shape; those that have it already
// are returned as they are.
func broadcast(ts ...*tensor.Tensor) ([]*tensor.Tensor, error) {
	shapes := make([][]int, len(ts))
	for i, t := range ts {
		shapes[i] = t.Shape()
	}
	shape, err := broadcastShape(shapes...)
	if err != nil {
		return nil, err
	}
	out := make([]*tensor.Tensor, len(ts))
	for i, t := range ts {
		if out[i], err = expand(t, shape); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// expand repeats t's elements so that it has the given shape, to which it must
// broadcast.
func expand(t *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
	if slices.Equal(t.Shape(), shape) {
		return t, nil
	}
	lead := len(shape) - t.Rank()
	for i, d := range t.Shape() {
		if lead < 0 || d != 1 && d != shape[lead+i] {
			return nil, fmt.Errorf("shape %v does not broadcast to %v", t.Shape(), shape)
		}
	}
	step := make([]int, len(shape)) // 0 where t is repeated
	for i, s := range stridesOf(t.Shape()) {
		if t.Shape()[i] != 1 {
			step[lead+i] = s
		}
	}
	return pick(t, shape, indexWalk(shape, step, 0))
}

// indexWalk yields, for every element of shape in row-major order, start plus
// the sum of its coordinates times step.
func indexWalk(shape, step []int, start int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, d := range shape {
			if d == 0 {
				return
			}
		}
		at := make([]int, len(shape))
		pos := start
		for {
			if !yield(pos) {
				return
			}
			i := len(shape) - 1
			for ; i >= 0; i-- {
				pos += step[i]
				if at[i]++; at[i] < shape[i] {
					break
				}
				pos -= step[i] * shape[i]
				at[i] = 0
			}
			if i < 0 {
				return
			}
		}
	}
}

// pick returns a tensor of the given shape whose elements, in order, are those
// of t at the flat indices that index yields. A negative index leaves a zero.
func pick(t *tensor.Tensor, shape []int, index func(yield func(int) bool)) (*tensor.Tensor, error) {
	out, err := tensor.Alloc(t.Elem(), shape...)
	if err != nil {
		return nil, err
	}
	switch src := t.Container().(type) {
	case []float32:
		pickInto(tensor.Data[float32](out), src, index)
	case []float64:
		pickInto(tensor.Data[float64](out), src, index)
	case []int8:
		pickInto(tensor.Data[int8](out), src, index)
	case []int16:
		pickInto(tensor.Data[int16](out), src, index)
	case []int32:
		pickInto(tensor.Data[int32](out), src, index)
	case []int64:
		pickInto(tensor.Data[int64](out), src, index)
	case []uint8:
		pickInto(tensor.Data[uint8](out), src, index)
	case []uint16:
		pickInto(tensor.Data[uint16](out), src, index)
	case []uint32:
		pickInto(tensor.Data[uint32](out), src, index)
	case []uint64:
		pickInto(tensor.Data[uint64](out), src, index)
	case []bool:
		pickInto(tensor.Data[bool](out), src, index)
	case []string:
		pickInto(tensor.Data[string](out), src, index)
	}
	return out, nil
}

func pickInto[T any](dst, src []T, index func(yield func(int) bool)) {
	i := 0
	for j := range index {
		if j >= 0 {
			dst[i] = src[j]
		}
		i++
	}
}

// one wraps the single output of an evaluation.
func one(t *tensor.Tensor, err error) ([]*tensor.Tensor, error) {
	if err != nil {
		return nil, err
	}
	return []*tensor.Tensor{t}, nil
}

// sameType is the shape rule of operators whose only output is like their
// first input.
func sameType(n *ir.Node) ([]ir.Type, error) {
	x := n.In[0].Type
	return []ir.Type{x.WithElem(x.Elem)}, nil
}

// floatType is sameType for operators on floating-point numbers.
func floatType(n *ir.Node) ([]ir.Type, error) {
	if err := wantFloat(n, 0); err != nil {
		return nil, err
	}
	return sameType(n)
}

// wantFloat checks that input i is of a floating-point type, and that the
// inputs named in like have the same one; absent inputs pass.
func wantFloat(n *ir.Node, i int, like ...int) error {
	t := n.In[i].Type
	if !t.Elem.IsFloat() {
		return fmt.Errorf("%s is %v, expected floating point", portName(n, i), t)
	}
	return wantLike(n, i, like...)
}

// wantLike checks that the inputs named in like have the element type of
// input i; absent inputs pass.
func wantLike(n *ir.Node, i int, like ...int) error {
	t := n.In[i].Type
	for _, j := range like {
		if v := n.Input(j); v != nil && v.Type.Elem != t.Elem {
			return fmt.Errorf("%s is %v, expected elements of %v as in %s", portName(n, j), v.Type, t.Elem, portName(n, i))
		}
	}
	return nil
}

// wantRank checks the rank of input i, which may be absent or of unknown rank.
func wantRank(n *ir.Node, i, rank int) error {
	if v := n.Input(i); v != nil && !v.Type.Unranked && v.Type.Rank() != rank {
		return fmt.Errorf("%s is %v, expected rank %d", portName(n, i), v.Type, rank)
	}
	return nil
}

func portName(n *ir.Node, i int) string {
	ports := n.Op.Inputs()
	return ports[min(i, len(ports)-1)].Name
}

// mapFloat applies f to every element of a floating-point tensor; f16 and bf16
// are computed in f32 and rounded.
func mapFloat(x *tensor.Tensor, f func(float32) float32, f64 func(float64) float64) (*tensor.Tensor, error) {
	if x.Elem() == tensor.F64 {
		src := tensor.Data[float64](x)
		y := make([]float64, len(src))
		for i, v := range src {
			y[i] = f64(v)
		}
		return tensor.Of(y, x.Shape()...), nil
	}
	if !x.Elem().IsFloat() {
		return nil, fmt.Errorf("elements of type %v, expected floating point", x.Elem())
	}
	src := x.Float32s()
	y := make([]float32, len(src))
	for i, v := range src {
		y[i] = f(v)
	}
	return tensor.FromFloat32s(x.Elem(), y, x.Shape()...), nil
}
