//go:build !amd64

package simd

// functions is empty: there are no kernels for this architecture yet.
var functions map[string]map[string]function
