package quantize

import (
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// target is the graph that apply changes: the one that was analysed, or a copy of it.
type target struct {
	r   *ir.Rewriter
	val func(*ir.Value) *ir.Value // of the analysed graph to that of the target

	bits   map[int]*ir.Value
	scales map[*group][2]*ir.Value
}

// copyOf makes a target of a copy of g.
func copyOf(g *ir.Graph) *target {
	c, vals := g.CloneMap()
	return &target{r: ir.NewRewriter(c), val: func(v *ir.Value) *ir.Value { return vals[v] }}
}

// itself makes a target of g.
func itself(g *ir.Graph) *target {
	return &target{r: ir.NewRewriter(g), val: func(v *ir.Value) *ir.Value { return v }}
}

func (t *target) node(n *ir.Node) *ir.Node { return t.val(n.Out[0]).Def }

// apply inserts the quantisers of p and replaces the weights and biases of the
// units by integers.
func (t *target) apply(p *placement, units []*unit) error {
	t.bits, t.scales = map[int]*ir.Value{}, map[*group][2]*ir.Value{}
	for _, u := range units {
		if u.bits == 0 {
			continue
		}
		if err := t.weights(p, u); err != nil {
			return err
		}
	}
	for _, g := range p.groups {
		if err := t.constants(g); err != nil {
			return err
		}
		for _, v := range g.members {
			if err := t.quantiser(g, v); err != nil {
				return err
			}
		}
	}
	t.r.RemoveUnused()
	return nil
}

// quantiser inserts a thriftc.Quant after v for all uses of v but the graph's outputs.
func (t *target) quantiser(g *group, v *ir.Value) error {
	v = t.val(v)
	uses := append([]ir.Use(nil), v.Uses()...)
	if len(uses) == 0 {
		return nil
	}
	s, ok := t.scales[g]
	if !ok {
		s[0] = t.r.Float(v.Name+"_scale", g.grid.scale)
		s[1] = t.r.Float(v.Name+"_zero_point", float32(g.grid.zero))
		t.scales[g] = s
	}
	if t.bits[g.bits] == nil {
		t.bits[g.bits] = t.r.Float("bits", float32(g.bits))
	}
	at := t.r
	if v.Def != nil {
		at = t.r.After(v.Def)
	} else if len(t.r.Graph().Nodes) > 0 {
		at = t.r.Before(t.r.Graph().Nodes[0])
	}
	n, err := at.Add("thriftc.Quant", v.Name+"_quantizer", ir.MakeAttrs("signed", g.signed), []*ir.Value{v, s[0], s[1], t.bits[g.bits]}, v.Name+"_quantized")
	if err != nil {
		return err
	}
	for _, use := range uses {
		t.r.SetInput(use.Node, use.Index, n.Out[0])
	}
	return nil
}

// constants replaces the constants that are moved among the values of a group by integers on its grid.
func (t *target) constants(g *group) error {
	if g.bits > 8 { // the quantisers behind will do
		return nil
	}
	elem := tensor.Uint(g.bits)
	if g.signed {
		elem = tensor.Int(g.bits)
	}
	made := map[*ir.Value]*ir.Value{}
	for _, e := range g.consts {
		old := t.val(e.Node.In[e.Index])
		if made[old] == nil {
			q := make([]int64, old.Data.Len())
			for i, x := range old.Data.Float64s() {
				q[i] = g.grid.index(x)
			}
			in := []*ir.Value{
				t.r.Const(old.Name+"_quantized", tensor.FromInt64s(elem, q, old.Data.Shape()...)),
				t.r.Float(old.Name+"_scale", g.grid.scale),
			}
			if g.grid.zero != 0 {
				in = append(in, t.r.Const(old.Name+"_zero_point", tensor.FromInt64s(elem, []int64{g.grid.zero})))
			}
			dq, err := t.r.Before(t.node(e.Node)).Add("DequantizeLinear", old.Name+"_dequantizer", ir.MakeAttrs("axis", 0), in, old.Name+"_dequantized")
			if err != nil {
				return err
			}
			made[old] = dq.Out[0]
		}
		t.r.SetInput(t.node(e.Node), e.Index, made[old])
	}
	return nil
}

// weights replaces the weights of a unit, and the biases of its layers where
// their inputs are quantised too.
func (t *target) weights(p *placement, u *unit) error {
	if u.weight == nil {
		return nil
	}
	old := t.val(u.weight)
	elem := tensor.Uint(u.bits)
	if u.signed {
		elem = tensor.Int(u.bits)
	}
	scale, zero := make([]float32, len(u.grids)), make([]int64, len(u.grids))
	affine := false
	for i, g := range u.grids {
		scale[i], zero[i] = g.scale, g.zero
		affine = affine || g.zero != 0
	}
	axis := u.axis
	shape := []int{len(scale)}
	if len(scale) == 1 {
		shape, axis = nil, 0
	}
	in := []*ir.Value{
		t.r.Const(old.Name+"_quantized", u.codes.tensor(rowsOf(u.weight.Data, u.axis), elem, u.weight.Data.Shape())),
		t.r.Const(old.Name+"_scale", tensor.Of(scale, shape...)),
	}
	if affine {
		in = append(in, t.r.Const(old.Name+"_zero_point", tensor.FromInt64s(elem, zero, shape...)))
	}
	first := t.node(u.layers[0].Node)
	dq, err := t.r.Before(first).Add("DequantizeLinear", old.Name+"_dequantizer", ir.MakeAttrs("axis", axis), in, old.Name+"_dequantized")
	if err != nil {
		return err
	}
	for _, l := range u.layers {
		n := t.node(l.Node)
		t.r.SetInput(n, l.W, dq.Out[0])
		if err := t.bias(p, u, l); err != nil {
			return err
		}
	}
	return nil
}

// bias adds the layer's correction to its bias, and stores it as i32 at the
// scale of its accumulators when these are integers.
func (t *target) bias(p *placement, u *unit, l *layer) error {
	g := p.of[l.Node.In[l.X]]
	b := l.values()
	if b == nil || g == nil && l.shift == nil {
		return nil
	}
	n := t.node(l.BiasNode)
	name := n.Label() + "_bias"
	shape, rank := []int{l.Rows}, 1
	if old := l.Bias(); old != nil {
		name, shape, rank = t.val(old).Name, old.Data.Shape(), old.Data.Rank()
	}
	if g == nil {
		t.r.SetInput(n, l.BiasAt, t.r.Const(name+"_corrected", tensor.FromFloat32s(tensor.F32, float32s(b), shape...)))
		return nil
	}
	q, scale := make([]int64, len(b)), make([]float32, len(u.grids))
	for i := range scale {
		scale[i] = float32(g.grid.scale * u.grids[i].scale)
	}
	for i, x := range b {
		// leastScale left a factor of two for the correction; an absurd one is cut off.
		y := math.RoundToEven(x / float64(scale[i%len(scale)]))
		q[i] = int64(min(max(y, math.MinInt32), math.MaxInt32))
	}
	scaleShape := []int{len(scale)}
	axis := rank - 1
	switch {
	case len(scale) == 1:
		scaleShape, axis = nil, 0
	case len(scale) < len(b): // a grouped ConvTranspose: groups share their scales
		long := make([]float32, len(b))
		for i := range long {
			long[i] = scale[i%len(scale)]
		}
		scale, scaleShape = long, []int{len(long)}
	}
	dq, err := t.r.Before(n).Add("DequantizeLinear", name+"_dequantizer", ir.MakeAttrs("axis", axis), []*ir.Value{
		t.r.Const(name+"_quantized", tensor.FromInt64s(tensor.I32, q, shape...)),
		t.r.Const(name+"_scale", tensor.Of(scale, scaleShape...)),
	}, name+"_dequantized")
	if err != nil {
		return err
	}
	t.r.SetInput(n, l.BiasAt, dq.Out[0])
	return nil
}

// values returns the layer's corrected bias, nil when it has none and needs none.
func (l *layer) values() []float64 {
	old := l.Bias()
	if old == nil && l.shift == nil {
		return nil
	}
	b := make([]float64, l.Rows)
	if old != nil {
		copy(b, old.Data.Float64s())
	}
	for i, d := range l.shift {
		b[i] += d
	}
	return b
}

// leastScale returns, for each row of the weights, the scale below which the
// bias would need more than the 24 bits of an f32 at the scale of the accumulator, or half of them, as a correction
// may be as large. Smaller weights would not show beside such a bias in float either.
func (u *unit) leastScale(p *placement, rows int) []float64 {
	out := make([]float64, rows)
	for _, l := range u.layers {
		g, b := p.of[l.Node.In[l.X]], l.Bias()
		if g == nil || b == nil {
			continue
		}
		for i, x := range b.Data.Float64s() {
			out[i%rows] = max(out[i%rows], math.Abs(x)/(float64(g.grid.scale)*(1<<23)))
		}
	}
	return out
}

func float32s(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}
