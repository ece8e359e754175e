package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

func newPasses() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "passes [NAME]",
		Short: "List the passes and pipelines, or describe one",
		Example: `  thriftc passes
  thriftc passes quantize`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t := all.Table
			if len(args) == 1 {
				info := t.Lookup(args[0])
				if info == nil {
					return usageError("no pass is called %q; 'thriftc passes' lists them", args[0])
				}
				if asJSON {
					return writeJSON(c.OutOrStdout(), passJSON(info))
				}
				printPass(c.OutOrStdout(), info)
				return nil
			}
			if asJSON {
				var out []any
				for i := range t.Passes {
					out = append(out, passJSON(&t.Passes[i]))
				}
				return writeJSON(c.OutOrStdout(), out)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "PASS\tKIND\tSUMMARY")
			for _, p := range t.Passes {
				fmt.Fprintf(w, "%s\t%v\t%s\n", p.Name, p.Kind, firstSentence(p.Doc))
			}
			fmt.Fprintln(w, "\nPIPELINE\tSTEPS\tSUMMARY")
			for _, p := range t.Pipelines {
				fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, p.Steps, firstSentence(p.Doc))
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func passJSON(p *passes.Info) any {
	type option struct {
		Name    string `json:"name"`
		Type    string `json:"type"`
		Default string `json:"default"`
		Help    string `json:"help"`
	}
	opts := []option{}
	for _, o := range p.Options() {
		opts = append(opts, option(o))
	}
	return struct {
		Name    string   `json:"name"`
		Kind    string   `json:"kind"`
		Doc     string   `json:"doc"`
		Options []option `json:"options"`
	}{p.Name, p.Kind.String(), p.Doc, opts}
}

func printPass(w io.Writer, p *passes.Info) {
	fmt.Fprintf(w, "%s (%v)\n\n%s\n", p.Name, p.Kind, strings.TrimSpace(p.Doc))
	opts := p.Options()
	if len(opts) == 0 {
		return
	}
	fmt.Fprintln(w, "\nOptions:")
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, o := range opts {
		def := o.Default
		if def == "" {
			def = "''"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", o.Name, o.Type, def, o.Help)
	}
	tw.Flush()
}
