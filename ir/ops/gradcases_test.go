package ops

import (
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func list(ts ...*tensor.Tensor) []*tensor.Tensor { return ts }

func reduceCases(lo, hi float64) []gradCase {
	return []gradCase{
		{in: list(random(1, lo, hi, 2, 3, 4), ints(1))},
		{in: list(random(1, lo, hi, 2, 3, 4), ints(0, -1)), attrs: ir.MakeAttrs("keepdims", 0)},
		{in: list(random(1, lo, hi, 2, 3)), attrs: ir.MakeAttrs("keepdims", 0)},
		{in: list(random(1, lo, hi, 2, 3)), attrs: ir.MakeAttrs("noop_with_empty_axes", 1)},
	}
}

// gradCases are the cases of TestGrad for every operator with a gradient.
var gradCases = map[string][]gradCase{
	"Add": {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 2, 3))}, {in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3, 1, 1))}},
	"Sub": {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3))}},
	"Mul": {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 2, 1))}, {in: list(random(1, -1, 1, 1), random(2, -1, 1, 2, 3))}},
	"Div": {{in: list(random(1, -1, 1, 2, 3), random(2, 1, 2, 3))}},

	"Exp":             {{in: list(random(1, -1, 1, 3, 4))}},
	"Log":             {{in: list(random(1, 0.5, 2, 3, 4))}},
	"Sqrt":            {{in: list(random(1, 0.5, 2, 3, 4))}},
	"Reciprocal":      {{in: list(random(1, 0.5, 2, 3, 4))}},
	"Abs":             {{in: list(random(1, -1, 1, 3, 4))}},
	"Neg":             {{in: list(random(1, -1, 1, 3, 4))}},
	"Erf":             {{in: list(random(1, -2, 2, 3, 4))}},
	"Sin":             {{in: list(random(1, -2, 2, 3, 4))}},
	"Cos":             {{in: list(random(1, -2, 2, 3, 4))}},
	"Tan":             {{in: list(random(1, -1, 1, 3, 4))}},
	"Asin":            {{in: list(random(1, -0.9, 0.9, 3, 4))}},
	"Acos":            {{in: list(random(1, -0.9, 0.9, 3, 4))}},
	"Atan":            {{in: list(random(1, -2, 2, 3, 4))}},
	"Sinh":            {{in: list(random(1, -1, 1, 3, 4))}},
	"Cosh":            {{in: list(random(1, -1, 1, 3, 4))}},
	"Tanh":            {{in: list(random(1, -2, 2, 3, 4))}},
	"Asinh":           {{in: list(random(1, -2, 2, 3, 4))}},
	"Acosh":           {{in: list(random(1, 1.5, 3, 3, 4))}},
	"Atanh":           {{in: list(random(1, -0.9, 0.9, 3, 4))}},
	"Sigmoid":         {{in: list(random(1, -2, 2, 3, 4))}},
	"Softplus":        {{in: list(random(1, -2, 2, 3, 4))}},
	"Softsign":        {{in: list(random(1, -2, 2, 3, 4))}},
	"LeakyRelu":       {{in: list(random(1, -1, 1, 3, 4))}},
	"ThresholdedRelu": {{in: list(random(1, 0, 2, 3, 4))}},
	"Shrink":          {{in: list(random(1, -1, 1, 3, 4))}},
	"Elu":             {{in: list(random(1, -2, 2, 3, 4))}},
	"Selu":            {{in: list(random(1, -2, 2, 3, 4))}},
	"HardSigmoid":     {{in: list(random(1, -4, 4, 3, 4))}},
	"HardSwish":       {{in: list(random(1, -5, 5, 3, 4))}},
	"Mish":            {{in: list(random(1, -2, 2, 3, 4))}},
	"Celu":            {{in: list(random(1, -2, 2, 3, 4)), attrs: ir.MakeAttrs("alpha", 0.5)}},
	"Swish":           {{in: list(random(1, -2, 2, 3, 4)), attrs: ir.MakeAttrs("alpha", 1.5)}},
	"Gelu":            {{in: list(random(1, -2, 2, 3, 4))}, {in: list(random(1, -2, 2, 3, 4)), attrs: ir.MakeAttrs("approximate", "tanh")}},
	"Mod":             {{in: list(random(1, -3, 3, 2, 3), random(2, 0.6, 0.7, 3)), attrs: ir.MakeAttrs("fmod", 1)}},
	"Pow":             {{in: list(random(1, 0.5, 2, 2, 3), random(2, -2, 2, 3))}, {in: list(random(1, -2, 2, 2, 3), tensor.Scalar(int64(3)))}},
	"Max":             {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3), random(3, -1, 1, 2, 1))}, {in: list(random(1, -1, 1, 3))}},
	"Min":             {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3))}},
	"Sum":             {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3), random(3, -1, 1, 1))}},
	"Mean":            {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3), random(3, -1, 1, 1))}},
	"PRelu":           {{in: list(random(1, -1, 1, 2, 3, 2), random(2, 0, 1, 3, 1))}},
	"Clip": {
		{in: list(random(1, -1, 1, 3, 4), random(2, -0.5, -0.4), random(3, 0.4, 0.5))},
		{in: list(random(1, -1, 1, 3, 4), nil, random(3, 0.4, 0.5))},
	},
	"Where":    {{in: list(tensor.Of([]bool{true, false, true}, 3), random(1, -1, 1, 2, 3), random(2, -1, 1, 1))}},
	"Cast":     {{in: list(random(1, -1, 1, 2, 3)), attrs: ir.MakeAttrs("to", tensor.F64.ONNXType())}},
	"CastLike": {{in: list(random(1, -1, 1, 2, 3), tensor.Of([]float64{1}, 1)), skip: []int{1}}},
	"Dropout": {
		{in: list(random(1, -1, 1, 2, 3)), outs: 1},
		{in: list(random(1, -1, 1, 3, 4), tensor.Scalar(float32(0.25)), tensor.Scalar(true)), outs: 1},
	},
	"Einsum": {
		{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3, 4)), attrs: ir.MakeAttrs("equation", "ij,jk->ki")},
		{in: list(random(1, -1, 1, 2, 3, 2), random(2, -1, 1, 2)), attrs: ir.MakeAttrs("equation", "bij,b->i")},
	},
	"CumSum":        {{in: list(random(1, -1, 1, 2, 4), tensor.Scalar(int64(1)))}, {in: list(random(1, -1, 1, 2, 4), tensor.Scalar(int64(0))), attrs: ir.MakeAttrs("exclusive", 1, "reverse", 1)}},
	"TopK":          {{in: list(random(1, -1, 1, 3, 4), ints(2))}},
	"Compress":      {{in: list(random(1, -1, 1, 3, 4), tensor.Of([]bool{false, true, true}, 3)), attrs: ir.MakeAttrs("axis", 0)}},
	"Resize":        {{in: list(random(1, -1, 1, 1, 2, 3, 2), nil, tensor.Of([]float32{1, 1, 2, 1.5}, 4)), attrs: ir.MakeAttrs("mode", "nearest")}},
	"thriftc.Shift": {{in: list(random(1, -1, 1, 1, 2, 3, 3), tensor.Of([]uint8{0, 5}, 2)), attrs: ir.MakeAttrs("kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1})}},
	"CenterCropPad": {{in: list(random(1, -1, 1, 3, 4), ints(5, 2))}},
	"ScatterElements": {
		{in: list(random(1, -1, 1, 3, 2), tensor.Of([]int64{2, 0}, 1, 2), random(2, -1, 1, 1, 2))},
		{in: list(random(1, -1, 1, 3, 2), tensor.Of([]int64{1, 0, 1, 0}, 2, 2), random(2, -1, 1, 2, 2)), attrs: ir.MakeAttrs("axis", 1, "reduction", "add")},
	},
	"ScatterND": {{in: list(random(1, -1, 1, 3, 2), tensor.Of([]int64{2, 0}, 2, 1), random(2, -1, 1, 2, 2))}},
	"MaxUnpool": {{in: list(random(1, -1, 1, 1, 1, 2), tensor.Of([]int64{1, 2}, 1, 1, 2)), attrs: ir.MakeAttrs("kernel_shape", []int{2}, "strides", []int{2})}},
	"ConvTranspose": {
		{in: list(random(1, -1, 1, 2, 2, 3, 2), random(2, -1, 1, 2, 3, 3, 2), random(3, -1, 1, 3)), attrs: ir.MakeAttrs("strides", []int{2, 1}, "pads", []int{1, 0, 1, 0}, "output_padding", []int{1, 0})},
		{in: list(random(1, -1, 1, 1, 4, 3), random(2, -1, 1, 4, 2, 3)), attrs: ir.MakeAttrs("group", 2)},
	},
	"LpPool": {
		{in: list(random(1, -1, 1, 1, 2, 4, 5)), attrs: ir.MakeAttrs("kernel_shape", []int{2, 3}, "pads", []int{1, 1, 0, 1})},
		{in: list(random(1, -1, 1, 1, 2, 6)), attrs: ir.MakeAttrs("kernel_shape", []int{2}, "strides", []int{2}, "p", 3)},
	},
	"GlobalLpPool":    {{in: list(random(1, -1, 1, 2, 2, 3))}, {in: list(random(1, -1, 1, 2, 2, 3)), attrs: ir.MakeAttrs("p", 1)}},
	"Softmax":         {{in: list(random(1, -1, 1, 2, 3, 2)), attrs: ir.MakeAttrs("axis", 1)}},
	"LogSoftmax":      {{in: list(random(1, -1, 1, 2, 3))}},
	"LpNormalization": {{in: list(random(1, -1, 1, 2, 3))}, {in: list(random(1, -1, 1, 2, 3)), attrs: ir.MakeAttrs("p", 1, "axis", 0)}},
	"LRN": {
		{in: list(random(1, -1, 1, 2, 5, 2, 1)), attrs: ir.MakeAttrs("size", 3, "alpha", 0.5)},
		{in: list(random(1, -1, 1, 1, 5)), attrs: ir.MakeAttrs("size", 4, "alpha", 0.5, "bias", 2.0)},
	},
	"BatchNormalization": {
		{in: list(random(1, -1, 1, 2, 3, 2), random(2, 1, 2, 3), random(3, -1, 1, 3), random(4, -1, 1, 3), random(5, 1, 2, 3))},
		{in: list(random(1, -1, 1, 4, 2, 3), random(2, 1, 2, 2), random(3, -1, 1, 2), random(4, -1, 1, 2), random(5, 1, 2, 2)), skip: []int{3, 4}, attrs: ir.MakeAttrs("training_mode", 1)},
	},
	"InstanceNormalization": {{in: list(random(1, -1, 1, 2, 3, 2, 2), random(2, 1, 2, 3), random(3, -1, 1, 3))}},
	"GroupNormalization":    {{in: list(random(1, -1, 1, 2, 4, 3), random(2, 1, 2, 4), random(3, -1, 1, 4)), attrs: ir.MakeAttrs("num_groups", 2)}},
	"LayerNormalization": {
		{in: list(random(1, -1, 1, 2, 3, 4), random(2, 1, 2, 3, 4), random(3, -1, 1, 4)), attrs: ir.MakeAttrs("axis", 1)},
		{in: list(random(1, -1, 1, 2, 4), random(2, 1, 2, 4))},
	},
	"RMSNormalization":          {{in: list(random(1, -1, 1, 2, 3, 4), random(2, 1, 2, 4))}},
	"MeanVarianceNormalization": {{in: list(random(1, -1, 1, 2, 3, 2, 2))}},
	"NegativeLogLikelihoodLoss": {
		{in: list(random(1, -1, 1, 3, 4), ints(1, 3, 0))},
		{in: list(random(1, -1, 1, 2, 3, 2), tensor.Of([]int64{1, 2, 0, -7}, 2, 2), random(2, 1, 2, 3)), skip: []int{2}, attrs: ir.MakeAttrs("ignore_index", -7)},
	},
	"SoftmaxCrossEntropyLoss": {
		{in: list(random(1, -1, 1, 3, 4), ints(1, 3, 0)), outs: 2},
		{in: list(random(1, -1, 1, 3, 4), ints(1, 3, 0), random(2, 1, 2, 4)), outs: 1, skip: []int{2}, attrs: ir.MakeAttrs("reduction", "none")},
		{in: list(random(1, -1, 1, 3, 4), ints(1, 3, 0)), attrs: ir.MakeAttrs("reduction", "sum")},
	},

	"Identity":  {{in: list(random(1, -1, 1, 2, 3))}},
	"Reshape":   {{in: list(random(1, -1, 1, 2, 3), ints(3, -1))}},
	"Squeeze":   {{in: list(random(1, -1, 1, 2, 1, 3), ints(1))}},
	"Unsqueeze": {{in: list(random(1, -1, 1, 2, 3), ints(1))}},
	"Flatten":   {{in: list(random(1, -1, 1, 2, 3, 2))}},

	"ReduceSum":       reduceCases(-1, 1),
	"ReduceMean":      reduceCases(-1, 1),
	"ReduceProd":      reduceCases(1, 2),
	"ReduceL1":        reduceCases(-1, 1),
	"ReduceSumSquare": reduceCases(-1, 1),
	"ReduceL2":        reduceCases(-1, 1),
	"ReduceLogSum":    reduceCases(1, 2),
	"ReduceLogSumExp": reduceCases(-1, 1),
	"ReduceMax":       reduceCases(-1, 1),
	"ReduceMin":       reduceCases(-1, 1),

	"Transpose": {
		{in: list(random(1, -1, 1, 2, 3, 4)), attrs: ir.MakeAttrs("perm", []int{1, 2, 0})},
		{in: list(random(1, -1, 1, 2, 3))},
	},
	"Concat": {{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 2, 1)), attrs: ir.MakeAttrs("axis", 1)}},
	"Split": {
		{in: list(random(1, -1, 1, 5, 2), ints(2, 3)), outs: 2},
		{in: list(random(1, -1, 1, 2, 5)), outs: 2, loss: []int{1}, attrs: ir.MakeAttrs("axis", 1, "num_outputs", 2)},
	},
	"Slice": {
		{in: list(random(1, -1, 1, 4, 5), ints(3, 1), ints(0, 4), ints(0, 1), ints(-2, 1))},
		{in: list(random(1, -1, 1, 4, 5), ints(1, 1), ints(3, 4))},
		{in: list(random(1, -1, 1, 2, 3, 5, 6), ints(1, 0, 1), ints(2, 9, 5), ints(1, 2, -1), ints(1, 2, 3))},
		{in: list(random(1, -1, 1, 2, 3, 9), ints(1), ints(5), ints(2), ints(2))},
		{in: list(random(1, -1, 1, 4, 5), ints(0), ints(4), ints(0), ints(3))},
	},
	"Tile":         {{in: list(random(1, -1, 1, 2, 3), ints(2, 1))}},
	"DepthToSpace": {{in: list(random(1, -1, 1, 1, 8, 2, 1)), attrs: ir.MakeAttrs("blocksize", 2)}},
	"SpaceToDepth": {{in: list(random(1, -1, 1, 1, 2, 2, 4)), attrs: ir.MakeAttrs("blocksize", 2)}},
	"Pad": {
		{in: list(random(1, -1, 1, 2, 3), ints(1, 0, 0, 2), random(2, 1, 2)), skip: []int{2}},
		{in: list(random(1, -1, 1, 2, 3), ints(0, 1, -1, 2)), attrs: ir.MakeAttrs("mode", "reflect")},
		{in: list(random(1, -1, 1, 2, 3), ints(0, 0, 0, 0))},
		{in: list(random(1, -1, 1, 2, 3, 2), ints(2, 0), random(2, 1, 2), ints(-2)), skip: []int{2}},
	},
	"Expand":          {{in: list(random(1, -1, 1, 3, 1), ints(2, 3, 4))}},
	"Gather":          {{in: list(random(1, -1, 1, 3, 4), ints(1, -1, 1)), attrs: ir.MakeAttrs("axis", 1)}},
	"GatherElements":  {{in: list(random(1, -1, 1, 3, 2), tensor.Of([]int64{0, 1, 2, 0}, 2, 2))}},
	"GatherND":        {{in: list(random(1, -1, 1, 3, 2), tensor.Of([]int64{2, 0, 2}, 3, 1))}},
	"Trilu":           {{in: list(random(1, -1, 1, 3, 4), ints(1).Reshape()), attrs: ir.MakeAttrs("upper", 0)}},
	"ReverseSequence": {{in: list(random(1, -1, 1, 4, 2), ints(3, 2))}},

	"MatMul": {
		{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3, 4))},
		{in: list(random(1, -1, 1, 2, 2, 3), random(2, -1, 1, 3, 2))},
		{in: list(random(1, -1, 1, 3), random(2, -1, 1, 2, 3, 2))},
		{in: list(random(1, -1, 1, 2, 2, 3), random(2, -1, 1, 3))},
		{in: list(random(1, -1, 1, 3), random(2, -1, 1, 3))},
	},
	"Gemm": {
		{in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 3, 4), random(3, -1, 1, 4))},
		{attrs: ir.MakeAttrs("transA", 1, "alpha", 0.5), in: list(random(1, -1, 1, 3, 2), random(2, -1, 1, 3, 4))},
		{attrs: ir.MakeAttrs("transB", 1, "beta", 0.5), in: list(random(1, -1, 1, 2, 3), random(2, -1, 1, 4, 3), random(3, -1, 1, 2, 1))},
		{attrs: ir.MakeAttrs("transA", 1, "transB", 1), in: list(random(1, -1, 1, 3, 2), random(2, -1, 1, 4, 3), random(3, -1, 1))},
	},

	"Conv": {
		{in: list(random(1, -1, 1, 2, 2, 4, 5), random(2, -1, 1, 3, 2, 3, 3), random(3, -1, 1, 3)), attrs: ir.MakeAttrs("pads", []int{1, 1, 1, 1})},
		{in: list(random(1, -1, 1, 1, 4, 6, 5), random(2, -1, 1, 4, 2, 3, 2)), attrs: ir.MakeAttrs("pads", []int{1, 0, 0, 1}, "strides", []int{2, 2}, "group", 2)},
		{in: list(random(1, -1, 1, 9, 2, 5), random(2, -1, 1, 2, 1, 2)), attrs: ir.MakeAttrs("dilations", []int{2}, "group", 2, "strides", []int{2})},
		{in: list(random(1, -1, 1, 1, 2, 5, 5), random(2, -1, 1, 2, 2, 3, 3)), attrs: ir.MakeAttrs("auto_pad", "SAME_UPPER", "strides", []int{2, 2})},
	},
	"thriftc.ConvGradInput": {
		{in: list(random(1, -1, 1, 1, 2, 2, 2), random(2, -1, 1, 2, 2, 3, 3)), attrs: ir.MakeAttrs("pads", []int{1, 1, 1, 1}, "strides", []int{2, 2}, "spatial", []int{4, 3})},
	},
	"thriftc.ConvGradWeight": {
		{in: list(random(1, -1, 1, 2, 2, 4, 3), random(2, -1, 1, 2, 2, 2, 2)), attrs: ir.MakeAttrs("pads", []int{1, 1, 1, 1}, "strides", []int{2, 2}, "kernel_shape", []int{3, 3})},
	},

	"MaxPool": {
		{in: list(random(1, -1, 1, 2, 2, 5, 5)), attrs: ir.MakeAttrs("kernel_shape", []int{3, 3}, "strides", []int{2, 2}, "pads", []int{1, 1, 1, 1})},
		{in: list(random(1, -1, 1, 1, 2, 6)), attrs: ir.MakeAttrs("kernel_shape", []int{2}), outs: 2},
	},
	"GlobalMaxPool": {{in: list(random(1, -1, 1, 2, 2, 3, 3))}},
	"AveragePool": {
		{in: list(random(1, -1, 1, 2, 2, 5, 5)), attrs: ir.MakeAttrs("kernel_shape", []int{3, 2}, "strides", []int{2, 1}, "pads", []int{1, 1, 1, 0})},
		{in: list(random(1, -1, 1, 1, 2, 5, 5)), attrs: ir.MakeAttrs("kernel_shape", []int{3, 3}, "strides", []int{2, 2}, "pads", []int{1, 1, 1, 1}, "count_include_pad", 1)},
		{in: list(random(1, -1, 1, 1, 2, 6, 6)), attrs: ir.MakeAttrs("kernel_shape", []int{3, 3}, "strides", []int{2, 2}, "ceil_mode", 1)},
	},
	"GlobalAveragePool":       {{in: list(random(1, -1, 1, 2, 2, 3, 3))}},
	"thriftc.AveragePoolGrad": {{in: list(random(1, -1, 1, 1, 2, 2, 2)), attrs: ir.MakeAttrs("kernel_shape", []int{3, 3}, "strides", []int{2, 2}, "pads", []int{1, 1, 1, 1}, "spatial", []int{4, 4})}},

	"Relu": {{in: list(random(1, -1, 1, 3, 4))}},
	// That of x is straight-through by design; bitquant_test.go checks it and those of the range.
	"thriftc.BitQuant": {
		{in: list(random(1, -1, 1, 3, 4), tensor.Of([]float64{2.3, 3.6, 5.5}, 3, 1), tensor.Scalar(-0.9), tensor.Scalar(1.1)), skip: []int{0, 2, 3}},
		{in: list(random(1, -1, 1, 3, 4), tensor.Scalar(2.3), tensor.Scalar(-0.9), tensor.Scalar(1.1)), skip: []int{0, 2, 3}, attrs: ir.MakeAttrs("grid", gridSymmetric, "fixed_range", 1)},
	},
	"thriftc.ClipGrad": {{in: list(random(1, -1, 1, 3, 4), random(2, -1, 1, 3, 4), random(3, -0.5, -0.4), random(4, 0.4, 0.5)), skip: []int{1, 2, 3}}},
	"thriftc.ReluGrad": {{in: list(random(1, -1, 1, 3, 4), random(2, -1, 1, 3, 4)), skip: []int{1}}},
	"thriftc.BatchNormTrain": {
		{in: list(random(1, -1, 1, 3, 2, 3, 2), random(2, 1, 2, 2), random(3, -1, 1, 2)), loss: []int{0}},
		{in: list(random(1, 1, 3, 10, 3), random(2, 1, 2, 3), random(3, -1, 1, 3)), loss: []int{0}, attrs: ir.MakeAttrs("epsilon", 0.1)},
	},
	"thriftc.SoftmaxCrossEntropy": {
		{in: list(random(1, -2, 2, 3, 4), ints(1, 3, 0)), loss: []int{0}},
		{in: list(random(1, -2, 2, 3, 4), ints(1, 3, 0)), outs: 2, loss: []int{0}, attrs: ir.MakeAttrs("label_smoothing", 0.1)},
		{in: list(random(1, -2, 2, 2, 3), random(2, 0, 1, 2, 3)), skip: []int{1}, loss: []int{0}, attrs: ir.MakeAttrs("label_smoothing", 0.25)},
	},
}
