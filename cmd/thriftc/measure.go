package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"thriftc/backends"
	"thriftc/dataset"
	"thriftc/ir"
	"thriftc/ir/onnxio"
	"thriftc/ir/tensor"
	"thriftc/report"
)

// measurer fills in what a report says of two models.
type measurer struct {
	c       *cobra.Command
	eval    *dataset.Set // nil: accuracy is not measured
	threads int
	rep     *report.Report
}

// measure compares two models and the files they stand in.
func (m *measurer) measure(before, after *ir.Graph, beforeFile, afterFile string) error {
	m.rep.Before.Summary, m.rep.After.Summary = *report.Summarize(before), *report.Summarize(after)
	var errB, errA error
	m.rep.Before.Bytes, errB = onnxio.DiskBytes(beforeFile)
	m.rep.After.Bytes, errA = onnxio.DiskBytes(afterFile)
	if err := errors.Join(errB, errA); err != nil {
		return err
	}
	if err := m.times(before, after); err != nil {
		return err
	}
	if m.eval == nil {
		m.rep.NotMeasured = append(m.rep.NotMeasured, "accuracy: there was no labelled data to evaluate on")
		return nil
	}
	for _, x := range []struct {
		g *ir.Graph
		m *report.Measures
	}{{before, &m.rep.Before}, {after, &m.rep.After}} {
		acc, err := m.accuracy(x.g)
		if err != nil {
			return err
		}
		x.m.Top1, x.m.Top5, x.m.N = &acc.Top1, &acc.Top5, acc.N
	}
	return nil
}

func (m *measurer) accuracy(g *ir.Graph) (dataset.Accuracy, error) {
	src, err := m.eval.For(g)
	if err != nil {
		return dataset.Accuracy{}, err
	}
	exe, err := compile(m.c.Context(), g, m.threads)
	if err != nil {
		return dataset.Accuracy{}, err
	}
	defer exe.Close()
	bar := newProgress(m.c)
	defer bar.Clear()
	return dataset.Evaluate(m.c.Context(), &counting{Executable: exe, bar: bar, total: src.Len()}, src, evalBatch)
}

// Timing runs both models in turn, so that a machine that slows down or
// speeds up does so for both.
const (
	timingWarmup = 2
	timingRuns   = 30
	timingLimit  = 2 * time.Second // for both models together, once there are three runs
)

// times measures the median time per image of both models at batch 1.
func (m *measurer) times(before, after *ir.Graph) error {
	var exes [2]backends.Executable
	var inputs [2][]*tensor.Tensor
	var spent [2][]float64
	for i, g := range []*ir.Graph{before, after} {
		in, ok := timingInput(g)
		if !ok {
			m.rep.NotMeasured = append(m.rep.NotMeasured, "time per image: the shapes of the model's inputs are not known")
			return nil
		}
		exe, err := compile(m.c.Context(), g, m.threads)
		if err != nil {
			return err
		}
		defer exe.Close()
		exes[i], inputs[i] = exe, in
	}
	start := time.Now()
	for run := -timingWarmup; run < timingRuns && (run < 3 || time.Since(start) < timingLimit); run++ {
		for i, exe := range exes {
			t := time.Now()
			if _, err := exe.Run(m.c.Context(), inputs[i]); err != nil {
				return err
			}
			if run >= 0 {
				spent[i] = append(spent[i], float64(time.Since(t).Nanoseconds())/1e6)
			}
		}
	}
	for i, x := range []*report.Measures{&m.rep.Before, &m.rep.After} {
		slices.Sort(spent[i])
		ms := spent[i][len(spent[i])/2] / float64(batchOf(inputs[i]))
		x.MSPerImage = &ms
	}
	return nil
}

func batchOf(in []*tensor.Tensor) int {
	if len(in) > 0 && in[0].Rank() > 1 {
		return max(in[0].Shape()[0], 1)
	}
	return 1
}

// timingInput makes inputs of one sample; time does not depend on their
// values, but denormal and constant numbers are avoided.
func timingInput(g *ir.Graph) ([]*tensor.Tensor, bool) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var in []*tensor.Tensor
	for _, v := range g.Inputs {
		if v.Type.Unranked {
			return nil, false
		}
		shape := make([]int, len(v.Type.Dims))
		for i, d := range v.Type.Dims {
			if shape[i] = d.N; !d.Known() {
				if i > 0 {
					return nil, false
				}
				shape[i] = 1
			}
		}
		t, err := tensor.Alloc(v.Type.Elem, shape...)
		if err != nil {
			return nil, false
		}
		if v.Type.Elem == tensor.F32 {
			d := tensor.Data[float32](t)
			for i := range d {
				d[i] = rnd.Float32()
			}
		}
		in = append(in, t)
	}
	return in, true
}

// judge compares what was measured with what a user would expect.
func judge(r *report.Report, rec *recipe) {
	warn := func(format string, args ...any) { r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...)) }
	a, b := &r.Before, &r.After
	if b.Bytes >= a.Bytes {
		warn("the result is not smaller: %s bytes, before %s", report.Count(b.Bytes), report.Count(a.Bytes))
	}
	if a.MSPerImage != nil && *b.MSPerImage >= *a.MSPerImage {
		warn("the result is not faster on this machine and engine: %.3f ms per image, before %.3f", *b.MSPerImage, *a.MSPerImage)
	}
	for _, p := range r.Passes {
		for _, s := range p.Stats {
			if met, ok := s.Value.(bool); ok && s.Name == "budget_met" && !met {
				r.BudgetMet = false
			}
		}
	}
	if rec.MaxDrop == nil {
		return
	}
	drop, ok := r.Drop()
	switch {
	case !ok:
		r.BudgetMet = false
		warn("--max-drop needs labelled data: whether the budget is met is not known")
	case drop > *rec.MaxDrop:
		r.BudgetMet = false
		warn("top-1 drops by %.2f points on the evaluation data, the budget is %g", drop, *rec.MaxDrop)
	}
}

// printReport prints what a person wants to know after a compression.
func printReport(w io.Writer, r *report.Report, dir string) error {
	if err := r.Table().Write(w, isTerminal(w)); err != nil {
		return err
	}
	for _, s := range r.NotMeasured {
		fmt.Fprintln(w, "not measured:", s)
	}
	for _, s := range r.Warnings {
		fmt.Fprintln(w, "warning:", s)
	}
	_, err := fmt.Fprintf(w, "written to %s: model.onnx, report.json, recipe.yaml\n", dir)
	return err
}
