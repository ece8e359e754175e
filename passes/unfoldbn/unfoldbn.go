// Package unfoldbn puts a batch norm behind every convolution that has none, with
// the statistics of its outputs over the calibration data and a scale and shift that undo
// it:
//
//	c = Conv(x, W, b)   →   c = Conv(x, W); y = BatchNormalization(c, √(σ²+ε), μ, μ−b, σ²)
//
// It is for training (passes.UnfoldNorms says why); foldbn undoes it. Results move by float
// rounding.
package unfoldbn

import (
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "unfoldbn",
	Doc: `Puts a batch norm behind every convolution that has none, for training; foldbn undoes it.
Its statistics are measured on data, its scale and shift keep the results.`,
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

// Run implements passes.Pass.
func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	n, err := passes.UnfoldNorms(c, g)
	c.Stat("unfolded", n)
	return err
}
