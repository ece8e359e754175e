package interp

import (
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// bitQuant is thriftc.BitQuant or its gradient, with one bit length and one range for
// all, or a range for each index of x along dimension 0, as weights have.
type bitQuant struct {
	set  *simd.Set
	node *ir.Node
	most int // the largest width
	rows int // of x with grids of their own; 0: one for all
}

// bitQuantOf reads the parameters, which are inputs first to first+2.
func bitQuantOf(x *executable, n *ir.Node, first int) (*bitQuant, bool) {
	if !staticOuts(n) || n.Str("grid") == "minmax" || elements(n.In[first-1]) == 0 {
		return nil, false
	}
	b := &bitQuant{set: x.set, node: n, most: n.Int("max_bits")}
	dims := n.In[first-1].Type.Dims
	for _, v := range n.In[first : first+3] {
		if elements(v) == 1 {
			continue
		}
		// Of the shape [rows, 1, 1, …].
		if b.rows = dims[0].N; elements(v) != b.rows || v.Type.Rank() != len(dims) || v.Type.Dims[0].N != b.rows {
			return nil, false
		}
	}
	return b, true
}

// params makes the parameters of row i.
func (b *bitQuant) params(p *simd.BitParams, bits, lo, hi *view, i int) {
	at := func(v *view) float32 {
		if v.size == 1 {
			return v.data[0]
		}
		return v.data[i]
	}
	n, a := ops.BitSplit(at(bits), b.most)
	grid := func(n int) simd.BitGrid {
		g := ops.BitGridOf(b.node, n, at(lo), at(hi))
		return simd.BitGrid{Scale: g.Scale, Lo: g.Lo, Hi: g.Hi, Steps: g.Steps}
	}
	p.Set(grid(n), grid(n+1), a)
}

// bitRun is how many terms of a sum are added at once; see thriftc.BitQuantGrad.
const bitRun = 4096

// bitQuantSource is thriftc.BitQuant.
func bitQuantSource(x *executable, n *ir.Node) (source, bool) {
	b, ok := bitQuantOf(x, n, 1)
	if !ok {
		return source{}, false
	}
	src := source{name: "bit lengths", in: n.In, flat: true, make: b.forward}
	if b.rows == 0 {
		src.arrange = func(lies []int) ([]want, want) {
			w := want{layout: layout{block: lies[0]}}
			return []want{w, plain, plain, plain}, w
		}
	}
	return src, true
}

func (b *bitQuant) forward(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
	x := in[0]
	if b.rows > 0 || out.block == 1 && flat(append(others, x, out)...) {
		return b.pieces(in[0], in[1:4], max(b.rows, 1), chunk, func(w *worker, p *simd.BitParams, row, at, size int) {
			from, to := x.all()[at:at+size], out.all()[at:at+size]
			if whole := size / simd.Block; whole > 0 {
				w.lanes = simd.Lanes{N: whole, X: unsafe.Pointer(&from[0]), Y: unsafe.Pointer(&to[0]), Params: unsafe.Pointer(p)}
				b.set.BitRow(&w.lanes)
			}
			for i := size / simd.Block * simd.Block; i < size; i++ {
				to[i] = p.Value(from[i])
			}
			for _, s := range bind(stages, inChannel, others) {
				var other []float32
				if s.other != nil {
					other = s.other.all()[at : at+size]
				}
				s.apply(w, to, other, 0)
			}
		})
	}
	p := new(simd.BitParams)
	kind := inChannel
	if out.block > 1 {
		kind = inBlock
	}
	after := bind(stages, kind, others)
	start := phase{1, func(*worker, int) { b.params(p, in[1], in[2], in[3], 0) }}
	return append([]phase{start}, rowTasks(out, 4, func(w *worker, n, g, row int) {
		from, to := x.line(n, g, row), out.line(n, g, row)
		if whole := len(to) / simd.Block; whole > 0 {
			w.lanes = simd.Lanes{N: whole, X: unsafe.Pointer(&from[0]), Y: unsafe.Pointer(&to[0]), Params: unsafe.Pointer(p)}
			b.set.BitRow(&w.lanes)
		}
		for i := len(to) / simd.Block * simd.Block; i < len(to); i++ {
			to[i] = p.Value(from[i])
		}
		finish(w, after, out, n, g, row, 0, out.w*out.block)
	})...)
}

// pieces runs body for pieces of at most so many elements of the rows of x, which lies plain.
func (b *bitQuant) pieces(x *view, params []*view, rows, size int, body func(w *worker, p *simd.BitParams, row, at, size int)) []phase {
	grids := make([]simd.BitParams, rows)
	inner := x.size / rows
	perRow := (inner + size - 1) / size
	return []phase{
		{1, func(*worker, int) {
			for i := range grids {
				b.params(&grids[i], params[0], params[1], params[2], i)
			}
		}},
		{rows * perRow, func(w *worker, i int) {
			row, at := i/perRow, i%perRow*size
			body(w, &grids[row], row, row*inner+at, min(size, inner-at))
		}},
	}
}

// bitQuantGradSource is thriftc.BitQuantGrad without the gradient of lo.
func bitQuantGradSource(x *executable, n *ir.Node) (source, bool) {
	b, ok := bitQuantOf(x, n, 2)
	if !ok || n.Output(1) == nil || n.Output(3) != nil {
		return source{}, false
	}
	src := source{name: "bit lengths gradient", in: n.In, more: n.Out[1:], flat: true, makeMore: b.backwardRows}
	if b.rows == 0 && n.In[1].Type.Rank() > 2 {
		src.arrange, src.makeMore, src.flat = wantBlocks(2), b.backward, false
	}
	return src, true
}

// backward works on blocks of channels.
func (b *bitQuant) backward(in, out []*view, stages []stage, others []*view, s *step) []phase {
	dy, x, dx := in[0], in[1], out[0]
	size := x.groups() * simd.Block
	groups, totals := s.temp([]int{2 * imageGroups * size}, planar), s.temp([]int{2 * size}, planar)
	p := new(simd.BitParams)
	after := bind(stages, inBlock, others)
	phases := []phase{{1, func(*worker, int) { b.params(p, in[2], in[3], in[4], 0) }}}
	t := &normTrain{set: b.set}
	phases = append(phases, t.sums(x, totals, groups, func(w *worker, l *simd.Lanes, n, g, row, rows int) {
		l.Params = unsafe.Pointer(p)
		one := func(row int) {
			l.X, l.D, l.Y = pointer(x, n, g, row), pointer(dy, n, g, row), pointer(dx, n, g, row)
			b.set.BitGrad(l, false)
			y1 := row + l.N/x.w
			for r := row; r < y1; r++ {
				keep := *l
				finish(w, after, dx, n, g, r, 0, dx.w*dx.block)
				*l = keep
			}
			dx.clearHalo(n, g, row, y1)
		}
		if rows == 1 || flat(dy, dx) {
			one(row)
			return
		}
		all, at := l.N, l.At
		l.N /= rows
		for r := range rows {
			one(row + r)
			l.At = (l.At + lanesBytes*l.N) & (16*lanesBytes - 1)
		}
		l.N, l.At = all, at
	})...)
	return append(phases, phase{1, func(*worker, int) {
		var bits, span float64
		for c := range x.c {
			sum := vectorAt(totals, c/simd.Block, 2)
			bits += float64(sum[c%simd.Block])
			span += float64(sum[simd.Block+c%simd.Block])
		}
		out[1].data[0] = float32(bits)
		if len(out) > 2 {
			out[2].data[0] = float32(span)
		}
	}})
}

// backwardRows works on rows that lie plain.
func (b *bitQuant) backwardRows(in, out []*view, stages []stage, others []*view, _ *step) []phase {
	dy, x, dx := in[0], in[1], out[0]
	rows := max(b.rows, 1)
	perRow := (x.size/rows + bitRun - 1) / bitRun
	sums := make([][2]float32, rows*perRow)
	after := bind(stages, inChannel, others)
	phases := b.pieces(x, in[2:5], rows, bitRun, func(w *worker, p *simd.BitParams, row, at, size int) {
		part := w.temp(partials)
		clear(part)
		if whole := size / simd.Block; whole > 0 {
			w.lanes = simd.Lanes{
				N: whole, X: unsafe.Pointer(&x.data[at]), D: unsafe.Pointer(&dy.data[at]), Y: unsafe.Pointer(&dx.data[at]),
				Params: unsafe.Pointer(p), Sums: unsafe.Pointer(&part[0]),
			}
			b.set.BitGrad(&w.lanes, true)
		}
		for i := size / simd.Block * simd.Block; i < size; i++ {
			var bits, span float32
			dx.data[at+i], bits, span = p.Grad(x.data[at+i], dy.data[at+i])
			part[i%simd.Block] += bits
			part[16*simd.Block+i%simd.Block] += span
		}
		inner := x.size / rows
		k := row*perRow + (at-row*inner)/bitRun
		for j := range sums[k] {
			sums[k][j] = f32.Sum(part[j*16*simd.Block:][:simd.Block])
		}
		for _, s := range after {
			var other []float32
			if s.other != nil {
				other = s.other.all()[at : at+size]
			}
			s.apply(w, dx.all()[at:at+size], other, 0)
		}
	})
	return append(phases, phase{1, func(*worker, int) {
		for j, to := range out[1:] {
			total := 0.0
			for k := range rows {
				if to.size > 1 {
					total = 0
				}
				for _, s := range sums[k*perRow:][:perRow] {
					total += float64(s[j])
				}
				if to.size > 1 || k == rows-1 {
					to.data[min(k, to.size-1)] = float32(total)
				}
			}
		}
	}})
}
