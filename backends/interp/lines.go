package interp

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// plainUnits are the operators whose kernels work on arrays in row-major order
// and which nothing is fused into. A function returns false for a node that
// its kernel cannot compute; it is called for nodes whose inputs and outputs have known shapes,
// the first input and all outputs being f32.
var plainUnits = map[string]func(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool){
	"Add":                   broadcastUnit,
	"Div":                   broadcastUnit,
	"GroupNormalization":    groupNormUnit,
	"InstanceNormalization": groupNormUnit,
	"LRN":                   lrnUnit,
	"LayerNormalization":    layerNormUnit,
	"LogSoftmax":            softmaxUnit,
	"Mul":                   broadcastUnit,
	"ReduceL2":              reduceUnit,
	"ReduceMax":             reduceUnit,
	"ReduceMean":            reduceUnit,
	"ReduceMin":             reduceUnit,
	"ReduceSum":             reduceUnit,
	"ReduceSumSquare":       reduceUnit,
	"Softmax":               softmaxUnit,
	"Sub":                   broadcastUnit,
}

// plainUnit returns a node as a unit of its own.
func plainUnit(x *executable, n *ir.Node) (unit, bool) {
	f := plainUnits[n.Op.Name]
	if f == nil || n.In[0].Type.Elem != tensor.F32 {
		return unit{}, false
	}
	for _, v := range slices.Concat(n.In, n.Out) {
		if v == nil {
			continue
		}
		if _, ok := v.Type.Static(); !ok {
			return unit{}, false
		}
	}
	for i, v := range n.Out {
		if v == nil && i > 0 || v != nil && i > 0 && len(v.Uses()) == 0 && !v.IsOutput() {
			continue
		}
		if i > 0 || v.Type.Elem != tensor.F32 {
			return unit{}, false
		}
	}
	u := unit{node: n, name: "lines", kind: computed, in: n.In, out: n.Out[:1], make: func(_, _ []*view, _ *step) []phase { return nil }}
	if elements(n.Out[0]) == 0 {
		return u, true
	}
	make, ok := f(x, n)
	if !ok {
		return unit{}, false
	}
	u.make = func(in, out []*view, _ *step) []phase { return []phase{make(in, out[0])} }
	return u, true
}

// lines is a shape seen as outer × size × inner, the middle being the dimensions from one axis to another.
type lines struct{ outer, size, inner int }

func linesOf(shape []int, from, to int) lines {
	l := lines{1, 1, 1}
	for i, d := range shape {
		switch {
		case i < from:
			l.outer *= d
		case i < to:
			l.size *= d
		default:
			l.inner *= d
		}
	}
	return l
}

// strip is how many neighbouring lines are worked on at once where lines do not lie in a piece.
const strip = 256

// phase divides the lines into tasks. whole is called for some lines that lie
// in a piece each, strip for a part of those that lie beside each other: n
// lines, the first of which begins at element at.
func (l lines) phase(whole func(w *worker, first, n int), part func(w *worker, at, n int)) phase {
	if l.inner == 1 {
		per := max(1, chunk/max(1, l.size))
		return phase{(l.outer + per - 1) / per, func(w *worker, i int) { whole(w, i*per, min(per, l.outer-i*per)) }}
	}
	strips := (l.inner + strip - 1) / strip
	return phase{l.outer * strips, func(w *worker, i int) {
		at := i % strips * strip
		part(w, i/strips*l.size*l.inner+at, min(strip, l.inner-at))
	}}
}

// named returns a function of package f32 on arrays.
func named(s *simd.Set, name string, f func(float32) float32) func(dst, x []float32) {
	if k := s.Function(name); k != nil {
		return func(dst, x []float32) { k(dst, x, nil) }
	}
	return func(dst, x []float32) {
		for i, v := range x[:len(dst)] {
			dst[i] = f(v)
		}
	}
}

// softmaxUnit is Softmax and LogSoftmax.
func softmaxUnit(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool) {
	shape := staticShape(n.In[0])
	if len(shape) == 0 {
		return nil, false
	}
	axis := axisIn(n.Int("axis"), len(shape))
	l := linesOf(shape, axis, axis+1)
	if logs := n.Op.Name == "LogSoftmax"; l.size > 1<<20 {
		return nil, false
	} else {
		s := &softmax{x.set, l, logs, named(x.set, "exp", f32.Exp), named(x.set, "log", f32.Log)}
		return func(in []*view, out *view) phase {
			return l.phase(func(w *worker, first, n int) { s.whole(w, in[0].all(), out.all(), first, n) },
				func(w *worker, at, n int) { s.strip(w, in[0].all(), out.all(), at, n) })
		}, true
	}
}

