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
  thriftc passes quantize
  thriftc passes ptq`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t := all.Table
			if len(args) == 1 {
				info := t.Lookup(args[0])
				if info == nil {
					return describePipeline(c.OutOrStdout(), args[0], asJSON)
				}
				if asJSON {
					return writeJSON(c.OutOrStdout(), passJSON(info))
				}
				return printPass(c.OutOrStdout(), info)
			}
			if asJSON {
				var out []passDescription
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

type optionJSON struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Default string `json:"default"`
	Help    string `json:"help"`
}

type passDescription struct {
	Name    string       `json:"name"`
	Kind    string       `json:"kind,omitempty"`
	Steps   string       `json:"steps,omitempty"` // of a pipeline
	Doc     string       `json:"doc"`
	Options []optionJSON `json:"options"`
}

func passJSON(p *passes.Info) passDescription {
	return passDescription{p.Name, p.Kind.String(), "", p.Doc, optionsJSON(p.Options())}
}

func optionsJSON(options []passes.Option) []optionJSON {
	out := []optionJSON{}
	for _, o := range options {
		out = append(out, optionJSON(o))
	}
	return out
}

// describePipeline describes a named pipeline: its steps, and the options that any of them has.
func describePipeline(w io.Writer, name string, asJSON bool) error {
	for _, p := range all.Table.Pipelines {
		switch {
		case p.Name != name:
			continue
		case asJSON:
			return writeJSON(w, passDescription{p.Name, "", p.Steps, p.Doc, optionsJSON(optionsOf(name))})
		}
		fmt.Fprintf(w, "%s (pipeline)\n\n%s\n\nSteps: %s\n\nOptions of the steps, which %s{option=value} sets:\n", p.Name, p.Doc, p.Steps, p.Name)
		return printOptions(w, optionsOf(name))
	}
	return usageError("no pass or pipeline is called %q; 'thriftc passes' lists them", name)
}

func printPass(w io.Writer, p *passes.Info) error {
	fmt.Fprintf(w, "%s (%v)\n\n%s\n", p.Name, p.Kind, strings.TrimSpace(p.Doc))
	if len(p.Options()) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nOptions:")
	return printOptions(w, p.Options())
}

func printOptions(w io.Writer, options []passes.Option) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, o := range options {
		def := o.Default
		if def == "" {
			def = "''"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", o.Name, o.Type, def, o.Help)
	}
	return tw.Flush()
}
