// Command asm writes the vector kernels of package simd:
//
//	go run . -out ../simd/kernels_amd64.s -stubs ../simd/stubs_amd64.go
//
// It is a module of its own so that the main module does not depend on avo.
package main

import (
	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("amd64")
	for _, v := range []isa{avx2, avx512} {
		v.tiles()
		v.rows()
		v.even()
	}
	Generate()
}
