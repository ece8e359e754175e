package ops

import "strings"

// noGradient says of operators without a gradient why: one line of reason and names
// for each group. Together with NoGrad in definitions this is the list that
// 'thriftc ops --no-gradient' prints and that training refuses by node name.
var noGradient = func() map[string]string {
	out := map[string]string{}
	for _, g := range []struct{ reason, names string }{
		{"its results are not floating-point numbers", `And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
			ConvInteger DynamicQuantizeLinear Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual MatMulInteger
			NonMaxSuppression NonZero Not Or QuantizeLinear RegexFullMatch SequenceLength Shape Size StringNormalizer Xor
			thriftc.Lookup thriftc.QAdd thriftc.QAveragePool thriftc.QConv thriftc.QGemm thriftc.QGlobalAveragePool thriftc.QMuxConv`},
		{"it is a step function, whose derivative is 0 wherever it has one; thriftc.Quant passes gradients straight through",
			"Ceil Floor Hardmax Round Sign thriftc.Trunc"},
		{"it makes constants; what numbers it takes count as given", `BlackmanWindow ConstantOfShape EyeLike HammingWindow HannWindow
			MelWeightMatrix OneHot Range`},
		{"its data are integers, and its scale counts as given", "DequantizeLinear"},
		{"gradients do not enter subgraphs", "If Loop Scan"},
		{"sequences have no gradients", `ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
			SplitToSequence`},
		{"gradients through time are not built; unrolled into simple operators the layer has one", "GRU LSTM RNN"},
		{"its gradient is not built", "AffineGrid Col2Im DFT DeformConv Det GridSample MaxRoiPool RoiAlign STFT Unique"},
		{"its gradient is not built; train the Conv that it stands for", "thriftc.MuxConv"},
		{"reading replaces it", `finn.custom_op.general.BipolarQuant finn.custom_op.general.IntQuant finn.custom_op.general.Quant
			finn.custom_op.general.Trunc onnx.brevitas.BipolarQuant onnx.brevitas.IntQuant onnx.brevitas.Quant onnx.brevitas.Trunc
			qonnx.custom_op.general.BipolarQuant qonnx.custom_op.general.IntQuant qonnx.custom_op.general.Quant
			qonnx.custom_op.general.Trunc`},
		{"it is part of what gradients are used for", "thriftc.AdamUpdate thriftc.MovingAverage thriftc.Norm thriftc.SGDUpdate"},
		{"a gradient of first order", `thriftc.BitQuantGrad thriftc.MaxPoolGrad thriftc.BatchNormTrainGrad thriftc.QuantGrad`},
	} {
		for name := range strings.FieldsSeq(g.names) {
			out[name] = g.reason
		}
	}
	return out
}()
