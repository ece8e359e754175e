package interp

import (
	"math"

	"thriftc/backends/interp/simd"
	"thriftc/ir"
	"thriftc/ir/f32"
	"thriftc/ir/ops"
	"thriftc/ir/tensor"
)

// stage is an element-wise operation that a kernel applies in place to its
// results while they are in the cache.
type stage struct {
	// apply changes a row of results, the first of which is element at of the
	// output and has index ch along axis 1. A row lies within one channel,
	// unless channels have one element each.
	apply func(row, other []float32, ch, at int)
	other *ir.Value // an operand of the output's shape, or nil
	flat  bool      // apply does not use ch
}

// applyAll applies stages to a row; others are the operands of each.
func applyAll(stages []stage, row []float32, others [][]float32, ch, at int) {
	for i := range stages {
		stages[i].apply(row, others[i], ch, at)
	}
}

// othersOf returns the operands of each stage among a unit's inputs, of which
// those from first on belong to the stages that have one, in order.
func othersOf(stages []stage, in []*tensor.Tensor, first int) [][]float32 {
	out := make([][]float32, len(stages))
	for i := range stages {
		if stages[i].other != nil {
			out[i] = tensor.Data[float32](in[first])
			first++
		}
	}
	return out
}

// operandsOf returns the values that othersOf expects.
func operandsOf(stages []stage) []*ir.Value {
	var out []*ir.Value
	for _, s := range stages {
		if s.other != nil {
			out = append(out, s.other)
		}
	}
	return out
}

// stageOf returns node n as a stage after whatever computes v, one of n's
// inputs; false when n is not such a node.
func stageOf(s *simd.Set, n *ir.Node, v *ir.Value) (stage, bool) {
	shape, ok := v.Type.Static()
	if !ok || v.Type.Elem != tensor.F32 || len(n.Out) != 1 || !n.Out[0].Type.Equal(v.Type) {
		return stage{}, false
	}
	switch n.Op.Name {
	case "Relu":
		return clampStage(s, 0, float32(math.Inf(1))), true
	case "Clip":
		lo, hi := float32(math.Inf(-1)), float32(math.Inf(1))
		for i, p := range []*float32{&lo, &hi} {
			if n.Input(i+1) == nil {
				continue
			}
			t := n.ConstIn(i + 1)
			if t == nil || t.Len() != 1 {
				return stage{}, false
			}
			*p = t.Float32s()[0]
		}
		if lo != lo || hi != hi {
			return stage{}, false
		}
		return clampStage(s, lo, hi), true
	case "LeakyRelu":
		slope := n.Float("alpha")
		return stage{flat: true, apply: func(row, _ []float32, _, _ int) { s.Leaky(row, row, slope) }}, true
	case "Sum":
		if len(n.In) == 2 {
			return arithStage(s, n, v, shape)
		}
	case "Add", "Sub", "Mul":
		return arithStage(s, n, v, shape)
	case "BatchNormalization":
		if n.In[0] != v {
			return stage{}, false
		}
		return normStage(s, n, shape)
	case "thriftc.Quant":
		return quantStage(s, n, v, shape)
	}
	if f := functionOf(s, n); f != nil {
		return stage{flat: true, apply: func(row, _ []float32, _, _ int) { f(row) }}, true
	}
	return stage{}, false
}

func clampStage(s *simd.Set, lo, hi float32) stage {
	return stage{flat: true, apply: func(row, _ []float32, _, _ int) { s.Clamp(row, row, lo, hi) }}
}

// arithStage is Add, Sub or Mul with a constant of one element or one per
// channel, or with a value of the same shape.
func arithStage(s *simd.Set, n *ir.Node, v *ir.Value, shape []int) (stage, bool) {
	second := n.In[0] == v // the other operand is the second
	o := n.In[0]
	if second {
		o = n.In[1]
	}
	vectors := map[string]func(dst, x, y []float32){"Add": s.Add, "Sum": s.Add, "Sub": s.Sub, "Mul": s.Mul}[n.Op.Name]
	if !o.HasData() {
		if o == v || !o.Type.Equal(v.Type) {
			return stage{}, false
		}
		return stage{other: o, flat: true, apply: func(row, other []float32, _, at int) {
			if other = other[at : at+len(row)]; second {
				vectors(row, row, other)
			} else {
				vectors(row, other, row)
			}
		}}, true
	}
	p, ok := channelParam(o.Data, shape)
	if !ok || n.Op.Name == "Sub" && !second {
		return stage{}, false
	}
	if n.Op.Name == "Sub" { // x − c and x + (−c) are the same bits
		q := make([]float32, len(p))
		for i, c := range p {
			q[i] = -c
		}
		p, vectors = q, s.Add
	}
	scalars := s.AddScalar
	if n.Op.Name == "Mul" {
		scalars = s.MulScalar
	}
	return perChannel(p, shape, func(row []float32, c float32) { scalars(row, row, c) },
		func(row, c []float32) { vectors(row, row, c) }), true
}

