package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The fused quantised operators of ONNX and of ONNX Runtime exist on reading
// only. Each becomes DequantizeLinear on its operands, the float operator, and
// QuantizeLinear of the result. That is their meaning but for the rounding of
// float accumulation, which may move a result that lies on the border between
// two integers.

var windowAttrs = []ir.AttrSpec{
	{Name: "auto_pad", Kind: ir.StringAttr}, {Name: "dilations", Kind: ir.IntsAttr}, {Name: "group", Kind: ir.IntAttr},
	{Name: "kernel_shape", Kind: ir.IntsAttr}, {Name: "pads", Kind: ir.IntsAttr}, {Name: "strides", Kind: ir.IntsAttr},
}

// defineQLinear declares an import form; build adds the float operator over
// dequantised operands and returns its output and where its scale and zero
// point are among the inputs.
func defineQLinear(name, in string, attrs []ir.AttrSpec, build func(q *qlinear) *ir.Value) int {
	define(ir.Op{Name: name, Doc: "Quantised operator; read as DequantizeLinear, the float operator and QuantizeLinear.", In: in, Out: "Y", Attrs: attrs,
		Import: func(r *ir.Rewriter, n *ir.Node, _ int) error {
			q := &qlinear{r: r.Before(n), n: n}
			y := build(q)
			if q.err != nil {
				return fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), q.err)
			}
			if q.scale == nil { // QGemm without output quantisation
				return q.setIdentity(y)
			}
			r.SetOp(n, "QuantizeLinear")
			in := []*ir.Value{y, q.scale}
			if q.zero != nil {
				in = append(in, q.zero)
			}
			r.SetInputs(n, in...)
			n.Attrs = nil
			return nil
		}})
	return 0
}

// qlinear expands one fused operator; the first error sticks.
type qlinear struct {
	r           *ir.Rewriter
	n           *ir.Node
	scale, zero *ir.Value // of the result
	err         error
}

func (q *qlinear) add(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	if q.err != nil {
		return nil
	}
	n, err := q.r.Add(op, "", attrs, in, q.n.Out[0].Name+"_"+op)
	if err != nil {
		q.err = err
		return nil
	}
	return n.Out[0]
}

// dequantize returns the numbers of inputs i (integers), i+1 (scale) and i+2 (zero point).
func (q *qlinear) dequantize(i, axis int) *ir.Value {
	x, scale, zero := q.n.Input(i), q.float32(i+1), q.n.Input(i+2)
	if x == nil || scale == nil {
		q.fail("inputs %d and %d are needed", i, i+1)
		return nil
	}
	in := []*ir.Value{x, scale}
	if zero != nil && !(zero.IsConst() && allZero(zero.Data)) {
		in = append(in, q.like(zero, scale))
	}
	var attrs ir.Attrs
	if dims, ok := scale.Type.Static(); !ok || !oneElement(dims) {
		attrs = ir.MakeAttrs("axis", axis)
	}
	return q.add("DequantizeLinear", attrs, in...)
}

// result notes inputs i and i+1 as scale and zero point of the result.
func (q *qlinear) result(i int) {
	if q.scale, q.zero = q.float32(i), q.n.Input(i+1); q.scale == nil {
		q.fail("input %d is needed", i)
	}
}

func (q *qlinear) fail(format string, args ...any) {
	if q.err == nil {
		q.err = fmt.Errorf(format, args...)
	}
}

// float32 returns input i, a scale, as f32: exact for f16 and bf16, and then
// the operator in between is computed in f32 too. Scales of the shape [..., M, 1]
// or [..., 1, N] become one-dimensional.
func (q *qlinear) float32(i int) *ir.Value {
	v := q.n.Input(i)
	if v == nil || !v.IsConst() || !v.Data.Elem().IsFloat() || v.Data.Elem() == tensor.F32 && v.Data.Rank() < 2 {
		return v
	}
	shape := v.Data.Shape()
	if len(shape) > 1 {
		if v.Data.Len() != slices.Max(shape) {
			q.fail("scale %%%s is %v, expected one dimension", v.Name, v.Type)
			return nil
		}
		shape = []int{v.Data.Len()}
	}
	return q.r.Const(v.Name, tensor.Of(v.Data.Float32s(), shape...))
}

