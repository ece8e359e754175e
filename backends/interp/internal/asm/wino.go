package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.WinoIn and simd.WinoOut, in order.
const (
	winoX = 8 * iota
	winoV
	winoRow
	winoTiles
	winoStep
)

const (
	winoM = 8 * iota
	winoY
	winoMStep
	winoYRow
	winoCount
	winoRows
	winoCols
	winoFlags
	winoBias
	winoMean
	winoScale
	winoShift
	winoAdd
	winoAddRow
	winoLimits // two floats
)

// The numbers of the transforms: the points are 0, ±a, ±b and ∞. See simd/wino.go.
const (
	pointA = 0.6875
	pointB = 1.5
)

// wino writes the transforms of Winograd's convolution: each handles some
// tiles beside each other, one vector of channels.
func (v isa) wino() {
	v.winoIn()
	v.winoOut()
}

// six addresses six equal steps from a base.
type six struct{ base, one, three, five reg.Register }

func sixOf(base, step reg.Register) six {
	three, five := GP64(), GP64()
	LEAQ(Mem{Base: step, Index: step, Scale: 2}, three)
	LEAQ(Mem{Base: step, Index: step, Scale: 4}, five)
	return six{base, step, three, five}
}

func (s six) at(i, disp int) Mem {
	m := Mem{Base: s.base, Disp: disp}
	switch i {
	case 1, 2, 4:
		m.Index, m.Scale = s.one, uint8(i)
	case 3:
		m.Index, m.Scale = s.three, 1
	case 5:
		m.Index, m.Scale = s.five, 1
	}
	return m
}

// number returns a constant in a register, or with few registers in memory, where
// a multiplication can take it from if its other factor is in a register.
func (v isa) number(x float64) Op {
	if v.lanes == 16 {
		return v.c32(float32(x))[0]
	}
	return v.row32(float32(x))
}

var rows32 = map[uint32]Mem{}

// row32 is a vector of equal float32s in memory.
func (v isa) row32(x float32) Mem {
	b := math.Float32bits(x)
	m, ok := rows32[b]
	if !ok {
		m = GLOBL(fmt.Sprintf("r%08x", b), RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(b))
		}
		rows32[b] = m
	}
	return m
}

func (v isa) load(m Op) reg.VecVirtual { return v.do(VMOVUPS, m)[0] }
func (v isa) copy(x reg.VecVirtual) reg.VecVirtual {
	return v.do(VMOVAPS, x)[0]
}

