// Package deadchannels removes channels between two convolutions that have no effect: that the
// second multiplies by zero, or that the first computes as zero.
//
//	%y = Conv(%x, %w f32[8,3,3,3])           %y = Conv(%x, %w f32[5,3,3,3])
//	%r = Relu(%y)                        ->  %r = Relu(%y)
//	%z = Conv(%r, %v f32[4,8,3,3])           %z = Conv(%r, %v f32[4,5,3,3])
//
// Between them may stand what treats every channel by itself: activations, pools, batch
// normalisation. It is what is left to do after pruning whole channels or blocks of
// them. Results are the same but for the sign of zeros, and but for infinities and NaNs
// that met a weight of zero.
package deadchannels

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "dead-channels",
	Doc: "Removes the channels between two convolutions that the second multiplies by zero, or that the first computes as zero. " +
		"Results stay equal but for the sign of zeros.",
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	removed := 0
	// The last first: channels that a later layer loses may be the only reason for an earlier one's.
	for _, n := range slices.Backward(slices.Clone(g.Nodes)) {
		if err := c.Err(); err != nil {
			return err
		}
		if s := spanOf(n); s != nil {
			removed += s.shrink(ir.NewRewriter(g))
		}
	}
	ir.NewRewriter(g).RemoveUnusedConsts()
	c.Stat("channels", removed)
	return nil
}

// span is two convolutions and the nodes between them.
type span struct {
	first, last *ir.Node
	between     []*ir.Node
	zeroStays   bool // what is between makes zero of zero
}

// spanOf returns the span that begins with n, nil if none does.
func spanOf(n *ir.Node) *span {
	if n.Op.Name != "Conv" || n.Int("group") != 1 || !constant(n, 1) || n.Input(2) != nil && !constant(n, 2) {
		return nil
	}
	s := &span{first: n, zeroStays: true}
	for m := n; ; s.between = append(s.between, m) {
		v := m.Out[0]
		if len(v.Uses()) != 1 || v.IsOutput() || slices.ContainsFunc(m.Out[1:], func(o *ir.Value) bool { return o != nil && !o.Unused() }) {
			return nil
		}
		if m = v.Uses()[0].Node; m.Graph() != n.Graph() || m.In[0] != v {
			return nil
		}
		switch {
		case m.Op.Name == "Conv":
			if m.Int("group") != 1 || !constant(m, 1) {
				return nil
			}
			s.last = m
			return s
		case m.Op.Name == "BatchNormalization":
			s.zeroStays = false
			for i := 1; i < 5; i++ {
				if !constant(m, i) {
					return nil
				}
			}
		case m.Op.Pooling:
		case m.Op.Elementwise && alike(m):
			s.zeroStays = s.zeroStays && keepsZero(m)
		default:
			return nil
		}
	}
}

// alike reports whether an element-wise node does the same to every channel of its first input.
func alike(n *ir.Node) bool {
	return !slices.ContainsFunc(n.In[1:], func(v *ir.Value) bool { return v != nil && (!v.IsConst() || v.Data.Len() != 1) })
}

// keepsZero reports whether such a node makes zero of zero.
func keepsZero(n *ir.Node) bool {
	in := []*tensor.Tensor{tensor.FromFloat32s(n.In[0].Type.Elem, []float32{0}, 1)}
	for _, v := range n.In[1:] {
		if v == nil {
			in = append(in, nil)
		} else {
			in = append(in, v.Data)
		}
	}
	out, err := n.Eval(in)
	return err == nil && out[0].Len() == 1 && out[0].Float64s()[0] == 0
}

// constant reports whether input i is a constant of floats.
func constant(n *ir.Node, i int) bool {
	v := n.Input(i)
	return v != nil && v.IsConst() && v.Type.Elem.IsFloat()
}

// shrink removes the channels without effect, all but one at most, and returns how many.
func (s *span) shrink(r *ir.Rewriter) int {
	w, next := s.first.In[1].Data, s.last.In[1].Data
	channels := w.Shape()[0]
	rows, columns := w.Float64s(), next.Float64s()
	row, taps := w.Len()/channels, next.Len()/(next.Shape()[0]*channels)
	var bias []float64
	if b := s.first.Input(2); b != nil {
		bias = b.Data.Float64s()
	}
	zero := func(x []float64) bool { return !slices.ContainsFunc(x, func(v float64) bool { return v != 0 }) }
	var keep []int
	for c := range channels {
		unused := true
		for o := range next.Shape()[0] {
			unused = unused && zero(columns[(o*channels+c)*taps:][:taps])
		}
		silent := s.zeroStays && zero(rows[c*row:][:row]) && (bias == nil || bias[c] == 0)
		if !unused && !silent {
			keep = append(keep, c)
		}
	}
	if keep == nil {
		keep = []int{0}
	}
	if len(keep) == channels {
		return 0
	}
	take := func(n *ir.Node, i, axis int) {
		v := n.In[i]
		r.SetInput(n, i, r.Const(v.Name, pick(v.Data, axis, keep)))
	}
	take(s.first, 1, 0)
	if bias != nil {
		take(s.first, 2, 0)
	}
	take(s.last, 1, 1)
	for _, n := range s.between {
		if n.Op.Name == "BatchNormalization" {
			for i := 1; i < 5; i++ {
				take(n, i, 0)
			}
		}
	}
	for _, n := range append([]*ir.Node{s.first}, s.between...) {
		for _, v := range n.Out {
			if v != nil {
				v.Type = ir.UnrankedType(v.Type.Elem)
				r.Rename(v, v.Name+"_kept")
			}
		}
		if err := n.Infer(); err != nil {
			panic("deadchannels: " + err.Error()) // the shapes fit before, and all lost the same
		}
	}
	return channels - len(keep)
}

// pick returns some indices of t along an axis.
func pick(t *tensor.Tensor, axis int, keep []int) *tensor.Tensor {
	shape := slices.Clone(t.Shape())
	inner := 1
	for _, d := range shape[axis+1:] {
		inner *= d
	}
	size := shape[axis] * inner
	from := t.Float64s()
	var x []float64
	for at := 0; at < len(from); at += size {
		for _, k := range keep {
			x = append(x, from[at+k*inner:][:inner]...)
		}
	}
	shape[axis] = len(keep)
	if t.Elem() == tensor.F64 {
		return tensor.Of(x, shape...)
	}
	f := make([]float32, len(x))
	for i, v := range x {
		f[i] = float32(v)
	}
	return tensor.FromFloat32s(t.Elem(), f, shape...)
}
