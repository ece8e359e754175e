package simd

var qmuxAVX512 = [2][]func(*uint64){
	{qmux1x1AVX512, qmux2x1AVX512, qmux3x1AVX512, qmux4x1AVX512, qmux5x1AVX512, qmux6x1AVX512,
		qmux7x1AVX512, qmux8x1AVX512, qmux9x1AVX512, qmux10x1AVX512, qmux11x1AVX512, qmux12x1AVX512},
	{qmux1x4AVX512, qmux2x4AVX512, qmux3x4AVX512, qmux4x4AVX512, qmux5x4AVX512, qmux6x4AVX512},
}
