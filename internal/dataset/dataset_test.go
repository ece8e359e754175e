package dataset

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

var _ passes.Samples = (*Source)(nil)

// put writes a file of the test's folder, with its parents.
func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// pngOf makes a w×h image whose red is x, green y and blue base.
func pngOf(t *testing.T, w, h int, base uint8) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x), uint8(y), base, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func npyOf(t *testing.T, x *tensor.Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeNPY(&b, x); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pbOf(t *testing.T, x *tensor.Tensor) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.pb")
	if err := onnxio.WriteTensor(file, "x", x); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func idxOf(shape []int, data []byte) []byte {
	b := []byte{0, 0, 8, byte(len(shape))}
	for _, d := range shape {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	return append(b, data...)
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

func npzOf(t *testing.T, method uint16, members ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(members); i += 2 {
		w, err := z.CreateHeader(&zip.FileHeader{Name: members[i].(string), Method: method})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(members[i+1].([]byte))
	}
	z.Close()
	return b.Bytes()
}

func seq(n int) []uint8 {
	out := make([]uint8, n)
	for i := range out {
		out[i] = uint8(i)
	}
	return out
}

func cifarRecord(label byte, fill byte) []byte {
	r := bytes.Repeat([]byte{fill}, 3073)
	r[0] = label
	r[1], r[1+1024], r[1+2048] = 1, 2, 3 // the colours of the first pixel
	return r
}

// all returns the samples and labels of a set, one batch.
func all(t *testing.T, s *Set, types ...ir.Type) ([]*tensor.Tensor, []int) {
	t.Helper()
	src, err := s.For(graphWith(types...))
	if err != nil {
		t.Fatal(err)
	}
	var labels []int
	for i := range src.Len() {
		labels = append(labels, src.Label(i))
	}
	for b, err := range src.Batches(src.Len()) {
		if err != nil {
			t.Fatal(err)
		}
		return b, labels
	}
	return nil, nil
}

// TestKinds opens a tiny example of every kind and looks at the first numbers
// of each record.
func TestKinds(t *testing.T) {
	f32s := tensor.Of([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	y := tensor.Of([]int64{2, 0, 1}, 3)
	cases := []struct {
		name, desc string
		files      map[string][]byte
		input      ir.Type
		labels     []int
		first      []float64 // the first number of each record
	}{
		{"image-folder", "kind: image-folder\npath: d\npreprocess: {color: bgr}",
			map[string][]byte{"d/b/2.png": pngOf(t, 2, 2, 9), "d/a/1.png": pngOf(t, 2, 2, 7), "d/b/1.PNG": pngOf(t, 2, 2, 8), "d/a/notes.txt": nil, "d/readme": nil},
			image4(3, 2, 2), []int{0, 1, 1}, []float64{7, 8, 9}},
		{"image-list tab", "kind: image-list\npath: d\nlabels: l.tsv\npreprocess: {label_offset: 1, color: bgr, layout: nhwc}",
			map[string][]byte{"d/1.png": pngOf(t, 2, 2, 9), "d/2.png": pngOf(t, 2, 2, 7), "l.tsv": []byte("file\tname\tindex\n2.png\tsea, \"blue\t4\n1.png\tx\t0\n")},
			image4(2, 2, 3), []int{5, 1}, []float64{7, 9}},
		{"image-list comma", "kind: image-list\nlabels: l.csv\nlabel_column: n\ncolumns: [file, n]\npreprocess: {color: bgr}",
			map[string][]byte{"1.png": pngOf(t, 2, 2, 9), "l.csv": []byte("1.png,3\n")},
			image4(3, 2, 2), []int{3}, []float64{9}},
		{"sheets", "kind: image-list\nfiles: [s0.png, s1.png]\ntile: [2, 3]\nlabels: l.csv",
			map[string][]byte{"s0.png": pngOf(t, 4, 6, 1), "s1.png": pngOf(t, 4, 3, 1), "l.csv": []byte("index,label\r\n0,5\r\n1,4\r\n2,3\r\n3,2\r\n4,1\r\n")},
			image4(3, 3, 2), []int{5, 4, 3, 2, 1}, []float64{0, 2, 0, 2, 0}},
		{"cifar10", "kind: cifar10\nsplit: test", map[string][]byte{"test_batch.bin": append(cifarRecord(3, 9), cifarRecord(9, 9)...)},
			image4(3, 32, 32), []int{3, 9}, []float64{1, 1}},
		{"cifar100", "kind: cifar100\npath: c.bin", map[string][]byte{"c.bin": append([]byte{19}, cifarRecord(99, 9)...)},
			image4(3, 32, 32), []int{99}, []float64{1}},
		{"cifar100 coarse", "kind: cifar100\npath: c.bin\nlabels: coarse", map[string][]byte{"c.bin": append([]byte{19}, cifarRecord(99, 9)...)},
			image4(3, 32, 32), []int{19}, []float64{1}},
		{"idx", "kind: idx\nsplit: train\npath: d", map[string][]byte{
			"d/train-images-idx3-ubyte": idxOf([]int{2, 2, 2}, seq(8)), "d/train-labels-idx1-ubyte": idxOf([]int{2}, []byte{7, 8})},
			image4(1, 2, 2), []int{7, 8}, []float64{0, 4}},
		{"idx gz", "kind: idx\nfiles: [l.gz, a.gz, b]", map[string][]byte{
			"a.gz": gzipped(idxOf([]int{2, 2, 2}, seq(8))), "b": idxOf([]int{1, 2, 2}, seq(4)), "l.gz": gzipped(idxOf([]int{3}, []byte{7, 8, 9}))},
			image4(1, 2, 2), []int{7, 8, 9}, []float64{0, 4, 0}},
		{"npy", "kind: npy\nfiles: [a.npy, b.npy]\nlabels: y.npy\npreprocess: {mean: [1, 0], std: [2, 1]}",
			map[string][]byte{"a.npy": npyOf(t, f32s), "b.npy": npyOf(t, f32s), "y.npy": npyOf(t, tensor.Of([]int64{2, 0, 1, 2, 0, 1}, 6))},
			ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(2)), []int{2, 0, 1, 2, 0, 1}, []float64{0, 1, 2, 0, 1, 2}},
		{"npy big endian", "kind: npy\npath: a.npy", map[string][]byte{"a.npy": []byte("\x93NUMPY\x01\x00\x3e\x00{'descr': '>i2', 'fortran_order': False, 'shape': (2L, 1L)}  \n\x01\x02\xff\xff")},
			ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1)), []int{-1, -1}, []float64{258, -1}},
		{"npz", "kind: npz\npath: a.npz\nlabels: cls", map[string][]byte{"a.npz": npzOf(t, zip.Store, "cls.npy", npyOf(t, y), "x.npy", npyOf(t, f32s))},
			ir.TensorType(tensor.F64, ir.Symbol("N"), ir.Fixed(2)), []int{2, 0, 1}, []float64{1, 3, 5}},
		{"npz deflated", "kind: npz\nfiles: [a.npz]\nlabels: y.npy", map[string][]byte{"y.npy": npyOf(t, y), "a.npz": npzOf(t, zip.Deflate, "x.npy", npyOf(t, f32s))},
			ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(2)), []int{2, 0, 1}, []float64{1, 3, 5}},
		{"raw", "kind: raw\nfiles: [q.i8]\nelem: int8\nshape: [2, 2]\nlabels: l.csv\ncolumns: [index, label]\npreprocess: {offset: 1, scale: 0.5}",
			map[string][]byte{"q.i8": {255, 0, 0, 0, 3, 0, 0, 0}, "l.csv": []byte("0,1\n1,0\n")},
			ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1), ir.Fixed(2), ir.Fixed(2)), []int{1, 0}, []float64{-1, 1}},
		{"onnx-pairs", "kind: onnx-pairs\npath: d", map[string][]byte{
			"d/test_data_set_10/input_0.pb": pbOf(t, f32s), "d/test_data_set_10/output_0.pb": pbOf(t, y),
			"d/test_data_set_2/input_0.pb": pbOf(t, tensor.Of([]float32{9, 9}, 1, 2)), "d/model.onnx": nil},
			ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(2)), []int{-1, -1, -1, -1}, []float64{9, 1, 3, 5}},
		{"to integers", "kind: raw\nfiles: [q.u8]\nelem: uint8\nshape: [2]",
			map[string][]byte{"q.u8": {5, 0, 3, 0}},
			ir.TensorType(tensor.I64, ir.Symbol("N"), ir.Fixed(2)), []int{-1, -1}, []float64{5, 3}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range c.files {
				put(t, dir, name, data)
			}
			put(t, dir, "desc.yaml", []byte(c.desc))
			set, err := Open(filepath.Join(dir, "desc.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			in, labels := all(t, set, c.input)
			if !slices.Equal(labels, c.labels) {
				t.Errorf("labels %v, want %v", labels, c.labels)
			}
			x, per := in[0].Float64s(), in[0].Len()/set.Len()
			if in[0].Elem() != c.input.Elem {
				t.Errorf("element type %v, want %v", in[0].Elem(), c.input.Elem)
			}
			for i, want := range c.first {
				if x[i*per] != want {
					t.Errorf("%s starts with %g, want %g", set.Name(i), x[i*per], want)
				}
			}
		})
	}
}

