package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var lossSpecs = []ir.AttrSpec{
	{Name: "ignore_index", Kind: ir.IntAttr, Doc: "a class whose elements do not count; none if absent"},
	{Name: "reduction", Kind: ir.StringAttr, Default: "mean", Doc: "none; sum; or mean: the sum divided by the sum of the weights"},
}

const lossDoc = `
The loss of an element is −weight·log-probability of its class. With reduction
sum or mean they are added in the order of reductions (f32.Sum), as are the
weights; those of ignored elements are 0.`

// inferLoss checks scores [N,C,…], labels [N,…] and weights [C], and returns
// the type of the loss.
func inferLoss(n *ir.Node) (ir.Type, error) {
	x, t := n.In[0].Type, n.In[1].Type
	if err := wantFloat(n, 0, 2); err != nil {
		return x, err
	}
	if t.Elem != tensor.I32 && t.Elem != tensor.I64 {
		return x, fmt.Errorf("%s is %v, expected i32 or i64", portName(n, 1), t)
	}
	c := ir.Unknown
	dims := t.Dims
	unranked := t.Unranked
	if !x.Unranked {
		if x.Rank() < 2 {
			return x, fmt.Errorf("%s is %v, expected at least two dimensions", portName(n, 0), x)
		}
		c = x.Dims[1]
		want := x.WithElem(t.Elem).WithDims(append([]ir.Dim{x.Dims[0]}, x.Dims[2:]...)...)
		if !t.Compatible(want) {
			return x, fmt.Errorf("%s is %v, expected %v", portName(n, 1), t, want)
		}
		if unranked {
			dims, unranked = want.Dims, false
		}
	}
	if w := n.Input(2); w != nil && !w.Type.Compatible(x.WithElem(x.Elem).WithDims(c)) {
		return x, fmt.Errorf("%s is %v, expected shape [%v]", portName(n, 2), w.Type, c)
	}
	switch n.Str("reduction") {
	case "none":
		return ir.Type{Elem: x.Elem, Dims: dims, Unranked: unranked}, nil
	case "sum", "mean":
		return ir.TensorType(x.Elem), nil
	}
	return x, fmt.Errorf("reduction is %q, expected none, sum or mean", n.Str("reduction"))
}

func lossCost(n *ir.Node) ir.Cost {
	return ir.Cost{MACs: elemCount(n.In[1].Type), Adds: 3 * elemCount(n.In[0].Type)}
}

var _ = define(ir.Op{
	Name: "NegativeLogLikelihoodLoss", Since: 12,
	Doc: "The loss of log-probabilities given the right classes." + lossDoc,
	In:  "input, target, weight?", Out: "loss", Attrs: lossSpecs,
	Grad: gradLoss,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferLoss(n)
		return []ir.Type{t}, err
	},
	Cost: lossCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(likelihoodLoss(n, in, numbers[float64](in[0])))
		}
		return one(likelihoodLoss(n, in, numbers[float32](in[0])))
	},
})

var _ = define(ir.Op{
	Name: "SoftmaxCrossEntropyLoss", Since: 12,
	Doc: "The loss of scores given the right classes: log_prob is their LogSoftmax along dimension 1." + lossDoc,
	In:  "scores, labels, weights?", Out: "output, log_prob?", Attrs: lossSpecs,
	Grad: gradLoss,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferLoss(n)
		return []ir.Type{t, n.In[0].Type.WithElem(n.In[0].Type.Elem)}, err
	},
	Cost: lossCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return crossEntropy(n, in, logSoftmax[float64])
		}
		return crossEntropy(n, in, logSoftmax[float32])
	},
})

func crossEntropy[T float](n *ir.Node, in []*tensor.Tensor, f func(y, x []T)) ([]*tensor.Tensor, error) {
	log := mapLines(in[0], 1, f)
	loss, err := likelihoodLoss(n, in, numbers[T](log))
	return []*tensor.Tensor{loss, log}, err
}

// likelihoodLoss computes the loss from log-probabilities of the shape of in[0].
func likelihoodLoss[T float](n *ir.Node, in []*tensor.Tensor, log []T) (*tensor.Tensor, error) {
	s := in[0].Shape()
	classes, plane := s[1], sizeOf(s[2:])
	labels := in[1].Int64s()
	if len(labels) != s[0]*plane {
		return nil, fmt.Errorf("%s has shape %v, which does not fit %v", portName(n, 1), in[1].Shape(), s)
	}
	var weight []T
	if len(in) > 2 && in[2] != nil {
		if weight = numbers[T](in[2]); len(weight) != classes {
			return nil, fmt.Errorf("%s has %d elements, expected %d", portName(n, 2), len(weight), classes)
		}
	}
	loss, share := make([]T, len(labels)), make([]T, len(labels))
	for i, c := range labels {
		if n.HasAttr("ignore_index") && c == int64(n.Int("ignore_index")) {
			continue
		}
		if c < 0 || c >= int64(classes) {
			return nil, fmt.Errorf("%s has class %d, expected 0 to %d", portName(n, 1), c, classes-1)
		}
		if share[i] = 1; weight != nil {
			share[i] = weight[c]
		}
		loss[i] = -T(share[i] * log[(i/plane*classes+int(c))*plane+i%plane])
	}
	switch n.Str("reduction") {
	case "none":
		return fromNumbers(in[0].Elem(), loss, in[1].Shape()...), nil
	case "sum":
		return fromNumbers(in[0].Elem(), []T{f32.Sum(loss)}), nil
	}
	return fromNumbers(in[0].Elem(), []T{f32.Sum(loss) / f32.Sum(share)}), nil
}
