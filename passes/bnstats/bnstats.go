// Package bnstats records what batch norms know about the data that a model
// was trained on, before they are folded into convolutions: the output of
//
//	y = BatchNormalization(x, scale, B, mean, var)
//
// has mean B and standard deviation |scale| in each channel, because mean and var
// are those of x. Passes that work without data start from these moments
// (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
// Correction", arXiv 1906.04721, section 4.2.1).
package bnstats

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "bn-stats",
	Doc: `Records the moments of batch norms' outputs for passes that work without data.
They stand in the model's metadata until quantize removes them.`,
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

// scaledOn reports whether a constant scaling or shift follows, which folding
// would merge with the batch norm: then no value with its moments remains.
func scaledOn(v *ir.Value) bool {
	return slices.ContainsFunc(v.Uses(), func(u ir.Use) bool {
		n := u.Node
		return n.Op.Name == "BatchNormalization" || n.Op.Elementwise && len(n.In) == 2 && n.In[1-u.Index].HasData()
	})
}

// Run implements passes.Pass.
func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	r := ir.NewRewriter(g)
	found := 0
	for _, n := range g.Nodes {
		if n.Op.Name != "BatchNormalization" || n.ConstIn(1) == nil || n.ConstIn(2) == nil || scaledOn(n.Out[0]) {
			continue
		}
		m := passes.Moments{Mean: n.ConstIn(2).Float32s()}
		for _, s := range n.ConstIn(1).Float32s() {
			m.Std = append(m.Std, float32(math.Abs(float64(s))))
		}
		passes.SetMoments(r, n.Out[0], m)
		found++
	}
	c.Stat("batch_norms", found)
	return nil
}
