package ops

import (
	"fmt"
	"strings"

	"github.com/thriftc/thriftc/ir"
)

// Window is the geometry of a convolution or pooling: for each spatial
// dimension the numbers that the ONNX attributes stand for, with auto_pad and
// defaults resolved. Output position o and tap k meet input position
// o·Stride − PadLo + k·Dilation.
type Window struct {
	Kernel, Stride, Dilation, PadLo, PadHi []int
	In, Out                                []int
}

// windowSpecs are the attributes that describe a window.
var windowSpecs = []ir.AttrSpec{
	{Name: "auto_pad", Kind: ir.StringAttr, Default: "NOTSET", Doc: "NOTSET (pads holds), VALID (no padding), SAME_UPPER or SAME_LOWER (out = ⌈in / stride⌉, an odd padding larger at the end or at the start)"},
	{Name: "dilations", Kind: ir.IntsAttr, Doc: "the distance of taps in each spatial dimension; 1 if absent"},
	{Name: "pads", Kind: ir.IntsAttr, Doc: "the padding at the start of each spatial dimension, then at the end of each; 0 if absent"},
	{Name: "strides", Kind: ir.IntsAttr, Doc: "the distance of windows in each spatial dimension; 1 if absent"},
}

// maxWindow bounds kernel sizes, strides, dilations and paddings, so that
// their products do not overflow.
const maxWindow = 1 << 24

// windowOf reads the attributes for a node whose spatial rank is known and
// whose kernel, if it does not stand in an attribute, is given. In and Out stay nil.
func windowOf(n *ir.Node, kernel []int, rank int) (*Window, error) {
	w := &Window{Kernel: kernel}
	var err error
	read := func(name string, count, least, def int) []int {
		out := make([]int, count)
		given := n.Ints(name)
		if given != nil && len(given) != count && err == nil {
			err = fmt.Errorf("%s is %v, expected %d numbers", name, given, count)
		}
		for i := range out {
			out[i] = def
			if given != nil && err == nil {
				if given[i] < int64(least) || given[i] > maxWindow {
					err = fmt.Errorf("%s is %v, expected numbers from %d to %d", name, given, least, maxWindow)
				}
				out[i] = int(given[i])
			}
		}
		return out
	}
	if kernel == nil {
		if w.Kernel = read("kernel_shape", rank, 1, 1); n.Ints("kernel_shape") == nil {
			return nil, fmt.Errorf("attribute kernel_shape is missing")
		}
	}
	if len(w.Kernel) != rank {
		return nil, fmt.Errorf("the kernel has %d dimensions, expected %d", len(w.Kernel), rank)
	}
	w.Stride, w.Dilation = read("strides", rank, 1, 1), read("dilations", rank, 1, 1)
	pads := read("pads", 2*rank, 0, 0)
	w.PadLo, w.PadHi = pads[:rank], pads[rank:]
	switch a := n.Str("auto_pad"); a {
	case "", "NOTSET", "SAME_UPPER", "SAME_LOWER":
	case "VALID":
		w.PadLo, w.PadHi = make([]int, rank), make([]int, rank)
	default:
		return nil, fmt.Errorf("auto_pad is %q", a)
	}
	for i, k := range w.Kernel {
		if (k < 1 || k > maxWindow) && err == nil {
			err = fmt.Errorf("kernel size %d in dimension %d, expected 1 to %d", k, i, maxWindow)
		}
	}
	return w, err
}

// span returns the extent of the dilated kernel in dimension i.
func (w *Window) span(i int) int { return (w.Kernel[i]-1)*w.Dilation[i] + 1 }

// outDim returns the output size in spatial dimension i.
func (w *Window) outDim(n *ir.Node, i int, in ir.Dim) (ir.Dim, error) {
	s := w.Stride[i]
	if strings.HasPrefix(n.Str("auto_pad"), "SAME") {
		if in.Known() {
			return ir.Fixed((in.N + s - 1) / s), nil
		}
		if s == 1 {
			return in, nil
		}
		return ir.Unknown, nil
	}
	slack := w.PadLo[i] + w.PadHi[i] - w.span(i)
	if !in.Known() {
		if s == 1 && slack == -1 {
			return in, nil
		}
		return ir.Unknown, nil
	}
	if in.N+slack < 0 {
		return ir.Dim{}, fmt.Errorf("in spatial dimension %d the kernel spans %d, the padded input only %d", i, w.span(i), in.N+w.PadLo[i]+w.PadHi[i])
	}
	out := (in.N+slack)/s + 1
	if n.Int("ceil_mode") != 0 {
		out = (in.N+slack+s-1)/s + 1
		if (out-1)*s >= in.N+w.PadLo[i] { // a window must not start beyond the input
			out--
		}
	}
	return ir.Fixed(out), nil
}

