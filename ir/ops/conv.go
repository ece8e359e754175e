package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Conv", PerSample: byFirst, Since: 1,
	Roles: []ir.Role{1: ir.Weight, 2: ir.Bias}, Layer: &ir.Layer{Channels: fixedChannels(0, 1)},
	Doc: `Convolution: every output is the sum over input channels of its group, kernel
rows and kernel columns, in this order, of X·W. The sum starts at +0, each
product is added with one rounding (fused multiply-add), taps in the padding are
skipped, and the bias B is added last. f16 and bf16 are computed in f32 and
rounded at the end.`,
	In: "X, W, B?", Out: "Y",
	Attrs: append([]ir.AttrSpec{
		{Name: "group", Kind: ir.IntAttr, Default: int64(1), Doc: "the number of groups: output channels see only the input channels of their group"},
		{Name: "kernel_shape", Kind: ir.IntsAttr, Doc: "the kernel's spatial shape; that of W if absent"},
	}, windowSpecs...),
	Import: importWindow,
	Grad:   gradConv,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := checkConv(n, 0, 1); err != nil {
			return nil, err
		}
		y, err := convType(n, n.In[0].Type.Elem)
		if err == nil && !y.Unranked {
			err = checkBias(n, 2, n.In[1].Type.Dims[0])
		}
		return []ir.Type{y}, err
	},
	Cost: func(n *ir.Node) ir.Cost {
		y := elemCount(n.Out[0].Type)
		c := ir.Cost{MACs: y * kernelCount(n.In[1].Type)}
		if n.Input(2) != nil {
			c.Adds = y
		}
		return c
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(conv[float64](n, in))
		}
		return one(conv[float32](n, in))
	},
})

// checkConv checks element types and ranks of a convolution's data and kernel,
// the group count, and that kernel_shape agrees with the kernel.
func checkConv(n *ir.Node, data, kernel int) error {
	if err := wantFloat(n, data, kernel, 2, 3); err != nil {
		return err
	}
	return checkKernel(n, data, kernel)
}

// checkKernel is checkConv but for the element types.
func checkKernel(n *ir.Node, data, kernel int) error {
	x, w := n.In[data].Type, n.In[kernel].Type
	if !x.Unranked && x.Rank() < 3 {
		return fmt.Errorf("%s is %v, expected at least three dimensions", portName(n, data), x)
	}
	if !w.Unranked && w.Rank() < 3 {
		return fmt.Errorf("%s is %v, expected at least three dimensions", portName(n, kernel), w)
	}
	if !x.Unranked && !w.Unranked && x.Rank() != w.Rank() {
		return fmt.Errorf("%s is %v, %s %v: the ranks differ", portName(n, data), x, portName(n, kernel), w)
	}
	if g := n.Int("group"); g < 1 || g > maxWindow {
		return fmt.Errorf("group is %d", g)
	}
	if ks := n.Ints("kernel_shape"); ks != nil && !w.Unranked {
		fits := len(ks) == len(w.Dims)-2
		for i := 0; fits && i < len(ks); i++ {
			fits = ks[i] >= 0 && ir.Fixed(int(ks[i])).MayEqual(w.Dims[i+2])
		}
		if !fits {
			return fmt.Errorf("kernel_shape is %v, %s is %v", ks, portName(n, kernel), w)
		}
	}
	return nil
}

// checkBias checks that input i, if there is one, has shape [m].
func checkBias(n *ir.Node, i int, m ir.Dim) error {
	b := n.Input(i)
	if b == nil || b.Type.Unranked {
		return nil
	}
	if len(b.Type.Dims) != 1 || !b.Type.Dims[0].MayEqual(m) {
		return fmt.Errorf("%s is %v, expected shape [%v]", portName(n, i), b.Type, m)
	}
	return nil
}

// times returns d·k, which is known only when d is, or k is 1.
func times(d ir.Dim, k int) ir.Dim {
	if k == 1 {
		return d
	}
	if !d.Known() || d.N > 0 && k > (1<<62)/d.N {
		return ir.Unknown
	}
	return ir.Fixed(d.N * k)
}

// convType returns the type of a convolution of input 0 with input 1 to elements e.
func convType(n *ir.Node, e tensor.Elem) (ir.Type, error) {
	return convTypeOf(n, n.In[0].Type, n.In[1].Type, e)
}

// convTypeOf is convType with the types of input and kernel given.
func convTypeOf(n *ir.Node, x, w ir.Type, e tensor.Elem) (ir.Type, error) {
	if x.Unranked || w.Unranked {
		return ir.UnrankedType(e), nil
	}
	group := n.Int("group")
	if c := times(w.Dims[1], group); !c.MayEqual(x.Dims[1]) {
		return ir.Type{}, fmt.Errorf("%s is %v and %s %v in %d groups: %[1]s should have %[6]v channels", portName(n, 0), x, portName(n, 1), w, group, c)
	}
	if m := w.Dims[0]; m.Known() && m.N%group != 0 {
		return ir.Type{}, fmt.Errorf("%s is %v, its first dimension no multiple of the %d groups", portName(n, 1), w, group)
	}
	dims, err := convDims(n, x, w)
	return ir.TensorType(e, dims...), err
}

// convDims returns the output dimensions of a convolution of x with w.
func convDims(n *ir.Node, x, w ir.Type) ([]ir.Dim, error) {
	rank := x.Rank() - 2
	dims := append([]ir.Dim{x.Dims[0], w.Dims[0]}, slices.Repeat([]ir.Dim{ir.Unknown}, rank)...)
	var kernel []int
	for _, d := range w.Dims[2:] {
		if d.Known() {
			kernel = append(kernel, d.N)
		}
	}
	if len(kernel) < rank {
		if n.Ints("kernel_shape") == nil {
			return dims, nil
		}
		kernel = nil
	}
	win, err := windowOf(n, kernel, rank)
	if err != nil {
		return nil, err
	}
	for i := range rank {
		if dims[i+2], err = win.outDim(n, i, x.Dims[i+2]); err != nil {
			return nil, err
		}
	}
	return dims, nil
}

// kernelCount returns the multiply-accumulates per output of a kernel whose
// first dimension is the output channel.
func kernelCount(w ir.Type) int64 {
	if len(w.Dims) == 0 {
		return 1
	}
	return elemCount(w.WithDims(w.Dims[1:]...))
}

func conv[T number](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	xs, ws := in[0].Shape(), in[1].Shape()
	win, err := windowOf(n, ws[2:], len(ws)-2)
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
	x, w := numbers[T](in[0]), numbers[T](in[1])
	runs, stride := win.runs(), win.Stride[len(win.Stride)-1]
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	perGroup := ws[0] / n.Int("group")
	for b := range xs[0] {
		for m := range ws[0] {
			acc := y[(b*ws[0]+m)*outPlane:][:outPlane]
			for ci := range ws[1] {
				c := m/perGroup*ws[1] + ci
				plane := x[(b*xs[1]+c)*inPlane:][:inPlane]
				for t, rs := range runs {
					v := w[(m*ws[1]+ci)*len(runs)+t]
					for _, r := range rs {
						axpy(acc[r.at:], 1, plane[r.in:], stride, v, r.n)
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

// addBias adds b[c] to every element of channel c of y, whose planes have the
// given size.
func addBias[T number](y, b []T, plane int) {
	for i := range y {
		y[i] += b[i/plane%len(b)]
	}
}
