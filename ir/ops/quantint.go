package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// wantBytes checks that inputs i and j are 8-bit integers and that their zero
// points, inputs i+2 and j+2, are of the same types.
func wantBytes(n *ir.Node) error {
	for i := range 2 {
		t := n.In[i].Type
		if !t.Elem.IsInt() || t.Elem.Bits() > 8 {
			return fmt.Errorf("%s is %v, expected integers of at most 8 bits", portName(n, i), t)
		}
		if z := n.Input(i + 2); z != nil && z.Type.Elem != t.Elem {
			return fmt.Errorf("%s is %v, %s %v: expected the same element type", portName(n, i), t, portName(n, i+2), z.Type)
		}
	}
	return nil
}

// centred returns x − zero as i64, zero having one element, or one per index
// of x along axis. Exact: both have at most 8 bits.
func centred(x, zero *tensor.Tensor, axis int) (*tensor.Tensor, error) {
	q := x.Int64s()
	if zero == nil {
		return tensor.Of(q, x.Shape()...), nil
	}
	z := zero.Int64s()
	along, err := alongAxis(x.Shape(), axis, 0, zero)
	if err != nil {
		return nil, err
	}
	d := make([]int64, len(q))
	for i, v := range q {
		d[i] = v - z[along(i, len(z))]
	}
	return tensor.Of(d, x.Shape()...), nil
}

// toInt32 wraps i64 numbers to i32, as the accumulators of ONNX do.
func toInt32(t *tensor.Tensor, err error) ([]*tensor.Tensor, error) {
	if err != nil {
		return nil, err
	}
	return []*tensor.Tensor{tensor.FromInt64s(tensor.I32, t.Int64s(), t.Shape()...)}, nil
}

// zeroAt returns zero point i of a node's operands, nil if it is absent.
func zeroAt(in []*tensor.Tensor, i int) *tensor.Tensor {
	if i < len(in) {
		return in[i]
	}
	return nil
}

var _ = define(ir.Op{
	Name:  "MatMulInteger",
	Roles: []ir.Role{1: ir.Weight, 2: ir.Setting, 3: ir.Setting}, Layer: &ir.Layer{Commutes: true},
	Doc: `The matrix product of A − a_zero_point and B − b_zero_point, exact, as i32 that wraps.
a_zero_point has one element, or one per row of A; b_zero_point one per column of B.`,
	In: "A, B, a_zero_point?, b_zero_point?", Out: "Y", Since: 10,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantBytes(n); err != nil {
			return nil, err
		}
		dims, err := matmulDims(n.In[0].Type, n.In[1].Type)
		if err != nil || n.In[0].Type.Unranked || n.In[1].Type.Unranked {
			return []ir.Type{ir.UnrankedType(tensor.I32)}, err
		}
		return []ir.Type{ir.TensorType(tensor.I32, dims...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		k := int64(1)
		if d := n.In[0].Type.Dims; len(d) > 0 && d[len(d)-1].Known() {
			k = int64(d[len(d)-1].N)
		}
		return ir.Cost{MACs: elemCount(n.Out[0].Type) * k}
	},
	Eval: func(_ *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		a, err := centred(in[0], perVector(zeroAt(in, 2)), -2)
		if err != nil {
			return nil, fmt.Errorf("a_zero_point: %w", err)
		}
		b, err := centred(in[1], perVector(zeroAt(in, 3)), -1)
		if err != nil {
			return nil, fmt.Errorf("b_zero_point: %w", err)
		}
		return toInt32(matmul[int64](a, b))
	},
})

// perVector drops the dimensions of size 1 of a zero point such as [M, 1].
func perVector(z *tensor.Tensor) *tensor.Tensor {
	if z == nil || z.Rank() < 2 {
		return z
	}
	for _, d := range z.Shape() {
		if d == z.Len() {
			return z.Reshape(d)
		}
	}
	return z
}

var _ = define(ir.Op{
	Name:  "ConvInteger",
	Roles: []ir.Role{1: ir.Weight, 2: ir.Setting, 3: ir.Setting}, Layer: &ir.Layer{},
	Doc: `The convolution of x − x_zero_point with w − w_zero_point, exact, as i32 that wraps;
the padding counts as x_zero_point. w_zero_point has one element, or one per output channel.`,
	In: "x, w, x_zero_point?, w_zero_point?", Out: "y", Since: 10,
	Attrs: append([]ir.AttrSpec{
		{Name: "group", Kind: ir.IntAttr, Default: int64(1), Doc: "the number of groups"},
		{Name: "kernel_shape", Kind: ir.IntsAttr, Doc: "the kernel's spatial shape; that of w if absent"},
	}, windowSpecs...),
	Import: importWindow,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantBytes(n); err != nil {
			return nil, err
		}
		if err := checkKernel(n, 0, 1); err != nil {
			return nil, err
		}
		y, err := convType(n, tensor.I32)
		return []ir.Type{y}, err
	},
	Cost: func(n *ir.Node) ir.Cost {
		return ir.Cost{MACs: elemCount(n.Out[0].Type) * kernelCount(n.In[1].Type)}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, err := centred(in[0], zeroAt(in, 2), 1)
		if err != nil {
			return nil, fmt.Errorf("x_zero_point: %w", err)
		}
		w, err := centred(in[1], zeroAt(in, 3), 0)
		if err != nil {
			return nil, fmt.Errorf("w_zero_point: %w", err)
		}
		return toInt32(conv[int64](n, []*tensor.Tensor{x, w}))
	},
})
