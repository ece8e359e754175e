package interp

import (
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// transposedSource is ConvTranspose with one or two spatial dimensions, and strides or
// dilation but not both.
func transposedSource(x *executable, n *ir.Node) (source, bool) {
	g, err := ops.TransposedWindowOf(n)
	if err != nil || len(g.Kernel) > 2 || n.In[0].Type.Elem != tensor.F32 || n.In[1].Type.Elem != tensor.F32 {
		return source{}, false
	}
	g = inPlane(g)
	in, out := staticShape(n.In[0]), staticShape(n.Out[0])
	w := &window{
		n: in[0], ic: out[1], ih: g.In[0], iw: g.In[1], oc: in[1], oh: g.Out[0], ow: g.Out[1],
		kh: g.Kernel[0], kw: g.Kernel[1], sh: g.Stride[0], sw: g.Stride[1], dh: g.Dilation[0], dw: g.Dilation[1],
		top: g.PadLo[0], left: g.PadLo[1], groups: n.Int("group"),
	}
	if !w.transposable() || w.ih*w.iw == 0 || w.kh*w.kw == 0 {
		return source{}, false
	}
	c := newGradInput(x, w)
	c.ascending = true
	for i := range c.phases {
		h := c.phases[i].halo()
		if !smallEnough(w.oh+h.top+h.bottom, w.ow+h.left+h.right, max(1, w.oc)) {
			return source{}, false
		}
	}
	src := source{in: n.In[:2], name: "conv transpose", arrange: c.arrange, make: c.make}
	if t := n.In[1].Data; t != nil {
		if !finite(t.Float32s()) {
			return source{}, false
		}
		c.constant, src.in = t, n.In[:1]
	}
	var ok bool
	if src.stages, ok = biasStages(x, n.Input(2), out); !ok {
		return source{}, false
	}
	return src, true
}
