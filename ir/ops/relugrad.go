package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "thriftc.ReluGrad",
	Doc:  "The gradient of Relu: dY where Y, the result of Relu, is greater than 0, else +0.",
	In:   "dY, Y", Out: "dX",
	Infer: inferMasked,
	Cost:  perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Len() != in[1].Len() {
			return nil, fmt.Errorf("dY has shape %v, Y %v", in[0].Shape(), in[1].Shape())
		}
		if in[0].Elem() == tensor.F64 {
			return one(fromNumbers(tensor.F64, reluGrad(numbers[float64](in[0]), numbers[float64](in[1])), in[1].Shape()...), nil)
		}
		return one(fromNumbers(in[0].Elem(), reluGrad(numbers[float32](in[0]), numbers[float32](in[1])), in[1].Shape()...), nil)
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		return b.done(b.add("thriftc.ReluGrad", nil, dout[0], n.In[1]), nil)
	},
})

func reluGrad[T float](dy, y []T) []T {
	dx := make([]T, len(dy))
	for i, v := range y {
		if v > 0 {
			dx[i] = dy[i]
		}
	}
	return dx
}

func gradRelu(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
	b := backprop{r: r, n: n}
	return b.done(b.add("thriftc.ReluGrad", nil, dout[0], n.Out[0]))
}

var _ = define(ir.Op{
	Name: "thriftc.ClipGrad",
	Doc:  "The gradient of Clip with respect to its input: dY where min < Y < max, Y being the result of Clip, else +0. An absent limit does not limit.",
	In:   "dY, Y, min?, max?", Out: "dX",
	Infer: inferMasked,
	Cost:  perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		for i, t := range in {
			if t != nil && i > 1 && t.Len() != 1 || i == 1 && t.Len() != in[0].Len() {
				return nil, fmt.Errorf("%s has shape %v, dY %v", portName(n, i), t.Shape(), in[0].Shape())
			}
		}
		if in[0].Elem() == tensor.F64 {
			return one(clipGrad[float64](in), nil)
		}
		return one(clipGrad[float32](in), nil)
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		return b.done(b.add("thriftc.ClipGrad", nil, append([]*ir.Value{dout[0]}, n.In[1:]...)...))
	},
})

func clipGrad[T float](in []*tensor.Tensor) *tensor.Tensor {
	dy, y := numbers[T](in[0]), numbers[T](in[1])
	dx := make([]T, len(dy))
	for i, v := range y {
		if (len(in) < 3 || in[2] == nil || v > numbers[T](in[2])[0]) && (len(in) < 4 || in[3] == nil || v < numbers[T](in[3])[0]) {
			dx[i] = dy[i]
		}
	}
	return fromNumbers(in[0].Elem(), dx, in[1].Shape()...)
}

// inferMasked is the shape rule of ReluGrad and ClipGrad: dX is like Y.
func inferMasked(n *ir.Node) ([]ir.Type, error) {
	if err := wantFloat(n, 0, 1, 2, 3); err != nil {
		return nil, err
	}
	y := n.In[1].Type
	if !n.In[0].Type.Compatible(y) {
		return nil, fmt.Errorf("dY is %v and Y %v", n.In[0].Type, y)
	}
	return []ir.Type{y.WithElem(y.Elem)}, nil
}
