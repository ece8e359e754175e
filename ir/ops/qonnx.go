package ops

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The operators of QONNX, in each of the domains in which they are found in
// files. Import turns them into ours; they are in graphs only that are about to
// be written, and have no evaluation.
var _ = func() int {
	quant := []ir.AttrSpec{
		{Name: "signed", Kind: ir.IntAttr, Flag: true, Default: int64(1)},
		{Name: "narrow", Kind: ir.IntAttr, Flag: true, Default: int64(0)},
		{Name: "rounding_mode", Kind: ir.StringAttr, Default: "ROUND"},
	}
	trunc := slices.Clone(quant)
	trunc[2].Default = "FLOOR"
	refuse := func(_ *ir.Rewriter, n *ir.Node, _ int) error {
		return fmt.Errorf("%s %s: quantisation to floating-point formats is not supported", n.Op.Name, n.Label())
	}
	for _, domain := range []string{"qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"} {
		for _, name := range []string{"Quant", "IntQuant"} {
			define(ir.Op{Name: domain + "." + name, Doc: "QONNX Quant; read as thriftc.Quant.", In: "X, scale, zeropt, bitwidth", Out: "Y", Attrs: quant, Infer: sameType, Import: importQuant})
		}
		define(ir.Op{Name: domain + ".BipolarQuant", Doc: "QONNX BipolarQuant; read as thriftc.BipolarQuant.", In: "X, scale", Out: "Y", Infer: sameType, Import: importBipolarQuant})
		define(ir.Op{Name: domain + ".Trunc", Doc: "QONNX Trunc; read as thriftc.Trunc.", In: "X, scale, zeropt, in_bitwidth, rest*", Out: "Y", Attrs: trunc, Infer: sameType, Import: importTrunc})
		define(ir.Op{Name: domain + ".FloatQuant", Doc: "QONNX FloatQuant; refused.", In: "X*", Out: "Y", Import: refuse})
	}
	return 0
}()

// importQuant reads QONNX Quant. Its 1-bit signed form computes the sign, as
// QONNX itself does.
func importQuant(r *ir.Rewriter, n *ir.Node, _ int) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s %s: %s", n.Op.Name, n.Label(), fmt.Sprintf(format, args...))
	}
	if len(n.In) != 4 || slices.Contains(n.In, nil) {
		return fail("has %d inputs, expected 4", len(n.In))
	}
	for i, port := range n.Op.Inputs()[:3] {
		if !n.In[i].Type.Elem.IsFloat() {
			return fail("%s is %v, expected floats", port.Name, n.In[i].Type)
		}
	}
	bits := n.ConstIn(3)
	if bits == nil {
		return fail("bitwidth is computed, expected a constant")
	}
	width, err := wholeBits(bits)
	if err != nil {
		return fail("%v", err)
	}
	zero := n.ConstIn(2)
	if zero == nil {
		return fail("zeropt is computed, expected a constant")
	}
	mode := strings.ToUpper(n.Str("rounding_mode"))
	switch mode {
	case "HALF_EVEN":
		mode = "ROUND"
	case "ROUND_TO_ZERO": // Brevitas writes it, QONNX itself does not know it
		mode = "DOWN"
	}
	if roundings[mode] == nil {
		return fail("rounding_mode is %q", n.Str("rounding_mode"))
	}
	isZero := !slices.ContainsFunc(zero.Float64s(), func(z float64) bool { return z != 0 })
	signed, narrow := n.Int("signed") != 0, n.Int("narrow") != 0
	r = r.Before(n)
	scale, axis, err := channelParam(r, n.In[1], n.In[0].Type)
	if err != nil {
		return fail("scale: %v", err)
	}
	if width == 1 && signed {
		if !isZero {
			return fail("1-bit signed Quant with a zero point is not supported")
		}
		r.SetOp(n, "thriftc.BipolarQuant")
		r.SetInputs(n, n.In[0], scale)
		setAxis(r, n, scale, axis)
		return nil
	}
	zeroAxis, zeroValue := axis, (*ir.Value)(nil)
	if isZero {
		zeroValue = r.Const(n.In[2].Name, tensor.FromFloat32s(n.In[0].Type.Elem, []float32{0}))
	} else if zeroValue, zeroAxis, err = channelParam(r, n.In[2], n.In[0].Type); err != nil {
		return fail("zeropt: %v", err)
	}
	perChannel := func(v *ir.Value) bool { return v.Type.Rank() == 1 && !v.Type.Dims[0].Same(ir.Fixed(1)) }
	if perChannel(scale) && perChannel(zeroValue) && axis != zeroAxis {
		return fail("scale and zeropt run along different dimensions")
	}
	bitsValue := r.Float(n.In[3].Name, float32(width))
	r.SetOp(n, "thriftc.Quant")
	r.SetInputs(n, n.In[0], scale, zeroValue, bitsValue)
	n.Attrs = nil
	r.SetAttr(n, "signed", signed)
	r.SetAttr(n, "narrow", narrow)
	r.SetAttr(n, "rounding_mode", mode)
	if !isZero {
		r.SetAttr(n, "zero_point_order", "before_round")
	}
	if perChannel(zeroValue) {
		axis = zeroAxis
	}
	if perChannel(scale) || perChannel(zeroValue) {
		r.SetAttr(n, "axis", axis)
	}
	return nil
}

