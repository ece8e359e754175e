package ops

import (
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func TestQuantizeLinear(t *testing.T) {
	cases := []struct {
		name        string
		x, scale, z *tensor.Tensor
		attrs       ir.Attrs
		want        *tensor.Tensor
	}{
		{"default is u8", vec32(-1, 2.5, 300), vec32(1), nil, nil, tensor.Of([]uint8{0, 2, 255}, 3)},
		{"five bits", vec32(-99, 2.5, 99), vec32(1), tensor.FromInt64s(tensor.Int(5), []int64{1}, 1), nil,
			tensor.FromInt64s(tensor.Int(5), []int64{-16, 3, 15}, 3)},
		{"per axis", tensor.Of([]float32{1, 2, 3, 4}, 2, 2), vec32(1, 2), tensor.Of([]int8{0, 10}, 2), ir.MakeAttrs("axis", 0),
			tensor.Of([]int8{1, 2, 12, 12}, 2, 2)},
		{"blocked", tensor.Of([]float32{6, 6, 6, 6, 6, 6}, 2, 3), tensor.Of([]float32{1, 2, 3, 6}, 2, 2), tensor.Of([]int8{0, 0, 0, 1}, 2, 2),
			ir.MakeAttrs("axis", 1, "block_size", 2), tensor.Of([]int8{6, 6, 3, 2, 2, 2}, 2, 3)},
		{"output type", vec32(1), vec32(1), nil, ir.MakeAttrs("output_dtype", 5), tensor.Of([]int16{1}, 1)},
		{"operands in f16", vec32(1000.26, 1000.24), vec32(0.1), nil, ir.MakeAttrs("output_dtype", 5, "precision", 10), tensor.Of([]int16{10008, 10000}, 2)},
		{"quotient in f64", vec32(2.5), vec32(0.1), nil, ir.MakeAttrs("precision", 11), tensor.Of([]uint8{25}, 1)},
		{"quotient in f16", vec32(2049), vec32(1), nil, ir.MakeAttrs("output_dtype", 5, "precision", 10), tensor.Of([]int16{2048}, 1)},
	}
	for _, c := range cases {
		if y := evalConst(t, "QuantizeLinear", c.attrs, c.x, c.scale, c.z); !tensor.Equal(y, c.want) {
			t.Errorf("%s: got %v %v, want %v", c.name, y.Elem(), y.Container(), c.want.Container())
		}
	}
}

func TestBlockShapes(t *testing.T) {
	for _, c := range []struct {
		x, scale, zero  []int
		axis, blockSize int
		ok              bool
	}{
		{[]int{12, 64}, []int{1, 64}, nil, 0, 128, true},
		{[]int{12, 64}, []int{12, 1}, nil, 0, 128, false},
		{[]int{12, 64}, []int{12, 1}, nil, 1, 128, true},
		{[]int{12, 64}, []int{12, 4}, []int{12, 4}, -1, 16, true},
		{[]int{12, 64}, []int{12, 4}, []int{12, 1}, -1, 16, false},
		{[]int{12, 64}, []int{12, 3}, nil, 1, 16, false},
		{[]int{12, 63}, []int{12, 4}, nil, 1, 16, true},
		{[]int{12, 64}, []int{12}, nil, 0, 16, false},
		{[]int{12, 64}, []int{12, 64}, nil, 2, 16, false},
	} {
		for _, op := range []string{"DequantizeLinear", "QuantizeLinear"} {
			g := ir.NewGraph("g", Table())
			r := ir.NewRewriter(g)
			e := tensor.I8
			if op == "QuantizeLinear" {
				e = tensor.F32
			}
			in := []*ir.Value{r.Input("x", ir.TensorType(e, ir.Dims(c.x...)...)), r.Input("s", ir.TensorType(tensor.F32, ir.Dims(c.scale...)...))}
			if c.zero != nil {
				in = append(in, r.Input("z", ir.TensorType(tensor.I8, ir.Dims(c.zero...)...)))
			}
			if _, err := r.Add(op, "n", ir.MakeAttrs("axis", c.axis, "block_size", c.blockSize), in); (err == nil) != c.ok {
				t.Errorf("%s %+v: %v", op, c, err)
			}
		}
	}
}

func TestDequantizeLinear(t *testing.T) {
	y := evalConst(t, "DequantizeLinear", ir.MakeAttrs("axis", 1, "block_size", 2),
		tensor.Of([]int8{6, 6, 6, -6, -6, -6}, 2, 3), tensor.Of([]float32{1, 2, 3, 0.5}, 2, 2), tensor.Of([]int8{0, 0, 0, 1}, 2, 2))
	if got, want := y.Float32s(), []float32{6, 6, 12, -18, -18, -3.5}; !slices.Equal(got, want) {
		t.Errorf("blocked: got %v, want %v", got, want)
	}
	y = evalConst(t, "DequantizeLinear", nil, tensor.FromInt64s(tensor.Uint(3), []int64{7, 0}, 2),
		tensor.FromFloat32s(tensor.F16, []float32{0.1}, 1), tensor.FromInt64s(tensor.Uint(3), []int64{4}, 1))
	if got, want := y.Float32s(), []float32{0.2998047, -0.39990234}; y.Elem() != tensor.F16 || !slices.Equal(got, want) {
		t.Errorf("f16: got %v, want %v", got, want)
	}
}

func TestExportLinear(t *testing.T) {
	for _, c := range []struct {
		name  string
		q     *tensor.Tensor
		attrs ir.Attrs
		scale *tensor.Tensor
		opset int
		ok    bool
	}{
		{"per tensor at 10", tensor.Of([]int8{1, 2}, 2), ir.MakeAttrs("axis", 0), vec32(1), 10, true},
		{"per channel at 10", tensor.Of([]int8{1, 2}, 2), ir.MakeAttrs("axis", 0), vec32(1, 2), 10, false},
		{"per channel at 13", tensor.Of([]int8{1, 2}, 2), ir.MakeAttrs("axis", 0), vec32(1, 2), 13, true},
		{"i4 at 20", tensor.FromInt64s(tensor.I4, []int64{1, 2}, 2), nil, vec32(1), 20, false},
		{"i4 at 21", tensor.FromInt64s(tensor.I4, []int64{1, 2}, 2), nil, vec32(1), 21, true},
		{"i5", tensor.FromInt64s(tensor.Int(5), []int64{1, 2}, 2), nil, vec32(1), 24, false},
		{"blocked at 20", tensor.Of([]int8{1, 2}, 2), ir.MakeAttrs("axis", 0, "block_size", 1), vec32(1, 2), 20, false},
	} {
		r := ir.NewRewriter(ir.NewGraph("t", Table()))
		n, err := r.Add("DequantizeLinear", "d", c.attrs, []*ir.Value{r.Const("q", c.q), r.Const("s", c.scale)})
		if err != nil {
			t.Fatal(err)
		}
		err = n.Op.Export(r, n, c.opset)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && n.Attrs.Has("axis") && c.opset < 13 {
			t.Errorf("%s: kept axis", c.name)
		}
	}
}

func TestDynamicQuantizeLinear(t *testing.T) {
	y := evalConst(t, "DynamicQuantizeLinear", nil, vec32(0, 2, -3, -2.5, 1.34, 0.5))
	if want := tensor.Of([]uint8{153, 255, 0, 26, 221, 179}, 6); !tensor.Equal(y, want) {
		t.Errorf("got %v, want %v", y.Container(), want.Container())
	}
	if y = evalConst(t, "DynamicQuantizeLinear", nil, vec32(0, 0)); y.Int64s()[0] != 0 {
		t.Errorf("zeros: got %v", y.Container())
	}
}
