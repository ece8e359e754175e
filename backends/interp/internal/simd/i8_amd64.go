package simd

import "golang.org/x/sys/cpu"

// byteMaxTiles serve all vector units.
var byteMaxTiles = []func(*uint64){byteMaxTile1AVX2, byteMaxTile2AVX2, byteMaxTile3AVX2, byteMaxTile4AVX2, byteMaxTile5AVX2, byteMaxTile6AVX2, byteMaxTile7AVX2, byteMaxTile8AVX2}

// byteGathers serve all vector units too.
var byteGathers = []func(*uint64){byteGather1AVX2, byteGather2AVX2, byteGather3AVX2, byteGather4AVX2}

var bytesAVX2 = byteKernels{
	maxTiles:   byteMaxTiles,
	gather:     byteGathers,
	conv:       [][]func(*uint64){{byteConv1x1AVX2, byteConv1x2AVX2, byteConv1x3AVX2}},
	depthwise:  []func(*uint64){byteDepthwise1AVX2},
	pairs:      []func(*uint64){bytePairs2AVX2},
	turns:      4,
	words:      true,
	requantise: byteRequantiseAVX2, wide: byteRequantiseWideAVX2, toFloats: byteSumsToFloatsAVX2,
	quantise: byteQuantiseAVX2, quantise4: byteQuantise4AVX2, dequantise: byteDequantiseAVX2,
	add: byteAddAVX2, sum: byteSumAVX2, max: byteMaxAVX2,
}

// bytesFor returns the kernels for bytes beside AVX-512: those with its byte products, if the CPU has them.
func bytesFor() byteKernels {
	if !cpu.X86.HasAVX512VNNI || !cpu.X86.HasAVX512VBMI || !cpu.X86.HasAVX512BW || !cpu.X86.HasAVX512VL {
		return bytesAVX2
	}
	return byteKernels{
		maxTiles: byteMaxTiles,
		gather:   byteGathers,
		conv: [][]func(*uint64){
			{byteConv1x1AVX512, byteConv1x2AVX512, byteConv1x3AVX512, byteConv1x4AVX512, byteConv1x5AVX512, byteConv1x6AVX512, byteConv1x7AVX512, byteConv1x8AVX512, byteConv1x9AVX512, byteConv1x10AVX512, byteConv1x11AVX512, byteConv1x12AVX512, byteConv1x13AVX512, byteConv1x14AVX512},
			{byteConv2x1AVX512, byteConv2x2AVX512, byteConv2x3AVX512, byteConv2x4AVX512, byteConv2x5AVX512, byteConv2x6AVX512, byteConv2x7AVX512, byteConv2x8AVX512, byteConv2x9AVX512, byteConv2x10AVX512, byteConv2x11AVX512, byteConv2x12AVX512, byteConv2x13AVX512, byteConv2x14AVX512},
			{byteConv3x1AVX512, byteConv3x2AVX512, byteConv3x3AVX512, byteConv3x4AVX512, byteConv3x5AVX512, byteConv3x6AVX512, byteConv3x7AVX512, byteConv3x8AVX512, byteConv3x9AVX512},
			{byteConv4x1AVX512, byteConv4x2AVX512, byteConv4x3AVX512, byteConv4x4AVX512, byteConv4x5AVX512, byteConv4x6AVX512},
		},
		depthwise:  []func(*uint64){byteDepthwise1AVX512, byteDepthwise2AVX512, byteDepthwise3AVX512, byteDepthwise4AVX512, byteDepthwise5AVX512, byteDepthwise6AVX512, byteDepthwise7AVX512, byteDepthwise8AVX512},
		pairs:      []func(*uint64){bytePairs2AVX512, bytePairs4AVX512, bytePairs6AVX512, bytePairs8AVX512, bytePairs10AVX512, bytePairs12AVX512, bytePairs14AVX512},
		peak:       bytePeakAVX512,
		requantise: byteRequantiseAVX512, wide: byteRequantiseWideAVX512, toFloats: byteSumsToFloatsAVX512,
		quantise: byteQuantiseAVX512, quantise4: byteQuantise4AVX512, dequantise: byteDequantiseAVX512,
		add: byteAddAVX512, sum: byteSumAVX512, max: byteMaxAVX512, lookup: byteLookupAVX512,
	}
}
