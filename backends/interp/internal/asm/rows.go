package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rows writes the element-wise kernels. Each handles n whole vectors.
func (v isa) rows() {
	type regs = []reg.VecVirtual
	v.row("add", 2, 0, func(x, _ regs) { VADDPS(x[1], x[0], x[0]) })
	v.row("sub", 2, 0, func(x, _ regs) { VSUBPS(x[1], x[0], x[0]) })
	v.row("mul", 2, 0, func(x, _ regs) { VMULPS(x[1], x[0], x[0]) })
	v.row("max", 2, 0, func(x, _ regs) { VMAXPS(x[1], x[0], x[0]) })
	v.row("addScalar", 1, 1, func(x, s regs) { VADDPS(s[0], x[0], x[0]) })
	v.row("mulScalar", 1, 1, func(x, s regs) { VMULPS(s[0], x[0], x[0]) })
	v.row("normalise", 1, 3, func(x, s regs) {
		VSUBPS(s[0], x[0], x[0])
		VFMADD213PS(s[2], s[1], x[0])
	})
	// A NaN stays one: VMAXPS and VMINPS return their last operand, here the row's.
	v.row("clamp", 1, 2, func(x, s regs) {
		VMAXPS(x[0], s[0], x[0])
		VMINPS(x[0], s[1], x[0])
	})
	v.row("leaky", 1, 2, func(x, s regs) { // the second scalar is 0
		if v.lanes == 16 {
			k := K()
			VCMPPS(Imm(1), s[1], x[0], k)
			VMULPS(s[0], x[0], k, x[0])
			return
		}
		below, y := v.vec(), v.vec()
		VCMPPS(Imm(1), s[1], x[0], below)
		VMULPS(s[0], x[0], y)
		VBLENDVPS(below, y, x[0], x[0])
	})
	// A NaN becomes the least level.
	v.row("quant", 1, 4, func(x, s regs) {
		VDIVPS(s[0], x[0], x[0])
		if v.lanes == 16 {
			VRNDSCALEPS(Imm(0), x[0], x[0])
		} else {
			VROUNDPS(Imm(0), x[0], x[0])
		}
		VMAXPS(s[1], x[0], x[0])
		VMINPS(s[2], x[0], x[0])
		VMULPS(s[0], x[0], x[0])
		VADDPS(s[3], x[0], x[0]) // +0, so that the result is never −0
	})
}

// row writes a kernel that loads a vector of each of the inputs, applies body
// to them and the broadcast scalars, and stores the first.
func (v isa) row(name string, inputs, scalars int, body func(x, s []reg.VecVirtual)) {
	sig := "func(n int, dst *float32"
	for i := range inputs {
		sig += fmt.Sprintf(", x%d *float32", i)
	}
	for i := range scalars {
		sig += fmt.Sprintf(", s%d float32", i)
	}
	TEXT(name+v.name, NOSPLIT, sig+")")
	n := Load(Param("n"), GP64())
	dst := Load(Param("dst"), GP64())
	var ptr []reg.Register
	for i := range inputs {
		ptr = append(ptr, Load(Param(fmt.Sprintf("x%d", i)), GP64()))
	}
	var s []reg.VecVirtual
	for i := range scalars {
		m, err := Param(fmt.Sprintf("s%d", i)).Resolve()
		if err != nil {
			panic(err)
		}
		s = append(s, v.vec())
		VBROADCASTSS(m.Addr, s[i])
	}
	at := GP64()
	XORQ(at, at)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	var x []reg.VecVirtual
	for i := range inputs {
		x = append(x, v.vec())
		VMOVUPS(Mem{Base: ptr[i], Index: at, Scale: 1}, x[i])
	}
	body(x, s)
	VMOVUPS(x[0], Mem{Base: dst, Index: at, Scale: 1})
	ADDQ(Imm(uint64(4*v.lanes)), at)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// even writes the kernel that keeps every second element.
func (v isa) even() {
	TEXT("even"+v.name, NOSPLIT, "func(n int, dst *float32, x *float32)")
	n := Load(Param("n"), GP64())
	dst := Load(Param("dst"), GP64())
	x := Load(Param("x"), GP64())
	var order reg.VecVirtual
	if v.lanes == 16 {
		table := GLOBL("evens", RODATA|NOPTR)
		for i := range v.lanes {
			DATA(4*i, U32(2*i))
		}
		order = v.vec()
		VMOVUPS(table, order)
	}
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	lo, hi := v.vec(), v.vec()
	VMOVUPS(Mem{Base: x}, lo)
	VMOVUPS(Mem{Base: x, Disp: 4 * v.lanes}, hi)
	if v.lanes == 16 {
		VPERMT2PS(hi, order, lo)
	} else {
		VSHUFPS(Imm(0x88), hi, lo, lo)
		VPERMPD(Imm(0xd8), lo, lo)
	}
	VMOVUPS(lo, Mem{Base: dst})
	ADDQ(Imm(uint64(8*v.lanes)), x)
	ADDQ(Imm(uint64(4*v.lanes)), dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}
