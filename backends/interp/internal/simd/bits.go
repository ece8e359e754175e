package simd

import (
	"math"
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

// BitGrid is one of the two grids that a bit length lies between: steps of Scale from
// Lo to Hi of them; Steps is what its range is of them.
type BitGrid struct{ Scale, Lo, Hi, Steps float32 }

// BitParams are the parameters of the kernels for quantisation between two grids. The
// assembly knows the vectors by their order.
type BitParams [10][Block]float32

// Set makes the parameters of two grids and the weight of the second.
func (p *BitParams) Set(lower, upper BitGrid, a float32) {
	for i, v := range [...]float32{
		lower.Scale, lower.Lo, lower.Hi, lower.Steps, upper.Scale, upper.Lo, upper.Hi, upper.Steps, a, 1,
	} {
		for l := range p[i] {
			p[i][l] = v
		}
	}
}

// bitKernels are the kernels of bit lengths, over a Lanes; those that are nil run in Go.
type bitKernels struct {
	bitRow  func(t *uint64)
	bitGrad [2]func(t *uint64) // with partial sums by pixel modulo 16, and with one
}

// BitRow sets Y to X quantised between the grids of Params, a *BitParams.
func (s *Set) BitRow(t *Lanes) {
	if s.bitRow != nil {
		s.bitRow((*uint64)(unsafe.Pointer(t)))
		return
	}
	p := (*BitParams)(t.Params)
	for i := range t.N {
		y := vector(t.Y, 64*i)
		for l, x := range vector(t.X, 64*i) {
			y[l] = p.Value(x)
		}
	}
}

// BitGrad sets Y to the gradient of X for D, that of the quantised value, and adds the gradients of
// the bit length and of the range to the partial sums: to those of the pixel modulo 16, or when flat all to the first.
func (s *Set) BitGrad(t *Lanes, flat bool) {
	kernel := 0
	if flat {
		kernel = 1
	}
	if f := s.bitGrad[kernel]; f != nil {
		f((*uint64)(unsafe.Pointer(t)))
		return
	}
	sums, p := t.sums(), (*BitParams)(t.Params)
	for i := range t.N {
		k := t.At / 64
		if !flat {
			k = (k + i) % 16
		}
		y := vector(t.Y, 64*i)
		for l, x := range vector(t.X, 64*i) {
			d := vector(t.D, 64*i)[l]
			var bits, span float32
			y[l], bits, span = p.Grad(x, d)
			sums[0][k][l] += bits
			sums[1][k][l] += span
		}
	}
}

// at returns x in steps of a grid, the same rounded, and clipped.
func (p *BitParams) at(grid int, x float32) (r, k, c float32) {
	r = x / p[grid][0]
	k = float32(math.RoundToEven(float64(r)))
	if !(k > p[grid+1][0]) {
		return r, k, p[grid+1][0]
	}
	return r, k, min(k, p[grid+2][0])
}

// Value quantises one number.
func (p *BitParams) Value(x float32) float32 {
	_, _, c0 := p.at(0, x)
	_, _, c1 := p.at(4, x)
	y := float32(c0*p[0][0]) + 0
	return f32.FMA(p[8][0], float32(c1*p[4][0])+0-y, y)
}

// Grad returns the gradients of one number, of the bit length and of the range for d.
func (p *BitParams) Grad(x, d float32) (dx, bits, span float32) {
	q0, in0, d0 := p.derivatives(0, x)
	q1, in1, d1 := p.derivatives(4, x)
	a := p[8][0]
	return f32.FMA(a, in1-in0, in0) * d, (q1 - q0) * d, f32.FMA(a, d1-d0, d0) * d
}

func (p *BitParams) derivatives(grid int, x float32) (q, in, d float32) {
	r, k, c := p.at(grid, x)
	d = c
	if k == c {
		in, d = 1, k-r
	}
	return float32(c*p[grid][0]) + 0, in, d / p[grid+3][0]
}
