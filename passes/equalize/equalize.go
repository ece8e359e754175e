// Package equalize is cross-layer equalisation: it moves scale between the
// channels of neighbouring layers so that one scale per tensor fits all of them better.
//
//	y = Relu(Conv(x, W1, b1))         y' = Relu(Conv(x, W1/s, b1/s))
//	z = Conv(y, W2, b2)          →    z  = Conv(y', W2·s, b2)
//
// for any s > 0 in each channel between the two, because Relu(s·x) = s·Relu(x).
// With s = √(r1/r2), where r1 and r2 are the largest magnitudes of the channel's
// weights in W1 and W2, both become √(r1·r2) (Nagel et al., "Data-Free
// Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721,
// eq. 11). Chains, depthwise ones too, are swept until nothing changes.
package equalize

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "equalize",
	Doc: `Scales channels between neighbouring layers so that their weights span similar ranges.
The function stays the same up to rounding, except where absorb moves high biases.
A Clip between two layers is replaced by Relu where batch norm statistics show that its upper
bound is out of reach; otherwise the pair is left alone.`,
	Kind: passes.Lossy,
	New:  func() passes.Pass { return &Equalize{Sweeps: 20, Sigmas: 6} },
}

// Equalize holds the options of the pass.
type Equalize struct {
	Sweeps int     `help:"largest number of sweeps over all pairs of layers"`
	Absorb bool    `help:"move biases that batch norm statistics show to be always on (mean − 3σ > 0) into the next layer, where that has no padding"`
	Sigmas float64 `help:"standard deviations above the mean that count as out of reach of a Clip"`
}

// pair is two layers with only operators between them for which f(s·x) = s·f(x), s > 0.
type pair struct {
	a, b    *ir.Node
	clips   []*ir.Node // between them, with an upper bound out of reach
	slopes  bool       // something other than Relu is between them
	repeats int        // inputs of b for each channel of a, more than 1 after Flatten
	changed bool       // what lies between them holds other numbers now
}

// Run implements passes.Pass.
func (o *Equalize) Run(c *passes.Context, g *ir.Graph) error {
	r := ir.NewRewriter(g)
	var pairs []*pair
	for _, n := range g.Nodes {
		p, err := o.pairFrom(n)
		if err != nil {
			return err
		}
		if p != nil {
			pairs = append(pairs, p)
		}
	}
	relus := 0
	for _, p := range pairs {
		for _, n := range p.clips {
			r.SetInputs(n, n.In[0])
			r.SetOp(n, "Relu")
			relus++
		}
	}
	sweeps := 0
	for moved := true; moved && sweeps < o.Sweeps; sweeps++ {
		moved = false
		for _, p := range pairs {
			m, err := p.equalise(r)
			if err != nil {
				return err
			}
			moved = moved || m
		}
	}
	absorbed := 0
	if o.Absorb {
		for _, p := range pairs {
			n, err := p.absorb(r)
			if err != nil {
				return err
			}
			absorbed += n
		}
	}
	for _, p := range pairs {
		p.rename(r)
	}
	r.RemoveUnused()
	c.Stat("pairs", len(pairs))
	c.Stat("sweeps", sweeps)
	c.Stat("clips_replaced", relus)
	if o.Absorb {
		c.Stat("channels_absorbed", absorbed)
	}
	return nil
}

// isLayer reports whether n multiplies activations with f32 weights that only it uses.
func isLayer(n *ir.Node) bool {
	switch n.Op.Name {
	case "Conv":
	case "Gemm":
		if n.Int("transA") != 0 || n.Float("alpha") != 1 || n.Float("beta") != 1 {
			return false
		}
	default:
		return false
	}
	w, b := n.In[1], n.Input(2)
	return w.IsConst() && w.Data.Elem() == tensor.F32 && len(w.Uses()) == 1 && !w.IsOutput() &&
		(b == nil || b.IsConst() && b.Data.Elem() == tensor.F32 && b.Data.Rank() == 1 && b.Data.Len() == outputs(n))
}

// outputs returns the number of output channels of a layer.
func outputs(n *ir.Node) int {
	shape := n.In[1].Data.Shape()
	if n.Op.Name == "Gemm" && n.Int("transB") == 0 {
		return shape[1]
	}
	return shape[0]
}

