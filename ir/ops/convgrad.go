package ops

import (
	"fmt"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var convGradSpecs = append([]ir.AttrSpec{
	{Name: "group", Kind: ir.IntAttr, Default: int64(1), Doc: "as of the convolution"},
}, windowSpecs...)

func gradConv(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	dy := dout[0]
	if n.In[1].Type.Unranked || n.In[1].Type.Rank() < 3 {
		return nil, fmt.Errorf("the gradient needs the shape of W, it is %v", n.In[1].Type)
	}
	a := b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
	a.Set("kernel_shape", b.spatial(n.In[1]))
	dw := b.add("thriftc.ConvGradWeight", a, n.In[0], dy)
	a = b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
	a.Set("spatial", b.spatial(n.In[0]))
	dx := b.add("thriftc.ConvGradInput", a, dy, n.In[1])
	return b.done(dx, dw, b.biasGrad(dy))
}

func gradConvTranspose(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if n.HasAttr("output_shape") || strings.HasPrefix(n.Str("auto_pad"), "SAME") {
		return b.done(b.fail("the gradient needs pads in place of output_shape and auto_pad"))
	}
	a := b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
	dx := b.add("Conv", a, dout[0], n.In[1])
	a = b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
	a.Set("kernel_shape", b.spatial(n.In[1]))
	dw := b.add("thriftc.ConvGradWeight", a, dout[0], n.In[0])
	return b.done(dx, dw, b.biasGrad(dout[0]))
}

// biasGrad returns the sum of dy over everything but channels, nil if the node has no bias.
func (b *backprop) biasGrad(dy *ir.Value) *ir.Value {
	if b.n.Input(2) == nil {
		return nil
	}
	return b.channelSum(dy)
}

var _ = define(ir.Op{
	Name: "thriftc.ConvGradInput",
	Doc: `The gradient of Conv with respect to X. Every element is the sum of dY·W over the
output channels of its group, then the output positions whose windows hold it in
row-major order (kernel rows and columns from the last to the first). The sum
starts at +0 and each product is added with one rounding (fused multiply-add).
f16 and bf16 are computed in f32 and rounded at the end.`,
	In: "dY, W", Out: "dX",
	Attrs: append([]ir.AttrSpec{spatialSpec}, convGradSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := checkConv(n, 0, 1); err != nil {
			return nil, err
		}
		dy, w := n.In[0].Type, n.In[1].Type
		if dy.Unranked || w.Unranked {
			return []ir.Type{ir.UnrankedType(dy.Elem)}, nil
		}
		if m := w.Dims[0]; !m.MayEqual(dy.Dims[1]) || m.Known() && m.N%n.Int("group") != 0 {
			return nil, fmt.Errorf("dY is %v and W %v in %d groups", dy, w, n.Int("group"))
		}
		kernel, ok := w.WithDims(w.Dims[2:]...).Static()
		if !ok {
			return nil, fmt.Errorf("W is %v, expected a known kernel", w)
		}
		win, err := windowBack(n, kernel, dy)
		if err != nil {
			return nil, err
		}
		return []ir.Type{dy.WithDims(append([]ir.Dim{dy.Dims[0], times(w.Dims[1], n.Int("group"))}, ir.Dims(win.In...)...)...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		return ir.Cost{MACs: elemCount(n.In[0].Type) * kernelCount(n.In[1].Type)}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(convGradInput[float64](n, in))
		}
		return one(convGradInput[float32](n, in))
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		a := b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
		dy := b.add("Conv", a, dout[0], n.In[1])
		a = b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
		a.Set("kernel_shape", b.spatial(n.In[1]))
		return b.done(dy, b.add("thriftc.ConvGradWeight", a, dout[0], n.In[0]))
	},
})

func convGradInput[T float](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	ys, ws := in[0].Shape(), in[1].Shape()
	win, err := windowBack(n, ws[2:], ir.TypeOf(in[0]))
	if err != nil {
		return nil, err
	}
	group := n.Int("group")
	shape := append([]int{ys[0], ws[1] * group}, win.In...)
	dx, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	dy, w := numbers[T](in[0]), numbers[T](in[1])
	runs, stride := win.runs(), win.Stride[len(win.Stride)-1]
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	perGroup := ws[0] / group
	for b := range ys[0] {
		for m := range ws[0] {
			plane := dy[(b*ws[0]+m)*outPlane:][:outPlane]
			for ci := range ws[1] {
				c := m/perGroup*ws[1] + ci
				acc := dx[(b*shape[1]+c)*inPlane:][:inPlane]
				for t := len(runs) - 1; t >= 0; t-- {
					v := w[(m*ws[1]+ci)*len(runs)+t]
					for _, r := range runs[t] {
						axpy(acc[r.in:], stride, plane[r.at:], 1, v, r.n)
					}
				}
			}
		}
	}
	return fromNumbers(in[0].Elem(), dx, shape...), nil
}

var _ = define(ir.Op{
	Name: "thriftc.ConvGradWeight",
	Doc: `The gradient of Conv with respect to W. Every element is the sum of dY·X over the
images and output positions. The images fall into 8 groups of equal size (group g
begins at image g·N/8, rounded down); the sum of a group starts at +0, takes images
in order and positions in row-major order, skipping taps in the padding, and adds
each product with one rounding (fused multiply-add); the sums of the groups are
added in order. f16 and bf16 are computed in f32 and rounded at the end.`,
	In: "X, dY", Out: "dW",
	Attrs: append([]ir.AttrSpec{
		{Name: "kernel_shape", Kind: ir.IntsAttr, Required: true, Doc: "the kernel's spatial shape"},
	}, convGradSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0, 1); err != nil {
			return nil, err
		}
		x, dy := n.In[0].Type, n.In[1].Type
		if x.Unranked || dy.Unranked {
			return []ir.Type{ir.UnrankedType(x.Elem)}, nil
		}
		if x.Rank() < 3 || x.Rank() != dy.Rank() || !x.Dims[0].MayEqual(dy.Dims[0]) {
			return nil, fmt.Errorf("X is %v and dY %v", x, dy)
		}
		win, err := windowOf(n, nil, x.Rank()-2)
		if err != nil {
			return nil, err
		}
		for i, d := range x.Dims[2:] {
			if out, err := win.outDim(n, i, d); err != nil || !out.MayEqual(dy.Dims[i+2]) {
				return nil, fmt.Errorf("X is %v and dY %v with kernel %v", x, dy, win.Kernel)
			}
		}
		group, c := n.Int("group"), x.Dims[1]
		if group < 1 || group > maxWindow || c.Known() && c.N%group != 0 || dy.Dims[1].Known() && dy.Dims[1].N%group != 0 {
			return nil, fmt.Errorf("X is %v and dY %v in %d groups", x, dy, group)
		}
		if c.Known() {
			c.N /= group
		} else if group > 1 {
			c = ir.Unknown
		}
		return []ir.Type{x.WithDims(append([]ir.Dim{dy.Dims[1], c}, ir.Dims(win.Kernel...)...)...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		return ir.Cost{MACs: elemCount(n.In[1].Type) * kernelCount(n.Out[0].Type)}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(convGradWeight[float64](n, in))
		}
		return one(convGradWeight[float32](n, in))
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		a := b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
		dy := b.add("Conv", a, n.In[0], dout[0])
		a = b.copyAttrs("group", "auto_pad", "dilations", "pads", "strides")
		a.Set("spatial", b.spatial(n.In[0]))
		return b.done(b.add("thriftc.ConvGradInput", a, n.In[1], dout[0]), dy)
	},
})

func convGradWeight[T float](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	xs, ys := in[0].Shape(), in[1].Shape()
	win, err := windowOf(n, nil, len(xs)-2)
	if err != nil {
		return nil, err
	}
	if err := win.resolve(n, xs[2:]); err != nil {
		return nil, err
	}
	group := n.Int("group")
	cg := xs[1] / group
	shape := append([]int{ys[1], cg}, win.Kernel...)
	dw, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	x, dy := numbers[T](in[0]), numbers[T](in[1])
	runs, stride := win.runs(), win.Stride[len(win.Stride)-1]
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	for i := range dw {
		m, ci, tap := i/len(runs)/cg, i/len(runs)%cg, i%len(runs)
		c := m/(ys[1]/group)*cg + ci
		for g := range imageGroups {
			var acc T
			lo, hi := imageGroup(g, xs[0])
			for b := lo; b < hi; b++ {
				px, py := x[(b*xs[1]+c)*inPlane:][:inPlane], dy[(b*ys[1]+m)*outPlane:][:outPlane]
				for _, r := range runs[tap] {
					for k := range r.n {
						acc = fma(px[r.in+k*stride], py[r.at+k], acc)
					}
				}
			}
			if g == 0 {
				dw[i] = acc
			} else {
				dw[i] += acc
			}
		}
	}
	return fromNumbers(in[0].Elem(), dw, shape...), nil
}
