package interp

import (
	"fmt"
	"slices"

	"thriftc/backends/interp/simd"
	"thriftc/ir"
	"thriftc/ir/tensor"
)

// gemm is a batch of matrix products of m×k with k×n, row-major.
type gemm struct {
	set            *simd.Set
	m, k, n        int
	transA, transB bool
	aAt, bAt       []int    // where the matrices of each product begin
	columns        *columns // the second operand if it is constant: one matrix for all
	off            []int    // of each k of a block
	pos            []int    // of each vector of a panel
	rowsPerTask    int
	panelsPerTask  int
	stages         []stage
}

// columns is a k×n matrix in panels of so many columns as a tile has. A panel
// is a k×width matrix, zero beyond column n.
type columns struct {
	width int
	data  []float32
}

// Limits of a task: a block of k, rows, and panels.
const (
	gemmBlock  = 512
	gemmRows   = 64
	gemmPanels = 8
)

func packColumns(s *simd.Set, b []float32, k, n int, transposed bool) *columns {
	width := s.Vectors * s.Lanes
	panels := (n + width - 1) / width
	c := &columns{width, make([]float32, panels*k*width)}
	for i := range panels {
		packPanel(c.data[i*k*width:], b, 0, k, i*width, width, k, n, transposed)
	}
	return c
}

// packPanel sets dst to rows k0 to k1 and width columns from n0 on of the k×n
// matrix b, or of the transpose of the n×k matrix b; zero beyond column n.
func packPanel(dst, b []float32, k0, k1, n0, width, k, n int, transposed bool) {
	cols := min(width, n-n0)
	for i := k0; i < k1; i++ {
		row := dst[(i-k0)*width:][:width]
		if transposed {
			for j := range cols {
				row[j] = b[(n0+j)*k+i]
			}
		} else {
			copy(row, b[i*n+n0:][:cols])
		}
		clear(row[cols:])
	}
}

func newGemm(s *simd.Set, g gemm, threads int) *gemm {
	g.set = s
	width := s.Vectors * s.Lanes
	for i := range min(g.k, gemmBlock) {
		g.off = append(g.off, i*width)
	}
	for j := range s.Vectors {
		g.pos = append(g.pos, j*s.Lanes)
	}
	panels := (g.n + width - 1) / width
	g.rowsPerTask = gemmRows
	tasks := len(g.aAt) * ((g.m + gemmRows - 1) / gemmRows)
	g.panelsPerTask = gemmPanels
	if tasks > 0 {
		g.panelsPerTask = max(1, min(gemmPanels, panels*tasks/(2*threads)))
	}
	return &g
}

func (g *gemm) run(c *call, a, b, y []float32, others [][]float32) error {
	if g.m == 0 || g.n == 0 {
		return nil
	}
	width := len(g.pos) * g.set.Lanes
	rowTasks := (g.m + g.rowsPerTask - 1) / g.rowsPerTask
	colTasks := (g.n + g.panelsPerTask*width - 1) / (g.panelsPerTask * width)
	return c.parallel(len(g.aAt)*rowTasks*colTasks, func(worker, i int) {
		r0 := i / colTasks % rowTasks * g.rowsPerTask
		c0 := i % colTasks * g.panelsPerTask * width
		g.task(c, worker, i/colTasks/rowTasks, r0, c0, a, b, y, others)
	})
}

// task computes some rows and columns of one product.
func (g *gemm) task(c *call, worker, item, r0, c0 int, a, b, y []float32, others [][]float32) {
	width := len(g.pos) * g.set.Lanes
	rows := min(g.rowsPerTask, g.m-r0)
	cols := min(g.panelsPerTask*width, g.n-c0)
	panels := (cols + width - 1) / width
	ldc := panels * width
	block := min(g.k, gemmBlock)
	scratch := c.temp(worker, rows*ldc+rows*block+block*width)
	sums, left, right := scratch[:rows*ldc], scratch[rows*ldc:][:rows*block], scratch[rows*ldc+rows*block:]
	a = a[g.aAt[item]:]
	if b != nil {
		b = b[g.bAt[item]:]
	}
	split := evenly(rows, g.set.Rows)
	if g.k == 0 {
		clear(sums)
	}
	for k0 := 0; k0 < g.k; k0 += block {
		k1 := min(k0+block, g.k)
		g.packLeft(left, a, r0, split, k0, k1)
		for p := range panels {
			from := right
			if g.columns != nil {
				from = g.columns.data[((c0/width+p)*g.k+k0)*width:]
			} else {
				packPanel(right, b, k0, k1, c0+p*width, width, g.k, g.n, g.transB)
			}
			r := 0
			for _, n := range split {
				g.set.Tile(n, left[r*(k1-k0):], g.off[:k1-k0], from, g.pos, sums[r*ldc+p*width:], ldc, k0 > 0)
				r += n
			}
		}
	}
	for r := range rows {
		at := g.m*g.n*item + (r0+r)*g.n + c0
		row := y[at:][:cols]
		copy(row, sums[r*ldc:])
		applyAll(g.stages, row, others, c0, at)
	}
}