// pairFrom follows the output of n to the next layer.
func (o *Equalize) pairFrom(n *ir.Node) (*pair, error) {
	if !isLayer(n) {
		return nil, nil
	}
	p := &pair{a: n, repeats: 1}
	for v := n.Out[0]; ; {
		uses := v.Uses()
		if len(uses) != 1 || v.IsOutput() || uses[0].Node.Graph() != n.Graph() || uses[0].Index != 0 {
			return nil, nil
		}
		m := uses[0].Node
		switch {
		case m.Op.Layer != nil:
			if !isLayer(m) || inputs(m) != outputs(n)*p.repeats {
				return nil, nil
			}
			p.b = m
			return p, nil
		case m.Op.Name == "Relu", m.Op.Name == "Identity":
		case m.Op.Pooling && m.Op.Homogeneous, m.Op.Homogeneous && len(m.In) == 1:
			p.slopes = p.slopes || m.Op.Elements != ir.Selected
		case m.Op.Name == "Clip":
			lo, hi := m.ConstIn(1), m.ConstIn(2)
			if lo == nil || lo.Len() != 1 || lo.Float64s()[0] != 0 {
				return nil, nil
			}
			if hi != nil {
				ok, err := o.outOfReach(n.Out[0], hi)
				if !ok || err != nil || m.In[0] != n.Out[0] {
					return nil, err
				}
			}
			p.clips = append(p.clips, m)
		case m.Op.Name == "Flatten":
			in, out := m.In[0].Type.Dims, m.Out[0].Type.Dims
			if m.Int("axis") != 1 || len(in) < 2 || !in[1].Known() || !out[1].Known() || in[1].N != outputs(n) {
				return nil, nil
			}
			p.repeats = out[1].N / in[1].N
		default:
			return nil, nil
		}
		if len(m.Out) > 1 && m.Out[1] != nil {
			return nil, nil
		}
		v = m.Out[0]
	}
}

// outOfReach reports whether v is known to stay below the bound hi.
func (o *Equalize) outOfReach(v *ir.Value, hi *tensor.Tensor) (bool, error) {
	m, ok, err := passes.MomentsOf(v)
	if !ok || err != nil || hi.Len() != 1 {
		return false, err
	}
	for i := range m.Mean {
		if float64(m.Mean[i])+o.Sigmas*float64(m.Std[i]) > hi.Float64s()[0] {
			return false, nil
		}
	}
	return true, nil
}

// inputs returns the number of input channels of a layer.
func inputs(n *ir.Node) int {
	shape := n.In[1].Data.Shape()
	switch {
	case n.Op.Name == "Conv":
		return shape[1] * n.Int("group")
	case n.Int("transB") == 0:
		return shape[0]
	}
	return shape[1]
}

// outputOf returns the function from the index of a weight of n to its output channel.
func outputOf(n *ir.Node) func(int) int {
	shape := n.In[1].Data.Shape()
	if n.Op.Name == "Gemm" && n.Int("transB") == 0 {
		return func(i int) int { return i % shape[1] }
	}
	row := n.In[1].Data.Len() / max(shape[0], 1)
	return func(i int) int { return i / row }
}

// inputOf returns the function from the index of a weight of n to its input channel.
func inputOf(n *ir.Node) func(int) int {
	shape := n.In[1].Data.Shape()
	if n.Op.Name == "Gemm" {
		if n.Int("transB") == 0 {
			return func(i int) int { return i / shape[1] }
		}
		return func(i int) int { return i % shape[1] }
	}
	kernel := 1
	for _, d := range shape[2:] {
		kernel *= d
	}
	perGroup := shape[0] / n.Int("group")
	return func(i int) int {
		return i/(kernel*shape[1])/perGroup*shape[1] + i/kernel%shape[1]
	}
}

