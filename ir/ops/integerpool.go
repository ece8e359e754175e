package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// inferQPool checks the inputs that the integer pools share.
func inferQPool(n *ir.Node) (tensor.Elem, error) {
	x, z := n.In[0].Type, n.In[1].Type
	if x.Elem != tensor.I8 && x.Elem != tensor.U8 || z.Elem != x.Elem {
		return 0, fmt.Errorf("x is %v and x_zero_point %v, expected both i8 or both u8", x, z)
	}
	return checkMultiplier(n, 2, ir.Fixed(1))
}

var _ = define(ir.Op{
	Name:  "thriftc.QAveragePool",
	Roles: []ir.Role{1: ir.Setting, 2: ir.Setting, 3: ir.Setting}, Pooling: true,
	PerSample: byFirst,
	Doc: `Mean of every window of integers: acc = Σ (x − x_zero_point) over the window, where the
padding adds nothing, and y = clamp(round_half_even(acc · multiplier) + y_zero_point, lo, hi).
The number of elements is part of the multiplier.`,
	In: "x, x_zero_point, multiplier, y_zero_point", Out: "y",
	Attrs: append(append([]ir.AttrSpec{kernelSpec}, requantSpecs...), windowSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		e, err := inferQPool(n)
		if err != nil {
			return nil, err
		}
		t, err := inferPool(n)
		return []ir.Type{t.WithElem(e)}, err
	},
	Cost: poolCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, err := centred(in[0], in[1], 0)
		if err != nil {
			return nil, err
		}
		sum, _, err := pool(n, x, false, func(x []int64, _ int) (int64, int) { return total(x), 0 })
		if err != nil {
			return nil, err
		}
		return poolResult(n, in, sum)
	},
	Export: exportQPool,
})

var _ = define(ir.Op{
	Name:  "thriftc.QGlobalAveragePool",
	Roles: []ir.Role{1: ir.Setting, 2: ir.Setting, 3: ir.Setting}, Pooling: true,
	PerSample: byFirst,
	Doc: `Mean of every channel of integers: acc = Σ (x − x_zero_point) over the spatial dimensions and
y = clamp(round_half_even(acc · multiplier) + y_zero_point, lo, hi). The number of elements is
part of the multiplier.`,
	In: "x, x_zero_point, multiplier, y_zero_point", Out: "y",
	Attrs: requantSpecs,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		e, err := inferQPool(n)
		if err != nil {
			return nil, err
		}
		x := n.In[0].Type
		if x.Unranked {
			return []ir.Type{ir.UnrankedType(e)}, nil
		}
		if x.Rank() < 3 {
			return nil, fmt.Errorf("x is %v, expected at least three dimensions", x)
		}
		dims := append([]ir.Dim{}, x.Dims[:2]...)
		for range x.Rank() - 2 {
			dims = append(dims, ir.Fixed(1))
		}
		return []ir.Type{ir.TensorType(e, dims...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.In[0].Type)} },
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, err := centred(in[0], in[1], 0)
		if err != nil {
			return nil, err
		}
		s := x.Shape()
		shape := []int{s[0], s[1]}
		for range s[2:] {
			shape = append(shape, 1)
		}
		plane := sizeOf(s[2:])
		sum := make([]int64, s[0]*s[1])
		for i := range sum {
			sum[i] = total(x.Int64s()[i*plane:][:plane])
		}
		return poolResult(n, in, tensor.Of(sum, shape...))
	},
	Export: exportQPool,
})

func total(x []int64) (sum int64) {
	for _, v := range x {
		sum += v
	}
	return sum
}

// poolResult applies the rule to the sums of a pool.
func poolResult(n *ir.Node, in []*tensor.Tensor, sum *tensor.Tensor) ([]*tensor.Tensor, error) {
	q, err := requantOf(n, in[3])
	if err != nil {
		return nil, err
	}
	if in[2].Len() != 1 {
		return nil, fmt.Errorf("multiplier has %d elements, expected one", in[2].Len())
	}
	y := make([]int64, sum.Len())
	for i, v := range sum.Int64s() {
		y[i] = q.apply(int32(v), in[2].Float32s()[0])
	}
	return []*tensor.Tensor{tensor.FromInt64s(in[3].Elem(), y, sum.Shape()...)}, nil
}
