package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

type opRow struct {
	Name    string   `json:"name"`
	Since   int      `json:"since,omitempty"` // opset of the form in the graph
	Form    string   `json:"form"`            // "native", or "import" for forms that reading replaces
	Inputs  string   `json:"inputs"`
	Outputs string   `json:"outputs"`
	Attrs   []string `json:"attributes"`
	Grad    bool     `json:"gradient"`
	NoGrad  string   `json:"no_gradient,omitempty"` // why it has none
	Doc     string   `json:"doc"`
}

func newOps() *cobra.Command {
	var asJSON, noGradient bool
	c := &cobra.Command{
		Use:   "ops [NAME]",
		Short: "List the operators that can be read, or describe one",
		Example: `  thriftc ops
  thriftc ops Conv
  thriftc ops --no-gradient`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var rows []opRow
			for _, o := range ops.Table().Ops() {
				if noGradient && (o.Grad != nil || o.Infer == nil) {
					continue
				}
				if len(args) == 0 || strings.EqualFold(o.Name, args[0]) {
					rows = append(rows, describeOp(o))
				}
			}
			switch {
			case len(rows) == 0:
				return usageError("no operator is called %q; 'thriftc ops' lists them", args[0])
			case asJSON:
				return writeJSON(c.OutOrStdout(), rows)
			case len(args) == 1:
				printOp(c.OutOrStdout(), ops.Table().Lookup(rows[0].Name))
				return nil
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', 0)
			if noGradient {
				fmt.Fprintln(w, "OPERATOR\tIT HAS NO GRADIENT:")
				for _, r := range rows {
					fmt.Fprintf(w, "%s\t%s\n", r.Name, r.NoGrad)
				}
				return w.Flush()
			}
			fmt.Fprintln(w, "OPERATOR\tFORM\tGRADIENT\tSUMMARY")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Name, r.Form, map[bool]string{true: "yes", false: "-"}[r.Grad], firstSentence(r.Doc))
			}
			fmt.Fprintf(w, "%d operators\t\t\t\n", len(rows))
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&noGradient, "no-gradient", false, "list the operators without a gradient, and why they have none")
	return c
}

func describeOp(o *ir.Op) opRow {
	r := opRow{Name: o.Name, Since: o.Since, Form: "native", Inputs: o.In, Outputs: o.Out, Attrs: []string{}, Grad: o.Grad != nil, NoGrad: o.NoGrad, Doc: o.Doc}
	if o.Infer == nil {
		r.Form = "import"
	}
	for _, a := range o.Attrs {
		r.Attrs = append(r.Attrs, a.Name)
	}
	return r
}

func printOp(w io.Writer, o *ir.Op) {
	fmt.Fprintf(w, "%s(%s) -> %s\n\n%s\n", o.Name, o.In, o.Out, o.Doc)
	if o.NoGrad != "" {
		fmt.Fprintf(w, "\nIt has no gradient: %s.\n", o.NoGrad)
	}
	if len(o.Attrs) == 0 {
		return
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, a := range o.Attrs {
		def := ""
		if a.Required {
			def = "required"
		} else if a.Default != nil {
			def = fmt.Sprintf("default %v", a.Default)
		}
		fmt.Fprintf(tw, "  %s\t%v\t%s\t%s\n", a.Name, a.Kind, def, a.Doc)
	}
	tw.Flush()
}

func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i >= 0 {
		s = s[:i+1]
	}
	return strings.Join(strings.Fields(s), " ")
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
