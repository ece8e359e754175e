package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// relays writes the kernels that move eight pixels of eight channels at a time
// from blocks of 16 channels to planes and back.
func (v isa) relays() {
	if v.lanes != 8 {
		return
	}
	relay("toPlanes", func(src, dst, step, channels reg.Register) {
		t := transposed(func(i int, r reg.VecVirtual) { VMOVUPS(Mem{Base: src, Disp: 64 * i}, r) })
		at := GP64()
		MOVQ(dst, at)
		for i, r := range t {
			VMOVUPS(r, Mem{Base: at})
			if i == 7 {
				break
			}
			CMPQ(channels, Imm(uint64(i+1)))
			JE(LabelRef("next"))
			ADDQ(step, at)
		}
		Label("next")
		ADDQ(U32(8*64), src)
		ADDQ(Imm(32), dst)
	})
	relay("toBlocks", func(src, dst, step, channels reg.Register) {
		at, left := GP64(), GP64()
		MOVQ(src, at)
		MOVQ(channels, left)
		t := transposed(func(i int, r reg.VecVirtual) {
			VMOVUPS(Mem{Base: at}, r)
			next := GP64()
			LEAQ(Mem{Base: at, Index: step, Scale: 1}, next)
			CMPQ(left, Imm(uint64(i+1)))
			CMOVQGT(next, at) // lanes beyond the last channel hold it again
		})
		for i, r := range t {
			VMOVUPS(r, Mem{Base: dst, Disp: 64 * i})
		}
		ADDQ(Imm(32), src)
		ADDQ(U32(8*64), dst)
	})
}

func relay(name string, body func(src, dst, step, channels reg.Register)) {
	TEXT(name+"AVX2", NOSPLIT, "func(n int, dst *float32, src *float32, step int, channels int)")
	Pragma("noescape")
	n, dst, src := Load(Param("n"), GP64()), Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	step, channels := Load(Param("step"), GP64()), Load(Param("channels"), GP64())
	Label("loop")
	body(src, dst, step, channels)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// transposed loads eight rows and returns their columns.
func transposed(load func(i int, r reg.VecVirtual)) []reg.VecVirtual {
	var rows [8]reg.VecVirtual
	for i := range rows {
		rows[i] = YMM()
		load(i, rows[i])
	}
	var pairs, quads [8]reg.VecVirtual
	for i := range 4 {
		pairs[2*i], pairs[2*i+1] = YMM(), YMM()
		VUNPCKLPS(rows[2*i+1], rows[2*i], pairs[2*i])
		VUNPCKHPS(rows[2*i+1], rows[2*i], pairs[2*i+1])
	}
	for h := range 2 { // of rows 4h to 4h+3, columns i and i+4
		for i := range 4 {
			quads[4*h+i] = YMM()
			a, b := pairs[4*h+i/2], pairs[4*h+2+i/2]
			if i%2 == 0 {
				VUNPCKLPD(b, a, quads[4*h+i])
			} else {
				VUNPCKHPD(b, a, quads[4*h+i])
			}
		}
	}
	out := make([]reg.VecVirtual, 8)
	for i := range 4 {
		out[i], out[i+4] = YMM(), YMM()
		VPERM2F128(Imm(0x20), quads[4+i], quads[i], out[i])
		VPERM2F128(Imm(0x31), quads[4+i], quads[i], out[i+4])
	}
	return out
}
