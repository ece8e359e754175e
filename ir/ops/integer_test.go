package ops

import (
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func u8s(shape []int, x ...int64) *tensor.Tensor { return tensor.FromInt64s(tensor.U8, x, shape...) }
func i8s(shape []int, x ...int64) *tensor.Tensor { return tensor.FromInt64s(tensor.I8, x, shape...) }
func i32s(x ...int32) *tensor.Tensor             { return tensor.Of(x, len(x)) }

func TestInteger(t *testing.T) {
	u8, i8 := u8s(nil, 0), i8s(nil, 0)
	half := tensor.Scalar[float32](0.5)
	for _, c := range []opCase{
		// (5−3)·1 + (7−3)·2 = 10; ties go to the even neighbour: 5·0.5 = 2.5 → 2, 7·0.5 = 3.5 → 4
		{"thriftc.QConv", nil, []*tensor.Tensor{u8s([]int{1, 2, 1}, 5, 7), i8s([]int{1, 2, 1}, 1, 2), u8s(nil, 3)}, []*tensor.Tensor{tensor.Of([]int32{10}, 1, 1, 1)}},
		{"thriftc.QConv", nil, []*tensor.Tensor{u8s([]int{1, 1, 2}, 5, 7), i8s([]int{1, 1, 1}, 1), nil, nil, nil, half, u8}, []*tensor.Tensor{u8s([]int{1, 1, 2}, 2, 4)}},
		// the padding is the zero point: only 5 − 3 counts
		{"thriftc.QConv", ir.MakeAttrs("pads", []int{1, 1}), []*tensor.Tensor{u8s([]int{1, 1, 1}, 5), i8s([]int{1, 1, 3}, 9, 1, 9), u8s(nil, 3)}, []*tensor.Tensor{tensor.Of([]int32{2}, 1, 1, 1)}},
		// a zero point of the weights for each channel; 2·(200−199), 2·(10−12)
		{"thriftc.QConv", nil, []*tensor.Tensor{u8s([]int{1, 1, 1}, 2), u8s([]int{2, 1, 1}, 200, 10), nil, u8s([]int{2}, 199, 12)}, []*tensor.Tensor{tensor.Of([]int32{2, -4}, 1, 2, 1)}},
		// (3·1)·2² + 1 = 13; 13/4 = 3.25
		{"thriftc.QConv", ir.MakeAttrs("bias_shift", 2), []*tensor.Tensor{u8s([]int{1, 1, 1}, 3), i8s([]int{1, 1, 1}, 1), nil, nil, i32s(1), tensor.Scalar[float32](0.25), u8s(nil, 10)}, []*tensor.Tensor{u8s([]int{1, 1, 1}, 13)}},
		// lo and hi, and the range of the type
		{"thriftc.QGemm", ir.MakeAttrs("lo", -3, "hi", 4), []*tensor.Tensor{i8s([]int{3, 1}, -100, 1, 100), i8s([]int{1, 1}, 1), nil, nil, nil, half, i8}, []*tensor.Tensor{i8s([]int{3, 1}, -3, 0, 4)}},
		{"thriftc.QGemm", nil, []*tensor.Tensor{i8s([]int{3, 1}, -128, 1, 127), i8s([]int{1, 1}, 2), nil, nil, nil, tensor.Scalar[float32](1), i8}, []*tensor.Tensor{i8s([]int{3, 1}, -128, 2, 127)}},
		// [1 2]·[[3 4][5 6]] and [1 2]·[[3 5][4 6]]ᵀ, with biases 1 and 2
		{"thriftc.QGemm", nil, []*tensor.Tensor{u8s([]int{1, 2}, 1, 2), i8s([]int{2, 2}, 3, 4, 5, 6), nil, nil, i32s(1, 2)}, []*tensor.Tensor{tensor.Of([]int32{14, 18}, 1, 2)}},
		{"thriftc.QGemm", ir.MakeAttrs("transB", 1), []*tensor.Tensor{u8s([]int{1, 2}, 1, 2), i8s([]int{2, 2}, 3, 5, 4, 6), nil, nil, i32s(1, 2)}, []*tensor.Tensor{tensor.Of([]int32{14, 18}, 1, 2)}},
		// (10−2)·3 + (1−5)·5 = 4, /8 = 0.5 → 0; (12−2)·3 + (1−5)·5 = 10, /8 = 1.25; (16−2)·3 − 20 = 22 → 2.75
		{"thriftc.QAdd", ir.MakeAttrs("shift", 3), []*tensor.Tensor{u8s([]int{3}, 10, 12, 16), i8s([]int{1}, 1), u8s(nil, 2), i8s(nil, 5), i32s(3, 5), i8s(nil, -1)}, []*tensor.Tensor{i8s([]int{3}, -1, 0, 2)}},
		// sums of windows 2 and 2+4, less 1 each: 1, 4; the padding adds nothing
		{"thriftc.QAveragePool", ir.MakeAttrs("kernel_shape", []int{2}, "pads", []int{1, 0}), []*tensor.Tensor{u8s([]int{1, 1, 2}, 2, 4), u8s(nil, 1), half, u8}, []*tensor.Tensor{u8s([]int{1, 1, 2}, 0, 2)}},
		{"thriftc.QGlobalAveragePool", nil, []*tensor.Tensor{u8s([]int{1, 2, 2}, 2, 4, 5, 8), u8s(nil, 1), half, u8}, []*tensor.Tensor{u8s([]int{1, 2, 1}, 2, 6)}},
		{"thriftc.QConv", nil, []*tensor.Tensor{u8s([]int{1, 1, 1}, 3), i8s([]int{1, 1, 1}, 1), nil, nil, nil, half}, nil}, // no zero point
		{"thriftc.QConv", nil, []*tensor.Tensor{u8s([]int{1, 1, 1}, 3), i8s([]int{1, 1, 1}, 1), nil, nil, nil, tensor.Of([]float32{1, 2}, 2), u8}, nil},
		{"thriftc.QConv", nil, []*tensor.Tensor{u8s([]int{1, 1, 1}, 3), i8s([]int{1, 1, 1}, 1), nil, nil, i32s(1, 2)}, nil},
		{"thriftc.QConv", nil, []*tensor.Tensor{u8s([]int{1, 1, 1}, 3), i8s([]int{1, 1, 1}, 1), i8}, nil}, // zero point of another type
	} {
		c.run(t)
	}
	// A negative multiplier would turn the rounding of ties, but not of the rest, around.
	c := opCase{"thriftc.QGemm", nil, []*tensor.Tensor{u8s([]int{1, 1}, 1), i8s([]int{1, 1}, 1), nil, nil, nil, tensor.Scalar[float32](-1), u8}, nil}
	if _, _, err := c.addTo(ir.NewGraph("t", Table()), 1, func(i int) bool { return true }); err == nil {
		t.Error("a negative multiplier is accepted")
	}
}

func TestLookup(t *testing.T) {
	table := make([]int64, 256)
	for i := range table {
		table[i] = int64(255 - i)
	}
	opCase{"thriftc.Lookup", nil, []*tensor.Tensor{i8s([]int{3}, -128, 0, 127), u8s([]int{256}, table...)}, []*tensor.Tensor{u8s([]int{3}, 255, 127, 0)}}.run(t)
	opCase{"thriftc.Lookup", nil, []*tensor.Tensor{u8s([]int{2}, 0, 255), u8s([]int{256}, table...)}, []*tensor.Tensor{u8s([]int{2}, 255, 0)}}.run(t)
	opCase{"thriftc.Lookup", nil, []*tensor.Tensor{u8s([]int{2}, 0, 255), u8s([]int{2}, 1, 2)}, nil}.run(t)
}
