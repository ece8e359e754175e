package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.Resample, in order.
const (
	resampleX = 8 * iota
	resampleY
	resampleRows
	resampleRowWeights
	resampleRowTaps
	resampleCols
	resampleColWeights
	resampleColTaps
	resamplePixels
)

// lines writes kernels of normalisations, reductions and resampling.
func (v isa) lines() {
	type regs = []reg.VecVirtual
	v.row("div", 2, 0, func(x, _ regs) { VDIVPS(x[1], x[0], x[0]) })
	v.row("divScalar", 1, 1, func(x, s regs) { VDIVPS(s[0], x[0], x[0]) })
	v.row("mulAdd", 3, 0, func(x, _ regs) { VFMADD213PS(x[2], x[1], x[0]) })
	v.sum16()
	v.leakyLanes()
	v.resample()
}

// leakyLanes writes the kernel that multiplies negative elements of n pixels of
// 16 channels by a number for each channel.
func (v isa) leakyLanes() {
	TEXT("leakyLanes"+v.name, NOSPLIT, "func(n int, x *float32, slopes *float32)")
	n := Load(Param("n"), GP64())
	x := Load(Param("x"), GP64())
	slopes := Load(Param("slopes"), GP64())
	zero := v.vec()
	v.zero(zero)
	p := make([]reg.VecVirtual, 16/v.lanes)
	for i := range p {
		p[i] = v.vec()
		VMOVUPS(Mem{Base: slopes, Disp: 4 * v.lanes * i}, p[i])
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	for i := range p {
		at := Mem{Base: x, Disp: 4 * v.lanes * i}
		a := v.vec()
		VMOVUPS(at, a)
		if v.lanes == 16 {
			below := K()
			VCMPPS(Imm(less), zero, a, below)
			VMULPS(p[i], a, below, a)
		} else {
			below, b := v.vec(), v.vec()
			VCMPPS(Imm(less), zero, a, below)
			VMULPS(p[i], a, b)
			VBLENDVPS(below, b, a, a)
		}
		VMOVUPS(a, at)
	}
	ADDQ(Imm(64), x)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// sum16 writes the kernel that adds n vectors of 16 elements to one.
func (v isa) sum16() {
	TEXT("sum16"+v.name, NOSPLIT, "func(n int, sum *float32, x *float32)")
	Pragma("noescape")
	n := Load(Param("n"), GP64())
	sum := Load(Param("sum"), GP64())
	x := Load(Param("x"), GP64())
	acc := make([]reg.VecVirtual, 16/v.lanes)
	for i := range acc {
		acc[i] = v.vec()
		VMOVUPS(Mem{Base: sum, Disp: 4 * v.lanes * i}, acc[i])
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	for i, a := range acc {
		VADDPS(Mem{Base: x, Disp: 4 * v.lanes * i}, a, a)
	}
	ADDQ(Imm(64), x)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	for i, a := range acc {
		VMOVUPS(a, Mem{Base: sum, Disp: 4 * v.lanes * i})
	}
	VZEROUPPER()
	RET()
}

// resample writes the kernel that interpolates pixels of one vector, in float64.
func (v isa) resample() {
	TEXT("resample"+v.name, NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	t := Load(Param("t"), GP64())
	word := wordsOf(t)
	x, y := word(resampleX), word(resampleY)
	cols, colWeights := word(resampleCols), word(resampleColWeights)
	pixels := word(resamplePixels)
	Label("pixel")
	var sum, column [2]reg.VecVirtual
	for i := range sum {
		sum[i], column[i] = v.vec(), v.vec()
		v.zero(sum[i])
	}
	colTaps := word(resampleColTaps)
	Label("column")
	from := GP64()
	MOVQ(Mem{Base: cols}, from)
	ADDQ(x, from)
	for i := range column {
		v.zero(column[i])
	}
	rows, rowWeights, rowTaps := word(resampleRows), word(resampleRowWeights), word(resampleRowTaps)
	add := func(weight reg.Register, to [2]reg.VecVirtual, load func(i int) reg.VecVirtual) {
		w := v.do(VBROADCASTSD, Mem{Base: weight})[0]
		for i := range to {
			p := v.do(VMULPD, load(i), w)[0]
			VADDPD(p, to[i], to[i])
		}
	}
	Label("row")
	at := GP64()
	MOVQ(Mem{Base: rows}, at)
	add(rowWeights, column, func(i int) reg.VecVirtual {
		return v.do(VCVTPS2PD, Mem{Base: from, Index: at, Scale: 1, Disp: 2 * v.lanes * i})[0]
	})
	ADDQ(Imm(8), rows)
	ADDQ(Imm(8), rowWeights)
	DECQ(rowTaps)
	JNZ(LabelRef("row"))
	add(colWeights, sum, func(i int) reg.VecVirtual { return column[i] })
	ADDQ(Imm(8), cols)
	ADDQ(Imm(8), colWeights)
	DECQ(colTaps)
	JNZ(LabelRef("column"))
	for i, s := range sum {
		narrow := v.vec()
		to := Mem{Base: y, Disp: 2 * v.lanes * i}
		if v.lanes == 16 {
			VCVTPD2PS(s, narrow.AsY())
			VMOVUPS(narrow.AsY(), to)
		} else {
			VCVTPD2PSY(s, narrow.AsX())
			VMOVUPS(narrow.AsX(), to)
		}
	}
	ADDQ(Imm(64), y)
	DECQ(pixels)
	JNZ(LabelRef("pixel"))
	VZEROUPPER()
	RET()
}
