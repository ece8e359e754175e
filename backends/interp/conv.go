package interp

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// window is the geometry of a two-dimensional convolution.
type window struct {
	n, ic, ih, iw int
	oc, oh, ow    int
	kh, kw        int
	sh, sw        int // strides
	dh, dw        int // dilations
	top, left     int // padding
	groups        int

	// Of a shift before a convolution of 1×1: the place of each input channel's only tap among those of the kernel.
	places []int64
	single bool // panels are to have one block, as blocks use different taps
}

// geometryOf returns the geometry of a convolution.
func geometryOf(n *ir.Node, g *ops.Window) window {
	shape, in := staticShape(n.Out[0]), staticShape(n.In[0])
	return window{
		n: in[0], ic: in[1], ih: g.In[0], iw: g.In[1],
		oc: shape[1], oh: g.Out[0], ow: g.Out[1],
		kh: g.Kernel[0], kw: g.Kernel[1],
		sh: g.Stride[0], sw: g.Stride[1],
		dh: g.Dilation[0], dw: g.Dilation[1],
		top: g.PadLo[0], left: g.PadLo[1],
		groups: n.Int("group"),
	}
}

// halo returns the rows and columns beside the input that the taps reach.
func (w *window) halo() layout {
	reach := func(out, stride, k, dilation, pad, in int) int {
		return max(0, (out-1)*stride+(k-1)*dilation-pad-(in-1))
	}
	return layout{top: w.top, left: w.left,
		bottom: reach(w.oh, w.sh, w.kh, w.dh, w.top, w.ih), right: reach(w.ow, w.sw, w.kw, w.dw, w.left, w.iw)}
}

// depthwise reports whether every output channel has an input channel of its own.
func (w *window) depthwise() bool { return w.groups == w.ic && w.groups == w.oc && w.groups > 1 }

// scattered reports whether the groups' output channels do not fill blocks: they
// are computed into blocks of their own and then moved.
func (w *window) scattered() bool {
	return w.groups > 1 && !w.depthwise() && w.oc/w.groups%simd.Block != 0
}

// linear reports whether output pixels need the inputs at their own place only.
func (w *window) linear() bool {
	return w.kh == 1 && w.kw == 1 && w.sh == 1 && w.sw == 1 && w.halo() == layout{} && w.ih == w.oh && w.iw == w.ow
}

// weightRows returns the weights' matrix: groups of so many rows, each of k taps.
func (w *window) weightRows() (groups, rows, k int) {
	if w.depthwise() {
		return 1, w.oc, w.kh * w.kw
	}
	if w.places != nil {
		return 1, w.oc, w.ic
	}
	return w.groups, w.oc / w.groups, w.ic / w.groups * w.kh * w.kw
}

// blocksOf returns how many blocks n channels fill.
func blocksOf(n int) int { return (n + simd.Block - 1) / simd.Block }

// packBlock writes 16 rows of k weights from row on, or as many as there are, as k vectors.
func packBlock(dst, w []float32, row, rows, k int) {
	for l := range simd.Block {
		if row+l >= rows {
			for t := range k {
				dst[t*simd.Block+l] = 0
			}
			continue
		}
		for t, v := range w[(row+l)*k : (row+l+1)*k] {
			dst[t*simd.Block+l] = v
		}
	}
}

// packWeights writes block b of a convolution's weights: groups begin new blocks.
func (w *window) packWeights(dst, from []float32, b int) {
	_, rows, k := w.weightRows()
	per := blocksOf(rows)
	packBlock(dst[b*k*simd.Block:], from[b/per*rows*k:], b%per*simd.Block, rows, k)
}

// taps returns the distances in bytes from tap to tap of input channels from first on.
func (w *window) taps(in *view, first, channels int) []int {
	var out []int
	start := first / in.block * in.group * in.bytes
	before := start
	for c := first; c < first+channels; c++ {
		for i := range w.kh {
			for j := range w.kw {
				if w.places != nil && w.places[c] != int64(i*w.kw+j) {
					continue
				}
				at := in.bytes * (c/in.block*in.group + c%in.block + i*w.dh*in.row + j*w.dw*in.block)
				out = append(out, at-before)
				before = at
			}
		}
	}
	return out
}

