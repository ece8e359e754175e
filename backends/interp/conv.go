package interp

import (
	"fmt"
	"slices"

	"thriftc/backends/interp/simd"
	"thriftc/ir"
	"thriftc/ir/tensor"
)

// A convolution is computed as a matrix product without writing the matrix of
// windows. The input of a tile of output rows is copied to planes with the
// padding in place, one plane for each remainder of row and column by the
// strides; then the input of a tap, for all output pixels of the tile, lies in
// one plane at a fixed distance from the pixel's own position. Positions run on
// over the ends of rows; the few results between rows are dropped.

// window is the geometry of a two-dimensional convolution.
type window struct {
	n, ic, ih, iw int
	oc, oh, ow    int
	kh, kw        int
	sh, sw        int // strides
	dh, dw        int // dilations
	top, left     int // padding
	groups        int
}

// pointwise reports whether an output depends on the inputs at its own place only.
func (w *window) pointwise() bool {
	return w.kh == 1 && w.kw == 1 && w.sh == 1 && w.sw == 1 && w.ih == w.oh && w.iw == w.ow
}

// convTile is the plan of a tile: some rows of one image, or several whole images.
type convTile struct {
	images, rows int
	hq, wq       int   // size of a plane, for each image
	rowPhases    []int // the remainders of rows that taps use
	colPhases    []int
	off          []int // of each tap, see simd.Set.Tile
	direct       []int // the same in the input itself, if it serves without a copy
	pos          []int // of each vector
	split        []int // how many vectors the kernel computes at once
	runs         []run
	planes       int // floats
}

// run is a piece of an output row: n results from at in the tile's results, to
// position to of the output, counted from the first image's plane and row.
type run struct{ at, to, n int }

func newConvTile(s *simd.Set, w *window, images, rows int) *convTile {
	t := &convTile{images: images, rows: rows}
	phases := func(k, stride, dilation int) (used []int, index []int, shift int) {
		for i := range k {
			p := i * dilation % stride
			at := -1
			for j, q := range used {
				if q == p {
					at = j
				}
			}
			if at < 0 {
				at = len(used)
				used = append(used, p)
			}
			index = append(index, at)
			shift = i * dilation / stride
		}
		return used, index, shift
	}
	var rowIndex, colIndex []int
	var rowShift, colShift int
	t.rowPhases, rowIndex, rowShift = phases(w.kh, w.sh, w.dh)
	t.colPhases, colIndex, colShift = phases(w.kw, w.sw, w.dw)
	t.hq, t.wq = rows+rowShift, w.ow+colShift
	plane := images * t.hq * t.wq
	icg := w.ic / w.groups
	for c := range icg {
		for i := range w.kh {
			for j := range w.kw {
				p := (c*len(t.rowPhases)+rowIndex[i])*len(t.colPhases) + colIndex[j]
				t.off = append(t.off, p*plane+i*w.dh/w.sh*t.wq+j*w.dw/w.sw)
			}
		}
	}
	if w.pointwise() && images == 1 {
		for c := range icg {
			t.direct = append(t.direct, c*w.ih*w.iw)
		}
	}
	t.planes = icg*len(t.rowPhases)*len(t.colPhases)*plane + s.Lanes
	covered := 0 // positions before this are computed
	for m := range images {
		for y := range rows {
			for x := 0; x < w.ow; {
				p := (m*t.hq+y)*t.wq + x
				if p >= covered {
					t.pos = append(t.pos, p)
					covered = p + s.Lanes
				}
				n := min(w.ow-x, covered-p)
				at := len(t.pos)*s.Lanes - (covered - p)
				to := m*w.oc*w.oh*w.ow + y*w.ow + x
				if k := len(t.runs); k > 0 && t.runs[k-1].at+t.runs[k-1].n == at && t.runs[k-1].to+t.runs[k-1].n == to {
					t.runs[k-1].n += n
				} else {
					t.runs = append(t.runs, run{at, to, n})
				}
				x += n
			}
		}
	}
	most := s.Vectors
	if w.oc == w.groups {
		most = simd.Wide
	}
	t.split = evenly(len(t.pos), most)
	return t
}

// evenly splits n into the fewest parts of at most most, as equal as can be.
func evenly(n, most int) []int {
	parts := (n + most - 1) / most
	out := make([]int, parts)
	for i := range out {
		out[i] = n*(i+1)/parts - n*i/parts
	}
	return out
}

