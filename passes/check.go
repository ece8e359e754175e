package passes

import (
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// evaluate runs g on the check's inputs: on the context's engine, or on the
// reference evaluators when there is none.
func (r *runner) evaluate(g *ir.Graph) ([][]*tensor.Tensor, error) {
	run := func(in []*tensor.Tensor) ([]*tensor.Tensor, error) { return ir.Eval(r.c, g, in) }
	if r.c.Engine != nil {
		exe, err := r.c.Engine.Compile(r.c, g, backends.Options{Threads: r.c.Threads})
		if err != nil {
			return nil, err
		}
		defer exe.Close()
		run = func(in []*tensor.Tensor) ([]*tensor.Tensor, error) { return exe.Run(r.c, in) }
	}
	var outs [][]*tensor.Tensor
	for _, in := range r.o.Check {
		out, err := run(in)
		if err != nil {
			return nil, err
		}
		outs = append(outs, out)
	}
	return outs, nil
}

// check compares the results after a pass with those before it.
func (r *runner) check(s Step, st *StepResult) error {
	after, err := r.evaluate(r.g)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	worst, name := 0.0, ""
	for i := range after {
		if len(after[i]) != len(r.outs[i]) {
			return fmt.Errorf("check: %d outputs became %d", len(r.outs[i]), len(after[i]))
		}
		for j, t := range after[i] {
			d, err := difference(r.outs[i][j], t)
			if err != nil {
				return fmt.Errorf("check: output %s %w", r.g.Outputs[j].Name, err)
			}
			if d > worst || name == "" {
				worst, name = d, r.g.Outputs[j].Name
			}
		}
	}
	r.outs = after
	if worst = min(worst, math.MaxFloat64); name != "" { // JSON has no infinity
		st.Difference, st.DifferentOutput = &worst, name
	}
	tolerance := r.o.Tolerance
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	if s.Info.Kind == Exact && worst > tolerance {
		return fmt.Errorf("check: output %s moved by %.3g of its largest magnitude, an exact pass may move it by %.3g", name, worst, tolerance)
	}
	return nil
}

// difference returns the largest absolute difference of two tensors as a part
// of the largest magnitude in a: 0 when they are equal, infinite where one
// has a NaN or an infinity and the other has not.
func difference(a, b *tensor.Tensor) (float64, error) {
	if a.Elem() != b.Elem() || !slices.Equal(a.Shape(), b.Shape()) {
		return 0, fmt.Errorf("was %v and is %v", ir.TypeOf(a), ir.TypeOf(b))
	}
	if tensor.Equal(a, b) {
		return 0, nil
	}
	if a.Elem() == tensor.String {
		return math.Inf(1), nil
	}
	x, y := a.Float64s(), b.Float64s()
	largest, diff := 0.0, 0.0
	for i := range x {
		d := math.Abs(x[i] - y[i])
		if x[i] == y[i] || x[i] != x[i] && y[i] != y[i] {
			d = 0
		} else if d != d {
			d = math.Inf(1)
		}
		diff = max(diff, d)
		if m := math.Abs(x[i]); m > largest && !math.IsInf(m, 0) {
			largest = m
		}
	}
	if diff == 0 {
		return 0, nil
	}
	return diff / largest, nil
}