// like gives a constant zero point the shape of its scale.
func (q *qlinear) like(zero, scale *ir.Value) *ir.Value {
	shape, ok := scale.Type.Static()
	if !ok || !zero.IsConst() || slices.Equal(zero.Data.Shape(), shape) {
		return zero
	}
	z := zero.Data.Int64s()
	size, err := tensor.NumElems(shape)
	if err != nil || len(z) != 1 && len(z) != size {
		q.fail("zero point %%%s is %v, its scale is %v", zero.Name, zero.Type, scale.Type)
		return nil
	}
	if len(z) == 1 {
		z = slices.Repeat(z, size)
	}
	return q.r.Const(zero.Name, tensor.FromInt64s(zero.Data.Elem(), z, shape...))
}

// biasOf returns the i32 bias at input i as numbers of scale s_x·s_w·alpha.
func (q *qlinear) biasOf(i int, x, w *ir.Value, alpha float32) *ir.Value {
	bias := q.n.Input(i)
	if bias == nil || q.err != nil {
		return nil
	}
	if !x.IsConst() || !w.IsConst() || x.Data.Len() != 1 {
		q.fail("with a bias, the scales of the operands must be constant and the first a single number")
		return nil
	}
	sw := w.Data.Float32s()
	s := make([]float32, len(sw))
	for j, v := range sw {
		s[j] = float32(float32(alpha*x.Data.Float32s()[0]) * v)
	}
	var attrs ir.Attrs
	var shape []int
	if len(s) > 1 {
		attrs, shape = ir.MakeAttrs("axis", -1), []int{len(s)}
	}
	return q.add("DequantizeLinear", attrs, bias, q.r.Const(bias.Name+"_scale", tensor.Of(s, shape...)))
}

// kept returns the attributes of the node that the float operator has too.
func (q *qlinear) kept(names ...string) ir.Attrs {
	var a ir.Attrs
	for _, name := range names {
		if v := q.n.Attrs.Get(name); v != nil {
			a.Set(name, v)
		}
	}
	return a
}

func (q *qlinear) setIdentity(v *ir.Value) error {
	q.r.SetOp(q.n, "Identity")
	q.r.SetInputs(q.n, v)
	q.n.Attrs = nil
	return nil
}

// refuseChannelsLast refuses the layout in which ONNX Runtime's optimiser stores some graphs.
func (q *qlinear) refuseChannelsLast() {
	if q.n.Int("channels_last") != 0 {
		q.fail("channels_last is not supported")
	}
}

func allZero(t *tensor.Tensor) bool {
	return !slices.ContainsFunc(t.Int64s(), func(z int64) bool { return z != 0 })
}

// microsoft is the domain of ONNX Runtime's own operators.
const microsoft = "com.microsoft."

const unaryIn = "X, X_scale, X_zero_point?, Y_scale, Y_zero_point?"

var channelsLast = ir.AttrSpec{Name: "channels_last", Kind: ir.IntAttr, Flag: true, Default: int64(0)}

var _ = defineQLinear("QLinearConv", "x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B?", windowAttrs, func(q *qlinear) *ir.Value {
	q.result(6)
	in := []*ir.Value{q.dequantize(0, 1), q.dequantize(3, 0)}
	if b := q.biasOf(8, q.float32(1), q.float32(4), 1); b != nil {
		in = append(in, b)
	}
	return q.add("Conv", q.kept("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"), in...)
})

var _ = defineQLinear("QLinearMatMul", "a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point", nil, func(q *qlinear) *ir.Value {
	q.result(6)
	return q.add("MatMul", nil, q.dequantize(0, -2), q.dequantize(3, -1))
})

func qlinearBinary(op string) int {
	return defineQLinear(microsoft+"QLinear"+op, "A, A_scale, A_zero_point?, B, B_scale, B_zero_point?, C_scale, C_zero_point?", nil, func(q *qlinear) *ir.Value {
		q.result(6)
		return q.add(op, nil, q.dequantize(0, 1), q.dequantize(3, 1))
	})
}

