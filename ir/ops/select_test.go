package ops

import (
	"math"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func TestSelect(t *testing.T) {
	x := f32s([]float32{1, 3, 3, 2}, 4)
	nan := float32(math.NaN())
	mat := func(rows int, v ...int64) *tensor.Tensor { return tensor.Of(v, rows, len(v)/rows) }
	runCases(t, []opCase{
		{"TopK", nil, ts{x, ints(2)}, ts{f32s([]float32{3, 3}, 2), ints(1, 2)}},
		{"TopK", ir.MakeAttrs("largest", 0), ts{x, ints(2)}, ts{f32s([]float32{1, 2}, 2), ints(0, 3)}},
		{"TopK", nil, ts{x, ints(5)}, nil},
		{"NonZero", nil, ts{f32s([]float32{0, nan, 1, 0}, 2, 2)}, ts{mat(2, 0, 1, 1, 0)}},
		{"Compress", ir.MakeAttrs("axis", 1), ts{mat(2, 1, 2, 3, 4), tensor.Of([]bool{false, true}, 2)}, ts{mat(2, 2, 4)}},
		{"Compress", nil, ts{mat(2, 1, 2, 3, 4), tensor.Of([]bool{false, true, true}, 3)}, ts{ints(2, 3)}},
		{"OneHot", nil, ts{ints(0, -1, 7), ints(2), ints(5, 9)}, ts{mat(3, 9, 5, 5, 9, 5, 5)}},
		{"OneHot", nil, ts{ints(0), ints(1 << 50), ints(5, 9)}, nil},
		{"EyeLike", ir.MakeAttrs("k", 1), ts{mat(2, 7, 7, 7, 7)}, ts{mat(2, 0, 1, 0, 0)}},
		{"Trilu", ir.MakeAttrs("upper", 0), ts{mat(2, 1, 2, 3, 4)}, ts{mat(2, 1, 0, 3, 4)}},
		{"Trilu", nil, ts{mat(2, 1, 2, 3, 4), tensor.Scalar(int64(math.MaxInt64))}, ts{mat(2, 0, 0, 0, 0)}},
		{"Range", nil, ts{tensor.Scalar(int64(5)), tensor.Scalar(int64(0)), tensor.Scalar(int64(-2))}, ts{ints(5, 3, 1)}},
		{"Range", nil, ts{tensor.Scalar(float32(0)), tensor.Scalar(float32(1)), tensor.Scalar(float32(0.5))}, ts{f32s([]float32{0, 0.5}, 2)}},
		{"Range", nil, ts{tensor.Scalar(int64(0)), tensor.Scalar(int64(math.MaxInt64)), tensor.Scalar(int64(1))}, nil},
		{"Range", nil, ts{tensor.Scalar(int64(0)), tensor.Scalar(int64(1)), tensor.Scalar(int64(0))}, nil},
		{"CumSum", nil, ts{ints(1, 2, 3), tensor.Scalar(int64(0))}, ts{ints(1, 3, 6)}},
		{"CumSum", ir.MakeAttrs("exclusive", 1, "reverse", 1), ts{ints(1, 2, 3), tensor.Scalar(int64(0))}, ts{ints(5, 3, 0)}},
		{"CumProd", nil, ts{ints(1, 2, 3), tensor.Scalar(int64(0))}, ts{ints(1, 2, 6)}},
		{"CumProd", ir.MakeAttrs("exclusive", 1), ts{ints(1, 2, 3), tensor.Scalar(int64(0))}, ts{ints(1, 1, 2)}},
		{"CumProd", ir.MakeAttrs("exclusive", 1, "reverse", 1), ts{f32s([]float32{1, 2, 3}, 3), tensor.Scalar(int64(-1))}, ts{f32s([]float32{6, 3, 1}, 3)}},
		{"BitCast", ir.MakeAttrs("to", tensor.I32.ONNXType()), ts{f32s([]float32{1, -2}, 2)}, ts{tensor.Of([]int32{0x3f800000, -0x40000000}, 2)}},
		{"BitCast", ir.MakeAttrs("to", tensor.U8.ONNXType()), ts{tensor.Of([]int8{-1, 5}, 2)}, ts{tensor.Of([]uint8{255, 5}, 2)}},
		{"BitCast", ir.MakeAttrs("to", tensor.U4.ONNXType()), ts{tensor.FromInt64s(tensor.I4, []int64{-1, 5}, 2)}, ts{tensor.FromInt64s(tensor.U4, []int64{15, 5}, 2)}},
		{"BitCast", ir.MakeAttrs("to", tensor.I64.ONNXType()), ts{f32s([]float32{1}, 1)}, nil},
		{"SpaceToDepth", ir.MakeAttrs("blocksize", 2, "mode", "CRD"), ts{ints(0, 1, 2, 3, 4, 5, 6, 7).Reshape(1, 2, 2, 2)}, ts{ints(0, 1, 2, 3, 4, 5, 6, 7).Reshape(1, 8, 1, 1)}},
		{"SpaceToDepth", ir.MakeAttrs("blocksize", 2), ts{ints(0, 1, 2, 3, 4, 5, 6, 7).Reshape(1, 2, 2, 2)}, ts{ints(0, 4, 1, 5, 2, 6, 3, 7).Reshape(1, 8, 1, 1)}},
		{"ReverseSequence", nil, ts{mat(3, 1, 2, 3, 4, 5, 6), ints(2, 3)}, ts{mat(3, 3, 6, 1, 4, 5, 2)}},
		{"ScatterElements", ir.MakeAttrs("axis", 0, "reduction", "add"), ts{ints(1, 1), ints(1, 1), ints(5, 6)}, ts{ints(1, 12)}},
		{"ScatterElements", nil, ts{ints(1, 1), ints(2), ints(5)}, nil},
		{"ScatterND", nil, ts{mat(2, 1, 2, 3, 4), mat(1, -1), mat(1, 8, 9)}, ts{mat(2, 1, 2, 8, 9)}},
		{"HannWindow", nil, ts{tensor.Scalar(int64(4))}, ts{f32s([]float32{0, 0.5, 1, 0.5}, 4)}},
		{"CenterCropPad", nil, ts{ints(1, 2, 3), ints(5)}, ts{ints(0, 1, 2, 3, 0)}},
		{"CenterCropPad", nil, ts{ints(1, 2, 3, 4), ints(1)}, ts{ints(2)}},
	})
	// What the number of outputs depends on the data for is not known beforehand.
	for _, c := range []opCase{
		{"Unique", nil, ts{ints(4, 1, 4)}, ts{ints(1, 4), ints(1, 0), ints(1, 0, 1), ints(1, 2)}},
		{"Unique", ir.MakeAttrs("sorted", 0), ts{ints(4, 1, 4)}, ts{ints(4, 1), ints(0, 1), ints(0, 1, 0), ints(2, 1)}},
		{"NonMaxSuppression", nil, ts{f32s([]float32{0, 0, 1, 1, 0, 0, 1, 0.9, 2, 2, 3, 3}, 1, 3, 4), f32s([]float32{0.5, 0.9, 0.4}, 1, 1, 3), ints(3), f32s([]float32{0.5}, 1)},
			ts{mat(2, 0, 0, 1, 0, 0, 2)}},
	} {
		c.runWith(t, func(i int) bool { return i > 0 })
	}
}

func TestSample(t *testing.T) {
	x := f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2)
	centre := f32s([]float32{0, 0}, 1, 1, 1, 2)
	outside := f32s([]float32{2, 0}, 1, 1, 1, 2)
	point := func(v float32) ts { return ts{f32s([]float32{v}, 1, 1, 1, 1)} }
	runCases(t, []opCase{
		{"GridSample", nil, ts{x, centre}, point(2.5)},
		// At −½ cubic reads elements −2 … 1, of which the outer two are moved to the edge: −0.09375 of the 1.
		{"GridSample", ir.MakeAttrs("mode", "cubic", "padding_mode", "border"), ts{f32s([]float32{0, 1, 2, 4}, 1, 1, 1, 4), f32s([]float32{-1, 0}, 1, 1, 1, 2)}, point(-0.09375)},
		{"GridSample", ir.MakeAttrs("mode", "cubic", "padding_mode", "border"), ts{f32s([]float32{0, 1, 2, 4}, 1, 1, 1, 4), f32s([]float32{1e30, 0}, 1, 1, 1, 2)}, point(4)},
		{"GridSample", nil, ts{x, outside}, point(0)},
		{"GridSample", ir.MakeAttrs("padding_mode", "border"), ts{x, outside}, point(3)},
		{"GridSample", ir.MakeAttrs("mode", "nearest", "align_corners", 1), ts{x, f32s([]float32{1, -1}, 1, 1, 1, 2)}, point(2)},
		{"AffineGrid", nil, ts{f32s([]float32{1, 0, 0.25, 0, 2, 0}, 1, 2, 3), ints(1, 1, 1, 2)}, ts{f32s([]float32{-0.25, 0, 0.75, 0}, 1, 1, 2, 2)}},
		{"RoiAlign", ir.MakeAttrs("sampling_ratio", 1), ts{x, f32s([]float32{0, 0, 2, 2}, 1, 4), ints(0)}, point(2.5)},
		{"RoiAlign", nil, ts{x, f32s([]float32{0, 0, 1e30, 2}, 1, 4), ints(0)}, nil},
		{"MaxRoiPool", ir.MakeAttrs("pooled_shape", []int{1, 2}), ts{x, f32s([]float32{0, 0, 0, 1, 1}, 1, 5)}, ts{f32s([]float32{3, 4}, 1, 1, 1, 2)}},
		{"Col2Im", ir.MakeAttrs("strides", []int{1}), ts{f32s([]float32{1, 2, 10, 20}, 1, 2, 2), ints(3), ints(2)}, ts{f32s([]float32{1, 12, 20}, 1, 1, 3)}},
		{"DFT", nil, ts{f32s([]float32{1, 2, 3, 4}, 1, 4, 1)}, ts{f32s([]float32{10, 0, -2, 2, -2, 0, -2, -2}, 1, 4, 2)}},
	})
}

