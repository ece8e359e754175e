package simd

import "golang.org/x/sys/cpu"

// native is the kernels written for the CPU's vector instructions.
var native = nativeSets()

func nativeSets() []*Set {
	var out []*Set
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		out = append(out, &Set{
			Name: "avx2", Lanes: 8,
			conv: convAVX2, peak: peakAVX2, poolMax: poolMaxAVX2, poolMean: poolMeanAVX2, depthwise: depthwiseAVX2,
			trainKernels: trainAVX2, bitKernels: bitsAVX2,
			lines:  linesAVX2,
			winoIn: winoInAVX2, winoOut: winoOutAVX2,
			mux:      muxAVX2,
			toPlanes: toPlanesAVX2, toBlocks: toBlocksAVX2,
			bytes: bytesAVX2,
			add:   addAVX2, sub: subAVX2, mul: mulAVX2, max: maxAVX2,
			addScalar: addScalarAVX2, mulScalar: mulScalarAVX2,
			normalise: normaliseAVX2, even: evenAVX2, clamp: clampAVX2, leaky: leakyAVX2, quant: quantAVX2,
		})
	}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX2 {
		out = append(out, &Set{
			Name: "avx512", Lanes: 16,
			conv: convAVX512, gather: []func(*uint64){gather1AVX512, gather2AVX512, gather3AVX512, gather4AVX512}, peak: peakAVX512, poolMax: poolMaxAVX512, poolMean: poolMeanAVX512, depthwise: depthwiseAVX512,
			trainKernels: trainAVX512, bitKernels: bitsAVX512,
			lines:  linesAVX512,
			winoIn: winoInAVX512, winoOut: winoOutAVX512,
			mux: muxAVX512, muxHalf: muxAVX2,
			toPlanes: toPlanesAVX2, toBlocks: toBlocksAVX2,
			bytes: bytesFor(),
			add:   addAVX512, sub: subAVX512, mul: mulAVX512, max: maxAVX512,
			addScalar: addScalarAVX512, mulScalar: mulScalarAVX512,
			normalise: normaliseAVX512, even: evenAVX512, clamp: clampAVX512, leaky: leakyAVX512, quant: quantAVX512,
		})
		if cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512VNNI {
			s := out[len(out)-1]
			s.qmux, s.patches = qmuxAVX512, patchesAVX512
		}
	}
	return out
}