// TestErrors opens data with one thing wrong and looks for the words that say what.
func TestErrors(t *testing.T) {
	f32 := func(v ...float32) []byte { return npyOf(t, tensor.Of(v, len(v), 1)) }
	vec := ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1))
	big := idxOf([]int{1, 2, 2}, seq(4))
	big[4] = 0x7f
	cases := []struct {
		name, desc string
		files      map[string][]byte
		input      ir.Type
		want       []string
	}{
		{"all at once", "kind: image-lst\nlables: x\npreprocess:\n  colour: rgb\n  std: [1, 0]\n  crop: [1, 2, 3]\n  mean: .nan\n", nil, vec,
			[]string{`desc.yaml:1: kind is "image-lst"`, `desc.yaml:2: unknown key "lables"; did you mean labels?`, `desc.yaml:4: unknown key "colour"; did you mean color?`,
				"desc.yaml:5: std holds a 0", "desc.yaml:6: crop must be", "desc.yaml:7: mean must be a finite number"}},
		{"wrong kind for key", "kind: cifar10\nsplit: test\ntile: [1, 1]\nfiles: [x]", nil, vec, []string{"desc.yaml:3: tile means nothing for kind cifar10", "desc.yaml:2: split and files"}},
		{"missing key", "kind: raw", nil, vec, []string{"kind raw needs elem", "kind raw needs shape"}},
		{"twice", "kind: npy\npath: a\npath: b", nil, vec, []string{"desc.yaml:3: path is given twice, first in line 2"}},
		{"not a mapping", "- a", nil, vec, []string{"desc.yaml:1: a data description must be a mapping"}},
		{"syntax", "kind: [", nil, vec, []string{"desc.yaml: line 1"}},
		{"no kind", "path: .", nil, vec, []string{"kind is missing"}},
		{"channels", "kind: cifar10\nsplit: test\npreprocess: {color: gray, mean: [1, 2]}", nil, vec, []string{"mean has 2 numbers, the data has 1 channels"}},
		{"no path", "kind: image-folder\npath: nowhere", nil, vec, []string{"desc.yaml:2: path:", "nowhere"}},
		{"no files", "kind: npy\nfiles: [a.npy, b.npy]", nil, vec, []string{"a.npy", "b.npy"}},
		{"empty folder", "kind: image-folder", map[string][]byte{"d/x.txt": nil}, vec, []string{"holds no .jpg, .jpeg or .png"}},
		{"no image", "kind: image-folder", map[string][]byte{"d/x.png": []byte("hello")}, image4(3, 2, 2), []string{"x.png: not a readable JPEG or PNG"}},
		{"cut image", "kind: image-folder", map[string][]byte{"d/x.png": pngOf(t, 20, 20, 1)[:60]}, image4(3, 20, 20), []string{"x.png: damaged image"}},
		{"huge image", "kind: image-folder", map[string][]byte{"d/x.png": pngOf(t, 1, 1, 1), "d/a.png": hugePNG(t)}, image4(3, 1, 1), []string{"a.png: claims to be 60000×60000"}},
		{"small image", "kind: image-folder\npreprocess: {crop: 4}", map[string][]byte{"d/x.png": pngOf(t, 3, 4, 1)}, image4(3, 4, 4), []string{"x.png: 3×4 pixels are too few for crop 4"}},
		{"unequal images", "kind: image-folder", map[string][]byte{"d/x.png": pngOf(t, 3, 4, 1), "d/y.png": pngOf(t, 4, 3, 1)}, image4(3, 4, 3), []string{"y.png: its shape is [3 3 4], the first record's is [3 4 3]"}},
		{"layout", "kind: image-folder", map[string][]byte{"d/x.png": pngOf(t, 3, 4, 1)}, image4(4, 3, 3), []string{"set layout: nhwc"}},
		{"gray", "kind: image-folder", map[string][]byte{"d/x.png": pngOf(t, 3, 4, 1)}, image4(1, 4, 3), []string{"set color: gray"}},
		{"resize", "kind: image-folder", map[string][]byte{"d/x.png": pngOf(t, 3, 4, 1)}, image4(3, 8, 8), []string{"set resize and crop"}},
		{"half pixels", "kind: image-folder\npreprocess: {scale: 0.1}", map[string][]byte{"d/x.png": pngOf(t, 1, 2, 1)},
			ir.TensorType(tensor.U8, ir.Symbol("N"), ir.Fixed(3), ir.Fixed(2), ir.Fixed(1)), []string{"takes whole numbers of u8"}},
		{"table text", "kind: image-list\nlabels: l.csv", map[string][]byte{"l.csv": []byte("file,index\nx.png,cat\n")}, vec, []string{`l.csv: row 2: label "cat" in column index`}},
		{"table column", "kind: image-list\nlabels: l.csv\nlabel_column: k", map[string][]byte{"l.csv": []byte("file,index\nx.png,1\n")}, vec, []string{`no column "k" among file, index`}},
		{"table fields", "kind: image-list\nlabels: l.tsv", map[string][]byte{"l.tsv": []byte("file\tindex\nx.png\t1\t2\n")}, vec, []string{"l.tsv: row 2: 3 fields, expected 2"}},
		{"table file", "kind: image-list\nlabels: l.tsv", map[string][]byte{"l.tsv": []byte("file\tindex\nx.png\t1\n")}, vec, []string{"l.tsv: row 2:", "x.png"}},
		{"table order", "kind: raw\npath: q\nelem: int8\nshape: 1\nlabels: l.csv", map[string][]byte{"q": {1, 2}, "l.csv": []byte("index,label\n1,0\n0,1\n")}, vec, []string{`row 2: index is "1", expected 0`}},
		{"label count", "kind: raw\npath: q\nelem: int8\nshape: 1\nlabels: l.csv", map[string][]byte{"q": {1, 2}, "l.csv": []byte("index,label\n0,0\n")}, vec, []string{"desc.yaml:5: labels: 1 labels for 2 records"}},
		{"negative label", "kind: raw\npath: q\nelem: int8\nshape: 1\nlabels: l.csv\npreprocess: {label_offset: -1}", map[string][]byte{"q": {1}, "l.csv": []byte("index,label\n0,0\n")}, vec, []string{"label_offset -1 makes label 0 negative"}},
		{"ambiguous", "kind: image-list\npath: d\nlabels: l.csv", map[string][]byte{"l.csv": nil, "d/l.csv": nil}, vec, []string{"both"}},
		{"sheet size", "kind: image-list\nfiles: s.png\ntile: 2\nlabels: l.csv", map[string][]byte{"s.png": pngOf(t, 3, 4, 0), "l.csv": []byte("label\n1\n")}, vec, []string{"is not made of 2×2 tiles"}},
		{"sheet rows", "kind: image-list\nfiles: s.png\ntile: 4\nlabels: l.csv", map[string][]byte{"s.png": pngOf(t, 4, 4, 0), "l.csv": []byte("label\n1\n2\n")}, vec, []string{"has 2 rows, the sheets hold 1 tiles"}},
		{"cifar size", "kind: cifar10\npath: c.bin", map[string][]byte{"c.bin": cifarRecord(1, 1)[1:]}, vec, []string{"c.bin: 3072 bytes are not a whole number of 3073-byte records"}},
		{"cifar label", "kind: cifar10\npath: c.bin", map[string][]byte{"c.bin": append(cifarRecord(1, 1), cifarRecord(10, 1)...)}, vec, []string{"c.bin: record 1 has label 10"}},
		{"idx length", "kind: idx\nfiles: a", map[string][]byte{"a": idxOf([]int{2, 2, 2}, seq(7))}, vec, []string{"a: the header says [2 2 2], which does not fit"}},
		{"idx long", "kind: idx\nfiles: a", map[string][]byte{"a": idxOf([]int{2, 2, 2}, seq(9))}, vec, []string{"which does not fit"}},
		{"idx huge", "kind: idx\nfiles: a", map[string][]byte{"a": big}, vec, []string{"a: "}},
		{"idx labels", "kind: idx\nfiles: [a, l]", map[string][]byte{"a": idxOf([]int{2, 2, 2}, seq(8)), "l": idxOf([]int{1}, seq(1))}, vec, []string{"1 labels for 2 images"}},
		{"idx gz", "kind: idx\nfiles: a.gz", map[string][]byte{"a.gz": gzipped(idxOf([]int{2, 2, 2}, seq(8)))[:20]}, vec, []string{"a.gz: the file ends early"}},
		{"nan", "kind: npy\npath: a.npy", map[string][]byte{"a.npy": f32(1, float32(math.NaN()))}, vec, []string{"a.npy record 1: number 0 is NaN"}},
		{"npy cut", "kind: npy\npath: a.npy", map[string][]byte{"a.npy": f32(1, 2)[:130]}, vec, []string{"a.npy: f32[2 1] takes 8 bytes after the header, there are 2"}},
		{"npy scalar", "kind: npy\npath: a.npy", map[string][]byte{"a.npy": npyOf(t, tensor.Scalar[float32](1))}, vec, []string{"expected an array whose first dimension counts the records"}},
		{"npy empty records", "kind: npy\npath: a.npy", map[string][]byte{"a.npy": npyOf(t, tensor.New(tensor.F32, 1<<40, 0))}, vec, []string{"are empty"}},
		{"npy no records", "kind: npy\npath: a.npy", map[string][]byte{"a.npy": npyOf(t, tensor.New(tensor.F32, 0, 4))}, vec, []string{"no records"}},
		{"npz input", "kind: npz\npath: a.npz", map[string][]byte{"a.npz": npzOf(t, zip.Store, "q.npy", f32(1))}, vec, []string{`no array for the model's input "x" among ["q"]`}},
		{"npz member", "kind: npz\npath: a.npz", map[string][]byte{"a.npz": npzOf(t, zip.Store, "q.txt", f32(1))}, vec, []string{`member "q.txt" is no .npy array`}},
		{"npz twice", "kind: npz\npath: a.npz", map[string][]byte{"a.npz": npzOf(t, zip.Store, "q.npy", f32(1), "q.npy", f32(1))}, vec, []string{`two arrays "q"`}},
		{"npz counts", "kind: npz\npath: a.npz", map[string][]byte{"a.npz": npzOf(t, zip.Store, "x.npy", f32(1), "q.npy", f32(1, 2))}, vec, []string{`array "q" has 2 records, "x" has 1`}},
		{"npz labels", "kind: npz\npath: a.npz\nlabels: y", map[string][]byte{"a.npz": npzOf(t, zip.Store, "x.npy", f32(1), "y.npy", f32(1))}, vec, []string{`array "y": labels must be one whole number per record`}},
		{"pairs", "kind: onnx-pairs\npath: d", map[string][]byte{"d/x": nil}, vec, []string{"neither input_0.pb nor test_data_set_* folders"}},
		{"pairs gap", "kind: onnx-pairs", map[string][]byte{"input_0.pb": pbOf(t, tensor.Of([]float32{1}, 1, 1)), "input_2.pb": nil}, vec, []string{"input_1.pb is missing among 2 files"}},
		{"pairs bytes", "kind: onnx-pairs", map[string][]byte{"input_0.pb": {1, 2, 3}}, vec, []string{"input_0.pb: "}},
		{"pairs scalar", "kind: onnx-pairs", map[string][]byte{"input_0.pb": pbOf(t, tensor.Scalar[float32](1))}, vec, []string{"input_0.pb is f32[]; inputs need one common"}},
		{"pairs inputs", "kind: onnx-pairs", map[string][]byte{"input_0.pb": pbOf(t, tensor.Of([]float32{1}, 1, 1)), "input_1.pb": pbOf(t, tensor.Of([]float32{1}, 1, 1))}, vec, []string{"gives 2 input(s), the model has 1: x f32[N,1]"}},
		{"raw size", "kind: raw\npath: q\nelem: int8\nshape: 2", map[string][]byte{"q": {1, 2, 3}}, vec, []string{"q: 3 bytes are not a whole number of records of shape [2]"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range c.files {
				put(t, dir, name, data)
			}
			put(t, dir, "desc.yaml", []byte(c.desc))
			set, err := Open(filepath.Join(dir, "desc.yaml"))
			if err == nil {
				err = firstError(set, c.input)
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error lacks %q:\n%v", w, err)
				}
			}
		})
	}
}