func TestRecurrent(t *testing.T) {
	// One unit, one feature, two steps; every number can be followed by hand.
	x := f32s([]float32{1, 2}, 2, 1, 1)
	w := func(v ...float32) *tensor.Tensor { return f32s(v, 1, len(v), 1) }
	relu := ir.MakeAttrs("activations", []string{"Relu"})
	runCases(t, []opCase{
		// h₁ = 1·3 = 3, h₂ = 2·3 + 3·0.5 = 7.5
		{"RNN", relu, ts{x, w(3), w(0.5)}, ts{f32s([]float32{3, 7.5}, 2, 1, 1, 1), f32s([]float32{7.5}, 1, 1, 1)}},
		// from the end: h = 6, then 3 + 6·0.5 = 6
		{"RNN", append(ir.MakeAttrs("activations", []string{"Relu"}), ir.MakeAttrs("direction", "reverse")...), ts{x, w(3), w(0.5)},
			ts{f32s([]float32{6, 6}, 2, 1, 1, 1), f32s([]float32{6}, 1, 1, 1)}},
		{"RNN", relu, ts{x, w(3), w(0.5), nil, tensor.Of([]int32{1}, 1)}, ts{f32s([]float32{3, 0}, 2, 1, 1, 1), f32s([]float32{3}, 1, 1, 1)}},
		// z = ½ always; ĥ = 4x: h₁ = 2, h₂ = ½·8 + ½·2 = 5
		{"GRU", ir.MakeAttrs("activations", []string{"Sigmoid", "Relu"}), ts{x, w(0, 0, 4), w(0, 0, 0)}, ts{f32s([]float32{2, 5}, 2, 1, 1, 1), f32s([]float32{5}, 1, 1, 1)}},
		// all gates ½; ĉ = 4x: c₁ = 2, c₂ = 1 + 4 = 5; h = ½c
		{"LSTM", ir.MakeAttrs("activations", []string{"Sigmoid", "Relu", "Relu"}), ts{x, w(0, 0, 0, 4), w(0, 0, 0, 0)},
			ts{f32s([]float32{1, 2.5}, 2, 1, 1, 1), f32s([]float32{2.5}, 1, 1, 1), f32s([]float32{5}, 1, 1, 1)}},
		{"LSTM", ir.MakeAttrs("activations", []string{"Sigmoid"}), ts{x, w(0, 0, 0, 4), w(0, 0, 0, 0)}, nil},
		{"RNN", nil, ts{x, w(3), f32s([]float32{1, 2}, 1, 1, 2)}, nil},
	})
}
