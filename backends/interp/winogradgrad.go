package interp

import (
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
)

// winogradWeight is ConvGradWeight of 3×3 taps without strides, dilations or groups, by Winograd's
// method (simd/winograd.go): for each group of images a task transforms the windows of X and the
// tiles of dY of some images at a time, and adds up for each of the 36 results the products of all pairs
// of an input and an output channel; then the groups' sums are added in order and transformed back.
type winogradWeight struct {
	*window
	set    *simd.Set
	x, dy  *view
	tiles  winograd // of X: only its transform of windows is used
	images int      // so many at a time
	count  int      // tiles of an image
}

const (
	gradTiles   = 48      // tiles at a time, about: sums are read and written once for them
	gradWeights = 4 << 20 // bytes of a group's sums, at most
)

// winogradWeightPays reports whether the method should be used. Like winogradPays it depends on the shapes of one image only.
func (w *window) winogradWeightPays() bool {
	return w.winogradPays() && 4*simd.WinoResults*simd.Block*simd.Block*blocksOf(w.ic)*blocksOf(w.oc) <= gradWeights
}

// winogradPhases implements unit.make.
func (c *gradWeight) winogradPhases(in, out []*view, s *step) []phase {
	v := &winogradWeight{window: c.window, set: c.set, x: in[0], dy: in[1]}
	v.tiles = winograd{set: c.set, x: v.x, y: v.dy, top: c.top, left: c.left, across: (c.ow + 3) / 4, down: (c.oh + 3) / 4}
	v.count = v.tiles.across * v.tiles.down
	v.images = max(1, gradTiles/v.count)
	v.images = max(1, min(v.images, (c.n+imageGroups-1)/imageGroups))
	mb, cb := v.dy.groups(), v.x.groups()
	const pair = simd.Block * simd.Block
	size := simd.WinoResults * mb * cb * pair
	sums := s.temp([]int{imageGroups * size}, planar)
	dw := out[0]
	collect := phase{imageGroups, func(w *worker, g int) {
		dst := sums.data[g*size:][:size]
		clear(dst)
		lo, hi := g*c.n/imageGroups, (g+1)*c.n/imageGroups
		for n := lo; n < hi; n += v.images {
			v.add(w, dst, n, min(n+v.images, hi))
		}
	}}
	join := phase{mb * cb, func(w *worker, b int) {
		acc := w.temp(simd.WinoResults * pair)
		for r := range simd.WinoResults {
			to := acc[r*pair:][:pair]
			for g := range imageGroups {
				from := sums.data[g*size+(r*mb*cb+b)*pair:][:pair]
				if g == 0 {
					copy(to, from)
				} else {
					v.set.Add(to, to, from)
				}
			}
		}
		m0, c0 := b/cb*simd.Block, b%cb*simd.Block
		for i := range min(simd.Block, c.ic-c0) {
			for l := range min(simd.Block, c.oc-m0) {
				var m [simd.WinoResults]float32
				for r := range m {
					m[r] = acc[r*pair+i*simd.Block+l]
				}
				simd.WinoKernelGrad(dw.data[((m0+l)*c.ic+c0+i)*9:], &m)
			}
		}
	}}
	return []phase{collect, join}
}

// step returns the distance of results in floats, see winograd.step.
func (v *winogradWeight) step(blocks int) int { return (blocks*v.images*v.count | 1) * simd.Block }

// add adds the products of the images from n0 to n1.
func (v *winogradWeight) add(w *worker, sums []float32, n0, n1 int) {
	mb, cb := v.dy.groups(), v.x.groups()
	room := v.images * v.count
	in, out := v.step(cb), v.step(mb)
	const window = 36 * simd.Block
	scratch := w.temp(window + simd.WinoResults*(in+out))
	edge, inputs, grads := scratch[:window], scratch[window:][:simd.WinoResults*in], scratch[window+simd.WinoResults*in:]
	across := v.tiles.across
	for n := n0; n < n1; n++ {
		for row := range v.tiles.down {
			at := (n-n0)*v.count + row*across
			for g := range cb {
				v.tiles.transform(w, edge, inputs[(g*room+at)*simd.Block:], in, n, g, row, 0, across)
			}
			for m := range mb {
				v.transform(w, edge, grads[(m*room+at)*simd.Block:], out, n, m, row)
			}
		}
	}
	most := v.set.OuterMost()
	o := &w.outer
	*o = simd.Outer{Cols: (n1 - n0) * v.count, Rows: 1, XPixel: 4 * simd.Block}
	for r := range simd.WinoResults {
		for m := range mb {
			o.W = unsafe.Pointer(&grads[r*out+m*room*simd.Block])
			for g := range cb {
				to := sums[((r*mb+m)*cb+g)*simd.Block*simd.Block:]
				count := min(simd.Block, v.ic-g*simd.Block)
				for k := 0; k < count; k += most {
					o.X, o.Y = unsafe.Pointer(&inputs[r*in+g*room*simd.Block+k]), unsafe.Pointer(&to[k*simd.Block])
					v.set.Outer(min(most, count-k), o)
				}
			}
		}
	}
}

// transform transforms a row of tiles of a block of dY's channels.
func (v *winogradWeight) transform(w *worker, edge, to []float32, step, image, g, row int) {
	y, t := v.dy, &w.wino.in
	t.Step = 4 * step
	whole := 0 // tiles that lie in dY
	if 4*row+4 <= y.h {
		whole = y.w / 4
	}
	if whole > 0 {
		t.X, t.V, t.Row, t.Tiles = pointer(y, image, g, 4*row), unsafe.Pointer(&to[0]), 4*y.row, whole
		v.set.WinoGrad(t)
	}
	const width = 4 * simd.Block
	for i := whole; i < v.tiles.across; i++ {
		tile := edge[:4*width]
		clear(tile)
		for r := range min(4, y.h-4*row) {
			copy(tile[r*width:][:width], y.line(image, g, 4*row+r)[i*width:])
		}
		t.X, t.V, t.Row, t.Tiles = unsafe.Pointer(&tile[0]), unsafe.Pointer(&to[i*simd.Block]), 4*width, 1
		v.set.WinoGrad(t)
	}
}
