package onnxio

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Floats are taken as they lie in the file, at any address.
func TestAsFloats(t *testing.T) {
	raw := make([]byte, 4*5+3)
	for from := range 4 {
		b := raw[from : from+12]
		copy(b, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0xff, 0xff, 0x7f, 0x7f})
		x, err := fromRaw(tensor.F32, b, []int{3})
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Float32s(); got[0] != 1 || got[1] != -2 || got[2] != math.MaxFloat32 {
			t.Errorf("at offset %d: %v", from, got)
		}
	}
	if x, err := fromRaw(tensor.F32, nil, []int{0, 3}); err != nil || x.Len() != 0 {
		t.Errorf("no bytes: %v (%v)", x, err)
	}
}

// A reader knows how much there is on disk, also of files beside the model.
func TestReaderBytes(t *testing.T) {
	g := ir.NewGraph("g", ops.Table())
	r := ir.NewRewriter(g)
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Fixed(600)))
	for range 2 {
		x = r.Must1("Add", "", nil, x, r.Const("c", tensor.New(tensor.F32, 600)))
	}
	r.Output(x)
	for _, threshold := range []int{0, 1000} {
		dir := t.TempDir()
		file := filepath.Join(dir, "m.onnx")
		if err := Write(file, g, WriteOptions{ExternalThreshold: threshold}); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		want := int64(0)
		for _, f := range files {
			st, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			want += st.Size()
		}
		rd := Reader{Ops: ops.Table()}
		if _, err := rd.Read(file); err != nil || rd.Bytes != want || len(files) != 1+min(1, threshold) {
			t.Errorf("threshold %d: %d bytes in %d files, read as %d (%v)", threshold, want, len(files), rd.Bytes, err)
		}
	}
}
