package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// tolerance says which differences from a reference count as equal:
// |difference| ≤ abs + rel·|reference|.
type tolerance struct{ abs, rel float64 }

// valueDiff is how one value of two models, or of a model and its reference,
// differs over all samples.
type valueDiff struct {
	Name       string  `json:"name"`
	MaxAbs     float64 `json:"max_abs"`        // largest |a − b|
	At         string  `json:"at"`             // where that is: sample and index
	A          float64 `json:"a"`              // the two values there
	B          float64 `json:"b"`              //
	SQNR       *Float  `json:"sqnr_db"`        // signal to difference, decibels; absent when equal
	Outside    int     `json:"outside"`        // elements outside the tolerance
	Elements   int     `json:"elements"`       //
	Agreement  float64 `json:"top1_agreement"` // fraction of rows with the same largest element
	rows, same int
	sig, noise float64
}

// Float marshals infinities, which JSON lacks, as strings.
type Float float64

// MarshalJSON writes the number, or "inf".
func (f Float) MarshalJSON() ([]byte, error) {
	if math.IsInf(float64(f), 0) || math.IsNaN(float64(f)) {
		return []byte(strconv.Quote(fmt.Sprint(float64(f)))), nil
	}
	return []byte(strconv.FormatFloat(float64(f), 'g', 6, 64)), nil
}

// add compares a with the reference b; first is the number of its first sample.
func (d *valueDiff) add(a, b *tensor.Tensor, tol tolerance, first int) error {
	if !slices.Equal(a.Shape(), b.Shape()) {
		return fmt.Errorf("%s: shape %v, expected %v", d.Name, a.Shape(), b.Shape())
	}
	x, y := a.Float64s(), b.Float64s()
	perSample := len(x)
	if a.Rank() > 1 && a.Shape()[0] > 0 {
		perSample /= a.Shape()[0]
	}
	for i := range x {
		diff := math.Abs(x[i] - y[i])
		if x[i] == y[i] || math.IsNaN(x[i]) && math.IsNaN(y[i]) {
			diff = 0
		} else if math.IsNaN(diff) {
			diff = math.Inf(1)
		}
		if !(diff <= tol.abs+tol.rel*math.Abs(y[i])) {
			d.Outside++
		}
		if diff > d.MaxAbs || d.At == "" {
			d.MaxAbs, d.A, d.B = diff, x[i], y[i]
			d.At = fmt.Sprintf("sample %d, element %d", first+i/max(perSample, 1), i%max(perSample, 1))
		}
		d.sig += y[i] * y[i]
		d.noise += diff * diff
	}
	d.Elements += len(x)
	if perSample > 1 {
		for i := 0; i+perSample <= len(x); i += perSample {
			d.rows++
			if argmax(x[i:i+perSample]) == argmax(y[i:i+perSample]) {
				d.same++
			}
		}
	}
	return nil
}

func argmax(x []float64) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

func (d *valueDiff) finish() {
	if d.noise > 0 {
		f := Float(10 * math.Log10(d.sig/d.noise))
		d.SQNR = &f
	}
	if d.Agreement = 1; d.rows > 0 {
		d.Agreement = float64(d.same) / float64(d.rows)
	}
}

type compareOptions struct {
	pairs, data string
	tol         tolerance
	threads     int
	samples     int
	asJSON      bool
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
			case len(args) == 1 && o.pairs != "" && o.data == "":
				return comparePairs(c, args[0], &o)
			case len(args) == 2 && o.data != "" && o.pairs == "":
				return compareModels(c, args[0], args[1], &o)
			}
			return usageError("give one model with --pairs, or two models with --data")
		},
	}
	f := c.Flags()
	f.StringVar(&o.pairs, "pairs", "", "folder with input_k.pb and output_k.pb")
	f.StringVar(&o.data, "data", "", "data description (YAML)")
	f.Float64Var(&o.tol.abs, "atol", 1e-4, "absolute tolerance")
	f.Float64Var(&o.tol.rel, "rtol", 1e-3, "tolerance relative to the reference")
	f.IntVar(&o.samples, "samples", 256, "with --data: how many samples, 0 for all")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	addThreads(c, &o.threads)
	return c
}

func comparePairs(c *cobra.Command, model string, o *compareOptions) error {
	g, err := readModel(model, c.ErrOrStderr())
	if err != nil {
		return err
	}
	dirs, err := dataset.PairDirs(o.pairs)
	if err != nil {
		return err
	}
	exe, err := compile(c.Context(), g, backends.Options{Threads: o.threads})
	if err != nil {
		return err
	}
	defer exe.Close()
	diffs := make([]*valueDiff, len(g.Outputs))
	tols := make([]outputTolerance, len(g.Outputs))
	for i, v := range g.Outputs {
		diffs[i], tols[i] = &valueDiff{Name: v.Name}, toleranceOf(v, o.tol)
	}
	for k, dir := range dirs {
		pair, err := dataset.ReadPair(dir)
		if err != nil {
			return err
		}
		if len(pair.In) != len(g.Inputs) || len(pair.Out) != len(g.Outputs) {
			return fmt.Errorf("%s holds %d inputs and %d outputs, the model has %d and %d", dir, len(pair.In), len(pair.Out), len(g.Inputs), len(g.Outputs))
		}
		got, err := exe.Run(c.Context(), pair.In)
		if err != nil {
			return err
		}
		for i := range got {
			if err := diffs[i].add(got[i], pair.Out[i], o.tol, k); err != nil {
				return &exitError{code: exitDiffer, err: err}
			}
			if tols[i].quantised {
				diffs[i].Outside = tols[i].outside(got[i], pair.Out[i], diffs[i].Outside)
			}
		}
	}
	return reportDiffs(c, diffs, len(diffs), o)
}

