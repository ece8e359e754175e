// Package report holds what thriftc tells about a model and a run: the summary
// of a graph, report.json, the gate on it, and tables and progress for a terminal.
package report

import (
	"math"

	"github.com/thriftc/thriftc/ir"
)

// Summary is the size and work of a model, per layer and in all. Work is that
// of one image: symbolic dimensions count as 1.
type Summary struct {
	// Parameters counts weights: elements of floating-point constants and of
	// integer constants that are dequantised. Scales and zero points of
	// quantisers and integers such as shapes are not parameters. What several
	// layers share counts once.
	Parameters int64 `json:"parameters"`
	// Bytes is the size of the model on disk, external data included; 0 when
	// there is no file.
	Bytes int64 `json:"bytes"`
	// PackedBytes is the size of all constants at their bit widths,
	// ContainerBytes that in the machine integers or floats which hold them.
	PackedBytes    int64 `json:"packed_bytes"`
	ContainerBytes int64 `json:"container_bytes"`

	MACs int64 `json:"macs"` // multiply-accumulates
	Adds int64 `json:"adds"` // other additions, comparisons and single operations
	// BOPs are bit operations: each layer's MACs times the bits of its weights
	// times the bits of its input activations.
	BOPs int64 `json:"bops"`

	// The mean widths in bits are over the matrix products and convolutions that
	// have weights, each counting the same; ByValue is over their weights instead.
	// Activations are those that enter these layers, without the model's own
	// inputs. The means are 0 when there is none.
	MeanBitsWeights        float64 `json:"mean_bits_weights"`
	MeanBitsWeightsByValue float64 `json:"mean_bits_weights_by_value"`
	MeanBitsActivations    float64 `json:"mean_bits_activations"`

	Layers []Layer `json:"layers"`
}

// Layer is the summary of one node. Quantisers are no layers of their own:
// they show as the bits of the layers that they feed.
type Layer struct {
	Name           string `json:"name"`
	Op             string `json:"op"`
	Shape          string `json:"shape"` // type of the first output
	Parameters     int64  `json:"parameters"`
	MACs           int64  `json:"macs"`
	Adds           int64  `json:"adds"`
	BOPs           int64  `json:"bops"`
	WeightBits     int    `json:"weight_bits"`     // of the largest weight; 0 without weights
	ActivationBits int    `json:"activation_bits"` // of the first input that is no weight; 0 without one
	PackedBytes    int64  `json:"packed_bytes"`
	ContainerBytes int64  `json:"container_bytes"`

	weights    int64 // elements of the largest weight
	multiplies bool  // activations are multiplied with weights
	fromInput  bool  // the activation is an input of the model
}

// Summarize describes g. Types must be inferred.
func Summarize(g *ir.Graph) *Summary {
	s := &Summary{Layers: []Layer{}}
	var all Layer // what the constants are in all
	for _, v := range g.Consts {
		all.constant(v)
	}
	c := counter{seen: map[*ir.Value]bool{}}
	g.Walk(func(n *ir.Node) {
		for _, b := range n.Bodies() {
			for _, v := range b.Consts {
				all.constant(v)
			}
		}
		if n.Op.Bits != nil {
			return
		}
		l := c.layer(n)
		s.Layers = append(s.Layers, l)
		s.MACs += l.MACs
		s.Adds += l.Adds
		s.BOPs += min(l.BOPs, math.MaxInt64-s.BOPs)
	})
	s.Parameters, s.PackedBytes, s.ContainerBytes = all.Parameters, all.PackedBytes, all.ContainerBytes
	s.means()
	return s
}

func (s *Summary) means() {
	var weights, activations, byValue mean
	for _, l := range s.Layers {
		if !l.multiplies || l.WeightBits == 0 {
			continue
		}
		weights.add(l.WeightBits, 1)
		byValue.add(l.WeightBits, l.weights)
		if l.ActivationBits > 0 && !l.fromInput {
			activations.add(l.ActivationBits, 1)
		}
	}
	s.MeanBitsWeights, s.MeanBitsWeightsByValue, s.MeanBitsActivations = weights.value(), byValue.value(), activations.value()
}

type mean struct{ sum, n int64 }

func (m *mean) add(bits int, times int64) { m.sum, m.n = m.sum+int64(bits)*times, m.n+times }

func (m *mean) value() float64 {
	if m.n == 0 {
		return 0
	}
	return float64(m.sum) / float64(m.n)
}

// multiplies reports whether the node is one of those whose weights are what
// compression works on: matrix products and convolutions.
func multiplies(n *ir.Node) bool {
	switch n.Op.Name {
	case "Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "MatMulInteger", "Einsum", "LSTM", "GRU", "RNN":
		return true
	}
	return false
}

