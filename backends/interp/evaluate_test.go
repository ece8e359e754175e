package interp

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// A run ends soon after it is cancelled, also within a node that takes long; the
// next run waits for what the first left behind.
func TestCancelWithinEval(t *testing.T) {
	var running atomic.Int32
	const long = 300 * time.Millisecond
	ops := ir.NewRegistry(&ir.Op{Name: "Slow", In: "X", Out: "Y", Infer: sameType, Eval: func(_ *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if running.Add(1) > 1 {
			panic("two evaluations at once")
		}
		defer running.Add(-1)
		if in[0].Float32s()[0] == 0 {
			time.Sleep(long)
		}
		return in[:1], nil
	}})
	g := ir.NewGraph("g", ops)
	r := ir.NewRewriter(g)
	r.Output(r.Must1("Slow", "", nil, r.Input("x", ir.TensorType(tensor.F32, ir.Symbol("N")))))
	x, err := New().Compile(t.Context(), g, backends.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	in := []*tensor.Tensor{tensor.New(tensor.F32, 1<<15)}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	start := time.Now()
	if _, err := x.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if d := time.Since(start); d > long*2/3 {
		t.Errorf("returned %v after the start, cancelled at 20 ms", d)
	}
	again := []*tensor.Tensor{tensor.Of([]float32{1}, 1)}
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := x.Run(ctx, again); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a run while the first is still evaluating, with too little time: %v", err)
	}
	if _, err := x.Run(t.Context(), again); err != nil {
		t.Errorf("the run after the cancelled one: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	x.Run(ctx, in)
	x.Close()
	if running.Load() != 0 {
		t.Error("an evaluation goes on after Close")
	}
}

func TestMayTakeLong(t *testing.T) {
	for _, c := range []struct {
		size int
		want bool
	}{{100, false}, {1 << 15, true}, {-1, true}} {
		g := ir.NewGraph("g", testOps)
		r := ir.NewRewriter(g)
		d := ir.Unknown
		if c.size >= 0 {
			d = ir.Fixed(c.size)
		}
		r.Output(r.Must1("Inc", "", nil, r.Input("x", ir.TensorType(tensor.F32, d))))
		if got := mayTakeLong(g.Nodes[0]); got != c.want {
			t.Errorf("%d elements: %v", c.size, got)
		}
	}
}
