package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var poolGradSpecs = append([]ir.AttrSpec{kernelSpec, ceilSpec}, windowSpecs...)

func gradMaxPool(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if dout[0] == nil {
		return b.done(nil)
	}
	a := b.copyAttrs("kernel_shape", "ceil_mode", "auto_pad", "dilations", "pads", "strides")
	return b.done(b.add("thriftc.MaxPoolGrad", a, dout[0], n.In[0]))
}

func gradGlobalMaxPool(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	return b.done(b.add("thriftc.MaxPoolGrad", ir.MakeAttrs("kernel_shape", b.spatial(n.In[0])), dout[0], n.In[0]))
}

func gradAveragePool(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	a := b.copyAttrs("kernel_shape", "ceil_mode", "count_include_pad", "auto_pad", "dilations", "pads", "strides")
	a.Set("spatial", b.spatial(n.In[0]))
	return b.done(b.add("thriftc.AveragePoolGrad", a, dout[0]))
}

func gradGlobalAveragePool(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	s := b.spatial(n.In[0])
	return b.done(b.add("thriftc.AveragePoolGrad", ir.MakeAttrs("kernel_shape", s, "spatial", s), dout[0]))
}

// powerSlope returns the derivative of |x|ᵖ/p with respect to x, the first factor of a
// norm's gradient, and d·y^(1−p), the second.
func (b *backprop) powerSlope(d, x, y *ir.Value) (first, second *ir.Value) {
	p := b.n.Int("p")
	if p == 1 {
		return b.fn("Sign", x), d
	}
	first, second = x, b.over(d, y)
	if p > 2 {
		first = b.times(x, b.add("Pow", nil, b.fn("Abs", x), b.number(x, float64(p-2))))
		second = b.over(d, b.add("Pow", nil, y, b.number(x, float64(p-1))))
	}
	return first, second
}

func gradGlobalLpPool(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	first, second := b.powerSlope(dout[0], n.In[0], n.Out[0])
	return b.done(b.times(first, second))
}

func gradLpPool(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	if n.Int("ceil_mode") != 0 {
		return b.done(b.fail("with ceil_mode it has no gradient"))
	}
	first, second := b.powerSlope(dout[0], n.In[0], n.Out[0])
	a := b.copyAttrs("kernel_shape", "auto_pad", "dilations", "pads", "strides")
	a.Set("spatial", b.spatial(n.In[0]))
	a.Set("count_include_pad", int64(1))
	taps := 1.0 // by which the mean divides
	for _, k := range n.Ints("kernel_shape") {
		taps *= float64(k)
	}
	return b.done(b.times(first, b.scaled(b.add("thriftc.AveragePoolGrad", a, second), taps)))
}

var _ = define(ir.Op{
	Name: "thriftc.MaxPoolGrad",
	Doc: `The gradient of MaxPool: every element of dY is added to the element of X that its
window took, in row-major order of dY.`,
	In: "dY, X", Out: "dX", Attrs: poolGradSpecs,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		dy, x := n.In[0].Type, n.In[1].Type
		if err := wantFloat(n, 0, 1); err != nil {
			return nil, err
		}
		if x.Unranked || dy.Unranked {
			return []ir.Type{x.WithElem(x.Elem)}, nil
		}
		if x.Rank() < 3 || dy.Rank() != x.Rank() {
			return nil, fmt.Errorf("dY is %v and X %v", dy, x)
		}
		win, err := windowOf(n, nil, x.Rank()-2)
		if err != nil {
			return nil, err
		}
		for i, d := range x.Dims {
			if i >= 2 {
				if d, err = win.outDim(n, i-2, d); err != nil {
					return nil, err
				}
			}
			if !d.MayEqual(dy.Dims[i]) {
				return nil, fmt.Errorf("dY is %v and X %v with kernel %v", dy, x, win.Kernel)
			}
		}
		return []ir.Type{x.WithElem(x.Elem)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		c := elemCount(n.In[0].Type)
		for _, k := range n.Ints("kernel_shape") {
			c *= k
		}
		return ir.Cost{Adds: c}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(maxPoolGrad(n, in, math.Inf(-1)))
		}
		return one(maxPoolGrad(n, in, float32(math.Inf(-1))))
	},
})

func maxPoolGrad[T float](n *ir.Node, in []*tensor.Tensor, least T) (*tensor.Tensor, error) {
	s := in[1].Shape()
	win, err := windowOf(n, nil, len(s)-2)
	if err != nil {
		return nil, err
	}
	if err := win.resolve(n, s[2:]); err != nil {
		return nil, err
	}
	dx, err := alloc[T](s...)
	if err != nil {
		return nil, err
	}
	x, dy := numbers[T](in[1]), numbers[T](in[0])
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	pos := make([]int, len(win.Out))
	var taps []int
	for o := range outPlane {
		taps, _ = win.taps(pos, taps[:0])
		for p := range s[0] * s[1] {
			best, at := least, -1
			for i, t := range taps {
				if v := x[p*inPlane+t]; i == 0 || v > best {
					best, at = v, t
				}
			}
			if at >= 0 {
				dx[p*inPlane+at] += dy[p*outPlane+o]
			}
		}
		count(pos, win.Out)
	}
	return fromNumbers(in[0].Elem(), dx, s...), nil
}

var _ = define(ir.Op{
	Name: "thriftc.AveragePoolGrad",
	Doc: `The gradient of AveragePool, and with one window over everything that of
GlobalAveragePool: every element of dY, divided by the number of elements that its
window counted and rounded, is added to them, in row-major order of dY.`,
	In: "dY", Out: "dX",
	Attrs: append([]ir.AttrSpec{spatialSpec,
		{Name: "count_include_pad", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "as of the pooling"},
	}, poolGradSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		dy := n.In[0].Type
		if dy.Unranked {
			return []ir.Type{dy}, nil
		}
		if dy.Rank() < 3 {
			return nil, fmt.Errorf("dY is %v, expected at least three dimensions", dy)
		}
		win, err := windowBack(n, nil, dy)
		if err != nil {
			return nil, err
		}
		return []ir.Type{dy.WithDims(append([]ir.Dim{dy.Dims[0], dy.Dims[1]}, ir.Dims(win.In...)...)...)}, nil
	},
	Cost: poolCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(averagePoolGrad[float64](n, in[0]))
		}
		return one(averagePoolGrad[float32](n, in[0]))
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		a := b.copyAttrs("kernel_shape", "ceil_mode", "count_include_pad", "auto_pad", "dilations", "pads", "strides")
		return b.done(b.add("AveragePool", a, dout[0]))
	},
})

func averagePoolGrad[T float](n *ir.Node, in *tensor.Tensor) (*tensor.Tensor, error) {
	s := in.Shape()
	win, err := windowBack(n, nil, ir.TypeOf(in))
	if err != nil {
		return nil, err
	}
	shape := append([]int{s[0], s[1]}, win.In...)
	dx, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	dy := numbers[T](in)
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	withPad := n.Int("count_include_pad") != 0
	pos := make([]int, len(win.Out))
	var taps []int
	for o := range outPlane {
		var padded int
		taps, padded = win.taps(pos, taps[:0])
		if !withPad {
			padded = len(taps)
		}
		for p := range s[0] * s[1] {
			v := dy[p*outPlane+o] / T(max(padded, 1))
			for _, t := range taps {
				dx[p*inPlane+t] += v
			}
		}
		count(pos, win.Out)
	}
	return fromNumbers(in.Elem(), dx, shape...), nil
}
