// Command asm writes the vector kernels of package simd, one family a file:
//
//	go run . -family rows -out ../simd/rows_amd64.s -stubs ../simd/rows_stubs_amd64.go -pkg simd
//
// It is a module of its own so that the main module does not depend on avo.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// families are the kernels of one file each.
var families = map[string]func(v isa){
	"lines":  isa.lines,
	"math":   isa.functions,
	"wino":   isa.wino,
	"conv":   isa.convTiles,
	"gather": isa.gathers,
	"train":  isa.train,
	"bits":   isa.bitLengths,
	"mux":    isa.muxes,
	"relay":  isa.relays,
	"i8":     isa.bytes,
	"qmux":   isa.qmuxes,
	"rows": func(v isa) {
		v.rows()
		v.even()
	},
}

// isa is an instruction set.
type isa struct {
	name  string
	lanes int // float32s in a vector
}

var (
	avx2   = isa{"AVX2", 8}
	avx512 = isa{"AVX512", 16}
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

func main() {
	family := flag.String("family", "", "which kernels to write")
	flag.Parse() // avo registers its flags -out, -stubs and -pkg with the same set
	write := families[*family]
	if write == nil {
		fmt.Fprintf(os.Stderr, "asm: -family is one of %v\n", slices.Sorted(maps.Keys(families)))
		os.Exit(2)
	}
	ConstraintExpr("amd64")
	for _, v := range []isa{avx2, avx512} {
		write(v)
	}
	Generate()
}

// wordsOf returns a function that loads the word at some distance from a pointer to a struct.
func wordsOf(base reg.Register) func(disp int) reg.GPVirtual {
	return func(disp int) reg.GPVirtual {
		r := GP64()
		MOVQ(Mem{Base: base, Disp: disp}, r)
		return r
	}
}