func firstError(set *Set, input ir.Type) error {
	src, err := set.For(graphWith(input))
	if err != nil {
		return err
	}
	for _, err := range src.Batches(2) {
		if err != nil {
			return err
		}
	}
	return nil
}

// hugePNG is a valid image header that claims 60000×60000 pixels.
func hugePNG(t *testing.T) []byte {
	b := pngOf(t, 1, 1, 0)
	binary.BigEndian.PutUint32(b[16:], 60000)
	binary.BigEndian.PutUint32(b[20:], 60000)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

func TestPreprocessText(t *testing.T) {
	for _, s := range []string{
		"{}",
		"{resize: 256, crop: 224, color: rgb, layout: nchw, mean: [127.5, 127.5, 127.5], std: [127.5, 127.5, 127.5], label_offset: 1}",
		"{resize: [40, 30], crop: [4, 3], color: gray, layout: nhwc, offset: 83, scale: 0.5847029, mean: [0.1307], std: [0.3081], label_offset: -1}",
	} {
		p, err := ParsePreprocess(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.String(); got != s {
			t.Errorf("%s became %s", s, got)
		}
	}
	if _, err := ParsePreprocess("{resize: -1}"); err == nil {
		t.Error("resize: -1 was accepted")
	}
}

func TestImagePreprocessing(t *testing.T) {
	decoded, err := decode(pngOf(t, 4, 6, 100))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		p     string
		shape []int
		first []float32
	}{
		{"{}", []int{3, 6, 4}, []float32{0, 1, 2, 3, 0}},
		{"{crop: 2}", []int{3, 2, 2}, []float32{1, 2, 1, 2, 2, 2, 3, 3, 100}},
		{"{crop: [1, 2], color: bgr, layout: nhwc}", []int{2, 1, 3}, []float32{100, 2, 1, 100, 3, 1}},
		{"{crop: 1, scale: 0.5, mean: [1, 2, 3], std: [2, 4, 1]}", []int{3, 1, 1}, []float32{-0.25, -0.25, 47}},
		{"{crop: 1, color: gray}", []int{1, 1, 1}, []float32{13}}, // 0.299·1 + 0.587·2 + 0.114·100 = 12.873
		{"{resize: 2}", []int{3, 3, 2}, []float32{1, 2}},
		{"{resize: [8, 12], crop: 1}", []int{3, 1, 1}, []float32{1, 2, 100}},
		{"{resize: 5, color: gray}", []int{1, 7, 5}, nil}, // 5·6/4 = 7.5
	}
	for _, c := range cases {
		p, err := ParsePreprocess(c.p)
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.image(picture{RGBA: decoded})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out.Shape(), c.shape) {
			t.Errorf("%s: shape %v, want %v", c.p, out.Shape(), c.shape)
		}
		if got := out.Float32s()[:len(c.first)]; !slices.Equal(got, c.first) {
			t.Errorf("%s: %v, want %v", c.p, got, c.first)
		}
	}
}

