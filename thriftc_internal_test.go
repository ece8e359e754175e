package thriftc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/ir/onnxio"
)

// The file with the weights of a model is not replaced by that of another.
func TestExternalDataIsNoOutput(t *testing.T) {
	m, err := Open("testmodels/glyphs.onnx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "a.onnx")
	if err := onnxio.Write(file, m.Graph, onnxio.WriteOptions{ExternalThreshold: 1}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file, filepath.Join(dir, "b.onnx")); err != nil {
		t.Fatal(err)
	}
	if m, err = Open(filepath.Join(dir, "b.onnx")); err != nil {
		t.Fatal(err)
	}
	if err := m.CheckOutput("-o", file); KindOf(err) != Usage {
		t.Errorf("%s.data holds the weights of b.onnx: %v", file, err)
	}
	if err := m.CheckOutput("-o", filepath.Join(dir, "c.onnx")); err != nil {
		t.Error(err)
	}
}
