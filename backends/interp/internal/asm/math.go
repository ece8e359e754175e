package main

import (
	"fmt"
	"math"
	"sync"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// functions writes the element-wise functions of one number. Those of package
// f32 are computed in vectors of float64 by the very operations that f32 does,
// in the same order, so that they give the same bits; both sides of a branch
// are computed and one is chosen.
func (v isa) functions() {
	for _, f := range []struct {
		name string
		body func(x group, p param) group
	}{
		{"exp", func(x group, _ param) group { return v.exp(x) }},
		{"log", func(x group, _ param) group { return v.log(x) }},
		{"sigmoid", func(x group, _ param) group { return v.sigmoid(x) }},
		{"tanh", func(x group, _ param) group { return v.tanh(x) }},
		{"softplus", func(x group, _ param) group { return v.softplus(x) }},
		{"erf", func(x group, _ param) group { return v.erf(x) }},
		{"pow", func(x group, p param) group { return v.exp(v.mul(p(0), v.log(x))) }}, // of x from 0 to ∞, both excluded
		{"elu", func(x group, p param) group { return v.elu(x, p) }},
		{"selu", func(x group, p param) group { return v.selu(x, p) }},
		{"celu", func(x group, p param) group { return v.celu(x, p) }},
		{"swish", func(x group, p param) group { return v.mul(x, v.sigmoid(v.mul(p(0), x))) }},
		{"mish", func(x group, _ param) group { return v.mul(x, v.tanh(v.softplus(x))) }},
		{"gelu", func(x group, _ param) group {
			e := v.erf(v.div(x, v.c(math.Sqrt2)))
			return v.mul(v.mul(x, v.c(0.5)), v.add(v.c(1), e))
		}},
		{"geluTanh", func(x group, _ param) group {
			cube := v.mul(v.c(0.044715), v.mul(x, v.mul(x, x)))
			t := v.tanh(v.mul(v.c(math.Sqrt2/math.SqrtPi), v.add(x, cube)))
			return v.mul(v.mul(x, v.c(0.5)), v.add(v.c(1), t))
		}},
	} {
		chains := v.lanes / 8
		if f.name == "erf" || f.name == "gelu" || f.name == "mish" { // too few registers for two
			chains = 1
		}
		v.function(f.name, chains, func(x group, p reg.Register) group {
			return f.body(x, func(i int) group { return v.do(VBROADCASTSD, Mem{Base: p, Disp: 8 * i}) })
		})
	}
	for _, f := range []struct {
		name string
		body func(x group, p param) group
	}{
		{"hardSigmoid", func(x group, p param) group { return v.hardSigmoid(x, p(0), p(1)) }},
		{"hardSwish", func(x group, p param) group {
			return v.do(VMULPS, v.hardSigmoid(x, v.c32(float32(1)/6), v.c32(0.5)), x)
		}},
		{"softsign", func(x group, _ param) group {
			return v.do(VDIVPS, v.do(VADDPS, v.and(x, v.bits32(0x7fffffff)), v.c32(1)), x)
		}},
		{"sqrt", func(x group, _ param) group { return v.do(VSQRTPS, x) }},
		{"reciprocal", func(x group, _ param) group { return v.do(VDIVPS, x, v.c32(1)) }},
		{"abs", func(x group, _ param) group { return v.and(x, v.bits32(0x7fffffff)) }},
		{"neg", func(x group, _ param) group { return v.xor(x, v.bits32(0x80000000)) }},
		{"round", func(x group, _ param) group { return v.round32(x, 0) }},
		{"floor", func(x group, _ param) group { return v.round32(x, 1) }},
		{"ceil", func(x group, _ param) group { return v.round32(x, 2) }},
	} {
		v.function(f.name, 0, func(x group, p reg.Register) group {
			return f.body(x, func(i int) group {
				wide, narrow := XMM(), XMM()
				VMOVSD(Mem{Base: p, Disp: 8 * i}, wide)
				VCVTSD2SS(wide, wide, narrow)
				return v.do(VBROADCASTSS, narrow)
			})
		})
	}
}

// param broadcasts the i-th parameter of a function.
type param func(i int) group

// function writes a kernel that applies body to n elements: to a vector of
// them at a time, or to so many vectors of float64.
func (v isa) function(name string, chains int, body func(x group, p reg.Register) group) {
	TEXT(name+v.name, NOSPLIT, "func(n int, dst *float32, x *float32, p *float64)")
	n := Load(Param("n"), GP64())
	dst := Load(Param("dst"), GP64())
	x := Load(Param("x"), GP64())
	p := Load(Param("p"), GP64())
	count := v.lanes
	if chains > 0 {
		count = chains * v.lanes / 2
	}
	load, store := v.masked(count, n)
	TESTQ(n, n)
	JLE(LabelRef("done"))
	Label("loop")
	in := load(x)
	var out reg.VecVirtual
	switch {
	case chains == 0:
		out = body(group{in}, p)[0]
	case chains == 2:
		high := v.vec()
		VEXTRACTF64X4(Imm(1), in, high.AsY())
		x := group{v.vec(), v.vec()}
		VCVTPS2PD(in.AsY(), x[0])
		VCVTPS2PD(high.AsY(), x[1])
		y := body(x, p)
		out = v.vec()
		VCVTPD2PS(y[0], out.AsY())
		VCVTPD2PS(y[1], high.AsY())
		VINSERTF64X4(Imm(1), high.AsY(), out, out)
	default:
		x := v.vec()
		out = v.vec()
		if v.lanes == 16 {
			VCVTPS2PD(in.AsY(), x)
			VCVTPD2PS(body(group{x}, p)[0], out.AsY())
		} else {
			VCVTPS2PD(in.AsX(), x)
			VCVTPD2PSY(body(group{x}, p)[0], out.AsX())
		}
	}
	store(out, dst)
	ADDQ(Imm(uint64(4*count)), x)
	ADDQ(Imm(uint64(4*count)), dst)
	SUBQ(Imm(uint64(count)), n)
	JG(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// masked returns functions that load and store count floats, or n if that is less.
func (v isa) masked(count int, n reg.Register) (load func(from reg.Register) reg.VecVirtual, store func(x reg.VecVirtual, to reg.Register)) {
	sized := func(x reg.VecVirtual) reg.Register {
		switch count {
		case 4:
			return x.AsX()
		case 8:
			return x.AsY()
		}
		return x
	}
	// Masks are for the last vector only: a masked store would delay the next load.
	var mask func() Op
	var moveIn, moveOut func(mask, from, to Op)
	if v.lanes == 16 {
		mask = func() Op {
			bits, k := GP64(), K()
			MOVQ(U64(1<<16-1), bits)
			BZHIQ(n, bits, bits)
			KMOVW(bits.As32(), k)
			return k
		}
		moveIn = func(mask, from, to Op) { VMOVUPS_Z(from, mask, to) }
		moveOut = func(mask, from, to Op) { VMOVUPS(from, mask, to) }
	} else {
		mask = func() Op {
			m, table, back := v.vec(), GP64(), GP64()
			LEAQ(maskTable(), table)
			MOVQ(n, back)
			NEGQ(back)
			VMOVUPS(Mem{Base: table, Index: back, Scale: 4, Disp: 32}, sized(m))
			return sized(m)
		}
		moveIn = func(mask, from, to Op) { VMASKMOVPS(from, mask, sized(to.(reg.VecVirtual))) }
		moveOut = func(mask, from, to Op) { VMASKMOVPS(sized(from.(reg.VecVirtual)), mask, to) }
	}
	load = func(from reg.Register) reg.VecVirtual {
		x := v.vec()
		CMPQ(n, Imm(uint64(count)))
		JGE(LabelRef("whole"))
		moveIn(mask(), Mem{Base: from}, x)
		JMP(LabelRef("loaded"))
		Label("whole")
		VMOVUPS(Mem{Base: from}, sized(x))
		Label("loaded")
		return x
	}
	store = func(x reg.VecVirtual, to reg.Register) {
		CMPQ(n, Imm(uint64(count)))
		JGE(LabelRef("full"))
		moveOut(mask(), x, Mem{Base: to})
		JMP(LabelRef("stored"))
		Label("full")
		VMOVUPS(sized(x), Mem{Base: to})
		Label("stored")
	}
	return load, store
}

// maskTable is eight ones and then eight zeros: n lanes are chosen n before the middle.
var maskTable = sync.OnceValue(func() Mem {
	m := GLOBL("masks", RODATA|NOPTR)
	for i := range 16 {
		bits := uint32(0)
		if i < 8 {
			bits = math.MaxUint32
		}
		DATA(4*i, U32(bits))
	}
	return m
})

// group is registers with which the same is done, so that the instructions of
// one need not wait for each other. A group of one serves all registers of another.
type group []reg.VecVirtual

// masks are the masks of a group.
type masks []Op

// do computes an instruction's results in registers of their own. Its operands
// are groups, masks, or the same for all registers.
func (v isa) do(f func(...Op), args ...any) group {
	n := 1
	for _, a := range args {
		switch a := a.(type) {
		case group:
			n = max(n, len(a))
		case masks:
			n = max(n, len(a))
		}
	}
	dst := make(group, n)
	for i := range dst {
		dst[i] = v.vec()
		ops := make([]Op, 0, len(args)+1)
		for _, a := range args {
			switch a := a.(type) {
			case group:
				ops = append(ops, a[i%len(a)])
			case masks:
				ops = append(ops, a[i%len(a)])
			default:
				ops = append(ops, a.(Op))
			}
		}
		f(append(ops, dst[i])...)
	}
	return dst
}

func (v isa) add(x, y group) group { return v.do(VADDPD, y, x) }
func (v isa) sub(x, y group) group { return v.do(VSUBPD, y, x) }
func (v isa) mul(x, y group) group { return v.do(VMULPD, y, x) }
func (v isa) div(x, y group) group { return v.do(VDIVPD, y, x) }

func (v isa) and(x, y group) group {
	if v.lanes == 16 {
		return v.do(VPANDQ, y, x)
	}
	return v.do(VANDPD, y, x)
}

func (v isa) xor(x, y group) group {
	if v.lanes == 16 {
		return v.do(VPXORQ, y, x)
	}
	return v.do(VXORPD, y, x)
}

func (v isa) or(x, y group) group {
	if v.lanes == 16 {
		return v.do(VPORQ, y, x)
	}
	return v.do(VORPD, y, x)
}

// two gives an instruction of fixed arity the form that do wants.
func two(f func(a, b, dst Op)) func(...Op) {
	return func(ops ...Op) { f(ops[0], ops[1], ops[2]) }
}

// c broadcasts a float64, c32 a float32, and bits and bits32 what they hold.
func (v isa) c(x float64) group { return v.bits(math.Float64bits(x)) }

func (v isa) c32(x float32) group { return v.bits32(math.Float32bits(x)) }

var constants = map[uint64]Mem{}

func (v isa) bits(b uint64) group {
	m, ok := constants[b]
	if !ok {
		m = ConstData(fmt.Sprintf("d%016x", b), U64(b))
		constants[b] = m
	}
	return v.do(VBROADCASTSD, m)
}

var constants32 = map[uint32]Mem{}

func (v isa) bits32(b uint32) group {
	m, ok := constants32[b]
	if !ok {
		m = ConstData(fmt.Sprintf("s%08x", b), U32(b))
		constants32[b] = m
	}
	return v.do(VBROADCASTSS, m)
}

// Predicates of comparisons; all are false for NaN.
const (
	less      = 0x11
	lessEq    = 0x12
	greaterEq = 0x1d
	greater   = 0x1e
	equal     = 0x00
)

// cmp compares float64s.
func (v isa) cmp(predicate uint64, x, y group) masks {
	out := make(masks, max(len(x), len(y)))
	for i := range out {
		var k Op = v.vec()
		if v.lanes == 16 {
			k = K()
		}
		VCMPPD(Imm(predicate), y[i%len(y)], x[i%len(x)], k)
		out[i] = k
	}
	return out
}

// choose returns x where the mask is set, else y.
func (v isa) choose(m masks, x, y group) group {
	if v.lanes == 16 {
		return v.do(VBLENDMPD, x, y, m)
	}
	return v.do(func(ops ...Op) { VBLENDVPD(ops[0], ops[1], ops[2], ops[3]) }, m, x, y)
}

// set puts x into y where the mask is set.
func (v isa) set(m masks, x, y group) {
	for i := range y {
		if v.lanes == 16 {
			VMOVAPD(x[i%len(x)], m[i], y[i])
		} else {
			VBLENDVPD(m[i], x[i%len(x)], y[i], y[i])
		}
	}
}

func (v isa) round(x group) group {
	if v.lanes == 16 {
		return v.do(VRNDSCALEPD, Imm(0), x)
	}
	return v.do(two(VROUNDPD), Imm(0), x)
}

func (v isa) round32(x group, mode uint64) group {
	if v.lanes == 16 {
		return v.do(VRNDSCALEPS, Imm(mode), x)
	}
	return v.do(two(VROUNDPS), Imm(mode), x)
}

func (v isa) abs(x group) group  { return v.and(x, v.bits(1<<63-1)) }
func (v isa) sign(x group) group { return v.and(x, v.bits(1<<63)) }

// copysign gives x, which is not negative, the sign of y.
func (v isa) copysign(x, y group) group { return v.or(x, v.sign(y)) }

func (v isa) poly(x group, c []float64) group {
	p := v.c(c[len(c)-1])
	for i := len(c) - 2; i >= 0; i-- {
		p = v.add(v.mul(p, x), v.c(c[i]))
	}
	return p
}

const (
	ln2Hi  = 0x1.62e42feep-1
	ln2Lo  = 0x1.a39ef35793c76p-33
	log2e  = 1 / math.Ln2
	sqrtPi = 1.77245385090551602729816748334114518279754945612238712821380779
)

// expTerms and logTerms are the tables of package f32.
var expTerms, logTerms = func() (e, l []float64) {
	f := 1.0
	for k := 1; k <= 17; k++ {
		f *= float64(k)
		e = append(e, 1/f)
	}
	for i := range 12 {
		l = append(l, 1/float64(2*i+1))
	}
	return e, l
}()

// reduce returns r = x − k·ln 2 and k.
func (v isa) reduce(x group) (r, k group) {
	k = v.round(v.mul(x, v.c(log2e)))
	return v.sub(v.sub(x, v.mul(k, v.c(ln2Hi))), v.mul(k, v.c(ln2Lo))), k
}

// scale returns y·2ᵏ.
func (v isa) scale(y, k group) group {
	if v.lanes == 16 {
		return v.do(VSCALEFPD, k, y)
	}
	whole, half := XMM(), XMM()
	VCVTPD2DQY(k[0], whole)
	VPSRAD(Imm(1), whole, half)
	VPSUBD(half, whole, whole)
	for _, h := range []reg.VecVirtual{half, whole} {
		power := YMM()
		VPMOVSXDQ(h, power)
		VPADDQ(v.bits(1023)[0], power, power)
		VPSLLQ(Imm(52), power, power)
		y = v.mul(y, group{power})
	}
	return y
}

// limits puts in what Exp64 returns out of range.
func (v isa) limits(y, x group) group {
	y = v.choose(v.cmp(greater, x, v.c(709.8)), v.c(math.Inf(1)), y)
	return v.choose(v.cmp(less, x, v.c(-745.2)), v.c(0), y)
}

func (v isa) exp(x group) group {
	r, k := v.reduce(x)
	y := v.add(v.mul(r, v.poly(r, expTerms)), v.c(1))
	return v.limits(v.scale(y, k), x)
}

func (v isa) expm1(x group) group {
	near := v.cmp(lessEq, v.abs(x), v.c(0.5))
	r, k := v.reduce(x)
	r = v.choose(near, x, r)
	p := v.mul(r, v.poly(r, expTerms))
	far := v.sub(v.limits(v.scale(v.add(p, v.c(1)), k), x), v.c(1))
	return v.choose(near, p, far)
}

// log is Log64 of numbers that are not subnormal.
func (v isa) log(x group) group {
	m := v.or(v.and(x, v.bits(1<<52-1)), v.bits(1022<<52))
	e := v.do(VPSRLQ, Imm(52), x)
	// The exponent's bits on top of 2⁵²; the sign of a negative x is of no interest.
	e = v.sub(v.or(e, v.bits(0x433<<52)), v.c(1<<52+1022))
	low := v.cmp(less, m, v.c(math.Sqrt2/2))
	m = v.choose(low, v.add(m, m), m)
	k := v.choose(low, v.sub(e, v.c(1)), e)
	s := v.div(v.sub(m, v.c(1)), v.add(m, v.c(1)))
	t := v.mul(v.add(s, s), v.poly(v.mul(s, s), logTerms))
	y := v.add(v.mul(k, v.c(ln2Hi)), v.add(t, v.mul(k, v.c(ln2Lo))))
	y = v.choose(v.cmp(less, x, v.c(0)), v.c(math.NaN()), y)
	y = v.choose(v.cmp(equal, x, v.c(0)), v.c(math.Inf(-1)), y)
	y = v.choose(v.cmp(equal, x, v.c(math.Inf(1))), x, y)
	const unordered = 3
	return v.choose(v.cmp(unordered, x, x), x, y)
}

// log1p is Log1p64 of numbers that are not negative.
func (v isa) log1p(x group) group {
	u := v.add(v.c(1), x)
	y := v.add(v.log(u), v.div(v.sub(x, v.sub(u, v.c(1))), u))
	y = v.choose(v.cmp(equal, u, v.c(1)), x, y)
	return v.choose(v.cmp(equal, u, v.c(math.Inf(1))), x, y)
}

func (v isa) sigmoid(x group) group {
	e := v.exp(v.or(x, v.bits(1<<63)))
	top := v.choose(v.cmp(greaterEq, x, v.c(0)), v.c(1), e)
	return v.div(top, v.add(v.c(1), e))
}

func (v isa) tanh(x group) group {
	t := v.expm1(v.add(x, x))
	y := v.div(t, v.add(t, v.c(2)))
	return v.choose(v.cmp(greater, v.abs(x), v.c(22)), v.copysign(v.c(1), x), y)
}

func (v isa) softplus(x group) group {
	l := v.log1p(v.exp(v.or(x, v.bits(1<<63))))
	return v.add(v.do(VMAXPD, v.c(0), x), l)
}

func (v isa) elu(x group, p param) group {
	return v.choose(v.cmp(less, x, v.c(0)), v.mul(p(0), v.expm1(x)), x)
}

func (v isa) selu(x group, p param) group {
	y := v.choose(v.cmp(lessEq, x, v.c(0)), v.mul(p(0), v.expm1(x)), x)
	return v.mul(p(1), y)
}

// celu: the maximum is +0 for −0 and NaN, the minimum NaN for NaN.
func (v isa) celu(x group, p param) group {
	y := v.mul(p(0), v.expm1(v.div(x, p(0))))
	return v.add(v.do(VMAXPD, v.c(0), x), v.do(VMINPD, y, v.c(0)))
}

func (v isa) hardSigmoid(x, a, b group) group {
	y := v.do(VADDPS, b, v.do(VMULPS, x, a))
	y = v.do(VMINPS, y, v.c32(1))
	y = v.do(VMAXPS, y, v.c32(0))
	return v.do(VADDPS, v.c32(0), y) // max(0, −0) is +0
}

// erf sums its series until it is complete in all lanes, and takes the
// continued fraction only if a lane needs it.
func (v isa) erf(x group) group {
	whole := v.abs(x)
	near := v.cmp(lessEq, whole, v.c(3))
	a := v.choose(near, whole, v.c(0))
	q := v.mul(a, a)
	term, sum, count := v.add(a, v.c(0)), v.add(a, v.c(0)), v.c(3)
	inPlace := func(f func(...Op), x, y group) {
		for i := range y {
			f(x[i%len(x)], y[i], y[i])
		}
	}
	Label("series")
	active := v.cmp(greater, term, v.mul(sum, v.c(0x1p-56)))
	v.jumpUnless(active, "summed")
	v.set(active, v.mul(term, v.div(v.add(q, q), count)), term)
	v.set(active, v.add(sum, term), sum)
	inPlace(VADDPD, v.c(2), count)
	JMP(LabelRef("series"))
	Label("summed")
	y := v.mul(v.c(2/sqrtPi), v.mul(v.exp(v.xor(q, v.bits(1<<63))), sum))
	y = v.choose(v.cmp(greater, whole, v.c(6)), v.c(1), y)

	far := v.cmp(greater, v.choose(v.cmp(lessEq, whole, v.c(6)), whole, v.c(0)), v.c(3))
	v.jumpUnless(far, "complete")
	b := v.choose(far, whole, v.c(4))
	square := v.mul(b, b)
	f, k := v.add(v.sub(b, b), v.c(1)), v.c(50)
	twice := v.add(square, square)
	Label("fraction")
	for i, q := range v.div(k, twice) {
		VDIVPD(f[i], q, f[i])
	}
	inPlace(VADDPD, v.c(1), f)
	inPlace(VSUBPD, v.c(1), k)
	v.jumpUnless(v.cmp(greater, k, v.c(0)), "fractioned")
	JMP(LabelRef("fraction"))
	Label("fractioned")
	e := v.exp(v.xor(square, v.bits(1<<63)))
	v.set(far, v.sub(v.c(1), v.div(v.div(e, v.mul(b, v.c(sqrtPi))), f)), y)
	Label("complete")
	const unordered = 3
	y = v.choose(v.cmp(unordered, x, x), x, y)
	return v.copysign(v.abs(y), x)
}

// jumpUnless jumps if no lane of the masks, one or two, is set.
func (v isa) jumpUnless(m masks, label string) {
	if v.lanes == 16 {
		KORTESTW(m[0], m[len(m)-1])
	} else {
		bits := GP32()
		VMOVMSKPD(m[0], bits)
		TESTL(bits, bits)
	}
	JZ(LabelRef(label))
}
