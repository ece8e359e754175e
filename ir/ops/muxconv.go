package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Convolutions whose kernels have one weight for each pair of an output and an
// input channel: a multiplexer chooses the pixel, and one product is left of
// the kernel's area. Pruning to this form is from Quantized Guided Pruning
// (arXiv 1812.11337) and Shift Attention Layers (arXiv 1905.12300, Figure 1).

// muxSpecs are the attributes of a window whose kernel is not an input.
var muxSpecs = append([]ir.AttrSpec{
	{Name: "kernel_shape", Kind: ir.IntsAttr, Required: true, Doc: "the kernel's spatial shape, which the positions count in row-major order"},
}, windowSpecs...)

var groupSpec = ir.AttrSpec{Name: "group", Kind: ir.IntAttr, Default: int64(1), Doc: "the number of groups: output channels see only the input channels of their group"}

var _ = define(ir.Op{
	Name:  "thriftc.MuxConv",
	Roles: []ir.Role{1: ir.Weight, 2: ir.Setting, 3: ir.Bias}, Layer: &ir.Layer{},
	PerSample: byFirst,
	Doc: `Convolution with one weight per kernel slice: output channel m is the sum over the
input channels c of its group, in this order, of W[m, c] · X[c] at tap P[m, c] of
the kernel, counted in row-major order. It is Conv with all other weights absent:
the sum starts at +0, each product is added with one rounding (fused
multiply-add), taps in the padding and weights that are zero are skipped, and the
bias B is added last. W holds floats like X, or integers of at most 8 bits,
bipolar among them, which are exact. f16 and bf16 are computed in f32 and rounded at the end.`,
	In: "X, W, P, B?", Out: "Y",
	Attrs:  append([]ir.AttrSpec{groupSpec}, muxSpecs...),
	Import: importWindow,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0, 3); err != nil {
			return nil, err
		}
		if w := n.In[1].Type.Elem; w != n.In[0].Type.Elem && !isSmallInt(w) && w != tensor.Bipolar {
			return nil, fmt.Errorf("W is %v, expected elements of %v or integers of at most 8 bits", n.In[1].Type, n.In[0].Type.Elem)
		}
		return inferMux(n, n.In[0].Type.Elem, 3)
	},
	Cost: muxCost(3),
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(muxFloat[float64](n, in))
		}
		return one(muxFloat[float32](n, in))
	},
	Export: exportMuxConv,
})

// muxCost returns the cost of a node whose weights are input 1: none for weights that are zero.
func muxCost(bias int) func(*ir.Node) ir.Cost {
	return func(n *ir.Node) ir.Cost {
		y := elemCount(n.Out[0].Type)
		c := ir.Cost{MACs: y * kernelCount(n.In[1].Type)}
		if w := n.ConstIn(1); w != nil {
			c.MACs = y / int64(max(1, w.Shape()[0])) * countNonZero(w)
		}
		if n.Input(bias) != nil {
			c.Adds = y
		}
		return c
	}
}

// isSmallInt reports whether e is an integer of at most 8 bits.
func isSmallInt(e tensor.Elem) bool { return e.IsInt() && e.Bits() <= 8 }

func countNonZero(t *tensor.Tensor) (count int64) {
	for _, v := range t.Float64s() {
		if v != 0 {
			count++
		}
	}
	return count
}

// inferMux checks weights and positions, inputs 1 and 2, and the bias, and
// returns the output's type.
func inferMux(n *ir.Node, e tensor.Elem, bias int) ([]ir.Type, error) {
	x, w, p := n.In[0].Type, n.In[1].Type, n.In[2].Type
	kernel, err := muxKernel(n, p)
	if err != nil {
		return nil, err
	}
	for i := 1; i < 3; i++ {
		if t := n.In[i].Type; !t.Unranked && t.Rank() != 2 {
			return nil, fmt.Errorf("%s is %v, expected [output channels, input channels of a group]", portName(n, i), t)
		}
	}
	if g := n.Int("group"); g < 1 || g > maxWindow {
		return nil, fmt.Errorf("group is %d", g)
	}
	if x.Unranked || w.Unranked {
		return []ir.Type{ir.UnrankedType(e)}, nil
	}
	if x.Rank() != len(kernel)+2 {
		return nil, fmt.Errorf("X is %v, expected %d spatial dimensions as in kernel_shape", x, len(kernel))
	}
	for i := 0; i < 2 && !p.Unranked; i++ {
		if !p.Dims[i].MayEqual(w.Dims[i]) {
			return nil, fmt.Errorf("P is %v, expected the shape of W, %v", p, w)
		}
	}
	full := ir.TensorType(e, w.Dims[0], w.Dims[1])
	for _, k := range kernel {
		full.Dims = append(full.Dims, ir.Fixed(k))
	}
	y, err := convTypeOf(n, x, full, e)
	if err != nil {
		return nil, err
	}
	return []ir.Type{y}, checkBias(n, bias, w.Dims[0])
}

