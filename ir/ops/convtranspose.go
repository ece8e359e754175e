package ops

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "ConvTranspose", PerSample: byFirst, Since: 1,
	Roles: []ir.Role{1: ir.Weight, 2: ir.Bias}, Layer: &ir.Layer{Channels: fixedChannels(1, 0)},
	Doc: `Transposed convolution: every element of X is spread over the output positions
that a convolution with kernel W would have read to compute it. Every output is
the sum over input channels of its group, kernel rows and kernel columns, in
this order; it starts at +0, each product is added with one rounding (fused
multiply-add), and the bias B is added last. Along each spatial dimension the
output has stride·(in − 1) + output_padding + dilation·(kernel − 1) + 1 − pads.`,
	In: "X, W, B?", Out: "Y",
	Attrs: append([]ir.AttrSpec{
		{Name: "group", Kind: ir.IntAttr, Default: int64(1), Doc: "the number of groups: output channels see only the input channels of their group"},
		{Name: "kernel_shape", Kind: ir.IntsAttr, Doc: "the kernel's spatial shape; that of W if absent"},
		{Name: "output_padding", Kind: ir.IntsAttr, Doc: "what is added to the output's size at the end of each spatial dimension; 0 if absent"},
		{Name: "output_shape", Kind: ir.IntsAttr, Doc: "the output's spatial shape; padding follows from it, and pads is ignored"},
	}, windowSpecs...),
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		x, xok := n.In[0].Type.Static()
		w, wok := n.In[1].Type.Static()
		if !xok || !wok || len(x) < 3 || len(w) != len(x) {
			return nil // of symbolic shape, or wrong: inference reports that
		}
		win, extra, err := transposedWindow(n, w[2:], x[2:])
		if err != nil {
			return nil
		}
		if n.Ints("output_shape") != nil || strings.HasPrefix(n.Str("auto_pad"), "SAME") {
			r.SetAttr(n, "pads", slices.Concat(win.PadLo, win.PadHi))
			r.SetAttr(n, "output_padding", extra)
			r.DeleteAttr(n, "output_shape")
		} else if n.Str("auto_pad") == "VALID" {
			r.DeleteAttr(n, "pads")
		}
		r.DeleteAttr(n, "auto_pad")
		return nil
	},
	Grad: gradConvTranspose,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := checkConv(n, 0, 1); err != nil {
			return nil, err
		}
		x, w, group := n.In[0].Type, n.In[1].Type, n.Int("group")
		if x.Unranked || w.Unranked {
			return []ir.Type{ir.UnrankedType(x.Elem)}, nil
		}
		if !x.Dims[1].MayEqual(w.Dims[0]) || x.Dims[1].Known() && x.Dims[1].N%group != 0 {
			return nil, fmt.Errorf("X is %v and W %v in %d groups: the channels do not fit", x, w, group)
		}
		dims := append([]ir.Dim{x.Dims[0], times(w.Dims[1], group)}, slices.Repeat([]ir.Dim{ir.Unknown}, x.Rank()-2)...)
		if err := checkBias(n, 2, dims[1]); err != nil {
			return nil, err
		}
		kernel, ok := w.WithDims(w.Dims[2:]...).Static()
		if !ok {
			return []ir.Type{x.WithDims(dims...)}, nil
		}
		for i, d := range x.Dims[2:] {
			if !d.Known() {
				continue
			}
			// Dimensions are independent of each other, so the others may be anything.
			in := slices.Repeat([]int{1 << 20}, len(kernel))
			in[i] = d.N
			win, _, err := transposedWindow(n, kernel, in)
			if err != nil {
				return nil, err
			}
			if win.In[i] < 0 {
				return nil, fmt.Errorf("spatial dimension %d would be %d", i, win.In[i])
			}
			dims[i+2] = ir.Fixed(win.In[i])
		}
		return []ir.Type{x.WithDims(dims...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		c := ir.Cost{MACs: elemCount(n.In[0].Type) * kernelCount(n.In[1].Type)}
		if n.Input(2) != nil {
			c.Adds = elemCount(n.Out[0].Type)
		}
		return c
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(convTranspose[float64](n, in))
		}
		return one(convTranspose[float32](n, in))
	},
})

