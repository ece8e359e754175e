package testmodels

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
)

// TestRegenerate makes all files again. Of the data, what is compressed is
// compared: other versions of gzip may pack it in other bytes.
func TestRegenerate(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"glyphs.onnx", "glyphs/train-images-idx3-ubyte.gz", "glyphs/train-labels-idx1-ubyte.gz", "glyphs/t10k-images-idx3-ubyte.gz", "glyphs/t10k-labels-idx1-ubyte.gz"} {
		if !bytes.Equal(content(t, filepath.Join(dir, name)), content(t, name)) {
			t.Errorf("%s is not what the program makes; run go run ./testmodels/gen", name)
		}
	}
}

func content(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(file) != ".gz" {
		return data
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestAccuracy reads the committed files the way a user does.
func TestAccuracy(t *testing.T) {
	g, err := onnxio.Read("glyphs.onnx", ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	set, err := dataset.Open("glyphs/test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	src, err := set.For(g)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := interp.New().Compile(context.Background(), g, backends.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	a, err := dataset.Evaluate(context.Background(), exec, src, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("top-1 %.4f, top-5 %.4f of %d", a.Top1, a.Top5, a.N)
	if a.N != testPictures || a.Top1 < 0.95 {
		t.Errorf("accuracy %+v", a)
	}
}