// packLeft interleaves rows of the left matrix for each group of rows that a tile computes.
func (g *gemm) packLeft(dst, a []float32, r0 int, split []int, k0, k1 int) {
	at := 0
	for _, n := range split {
		for j := range n {
			if g.transA {
				for i := k0; i < k1; i++ {
					dst[at+(i-k0)*n+j] = a[i*g.m+r0+j]
				}
			} else {
				for i, v := range a[(r0+j)*g.k+k0 : (r0+j)*g.k+k1] {
					dst[at+i*n+j] = v
				}
			}
		}
		at += n * (k1 - k0)
		r0 += n
	}
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
		stages = append(stages, perChannel([]float32{alpha}, shape, func(row []float32, c float32) { x.set.MulScalar(row, row, c) }, nil))
	}
	if v := n.Input(2); v != nil {
		if !v.HasData() {
			return source{}, false
		}
		c, ok := channelParam(v.Data, shape)
		if !ok {
			return source{}, false
		}
		scaled := make([]float32, len(c))
		for i := range c {
			scaled[i] = float32(c[i] * n.Float("beta"))
		}
		stages = append(stages, addStage(x.set, scaled, shape))
	}
	g := gemm{m: shape[0], n: shape[1], transA: n.Int("transA") != 0, transB: n.Int("transB") != 0, aAt: []int{0}, bAt: []int{0}}
	if g.k = as[1]; g.transA {
		g.k = as[0]
	}
	return g.source(x, n, stages), true
}

// matmulSource is MatMul of matrices or batches of them.
func matmulSource(x *executable, n *ir.Node) (source, bool) {
	as, ok1 := n.In[0].Type.Static()
	bs, ok2 := n.In[1].Type.Static()
	if !ok1 || !ok2 || len(as) < 2 || len(bs) < 2 {
		return source{}, false
	}
	g := gemm{m: as[len(as)-2], k: as[len(as)-1], n: bs[len(bs)-1]}
	batchA, batchB := as[:len(as)-2], bs[:len(bs)-2]
	total, _ := tensor.NumElems(batchA)
	switch count, _ := tensor.NumElems(batchB); {
	case count == 1 && len(batchB) <= len(batchA): // one product of all rows
		g.m *= total
		g.aAt, g.bAt = []int{0}, []int{0}
	case slices.Equal(batchA, batchB):
		for i := range total {
			g.aAt, g.bAt = append(g.aAt, i*g.m*g.k), append(g.bAt, i*g.k*g.n)
		}
	default:
		return source{}, false
	}
	if shape, _ := n.Out[0].Type.Static(); len(shape) != 2 {
		src := g.source(x, n, nil)
		src.flat = true
		return src, true
	}
	return g.source(x, n, nil), true
}

func (g gemm) source(x *executable, n *ir.Node, stages []stage) source {
	in := n.In[:2]
	if t := n.In[1].Data; t != nil && len(g.bAt) == 1 {
		in = n.In[:1]
		g.columns = packed(x, t, fmt.Sprint("gemm", g.k, g.n, g.transB), func() *columns {
			return packColumns(x.set, t.Float32s(), g.k, g.n, g.transB)
		})
	}
	return source{in: in, stages: stages, make: func(stages []stage) kernel {
		g.stages = stages
		v := newGemm(x.set, g, x.pool.workers)
		return func(c *call, in, out []*tensor.Tensor) error {
			var b []float32
			first := 1
			if v.columns == nil {
				b, first = tensor.Data[float32](in[1]), 2
			}
			return v.run(c, tensor.Data[float32](in[0]), b, tensor.Data[float32](out[0]), othersOf(stages, in, first))
		}
	}}
}
