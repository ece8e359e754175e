package ops

import (
	"context"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The fused operators of ONNX Runtime become quantised float operators.
func TestImportQLinear(t *testing.T) {
	u8 := func(shape []int, v ...int64) *tensor.Tensor { return tensor.FromInt64s(tensor.U8, v, shape...) }
	s := func(v float32) *tensor.Tensor { return tensor.Scalar(v) }
	z := func(v int64) *tensor.Tensor { return u8(nil, v) }
	x := u8([]int{1, 1, 2, 2}, 10, 20, 30, 251)
	cases := []struct {
		op    string
		attrs ir.Attrs
		in    []*tensor.Tensor // after x
		want  []float32        // integers, or floats without output scale
	}{
		{"QLinearAdd", nil, []*tensor.Tensor{s(0.5), z(10), x, s(1), nil, s(2), z(1)}, []float32{6, 13, 21, 187}},
		{"QLinearMul", nil, []*tensor.Tensor{s(0.5), z(10), x, s(0.25), z(10), s(2), z(1)}, []float32{1, 7, 26, 255}},
		{"QLinearLeakyRelu", ir.MakeAttrs("alpha", 0.5), []*tensor.Tensor{s(1), z(20), s(1), z(100)}, []float32{95, 100, 110, 255}},
		{"QLinearSigmoid", nil, []*tensor.Tensor{s(1), z(30), s(1. / 256), nil}, []float32{0, 0, 128, 255}},
		{"QLinearGlobalAveragePool", nil, []*tensor.Tensor{s(1), z(10), s(0.25), z(0)}, []float32{255}},
		{"QLinearAveragePool", ir.MakeAttrs("kernel_shape", []int{1, 2}), []*tensor.Tensor{s(1), z(10), s(2), z(0)}, []float32{2, 65}},
		{"QLinearSoftmax", ir.MakeAttrs("axis", 3, "opset", 13), []*tensor.Tensor{s(1), z(0), s(1. / 256), nil}, []float32{0, 255, 0, 255}},
	}
	for _, c := range cases {
		g, err := importedOver(t, microsoftOp(c.op), c.attrs, append([]*tensor.Tensor{x}, c.in...))
		if err != nil {
			t.Errorf("%s: %v", c.op, err)
			continue
		}
		y, err := ir.Eval(context.Background(), g, nil)
		if err != nil {
			t.Errorf("%s: %v", c.op, err)
		} else if got := y[0].Float32s(); y[0].Elem() != tensor.U8 || !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v %v, want %v", c.op, y[0].Elem(), got, c.want)
		}
	}
	a, b := u8([]int{1, 2}, 1, 3), u8([]int{2, 2}, 1, 2, 3, 4)
	g, err := importedOver(t, microsoftOp("QGemm"), ir.MakeAttrs("alpha", 2.0), []*tensor.Tensor{a, s(0.5), z(1), b, s(1), z(2), tensor.Of([]int32{5, -5}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	// 2·(0.5·[0 2])·[[−1 0] [1 2]] + [5 −5]·(2·0.5·1)
	if y, err := ir.Eval(context.Background(), g, nil); err != nil || !slices.Equal(y[0].Float32s(), []float32{7, -1}) {
		t.Errorf("QGemm: got %v, %v", y, err)
	}
	g, err = importedOver(t, microsoftOp("QLinearConcat"), ir.MakeAttrs("axis", 1), []*tensor.Tensor{s(2), z(1), a, s(1), z(0), a, s(4), z(1)})
	if err != nil {
		t.Fatal(err)
	}
	if y, err := ir.Eval(context.Background(), g, nil); err != nil || !slices.Equal(y[0].Int64s(), []int64{1, 3, 1, 5}) {
		t.Errorf("QLinearConcat: got %v, %v", y, err)
	}
	if _, err := importedOver(t, microsoftOp("QLinearGlobalAveragePool"), ir.MakeAttrs("channels_last", 1), []*tensor.Tensor{x, s(1), z(0), s(1), z(0)}); err == nil {
		t.Error("channels_last was accepted")
	}
}

func microsoftOp(name string) string { return microsoft + name }

// importedOver reads one node over constants; nil is an absent input.
func importedOver(t *testing.T, op string, attrs ir.Attrs, in []*tensor.Tensor) (*ir.Graph, error) {
	t.Helper()
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	var vs []*ir.Value
	for _, c := range in {
		if c == nil {
			vs = append(vs, nil)
			continue
		}
		vs = append(vs, r.Const("c", c))
	}
	n, err := r.AddRaw(op, "n", attrs, vs, "y")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Op.Import(r, n, 1); err != nil {
		return nil, err
	}
	if err := n.Infer(); err != nil {
		return nil, err
	}
	r.Output(n.Out[0])
	return r.Graph(), ir.Verify(r.Graph())
}
