package interp

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// byteConv is a thriftc.QConv, or a thriftc.QGemm as one of images of one pixel.
type byteConv struct {
	x       *executable
	node    *ir.Node
	w       window
	weights *ir.Value
	zeros   []int64   // of the weights
	zero    int64     // of the input, as it lies in blocks
	bias    []int64   // nil: none
	shift   int       // of the sums before the bias
	mult    []float32 // one, or one for each channel
	floats  bool      // the results are the sums times mult
	lines   bool      // a thriftc.QGemm of more than two dimensions: the images are its rows, whose channels lie last
	rows    [2]int    // strides of the weights' matrix: from output channel to output channel, and along it
	out     simd.ByteRow
}

// byteConvOf reads a node; false if the kernel cannot compute it.
func byteConvOf(x *executable, n *ir.Node) (*byteConv, bool) {
	in, ok := n.In[0].Type.Static()
	if !ok || n.ConstIn(1) == nil || n.In[0].HasData() || !isByte(n.In[0].Type.Elem) {
		return nil, false
	}
	c := &byteConv{x: x, node: n, weights: n.In[1], zeros: []int64{0}, zero: offsetOf(n.In[0].Type.Elem), shift: n.Int("bias_shift")}
	shape := n.ConstIn(1).Shape()
	if n.Op.Name == "thriftc.QConv" {
		g, ok := flatWindow(n)
		if !ok {
			return nil, false
		}
		c.w = window{
			n: in[0], ic: in[1], ih: g.In[0], iw: g.In[1],
			oc: shape[0], oh: g.Out[0], ow: g.Out[1],
			kh: g.Kernel[0], kw: g.Kernel[1],
			sh: g.Stride[0], sw: g.Stride[1],
			dh: g.Dilation[0], dw: g.Dilation[1],
			top: g.PadLo[0], left: g.PadLo[1],
			groups: n.Int("group"),
		}
		halo := c.w.halo()
		if !smallEnough(c.w.ih+halo.top+halo.bottom, c.w.iw+halo.left+halo.right, max(1, c.w.ic)) {
			return nil, false
		}
		k := c.w.ic / c.w.groups * c.w.kh * c.w.kw
		c.rows = [2]int{k, 1}
	} else {
		if len(in) < 2 {
			return nil, false
		}
		last := len(in) - 1
		c.lines = last > 1
		rows, _ := tensor.NumElems(in[:last])
		c.w = window{n: rows, ic: in[last], ih: 1, iw: 1, oc: shape[1], oh: 1, ow: 1, kh: 1, kw: 1, sh: 1, sw: 1, dh: 1, dw: 1, groups: 1}
		c.rows = [2]int{1, shape[1]}
		if n.Int("transB") != 0 {
			c.w.oc = shape[0]
			c.rows = [2]int{shape[1], 1}
		}
	}
	if n.Input(2) != nil {
		z, ok := scalarInt(n, 2)
		if !ok {
			return nil, false
		}
		c.zero += z
	}
	if n.Input(3) != nil {
		t := n.ConstIn(3)
		if t == nil || t.Len() != 1 && t.Len() != c.w.oc {
			return nil, false
		}
		c.zeros = t.Int64s()
	}
	if n.Input(4) != nil {
		t := n.ConstIn(4)
		if t == nil || t.Len() != c.w.oc {
			return nil, false
		}
		c.bias = t.Int64s()
	}
	return c, c.zero >= 0 && c.zero <= 255
}

// byteConvUnit is a QConv or QGemm that gives bytes.
func byteConvUnit(x *executable, n *ir.Node) (unit, bool) {
	c, ok := byteConvOf(x, n)
	if !ok || n.ConstIn(5) == nil || !byteRange(n, 6, &c.out) {
		return unit{}, false
	}
	c.mult = n.ConstIn(5).Float32s()
	return c.unit(n), true
}

