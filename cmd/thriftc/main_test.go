package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir/tensor"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"thriftc": func() { os.Exit(mainCode()) },
	})
}

// TestScripts runs the end-to-end scripts on the real program. In a script,
// $MODELS is the repository's testmodels folder.
func TestScripts(t *testing.T) {
	models, err := filepath.Abs("../../testmodels")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("MODELS", models)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode":   exitCodeCmd,
			"onnx":       protoCmd(func() proto.Message { return &onnxpb.ModelProto{} }),
			"tensor":     protoCmd(func() proto.Message { return &onnxpb.TensorProto{} }),
			"npz":        npzCmd,
			"head":       headCmd,
			"json":       jsonCmd,
			"same-after": sameAfterCmd,
			"same-grids": sameGridsCmd,
		},
	})
}

// exitCodeCmd is the script command `exitcode N prog args...`: it runs a
// program and requires that exit code.
func exitCodeCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// protoCmd makes the script commands `onnx OUT IN` and `tensor OUT IN`: they
// encode a model or a tensor that is written as text.
func protoCmd(message func() proto.Message) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: onnx|tensor OUT IN")
		}
		m := message()
		ts.Check(prototext.Unmarshal([]byte(ts.ReadFile(args[1])), m))
		data, err := proto.Marshal(m)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
	}
}

// npzCmd is the script command `npz OUT NAME VALUE DIM... [-- NAME VALUE DIM...]`: arrays of
// float32 that start at VALUE (a number or nan) and go up by 1.
func npzCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: npz OUT NAME VALUE DIM... [-- NAME VALUE DIM...]")
	}
	var arrays []dataset.Named
	for a := range strings.SplitSeq(strings.Join(args[1:], " "), " -- ") {
		words := strings.Fields(a)
		v, err := strconv.ParseFloat(words[1], 32)
		ts.Check(err)
		var shape []int
		for _, w := range words[2:] {
			n, err := strconv.Atoi(w)
			ts.Check(err)
			shape = append(shape, n)
		}
		t, err := tensor.Alloc(tensor.F32, shape...)
		ts.Check(err)
		for i := range tensor.Data[float32](t) {
			tensor.Data[float32](t)[i] = float32(v) + float32(i)
		}
		arrays = append(arrays, dataset.Named{Name: words[0], Tensor: t})
	}
	ts.Check(dataset.WriteNPZ(ts.MkAbs(args[0]), arrays))
}

// headCmd is the script command `head OUT IN PERCENT`: the first part of a file.
func headCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: head OUT IN PERCENT")
	}
	percent, err := strconv.Atoi(args[2])
	ts.Check(err)
	data := ts.ReadFile(args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(data[:len(data)*percent/100]), 0o644))
}

// jsonCmd is the script command `json FILE KEY...`: FILE (or stdout) is a JSON
// object that has these keys.
func jsonCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: json FILE KEY...")
	}
	var m map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &m))
	for _, k := range args[1:] {
		if _, ok := m[k]; !ok {
			ts.Fatalf("%s has no %q", args[0], k)
		}
	}
}

// sameAfterCmd is the script command `same-after REPORT EVAL`: what the report
// says of the written model is what eval measured.
func sameAfterCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same-after REPORT EVAL")
	}
	var rep struct{ After dataset.Accuracy }
	var acc dataset.Accuracy
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &rep))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &acc))
	if acc.N == 0 || rep.After != acc {
		ts.Fatalf("the report says %v, eval says %v", rep.After, acc)
	}
}

// sameGridsCmd is the script command `same-grids A.tir B.tir`: the graphs are
// equal but for the integers of their constants (and the axis of a single scale, which means nothing).
func sameGridsCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same-grids A.tir B.tir")
	}
	integers := regexp.MustCompile(`^(  const %\S+: [iu]\d+\[[^]]*\]) = .*`)
	var files [2][]string
	for i, name := range args {
		for line := range strings.Lines(ts.ReadFile(name)) {
			files[i] = append(files[i], strings.Replace(integers.ReplaceAllString(line, "$1"), " {axis=0}", "", 1))
		}
		slices.Sort(files[i])
	}
	for i, line := range files[0] {
		if i >= len(files[1]) || line != files[1][i] {
			ts.Fatalf("only %s has %s", args[0], line)
		}
	}
	if len(files[0]) != len(files[1]) {
		ts.Fatalf("%s has more lines", args[1])
	}
}

// TestInterrupt cancels compressions at several moments: they end at once with
// the exit code of a cancelled program and leave nothing behind.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGINT on Windows")
	}
	bin := filepath.Join(t.TempDir(), "thriftc")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	interrupted := false
	for _, after := range []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		out := filepath.Join(t.TempDir(), "deep", "out")
		cmd := exec.Command(bin, "compress", "../../testmodels/glyphs.onnx", "--data", "../../testmodels/glyphs/desc.yaml",
			"--weight-bits", "2", "--recon", "--max-drop", "0", "-o", out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		start := time.Now()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			continue // it had ended
		}
		cmd.Wait()
		switch code := cmd.ProcessState.ExitCode(); code {
		case exitCancelled:
		case 0, -1: // it was done, or had not set up its handler yet
			t.Logf("after %v: exit code %d", after, code)
			continue
		default:
			t.Errorf("after %v: exit code %d, want %d", after, code, exitCancelled)
			continue
		}
		interrupted = true
		if d := time.Since(start); d > time.Second {
			t.Errorf("after %v: took %v to end", after, d)
		}
		if _, err := os.Stat(filepath.Dir(out)); !os.IsNotExist(err) {
			t.Errorf("after %v: %s is left behind (%v)", after, filepath.Dir(out), err)
		}
	}
	if !interrupted {
		t.Error("no run was interrupted")
	}
}
