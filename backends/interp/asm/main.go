// Command asm writes the vector kernels of package simd, one family a file:
//
//	go run . -family tile -out ../simd/tile_amd64.s -stubs ../simd/tile_stubs_amd64.go -pkg simd
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
)

// families are the kernels of one file each.
var families = map[string]func(v isa){
	"math": isa.functions,
	"wino": isa.wino,
	"tile": isa.tiles,
	"conv": isa.convTiles,
	"mux":  isa.muxes,
	"i8":   isa.bytes,
	"rows": func(v isa) {
		v.rows()
		v.even()
	},
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