// tiles returns the product of a convolution from in to out: its pixels, panels and tasks.
// st is applied to the results; nil: they are not yet those of the node, and their halo is not cleared.
func (w *window) tiles(s *simd.Set, in, out *view, st *store, weights *view, threads int) *product {
	groups, rows, k := w.weightRows()
	p := &product{tile: floatTile(s), weights: weights, images: w.n, rows: w.oh, x: follow(in), y: follow(out)}
	var after []bound
	if st != nil {
		after = st.rest
		if st.add != nil {
			p.a = follow(st.add)
		}
	}
	p.x.at -= (w.top*in.row + w.left*in.block) * in.bytes
	p.x.row *= w.sh
	p.x.pixel *= w.sw
	cols, last := w.ow, w.ow
	blocks := blocksOf(rows)
	if w.linear() && p.flat(after) {
		p.line(&cols, &last, w.oh*w.ow)
	}
	most, split := floatTiling(s, blocks, cols)
	if w.depthwise() || w.single {
		most, split = 1, evenly(cols, (cols+s.ConvPixels(1)-1)/s.ConvPixels(1))
	}
	p.split, p.lastSplit = split, evenly(last, (last+s.ConvPixels(most)-1)/s.ConvPixels(most))
	once := p.images*p.rows == 1
	switch {
	case w.depthwise():
		p.tile = func(k *worker, _, pixels int) { s.Depthwise(pixels, &k.tile) }
		taps := (&window{kh: w.kh, kw: w.kw, dh: w.dh, dw: w.dw}).taps(in, 0, 1)
		for b := range blocks {
			p.panels = append(p.panels, panelsOf(b, 1, 1, b*in.group*in.bytes, taps, true)...)
		}
	default:
		icg := w.ic / groups
		for g := range groups {
			var taps []int
			if g == 0 || icg%in.block != 0 {
				taps = w.taps(in, g*icg, icg)
			} else {
				taps = p.panels[0].taps
			}
			p.panels = append(p.panels, panelsOf(g*blocks, blocks, most, g*icg/in.block*in.group*in.bytes, taps, once)...)
		}
	}
	p.proto = simd.Tile{Dist: p.x.pixel, WBlock: 4 * simd.Block * k, YBlock: p.y.block, YDist: p.y.pixel, AddBlock: p.a.block, AddDist: p.a.pixel}
	if st != nil {
		p.proto.Flags, p.proto.Lo, p.proto.Hi, p.params = st.flags, st.lo, st.hi, st.params
		p.finish(after)
	}
	p.spread(threads)
	return p
}

// flat reports whether the pixels of all rows can be one line: in every value that the product,
// or a stage after it, reads or writes.
func (p *product) flat(after []bound) bool {
	views := []*view{p.x.view, p.y.view, p.a.view}
	for _, b := range after {
		views = append(views, b.other)
	}
	return flat(views...)
}

// line makes the pixels of all rows one line, or the images' only pixels, of which
// a row of tiles has a piece. pixels is how many an image has. Images that have weights
// of their own are not joined.
func (p *product) line(cols, last *int, pixels int) {
	walks := []*walk{&p.x, &p.y, &p.a}
	if p.mode = byLine; pixels == 1 && p.wImage == 0 {
		p.mode = byImage
		for _, k := range walks {
			k.pixel = k.image
		}
		pixels, p.images = p.images, 1
	}
	const most = 112 // a multiple of what tiles hold; the stages after the tiles find it in the cache
	p.rows = (pixels + most - 1) / most
	*cols = (pixels + p.rows - 1) / p.rows
	p.rows = (pixels + *cols - 1) / *cols
	*last = pixels - (p.rows-1)**cols
	for _, k := range walks {
		k.row = k.pixel * *cols
	}
}

// convolution is a Conv node.
type convolution struct {
	x       *executable
	w       window
	weights *ir.Value
	used    [][]bool // see usedTaps
	late    bool     // the bias is computed, and the last input
}

