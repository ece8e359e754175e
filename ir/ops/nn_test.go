package ops

import (
	"math"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func of(x []float32, shape ...int) *tensor.Tensor { return tensor.Of(x, shape...) }

// upTo returns 1, 2, …, n in the given shape.
func upTo(shape ...int) *tensor.Tensor {
	x := make([]float32, sizeOf(shape))
	for i := range x {
		x[i] = float32(i + 1)
	}
	return of(x, shape...)
}

// TestOperators compares operators with results worked out by hand.
func TestOperators(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		name, op string
		attrs    ir.Attrs
		in       []*tensor.Tensor
		want     []float32
	}{
		{"conv", "Conv", nil, []*tensor.Tensor{upTo(1, 1, 3, 3), of([]float32{1, 0, 0, 2}, 1, 1, 2, 2), vec32(0.5)},
			[]float32{11.5, 14.5, 20.5, 23.5}},
		{"conv padded, strided", "Conv", ir.MakeAttrs("pads", []int{1, 1, 1, 1}, "strides", []int{2, 2}), []*tensor.Tensor{upTo(1, 1, 3, 3), of([]float32{1, 1, 1, 1, 1, 1, 1, 1, 1}, 1, 1, 3, 3)},
			[]float32{12, 16, 24, 28}},
		{"conv same upper", "Conv", ir.MakeAttrs("auto_pad", "SAME_UPPER"), []*tensor.Tensor{upTo(1, 1, 4), of([]float32{1, 10}, 1, 1, 2)},
			[]float32{21, 32, 43, 4}},
		{"conv same lower", "Conv", ir.MakeAttrs("auto_pad", "SAME_LOWER"), []*tensor.Tensor{upTo(1, 1, 4), of([]float32{1, 10}, 1, 1, 2)},
			[]float32{10, 21, 32, 43}},
		{"conv dilated", "Conv", ir.MakeAttrs("dilations", []int{2}), []*tensor.Tensor{upTo(1, 1, 4), of([]float32{1, 10}, 1, 1, 2)},
			[]float32{31, 42}},
		{"depthwise", "Conv", ir.MakeAttrs("group", 2), []*tensor.Tensor{upTo(1, 2, 2), of([]float32{1, 10}, 2, 1, 1)},
			[]float32{1, 2, 30, 40}},
		{"transposed", "ConvTranspose", ir.MakeAttrs("strides", []int{2}), []*tensor.Tensor{upTo(1, 1, 2), of([]float32{1, 10, 100}, 1, 1, 3)},
			[]float32{1, 10, 102, 20, 200}},
		{"transposed, output shape", "ConvTranspose", ir.MakeAttrs("strides", []int{2}, "output_shape", []int{4}), []*tensor.Tensor{upTo(1, 1, 2), of([]float32{1, 10, 100}, 1, 1, 3)},
			[]float32{10, 102, 20, 200}},
		{"gemm", "Gemm", ir.MakeAttrs("alpha", 2.0, "transB", 1), []*tensor.Tensor{upTo(1, 2), upTo(2, 2), vec32(1, 2)},
			[]float32{11, 24}},
		{"matmul of vectors", "MatMul", nil, []*tensor.Tensor{vec32(1, 2, 3), vec32(4, 5, 6)}, []float32{32}},
		{"max pool, ceil", "MaxPool", ir.MakeAttrs("kernel_shape", []int{2}, "strides", []int{2}, "ceil_mode", 1), []*tensor.Tensor{upTo(1, 1, 5)},
			[]float32{2, 4, 5}},
		{"ceil drops a window that starts beyond the input", "MaxPool", ir.MakeAttrs("kernel_shape", []int{2}, "strides", []int{3}, "pads", []int{0, 1}, "ceil_mode", 1), []*tensor.Tensor{upTo(1, 1, 3)},
			[]float32{2}},
		{"average pool", "AveragePool", ir.MakeAttrs("kernel_shape", []int{2}, "pads", []int{1, 1}), []*tensor.Tensor{upTo(1, 1, 2)},
			[]float32{1, 1.5, 2}},
		{"average pool with padding", "AveragePool", ir.MakeAttrs("kernel_shape", []int{2}, "pads", []int{1, 1}, "count_include_pad", 1), []*tensor.Tensor{upTo(1, 1, 2)},
			[]float32{0.5, 1.5, 1}},
		{"global average", "GlobalAveragePool", nil, []*tensor.Tensor{upTo(1, 2, 2)}, []float32{1.5, 3.5}},
		{"batch normalisation", "BatchNormalization", ir.MakeAttrs("epsilon", 0.0), []*tensor.Tensor{upTo(1, 2, 1), vec32(2, 3), vec32(10, 20), vec32(3, 4), vec32(4, 9)},
			[]float32{8, 18}},
		{"layer normalisation", "LayerNormalization", ir.MakeAttrs("epsilon", 0.0), []*tensor.Tensor{of([]float32{1, 3}, 1, 2), vec32(2, 4), vec32(1, 1)},
			[]float32{-1, 5}},
		{"rms normalisation", "RMSNormalization", ir.MakeAttrs("epsilon", 0.0), []*tensor.Tensor{of([]float32{7, 1}, 1, 2), vec32(5, 5)}, []float32{7, 1}},
		{"group normalisation", "GroupNormalization", ir.MakeAttrs("num_groups", 1, "epsilon", 0.0), []*tensor.Tensor{of([]float32{1, 3}, 1, 2, 1), vec32(2, 4), vec32(1, 1)},
			[]float32{-1, 5}},
		{"lrn", "LRN", ir.MakeAttrs("size", 3, "alpha", 3.0, "beta", 1.0, "bias", 1.0), []*tensor.Tensor{upTo(1, 3, 1)},
			[]float32{1. / 6, 2. / 15, 3. / 14}},
		{"relu keeps NaN", "Relu", nil, []*tensor.Tensor{vec32(-1, nan, 2)}, []float32{0, nan, 2}},
		{"clip", "Clip", nil, []*tensor.Tensor{vec32(-1, nan, 7, 3), tensor.Scalar(float32(0)), tensor.Scalar(float32(6))}, []float32{0, nan, 6, 3}},
		{"leaky relu", "LeakyRelu", ir.MakeAttrs("alpha", 0.5), []*tensor.Tensor{vec32(-2, 2)}, []float32{-1, 2}},
		{"hard swish", "HardSwish", nil, []*tensor.Tensor{vec32(-4, 0, 3, 5)}, []float32{0, 0, 3, 5}},
		{"prelu", "PRelu", nil, []*tensor.Tensor{of([]float32{-1, -1}, 1, 2), vec32(2, 3)}, []float32{-2, -3}},
		{"softmax of equals", "Softmax", nil, []*tensor.Tensor{vec32(1000, 1000)}, []float32{0.5, 0.5}},
		{"hardmax takes the first", "Hardmax", nil, []*tensor.Tensor{vec32(1, 3, 3)}, []float32{0, 1, 0}},
		{"einsum", "Einsum", ir.MakeAttrs("equation", "ij,jk->ki"), []*tensor.Tensor{upTo(1, 2), upTo(2, 2)}, []float32{7, 10}},
		{"einsum of a diagonal", "Einsum", ir.MakeAttrs("equation", "ii"), []*tensor.Tensor{upTo(2, 2)}, []float32{5}},
		{"determinant", "Det", nil, []*tensor.Tensor{upTo(2, 2)}, []float32{-2}},
		{"loss, ignored class", "NegativeLogLikelihoodLoss", ir.MakeAttrs("ignore_index", 1), []*tensor.Tensor{of([]float32{-1, -2, -3, -4}, 2, 2), tensor.Of([]int64{0, 1}, 2)}, []float32{1}},
		{"sum", "Sum", nil, []*tensor.Tensor{vec32(1, 2), vec32(10), vec32(100, 200)}, []float32{111, 212}},
		{"fmod", "Mod", ir.MakeAttrs("fmod", 1), []*tensor.Tensor{vec32(-5.5), vec32(2)}, []float32{-1.5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := evalConst(t, c.op, c.attrs, c.in...).Float32s()
			if !slices.EqualFunc(got, c.want, func(a, b float32) bool { return a == b || a != a && b != b }) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestIntegers checks wrapping, division and the 64-bit unsigned cases.
func TestIntegers(t *testing.T) {
	five := tensor.OfElem(tensor.Int(5), []int8{15, -16}, 2)
	one := tensor.OfElem(tensor.Int(5), []int8{1, -1}, 2)
	big := tensor.Of([]uint64{1 << 63, 1}, 2)
	for _, c := range []struct {
		op    string
		attrs ir.Attrs
		in    []*tensor.Tensor
		want  []int64
	}{
		{"Add", nil, []*tensor.Tensor{five, one}, []int64{-16, 15}},
		{"Div", nil, []*tensor.Tensor{tensor.Of([]int32{-7, 7}, 2), tensor.Of([]int32{2, -2}, 2)}, []int64{-3, -3}},
		{"Div", nil, []*tensor.Tensor{big, tensor.Of([]uint64{2, 1}, 2)}, []int64{1 << 62, 1}},
		{"Mod", nil, []*tensor.Tensor{tensor.Of([]int32{-7, 7}, 2), tensor.Of([]int32{2, -2}, 2)}, []int64{1, -1}},
		{"Greater", nil, []*tensor.Tensor{big, tensor.Of([]uint64{1, 1}, 2)}, []int64{1, 0}},
		{"Max", nil, []*tensor.Tensor{big, tensor.Of([]uint64{5, 5}, 2)}, []int64{-1 << 63, 5}},
		{"BitShift", ir.MakeAttrs("direction", "RIGHT"), []*tensor.Tensor{tensor.Of([]int8{-8, -8, 64, -1}, 4), tensor.Of([]int8{1, -1, 7, 8}, 4)}, []int64{-4, -1, 0, -1}},
		{"BitShift", ir.MakeAttrs("direction", "LEFT"), []*tensor.Tensor{tensor.Of([]int8{64, -1, 3}, 3), tensor.Of([]int8{1, 8, -1}, 3)}, []int64{-128, 0, 0}},
		{"Mod", nil, []*tensor.Tensor{tensor.Of([]float32{-5, 5, -4, 7}, 4), tensor.Of([]float32{3, -3, 2, -9}, 4)}, []int64{1, -1, 0, -2}},
		{"BitShift", ir.MakeAttrs("direction", "LEFT"), []*tensor.Tensor{tensor.Of([]uint8{200, 1}, 2), tensor.Of([]uint8{1, 8}, 2)}, []int64{144, 0}},
		{"Pow", nil, []*tensor.Tensor{tensor.Of([]int32{-3, 2}, 2), tensor.Of([]int32{3, -1}, 2)}, []int64{-27, 0}},
		{"Neg", nil, []*tensor.Tensor{five}, []int64{-15, -16}},
	} {
		if got := evalConst(t, c.op, c.attrs, c.in...).Int64s(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.op, got, c.want)
		}
	}
}

// TestConvOrder shows that the order of a convolution's sum is the stated one:
// input channel, row, column, each product added with one rounding.
func TestConvOrder(t *testing.T) {
	x := of([]float32{1, 1 << 24, -1 << 24, 1}, 1, 2, 2, 1)
	w := of([]float32{1, 1, 1, 1}, 1, 2, 2, 1)
	if got := evalConst(t, "Conv", nil, x, w).Float32s()[0]; got != 1 { // ((1 + 2²⁴) − 2²⁴) + 1
		t.Errorf("got %v, want 1", got)
	}
}

// TestOldForms imports forms of old opsets.
func TestOldForms(t *testing.T) {
	for _, c := range []struct {
		name, op string
		opset    int
		attrs    ir.Attrs
		in       []*tensor.Tensor
		want     []float32
	}{
		{"axis", "Add", 6, ir.MakeAttrs("broadcast", 1, "axis", 0), []*tensor.Tensor{upTo(2, 2), vec32(10, 20)}, []float32{11, 12, 23, 24}},
		{"limits", "Clip", 6, ir.MakeAttrs("min", 2.0, "max", 3.0), []*tensor.Tensor{upTo(4)}, []float32{2, 2, 3, 3}},
		{"flattening", "Hardmax", 11, nil, []*tensor.Tensor{upTo(1, 2, 2)}, []float32{0, 0, 0, 1}},
		{"one long dimension", "Hardmax", 11, nil, []*tensor.Tensor{upTo(2, 2, 1)}, []float32{0, 1, 0, 1}},
		{"slopes", "PRelu", 6, nil, []*tensor.Tensor{of([]float32{-1, -1}, 1, 2, 1), vec32(2, 3)}, []float32{-2, -3}},
		{"groups", "GroupNormalization", 18, ir.MakeAttrs("num_groups", 1, "epsilon", 0.0), []*tensor.Tensor{of([]float32{1, 3}, 1, 2, 1), vec32(2), vec32(1)}, []float32{-1, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ir.NewRewriter(ir.NewGraph("t", Table()))
			var vs []*ir.Value
			for _, x := range c.in {
				vs = append(vs, r.Const("c", x))
			}
			n, err := r.AddRaw(c.op, "n", c.attrs, vs)
			if err == nil {
				err = n.Op.Import(r, n, c.opset)
			}
			if err == nil {
				err = n.Infer()
			}
			if err != nil {
				t.Fatal(err)
			}
			r.Output(n.Out[0])
			checkGraph(t, r.Graph(), c.want)
		})
	}
}

// TestExports writes operators in older forms, which must compute the same.
func TestExports(t *testing.T) {
	for _, c := range []struct {
		op    string
		opset int
		attrs ir.Attrs
		in    []*tensor.Tensor
	}{
		{"HardSwish", 13, nil, []*tensor.Tensor{vec32(-2, 0.5, 4)}},
		{"Mish", 17, nil, []*tensor.Tensor{vec32(-2, 0.5, 4)}},
		{"Swish", 17, ir.MakeAttrs("alpha", 2.0), []*tensor.Tensor{vec32(-2, 0.5, 4)}},
		{"Gelu", 17, nil, []*tensor.Tensor{vec32(-2, 0.5, 4)}},
		{"Gelu", 17, ir.MakeAttrs("approximate", "tanh"), []*tensor.Tensor{vec32(-2, 0.5, 4)}},
		{"LayerNormalization", 16, nil, []*tensor.Tensor{upTo(2, 3), vec32(1, 2, 3), vec32(3, 2, 1)}},
		{"RMSNormalization", 17, ir.MakeAttrs("axis", 0), []*tensor.Tensor{upTo(2, 3), vec32(1, 2, 3)}},
		{"GroupNormalization", 17, ir.MakeAttrs("num_groups", 2), []*tensor.Tensor{upTo(1, 4, 3), vec32(1, 2, 3, 4), vec32(3, 2, 1, 0)}},
	} {
		t.Run(c.op, func(t *testing.T) {
			want := evalConst(t, c.op, c.attrs, c.in...).Float32s()
			r := ir.NewRewriter(ir.NewGraph("t", Table()))
			var vs []*ir.Value
			for _, x := range c.in {
				vs = append(vs, r.Const("c", x))
			}
			n, err := r.Add(c.op, "n", c.attrs, vs)
			if err == nil {
				r.Output(n.Out[0])
				err = n.Op.Export(r, n, c.opset)
			}
			if err != nil {
				t.Fatal(err)
			}
			if n.Op.Name == c.op {
				t.Errorf("is still a %s", c.op)
			}
			if err := ir.Verify(r.Graph()); err != nil {
				t.Error(err)
			}
			checkGraph(t, r.Graph(), want)
		})
	}
}

// checkGraph evaluates a graph without inputs; its output may differ from want
// by some units in the last place.
func checkGraph(t *testing.T, g *ir.Graph, want []float32) {
	t.Helper()
	out, err := ir.Eval(t.Context(), g, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := out[0].Float32s()
	if !slices.EqualFunc(got, want, func(a, b float32) bool { return math.Abs(float64(a-b)) <= 2e-6*max(1, math.Abs(float64(b))) }) {
		t.Errorf("got %v, want %v", got, want)
	}
}
