package ops

import (
	"fmt"
	"math/rand/v2"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Dropout", Since: 12,
	Roles:     []ir.Role{1: ir.Setting, 2: ir.Setting},
	PerSample: func(n *ir.Node) bool { return n.Input(2) == nil },
	Same: sameIf(func(n *ir.Node) bool {
		m := n.Input(2)
		return m == nil || m.IsConst() && m.Data.Int64s()[0] == 0
	}),
	Doc: `In inference output = data and mask is true. With training_mode true an element
is dropped with probability ratio, and the others are multiplied by 1/(1−ratio):
element i stays when the i-th number of PCG(seed, 0) is at least ratio, so that
equal seeds give equal masks.`,
	In: "data, ratio?, training_mode?", Out: "output, mask?",
	Attrs: []ir.AttrSpec{{Name: "seed", Kind: ir.IntAttr, Default: int64(0), Doc: "the seed of the mask"}},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset >= 12 {
			return nil
		}
		// Older forms only ever run as inference here; opset 6 says so itself.
		if opset < 7 && n.Int("is_test") == 0 {
			return fmt.Errorf("is_test = 0, the training form of opset 6, is not supported")
		}
		r.DeleteAttr(n, "is_test")
		r.DeleteAttr(n, "ratio")
		return nil
	},
	Grad: gradDropout,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if v := n.Input(1); v != nil && (!v.Type.Elem.IsFloat() || v.Type.Rank() > 0) {
			return nil, fmt.Errorf("ratio is %v, expected a floating-point scalar", v.Type)
		}
		if v := n.Input(2); v != nil && (v.Type.Elem != tensor.Bool || v.Type.Rank() > 0) {
			return nil, fmt.Errorf("training_mode is %v, expected a bool scalar", v.Type)
		}
		t, err := floatType(n)
		if err != nil {
			return nil, err
		}
		return append(t, t[0].WithElem(tensor.Bool)), nil
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x := in[0]
		keep := make([]bool, x.Len())
		for i := range keep {
			keep[i] = true
		}
		mask := tensor.Of(keep, x.Shape()...)
		if len(in) < 3 || in[2] == nil || !tensor.Data[bool](in[2])[0] {
			return []*tensor.Tensor{x, mask}, nil
		}
		ratio := 0.5
		if in[1] != nil {
			ratio = in[1].Float64s()[0]
		}
		if !(ratio >= 0 && ratio < 1) {
			return nil, fmt.Errorf("ratio is %v, expected 0 to less than 1", ratio)
		}
		if ratio == 0 {
			return []*tensor.Tensor{x, mask}, nil
		}
		rng := rand.New(rand.NewPCG(uint64(n.Int("seed")), 0))
		for i := range keep {
			keep[i] = rng.Float64() >= ratio
		}
		i := -1
		scale := 1 / (1 - ratio)
		y, err := mapFloat(x, func(v float32) float32 {
			if i++; !keep[i] {
				return 0
			}
			return float32(v * float32(scale))
		}, func(v float64) float64 {
			if i++; !keep[i] {
				return 0
			}
			return float64(v * scale)
		})
		return []*tensor.Tensor{y, mask}, err
	},
})
