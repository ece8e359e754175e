package bench

import (
	"context"
	"log/slog"
	"slices"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// Compile prepares a model to run as its file says it; quantisers and the floats
// between them are computed one by one.
func Compile(ctx context.Context, g *ir.Graph, o backends.Options) (backends.Executable, error) {
	return interp.New().Compile(ctx, g, o)
}

// CompileInteger prepares a model to run with integers where that is possible.
func CompileInteger(ctx context.Context, g *ir.Graph, o backends.Options) (backends.Executable, error) {
	g, err := Integer(ctx, g)
	if err != nil {
		return nil, err
	}
	return Compile(ctx, g, o)
}

// Integer returns a copy of g that computes with integers where it can, or
// g itself if nothing in it is quantised.
func Integer(ctx context.Context, g *ir.Graph) (*ir.Graph, error) {
	if !slices.ContainsFunc(g.Nodes, func(n *ir.Node) bool { return n.Op.Name == "thriftc.Quant" }) {
		return g, nil
	}
	steps, err := all.Table.Parse("lowerint")
	if err != nil {
		return nil, err
	}
	g = g.Clone()
	_, err = passes.Run(&passes.Context{Context: ctx, Engine: interp.New(), Log: slog.New(slog.DiscardHandler)}, g, steps, passes.RunOptions{})
	return g, err
}
