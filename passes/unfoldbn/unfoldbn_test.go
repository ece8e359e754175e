package unfoldbn

import (
	"fmt"
	"iter"
	"testing"

	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/foldbn"
	"github.com/thriftc/thriftc/passes/internal/passtest"
)

// samples are calibration data of several batches.
type samples [][]*tensor.Tensor

func (s samples) Len() int { return len(s) }

func (s samples) Batches(int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) {
		for _, t := range s {
			if !yield(t, nil) {
				return
			}
		}
	}
}

func Test(t *testing.T) {
	passtest.Golden(t, Info, func(t *testing.T) *passes.Context {
		data := samples{
			{tensor.Of([]float32{0, 1, 2, 3, 4, 5, 6, 7}, 2, 1, 2, 2)},
			{tensor.Of([]float32{8, 9, 10, 11}, 1, 1, 2, 2)},
		}
		return &passes.Context{Context: t.Context(), Engine: interp.New(), Threads: 1, Calib: data}
	})
}

// On any graph results stay the same, also after foldbn has undone the pass.
func TestRandom(t *testing.T) {
	steps, err := (&passes.Table{Passes: []passes.Info{Info, foldbn.Info}}).Parse("unfoldbn,foldbn")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for seed := range uint64(200) {
		g := irtest.Random(t, ops.Table(), seed, 25)
		in := irtest.Inputs(g, seed)
		want, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		c := &passes.Context{Context: t.Context(), Engine: interp.New(), Threads: 1, Calib: samples{in}}
		for i := range steps {
			res, err := passes.Run(c, g, steps[i:i+1], passes.RunOptions{})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if i == 0 && res.Steps[0].Stats[0].Value != 0 {
				tried++
			}
			got, err := ir.Eval(t.Context(), g, in)
			if err != nil {
				t.Fatalf("seed %d after %s: %v", seed, steps[i], err)
			}
			for k := range want {
				irtest.Close(t, fmt.Sprintf("seed %d after %s, output %d", seed, steps[i], k), got[k], want[k], 1e-4, 1e-3)
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d graphs got batch norms", tried)
	}
}
