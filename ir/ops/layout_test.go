package ops

import (
	"math"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func TestLayout(t *testing.T) {
	x := seq(tensor.I32, 2, 3)
	i32 := func(shape []int, v ...int32) *tensor.Tensor { return tensor.Of(v, shape...) }
	const far = math.MaxInt64
	runCases(t, []opCase{
		{"Transpose", nil, ts{x}, ts{i32([]int{3, 2}, 0, 3, 1, 4, 2, 5)}},
		{"Transpose", ir.MakeAttrs("perm", []int{0, 0}), ts{x}, nil},
		{"Reshape", nil, ts{x, ints(3, -1)}, ts{seq(tensor.I32, 3, 2)}},
		{"Reshape", nil, ts{x, ints(0, 3, 1)}, ts{seq(tensor.I32, 2, 3, 1)}},
		{"Reshape", nil, ts{x, ints(4, -1)}, nil},
		{"Reshape", nil, ts{x, ints(-1, -1)}, nil},
		{"Reshape", ir.MakeAttrs("allowzero", 1), ts{seq(tensor.I32, 0, 3), ints(3, 0)}, ts{seq(tensor.I32, 3, 0)}},
		{"Squeeze", nil, ts{seq(tensor.F16, 1, 2, 1)}, ts{seq(tensor.F16, 2)}},
		{"Squeeze", nil, ts{seq(tensor.F16, 1, 2, 1), ints(-1)}, ts{seq(tensor.F16, 1, 2)}},
		{"Squeeze", nil, ts{x, ints(0)}, nil},
		{"Unsqueeze", nil, ts{x, ints(-1, 0)}, ts{seq(tensor.I32, 1, 2, 3, 1)}},
		{"Concat", ir.MakeAttrs("axis", -1), ts{x, i32([]int{2, 1}, 8, 9)}, ts{i32([]int{2, 4}, 0, 1, 2, 8, 3, 4, 5, 9)}},
		{"Concat", ir.MakeAttrs("axis", 0), ts{x, i32([]int{2, 1}, 8, 9)}, nil},
		{"Split", ir.MakeAttrs("axis", 1, "num_outputs", 2), ts{x}, ts{i32([]int{2, 2}, 0, 1, 3, 4), i32([]int{2, 1}, 2, 5)}},
		{"Split", ir.MakeAttrs("axis", 1), ts{x, ints(1, 2)}, ts{i32([]int{2, 1}, 0, 3), i32([]int{2, 2}, 1, 2, 4, 5)}},
		{"Split", ir.MakeAttrs("axis", 1), ts{x, ints(1, 1)}, nil},
		{"Slice", nil, ts{x, ints(1), ints(far), ints(1)}, ts{i32([]int{2, 2}, 1, 2, 4, 5)}},
		{"Slice", nil, ts{x, ints(-1), ints(-far), ints(1), ints(-2)}, ts{i32([]int{2, 2}, 2, 0, 5, 3)}},
		{"Slice", nil, ts{x, ints(5), ints(2), ints(0)}, ts{tensor.Of([]int32{}, 0, 3)}},
		{"Slice", nil, ts{x, ints(0), ints(2), ints(0), ints(0)}, nil},
		{"Slice", nil, ts{x, ints(0), ints(far), ints(0), ints(math.MinInt64)}, ts{tensor.Of([]int32{}, 0, 3)}},
		{"Tile", nil, ts{i32([]int{1, 2}, 1, 2), ints(2, 2)}, ts{i32([]int{2, 4}, 1, 2, 1, 2, 1, 2, 1, 2)}},
		{"Tile", nil, ts{x, ints(1<<62, 1<<62)}, nil},
		{"Expand", nil, ts{i32([]int{2, 1}, 1, 2), ints(2, 1, 2)}, ts{i32([]int{2, 2, 2}, 1, 1, 2, 2, 1, 1, 2, 2)}},
		{"ConstantOfShape", ir.MakeAttrs("value", ints(7)), ts{ints(2)}, ts{ints(7, 7)}},
		{"ConstantOfShape", nil, ts{ints(1 << 50)}, nil},
		{"ConstantOfShape", nil, ts{ints(-1)}, nil},
		{"Shape", ir.MakeAttrs("start", -1), ts{x}, ts{ints(3)}},
		{"Size", nil, ts{x}, ts{tensor.Scalar(int64(6))}},
		{"DepthToSpace", ir.MakeAttrs("blocksize", 2), ts{seq(tensor.I32, 1, 4, 1, 1)}, ts{seq(tensor.I32, 1, 1, 2, 2)}},
		{"SpaceToDepth", ir.MakeAttrs("blocksize", 2), ts{seq(tensor.I32, 1, 1, 2, 2)}, ts{seq(tensor.I32, 1, 4, 1, 1)}},
		{"Where", nil, ts{tensor.Of([]bool{true, false}, 2), x, x}, nil},
		{"Where", nil, ts{tensor.Of([]bool{true, false}, 2), i32([]int{2}, 1, 2), i32(nil, 9)}, ts{i32([]int{2}, 1, 9)}},
		{"Gather", ir.MakeAttrs("axis", 1), ts{x, ints(-1, 0)}, ts{i32([]int{2, 2}, 2, 0, 5, 3)}},
		{"Gather", nil, ts{x, ints(2)}, nil},
		{"GatherElements", ir.MakeAttrs("axis", 1), ts{x, tensor.Of([]int64{2, 0}, 2, 1)}, ts{i32([]int{2, 1}, 2, 3)}},
		{"GatherND", nil, ts{x, tensor.Of([]int64{1, 2, 0, 0}, 2, 2)}, ts{i32([]int{2}, 5, 0)}},
		{"GatherND", ir.MakeAttrs("batch_dims", 1), ts{x, tensor.Of([]int64{1, 2}, 2, 1)}, ts{i32([]int{2}, 1, 5)}},
		{"Pad", nil, ts{x, ints(0, 1, 0, -1), i32(nil, 7)}, ts{i32([]int{2, 3}, 7, 0, 1, 7, 3, 4)}},
		{"Pad", ir.MakeAttrs("mode", "reflect"), ts{i32([]int{3}, 1, 2, 3), ints(2, 3)}, ts{i32([]int{8}, 3, 2, 1, 2, 3, 2, 1, 2)}},
		{"Pad", ir.MakeAttrs("mode", "wrap"), ts{i32([]int{3}, 1, 2, 3), ints(1, 2)}, ts{i32([]int{6}, 3, 1, 2, 3, 1, 2)}},
		{"Pad", ir.MakeAttrs("mode", "edge"), ts{x, ints(1, 0), nil, ints(-1)}, ts{i32([]int{2, 4}, 0, 0, 1, 2, 3, 3, 4, 5)}},
		{"Pad", nil, ts{x, ints(0, 1<<50, 0, 0)}, nil},
		{"Pad", nil, ts{x, ints(0, -2, 0, -2)}, nil},
	})
}

// The chain that PyTorch's exporter writes for x.view(x.size(0), -1).
func TestViewKeepsBatch(t *testing.T) {
	g := ir.NewGraph("g", Table())
	r := ir.NewRewriter(g)
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(8), ir.Fixed(4), ir.Fixed(4)))
	size := r.Must1("Gather", "", nil, r.Must1("Shape", "", nil, x), r.Const("zero", tensor.Scalar(int64(0))))
	shape := r.Must1("Concat", "", ir.MakeAttrs("axis", 0), r.Must1("Unsqueeze", "", nil, size, r.Ints("axes", 0)), r.Ints("rest", -1))
	if got := r.Must1("Reshape", "", nil, x, shape).Type.String(); got != "f32[N,128]" {
		t.Errorf("x.view(x.size(0), -1) is %s, want f32[N,128]", got)
	}
	flat := r.Must1("Reshape", "", nil, x, r.Ints("to", -1, 128))
	if got := flat.Type.String(); got != "f32[N,128]" {
		t.Errorf("x.view(-1, 128) is %s, want f32[N,128]", got)
	}
	shuffled := r.Must1("Reshape", "", nil, x, r.Ints("groups", 0, 2, -1, 4, 4))
	if got := shuffled.Type.String(); got != "f32[N,2,4,4,4]" {
		t.Errorf("channel shuffle is %s, want f32[N,2,4,4,4]", got)
	}
	if _, err := r.Add("Reshape", "", nil, []*ir.Value{x, r.Ints("bad", 0, 100)}); err == nil {
		t.Error("a shape that cannot fit passed")
	}
}

