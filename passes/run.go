package passes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// RunOptions say what Run does besides running the passes and verifying after each.
type RunOptions struct {
	// DumpDir, if not empty, is a folder that gets the graph before the first
	// pass and after every one that changes it: NN-pass.tir, which can be
	// read back, and NN-pass.txt, without the weights.
	DumpDir string

	// Check, if not nil, gives inputs on which the graph is run before and
	// after every pass. The largest difference goes into the result; for an
	// Exact pass it must not exceed Tolerance.
	Check [][]*tensor.Tensor
	// Tolerance bounds, for each output, the largest difference as a part of the
	// largest magnitude in that output; 0 means DefaultTolerance.
	Tolerance float64

	// StartAfter and StopAfter, if not empty, choose a part of the pipeline: the
	// number of a step, counted from 1, or the name of a pass, whose first
	// occurrence is meant.
	StartAfter, StopAfter string

	// ReproDir, if not empty, is a folder that gets, when a pass fails, the
	// graph before it (reproducer.tir) and the command that runs the pass on it
	// (reproducer.txt). Both are made only then.
	ReproDir string
}

// DefaultTolerance is how far an Exact pass may move an output by float
// rounding, as a part of the largest magnitude in that output.
const DefaultTolerance = 1e-4

// Result is what a run of a pipeline did, for report.json.
type Result struct {
	Pipeline string       `json:"pipeline"`
	Seconds  float64      `json:"seconds"`
	Steps    []StepResult `json:"steps"`
}

// StepResult is what one pass did.
type StepResult struct {
	Pass    string  `json:"pass"` // with its options
	Kind    string  `json:"kind"`
	Changed bool    `json:"changed"`
	Seconds float64 `json:"seconds"`
	Nodes   int     `json:"nodes"` // afterwards, with those of subgraphs
	Stats   []Stat  `json:"stats,omitempty"`
	// Difference is the largest that the check saw, as a part of the largest
	// magnitude in its output; absent without a check.
	Difference *float64 `json:"difference,omitempty"`
	// DifferentOutput names the output with that difference.
	DifferentOutput string `json:"different_output,omitempty"`
}

// PassError says which pass of a pipeline failed.
type PassError struct {
	Number int    // counted from 1
	Pass   string // with its options
	Err    error
	Repro  string // the command that repeats it; empty when nothing was written
}

func (e *PassError) Error() string { return fmt.Sprintf("pass %d %s: %v", e.Number, e.Pass, e.Err) }

func (e *PassError) Unwrap() error { return e.Err }

// Run runs steps on g, in order and in place; after each it verifies the graph
// and brings its types up to date. The first failure ends the run: an
// error or panic of the pass, a graph that does not verify, an Exact pass that
// changes results, or cancellation. Then g is in an unspecified state, the
// result tells of the steps before, and the error is a *PassError unless the
// options are wrong.
func Run(c *Context, g *ir.Graph, steps []Step, o RunOptions) (*Result, error) {
	first, last, err := o.part(steps)
	if err != nil {
		return nil, err
	}
	if c.Context == nil {
		c.Context = context.Background()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &runner{c: c, g: g, o: o, res: &Result{Pipeline: FormatPipeline(steps[first:last])}}
	start := time.Now()
	err = r.run(steps[first:last], first+1)
	r.res.Seconds = time.Since(start).Seconds()
	return r.res, err
}

// part returns the range of steps that StartAfter and StopAfter leave.
func (o *RunOptions) part(steps []Step) (first, last int, err error) {
	find := func(what, s string) int {
		if n, e := strconv.Atoi(s); e == nil && n >= 1 && n <= len(steps) {
			return n
		}
		i := slices.IndexFunc(steps, func(st Step) bool { return st.Info.Name == s })
		if i < 0 {
			err = errors.Join(err, fmt.Errorf("%s %s: the pipeline has no such step", what, s))
		}
		return i + 1
	}
	last = len(steps)
	if o.StartAfter != "" {
		first = find("start after", o.StartAfter)
	}
	if o.StopAfter != "" {
		last = find("stop after", o.StopAfter)
	}
	if err == nil && last < first {
		err = fmt.Errorf("start after %s, stop after %s: nothing is between", o.StartAfter, o.StopAfter)
	}
	return first, last, err
}

type runner struct {
	c    *Context
	g    *ir.Graph
	o    RunOptions
	res  *Result
	outs [][]*tensor.Tensor // results of the check's inputs so far
}

func (r *runner) run(steps []Step, number int) error {
	if err := r.dump(number-1, "input"); err != nil {
		return err
	}
	if r.o.Check != nil {
		var err error
		if r.outs, err = r.evaluate(r.g); err != nil {
			return fmt.Errorf("check, before the first pass: %w", err)
		}
	}
	var changes ir.Changes
	changes.Since(r.g)
	for i, s := range steps {
		var before *ir.Graph
		if r.o.ReproDir != "" {
			before = r.g.Clone()
		}
		st, err := r.step(s)
		if err != nil {
			e := &PassError{Number: number + i, Pass: s.String(), Err: err}
			if before != nil && r.c.Err() == nil {
				if e.Repro, err = r.reproduce(before, s, e); err != nil {
					e.Err = errors.Join(e.Err, fmt.Errorf("no reproducer: %w", err))
				}
			}
			return e
		}
		st.Changed = changes.Since(r.g)
		r.res.Steps = append(r.res.Steps, st)
		if st.Changed {
			if err := r.dump(number+i, s.Info.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// step runs one pass and everything that follows it.
func (r *runner) step(s Step) (StepResult, error) {
	st := StepResult{Pass: s.String(), Kind: s.Info.Kind.String()}
	if err := r.c.Err(); err != nil {
		return st, err
	}
	r.c.stats = nil
	start := time.Now()
	err := protect(func() error { return s.Pass.Run(r.c, r.g) })
	st.Seconds = time.Since(start).Seconds()
	st.Stats = r.c.stats
	if err != nil {
		return st, err
	}
	if err := ir.Verify(r.g); err != nil {
		return st, fmt.Errorf("the graph is not right afterwards: %w", err)
	}
	for _, n := range r.g.Nodes { // unlike ir.Infer, this keeps what only the file knew
		if err := n.Infer(); err != nil {
			return st, fmt.Errorf("the graph is not right afterwards: %w", err)
		}
	}
	r.g.Walk(func(*ir.Node) { st.Nodes++ })
	if r.o.Check != nil {
		err = r.check(s, &st)
	}
	return st, err
}

// protect turns a panic into an error that shows where it happened.
func protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
