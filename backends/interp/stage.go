package interp

import (
	"math"
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// rowKind says which channels the elements of a row belong to.
type rowKind uint8

const (
	inChannel rowKind = iota // all to one
	across                   // each to the channel after the one before
	inBlock                  // pixel after pixel, with simd.Block channels each
)

// apply changes a row of results, the first of which belongs to channel ch.
// other is the same elements of the stage's operand, if it has one.
type apply func(w *worker, row, other []float32, ch int)

// stage is an element-wise operation that a kernel applies in place to its
// results while they are in the cache.
type stage struct {
	rows  func(k rowKind) apply
	other *ir.Value // an operand of the output's shape, or nil
	flat  bool      // the channel does not matter

	// What a tile does at its store instead, if not 0: simd.Bias, Norm, Add or Clamp;
	// and its parameters: of each channel, or the limits.
	part   int
	params [3][]float32
	lo, hi float32
}

// flatStage is a stage that does the same to all elements.
func flatStage(f func(row []float32)) stage {
	return stage{flat: true, rows: func(rowKind) apply { return func(_ *worker, row, _ []float32, _ int) { f(row) } }}
}

// bound is a stage for rows of one kind.
type bound struct {
	apply apply
	other *view
}

// bind prepares stages for rows of one kind. others are the operands of those that have one.
func bind(stages []stage, k rowKind, others []*view) []bound {
	out := make([]bound, len(stages))
	for i, s := range stages {
		out[i].apply = s.rows(k)
		if s.other != nil {
			out[i].other, others = others[0], others[1:]
		}
	}
	return out
}

// finish applies stages to n elements of out from at pixels after the start of a row.
func finish(w *worker, stages []bound, out *view, image, group, y, at, n int) {
	if len(stages) == 0 {
		return
	}
	row := out.span(image, group, y, at, n)
	for i := range stages {
		var other []float32
		if o := stages[i].other; o != nil {
			other = o.span(image, group, y, at, n)
		}
		stages[i].apply(w, row, other, group*out.block)
	}
}

// operandsOf returns the values that bind expects.
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
		return flatStage(func(row []float32) { s.Leaky(row, row, slope) }), true
	case "PRelu":
		return slopeStage(s, n, v, shape)
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
	case "thriftc.ClipGrad":
		return clipGradStage(s, n, v)
	case "thriftc.ReluGrad":
		if n.In[0] != v || n.In[1] == v || n.In[1].HasData() || !n.In[1].Type.Equal(v.Type) {
			return stage{}, false
		}
		return stage{other: n.In[1], flat: true, rows: func(rowKind) apply {
			return func(_ *worker, row, other []float32, _ int) { s.Mask(row, row, other) }
		}}, true
	}
	if f := functionOf(s, n); f != nil {
		return flatStage(f), true
	}
	return stage{}, false
}

// clipGradStage is ClipGrad with constant limits.
func clipGradStage(s *simd.Set, n *ir.Node, v *ir.Value) (stage, bool) {
	limits := [2]*float32{}
	for i := range limits {
		if n.Input(i+2) == nil {
			continue
		}
		t := n.ConstIn(i + 2)
		if t == nil || t.Len() != 1 || !finite(t.Float32s()) {
			return stage{}, false
		}
		limits[i] = &t.Float32s()[0]
	}
	if n.In[0] != v || n.In[1] == v || n.In[1].HasData() || !n.In[1].Type.Equal(v.Type) {
		return stage{}, false
	}
	return stage{other: n.In[1], flat: true, rows: func(rowKind) apply {
		return func(_ *worker, row, other []float32, _ int) {
			var room [256]float32 // for differences, which are positive just where the limits are kept
			for len(row) > 0 {
				k := min(len(row), len(room))
				if limits[0] != nil {
					s.AddScalar(room[:k], other[:k], -*limits[0])
					s.Mask(row[:k], row[:k], room[:k])
				}
				if limits[1] != nil {
					s.AddScalar(room[:k], other[:k], -*limits[1])
					s.MulScalar(room[:k], room[:k], -1)
					s.Mask(row[:k], row[:k], room[:k])
				}
				row, other = row[k:], other[k:]
			}
		}
	}}, true
}

func clampStage(s *simd.Set, lo, hi float32) stage {
	c := flatStage(func(row []float32) { s.Clamp(row, row, lo, hi) })
	c.part, c.lo, c.hi = simd.Clamp, lo, hi
	return c
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
		out := stage{other: o, flat: true, rows: func(rowKind) apply {
			return func(_ *worker, row, other []float32, _ int) {
				if second {
					vectors(row, row, other)
				} else {
					vectors(row, other, row)
				}
			}
		}}
		if n.Op.Name == "Add" || n.Op.Name == "Sum" {
			out.part = simd.Add
		}
		return out, true
	}
	p, ok := channelParam(o.Data, shape)
	if !ok || n.Op.Name == "Sub" && !second {
		return stage{}, false
	}
	switch n.Op.Name {
	case "Sub": // x − c and x + (−c) are the same bits
		q := make([]float32, len(p))
		for i, c := range p {
			q[i] = -c
		}
		return addStage(s, q), true
	case "Mul":
		return mulStage(s, p), true
	}
	return addStage(s, p), true
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

