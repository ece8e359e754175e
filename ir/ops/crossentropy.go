package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "thriftc.SoftmaxCrossEntropy",
	Doc: `The mean over the rows of logits, [N, classes], of −Σ q·log softmax(logits), and its
gradient with respect to logits. target holds the class of each row, or the
probability of each class in each row; with smoothing s of the labels q is
(1 − s)·target + s/classes, where a class counts as probability 1. With m the
greatest element of a row, e = e^(x−m) and z = Σe: log softmax is (x − m) − ln z and
grad = ((e/z)·Σq − q)/N. Each operation is rounded once; sums of products are of
rounded products; all sums are in the order of reductions (f32.Sum).`,
	In: "logits, target", Out: "loss, grad?",
	Attrs: []ir.AttrSpec{floatAttr("label_smoothing", 0, "s, from 0 to 1")},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x, t := n.In[0].Type, n.In[1].Type
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		if s := n.Float("label_smoothing"); !(s >= 0 && s <= 1) {
			return nil, fmt.Errorf("label_smoothing is %v, expected 0 to 1", s)
		}
		if err := wantRank(n, 0, 2); err != nil {
			return nil, err
		}
		want := ir.TensorType(x.Elem, ir.Unknown, ir.Unknown)
		if !x.Unranked {
			want = x
		}
		switch t.Elem {
		case tensor.I32, tensor.I64:
			want = ir.TensorType(t.Elem, want.Dims[0])
		case x.Elem:
		default:
			return nil, fmt.Errorf("target is %v, expected classes (i32 or i64) or probabilities (%v)", t, x.Elem)
		}
		if !t.Compatible(want) {
			return nil, fmt.Errorf("target is %v, expected %v for logits of %v", t, want, x)
		}
		return []ir.Type{ir.TensorType(x.Elem), x.WithElem(x.Elem)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		return ir.Cost{MACs: elemCount(n.In[0].Type), Adds: 6 * elemCount(n.In[0].Type)}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return softmaxCrossEntropy[float64](n, in)
		}
		return softmaxCrossEntropy[float32](n, in)
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		if len(dout) > 1 && dout[1] != nil {
			return nil, fmt.Errorf("the output grad has no gradient")
		}
		grad := n.Output(1)
		if grad == nil {
			grad = b.node(n.Op.Name, b.copyAttrs("label_smoothing"), n.In, "", b.label())[1]
		}
		if !isOne(dout[0]) {
			grad = b.times(grad, dout[0])
		}
		return b.done(grad, nil)
	},
})

func softmaxCrossEntropy[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	rows, classes := in[0].Shape()[0], in[0].Shape()[1]
	if rows == 0 || classes == 0 {
		return nil, fmt.Errorf("logits are %v, expected at least one row and class", ir.TypeOf(in[0]))
	}
	x, grad, loss := numbers[T](in[0]), make([]T, rows*classes), make([]T, rows)
	var labels []int64
	var soft []T
	if in[1].Elem().IsInt() {
		labels = in[1].Int64s()
	} else {
		soft = numbers[T](in[1])
	}
	if labels != nil && len(labels) != rows || labels == nil && len(soft) != len(x) {
		return nil, fmt.Errorf("target has shape %v, which does not fit logits, %v", in[1].Shape(), in[0].Shape())
	}
	smooth := T(n.Float("label_smoothing"))
	e, q, terms := make([]T, classes), make([]T, classes), make([]T, classes)
	for i := range rows {
		if labels != nil {
			c := labels[i]
			if c < 0 || c >= int64(classes) {
				return nil, fmt.Errorf("target has class %d in row %d, expected 0 to %d", c, i, classes-1)
			}
			clear(q)
			q[c] = 1
		} else {
			copy(q, soft[i*classes:])
		}
		if smooth != 0 {
			for j, v := range q {
				q[j] = T((1-smooth)*v) + smooth/T(classes)
			}
		}
		row := x[i*classes:][:classes]
		m := greatest(nil, row)
		for j, v := range row {
			e[j] = viaFloat64(f32.Exp64, v-m)
		}
		z := f32.Sum(e)
		l := viaFloat64(f32.Log64, z)
		for j, v := range row {
			terms[j] = 0
			if q[j] != 0 {
				terms[j] = T(q[j] * ((v - m) - l))
			}
		}
		loss[i] = -f32.Sum(terms)
		all := f32.Sum(q)
		for j := range row {
			grad[i*classes+j] = (T(e[j]/z*all) - q[j]) / T(rows)
		}
	}
	t := in[0].Elem()
	return []*tensor.Tensor{fromNumbers(t, []T{f32.Sum(loss) / T(rows)}), fromNumbers(t, grad, rows, classes)}, nil
}
