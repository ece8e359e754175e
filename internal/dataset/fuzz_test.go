package dataset

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func FuzzDesc(f *testing.F) {
	f.Add("kind: image-list\nsplit: test\npath: .\nlabels: labels.tsv\npreprocess: {resize: 256, crop: [224, 224], color: rgb, layout: nchw, mean: [127.5, 127.5, 127.5], std: 2, label_offset: 1}")
	f.Add("kind: raw\nelem: int8\nshape: [1, 49, 10]\nfiles: [a, b]\ncolumns: [index, label]\ntile: 3")
	f.Add("a: &x {kind: *x}\n<<: *x")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDesc("desc.yaml", []byte(text))
		if err != nil {
			return
		}
		again, err := ParsePreprocess(d.pre.String())
		if err != nil || again.String() != d.pre.String() {
			t.Errorf("%s became %s, %v", d.pre, again, err)
		}
	})
}

// FuzzData opens and reads arbitrary bytes as a file of each kind.
func FuzzData(f *testing.F) {
	var npy bytes.Buffer
	if err := writeNPY(&npy, tensor.Of([]float32{1, 2}, 2, 1)); err != nil {
		f.Fatal(err)
	}
	var npz bytes.Buffer
	z := zip.NewWriter(&npz)
	w, err := z.Create("x.npy")
	if err != nil {
		f.Fatal(err)
	}
	w.Write(npy.Bytes())
	z.Close()
	descs := []string{
		"kind: cifar10\npath: data",
		"kind: cifar100\npath: data",
		"kind: idx\nfiles: data",
		"kind: idx\nfiles: data.gz",
		"kind: npy\npath: data",
		"kind: npz\npath: data",
		"kind: raw\npath: data\nelem: int8\nshape: 1",
		"kind: raw\npath: raw\nelem: int8\nshape: 1\nlabels: data",
		"kind: image-list\nlabels: data",
		"kind: image-list\nfiles: data\ntile: 1\nlabels: table",
		"kind: onnx-pairs",
	}
	f.Add(uint8(0), cifarRecord(1, 2))
	f.Add(uint8(1), append([]byte{1}, cifarRecord(1, 2)...))
	f.Add(uint8(2), idxOf([]int{2, 1, 1}, []byte{1, 2}))
	f.Add(uint8(3), gzipped(idxOf([]int{2, 1, 1}, []byte{1, 2})))
	f.Add(uint8(4), npy.Bytes())
	f.Add(uint8(5), npz.Bytes())
	f.Add(uint8(7), []byte("index,label\n0,1\n1,0\n"))
	f.Add(uint8(8), []byte("file\tindex\ndata\t1\n"))
	f.Add(uint8(9), []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"))
	types := []ir.Type{image4(3, 32, 32), image4(1, 1, 1), ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1))}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		desc := descs[int(kind)%len(descs)]
		dir := t.TempDir()
		for name, b := range map[string][]byte{"data": data, "data.gz": data, "input_0.pb": data, "raw": {1, 2}, "table": []byte("label\n1\n"), "desc.yaml": []byte(desc)} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		set, err := Open(filepath.Join(dir, "desc.yaml"))
		if err != nil {
			return
		}
		for _, typ := range types {
			src, err := set.For(graphWith(typ))
			if err != nil {
				continue
			}
			for b, err := range src.Batches(3) {
				if err != nil {
					break
				}
				if !ir.TypeOf(b[0]).Compatible(typ) {
					t.Fatalf("batch is %v, want %v", ir.TypeOf(b[0]), typ)
				}
			}
		}
	})
}

func FuzzImage(f *testing.F) {
	for _, file := range []string{"seed.png", "seed.jpg"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	p, err := ParsePreprocess("{resize: 3, crop: 2}")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decode(data)
		if err != nil {
			return
		}
		out, err := p.image(picture{RGBA: m})
		if err == nil && out.Len() != 12 {
			t.Errorf("%v numbers", out.Shape())
		}
	})
}

func FuzzNPZ(f *testing.F) {
	for _, method := range []uint16{zip.Store, zip.Deflate} {
		var b, npy bytes.Buffer
		if err := writeNPY(&npy, tensor.Of([]int8{1, 2}, 2, 1)); err != nil {
			f.Fatal(err)
		}
		z := zip.NewWriter(&b)
		w, err := z.CreateHeader(&zip.FileHeader{Name: "x.npy", Method: method})
		if err != nil {
			f.Fatal(err)
		}
		w.Write(npy.Bytes())
		z.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, out := filepath.Join(t.TempDir(), "in.npz"), filepath.Join(t.TempDir(), "out.npz")
		if err := os.WriteFile(in, data, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := ReadNPZ(in)
		if err != nil {
			return
		}
		if err := WriteNPZ(out, a); err != nil {
			t.Fatal(err)
		}
		b, err := ReadNPZ(out)
		if err != nil || len(a) != len(b) {
			t.Fatalf("%d arrays came back as %d, %v", len(a), len(b), err)
		}
		for i := range a {
			if !tensor.Equal(a[i].Tensor, b[i].Tensor) {
				t.Errorf("array %q changed", a[i].Name)
			}
		}
	})
}
