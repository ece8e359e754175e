package ops

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// linearAttrs are the attributes of QuantizeLinear and DequantizeLinear that
// say which scale an element has.
var linearAttrs = []ir.AttrSpec{
	{Name: "axis", Kind: ir.IntAttr, Default: int64(1), Doc: "the dimension along which the scales run when there are several"},
	{Name: "block_size", Kind: ir.IntAttr, Default: int64(0), Doc: "how many elements along axis share a scale; 0: not blocked"},
	{Name: "output_dtype", Kind: ir.IntAttr, Default: int64(0), Doc: "ONNX element type of the output; 0: from the inputs"},
}

// inferLinear checks scale and zero point against x.
func inferLinear(n *ir.Node) error {
	x, block := n.In[0].Type, n.Int("block_size")
	if block < 0 {
		return fmt.Errorf("block_size is %d", block)
	}
	for i := 1; i < 3; i++ {
		v := n.Input(i)
		if v == nil {
			continue
		}
		what := n.Op.Inputs()[i].Name
		if block == 0 {
			if err := checkAlongAxis(what, v.Type, x, n.Int("axis")); err != nil {
				return err
			}
		} else if err := checkBlocks(what, v.Type, x, n.Int("axis"), block); err != nil {
			return err
		}
	}
	return nil
}

// checkBlocks checks the type of scales or zero points of which each stands for a block
// of elements along an axis of x: along it there are as many as blocks, the last of which
// may be cut off, and along the others as many as in x.
func checkBlocks(what string, t, x ir.Type, axis, block int) error {
	if t.Unranked || x.Unranked {
		return nil
	}
	at, err := axisOf(axis, x.Rank())
	if err != nil {
		return err
	}
	want := slices.Clone(x.Dims)
	if want[at].Known() {
		want[at] = ir.Fixed(blocks(want[at].N, block))
	} else {
		want[at] = ir.Unknown
	}
	if w := ir.TensorType(t.Elem, want...); !t.Compatible(w) {
		return fmt.Errorf("%s is %v, expected %v: one for each block of %d along axis %d of %v", what, t, w, block, at, x)
	}
	return nil
}

var _ = define(ir.Op{
	Name:      "QuantizeLinear",
	Roles:     []ir.Role{1: ir.Setting, 2: ir.Setting},
	PerSample: quantPerSample,
	Doc: `Quantises x to integers: y = saturate(round_half_even(x / y_scale) + y_zero_point).
The division is done in the type that precision names: both operands are converted to it,
and the quotient is rounded to it once; without precision that is f32. The rest is exact.
NaN becomes the least integer. Integers have any width up to 32 bits. float8 and float4
outputs are not supported.`,
	In: "x, y_scale, y_zero_point?", Out: "y", Since: 23,
	Bits: func(n *ir.Node) int { return n.Out[0].Type.Elem.Bits() },
	Attrs: append([]ir.AttrSpec{
		{Name: "precision", Kind: ir.IntAttr, Default: int64(0), Doc: "ONNX element type in which x is divided by y_scale; 0: f32"},
		{Name: "saturate", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "for float8 only"},
	}, linearAttrs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x, s := n.In[0].Type, n.In[1].Type
		if !x.Elem.IsFloat() && x.Elem != tensor.I32 || x.Elem == tensor.F64 || !s.Elem.IsFloat() {
			return nil, fmt.Errorf("x is %v and y_scale %v, expected f32, f16, bf16 or i32, and a floating-point scale", x, s)
		}
		e := tensor.U8
		if d := n.Int("output_dtype"); d != 0 {
			if e = tensor.FromONNXType(d); e == tensor.Invalid {
				return nil, fmt.Errorf("output_dtype %d is not supported", d)
			}
		}
		if z := n.Input(2); z != nil {
			if n.Int("output_dtype") != 0 && z.Type.Elem != e {
				return nil, fmt.Errorf("output_dtype is %v, y_zero_point %v", e, z.Type)
			}
			e = z.Type.Elem
		}
		if !e.IsInt() || e.Bits() > 32 {
			return nil, fmt.Errorf("output would be %v, expected an integer of at most 32 bits", e)
		}
		if p := n.Int("precision"); p != 0 && !tensor.FromONNXType(p).IsFloat() {
			return nil, fmt.Errorf("precision %d is not supported", p)
		}
		return []ir.Type{x.WithElem(e)}, inferLinear(n)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		scale, zero, along, err := linearParams(n, in)
		if err != nil {
			return nil, err
		}
		lo, hi := n.Out[0].Type.Elem.Range()
		q := quantSpec{lo: float64(lo), hi: float64(hi)}
		divide := quotient(tensor.FromONNXType(n.Int("precision")))
		y := make([]int64, in[0].Len())
		for i, x := range in[0].Float32s() {
			t := divide(x, scale[along(i, len(scale))])
			y[i] = int64(q.clamp(math.RoundToEven(t) + float64(zero[along(i, len(zero))])))
		}
		return []*tensor.Tensor{tensor.FromInt64s(n.Out[0].Type.Elem, y, in[0].Shape()...)}, nil
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		// From opset 23 on the scale's type is the default; before, nothing was said,
		// and f32 is what runtimes take.
		if s := n.Input(1); opset >= 23 && n.Int("precision") == 0 && s != nil && (s.Type.Elem == tensor.F16 || s.Type.Elem == tensor.BF16) {
			r.SetAttr(n, "precision", s.Type.Elem.ONNXType())
		}
		return nil
	},
	Export: exportLinear,
})

