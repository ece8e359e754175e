package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.Gather, in order; gatherFrom begins the first source, each of gatherSource bytes.
const (
	gatherY = 8 * iota
	gatherYDist
	gatherN
	gatherMore
	gatherFrom
	gatherSource = 32
)

// gathers writes the kernels that pick lanes of vectors, for one to four sources.
// For floats there are none with AVX2, whose permutation stays within eight lanes; for bytes
// longer vectors than its would not help.
func (v isa) gathers() {
	if v.lanes < 16 {
		for n := 1; n <= 4; n++ {
			v.byteGather(n)
		}
		return
	}
	for n := 1; n <= 4; n++ {
		v.gather(n)
	}
}

func (v isa) gather(sources int) {
	TEXT(fmt.Sprintf("gather%d%s", sources, v.name), NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	g := Load(Param("t"), GP64())
	word := wordsOf(g)
	y, step, n := word(gatherY), word(gatherYDist), word(gatherN)
	var x, index []reg.Register
	var mask []reg.OpmaskVirtual
	for i := range sources {
		at := gatherFrom + i*gatherSource
		x = append(x, word(at))
		r, k := v.vec(), K()
		VMOVUPS(Mem{Base: word(at + 16)}, r)
		KMOVW(word(at+24).As32(), k)
		index, mask = append(index, r), append(mask, k)
	}
	acc := v.vec()
	more := word(gatherMore)
	TESTQ(more, more)
	JNZ(LabelRef("more"))
	for _, again := range []bool{false, true} {
		name := "loop"
		if again {
			name = "more"
		}
		Label(name)
		if again {
			VMOVUPS(Mem{Base: y}, acc)
		} else {
			v.zero(acc)
		}
		for i := range sources {
			VPERMPS(Mem{Base: x[i]}, index[i], mask[i], acc)
			ADDQ(Mem{Base: g, Disp: gatherFrom + i*gatherSource + 8}, x[i])
		}
		VMOVUPS(acc, Mem{Base: y})
		ADDQ(step, y)
		DECQ(n)
		JNZ(LabelRef(name))
		VZEROUPPER()
		RET()
	}
}

// The words of simd.ByteGather, in order; byteFrom begins the first source, each of byteSource bytes.
const (
	byteY = 8 * iota
	byteN
	byteMore
	byteFrom
	byteSource = 24
)

func (v isa) byteGather(sources int) {
	TEXT(fmt.Sprintf("byteGather%d%s", sources, v.name), NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	g := Load(Param("t"), GP64())
	word := wordsOf(g)
	y, n := word(byteY), word(byteN)
	var x, index []reg.Register
	for i := range sources {
		at := byteFrom + i*byteSource
		x = append(x, word(at))
		r := XMM()
		VMOVDQU(Mem{Base: word(at + 16)}, r)
		index = append(index, r)
	}
	more := word(byteMore)
	TESTQ(more, more)
	JNZ(LabelRef("more"))
	for _, again := range []bool{false, true} {
		name := "loop"
		if again {
			name = "more"
		}
		Label(name)
		acc, next := XMM(), XMM()
		for i := range sources {
			VMOVDQU(Mem{Base: x[i]}, next)
			switch {
			case i > 0:
				VPSHUFB(index[i], next, next)
				VPOR(next, acc, acc)
			case again:
				VPSHUFB(index[i], next, next)
				VPOR(Mem{Base: y}, next, acc)
			default:
				VPSHUFB(index[i], next, acc)
			}
			ADDQ(Mem{Base: g, Disp: byteFrom + i*byteSource + 8}, x[i])
		}
		VMOVDQU(acc, Mem{Base: y})
		ADDQ(Imm(16), y)
		DECQ(n)
		JNZ(LabelRef(name))
		RET()
	}
}
