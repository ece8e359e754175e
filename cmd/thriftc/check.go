package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// checkJSON is what `thriftc check --json` prints.
type checkJSON struct {
	OK       bool             `json:"ok"`
	Problems []onnxio.Problem `json:"problems"` // why the model cannot be read or compressed
	Notes    []onnxio.Problem `json:"notes"`    // what was ignored or repaired
}

func newCheck() *cobra.Command {
	var recipeFile string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check MODEL [--recipe RECIPE.yaml]",
		Short: "Say whether a model can be read, and compressed by a recipe",
		Long: `Say whether a model can be read, and with --recipe whether that recipe can
compress it. Every problem is listed with the name of its node; nothing is run
and nothing is written.`,
		Example: "  thriftc check testmodels/glyphs.onnx",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var out checkJSON
			var rec *recipe
			var steps []passes.Step
			if recipeFile != "" {
				var err error
				if rec, err = readRecipe(recipeFile, train.Default()); err != nil {
					return err
				}
				if steps, err = all.Table.Parse(rec.pipeline()); err != nil {
					return usageError("%s: %w", recipeFile, err)
				}
			}
			r := onnxio.Reader{Ops: ops.Table(), Note: func(p onnxio.Problem) { out.Notes = append(out.Notes, p) }}
			g, err := r.Read(args[0])
			var unsupported *onnxio.Unsupported
			switch {
			case errors.As(err, &unsupported):
				out.Problems = unsupported.Problems
			case err != nil:
				return err
			default:
				out.Problems = checkGraph(g, rec, steps)
			}
			out.OK = len(out.Problems) == 0
			if asJSON {
				out.Problems = append([]onnxio.Problem{}, out.Problems...)
				out.Notes = append([]onnxio.Problem{}, out.Notes...)
				err = writeJSON(c.OutOrStdout(), out)
			} else {
				err = printCheck(c, args[0], g, &out)
			}
			if err == nil && !out.OK {
				err = &exitError{code: exitUnsupported, err: fmt.Errorf("%s: %d problems", args[0], len(out.Problems))}
			}
			return err
		},
	}
	c.Flags().StringVar(&recipeFile, "recipe", "", "recipe that is to compress the model")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// checkGraph lists what would stop a recipe: nodes that cannot be evaluated,
// passes that refuse the graph, nodes that the format cannot say.
func checkGraph(g *ir.Graph, rec *recipe, steps []passes.Step) []onnxio.Problem {
	var out []onnxio.Problem
	g.Walk(func(n *ir.Node) {
		if n.Op.Eval == nil {
			out = append(out, onnxio.Problem{Node: n.Label(), Reason: "operator " + n.Op.Name + " can be read but not run"})
		}
	})
	if rec == nil {
		return out
	}
	for _, s := range steps {
		if c, ok := s.Pass.(passes.Checker); ok {
			for _, p := range c.Check(g) {
				out = append(out, onnxio.Problem{Node: p.Node, Reason: s.Info.Name + ": " + p.Reason})
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

func printCheck(c *cobra.Command, model string, g *ir.Graph, out *checkJSON) error {
	w := c.OutOrStdout()
	for _, p := range out.Notes {
		fmt.Fprintln(w, "note:", p)
	}
	for _, p := range out.Problems {
		fmt.Fprintln(w, "problem:", p)
	}
	if out.OK {
		fmt.Fprintf(w, "%s: %d nodes, no problems\n", model, len(g.Nodes))
	}
	return nil
}
