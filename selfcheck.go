package thriftc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Bounds of the check of a written model.
const (
	checkMACs  = 50_000_000      // most of a model that is checked: the operators' own evaluation is slow
	checkLimit = 5 * time.Second // when it is given up
	wrongDB    = 10              // below it a written model is taken for wrong
	doubtfulDB = 30              // below it a warning is given
)

// selfCheck holds the written model, as the engine runs it, against the operators' own
// evaluation of the graph that the passes made, on one random sample. It fills in the report,
// and fails where the results have little in common.
func (a *artefact) selfCheck(ctx context.Context, made, written *ir.Graph) error {
	unknown := func(format string, args ...any) error {
		a.rep.NotMeasured = append(a.rep.NotMeasured, "the written model against the operators' own evaluation: "+fmt.Sprintf(format, args...))
		return nil
	}
	if macs := report.Summarize(made).MACs; macs > checkMACs {
		return unknown("%s multiply-accumulates are more than %s", report.Count(macs), report.Count(checkMACs))
	}
	random := false
	made.Walk(func(n *ir.Node) { random = random || n.Op.Random })
	if random {
		return unknown("its results are random")
	}
	bound, err := bench.WithBatch(made, 1, nil)
	if err != nil {
		return unknown("%v", err)
	}
	in, err := bench.Input(bound, 0)
	if err != nil {
		return unknown("%v", err)
	}
	limited, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	want, err := ir.Eval(limited, bound, in)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return unknown("it took more than %v", checkLimit)
	case err != nil:
		return unknown("%v", err)
	}
	check := &report.SelfCheck{}
	for _, level := range []struct {
		name   string
		engine Engine
		result *string
	}{
		{"float", Engine{Threads: a.threads, Float: true, NoWinograd: true}, &check.Float},
		{"integer", Engine{Threads: a.threads}, &check.Integer},
	} {
		exe, err := level.engine.compile(ctx, written)
		if err != nil {
			return err
		}
		got, err := exe.Run(ctx, in)
		exe.Close()
		if err != nil {
			return err
		}
		db, err := agreement(got, want)
		if err == nil && level.engine.Float && db < wrongDB {
			err = fmt.Errorf("its results on a random sample are %.1f dB from those of the graph that the passes made", db)
		}
		if err != nil {
			return fmt.Errorf("the written model is wrong: %w; this is a mistake in thriftc, please report it with the model", err)
		}
		if *level.result = "equal"; !math.IsInf(db, 1) {
			*level.result = fmt.Sprintf("%.1f dB", db)
		}
		if db < doubtfulDB {
			a.rep.Warn(fmt.Sprintf("at the %s level the written model's results on a random sample are %.1f dB from the operators' own evaluation", level.name, db))
		}
	}
	a.rep.Check = check
	return nil
}

// agreement returns the lowest signal-to-noise ratio of the floating-point outputs in dB, +Inf
// where all numbers are equal. Others, such as indices, may differ wherever rounding decides.
func agreement(got, want []*tensor.Tensor) (float64, error) {
	worst := math.Inf(1)
	for i, w := range want {
		d := Difference{Name: fmt.Sprintf("output %d", i)}
		if err := d.add(got[i], w, Tolerance{}, 0); err != nil {
			return 0, err
		}
		if d.finish(); w.Elem().IsFloat() {
			worst = min(worst, d.SQNR)
		}
	}
	return worst, nil
}
