package train

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train/arch"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/grad"
)

// TestStepBits runs whole steps of small networks: what the engine computes is what the
// operators' references do, bit for bit, without Winograd's method; with it, and with
// activations computed twice, threads and instruction sets make no difference.
func TestStepBits(t *testing.T) {
	for _, c := range []struct {
		name  string
		spec  arch.Spec
		shape []int
	}{
		{"resnet8", arch.Spec{Name: "resnet8", Width: 4, Shortcut: "conv", Input: []int{3, 8, 8}, Classes: 4}, []int{3, 8, 8}},
		{"resnet8 pad", arch.Spec{Name: "resnet8", Width: 12, Shortcut: "pad", Input: []int{3, 12, 12}, Classes: 4}, []int{3, 12, 12}},
		{"mobilenetv1", arch.Spec{Name: "mobilenetv1", Width: 0.05, Input: []int{3, 32, 32}, Classes: 4}, []int{3, 32, 32}},
		{"dscnn", arch.Spec{Name: "dscnn", Width: 0.1, Input: []int{1, 12, 8}, Classes: 4}, []int{1, 12, 8}},
		{"lenet", arch.Spec{Name: "lenet", Width: 0.5, Input: []int{1, 28, 28}, Classes: 4}, []int{1, 28, 28}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const batch = 9
			g, err := arch.Build(c.spec, ops.Table(), 1)
			if err != nil {
				t.Fatal(err)
			}
			recipe := Default()
			recipe.Batch = batch
			s, err := newStep(&passes.TrainRun{Graph: g, Params: Params(g, false)}, &recipe, [][]int{c.shape})
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			x := make([]float32, batch*c.shape[0]*c.shape[1]*c.shape[2])
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			target := make([]float32, batch*4)
			for i := range batch {
				target[4*i+r.IntN(4)] = 1
			}
			in := s.inputs(&feeding{batch: &dataset.Batch{
				In: []*tensor.Tensor{tensor.Of(x, append([]int{batch}, c.shape...)...)}, Target: tensor.Of(target, batch, 4),
			}, step: 1, steps: 10})

			all := open(s.graph)
			want, err := ir.Eval(t.Context(), all, in)
			if err != nil {
				t.Fatal(err)
			}
			run := func(g *ir.Graph, o backends.Options) []*tensor.Tensor {
				t.Helper()
				e, err := interp.New().Compile(t.Context(), g, o)
				if err != nil {
					t.Fatal(err)
				}
				defer e.Close()
				out, err := e.Run(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			same := func(what string, got, want []*tensor.Tensor) {
				t.Helper()
				for i := range want {
					if !tensor.Equal(got[i], want[i]) {
						t.Errorf("%s: %%%s differs", what, all.Outputs[i].Name)
					}
				}
			}
			same("engine", run(all, backends.Options{Threads: 3, NoWinograd: true}), want)
			fast := run(all, backends.Options{Threads: 1, Kernel: "portable"})
			same("threads", run(all, backends.Options{Threads: 2}), fast)
			_, least, err := grad.Recompute(s.graph, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			same(fmt.Sprint("in ", least, " bytes"), run(open(s.graph), backends.Options{Threads: 2}), fast)
		})
	}
}

// open returns a copy of a step graph whose updates are outputs.
func open(g *ir.Graph) *ir.Graph {
	c := g.Clone()
	r := ir.NewRewriter(c)
	for _, u := range slices.Clone(c.Updates) {
		r.Output(u.Next)
	}
	r.SetUpdates(nil)
	return c
}
