package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Clip", Since: 11,
	Same:  sameIf(func(n *ir.Node) bool { return n.Input(1) == nil && n.Input(2) == nil }),
	Roles: []ir.Role{1: ir.Setting, 2: ir.Setting}, Elementwise: true, Epilogue: true,
	Doc: `min where input < min, then max where that is > max, else the element itself; a
NaN stays. An absent limit does not limit.`,
	In: "input, min?, max?", Out: "output",
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset >= 11 {
			return nil
		}
		for i, name := range []string{"min", "max"} {
			v, ok := n.Attrs.Get(name).(float32)
			if n.Attrs.Has(name) && !ok {
				return fmt.Errorf("attribute %s is %v, expected float", name, ir.KindOf(n.Attrs.Get(name)))
			}
			r.DeleteAttr(n, name)
			if !ok || math.Abs(float64(v)) == math.MaxFloat32 { // the old defaults: no limit
				continue
			}
			t := floatsOf(n.In[0].Type.Elem, []float64{float64(v)}, nil)
			r.SetInput(n, i+1, r.Const(n.Out[0].Name+"_"+name, t))
		}
		return nil
	},
	Grad: gradClip,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Elem.IsFloat() && !x.Elem.IsInt() {
			return nil, fmt.Errorf("input is %v, expected numbers", x)
		}
		if err := wantLike(n, 0, 1, 2); err != nil {
			return nil, err
		}
		for i := 1; i < 3; i++ {
			if v := n.Input(i); v != nil && v.Type.Rank() > 0 && (v.Type.Rank() > 1 || !v.Type.Dims[0].MayEqual(ir.Fixed(1))) {
				return nil, fmt.Errorf("%s is %v, expected a scalar", portName(n, i), v.Type)
			}
		}
		return sameType(n)
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		for i, t := range in[1:] {
			if t != nil && t.Len() != 1 {
				return nil, fmt.Errorf("%s has %d elements, expected one", portName(n, i+1), t.Len())
			}
		}
		switch e := in[0].Elem(); {
		case e == tensor.F64:
			return one(clip[float64](in), nil)
		case e.IsFloat():
			return one(clip[float32](in), nil)
		case e == tensor.U64:
			return one(clipU64(in), nil)
		}
		return one(clip[int64](in), nil)
	},
})

func clip[T number](in []*tensor.Tensor) *tensor.Tensor {
	y := append([]T{}, numbers[T](in[0])...)
	if len(in) > 1 && in[1] != nil {
		lo := numbers[T](in[1])[0]
		for i, v := range y {
			if v < lo {
				y[i] = lo
			}
		}
	}
	if len(in) > 2 && in[2] != nil {
		hi := numbers[T](in[2])[0]
		for i, v := range y {
			if v > hi {
				y[i] = hi
			}
		}
	}
	return fromNumbers(in[0].Elem(), y, in[0].Shape()...)
}

func clipU64(in []*tensor.Tensor) *tensor.Tensor {
	y := append([]uint64{}, tensor.Data[uint64](in[0])...)
	for i, v := range y {
		if len(in) > 1 && in[1] != nil {
			v = max(v, tensor.Data[uint64](in[1])[0])
		}
		if len(in) > 2 && in[2] != nil {
			v = min(v, tensor.Data[uint64](in[2])[0])
		}
		y[i] = v
	}
	return tensor.Of(y, in[0].Shape()...)
}
