// Package foldbn folds batch normalisation, and other scalings and shifts of
// channels by constants, into the layer before or after.
//
//	%c = Conv(%x, %w, %b)
//	%n = BatchNormalization(%c, γ, β, μ, σ²)   ->   %n = Conv(%x, %w', %b')
//
// Batch normalisation (Ioffe and Szegedy, arXiv:1502.03167, inference form) is,
// for every channel m,
//
//	y = γ·(c − μ)/√(σ² + ε) + β = a·c + d,   a = γ/√(σ²+ε),  d = β − a·μ
//
// and so are a Mul (d = 0) and an Add (a = 1) with one constant per channel.
// After a layer that is linear in its weights,
//
//	a[m]·(Σ w[m,·]·x + b[m]) + d[m] = Σ (a[m]·w[m,·])·x + (a[m]·b[m] + d[m])
//
// so w' = a·w and b' = a·b + d. This holds for Conv, ConvTranspose (whose output
// channel is its weights' second axis within a group), Gemm (b stands for β·C)
// and a two-dimensional MatMul, which becomes a Gemm.
//
// Before a layer, with c the input channel that a weight meets,
//
//	Σ w[m,c]·(a[c]·x + d[c]) + b[m] = Σ (w[m,c]·a[c])·x + (b[m] + Σ w[m,c]·d[c])
//
// which is right for a Conv only if its padding is empty or every d is 0: the
// padding is 0 after the normalisation, not before it. Only
// batch normalisations and Muls are folded forwards.
//
// a, d and the products are computed in f64 and rounded once to the weights'
// type, so results move by float rounding only. Weights that are not constants,
// such as the output of a DequantizeLinear, are left alone.
//
// Shared weights stay shared: they are changed only if every user is followed
// by the same scaling. Where users differ the normalisations stay.
package foldbn

import (
	"math"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "foldbn",
	Doc: "Folds batch normalisation and constant scalings and shifts of channels into Conv, ConvTranspose, Gemm and MatMul. " +
		"Results move by the rounding of the folded weights.",
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	f := &folder{c: c}
	for before := -1; f.folded > before; { // a fold may make weights unshared
		before, f.apart = f.folded, 0
		ir.NewRewriter(g).RemoveUnused()
		f.graph(g)
	}
	ir.NewRewriter(g).RemoveUnused()
	c.Stat("folded", f.folded)
	c.Stat("shared-apart", f.apart)
	return c.Err()
}

type folder struct {
	c             *passes.Context
	biases        []madeBias
	folded, apart int
}

func (f *folder) graph(g *ir.Graph) {
	for _, n := range slices.Clone(g.Nodes) {
		for _, b := range n.Bodies() {
			f.graph(b)
		}
		m := mapOf(n)
		if m == nil || n.Out[0].Unused() {
			continue
		}
		if !m.finite() {
			f.c.Log.Warn("not folded: a factor or shift is not finite", "node", n.Label())
			continue
		}
		if l := layerOf(m.x.Def); l != nil && onlyUse(m.x) == n {
			f.back(l, m)
		} else if q := onlyUse(n.Out[0]); q != nil && n.Op.Name != "Add" {
			f.forward(m, q)
		}
	}
}

// channelMap is y = a·x + d for every channel of x, its dimension 1.
type channelMap struct {
	n    *ir.Node
	x    *ir.Value
	a, d []float64
}

func (m *channelMap) finite() bool {
	return !slices.ContainsFunc(slices.Concat(m.a, m.d), func(x float64) bool { return math.IsInf(x, 0) || math.IsNaN(x) })
}

func all(x []float64, want float64) bool {
	return !slices.ContainsFunc(x, func(v float64) bool { return v != want })
}

// mapOf returns what n computes if that is a channelMap with constants, nil otherwise.
func mapOf(n *ir.Node) *channelMap {
	switch n.Op.Name {
	case "BatchNormalization":
		return normalisation(n)
	case "Mul", "Add":
		if len(n.In) != 2 {
			return nil
		}
		for i, x := range n.In {
			if c := n.ConstIn(1 - i); c != nil && !x.IsConst() {
				return scaling(n, x, c)
			}
		}
	}
	return nil
}

func normalisation(n *ir.Node) *channelMap {
	if n.Int("training_mode") != 0 || slices.ContainsFunc(n.Out[1:], func(v *ir.Value) bool { return v != nil }) {
		return nil
	}
	var p [4][]float64 // γ, β, μ, σ²
	for i := range p {
		t := n.ConstIn(i + 1)
		if t == nil {
			return nil
		}
		p[i] = t.Float64s()
	}
	m := &channelMap{n: n, x: n.In[0]}
	eps := float64(n.Float("epsilon"))
	for i, gamma := range p[0] {
		a := gamma / math.Sqrt(p[3][i]+eps)
		m.a = append(m.a, a)
		m.d = append(m.d, p[1][i]-a*p[2][i])
	}
	return m
}

// scaling reads Mul or Add with a constant that has one element, or one for each channel.
func scaling(n *ir.Node, x *ir.Value, c *tensor.Tensor) *channelMap {
	rank := x.Type.Rank()
	if rank < 2 || !x.Type.Dims[1].Known() || c.Rank() > rank {
		return nil
	}
	channels := x.Type.Dims[1].N
	for i, d := range c.Shape() {
		if axis := rank - c.Rank() + i; d != 1 && (axis != 1 || d != channels) {
			return nil
		}
	}
	per := c.Float64s()
	if len(per) == 1 {
		per = slices.Repeat(per, channels)
	}
	m := &channelMap{n: n, x: x}
	if n.Op.Name == "Mul" {
		m.a, m.d = per, make([]float64, channels)
	} else {
		m.a, m.d = slices.Repeat([]float64{1}, channels), per
	}
	return m
}

