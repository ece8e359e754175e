package thriftc

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// Problems lists why a model cannot be read or run, or, with a recipe file, not be compressed
// by that; recipe may be "". Of the recipe's passes those run that need no data and change no
// result, because what follows them is the graph that matters. The model's Graph is nil where it cannot be read.
func Problems(ctx context.Context, file, recipeFile string) (*Model, []onnxio.Problem, error) {
	var rec *recipe
	var steps []passes.Step
	if recipeFile != "" {
		var err error
		if rec, err = readRecipe(recipeFile, train.Default()); err != nil {
			return nil, nil, err
		}
		if steps, err = all.Table.Parse(rec.pipeline()); err != nil {
			return nil, nil, usageError("%s: %w", recipeFile, err)
		}
	}
	m, err := Open(file)
	var unsupported *onnxio.Unsupported
	switch {
	case errors.As(err, &unsupported):
		return m, unsupported.Problems, nil
	case err != nil:
		return m, nil, err
	}
	return m, checkGraph(ctx, m.Graph, rec, steps), nil
}

// checkGraph lists what would stop a recipe: nodes that cannot be evaluated,
// passes that refuse the graph, nodes that the format cannot say.
func checkGraph(ctx context.Context, g *ir.Graph, rec *recipe, steps []passes.Step) []onnxio.Problem {
	var out []onnxio.Problem
	g.Walk(func(n *ir.Node) {
		if n.Op.Eval == nil {
			out = append(out, onnxio.Problem{Node: n.Label(), Reason: "operator " + n.Op.Name + " can be read but not run"})
		}
	})
	if rec == nil {
		return out
	}
	g = g.Clone()
	pc := &passes.Context{Context: ctx, Seed: rec.Seed, Engine: interp.New(), Log: slog.New(slog.DiscardHandler)}
	exact := true // so far
	for _, s := range steps {
		if c, ok := s.Pass.(passes.Checker); ok {
			exact = false
			for _, p := range c.Check(g) {
				out = append(out, onnxio.Problem{Node: p.Node, Reason: s.Info.Name + ": " + p.Reason})
			}
		} else if exact && s.Info.Kind == passes.Exact {
			if _, err := passes.Run(pc, g, []passes.Step{s}, passes.RunOptions{}); err != nil {
				return append(out, onnxio.Problem{Reason: s.Info.Name + ": " + err.Error()})
			}
		}
	}
	format := onnx.QDQ
	if rec.Format != "" {
		format = onnx.Format(rec.Format)
	}
	if !slices.Contains(onnx.Formats, format) {
		return append(out, onnxio.Problem{Reason: "format " + rec.Format + " is not known; there are " + formatNames()})
	}
	e := onnx.Emitter{Format: format, Options: onnxio.WriteOptions{Opset: rec.Opset}}
	for _, p := range e.Check(g, nil) {
		out = append(out, onnxio.Problem{Node: p.Node, Reason: "format " + string(format) + ": " + p.Reason})
	}
	return out
}
