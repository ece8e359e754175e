package ops

import (
	"math"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Normalize brings the quantisers of a graph that has just been read to the
// one form of the IR, without changing any result:
//
//   - QuantizeLinear → DequantizeLinear with equal constant scales and zero
//     points becomes thriftc.Quant; one for all DequantizeLinear of a QuantizeLinear;
//   - with a Clip of the integers in between (QCDQ), fewer bits or a narrow range;
//   - thriftc.Quant of a constant becomes integers of its width and DequantizeLinear;
//   - Clip of constant integers before DequantizeLinear becomes their width;
//   - thriftc.Quant → Clip of the floats to whole steps (how QONNX files of ours
//     say zero points) becomes a zero point.
//
// What does not fit stays as it is.
func Normalize(g *ir.Graph) error {
	n := &quantNormalizer{r: ir.NewRewriter(g), quants: map[quantKey]*ir.Value{}}
	for _, m := range slices.Clone(g.Nodes) {
		for _, b := range m.Bodies() {
			if err := Normalize(b); err != nil {
				return err
			}
		}
		var err error
		switch m.Op.Name {
		case "DequantizeLinear":
			err = n.dequantize(m)
		case "thriftc.Quant", "thriftc.BipolarQuant":
			err = n.constant(m)
		case "Clip":
			err = n.affine(m)
		case "Where":
			err = n.bipolar(m)
		}
		if err != nil {
			return err
		}
	}
	if n.changed {
		n.r.RemoveUnusedConsts()
	}
	return nil
}

type quantNormalizer struct {
	r       *ir.Rewriter
	quants  map[quantKey]*ir.Value // by what they quantise and to which width
	changed bool
}

type quantKey struct {
	quantize       *ir.Node
	bits           int
	signed, narrow bool
}

// replace puts v in the place of n's output, under its name if v is new, and
// erases n and whatever of its producers' chain is not used any more.
func (q *quantNormalizer) replace(n *ir.Node, v *ir.Value, isNew bool) {
	q.changed = true
	producer := n.In[0].Def
	if isNew {
		replaceNode(q.r, n, v)
	} else {
		q.r.ReplaceUses(n.Out[0], v)
		q.r.Erase(n)
	}
	for producer != nil && producer.Out[0].Unused() && (producer.Op.Name == "Clip" || producer.Op.Name == "QuantizeLinear" || producer.Op.Name == "GreaterOrEqual" || producer.Op.Name == "thriftc.Quant") {
		dead := producer
		producer = dead.In[0].Def
		q.r.Erase(dead)
	}
}

// dequantize pairs a DequantizeLinear with what feeds it.
func (q *quantNormalizer) dequantize(n *ir.Node) error {
	ints := n.In[0]
	lo, hi := ints.Type.Elem.Range()
	clipped := ints.Def != nil && ints.Def.Op.Name == "Clip" && ints.Def.Graph() == n.Graph()
	if clipped {
		clip := ints.Def
		var ok bool
		if lo, hi, ok = clipLimits(clip, lo, hi); !ok {
			return nil
		}
		ints = clip.In[0]
	}
	bits, signed, narrow, ok := rangeBits(lo, hi, ints.Type.Elem.IsSigned())
	switch {
	case !ok || n.Int("block_size") != 0:
		return nil
	case ints.IsConst() && clipped:
		return q.narrowConst(n, ints, lo, hi, bits, signed)
	case ints.Def == nil || ints.Def.Op.Name != "QuantizeLinear" || ints.Def.Graph() != n.Graph():
		return nil
	}
	quantize := ints.Def
	x, scale := quantize.In[0], quantize.In[1]
	if quantize.Int("block_size") != 0 || quantize.Int("precision") != 0 || x.Type.Elem != n.Out[0].Type.Elem ||
		scale.Type.Elem != x.Type.Elem || !scale.IsConst() || !sameConst(scale, n.In[1]) || !sameZero(quantize.Input(2), n.Input(2)) ||
		scale.Data.Len() > 1 && quantize.Int("axis") != n.Int("axis") {
		return nil
	}
	key := quantKey{quantize, bits, signed, narrow}
	// A graph output keeps a quantiser of its own, because it keeps its name.
	if v := q.quants[key]; v != nil && !n.Out[0].IsOutput() {
		q.replace(n, v, false)
		return nil
	}
	zero := make([]float32, 1)
	var shape []int
	if z := quantize.ConstIn(2); z != nil {
		zero, shape = z.Float32s(), z.Shape()
	}
	attrs := ir.MakeAttrs("signed", signed, "narrow", narrow)
	if scale.Data.Len() > 1 {
		attrs.Set("axis", quantize.Int("axis"))
	}
	label := strings.TrimSuffix(quantize.Name, quantizedSuffix)
	m, err := q.r.Before(n).Add("thriftc.Quant", label, attrs, []*ir.Value{
		x, scale, q.r.Const(n.Out[0].Name+"_zero_point", tensor.FromFloat32s(x.Type.Elem, zero, shape...)), q.r.Float(n.Out[0].Name+"_bits", float32(bits)),
	})
	if err != nil {
		return err
	}
	q.replace(n, m.Out[0], true)
	if x.IsConst() {
		return q.constant(m)
	}
	q.quants[key] = m.Out[0]
	return nil
}

// narrowConst gives constant integers the width that a Clip says they have.
func (q *quantNormalizer) narrowConst(n *ir.Node, ints *ir.Value, lo, hi int64, bits int, signed bool) error {
	e := tensor.Uint(bits)
	if signed {
		e = tensor.Int(bits)
	}
	in := slices.Clone(n.In)
	if z := n.Input(2); z != nil {
		if !z.IsConst() {
			return nil
		}
		zero := tensor.FromInt64s(e, z.Data.Int64s(), z.Data.Shape()...)
		if zero.CheckRange() != nil || !slices.Equal(zero.Int64s(), z.Data.Int64s()) {
			return nil
		}
		in[2] = q.r.Const(strings.TrimSuffix(z.Name, EightBitSuffix), zero)
	}
	data := slices.Clone(ints.Data.Int64s())
	for i, v := range data {
		data[i] = min(max(v, lo), hi)
	}
	in[0] = q.r.Const(strings.TrimSuffix(ints.Name, EightBitSuffix), tensor.FromInt64s(e, data, ints.Data.Shape()...))
	m, err := q.r.Before(n).Add("DequantizeLinear", n.Name, slices.Clone(n.Attrs), in)
	if err != nil {
		return err
	}
	q.replace(n, m.Out[0], true)
	return nil
}

// constant turns a quantiser of a constant into integers and DequantizeLinear,
// where that is exactly equal.
func (q *quantNormalizer) constant(n *ir.Node) error {
	x := n.In[0]
	if !x.IsConst() || !n.In[1].IsConst() {
		return nil
	}
	in := []*tensor.Tensor{x.Data, n.In[1].Data}
	var ints, zero *tensor.Tensor
	if n.Op.Name == "thriftc.BipolarQuant" {
		signs, _ := tensor.Alloc(tensor.Bipolar, x.Data.Shape()...)
		for i, v := range x.Data.Float64s() {
			tensor.Data[int8](signs)[i] = 1
			if !(v >= 0) {
				tensor.Data[int8](signs)[i] = -1
			}
		}
		ints = signs
	} else {
		p, ok := QuantOf(n)
		if !ok || p.Rounding != "ROUND" && p.BeforeRound {
			return nil
		}
		in = append(in, n.In[2].Data, n.In[3].Data)
		if ints, zero, ok = quantizeConst(n, p); !ok {
			return nil
		}
	}
	want, err := n.Eval(in)
	if err != nil {
		return err
	}
	name, ours := strings.CutSuffix(x.Name, FloatSuffix)
	if !ours {
		name += "_quantized"
	}
	vs := []*ir.Value{q.r.Const(name, ints), n.In[1]}
	if zero != nil {
		vs = append(vs, q.r.Const(name+"_zero_point", zero))
	}
	var attrs ir.Attrs
	if n.In[1].Data.Len() > 1 {
		attrs = ir.MakeAttrs("axis", n.Int("axis"))
	}
	m, err := q.r.Before(n).Add("DequantizeLinear", n.Name, attrs, vs)
	if err != nil {
		return err
	}
	got, err := m.Eval([]*tensor.Tensor{ints, in[1], zero})
	if err != nil || !tensor.Equal(got[0], want[0]) {
		q.r.Erase(m)
		q.changed = true
		return err
	}
	q.replace(n, m.Out[0], true)
	return nil
}

// quantizeConst returns the integers and the zero point (nil if 0) of a
// quantiser of a constant; false when its zero point is no integer of that width.
func quantizeConst(n *ir.Node, p QuantInfo) (ints, zero *tensor.Tensor, ok bool) {
	e := tensor.Uint(p.Bits)
	if p.Signed {
		e = tensor.Int(p.Bits)
	}
	x := n.In[0].Data
	along, err := alongAxis(x.Shape(), p.Axis, 0, n.In[1].Data, n.In[2].Data)
	if err != nil {
		return nil, nil, false
	}
	// One zero point per scale, as DequantizeLinear wants them.
	zeros := make([]int64, len(p.Scale))
	for i := range zeros {
		z := p.Zero[min(i, len(p.Zero)-1)]
		if zeros[i] = int64(z); float32(zeros[i]) != z || zeros[i] < p.Lo || zeros[i] > p.Hi {
			return nil, nil, false
		}
	}
	if len(p.Zero) > len(p.Scale) {
		return nil, nil, false
	}
	q := quantSpec{float64(p.Lo), float64(p.Hi), roundings[p.Rounding], p.BeforeRound}
	data := make([]int64, x.Len())
	for i, v := range x.Float32s() {
		t, z := v/p.Scale[along(i, len(p.Scale))], p.Zero[along(i, len(p.Zero))]
		if p.BeforeRound {
			data[i] = int64(q.round(q.clamp(float64(t + z))))
		} else {
			data[i] = int64(q.clamp(q.round(float64(t)) + float64(z)))
		}
	}
	ints = tensor.FromInt64s(e, data, x.Shape()...)
	if slices.ContainsFunc(zeros, func(z int64) bool { return z != 0 }) {
		zero = tensor.FromInt64s(e, zeros, n.In[1].Data.Shape()...)
	}
	return ints, zero, true
}

// affine folds a Clip of floats into the quantiser before it.
func (q *quantNormalizer) affine(n *ir.Node) error {
	if n.In[0].Def == nil || n.In[0].Def.Graph() != n.Graph() || len(n.In[0].Uses()) != 1 || n.In[0].IsOutput() {
		return nil
	}
	quant := n.In[0].Def
	p, ok := QuantOf(quant)
	if !ok || !p.Signed || len(p.Scale) != 1 || len(p.Zero) != 1 || p.Zero[0] != 0 || quant.In[0].Type.Elem != tensor.F32 || n.ConstIn(1) == nil || n.ConstIn(2) == nil {
		return nil
	}
	steps := func(t *tensor.Tensor) (int64, bool) {
		v := t.Float32s()[0]
		k := math.RoundToEven(float64(v / p.Scale[0]))
		return int64(k), k >= float64(p.Lo) && k <= float64(p.Hi) && float32(float32(k)*p.Scale[0]) == v
	}
	lo, okLo := steps(n.ConstIn(1))
	hi, okHi := steps(n.ConstIn(2))
	if !okLo || !okHi || lo > 0 || hi < 0 || lo == hi {
		return nil
	}
	// Unsigned integers that start at lo: the zero point is −lo.
	bits, signed, narrow, ok := rangeBits(0, hi-lo, false)
	if !ok || bits >= p.Bits {
		return nil
	}
	r := q.r.Before(n)
	m, err := r.Add("thriftc.Quant", quant.Name, ir.MakeAttrs("signed", signed, "narrow", narrow, "rounding_mode", p.Rounding), []*ir.Value{
		quant.In[0], quant.In[1], r.Float(n.Out[0].Name+"_zero_point", float32(-lo)), r.Float(n.Out[0].Name+"_bits", float32(bits)),
	})
	if err != nil {
		return err
	}
	q.replace(n, m.Out[0], true)
	return nil
}

// bipolar turns Where(x ≥ 0, scale, −scale) into thriftc.BipolarQuant.
func (q *quantNormalizer) bipolar(n *ir.Node) error {
	sign, plus, minus := n.In[0].Def, n.ConstIn(1), n.ConstIn(2)
	if sign == nil || sign.Op.Name != "GreaterOrEqual" || sign.Graph() != n.Graph() || plus == nil || minus == nil ||
		!plus.Elem().IsFloat() || !slices.Equal(plus.Shape(), minus.Shape()) {
		return nil
	}
	zero := sign.ConstIn(1)
	x := sign.In[0]
	if zero == nil || zero.Len() != 1 || zero.Float64s()[0] != 0 || x.Type.Elem != plus.Elem() || !x.Type.Equal(n.Out[0].Type) {
		return nil
	}
	m := minus.Float64s()
	for i, s := range plus.Float64s() {
		if m[i] != -s {
			return nil
		}
	}
	r := q.r.Before(n)
	scale, axis, err := channelParam(r, n.In[1], x.Type)
	if err != nil {
		return nil // not along one dimension
	}
	var attrs ir.Attrs
	if scale.Data.Len() > 1 {
		attrs = ir.MakeAttrs("axis", axis)
	}
	b, err := r.Add("thriftc.BipolarQuant", n.Name, attrs, []*ir.Value{x, scale})
	if err != nil {
		return err
	}
	q.replace(n, b.Out[0], true)
	return nil
}

// clipLimits returns the limits of a Clip of integers, not beyond lo and hi.
func clipLimits(n *ir.Node, lo, hi int64) (int64, int64, bool) {
	for i, limit := range []*int64{&lo, &hi} {
		v := n.Input(i + 1)
		if v == nil {
			continue
		}
		if !v.IsConst() || v.Data.Len() != 1 || !v.Data.Elem().IsInt() {
			return 0, 0, false
		}
		if c := v.Data.Int64s()[0]; i == 0 {
			*limit = max(*limit, c)
		} else {
			*limit = min(*limit, c)
		}
	}
	return lo, hi, lo < hi
}

// rangeBits finds the quantiser whose range is exactly lo to hi, signed for preference or not.
func rangeBits(lo, hi int64, preferSigned bool) (bits int, signed, narrow, ok bool) {
	for _, s := range []bool{preferSigned, !preferSigned} {
		for b := 1; b <= 32; b++ {
			for _, nw := range []bool{false, true} {
				if l, h := QuantRange(b, s, nw); l == lo && h == hi && l < h {
					return b, s, nw, true
				}
			}
		}
	}
	return 0, false, false, false
}

// sameConst reports whether two values are one, or constants of equal type and bits.
func sameConst(a, b *ir.Value) bool {
	return a == b || a.IsConst() && b.IsConst() && tensor.Equal(a.Data, b.Data)
}

// sameZero is sameConst for zero points, where absent means 0.
func sameZero(a, b *ir.Value) bool {
	zeros := func(v *ir.Value) bool {
		return v == nil || v.IsConst() && !slices.ContainsFunc(v.Data.Int64s(), func(z int64) bool { return z != 0 })
	}
	if a == nil || b == nil {
		return zeros(a) && zeros(b)
	}
	return a.IsConst() && sameConst(a, b)
}
