//go:build !amd64

package simd

// functions is empty: there are no kernels for this architecture yet.
var functions map[string]map[string]function

func sum16(lanes, n int, sum, x *float32) { panic("simd: no kernels") }