// quotient returns the division of numbers in a floating-point type; other types stand for f32.
func quotient(e tensor.Elem) func(x, y float32) float64 {
	switch e {
	case tensor.F64:
		return func(x, y float32) float64 { return float64(x) / float64(y) }
	case tensor.F16, tensor.BF16:
		round := func(x float32) float32 { return tensor.FromFloat32s(e, []float32{x}, 1).Float32s()[0] }
		return func(x, y float32) float64 { return float64(round(round(x) / round(y))) }
	}
	return func(x, y float32) float64 { return float64(x / y) }
}

var _ = define(ir.Op{
	Name:      "DequantizeLinear",
	PerSample: quantPerSample,
	Roles:     []ir.Role{1: ir.Setting, 2: ir.Setting},
	Doc: `Returns the numbers that integers stand for: y = (x − x_zero_point) · x_scale. The
difference is exact; it is converted to f32, multiplied, and rounded to the type of y, which
is that of x_scale. Integers have any width up to 32 bits, or are bipolar. float8 and float4 are not supported.`,
	In: "x, x_scale, x_zero_point?", Out: "y", Since: 23,
	Bits:  func(n *ir.Node) int { return n.In[0].Type.Elem.Bits() },
	Attrs: linearAttrs,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x, s := n.In[0].Type, n.In[1].Type
		if !x.Elem.IsInt() && x.Elem != tensor.Bipolar || x.Elem.Bits() > 32 || !s.Elem.IsFloat() || s.Elem == tensor.F64 {
			return nil, fmt.Errorf("x is %v and x_scale %v, expected an integer of at most 32 bits or bipolar and an f32, f16 or bf16 scale", x, s)
		}
		if z := n.Input(2); z != nil && z.Type.Elem != x.Elem {
			return nil, fmt.Errorf("x is %v, x_zero_point %v: expected the same element type", x, z.Type)
		}
		e := s.Elem
		if d := n.Int("output_dtype"); d != 0 {
			if e = tensor.FromONNXType(d); !e.IsFloat() {
				return nil, fmt.Errorf("output_dtype %d is not supported", d)
			}
		}
		return []ir.Type{x.WithElem(e)}, inferLinear(n)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		scale, zero, along, err := linearParams(n, in)
		if err != nil {
			return nil, err
		}
		y := make([]float32, in[0].Len())
		for i, q := range in[0].Int64s() {
			y[i] = float32(float32(q-zero[along(i, len(zero))]) * scale[along(i, len(scale))])
		}
		return []*tensor.Tensor{tensor.FromFloat32s(n.Out[0].Type.Elem, y, in[0].Shape()...)}, nil
	},
	Export: exportLinear,
})

