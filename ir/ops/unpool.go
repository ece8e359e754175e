package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "MaxUnpool", Since: 9,
	Doc: `Puts every element of X where MaxPool found it: at its flat position in the
shape that pooling would have had as input; zeros elsewhere. If output_shape is
larger than that shape, zeros follow at the end of each dimension.`,
	In: "X, I, output_shape?", Out: "output",
	Attrs: []ir.AttrSpec{
		kernelSpec,
		{Name: "pads", Kind: ir.IntsAttr, Doc: "the padding of the pooling; 0 if absent"},
		{Name: "strides", Kind: ir.IntsAttr, Doc: "the strides of the pooling; 1 if absent"},
	},
	Grad: gradMaxUnpool,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x, at := n.In[0].Type, n.In[1].Type
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		if at.Elem != tensor.I64 || !at.WithElem(x.Elem).Compatible(x) {
			return nil, fmt.Errorf("I is %v, expected i64 and the shape of X, %v", at, x)
		}
		if x.Unranked {
			return []ir.Type{x}, nil
		}
		dims, err := unpoolDims(n, x.Dims)
		if err != nil {
			return nil, err
		}
		if s := n.Input(2); s != nil {
			if s.Type.Elem != tensor.I64 || !s.Type.Unranked && s.Type.Rank() != 1 {
				return nil, fmt.Errorf("output_shape is %v, expected i64 of one dimension", s.Type)
			}
			given := s.Contents
			for i := range dims {
				if given != nil && len(given) != len(dims) {
					return nil, fmt.Errorf("output_shape has %d elements, expected %d", len(given), len(dims))
				}
				if given == nil {
					dims[i] = ir.Unknown
					continue
				}
				if given[i].Known() && dims[i].Known() && given[i].N < dims[i].N {
					return nil, fmt.Errorf("output_shape is %v, less than the %v that pooling had", given, dims)
				}
				dims[i] = given[i]
			}
		}
		return []ir.Type{x.WithDims(dims...)}, nil
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		dims, err := unpoolDims(n, ir.Dims(in[0].Shape()...))
		if err != nil {
			return nil, err
		}
		shape, _ := ir.TensorType(tensor.F32, dims...).Static()
		size, err := tensor.NumElems(shape)
		if err != nil {
			return nil, err
		}
		from := map[int]int{}
		for i, p := range in[1].Int64s() {
			if p < 0 || p >= int64(size) {
				return nil, fmt.Errorf("I has position %d, outside shape %v", p, shape)
			}
			from[int(p)] = i
		}
		full := shape
		if len(in) > 2 && in[2] != nil {
			full = make([]int, len(shape))
			given := in[2].Int64s()
			if len(given) != len(shape) {
				return nil, fmt.Errorf("output_shape is %v, expected %d numbers", given, len(shape))
			}
			for i, d := range given {
				if d < int64(shape[i]) || d > tensor.MaxBytes {
					return nil, fmt.Errorf("output_shape is %v, less than the %v that pooling had, or too large", given, shape)
				}
				full[i] = int(d)
			}
		}
		return one(pick(in[0], full, func(yield func(int) bool) {
			at, step := make([]int, len(full)), stridesOf(shape)
			for range sizeOf(full) {
				pos, inside := 0, true
				for i, a := range at {
					inside = inside && a < shape[i]
					pos += a * step[i]
				}
				src, ok := from[pos]
				if !ok || !inside {
					src = -1
				}
				if !yield(src) {
					return
				}
				count(at, full)
			}
		}))
	},
})

// unpoolDims returns the shape whose pooling gives x.
func unpoolDims(n *ir.Node, x []ir.Dim) ([]ir.Dim, error) {
	if len(x) < 3 {
		return nil, fmt.Errorf("X has %d dimensions, expected at least three", len(x))
	}
	win, err := windowOf(n, nil, len(x)-2)
	if err != nil {
		return nil, err
	}
	dims := append([]ir.Dim{}, x...)
	for i, d := range x[2:] {
		dims[i+2] = ir.Unknown
		if d.Known() {
			size := (d.N-1)*win.Stride[i] + win.Kernel[i] - win.PadLo[i] - win.PadHi[i]
			if size < 0 {
				return nil, fmt.Errorf("spatial dimension %d would be %d", i, size)
			}
			dims[i+2] = ir.Fixed(size)
		}
	}
	return dims, nil
}
