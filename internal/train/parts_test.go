package train

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train/arch"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		schedule string
		warmUp   float64
		at       map[int]float64 // of 100 steps
	}{
		{"constant", 0, map[int]float64{0: 1, 99: 1}},
		{"constant", 0.1, map[int]float64{0: 1. / 11, 4: 5. / 11, 9: 10. / 11, 10: 1, 99: 1}},
		{"cosine", 0, map[int]float64{0: 1, 25: (1 + math.Sqrt2/2) / 2, 50: 0.5, 75: (1 - math.Sqrt2/2) / 2}},
		{"cosine", 0.2, map[int]float64{0: 1. / 21, 20: 1, 60: 0.5}},
		{"step", 0, map[int]float64{0: 1, 49: 1, 50: 0.1, 74: 0.1, 75: 0.01, 99: 0.01}},
		{"one-cycle", 0.2, map[int]float64{0: 0.04 + 0.96/21, 19: 0.04 + 0.96*20/21, 20: 1, 60: 1e-4 + 0.9999/2}},
	} {
		r := Default()
		r.Schedule, r.WarmUp = c.schedule, c.warmUp
		for step, want := range c.at {
			if got := r.factor(step, 100); math.Abs(got-want) > 1e-9 {
				t.Errorf("%s, warm-up %g, step %d: %v, want %v", c.schedule, c.warmUp, step, got, want)
			}
		}
	}
	r := Default()
	r.EMA = 0.99
	for step, want := range map[int]float64{0: 0.9, 8: 0.5, 100_000: 0.01} {
		if got := r.average(step); math.Abs(got-want) > 1e-9 {
			t.Errorf("average at step %d: %v, want %v", step, got, want)
		}
	}
}

const mixed = `
graph "mixed" {
  input %x: f32[N,2,4,4]
  const %w: f32[64,2,3,3] = splat 5
  const %b: f32[64] = splat 5
  const %scale: f32[64] = splat 5
  const %bias: f32[64] = splat 5
  const %mean: f32[64] = splat 5
  const %var: f32[64] = splat 5
  const %two: f32[] = 2
  const %slope: f32[64,1,1] = splat 5
  const %v: f32[64,3] = splat 5
  const %c: f32[3] = splat 5
  %y = Conv(%x, %w, %b) {pads=[1,1,1,1]}
  %n = BatchNormalization(%y, %scale, %bias, %mean, %var)
  %m = Mul(%n, %two)
  %p = PRelu(%m, %slope)
  %pool = GlobalAveragePool(%p)
  %f = Flatten(%pool)
  %mm = MatMul(%f, %v)
  %out = Add(%mm, %c)
  output %out
}
`

func TestParams(t *testing.T) {
	g, err := ir.Parse("mixed", mixed, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range Params(g, false) {
		name := p.Value.Name
		if p.NoDecay {
			name += "-"
		}
		got = append(got, name)
	}
	if want := "w b- scale- bias- slope v c-"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
	if err := Reinitialize(g, 1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float32{"b": 0, "scale": 1, "bias": 0, "mean": 0, "var": 1, "two": 2, "slope": 0.25, "c": 0} {
		if got := g.Value(name).Data.Float32s()[0]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]float64{"w": 2. / 18, "v": 2. / 64} {
		sum := 0.0
		x := g.Value(name).Data.Float32s()
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		if got := sum / float64(len(x)); got < 0.75*want || got > 1.3*want {
			t.Errorf("%s has variance %v, want %v", name, got, want)
		}
	}
	before := g.Value("w").Data
	if err := Reinitialize(g, 2); err != nil || tensor.Equal(before, g.Value("w").Data) {
		t.Errorf("another seed draws the same weights, %v", err)
	}
	const embedding = `graph "g" { input %i: i64[N] const %table: f32[9,4] = splat 1 %y = Gather(%table, %i) output %y }`
	if g, err = ir.Parse("embedding", embedding, ops.Table()); err != nil {
		t.Fatal(err)
	}
	if err := Reinitialize(g, 1); err == nil || !strings.Contains(err.Error(), "%table of Gather") {
		t.Errorf("got %v", err)
	}
}

// TestKernels: two steps of a network whose convolutions have whole blocks of
// channels give the same bits with all kernels and numbers of threads.
func TestKernels(t *testing.T) {
	g, err := arch.Build(arch.Spec{Name: "resnet8", Width: 16, Input: []int{3, 16, 16}}, ops.Table(), 1)
	if err != nil {
		t.Fatal(err)
	}
	rec := Default()
	rec.Batch = 9
	s, err := newStep(&passes.TrainRun{Graph: g, Params: Params(g, false)}, &rec, [][]int{{3, 16, 16}})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	x, target := make([]float32, 9*3*16*16), make([]float32, 90)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for i := range 9 {
		target[10*i+i] = 1
	}
	f := &feeding{steps: 2, batch: &dataset.Batch{In: []*tensor.Tensor{tensor.Of(x, 9, 3, 16, 16)}, Target: tensor.Of(target, 9, 10)}}
	var want *backends.State
	for _, o := range []backends.Options{{Threads: 1, Kernel: "portable"}, {Threads: 1}, {Threads: 3}, {Threads: 2, Kernel: "avx2"}} {
		o.State = backends.NewState()
		exe, err := interp.New().Compile(context.Background(), s.graph, o)
		if err != nil {
			t.Logf("%s: %v", o.Kernel, err) // this CPU does not have it
			continue
		}
		for range 2 {
			if _, err := exe.Run(context.Background(), s.inputs(f)); err != nil {
				t.Fatal(err)
			}
		}
		exe.Close()
		if want == nil {
			want = o.State
			continue
		}
		for _, name := range want.Names() {
			if !tensor.Equal(want.Get(name), o.State.Get(name)) {
				t.Errorf("%+v: %s differs from the portable kernels", o, name)
			}
		}
	}
}
