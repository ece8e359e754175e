package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
)

type compareOptions struct {
	lib    thriftc.CompareOptions
	pairs  string
	asJSON bool
}

func newCompare() *cobra.Command {
	var o compareOptions
	c := &cobra.Command{
		Use:   "compare MODEL --pairs DIR | compare A B --data DESC.yaml",
		Short: "Compare a model with reference outputs, or two models on data",
		Long: `With --pairs: run the model on DIR/input_k.pb and compare with DIR/output_k.pb
(DIR may also hold folders test_data_set_N of such pairs). A quantised model may differ
by one output step.

With two models and --data: run both on the same samples and compare every
value whose name and shape both have, in the order of A, then the outputs.

Exits with 5 when an output lies outside the tolerance.`,
		Example: `  thriftc compare model.onnx --pairs test_data_set_0
  thriftc compare model.onnx out/model.onnx --data testmodels/glyphs/desc.yaml`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && o.pairs != "" && o.lib.Data == "":
				return o.pairsOf(c, args[0])
			case len(args) == 2 && o.lib.Data != "" && o.pairs == "":
				return o.models(c, args[0], args[1])
			}
			return usageError("give one model with --pairs, or two models with --data")
		},
	}
	f := c.Flags()
	f.StringVar(&o.pairs, "pairs", "", "folder with input_k.pb and output_k.pb")
	f.StringVar(&o.lib.Data, "data", "", "data description (YAML)")
	f.Float64Var(&o.lib.Tolerance.Abs, "atol", 1e-4, "absolute tolerance")
	f.Float64Var(&o.lib.Tolerance.Rel, "rtol", 1e-3, "tolerance relative to the reference")
	f.IntVar(&o.lib.Samples, "samples", 256, "with --data: how many samples, 0 for all")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	addThreads(c, &o.lib.Threads)
	return c
}

func (o *compareOptions) pairsOf(c *cobra.Command, model string) error {
	m, err := openModel(c, model)
	if err != nil {
		return err
	}
	diff, err := thriftc.ComparePairs(c.Context(), m, o.pairs, o.lib)
	return o.print(c.OutOrStdout(), diff, err)
}

func (o *compareOptions) models(c *cobra.Command, a, b string) error {
	ma, err := openModel(c, a)
	if err != nil {
		return err
	}
	mb, err := openModel(c, b)
	if err != nil {
		return err
	}
	diff, err := thriftc.Compare(c.Context(), ma, mb, o.lib)
	return o.print(c.OutOrStdout(), diff, err)
}

// print prints a comparison, where there is one, and returns its error.
func (o *compareOptions) print(w io.Writer, c *thriftc.Comparison, failure error) error {
	if c == nil {
		return failure
	}
	if !o.asJSON {
		printDiffs(w, c.Values)
		return failure
	}
	out := struct {
		Equal  bool             `json:"equal"`
		Values []differenceJSON `json:"values"`
	}{Equal: c.Equal}
	for _, d := range c.Values {
		v := differenceJSON{d.Name, Float(d.MaxAbs), d.At, Float(d.A), Float(d.B), nil, d.Outside, d.Elements, d.Agreement}
		if !math.IsInf(d.SQNR, 1) {
			v.SQNR = new(Float(d.SQNR))
		}
		out.Values = append(out.Values, v)
	}
	if err := writeJSON(w, out); err != nil {
		return err
	}
	return failure
}

// differenceJSON is a thriftc.Difference as --json prints it.
type differenceJSON struct {
	Name      string  `json:"name"`
	MaxAbs    Float   `json:"max_abs"`
	At        string  `json:"at"`
	A         Float   `json:"a"`
	B         Float   `json:"b"`
	SQNR      *Float  `json:"sqnr_db"` // null when equal
	Outside   int     `json:"outside"`
	Elements  int     `json:"elements"`
	Agreement float64 `json:"top1_agreement"`
}

// Float marshals infinities, which JSON lacks, as strings.
type Float float64

// MarshalJSON writes the number, or "+Inf".
func (f Float) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(f), 0) || math.IsNaN(float64(f)) {
		return []byte(strconv.Quote(fmt.Sprint(float64(f)))), nil
	}
	return []byte(strconv.FormatFloat(float64(f), 'g', -1, 64)), nil
}

func printDiffs(w io.Writer, diffs []thriftc.Difference) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "VALUE\tLARGEST DIFFERENCE\tSQNR dB\tSAME TOP-1\tOUTSIDE\tAT")
	for _, d := range diffs {
		sqnr := "equal"
		if !math.IsInf(d.SQNR, 1) {
			sqnr = fmt.Sprintf("%.1f", d.SQNR)
		}
		fmt.Fprintf(tw, "%s\t%.4g\t%s\t%.2f %%\t%d of %d\t%s\n", d.Name, d.MaxAbs, sqnr, 100*d.Agreement, d.Outside, d.Elements, d.At)
	}
	tw.Flush()
}
