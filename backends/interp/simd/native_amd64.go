package simd

import "golang.org/x/sys/cpu"

// native is the kernels written for the CPU's vector instructions.
var native = nativeSets()

func nativeSets() []*Set {
	var out []*Set
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		out = append(out, &Set{
			Name: "avx2", Lanes: 8, Rows: 4, Vectors: 3,
			conv: convAVX2, peak: peakAVX2, depthwise: depthwiseAVX2,
			winoIn: winoInAVX2, winoOut: winoOutAVX2,
			mux:   muxAVX2,
			bytes: bytesAVX2,
			tiles: [][]tile{
				{tile1x1AVX2, tile1x2AVX2, tile1x3AVX2, tile1x4AVX2},
				{tile2x1AVX2, tile2x2AVX2, tile2x3AVX2},
				{tile3x1AVX2, tile3x2AVX2, tile3x3AVX2},
				{tile4x1AVX2, tile4x2AVX2, tile4x3AVX2},
			},
			add: addAVX2, sub: subAVX2, mul: mulAVX2, max: maxAVX2,
			addScalar: addScalarAVX2, mulScalar: mulScalarAVX2,
			normalise: normaliseAVX2, even: evenAVX2, clamp: clampAVX2, leaky: leakyAVX2, quant: quantAVX2,
		})
	}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX2 {
		out = append(out, &Set{
			Name: "avx512", Lanes: 16, Rows: 8, Vectors: 3,
			conv: convAVX512, peak: peakAVX512, depthwise: depthwiseAVX512,
			winoIn: winoInAVX512, winoOut: winoOutAVX512,
			mux: muxAVX512, muxHalf: muxAVX2,
			bytes: bytesFor(),
			tiles: [][]tile{
				{tile1x1AVX512, tile1x2AVX512, tile1x3AVX512, tile1x4AVX512},
				{tile2x1AVX512, tile2x2AVX512, tile2x3AVX512},
				{tile3x1AVX512, tile3x2AVX512, tile3x3AVX512},
				{tile4x1AVX512, tile4x2AVX512, tile4x3AVX512},
				{tile5x1AVX512, tile5x2AVX512, tile5x3AVX512},
				{tile6x1AVX512, tile6x2AVX512, tile6x3AVX512},
				{tile7x1AVX512, tile7x2AVX512, tile7x3AVX512},
				{tile8x1AVX512, tile8x2AVX512, tile8x3AVX512},
			},
			add: addAVX512, sub: subAVX512, mul: mulAVX512, max: maxAVX512,
			addScalar: addScalarAVX512, mulScalar: mulScalarAVX512,
			normalise: normaliseAVX512, even: evenAVX512, clamp: clampAVX512, leaky: leakyAVX512, quant: quantAVX512,
		})
	}
	return out
}
