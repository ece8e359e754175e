package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// measurer fills in what a report says of two models.
type measurer struct {
	c       *cobra.Command
	eval    *dataset.Set // nil: accuracy is not measured
	threads int
	rep     *report.Report
}

// measure compares two models, whose files have these sizes in bytes.
func (m *measurer) measure(before, after *ir.Graph, bytesBefore, bytesAfter int64) error {
	m.rep.Before.Summary, m.rep.After.Summary = *report.Summarize(before), *report.Summarize(after)
	m.rep.Before.Bytes, m.rep.After.Bytes = bytesBefore, bytesAfter
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
	exe, err := compileAt(m.c.Context(), g, engineOptions{backends.Options{Threads: m.threads}, "int"})
	if err != nil {
		return dataset.Accuracy{}, err
	}
	defer exe.Close()
	bar := newProgress(m.c)
	defer bar.Clear()
	return dataset.Evaluate(m.c.Context(), &counting{Executable: exe, bar: bar, total: src.Len()}, src, evalBatch)
}

// How long both models are timed.
const (
	timingRuns  = 30
	timingLimit = 2 * time.Second
)

// times measures the median time per image of both models at batch 1.
func (m *measurer) times(before, after *ir.Graph) error {
	var models []*timed
	for _, g := range []*ir.Graph{before, after} {
		bound, err := withBatch(g, 1, nil)
		if err != nil {
			m.rep.NotMeasured = append(m.rep.NotMeasured, "time per image: "+err.Error())
			return nil
		}
		in, err := timingInput(bound, 0)
		if err != nil {
			return err
		}
		exe, err := compileAt(m.c.Context(), g, engineOptions{backends.Options{Threads: m.threads}, "int"})
		if err != nil {
			return err
		}
		defer exe.Close()
		models = append(models, &timed{exe: exe, in: in})
	}
	if err := (timing{runs: timingRuns, limit: timingLimit}).measure(m.c.Context(), models, func(float64) {}); err != nil {
		return err
	}
	for i, x := range []*report.Measures{&m.rep.Before, &m.rep.After} {
		ms := median(models[i].runs) / float64(batchOf(models[i].in))
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

// judge compares what was measured with what a user would expect.
func judge(r *report.Report, rec *recipe) {
	warn := func(format string, args ...any) { r.Warn(fmt.Sprintf(format, args...)) }
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
