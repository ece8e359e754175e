package interp

import (
	"fmt"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// A convolution with one weight per kernel slice is computed on planar values:
// vectors hold pixels of one output channel, and every product loads its own
// place of the input. A tile is some vectors; for all output channels one after
// the other it needs the same input, of so many channels at a time as fit into
// the first-level cache. Where columns have a stride the input is first split into planes of every
// so many columns, so that vectors are contiguous again.

// muxConv is a thriftc.MuxConv node with constant weights.
type muxConv struct {
	x       *executable
	w       window
	weights *tensor.Tensor
	places  []int64 // the tap of each pair of an output and an input channel
}

func muxSource(x *executable, n *ir.Node) (source, bool) {
	g, ok := flatWindow(n)
	weights, places := n.ConstIn(1), n.ConstIn(2)
	if !ok || n.In[0].Type.Elem != tensor.F32 || weights == nil || places == nil || !finite(weights.Float32s()) {
		return source{}, false
	}
	m := &muxConv{x: x, w: geometryOf(n, g), weights: weights, places: places.Int64s()}
	halo := m.w.halo()
	if !smallEnough(m.w.ih+halo.top+halo.bottom+1, m.w.iw+halo.left+halo.right+2*(m.w.sw+16), max(1, m.w.ic)) {
		return source{}, false
	}
	src := source{in: n.In[:1], name: "mux", make: m.phases, arrange: m.arrange}
	src.stages, ok = biasStages(x, n.Input(3), staticShape(n.Out[0]))
	return src, ok
}

// arrange implements source.arrange.
func (m *muxConv) arrange([]int) ([]want, want) {
	l := m.w.halo()
	l.block = 1
	lanes := 8
	if m.w.iw >= 16 {
		lanes = 16
	}
	if l.left+l.right <= lanes {
		// Rows begin at whole vectors, and what is right of one is what is left of the next.
		right := l.right
		if l.left, l.right = lanes, -m.w.iw&(lanes-1); l.right < right {
			l.bottom++ // the left halo of this row is right of the last
		}
	}
	return []want{{layout: l}}, want{layout: planar}
}

// muxTiles is the work of a convolution.
type muxTiles struct {
	set   *simd.Set
	proto simd.Mux
	in    *view
	first int // elements from the input's own first pixel to the first tap of the first output
	sh    int
	out   *view
	st    store

	half            bool    // vectors of 8 pixels
	rows            int     // of a tile
	cols            [][]int // the vectors of each tile of a row
	chunks          []muxChunk
	parts, outParts int // tiles of an image; into so many parts the outputs are split
}

// muxChunk is some of the input channels.
type muxChunk struct {
	taps   []simd.MuxTap // of all outputs
	starts []int         // where those of each output begin
	counts []int32
}

// chunkBytes is how much of the input a tile uses before it goes on to the next channels.
const chunkBytes = 24 << 10

// phases implements source.make.
func (m *muxConv) phases(in []*view, out *view, stages []stage, others []*view, s *step) (phases []phase) {
	if out.size == 0 {
		return nil
	}
	x, w := in[0], &m.w
	first := -w.top*x.row - w.left
	if w.sw > 1 {
		top := x.top - w.top
		x, phases = m.split(x, s)
		first = top * x.row
	}
	t := &muxTiles{set: m.x.set, in: x, first: first, sh: w.sh, out: out,
		st: atStore(stages, others, w.oc, inChannel, simd.Bias|simd.Norm|simd.Add|simd.Clamp)}
	t.layTiles()
	key := fmt.Sprint("mux", m.w, x.row, x.group, t.rows)
	t.chunks = packed(m.x, m.weights, key, func() []muxChunk { return m.chunksOf(x, t.rows) })
	p := &t.proto
	p.Lo, p.Hi, p.YStep = t.st.lo, t.st.hi, 4*out.group
	if t.st.add != nil {
		p.AddStep = 4 * t.st.add.group
	}
	tiles := w.n * t.parts
	t.outParts = 1
	for tiles*t.outParts < 2*m.x.pool.workers && t.outParts*16 <= w.oc {
		t.outParts++
	}
	return append(phases, phase{tiles * t.outParts, t.task})
}

// layTiles chooses the vectors of tiles.
func (t *muxTiles) layTiles() {
	w, lanes := t.out.w, t.set.Lanes
	whole := func(n int) int { return (w + n - 1) / n * n }
	if lanes > 8 && 8*whole(8) < 7*whole(lanes) {
		t.half, lanes = true, 8
	}
	var at []int
	for i := range whole(lanes) / lanes {
		at = append(at, max(0, min(i*lanes, w-lanes))) // the last vector overlaps
	}
	if w < lanes {
		t.proto.First(w)
	}
	t.rows = min(t.out.h, max(1, simd.MuxVectors/len(at)))
	for _, n := range evenly(len(at), (len(at)+simd.MuxVectors-1)/simd.MuxVectors) {
		t.cols = append(t.cols, at[:n])
		at = at[n:]
	}
	t.parts = (t.out.h + t.rows - 1) / t.rows
}

// chunksOf returns the taps for an input in x, of tiles of so many rows.
func (m *muxConv) chunksOf(x *view, rows int) []muxChunk {
	w := &m.w
	bytes := 4 * x.row * ((rows-1)*w.sh + (w.kh-1)*w.dh + 1) * min(w.sw, (w.kw-1)*w.dw+1)
	most := max(8, chunkBytes/max(1, bytes))
	parts := evenly(w.ic, (w.ic+most-1)/most)
	if w.ic == 0 {
		parts = []int{0}
	}
	values, perGroup := m.weights.Float32s(), w.ic/w.groups
	var out []muxChunk
	first := 0
	for _, n := range parts {
		c := muxChunk{starts: make([]int, w.oc), counts: make([]int32, w.oc)}
		for o := range w.oc {
			c.starts[o] = len(c.taps)
			from := o / (w.oc / w.groups) * perGroup // the channels of the output's group
			for ch := max(first, from); ch < min(first+n, from+perGroup); ch++ {
				pair := o*perGroup + ch - from
				if values[pair] == 0 {
					continue
				}
				place := int(m.places[pair])
				ky, kx := place/w.kw*w.dh, place%w.kw*w.dw
				at := (ch*w.sw+kx%w.sw)*x.group + ky*x.row + kx/w.sw
				c.taps = append(c.taps, simd.MuxTap{Off: int32(4 * at), Weight: values[pair]})
				c.counts[o]++
			}
		}
		c.taps = append(c.taps, simd.MuxTap{}) // so that an output without taps has an address
		out = append(out, c)
		first += n
	}
	return out
}

// task computes some rows of some outputs of an image.
func (t *muxTiles) task(k *worker, i int) {
	out := t.out
	o0, o1 := part(out.c, i%t.outParts, t.outParts)
	i /= t.outParts
	n, y0 := i/t.parts, i%t.parts*t.rows
	y1 := min(y0+t.rows, out.h)
	m := &k.mux
	for _, cols := range t.cols {
		*m = t.proto
		m.Outs = o1 - o0
		vectors := 0
		for y := y0; y < y1; y++ {
			for _, x := range cols {
				m.X[vectors] = t.in.ptr(t.in.at(n, 0, y*t.sh) + t.first + x)
				m.YAt[vectors] = 4 * ((y-y0)*out.row + x)
				if a := t.st.add; a != nil {
					m.AddAt[vectors] = 4 * ((y-y0)*a.row + x)
				}
				vectors++
			}
		}
		m.Y = out.ptr(out.at(n, o0, y0))
		for j := range t.chunks {
			c := &t.chunks[j]
			m.Taps, m.Counts = unsafe.Pointer(&c.taps[c.starts[o0]]), unsafe.Pointer(&c.counts[o0])
			m.Flags = t.proto.Flags & simd.Partial
			if j > 0 {
				m.Flags |= simd.More
			}
			if j == len(t.chunks)-1 {
				m.Flags |= t.st.flags
				t.setParams(m, n, o0, y0)
			}
			t.set.Mux(vectors, t.half, m)
		}
	}
	for o := o0; o < o1; o++ {
		if len(t.st.rest) > 0 {
			for y := y0; y < y1; y++ {
				finish(k, t.st.rest, out, n, o, y, 0, out.w)
			}
		}
		out.clearHalo(n, o, y0, y1)
	}
}

func (t *muxTiles) setParams(m *simd.Mux, n, o, y int) {
	for i, to := range [...]*unsafe.Pointer{&m.Bias, &m.Mean, &m.Scale, &m.Shift} {
		if v := t.st.params[i]; v != nil {
			*to = v.ptr(o)
		}
	}
	if a := t.st.add; a != nil {
		m.Add = a.ptr(a.at(n, o, y))
	}
}

// split returns memory for the input, with its halo, as planes of every sw-th column from the
// first that taps use, one plane for each remainder, and the work that fills it.
func (m *muxConv) split(in *view, s *step) (*view, []phase) {
	w := &m.w
	// If a row is not a whole number of strides, rows are split one by one, with what is right of them.
	wide, piece := in.row/w.sw, in.group
	if in.row%w.sw != 0 {
		wide, piece = max(wide+1, w.ow+(w.kw-1)*w.dw/w.sw), in.row
	}
	to := s.temp([]int{w.n, w.ic * w.sw, in.group / in.row, wide}, planar)
	used := make([]bool, w.sw)
	for i := range w.kw {
		used[i*w.dw%w.sw] = true
	}
	from := in.left - w.left
	return to, []phase{{w.n * w.ic, func(_ *worker, i int) {
		for j := range w.sw {
			if !used[j] {
				continue
			}
			for at := 0; at < in.group; at += piece {
				src := in.data[i*in.group+at+from+j:]
				dst := to.data[(i*w.sw+j)*to.group+at/in.row*wide:]
				m.x.set.Every(dst[:min(piece/in.row*wide, (len(src)+w.sw-1)/w.sw)], src, w.sw)
			}
		}
	}}}
}