// convSource is Conv with one or two spatial dimensions.
func convSource(x *executable, n *ir.Node) (source, bool) {
	g, ok := flatWindow(n)
	if !ok || n.In[0].Type.Elem != tensor.F32 {
		return source{}, false
	}
	c := &convolution{x: x, weights: n.In[1], w: geometryOf(n, g)}
	halo := c.w.halo()
	if _, ok := n.In[1].Type.Static(); !ok || !smallEnough(c.w.ih+halo.top+halo.bottom, c.w.iw+halo.left+halo.right, max(1, c.w.ic)) {
		return source{}, false
	}
	part := 1.0
	if t := n.In[1].Data; t != nil {
		if !finite(t.Float32s()) {
			return source{}, false
		}
		c.used, part = c.w.usedTaps(t.Float32s())
		c.w.single = differ(c.used, part)
	}
	src := source{in: n.In[:1], name: "conv", make: c.phases, arrange: c.arrange}
	if !n.In[1].HasData() {
		src.in = n.In[:2]
	}
	if x.exact != nil && !x.exact[n.Out[0].Name] && c.w.winogradPays() && part > winogradSaves {
		src.name, src.make, src.arrange = "winograd", c.winogradPhases, c.arrangeWinograd
	}
	if b := n.Input(2); b != nil && !b.HasData() {
		if c.late = !c.w.scattered(); !c.late {
			return source{}, false
		}
		src.in = append(slices.Clone(src.in), b)
	} else if src.stages, ok = biasStages(x, b, staticShape(n.Out[0])); !ok {
		return source{}, false
	}
	return src, true
}

// firstWith wants the first of count inputs in a layout and the others plain.
func firstWith(l layout, count int) []want {
	wants := slices.Repeat([]want{plain}, count)
	wants[0] = want{layout: l}
	return wants
}

// finite reports whether no element is infinite or NaN. Such weights would meet
// the zeros of the padding, which the operator skips.
func finite(x []float32) bool {
	return !slices.ContainsFunc(x, func(v float32) bool { return v-v != 0 })
}

// smallEnough bounds the floats of an image with its padding; more would take an absurd dilation.
func smallEnough(h, w, c int) bool {
	const most = 64 << 20
	return h < most && w < most/max(1, h) && c <= most/max(1, h*w)
}

// arrange implements source.arrange.
func (c *convolution) arrange(lies []int) ([]want, want) {
	l := c.w.halo()
	if l.block = lies[0]; c.w.depthwise() {
		l.block = simd.Block
	}
	return firstWith(l, len(lies)), want{layout: blocked}
}

// phases implements source.make.
func (c *convolution) phases(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
	w := &c.w
	if out.size == 0 {
		return nil
	}
	var phases []phase
	groups, rows, k := w.weightRows()
	blocks := groups * blocksOf(rows)
	weights := newView([]int{blocks * k * simd.Block}, tensor.F32, planar)
	if t := c.weights.Data; t != nil {
		weights.bind(packed(c.x, t, fmt.Sprint("conv", groups, w.depthwise()), func() []float32 {
			dst := make([]float32, weights.size)
			for b := range blocks {
				w.packWeights(dst, t.Float32s(), b)
			}
			return dst
		}))
	} else {
		weights = s.temp(weights.shape, planar)
		phases = append(phases, phase{blocks, func(_ *worker, b int) { w.packWeights(weights.data, in[1].all(), b) }})
	}
	if w.scattered() {
		to := s.temp([]int{w.n, groups * blocksOf(rows) * simd.Block, w.oh, w.ow}, blocked)
		p := w.tiles(c.x.set, in[0], to, nil, weights, c.x.pool.workers)
		return append(phases, p.phase(), gatherGroups(to, out, rows, bind(stages, inBlock, others)))
	}
	st := atStore(stages, others, w.oc, inBlock, c.parts())
	if c.late {
		phases = append(phases, st.lateBias(in[len(in)-1], w.oc, s))
	}
	p := w.tiles(c.x.set, in[0], out, &st, weights, c.x.pool.workers)
	if c.used != nil {
		c.skip(p, c.used)
	}
	return append(phases, p.phase())
}

