package simd

var (
	bitsAVX2   = bitKernels{bitRow: bitRowAVX2, bitGrad: [2]func(*uint64){bitGradAVX2, bitGradFlatAVX2}}
	bitsAVX512 = bitKernels{bitRow: bitRowAVX512, bitGrad: [2]func(*uint64){bitGradAVX512, bitGradFlatAVX512}}
)
