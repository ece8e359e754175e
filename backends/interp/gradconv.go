package interp

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// gradWindow returns the geometry of a convolution's gradient, dx being like the
// convolution's input and dy like its output; false where no kernel computes it.
func gradWindow(n *ir.Node, x, dy *ir.Value) (*window, bool) {
	if !staticOuts(n) || n.Out[0].Type.Rank() != 4 && n.Out[0].Type.Rank() != 3 || elements(x) == 0 || elements(dy) == 0 {
		return nil, false
	}
	g, ok := flatWindow(n)
	if !ok {
		return nil, false
	}
	xs, ys := staticShape(x), staticShape(dy)
	w := &window{
		n: xs[0], ic: xs[1], ih: g.In[0], iw: g.In[1], oc: ys[1], oh: g.Out[0], ow: g.Out[1],
		kh: g.Kernel[0], kw: g.Kernel[1], sh: g.Stride[0], sw: g.Stride[1], dh: g.Dilation[0], dw: g.Dilation[1],
		top: g.PadLo[0], left: g.PadLo[1], groups: n.Int("group"),
	}
	halo := w.halo()
	if !smallEnough(w.ih+halo.top+halo.bottom, w.iw+halo.left+halo.right, w.ic) {
		return nil, false
	}
	return w, true
}

// gradWeight is ConvGradWeight.
type gradWeight struct {
	*window
	set     *simd.Set
	threads int
}

// gradWeightUnit computes ConvGradWeight, in blocks of channels.
func gradWeightUnit(x *executable, n *ir.Node) (unit, bool) {
	w, ok := gradWindow(n, n.In[0], n.In[1])
	if !ok {
		return unit{}, false
	}
	c := &gradWeight{w, x.set, x.pool.workers}
	halo := w.halo()
	halo.block = simd.Block
	name, work := "conv weight gradient", c.phases
	if x.exact != nil && w.winogradWeightPays() {
		name, work = "winograd weight gradient", c.winogradPhases
	}
	return unit{
		node: n, name: name, kind: computed, in: n.In, out: n.Out, make: work,
		arrange: func([]int) ([]want, want) { return []want{{layout: halo}, {layout: blocked}}, plain },
	}, true
}

// outerRows is how many rows of dY meet all taps before the next ones, so that they
// stay in the first-level cache.
const outerRows = 4

// phases implements unit.make. For each group of images, block of output channels and block
// of input channels a task adds up a tile for each tap, one vector of output channels for each
// input channel; then the groups' tiles are added in order. Where there are pairs of
// blocks enough for the threads, a task takes all groups of a pair.
func (c *gradWeight) phases(in, out []*view, s *step) []phase {
	x, dy, dw := in[0], in[1], out[0]
	taps := c.kh * c.kw
	per := simd.Block // input channels of a block
	if c.depthwise() {
		per = 1
	}
	pairs := c.pairs()
	size := taps * per * simd.Block // of a pair of blocks
	group := func(w *worker, dst []float32, g, b int) {
		clear(dst)
		for n := g * c.n / imageGroups; n < (g+1)*c.n/imageGroups; n++ {
			if p := pairs[b]; c.depthwise() {
				c.addLanes(w, dst, x, dy, n, p.m)
			} else {
				c.add(w, dst, x, dy, n, p.m, p.c)
			}
		}
	}
	spread := func(acc []float32, b int) {
		m0, c0 := pairs[b].m*simd.Block, pairs[b].c*per
		icg, ocg := c.ic/c.groups, c.oc/c.groups
		for t := range taps {
			for i := range per {
				v := acc[(t*per+i)*simd.Block:][:simd.Block]
				for m := m0; m < min(m0+simd.Block, c.oc); m++ {
					if k := c0 + i - m/ocg*icg; c.depthwise() {
						dw.data[m*taps+t] = v[m-m0]
					} else if 0 <= k && k < icg {
						dw.data[(m*icg+k)*taps+t] = v[m-m0]
					}
				}
			}
		}
	}
	count := len(pairs)
	if count >= 4*c.threads {
		return []phase{{count, func(w *worker, b int) {
			scratch := w.temp(2 * size)
			acc, part := scratch[:size], scratch[size:][:size]
			group(w, acc, 0, b)
			for g := 1; g < imageGroups; g++ {
				group(w, part, g, b)
				c.set.Add(acc, acc, part)
			}
			spread(acc, b)
		}}}
	}
	parts := s.temp([]int{imageGroups * count * size}, planar)
	at := func(g, b int) []float32 { return parts.data[(g*count+b)*size:][:size] }
	return []phase{
		{imageGroups * count, func(w *worker, i int) { group(w, at(i/count, i%count), i/count, i%count) }},
		{count, func(w *worker, b int) {
			acc := at(0, b)
			for g := 1; g < imageGroups; g++ {
				c.set.Add(acc, acc, at(g, b))
			}
			spread(acc, b)
		}},
	}
}

