package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// What names get where a quantised graph is written in a dialect of ONNX, and
// lose when it is read, so that writing again gives the same bytes.
const (
	EightBitSuffix  = "_8bit"      // of integers in a wider container (QCDQ)
	FloatSuffix     = "_float"     // of floats in the place of integers (QONNX)
	BroadcastSuffix = "_broadcast" // of scales and zero points with the rank of what they scale (QONNX)

	quantizedSuffix = "_quantized" // of the QuantizeLinear of a quantiser
)

// exportQuant writes thriftc.Quant as QuantizeLinear → DequantizeLinear over
// 8-bit integers, or 16-bit ones from opset 21 on. A narrower range is kept by a
// Clip in between (the form called QCDQ): of the integers when they have 8 bits,
// of the floats before QuantizeLinear when they have 16, because ONNX Runtime
// has no Clip of those.
func exportQuant(r *ir.Rewriter, n *ir.Node, opset int) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s %s: %s", n.Op.Name, n.Label(), fmt.Sprintf(format, args...))
	}
	q, ok := QuantOf(n)
	switch {
	case !ok:
		return fail("scale, zero point and bits must be constants to be written as QuantizeLinear")
	case q.Rounding != "ROUND":
		return fail("QuantizeLinear cannot round by %s", q.Rounding)
	case q.BeforeRound:
		return fail("QuantizeLinear cannot add the zero point before rounding; only QONNX can")
	case len(q.Zero) > len(q.Scale):
		return fail("QuantizeLinear cannot have one scale and several zero points")
	case len(q.Scale) > 1 && opset < 13:
		return fail("%d scales need opset 13, writing %d", len(q.Scale), opset)
	case n.In[0].Type.Elem != tensor.F32 && opset < 19:
		return fail("quantising %v needs opset 19, writing %d", n.In[0].Type.Elem, opset)
	}
	container := tensor.Uint(8)
	if q.Bits > 8 {
		container = tensor.Uint(16)
	}
	if q.Signed {
		container = tensor.Int(container.Bits())
	}
	least, greatest := container.Range()
	clipped := q.Lo != least || q.Hi != greatest
	switch {
	case q.Bits > 16:
		return fail("QuantizeLinear cannot make %d-bit integers", q.Bits)
	case q.Bits > 8 && opset < 21:
		return fail("%d-bit activations need opset 21, writing %d", q.Bits, opset)
	case q.Bits > 8 && clipped && len(q.Scale) > 1:
		return fail("%d-bit activations with several scales cannot be written", q.Bits)
	case clipped && opset < 13:
		return fail("fewer than 8 bits or a narrow range need opset 13, writing %d", opset)
	}
	zeros := make([]int64, len(q.Scale))
	for i := range zeros {
		z := q.Zero[min(i, len(q.Zero)-1)]
		if zeros[i] = int64(z); float32(zeros[i]) != z || zeros[i] < least || zeros[i] > greatest {
			return fail("zero point %v is no %v", z, container)
		}
	}
	r = r.Before(n)
	name, x := n.Out[0].Name, n.In[0]
	scale := n.In[1]
	zero := r.Const(name+"_zero_point", tensor.FromInt64s(container, zeros, scale.Data.Shape()...))
	var attrs ir.Attrs
	if len(q.Scale) > 1 {
		attrs = ir.MakeAttrs("axis", q.Axis)
	}
	var err error
	add := func(op, suffix string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
		var m *ir.Node
		if err == nil {
			m, err = r.Add(op, labelled(n, suffix), attrs, in, name+suffix)
		}
		if err != nil {
			return nil
		}
		return m.Out[0]
	}
	if clipped && q.Bits > 8 {
		limit := func(k int64) *ir.Value {
			v := float32(float32(k-zeros[0]) * q.Scale[0])
			return r.Const(name+"_limit", tensor.FromFloat32s(x.Type.Elem, []float32{v}))
		}
		x = add("Clip", "_clipped", nil, x, limit(q.Lo), limit(q.Hi))
	}
	v := add("QuantizeLinear", quantizedSuffix, attrs, x, scale, zero)
	if clipped && q.Bits <= 8 {
		limit := func(k int64) *ir.Value { return r.Const(name+"_limit", tensor.FromInt64s(container, []int64{k})) }
		v = add("Clip", "_clipped", nil, v, limit(q.Lo), limit(q.Hi))
	}
	v = add("DequantizeLinear", "_dequantized", slices.Clone(attrs), v, scale, zero)
	if err != nil {
		return fail("%v", err)
	}
	replaceNode(r, n, v)
	return nil
}

// exportBipolarQuant writes the sign as a comparison and a choice.
func exportBipolarQuant(r *ir.Rewriter, n *ir.Node, _ int) error {
	fail := func(err error) error { return fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err) }
	s := n.ConstIn(1)
	if s == nil {
		return fail(fmt.Errorf("scale must be a constant to be written in standard ONNX"))
	}
	x, axis := n.In[0], n.Int("axis")
	var shape []int
	if s.Len() > 1 {
		rank := x.Type.Rank()
		if rank < 0 {
			return fail(fmt.Errorf("the rank of %%%s is not known", x.Name))
		}
		if axis < 0 {
			axis += rank
		}
		shape = slices.Repeat([]int{1}, rank-axis)
		shape[0] = s.Len()
	}
	scale := s.Float64s()
	minus := make([]float64, len(scale))
	for i, v := range scale {
		minus[i] = -v
	}
	r = r.Before(n)
	name := n.Out[0].Name
	zero := r.Const(name+"_zero", floatsOf(x.Type.Elem, []float64{0}, nil))
	sign, err := r.Add("GreaterOrEqual", labelled(n, "_sign"), nil, []*ir.Value{x, zero}, name+"_sign")
	if err != nil {
		return fail(err)
	}
	plus := n.In[1]
	if !slices.Equal(s.Shape(), shape) {
		plus = r.Const(plus.Name+BroadcastSuffix, s.Reshape(shape...))
	}
	y, err := r.Add("Where", n.Name, nil, []*ir.Value{
		sign.Out[0], plus, r.Const(name+"_minus", floatsOf(x.Type.Elem, minus, shape)),
	}, name)
	if err != nil {
		return fail(err)
	}
	replaceNode(r, n, y.Out[0])
	return nil
}

// labelled names a node that takes part in n's place.
func labelled(n *ir.Node, suffix string) string {
	if n.Name == "" {
		return ""
	}
	return n.Name + suffix
}

// replaceNode puts v in the place of n's only output, under its name, and erases n.
func replaceNode(r *ir.Rewriter, n *ir.Node, v *ir.Value) {
	out, name := n.Out[0], n.Out[0].Name
	isOutput := out.IsOutput()
	r.ReplaceUses(out, v)
	r.Erase(n)
	if !isOutput {
		r.Rename(v, name)
	}
}
