package interp

import (
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// averageGradSource is AveragePoolGrad, in blocks of channels.
func averageGradSource(x *executable, n *ir.Node) (source, bool) {
	g, ok := poolGradWindow(n, n.In[0])
	if !ok {
		return source{}, false
	}
	withPad := n.Int("count_include_pad") != 0
	return poolGradSource(n.In, g, func(dx, dy *view, _ *view, n, g int, w *ops.Window) {
		for oy := range w.Out[0] {
			y0, y1, fromY, inY := span(w, 0, oy)
			for ox := range w.Out[1] {
				x0, x1, fromX, inX := span(w, 1, ox)
				count := (y1 - y0) * (x1 - x0)
				if withPad {
					count = inY * inX
				}
				var v [simd.Block]float32
				for l, d := range vectorOf(dy, n, g, oy, ox) {
					v[l] = d / float32(max(count, 1))
				}
				for i := y0; i < y1; i++ {
					for j := x0; j < x1; j++ {
						to := vectorOf(dx, n, g, fromY+i*w.Dilation[0], fromX+j*w.Dilation[1])
						for l := range to {
							to[l] += v[l]
						}
					}
				}
			}
		}
	}), true
}

// maxGradSource is MaxPoolGrad, in blocks of channels.
func maxGradSource(x *executable, n *ir.Node) (source, bool) {
	g, ok := poolGradWindow(n, n.In[0])
	if !ok {
		return source{}, false
	}
	return poolGradSource(n.In, g, func(dx, dy, x *view, n, g int, w *ops.Window) {
		for oy := range w.Out[0] {
			y0, y1, fromY, _ := span(w, 0, oy)
			for ox := range w.Out[1] {
				x0, x1, fromX, _ := span(w, 1, ox)
				var best [simd.Block]float32
				var at [simd.Block]int
				first := true
				for i := y0; i < y1; i++ {
					for j := x0; j < x1; j++ {
						py, px := fromY+i*w.Dilation[0], fromX+j*w.Dilation[1]
						for l, v := range vectorOf(x, n, g, py, px) {
							if first || v > best[l] {
								best[l], at[l] = v, dx.at(n, g, py)+px*simd.Block+l
							}
						}
						first = false
					}
				}
				if first {
					continue
				}
				for l, d := range vectorOf(dy, n, g, oy, ox) {
					dx.data[at[l]] += d
				}
			}
		}
	}), true
}

// poolGradWindow returns the geometry of the gradient of a pooling with two spatial dimensions.
func poolGradWindow(n *ir.Node, dy *ir.Value) (*ops.Window, bool) {
	if !staticOuts(n) || n.Out[0].Type.Rank() != 4 || dy.Type.Elem != tensor.F32 {
		return nil, false
	}
	g, err := ops.WindowOf(n)
	return g, err == nil
}

// poolGradSource computes the gradient of a pooling plane by plane.
func poolGradSource(in []*ir.Value, g *ops.Window, plane func(dx, dy, x *view, n, g int, w *ops.Window)) source {
	return source{
		in: in, name: "pool gradient",
		arrange: func(lies []int) ([]want, want) {
			wants := make([]want, len(in))
			for i := range wants {
				wants[i] = want{layout: blocked}
			}
			return wants, want{layout: blocked}
		},
		make: func(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
			after := bind(stages, inBlock, others)
			return []phase{{out.n * out.groups(), func(w *worker, i int) {
				n, c := i/out.groups(), i%out.groups()
				for y := range out.h {
					clear(out.line(n, c, y))
				}
				plane(out, in[0], in[len(in)-1], n, c, g)
				for y := range out.h {
					finish(w, after, out, n, c, y, 0, out.w*out.block)
				}
				out.clearHalo(n, c, 0, out.h)
			}}}
		},
	}
}

// vectorOf returns the channels of a pixel.
func vectorOf(v *view, n, g, y, x int) []float32 {
	return v.data[v.at(n, g, y)+x*simd.Block:][:simd.Block]
}

// span returns the taps of a window along a dimension that lie in the input, where tap 0 lies,
// and how many taps lie in the padded input.
func span(w *ops.Window, dim, at int) (lo, hi, from, padded int) {
	from = at*w.Stride[dim] - w.PadLo[dim]
	d := w.Dilation[dim]
	inside := func(end int) int {
		if end <= from {
			return 0
		}
		return min(w.Kernel[dim], (end-1-from)/d+1)
	}
	if from < 0 {
		lo = min((-from+d-1)/d, w.Kernel[dim])
	}
	return lo, max(lo, inside(w.In[dim])), from, inside(w.In[dim] + w.PadHi[dim])
}