// muxKernel returns the kernel's shape, and checks the type of the positions p
// and, if they are constant, that they lie in it.
func muxKernel(n *ir.Node, p ir.Type) ([]int, error) {
	var kernel []int
	taps := 1
	for _, k := range n.Ints("kernel_shape") {
		if k < 1 || k > 256 || taps*int(k) > 256 {
			return nil, fmt.Errorf("kernel_shape is %v, expected at most 256 taps", n.Ints("kernel_shape"))
		}
		taps *= int(k)
		kernel = append(kernel, int(k))
	}
	if len(kernel) == 0 {
		return nil, fmt.Errorf("kernel_shape is empty")
	}
	if !isSmallInt(p.Elem) || p.Elem.IsSigned() {
		return nil, fmt.Errorf("P is %v, expected unsigned integers of at most 8 bits", p)
	}
	for i := range n.In {
		if t := n.ConstIn(i); t != nil && portName(n, i) == "P" {
			return kernel, checkPositions(t, taps)
		}
	}
	return kernel, nil
}

// checkPositions checks that every position is one of the kernel's taps.
func checkPositions(p *tensor.Tensor, taps int) error {
	for i, v := range p.Int64s() {
		if v >= int64(taps) {
			return fmt.Errorf("element %d of P is %d, expected a tap from 0 to %d", i, v, taps-1)
		}
	}
	return nil
}

func muxFloat[T float](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	y, shape, err := muxSum[T](n, in[0].Shape(), numbers[T](in[0]), in[1], in[2])
	if err != nil {
		return nil, err
	}
	if len(in) > 3 && in[3] != nil {
		addBias(y, numbers[T](in[3]), sizeOf(shape[2:]))
	}
	return fromNumbers(in[0].Elem(), y, shape...), nil
}

// muxSum returns the sums of products of x with the weights at the positions.
func muxSum[T number](n *ir.Node, xs []int, x []T, weights, positions *tensor.Tensor) ([]T, []int, error) {
	win, err := windowOf(n, nil, len(xs)-2)
	if err != nil {
		return nil, nil, err
	}
	if err := win.resolve(n, xs[2:]); err != nil {
		return nil, nil, err
	}
	if err := checkPositions(positions, sizeOf(win.Kernel)); err != nil {
		return nil, nil, err
	}
	ws := weights.Shape()
	shape := append([]int{xs[0], ws[0]}, win.Out...)
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, nil, err
	}
	w, pos := numbers[T](weights), positions.Int64s()
	runs, stride := win.runs(), win.Stride[len(win.Stride)-1]
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	perGroup := ws[0] / n.Int("group")
	for b := range xs[0] {
		for m := range ws[0] {
			acc := y[(b*ws[0]+m)*outPlane:][:outPlane]
			for ci := range ws[1] {
				pair := m*ws[1] + ci
				if w[pair] == 0 {
					continue
				}
				c := m/perGroup*ws[1] + ci
				plane := x[(b*xs[1]+c)*inPlane:][:inPlane]
				for _, r := range runs[pos[pair]] {
					axpy(acc[r.at:], 1, plane[r.in:], stride, w[pair], r.n)
				}
			}
		}
	}
	return y, shape, nil
}

// exportMuxConv writes MuxConv as the Conv that has zeros for absent weights. The results are
// equal but for the sign of zero, and where an infinity or NaN of X meets an absent weight.
func exportMuxConv(r *ir.Rewriter, n *ir.Node, _ int) error {
	w, p := n.ConstIn(1), n.ConstIn(2)
	d := n.In[1].Def // weights may be stored as integers
	if w == nil && d != nil && d.Op.Name == "DequantizeLinear" && d.Input(2) == nil && d.Int("block_size") == 0 {
		w = d.ConstIn(0)
	} else {
		d = nil
	}
	if w == nil || p == nil {
		return fmt.Errorf("%s %s: weights and positions must be constants to be written as Conv", n.Op.Name, n.Label())
	}
	name, kernel := n.In[1].Name+"_dense", n.Ints("kernel_shape")
	var dense *ir.Value
	if d == nil {
		dense = r.Const(name, DenseMux(w, p, n.In[0].Type.Elem, kernel))
	} else {
		q := DenseMux(w, p, tensor.F64, kernel)
		axis := d.Int("axis")
		if axis < 0 {
			axis += w.Rank()
		}
		m, err := r.Add("DequantizeLinear", labelled(d, "_dense"), ir.MakeAttrs("axis", axis),
			[]*ir.Value{r.Const(name+"_integers", tensor.FromInt64s(w.Elem(), q.Int64s(), q.Shape()...)), d.In[1]}, name)
		if err != nil {
			return fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err)
		}
		dense = m.Out[0]
	}
	r.SetOp(n, "Conv")
	if b := n.Input(3); b != nil {
		r.SetInputs(n, n.In[0], dense, b)
	} else {
		r.SetInputs(n, n.In[0], dense)
	}
	return nil
}