// parts returns what tiles may do with the stages that follow.
func (c *convolution) parts() int {
	if c.late { // their bias is the node's own
		return simd.Norm | simd.Add | simd.Clamp
	}
	return simd.Bias | simd.Norm | simd.Add | simd.Clamp
}

// lateBias makes tiles add a bias that is computed before, and returns the work of putting it into place.
func (st *store) lateBias(bias *view, channels int, s *step) phase {
	v := s.temp([]int{blocksOf(channels) * simd.Block}, planar)
	st.flags |= simd.Bias
	st.params[0] = v
	return phase{1, func(*worker, int) { clear(v.data[copy(v.data, bias.data[:channels]):]) }}
}

// store is what tiles do with the sums, and the stages that remain.
type store struct {
	flags  int
	params [4]*view
	add    *view
	lo, hi float32
	rest   []bound
}

// atStore divides stages into those that tiles apply in registers, of the parts
// that they may, and the rest, which get rows of some kind.
func atStore(stages []stage, others []*view, channels int, rows rowKind, parts int) (st store) {
	for len(stages) > 0 {
		s := &stages[0]
		if s.part&parts == 0 || s.part <= st.flags { // in this order, each once
			break
		}
		switch s.part {
		case simd.Bias:
			st.params[0] = paramView(s.params[0], channels)
		case simd.Norm:
			for i, p := range s.params {
				st.params[1+i] = paramView(p, channels)
			}
		case simd.Add:
			st.add, others = others[0], others[1:]
		case simd.Clamp:
			st.lo, st.hi = s.lo, s.hi
		}
		st.flags |= s.part
		stages = stages[1:]
	}
	st.rest = bind(stages, rows, others)
	return st
}

// paramView returns a parameter for each channel of whole blocks; p may be one for all.
func paramView(p []float32, channels int) *view {
	if len(p) == 1 {
		p = slices.Repeat(p, channels)
	}
	v := newView([]int{blocksOf(channels) * simd.Block}, tensor.F32, planar)
	v.bind(slices.Concat(p, make([]float32, v.size-len(p))))
	return v
}

// finish makes p apply stages to rows of results once they are complete, and clear the halo beside them.
func (p *product) finish(after []bound) {
	out := p.y.view
	if len(after) == 0 && !out.halo() {
		return
	}
	cols, last := sum(p.split), sum(p.lastSplit)
	p.done = func(w *worker, image int, n *panel, row int) {
		pixels := cols
		if row == p.rows-1 {
			pixels = last
		}
		for g := n.block; g < n.block+n.blocks; g++ {
			switch {
			case p.mode == byImage:
				for i := range pixels {
					finish(w, after, out, row*cols+i, g, 0, 0, out.block)
				}
			case p.mode == byLine:
				finish(w, after, out, image, g, 0, row*cols*out.block, pixels*out.block)
			default:
				finish(w, after, out, image, g, row, 0, pixels*out.block)
				out.clearHalo(image, g, row, row+1)
			}
		}
	}
}

func sum(x []int) (total int) {
	for _, n := range x {
		total += n
	}
	return total
}

// gatherGroups moves channels from groups that begin new blocks, rows channels each, to where they belong.
func gatherGroups(from, to *view, rows int, after []bound) phase {
	per := blocksOf(rows)
	return phase{to.n * to.groups(), func(w *worker, i int) {
		n, g := i/to.groups(), i%to.groups()
		for y := range to.h {
			dst := to.line(n, g, y)
			for l := range min(simd.Block, to.c-g*simd.Block) {
				c := g*simd.Block + l
				src := from.line(n, c/rows*per+c%rows/simd.Block, y)
				for x := range to.w {
					dst[x*simd.Block+l] = src[x*simd.Block+c%rows%simd.Block]
				}
			}
			finish(w, after, to, n, g, y, 0, len(dst))
			to.clearHalo(n, g, y, y+1)
		}
	}}
}
