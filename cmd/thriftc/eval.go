package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/internal/dataset"
)

func newEval() *cobra.Command {
	var data string
	var batch int
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
			if data == "" {
				return usageError("--data is needed")
			}
			if batch < 1 {
				return usageError("--batch %d: at least 1 is needed", batch)
			}
			set, err := dataset.Open(data)
			if err != nil {
				return err
			}
			g, err := readModel(args[0], c.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := checkLabels(set, g); err != nil {
				return err
			}
			src, err := set.For(g)
			if err != nil {
				return err
			}
			exe, err := compileAt(c.Context(), g, engine)
			if err != nil {
				return err
			}
			defer exe.Close()
			bar := newProgress(c)
			defer bar.Clear()
			start := time.Now()
			acc, err := dataset.Evaluate(c.Context(), &counting{Executable: exe, bar: bar, total: src.Len()}, src, batch)
			bar.Clear()
			if err != nil {
				return err
			}
			out := struct {
				dataset.Accuracy
				Model   string  `json:"model"`
				Data    string  `json:"data"`
				Seconds float64 `json:"wall_seconds"`
			}{acc, args[0], data, time.Since(start).Seconds()}
			if asJSON {
				return writeJSON(c.OutOrStdout(), out)
			}
			fmt.Fprintf(c.OutOrStdout(), "top-1 %.2f %%   top-5 %.2f %%   %d samples   %.1f s\n", 100*acc.Top1, 100*acc.Top5, acc.N, out.Seconds)
			return nil
		},
	}
	c.Flags().StringVar(&data, "data", "", "data description (YAML)")
	c.Flags().IntVar(&batch, "batch", evalBatch, "samples to run at once")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addEngine(c, &engine)
	return c
}
