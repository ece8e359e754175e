package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.QMux, in order.
const (
	qmuxX = 8 * iota
	qmuxXStep
	qmuxQuads
	qmuxW
	qmuxBlocks
	qmuxBias
	qmuxScale
	qmuxShift
	qmuxZero
	qmuxLeast
	qmuxMost
	qmuxYStep
	qmuxY
)

// qmuxes writes the kernels of integers, for AVX-512 with VBMI and VNNI alone.
func (v isa) qmuxes() {
	if v.lanes != 16 {
		return
	}
	patchRows()
	for patches := 1; patches <= 6; patches++ {
		qmux(patches, 4)
	}
	for patches := 1; patches <= 12; patches++ {
		qmux(patches, 1)
	}
}

// patchRows writes the kernel that makes patches of four rows of four pixels.
// Of 16 channels it makes four results of four channels each: transposed, so that
// their channels follow each other.
func patchRows() {
	TEXT("patchesAVX512", NOSPLIT, "func(n int, dst *uint8, dstStep int, src *uint8, srcStep int, row int)")
	Pragma("noescape")
	n, dst, dstStep := Load(Param("n"), GP64()), Load(Param("dst"), GP64()), Load(Param("dstStep"), GP64())
	src, srcStep, row := Load(Param("src"), GP64()), Load(Param("srcStep"), GP64()), Load(Param("row"), GP64())
	low, high := GLOBL("patchLow", RODATA|NOPTR), Mem{}
	for i := range 16 { // quads 0 and 1 of two rows
		DATA(4*i, U32(i/8+i%4*4+i/4%2*16))
	}
	high = GLOBL("patchHigh", RODATA|NOPTR)
	for i := range 16 { // quads 2 and 3
		DATA(4*i, U32(2+i/8+i%4*4+i/4%2*16))
	}
	lo, hi := ZMM(), ZMM()
	VMOVDQU32(low, lo)
	VMOVDQU32(high, hi)
	row3, dst3 := GP64(), GP64()
	LEAQ(Mem{Base: row, Index: row, Scale: 2}, row3)
	LEAQ(Mem{Base: dstStep, Index: dstStep, Scale: 2}, dst3)
	Label("loop")
	r := []reg.VecVirtual{ZMM(), ZMM(), ZMM(), ZMM()}
	for i, m := range []Mem{{Base: src}, {Base: src, Index: row, Scale: 1}, {Base: src, Index: row, Scale: 2}, {Base: src, Index: row3, Scale: 1}} {
		VMOVDQU32(m, r[i])
	}
	var pairs [2][2]reg.VecVirtual // by rows, by quads
	for i := range pairs {
		for j, index := range []reg.VecVirtual{lo, hi} {
			pairs[i][j] = ZMM()
			VMOVDQA32(index, pairs[i][j])
			VPERMI2D(r[2*i+1], r[2*i], pairs[i][j])
		}
	}
	out := []Mem{{Base: dst}, {Base: dst, Index: dstStep, Scale: 1}, {Base: dst, Index: dstStep, Scale: 2}, {Base: dst, Index: dst3, Scale: 1}}
	for j := range 2 {
		q := ZMM()
		VSHUFI64X2(Imm(0x44), pairs[1][j], pairs[0][j], q)
		VMOVDQU32(q, out[2*j])
		q = ZMM()
		VSHUFI64X2(Imm(0xee), pairs[1][j], pairs[0][j], q)
		VMOVDQU32(q, out[2*j+1])
	}
	ADDQ(srcStep, src)
	ADDQ(Imm(64), dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// qmux writes the kernel for so many patches, each with the input of one pixel
// or of two by two.
func qmux(patches, pixels int) {
	name := fmt.Sprintf("qmux%dx%dAVX512", patches, pixels)
	TEXT(name, NOSPLIT, "func(m *uint64)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes %d patches of %d pixels.", name, patches, pixels))
	m := Load(Param("m"), GP64())
	word := wordsOf(m)
	var moved []Mem // to be added to the places of the first pixel's taps
	if pixels == 4 {
		for i, d := range []uint64{4, 16, 20} {
			moved = append(moved, GLOBL(fmt.Sprintf("qmuxMoved%dx%d", patches, i), RODATA|NOPTR))
			for j := range 8 {
				DATA(8*j, U64(d*0x0101010101010101))
			}
		}
	}
	w, blocks, bias, scale := word(qmuxW), word(qmuxBlocks), word(qmuxBias), word(qmuxScale)
	xStep := word(qmuxXStep)
	done := GP64() // how far the outputs of this block are from those of the first
	XORQ(done, done)

	Label("block")
	acc := make([]reg.VecVirtual, patches*pixels)
	for i := range acc {
		acc[i] = ZMM()
		VPXORD(acc[i], acc[i], acc[i])
	}
	x, k := word(qmuxX), word(qmuxQuads)
	Label("quad")
	at := []reg.VecVirtual{ZMM()}
	VMOVDQU32(Mem{Base: w}, at[0])
	for i, d := range moved {
		at = append(at, ZMM())
		VPADDB(d, at[0], at[i+1])
	}
	weights := ZMM()
	VMOVDQU32(Mem{Base: w, Disp: 64}, weights)
	for p := range patches {
		patch := ZMM()
		VMOVDQU32(Mem{Base: x, Disp: 64 * p}, patch)
		for i := range pixels {
			chosen := ZMM()
			VPERMB(patch, at[i], chosen)
			VPDPBUSD(weights, chosen, acc[p*pixels+i])
		}
	}
	ADDQ(Imm(128), w)
	ADDQ(xStep, x)
	DECQ(k)
	JNZ(LabelRef("quad"))

	// The sum is shifted, the bias added, and the product with the scale is exact in
	// float64.
	b, shift := ZMM(), XMM()
	VMOVDQU32(Mem{Base: bias}, b)
	VMOVQ(Mem{Base: m, Disp: qmuxShift}, shift)
	s0, s1, least, most := ZMM(), ZMM(), ZMM(), ZMM()
	VPBROADCASTD(Mem{Base: m, Disp: qmuxLeast}, least)
	VPBROADCASTD(Mem{Base: m, Disp: qmuxMost}, most)
	VMOVUPD(Mem{Base: scale}, s0)
	VMOVUPD(Mem{Base: scale, Disp: 64}, s1)
	for i := len(acc) - 1; i >= 0; i-- { // the first pixel of a patch last: see simd.QMux.Y
		a := acc[i]
		VPSLLD(shift, a, a)
		VPADDD(b, a, a)
		d0, d1 := ZMM(), ZMM()
		VCVTDQ2PD(a.AsY(), d0)
		VEXTRACTI64X4(Imm(1), a, d1.AsY())
		VCVTDQ2PD(d1.AsY(), d1)
		for j, d := range []reg.VecVirtual{d0, d1} {
			VMULPD([]reg.VecVirtual{s0, s1}[j], d, d)
			VCVTPD2DQ(d, d.AsY())
		}
		VINSERTI64X4(Imm(1), d1.AsY(), d0, d0)
		VPMAXSD(least, d0, d0)
		VPMINSD(most, d0, d0)
		VPADDD_BCST(Mem{Base: m, Disp: qmuxZero}, d0, d0)
		y := word(qmuxY + 8*i)
		VPMOVDB(d0, Mem{Base: y, Index: done, Scale: 1})
	}
	ADDQ(Imm(64), bias)
	ADDQ(Imm(128), scale)
	ADDQ(Mem{Base: m, Disp: qmuxYStep}, done)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}
