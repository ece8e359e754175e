package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.Outer, in order.
const (
	outerX = 8 * iota
	outerW
	outerY
	outerCols
	outerRows
	outerXPixel
	outerXRow
	outerWRow
)

// The words of simd.Lanes, in order.
const (
	lanesN = 8 * iota
	lanesX
	lanesD
	lanesMask
	lanesY
	lanesParams
	lanesSums
	lanesAt
)

// train writes the kernels that only training uses.
func (v isa) train() {
	most := 6
	if v.lanes == 16 {
		most = 16
	}
	for n := 1; n <= most; n++ {
		v.outer(fmt.Sprintf("outer%d", n), n, false)
		v.outer(fmt.Sprintf("outerLanes%d", n), n, true)
	}
	for _, masked := range []bool{false, true} {
		suffix := ""
		if masked {
			suffix = "Masked"
		}
		v.lanesKernel("gradSums"+suffix, func(l *lanes) { l.gradSums(masked) })
		v.lanesKernel("gradRow"+suffix, func(l *lanes) { l.gradRow(masked) })
	}
	v.lanesKernel("normSums", func(l *lanes) { l.normSums() })
	v.lanesKernel("normRow", func(l *lanes) { l.normRow() })
	v.mask()
	v.winoGrad()
}

// outer writes the kernel that adds the products of a vector of w with n numbers of x, or
// with n vectors of x, over pixels in rows.
func (v isa) outer(name string, n int, lanes bool) {
	TEXT(name+v.name, NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	t := Load(Param("t"), GP64())
	word := wordsOf(t)
	x, w, y := word(outerX), word(outerW), word(outerY)
	rows, cols, xPixel := word(outerRows), word(outerCols), word(outerXPixel)
	vectors := 16 / v.lanes
	acc := make([][]reg.VecVirtual, n)
	for i := range acc {
		for j := range vectors {
			a := v.vec()
			VMOVUPS(Mem{Base: y, Disp: 64*i + 4*v.lanes*j}, a)
			acc[i] = append(acc[i], a)
		}
	}
	Label("row")
	xp, wp, k := GP64(), GP64(), GP64()
	MOVQ(x, xp)
	MOVQ(w, wp)
	MOVQ(cols, k)
	Label("pixel")
	var ws []reg.VecVirtual
	for j := range vectors {
		r := v.vec()
		VMOVUPS(Mem{Base: wp, Disp: 4 * v.lanes * j}, r)
		ws = append(ws, r)
	}
	for i := range acc {
		switch {
		case lanes:
			for j, r := range ws {
				VFMADD231PS(Mem{Base: xp, Disp: 64*i + 4*v.lanes*j}, r, acc[i][j])
			}
		case v.lanes == 16:
			VFMADD231PS_BCST(Mem{Base: xp, Disp: 4 * i}, ws[0], acc[i][0])
		default:
			b := v.vec()
			VBROADCASTSS(Mem{Base: xp, Disp: 4 * i}, b)
			for j, r := range ws {
				VFMADD231PS(r, b, acc[i][j])
			}
		}
	}
	ADDQ(xPixel, xp)
	ADDQ(Imm(64), wp)
	DECQ(k)
	JNZ(LabelRef("pixel"))
	ADDQ(Mem{Base: t, Disp: outerXRow}, x)
	ADDQ(Mem{Base: t, Disp: outerWRow}, w)
	DECQ(rows)
	JNZ(LabelRef("row"))
	for i := range acc {
		for j, a := range acc[i] {
			VMOVUPS(a, Mem{Base: y, Disp: 64*i + 4*v.lanes*j})
		}
	}
	VZEROUPPER()
	RET()
}

// lanes is what the kernels over pixels of 16 channels share.
type lanes struct {
	isa
	t  reg.Register // the address of the simd.Lanes
	at reg.Register // bytes from the first pixel
}

func (l *lanes) word(disp int) reg.GPVirtual {
	r := GP64()
	MOVQ(Mem{Base: l.t, Disp: disp}, r)
	return r
}

// lanesKernel writes a kernel whose body writes its own loop.
func (v isa) lanesKernel(name string, body func(l *lanes)) {
	TEXT(name+v.name, NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	l := &lanes{isa: v}
	l.t = Load(Param("t"), GP64())
	body(l)
	VZEROUPPER()
	RET()
}

// params loads the parameters from first on, vectors by parameter.
func (l *lanes) params(first, count int) [][]reg.VecVirtual {
	from := l.word(lanesParams)
	out := make([][]reg.VecVirtual, count)
	for i := range out {
		for j := range 16 / l.lanes {
			r := l.vec()
			VMOVUPS(Mem{Base: from, Disp: 64*(first+i) + 4*l.lanes*j}, r)
			out[i] = append(out[i], r)
		}
	}
	return out
}

// loop writes a loop over the pixels; body gets the operands' displacement of each vector.
func (l *lanes) loop(body func(j int)) {
	n, at := l.word(lanesN), GP64()
	XORQ(at, at)
	l.at = at
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	for j := range 16 / l.lanes {
		body(j)
	}
	ADDQ(Imm(64), at)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
}

// mem is vector j of the present pixel of an array.
func (l *lanes) mem(base reg.Register, j int) Mem {
	return Mem{Base: base, Index: l.at, Scale: 1, Disp: 4 * l.isa.lanes * j}
}

// grad loads a vector of the gradient, zero where the mask is not greater than 0.
func (l *lanes) grad(d, mask reg.Register, zero reg.VecVirtual, j int) reg.VecVirtual {
	g := l.vec()
	if mask == nil {
		VMOVUPS(l.mem(d, j), g)
		return g
	}
	l.keepWhere(l.mem(d, j), l.mem(mask, j), zero, g)
	return g
}

// keepWhere sets g to the operand where mask > 0, else to 0.
func (v isa) keepWhere(d, mask Mem, zero, g reg.VecVirtual) {
	if v.lanes == 16 {
		k := K()
		VCMPPS(Imm(1), mask, zero, k) // 0 < mask
		VMOVUPS_Z(d, k, g)
		return
	}
	VCMPPS(Imm(1), mask, zero, g)
	VANDPS(d, g, g)
}

// sums adds s and t of vector j to the present pair of partial sums and returns what moves on to the next.
func (l *lanes) partial(sums, index reg.Register, j int) (s, t Mem) {
	s = Mem{Base: sums, Index: index, Scale: 1, Disp: 4 * l.isa.lanes * j}
	t = s
	t.Disp += 16 * 64
	return s, t
}

func (l *lanes) advance(index reg.GPVirtual) {
	ADDQ(Imm(64), index)
	ANDQ(U32(16*64-1), index)
}

func (l *lanes) normSums() {
	x, sums, index := l.word(lanesX), l.word(lanesSums), l.word(lanesAt)
	k := l.params(0, 1)[0]
	l.loop(func(j int) {
		d, q := l.vec(), l.vec()
		s, t := l.partial(sums, index, j)
		VMOVUPS(l.mem(x, j), d)
		VSUBPS(k[j], d, d)
		VMOVUPS(t, q)
		VFMADD231PS(d, d, q)
		VMOVUPS(q, t)
		VADDPS(s, d, d)
		VMOVUPS(d, s)
		if j == 16/l.isa.lanes-1 {
			l.advance(index)
		}
	})
}

func (l *lanes) gradSums(masked bool) {
	x, d, sums, index := l.word(lanesX), l.word(lanesD), l.word(lanesSums), l.word(lanesAt)
	mask, zero := l.maskOf(masked)
	mean := l.params(0, 1)[0]
	l.loop(func(j int) {
		g, c, q := l.grad(d, mask, zero, j), l.vec(), l.vec()
		s, t := l.partial(sums, index, j)
		VMOVUPS(l.mem(x, j), c)
		VSUBPS(mean[j], c, c)
		VMOVUPS(t, q)
		VFMADD231PS(g, c, q)
		VMOVUPS(q, t)
		VADDPS(s, g, g)
		VMOVUPS(g, s)
		if j == 16/l.isa.lanes-1 {
			l.advance(index)
		}
	})
}

func (l *lanes) maskOf(masked bool) (mask reg.Register, zero reg.VecVirtual) {
	if !masked {
		return nil, nil
	}
	zero = l.vec()
	l.zero(zero)
	return l.word(lanesMask), zero
}

func (l *lanes) normRow() {
	x, y := l.word(lanesX), l.word(lanesY)
	p := l.params(0, 3)
	l.loop(func(j int) {
		r := l.vec()
		VMOVUPS(l.mem(x, j), r)
		VSUBPS(p[0][j], r, r)
		VFMADD213PS(p[2][j], p[1][j], r)
		VMOVUPS(r, l.mem(y, j))
	})
}

func (l *lanes) gradRow(masked bool) {
	x, d, y := l.word(lanesX), l.word(lanesD), l.word(lanesY)
	mask, zero := l.maskOf(masked)
	p := l.params(0, 4)
	l.loop(func(j int) {
		g, c := l.grad(d, mask, zero, j), l.vec()
		VMOVUPS(l.mem(x, j), c)
		VSUBPS(p[0][j], c, c)
		VFMADD213PS(p[3][j], p[2][j], g)
		VFMADD213PS(g, p[1][j], c)
		VMOVUPS(c, l.mem(y, j))
	})
}

// mask writes the kernel that keeps x where m is greater than 0.
func (v isa) mask() {
	TEXT("mask"+v.name, NOSPLIT, "func(n int, dst *float32, x *float32, m *float32)")
	n := Load(Param("n"), GP64())
	dst, x, m := Load(Param("dst"), GP64()), Load(Param("x"), GP64()), Load(Param("m"), GP64())
	zero, at := v.vec(), GP64()
	v.zero(zero)
	XORQ(at, at)
	TESTQ(n, n)
	JZ(LabelRef("done"))
	Label("loop")
	r := v.vec()
	v.keepWhere(Mem{Base: x, Index: at, Scale: 1}, Mem{Base: m, Index: at, Scale: 1}, zero, r)
	VMOVUPS(r, Mem{Base: dst, Index: at, Scale: 1})
	ADDQ(Imm(uint64(4*v.lanes)), at)
	DECQ(n)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// winoGrad writes G'·d·G'ᵀ for tiles d of 4×4 gradients, one vector of channels: the polynomials of
// degree 3 at the points of Winograd's convolution. As in winoIn two rows of G'·d are made at a time.
func (v isa) winoGrad() {
	TEXT("winoGrad"+v.name, NOSPLIT, "func(t *uint64)")
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
	Label("loop")
	for _, pass := range [][2]int{{1, 2}, {3, 4}, {0, 5}} {
		var u [2][4]reg.VecVirtual
		if pass[0] == 0 {
			for j := range 4 {
				u[0][j], u[1][j] = v.load(d.at(0, 64*j)), v.load(d.at(3, 64*j))
			}
		} else {
			p := pointA
			if pass[0] == 3 {
				p = pointB
			}
			square, point := v.c32(float32(p * p))[0], v.c32(float32(p))[0]
			for j := range 4 {
				even, odd := v.load(d.at(0, 64*j)), v.load(d.at(1, 64*j))
				VFMADD231PS(d.at(2, 64*j), square, even)
				VFMADD231PS(d.at(3, 64*j), square, odd)
				y := v.copy(even)
				VFMADD231PS(odd, point, y)
				VFNMADD231PS(odd, point, even)
				u[0][j], u[1][j] = y, even
			}
		}
		for i, r := range pass {
			MOVQ(base, out.base)
			for range r {
				ADDQ(wide, out.base)
			}
			c := u[i]
			for k, p := range []float64{pointA, pointB} {
				square, point := v.number(p*p), v.number(p)
				even, odd := v.copy(c[0]), v.copy(c[1])
				VFMADD231PS(square, c[2], even)
				VFMADD231PS(square, c[3], odd)
				y := v.copy(even)
				VFMADD231PS(point, odd, y)
				VMOVUPS(y, out.at(2*k+1, 0))
				VFNMADD231PS(point, odd, even)
				VMOVUPS(even, out.at(2*k+2, 0))
			}
			VMOVUPS(c[0], out.at(0, 0))
			VMOVUPS(c[3], out.at(5, 0))
		}
	}
	ADDQ(U32(4*64), x)
	ADDQ(Imm(64), base)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
