package ops

import (
	bits "encoding/binary"
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name:        "Cast",
	Same:        sameIf(func(n *ir.Node) bool { return n.In[0].Type.Elem == n.Out[0].Type.Elem }),
	Elementwise: true,
	Doc: "Converts elements to another type. Floating point to floating point rounds to nearest even. Floating point to bool is x ≠ 0. " +
		"Floating point to an integer of 8 bits or more cuts toward zero, to a narrower one rounds to nearest even; " +
		"what lies outside the range becomes the nearest end of it, NaN becomes 0 (ONNX leaves both open). " +
		"Integer to integer keeps the low bits.",
	Since: 13,
	In:    "input", Out: "output",
	Attrs: []ir.AttrSpec{
		{Name: "to", Kind: ir.IntAttr, Required: true, Doc: "the element type, as numbered by ONNX's TensorProto.DataType"},
		{Name: "saturate", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "concerns float8 only, which is not supported"},
		{Name: "round_mode", Kind: ir.StringAttr, Default: "up", Doc: "concerns float8 only, which is not supported"},
	},
	Grad: gradCast,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		return inferCast(n, tensor.FromONNXType(n.Int("to")))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return one(cast(in[0], tensor.FromONNXType(n.Int("to"))))
	},
})

var _ = define(ir.Op{
	Name:  "CastLike",
	Roles: []ir.Role{1: ir.Setting}, Elementwise: true,
	Doc:   "Cast to the element type of another tensor.",
	Since: 15,
	In:    "input, target_type", Out: "output",
	Attrs: []ir.AttrSpec{
		{Name: "saturate", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "concerns float8 only, which is not supported"},
		{Name: "round_mode", Kind: ir.StringAttr, Default: "up", Doc: "concerns float8 only, which is not supported"},
	},
	Grad:  gradCast,
	Infer: func(n *ir.Node) ([]ir.Type, error) { return inferCast(n, n.In[1].Type.Elem) },
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return one(cast(in[0], in[1].Elem()))
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		e := n.In[1].Type.Elem
		if e.ONNXType() == 0 {
			return fmt.Errorf("ONNX has no element type %v", e)
		}
		r.SetOp(n, "Cast")
		r.SetInputs(n, n.In[0])
		r.SetAttr(n, "to", e.ONNXType())
		return nil
	},
})

var _ = define(ir.Op{
	Name:  "BitCast",
	Doc:   "Takes the bits of every element for those of another type of the same width.",
	Since: 26,
	In:    "input", Out: "output",
	Attrs:  []ir.AttrSpec{{Name: "to", Kind: ir.IntAttr, Required: true, Doc: "the element type, as numbered by ONNX's TensorProto.DataType"}},
	NoGrad: "bits are no numbers",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		in, to := n.In[0].Type, tensor.FromONNXType(n.Int("to"))
		if to == tensor.Invalid || in.Elem == tensor.String || to == tensor.String || in.Elem.Bits() != to.Bits() {
			return nil, fmt.Errorf("the bits of %v cannot be those of %v", in, to)
		}
		return types(in.WithElem(to))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, to := in[0], tensor.FromONNXType(n.Int("to"))
		if x.Elem().IsInt() && to.IsInt() { // containers of narrow integers are wider than they
			return one(cast(x, to))
		}
		y, err := tensor.Alloc(to, x.Shape()...)
		if err != nil {
			return nil, err
		}
		data, err := bits.Append(nil, bits.LittleEndian, x.Container())
		if err == nil {
			_, err = bits.Decode(data, bits.LittleEndian, y.Container())
		}
		return one(y, err)
	},
})

func inferCast(n *ir.Node, to tensor.Elem) ([]ir.Type, error) {
	in := n.In[0].Type
	if to == tensor.Invalid {
		return nil, fmt.Errorf("cannot convert %v: the new element type is not supported", in)
	}
	if (in.Elem == tensor.String) != (to == tensor.String) {
		return nil, fmt.Errorf("cannot convert %v to %v", in, to)
	}
	if in.Elem.IsInt() && (to == tensor.I64 || to == tensor.I32) {
		setContents(n, 0, n.In[0].Contents)
	}
	return types(in.WithElem(to))
}

// cast converts elements as the operator Cast documents.
func cast(t *tensor.Tensor, to tensor.Elem) (*tensor.Tensor, error) {
	from := t.Elem()
	switch {
	case from == to:
		return t, nil
	case to == tensor.Invalid || from == tensor.String || to == tensor.String:
		return nil, fmt.Errorf("cannot convert %v to %v", from, to)
	}
	if _, err := tensor.Alloc(to, t.Shape()...); err != nil {
		return nil, err
	}
	switch {
	case to == tensor.F64:
		return tensor.Of(t.Float64s(), t.Shape()...), nil
	case to == tensor.F32:
		return tensor.Of(t.Float32s(), t.Shape()...), nil
	case to.IsFloat() && (from == tensor.F64 || from.Bits() > 16 && !from.IsFloat()):
		return tensor.FromFloat32s(to, roundToOdd(t), t.Shape()...), nil
	case to.IsFloat():
		return tensor.FromFloat32s(to, t.Float32s(), t.Shape()...), nil
	case from.IsFloat():
		out := make([]int64, t.Len())
		for i, x := range t.Float64s() {
			out[i] = toInt(x, to)
		}
		return tensor.FromInt64s(to, out, t.Shape()...), nil
	}
	x := t.Int64s()
	if b := to.Bits(); to.IsInt() && b < 64 {
		out := make([]int64, len(x))
		for i, v := range x {
			if out[i] = v << (64 - b) >> (64 - b); !to.IsSigned() {
				out[i] = int64(uint64(v) << (64 - b) >> (64 - b))
			}
		}
		x = out
	}
	return tensor.FromInt64s(to, x, t.Shape()...), nil
}

// roundToOdd returns the elements as float32, rounded so that a second
// rounding, to f16 or bf16, gives the same as one: inexact ones get an odd last bit.
func roundToOdd(t *tensor.Tensor) []float32 {
	out := make([]float32, t.Len())
	for i, x := range t.Float64s() {
		f := float32(x)
		if e := float64(f); e != x && !math.IsInf(e, 0) && !math.IsNaN(x) {
			b := math.Float32bits(f)
			if math.Abs(e) > math.Abs(x) {
				b-- // toward zero
			}
			f = math.Float32frombits(b | 1)
		}
		out[i] = f
	}
	return out
}

// toInt converts a number to an integer of type to.
func toInt(x float64, to tensor.Elem) int64 {
	if to == tensor.Bool {
		if x != 0 {
			return 1
		}
		return 0
	}
	lo, hi := to.Range()
	if to.Bits() < 8 {
		x = math.RoundToEven(x)
	} else {
		x = math.Trunc(x)
	}
	switch {
	case math.IsNaN(x):
		return 0
	case to == tensor.U64 && x >= 1<<64:
		return -1 // all bits set
	case to == tensor.U64 && x >= 1<<63:
		return int64(uint64(x))
	case x <= float64(lo):
		return lo
	case x >= float64(hi):
		return hi
	}
	return int64(x)
}