func compareModels(c *cobra.Command, pathA, pathB string, o *compareOptions) error {
	a, err := readModel(pathA, c.ErrOrStderr())
	if err != nil {
		return err
	}
	b, err := readModel(pathB, c.ErrOrStderr())
	if err != nil {
		return err
	}
	if len(a.Outputs) != len(b.Outputs) {
		return &exitError{code: exitDiffer, err: fmt.Errorf("%s has %d outputs, %s has %d", pathA, len(a.Outputs), pathB, len(b.Outputs))}
	}
	set, err := dataset.Open(o.data)
	if err != nil {
		return err
	}
	if o.samples > 0 {
		set = set.Take(o.samples)
	}
	names := commonValues(a, b)
	names = slices.DeleteFunc(names, func(n string) bool { return a.Value(n).IsOutput() || b.Value(n).IsOutput() })
	inner := len(names)
	ga, gb := withOutputs(a, names), withOutputs(b, names)
	diffs := make([]*valueDiff, inner+len(a.Outputs))
	for i := range diffs {
		if diffs[i] = new(valueDiff); i < inner {
			diffs[i].Name = names[i]
		} else {
			diffs[i].Name = a.Outputs[i-inner].Name
		}
	}
	if err := runBoth(c.Context(), ga, gb, set, o, diffs); err != nil {
		return err
	}
	return reportDiffs(c, diffs, len(a.Outputs), o)
}

// withOutputs returns a copy of g with the named values as additional first outputs.
func withOutputs(g *ir.Graph, names []string) *ir.Graph {
	c := g.Clone()
	var outs []*ir.Value
	for _, n := range names {
		outs = append(outs, c.Value(n))
	}
	ir.NewRewriter(c).SetOutputs(append(outs, c.Outputs...)...)
	return c
}

func runBoth(ctx context.Context, a, b *ir.Graph, set *dataset.Set, o *compareOptions, diffs []*valueDiff) error {
	srcA, err := set.For(a)
	if err != nil {
		return err
	}
	srcB, err := set.For(b)
	if err != nil {
		return err
	}
	exeA, err := compile(ctx, a, backends.Options{Threads: o.threads})
	if err != nil {
		return err
	}
	defer exeA.Close()
	exeB, err := compile(ctx, b, backends.Options{Threads: o.threads})
	if err != nil {
		return err
	}
	defer exeB.Close()
	next, stop := iterPull(srcB.Batches(1))
	defer stop()
	done := 0
	for inA, err := range srcA.Batches(1) {
		if err != nil {
			return err
		}
		inB, err := next()
		if err != nil {
			return err
		}
		outA, err := exeA.Run(ctx, inA)
		if err != nil {
			return err
		}
		outB, err := exeB.Run(ctx, inB)
		if err != nil {
			return err
		}
		for i := range diffs {
			if err := diffs[i].add(outB[i], outA[i], o.tol, done); err != nil {
				return &exitError{code: exitDiffer, err: err}
			}
		}
		done++
	}
	return nil
}

// reportDiffs prints the comparison; the last outputs entries decide the exit code.
func reportDiffs(c *cobra.Command, diffs []*valueDiff, outputs int, o *compareOptions) error {
	outside, worst := 0, diffs[len(diffs)-outputs]
	for i, d := range diffs {
		d.finish()
		if i >= len(diffs)-outputs {
			outside += d.Outside
			if d.MaxAbs > worst.MaxAbs {
				worst = d
			}
		}
	}
	if o.asJSON {
		if err := writeJSON(c.OutOrStdout(), struct {
			Equal  bool         `json:"equal"`
			Values []*valueDiff `json:"values"`
		}{outside == 0, diffs}); err != nil {
			return err
		}
	} else {
		printDiffs(c.OutOrStdout(), diffs)
	}
	if outside > 0 {
		return &exitError{exitDiffer, fmt.Errorf("results differ: output %q by up to %.4g at %s: %v, expected %v (%d elements outside |difference| ≤ %g + %g·|reference|)",
			worst.Name, worst.MaxAbs, worst.At, worst.A, worst.B, outside, o.tol.abs, o.tol.rel), ""}
	}
	return nil
}

func printDiffs(w io.Writer, diffs []*valueDiff) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "VALUE\tLARGEST DIFFERENCE\tSQNR dB\tSAME TOP-1\tOUTSIDE\tAT")
	for _, d := range diffs {
		sqnr := "equal"
		if d.SQNR != nil {
			sqnr = fmt.Sprintf("%.1f", float64(*d.SQNR))
		}
		fmt.Fprintf(tw, "%s\t%.4g\t%s\t%.2f %%\t%d of %d\t%s\n", d.Name, d.MaxAbs, sqnr, 100*d.Agreement, d.Outside, d.Elements, d.At)
	}
	tw.Flush()
}