// unit returns the unit whose input is that of n.
func (c *byteConv) unit(n *ir.Node) unit {
	return unit{name: "bytes", in: n.In[:1], arrange: c.arrange, make: func(in, out []*view, s *step) []phase {
		if out[0].size == 0 {
			return nil
		}
		if c.lines {
			return c.byLines(in[0], out[0], s, func(y *view) []phase { return bytesOfLines(y, out[0]) })
		}
		return []phase{c.product(in[0], out[0], nil).phase()}
	}}
}

// byteSumsSource is a QConv or QGemm whose i32 sums become floats by the
// DequantizeLinear that alone uses them.
func byteSumsSource(x *executable, n *ir.Node) (source, bool) {
	sums := n.Out[0]
	if len(n.In) > 5 && n.In[5] != nil || sums.IsOutput() || len(sums.Uses()) != 1 {
		return source{}, false
	}
	d := sums.Uses()[0].Node
	s := d.ConstIn(1)
	shape, static := sums.Type.Static()
	if d.Op.Name != "DequantizeLinear" || d.Graph() != n.Graph() || d.In[0] != sums || d.Input(2) != nil || s == nil || s.Elem() != tensor.F32 || !static ||
		d.Int("block_size") != 0 {
		return source{}, false
	}
	c, ok := byteConvOf(x, n)
	if !ok || s.Len() != 1 && s.Len() != c.w.oc {
		return source{}, false
	}
	channels := 1
	if c.lines {
		channels = len(shape) - 1
	}
	if s.Len() > 1 && axisIn(d.Int("axis"), len(shape)) != channels {
		return source{}, false
	}
	c.mult, c.floats = s.Float32s(), true
	return source{name: "bytes", in: n.In[:1], with: []*ir.Node{d}, flat: c.lines, arrange: c.arrange,
		make: func(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
			if out.size == 0 {
				return nil
			}
			if c.lines {
				return c.byLines(in[0], out, s, func(y *view) []phase {
					return pointwise(out, out, stages, others, func(_ *worker, dst []float32, at int) { fromLines(dst, y.data, y.c, y.image, at) })
				})
			}
			return []phase{c.product(in[0], out, bind(stages, inBlock, others)).phase()}
		}}, true
}

// arrange implements unit.arrange.
func (c *byteConv) arrange(lies []int) ([]want, want) {
	if c.lines {
		return []want{plain}, plain
	}
	l := c.w.halo()
	switch l.block = lies[0]; {
	case lies[0] == 1 && c.w.ic == 1 && c.w.dw == 1:
		l.right = max(l.right, 1) // a halo, whatever the padding
	case lies[0] == 1:
		l.block = byteBlock(c.w.ic)
	}
	if l.halo() {
		l.fill = uint8(c.zero)
	}
	if c.depthwise(simd.Block) {
		l.block = simd.Block
	}
	return []want{{layout: l}}, want{layout: blocked}
}

// depthwise reports whether the kernel for it serves inputs in blocks of so many channels.
func (c *byteConv) depthwise(block int) bool { return c.w.depthwise() && block == simd.Block }

// byteTiling is tiling for tiles of bytes.
func byteTiling(s *simd.Set, n, pixels, taps int) (blocks int, split []int) {
	return tiling(n, pixels, s.BytePixels, func(b, p int) int { return max(4*b*p, 3*(b+p), 20)*taps + 20*b*p + 80 })
}

