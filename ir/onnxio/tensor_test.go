package onnxio

import (
	"crypto/sha1"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// ints counts through the range of an integer type, its ends included.
func ints(e tensor.Elem) *tensor.Tensor {
	lo, hi := e.Range()
	x := []int64{lo, hi, 0, 1, hi - 1, lo + 1, hi / 2}
	return tensor.FromInt64s(e, x, len(x), 1)
}

func TestTensorRoundTrip(t *testing.T) {
	dir := t.TempDir()
	f := []float32{0, float32(math.Copysign(0, -1)), 1, -2.5, float32(math.Inf(1)), 65504, 1e-7}
	all := []*tensor.Tensor{
		tensor.Of(f, 7), tensor.Of([]float64{1e300, -0.1}, 2, 1), tensor.FromFloat32s(tensor.F16, f, 7, 1), tensor.FromFloat32s(tensor.BF16, f, 1, 7),
		tensor.Of([]bool{true, false, true}, 3), tensor.Of([]string{"", "a\x00b"}, 2), tensor.Scalar(float32(3)), tensor.Of([]float32{}, 0, 3),
		tensor.OfElem(tensor.U64, []uint64{math.MaxUint64, 0}, 2),
	}
	for _, e := range []tensor.Elem{tensor.Int(2), tensor.Uint(2), tensor.I4, tensor.U4, tensor.I8, tensor.U8, tensor.I16, tensor.U16, tensor.I32, tensor.U32, tensor.I64} {
		all = append(all, ints(e))
	}
	for _, want := range all {
		path := filepath.Join(dir, "t.pb")
		if err := WriteTensor(path, "name", want); err != nil {
			t.Fatal(err)
		}
		got, name, err := ReadTensor(path)
		if err != nil || name != "name" || !tensor.Equal(got, want) {
			t.Errorf("%v%v: read %v %q, %v", want.Elem(), want.Shape(), got, name, err)
		}
	}
	if err := WriteTensor(filepath.Join(dir, "odd.pb"), "", tensor.New(tensor.Int(5), 2)); err == nil || !strings.Contains(err.Error(), "no element type i5") {
		t.Errorf("writing i5: %v", err)
	}
}

func TestTypedFields(t *testing.T) {
	for _, c := range []struct {
		text string
		want *tensor.Tensor
		err  string
	}{
		{text: `dims: 3 data_type: 22 int32_data: 0x8f int32_data: 0x07`, want: tensor.FromInt64s(tensor.I4, []int64{-1, -8, 7}, 3)},
		{text: `dims: 3 data_type: 21 raw_data: "\x8f\x07"`, want: tensor.FromInt64s(tensor.U4, []int64{15, 8, 7}, 3)},
		{text: `dims: 5 data_type: 26 raw_data: "\xe4\x01"`, want: tensor.FromInt64s(tensor.Int(2), []int64{0, 1, -2, -1, 1}, 5)},
		{text: `dims: 1 data_type: 10 int32_data: 0x3c00`, want: tensor.FromFloat32s(tensor.F16, []float32{1}, 1)},
		{text: `dims: 1 data_type: 16 int32_data: 0x3f80`, want: tensor.FromFloat32s(tensor.BF16, []float32{1}, 1)},
		{text: `dims: 2 data_type: 9 int32_data: 0 int32_data: 1`, want: tensor.Of([]bool{false, true}, 2)},
		{text: `dims: 1 data_type: 12 uint64_data: 4294967295`, want: tensor.Of([]uint32{math.MaxUint32}, 1)},
		{text: `dims: 1 data_type: 5 int32_data: -32768`, want: tensor.Of([]int16{math.MinInt16}, 1)},
		{text: `dims: 1 data_type: 8 string_data: "s"`, want: tensor.Of([]string{"s"}, 1)},
		{text: `data_type: 11 double_data: 0.5`, want: tensor.Scalar(0.5)},
		{text: `dims: 1 data_type: 12 uint64_data: 4294967296`, err: "outside u32"},
		{text: `dims: 1 data_type: 10 int32_data: 65536`, err: "outside f16"},
		{text: `dims: 1 data_type: 9 int32_data: 2`, err: "outside bool"},
		{text: `dims: 2 data_type: 22 int32_data: 256`, err: "more than a byte"},
		{text: `dims: 3 data_type: 22 raw_data: "a"`, err: "takes 2 bytes, the file has 1"},
		{text: `dims: 1 data_type: 8 raw_data: "s"`, err: "strings must be in string_data"},
		{text: `dims: 1 data_type: 14 float_data: 1`, err: "type COMPLEX64 is not supported"},
		{text: `dims: 1 float_data: 1`, err: "0 is not an element type"},
		{text: `dims: -1 data_type: 1`, err: "negative dimension"},
		{text: `dims: 4000000000 dims: 4000000000 data_type: 1`, err: "overflows"},
		{text: `dims: 1 data_type: 1 float_data: 1 segment { begin: 0 end: 1 }`, err: "segments"},
	} {
		var p onnxpb.TensorProto
		if err := prototext.Unmarshal([]byte(c.text), &p); err != nil {
			t.Fatal(err)
		}
		data, _ := proto.Marshal(&p)
		got, _, err := DecodeTensor(data)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.text, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.text, err)
		case !tensor.Equal(got, c.want):
			t.Errorf("%s: got %v %v, want %v %v", c.text, got.Elem(), got.Container(), c.want.Elem(), c.want.Container())
		}
	}
}

