package interp

import (
	"github.com/thriftc/thriftc/ir"
)

// winogradPays reports whether Winograd's method should take less time than the direct
// kernel for a convolution. It depends on the shapes of one image and nothing
// else, as it decides the bits of the result. The estimate is in cycles of an
// AVX-512 core, from measurements.
func (w *window) winogradPays() bool {
	if w.kh != 3 || w.kw != 3 || w.sh != 1 || w.sw != 1 || w.dh != 1 || w.dw != 1 || w.groups != 1 || w.oh*w.ow == 0 {
		return false
	}
	// Sizes beyond these overflow nothing here, and no memory would hold them.
	const most = 1 << 20
	if w.ic >= most || w.oc >= most || w.oh >= most || w.ow >= most {
		return false
	}
	in, out := blocksOf(w.ic), blocksOf(w.oc)
	direct := 10 * w.oh * w.ow * w.ic * out
	tiles := (w.oh + 3) / 4 * ((w.ow + 3) / 4)
	products := 40 * tiles * w.ic * out
	if weights := 36 * 4 * w.ic * w.oc; weights > 1<<20 { // they come from a slower cache at best
		products = max(products, weights/12)
	}
	return w.ic >= 8 && 115*(tiles*(200*in+200*out)+products) < 100*direct
}

// exactConvs returns the names of the results of those convolutions whose input
// or weights come from a quantiser. Their sums are often exact, and what is derived from them may
// count on that, so Winograd's method must not compute them. A training step counts on nothing.
func exactConvs(g *ir.Graph) map[string]bool {
	if len(g.Updates) > 0 {
		return map[string]bool{}
	}
	grid := map[*ir.Value]bool{} // known so far: whether the value comes from a quantiser
	var quantised func(v *ir.Value) bool
	quantised = func(v *ir.Value) bool {
		if v == nil || v.Def == nil {
			return false
		}
		if q, ok := grid[v]; ok {
			return q
		}
		grid[v] = false
		n := v.Def
		if n.Op.Bits != nil || n.Op.Name == "thriftc.Lookup" {
			grid[v] = true
			return true
		}
		if n.Op.Elements == ir.Computed && n.Op.Name != "Relu" && n.Op.Name != "Clip" {
			return false
		}
		for _, u := range n.In {
			grid[v] = grid[v] || quantised(u)
		}
		return grid[v]
	}
	out := map[string]bool{}
	for _, n := range g.Nodes {
		if n.Op.Name == "Conv" && (quantised(n.In[0]) || quantised(n.In[1])) {
			out[n.Out[0].Name] = true
		}
	}
	return out
}