// fill copies the input of a tile for channels of one image after the other to
// planes: rows of output from row0 on.
func (t *convTile) fill(s *simd.Set, w *window, planes, x []float32, channels, row0 int) {
	for c := range channels {
		for i, rp := range t.rowPhases {
			for j, cp := range t.colPhases {
				p := ((c*len(t.rowPhases)+i)*len(t.colPhases) + j) * t.images * t.hq * t.wq
				lo, hi := inside(cp-w.left, w.sw, w.iw, t.wq)
				for m := range t.images {
					image := x[(m*w.ic+c)*w.ih*w.iw:][:w.ih*w.iw]
					for y := range t.hq {
						dst := planes[p:][:t.wq]
						p += t.wq
						iy := (row0+y)*w.sh + rp - w.top
						if iy < 0 || iy >= w.ih || lo == hi {
							clear(dst)
							continue
						}
						fillRow(s, dst, image[iy*w.iw+lo*w.sw+cp-w.left:], lo, hi, w.sw)
					}
				}
			}
		}
	}
}

// inside returns the range of i in [0, n) for which from + i·stride lies in [0, width).
func inside(from, stride, width, n int) (lo, hi int) {
	if from < 0 {
		lo = min((-from+stride-1)/stride, n)
	}
	if from+lo*stride >= width {
		return lo, lo
	}
	return lo, min((width-1-from)/stride+1, n)
}

// fillRow sets dst from lo to hi to every stride-th element of src, and the rest to 0.
func fillRow(s *simd.Set, dst, src []float32, lo, hi, stride int) {
	for i := range lo {
		dst[i] = 0
	}
	for i := hi; i < len(dst); i++ {
		dst[i] = 0
	}
	s.Every(dst[lo:hi], src, stride)
}

// conv is a convolution with packed weights.
type conv struct {
	set           *simd.Set
	w             window
	weights       *panels
	full, last    *convTile // of all tiles but the last in an image or batch, and of that
	tilesPerImage int       // 0: tiles hold several images
	tiles         int
	chunks        int // tasks into which the rows of weights, or the groups, of a tile are split
	stages        []stage
}

// panels is a matrix of weights in panels: rows of panel p are interleaved.
type panels struct {
	rows []int // rows of each panel, of one group
	data []float32
	k    int
}

func packRows(s *simd.Set, w []float32, groups, rows, k int) *panels {
	p := &panels{rows: evenly(rows, s.Rows), k: k, data: make([]float32, 0, len(w))}
	for g := range groups {
		r := g * rows
		for _, n := range p.rows {
			for i := range k {
				for j := range n {
					p.data = append(p.data, w[(r+j)*k+i])
				}
			}
			r += n
		}
	}
	return p
}

// Limits of a tile: positions, and floats copied.
const (
	tilePositions = 384
	fewPositions  = 192
	tileFloats    = 96 << 10
)

// maxPlanes bounds the floats copied for one row of outputs; more would take an
// absurd dilation.
const maxPlanes = 64 << 20

func newConv(s *simd.Set, w window, weights *panels, threads int, stages []stage) *conv {
	v := &conv{set: s, w: w, weights: weights, stages: stages}
	if w.n*w.oc*w.oh*w.ow == 0 {
		return v
	}
	one := newConvTile(s, &v.w, 1, 1)
	perRow := (one.planes - s.Lanes) / one.hq
	images, rows := 1, v.w.oh
	most := max(1, min(tilePositions/one.wq, tileFloats/perRow-one.hq+1))
	least := (fewPositions + one.wq - 1) / one.wq
	// Enough tiles for all threads, unless they become too small.
	limit := min(most, max(least, v.w.n*v.w.oh/(2*threads), 1))
	if limit < v.w.oh {
		parts := (v.w.oh + limit - 1) / limit
		rows = (v.w.oh + parts - 1) / parts // equal tiles rather than a small last one
	} else {
		plane := v.w.oh + one.hq - 1
		images = max(1, min(v.w.n, tilePositions/(one.wq*plane), tileFloats/(perRow*plane)))
	}

	v.full = newConvTile(s, &v.w, images, rows)
	v.last = v.full
	if images > 1 || rows == v.w.oh {
		v.tiles = (v.w.n + images - 1) / images
		if r := v.w.n % images; r > 0 {
			v.last = newConvTile(s, &v.w, r, rows)
		}
	} else {
		v.tilesPerImage = (v.w.oh + rows - 1) / rows
		v.tiles = v.w.n * v.tilesPerImage
		if r := v.w.oh % rows; r > 0 {
			v.last = newConvTile(s, &v.w, 1, r)
		}
	}
	switch {
	case v.w.groups > 1:
		v.chunks = min(v.w.groups, max(4*threads/v.tiles, v.w.groups/16, 1))
	case v.full.direct != nil:
		v.chunks = min(len(weights.rows), max(4*threads/v.tiles, 1))
	default: // every task copies the input of its tile
		v.chunks = 1
		for v.tiles*v.chunks%threads != 0 && v.tiles*v.chunks < 4*threads && v.chunks < len(weights.rows) {
			v.chunks++
		}
	}
	return v
}

func (v *conv) run(c *call, in, out []*tensor.Tensor) error {
	x, y := tensor.Data[float32](in[0]), tensor.Data[float32](out[0])
	others := othersOf(v.stages, in, 1)
	return c.parallel(v.tiles*v.chunks, func(worker, i int) {
		v.tile(c, worker, i/v.chunks, i%v.chunks, x, y, others)
	})
}