// product returns the work from in to out, which are bytes, or floats, and the stages after it.
func (c *byteConv) product(in, out *view, after []bound) *product {
	s, w := c.x.set, &c.w
	p := &product{images: w.n, rows: w.oh, x: follow(in), y: follow(out)}
	p.x.at -= (w.top*in.row + w.left*in.block) * in.bytes
	p.x.row *= w.sh
	p.x.pixel *= w.sw
	cols, last := w.ow, w.ow
	depthwise := c.depthwise(in.block)
	if w.linear() && p.flat(after) && !depthwise {
		p.line(&cols, &last, w.oh*w.ow)
	}
	blocks := blocksOf(w.oc)
	steps := (w.ic/w.groups + 3) / 4 * w.kh * w.kw
	if in.block == 1 {
		steps = w.kh * (w.kw + 3) / 4
	}
	most, split := byteTiling(s, blocks, cols, max(1, steps))
	single, paired := s.ByteDepthwisePixels()
	pairs := depthwise && paired > 0 && w.sw == 1 && w.dw == 1 && w.kw <= 3
	limit := s.BytePixels(most)
	if depthwise {
		most, limit = 1, single
		if pairs {
			limit = paired
		}
		split = evenly(cols, (cols+limit-1)/limit)
	}
	p.split, p.lastSplit = split, evenly(last, (last+limit-1)/limit)

	z := packed(c.x, c.weights.Data, c.form(most, in.block, depthwise, pairs), func() *packedBytes { return c.pack(most, in.block, depthwise, pairs) })
	weights := z.weights
	scale := 1
	if pairs {
		weights, scale = z.pairs, 2
	}
	p.weights = weights
	for i := range z.panels {
		n := &z.panels[i]
		at := 0
		if depthwise {
			at = n.block * in.group * in.bytes
		}
		p.panels = append(p.panels, panelsOf(n.block, n.blocks, n.blocks, at, c.offsets(n, in), true)...)
	}
	p.params[0], p.params[2] = z.bias, z.mult
	p.proto = simd.Tile{Dist: p.x.pixel, WBlock: scale * z.stride, YBlock: p.y.block, YDist: p.y.pixel,
		Zero: c.out.Zero - simd.RoundingBits, Range: [2]uint8{uint8(c.out.Lo + float32(c.out.Zero)), uint8(c.out.Hi + float32(c.out.Zero))}}
	run := func(k *worker, blocks, pixels int) { s.Bytes(blocks, pixels, &k.tile) }
	switch {
	case s.ByteWords() && !depthwise:
		run = func(k *worker, _, pixels int) { byPasses(s, k, pixels) }
	case pairs:
		run = func(k *worker, _, pixels int) {
			pairTile(s, &k.tile, pixels, z.pairs.base, z.weights.base)
		}
	case depthwise:
		run = func(k *worker, _, pixels int) { s.BytesDepthwise(pixels, &k.tile) }
	}
	p.tile = run
	always := c.floats || z.late != nil || s.ByteSums()
	if always || slices.Contains(z.wide, true) {
		t := &sumTile{c: c, z: z, run: run, always: always}
		p.tile = t.tile
	}
	p.finish(after)
	p.spread(c.x.pool.workers)
	return p
}

// form names what pack makes, for the cache of packed weights.
func (c *byteConv) form(most, block int, depthwise, pairs bool) string {
	params := [3]*tensor.Tensor{c.node.ConstIn(3), c.node.ConstIn(4), c.node.ConstIn(5)}
	return fmt.Sprintf("bytes %v %v %v %v %v %v %v %v %v %v %p %p %p %p", c.w.groups, c.w.kh, c.w.kw, c.w.dw, most, block, depthwise, pairs, c.zero, c.rows, params[0], params[1], params[2], &c.mult[0]) + fmt.Sprint(c.out.Lo, c.out.Hi)
}

// bytePass is how many taps of i16 weights stay in the first-level cache from one kernel to the next.
const bytePass = 128

// byPasses computes a tile of one block whose kernels serve few pixels at a time: some taps after the others,
// so that all its pixels find the weights of a pass in the cache.
func byPasses(s *simd.Set, k *worker, pixels int) {
	t := &k.tile
	if t.K <= bytePass*3/2 || pixels <= s.BytePixels(1)/4 {
		s.Bytes(1, pixels, t)
		return
	}
	if k.partial == nil {
		k.partial = make([]int32, s.BytePixels(1)*simd.Block)
	}
	keep, partial := *t, unsafe.Pointer(&k.partial[0])
	off := unsafe.Slice(keep.Off, keep.K)
	t.Add = partial
	for done := 0; done < keep.K; done += t.K {
		t.K = min(bytePass, keep.K-done)
		t.Off = &off[done]
		t.W = unsafe.Add(keep.W, done*128)
		t.Y, t.YDist, t.Flags = partial, 4*simd.Block, simd.Sums
		if done+t.K == keep.K {
			t.Y, t.YDist, t.Flags = keep.Y, keep.YDist, keep.Flags
		}
		if done > 0 {
			t.Flags |= simd.Add
		}
		s.Bytes(1, pixels, t)
		for _, d := range off[done : done+t.K] {
			t.X = unsafe.Add(t.X, d)
		}
	}
	*t = keep
}

