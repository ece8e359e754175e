//go:build !amd64

package simd

// native is empty: there are no kernels for this architecture yet.
var native []*Set
