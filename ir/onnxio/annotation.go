package onnxio

import (
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir/tensor"
)

// annotationKey is the key of graph.quantization_annotation under which the
// true width of integers that sit in a wider ONNX type is kept: INT5, UINT3,
// BIPOLAR. FINN and qonnx use the same key and names.
const annotationKey = "finn_datatype"

func datatypeName(e tensor.Elem) string {
	switch e.Kind() {
	case tensor.BipolarKind:
		return "BIPOLAR"
	case tensor.UintKind:
		return "UINT" + strconv.Itoa(e.Bits())
	}
	return "INT" + strconv.Itoa(e.Bits())
}

// trueWidths reads the annotations of integer widths, by tensor name.
func trueWidths(anns []*onnxpb.TensorAnnotation) map[string]tensor.Elem {
	out := map[string]tensor.Elem{}
	for _, a := range anns {
		for _, e := range a.QuantParameterTensorNames {
			if e.GetKey() != annotationKey {
				continue
			}
			name, kind := e.GetValue(), tensor.Int
			if name == "BIPOLAR" {
				out[a.GetTensorName()] = tensor.Bipolar
				continue
			}
			if u, ok := strings.CutPrefix(name, "U"); ok {
				name, kind = u, tensor.Uint
			}
			if bits, err := strconv.Atoi(strings.TrimPrefix(name, "INT")); err == nil {
				out[a.GetTensorName()] = kind(bits)
			}
		}
	}
	return out
}

// narrowed returns t as elements of type e when that is what it holds: integers
// of the same signedness, all inside e's range. Annotations of anything else,
// such as integers kept as floats, are not ours to interpret.
func narrowed(t *tensor.Tensor, e tensor.Elem) *tensor.Tensor {
	if !t.Elem().IsInt() || t.Elem().IsSigned() != e.IsSigned() || e.Bits() >= t.Elem().Bits() {
		return t
	}
	lo, hi := e.Range()
	x := t.Int64s()
	for _, v := range x {
		if v < lo || v > hi || e == tensor.Bipolar && v == 0 {
			return t
		}
	}
	return tensor.FromInt64s(e, x, t.Shape()...)
}