// TestAlpha: the colours of transparent pixels stay as they are stored.
func TestAlpha(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 1, 1))
	m.SetNRGBA(0, 0, color.NRGBA{200, 100, 50, 10})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	got, err := decode(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint8{200, 100, 50, 255}; !slices.Equal(got.Pix, want) {
		t.Errorf("pixel %v, want %v", got.Pix, want)
	}
}

// numbers returns a set of n records of one number each, labelled by itself.
func numbers(t *testing.T, n int) *Set {
	t.Helper()
	dir := t.TempDir()
	x, y := make([]float32, n), make([]int32, n)
	for i := range x {
		x[i], y[i] = float32(i), int32(i)
	}
	put(t, dir, "a.npz", npzOf(t, zip.Store, "x.npy", npyOf(t, tensor.Of(x, n, 1)), "y.npy", npyOf(t, tensor.Of(y, n))))
	put(t, dir, "d.yaml", []byte("kind: npz\npath: a.npz\nlabels: y"))
	s, err := Open(filepath.Join(dir, "d.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func labelsOf(s *Set) []int {
	var out []int
	for i := range s.Len() {
		out = append(out, s.Label(i))
	}
	return out
}

func TestSelections(t *testing.T) {
	s := numbers(t, 10)
	a, b, err := s.Split(0, 0.2)
	if err != nil {
		t.Fatal(err)
	}
	if a.Len() != 8 || b.Len() != 2 {
		t.Fatalf("split into %d and %d", a.Len(), b.Len())
	}
	together := append(labelsOf(a), labelsOf(b)...)
	if !slices.IsSorted(labelsOf(a)) || !slices.IsSorted(labelsOf(b)) {
		t.Errorf("parts out of order: %v", together)
	}
	slices.Sort(together)
	if !slices.Equal(together, labelsOf(s)) {
		t.Errorf("the parts hold %v together", together)
	}
	a2, _, _ := s.Split(0, 0.2)
	a3, _, _ := s.Split(1, 0.2)
	if !slices.Equal(labelsOf(a), labelsOf(a2)) || slices.Equal(labelsOf(a), labelsOf(a3)) {
		t.Error("the split must follow from the seed")
	}
	// The order is part of what a seed means: it must not change between versions.
	if got, want := labelsOf(s.Shuffle(7)), []int{9, 2, 6, 1, 5, 8, 3, 4, 7, 0}; !slices.Equal(got, want) {
		t.Errorf("shuffled %v, want %v", got, want)
	}
	if got := labelsOf(s.Skip(7).Take(5)); !slices.Equal(got, []int{7, 8, 9}) {
		t.Errorf("skip 7, take 5: %v", got)
	}
	if _, _, err := s.Take(1).Split(0, 0.2); err == nil {
		t.Error("a single record was split")
	}
	in, labels := all(t, s.Shuffle(7), ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1)))
	for i, l := range labels {
		if in[0].Float32s()[i] != float32(l) {
			t.Errorf("record %d has label %d", i, l)
		}
	}
}