// blockPair is a block of output channels and one of input channels.
type blockPair struct{ m, c int }

// pairs lists the blocks that have a group of the convolution in common; depthwise, where
// lanes meet lanes, the blocks of output channels.
func (c *gradWeight) pairs() (out []blockPair) {
	for m := range blocksOf(c.oc) {
		if c.depthwise() {
			out = append(out, blockPair{m: m})
			continue
		}
		icg, ocg := c.ic/c.groups, c.oc/c.groups
		first, last := m*simd.Block/ocg, (min((m+1)*simd.Block, c.oc)-1)/ocg // groups
		for b := first * icg / simd.Block; b <= ((last+1)*icg-1)/simd.Block; b++ {
			out = append(out, blockPair{m, b})
		}
	}
	return out
}

// add adds the products of an image.
func (c *gradWeight) add(w *worker, dst []float32, x, dy *view, n, m, g int) {
	count := min(simd.Block, c.ic-g*simd.Block)
	most := c.set.OuterMost()
	o := &w.outer
	*o = simd.Outer{Cols: c.ow, XPixel: 4 * c.sw * x.block, XRow: 4 * c.sh * x.row, WRow: 4 * dy.row}
	for y := 0; y < c.oh; y += outerRows {
		o.Rows = min(outerRows, c.oh-y)
		o.W = pointer(dy, n, m, y)
		for i := range c.kh {
			for j := range c.kw {
				from := x.at(n, g, y*c.sh-c.top+i*c.dh) + (j*c.dw-c.left)*x.block
				to := dst[(i*c.kw+j)*simd.Block*simd.Block:]
				for k := 0; k < count; k += most {
					o.X, o.Y = x.ptr(from+k), unsafe.Pointer(&to[k*simd.Block])
					c.set.Outer(min(most, count-k), o)
				}
			}
		}
	}
}

// addLanes adds the products of an image where each output channel has its own input channel.
func (c *gradWeight) addLanes(w *worker, dst []float32, x, dy *view, n, g int) {
	most := c.set.OuterMost()
	if c.dw > 1 { // neighbouring taps are no neighbours in memory
		most = 1
	}
	o := &w.outer
	*o = simd.Outer{Cols: c.ow, XPixel: 4 * c.sw * x.block, XRow: 4 * c.sh * x.row, WRow: 4 * dy.row}
	for y := 0; y < c.oh; y += outerRows {
		o.Rows = min(outerRows, c.oh-y)
		o.W = pointer(dy, n, g, y)
		for i := range c.kh {
			for j := 0; j < c.kw; j += most {
				from := x.at(n, g, y*c.sh-c.top+i*c.dh) + (j*c.dw-c.left)*x.block
				o.X, o.Y = x.ptr(from), unsafe.Pointer(&dst[(i*c.kw+j)*simd.Block])
				c.set.OuterLanes(min(most, c.kw-j), o)
			}
		}
	}
}

