package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The vectors of parameters of the kernels over simd.Lanes that quantise between two widths, in order;
// the first four are of the lower grid, and the next four of the upper.
const (
	bitScale = iota
	bitLo
	bitHi
	bitSteps
	bitUpper
	bitA   = 2 * bitUpper
	bitOne = bitA + 1
)

// bitLengths writes the kernels of thriftc.BitQuant and its gradient.
func (v isa) bitLengths() {
	v.lanesKernel("bitRow", func(l *lanes) { l.bitRow() })
	v.lanesKernel("bitGrad", func(l *lanes) { l.bitGrad(true) })
	v.lanesKernel("bitGradFlat", func(l *lanes) { l.bitGrad(false) })
}

// bitParam is a vector of parameters.
func (l *lanes) bitParam(params reg.Register, i int) Mem { return Mem{Base: params, Disp: 64 * i} }

// point turns x into the quotient by the scale, the same rounded, and clipped.
func (l *lanes) point(params reg.Register, grid int, x reg.VecVirtual) (r, k, c reg.VecVirtual) {
	r, k, c = l.vec(), l.vec(), l.vec()
	VDIVPS(l.bitParam(params, grid+bitScale), x, r)
	if l.isa.lanes == 16 {
		VRNDSCALEPS(Imm(0), r, k)
	} else {
		VROUNDPS(Imm(0), r, k)
	}
	VMAXPS(l.bitParam(params, grid+bitLo), k, c) // a NaN becomes the least
	VMINPS(l.bitParam(params, grid+bitHi), c, c)
	return r, k, c
}

// value returns c times the scale, never −0.
func (l *lanes) value(params reg.Register, grid int, c, zero reg.VecVirtual) reg.VecVirtual {
	q := l.vec()
	VMULPS(l.bitParam(params, grid+bitScale), c, q)
	VADDPS(zero, q, q)
	return q
}

func (l *lanes) bitRow() {
	x, y, params := l.word(lanesX), l.word(lanesY), l.word(lanesParams)
	zero := l.vec()
	l.zero(zero)
	l.loop(func(j int) {
		v := l.vec()
		VMOVUPS(l.mem(x, j), v)
		_, _, c0 := l.point(params, 0, v)
		_, _, c1 := l.point(params, bitUpper, v)
		q0, q1 := l.value(params, 0, c0, zero), l.value(params, bitUpper, c1, zero)
		VSUBPS(q0, q1, q1)
		VFMADD132PS(l.bitParam(params, bitA), q0, q1)
		VMOVUPS(q1, l.mem(y, j))
	})
}

// derivatives returns the point that x goes to, 1 where it is in range, and the derivative by the range.
func (l *lanes) derivatives(params reg.Register, grid int, x, zero reg.VecVirtual) (q, in, d reg.VecVirtual) {
	r, k, c := l.point(params, grid, x)
	in, d = l.vec(), l.vec()
	one := l.bitParam(params, bitOne)
	if l.isa.lanes == 16 {
		m := K()
		VCMPPS(Imm(0), c, k, m)
		VMOVUPS_Z(one, m, in)
		VMOVAPS(c, d)
		VSUBPS(r, k, m, d)
	} else {
		VCMPPS(Imm(0), c, k, in)
		VSUBPS(r, k, k)
		VBLENDVPS(in, k, c, d)
		VANDPS(one, in, in)
	}
	VDIVPS(l.bitParam(params, grid+bitSteps), d, d)
	return l.value(params, grid, c, zero), in, d
}

// bitGrad writes the gradient of x, and adds those of the bit length and of the range to the
// partial sums: the pixels of 16 channels in turn to sixteen, or all to the first.
func (l *lanes) bitGrad(turn bool) {
	x, g, y, params := l.word(lanesX), l.word(lanesD), l.word(lanesY), l.word(lanesParams)
	sums, index := l.word(lanesSums), l.word(lanesAt)
	zero := l.vec()
	l.zero(zero)
	a := l.bitParam(params, bitA)
	l.loop(func(j int) {
		v, dy := l.vec(), l.vec()
		VMOVUPS(l.mem(x, j), v)
		VMOVUPS(l.mem(g, j), dy)
		q0, in0, d0 := l.derivatives(params, 0, v, zero)
		q1, in1, d1 := l.derivatives(params, bitUpper, v, zero)
		VSUBPS(in0, in1, in1)
		VFMADD132PS(a, in0, in1)
		VMULPS(dy, in1, in1)
		VMOVUPS(in1, l.mem(y, j))
		s, t := l.partial(sums, index, j)
		VSUBPS(q0, q1, q1)
		VMULPS(dy, q1, q1)
		VADDPS(s, q1, q1)
		VMOVUPS(q1, s)
		VSUBPS(d0, d1, d1)
		VFMADD132PS(a, d0, d1)
		VMULPS(dy, d1, d1)
		VADDPS(t, d1, d1)
		VMOVUPS(d1, t)
		if turn && j == 16/l.isa.lanes-1 {
			l.advance(index)
		}
	})
}
