package interp

import (
	"math"
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// flatWindow returns the geometry of a Conv or pooling node with two spatial
// dimensions; with one, a first is added, of size 1.
func flatWindow(n *ir.Node) (*ops.Window, bool) {
	w, err := ops.WindowOf(n)
	return inPlane(w), err == nil && len(w.Kernel) <= 2
}

// inPlane gives a window of one dimension a first one, of size 1.
func inPlane(w *ops.Window) *ops.Window {
	if w != nil && len(w.Kernel) == 1 {
		w.Kernel, w.Stride, w.Dilation = []int{1, w.Kernel[0]}, []int{1, w.Stride[0]}, []int{1, w.Dilation[0]}
		w.PadLo, w.PadHi = []int{0, w.PadLo[0]}, []int{0, w.PadHi[0]}
		w.In, w.Out = []int{1, w.In[0]}, []int{1, w.Out[0]}
	}
	return w
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
	src := planesSource(n, p.plane)
	planes := src.make
	src.arrange = func(lies []int) ([]want, want) {
		if lies[0] == 1 {
			return []want{plain}, plain
		}
		return follows(lies)
	}
	src.make = func(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
		if out.block == 1 {
			return planes(in, out, stages, others, s)
		}
		after := bind(stages, inBlock, others)
		return rowTasks(out, w.Kernel[0]*w.Kernel[1], func(wk *worker, n, g, y int) {
			p.blocks(wk, in[0], out, n, g, y)
			finish(wk, after, out, n, g, y, 0, out.w*out.block)
		})
	}
	return src, true
}

// planesSource computes each plane of the output from one plane of the input. f
// has as much temporary memory as the output's plane.
func planesSource(n *ir.Node, f func(y, x, temp []float32)) source {
	return source{in: n.In[:1], name: "pool", make: func(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
		x, a, b := in[0], in[0].h*in[0].w, out.h*out.w
		kind := inChannel
		if b == 1 {
			kind = across
		}
		after := bind(stages, kind, others)
		perTask := max(1, chunk/max(1, a))
		planes := out.n * out.c
		return []phase{{(planes + perTask - 1) / perTask, func(w *worker, i int) {
			for p := i * perTask; p < min((i+1)*perTask, planes); p++ {
				n, c := p/out.c, p%out.c
				f(out.plane(n, c), x.plane(n, c), w.temp(b))
				finish(w, after, out, n, c, 0, 0, b)
			}
		}}}
	}}
}

// blocks computes row y of a block of channels.
func (p *pooling) blocks(k *worker, in, out *view, n, g, y int) {
	w := p.w
	k0, k1, high := taps(w, 0, y)
	t := &k.stage
	*t = simd.Tile{Dist: 4 * w.Stride[1] * in.block, YDist: 4 * out.block}
	for x := 0; x < out.w; {
		pixels, j0, j1, wide := 1, 0, w.Kernel[1], w.Kernel[1]
		if x >= p.lo && x < p.hi {
			pixels = p.hi - x
		} else {
			j0, j1, wide = taps(w, 1, x)
		}
		row := out.data[out.at(n, g, y)+x*out.block:][:pixels*out.block]
		x += pixels
		if k0 == k1 || j0 == j1 {
			for i := range row {
				row[i] = p.none()
			}
			continue
		}
		k.offsets = k.offsets[:0]
		at := 0
		first := in.at(n, g, y*w.Stride[0]-w.PadLo[0]+k0*w.Dilation[0]) + ((x-pixels)*w.Stride[1]-w.PadLo[1]+j0*w.Dilation[1])*in.block
		for i := range k1 - k0 {
			for j := range j1 - j0 {
				next := 4 * (i*w.Dilation[0]*in.row + j*w.Dilation[1]*in.block)
				k.offsets = append(k.offsets, next-at)
				at = next
			}
		}
		t.X, t.Y, t.Off, t.K = unsafe.Pointer(&in.data[first]), unsafe.Pointer(&row[0]), &k.offsets[0], len(k.offsets)
		if p.mean {
			t.Lo = p.count((k1-k0)*(j1-j0), high*wide)
			p.set.PoolMean(pixels, t)
		} else {
			p.set.PoolMax(pixels, t)
		}
	}
}

func (p *pooling) plane(y, x, temp []float32) {
	w := p.w
	for oy := range w.Out[0] {
		row := y[oy*w.Out[1]:][:w.Out[1]]
		k0, k1, high := taps(w, 0, oy)
		if p.lo < p.hi {
			p.inner(row[p.lo:p.hi], x, temp, oy, k0, k1, high)
		}
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

// inner computes the outputs of a row, of which there must be some, whose windows
// lie inside the input's columns. temp has room for a row.
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
func globalMeanSource(x *executable, n *ir.Node) (source, bool) {
	if shape, ok := n.In[0].Type.Static(); !ok || len(shape) < 3 || slices.Contains(shape[2:], 0) || n.In[0].Type.Elem != tensor.F32 {
		return source{}, false
	}
	src := planesSource(n, func(y, x, _ []float32) { y[0] = f32.Sum(x) / float32(len(x)) })
	planes := src.make
	src.arrange = func(lies []int) ([]want, want) {
		if lies[0] == 1 {
			return []want{plain}, plain
		}
		return []want{{layout: blocked}}, plain
	}
	src.make = func(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
		from := in[0]
		if from.block == 1 {
			return planes(in, out, stages, others, s)
		}
		after := bind(stages, across, others)
		return []phase{{from.n * from.groups(), func(w *worker, i int) {
			n, g := i/from.groups(), i%from.groups()
			ch := g * from.block
			row := out.all()[n*out.c+ch:][:min(from.block, out.c-ch)]
			copy(row, blockMeans(x.set, w, from, n, g))
			for j := range after {
				var other []float32
				if o := after[j].other; o != nil {
					other = o.all()[n*out.c+ch:][:len(row)]
				}
				after[j].apply(w, row, other, ch)
			}
		}}}
	}
	return src, true
}

// blockMeans returns the means of a block of channels, with f32.Sum's order:
// sixteen partial sums, each of every sixteenth pixel, added as a tree.
func blockMeans(s *simd.Set, w *worker, v *view, n, g int) []float32 {
	sums := w.temp(16 * v.block)
	clear(sums)
	pixel := 0
	for y := range v.h {
		for row := v.line(n, g, y); len(row) > 0; {
			at := pixel % 16 * v.block
			k := min(len(row), len(sums)-at)
			s.Add(sums[at:at+k], sums[at:at+k], row[:k])
			row = row[k:]
			pixel += k / v.block
		}
	}
	for width := len(sums) / 2; width >= v.block; width /= 2 {
		s.Add(sums[:width], sums[:width], sums[width:2*width])
	}
	sums = sums[:v.block]
	for i := range sums {
		sums[i] /= float32(pixel)
	}
	return sums
}
