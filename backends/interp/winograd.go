package interp

import (
	"sync"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Winograd's convolution F(4×4, 3×3), see simd/wino.go and docs/engine.md. A
// task takes some tiles, transforms their windows of all input channels, computes
// the 36 products as convolutions of one tap whose pixels are tiles, and
// transforms the sums of some output channels back.

// winograd is a convolution of 3×3 taps without strides, dilations or groups.
type winograd struct {
	set       *simd.Set
	x, y      *view
	top, left int   // padding
	weights   *view // as winoWeights returns them
	after     store

	across, down int // tiles of a row, and rows of tiles, of an image
	tiles        int // in all
	group        int // tiles of a task, at most
	chunks       int // tasks among which the output channels are divided

	off []int // of each input channel in the transformed inputs, see simd.Tile
}

// arrangeWinograd implements source.arrange.
func (c *convolution) arrangeWinograd(lies []int) ([]want, want) {
	l := c.w.halo()
	l.block = simd.Block
	return firstWith(l, len(lies)), want{layout: blocked}
}

// winogradPhases implements source.make.
func (c *convolution) winogradPhases(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
	t, threads := c.weights.Data, c.x.pool.workers
	after := atStore(stages, others, c.w.oc, inBlock, c.parts())
	var pack []phase
	if c.late {
		pack = append(pack, after.lateBias(in[len(in)-1], c.w.oc, s))
	}
	if t == nil {
		weights, transform := winoParams(s, c.w.oc, c.w.ic, func(o, i int, _ *[9]float32) []float32 { return in[1].data[(o*c.w.ic+i)*9:][:9] })
		return append(append(pack, transform...), newWinograd(c.x.set, in[0], out, c.w.top, c.w.left, weights, after, threads).phases()...)
	}
	weights := packed(c.x, t, "winograd", func() *view { return winoWeights(t.Float32s(), c.w.oc, c.w.ic, threads) })
	return append(pack, newWinograd(c.x.set, in[0], out, c.w.top, c.w.left, weights, after, threads).phases()...)
}

// winoWork is what a worker needs for the transforms.
type winoWork struct {
	in  simd.WinoIn
	out simd.WinoOut
}

// winoWeights returns the transformed weights of a kernel oc×ic×3×3 by result, block of output
// channels and input channel. So many goroutines make them.
func winoWeights(w []float32, oc, ic, threads int) *view {
	v := newView([]int{winoSize(oc, ic)}, tensor.F32, planar)
	v.bind(make([]float32, v.size))
	var done sync.WaitGroup
	blocks := blocksOf(oc)
	for t := range threads {
		done.Go(func() {
			for b := blocks * t / threads; b < blocks*(t+1)/threads; b++ {
				for i := range ic {
					winoColumn(v.data, oc, ic, b, i, func(o, i int, _ *[9]float32) []float32 { return w[(o*ic+i)*9:] })
				}
			}
		})
	}
	done.Wait()
	return v
}

// winoParams returns memory for the transformed weights of a kernel that is no constant, and the
// work of computing them. kernel returns the nine weights of an output and an input channel, for
// which it may use the memory that it gets.
func winoParams(s *step, oc, ic int, kernel func(o, i int, own *[9]float32) []float32) (*view, []phase) {
	v := s.temp([]int{winoSize(oc, ic)}, planar)
	return v, []phase{{blocksOf(oc) * ic, func(_ *worker, i int) { winoColumn(v.data, oc, ic, i/ic, i%ic, kernel) }}}
}

func winoSize(oc, ic int) int { return simd.WinoResults * blocksOf(oc) * ic * simd.Block }

// winoColumn transforms the weights of a block of output channels and an input channel.
func winoColumn(to []float32, oc, ic, b, i int, kernel func(o, i int, own *[9]float32) []float32) {
	var lanes [simd.WinoResults][simd.Block]float32 // to is far apart: it is written in whole blocks
	var own [9]float32
	for l := range min(simd.Block, oc-b*simd.Block) {
		simd.WinoKernel(&lanes, l, kernel(b*simd.Block+l, i, &own))
	}
	for r := range lanes {
		copy(to[((r*blocksOf(oc)+b)*ic+i)*simd.Block:], lanes[r][:])
	}
}

func newWinograd(s *simd.Set, x, y *view, top, left int, weights *view, after store, threads int) *winograd {
	v := &winograd{set: s, x: x, y: y, top: top, left: left, weights: weights, after: after}
	v.across, v.down = (y.w+3)/4, (y.h+3)/4
	v.tiles = y.n * v.down * v.across
	if v.tiles == 0 {
		return v
	}
	v.divide(threads)
	v.place()
	return v
}

// place fills off.
func (v *winograd) place() {
	v.off = v.off[:0]
	for c := range v.x.c {
		switch {
		case c == 0:
			v.off = append(v.off, 0)
		case c%simd.Block == 0:
			v.off = append(v.off, 64*v.group-60)
		default:
			v.off = append(v.off, 4)
		}
	}
}

// Sizes in bytes.
const (
	winoCache   = 512 << 10 // what a group's transformed inputs and sums should not exceed
	winoWeighty = 1 << 20   // weights that should be read seldom
	winoFew     = 14        // tiles for which reading weights costs little beside the products
)

// divide chooses how much a task does. The bits do not depend on it.
func (v *winograd) divide(threads int) {
	blocks := v.y.groups()
	most := winoCache / (4 * simd.Block * simd.WinoResults * (v.x.groups() + blocks))
	least := winoFew
	if v.weights.size*4 > winoWeighty {
		least = 4 * winoFew
	}
	most = max(most, least)
	groups := (v.tiles + most - 1) / most
	if groups < 4*threads && v.tiles >= threads*least {
		groups = (groups + threads - 1) / threads * threads
	}
	v.group = (v.tiles + groups - 1) / groups
	groups = (v.tiles + v.group - 1) / v.group
	v.chunks = 1
	for groups*v.chunks%threads != 0 && groups*v.chunks < 4*threads && v.chunks < blocks {
		v.chunks++
	}
}

func (v *winograd) phases() []phase {
	if v.tiles == 0 {
		return nil
	}
	return []phase{{(v.tiles + v.group - 1) / v.group * v.chunks, v.task}}
}

// Distances of the transformed inputs and of the sums in floats, for so many blocks: an odd
// number of cache lines, or the 36 results would meet in few sets of the cache.
func (v *winograd) step(blocks int) int { return (blocks*v.group | 1) * simd.Block }

func (v *winograd) task(w *worker, i int) {
	first := i / v.chunks * v.group
	last := min(first+v.group, v.tiles)
	blocks := v.y.groups()
	b0, b1 := blocks*(i%v.chunks)/v.chunks, blocks*(i%v.chunks+1)/v.chunks
	in, out := v.step(v.x.groups()), v.step(b1-b0)
	const window = 36 * simd.Block
	scratch := w.temp(window + simd.WinoResults*(in+out))
	edge, scratch := scratch[:window], scratch[window:]
	inputs, sums := scratch[:simd.WinoResults*in], scratch[simd.WinoResults*in:]
	v.runs(first, last, func(at, image, row, col, n int) {
		for g := range v.x.groups() {
			v.transform(w, edge, inputs[(g*v.group+at)*simd.Block:], in, image, g, row, col, n)
		}
	})
	v.multiply(w, inputs, sums, in, out, last-first, b0, b1)
	v.runs(first, last, func(at, image, row, col, n int) {
		for b := b0; b < b1; b++ {
			v.back(w, sums[((b-b0)*v.group+at)*simd.Block:], out, image, b, row, col, n)
		}
	})
}

// runs calls f for every run of tiles beside each other: at tiles after the first.
func (v *winograd) runs(first, last int, f func(at, image, row, col, n int)) {
	for t := first; t < last; {
		col := t % v.across
		n := min(v.across-col, last-t)
		f(t-first, t/v.across/v.down, t/v.across%v.down, col, n)
		t += n
	}
}

// transform transforms n windows of a block of input channels.
func (v *winograd) transform(w *worker, edge, to []float32, step, image, g, row, col, n int) {
	x, t := v.x, &w.wino.in
	y0, x0 := 4*row-v.top, 4*col-v.left
	inside := 0 // windows that lie in the input and its halo
	if y0 >= -x.top && y0+6 <= x.h+x.bottom && x0 >= -x.left {
		if room := x.w + x.right - x0 - 6; room >= 0 {
			inside = min(n, room/4+1)
		}
	}
	t.Step = 4 * step
	if inside > 0 {
		t.X = x.ptr(x.at(image, g, y0) + x0*simd.Block)
		t.V, t.Row, t.Tiles = unsafe.Pointer(&to[0]), 4*x.row, inside
		v.set.WinoIn(t)
	}
	for i := inside; i < n; i++ {
		v.cut(edge, image, g, y0, x0+4*i)
		t.X, t.V, t.Row, t.Tiles = unsafe.Pointer(&edge[0]), unsafe.Pointer(&to[i*simd.Block]), 6*4*simd.Block, 1
		v.set.WinoIn(t)
	}
}

// cut copies a window that begins at (y0, x0), with zeros outside the input.
func (v *winograd) cut(edge []float32, image, g, y0, x0 int) {
	x := v.x
	lo, hi := max(x0, 0), min(x0+6, x.w)
	for i := range 6 {
		row := edge[i*6*simd.Block:][:6*simd.Block]
		if y := y0 + i; y < 0 || y >= x.h || lo >= hi {
			clear(row)
		} else {
			clear(row[:(lo-x0)*simd.Block])
			copy(row[(lo-x0)*simd.Block:], x.line(image, g, y)[lo*simd.Block:hi*simd.Block])
			clear(row[(hi-x0)*simd.Block:])
		}
	}
}

// multiply computes the sums of n tiles for the blocks of output channels from b0 to b1.
func (v *winograd) multiply(w *worker, inputs, sums []float32, in, out, n, b0, b1 int) {
	t, k := &w.tile, v.x.c
	*t = simd.Tile{
		Off: unsafe.SliceData(v.off), K: k, Dist: 4 * simd.Block,
		WBlock: 4 * k * simd.Block, YBlock: 4 * v.group * simd.Block, YDist: 4 * simd.Block,
	}
	blocks, parts := shapeOf(v.set, b1-b0, n)
	for r := range simd.WinoResults {
		for b := b0; b < b1; {
			take := min(blocks, b1-b)
			t.W = unsafe.Pointer(&v.weights.data[(r*v.y.groups()+b)*k*simd.Block])
			for i := range parts {
				p := n * i / parts
				t.X = unsafe.Pointer(&inputs[r*in+p*simd.Block])
				t.Y = unsafe.Pointer(&sums[r*out+((b-b0)*v.group+p)*simd.Block])
				v.set.Conv(take, n*(i+1)/parts-p, t)
			}
			b += take
		}
	}
}

// shapeOf returns how many blocks a tile should take at once, of so many, and
// into how many parts to divide its pixels: such that registers are well used.
func shapeOf(s *simd.Set, blocks, pixels int) (take, parts int) {
	best := 0
	for b := 1; b <= blocks && s.ConvPixels(b) > 0; b++ {
		most := s.ConvPixels(b)
		n := (pixels + most - 1) / most
		// What a tap costs: a product for each vector, which fewer than eight at once do not
		// speed up, and the steps of the loop.
		cost := 0
		for at := 0; at < blocks; at += b {
			sums := min(b, blocks-at) * pixels
			cost += max(sums, 8*n) + 3*n
		}
		if take == 0 || cost < best {
			take, parts, best = b, n, cost
		}
	}
	return take, parts
}

// back transforms the sums of n tiles back, for a block of output channels, and
// does what follows.
func (v *winograd) back(w *worker, from []float32, step, image, b, row, col, n int) {
	y, t, a := v.y, &w.wino.out, &v.after
	at := col * 4 * simd.Block
	rows, cols := min(4, y.h-4*row), min(4*n, y.w-4*col)
	*t = simd.WinoOut{
		M: unsafe.Pointer(&from[0]), Y: y.ptr(y.at(image, b, 4*row) + at), Step: 4 * step, Row: 4 * y.row,
		Tiles: n, Rows: rows, Cols: cols - 4*(n-1), Flags: a.flags, Lo: a.lo, Hi: a.hi,
	}
	for i, to := range [...]*unsafe.Pointer{&t.Bias, &t.Mean, &t.Scale, &t.Shift} {
		if p := a.params[i]; p != nil {
			*to = p.ptr(b * simd.Block)
		}
	}
	if a.flags&simd.Add != 0 {
		t.Add, t.AddRow = a.add.ptr(a.add.at(image, b, 4*row)+at), 4*a.add.row
	}
	v.set.WinoOut(t)
	for i := range rows {
		finish(w, a.rest, y, image, b, 4*row+i, at, cols*simd.Block)
	}
	if col == 0 {
		y.clearHalo(image, b, 4*row, 4*row+rows)
	}
}
