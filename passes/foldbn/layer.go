package foldbn

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// layer is a node whose result is linear in its weights, input 1, plus a bias, input 2.
type layer struct {
	n       *ir.Node
	out, in int       // dimensions of the weights that number the output and the input channels
	outs    int       // output channels
	bias    []float64 // one for each; zeros where there is none
}

// layerOf reads n as a layer; nil if it is none, or one whose bias cannot be changed.
func layerOf(n *ir.Node) *layer {
	if n == nil || n.Op.Layer == nil || n.Op.Layer.Channels == nil || len(n.In) < 2 || n.In[1] == nil {
		return nil
	}
	shape, static := n.In[1].Type.Static()
	if e := n.In[1].Type.Elem; !static || e != tensor.F32 && e != tensor.F64 {
		return nil
	}
	if n.Op.Layer.Commutes && (len(shape) != 2 || n.In[0].Type.Rank() != 2) {
		return nil
	}
	l := &layer{n: n}
	l.out, l.in = n.Op.Layer.Channels(n, 1)
	if l.outs = shape[l.out]; l.out == 1 && n.HasAttr("group") {
		l.outs *= n.Int("group")
	}
	l.bias = make([]float64, l.outs)
	b := n.Input(2)
	if b == nil {
		return l
	}
	// The C of a Gemm may also be one number, or differ from row to row.
	if !b.IsConst() || b.Data.Len() != 1 && (b.Data.Len() != l.outs || b.Data.Shape()[b.Data.Rank()-1] != l.outs) {
		return nil
	}
	beta := 1.0
	if n.Op.Name == "Gemm" {
		beta = float64(n.Float("beta"))
	}
	x := b.Data.Float64s()
	for i := range l.bias {
		l.bias[i] = beta * x[i%len(x)]
	}
	return l
}

// sameForm reports whether equal weights have the same output channels in both.
func (l *layer) sameForm(k *layer) bool {
	return l.n.Op == k.n.Op && l.n.Int("group") == k.n.Int("group") && l.n.Int("transB") == k.n.Int("transB")
}

// each calls f for every weight with its flat index and the output and input
// channels that it joins.
func (l *layer) each(f func(i, out, in int)) {
	shape, _ := l.n.In[1].Type.Static()
	inner := 1
	for _, d := range shape[2:] {
		inner *= d
	}
	groups := 1
	if l.n.HasAttr("group") {
		groups = l.n.Int("group")
	}
	for p := range shape[0] {
		for q := range shape[1] {
			at := [2]int{p, p/max(1, shape[0]/groups)*shape[1] + q}
			for i := range inner {
				f((p*shape[1]+q)*inner+i, at[l.out], at[l.in])
			}
		}
	}
}

// scaled returns the weights, each multiplied by a factor of its channels.
func (l *layer) scaled(factor func(out, in int) float64) *tensor.Tensor {
	t := l.n.In[1].Data
	x := slices.Clone(t.Float64s())
	l.each(func(i, out, in int) { x[i] *= factor(out, in) })
	return numbers(t.Elem(), x, t.Shape()...)
}

// numbers makes an f32 or f64 tensor.
func numbers(e tensor.Elem, x []float64, shape ...int) *tensor.Tensor {
	if e == tensor.F64 {
		return tensor.Of(x, shape...)
	}
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return tensor.Of(y, shape...)
}
