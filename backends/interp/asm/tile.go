package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set and the size of its largest tile.
type isa struct {
	name   string
	lanes  int // float32s in a vector
	mr, nv int
}

var (
	avx2   = isa{"AVX2", 8, 4, 3}
	avx512 = isa{"AVX512", 16, 8, 3}
)

func (v isa) vec() reg.VecVirtual {
	if v.lanes == 16 {
		return ZMM()
	}
	return YMM()
}

func (v isa) zero(r reg.VecVirtual) {
	if v.lanes == 16 {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

// tiles writes a kernel for each size of tile, and one four vectors wide for
// depthwise convolutions.
func (v isa) tiles() {
	for mr := 1; mr <= v.mr; mr++ {
		for nv := 1; nv <= v.nv; nv++ {
			v.tile(mr, nv)
		}
	}
	v.tile(1, 4)
}

// tile writes the kernel that computes mr rows of nv vectors.
func (v isa) tile(mr, nv int) {
	TEXT(fmt.Sprintf("tile%dx%d%s", mr, nv, v.name), NOSPLIT,
		"func(k int, a *float32, off *int, b *float32, pos *int, c *float32, ldc int, more int)")
	Doc(fmt.Sprintf("tile%dx%d%s is a Tile of %d rows and %d vectors.", mr, nv, v.name, mr, nv))
	k := Load(Param("k"), GP64())
	a := Load(Param("a"), GP64())
	off := Load(Param("off"), GP64())
	b := Load(Param("b"), GP64())
	pos := Load(Param("pos"), GP64())
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	more := Load(Param("more"), GP64())

	base := make([]reg.GPVirtual, nv)
	for j := range base {
		base[j] = GP64()
		MOVQ(Mem{Base: pos, Disp: 8 * j}, base[j])
		LEAQ(Mem{Base: b, Index: base[j], Scale: 4}, base[j])
	}
	acc := make([][]reg.VecVirtual, mr)
	for i := range acc {
		acc[i] = make([]reg.VecVirtual, nv)
		for j := range acc[i] {
			acc[i][j] = v.vec()
			v.zero(acc[i][j])
		}
	}
	SHLQ(Imm(2), ldc)
	TESTQ(more, more)
	JZ(LabelRef("start"))
	row := GP64()
	MOVQ(c, row)
	for i := range acc {
		for j := range acc[i] {
			VMOVUPS(Mem{Base: row, Disp: 4 * v.lanes * j}, acc[i][j])
		}
		ADDQ(ldc, row)
	}

	Label("start")
	TESTQ(k, k)
	JZ(LabelRef("store"))
	Label("loop")
	o := GP64()
	MOVQ(Mem{Base: off}, o)
	x := make([]reg.VecVirtual, nv)
	for j := range x {
		x[j] = v.vec()
		VMOVUPS(Mem{Base: base[j], Index: o, Scale: 4}, x[j])
	}
	for i := range acc {
		w := v.vec()
		VBROADCASTSS(Mem{Base: a, Disp: 4 * i}, w)
		for j := range acc[i] {
			VFMADD231PS(w, x[j], acc[i][j])
		}
	}
	ADDQ(Imm(uint64(4*mr)), a)
	ADDQ(Imm(8), off)
	DECQ(k)
	JNZ(LabelRef("loop"))

	Label("store")
	for i := range acc {
		for j := range acc[i] {
			VMOVUPS(acc[i][j], Mem{Base: c, Disp: 4 * v.lanes * j})
		}
		ADDQ(ldc, c)
	}
	VZEROUPPER()
	RET()
}
