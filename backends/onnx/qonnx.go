package onnx

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// qonnxDomain is the domain of QONNX's operators. Of the two names of the
// quantiser, Quant and the newer IntQuant, all consumers know the first.
const qonnxDomain = "qonnx.custom_op.general."

// qonnxQuant turns an activation quantiser into QONNX's.
//
// QONNX adds the zero point before it rounds, so a zero point added after
// rounding cannot be given to it: the results would differ where x/scale lies
// half-way between two integers. Such a quantiser becomes a wider one without
// zero point, whose range covers it, and a Clip of the floats to the first and
// last step. That is exactly equal for everyone who runs QONNX.
func (l *lowering) qonnxQuant(n *ir.Node) {
	x := n.In[0]
	if x.Type.Elem != tensor.F32 {
		l.problem(n, "qonnx quantises f32 only, this is %v", x.Type.Elem)
		return
	}
	if n.Op.Name == "thriftc.BipolarQuant" {
		if s := n.ConstIn(1); s == nil {
			l.problem(n, "the scale is computed, qonnx wants a constant")
		} else if scale, ok := l.broadcastable(n, n.In[1], s, n.Int("axis")); ok {
			l.replace(n, "BipolarQuant", nil, []*ir.Value{x, scale})
		}
		return
	}
	q, ok := ops.QuantOf(n)
	if !ok {
		l.problem(n, "scale, zero point or bits are computed, qonnx wants constants")
		return
	}
	scale, ok := l.broadcastable(n, n.In[1], n.ConstIn(1), q.Axis)
	if !ok {
		return
	}
	attrs := ir.MakeAttrs("signed", q.Signed, "narrow", q.Narrow, "rounding_mode", q.Rounding)
	noZero := !slices.ContainsFunc(q.Zero, func(z float32) bool { return z != 0 })
	if q.BeforeRound || noZero && !(q.Signed && q.Bits == 1) {
		zero := l.r.Float(n.Out[0].Name+"_zeropt", 0)
		if !noZero {
			if zero, ok = l.broadcastable(n, n.In[2], n.ConstIn(2), q.Axis); !ok {
				return
			}
		}
		if q.Signed && q.Bits == 1 {
			l.problem(n, "qonnx has no 1-bit signed quantiser with a zero point")
			return
		}
		l.replace(n, "Quant", attrs, []*ir.Value{x, scale, zero, l.bits(n, q.Bits)})
		return
	}
	zero := q.Zero[0]
	switch {
	case len(q.Scale) > 1 || len(q.Zero) > 1:
		l.problem(n, "qonnx cannot say a zero point that is added after rounding with scales per channel")
		return
	case float64(zero) != math.Trunc(float64(zero)) || math.Abs(float64(zero)) > 1<<31:
		l.problem(n, "zero point %v is not whole", zero)
		return
	}
	lo, hi := q.Lo-int64(zero), q.Hi-int64(zero)
	bits := 2
	for least, greatest := ops.QuantRange(bits, true, false); least > lo || greatest < hi; least, greatest = ops.QuantRange(bits, true, false) {
		bits++
	}
	if bits > 32 {
		l.problem(n, "zero point %v and %d bits do not fit qonnx", zero, q.Bits)
		return
	}
	name := n.Out[0].Name
	symmetric := lo == -hi && hi == 1<<(bits-1)-1
	wide := l.replace(n, "Quant", ir.MakeAttrs("signed", 1, "narrow", symmetric, "rounding_mode", q.Rounding),
		[]*ir.Value{x, scale, l.r.Float(name+"_zeropt", 0), l.bits(n, bits)})
	if least, greatest := ops.QuantRange(bits, true, symmetric); wide == nil || least == lo && greatest == hi {
		return
	}
	step := func(suffix string, k int64) *ir.Value {
		return l.r.Float(name+suffix, float32(float32(k)*q.Scale[0]))
	}
	uses, isOutput := wide.Uses(), wide.IsOutput()
	clip, err := l.r.After(wide.Def).Add("Clip", "", nil, []*ir.Value{wide, step("_min", lo), step("_max", hi)}, name+"_clipped")
	if err != nil {
		l.problem(n, "%v", err)
		return
	}
	for _, u := range slices.Clone(uses) {
		if u.Node != clip {
			l.r.SetInput(u.Node, u.Index, clip.Out[0])
		}
	}
	if isOutput {
		g := l.r.Graph()
		for i, o := range g.Outputs {
			if o == wide {
				l.r.SetOutput(i, clip.Out[0])
			}
		}
		l.r.Rename(wide, name+"_wide")
		l.r.Rename(clip.Out[0], name)
	}
}

