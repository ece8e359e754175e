package main

import (
	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/internal/dataset"
)

func newRun() *cobra.Command {
	var input, output string
	var engine engineOptions
	c := &cobra.Command{
		Use:   "run MODEL --input IN.npz --output OUT.npz",
		Short: "Run a model on arrays",
		Long: `Run a model on the arrays of an npz file, named as the model's inputs, and write
its outputs, named as the model's outputs, to another. The only array for the
only input may have any name.`,
		Example: "  thriftc run model.onnx --input in.npz --output out.npz",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if input == "" || output == "" {
				return usageError("both --input and --output are needed")
			}
			m, err := openModel(c, args[0])
			if err != nil {
				return err
			}
			if err := m.CheckOutput("--output", output, input); err != nil {
				return err
			}
			in, err := inputsFromNPZ(input, m.Graph)
			if err != nil {
				return err
			}
			exe, err := m.Compile(c.Context(), engine.engine())
			if err != nil {
				return err
			}
			defer exe.Close()
			out, err := exe.Run(c.Context(), in)
			if err != nil {
				return err
			}
			named := make([]dataset.Named, len(out))
			for i, t := range out {
				named[i] = dataset.Named{Name: m.Graph.Outputs[i].Name, Tensor: t}
			}
			return dataset.WriteNPZ(output, named)
		},
	}
	c.Flags().StringVar(&input, "input", "", "npz file with the inputs")
	c.Flags().StringVar(&output, "output", "", "npz file to write")
	addEngine(c, &engine)
	return c
}
