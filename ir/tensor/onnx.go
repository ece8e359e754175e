package tensor

// onnxTypes lists the element types by their number in ONNX's
// TensorProto.DataType; Invalid where we have none (complex, float8, float4).
var onnxTypes = [...]Elem{
	1: F32, 2: U8, 3: I8, 4: U16, 5: I16, 6: I32, 7: I64, 8: String, 9: Bool, 10: F16,
	11: F64, 12: U32, 13: U64, 16: BF16, 21: U4, 22: I4,
	25: Elem(UintKind)<<8 | 2, 26: Elem(IntKind)<<8 | 2,
}

// ONNXType returns the number of e in ONNX's TensorProto.DataType, 0 when ONNX
// has no such type.
func (e Elem) ONNXType() int {
	for i, x := range onnxTypes {
		if x == e && e != Invalid {
			return i
		}
	}
	return 0
}

// FromONNXType is the inverse of Elem.ONNXType; Invalid for numbers that name
// no type or one that we do not have.
func FromONNXType(t int) Elem {
	if t < 0 || t >= len(onnxTypes) {
		return Invalid
	}
	return onnxTypes[t]
}