// bits adds the bit width as a constant.
func (l *lowering) bits(n *ir.Node, bits int) *ir.Value {
	return l.r.Float(n.Out[0].Name+"_bitwidth", float32(bits))
}

// replace puts a QONNX operator in n's place and returns its output.
func (l *lowering) replace(n *ir.Node, op string, attrs ir.Attrs, in []*ir.Value) *ir.Value {
	m, err := l.r.Before(n).Add(qonnxDomain+op, n.Name, attrs, in, n.Out[0].Name)
	if err != nil {
		l.problem(n, "%v", err)
		return nil
	}
	out, name := n.Out[0], n.Out[0].Name
	isOutput := out.IsOutput()
	l.r.ReplaceUses(out, m.Out[0])
	l.r.Erase(n)
	if !isOutput {
		l.r.Rename(m.Out[0], name)
	}
	return m.Out[0]
}

// broadcastable returns a constant parameter as QONNX wants it: a scalar, or
// with the rank of x and 1 in all dimensions but axis.
//
// The parameters of one dimension, which is a bias's, have one themselves: FINN's and
// qonnx's ExtractBiasFromConv gives them the bias's new shape.
func (l *lowering) broadcastable(n *ir.Node, v *ir.Value, t *tensor.Tensor, axis int) (*ir.Value, bool) {
	shape := []int{}
	if n.In[0].Type.Rank() == 1 {
		shape = []int{1}
	}
	if t.Len() > 1 {
		rank := n.In[0].Type.Rank()
		if rank < 0 {
			l.problem(n, "scales per channel need a known rank, %%%s has none", n.In[0].Name)
			return nil, false
		}
		if axis < 0 {
			axis += rank
		}
		shape = slices.Repeat([]int{1}, rank)
		shape[axis] = t.Len()
	}
	if slices.Equal(shape, t.Shape()) {
		return v, true
	}
	return l.r.Const(v.Name+ops.BroadcastSuffix, t.Reshape(shape...)), true
}

// weightKey tells DequantizeLinear nodes apart that are not the same weights.
type weightKey struct {
	q, scale, zero *ir.Value
	axis           int
}

// qonnxWeight turns DequantizeLinear of constant integers into a Quant of
// floats that gives exactly the same numbers.
func (l *lowering) qonnxWeight(n *ir.Node) {
	q, s := n.ConstIn(0), n.ConstIn(1)
	e := q.Elem()
	switch {
	case n.Int("block_size") != 0:
		l.problem(n, "qonnx has no scales for blocks of a channel")
		return
	case s == nil || n.Input(2) != nil && n.ConstIn(2) == nil:
		l.problem(n, "scale or zero point are computed, qonnx wants constants")
		return
	case s.Elem() != tensor.F32 || n.Out[0].Type.Elem != tensor.F32:
		l.problem(n, "qonnx quantises f32 only, this is %v", s.Elem())
		return
	}
	key := weightKey{n.In[0], n.In[1], n.Input(2), n.Int("axis")}
	if v := l.weights[key]; v != nil && !n.Out[0].IsOutput() {
		l.r.ReplaceUses(n.Out[0], v)
		l.r.Erase(n)
		return
	}
	scale, ok := l.broadcastable(n, n.In[1], s, n.Int("axis"))
	if !ok {
		return
	}
	values, err := n.Eval([]*tensor.Tensor{q, s, n.ConstIn(2)})
	if err != nil {
		l.problem(n, "%v", err)
		return
	}
	name := n.In[0].Name
	if e == tensor.Bipolar {
		l.weights[key] = l.replace(n, "BipolarQuant", nil, []*ir.Value{l.r.Const(name+ops.FloatSuffix, values[0]), scale})
		return
	}
	zeros := make([]float32, 1)
	if z := n.ConstIn(2); z != nil {
		zeros = z.Float32s()
	}
	signed := e.IsSigned()
	if signed && e.Bits() == 1 {
		// QONNX takes 1-bit signed for ±1; {−1, 0} is {0, 1} with zero point 1.
		signed = false
		zeros = slices.Clone(zeros)
		for i := range zeros {
			zeros[i]++
		}
	}
	zero := tensor.Of(zeros, len(zeros))
	floats, err := gridFloats(values[0], s, zero, n.Int("axis"), e.Bits(), signed)
	if err != nil && e == tensor.I32 && !n.Out[0].IsOutput() {
		// A bias: floats do not hold every integer of 32 bits, but they hold the sum's addend.
		l.r.ReplaceUses(n.Out[0], l.r.Const(name+ops.FloatSuffix, values[0]))
		l.r.Erase(n)
		return
	}
	if err != nil {
		l.problem(n, "%v", err)
		return
	}
	zeroValue, _ := l.broadcastable(n, l.r.Const(n.Out[0].Name+"_zeropt", zero), zero, n.Int("axis"))
	l.weights[key] = l.replace(n, "Quant", ir.MakeAttrs("signed", signed, "narrow", 0, "rounding_mode", "ROUND"),
		[]*ir.Value{l.r.Const(name+ops.FloatSuffix, floats), scale, zeroValue, l.bits(n, e.Bits())})
}

