package interp

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// gemm is a batch of matrix products of m×k with k×n, row-major: a
// convolution whose pixels are rows and whose output channels are columns.
type gemm struct {
	x              *executable
	items, m, k, n int
	transA, transB bool
	right          *ir.Value // the second operand
	shared         bool      // it is the same for all items
	late           bool      // C is computed: a row, and the last input
}

// packRows is how many rows of the right operand are packed at once: few, so
// that they stay in the cache while the blocks of their columns are written.
const packRows = 8

// packTasks returns into how many tasks the packing of an item is split.
func (g *gemm) packTasks() int {
	if g.transB {
		return blocksOf(g.n)
	}
	return (g.k + packRows - 1) / packRows
}

// pack does task i of writing the k×n matrix from, or the transpose of the n×k matrix
// from, as blocks of 16 columns.
func (g *gemm) pack(dst, from []float32, i int) {
	if g.transB {
		packBlock(dst[i*g.k*simd.Block:], from, i*simd.Block, g.n, g.k)
		return
	}
	t0, t1 := i*packRows, min((i+1)*packRows, g.k)
	for b := range blocksOf(g.n) {
		cols := min(simd.Block, g.n-b*simd.Block)
		for t := t0; t < t1; t++ {
			row := dst[(b*g.k+t)*simd.Block:][:simd.Block]
			copy(row, from[t*g.n+b*simd.Block:][:cols])
			clear(row[cols:])
		}
	}
}

// phases implements source.make.
func (g *gemm) phases(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
	if out.size == 0 {
		return nil
	}
	var phases []phase
	blocks := blocksOf(g.n)
	size := blocks * g.k * simd.Block
	weights := newView([]int{size}, tensor.F32, planar)
	if t := g.right.Data; t != nil && g.shared {
		weights.bind(packed(g.x, t, fmt.Sprint("gemm", g.k, g.n, g.transB), func() []float32 {
			dst := make([]float32, size)
			for i := range g.packTasks() {
				g.pack(dst, t.Float32s(), i)
			}
			return dst
		}))
	} else {
		items := g.items
		if g.shared {
			items = 1
		}
		weights = s.temp([]int{items * size}, planar)
		tasks := g.packTasks()
		phases = append(phases, phase{items * tasks, func(_ *worker, i int) {
			item := i / tasks
			g.pack(weights.data[item*size:], in[1].all()[item*g.k*g.n:], i%tasks)
		}})
	}
	p := &product{tile: floatTile(g.x.set), weights: weights, images: g.items, mode: byLine}
	if !g.shared {
		p.wImage = 4 * size
	}
	step := 4
	p.x = walk{view: in[0], image: 4 * g.m * g.k, pixel: 4 * g.k}
	if g.transA {
		p.x.pixel, step = 4, 4*g.m
	}
	p.y = walk{view: out, image: 4 * g.m * g.n, pixel: 4 * g.n, block: 4 * simd.Block}
	var cols, last int
	if p.line(&cols, &last, g.m); p.mode == byImage {
		p.mode = byLine
	}
	taps := make([]int, g.k)
	for i := 1; i < g.k; i++ {
		taps[i] = step
	}
	most, split := floatTiling(g.x.set, blocks, cols)
	p.split, p.lastSplit = split, evenly(last, (last+g.x.set.ConvPixels(most)-1)/g.x.set.ConvPixels(most))
	once := p.images*p.rows == 1
	p.panels = panelsOf(0, g.n/simd.Block, most, 0, taps, once)
	if rest := g.n % simd.Block; rest > 0 {
		end := panelsOf(g.n/simd.Block, 1, 1, 0, taps, true)
		end[0].lanes = rest
		p.panels = append(p.panels, end...)
	}
	p.proto = simd.Tile{Dist: p.x.pixel, WBlock: 4 * simd.Block * g.k, YBlock: p.y.block, YDist: p.y.pixel}
	p.spread(g.x.pool.workers)
	parts := simd.Bias | simd.Norm | simd.Clamp
	if g.late {
		parts &^= simd.Bias
	}
	st := atStore(stages, others, g.n, across, parts)
	if g.late {
		phases = append(phases, st.lateBias(in[len(in)-1], g.n, s))
	}
	p.proto.Flags, p.proto.Lo, p.proto.Hi, p.params = st.flags, st.lo, st.hi, st.params
	if len(st.rest) > 0 {
		p.done = func(w *worker, item int, n *panel, row int) {
			pixels := cols
			if row == p.rows-1 {
				pixels = last
			}
			ch := n.block * simd.Block
			width := min(n.blocks*simd.Block, g.n-ch)
			for i := range pixels {
				at := (item*g.m+row*cols+i)*g.n + ch
				for j := range st.rest {
					var other []float32
					if o := st.rest[j].other; o != nil {
						other = o.all()[at:][:width]
					}
					st.rest[j].apply(w, out.all()[at:][:width], other, ch)
				}
			}
		}
	}
	return append(phases, p.phase())
}