// equalise scales the channels between the layers, and reports whether any
// scale differs from 1 noticeably.
func (p *pair) equalise(r *ir.Rewriter) (bool, error) {
	n := outputs(p.a)
	w1, w2 := slices.Clone(p.a.In[1].Data.Float32s()), slices.Clone(p.b.In[1].Data.Float32s())
	out, in := outputOf(p.a), inputOf(p.b)
	r1, r2 := make([]float64, n), make([]float64, n)
	for i, x := range w1 {
		r1[out(i)] = max(r1[out(i)], math.Abs(float64(x)))
	}
	for i, x := range w2 {
		ch := in(i) / p.repeats
		r2[ch] = max(r2[ch], math.Abs(float64(x)))
	}
	s := make([]float64, n)
	moved := false
	for i := range s {
		if s[i] = 1; r1[i] > 0 && r2[i] > 0 {
			s[i] = math.Sqrt(r1[i] / r2[i])
		}
		moved = moved || math.Abs(s[i]-1) > 1e-3
	}
	if !moved {
		return false, nil
	}
	for i := range w1 {
		w1[i] = float32(float64(w1[i]) / s[out(i)])
	}
	for i := range w2 {
		w2[i] = float32(float64(w2[i]) * s[in(i)/p.repeats])
	}
	p.changed = true
	r.SetData(p.a.In[1], tensor.Of(w1, p.a.In[1].Data.Shape()...))
	r.SetData(p.b.In[1], tensor.Of(w2, p.b.In[1].Data.Shape()...))
	if p.a.Input(2) != nil {
		b := slices.Clone(p.a.In[2].Data.Float32s())
		for i := range b {
			b[i] = float32(float64(b[i]) / s[i])
		}
		setBias(r, p.a, b)
	}
	m, ok, err := passes.MomentsOf(p.a.Out[0])
	if ok && len(m.Mean) == n {
		for i := range m.Mean {
			m.Mean[i], m.Std[i] = float32(float64(m.Mean[i])/s[i]), float32(float64(m.Std[i])/s[i])
		}
		passes.SetMoments(r, p.a.Out[0], m)
	}
	return true, err
}

// rename gives what lies between the layers other names where it has been scaled or shifted.
func (p *pair) rename(r *ir.Rewriter) {
	for v := p.a.Out[0]; p.changed; v = v.Uses()[0].Node.Out[0] {
		passes.Rename(r, v, v.Name+"_equalized")
		if v.Uses()[0].Node == p.b {
			return
		}
	}
}

// setBias gives n a bias of its own.
func setBias(r *ir.Rewriter, n *ir.Node, b []float32) {
	if v := n.Input(2); v != nil && len(v.Uses()) == 1 && !v.IsOutput() {
		r.SetData(v, tensor.Of(b, len(b)))
		return
	}
	r.SetInput(n, 2, r.Const(n.In[1].Name+"_bias", tensor.Of(b, len(b))))
}

// absorb moves the part of a's bias that passes Relu unchanged in all but
// rare cases into b's bias: c = max(0, mean − 3σ) per channel (eq. 15), and
// returns how many channels have one. With padding b would see zeros where c was.
func (p *pair) absorb(r *ir.Rewriter) (int, error) {
	m, ok, err := passes.MomentsOf(p.a.Out[0])
	if err != nil || !ok || p.slopes || p.a.Input(2) == nil || len(m.Mean) != outputs(p.a) {
		return 0, err
	}
	if auto := p.b.Str("auto_pad"); p.b.Op.Name == "Conv" && auto != "NOTSET" && auto != "VALID" {
		return 0, nil
	}
	if slices.ContainsFunc(p.b.Ints("pads"), func(x int64) bool { return x != 0 }) {
		return 0, nil
	}
	c := make([]float64, len(m.Mean))
	count := 0
	for i := range c {
		if c[i] = max(0, float64(m.Mean[i])-3*float64(m.Std[i])); c[i] > 0 {
			count++
		}
	}
	if count == 0 {
		return 0, nil
	}
	b1 := slices.Clone(p.a.In[2].Data.Float32s())
	for i := range b1 {
		b1[i] = float32(float64(b1[i]) - c[i])
		m.Mean[i] = float32(float64(m.Mean[i]) - c[i])
	}
	sum := make([]float64, outputs(p.b))
	if p.b.Input(2) != nil {
		copy(sum, p.b.In[2].Data.Float64s())
	}
	in, out := inputOf(p.b), outputOf(p.b)
	for i, w := range p.b.In[1].Data.Float32s() {
		sum[out(i)] += float64(float64(w) * c[in(i)/p.repeats])
	}
	b2 := make([]float32, len(sum))
	for i, x := range sum {
		b2[i] = float32(x)
	}
	p.changed = true
	setBias(r, p.a, b1)
	setBias(r, p.b, b2)
	passes.SetMoments(r, p.a.Out[0], m)
	return count, nil
}