// externalModel adds to x a weight of two f32 whose data is described by the
// given key, value pairs.
func externalModel(t *testing.T, pairs ...string) []byte {
	s := `initializer { name: "w" dims: 2 data_type: 1 data_location: EXTERNAL `
	for i := 0; i < len(pairs); i += 2 {
		s += fmt.Sprintf("external_data { key: %q value: %q } ", pairs[i], pairs[i+1])
	}
	return encodeText(t, graph(x+s+"} "+node("Add", "x w", "y")+y))
}

func TestExternalData(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "model")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	data := []byte("\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40") // 1, 2, 3
	for _, f := range []string{filepath.Join(outside, "secret"), filepath.Join(dir, "w.bin"), filepath.Join(dir, "sub", "w.bin")} {
		if err := os.WriteFile(f, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "../secret", "inside": "w.bin", "absolute": filepath.Join(outside, "secret"), "up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		pairs []string
		want  []float32
		err   string
	}{
		{pairs: []string{"location", "w.bin"}, want: []float32{1, 2}},
		{pairs: []string{"location", "w.bin", "offset", "4", "length", "8"}, want: []float32{2, 3}},
		{pairs: []string{"location", "sub/w.bin", "checksum", fmt.Sprintf("%X", sha1.Sum(data))}, want: []float32{1, 2}},
		{pairs: []string{"location", "inside"}, want: []float32{1, 2}},
		{pairs: []string{"location", "../secret"}, err: "not a relative path inside"},
		{pairs: []string{"location", "sub/../../secret"}, err: "not a relative path inside"},
		{pairs: []string{"location", filepath.Join(outside, "secret")}, err: "not a relative path inside"},
		{pairs: []string{"location", "w.bin\x00"}, err: "not a relative path inside"},
		{pairs: []string{"location", `..\secret`}, err: "not a relative path inside"},
		{pairs: []string{"location", ""}, err: "not a relative path inside"},
		{pairs: []string{"location", "link"}, err: "escapes"},
		{pairs: []string{"location", "absolute"}, err: "escapes"},
		{pairs: []string{"location", "up/secret"}, err: "escapes"},
		{pairs: []string{"location", "sub"}, err: "not a regular file"},
		{pairs: []string{"location", "missing"}, err: "no such file"},
		{pairs: []string{"location", "w.bin", "offset", "5"}, err: "end beyond the file's 12 bytes"},
		{pairs: []string{"location", "w.bin", "offset", "9223372036854775807"}, err: "end beyond"},
		{pairs: []string{"location", "w.bin", "offset", "-4"}, err: "negative"},
		{pairs: []string{"location", "w.bin", "length", "12"}, err: "length: 12 bytes, but the tensor takes 8"},
		{pairs: []string{"location", "w.bin", "offset", "1e3"}, err: "offset"},
		{pairs: []string{"location", "w.bin", "checksum", strings.Repeat("ab", 20)}, err: "SHA-1"},
	} {
		g, err := Decode(externalModel(t, c.pairs...), dir, ops.Table())
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.pairs, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.pairs, err)
		case !slices.Equal(g.Consts[0].Data.Float32s(), c.want):
			t.Errorf("%q: got %v, want %v", c.pairs, g.Consts[0].Data.Float32s(), c.want)
		}
	}
}

func TestExternalReuse(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "w.bin"), make([]byte, 8), 0o644); err != nil {
		t.Fatal(err)
	}
	s := ""
	for i := range 20 {
		s += fmt.Sprintf(`initializer { name: "w%d" dims: 2 data_type: 1 data_location: EXTERNAL external_data { key: "location" value: "w.bin" } } `, i)
	}
	_, err := Decode(encodeText(t, graph(x+s+node("Relu", "x", "y")+y)), dir, ops.Table())
	if err == nil || !strings.Contains(err.Error(), "more than 4 times") {
		t.Errorf("got %v", err)
	}
}