// gridFloats returns floats that QONNX Quant maps to exactly the given values:
// the values themselves, or for very large integers a neighbour.
func gridFloats(values, scale, zero *tensor.Tensor, axis, bits int, signed bool) (*tensor.Tensor, error) {
	want := values.Float32s()
	x := slices.Clone(want)
	for _, step := range []int{0, 1, -1, 2, -2} {
		r := ir.NewRewriter(ir.NewGraph("", ops.Table()))
		v := r.Const("x", tensor.Of(x, values.Shape()...))
		n, err := r.Add("thriftc.Quant", "", ir.MakeAttrs("axis", axis, "signed", signed, "zero_point_order", "before_round"),
			[]*ir.Value{v, r.Const("s", scale), r.Const("z", zero), r.Float("b", float32(bits))})
		if err != nil {
			return nil, err
		}
		r.Output(n.Out[0])
		y, err := ir.Eval(context.Background(), r.Graph(), nil)
		if err != nil {
			return nil, err
		}
		missed := 0
		next := slices.Clone(x)
		for i, got := range y[0].Float32s() {
			if got != want[i] {
				missed++
				next[i] = nudged(want[i], step)
			}
		}
		if missed == 0 {
			return v.Data, nil
		}
		x = next
	}
	return nil, fmt.Errorf("%d-bit integers of this size have no exact form in qonnx", bits)
}

// nudged returns the float that lies steps after x.
func nudged(x float32, steps int) float32 {
	to := float32(math.Inf(steps))
	for range max(steps, -steps) {
		x = math.Nextafter32(x, to)
	}
	return x
}

// trunc writes thriftc.Trunc as version 2 of QONNX's, or 1 when it has no limits.
func (l *lowering) trunc(n *ir.Node) {
	if l.format != QONNX {
		l.problem(n, "%s cannot drop low bits; only qonnx can", l.format)
		return
	}
	var c [5]float32
	for i := 1; i < 5; i++ {
		t := n.ConstIn(i)
		if t == nil {
			l.problem(n, "input %d is computed, qonnx wants a constant", i)
			return
		}
		c[i] = t.Float32s()[0]
	}
	name, shift, bits := n.Out[0].Name, n.Int("shift"), n.Int("bits")
	f := func(what string, v float32) *ir.Value { return l.r.Float(name+what, v) }
	attrs := ir.MakeAttrs("rounding_mode", n.Str("rounding_mode"))
	switch {
	case bits == 0 && shift >= 0 && shift < 32 && c[1] == c[3] && c[2] == c[4]:
		l.replace(n, "Trunc", attrs, []*ir.Value{n.In[0], n.In[1], n.In[2], f("_in_bitwidth", float32(shift+1)), f("_out_bitwidth", 1)})
	case bits > 0 && c[4] == c[2]/float32(math.Ldexp(1, shift)) && math.Round(math.Log2(float64(c[3]/c[1]))) == float64(shift):
		attrs.Set("signed", n.Int("signed"))
		attrs.Set("narrow", n.Int("narrow"))
		l.replace(n, "Trunc", attrs, []*ir.Value{n.In[0], n.In[1], n.In[2], f("_in_bitwidth", float32(min(32, max(1, bits+shift)))), n.In[3], n.In[4], f("_out_bitwidth", float32(bits))})
	default:
		l.problem(n, "is neither version 1 nor version 2 of qonnx Trunc")
	}
}