// gradInput is ConvGradInput: for every phase of the input's positions modulo the strides a
// convolution of dY with those taps of the kernel that meet it, from the last to the first.
type gradInput struct {
	x      *executable
	w      *window // of the convolution
	phases []gradPhase

	winograd bool // the only phase is computed by Winograd's method

	// What differs for ConvTranspose, which is the same but for the order of the taps.
	ascending bool           // taps run from the first to the last
	constant  *tensor.Tensor // the kernel, if it is constant
}

// gradPhase is the input's positions py + q·stride, px + …, and the convolution over dY that
// computes them.
type gradPhase struct {
	window
	py, px int
	ty, tx int // the first taps that meet them; the others are strides further
}

// gradInputSource is ConvGradInput, of convolutions with strides or dilation but not both.
func gradInputSource(x *executable, n *ir.Node) (source, bool) {
	w, ok := gradWindow(n, n.Out[0], n.In[0])
	if !ok || !w.transposable() || n.In[1].HasData() && !finite(n.In[1].Data.Float32s()) {
		return source{}, false
	}
	c := newGradInput(x, w)
	name := "conv input gradient"
	if x.exact != nil && len(c.phases) == 1 && c.phases[0].winogradPays() {
		name, c.winograd = "winograd input gradient", true
	}
	return source{in: n.In, name: name, arrange: c.arrange, make: c.make}, true
}

// transposable reports whether the positions of each phase meet evenly spaced taps.
func (w *window) transposable() bool { return (w.dh == 1 || w.sh == 1) && (w.dw == 1 || w.sw == 1) }

// newGradInput returns the transpose of a convolution.
func newGradInput(x *executable, w *window) *gradInput {
	c := &gradInput{x: x, w: w}
	for py := range min(w.sh, w.ih) {
		for px := range min(w.sw, w.iw) {
			ty, ky, top, q := phaseOf(py, w.sh, w.kh, w.dh, w.top, w.ih)
			tx, kx, left, r := phaseOf(px, w.sw, w.kw, w.dw, w.left, w.iw)
			c.phases = append(c.phases, gradPhase{window{
				n: w.n, ic: w.oc, ih: w.oh, iw: w.ow, oc: w.ic, oh: q, ow: r, kh: ky, kw: kx,
				sh: 1, sw: 1, dh: w.dh, dw: w.dw, top: top, left: left, groups: w.groups,
			}, py, px, ty, tx})
		}
	}
	return c
}

// phaseOf returns for positions p, p + stride, … of an input of some size, of which there are
// count: the first tap that meets them, how many do, and the padding before dY.
func phaseOf(p, stride, kernel, dilation, pad, size int) (first, taps, before, count int) {
	first = (p + pad) % stride
	if first < kernel {
		taps = (kernel-1-first)/stride + 1
	}
	return first, taps, (max(taps, 1)-1)*dilation - (p+pad-first)/stride, (size - p + stride - 1) / stride
}

// arrange implements source.arrange.
func (c *gradInput) arrange(lies []int) ([]want, want) {
	l := blocked
	for i := range c.phases {
		h := c.phases[i].halo()
		l = l.widest(layout{top: h.top, left: h.left, bottom: h.bottom, right: h.right})
	}
	return []want{{layout: l}, plain}[:len(lies)], want{layout: blocked}
}

