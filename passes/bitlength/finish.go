package bitlength

import (
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// finished returns a copy of the graph with integer weights and quantisers of
// the given whole widths. get returns the trained value of what is trained.
func (m *model) finished(w widths, get func(*ir.Value) *tensor.Tensor) (*ir.Graph, error) {
	g := m.g.Clone()
	return g, m.finish(g, w, get)
}

// finisher turns a graph like m.g into the quantised one.
type finisher struct {
	m   *model
	w   widths
	get func(*ir.Value) *tensor.Tensor
	r   *ir.Rewriter
	val map[string]*ir.Value // of the graph that is changed, by the name in m.g

	stored map[*ir.Value]*ir.Value // values of m.g to what their quantiser of fixed width makes of them
	sites  map[ir.Use]*site
	scales map[*passes.Layer]float32 // of the input of each layer, where it has one
}

// of returns the value that v, of m.g, is in the graph that is changed.
func (f *finisher) of(v *ir.Value) *ir.Value { return f.val[v.Name] }

// node returns the node that n, of m.g, is in the graph that is changed.
func (f *finisher) node(n *ir.Node) *ir.Node { return f.of(n.Out[0]).Def }

// trained returns the values of m.t that a training may change.
func (m *model) trained() map[*ir.Value]bool {
	out := map[*ir.Value]bool{}
	for _, p := range m.params {
		out[p.Value] = true
	}
	for _, n := range m.t.Nodes {
		if n.Op.Name == "BatchNormalization" {
			out[n.In[3]], out[n.In[4]] = true, true
		}
	}
	for _, u := range m.t.Updates {
		out[u.Param] = true
	}
	return out
}

// finish does what finished does to g, which must be as m.g is.
func (m *model) finish(g *ir.Graph, w widths, get func(*ir.Value) *tensor.Tensor) error {
	trained := m.trained()
	f := &finisher{
		m: m, w: w, r: ir.NewRewriter(g), val: map[string]*ir.Value{},
		stored: map[*ir.Value]*ir.Value{}, sites: map[ir.Use]*site{}, scales: map[*passes.Layer]float32{},
		get: func(v *ir.Value) *tensor.Tensor {
			if !trained[v] {
				return v.Data
			}
			return get(v)
		},
	}
	for _, vs := range [][]*ir.Value{g.Inputs, g.Consts} {
		for _, v := range vs {
			f.val[v.Name] = v
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Out {
			if v != nil {
				f.val[v.Name] = v
			}
		}
	}
	for _, s := range m.sites {
		for _, e := range s.edges {
			f.sites[e] = s
		}
	}
	for _, v := range m.g.Consts {
		if trained[m.val[v]] {
			f.r.SetData(f.of(v), f.get(m.val[v]))
		}
	}
	for i, q := range m.quants {
		if q.site != nil {
			if err := f.activations(q, f.w[i]); err != nil {
				return err
			}
		}
	}
	for i, q := range m.quants {
		if q.unit != nil {
			if err := f.weights(q, f.w[i]); err != nil {
				return err
			}
		}
	}
	passes.ClearMoments(f.r)
	f.r.RemoveUnused()
	return nil
}

// span returns the upper end of an activation's range.
func (f *finisher) span(q *quantiser) float32 {
	if q.hi == nil {
		return q.node.In[3].Data.Float32s()[0] // of an input of the graph
	}
	x := f.get(q.hi).Float32s()[0]
	if f.m.o.ActRange == rangeLearned {
		x = f32.Exp(x)
	}
	return x
}

// activations puts thriftc.Quant on the values of a site. Where numbers are
// only moved on the way to the layers, one stands behind the movement too, as integer runtimes want it.
func (f *finisher) activations(q *quantiser, bits []float64) error {
	hi := f.span(q)
	scales := make([]float32, len(bits))
	limits := [2][]float32{make([]float32, len(bits)), make([]float32, len(bits))}
	most := slices.Max(bits)
	for i, b := range bits {
		g := ops.BitGridOf(q.node, int(b), 0, hi)
		scales[i] = g.Scale
		limits[0][i], limits[1][i] = float32(g.Lo*g.Scale), float32(g.Hi*g.Scale)
	}
	if len(scales) == 1 && !f.m.o.FloatBias {
		for _, l := range q.site.layers {
			f.scales[l] = scales[0]
		}
	}
	name := f.of(q.site.values()[0]).Name
	channels := 1
	if q.groups > 1 {
		channels = q.site.values()[0].Type.Dims[1].N
	}
	wide := func(x []float32) []float32 {
		out := make([]float32, channels)
		for i := range out {
			out[i] = x[i*len(x)/channels]
		}
		return out
	}
	shape, flat := []int(nil), []int(nil)
	if channels > 1 {
		shape = append([]int{channels}, slices.Repeat([]int{1}, max(q.site.values()[0].Type.Rank()-2, 0))...)
		flat = []int{channels}
	}
	in := []*ir.Value{
		nil, f.r.Const(name+"_scale", tensor.Of(wide(scales), flat...)),
		f.r.Float(name+"_zero_point", 0), f.r.Float(name+"_bits", float32(most)),
	}
	done := map[*ir.Value]*ir.Value{}
	put := func(edge ir.Use) error {
		old := edge.Node.In[edge.Index]
		if done[old] == nil {
			v := f.of(old)
			name := v.Name
			if v.HasData() && len(bits) == 1 {
				dq, err := f.constant(v, edge.Node, ops.BitGridOf(q.node, int(most), 0, hi), tensor.Int(int(most)))
				if err != nil {
					return err
				}
				done[old] = dq
				f.r.SetInput(f.node(edge.Node), edge.Index, dq)
				return nil
			}
			label := name + "_quantizer"
			if f.stored[old] != nil {
				v, label = f.stored[old], name+"_requantizer"
			}
			at := f.r.Before(f.r.Graph().Nodes[0])
			if v.Def != nil {
				at = f.r.After(v.Def)
			}
			b := &builder{r: at, prefix: name}
			x := v
			if slices.Min(bits) < most { // channels with fewer bits end earlier
				x = b.add("Min", "_below", nil, x, f.r.Const(name+"_greatest", tensor.Of(wide(limits[1]), shape...)))
				x = b.add("Max", "_above", nil, x, f.r.Const(name+"_least", tensor.Of(wide(limits[0]), shape...)))
			}
			if b.err == nil {
				n, err := at.Add("thriftc.Quant", label, ir.MakeAttrs("signed", q.signed), append([]*ir.Value{x}, in[1:]...), name+"_quantized")
				if err != nil {
					return err
				}
				if done[old] = n.Out[0]; q.site.fixed {
					f.stored[old] = n.Out[0]
				}
			}
			if b.err != nil {
				return b.err
			}
		}
		f.r.SetInput(f.node(edge.Node), edge.Index, done[old])
		return nil
	}
	for _, e := range q.site.edges {
		if err := put(e); err != nil {
			return err
		}
		for _, e := range behind(e) {
			if f.sites[e] != nil || channels > 1 {
				continue
			}
			if err := put(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// constant returns the integers of a constant that is among the values of a site, dequantised before the node of m.g that reads it.
func (f *finisher) constant(v *ir.Value, n *ir.Node, g ops.BitGrid[float32], elem tensor.Elem) (*ir.Value, error) {
	if g.Lo >= 0 {
		elem = tensor.Uint(elem.Bits())
	}
	codes := make([]int64, v.Data.Len())
	for i, x := range v.Data.Float32s() {
		codes[i] = int64(g.Index(x))
	}
	dq, err := f.r.Before(f.node(n)).Add("DequantizeLinear", v.Name+"_dequantizer", ir.MakeAttrs("axis", 0), []*ir.Value{
		f.r.Const(v.Name+"_quantized", tensor.FromInt64s(elem, codes, v.Data.Shape()...)), f.r.Float(v.Name+"_scale", g.Scale),
	}, v.Name+"_dequantized")
	if err != nil {
		return nil, err
	}
	return dq.Out[0], nil
}

// behind returns the edges that carry on an edge's numbers behind nodes that
// only move them, up to those that use them.
func behind(e ir.Use) []ir.Use {
	var out []ir.Use
	if passes.Moved(e.Node) == nil {
		return nil
	}
	for _, next := range inOrder(e.Node.Out[0]) {
		if passes.Moved(next.Node) == nil {
			out = append(out, next)
		}
		out = append(out, behind(next)...)
	}
	return out
}

// rows are the integers of a weight tensor by output channel.
type rows struct {
	n, inner int // channels, and how many neighbouring elements belong to the same one
	codes    []int64
	lo, hi   []int64   // the grid of each channel
	scale    []float64 // what 1 stands for
	zero     []int64
}

func (r *rows) of(i int) int { return i / r.inner % r.n }

// weights replaces the weights of a unit by integers, folds the batch norm
// behind it into their scales, and stores biases as i32.
func (f *finisher) weights(q *quantiser, bits []float64) error {
	u := q.unit
	w := f.get(f.m.val[u.weight])
	r := f.round(q, w, bits)
	var bias []float64
	l := u.layers[0]
	bn := normAfter(l.Node)
	if bn != nil && len(u.layers) == 1 && l.BiasNode == l.Node && r.n == l.Rows {
		bias = f.fold(l, bn, r)
	}
	f.widen(u, r, bias)
	affine := slices.ContainsFunc(r.zero, func(z int64) bool { return z != 0 })
	scale := make([]float32, r.n)
	for i, s := range r.scale {
		scale[i] = float32(s)
	}
	axis, shape := u.axis, []int{r.n}
	if r.n == 1 {
		axis, shape = 0, nil
	}
	old := f.of(u.weight)
	elem := tensor.Int(int(slices.Max(bits)))
	in := []*ir.Value{
		f.r.Const(old.Name+"_quantized", tensor.FromInt64s(elem, r.codes, w.Shape()...)),
		f.r.Const(old.Name+"_scale", tensor.Of(scale, shape...)),
	}
	if affine {
		in = append(in, f.r.Const(old.Name+"_zero_point", tensor.FromInt64s(elem, r.zero, shape...)))
	}
	dq, err := f.r.Before(f.node(l.Node)).Add("DequantizeLinear", old.Name+"_dequantizer", ir.MakeAttrs("axis", axis), in, old.Name+"_dequantized")
	if err != nil {
		return err
	}
	for _, l := range u.layers {
		f.r.SetInput(f.node(l.Node), l.W, dq.Out[0])
		if err := f.bias(l, scale, bias); err != nil {
			return fmt.Errorf("%s: %w", l.Node.Label(), err)
		}
	}
	if bias != nil {
		norm := f.node(bn)
		name, out := norm.Out[0].Name, f.of(l.Node.Out[0])
		f.r.Bypass(norm.Out[0], out)
		f.r.Erase(norm)
		f.r.Rename(out, name)
	}
	return nil
}

// round puts the weights on the grids that they were trained on.
func (f *finisher) round(q *quantiser, w *tensor.Tensor, bits []float64) *rows {
	u := q.unit
	r := &rows{n: 1, inner: 1}
	if u.axis >= 0 {
		r.n = w.Shape()[u.axis]
		for _, d := range w.Shape()[u.axis+1:] {
			r.inner *= d
		}
	}
	most := largest(w, u.axis, f.m.o.PerTensor)
	if q.hi != nil {
		for i, x := range f.get(q.hi).Float32s() {
			most[i] = f32.Exp(x)
		}
	}
	grids := make([]ops.BitGrid[float32], r.n)
	for i := range grids {
		grids[i] = ops.BitGridOf(q.node, int(bits[i*len(bits)/r.n]), 0, most[i*len(most)/r.n])
		r.scale = append(r.scale, float64(grids[i].Scale))
		r.lo, r.hi = append(r.lo, int64(grids[i].Lo)), append(r.hi, int64(grids[i].Hi))
	}
	r.zero = make([]int64, r.n)
	for i, x := range w.Float32s() {
		r.codes = append(r.codes, int64(grids[r.of(i)].Index(x)))
	}
	return r
}

// fold takes the batch norm behind a layer into the scales of its weights, and
// returns the bias: γ/σ·(conv + b − μ) + β. The integers stay as they are but for their
// sign where γ is negative, and where it is 0 they become 0.
func (f *finisher) fold(l *passes.Layer, bn *ir.Node, r *rows) []float64 {
	var p [4][]float64
	for i := range p {
		p[i] = f.get(f.m.val[bn.In[i+1]]).Float64s()
	}
	eps := float64(bn.Float("epsilon"))
	bias := make([]float64, r.n)
	if b := l.Bias(); b != nil {
		copy(bias, f.get(f.m.val[b]).Float64s())
	}
	factor := make([]float64, r.n)
	for i := range factor {
		factor[i] = p[0][i] / math.Sqrt(p[3][i]+eps)
		bias[i] = factor[i]*(bias[i]-p[2][i]) + p[1][i]
		r.scale[i] *= math.Abs(factor[i])
	}
	least := slices.Repeat([]int64{math.MaxInt64}, r.n)
	for i, c := range r.codes {
		least[r.of(i)] = min(least[r.of(i)], c)
	}
	for i, c := range r.codes {
		k := r.of(i)
		switch {
		case factor[k] == 0:
			r.codes[i] = 0
		case factor[k] < 0 && least[k] == r.lo[k]: // −c would not fit: the range is turned round as a whole
			r.codes[i], r.zero[k] = r.lo[k]+r.hi[k]-c, r.lo[k]+r.hi[k]
		case factor[k] < 0:
			r.codes[i] = -c
		}
	}
	for i := range factor {
		if factor[i] == 0 {
			r.scale[i] = 1
		}
	}
	return bias
}

// widen enlarges scales so far that they are normal numbers and the biases fit into the 24 bits of an f32 at the
// scale of the accumulators; that happens only where weights hardly matter.
func (f *finisher) widen(u *unit, r *rows, bias []float64) {
	factor := make([]float64, r.n)
	for i := range factor {
		least := 0x1p-100
		for _, l := range u.layers {
			b := bias
			if b == nil {
				if l.Bias() == nil {
					continue
				}
				b = f.get(f.m.val[l.Bias()]).Float64s()
			}
			if sx, ok := f.scales[l]; ok {
				for j := i; j < len(b); j += r.n {
					least = max(least, math.Abs(b[j])/(float64(sx)*(1<<24)))
				}
			}
		}
		if factor[i] = 1; r.scale[i] < least {
			factor[i] = r.scale[i] / least
			r.scale[i] = least
		}
	}
	for i, c := range r.codes {
		if k := r.of(i); factor[k] != 1 {
			r.codes[i] = r.zero[k] + int64(math.RoundToEven(float64(c-r.zero[k])*factor[k]))
		}
	}
}

// bias stores the bias of a layer as i32 at the scale of its accumulators, or
// as floats where its input has no single scale. folded is that of a batch norm.
func (f *finisher) bias(l *passes.Layer, scale []float32, folded []float64) error {
	old := l.Bias()
	if old == nil && folded == nil {
		return nil
	}
	n := f.node(l.BiasNode)
	b := folded
	name, shape := n.Label()+"_bias", []int{l.Rows}
	if old != nil {
		name, shape = f.of(old).Name, old.Data.Shape()
	}
	if b == nil {
		b = f.get(f.m.val[old]).Float64s()
	}
	sx, ok := f.scales[l]
	if !ok {
		if folded != nil {
			y := make([]float32, len(b))
			for i, x := range b {
				y[i] = float32(x)
			}
			f.r.SetInput(n, l.BiasAt, f.r.Const(name+"_folded", tensor.Of(y, shape...)))
		}
		return nil
	}
	q, s := make([]int64, len(b)), make([]float32, len(b))
	for i, x := range b {
		s[i] = float32(sx * scale[i%len(scale)])
		q[i] = int64(min(max(math.RoundToEven(x/float64(s[i])), math.MinInt32), math.MaxInt32))
	}
	axis, scaleShape := len(shape)-1, []int{len(s)}
	if len(scale) == 1 {
		s, axis, scaleShape = s[:1], 0, nil
	}
	dq, err := f.r.Before(n).Add("DequantizeLinear", name+"_dequantizer", ir.MakeAttrs("axis", axis), []*ir.Value{
		f.r.Const(name+"_quantized", tensor.FromInt64s(tensor.I32, q, shape...)),
		f.r.Const(name+"_scale", tensor.Of(s, scaleShape...)),
	}, name+"_dequantized")
	if err != nil {
		return err
	}
	f.r.SetInput(n, l.BiasAt, dq.Out[0])
	return nil
}
