// Package report holds what thriftc tells about a model and a run: the summary
// of a graph, report.json, the gate on it, and tables and progress for a terminal.
package report

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
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
	ActivationBits int    `json:"activation_bits"` // of the widest input that is an activation; 0 without one
	PackedBytes    int64  `json:"packed_bytes"`
	ContainerBytes int64  `json:"container_bytes"`

	weights    int64 // elements of the largest weight
	multiplies bool  // activations are multiplied with weights
	fromInput  bool  // its activations are inputs of the model
}

// Summarize describes g. Types must be inferred.
func Summarize(g *ir.Graph) *Summary {
	s := &Summary{Layers: []Layer{}}
	var all Layer // what the constants are in all
	for _, v := range g.Consts {
		all.constant(v)
	}
	c := counter{map[*ir.Value]bool{}, map[*ir.Value]bool{}, map[*ir.Value]activation{}}
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

// keepsValues reports whether every element of the node's first output is one
// of its data, or zero, so that the output lies on the same grid.
func keepsValues(n *ir.Node) bool {
	return n.Op.Elements != ir.Computed || n.Op.Name == "Relu" || n.Op.Name == "Dropout"
}

// sources returns the inputs whose numbers a quantiser or a node that keeps values passes on.
func sources(n *ir.Node) []*ir.Value {
	switch {
	case n.Op.Bits == nil && !keepsValues(n), len(n.In) == 0, n.In[0] == nil:
		return nil
	case n.Op.Inputs()[0].Variadic:
		return n.In
	}
	return n.In[:1]
}

// counter counts every constant once, for the first layer that uses it.
type counter struct {
	seen  map[*ir.Value]bool
	fixed map[*ir.Value]bool // computed from constants only
	acts  map[*ir.Value]activation
}

func (c *counter) layer(n *ir.Node) Layer {
	l := Layer{Name: n.Label(), Op: n.Op.Name, multiplies: n.Op.Layer != nil, fromInput: true}
	if out := n.Output(0); out != nil {
		l.Shape = out.Type.String()
	}
	if n.Op.Cost != nil {
		cost := n.Op.Cost(n)
		l.MACs, l.Adds = cost.MACs, cost.Adds
	}
	var widths []int // of the activations
	for i, v := range n.In {
		c.take(v, &l)
		role := n.Op.Role(i)
		operand := role == ir.Data || role == ir.Weight
		if v == nil || role == ir.Setting || role == ir.Shape || l.multiplies && !operand {
			continue
		}
		if c.constant(v) {
			w, bits := weight(v)
			if w == nil { // computed from constants, as before fold
				w, bits = v, v.Type.Elem.Bits()
			} else if !isParameter(w) {
				continue
			}
			if size := elements(w); size > l.weights {
				l.weights, l.WeightBits = size, bits
			}
		} else if operand {
			a := c.activation(v)
			widths = append(widths, a.bits)
			l.ActivationBits, l.fromInput = max(l.ActivationBits, a.bits), l.fromInput && a.input
		}
	}
	if l.WeightBits > 0 {
		widths = []int{l.WeightBits, l.ActivationBits}
	}
	if len(widths) > 0 {
		l.BOPs = bops(l.MACs, widths[0], widths[min(1, len(widths)-1)])
	}
	return l
}

// elements returns how many numbers a value holds.
func elements(v *ir.Value) int64 {
	shape, _ := v.Type.Static()
	n, err := tensor.NumElems(shape)
	if err != nil {
		return 0
	}
	return int64(n)
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

// isParameter reports whether a constant holds weights: what a quantiser or a layer
// works on, at once or after it was moved, or floating point and no setting such as a scale.
func isParameter(v *ir.Value) bool {
	return slices.ContainsFunc(v.Uses(), func(u ir.Use) bool {
		role := u.Node.Op.Role(u.Index)
		switch {
		case role == ir.Setting, role == ir.Shape:
			return false
		case v.Type.Elem.IsFloat(), u.Node.Op.Bits != nil, v.Type.Elem.IsInt() && u.Node.Op.Layer != nil:
			return true
		}
		return slices.Contains(sources(u.Node), v) && u.Node.Output(0) != nil && isParameter(u.Node.Out[0])
	})
}

// storedBits returns the width at which a constant has to be kept: that of its
// element type, or of the fake quantisers when nothing else uses it or what it is moved to.
func storedBits(v *ir.Value) int {
	whole, bits := v.Type.Elem.Bits(), 0
	if v.IsOutput() || !v.Type.Elem.IsFloat() {
		return whole
	}
	for _, u := range v.Uses() {
		b := 0
		switch from := sources(u.Node); {
		case !slices.Contains(from, v):
		case u.Node.Op.Bits != nil:
			b = quantBits(u.Node)
		case len(u.Node.Out) == 1 && !u.Node.Out[0].Unused():
			b = storedBits(u.Node.Out[0])
		}
		if b == 0 {
			return whole
		}
		bits = max(bits, b)
	}
	if bits == 0 {
		return whole
	}
	return bits
}

// bops multiplies MACs with the widths of both operands.
func bops(macs int64, a, b int) int64 {
	each := int64(a) * int64(b)
	if each > 0 && macs > math.MaxInt64/each {
		return math.MaxInt64
	}
	return macs * each
}

// constant reports whether an operand is the same whatever the model's inputs are:
// every input of what computes it is, the indices of a Gather as well as its table.
func (c *counter) constant(v *ir.Value) bool {
	if v == nil || v.HasData() {
		return true
	}
	fixed, known := c.fixed[v]
	if !known {
		n := v.Def
		fixed = n != nil && !n.Op.Random && len(n.Bodies()) == 0
		for i := 0; fixed && i < len(n.In); i++ {
			fixed = c.constant(n.In[i])
		}
		c.fixed[v] = fixed
	}
	return fixed
}

// weight returns the largest constant that a constant operand is made of and its width in
// bits, nil where new numbers are computed.
func weight(v *ir.Value) (*ir.Value, int) {
	if v.HasData() {
		return v, v.Type.Elem.Bits()
	}
	var w *ir.Value
	bits := 0
	for _, s := range sources(v.Def) {
		if x, b := weight(s); x != nil && (w == nil || x.Data.Len() > w.Data.Len()) {
			w, bits = x, b
		}
	}
	if b := quantBits(v.Def); w != nil && b > 0 {
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

type activation struct {
	bits  int
	input bool // it holds nothing but inputs of the model
}

// activation returns the width of an activation: that of the quantiser it
// comes from, or of its element type; the widest where several are joined.
func (c *counter) activation(v *ir.Value) activation {
	if a, ok := c.acts[v]; ok {
		return a
	}
	a := activation{v.Type.Elem.Bits(), v.Kind == ir.Input}
	if n := v.Def; n != nil {
		if from := sources(n); len(from) > 0 {
			a = activation{0, true}
			for _, s := range from {
				x := c.activation(s)
				a.bits, a.input = max(a.bits, x.bits), a.input && x.input
			}
		}
		if b := quantBits(n); b > 0 {
			a.bits = b
		}
	}
	c.acts[v] = a
	return a
}
