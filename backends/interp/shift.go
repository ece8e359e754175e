package interp

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
)

// shiftSource is thriftc.Shift with constant positions. With the convolution of 1×1 after
// it, it is one convolution in which every input channel has a single tap, at its own place:
// the shift costs nothing.
func shiftSource(x *executable, n *ir.Node) (source, bool) {
	g, ok := flatWindow(n)
	if !ok || n.ConstIn(1) == nil {
		return source{}, false
	}
	shape, in := staticShape(n.Out[0]), staticShape(n.In[0])
	w := window{
		n: in[0], ic: in[1], ih: g.In[0], iw: g.In[1],
		oc: shape[1], oh: g.Out[0], ow: g.Out[1],
		kh: g.Kernel[0], kw: g.Kernel[1],
		sh: g.Stride[0], sw: g.Stride[1],
		dh: g.Dilation[0], dw: g.Dilation[1],
		top: g.PadLo[0], left: g.PadLo[1],
		groups: 1, places: n.ConstIn(1).Int64s(),
	}
	halo := w.halo()
	if !smallEnough(w.ih+halo.top+halo.bottom, w.iw+halo.left+halo.right, max(1, w.ic)) {
		return source{}, false
	}
	if src, ok := w.intoPointwise(x, n); ok {
		return src, true
	}
	return source{in: n.In[:1], name: "shift", make: func(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
		after := bind(stages, inChannel, others)
		return rowTasks(out, 2, func(k *worker, n, c, y int) {
			w.shiftRow(x, in[0], out, n, c, y)
			finish(k, after, out, n, c, y, 0, out.w)
		})
	}}, true
}

// intoPointwise returns the convolution of 1×1 that alone uses the shift n, with the shift in its taps.
func (w *window) intoPointwise(x *executable, n *ir.Node) (source, bool) {
	v := n.Out[0]
	if len(v.Uses()) != 1 || v.IsOutput() {
		return source{}, false
	}
	m := v.Uses()[0].Node
	if m.Op.Name != "Conv" || m.Graph() != n.Graph() || m.In[0] != v || m.Int("group") != 1 {
		return source{}, false
	}
	g, ok := flatWindow(m)
	weights := m.ConstIn(1)
	if !ok || g.Kernel[0]*g.Kernel[1] != 1 || slices.Max(slices.Concat(g.PadLo, g.PadHi)) > 0 || weights == nil || !finite(weights.Float32s()) {
		return source{}, false
	}
	both := *w
	both.oc, both.oh, both.ow = weights.Shape()[0], g.Out[0], g.Out[1]
	both.sh, both.sw = w.sh*g.Stride[0], w.sw*g.Stride[1]
	c := &convolution{x: x, weights: m.In[1], w: both}
	src := source{in: n.In[:1], name: "shift and conv", with: []*ir.Node{m}, make: c.phases, arrange: c.arrange}
	src.stages, ok = biasStages(x, m.Input(2), staticShape(m.Out[0]))
	return src, ok
}

// shiftRow computes a row of a channel; in and out are plain.
func (w *window) shiftRow(x *executable, in, out *view, n, c, y int) {
	dst := out.line(n, c, y)
	place := int(w.places[c])
	row := y*w.sh + place/w.kw*w.dh - w.top
	from := place%w.kw*w.dw - w.left // the column of the first element
	lo := min(w.ow, max(0, (-from+w.sw-1)/w.sw))
	hi := max(lo, min(w.ow, (w.iw-from+w.sw-1)/w.sw))
	if row < 0 || row >= w.ih || lo == hi {
		clear(dst)
		return
	}
	clear(dst[:lo])
	x.set.Every(dst[lo:hi], in.line(n, c, row)[from+lo*w.sw:], w.sw)
	clear(dst[hi:])
}