// gemmSource is Gemm with a C that is absent or a constant row.
func gemmSource(x *executable, n *ir.Node) (source, bool) {
	as, ok1 := n.In[0].Type.Static()
	bs, ok2 := n.In[1].Type.Static()
	shape, _ := n.Out[0].Type.Static()
	if !ok1 || !ok2 || len(as) != 2 || len(bs) != 2 {
		return source{}, false
	}
	var stages []stage
	if alpha := n.Float("alpha"); alpha != 1 {
		stages = append(stages, mulStage(x.set, []float32{alpha}))
	}
	if v := n.Input(2); v != nil {
		if !v.HasData() {
			if n.Float("alpha") != 1 || n.Float("beta") != 1 || v.Type.Rank() < 1 || elements(v) != shape[1] || v.Type.Dims[v.Type.Rank()-1].N != shape[1] {
				return source{}, false
			}
		} else {
			c, ok := channelParam(v.Data, shape)
			if !ok {
				return source{}, false
			}
			scaled := make([]float32, len(c))
			for i := range c {
				scaled[i] = float32(c[i] * n.Float("beta"))
			}
			stages = append(stages, addStage(x.set, scaled))
		}
	}
	g := &gemm{x: x, items: 1, shared: true, m: shape[0], n: shape[1], transA: n.Int("transA") != 0, transB: n.Int("transB") != 0}
	if g.k = as[1]; g.transA {
		g.k = as[0]
	}
	src := g.source(n, stages)
	if v := n.Input(2); v != nil && !v.HasData() {
		g.late = true
		src.in = append(slices.Clone(src.in), v)
	}
	return src, true
}

// matmulSource is MatMul of matrices or batches of them.
func matmulSource(x *executable, n *ir.Node) (source, bool) {
	as, ok1 := n.In[0].Type.Static()
	bs, ok2 := n.In[1].Type.Static()
	if !ok1 || !ok2 || len(as) < 2 || len(bs) < 2 {
		return source{}, false
	}
	g := &gemm{x: x, items: 1, m: as[len(as)-2], k: as[len(as)-1], n: bs[len(bs)-1]}
	batchA, batchB := as[:len(as)-2], bs[:len(bs)-2]
	total, _ := tensor.NumElems(batchA)
	switch count, _ := tensor.NumElems(batchB); {
	case count == 1 && len(batchB) <= len(batchA): // one product of all rows
		g.m *= total
		g.shared = true
	case slices.Equal(batchA, batchB):
		g.items = total
	default:
		return source{}, false
	}
	if shape, _ := n.Out[0].Type.Static(); len(shape) != 2 {
		src := g.source(n, nil)
		src.flat = true
		return src, true
	}
	return g.source(n, nil), true
}

func (g *gemm) source(n *ir.Node, stages []stage) source {
	src := source{in: n.In[:2], name: "gemm", stages: stages, make: g.phases}
	if g.right = n.In[1]; g.right.HasData() && g.shared {
		src.in = n.In[:1]
	}
	return src
}
