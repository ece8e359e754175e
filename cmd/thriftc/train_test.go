package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
)

// TestKilled kills a training and a learning of bit lengths at ten random moments: each
// time --resume ends with the bytes of a run that was left alone, and what stands in the folder
// meanwhile is a whole model.
func TestKilled(t *testing.T) {
	models, err := filepath.Abs("../../testmodels")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(models, "glyphs", "desc.yaml")
	recipe := filepath.Join(t.TempDir(), "recipe.yaml")
	if err := os.WriteFile(recipe, []byte("thriftc: 1\ntrain: {epochs: 1, batch: 100, rate: 0.02, ema: 0.9, checkpoint_every: 2, keep_best: true, reestimate: 2}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []killable{
		{"train", "train-000000000.ckpt", []string{"train", "arch:lenet{width=0.2}", "--train-data", data, "--recipe", recipe}},
		{"bitlength", "learn-000000000.ckpt", []string{"compress", filepath.Join(models, "glyphs.onnx"), "--train-data", data, "--passes", "bitlength{target-bits=4,epochs=2}"}},
	} {
		t.Run(c.name, c.test)
	}
}

// killable is a command that is interrupted.
type killable struct {
	name, first string // and its first checkpoint
	args        []string
}

// command is the command that writes to a folder.
func (k killable) command(out string, more ...string) *exec.Cmd {
	c := exec.Command("thriftc", slices.Concat(k.args, more, []string{"-o", out})...)
	c.Stderr = &bytes.Buffer{}
	return c
}

// finish runs a command to its end and returns the model.
func (k killable) finish(t *testing.T, c *exec.Cmd) []byte {
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

func (k killable) test(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	want := k.finish(t, k.command(filepath.Join(dir, "whole")))
	took := time.Since(began)
	rng := rand.New(rand.NewPCG(uint64(began.UnixNano()), 0))
	killed := 0
	for i := range 10 {
		out := filepath.Join(dir, fmt.Sprint(i))
		c := k.command(out)
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
		if best := filepath.Join(out, "model.onnx"); fileExists(best) {
			if _, err := onnxio.Read(best, ops.Table()); err != nil {
				t.Errorf("killed after %v of %v: %v", after, took, err)
			}
		}
		if got := k.finish(t, k.command(out, "--resume")); !bytes.Equal(got, want) {
			t.Errorf("killed after %v of %v: another model", after, took)
		}
		left, err := filepath.Glob(filepath.Join(out, "checkpoints", "*"))
		if err != nil || len(left) > 4 {
			t.Errorf("killed after %v: %q are left, %v", after, left, err)
		}
	}
	if killed < 5 {
		t.Errorf("only %d of 10 runs were killed before their end", killed)
	}
	// Ctrl-C ends it cleanly.
	began = time.Now()
	out := filepath.Join(dir, "interrupted")
	c := k.command(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for !fileExists(filepath.Join(out, "checkpoints", k.first)) {
		time.Sleep(time.Millisecond)
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
	if got := k.finish(t, k.command(out, "--resume")); !bytes.Equal(got, want) {
		t.Error("interrupted and resumed: another model")
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