type softmax struct {
	set *simd.Set
	lines
	logs     bool
	exp, log func(dst, x []float32)
}

func (s *softmax) whole(w *worker, x, y []float32, first, n int) {
	x, y = x[first*s.size:][:n*s.size], y[first*s.size:][:n*s.size]
	for i := range n {
		a, b := x[i*s.size:][:s.size], y[i*s.size:][:s.size]
		if m := greatest(s.set, w, a); s.size < simd.Block {
			for j, v := range a {
				b[j] = v - m
			}
		} else {
			s.set.AddScalar(b, a, -m)
		}
	}
	if !s.logs {
		s.exp(y, y)
		for i := range n {
			b := y[i*s.size:][:s.size]
			if sum := s.set.Sum(b); s.size < simd.Block {
				for j, v := range b {
					b[j] = v / sum
				}
			} else {
				s.set.DivScalar(b, b, sum)
			}
		}
		return
	}
	e := w.temp(n * s.size)
	s.exp(e, y)
	for i := range n {
		e[i] = s.set.Sum(e[i*s.size:][:s.size]) // behind what is still to be read
	}
	s.log(e[:n], e)
	for i := range n {
		b := y[i*s.size:][:s.size]
		s.set.AddScalar(b, b, -e[i])
	}
}

// greatest returns the greatest element of x, up to the sign of zero; any if one is NaN.
func greatest(s *simd.Set, w *worker, x []float32) float32 {
	const width = 64
	if len(x) >= 2*width {
		best := w.temp(width)
		copy(best, x)
		for x = x[width:]; len(x) >= width; x = x[width:] {
			s.Max(best, x[:width], best)
		}
		for i, v := range x {
			best[i] = max(best[i], v)
		}
		x = best
	}
	m := x[0]
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

func (s *softmax) strip(w *worker, x, y []float32, at, n int) {
	temp := w.temp(18 * n)
	best, e, sums := temp[:n], temp[n:2*n], temp[2*n:]
	copy(best, x[at:])
	for k := 1; k < s.size; k++ {
		s.set.Max(best, x[at+k*s.inner:][:n], best)
	}
	clear(sums)
	for k := range s.size {
		row := y[at+k*s.inner:][:n]
		s.set.Sub(row, x[at+k*s.inner:][:n], best)
		if s.logs {
			s.exp(e, row)
		} else {
			s.exp(row, row)
			copy(e, row)
		}
		p := sums[k%16*n:][:n]
		s.set.Add(p, p, e)
	}
	total := tree(s.set, sums, n)
	if s.logs {
		s.log(total, total)
	}
	for k := range s.size {
		row := y[at+k*s.inner:][:n]
		if s.logs {
			s.set.Sub(row, row, total)
		} else {
			s.set.Div(row, row, total)
		}
	}
}

// tree adds 16 rows of n partial sums in the order of f32.Sum.
func tree(s *simd.Set, sums []float32, n int) []float32 {
	for width := 8; width > 0; width /= 2 {
		s.Add(sums[:width*n], sums[:width*n], sums[width*n:][:width*n])
	}
	return sums[:n]
}

// reduceUnit is a reduction over neighbouring dimensions.
func reduceUnit(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool) {
	shape := staticShape(n.In[0])
	from, to := 0, len(shape)
	if v := n.Input(1); v != nil {
		t := n.ConstIn(1)
		if t == nil || t.Len() == 0 {
			return nil, false
		}
		var axes []int
		for _, a := range t.Int64s() {
			axes = append(axes, axisIn(int(a), len(shape)))
		}
		from, to = slices.Min(axes), slices.Max(axes)+1
		if to-from != len(axes) { // gaps; or axes twice, which is an error
			return nil, false
		}
	} else if n.Int("noop_with_empty_axes") != 0 {
		return nil, false
	}
	l := linesOf(shape, from, to)
	if l.size == 0 {
		return nil, false
	}
	r := &reduction{x.set, l, n.Op.Name}
	return func(in []*view, out *view) phase {
		return l.phase(func(w *worker, first, n int) {
			for i := first; i < first+n; i++ {
				out.data[i] = r.line(w, in[0].data[i*l.size:][:l.size])
			}
		}, func(w *worker, at, n int) {
			r.strip(w, out.data[at/(l.size*l.inner)*l.inner+at%l.inner:][:n], in[0].data, at)
		})
	}, true
}

type reduction struct {
	set *simd.Set
	lines
	op string
}

// finish makes results of sums.
func (r *reduction) finish(y []float32) {
	switch r.op {
	case "ReduceMean":
		r.set.DivScalar(y, y, float32(r.size))
	case "ReduceL2":
		for i, v := range y {
			y[i] = f32.Sqrt(v)
		}
	}
}

func (r *reduction) squares() bool { return r.op == "ReduceSumSquare" || r.op == "ReduceL2" }

// line reduces a line that lies in a piece.
func (r *reduction) line(w *worker, x []float32) float32 {
	if r.op == "ReduceMax" || r.op == "ReduceMin" {
		best := x[:1:1]
		for i := 1; i < len(x); i++ {
			if r.before(x[i], best[0]) {
				best = x[i : i+1]
			}
		}
		return best[0]
	}
	if r.squares() {
		t := w.temp(len(x))
		r.set.Mul(t, x, x)
		x = t
	}
	sum := r.set.Sum(x)
	switch r.op {
	case "ReduceMean":
		sum /= float32(r.size)
	case "ReduceL2":
		sum = f32.Sqrt(sum)
	}
	return sum
}

// before reports whether v replaces best as the greatest or least: the first of equals stays, and NaN wins.
func (r *reduction) before(v, best float32) bool {
	if r.op == "ReduceMax" {
		return v > best || v != v && best == best
	}
	return v < best || v != v && best == best
}

// strip reduces lines beside each other, the first of which begins at x[at], to y.
func (r *reduction) strip(w *worker, y, x []float32, at int) {
	n := len(y)
	if r.op == "ReduceMax" || r.op == "ReduceMin" {
		copy(y, x[at:])
		for k := 1; k < r.size; k++ {
			for i, v := range x[at+k*r.inner:][:n] {
				if r.before(v, y[i]) {
					y[i] = v
				}
			}
		}
		return
	}
	temp := w.temp(17 * n)
	sums, square := temp[:16*n], temp[16*n:]
	clear(sums)
	for k := range r.size {
		row := x[at+k*r.inner:][:n]
		if r.squares() {
			r.set.Mul(square, row, row)
			row = square
		}
		p := sums[k%16*n:][:n]
		r.set.Add(p, p, row)
	}
	copy(y, tree(r.set, sums, n))
	r.finish(y)
}

// meanSource is ReduceMean over all positions of planes, which is GlobalAveragePool.
func meanSource(x *executable, n *ir.Node) (source, bool) {
	t := n.ConstIn(1)
	shape, ok := n.In[0].Type.Static()
	if !ok || t == nil || len(shape) != 4 || t.Len() != 2 {
		return source{}, false
	}
	axes := t.Int64s()
	if a, b := axisIn(int(axes[0]), 4), axisIn(int(axes[1]), 4); min(a, b) != 2 || max(a, b) != 3 {
		return source{}, false
	}
	return globalMeanSource(x, n)
}

// moments returns the mean of x and the mean square deviation, and puts the deviations into d.
func moments(s *simd.Set, w *worker, d, x []float32) (mean, variance float32) {
	mean = s.Sum(x) / float32(len(x))
	s.AddScalar(d, x, -mean)
	squares := w.temp(len(x))
	s.Mul(squares, d, d)
	return mean, s.Sum(squares) / float32(len(x))
}

// layerNormUnit is LayerNormalization whose scale and bias have the shape of the normalised dimensions.
func layerNormUnit(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool) {
	shape := staticShape(n.In[0])
	axis := axisIn(n.Int("axis"), len(shape))
	for i := 1; i < 3; i++ {
		if v := n.Input(i); v != nil && (v.Type.Elem != tensor.F32 || !slices.Equal(staticShape(v), shape[axis:])) {
			return nil, false
		}
	}
	l, s, epsilon := linesOf(shape, axis, len(shape)), x.set, n.Float("epsilon")
	return func(in []*view, out *view) phase {
		return l.phase(func(w *worker, first, n int) {
			for i := first; i < first+n; i++ {
				y := out.data[i*l.size:][:l.size]
				_, variance := moments(s, w, y, in[0].data[i*l.size:][:l.size])
				s.MulScalar(y, y, 1/f32.Sqrt(variance+epsilon))
				if len(in) > 2 && in[2] != nil {
					s.MulAdd(y, y, in[1].data[:l.size], in[2].data[:l.size])
				} else {
					s.Mul(y, y, in[1].data[:l.size])
				}
			}
		}, nil)
	}, true
}

// groupNormUnit is InstanceNormalization and GroupNormalization.
func groupNormUnit(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool) {
	shape := staticShape(n.In[0])
	if n.In[1].Type.Elem != tensor.F32 || n.In[2].Type.Elem != tensor.F32 {
		return nil, false
	}
	groups := shape[1]
	if n.Op.Name == "GroupNormalization" {
		groups = n.Int("num_groups")
	}
	if groups < 1 || shape[1]%groups != 0 || slices.Contains(shape, 0) {
		return nil, false
	}
	channels, plane := shape[1]/groups, innerSize(shape)
	l, s, epsilon := lines{shape[0] * groups, channels * plane, 1}, x.set, n.Float("epsilon")
	return func(in []*view, out *view) phase {
		return l.phase(func(w *worker, first, n int) {
			for i := first; i < first+n; i++ {
				x, y := in[0].data[i*l.size:][:l.size], out.data[i*l.size:][:l.size]
				mean, variance := moments(s, w, y, x)
				root := f32.Sqrt(variance + epsilon)
				for c := range channels {
					ch := i%groups*channels + c
					s.Normalise(y[c*plane:][:plane], x[c*plane:][:plane], mean, in[1].data[ch]/root, in[2].data[ch])
				}
			}
		}, nil)
	}, true
}

// lrnUnit is LRN.
func lrnUnit(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool) {
	shape := staticShape(n.In[0])
	l, s := linesOf(shape, 1, 2), x.set
	size := n.Int("size")
	before := (size - 1) / 2
	scale, bias, beta := n.Float("alpha")/float32(size), n.Float("bias"), float64(n.Float("beta"))
	power := powers(s, beta)
	const width = 64 // pixels at once: the squares of all channels stay in the cache
	pieces := (l.inner + width - 1) / width
	return func(in []*view, out *view) phase {
		return phase{l.outer * pieces, func(w *worker, i int) {
			from := i % pieces * width
			m := min(width, l.inner-from)
			at := i/pieces*l.size*l.inner + from
			temp := w.temp((l.size + 1) * m)
			squares, sum := temp[:l.size*m], temp[l.size*m:]
			for c := range l.size {
				row := in[0].data[at+c*l.inner:][:m]
				s.Mul(squares[c*m:][:m], row, row)
			}
			for c := range l.size {
				clear(sum)
				for u := max(0, c-before); u < min(l.size, c-before+size); u++ {
					s.Add(sum, sum, squares[u*m:][:m])
				}
				s.MulScalar(sum, sum, scale)
				s.AddScalar(sum, sum, bias)
				power(sum)
				s.Div(out.data[at+c*l.inner:][:m], in[0].data[at+c*l.inner:][:m], sum)
			}
		}}
	}, true
}

// powers returns what raises the elements of a row to a power, in place.
func powers(s *simd.Set, y float64) func(row []float32) {
	kernel := s.Function("pow")
	one := func(x float32) float32 { return float32(f32.Pow64(float64(x), y)) }
	if kernel == nil || y == math.Trunc(y) || math.Abs(y) == 0.5 || math.IsNaN(y) {
		return func(row []float32) {
			for i, x := range row {
				row[i] = one(x)
			}
		}
	}
	p := []float64{y}
	return func(row []float32) {
		for _, x := range row {
			if !(x > 0 && x <= math.MaxFloat32) { // the special cases of powers
				for i, x := range row {
					row[i] = one(x)
				}
				return
			}
		}
		kernel(row, row, p)
	}
}
