package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTrainKilled kills a training at ten random moments: each time --resume
// ends with the bytes of a run that was left alone.
func TestTrainKilled(t *testing.T) {
	dir := t.TempDir()
	models, err := filepath.Abs("../../testmodels")
	if err != nil {
		t.Fatal(err)
	}
	recipe := filepath.Join(dir, "recipe.yaml")
	if err := os.WriteFile(recipe, []byte("thriftc: 1\ntrain: {epochs: 1, batch: 100, rate: 0.02, ema: 0.9, checkpoint_every: 2, keep_best: true, reestimate: 2}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	command := func(out string, args ...string) *exec.Cmd {
		args = append([]string{"train", "arch:lenet{width=0.2}", "--train-data", filepath.Join(models, "glyphs", "desc.yaml"), "--recipe", recipe, "-o", filepath.Join(dir, out)}, args...)
		c := exec.Command("thriftc", args...)
		c.Stderr = &bytes.Buffer{}
		return c
	}
	finish := func(c *exec.Cmd) []byte {
		t.Helper()
		if err := c.Run(); err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, c.Stderr)
		}
		model, err := os.ReadFile(filepath.Join(c.Args[len(c.Args)-1], "model.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		return model
	}
	began := time.Now()
	want := finish(command("whole"))
	took := time.Since(began)
	rng := rand.New(rand.NewPCG(uint64(began.UnixNano()), 0))
	killed := 0
	for i := range 10 {
		out := string(rune('a' + i))
		c := command(out)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(rng.Int64N(int64(took)))
		time.Sleep(after)
		if err := c.Process.Kill(); err == nil {
			killed++
		} else if !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = c.Wait() // says that it was killed
		c = command(out)
		c.Args = append(c.Args[:len(c.Args)-2:len(c.Args)-2], "--resume", "-o", filepath.Join(dir, out))
		if got := finish(c); !bytes.Equal(got, want) {
			t.Errorf("killed after %v of %v: another model", after, took)
		}
		left, err := filepath.Glob(filepath.Join(dir, out, "checkpoints", "*"))
		if err != nil || len(left) > 2 {
			t.Errorf("killed after %v: %q are left, %v", after, left, err)
		}
	}
	// Ctrl-C ends it cleanly.
	began = time.Now()
	c := command("interrupted")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for first := filepath.Join(dir, "interrupted", "checkpoints", "train-000000000.ckpt"); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(first); err == nil {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("the training does not begin")
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); c.ProcessState.ExitCode() != exitCancelled || !strings.Contains(fmt.Sprint(c.Stderr), "thriftc: cancelled") || !strings.Contains(fmt.Sprint(c.Stderr), "--resume goes on from there") {
		t.Errorf("interrupted: %v\n%s", err, c.Stderr)
	}
	c = command("interrupted")
	c.Args = append(c.Args[:len(c.Args)-2:len(c.Args)-2], "--resume", "-o", filepath.Join(dir, "interrupted"))
	if got := finish(c); !bytes.Equal(got, want) {
		t.Error("interrupted and resumed: another model")
	}
	if killed < 5 {
		t.Errorf("only %d of 10 runs were killed before their end", killed)
	}
}
