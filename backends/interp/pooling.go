package interp

import (
	"math"
	"slices"

	"thriftc/backends/interp/simd"
	"thriftc/ir"
	"thriftc/ir/f32"
	"thriftc/ir/ops"
	"thriftc/ir/tensor"
)

// flatWindow returns the geometry of a Conv or pooling node with two spatial
// dimensions; with one, a first is added, of size 1.
func flatWindow(n *ir.Node) (*ops.Window, bool) {
	w, err := ops.WindowOf(n)
	if err != nil || len(w.Kernel) > 2 {
		return nil, false
	}
	if len(w.Kernel) == 1 {
		w.Kernel, w.Stride, w.Dilation = []int{1, w.Kernel[0]}, []int{1, w.Stride[0]}, []int{1, w.Dilation[0]}
		w.PadLo, w.PadHi = []int{0, w.PadLo[0]}, []int{0, w.PadHi[0]}
		w.In, w.Out = []int{1, w.In[0]}, []int{1, w.Out[0]}
	}
	return w, true
}

// pooling computes MaxPool or AveragePool of planes.
type pooling struct {
	set    *simd.Set
	w      *ops.Window
	mean   bool
	padded bool // the mean's divisor counts padding
	lo, hi int  // columns of the output whose windows lie inside the input's rows
}

func poolSource(x *executable, n *ir.Node) (source, bool) {
	w, ok := flatWindow(n)
	if !ok || n.In[0].Type.Elem != tensor.F32 {
		return source{}, false
	}
	p := &pooling{set: x.set, w: w, mean: n.Op.Name == "AveragePool", padded: n.Int("count_include_pad") != 0}
	stride, left, reach := w.Stride[1], w.PadLo[1], (w.Kernel[1]-1)*w.Dilation[1]
	p.lo = min((left+stride-1)/stride, w.Out[1])
	p.hi = p.lo
	if last := w.In[1] - 1 - reach + left; last >= 0 {
		p.hi = max(p.lo, min(last/stride+1, w.Out[1]))
	}
	return planesSource(n, p.plane), true
}

// planesSource computes each plane of the output from one plane of the input. f
// has as much temporary memory as the output's plane.
func planesSource(n *ir.Node, f func(y, x, temp []float32)) source {
	from, _ := n.In[0].Type.Static()
	to, _ := n.Out[0].Type.Static()
	planes, a, b := to[0]*to[1], innerSize(from), innerSize(to)
	perTask := max(1, chunk/max(1, a))
	return source{in: n.In[:1], make: func(stages []stage) kernel {
		return func(c *call, in, out []*tensor.Tensor) error {
			x, y := tensor.Data[float32](in[0]), tensor.Data[float32](out[0])
			others := othersOf(stages, in, 1)
			return c.parallel((planes+perTask-1)/perTask, func(worker, i int) {
				temp := c.temp(worker, b)
				for p := i * perTask; p < min((i+1)*perTask, planes); p++ {
					row := y[p*b:][:b]
					f(row, x[p*a:][:a], temp)
					applyAll(stages, row, others, p%to[1], p*b)
				}
			})
		}
	}}
}

func (p *pooling) plane(y, x, temp []float32) {
	w := p.w
	for oy := range w.Out[0] {
		row := y[oy*w.Out[1]:][:w.Out[1]]
		k0, k1, high := taps(w, 0, oy)
		p.inner(row[p.lo:p.hi], x, temp, oy, k0, k1, high)
		for ox := range row {
			if ox < p.lo || ox >= p.hi {
				row[ox] = p.one(x, oy, ox, k0, k1, high)
			}
		}
	}
}

// taps returns the first and the end of the taps at output position o that lie
// inside the input, along an axis, and how many lie inside the padded input.
func taps(w *ops.Window, axis, o int) (from, to, padded int) {
	start, d := o*w.Stride[axis]-w.PadLo[axis], w.Dilation[axis]
	before := func(end int) int {
		if end <= start {
			return 0
		}
		return min(w.Kernel[axis], (end-1-start)/d+1)
	}
	if start < 0 {
		from = (-start + d - 1) / d
	}
	to = before(w.In[axis])
	return min(from, to), to, before(w.In[axis] + w.PadHi[axis])
}

// inner computes the outputs of a row whose windows lie inside the input's
// columns. temp has room for a row.
func (p *pooling) inner(dst, x, temp []float32, oy, k0, k1, high int) {
	w := p.w
	if p.mean || k0 == k1 {
		for i := range dst {
			dst[i] = p.none()
		}
	}
	for k := k0; k < k1; k++ {
		iy := oy*w.Stride[0] - w.PadLo[0] + k*w.Dilation[0]
		for j := range w.Kernel[1] {
			src := x[iy*w.In[1]+p.lo*w.Stride[1]-w.PadLo[1]+j*w.Dilation[1]:]
			first := k == k0 && j == 0
			if first && !p.mean {
				p.set.Every(dst, src, w.Stride[1])
				continue
			}
			if w.Stride[1] > 1 {
				p.set.Every(temp[:len(dst)], src, w.Stride[1])
				src = temp
			}
			if p.mean {
				p.set.Add(dst, dst, src)
			} else {
				p.set.Max(dst, src, dst)
			}
		}
	}
	if p.mean {
		count := p.count((k1-k0)*w.Kernel[1], high*w.Kernel[1])
		for i := range dst {
			dst[i] /= count
		}
	}
}

// none is the result of a window without elements.
func (p *pooling) none() float32 {
	if p.mean {
		return 0
	}
	return float32(math.Inf(-1))
}

// count returns the divisor of the mean of a window with so many elements, in
// so many positions of the padded input.
func (p *pooling) count(inside, padded int) float32 {
	if p.padded {
		inside = padded
	}
	return float32(max(1, inside))
}

// one computes one output.
func (p *pooling) one(x []float32, oy, ox, k0, k1, high int) float32 {
	w := p.w
	j0, j1, wide := taps(w, 1, ox)
	out := p.none()
	for k := k0; k < k1; k++ {
		iy := oy*w.Stride[0] - w.PadLo[0] + k*w.Dilation[0]
		for j := j0; j < j1; j++ {
			v := x[iy*w.In[1]+ox*w.Stride[1]-w.PadLo[1]+j*w.Dilation[1]]
			if p.mean {
				out += v
			} else if k == k0 && j == j0 || v > out {
				out = v
			}
		}
	}
	if p.mean {
		out /= p.count((k1-k0)*(j1-j0), high*wide)
	}
	return out
}

// globalMeanSource is GlobalAveragePool.
func globalMeanSource(_ *executable, n *ir.Node) (source, bool) {
	if shape, ok := n.In[0].Type.Static(); !ok || slices.Contains(shape, 0) || n.In[0].Type.Elem != tensor.F32 {
		return source{}, false
	}
	return planesSource(n, func(y, x, _ []float32) { y[0] = f32.Sum(x) / float32(len(x)) }), true
}
