// Package bench runs models on the engine: at a level of arithmetic, with a batch
// size that they may not have been written for, and in turn against the clock.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Timed is a model whose runs are timed.
type Timed struct {
	Exe  backends.Executable
	In   []*tensor.Tensor
	Runs []float64 // milliseconds of each run, set by Timing.Measure
	out  []*tensor.Tensor
}

// Timing says how long to measure.
type Timing struct {
	Runs  int           // most runs of each model; 0: as many as there is time for
	Limit time.Duration // for all models together, after which runs stop; 0: none
}

const (
	warmupRuns = 2
	leastRuns  = 3                     // that are made whatever the limit
	blockTime  = 20 * time.Millisecond // how long a model runs before it is another's turn
)

// Measure times models in turn, so that a machine that slows down or speeds up
// does so for all of them. A turn is a block of runs, so that short runs find
// the caches as they left them. progress is told which part of the work is done.
func (t Timing) Measure(ctx context.Context, models []*Timed, progress func(done float64)) error {
	block := make([]int, len(models))
	for i, m := range models {
		for range warmupRuns {
			start := time.Now()
			out, err := m.Exe.Run(ctx, m.In)
			if err != nil {
				return err
			}
			m.out = out
			block[i] = max(1, int(blockTime/max(time.Since(start), 1)))
		}
	}
	start := time.Now()
	for {
		least, part := len(models[0].Runs), 0.0
		for _, m := range models[1:] {
			least = min(least, len(m.Runs))
		}
		if t.Runs > 0 {
			part = float64(least) / float64(t.Runs)
		}
		if t.Limit > 0 && least >= leastRuns {
			part = max(part, float64(time.Since(start))/float64(t.Limit))
		}
		progress(min(part, 1))
		if part >= 1 {
			return nil
		}
		for i, m := range models {
			n := block[i]
			if t.Runs > 0 {
				n = min(n, t.Runs-len(m.Runs))
			}
			for range n {
				start := time.Now()
				if err := m.Exe.RunInto(ctx, m.In, m.out); err != nil {
					return err
				}
				m.Runs = append(m.Runs, Milliseconds(time.Since(start)))
			}
		}
	}
}

// Milliseconds returns d as a number of milliseconds.
func Milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// Median returns the median of x, which must not be empty.
func Median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// Input makes inputs for a graph whose input shapes are known: floats are
// uniform in [0, 1), bytes and truth values any; wider integers, which
// may be positions, are 0.
func Input(g *ir.Graph, seed uint64) ([]*tensor.Tensor, error) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	var in []*tensor.Tensor
	var errs []error
	for _, v := range g.Inputs {
		shape, ok := v.Type.Static()
		if !ok {
			errs = append(errs, &SizeError{fmt.Errorf("input %q is %v: its shape is not known", v.Name, v.Type)})
			continue
		}
		t, err := tensor.Alloc(v.Type.Elem, shape...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		switch e := v.Type.Elem; {
		case e.IsFloat():
			x := make([]float32, t.Len())
			for i := range x {
				x[i] = rnd.Float32()
			}
			t = tensor.FromFloat32s(e, x, shape...)
		case e.IsInt() && e.Bits() <= 8 || e == tensor.Bool:
			lo, hi := e.Range()
			x := make([]int64, t.Len())
			for i := range x {
				x[i] = lo + rnd.Int64N(hi-lo+1)
			}
			t = tensor.FromInt64s(e, x, shape...)
		}
		in = append(in, t)
	}
	return in, errors.Join(errs...)
}

// BatchOf returns the number of samples of a batch.
func BatchOf(in []*tensor.Tensor) int {
	if len(in) > 0 && in[0].Rank() > 1 {
		return max(in[0].Shape()[0], 1)
	}
	return 1
}