func setAxis(r *ir.Rewriter, n *ir.Node, scale *ir.Value, axis int) {
	n.Attrs = nil
	if scale.Type.Rank() == 1 {
		r.SetAttr(n, "axis", axis)
	}
}

// channelParam turns a parameter that broadcasts against x into a scalar or a
// one-dimensional one and the dimension of x along which it runs.
func channelParam(r *ir.Rewriter, v *ir.Value, x ir.Type) (*ir.Value, int, error) {
	shape, ok := v.Type.Static()
	if !ok {
		return nil, 0, fmt.Errorf("%%%s is %v, expected a known shape", v.Name, v.Type)
	}
	if !x.Unranked && len(shape) > x.Rank() && !oneElement(shape) {
		return nil, 0, fmt.Errorf("%%%s is %v, more dimensions than %v", v.Name, v.Type, x)
	}
	axis, size := 0, 1
	for i, d := range shape {
		switch {
		case d == 1:
		case size != 1:
			return nil, 0, fmt.Errorf("%%%s is %v, expected at most one dimension greater than 1", v.Name, v.Type)
		default:
			axis, size = i-len(shape), d
		}
	}
	if !x.Unranked && size > 1 {
		axis += x.Rank()
	}
	flat := []int{}
	if size > 1 {
		flat = []int{size}
	}
	switch {
	case len(shape) == len(flat) && (!v.IsConst() || v.Data.Elem() == x.Elem):
		return v, axis, nil
	case v.IsConst() && v.Data.Elem().IsFloat() && x.Elem.IsFloat():
		return r.Const(strings.TrimSuffix(v.Name, BroadcastSuffix), floatsOf(x.Elem, v.Data.Float64s(), flat)), axis, nil
	}
	dims := make([]int64, len(flat))
	for i, d := range flat {
		dims[i] = int64(d)
	}
	n, err := r.Add("Reshape", "", nil, []*ir.Value{v, r.Ints(v.Name+"_shape", dims...)}, v.Name+"_flat")
	if err != nil {
		return nil, 0, err
	}
	return n.Out[0], axis, nil
}

func importBipolarQuant(r *ir.Rewriter, n *ir.Node, _ int) error {
	if len(n.In) != 2 || slices.Contains(n.In, nil) {
		return fmt.Errorf("%s %s: has %d inputs, expected 2", n.Op.Name, n.Label(), len(n.In))
	}
	scale, axis, err := channelParam(r.Before(n), n.In[1], n.In[0].Type)
	if err != nil {
		return fmt.Errorf("%s %s: scale: %w", n.Op.Name, n.Label(), err)
	}
	r.SetOp(n, "thriftc.BipolarQuant")
	r.SetInputs(n, n.In[0], scale)
	setAxis(r, n, scale, axis)
	return nil
}

// importTrunc reads QONNX Trunc. Files carry version 1 (five inputs: X, scale,
// zeropt, in_bitwidth, out_bitwidth) or 2 (… in_bitwidth, out_scale,
// [out_zeropt, which is not used,] out_bitwidth) under the same domain version.
func importTrunc(r *ir.Rewriter, n *ir.Node, _ int) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s %s: %s", n.Op.Name, n.Label(), fmt.Sprintf(format, args...))
	}
	if len(n.In) < 5 || len(n.In) > 7 {
		return fail("has %d inputs, expected 5 to 7", len(n.In))
	}
	c := make([]float32, len(n.In))
	for i := 1; i < len(n.In); i++ {
		t := n.ConstIn(i)
		if t == nil || t.Len() != 1 || t.Elem() == tensor.String {
			return fail("input %d is not a constant of one element", i)
		}
		c[i] = t.Float32s()[0]
	}
	mode := strings.ToUpper(n.Str("rounding_mode"))
	inBits, err := wholeBits(n.ConstIn(3))
	if err != nil {
		return fail("in_bitwidth: %v", err)
	}
	outBits, err := wholeBits(n.ConstIn(len(n.In) - 1))
	if err != nil {
		return fail("out_bitwidth: %v", err)
	}
	scale, zero, outScale, outZero := c[1], c[2], c[1], c[2]
	attrs := ir.MakeAttrs("rounding_mode", mode, "shift", inBits-outBits)
	if len(n.In) > 5 {
		outScale = c[4]
		if !(scale > 0 && outScale > 0) || math.IsInf(float64(outScale/scale), 0) {
			return fail("scale is %v and out_scale %v, expected positive numbers", scale, outScale)
		}
		shift := log2(outScale / scale)
		outZero = zero / float32(math.Ldexp(1, shift))
		attrs = ir.MakeAttrs("rounding_mode", mode, "shift", shift, "bits", outBits, "signed", n.Int("signed"), "narrow", n.Int("narrow"))
	}
	r.SetOp(n, "thriftc.Trunc")
	r.SetInputs(n, n.In[0], r.Float("scale", scale), r.Float("zero_point", zero), r.Float("out_scale", outScale), r.Float("out_zero_point", outZero))
	n.Attrs = attrs
	return nil
}

// log2 returns the base-2 logarithm of x > 0 rounded to a whole number.
func log2(x float32) int {
	frac, exp := math.Frexp(float64(x)) // x = frac · 2^exp, ½ ≤ frac < 1
	if frac*frac*2 < 1 {                // exact: 48 bits
		return exp - 1
	}
	return exp
}
