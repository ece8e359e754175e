package simd

var trainAVX2 = trainKernels{
	outer:      []func(*uint64){outer1AVX2, outer2AVX2, outer3AVX2, outer4AVX2, outer5AVX2, outer6AVX2},
	outerLanes: []func(*uint64){outerLanes1AVX2, outerLanes2AVX2, outerLanes3AVX2, outerLanes4AVX2, outerLanes5AVX2, outerLanes6AVX2},
	normSums:   normSumsAVX2, normRow: normRowAVX2,
	gradSums: [2]func(*uint64){gradSumsAVX2, gradSumsMaskedAVX2},
	gradRow:  [2]func(*uint64){gradRowAVX2, gradRowMaskedAVX2},
	mask:     maskAVX2,
	winoGrad: winoGradAVX2,
}

var trainAVX512 = trainKernels{
	outer: []func(*uint64){
		outer1AVX512, outer2AVX512, outer3AVX512, outer4AVX512, outer5AVX512, outer6AVX512, outer7AVX512, outer8AVX512,
		outer9AVX512, outer10AVX512, outer11AVX512, outer12AVX512, outer13AVX512, outer14AVX512, outer15AVX512, outer16AVX512,
	},
	outerLanes: []func(*uint64){
		outerLanes1AVX512, outerLanes2AVX512, outerLanes3AVX512, outerLanes4AVX512, outerLanes5AVX512, outerLanes6AVX512, outerLanes7AVX512, outerLanes8AVX512,
		outerLanes9AVX512, outerLanes10AVX512, outerLanes11AVX512, outerLanes12AVX512, outerLanes13AVX512, outerLanes14AVX512, outerLanes15AVX512, outerLanes16AVX512,
	},
	normSums: normSumsAVX512, normRow: normRowAVX512,
	gradSums: [2]func(*uint64){gradSumsAVX512, gradSumsMaskedAVX512},
	gradRow:  [2]func(*uint64){gradRowAVX512, gradRowMaskedAVX512},
	mask:     maskAVX512,
	winoGrad: winoGradAVX512,
}