// winoIn writes Bᵀ·d·B. The 36 results are made in three passes over the
// columns of d, each for two rows of Bᵀ·d, so that these stay in registers.
func (v isa) winoIn() {
	TEXT("winoIn"+v.name, NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	t := Load(Param("t"), GP64())
	word := wordsOf(t)
	x, row := word(winoX), word(winoRow)
	d := sixOf(x, row)
	base, step := word(winoV), word(winoStep)
	n := word(winoTiles)
	out := sixOf(GP64(), step)
	wide := GP64() // six results
	LEAQ(Mem{Base: out.three, Index: out.three, Scale: 1}, wide)
	sq := func(x float64) float64 { return x * x }
	const middle, product = pointA*pointA + pointB*pointB, pointA * pointA * pointB * pointB

	Label("loop")
	for _, pass := range [][2]int{{1, 2}, {3, 4}, {0, 5}} {
		var u [2][6]reg.VecVirtual
		near, far := pointA, pointB
		if pass[0] == 3 {
			near, far = pointB, pointA
		}
		if pass[0] == 0 {
			q, p := v.c32(middle)[0], v.c32(product)[0]
			for j := range 6 {
				for i := range 2 {
					y := v.load(d.at(4+i, 64*j))
					VFNMADD231PS(d.at(2+i, 64*j), q, y)
					VFMADD231PS(d.at(i, 64*j), p, y)
					u[i][j] = y
				}
			}
		} else {
			square, point := v.c32(float32(sq(far)))[0], v.c32(float32(near))[0]
			for j := range 6 {
				even, odd := v.load(d.at(4, 64*j)), v.load(d.at(3, 64*j))
				VFNMADD231PS(d.at(2, 64*j), square, even)
				VFNMADD231PS(d.at(1, 64*j), square, odd)
				y := v.copy(even)
				VFMADD231PS(odd, point, y)
				VFNMADD231PS(odd, point, even)
				u[0][j], u[1][j] = y, even
			}
		}
		a, b := v.number(pointA), v.number(pointB)
		a2, b2 := v.number(sq(pointA)), v.number(sq(pointB))
		q, p := v.number(middle), v.number(product)
		for i, r := range pass {
			MOVQ(base, out.base)
			for range r {
				ADDQ(wide, out.base)
			}
			c := u[i]
			for k, n := range [][2]Op{{b2, a}, {a2, b}} {
				even, odd := v.copy(c[4]), v.copy(c[3])
				VFNMADD231PS(n[0], c[2], even)
				VFNMADD231PS(n[0], c[1], odd)
				y := v.copy(even)
				VFMADD231PS(n[1], odd, y)
				VMOVUPS(y, out.at(2*k+1, 0))
				VFNMADD231PS(n[1], odd, even)
				VMOVUPS(even, out.at(2*k+2, 0))
			}
			for k := range 2 {
				y := c[4+k]
				VFNMADD231PS(q, c[2+k], y)
				VFMADD231PS(p, c[k], y)
				VMOVUPS(y, out.at(5*k, 0))
			}
		}
	}
	ADDQ(U32(4*64), x)
	ADDQ(Imm(64), base)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// winoOut writes Aᵀ·m·A and what follows a convolution. The rows 0 and 2 are
// made of sums, 1 and 3 of differences: one pass for each.
func (v isa) winoOut() {
	TEXT("winoOut"+v.name, NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	t := Load(Param("t"), GP64())
	word := wordsOf(t)
	m, step := word(winoM), word(winoMStep)
	y, add := word(winoY), word(winoAdd)
	n := word(winoCount)
	wide := GP64()
	LEAQ(Mem{Base: step, Index: step, Scale: 2}, wide)
	ADDQ(wide, wide)
	in := sixOf(GP64(), wide)
	cols := GP64()
	const a, b = pointA, pointB

	Label("loop")
	MOVQ(U64(4), cols)
	CMPQ(n, Imm(1))
	JNE(LabelRef("columns"))
	MOVQ(Mem{Base: t, Disp: winoCols}, cols)
	Label("columns")
	for pass := range 2 {
		var u [2][6]reg.VecVirtual // rows pass and pass + 2
		MOVQ(m, in.base)
		for j := range 6 {
			x := [6]reg.VecVirtual{}
			for i := range x {
				if i == 1 || i == 3 {
					x[i] = v.load(in.at(i, 0))
				}
			}
			if pass == 0 {
				VADDPS(in.at(2, 0), x[1], x[1])
				VADDPS(in.at(4, 0), x[3], x[3])
				u[0][j] = v.do(VADDPS, x[3], x[1])[0]
				VADDPS(in.at(0, 0), u[0][j], u[0][j])
				u[1][j] = v.weighted(a*a, x[1], b*b, x[3])
			} else {
				VSUBPS(in.at(2, 0), x[1], x[1])
				VSUBPS(in.at(4, 0), x[3], x[3])
				u[0][j] = v.weighted(a, x[1], b, x[3])
				u[1][j] = v.weighted(a*a*a, x[1], b*b*b, x[3])
				VADDPS(in.at(5, 0), u[1][j], u[1][j])
			}
			ADDQ(step, in.base)
		}
		for i, c := range u {
			r := pass + 2*i
			end := fmt.Sprint("row", r)
			CMPQ(Mem{Base: t, Disp: winoRows}, Imm(uint64(r)))
			JLE(LabelRef(end))
			s1, s2 := v.do(VADDPS, c[2], c[1])[0], v.do(VADDPS, c[4], c[3])[0]
			d1, d2 := v.do(VSUBPS, c[2], c[1])[0], v.do(VSUBPS, c[4], c[3])[0]
			var z [4]reg.VecVirtual
			z[0] = v.do(VADDPS, s2, s1)[0]
			VADDPS(z[0], c[0], z[0])
			z[1] = v.weighted(a, d1, b, d2)
			z[2] = v.weighted(a*a, s1, b*b, s2)
			z[3] = v.weighted(a*a*a, d1, b*b*b, d2)
			VADDPS(c[5], z[3], z[3])
			v.winoFinish(t, end, r, y, add, cols, z)
			Label(end)
		}
	}
	ADDQ(Imm(64), m)
	ADDQ(U32(4*64), y)
	ADDQ(U32(4*64), add)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// weighted returns q·y + (p·x), the inner product rounded.
func (v isa) weighted(p float64, x reg.VecVirtual, q float64, y reg.VecVirtual) reg.VecVirtual {
	z := v.do(VMULPS, v.number(p), x)[0]
	VFMADD231PS(v.number(q), y, z)
	return z
}

// winoFinish does what follows the convolution on row r of a tile and stores it.
func (v isa) winoFinish(t reg.Register, name string, r int, y, add, cols reg.Register, z [4]reg.VecVirtual) {
	part := func(what string, flag uint32, body func()) {
		TESTQ(U32(flag), Mem{Base: t, Disp: winoFlags})
		JZ(LabelRef(name + what))
		body()
		Label(name + what)
	}
	param := func(disp int) Mem {
		p := GP64()
		MOVQ(Mem{Base: t, Disp: disp}, p)
		return Mem{Base: p}
	}
	rowOf := func(base reg.Register, disp int) reg.Register {
		if r == 0 {
			return base
		}
		p, row := GP64(), GP64()
		MOVQ(Mem{Base: t, Disp: disp}, row)
		if r == 3 {
			LEAQ(Mem{Base: row, Index: row, Scale: 2}, row)
			LEAQ(Mem{Base: base, Index: row, Scale: 1}, p)
		} else {
			LEAQ(Mem{Base: base, Index: row, Scale: uint8(r)}, p)
		}
		return p
	}
	columns := func(what string, body func(i int)) {
		for i := range z {
			if i > 0 {
				CMPQ(cols, Imm(uint64(i)))
				JLE(LabelRef(name + what))
			}
			body(i)
		}
		Label(name + what)
	}
	part("bias", flagBias, func() {
		b := v.load(param(winoBias))
		for _, x := range z {
			VADDPS(b, x, x)
		}
	})
	part("norm", flagNorm, func() {
		mean, scale, shift := v.load(param(winoMean)), v.load(param(winoScale)), v.load(param(winoShift))
		for _, x := range z {
			VSUBPS(mean, x, x)
			VFMADD213PS(shift, scale, x)
		}
	})
	part("add", flagAdd, func() {
		from := rowOf(add, winoAddRow)
		columns("added", func(i int) { VADDPS(Mem{Base: from, Disp: 64 * i}, z[i], z[i]) })
	})
	part("clamp", flagClamp, func() {
		lo, hi := v.vec(), v.vec()
		VBROADCASTSS(Mem{Base: t, Disp: winoLimits}, lo)
		VBROADCASTSS(Mem{Base: t, Disp: winoLimits + 4}, hi)
		for _, x := range z { // a NaN stays: the last operand is returned
			VMAXPS(x, lo, x)
			VMINPS(x, hi, x)
		}
	})
	to := rowOf(y, winoYRow)
	columns("stored", func(i int) { VMOVUPS(z[i], Mem{Base: to, Disp: 64 * i}) })
}
