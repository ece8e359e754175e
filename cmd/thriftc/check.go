package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/ir/onnxio"
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
compress it: what the recipe's passes find after those that change no result.
Every problem is listed with the name of its node; the model is not run and
nothing is written.`,
		Example: "  thriftc check testmodels/glyphs.onnx",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			m, problems, err := thriftc.Problems(c.Context(), args[0], recipeFile)
			if err != nil {
				return err
			}
			w := c.OutOrStdout()
			if asJSON {
				err = writeJSON(w, checkJSON{len(problems) == 0, append([]onnxio.Problem{}, problems...), append([]onnxio.Problem{}, m.Notes...)})
			} else {
				for _, p := range m.Notes {
					fmt.Fprintln(w, "note:", p)
				}
				for _, p := range problems {
					fmt.Fprintln(w, "problem:", p)
				}
				if len(problems) == 0 {
					fmt.Fprintf(w, "%s: %d nodes, no problems\n", args[0], len(m.Graph.Nodes))
				}
			}
			if err == nil && len(problems) > 0 {
				err = &thriftc.Error{Kind: thriftc.Unsupported, Err: fmt.Errorf("%s: %d problems", args[0], len(problems))}
			}
			return err
		},
	}
	c.Flags().StringVar(&recipeFile, "recipe", "", "recipe that is to compress the model")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