func qlinearUnary(name, op string, attrs []ir.AttrSpec, kept ...string) int {
	return defineQLinear(microsoft+name, unaryIn, append(attrs, channelsLast), func(q *qlinear) *ir.Value {
		q.result(3)
		q.refuseChannelsLast()
		return q.add(op, q.kept(kept...), q.dequantize(0, 1))
	})
}

var _ = []int{
	qlinearBinary("Add"),
	qlinearBinary("Mul"),
	qlinearUnary("QLinearSigmoid", "Sigmoid", nil),
	qlinearUnary("QLinearLeakyRelu", "LeakyRelu", []ir.AttrSpec{{Name: "alpha", Kind: ir.FloatAttr}}, "alpha"),
	qlinearUnary("QLinearGlobalAveragePool", "GlobalAveragePool", nil),
	qlinearUnary("QLinearAveragePool", "AveragePool", append([]ir.AttrSpec{
		{Name: "ceil_mode", Kind: ir.IntAttr, Flag: true}, {Name: "count_include_pad", Kind: ir.IntAttr, Flag: true},
	}, windowAttrs...), "auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"),
}

var _ = defineQLinear(microsoft+"QLinearConcat", "Y_scale, Y_zero_point, inputs*", []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr}}, func(q *qlinear) *ir.Value {
	q.result(0)
	var in []*ir.Value
	for i := 2; i < len(q.n.In); i += 3 {
		in = append(in, q.dequantize(i, 1))
	}
	return q.add("Concat", q.kept("axis"), in...)
})

var _ = defineQLinear(microsoft+"QLinearSoftmax", unaryIn, []ir.AttrSpec{
	{Name: "axis", Kind: ir.IntAttr, Default: int64(-1)}, {Name: "opset", Kind: ir.IntAttr},
}, func(q *qlinear) *ir.Value {
	q.result(3)
	x := q.dequantize(0, 1)
	if q.err == nil && q.n.Int("opset") < 13 {
		// The Softmax of old flattens the dimensions from axis on.
		axis, rank := q.n.Int("axis"), x.Type.Rank()
		if rank < 0 || axis != rank-1 && axis != -1 {
			q.fail("the Softmax of opset %d is supported along the last dimension only", q.n.Int("opset"))
		}
	}
	return q.add("Softmax", ir.MakeAttrs("axis", q.n.Int("axis")), x)
})

var _ = defineQLinear(microsoft+"QGemm", "A, a_scale, a_zero_point, B, b_scale, b_zero_point, C?, y_scale?, y_zero_point?", []ir.AttrSpec{
	{Name: "alpha", Kind: ir.FloatAttr, Default: float32(1)}, {Name: "transA", Kind: ir.IntAttr, Flag: true}, {Name: "transB", Kind: ir.IntAttr, Flag: true},
}, func(q *qlinear) *ir.Value {
	if q.n.Input(7) != nil {
		q.result(7)
	}
	axisB := 1
	if q.n.Int("transB") != 0 {
		axisB = 0
	}
	in := []*ir.Value{q.dequantize(0, 1), q.dequantize(3, axisB)}
	if c := q.biasOf(6, q.float32(1), q.float32(4), q.n.Float("alpha")); c != nil {
		in = append(in, c)
	}
	return q.add("Gemm", q.kept("alpha", "transA", "transB"), in...)
})

// ONNX Runtime's own QuantizeLinear and DequantizeLinear read like the standard ones.
var _ = func() int {
	for _, name := range []string{"QuantizeLinear", "DequantizeLinear"} {
		define(ir.Op{Name: microsoft + name, Doc: "ONNX Runtime's " + name + "; read as the standard one.", In: "x, scale, zero_point?", Out: "y", Attrs: linearAttrs,
			Import: func(r *ir.Rewriter, n *ir.Node, _ int) error {
				r.SetOp(n, name)
				return nil
			}})
	}
	return 0
}()