// keepsValues reports whether every element of the node's first output is one
// of its first input, or zero, so that the output lies on the same grid.
func keepsValues(n *ir.Node) bool {
	return n.Op.Elements != ir.Computed || n.Op.Name == "Relu" || n.Op.Name == "Dropout"
}

// counter counts every constant once, for the first layer that uses it.
type counter struct{ seen map[*ir.Value]bool }

func (c *counter) layer(n *ir.Node) Layer {
	l := Layer{Name: n.Label(), Op: n.Op.Name, multiplies: multiplies(n)}
	if out := n.Output(0); out != nil {
		l.Shape = out.Type.String()
	}
	if n.Op.Cost != nil {
		cost := n.Op.Cost(n)
		l.MACs, l.Adds = cost.MACs, cost.Adds
	}
	for _, v := range n.In {
		if v == nil {
			continue
		}
		c.take(v, &l)
		if w, bits := weight(v); w == nil {
			if l.ActivationBits == 0 {
				l.ActivationBits, l.fromInput = activationBits(v)
			}
		} else if size := int64(w.Data.Len()); isParameter(w) && size > l.weights {
			l.weights, l.WeightBits = size, bits
		}
	}
	l.BOPs = bops(l.MACs, l.WeightBits, l.ActivationBits)
	return l
}

// take adds the constants behind an operand to a layer: the operand itself or
// those of the quantisers that it comes through.
func (c *counter) take(v *ir.Value, l *Layer) {
	switch {
	case v == nil || c.seen[v]:
	case v.HasData():
		c.seen[v] = true
		l.constant(v)
	case v.Def != nil && v.Def.Op.Bits != nil:
		for _, in := range v.Def.In {
			c.take(in, l)
		}
	}
}

// constant adds one constant to the layer's sizes.
func (l *Layer) constant(v *ir.Value) {
	n := int64(v.Data.Len())
	if isParameter(v) {
		l.Parameters += n
	}
	l.ContainerBytes += n * int64(v.Type.Elem.ContainerBytes())
	l.PackedBytes += (n*int64(storedBits(v)) + 7) / 8
}

// isParameter reports whether a constant holds weights: it is what a quantiser,
// a matrix product or a convolution works on, or floating point and not a
// quantiser's scale, zero point or bit width.
func isParameter(v *ir.Value) bool {
	for _, u := range v.Uses() {
		switch {
		case u.Node.Op.Bits != nil:
			if u.Index == 0 {
				return true
			}
		case v.Type.Elem.IsFloat(), v.Type.Elem.IsInt() && multiplies(u.Node):
			return true
		}
	}
	return false
}

// storedBits returns the width at which a constant has to be kept: that of its
// element type, or of the fake quantisers when nothing else uses it.
func storedBits(v *ir.Value) int {
	bits := 0
	for _, u := range v.Uses() {
		b := 0
		if u.Index == 0 && v.Type.Elem.IsFloat() {
			b = quantBits(u.Node)
		}
		if b == 0 {
			return v.Type.Elem.Bits()
		}
		bits = max(bits, b)
	}
	if bits == 0 {
		return v.Type.Elem.Bits()
	}
	return bits
}

// bops multiplies MACs with the widths of both operands; without weights, as
// in the product of two activations, both count with the width of the first.
func bops(macs int64, weightBits, activationBits int) int64 {
	if weightBits == 0 {
		weightBits = activationBits
	}
	each := int64(weightBits) * int64(activationBits)
	if each > 0 && macs > math.MaxInt64/each {
		return math.MaxInt64
	}
	return macs * each
}

// weight returns the constant that an operand is made of and its width in
// bits, or nil when the operand depends on the model's inputs.
func weight(v *ir.Value) (*ir.Value, int) {
	if v.HasData() {
		return v, v.Type.Elem.Bits()
	}
	n := v.Def
	if n == nil || len(n.In) == 0 || n.In[0] == nil || n.Op.Bits == nil && !keepsValues(n) {
		return nil, 0
	}
	w, bits := weight(n.In[0])
	if w == nil {
		return nil, 0
	}
	if b := quantBits(n); b > 0 {
		bits = b
	}
	return w, bits
}

// quantBits returns the width that a quantiser gives its output, 0 for other
// nodes or when it is not constant.
func quantBits(n *ir.Node) int {
	if n.Op.Bits == nil {
		return 0
	}
	return n.Op.Bits(n)
}

// activationBits returns the width of an activation: that of the quantiser it
// comes from, or of its element type, and whether it is an input of the model.
func activationBits(v *ir.Value) (bits int, input bool) {
	bits = v.Type.Elem.Bits()
	for found := false; ; {
		n := v.Def
		if n == nil || len(n.In) == 0 || n.In[0] == nil || n.Op.Bits == nil && !keepsValues(n) {
			return bits, v.Kind == ir.Input
		}
		if b := quantBits(n); b > 0 && !found {
			bits, found = b, true
		}
		v = n.In[0]
	}
}
