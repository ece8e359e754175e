package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train/arch"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// stripes makes a set of n pictures of 8×8: noise with bright rows (class 0),
// bright columns (class 1) or neither (class 2).
func stripes(t *testing.T, n int, seed uint64) *dataset.Set {
	t.Helper()
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(seed, 1))
	pixels := make([]byte, 0, n*64)
	labels := "index\n"
	for i := range n {
		class, phase := i%3, rng.IntN(2)
		for y := range 8 {
			for x := range 8 {
				v := rng.IntN(100)
				if class == 0 && y%2 == phase || class == 1 && x%2 == phase {
					v += 100
				}
				pixels = append(pixels, byte(v))
			}
		}
		labels += fmt.Sprintln(class)
	}
	return describe(t, dir, pixels, labels)
}

func describe(t *testing.T, dir string, pixels []byte, labels string) *dataset.Set {
	t.Helper()
	for name, data := range map[string][]byte{
		"x.raw": pixels, "labels.csv": []byte(labels),
		"d.yaml": []byte("kind: raw\nelem: uint8\nshape: [1, 8, 8]\nfiles: [x.raw]\nlabels: labels.csv\npreprocess: {scale: 0.01, mean: 0.7}\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := dataset.Open(filepath.Join(dir, "d.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func small(t *testing.T, seed uint64) *ir.Graph {
	t.Helper()
	g, err := arch.Build(arch.Spec{Name: "resnet8", Width: 4, Input: []int{1, 8, 8}, Classes: 3}, ops.Table(), seed)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func trainer(t *testing.T, log *bytes.Buffer) *Trainer {
	t.Helper()
	rec := Default()
	rec.Batch = 12
	return &Trainer{
		Engine: interp.New(), Seed: 1, Recipe: rec, Data: stripes(t, 60, 1), Val: stripes(t, 30, 2),
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}
}

func job(g *ir.Graph, epochs float64) *passes.TrainRun {
	return &passes.TrainRun{Name: "test", Graph: g, Params: Params(g, false), Epochs: epochs, Rate: 0.1, WarmUp: 0.2}
}

// Statistics are estimated again on what the weights were trained on: augmented batches.
func TestReestimateAugmented(t *testing.T) {
	variance := func(crop, reestimate int) []float32 {
		tr, run := trainer(t, &bytes.Buffer{}), job(small(t, 1), 10)
		tr.Recipe.Augment.Crop = crop
		run.Rate, run.Reestimate = 1e-9, reestimate
		mustTrain(t, tr, run)
		for _, n := range run.Graph.Nodes {
			if n.Op.Name == "BatchNormalization" {
				return n.In[4].Data.Float32s()
			}
		}
		return nil
	}
	running, augmented, plain := variance(4, 0), variance(4, 20), variance(0, 20)
	for i, v := range augmented {
		if d := math.Abs(float64(v - running[i])); d > math.Abs(float64(plain[i]-running[i]))/2 {
			t.Errorf("channel %d: variance %g on augmented batches, %g while training, %g on plain batches", i, v, running[i], plain[i])
		}
	}
}

func mustTrain(t *testing.T, tr *Trainer, run *passes.TrainRun) *passes.Trained {
	t.Helper()
	out, err := tr.Train(context.Background(), run)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLearns trains with every optimiser, schedule and loss until the classes
// are told apart on data that was not seen.
func TestLearns(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(r *Recipe, run *passes.TrainRun)
	}{
		{"nesterov", func(*Recipe, *passes.TrainRun) {}},
		{"sgd, cosine, clipped, averaged", func(r *Recipe, run *passes.TrainRun) {
			run.Optimizer, run.Schedule = "sgd", "cosine"
			r.Clip, r.EMA = 1, 0.8
		}},
		{"adam, step, mse", func(r *Recipe, run *passes.TrainRun) {
			run.Optimizer, run.Schedule, run.Rate, r.Loss = "adam", "step", 0.01, "mse"
		}},
		{"adamw, constant, smoothing, re-estimated", func(r *Recipe, run *passes.TrainRun) {
			run.Optimizer, run.Schedule, run.Rate, run.WeightDecay = "adamw", "constant", 0.01, 0.01
			r.LabelSmoothing = 0.1
			run.Reestimate = 5
		}},
		{"augmented", func(r *Recipe, run *passes.TrainRun) {
			r.Augment = dataset.Augment{Crop: 1, Flip: true, Mixup: 0.2}
		}},
		{"best kept", func(r *Recipe, run *passes.TrainRun) { run.KeepBest = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			tr, run := trainer(t, &log), job(small(t, 1), 10)
			c.set(&tr.Recipe, run)
			out := mustTrain(t, tr, run)
			if out.Steps != 50 || len(out.Curve) != 10 {
				t.Fatalf("%d steps, %d points", out.Steps, len(out.Curve))
			}
			best := 0.0
			for _, p := range out.Curve {
				best = max(best, *p.Top1)
			}
			if first, last := out.Curve[0].Loss, out.Curve[9].Loss; last > 0.7*first {
				t.Errorf("loss %g, at first %g", last, first)
			}
			if got := accuracy(t, tr, run.Graph); got < 75 || run.KeepBest && got != best {
				t.Errorf("%.1f %% on new data, best %.1f %%, curve %v", got, best, out.Curve)
			}
			if err := ir.Verify(run.Graph); err != nil {
				t.Error(err)
			}
		})
	}
}

// accuracy returns the accuracy in percent on the held-out data of what stands in g.
func accuracy(t *testing.T, tr *Trainer, g *ir.Graph) float64 {
	t.Helper()
	r := &run{tr: tr, t: &passes.TrainRun{Graph: g}}
	plain, err := r.inference(nil)
	if err != nil {
		t.Fatal(err)
	}
	src, err := tr.Val.For(plain)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := tr.compile(context.Background(), plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	acc, err := dataset.Evaluate(context.Background(), exe, src, 7)
	if err != nil {
		t.Fatal(err)
	}
	return 100 * acc.Top1
}

// TestArchitectures takes three steps with each on the same pictures: the loss falls.
func TestArchitectures(t *testing.T) {
	for _, spec := range []arch.Spec{
		{Name: "resnet8", Width: 4}, {Name: "resnet8", Width: 4, Shortcut: "pad"}, {Name: "resnet8-tiny"},
		{Name: "wrn-10-0.5"}, {Name: "mobilenetv1", Width: 0.1}, {Name: "dscnn", Width: 0.2}, {Name: "lenet", Width: 0.5},
	} {
		spec.Input, spec.Classes = []int{2, 20, 16}, 3
		g, err := arch.Build(spec, ops.Table(), 1)
		if err != nil {
			t.Fatal(err)
		}
		rec := Default()
		rec.Batch, rec.Schedule, rec.WarmUp, rec.Rate = 6, "constant", 0, 0.01
		s, err := newStep(&passes.TrainRun{Graph: g, Params: Params(g, false)}, &rec, [][]int{spec.Input})
		if err != nil {
			t.Errorf("%s: %v", spec.Name, err)
			continue
		}
		exe, err := interp.New().Compile(context.Background(), s.graph, backends.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x, target := make([]float32, 6*2*20*16), make([]float32, 18)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		for i := range 6 {
			target[3*i+i%3] = 1
		}
		f := &feeding{steps: 10, batch: &dataset.Batch{In: []*tensor.Tensor{tensor.Of(x, 6, 2, 20, 16)}, Target: tensor.Of(target, 6, 3)}}
		var losses []float32
		for range 3 {
			out, err := exe.Run(context.Background(), s.inputs(f))
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, out[0].Float32s()[0])
		}
		if !(losses[2] < losses[0]) || losses[0] > 10 {
			t.Errorf("%s %s: losses %v", spec.Name, spec.Shortcut, losses)
		}
		exe.Close()
	}
}

// TestThreads: the result does not depend on the number of threads, and does on the seed.
func TestThreads(t *testing.T) {
	var log bytes.Buffer
	print := func(threads int, seed uint64) [32]byte {
		tr, run := trainer(t, &log), job(small(t, 1), 1.4)
		tr.Threads, tr.Seed = threads, seed
		tr.Recipe.Augment = dataset.Augment{Crop: 1, Cutout: 2}
		mustTrain(t, tr, run)
		return ir.Fingerprint(run.Graph)
	}
	if print(1, 1) != print(3, 1) {
		t.Error("another number of threads gives other weights")
	}
	if print(1, 1) == print(1, 2) {
		t.Error("another seed gives the same weights")
	}
}

// TestTime: a time gives a number of epochs that gives the same result again,
// and that a run keeps when it is resumed.
func TestTime(t *testing.T) {
	var log bytes.Buffer
	tr, run := trainer(t, &log), job(small(t, 1), 0)
	tr.Dir, run.Time = t.TempDir(), 600*time.Millisecond
	out := mustTrain(t, tr, run)
	if out.Steps < 1 || math.Abs(10*out.Epochs-math.Round(10*out.Epochs)) > 1e-9 || !strings.Contains(log.String(), fmt.Sprintf("training %g epochs", out.Epochs)) {
		t.Errorf("%d steps, %v epochs; %s", out.Steps, out.Epochs, log.String())
	}
	again := job(small(t, 1), out.Epochs)
	mustTrain(t, trainer(t, &log), again)
	if ir.Fingerprint(again.Graph) != ir.Fingerprint(run.Graph) {
		t.Errorf("%g epochs give another result than the time did", out.Epochs)
	}
	tr.Resume = true
	run = job(small(t, 1), 0)
	run.Time = 100 * time.Millisecond // what is left of a budget differs
	if resumed := mustTrain(t, tr, run); resumed.Steps != out.Steps || ir.Fingerprint(again.Graph) != ir.Fingerprint(run.Graph) {
		t.Errorf("resumed with %d steps, had %d", resumed.Steps, out.Steps)
	}
}

// TestEarlyStop: training ends when evaluations do not get better.
func TestEarlyStop(t *testing.T) {
	var log bytes.Buffer
	tr, run := trainer(t, &log), job(small(t, 1), 50)
	tr.Recipe.EarlyStop = 3
	run.KeepBest = true
	out := mustTrain(t, tr, run)
	n := len(out.Curve)
	if n < 4 || n == 50 || out.Steps != 5*n {
		t.Fatalf("stopped after %d evaluations and %d steps", n, out.Steps)
	}
	best := 0
	for i, p := range out.Curve {
		if *p.Top1 > *out.Curve[best].Top1 {
			best = i
		}
	}
	if best != n-4 {
		t.Errorf("stopped after evaluation %d, the best was number %d", n, best+1)
	}
	if got := accuracy(t, tr, run.Graph); got != *out.Curve[best].Top1 {
		t.Errorf("%.2f %% is kept, the best was %.2f %%", got, *out.Curve[best].Top1)
	}
}

// TestMemory: computing results again changes none of them.
func TestMemory(t *testing.T) {
	var log bytes.Buffer
	print := func(memory int64) [32]byte {
		tr, run := trainer(t, &log), job(small(t, 1), 1)
		tr.Memory = memory
		mustTrain(t, tr, run)
		return ir.Fingerprint(run.Graph)
	}
	if print(0) != print(1) {
		t.Error("less memory gives other weights")
	}
	if !strings.Contains(log.String(), "less is not possible") {
		t.Errorf("nothing is said of a budget that is not met: %s", log.String())
	}
}

// TestTeacher: imitating a teacher alone, without labels, teaches what it knows.
func TestTeacher(t *testing.T) {
	var log bytes.Buffer
	tr, teach := trainer(t, &log), job(small(t, 1), 8)
	mustTrain(t, tr, teach)
	student := job(small(t, 2), 10)
	student.Teacher, student.TeacherWeight = teach.Graph, 1
	mustTrain(t, tr, student)
	if got := accuracy(t, tr, student.Graph); got < 80 {
		t.Errorf("%.1f %%", got)
	}
	// The divergence of a network from itself is 0.
	self := job(teach.Graph.Clone(), 1)
	self.Rate = 1e-9
	self.Teacher, self.TeacherWeight, self.FrozenStatistics = teach.Graph, 1, true
	if loss := mustTrain(t, tr, self).Curve[0].Loss; loss > 1e-5 || loss < -1e-5 {
		t.Errorf("the loss of imitating oneself is %g", loss)
	}
	if !tensor.Equal(self.Graph.Value("conv1.bn.running_var").Data, teach.Graph.Value("conv1.bn.running_var").Data) {
		t.Error("frozen statistics have changed")
	}
}

// TestFixedBatch: a model that is written for one sample at a time is trained
// and evaluated in batches, and stays what it is.
func TestFixedBatch(t *testing.T) {
	const text = `
graph "one" {
  input %x: f32[1,1,8,8]
  const %shape: i64[2] = [1, 64]
  const %w: f32[64,3] = splat 0.01
  const %b: f32[3] = splat 0
  %flat = Reshape(%x, %shape)
  %y = Gemm(%flat, %w, %b)
  output %y
}
`
	g, err := ir.Parse("one", text, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	tr, run := trainer(t, &log), job(g, 2)
	out := mustTrain(t, tr, run)
	if last := out.Curve[1]; last.Top1 == nil || last.Loss > 1.2 {
		t.Errorf("%+v", last)
	}
	if x := g.Inputs[0].Type; x.Dims[0].N != 1 || g.Value("shape").Data.Int64s()[0] != 1 {
		t.Errorf("the input is %v afterwards", x)
	}
}

// TestHooks: Each is told what happens and may stop, scalars feed the graph,
// penalties pull, limits hold, and the graph's own updates are carried out.
func TestHooks(t *testing.T) {
	var log bytes.Buffer
	tr, g := trainer(t, &log), small(t, 1)
	r := ir.NewRewriter(g)
	gamma := r.Input("gamma", ir.TensorType(tensor.F32))
	pulled := r.Param("pulled", tensor.Of([]float32{1}, 1))
	square := r.Must1("Mul", "square", nil, pulled, pulled)
	penalty := r.Must1("Mul", "penalty", nil, r.Must1("ReduceSum", "sum", ir.MakeAttrs("keepdims", 0), square), gamma)
	counter := r.Param("counter", tensor.Scalar[float32](0))
	one := r.Must1("Add", "count", nil, counter, r.Float("one", 1))
	r.SetUpdates([]ir.Update{{Param: counter, Next: one}})
	r.Output(penalty)
	run := job(g, 5)
	weights := len(run.Params)
	run.Params = append(run.Params, passes.TrainParam{Value: pulled, Rate: 0.05, Constant: true, Optimizer: "adam", Min: 0.5, Max: 1})
	run.Penalty = penalty
	scalar := &passes.TrainScalar{Name: "gamma", Input: gamma, Value: 1}
	run.Scalars = []*passes.TrainScalar{scalar}
	run.Every = 4
	var steps []int
	run.Each = func(p *passes.TrainProgress) (bool, error) {
		steps = append(steps, p.Step)
		if got := p.Data(counter).Float32s()[0]; got != float32(p.Step) {
			t.Errorf("step %d: the counter is %v", p.Step, got)
		}
		if p.Step == 0 && p.Data(pulled).Float32s()[0] != 1 {
			t.Error("the parameter has changed before the first step")
		}
		scalar.Value = 2
		return p.Step == 16, nil
	}
	out := mustTrain(t, tr, run)
	if want := []int{0, 4, 8, 12, 16}; !slices.Equal(steps, want) || out.Steps != 16 {
		t.Errorf("called after steps %v, stopped after %d", steps, out.Steps)
	}
	if got := pulled.Data.Float32s()[0]; got != 0.5 || weights == 0 {
		t.Errorf("the penalty pulled to %v, the limit is 0.5", got)
	}
	if got := counter.Data.Float32s()[0]; got != 16 {
		t.Errorf("the counter is %v", got)
	}
	fail := errors.New("no more")
	run.Each = func(*passes.TrainProgress) (bool, error) { return false, fail }
	if _, err := tr.Train(context.Background(), run); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
}

// TestRefused: what is wrong is said in the user's words.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(tr *Trainer, run *passes.TrainRun)
		want string
	}{
		{"batch", func(tr *Trainer, _ *passes.TrainRun) { tr.Recipe.Batch = 61 }, "a batch of 61 samples is larger than the training data, which has 60"},
		{"rate", func(tr *Trainer, run *passes.TrainRun) { run.Rate, run.Schedule = 1000, "constant" }, "the learning rate 1000 is probably too large"},
		{"settings", func(tr *Trainer, _ *passes.TrainRun) { tr.Recipe.Loss, tr.Recipe.Batch = "hinge", 0 }, "loss is \"hinge\"; it can be cross-entropy, mse\nbatch is 0"},
		{"length", func(_ *Trainer, run *passes.TrainRun) { run.Epochs = 0 }, "neither a number of epochs nor a time"},
		{"short", func(_ *Trainer, run *passes.TrainRun) { run.Epochs = 0.01 }, "0.01 epochs are less than one step"},
		{"held-out", func(tr *Trainer, run *passes.TrainRun) { tr.Val, run.KeepBest = nil, true }, "held-out data, of which there is none"},
		{"time", func(_ *Trainer, run *passes.TrainRun) { run.Epochs, run.Time = 0, 1 }, "the time of 1ns is too short"},
		{"labels", func(tr *Trainer, run *passes.TrainRun) {
			tr.Data = describe(t, t.TempDir(), make([]byte, 3*64), "index\n0\n3\n4\n")
		}, "record 1: label 3, the model has 3 outputs (0 to 2)"},
		{"one class", func(tr *Trainer, run *passes.TrainRun) {
			tr.Data = describe(t, t.TempDir(), make([]byte, 12*64), "index\n"+strings.Repeat("1\n", 12))
		}, "all 12 training samples are of one class"},
		{"operator", func(_ *Trainer, run *passes.TrainRun) {
			r := ir.NewRewriter(run.Graph)
			v := run.Graph.Outputs[0]
			n, err := r.Add("Round", "rounding", nil, []*ir.Value{v})
			if err != nil {
				t.Fatal(err)
			}
			r.SetOutputs(n.Out[0])
		}, "rounding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			tr, run := trainer(t, &log), job(small(t, 1), 5)
			c.set(tr, run)
			if _, err := tr.Train(context.Background(), run); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	var log bytes.Buffer
	tr, run := trainer(t, &log), job(small(t, 1), 1)
	tr.Data = describe(t, t.TempDir(), make([]byte, 12*64), "index\n"+strings.Repeat("1\n0\n", 6))
	mustTrain(t, tr, run)
	if !strings.Contains(log.String(), "1 of the model's 3 classes have no training sample: 2") {
		t.Errorf("no warning of an empty class: %s", log.String())
	}
}
