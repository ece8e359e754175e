// Package muxify finds convolutions whose kernels have at most one weight per slice,
// a slice being the taps of one output and one input channel, and says so:
//
//	Conv(x, W f32[M,C,3,3], b)        ->  thriftc.MuxConv(x, w f32[M,C], p u8[M,C], b)
//	thriftc.QConv(x, W i8[M,C,3,3] …) ->  thriftc.QMuxConv(x, w i8[M,C], p u8[M,C] …)
//	Conv(x, W f32[C,1,3,3], b)        ->  Add(Mul(thriftc.Shift(x, p u8[C]), w), b)       depthwise
//
// What is left of a 3×3 convolution is a ninth of its products: a multiplexer
// chooses the pixel of each. That is the form in which Quantized Guided Pruning (arXiv
// 1812.11337) and Shift Attention Layers (arXiv 1905.12300) leave a network.
// Weights may be stored as integers behind a DequantizeLinear.
//
// Results are the same bits but for the sign of zeros, and but for infinities and NaNs of x that
// met a weight of zero: those no longer make NaNs.
package muxify

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "muxify",
	Doc: "Turns convolutions with at most one weight per kernel slice into thriftc.MuxConv, thriftc.QMuxConv or thriftc.Shift. " +
		"Results stay equal but for the sign of zeros.",
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	m := &muxifier{made: map[*ir.Value][2]*ir.Value{}}
	if err := m.graph(c, g); err != nil {
		return err
	}
	c.Stat("convolutions", m.muxed)
	c.Stat("shifts", m.shifted)
	return nil
}

type muxifier struct {
	muxed, shifted int
	made           map[*ir.Value][2]*ir.Value // weights and positions of a kernel that several nodes share
}

func (m *muxifier) graph(c *passes.Context, g *ir.Graph) error {
	for _, n := range slices.Clone(g.Nodes) {
		if err := c.Err(); err != nil {
			return err
		}
		for _, b := range n.Bodies() {
			if err := m.graph(c, b); err != nil {
				return err
			}
		}
		r := ir.NewRewriter(g).Before(n)
		switch n.Op.Name {
		case "Conv":
			m.conv(r, n)
		case "thriftc.QConv":
			m.integer(r, n)
		}
	}
	ir.NewRewriter(g).RemoveUnusedConsts()
	return nil
}

// kernel is one with at most one weight per slice.
type kernel struct {
	shape     []int // of the window
	weights   []int // for each slice, the index of its weight among all
	positions *tensor.Tensor
}

// kernelOf returns the weight of each slice of t, of shape [M, C, …]; false if a
// slice has several, or no choice between taps.
func kernelOf(t *tensor.Tensor) (kernel, bool) {
	if t.Rank() < 3 || t.Len() == 0 {
		return kernel{}, false
	}
	k := kernel{shape: t.Shape()[2:]}
	taps := 1
	for _, d := range k.shape {
		taps *= d
	}
	if taps < 2 || taps > 256 {
		return kernel{}, false
	}
	pos := make([]uint8, t.Len()/taps)
	w := t.Float64s()
	for i := range pos {
		count := 0
		for j, v := range w[i*taps:][:taps] {
			if v != 0 {
				pos[i] = uint8(j)
				count++
			}
		}
		if count > 1 {
			return kernel{}, false
		}
		k.weights = append(k.weights, i*taps+int(pos[i]))
	}
	k.positions = tensor.Of(pos, t.Shape()[:2]...)
	return k, true
}

// pick returns the weights of the slices among all those of t.
func (k kernel) pick(t *tensor.Tensor, shape ...int) *tensor.Tensor {
	if t.Elem().IsFloat() {
		all, w := t.Float64s(), make([]float64, len(k.weights))
		for i, at := range k.weights {
			w[i] = all[at]
		}
		if t.Elem() == tensor.F64 {
			return tensor.Of(w, shape...)
		}
		f := make([]float32, len(w))
		for i, v := range w {
			f[i] = float32(v)
		}
		return tensor.FromFloat32s(t.Elem(), f, shape...)
	}
	all := t.Int64s()
	w := make([]int64, len(k.weights))
	for i, at := range k.weights {
		w[i] = all[at]
	}
	return tensor.FromInt64s(t.Elem(), w, shape...)
}

// weightsOf returns the constant that holds the weights of a convolution, and
// the DequantizeLinear between them, if there is one.
func weightsOf(w *ir.Value) (*ir.Value, *ir.Node) {
	if w.IsConst() {
		return w, nil
	}
	d := w.Def
	if d == nil || d.Op.Name != "DequantizeLinear" || !d.In[0].IsConst() || d.ConstIn(1) == nil || d.Int("block_size") != 0 {
		return nil, nil
	}
	q, axis := d.In[0].Data, d.Int("axis")
	if axis < 0 {
		axis += q.Rank()
	}
	if d.ConstIn(1).Len() > 1 && axis != 0 {
		return nil, nil
	}
	if z := d.Input(2); z != nil && (!z.IsConst() || !zero(z.Data)) {
		return nil, nil
	}
	return d.In[0], d
}