// onlyUse returns the node that alone uses v, nil if there are none, several,
// or v is needed otherwise.
func onlyUse(v *ir.Value) *ir.Node {
	if len(v.Uses()) != 1 || v.IsOutput() || v.Uses()[0].Node.Graph() != v.Graph() {
		return nil
	}
	return v.Uses()[0].Node
}

// back folds m into the layer before it, and, where the weights are shared,
// every other user's map into that user.
func (f *folder) back(l *layer, m *channelMap) {
	sites := []site{{l, m}}
	if !all(m.a, 1) {
		w := l.n.In[1]
		if !w.IsConst() || w.IsOutput() {
			return
		}
		if sites = sharers(l, m); sites == nil {
			f.apart++
			return
		}
		ir.NewRewriter(w.Graph()).SetData(w, l.scaled(func(out, _ int) float64 { return m.a[out] }))
	}
	for _, s := range sites {
		if s.n.Input(2) != nil || !all(s.m.d, 0) {
			f.setBias(s.layer, s.m, func(i int, b float64) float64 { return s.m.a[i]*b + s.m.d[i] })
		}
		r := ir.NewRewriter(s.n.Graph())
		name := s.m.n.Out[0].Name
		r.Bypass(s.m.n.Out[0], s.n.Out[0])
		r.Erase(s.m.n)
		r.Rename(s.n.Out[0], name) // it holds what the map returned
		f.folded++
	}
}

type site struct {
	*layer
	m *channelMap
}

// sharers returns the users of l's weights, each with the map after it, if
// all of them can be folded alike; nil otherwise.
func sharers(l *layer, m *channelMap) []site {
	w := l.n.In[1]
	if len(w.Uses()) == 1 {
		return []site{{l, m}}
	}
	var out []site
	w.Graph().Root().Walk(func(n *ir.Node) { // and not in the order of Uses, which is not fixed
		if k := layerOf(n); k != nil && n.In[1] == w {
			if q := onlyUse(n.Out[0]); q != nil && k.sameForm(l) {
				if km := mapOf(q); km != nil && km.x == n.Out[0] && slices.Equal(km.a, m.a) && km.finite() {
					out = append(out, site{k, km})
				}
			}
		}
	})
	if len(out) != len(w.Uses()) {
		return nil
	}
	return out
}

// forward folds m into the layer q after it.
func (f *folder) forward(m *channelMap, q *ir.Node) {
	l := layerOf(q)
	if l == nil || q.In[0] != m.n.Out[0] || q.Op.Name != "Conv" && q.Op.Name != "Gemm" || q.Int("transA") != 0 {
		return
	}
	w := q.In[1]
	if !w.IsConst() || w.IsOutput() || len(w.Uses()) != 1 {
		return
	}
	padded := slices.ContainsFunc(q.Ints("pads"), func(p int64) bool { return p != 0 }) || strings.HasPrefix(q.Str("auto_pad"), "SAME")
	if padded && !all(m.d, 0) {
		return
	}
	shift := make([]float64, l.outs)
	alpha := 1.0
	if q.Op.Name == "Gemm" {
		alpha = float64(q.Float("alpha"))
	}
	data := w.Data.Float64s()
	l.each(func(i, out, in int) { shift[out] += alpha * data[i] * m.d[in] })
	if !all(m.d, 0) {
		f.setBias(l, m, func(i int, b float64) float64 { return b + shift[i] })
	}
	r := ir.NewRewriter(q.Graph())
	r.SetData(w, l.scaled(func(_, in int) float64 { return m.a[in] }))
	r.SetInput(q, 0, m.x)
	r.Erase(m.n)
	f.folded++
}

// madeBias remembers a bias, so that layers that shared one, or that share
// their weights, go on sharing.
type madeBias struct {
	weight, old *ir.Value
	a, d        []float64
	made        *ir.Value
}

// setBias gives l a bias computed from its present one.
func (f *folder) setBias(l *layer, m *channelMap, change func(i int, b float64) float64) {
	old := l.n.Input(2)
	r := ir.NewRewriter(l.n.Graph())
	var v *ir.Value
	for _, b := range f.biases {
		if b.weight == l.n.In[1] && b.old == old && b.made.Graph() == l.n.Graph() && slices.Equal(b.a, m.a) && slices.Equal(b.d, m.d) {
			v = b.made
		}
	}
	if v == nil {
		bias := slices.Clone(l.bias)
		for i, b := range bias {
			bias[i] = change(i, b)
		}
		t := numbers(l.n.In[1].Type.Elem, bias, len(bias))
		if old != nil && len(old.Uses()) == 1 && !old.IsOutput() {
			r.SetData(old, t)
			r.DeleteAttr(l.n, "beta")
			return
		}
		name := l.n.Out[0].Name + "_bias"
		if old != nil {
			name = old.Name
		}
		v = r.Const(name, t)
		f.biases = append(f.biases, madeBias{l.n.In[1], old, m.a, m.d, v})
	}
	if l.n.Op.Name == "MatMul" {
		r.SetOp(l.n, "Gemm")
	}
	r.SetInput(l.n, 2, v)
	r.DeleteAttr(l.n, "beta")
}