// transposedWindow returns the geometry of the convolution whose transpose the
// node is (its In is the node's output and its Out the node's input), and what
// the node's output is longer than that convolution needs.
func transposedWindow(n *ir.Node, kernel, in []int) (w *Window, extra []int, err error) {
	if w, err = windowOf(n, kernel, len(kernel)); err != nil {
		return nil, nil, err
	}
	numbersOf := func(name string) ([]int64, error) {
		v := n.Ints(name)
		if v == nil {
			return make([]int64, len(in)), nil
		}
		if len(v) != len(in) || slices.Min(v) < 0 || slices.Max(v) > maxWindow {
			return nil, fmt.Errorf("%s is %v, expected %d numbers from 0 to %d", name, v, len(in), maxWindow)
		}
		return v, nil
	}
	add, err := numbersOf("output_padding")
	if err != nil {
		return nil, nil, err
	}
	wanted, err := numbersOf("output_shape")
	if err != nil {
		return nil, nil, err
	}
	auto := n.Str("auto_pad")
	w.Out, w.In, extra = in, make([]int, len(in)), make([]int, len(in))
	for i := range in {
		extra[i] = int(add[i])
		full := w.Stride[i]*(in[i]-1) + extra[i] + w.span(i)
		size := in[i] * w.Stride[i]
		if n.Ints("output_shape") != nil {
			size = int(wanted[i])
		} else if !strings.HasPrefix(auto, "SAME") {
			w.In[i] = full - w.PadLo[i] - w.PadHi[i]
			continue
		}
		total := full - size
		if total < 0 { // longer than the kernel reaches: the end stays empty
			extra[i] -= total
			total = 0
		}
		w.In[i] = size
		w.PadLo[i], w.PadHi[i] = total-total/2, total/2
		if auto == "SAME_UPPER" {
			w.PadLo[i], w.PadHi[i] = total/2, total-total/2
		}
	}
	return w, extra, nil
}

// TransposedWindowOf returns the geometry of the convolution whose transpose a
// ConvTranspose of static shapes is: In is of n's output, Out of its input.
func TransposedWindowOf(n *ir.Node) (*Window, error) {
	x, ok1 := n.In[0].Type.Static()
	w, ok2 := n.In[1].Type.Static()
	if !ok1 || !ok2 {
		return nil, errors.New("the shapes are not known")
	}
	win, _, err := transposedWindow(n, w[2:], x[2:])
	return win, err
}

func convTranspose[T float](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	xs, ws, group := in[0].Shape(), in[1].Shape(), n.Int("group")
	win, _, err := transposedWindow(n, ws[2:], xs[2:])
	if err != nil {
		return nil, err
	}
	channels := ws[1] * group
	shape := append([]int{xs[0], channels}, win.In...)
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	x, w := numbers[T](in[0]), numbers[T](in[1])
	runs, stride := win.runs(), win.Stride[len(win.Stride)-1]
	inPlane, outPlane := sizeOf(win.Out), sizeOf(win.In)
	perGroup := xs[1] / group
	for b := range xs[0] {
		for m := range channels {
			acc := y[(b*channels+m)*outPlane:][:outPlane]
			for ci := range perGroup {
				c := m/ws[1]*perGroup + ci
				plane := x[(b*xs[1]+c)*inPlane:][:inPlane]
				for t, rs := range runs {
					v := w[(c*ws[1]+m%ws[1])*len(runs)+t]
					for _, r := range rs {
						axpy(acc[r.in:], stride, plane[r.at:], 1, v, r.n)
					}
				}
			}
		}
	}
	if len(in) > 2 && in[2] != nil {
		addBias(y, numbers[T](in[2]), outPlane)
	}
	return fromNumbers(in[0].Elem(), y, shape...), nil
}
