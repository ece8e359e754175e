package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestComparePairs holds a small model against reference outputs that are
// right, off by more than the tolerance, and incomplete.
func TestComparePairs(t *testing.T) {
	g, err := ir.Parse("pairs.tir", `graph "g" {
  input %x: f32[2,2]
  const %two: f32[] = 2
  %y: f32[2,2] = Mul(%x, %two)
  output %y
}`, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	model := filepath.Join(dir, "m.onnx")
	if err := onnxio.Write(model, g, onnxio.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	put := func(set int, file string, x ...float32) {
		t.Helper()
		folder := filepath.Join(dir, fmt.Sprint("test_data_set_", set))
		err := errors.Join(os.MkdirAll(folder, 0o755), onnxio.WriteTensor(filepath.Join(folder, file), "v", tensor.Of(x, 2, 2)))
		if err != nil {
			t.Fatal(err)
		}
	}
	compare := func() error {
		c := newCompare()
		c.SetArgs([]string{model, "--pairs", dir})
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		return c.Execute()
	}
	put(2, "input_0.pb", 1, 2, 3, 4)
	put(2, "output_0.pb", 2, 4, 6, 8)
	if err := compare(); err != nil {
		t.Error(err)
	}
	put(10, "input_0.pb", 1, 2, 3, 4)
	put(10, "output_0.pb", 2, 4, 6, 8.1)
	if err := compare(); thriftc.KindOf(err) != thriftc.Differ {
		t.Errorf("with a wrong reference: %v, want that results differ", err)
	}
	put(11, "input_0.pb", 1, 2, 3, 4)
	if err := compare(); err == nil || !strings.Contains(err.Error(), "0 outputs") {
		t.Errorf("without reference outputs: %v", err)
	}
}
