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

// isWeight reports whether a constant is something to learn where it is used: by its role, as an operand
// of a product, as what is added or looked up, or behind its quantiser. Statistics are measured instead.
func isWeight(u ir.Use) bool {
	op, role := u.Node.Op, u.Node.Op.Role(u.Index)
	switch {
	case role == ir.Weight, role == ir.Bias, role == ir.Gain:
		return true
	case role != ir.Data:
		return false
	case op.Name == "Add":
		return u.Node.In[u.Index].Data.Len() > 1
	case op.Layer != nil:
		return op.Layer.Channels != nil
	}
	return op.Name == "Gather" || op.Bits != nil && u.Index == 0
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
		role := u.Node.Op.Role(u.Index)
		if role != ir.Statistic && !isWeight(u) {
			continue
		}
		x := make([]float32, v.Data.Len())
		switch name, layer := u.Node.Op.Name, u.Node.Op.Layer; {
		case role == ir.Gain, u.Node.Op.Inputs()[u.Index].Name == "input_var":
			fill(x, 1)
		case role == ir.Statistic, v.Data.Rank() < 2, name == "Add":
		case name == "PRelu":
			fill(x, 0.25)
		case layer == nil && u.Node.Op.Bits == nil, layer != nil && layer.Channels == nil:
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
	n, s := u.Node, t.Shape()
	if l := n.Op.Layer; l != nil && l.Channels != nil && u.Index == 1 {
		if out, _ := l.Channels(n, 1); out < len(s) {
			return max(t.Len()/max(s[out], 1), 1)
		}
	}
	if u.Index == 0 && n.Op.Name == "Gemm" && n.Int("transA") != 0 {
		return max(s[0], 1)
	}
	if u.Index == 0 {
		return max(s[len(s)-1], 1)
	}
	return max(s[len(s)-2], 1)
}