// pairTile computes a depthwise tile in pairs, and a last odd pixel alone.
func pairTile(s *simd.Set, t *simd.Tile, pixels int, pairs, single unsafe.Pointer) {
	even := pixels &^ 1
	if even > 0 {
		s.BytesPairs(even, t)
	}
	if even == pixels {
		return
	}
	x, w, y := t.X, t.W, t.Y
	t.X, t.Y = unsafe.Add(x, even*t.Dist), unsafe.Add(y, even*t.YDist)
	t.W = unsafe.Add(single, (uintptr(w)-uintptr(pairs))/2)
	s.BytesDepthwise(1, t)
	t.X, t.W, t.Y = x, w, y
}

// sumTile computes tiles whose sums are not requantised in registers: all, or those of wide blocks.
type sumTile struct {
	c      *byteConv
	z      *packedBytes
	run    func(w *worker, blocks, pixels int)
	always bool
}

func (f *sumTile) tile(w *worker, blocks, pixels int) {
	t := &w.tile
	first := int(uintptr(t.Bias)-uintptr(f.z.bias.base)) / (4 * simd.Block)
	if f.always || blocks == 1 && f.z.wide[first] {
		f.sums(w, first, blocks, pixels)
		return
	}
	f.run(w, blocks, pixels)
	for b, wide := range f.z.wide[first : first+blocks] {
		if !wide || blocks == 1 {
			continue
		}
		// Wide blocks are computed again; a tile of one block has room for as many pixels as any.
		keep := *t
		t.W, t.Y = unsafe.Add(t.W, b*t.WBlock), unsafe.Add(t.Y, b*t.YBlock)
		t.Bias, t.Scale = unsafe.Add(t.Bias, 4*b*simd.Block), unsafe.Add(t.Scale, 4*b*simd.Block)
		f.sums(w, first+b, 1, pixels)
		*t = keep
	}
}

// sums computes a tile of blocks from first on by way of its sums.
func (f *sumTile) sums(w *worker, first, blocks, pixels int) {
	t := &w.tile
	size := pixels * simd.Block
	at := unsafe.Pointer(&w.temp(blocks * size)[0])
	y, block, dist := t.Y, t.YBlock, t.YDist
	t.Y, t.YBlock, t.YDist = at, 4*size, 4*simd.Block
	t.Flags = simd.Sums
	f.run(w, blocks, pixels)
	t.Flags = 0
	t.Y, t.YBlock, t.YDist = y, block, dist
	p := &w.bytes
	p.Limit(int64(f.c.out.Lo), int64(f.c.out.Hi), int64(f.c.out.Zero))
	for b := range blocks {
		sums := unsafe.Slice((*int32)(unsafe.Add(at, 4*b*size)), size)
		p.Mult = unsafe.Add(t.Scale, 4*b*simd.Block)
		if f.z.late != nil {
			late := f.z.late[(first+b)*simd.Block:]
			for i, v := range sums {
				sums[i] = int32(int64(v)<<f.c.shift + late[i%simd.Block])
			}
		}
		to := unsafe.Add(y, b*block)
		per := size // at once
		if elem := 1 + 3*b2i(f.c.floats); dist != elem*simd.Block {
			per = simd.Block
		}
		for i := 0; i < size; i += per {
			dst := unsafe.Add(to, i/simd.Block*dist)
			if f.c.floats {
				f.c.x.set.SumsToFloats(unsafe.Slice((*float32)(dst), per), sums[i:i+per], p)
			} else {
				f.c.x.set.Requantise(unsafe.Slice((*uint8)(dst), per), sums[i:i+per], p, f.z.wide[first+b])
			}
		}
	}
}
