package simd

var (
	linesAVX2   = lineKernels{divAVX2, divScalarAVX2, mulAddAVX2, resampleAVX2, leakyLanesAVX2}
	linesAVX512 = lineKernels{divAVX512, divScalarAVX512, mulAddAVX512, resampleAVX512, leakyLanesAVX512}
)

// sum16 adds n vectors of 16 elements to one. It is called directly so that
// the sum may lie on the stack.
func sum16(lanes, n int, sum, x *float32) {
	if lanes == 16 {
		sum16AVX512(n, sum, x)
	} else {
		sum16AVX2(n, sum, x)
	}
}
