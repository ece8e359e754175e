package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
		{"train", "checkpoints/train-000000002.ckpt", []string{"train", "arch:lenet{width=0.2}", "--train-data", data, "--recipe", recipe}, []os.Signal{os.Interrupt, syscall.SIGHUP, syscall.SIGPIPE}},
		{"bitlength", "journal.jsonl", []string{"compress", filepath.Join(models, "glyphs.onnx"), "--train-data", data, "--passes", "bitlength{target-bits=4,epochs=2}"}, []os.Signal{syscall.SIGHUP}},
	} {
		t.Run(c.name, c.test)
	}
}

// killable is a command that is interrupted.
type killable struct {
	name, begun string // and what there is once it has taken steps
	args        []string
	signals     []os.Signal // that end it with something to go on from
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
		left, err := filepath.Glob(filepath.Join(out, "checkpoints", "*.ckpt"))
		if err != nil || len(left) > 4 {
			t.Errorf("killed after %v: %q are left, %v", after, left, err)
		}
	}
	if killed < 5 {
		t.Errorf("only %d of 10 runs were killed before their end", killed)
	}
	for _, sig := range k.signals {
		t.Run(sig.String(), func(t *testing.T) { k.signalled(t, filepath.Join(dir, sig.String()), sig, want) })
	}
}

// signalled ends a run by a signal. Until then no other run gets the folder; afterwards only one that goes on with it
// does, and a refused one leaves it as it is.
func (k killable) signalled(t *testing.T, out string, sig os.Signal, want []byte) {
	began := time.Now()
	c := k.command(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for !fileExists(filepath.Join(out, k.begun)) {
		time.Sleep(time.Millisecond)
		if time.Since(began) > time.Minute {
			t.Fatal("the training does not begin")
		}
	}
	refused := func(more []string, why string) {
		t.Helper()
		second := k.command(out, more...)
		if err := second.Run(); second.ProcessState.ExitCode() != exitFailed || !strings.Contains(fmt.Sprint(second.Stderr), why) {
			t.Errorf("a second run, %q: %v\n%s", more, err, second.Stderr)
		}
	}
	refused(nil, "another run of thriftc writes to this folder")
	refused([]string{"--resume"}, "another run of thriftc writes to this folder")
	if err := c.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); c.ProcessState.ExitCode() != exitCancelled || !strings.Contains(fmt.Sprint(c.Stderr), "thriftc: cancelled") || !strings.Contains(fmt.Sprint(c.Stderr), "--resume goes on from there") {
		t.Errorf("interrupted: %v\n%s", err, c.Stderr)
	}
	before := contents(t, out)
	refused(nil, "interrupted")
	refused([]string{"--resume", "--seed", "77"}, "other settings")
	if after := contents(t, out); !maps.Equal(before, after) {
		t.Errorf("a refused run changed the folder: %q, then %q", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
	if got := k.finish(t, k.command(out, "--resume")); !bytes.Equal(got, want) {
		t.Error("interrupted and resumed: another model")
	}
	if fileExists(filepath.Join(out, ".thriftc.lock")) {
		t.Error("a finished run leaves its lock")
	}
}

// contents returns the files below a folder with their bytes, but for the lock's.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != ".thriftc.lock" {
			var data []byte
			data, err = os.ReadFile(path)
			out[path] = string(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A reader that goes away, as `| head` does, is no error to speak of.
func TestBrokenPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	var stderr bytes.Buffer
	c := exec.Command("thriftc", "ops", "--json")
	c.Stdout, c.Stderr = w, &stderr
	if err := c.Run(); c.ProcessState.ExitCode() != exitCancelled || strings.Contains(stderr.String(), "error") {
		t.Errorf("%v\n%s", err, stderr.String())
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