func (c *gradInput) make(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
	if out.size == 0 {
		return nil
	}
	dy, from := in[0], (*view)(nil)
	if c.constant == nil {
		from = in[1]
	}
	whole, to := len(c.phases) == 1, out
	if c.phases[0].scattered() {
		groups, rows, _ := c.phases[0].weightRows()
		whole, to = false, s.temp([]int{c.w.n, groups * blocksOf(rows) * simd.Block, c.w.ih, c.w.iw}, blocked)
	}
	if c.winograd {
		w := &c.phases[0]
		weights, pack := winoParams(s, w.oc, w.ic, func(o, i int, own *[9]float32) []float32 {
			copy(own[:], from.data[(i*w.oc+o)*9:])
			slices.Reverse(own[:])
			return own[:]
		})
		after := atStore(stages, others, w.oc, inBlock, simd.Bias|simd.Norm|simd.Add|simd.Clamp)
		return append(pack, newWinograd(c.x.set, dy, out, w.top, w.left, weights, after, c.x.pool.workers).phases()...)
	}
	var packs, work []phase
	for i := range c.phases {
		p := &c.phases[i]
		groups, rows, k := p.weightRows()
		blocks := groups * blocksOf(rows)
		weights := newView([]int{blocks * k * simd.Block}, tensor.F32, planar)
		if t := c.constant; t != nil {
			weights.bind(packed(c.x, t, fmt.Sprint("transposed", i, *c.w), func() []float32 {
				dst := make([]float32, weights.size)
				for b := range blocks {
					c.pack(p, dst[b*k*simd.Block:], t.Float32s(), b)
				}
				return dst
			}))
		} else {
			weights = s.temp(weights.shape, planar)
			packs = append(packs, phase{blocks, func(_ *worker, b int) { c.pack(p, weights.data[b*k*simd.Block:], from.data, b) }})
		}
		w := p.window
		if c.ascending { // they lie from the last row and column to the first
			w.top, w.left, w.dh, w.dw = w.top-(w.kh-1)*w.dh, w.left-(w.kw-1)*w.dw, -w.dh, -w.dw
		}
		if !whole && w.linear() {
			w.ih++ // the output's pixels do not follow each other
		}
		var st *store
		if whole {
			all := atStore(stages, others, w.oc, inBlock, simd.Bias|simd.Norm|simd.Add|simd.Clamp)
			st = &all
		}
		t := w.tiles(c.x.set, dy, to, st, weights, c.x.pool.workers)
		if k == 0 { // nothing is read, and nothing may point to where it would be
			t.x.at, t.x.row, t.x.image, t.proto.Dist = 0, 0, 0, 0
		}
		if !whole {
			t.y.at += (p.py*to.row + p.px*to.block) * to.bytes
			t.y.row *= c.w.sh
			t.y.pixel *= c.w.sw
			t.proto.YDist = t.y.pixel
		}
		work = append(work, t.phase())
	}
	if to != out {
		_, rows, _ := c.phases[0].weightRows()
		return slices.Concat(packs, work, []phase{gatherGroups(to, out, rows, bind(stages, inBlock, others))})
	}
	if !whole && (len(stages) > 0 || out.halo()) {
		after := bind(stages, inBlock, others)
		work = append(work, rowTasks(out, 1, func(w *worker, n, g, y int) {
			finish(w, after, out, n, g, y, 0, out.w*out.block)
		})...)
	}
	return append(packs, work...)
}

// pack writes block b of a phase's weights: lanes are the convolution's input channels, and
// taps run from the last to the first.
func (c *gradInput) pack(p *gradPhase, dst, from []float32, b int) {
	w := c.w
	_, rows, _ := p.weightRows()
	outs := w.oc / w.groups
	first, lane := b/blocksOf(rows)*outs, b%blocksOf(rows)*simd.Block // among the output channels, and the rows
	for m := range outs {
		for i := range p.kh {
			for j := range p.kw {
				row, col := p.kh-1-i, p.kw-1-j
				if c.ascending {
					row, col = i, j
				}
				tap := (p.ty+row*w.sh)*w.kw + p.tx + col*w.sw
				v := dst[((m*p.kh+i)*p.kw+j)*simd.Block:][:simd.Block]
				for l := range v {
					if v[l] = 0; lane+l < rows {
						v[l] = from[((first+m)*rows+lane+l)*w.kh*w.kw+tap]
					}
				}
			}
		}
	}
}
