package train

import (
	"context"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train/arch"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// resNet20 returns a function that takes one training step of ResNet-20 with a
// batch of random pictures: forward, backward, update.
func resNet20(tb testing.TB, batch, threads int) (step func(), exe backends.Executable) {
	tb.Helper()
	g, err := arch.Build(arch.Spec{Name: "resnet20"}, ops.Table(), 1)
	if err != nil {
		tb.Fatal(err)
	}
	rec := Default()
	rec.Batch = batch
	s, err := newStep(&passes.TrainRun{Graph: g, Params: Params(g, false)}, &rec, [][]int{{3, 32, 32}})
	if err != nil {
		tb.Fatal(err)
	}
	exe, err = interp.New().Compile(context.Background(), s.graph, backends.Options{Threads: threads})
	if err != nil {
		tb.Fatal(err)
	}
	pictures, target := make([]float32, batch*3*32*32), make([]float32, batch*10)
	for i := range pictures {
		pictures[i] = float32(i*7919%1000)/500 - 1
	}
	for i := range batch {
		target[i*10+i%10] = 1
	}
	f := &feeding{steps: 1, batch: &dataset.Batch{
		In: []*tensor.Tensor{tensor.Of(pictures, batch, 3, 32, 32)}, Target: tensor.Of(target, batch, 10),
	}}
	return func() {
		if _, err := exe.Run(context.Background(), s.inputs(f)); err != nil {
			tb.Fatal(err)
		}
	}, exe
}

// BenchmarkStep is one training step of ResNet-20 with 128 pictures.
func BenchmarkStep(b *testing.B) {
	step, exe := resNet20(b, 128, 0)
	defer exe.Close()
	step()
	for b.Loop() {
		step()
	}
	b.ReportMetric(128*float64(b.N)/b.Elapsed().Seconds(), "images/s")
}
