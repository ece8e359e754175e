package train

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// resumable returns the training that the tests below interrupt: everything
// that a checkpoint has to hold is in it.
func resumable(t *testing.T, dir string, log *bytes.Buffer) (*Trainer, *passes.TrainRun) {
	tr, run := trainer(t, log), job(small(t, 1), 3)
	tr.Dir, tr.Recipe.CheckpointEvery = dir, 2
	tr.Recipe.EMA = 0.9
	tr.Recipe.Augment = dataset.Augment{Crop: 1, Flip: true}
	run.Optimizer, run.Rate, run.KeepBest, run.Reestimate = "adam", 0.01, true, 2
	scalar := &passes.TrainScalar{Name: "calls"}
	run.Scalars = []*passes.TrainScalar{scalar}
	run.Every = 3
	run.Each = func(p *passes.TrainProgress) (bool, error) {
		scalar.Value++
		return false, nil
	}
	return tr, run
}

// data replaces the run's data sets by those of another, so that their files agree.
func sameData(to, from *Trainer) { to.Data, to.Val = from.Data, from.Val }

func TestResume(t *testing.T) {
	var log bytes.Buffer
	first, run := resumable(t, t.TempDir(), &log)
	whole := mustTrain(t, first, run)
	want, calls := ir.Fingerprint(run.Graph), run.Scalars[0].Value
	if calls != 6 { // before the first step, and after steps 3, 6, 9, 12, 15
		t.Fatalf("Each was called %v times", calls)
	}
	for _, stop := range []int{0, 1, 2, 5, 6, 9, 14, 15} {
		dir := t.TempDir()
		tr, run := resumable(t, dir, &log)
		sameData(tr, first)
		ctx, cancel := context.WithCancel(context.Background())
		tr.Progress = func(_ string, done, _ int) {
			if done == stop {
				cancel()
			}
		}
		if stop == 0 {
			cancel()
		}
		if _, err := tr.Train(ctx, run); !errors.Is(err, context.Canceled) {
			t.Fatalf("stop at %d: %v", stop, err)
		}
		cancel()
		tr, run = resumable(t, dir, &log)
		sameData(tr, first)
		tr.Resume = true
		out := mustTrain(t, tr, run)
		if ir.Fingerprint(run.Graph) != want || out.Steps != whole.Steps || len(out.Curve) != len(whole.Curve) || run.Scalars[0].Value != calls {
			t.Errorf("stopped at %d: another result, or %d steps, %d points, %v calls", stop, out.Steps, len(out.Curve), run.Scalars[0].Value)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) != 2 {
			t.Errorf("stopped at %d: %q, %v", stop, files, err)
		}
		// A finished training returns its result at once.
		tr, run = resumable(t, dir, &log)
		sameData(tr, first)
		tr.Resume = true
		tr.Progress = func(string, int, int) { t.Error("a finished training goes on") }
		mustTrain(t, tr, run)
		if ir.Fingerprint(run.Graph) != want {
			t.Errorf("stopped at %d: the finished result differs", stop)
		}
	}
}

// TestCheckpoints: damaged ones are passed over, those of another run refused.
func TestCheckpoints(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	first, run := resumable(t, dir, &log)
	ctx, cancel := context.WithCancel(context.Background())
	first.Progress = func(_ string, done, _ int) {
		if done == 11 {
			cancel()
		}
	}
	if _, err := first.Train(ctx, run); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	again := func(change func(tr *Trainer, run *passes.TrainRun)) (string, error) {
		tr, run := resumable(t, dir, &log)
		sameData(tr, first)
		tr.Resume = true
		log.Reset()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		tr.Point = func(string, []Point) { cancel() }
		change(tr, run)
		_, err := tr.Train(ctx, run)
		return log.String(), err
	}
	nothing := func(*Trainer, *passes.TrainRun) {}
	if _, err := again(func(tr *Trainer, _ *passes.TrainRun) { tr.Resume = false }); err == nil || !strings.Contains(err.Error(), "interrupted after step 11 of 15: go on with --resume") {
		t.Errorf("without --resume: %v", err)
	}
	if _, err := again(func(tr *Trainer, run *passes.TrainRun) { tr.Seed, run.Rate = 2, 0.02 }); err == nil || !strings.Contains(err.Error(), "rate, seed differ") && !strings.Contains(err.Error(), "model, rate, seed differ") {
		t.Errorf("another run: %v", err)
	}
	if text, err := again(func(tr *Trainer, _ *passes.TrainRun) { tr.Build = "2.0" }); !errors.Is(err, context.Canceled) || !strings.Contains(text, "another build of this program") {
		t.Errorf("another build: %v, %s", err, text)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.ckpt"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	latest, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func() []byte{
		"checksum":     func() []byte { d := bytes.Clone(latest); d[len(d)/2] ^= 1; return d },
		"too short":    func() []byte { return latest[:10] },
		"begin like":   func() []byte { return nil },
		"checksum is ": func() []byte { return latest[:len(latest)-40] },
	}
	for want, make := range damage {
		if err := os.WriteFile(files[1], make(), 0o644); err != nil {
			t.Fatal(err)
		}
		text, err := again(nothing)
		if !errors.Is(err, context.Canceled) || !strings.Contains(text, want) || !strings.Contains(text, "going on after step 10 of 15") {
			t.Errorf("%s: %v, %s", want, err, text)
		}
	}
	if err := os.WriteFile(files[0], nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := again(nothing); err == nil || strings.Count(err.Error(), "damaged") != 2 {
		t.Errorf("nothing but damaged ones: %v", err)
	}
	// A folder that goes away while training runs does not end it.
	tr, run := resumable(t, filepath.Join(t.TempDir(), "x"), &log)
	log.Reset()
	tr.Progress = func(_ string, done, _ int) {
		if done == 5 {
			os.RemoveAll(tr.Dir)
		}
	}
	if _, err := tr.Train(context.Background(), run); err != nil || !strings.Contains(log.String(), "the checkpoint cannot be written") || !strings.Contains(log.String(), "training goes on") || !strings.Contains(log.String(), "the result is there all the same") {
		t.Errorf("%v, %s", err, log.String())
	}
	// A file where the folder should be.
	tr, run = resumable(t, files[0], &log)
	if _, err := tr.Train(context.Background(), run); err == nil {
		t.Error("checkpoints were written into a file")
	}
}

func FuzzCheckpoint(f *testing.F) {
	var b bytes.Buffer
	if err := writeCheckpoint(&b, &header{Tensors: []tensorSpec{}}, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(checkpointMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, tensors, err := readCheckpoint(data); err == nil && len(h.Tensors) != len(tensors) {
			t.Error("tensors are missing")
		}
	})
}