// perChannel makes a stage of an operation with a parameter for each channel, or
// one for all of them. one applies a parameter to a row, each applies as many as the row has
// elements, lanes as many as a block has to each pixel.
func perChannel(p []float32, one func(row []float32, p float32), each func(row, p []float32), lanes apply) stage {
	if len(p) == 1 {
		return flatStage(func(row []float32) { one(row, p[0]) })
	}
	return stage{rows: func(k rowKind) apply {
		switch k {
		case across:
			return func(_ *worker, row, _ []float32, ch int) { each(row, p[ch:ch+len(row)]) }
		case inBlock:
			return lanes
		}
		return func(_ *worker, row, _ []float32, ch int) { one(row, p[ch]) }
	}}
}

// inLanes applies a part of a tile to rows in blocks.
func inLanes(s *simd.Set, part int, params [3][]float32) apply {
	for i, p := range params {
		params[i] = slices.Concat(p, make([]float32, -len(p)&(simd.Block-1)))
	}
	return func(w *worker, row, _ []float32, ch int) {
		t := &w.stage
		*t = simd.Tile{Flags: simd.More | part, YDist: 4 * simd.Block}
		setParams(t, params, ch)
		for most := simd.Block * s.ConvPixels(1); len(row) > 0; row = row[min(most, len(row)):] {
			t.Y = unsafe.Pointer(&row[0])
			s.Conv(1, min(most, len(row))/simd.Block, t)
		}
	}
}

// setParams points a tile to the parameters of channels from ch on.
func setParams(t *simd.Tile, params [3][]float32, ch int) {
	if t.Flags&simd.Norm != 0 {
		t.Mean, t.Scale, t.Shift = unsafe.Pointer(&params[0][ch]), unsafe.Pointer(&params[1][ch]), unsafe.Pointer(&params[2][ch])
	} else {
		t.Bias = unsafe.Pointer(&params[0][ch])
	}
}

// slopeStage is PRelu with a constant slope: one, or one for each channel.
func slopeStage(s *simd.Set, n *ir.Node, v *ir.Value, shape []int) (stage, bool) {
	t := n.ConstIn(1)
	if t == nil || n.In[0] != v {
		return stage{}, false
	}
	p, ok := channelParam(t, shape)
	if !ok {
		return stage{}, false
	}
	padded := slices.Concat(p, make([]float32, simd.Block))
	return perChannel(p, func(row []float32, slope float32) { s.Leaky(row, row, slope) },
		func(row, slopes []float32) {
			for i, x := range row {
				if x < 0 {
					row[i] = x * slopes[i]
				}
			}
		}, func(_ *worker, row, _ []float32, ch int) { s.LeakyLanes(row, padded[ch:]) }), true
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
		return flatStage(func(row []float32) { s.Quant(row, row, q.Scale[0], lo[0], hi[0]) }), true
	}
	one := func(row []float32, ch int) { s.Quant(row, row, q.Scale[ch], lo[zero(ch)], hi[zero(ch)]) }
	return stage{rows: func(k rowKind) apply {
		switch k {
		case across:
			return func(_ *worker, row, _ []float32, ch int) {
				for i := range row {
					one(row[i:i+1], ch+i)
				}
			}
		case inBlock:
			return func(_ *worker, row, _ []float32, ch int) {
				for i := range row {
					if c := ch + i%simd.Block; c < len(q.Scale) {
						one(row[i:i+1], c)
					}
				}
			}
		}
		return func(_ *worker, row, _ []float32, ch int) { one(row, ch) }
	}}, true
}

// addStage adds p, which has one element or one for each channel.
func addStage(s *simd.Set, p []float32) stage {
	params := [3][]float32{p}
	out := perChannel(p, func(row []float32, c float32) { s.AddScalar(row, row, c) },
		func(row, c []float32) { s.Add(row, row, c) }, inLanes(s, simd.Bias, params))
	out.part, out.params = simd.Bias, params
	return out
}

// mulStage multiplies by p, which has one element or one for each channel. In
// blocks it is (x − 0)·p + (−0), which is x·p to the sign of zero.
func mulStage(s *simd.Set, p []float32) stage {
	zero := make([]float32, len(p))
	minus := slices.Repeat([]float32{float32(math.Copysign(0, -1))}, len(p))
	return perChannel(p, func(row []float32, c float32) { s.MulScalar(row, row, c) },
		func(row, c []float32) { s.Mul(row, row, c) }, inLanes(s, simd.Norm, [3][]float32{zero, p, minus}))
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
	params := [3][]float32{p[3], a, p[2]}
	lanes := inLanes(s, simd.Norm, params)
	one := func(row []float32, ch int) { s.Normalise(row, row, p[3][ch], a[ch], p[2][ch]) }
	return stage{part: simd.Norm, params: params, rows: func(k rowKind) apply {
		switch k {
		case across:
			return func(_ *worker, row, _ []float32, ch int) {
				for i := range row {
					one(row[i:i+1], ch+i)
				}
			}
		case inBlock:
			return lanes
		}
		return func(_ *worker, row, _ []float32, ch int) { one(row, ch) }
	}}, true
}
