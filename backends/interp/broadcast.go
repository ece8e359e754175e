package interp

import (
	"math"
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// broadcastUnit is Add, Sub, Mul or Div of two arrays that broadcast to the output's shape.
func broadcastUnit(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool) {
	if len(n.In) != 2 || n.In[1].Type.Elem != tensor.F32 {
		return nil, false
	}
	shape, to, from := alike(staticShape(n.Out[0]), staticShape(n.In[0]), staticShape(n.In[1]))
	last := len(shape) - 1
	size := shape[last]
	vectors := map[string]func(dst, x, y []float32){"Add": x.set.Add, "Sub": x.set.Sub, "Mul": x.set.Mul, "Div": x.set.Div}[n.Op.Name]
	const most = 2048 // elements at once
	width := min(size, most)
	pieces := (size + width - 1) / width
	return func(in []*view, out *view) phase {
		all := out.size / size * pieces
		per := max(1, chunk/width)
		return phase{(all + per - 1) / per, func(w *worker, i int) {
			temp := w.temp(2 * width)
			piece := func(in, temp []float32, at, step, from, to int) []float32 {
				if step == 1 {
					return in[at+from : at+to]
				}
				for i := range to - from {
					temp[i] = in[at]
				}
				return temp[:to-from]
			}
			for p := i * per; p < min((i+1)*per, all); p++ {
				r := p / pieces
				lo := p % pieces * width
				hi := min(lo+width, size)
				a, b, rest := 0, 0, r
				for d := last - 1; d >= 0; d-- {
					k := rest % shape[d]
					rest /= shape[d]
					a, b = a+k*to[d], b+k*from[d]
				}
				vectors(out.data[r*size+lo:r*size+hi], piece(in[0].data, temp, a, to[last], lo, hi), piece(in[1].data, temp[width:], b, from[last], lo, hi))
			}
		}}
	}, true
}

// alike returns the shape of an array to which two of shapes a and b broadcast,
// with dimensions joined where they lie alike in both, and the strides of the
// two, 0 where they broadcast.
func alike(shape, a, b []int) (joined, as, bs []int) {
	spread := func(s []int) []int {
		out := slices.Concat(make([]int, len(shape)-len(s)), strides(s))
		for i, d := range s {
			if j := len(shape) - len(s) + i; d == 1 && shape[j] != 1 {
				out[j] = 0
			}
		}
		return out
	}
	pa, pb := spread(a), spread(b)
	for i := len(shape) - 1; i >= 0; i-- {
		if shape[i] == 1 {
			continue
		}
		if k := len(joined) - 1; k >= 0 && pa[i] == as[k]*joined[k] && pb[i] == bs[k]*joined[k] {
			joined[k] *= shape[i]
			continue
		}
		joined, as, bs = append(joined, shape[i]), append(as, pa[i]), append(bs, pb[i])
	}
	if len(joined) == 0 {
		return []int{1}, []int{1}, []int{1}
	}
	slices.Reverse(joined)
	slices.Reverse(as)
	slices.Reverse(bs)
	return joined, as, bs
}

// channelSource is Add or Mul of images and an array with one element for each
// channel, or one for each channel of each image, that is no constant.
func channelSource(x *executable, n *ir.Node) (source, bool) {
	if len(n.In) != 2 {
		return source{}, false
	}
	v, p := n.In[0], n.In[1]
	if !v.Type.Equal(n.Out[0].Type) {
		v, p = p, v
	}
	shape, ok := p.Type.Static()
	if !ok || p.HasData() || p.Type.Elem != tensor.F32 || !v.Type.Equal(n.Out[0].Type) || len(shape) != 4 {
		return source{}, false
	}
	if s := staticShape(v); shape[1] != s[1] || shape[2] != 1 || shape[3] != 1 || shape[0] != s[0] && shape[0] != 1 || s[2]*s[3] == 1 {
		return source{}, false
	}
	c := &perImage{set: x.set, mul: n.Op.Name == "Mul"}
	for i := range c.minus {
		c.minus[i] = float32(math.Copysign(0, -1))
	}
	arrange := func(lies []int) ([]want, want) {
		w := want{layout: layout{block: lies[0]}}
		return []want{w, plain}, w
	}
	return source{name: "elementwise", in: []*ir.Value{v, p}, arrange: arrange, make: c.make}, true
}

type perImage struct {
	set         *simd.Set
	mul         bool
	zero, minus [simd.Block]float32 // +0 and −0
}

// make implements source.make.
func (c *perImage) make(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
	x, p, kind := in[0], in[1], inChannel
	if out.block > 1 {
		kind = inBlock
	}
	after := bind(stages, kind, others)
	return rowTasks(out, 1, func(w *worker, n, g, y int) {
		dst, src := out.line(n, g, y), x.line(n, g, y)
		params := p.data[(n%p.n)*p.c+g*out.block:][:min(out.block, p.c-g*out.block)]
		switch {
		case out.block > 1:
			copy(dst, src)
			c.lanes(w, dst, params)
		case c.mul:
			c.set.MulScalar(dst, src, params[0])
		default:
			c.set.AddScalar(dst, src, params[0])
		}
		finish(w, after, out, n, g, y, 0, len(dst))
	})
}

// lanes applies one parameter to each lane of pixels. A product is (x − 0)·p + (−0).
func (c *perImage) lanes(w *worker, row, params []float32) {
	if len(params) < simd.Block {
		t := w.temp(simd.Block)
		clear(t[copy(t, params):])
		params = t
	}
	t := &w.stage
	*t = simd.Tile{Flags: simd.More | simd.Bias, YDist: 4 * simd.Block, Bias: unsafe.Pointer(&params[0])}
	if c.mul {
		t.Flags, t.Mean, t.Scale, t.Shift = simd.More|simd.Norm, unsafe.Pointer(&c.zero), unsafe.Pointer(&params[0]), unsafe.Pointer(&c.minus)
	}
	for most := simd.Block * c.set.ConvPixels(1); len(row) > 0; row = row[min(most, len(row)):] {
		t.Y = unsafe.Pointer(&row[0])
		c.set.Conv(1, min(most, len(row))/simd.Block, t)
	}
}