// linearParams returns the scales, the zero points, and the map from elements to them.
func linearParams(n *ir.Node, in []*tensor.Tensor) (scale []float32, zero []int64, along func(i, count int) int, err error) {
	params := []*tensor.Tensor{in[1]}
	zero = []int64{0}
	if len(in) > 2 && in[2] != nil {
		params = append(params, in[2])
		zero = in[2].Int64s()
	}
	block := n.Int("block_size")
	if along, err = alongAxis(in[0].Shape(), n.Int("axis"), block, params...); err != nil {
		return nil, nil, nil, err
	}
	if block > 0 && len(params) == 1 {
		zero = make([]int64, in[1].Len())
	}
	return in[1].Float32s(), zero, along, nil
}

// exportLinear writes QuantizeLinear and DequantizeLinear at an older opset:
// 10 has one scale, 13 several along an axis, 21 blocks, 4 and 16 bits, 23 precision.
func exportLinear(r *ir.Rewriter, n *ir.Node, opset int) error {
	var errs []error
	need := func(since int, what string) {
		if opset < since {
			errs = append(errs, fmt.Errorf("%s %s: %s needs opset %d, writing %d", n.Op.Name, n.Label(), what, since, opset))
		}
	}
	q := n.In[0].Type.Elem
	if n.Op.Name == "QuantizeLinear" {
		q = n.Out[0].Type.Elem
	}
	switch q {
	case tensor.U8, tensor.I8, tensor.I32:
	case tensor.U4, tensor.I4, tensor.U16, tensor.I16:
		need(21, "element type "+q.String())
	case tensor.Int(2), tensor.Uint(2):
		need(25, "element type "+q.String())
	default:
		errs = append(errs, fmt.Errorf("%s %s: ONNX has no element type %v here", n.Op.Name, n.Label(), q))
	}
	need(10, "the operator")
	if dims, ok := n.In[1].Type.Static(); !ok || !oneElement(dims) {
		need(13, "more than one scale")
	}
	for _, a := range []struct {
		name  string
		since int
	}{{"axis", 13}, {"block_size", 21}, {"output_dtype", 21}, {"saturate", 19}, {"precision", 23}} {
		spec := n.Op.Attr(a.name)
		if opset >= a.since || spec == nil || !n.Attrs.Has(a.name) {
			continue
		}
		if a.name != "axis" && a.name != "saturate" && n.Attrs.Get(a.name) != spec.Default {
			need(a.since, "attribute "+a.name)
		}
		r.DeleteAttr(n, a.name)
	}
	return errors.Join(errs...)
}

var _ = define(ir.Op{
	Name: "DynamicQuantizeLinear",
	Doc: `Quantises x to u8 with a scale and zero point computed from its range.
lo = min(0, min x), hi = max(0, max x), y_scale = (hi − lo) / 255 (1 if that is 0),
y_zero_point = round_half_even(clamp(−lo / y_scale, 0, 255)), y as by QuantizeLinear. Each step is rounded once to f32.`,
	In: "x", Out: "y, y_scale, y_zero_point", Since: 11,
	Bits: func(*ir.Node) int { return 8 },
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; x.Elem != tensor.F32 {
			return nil, fmt.Errorf("x is %v, expected f32", x)
		}
		return []ir.Type{n.In[0].Type.WithElem(tensor.U8), ir.TensorType(tensor.F32), ir.TensorType(tensor.U8)}, nil
	},
	Eval: func(_ *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		var lo, hi float32
		x := in[0].Float32s()
		for _, v := range x {
			lo, hi = min(lo, v), max(hi, v)
		}
		scale := float32(hi-lo) / 255
		if scale == 0 {
			scale = 1
		}
		q := quantSpec{lo: 0, hi: 255}
		zero := math.RoundToEven(q.clamp(float64(-lo / scale)))
		y := make([]uint8, len(x))
		for i, v := range x {
			y[i] = uint8(q.clamp(math.RoundToEven(float64(v/scale)) + zero))
		}
		return []*tensor.Tensor{tensor.Of(y, in[0].Shape()...), tensor.Scalar(scale), tensor.Scalar(uint8(zero))}, nil
	},
})