func TestFixedBatch(t *testing.T) {
	s := numbers(t, 6)
	src, err := s.For(graphWith(ir.TensorType(tensor.F32, ir.Fixed(3), ir.Fixed(1))))
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range src.Batches(100) {
		if err != nil || b[0].Shape()[0] != 3 {
			t.Errorf("batch of %v, %v", b[0].Shape(), err)
		}
	}
	// 6 records in batches of exactly 4: the last one is filled up with the first two.
	if src, err = s.For(graphWith(ir.TensorType(tensor.F32, ir.Fixed(4), ir.Fixed(1)))); err != nil {
		t.Fatal(err)
	}
	var got []float32
	for b, err := range src.Batches(100) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b[0].Float32s()...)
	}
	if want := []float32{0, 1, 2, 3, 4, 5, 0, 1}; !slices.Equal(got, want) || src.Len() != 8 {
		t.Errorf("%d samples, %v, expected %v", src.Len(), got, want)
	}
}

// fakeModel scores class c of sample x with −|x − c|, so that the label wins,
// except for every third sample, whose scores are all equal.
type fakeModel struct {
	backends.Executable
	classes int
}

func (f fakeModel) Run(_ context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	n := in[0].Shape()[0]
	out := make([]float32, n*f.classes)
	for i, x := range in[0].Float32s() {
		for c := range f.classes {
			if int(x)%3 > 0 {
				out[i*f.classes+c] = -float32(math.Abs(float64(x) - float64(c)))
			}
		}
	}
	return []*tensor.Tensor{tensor.Of(out, n, f.classes, 1, 1)}, nil
}

