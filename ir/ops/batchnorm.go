package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "BatchNormalization", PerSample: func(n *ir.Node) bool { return byFirst(n) && n.Int("training_mode") == 0 }, Since: 14,
	Roles: []ir.Role{1: ir.Gain, 2: ir.Bias, 3: ir.Statistic, 4: ir.Statistic}, Epilogue: true,
	Doc: `Normalises every channel (dimension 1): with a = scale/√(var + ε), rounded after
each operation, y = (x − mean)·a + B, the difference rounded and the rest in one
fused multiply-add. In inference mean and var are the inputs. With training_mode
= 1 they are those of X: the mean and the mean square deviation over all other
dimensions, added in the order of reductions (f32.Sum), and the running
statistics become input·momentum + statistic·(1 − momentum).`,
	In: "X, scale, B, input_mean, input_var", Out: "Y, running_mean?, running_var?",
	Attrs: []ir.AttrSpec{
		floatAttr("epsilon", 1e-5, "ε, added to the variance"),
		floatAttr("momentum", 0.9, "the share of the old running statistics; training only"),
		{Name: "training_mode", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: normalise with the statistics of X"},
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset >= 14 {
			return nil
		}
		if s := n.Attrs.Get("spatial"); s == int64(0) && (n.In[0].Type.Unranked || n.In[0].Type.Rank() > 2) {
			return fmt.Errorf("spatial = 0 (one statistic for each position) is not supported")
		}
		r.DeleteAttr(n, "spatial")
		train := opset < 7 && n.Int("is_test") == 0
		r.DeleteAttr(n, "is_test")
		for i := 1; i < len(n.Out); i++ {
			train = train || n.Out[i] != nil
		}
		if train {
			return fmt.Errorf("the training form of opset %d is not supported", opset)
		}
		n.Out = n.Out[:1]
		return nil
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.Int("training_mode") != 0 {
			return fmt.Errorf("training_mode is 1, which needs opset 14")
		}
		r.DeleteAttr(n, "training_mode")
		return nil
	},
	Grad: gradBatchNorm,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x := n.In[0].Type
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		c := ir.Unknown
		if !x.Unranked {
			if x.Rank() < 2 {
				return nil, fmt.Errorf("X is %v, expected at least two dimensions", x)
			}
			c = x.Dims[1]
		}
		for i := 1; i < 5; i++ {
			t := n.In[i].Type
			if !t.Elem.IsFloat() || !t.Unranked && (t.Rank() != 1 || !t.Dims[0].MayEqual(c)) {
				return nil, fmt.Errorf("%s is %v, expected floating point of shape [%v]", portName(n, i), t, c)
			}
		}
		return []ir.Type{x.WithElem(x.Elem), n.In[3].Type.WithElem(n.In[3].Type.Elem), n.In[4].Type.WithElem(n.In[4].Type.Elem)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		return ir.Cost{MACs: elemCount(n.Out[0].Type), Adds: elemCount(n.Out[0].Type)}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return batchNorm[float64](n, in)
		}
		return batchNorm[float32](n, in)
	},
})

func batchNorm[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	s := in[0].Shape()
	channels, plane := s[1], sizeOf(s[2:])
	x, y := numbers[T](in[0]), make([]T, in[0].Len())
	scale, bias, mean, variance := numbers[T](in[1]), numbers[T](in[2]), numbers[T](in[3]), numbers[T](in[4])
	for i := 1; i < 5; i++ {
		if in[i].Len() != channels {
			return nil, fmt.Errorf("%s has %d elements, expected one for each of the %d channels", portName(n, i), in[i].Len(), channels)
		}
	}
	var runMean, runVar []T
	if n.Int("training_mode") != 0 {
		momentum := T(n.Float("momentum"))
		mix := func(old, now T) T { return T(old*momentum) + T(now*(1-momentum)) }
		oldMean, oldVar := mean, variance
		mean, variance = make([]T, channels), make([]T, channels)
		runMean, runVar = make([]T, channels), make([]T, channels)
		for c := range channels {
			var all []T
			for b := range s[0] {
				all = append(all, x[(b*channels+c)*plane:][:plane]...)
			}
			mean[c], variance[c] = moments(all)
			runMean[c], runVar[c] = mix(oldMean[c], mean[c]), mix(oldVar[c], variance[c])
		}
	}
	eps := T(n.Float("epsilon"))
	for i := range s[0] * channels {
		c := i % channels
		a := scale[c] / sqrt(variance[c]+eps)
		for j, v := range x[i*plane:][:plane] {
			y[i*plane+j] = fma(v-mean[c], a, bias[c])
		}
	}
	out := []*tensor.Tensor{fromNumbers(in[0].Elem(), y, s...)}
	if runMean == nil { // the statistics stay as they are
		return append(out, in[3], in[4]), nil
	}
	return append(out, fromNumbers(in[3].Elem(), runMean, channels), fromNumbers(in[4].Elem(), runVar, channels)), nil
}

// moments returns the mean of x and its mean square deviation from it, with
// sums in the order of reductions (f32.Sum).
func moments[T float](x []T) (mean, variance T) {
	n := T(len(x))
	mean = f32.Sum(x) / n
	d := make([]T, len(x))
	for i, v := range x {
		d[i] = T((v - mean) * (v - mean))
	}
	return mean, f32.Sum(d) / n
}