// channelParam returns the elements of a constant that broadcasts to shape, if
// it has one element, or one for each index along axis 1.
func channelParam(t *tensor.Tensor, shape []int) ([]float32, bool) {
	if t.Elem() != tensor.F32 || t.Rank() > len(shape) {
		return nil, false
	}
	if t.Len() == 1 {
		return t.Float32s(), true
	}
	for i, d := range t.Shape() {
		axis := len(shape) - t.Rank() + i
		if d != 1 && (axis != 1 || d != shape[1]) {
			return nil, false
		}
	}
	return t.Float32s(), true
}

// perChannel makes a stage of an operation with a parameter: one for all
// elements, or one for each index along axis 1. one applies a parameter to a
// row, each applies as many as the row has elements.
func perChannel(p []float32, shape []int, one func(row []float32, p float32), each func(row, p []float32)) stage {
	if len(p) == 1 {
		return stage{flat: true, apply: func(row, _ []float32, _, _ int) { one(row, p[0]) }}
	}
	if innerSize(shape) == 1 {
		return stage{apply: func(row, _ []float32, ch, _ int) { each(row, p[ch:ch+len(row)]) }}
	}
	return stage{apply: func(row, _ []float32, ch, _ int) { one(row, p[ch]) }}
}

// innerSize returns the number of elements of one channel of one image.
func innerSize(shape []int) int {
	n := 1
	for _, d := range shape[min(2, len(shape)):] {
		n *= d
	}
	return n
}

// quantStage is thriftc.Quant with constant parameters, rounding half to even.
func quantStage(s *simd.Set, n *ir.Node, v *ir.Value, shape []int) (stage, bool) {
	q, ok := ops.QuantOf(n)
	if !ok || n.In[0] != v || q.Rounding != "ROUND" || q.BeforeRound || len(q.Scale) > 1 && q.Axis != 1 || len(q.Zero) != 1 && len(q.Zero) != len(q.Scale) {
		return stage{}, false
	}
	// q − zero is clamped instead of q: exact as long as the limits are.
	const exact = 1 << 23
	lo, hi := make([]float32, len(q.Zero)), make([]float32, len(q.Zero))
	for i, z := range q.Zero {
		if q.Lo < -exact || q.Hi > exact || !(z >= -exact && z <= exact) || z != float32(math.Trunc(float64(z))) {
			return stage{}, false
		}
		lo[i], hi[i] = float32(q.Lo)-z, float32(q.Hi)-z
	}
	zero := func(ch int) int {
		if len(lo) == 1 {
			return 0
		}
		return ch
	}
	if len(q.Scale) == 1 {
		return stage{flat: true, apply: func(row, _ []float32, _, _ int) { s.Quant(row, row, q.Scale[0], lo[0], hi[0]) }}, true
	}
	if innerSize(shape) == 1 {
		return stage{apply: func(row, _ []float32, ch, _ int) {
			for i := range row {
				z := zero(ch + i)
				s.Quant(row[i:i+1], row[i:i+1], q.Scale[ch+i], lo[z], hi[z])
			}
		}}, true
	}
	return stage{apply: func(row, _ []float32, ch, _ int) {
		z := zero(ch)
		s.Quant(row, row, q.Scale[ch], lo[z], hi[z])
	}}, true
}

// addStage adds p, which has one element or one per index along axis 1.
func addStage(s *simd.Set, p []float32, shape []int) stage {
	return perChannel(p, shape, func(row []float32, c float32) { s.AddScalar(row, row, c) },
		func(row, c []float32) { s.Add(row, row, c) })
}

// normStage is BatchNormalization with constant statistics.
func normStage(s *simd.Set, n *ir.Node, shape []int) (stage, bool) {
	var p [5][]float32 // scale, bias, mean and variance from 1 on
	for i := 1; i < 5; i++ {
		t := n.ConstIn(i)
		if t == nil || t.Elem() != tensor.F32 || t.Len() != shape[1] {
			return stage{}, false
		}
		p[i] = t.Float32s()
	}
	if n.Int("training_mode") != 0 {
		return stage{}, false
	}
	a := make([]float32, shape[1])
	for c := range a {
		a[c] = p[1][c] / f32.Sqrt(p[4][c]+n.Float("epsilon"))
	}
	inner := innerSize(shape)
	return stage{apply: func(row, _ []float32, ch, _ int) {
		if inner > 1 {
			s.Normalise(row, row, p[3][ch], a[ch], p[2][ch])
			return
		}
		for i := range row {
			s.Normalise(row[i:i+1], row[i:i+1], p[3][ch+i], a[ch+i], p[2][ch+i])
		}
	}}, true
}
