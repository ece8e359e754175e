package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
)

func newInspect() *cobra.Command {
	var asJSON, all bool
	c := &cobra.Command{
		Use:   "inspect MODEL",
		Short: "Show a model's layers: shapes, parameters, MACs, bits, bytes",
		Long: `Show a model layer by layer. MACs are those of one image: symbolic dimensions
count as 1. Bytes are at the bit width of the weights; --json also gives the
bytes on disk and in memory.`,
		Example: "  thriftc inspect testmodels/glyphs.onnx",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			m, err := openModel(c, args[0])
			if err != nil {
				return err
			}
			g := m.Graph
			s := report.Summarize(g)
			s.Bytes = m.Bytes
			w := c.OutOrStdout()
			if asJSON {
				return writeJSON(w, struct {
					Model    string      `json:"model"`
					Inputs   []portJSON  `json:"inputs"`
					Outputs  []portJSON  `json:"outputs"`
					Metadata [][2]string `json:"metadata"`
					*report.Summary
				}{args[0], portsJSON(g.Inputs), portsJSON(g.Outputs), metaJSON(g), s})
			}
			fmt.Fprintf(w, "inputs   %s\noutputs  ", inputNames(g))
			for i, v := range g.Outputs {
				if i > 0 {
					fmt.Fprint(w, ", ")
				}
				fmt.Fprintf(w, "%s: %v", report.Printable(v.Name), v.Type)
			}
			fmt.Fprint(w, "\n\n")
			if err := s.Table(all).Write(w, isTerminal(w)); err != nil {
				return err
			}
			if s.Bytes > 0 {
				fmt.Fprintf(w, "\n%s bytes on disk\n", report.Count(s.Bytes))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&all, "all", false, "also nodes without parameters and arithmetic")
	return c
}

type portJSON struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

func portsJSON(vs []*ir.Value) []portJSON {
	out := []portJSON{}
	for _, v := range vs {
		out = append(out, portJSON{v.Name, v.Type.String()})
	}
	return out
}

func metaJSON(g *ir.Graph) [][2]string {
	out := [][2]string{}
	for _, p := range g.Meta {
		out = append(out, [2]string{p.Key, p.Value})
	}
	return out
}