func (v *conv) tile(c *call, worker, tile, chunk int, x, y []float32, others [][]float32) {
	w, t := &v.w, v.full
	image, row := tile*t.images, 0
	if v.tilesPerImage > 0 {
		image, row = tile/v.tilesPerImage, tile%v.tilesPerImage*t.rows
		if row+t.rows > w.oh {
			t = v.last
		}
	} else if image+t.images > w.n {
		t = v.last
	}
	ldc := len(t.pos) * v.set.Lanes
	scratch := c.temp(worker, t.planes+v.set.Rows*ldc)
	planes, results := scratch[:t.planes], scratch[t.planes:]
	icg, ocg := w.ic/w.groups, w.oc/w.groups
	panels := v.weights.rows
	g0, g1 := 0, w.groups
	p0, p1 := 0, len(panels)
	if w.groups > 1 {
		g0, g1 = w.groups*chunk/v.chunks, w.groups*(chunk+1)/v.chunks
	} else {
		p0, p1 = len(panels)*chunk/v.chunks, len(panels)*(chunk+1)/v.chunks
	}
	for g := g0; g < g1; g++ {
		src, off := x[(image*w.ic+g*icg)*w.ih*w.iw:], t.off
		if from, ok := t.inPlace(src, row*w.iw, v.set.Lanes); ok {
			src, off = from, t.direct
		} else {
			t.fill(v.set, w, planes, src, icg, row)
			src = planes
		}
		oc := g * ocg
		for _, n := range panels[:p0] {
			oc += n
		}
		for _, n := range panels[p0:p1] {
			a := v.weights.data[oc*v.weights.k:][:n*v.weights.k]
			at := 0
			for _, k := range t.split {
				v.set.Tile(n, a, off, src, t.pos[at:at+k], results[at*v.set.Lanes:], ldc, false)
				at += k
			}
			for j := range n {
				v.store(t, results[j*ldc:], y, image, oc+j, row, others)
			}
			oc += n
		}
	}
}

// inPlace returns the input from the first pixel of the tile on, with all that
// the vectors read, if that is possible: they read beyond the last pixel.
func (t *convTile) inPlace(x []float32, first, lanes int) ([]float32, bool) {
	if len(t.direct) == 0 {
		return nil, false
	}
	need := first + t.direct[len(t.direct)-1] + t.pos[len(t.pos)-1] + lanes
	if need > cap(x) {
		return nil, false
	}
	return x[first:need], true
}

// store writes one channel of a tile to the output and applies the stages.
func (v *conv) store(t *convTile, results, y []float32, image, oc, row int, others [][]float32) {
	w := &v.w
	base := ((image*w.oc+oc)*w.oh + row) * w.ow
	for _, r := range t.runs {
		copy(y[base+r.to:][:r.n], results[r.at:])
	}
	for m := range t.images {
		at := base + m*w.oc*w.oh*w.ow
		piece := y[at : at+t.rows*w.ow]
		applyAll(v.stages, piece, others, oc, at)
	}
}

// convSource is Conv with one or two spatial dimensions and constant weights.
func convSource(x *executable, n *ir.Node) (source, bool) {
	g, ok := flatWindow(n)
	if !ok || !n.In[1].HasData() || n.In[0].Type.Elem != tensor.F32 {
		return source{}, false
	}
	shape, _ := n.Out[0].Type.Static()
	in, _ := n.In[0].Type.Static()
	w := window{
		n: in[0], ic: in[1], ih: g.In[0], iw: g.In[1],
		oc: shape[1], oh: g.Out[0], ow: g.Out[1],
		kh: g.Kernel[0], kw: g.Kernel[1],
		sh: g.Stride[0], sw: g.Stride[1],
		dh: g.Dilation[0], dw: g.Dilation[1],
		top: g.PadLo[0], left: g.PadLo[1],
		groups: n.Int("group"),
	}
	bias, ok := biasStages(x, n.Input(2), shape)
	if !ok || newConvTile(x.set, &w, 1, 1).planes > maxPlanes || !finite(n.In[1].Data.Float32s()) {
		return source{}, false
	}
	t := n.In[1].Data
	weights := packed(x, t, fmt.Sprint("conv", w.groups), func() *panels {
		return packRows(x.set, t.Float32s(), w.groups, w.oc/w.groups, w.ic/w.groups*w.kh*w.kw)
	})
	return source{in: n.In[:1], stages: bias, make: func(stages []stage) kernel {
		return newConv(x.set, w, weights, x.pool.workers, stages).run
	}}, true
}

// finite reports whether no element is infinite or NaN. Such weights would meet
// the zeros of the padding, which the operator skips.
func finite(x []float32) bool {
	return !slices.ContainsFunc(x, func(v float32) bool { return v-v != 0 })
}