func TestCast(t *testing.T) {
	to := func(e tensor.Elem) attrs { return ir.MakeAttrs("to", e.ONNXType()) }
	x := f32s([]float32{-1.9, 2.5, 300, float32(math.NaN())}, 4)
	runCases(t, []opCase{
		{"Cast", to(tensor.U8), ts{x}, ts{tensor.Of([]uint8{0, 2, 255, 0}, 4)}},
		{"Cast", to(tensor.I8), ts{x}, ts{tensor.Of([]int8{-1, 2, 127, 0}, 4)}},
		{"Cast", to(tensor.I4), ts{x}, ts{tensor.OfElem(tensor.I4, []int8{-2, 2, 7, 0}, 4)}},
		{"Cast", to(tensor.Bool), ts{f32s([]float32{0, -0.5}, 2)}, ts{tensor.Of([]bool{false, true}, 2)}},
		{"Cast", to(tensor.I8), ts{tensor.Of([]int16{200}, 1)}, ts{tensor.Of([]int8{-56}, 1)}},
		{"Cast", to(tensor.U4), ts{tensor.Of([]int16{-1, 18}, 2)}, ts{tensor.OfElem(tensor.U4, []uint8{15, 2}, 2)}},
		{"Cast", to(tensor.F16), ts{tensor.Of([]float64{1 + 1.0/2048 + 1e-12}, 1)}, ts{tensor.OfElem(tensor.F16, []uint16{0x3c01}, 1)}},
		{"Cast", to(tensor.BF16), ts{f32s([]float32{1 + 1.0/256, 1 + 3.0/256}, 2)}, ts{tensor.OfElem(tensor.BF16, []uint16{0x3f80, 0x3f82}, 2)}},
		{"Cast", to(tensor.F32), ts{tensor.Of([]uint64{1<<63 + 1<<40}, 1)}, ts{f32s([]float32{1<<63 + 1<<40}, 1)}},
		{"Cast", to(tensor.U64), ts{tensor.Of([]float64{1 << 63, 1e30, -1}, 3)}, ts{tensor.Of([]uint64{1 << 63, math.MaxUint64, 0}, 3)}},
		{"Cast", ir.MakeAttrs("to", 17), ts{x}, nil},
		{"CastLike", nil, ts{x, ints(1)}, ts{ints(-1, 2, 300, 0)}},
	})
}

