package interp

import (
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// resizeSource is Resize of the last two dimensions, or of the last of three.
func resizeSource(x *executable, n *ir.Node) (source, bool) {
	shape, ok := n.In[0].Type.Static()
	if !ok || n.In[0].Type.Elem != tensor.F32 || len(shape) != 3 && len(shape) != 4 {
		return source{}, false
	}
	list, ok := ops.ResizeTapsOf(n)
	if !ok {
		return source{}, false
	}
	r := resize{set: x.set}
	for i := range list {
		t := &list[i]
		switch {
		case t.Weights == nil && same(t.At, shape[t.Axis]):
		case t.Axis < 2 || len(t.At) == 0:
			return source{}, false
		case t.Axis == len(shape)-1:
			r.cols = t
		default:
			if r.cols != nil && t.Weights != nil { // another order than that of the kernel
				return source{}, false
			}
			r.rows = t
		}
	}
	src := source{name: "resize", in: n.In[:1], arrange: follows, make: r.move}
	if n.Str("mode") != "nearest" {
		if r.rows == nil && r.cols == nil {
			return source{}, false
		}
		src.make = r.interpolate
		src.arrange = func([]int) ([]want, want) {
			w := want{layout: blocked}
			return []want{w}, w
		}
	}
	return src, true
}

// same reports whether every one of n elements comes from its own place.
func same(at [][]int, n int) bool {
	for i, a := range at {
		if a[0] != i {
			return false
		}
	}
	return len(at) == n
}

// resize is a Resize along rows, columns or both; nil: not along this axis.
type resize struct {
	set        *simd.Set
	rows, cols *ops.ResizeTaps
}

// move implements source.make for what only moves elements.
func (r *resize) move(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
	x := in[0]
	kind := inChannel
	if out.block > 1 {
		kind = inBlock
	}
	after := bind(stages, kind, others)
	return rowTasks(out, 2, func(w *worker, n, g, y int) {
		from := y
		if r.rows != nil {
			from = r.rows.At[y][0]
		}
		dst, src := out.line(n, g, y), x.line(n, g, from)
		switch {
		case r.cols == nil:
			copy(dst, src)
		case out.block == 1:
			for i, at := range r.cols.At {
				dst[i] = src[at[0]]
			}
		default:
			for i, at := range r.cols.At {
				*(*[simd.Block]float32)(dst[i*simd.Block:]) = [simd.Block]float32(src[at[0]*simd.Block:])
			}
		}
		finish(w, after, out, n, g, y, 0, len(dst))
	})
}

// interpolate implements source.make.
func (r *resize) interpolate(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
	x := in[0]
	// One tap of weight 1 changes nothing, for sums begin with +0 along the other axis too.
	rows, rowWeights := tapsAlong(r.rows, out.h, 4*x.row)
	cols, colWeights := tapsAlong(r.cols, out.w, 4*x.block)
	after := bind(stages, inBlock, others)
	if out.size == 0 {
		return nil
	}
	rowTaps, colTaps := len(rows)/out.h, len(cols)/out.w
	return rowTasks(out, 2*rowTaps*colTaps, func(w *worker, n, g, y int) {
		w.resample = simd.Resample{
			X: x.ptr(x.at(n, g, 0)), Y: out.ptr(out.at(n, g, y)), Pixels: out.w,
			Rows: &rows[y*rowTaps], RowWeights: &rowWeights[y*rowTaps], RowTaps: rowTaps,
			Cols: &cols[0], ColWeights: &colWeights[0], ColTaps: colTaps,
		}
		r.set.Resample(&w.resample)
		finish(w, after, out, n, g, y, 0, out.w*out.block)
	})
}

// tapsAlong returns the distances and weights of n outputs' taps along an axis
// whose elements lie so many bytes apart.
func tapsAlong(t *ops.ResizeTaps, n, apart int) (at []int, weights []float64) {
	for i := range n {
		if t == nil {
			at, weights = append(at, i*apart), append(weights, 1)
			continue
		}
		for j, k := range t.At[i] {
			at, weights = append(at, k*apart), append(weights, t.Weights[i][j])
		}
	}
	return at, weights
}
