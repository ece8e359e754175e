package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name:  "thriftc.QMuxConv",
	Roles: []ir.Role{1: ir.Weight, 2: ir.Setting, 3: ir.Setting, 4: ir.Bias, 5: ir.Setting, 6: ir.Setting}, Layer: &ir.Layer{},
	PerSample: byFirst,
	Doc: `Convolution of integers with one weight per kernel slice: acc is the sum over the
input channels c of the group of (x[c] − x_zero_point)·w[m, c] at tap p[m, c] of the kernel,
exact; then as thriftc.QConv does, with bias, multiplier and y_zero_point. x is i8 or
u8, w holds integers of at most 8 bits, bipolar among them.`,
	In: "x, w, p, x_zero_point?, bias?, multiplier?, y_zero_point?", Out: "y",
	Attrs: append(append([]ir.AttrSpec{groupSpec, biasShiftSpec}, requantSpecs...), muxSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if e := n.In[0].Type.Elem; e != tensor.I8 && e != tensor.U8 {
			return nil, fmt.Errorf("x is %v, expected i8 or u8", n.In[0].Type)
		}
		if w := n.In[1].Type.Elem; !isSmallInt(w) && w != tensor.Bipolar {
			return nil, fmt.Errorf("w is %v, expected integers of at most 8 bits", n.In[1].Type)
		}
		if z := n.Input(3); z != nil && z.Type.Elem != n.In[0].Type.Elem {
			return nil, fmt.Errorf("x_zero_point is %v, x %v: expected the same element type", z.Type, n.In[0].Type)
		}
		channels := ir.Unknown
		if w := n.In[1].Type; !w.Unranked && w.Rank() > 0 {
			channels = w.Dims[0]
		}
		e, err := checkRequant(n, 4, channels)
		if err != nil {
			return nil, err
		}
		return inferMux(n, e, 4)
	},
	Cost: muxCost(4),
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, err := centred(in[0], zeroAt(in, 3), 1)
		if err != nil {
			return nil, fmt.Errorf("x_zero_point: %w", err)
		}
		sum, shape, err := muxSum[int64](n, x.Shape(), x.Int64s(), in[1], in[2])
		if err != nil {
			return nil, err
		}
		plane := sizeOf(shape[2:])
		return finishInteger(n, tensor.Of(sum, shape...), in, 4, func(i int) int { return i / plane % shape[1] })
	},
	Export: exportQMuxConv,
})

// exportQMuxConv writes QMuxConv as QConv is written, with zeros for absent weights.
func exportQMuxConv(r *ir.Rewriter, n *ir.Node, opset int) error {
	w, p := n.ConstIn(1), n.ConstIn(2)
	if w == nil || p == nil {
		return fmt.Errorf("%s %s: weights and positions must be constants to be written in standard ONNX", n.Op.Name, n.Label())
	}
	dense, e := DenseMux(w, p, tensor.F32, n.Ints("kernel_shape")), tensor.I8
	if w.Elem().IsInt() && !w.Elem().IsSigned() {
		e = tensor.U8
	}
	kernel := r.Const(n.In[1].Name+"_dense", tensor.FromInt64s(e, dense.Int64s(), dense.Shape()...))
	in := []*ir.Value{n.In[0], kernel, n.Input(3), nil}
	for i := 4; i < len(n.In); i++ {
		in = append(in, n.In[i])
	}
	r.SetOp(n, "thriftc.QConv")
	r.SetInputs(n, in...)
	return exportQConv(r, n, opset)
}
