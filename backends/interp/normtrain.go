package interp

import (
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// imageGroups is the number of groups of images in which gradients and statistics are
// added up (see thriftc.ConvGradWeight).
const imageGroups = 8

// normTrain is BatchNormTrain or its gradient, in blocks of channels.
type normTrain struct {
	set     *simd.Set
	epsilon float32
	masked  bool
}

// staticOuts is staticF32 for nodes whose first output has channels.
func staticOuts(n *ir.Node) bool {
	return staticF32(n) && n.Out[0] != nil && n.Out[0].Type.Rank() >= 2
}

// staticF32 reports whether all inputs and outputs are f32 of known shape.
func staticF32(n *ir.Node) bool {
	for _, list := range [2][]*ir.Value{n.In, n.Out} {
		for _, v := range list {
			if v == nil {
				continue
			}
			shape, ok := v.Type.Static()
			if !ok || v.Type.Elem != tensor.F32 {
				return false
			}
			if _, err := tensor.NumElems(shape); err != nil {
				return false
			}
		}
	}
	return true
}

// elements returns the number of elements of a value of known shape.
func elements(v *ir.Value) int {
	n := 1
	for _, d := range v.Type.Dims {
		n *= d.N
	}
	return n
}

// wantBlocks wants the first so many inputs in blocks of channels, and gives blocks.
func wantBlocks(count int) func(lies []int) ([]want, want) {
	return func(lies []int) ([]want, want) {
		wants := make([]want, len(lies))
		for i := range wants {
			if wants[i] = plain; i < count || i == 5 { // the mask of a gradient comes last
				wants[i] = want{layout: blocked}
			}
		}
		return wants, want{layout: blocked}
	}
}

// normTrainSource is BatchNormTrain.
func normTrainSource(x *executable, n *ir.Node) (source, bool) {
	if !staticOuts(n) || n.Output(1) == nil || n.Output(2) == nil || elements(n.In[0]) == 0 {
		return source{}, false
	}
	t := &normTrain{set: x.set, epsilon: n.Float("epsilon")}
	return source{name: "batchnorm", in: n.In, more: n.Out[1:], arrange: wantBlocks(1), makeMore: t.forward}, true
}

// normSource is BatchNormalization with statistics or parameters that are computed, as in
// a backward pass that computes activations again.
func normSource(x *executable, n *ir.Node) (source, bool) {
	constant := true
	for _, v := range n.In[1:] {
		constant = constant && v.HasData()
	}
	if constant || !staticOuts(n) || n.Int("training_mode") != 0 || elements(n.In[0]) == 0 {
		return source{}, false
	}
	t := &normTrain{set: x.set, epsilon: n.Float("epsilon")}
	return source{name: "batchnorm", in: n.In, arrange: wantBlocks(1), make: t.apply}, true
}

// normGradSource is BatchNormTrainGrad.
func normGradSource(x *executable, n *ir.Node) (source, bool) {
	if !staticOuts(n) || n.Output(1) == nil || n.Output(2) == nil || elements(n.In[0]) == 0 {
		return source{}, false
	}
	t := &normTrain{set: x.set, epsilon: n.Float("epsilon"), masked: n.Input(5) != nil}
	return source{name: "batchnorm gradient", in: n.In, more: n.Out[1:], arrange: wantBlocks(2), makeMore: t.backward}, true
}

const (
	lanesBytes = 4 * simd.Block
	partials   = 2 * 16 * simd.Block // floats of the partial sums of a group of images
)

// vectorAt returns the vector of channel group g in an array with count vectors for each.
func vectorAt(v *view, g, count int) []float32 { return v.data[g*count*simd.Block:][:count*simd.Block] }

// channels copies a parameter of channel group g into dst, with zeros beyond the last channel.
func channels(dst []float32, p *view, g int) {
	clear(dst[copy(dst, p.data[g*simd.Block:min((g+1)*simd.Block, p.size)]):])
}

// sums adds partial sums over the images of every group and combines them: into
// totals go two vectors for each channel group.
func (t *normTrain) sums(x *view, totals, groups *view, add func(w *worker, l *simd.Lanes, n, g, y, rows int)) []phase {
	collect := phase{imageGroups * x.groups(), func(w *worker, i int) {
		part := w.temp(partials)
		clear(part)
		g := i / imageGroups
		l := &w.lanes
		*l = simd.Lanes{Sums: unsafe.Pointer(&part[0])}
		lo, hi := i%imageGroups*x.n/imageGroups, (i%imageGroups+1)*x.n/imageGroups
		for n := lo; n < hi; n++ {
			step := 1
			if !x.halo() {
				step = x.h
			}
			for y := 0; y < x.h; y += step {
				l.N = step * x.w
				add(w, l, n, g, y, step)
				l.At = (l.At + lanesBytes*l.N) & (16*lanesBytes - 1)
			}
		}
		for half := 8 * simd.Block; half >= simd.Block; half /= 2 {
			for k := range 2 {
				p := part[k*16*simd.Block:]
				t.set.Add(p[:half], p[:half], p[half:2*half])
			}
		}
		copy(groups.data[2*i*simd.Block:], part[:simd.Block])
		copy(groups.data[(2*i+1)*simd.Block:], part[16*simd.Block:17*simd.Block])
	}}
	combine := phase{x.groups(), func(_ *worker, g int) {
		to := vectorAt(totals, g, 2)
		copy(to, groups.data[2*g*imageGroups*simd.Block:])
		for i := 1; i < imageGroups; i++ {
			t.set.Add(to, to, groups.data[2*(g*imageGroups+i)*simd.Block:])
		}
	}}
	return []phase{collect, combine}
}

// pointer returns the address of a pixel's vector.
func pointer(v *view, n, g, y int) unsafe.Pointer { return v.ptr(v.at(n, g, y)) }

// pieces runs body for rows.
func pieces(y *view, body func(w *worker, l *simd.Lanes, n, g, row int)) []phase {
	return rowTasks(y, 2, func(w *worker, n, g, row int) {
		l := &w.lanes
		*l = simd.Lanes{N: y.w}
		body(w, l, n, g, row)
	})
}

func (t *normTrain) forward(in, out []*view, stages []stage, others []*view, s *step) []phase {
	x, scale, bias := in[0], in[1], in[2]
	y, mean, variance := out[0], out[1], out[2]
	size := x.groups() * simd.Block
	first := s.temp([]int{size}, planar) // the means of the first image
	groups, totals, params := s.temp([]int{2 * imageGroups * size}, planar), s.temp([]int{2 * size}, planar), s.temp([]int{3 * size}, planar)
	start := phase{x.groups(), func(w *worker, g int) {
		part := w.temp(partials + simd.Block)
		clear(part)
		l := &w.lanes
		*l = simd.Lanes{N: x.w, Params: unsafe.Pointer(&part[partials]), Sums: unsafe.Pointer(&part[0])}
		for row := range x.h {
			l.X = pointer(x, 0, g, row)
			t.set.NormSums(l)
			l.At = (l.At + lanesBytes*l.N) & (16*lanesBytes - 1)
		}
		for half := 8 * simd.Block; half >= simd.Block; half /= 2 {
			t.set.Add(part[:half], part[:half], part[half:2*half])
		}
		for i, v := range part[:simd.Block] {
			first.data[g*simd.Block+i] = v / float32(x.h*x.w)
		}
	}}
	phases := append([]phase{start}, t.sums(x, totals, groups, func(w *worker, l *simd.Lanes, n, g, row, _ int) {
		l.X, l.Params = pointer(x, n, g, row), unsafe.Pointer(&first.data[g*simd.Block])
		t.set.NormSums(l)
	})...)
	count := float32(x.n * x.h * x.w)
	finishing := phase{1, func(*worker, int) {
		for g := range x.groups() {
			p, sum := vectorAt(params, g, 3), vectorAt(totals, g, 2)
			channels(p[2*simd.Block:], bias, g)
			for i := range simd.Block {
				c := g*simd.Block + i
				if c >= x.c {
					p[i], p[simd.Block+i] = 0, 0
					continue
				}
				s1, s2 := sum[i], sum[simd.Block+i]
				m := first.data[c] + s1/count
				v := max(0, f32.FMA(-s1, s1/count, s2)/count)
				mean.data[c], variance.data[c] = m, v
				p[i], p[simd.Block+i] = m, scale.data[c]/f32.Sqrt(v+t.epsilon)
			}
		}
	}}
	return append(append(phases, finishing), t.rows(x, y, params, bind(stages, inBlock, others))...)
}

// apply implements source.make.
func (t *normTrain) apply(in []*view, out *view, stages []stage, others []*view, s *step) []phase {
	x, scale, bias, mean, variance := in[0], in[1], in[2], in[3], in[4]
	params := s.temp([]int{3 * x.groups() * simd.Block}, planar)
	prepare := phase{1, func(*worker, int) {
		for g := range x.groups() {
			p := vectorAt(params, g, 3)
			channels(p[:simd.Block], mean, g)
			channels(p[2*simd.Block:], bias, g)
			for i := range simd.Block {
				if c := g*simd.Block + i; c < x.c {
					p[simd.Block+i] = scale.data[c] / f32.Sqrt(variance.data[c]+t.epsilon)
				} else {
					p[simd.Block+i] = 0
				}
			}
		}
	}}
	return append([]phase{prepare}, t.rows(x, out, params, bind(stages, inBlock, others))...)
}

// rows normalises x to y with the mean, factor and bias of each channel.
func (t *normTrain) rows(x, y, params *view, after []bound) []phase {
	return pieces(y, func(w *worker, l *simd.Lanes, n, g, row int) {
		l.X, l.Y, l.Params = pointer(x, n, g, row), pointer(y, n, g, row), unsafe.Pointer(&params.data[3*g*simd.Block])
		t.set.NormRow(l)
		finish(w, after, y, n, g, row, 0, y.w*y.block)
	})
}

func (t *normTrain) backward(in, out []*view, stages []stage, others []*view, s *step) []phase {
	dy, x, scale, mean, variance := in[0], in[1], in[2], in[3], in[4]
	var mask *view
	if t.masked {
		mask = in[len(in)-1]
	}
	dx, dscale, db := out[0], out[1], out[2]
	size := x.groups() * simd.Block
	groups, totals, params := s.temp([]int{2 * imageGroups * size}, planar), s.temp([]int{2 * size}, planar), s.temp([]int{4 * size}, planar)
	means := phase{x.groups(), func(_ *worker, g int) { channels(vectorAt(params, g, 4)[:simd.Block], mean, g) }}
	set := func(l *simd.Lanes, n, g, row int) {
		l.X, l.D, l.Params = pointer(x, n, g, row), pointer(dy, n, g, row), unsafe.Pointer(&params.data[4*g*simd.Block])
		if mask != nil {
			l.Mask = pointer(mask, n, g, row)
		}
	}
	phases := append([]phase{means}, t.sums(x, totals, groups, func(w *worker, l *simd.Lanes, n, g, row, rows int) {
		if rows == 1 || flat(dy, mask) {
			set(l, n, g, row)
			t.set.GradSums(l)
			return
		}
		all, at := l.N, l.At
		l.N /= rows
		for r := range rows {
			set(l, n, g, row+r)
			t.set.GradSums(l)
			l.At = (l.At + lanesBytes*l.N) & (16*lanesBytes - 1)
		}
		l.N, l.At = all, at
	})...)
	count := float32(x.n * x.h * x.w)
	finishing := phase{1, func(*worker, int) {
		for g := range x.groups() {
			p, sum := vectorAt(params, g, 4), vectorAt(totals, g, 2)
			for i := range simd.Block {
				c := g*simd.Block + i
				if c >= x.c {
					p[simd.Block+i], p[2*simd.Block+i], p[3*simd.Block+i] = 0, 0, 0
					continue
				}
				std := f32.Sqrt(variance.data[c] + t.epsilon)
				inv, a := 1/std, scale.data[c]/std
				b, k := sum[i], float32(inv*sum[simd.Block+i])
				db.data[c], dscale.data[c] = b, k
				p[simd.Block+i] = -float32(a*float32(inv*k)) / count
				p[2*simd.Block+i] = a
				p[3*simd.Block+i] = -float32(a*b) / count
			}
		}
	}}
	after := bind(stages, inBlock, others)
	return append(append(phases, finishing), pieces(dx, func(w *worker, l *simd.Lanes, n, g, row int) {
		set(l, n, g, row)
		l.Y = pointer(dx, n, g, row)
		t.set.GradRow(l)
		finish(w, after, dx, n, g, row, 0, dx.w*dx.block)
	})...)
}

// channelSumUnit is ReduceSum over everything but channels, as in the gradient of a bias.
func channelSumUnit(x *executable, n *ir.Node) (unit, bool) {
	v := n.In[0]
	shape, ok := v.Type.Static()
	axes := n.ConstIn(1)
	if !ok || v.Type.Elem != tensor.F32 || len(shape) < 3 || elements(v) == 0 || axes == nil || n.Int("keepdims") != 0 || axes.Len() != len(shape)-1 {
		return unit{}, false
	}
	for _, a := range axes.Int64s() {
		if a == 1 || int(a)+len(shape) == 1 {
			return unit{}, false
		}
	}
	return unit{node: n, name: "channel sums", kind: computed, in: n.In[:1], out: n.Out,
		arrange: func([]int) ([]want, want) { return []want{{layout: blocked}}, plain },
		make: func(in, out []*view, _ *step) []phase {
			v := in[0]
			return []phase{{v.groups(), func(w *worker, g int) {
				part := w.temp(partials + simd.Block)
				clear(part)
				l := &w.lanes
				*l = simd.Lanes{N: v.w, Params: unsafe.Pointer(&part[partials]), Sums: unsafe.Pointer(&part[0])}
				for n := range v.n {
					for row := range v.h {
						l.X = pointer(v, n, g, row)
						x.set.NormSums(l)
						l.At = (l.At + lanesBytes*l.N) & (16*lanesBytes - 1)
					}
				}
				for half := 8 * simd.Block; half >= simd.Block; half /= 2 {
					x.set.Add(part[:half], part[:half], part[half:2*half])
				}
				copy(out[0].data[g*simd.Block:v.c], part[:simd.Block])
			}}}
		},
	}, true
}
