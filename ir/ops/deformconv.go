package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "DeformConv", Since: 19,
	Roles: []ir.Role{1: ir.Weight, 3: ir.Bias}, Layer: &ir.Layer{},
	Doc: `Convolution in two dimensions whose taps are moved by offset (rows, then columns,
for every tap of every output position) and scaled by mask. A tap between
positions is interpolated from its four neighbours, which are 0 outside the
input; the four products are added with one rounding each, upper row first.
The sum over taps is that of Conv.`,
	In: "X, W, offset, B?, mask?", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "dilations", Kind: ir.IntsAttr, Doc: "the distance of taps in each spatial dimension; 1 if absent"},
		{Name: "group", Kind: ir.IntAttr, Default: int64(1), Doc: "the number of groups of channels"},
		{Name: "kernel_shape", Kind: ir.IntsAttr, Doc: "the kernel's spatial shape; that of W if absent"},
		{Name: "offset_group", Kind: ir.IntAttr, Default: int64(1), Doc: "the number of groups of input channels with offsets of their own"},
		{Name: "pads", Kind: ir.IntsAttr, Doc: "the padding at the start of each spatial dimension, then at the end of each; 0 if absent"},
		{Name: "strides", Kind: ir.IntsAttr, Doc: "the distance of windows in each spatial dimension; 1 if absent"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := checkConv(n, 0, 1); err != nil {
			return nil, err
		}
		if err := wantLike(n, 0, 2, 3, 4); err != nil {
			return nil, err
		}
		for _, i := range []int{0, 1, 2, 4} {
			if err := wantRank(n, i, 4); err != nil {
				return nil, err
			}
		}
		x, w := n.In[0].Type, n.In[1].Type
		if x.Unranked || w.Unranked {
			return []ir.Type{ir.UnrankedType(x.Elem)}, nil
		}
		groups, og := n.Int("group"), n.Int("offset_group")
		if c := x.Dims[1]; !times(w.Dims[1], groups).MayEqual(c) || og < 1 || c.Known() && c.N%og != 0 {
			return nil, fmt.Errorf("X is %v and W %v in %d groups with %d groups of offsets: the channels do not fit", x, w, groups, og)
		}
		if m := w.Dims[0]; m.Known() && m.N%groups != 0 {
			return nil, fmt.Errorf("W is %v, its first dimension no multiple of the %d groups", w, groups)
		}
		if err := checkBias(n, 3, w.Dims[0]); err != nil {
			return nil, err
		}
		dims, err := convDims(n, x, w)
		if err != nil {
			return nil, err
		}
		taps := times(dimProduct(w.Dims[2:]), og)
		for i, per := range map[int]int{2: 2, 4: 1} {
			v := n.Input(i)
			if v == nil || v.Type.Unranked {
				continue
			}
			want := x.WithDims(x.Dims[0], times(taps, per), dims[2], dims[3])
			if !v.Type.Compatible(want) {
				return nil, fmt.Errorf("%s is %v, expected %v", portName(n, i), v.Type, want)
			}
		}
		return []ir.Type{x.WithDims(dims...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		m := elemCount(n.Out[0].Type) * kernelCount(n.In[1].Type)
		return ir.Cost{MACs: 5 * m}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(deformConv[float64](n, in))
		}
		return one(deformConv[float32](n, in))
	},
})

func deformConv[T float](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	xs, ws := in[0].Shape(), in[1].Shape()
	win, err := windowOf(n, ws[2:], 2)
	if err != nil {
		return nil, err
	}
	if err := win.resolve(n, xs[2:]); err != nil {
		return nil, err
	}
	shape := append([]int{xs[0], ws[0]}, win.Out...)
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	x, w, offset := numbers[T](in[0]), numbers[T](in[1]), numbers[T](in[2])
	var mask []T
	if len(in) > 4 && in[4] != nil {
		mask = numbers[T](in[4])
	}
	inPlane, outPlane, taps := sizeOf(win.In), sizeOf(win.Out), sizeOf(win.Kernel)
	og := n.Int("offset_group")
	perGroup, perOffset := ws[0]/n.Int("group"), xs[1]/og
	if want := xs[0] * og * taps * 2 * outPlane; len(offset) != want || mask != nil && 2*len(mask) != want {
		return nil, fmt.Errorf("offset and mask do not fit the output's shape %v", shape)
	}
	sampled := make([]T, outPlane)
	for b := range xs[0] {
		for m := range ws[0] {
			acc := y[(b*ws[0]+m)*outPlane:][:outPlane]
			for ci := range ws[1] {
				c := m/perGroup*ws[1] + ci
				plane := x[(b*xs[1]+c)*inPlane:][:inPlane]
				for t := range taps {
					at := (b*og+c/perOffset)*taps + t
					kh, kw := t/win.Kernel[1], t%win.Kernel[1]
					for o := range sampled {
						row := T(o/win.Out[1]*win.Stride[0]-win.PadLo[0]+kh*win.Dilation[0]) + offset[2*at*outPlane+o]
						col := T(o%win.Out[1]*win.Stride[1]-win.PadLo[1]+kw*win.Dilation[1]) + offset[(2*at+1)*outPlane+o]
						sampled[o] = bilinear(plane, win.In[0], win.In[1], row, col)
						if mask != nil {
							sampled[o] = T(sampled[o] * mask[at*outPlane+o])
						}
					}
					axpy(acc, 1, sampled, 1, w[(m*ws[1]+ci)*taps+t], outPlane)
				}
			}
		}
	}
	if len(in) > 3 && in[3] != nil {
		addBias(y, numbers[T](in[3]), outPlane)
	}
	return fromNumbers(in[0].Elem(), y, shape...), nil
}

// bilinear returns the plane's value between positions; outside it is 0.
func bilinear[T float](plane []T, rows, cols int, row, col T) T {
	if !(row > -1 && row < T(rows) && col > -1 && col < T(cols)) {
		return 0
	}
	r, c := T(math.Floor(float64(row))), T(math.Floor(float64(col)))
	fr, fc := row-r, col-c
	var sum T
	for i, wr := range []T{1 - fr, fr} {
		for j, wc := range []T{1 - fc, fc} {
			if y, x := int(r)+i, int(c)+j; y >= 0 && y < rows && x >= 0 && x < cols {
				sum = fma(plane[y*cols+x], T(wr*wc), sum)
			}
		}
	}
	return sum
}