func zero(t *tensor.Tensor) bool {
	return !slices.ContainsFunc(t.Float64s(), func(v float64) bool { return v != 0 })
}

func (m *muxifier) conv(r *ir.Rewriter, n *ir.Node) {
	v, dq := weightsOf(n.In[1])
	if v == nil {
		return
	}
	k, ok := kernelOf(v.Data)
	if !ok {
		return
	}
	shape := v.Data.Shape()
	if shape[1] == 1 && shape[0] == n.Int("group") && dq == nil {
		if e := v.Data.Elem(); e != tensor.F32 && e != tensor.F64 { // others are rounded after the bias alone
			return
		}
		m.shift(r, n, v, k)
		return
	}
	w, p := m.constants(v, k)
	if dq != nil {
		w = r.Must1("DequantizeLinear", dq.Name, slices.Clone(dq.Attrs), w, dq.In[1]) // a zero point would be zero
	}
	in := []*ir.Value{n.In[0], w, p}
	m.become(r, n, "thriftc.MuxConv", k, append(in, n.In[2:]...))
	if dq != nil && dq.Out[0].Unused() {
		r.Erase(dq)
	}
	m.muxed++
}

// integer leaves depthwise convolutions as they are: nothing is gained there.
func (m *muxifier) integer(r *ir.Rewriter, n *ir.Node) {
	v, e := n.In[1], n.In[0].Type.Elem
	if !v.IsConst() || v.Data.Rank() > 1 && v.Data.Shape()[1] == 1 || e != tensor.I8 && e != tensor.U8 {
		return
	}
	if z := n.Input(3); z != nil && (!z.IsConst() || !zero(z.Data)) {
		return
	}
	k, ok := kernelOf(v.Data)
	if !ok {
		return
	}
	w, p := m.constants(v, k)
	in := []*ir.Value{n.In[0], w, p, n.Input(2)}
	if len(n.In) > 4 {
		in = append(in, n.In[4:]...)
	}
	m.become(r, n, "thriftc.QMuxConv", k, in)
	m.muxed++
}

func (m *muxifier) become(r *ir.Rewriter, n *ir.Node, op string, k kernel, in []*ir.Value) {
	r.SetOp(n, op)
	r.SetAttr(n, "kernel_shape", k.shape)
	r.SetInputs(n, in...)
}

// constants adds the weights and the positions of kernel v to its graph.
func (m *muxifier) constants(v *ir.Value, k kernel) (w, p *ir.Value) {
	if c, ok := m.made[v]; ok {
		return c[0], c[1]
	}
	r := ir.NewRewriter(v.Graph())
	w = r.Const(v.Name, k.pick(v.Data, v.Data.Shape()[:2]...))
	p = r.Const(v.Name+"_positions", k.positions)
	m.made[v] = [2]*ir.Value{w, p}
	return w, p
}

// shift replaces a depthwise convolution; the products and the bias that follow it are rounded as there.
func (m *muxifier) shift(r *ir.Rewriter, n *ir.Node, v *ir.Value, k kernel) {
	channels := v.Data.Shape()[0]
	perChannel := append([]int{channels}, slices.Repeat([]int{1}, len(k.shape))...)
	attrs := slices.Clone(n.Attrs)
	attrs.Delete("group")
	attrs.Set("kernel_shape", k.shape)
	y := r.Must1("thriftc.Shift", n.Name, attrs, n.In[0], r.Const(v.Name+"_positions", k.positions.Reshape(channels)))
	w := k.pick(v.Data, perChannel...)
	if slices.ContainsFunc(w.Float64s(), func(v float64) bool { return v != 1 }) {
		y = r.Must1("Mul", "", nil, y, r.Const(v.Name, w))
	}
	if b := n.Input(2); b != nil {
		if !b.IsConst() {
			y = r.Must1("Add", "", nil, y, r.Must1("Reshape", "", nil, b, r.Ints(b.Name+"_shape", append([]int64{-1}, slices.Repeat([]int64{1}, len(k.shape))...)...)))
		} else {
			y = r.Must1("Add", "", nil, y, r.Const(b.Name, b.Data.Reshape(perChannel...)))
		}
	}
	name := n.Out[0].Name
	r.ReplaceUses(n.Out[0], y)
	r.Erase(n)
	r.Rename(y, name)
	m.shifted++
}
