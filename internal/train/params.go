package train

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// weightInputs says which inputs of which operators are weights when they are
// constants. Statistics of batch norms are not: they are measured.
var weightInputs = map[string][]int{
	"Conv": {1, 2}, "ConvTranspose": {1, 2}, "Gemm": {0, 1, 2}, "MatMul": {0, 1},
	"BatchNormalization": {1, 2}, "InstanceNormalization": {1, 2}, "LayerNormalization": {1, 2}, "GroupNormalization": {1, 2},
	"PRelu": {1}, "Add": {0, 1}, "Gather": {0},
	"LSTM": {1, 2, 3}, "GRU": {1, 2, 3}, "RNN": {1, 2, 3},
	"thriftc.Quant": {0}, "thriftc.BipolarQuant": {0},
}

// Params lists the weights of a model in inference form, in the order of the
// graph's constants: those that convolutions, matrix products and
// normalisations have, and added biases of more than one number. Without
// decayAll, vectors and scalars are not decayed.
func Params(g *ir.Graph, decayAll bool) []passes.TrainParam {
	var out []passes.TrainParam
	for _, v := range g.Consts {
		if v.Type.Elem != tensor.F32 || !slices.ContainsFunc(v.Uses(), isWeight) {
			continue
		}
		out = append(out, passes.TrainParam{Value: v, NoDecay: !decayAll && v.Data.Rank() < 2})
	}
	return out
}

func isWeight(u ir.Use) bool {
	if !slices.Contains(weightInputs[u.Node.Op.Name], u.Index) {
		return false
	}
	return u.Node.Op.Name != "Add" || u.Node.In[u.Index].Data.Len() > 1
}

// Reinitialize draws the weights of a model anew from the seed: variance 2 /
// fan-in (He et al., arXiv 1502.01852), 1 / fan-in for what computes an output of the model;
// biases 0, normalisations 1 and 0, statistics 0 and 1. What it has no rule for is named.
func Reinitialize(g *ir.Graph, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0x696e6974))
	r := ir.NewRewriter(g)
	var errs []error
	for _, n := range g.Nodes {
		if n.Op.Name == "DequantizeLinear" && n.In[0].IsConst() {
			return fmt.Errorf("%s: its weights are integers with scales for the numbers that they are; new ones need the float model", n.Label())
		}
	}
	for _, v := range slices.Clone(g.Consts) {
		if v.Type.Elem != tensor.F32 || len(v.Uses()) == 0 {
			continue
		}
		u := v.Uses()[0]
		statistic := u.Node.Op.Name == "BatchNormalization" && u.Index > 2
		if !statistic && !isWeight(u) {
			continue
		}
		x := make([]float32, v.Data.Len())
		switch name := u.Node.Op.Name; {
		case statistic && u.Index == 4, u.Index == 1 && (name == "BatchNormalization" || name == "InstanceNormalization" || name == "LayerNormalization" || name == "GroupNormalization"):
			fill(x, 1)
		case statistic, v.Data.Rank() < 2, name == "Add":
		case name == "PRelu":
			fill(x, 0.25)
		case name == "Gather", name == "LSTM", name == "GRU", name == "RNN":
			errs = append(errs, fmt.Errorf("%%%s of %s %s: no rule for new weights", v.Name, name, u.Node.Label()))
		default:
			gain := 2.0
			if slices.ContainsFunc(u.Node.Out, func(o *ir.Value) bool { return o != nil && o.IsOutput() }) {
				gain = 1
			}
			std := math.Sqrt(gain / float64(fanIn(u, v.Data)))
			for i := range x {
				// Rounded, so that functions which differ in the last bit between machines do not matter.
				x[i] = float32(math.Round(float64(rng.NormFloat64()*std)*(1<<20)) / (1 << 20))
			}
		}
		r.SetData(v, tensor.Of(x, v.Data.Shape()...))
	}
	return errors.Join(errs...)
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}

// fanIn returns how many numbers a weight adds up for one result.
func fanIn(u ir.Use, t *tensor.Tensor) int {
	s := t.Shape()
	switch u.Node.Op.Name {
	case "Conv":
		return max(t.Len()/s[0], 1)
	case "ConvTranspose":
		return max(t.Len()/s[1], 1)
	case "Gemm":
		if u.Index == 1 && u.Node.Int("transB") != 0 || u.Index == 0 && u.Node.Int("transA") == 0 {
			return max(s[1], 1)
		}
		return max(s[0], 1)
	}
	if u.Index == 0 {
		return max(s[len(s)-1], 1)
	}
	return max(s[len(s)-2], 1)
}