// resolve fills in In and Out for an input of the given spatial shape, and
// the padding that auto_pad means.
func (w *Window) resolve(n *ir.Node, in []int) error {
	w.In, w.Out = in, make([]int, len(in))
	for i := range in {
		d, err := w.outDim(n, i, ir.Fixed(in[i]))
		if err != nil {
			return err
		}
		w.Out[i] = d.N
		if a := n.Str("auto_pad"); strings.HasPrefix(a, "SAME") {
			total := max(0, (d.N-1)*w.Stride[i]+w.span(i)-in[i])
			w.PadLo[i] = total / 2
			if a == "SAME_LOWER" {
				w.PadLo[i] = total - total/2
			}
			w.PadHi[i] = total - w.PadLo[i]
		}
	}
	return nil
}

// WindowOf returns the geometry of a Conv or pooling node, or of a gradient of one, whose
// input and kernel have static shapes.
func WindowOf(n *ir.Node) (*Window, error) {
	input := n.In[0]
	switch n.Op.Name {
	case "thriftc.ConvGradInput", "thriftc.AveragePoolGrad", "thriftc.MaxPoolGrad":
		input = n.Out[0]
	}
	x, ok := input.Type.Static()
	if !ok || len(x) < 3 {
		return nil, fmt.Errorf("%s %s: input is %v, expected a static shape with spatial dimensions", n.Op.Name, n.Label(), input.Type)
	}
	var kernel []int
	switch n.Op.Name {
	case "Conv", "ConvInteger", "thriftc.QConv", "thriftc.ConvGradInput":
		k, ok := n.In[1].Type.Static()
		if !ok || len(k) < 3 {
			return nil, fmt.Errorf("%s %s: the kernel is %v, expected a static shape", n.Op.Name, n.Label(), n.In[1].Type)
		}
		kernel = k[2:]
	}
	w, err := windowOf(n, kernel, len(x)-2)
	if err == nil {
		err = w.resolve(n, x[2:])
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err)
	}
	return w, nil
}

// importWindow replaces auto_pad by pads where the input's shape is known, so
// that the rest of the program seldom meets it.
func importWindow(r *ir.Rewriter, n *ir.Node, opset int) error {
	switch n.Str("auto_pad") {
	case "VALID":
		r.DeleteAttr(n, "pads")
	case "SAME_UPPER", "SAME_LOWER":
		w, err := WindowOf(n)
		if err != nil {
			return nil // of symbolic shape, or wrong: inference reports that
		}
		pads := append(append([]int{}, w.PadLo...), w.PadHi...)
		r.SetAttr(n, "pads", pads)
	}
	r.DeleteAttr(n, "auto_pad")
	return nil
}

// run is a piece of an output row whose windows' taps lie inside the input:
// output positions at … at+n−1 meet input positions in, in+stride, …
type run struct{ at, in, n int }

// runs lists, for every tap of the kernel in row-major order, the runs of the
// output rows that it reaches, as flat positions in the spatial planes.
func (w *Window) runs() [][]run {
	last := len(w.Kernel) - 1
	outStride, inStride := stridesOf(w.Out), stridesOf(w.In)
	var all [][]run
	tap := make([]int, last+1)
	for range sizeOf(w.Kernel) {
		// the positions along the last axis that the tap reaches
		off := tap[last]*w.Dilation[last] - w.PadLo[last]
		s := w.Stride[last]
		lo, hi := 0, 0
		if off < 0 {
			lo = (-off + s - 1) / s
		}
		if w.In[last] > off {
			hi = min(w.Out[last], (w.In[last]-1-off)/s+1)
		}
		var rs []run
		if lo < hi {
			row := make([]int, last)
			for range sizeOf(w.Out[:last]) {
				r, ok := run{at: lo, in: lo*s + off, n: hi - lo}, true
				for i, o := range row {
					p := o*w.Stride[i] - w.PadLo[i] + tap[i]*w.Dilation[i]
					ok = ok && p >= 0 && p < w.In[i]
					r.at += o * outStride[i]
					r.in += p * inStride[i]
				}
				if ok {
					rs = append(rs, r)
				}
				count(row, w.Out)
			}
		}
		all = append(all, rs)
		count(tap, w.Kernel)
	}
	return all
}

// count advances coordinates to the next position of a shape in row-major order.
func count(at, shape []int) {
	for i := len(at) - 1; i >= 0; i-- {
		if at[i]++; at[i] < shape[i] {
			return
		}
		at[i] = 0
	}
}
