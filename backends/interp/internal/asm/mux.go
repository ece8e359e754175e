package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.Mux, in order.
const (
	muxTaps    = 8 * 0
	muxCounts  = 8 * 1
	muxOuts    = 8 * 2
	muxX       = 8 * 3
	muxY       = 8 * 11
	muxYAt     = 8 * 12
	muxYStep   = 8 * 20
	muxFlags   = 8 * 21
	muxBias    = 8 * 22
	muxMean    = 8 * 23
	muxScale   = 8 * 24
	muxShift   = 8 * 25
	muxAdd     = 8 * 26
	muxAddAt   = 8 * 27
	muxAddStep = 8 * 35
	muxLimits  = 8 * 36 // two floats
	muxMask    = 8 * 37
	muxBits    = 8 * 41
	muxParam   = 8 * 42
	muxYDone   = 8 * 43
	muxAddDone = 8 * 44
)

// flagPartial follows the flags of simd.Tile.
const flagPartial = flagClamp << 1

// muxes writes a kernel for each number of vectors.
func (v isa) muxes() {
	for nv := 1; nv <= 8; nv++ {
		v.mux(nv)
	}
}

// mux writes the kernel that computes nv vectors of pixels of one output
// channel after the other. Every tap of an output has its own place in the input.
func (v isa) mux(nv int) {
	name := fmt.Sprintf("mux%d%s", nv, v.name)
	TEXT(name, NOSPLIT, "func(m *uint64)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes %d vectors of pixels.", name, nv))
	m := Load(Param("m"), GP64())
	field := func(disp int) Mem { return Mem{Base: m, Disp: disp} }
	get := func(disp int) reg.GPVirtual {
		r := GP64()
		MOVQ(field(disp), r)
		return r
	}
	taps, counts, outs := get(muxTaps), get(muxCounts), get(muxOuts)
	base := make([]reg.GPVirtual, nv)
	acc := make([]reg.VecVirtual, nv)
	for j := range base {
		base[j], acc[j] = get(muxX+8*j), v.vec()
	}
	optional := func(flag uint32, label string, body func()) {
		TESTQ(U32(flag), field(muxFlags))
		JZ(LabelRef(label))
		body()
		Label(label)
	}
	// pieces emits body twice: for whole vectors, and for those of which a mask says how much to touch.
	pieces := func(label string, body func(mask reg.Register)) {
		TESTQ(U32(flagPartial), field(muxFlags))
		JNZ(LabelRef(label + "_partial"))
		body(nil)
		JMP(LabelRef(label))
		Label(label + "_partial")
		if v.lanes == 16 {
			k := K()
			KMOVW(field(muxBits), k)
			body(k)
		} else {
			k := v.vec()
			VMOVUPS(field(muxMask), k)
			body(k)
		}
		Label(label)
	}
	// at returns where vector j of the value at a pointer lies.
	at := func(p reg.Register, pos, j int) Mem { return Mem{Base: p, Index: get(pos + 8*j), Scale: 1} }

	Label("output")
	for _, r := range acc {
		v.zero(r)
	}
	optional(flagMore, "start", func() {
		y := get(muxY)
		ADDQ(field(muxYDone), y)
		pieces("loaded", func(mask reg.Register) {
			for j, r := range acc {
				v.read(at(y, muxYAt, j), mask, r)
			}
		})
	})
	end := GP64()
	MOVLQSX(Mem{Base: counts}, end)
	ADDQ(Imm(4), counts)
	LEAQ(Mem{Base: taps, Index: end, Scale: 8}, end)
	CMPQ(taps, end)
	JE(LabelRef("summed"))
	Label("tap")
	off, w := GP64(), v.vec()
	MOVLQSX(Mem{Base: taps}, off)
	VBROADCASTSS(Mem{Base: taps, Disp: 4}, w)
	for j, r := range acc {
		VFMADD231PS(Mem{Base: base[j], Index: off, Scale: 1}, w, r)
	}
	ADDQ(Imm(8), taps)
	CMPQ(taps, end)
	JNE(LabelRef("tap"))

	Label("summed")
	// next returns the output's element of a list of parameters.
	next := func(list int) reg.VecVirtual {
		r := v.vec()
		VBROADCASTSS(Mem{Base: get(list), Index: get(muxParam), Scale: 1}, r)
		return r
	}
	optional(flagBias, "biased", func() {
		b := next(muxBias)
		for _, r := range acc {
			VADDPS(b, r, r)
		}
	})
	optional(flagNorm, "normalised", func() {
		mean, scale, shift := next(muxMean), next(muxScale), next(muxShift)
		for _, r := range acc {
			VSUBPS(mean, r, r)
			VFMADD213PS(shift, scale, r)
		}
	})
	optional(flagAdd, "added", func() {
		other := get(muxAdd)
		ADDQ(field(muxAddDone), other)
		pieces("others", func(mask reg.Register) {
			for j, r := range acc {
				t := v.vec()
				v.read(at(other, muxAddAt, j), mask, t)
				VADDPS(t, r, r)
			}
		})
		ADDQ(get(muxAddStep), field(muxAddDone))
	})
	optional(flagClamp, "clamped", func() {
		lo, hi := v.vec(), v.vec()
		VBROADCASTSS(field(muxLimits), lo)
		VBROADCASTSS(field(muxLimits+4), hi)
		for _, r := range acc { // a NaN stays one
			VMAXPS(r, lo, r)
			VMINPS(r, hi, r)
		}
	})
	y := get(muxY)
	ADDQ(field(muxYDone), y)
	pieces("stored", func(mask reg.Register) {
		for j, r := range acc {
			v.write(r, mask, at(y, muxYAt, j))
		}
	})
	ADDQ(get(muxYStep), field(muxYDone))
	ADDQ(Imm(4), field(muxParam))
	DECQ(outs)
	JNZ(LabelRef("output"))
	VZEROUPPER()
	RET()
}

// read loads a vector, or the part of it that the mask names.
func (v isa) read(m Mem, mask reg.Register, r reg.VecVirtual) {
	switch {
	case mask == nil:
		VMOVUPS(m, r)
	case v.lanes == 16:
		VMOVUPS_Z(m, mask, r)
	default:
		VMASKMOVPS(m, mask, r)
	}
}

// write stores a vector, or the part of it that the mask names.
func (v isa) write(r reg.VecVirtual, mask reg.Register, m Mem) {
	switch {
	case mask == nil:
		VMOVUPS(r, m)
	case v.lanes == 16:
		VMOVUPS(r, mask, m)
	default:
		VMASKMOVPS(r, mask, m)
	}
}