func TestReduce(t *testing.T) {
	x := f32s([]float32{1, -2, 3, 4, 5, -6}, 2, 3)
	nan := float32(math.NaN())
	runCases(t, []opCase{
		{"ReduceSum", nil, ts{x, ints(1)}, ts{f32s([]float32{2, 3}, 2, 1)}},
		{"ReduceSum", ir.MakeAttrs("noop_with_empty_axes", 1), ts{x}, ts{x}},
		{"ReduceMean", ir.MakeAttrs("keepdims", 0), ts{x, ints(0)}, ts{f32s([]float32{2.5, 1.5, -1.5}, 3)}},
		{"ReduceMax", ir.MakeAttrs("keepdims", 0), ts{x}, ts{tensor.Scalar(float32(5))}},
		{"ReduceMin", nil, ts{f32s([]float32{1, nan}, 2)}, ts{f32s([]float32{nan}, 1)}},
		{"ReduceMax", nil, ts{tensor.Of([]uint64{1, 1 << 63}, 2)}, ts{tensor.Of([]uint64{1 << 63}, 1)}},
		{"ReduceMax", nil, ts{seq(tensor.F32, 0, 2), ints(0)}, ts{f32s([]float32{float32(math.Inf(-1)), float32(math.Inf(-1))}, 1, 2)}},
		{"ReduceProd", ir.MakeAttrs("keepdims", 0), ts{ints(2, 3)}, ts{tensor.Scalar(int64(6))}},
		{"ReduceL1", ir.MakeAttrs("keepdims", 0), ts{x}, ts{tensor.Scalar(float32(21))}},
		{"ReduceL2", nil, ts{f32s([]float32{3, -4}, 2)}, ts{f32s([]float32{5}, 1)}},
		{"ReduceSumSquare", nil, ts{f32s([]float32{3, -4}, 2)}, ts{f32s([]float32{25}, 1)}},
		{"ReduceLogSum", nil, ts{f32s([]float32{0.25, 0.75}, 2)}, ts{f32s([]float32{0}, 1)}},
		{"ReduceLogSumExp", nil, ts{f32s([]float32{1000}, 1)}, ts{f32s([]float32{1000}, 1)}},
		{"ReduceLogSum", nil, ts{ints(15, 5)}, ts{ints(2)}},
		{"ReduceLogSumExp", nil, ts{ints(3, 3)}, ts{ints(3)}},
		{"Shrink", ir.MakeAttrs("bias", 1.5, "lambd", 2.0), ts{ints(-7, -2, 2, 3)}, ts{ints(-5, 0, 0, 1)}},
		{"ReduceSum", nil, ts{x, ints(2)}, nil},
		{"ArgMax", ir.MakeAttrs("axis", 1), ts{f32s([]float32{1, 3, 3}, 1, 3)}, ts{tensor.Of([]int64{1}, 1, 1)}},
		{"ArgMax", ir.MakeAttrs("axis", 1, "select_last_index", 1), ts{f32s([]float32{1, 3, 3}, 1, 3)}, ts{tensor.Of([]int64{2}, 1, 1)}},
		{"ArgMin", ir.MakeAttrs("keepdims", 0), ts{tensor.Of([]int8{4, -4}, 2)}, ts{tensor.Scalar(int64(1))}},
	})
}

