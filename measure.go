package thriftc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// evalBatch is how many samples run at once where the user does not say.
const evalBatch = 32

// accuracy measures a classifier on labelled data.
func accuracy(ctx context.Context, g *ir.Graph, set *dataset.Set, batch int, e Engine, p Progress) (Accuracy, error) {
	src, err := set.For(g)
	if err != nil {
		return Accuracy{}, err
	}
	exe, err := e.compile(ctx, g)
	if err != nil {
		return Accuracy{}, err
	}
	defer exe.Close()
	acc, err := dataset.Evaluate(ctx, &counting{Executable: exe, progress: p, total: src.Len()}, src, batch)
	return Accuracy(acc), err
}

// counting is an executable that tells about every batch.
type counting struct {
	backends.Executable
	progress    Progress // may be nil
	done, total int
}

// Run runs the batch and counts its samples.
func (e *counting) Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	out, err := e.Executable.Run(ctx, in)
	if len(in) > 0 && in[0].Rank() > 0 {
		e.done += in[0].Shape()[0]
	}
	if e.progress != nil {
		e.progress("evaluating", min(e.done, e.total), e.total)
	}
	return out, err
}

// checkLabels reports the labels that a classifier with a known number of
// classes has no output for.
func checkLabels(s *dataset.Set, g *ir.Graph) error {
	if !s.Labelled() || len(g.Outputs) == 0 {
		return nil
	}
	classes := classesOf(g.Outputs[0].Type)
	if classes == 0 {
		return nil // found when the model runs
	}
	const show = 5
	var errs []error
	n := 0
	for i := range s.Len() {
		if s.Label(i) < classes {
			continue
		}
		if n++; n <= show {
			errs = append(errs, fmt.Errorf("%s: %s: label %d, the model has %d outputs (0 to %d)", s.File(), s.Name(i), s.Label(i), classes, classes-1))
		}
	}
	if n > show {
		errs = append(errs, fmt.Errorf("and %d more", n-show))
	}
	if n == 0 {
		return nil
	}
	return &Error{Failed, errors.Join(errs...), "see label_offset and label_column in docs/data.md"}
}

// classesOf returns how many classes an output of this type has numbers for: its only dimension beside the
// batch that is larger than 1; 0 if it is not known or not so.
func classesOf(t ir.Type) int {
	classes := 0
	if t.Unranked || t.Rank() == 0 {
		return 0
	}
	for _, d := range t.Dims[1:] {
		switch {
		case !d.Known(), d.N > 1 && classes > 0:
			return 0
		case d.N > 1:
			classes = d.N
		}
	}
	return classes
}

// measurer fills in what a report says of two models.
type measurer struct {
	eval     *dataset.Set // nil: accuracy is not measured
	threads  int
	rep      *report.Report
	progress Progress
}

// measure compares two models, whose files have these sizes in bytes.
func (m *measurer) measure(ctx context.Context, before, after *ir.Graph, bytesBefore, bytesAfter int64) error {
	m.rep.Before.Summary, m.rep.After.Summary = *report.Summarize(before), *report.Summarize(after)
	m.rep.Before.Bytes, m.rep.After.Bytes = bytesBefore, bytesAfter
	if err := m.times(ctx, before, after); err != nil {
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
		acc, err := accuracy(ctx, x.g, m.eval, evalBatch, Engine{Threads: m.threads}, m.progress)
		var none *dataset.NoClasses
		if errors.As(err, &none) {
			m.rep.NotMeasured = append(m.rep.NotMeasured, "accuracy: "+none.Reason)
			return nil
		}
		if err != nil {
			return err
		}
		x.m.Top1, x.m.Top5, x.m.N = &acc.Top1, &acc.Top5, acc.N
	}
	return nil
}

// How long both models are timed.
const (
	timingRuns  = 30
	timingLimit = 2 * time.Second
)

// times measures the median time per image of both models at batch 1.
func (m *measurer) times(ctx context.Context, before, after *ir.Graph) error {
	var models []*bench.Timed
	for _, g := range []*ir.Graph{before, after} {
		bound, err := bench.WithBatch(g, 1, nil)
		if err != nil {
			m.rep.NotMeasured = append(m.rep.NotMeasured, "time per image: "+err.Error())
			return nil
		}
		in, err := bench.Input(bound, 0)
		if err != nil {
			return err
		}
		exe, err := Engine{Threads: m.threads}.compile(ctx, g)
		if err != nil {
			return err
		}
		defer exe.Close()
		models = append(models, &bench.Timed{Exe: exe, In: in})
	}
	if err := (bench.Timing{Runs: timingRuns, Limit: timingLimit}).Measure(ctx, models, func(float64) {}); err != nil {
		return err
	}
	for i, x := range []*report.Measures{&m.rep.Before, &m.rep.After} {
		ms := bench.Median(models[i].Runs) / float64(bench.BatchOf(models[i].In))
		x.MSPerImage = &ms
	}
	return nil
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