func (fakeModel) Close() {}

func TestEvaluate(t *testing.T) {
	src, err := numbers(t, 12).For(graphWith(ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1))))
	if err != nil {
		t.Fatal(err)
	}
	// Samples 0, 3, 6, 9 tie: class 0 wins, and 3 is among the five lowest classes.
	for _, batch := range []int{1, 5, 100} {
		got, err := Evaluate(context.Background(), fakeModel{classes: 12}, src, batch)
		if want := (Accuracy{9. / 12, 10. / 12, 12}); err != nil || got != want {
			t.Errorf("batch %d: %v, %v; want %v", batch, got, err, want)
		}
	}
	if _, err := Evaluate(context.Background(), fakeModel{classes: 11}, src, 4); err == nil || !strings.Contains(err.Error(), "label 11, the model has 11 outputs") {
		t.Errorf("label out of range: %v", err)
	}
}

func TestNPZ(t *testing.T) {
	dir := t.TempDir()
	in := []Named{
		{"b", tensor.Of([]float32{1, 2, 3}, 3)},
		{"a/b", tensor.Of([]bool{true, false}, 2, 1)},
		{"s", tensor.Scalar(int64(-5))},
		{"h", tensor.FromFloat32s(tensor.F16, []float32{0.5, -2}, 1, 2)},
		{"u", tensor.Of([]uint64{math.MaxUint64})},
	}
	in[4].Tensor = in[4].Tensor.Reshape(1)
	one, two := filepath.Join(dir, "1.npz"), filepath.Join(dir, "2.npz")
	for _, f := range []string{one, two} {
		if err := WriteNPZ(f, in); err != nil {
			t.Fatal(err)
		}
	}
	b1, _ := os.ReadFile(one)
	b2, _ := os.ReadFile(two)
	if !bytes.Equal(b1, b2) {
		t.Error("the same arrays gave different bytes")
	}
	out, err := ReadNPZ(one)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range in {
		if out[i].Name != n.Name || !tensor.Equal(out[i].Tensor, n.Tensor) {
			t.Errorf("%s came back as %s %v", n.Name, out[i].Name, out[i].Tensor)
		}
	}
	if err := WriteNPZ(filepath.Join(dir, "3.npz"), []Named{{"t", tensor.Of([]string{"x"}, 1)}}); err == nil {
		t.Error("text was written")
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 2 {
		t.Errorf("files left behind: %v", left)
	}
	// What numpy.save writes for numpy.arange(1, 3, dtype='<f4').
	want := "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }" + strings.Repeat(" ", 60) + "\n\x00\x00\x80?\x00\x00\x00@"
	if got := string(npyOf(t, tensor.Of([]float32{1, 2}, 2))); got != want {
		t.Errorf("wrote %q\nwant  %q", got, want)
	}
}
