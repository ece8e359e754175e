package bitlength

import (
	"context"
	"iter"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func TestGolden(t *testing.T) {
	passtest.Golden(t, Info, func(t *testing.T) *passes.Context {
		return &passes.Context{Context: t.Context(), Engine: reference{}, Calib: ramp{}, Trainer: settled{}}
	})
}

// ramp is one batch of images of 1×4×4 that holds the numbers −1 to 0.875.
type ramp struct{}

func (ramp) Len() int { return 1 }

func (ramp) Batches(int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) {
		x := make([]float32, 16)
		for i := range x {
			x[i] = float32(i-8) / 8
		}
		yield([]*tensor.Tensor{tensor.Of(x, 1, 1, 4, 4)}, nil)
	}
}

// settled is a Trainer that changes nothing but bit lengths: the first becomes
// 2.03, each further one 0.75 more.
type settled struct{}

func (settled) Train(_ context.Context, run *passes.TrainRun) (*passes.Trained, error) {
	r := ir.NewRewriter(run.Graph)
	n := float32(2.03)
	for _, p := range run.Params {
		if p.Max == 8 {
			x := make([]float32, p.Value.Data.Len())
			for i := range x {
				x[i] = min(n, 8)
				n += 0.75
			}
			r.SetData(p.Value, tensor.Of(x, p.Value.Data.Shape()...))
		}
	}
	return &passes.Trained{Steps: 1}, ir.Verify(run.Graph)
}

// What is trained is the model with quantisers, and what has a gradient in it.
func TestTrainingGraph(t *testing.T) {
	c, _ := toyContext(t, 0)
	o := New()
	o.TargetBits = 4
	m, err := o.insert(c, toyNet(t), false)
	if err != nil {
		t.Fatal(err)
	}
	if again := irtest.Parse(t, ir.Format(m.t), m.t.Ops); ir.Format(again) != ir.Format(m.t) {
		t.Error("the graph for training does not survive being printed and read")
	}
	sum, counted := 0.0, 0
	for _, q := range m.quants {
		if q.learned {
			sum, counted = sum+q.lambda, counted+1
		}
	}
	// Three weights and two activations are learned; the image, the sum's
	// operands and no others have a fixed width.
	if counted != 5 || len(m.quants) != 8 || !nearly(sum, 1, 1e-12) {
		t.Errorf("%d of %d bit lengths are learned, with λ summing to %v", counted, len(m.quants), sum)
	}
}