func TestResize(t *testing.T) {
	x := f32s([]float32{1, 2, 3, 4}, 1, 1, 2, 2)
	scales := f32s([]float32{1, 1, 1, 2}, 4)
	nearest := f32s([]float32{1, 1, 2, 2, 3, 3, 4, 4}, 1, 1, 2, 4)
	runCases(t, []opCase{
		{"Resize", nil, ts{x, nil, scales}, ts{nearest}},
		{"Resize", nil, ts{x, nil, nil, ints(1, 1, 2, 4)}, ts{nearest}},
		{"Resize", ir.MakeAttrs("axes", []int{3}), ts{x, nil, nil, ints(4)}, ts{nearest}},
		{"Resize", ir.MakeAttrs("mode", "linear"), ts{x, nil, scales}, ts{f32s([]float32{1, 1.25, 1.75, 2, 3, 3.25, 3.75, 4}, 1, 1, 2, 4)}},
		{"Resize", ir.MakeAttrs("mode", "linear", "coordinate_transformation_mode", "align_corners"), ts{x, nil, nil, ints(1, 1, 2, 3)},
			ts{f32s([]float32{1, 1.5, 2, 3, 3.5, 4}, 1, 1, 2, 3)}},
		// The length is the whole number of elements that come out, 3, not 2·1.7 = 3.4.
		{"Resize", ir.MakeAttrs("mode", "linear", "coordinate_transformation_mode", "align_corners"), ts{f32s([]float32{1, 3}, 2), nil, f32s([]float32{1.7}, 1)}, ts{f32s([]float32{1, 2, 3}, 3)}},
		{"Resize", ir.MakeAttrs("coordinate_transformation_mode", "align_corners"), ts{f32s([]float32{5, 6, 7}, 3), nil, f32s([]float32{0.5}, 1)}, ts{f32s([]float32{5}, 1)}},
		{"Resize", ir.MakeAttrs("mode", "cubic", "coordinate_transformation_mode", "pytorch_half_pixel"), ts{f32s([]float32{5, 6, 9}, 3), nil, nil, ints(1)}, ts{f32s([]float32{5}, 1)}},
		{"Resize", ir.MakeAttrs("mode", "linear", "coordinate_transformation_mode", "pytorch_half_pixel", "exclude_outside", 1), ts{f32s([]float32{5, 6, 9}, 3), nil, nil, ints(1)}, ts{f32s([]float32{5}, 1)}},
		{"Resize", ir.MakeAttrs("mode", "linear", "coordinate_transformation_mode", "tf_crop_and_resize"), ts{f32s([]float32{5, 6, 9}, 3), f32s([]float32{0, 1}, 2), f32s([]float32{0.6}, 1)}, ts{f32s([]float32{6}, 1)}},
		{"Resize", ir.MakeAttrs("axes", []int{2, 3}, "keep_aspect_ratio_policy", "not_larger"), ts{x, nil, nil, ints(9, 1)}, ts{f32s([]float32{1}, 1, 1, 1, 1)}},
		{"Resize", nil, ts{x, nil, f32s([]float32{1, 1, 1e30, 1}, 4)}, nil},
		{"Resize", ir.MakeAttrs("mode", "cubic"), ts{f32s([]float32{5, 5, 5}, 3), nil, f32s([]float32{2}, 1)}, ts{f32s([]float32{5, 5, 5, 5, 5, 5}, 6)}},
	})
}