// DenseMux returns the kernel, of elements e, that has weight w[m, c] at position p[m, c] of
// slice (m, c), and zeros.
func DenseMux(w, p *tensor.Tensor, e tensor.Elem, kernel []int64) *tensor.Tensor {
	shape, taps := append([]int{}, w.Shape()...), 1
	for _, k := range kernel {
		shape = append(shape, int(k))
		taps *= int(k)
	}
	out := make([]float64, w.Len()*taps)
	pos := p.Int64s()
	for i, v := range w.Float64s() {
		out[i*taps+int(pos[i])] = v
	}
	return floatsOf(e, out, shape)
}

var _ = define(ir.Op{
	Name:      "thriftc.Shift",
	PerSample: byFirst,
	Doc: `Moves every channel by its own distance: channel c of Y at output position o is
channel c of X at the tap P[c] of the kernel's window at o, counted in row-major
order, and 0 where that lies in the padding. It is the depthwise convolution whose
kernels have a single 1; with a convolution of 1×1 after it, a shift layer
(arXiv 1905.12300).`,
	In: "X, P", Out: "Y", Elements: ir.Moved, Grad: gradMoved,
	Attrs:  muxSpecs,
	Import: importWindow,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x, p := n.In[0].Type, n.In[1].Type
		if e := x.Elem; !e.IsFloat() && !e.IsInt() || e == tensor.U64 {
			return nil, fmt.Errorf("X is %v, expected floating point or integers of at most 63 bits", x)
		}
		kernel, err := muxKernel(n, p)
		if err != nil {
			return nil, err
		}
		if !p.Unranked && p.Rank() != 1 {
			return nil, fmt.Errorf("P is %v, expected one position per channel", p)
		}
		if x.Unranked {
			return []ir.Type{x.WithElem(x.Elem)}, nil
		}
		if x.Rank() != len(kernel)+2 {
			return nil, fmt.Errorf("X is %v, expected %d spatial dimensions as in kernel_shape", x, len(kernel))
		}
		if !p.Unranked && !p.Dims[0].MayEqual(x.Dims[1]) {
			return nil, fmt.Errorf("P is %v, expected one position for each of the %v channels", p, x.Dims[1])
		}
		full := ir.TensorType(x.Elem, x.Dims[1], ir.Fixed(1))
		for _, k := range kernel {
			full.Dims = append(full.Dims, ir.Fixed(k))
		}
		dims, err := convDims(n, x, full)
		return []ir.Type{ir.TensorType(x.Elem, dims...)}, err
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		switch e := in[0].Elem(); {
		case e == tensor.F64:
			return one(shift[float64](n, in))
		case e.IsFloat():
			return one(shift[float32](n, in))
		}
		return one(shift[int64](n, in))
	},
	Export: exportShift,
})

func shift[T number](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	xs := in[0].Shape()
	win, err := windowOf(n, nil, len(xs)-2)
	if err != nil {
		return nil, err
	}
	if err := win.resolve(n, xs[2:]); err != nil {
		return nil, err
	}
	if err := checkPositions(in[1], sizeOf(win.Kernel)); err != nil {
		return nil, err
	}
	shape := append([]int{xs[0], xs[1]}, win.Out...)
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	x, pos := numbers[T](in[0]), in[1].Int64s()
	runs, stride := win.runs(), win.Stride[len(win.Stride)-1]
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	for i := range xs[0] * xs[1] {
		for _, r := range runs[pos[i%xs[1]]] {
			for j := range r.n {
				y[i*outPlane+r.at+j] = x[i*inPlane+r.in+j*stride]
			}
		}
	}
	return fromNumbers(in[0].Elem(), y, shape...), nil
}

// exportShift writes Shift as a depthwise Conv with a single 1 in each kernel. The results are
// equal but for −0, which becomes +0, and infinities, which the zeros of the kernel meet.
func exportShift(r *ir.Rewriter, n *ir.Node, _ int) error {
	p := n.ConstIn(1)
	if e := n.In[0].Type.Elem; p == nil || !e.IsFloat() {
		return fmt.Errorf("%s %s: positions must be constants and elements floating point to be written as Conv", n.Op.Name, n.Label())
	}
	ones := make([]float32, p.Len())
	for i := range ones {
		ones[i] = 1
	}
	channels := p.Len()
	w := r.Const(n.In[1].Name+"_kernel", DenseMux(tensor.Of(ones, channels, 1), p.Reshape(channels, 1), n.In[0].Type.Elem, n.Ints("kernel_shape")))
	r.SetOp(n, "Conv")
	r.SetAttr(n, "group", channels)
	r.SetInputs(n, n.In[0], w)
	return nil
}
