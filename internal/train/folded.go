package train

import (
	"context"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/foldbn"
)

// statisticsSamples measure the statistics of batch norms that Unfold adds.
const statisticsSamples = 300

// Unfold gives a model whose batch norms were folded into its convolutions new ones for
// the training, and reports whether it did; Fold removes them afterwards. A model with a batch
// norm left is as its author wants it.
func (tr *Trainer) Unfold(ctx context.Context, g *ir.Graph) (bool, error) {
	if tr.Recipe.KeepFolded {
		return false, nil
	}
	for _, n := range g.Nodes {
		if n.Op.Name == "BatchNormalization" {
			return false, nil
		}
	}
	src, err := tr.Data.Shuffle(tr.Seed).Take(statisticsSamples).For(g)
	if err != nil {
		return false, err
	}
	n, err := passes.UnfoldNorms(&passes.Context{Context: ctx, Engine: tr.Engine, Threads: tr.Threads, Calib: src, Log: tr.Log}, g)
	return n > 0, err
}

// Fold undoes Unfold.
func (tr *Trainer) Fold(ctx context.Context, g *ir.Graph) error {
	return foldbn.Info.New().Run(&passes.Context{Context: ctx, Log: tr.Log}, g)
}

// relativeRates gives weights of layers learning rates for their scale.
func relativeRates(params []passes.TrainParam, rate float64) {
	for i, p := range params {
		if l, _ := passes.LayerOf(p.Value.Uses()[0].Node); l != nil && l.W == p.Value.Uses()[0].Index {
			params[i].Rate = rate * passes.RelativeRate(p.Value.Data, l.Rows)
		}
	}
}
