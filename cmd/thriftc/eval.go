package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
)

func newEval() *cobra.Command {
	var o thriftc.EvaluateOptions
	var engine engineOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "eval MODEL --data DESC.yaml",
		Short: "Measure a classifier's accuracy on labelled data",
		Long: `Measure how often a classifier's largest output, and one of its five largest, is
the label. docs/data.md describes the data description.`,
		Example: "  thriftc eval testmodels/glyphs.onnx --data testmodels/glyphs/desc.yaml --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.Data == "" {
				return usageError("--data is needed")
			}
			if o.Batch < 1 {
				return usageError("--batch %d: at least 1 is needed", o.Batch)
			}
			m, err := openModel(c, args[0])
			if err != nil {
				return err
			}
			bar := newProgress(c)
			defer bar.Clear()
			o.Engine, o.Progress = engine.engine(), bar.Update
			start := time.Now()
			acc, err := thriftc.Evaluate(c.Context(), m, o)
			bar.Clear()
			if err != nil {
				return err
			}
			out := struct {
				thriftc.Accuracy
				Model   string  `json:"model"`
				Data    string  `json:"data"`
				Seconds float64 `json:"wall_seconds"`
			}{acc, args[0], o.Data, time.Since(start).Seconds()}
			if asJSON {
				return writeJSON(c.OutOrStdout(), out)
			}
			fmt.Fprintf(c.OutOrStdout(), "top-1 %.2f %%   top-5 %.2f %%   %d samples   %.1f s\n", 100*acc.Top1, 100*acc.Top5, acc.N, out.Seconds)
			return nil
		},
	}
	c.Flags().StringVar(&o.Data, "data", "", "data description (YAML)")
	c.Flags().IntVar(&o.Batch, "batch", 32, "samples to run at once")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addEngine(c, &engine)
	return c
}
