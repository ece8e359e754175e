package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.ByteRow, in order.
const (
	rowMult    = 8 * iota // 16 floats
	rowLimits             // two floats
	rowZero               // an int32
	rowScale              // a float
	rowFactor             // two int32
	rowSum                // two int32: the constant of a sum, half a step less one
	rowShift              // an int64
	rowRounded            // two floats: the limits plus magic
)

// byteRows writes the element-wise kernels. n counts vectors of 16 elements,
// for lookup and max of 64.
func (v isa) byteRows() {
	v.requantise()
	v.requantiseWide()
	v.sumsToFloats()
	v.quantise(1, "byteQuantise")
	v.quantise(4, "byteQuantise4")
	v.bytesToFloats()
	v.addBytes()
	v.sumBytes()
	v.maxBytes()
	if v.lanes == 16 {
		v.lookup()
	}
}

// byteRow is the frame of an element-wise kernel.
type byteRow struct {
	isa
	n, dst reg.Register
	src    []reg.Register
	p      reg.Register // the address of a simd.ByteRow
}

// rowKernel writes the frame of a kernel with the given types of its destination and
// sources; body is one step, which handles one vector and moves the pointers.
func (v isa) rowKernel(name, dst string, src []string, setup func(r *byteRow), body func(r *byteRow)) {
	sig := "func(n int, dst *" + dst
	for i, s := range src {
		sig += ", x" + string(rune('0'+i)) + " *" + s
	}
	TEXT(name+v.name, NOSPLIT, sig+", p *uint64)")
	Pragma("noescape")
	r := &byteRow{isa: v, n: Load(Param("n"), GP64()), dst: Load(Param("dst"), GP64())}
	for i := range src {
		r.src = append(r.src, Load(Param("x"+string(rune('0'+i))), GP64()))
	}
	r.p = Load(Param("p"), GP64())
	setup(r)
	TESTQ(r.n, r.n)
	JZ(LabelRef("done"))
	Label("loop")
	body(r)
	DECQ(r.n)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// pieces is how many vectors 16 elements of 32 bits take.
func (v isa) pieces() int { return 16 / v.lanes }

// all broadcasts a word of 32 bits of the parameters.
func (r *byteRow) all(disp int) reg.VecVirtual {
	x := r.vec()
	VBROADCASTSS(Mem{Base: r.p, Disp: disp}, x)
	return x
}

// store stores 16 numbers of 32 bits, whose low bytes are the results, as bytes.
func (r *byteRow) store(x []reg.VecVirtual) {
	if r.lanes == 16 {
		VPMOVDB(x[0], Mem{Base: r.dst})
		return
	}
	low := YMM()
	VPCMPEQD(low, low, low)
	VPSRLD(Imm(24), low, low)
	for _, a := range x {
		VPAND(low, a, a)
	}
	y := YMM()
	VPACKUSDW(x[1], x[0], y) // 0…3 8…11, 4…7 12…15
	VPERMQ(Imm(0xd8), y, y)
	hi := XMM()
	VEXTRACTI128(Imm(1), y, hi)
	VPACKUSWB(hi, y.AsX(), hi)
	VMOVDQU(hi, Mem{Base: r.dst})
}

// load loads 16 bytes as numbers of 32 bits.
func (r *byteRow) load(from reg.Register) []reg.VecVirtual {
	x := make([]reg.VecVirtual, r.pieces())
	for i := range x {
		x[i] = r.vec()
		VPMOVZXBD(Mem{Base: from, Disp: i * r.lanes}, x[i])
	}
	return x
}

// requantise takes i32 sums to bytes, as storeBytes does.
func (v isa) requantise() {
	var mult []reg.VecVirtual
	var big, lo, hi, zero reg.VecVirtual
	v.rowKernel("byteRequantise", "uint8", []string{"int32"}, func(r *byteRow) {
		at := GP64()
		MOVQ(Mem{Base: r.p, Disp: rowMult}, at)
		for i := range v.pieces() {
			mult = append(mult, v.vec())
			VMOVUPS(Mem{Base: at, Disp: 32 * i}, mult[i])
		}
		big, lo, hi, zero = v.roundingOffset(), r.all(rowRounded), r.all(rowRounded+4), r.all(rowZero)
	}, func(r *byteRow) {
		x := make([]reg.VecVirtual, v.pieces())
		for i := range x {
			x[i] = v.vec()
			VCVTDQ2PS(Mem{Base: r.src[0], Disp: 32 * i}, x[i])
			VFMADD213PS(big, mult[i], x[i])
			VMAXPS(lo, x[i], x[i])
			VMINPS(hi, x[i], x[i])
			VPADDD(zero, x[i], x[i])
		}
		r.store(x)
		ADDQ(Imm(64), r.src[0])
		ADDQ(Imm(16), r.dst)
	})
}

// requantiseWide is requantise with products in f64, for larger sums; the
// limits are those of q − zero.
func (v isa) requantiseWide() {
	half := func() reg.VecVirtual {
		if v.lanes == 16 {
			return YMM()
		}
		return XMM()
	}
	var lo, hi, zero reg.VecVirtual
	var mult []reg.VecVirtual // in f64, half as many in a vector
	v.rowKernel("byteRequantiseWide", "uint8", []string{"int32"}, func(r *byteRow) {
		at, l := GP64(), half()
		MOVQ(Mem{Base: r.p, Disp: rowMult}, at)
		lo, hi, zero = v.vec(), v.vec(), r.all(rowZero)
		VBROADCASTSS(Mem{Base: r.p, Disp: rowLimits}, l)
		VCVTPS2PD(l, lo)
		VBROADCASTSS(Mem{Base: r.p, Disp: rowLimits + 4}, l)
		VCVTPS2PD(l, hi)
		for i := range 2 * v.pieces() {
			mult = append(mult, v.vec())
			VCVTPS2PD(Mem{Base: at, Disp: 2 * v.lanes * i}, mult[i])
		}
	}, func(r *byteRow) {
		x := make([]reg.VecVirtual, v.pieces())
		for i := range x {
			var parts [2]reg.VecVirtual
			for j := range parts {
				d := v.vec()
				VCVTDQ2PD(Mem{Base: r.src[0], Disp: 2 * v.lanes * (2*i + j)}, d)
				VMULPD(mult[2*i+j], d, d)
				VMAXPD(lo, d, d)
				VMINPD(hi, d, d)
				parts[j] = half()
				if v.lanes == 16 {
					VCVTPD2DQ(d, parts[j])
				} else {
					VCVTPD2DQY(d, parts[j])
				}
			}
			x[i] = v.vec()
			if v.lanes == 16 {
				VINSERTI64X4(Imm(1), parts[1], parts[0].AsZ(), x[i])
			} else {
				VINSERTI128(Imm(1), parts[1], parts[0].AsY(), x[i])
			}
			VPADDD(zero, x[i], x[i])
		}
		r.store(x)
		ADDQ(Imm(64), r.src[0])
		ADDQ(Imm(16), r.dst)
	})
}

// sumsToFloats multiplies i32 sums, as floats, with a scale for each lane.
func (v isa) sumsToFloats() {
	var mult []reg.VecVirtual
	v.rowKernel("byteSumsToFloats", "float32", []string{"int32"}, func(r *byteRow) {
		at := GP64()
		MOVQ(Mem{Base: r.p, Disp: rowMult}, at)
		for i := range v.pieces() {
			mult = append(mult, v.vec())
			VMOVUPS(Mem{Base: at, Disp: 32 * i}, mult[i])
		}
	}, func(r *byteRow) {
		for i := range v.pieces() {
			x := v.vec()
			VCVTDQ2PS(Mem{Base: r.src[0], Disp: 32 * i}, x)
			VMULPS(mult[i], x, x)
			VMOVUPS(x, Mem{Base: r.dst, Disp: 32 * i})
		}
		ADDQ(Imm(64), r.src[0])
		ADDQ(Imm(64), r.dst)
	})
}

// quantise rounds floats to bytes; the limits are those of q − zero. With four
// sources the bytes of the four lie beside each other.
func (v isa) quantise(sources int, name string) {
	types := []string{"float32", "float32", "float32", "float32"}[:sources]
	var scale, lo, hi, zero reg.VecVirtual
	v.rowKernel(name, "uint8", types, func(r *byteRow) {
		scale, lo, hi, zero = r.all(rowScale), r.all(rowLimits), r.all(rowLimits+4), r.all(rowZero)
	}, func(r *byteRow) {
		x := make([]reg.VecVirtual, v.pieces())
		for i := range x {
			for j := range sources {
				y := v.vec()
				VMOVUPS(Mem{Base: r.src[j], Disp: 32 * i}, y)
				VDIVPS(scale, y, y)
				if v.lanes == 16 {
					VRNDSCALEPS(Imm(0), y, y)
				} else {
					VROUNDPS(Imm(0), y, y)
				}
				VMAXPS(lo, y, y) // a NaN becomes lo
				VMINPS(hi, y, y)
				VCVTPS2DQ(y, y)
				VPADDD(zero, y, y)
				if j == 0 {
					x[i] = y
					continue
				}
				VPSLLD(Imm(uint64(8*j)), y, y)
				if v.lanes == 16 {
					VPORD(y, x[i], x[i])
				} else {
					VPOR(y, x[i], x[i])
				}
			}
		}
		if sources == 1 {
			r.store(x)
			ADDQ(Imm(16), r.dst)
		} else {
			for i, y := range x {
				VMOVUPS(y, Mem{Base: r.dst, Disp: 32 * i})
			}
			ADDQ(Imm(64), r.dst)
		}
		for j := range sources {
			ADDQ(Imm(64), r.src[j])
		}
	})
}

// bytesToFloats is (q − zero)·scale.
func (v isa) bytesToFloats() {
	var scale, zero reg.VecVirtual
	v.rowKernel("byteDequantise", "float32", []string{"uint8"}, func(r *byteRow) {
		scale, zero = r.all(rowScale), r.all(rowZero)
	}, func(r *byteRow) {
		for i, x := range r.load(r.src[0]) {
			VPSUBD(zero, x, x)
			VCVTDQ2PS(x, x)
			VMULPS(scale, x, x)
			VMOVUPS(x, Mem{Base: r.dst, Disp: 32 * i})
		}
		ADDQ(Imm(16), r.src[0])
		ADDQ(Imm(64), r.dst)
	})
}

// addBytes is clamp(round_half_even((x0·factor0 + x1·factor1 + constant) / 2^shift), lo, hi) + zero.
// The limits are floats, of q − zero.
func (v isa) addBytes() {
	var f0, f1, constant, half, one, lo, hi, zero reg.VecVirtual
	var shift reg.VecVirtual
	v.rowKernel("byteAdd", "uint8", []string{"uint8", "uint8"}, func(r *byteRow) {
		f0, f1, constant, half = r.all(rowFactor), r.all(rowFactor+4), r.all(rowSum), r.all(rowSum+4)
		lo, hi, zero, one = r.all(rowLimits), r.all(rowLimits+4), r.all(rowZero), v.vec()
		VCVTPS2DQ(lo, lo)
		VCVTPS2DQ(hi, hi)
		w := GP32()
		MOVL(U32(1), w)
		VMOVD(w, one.AsX())
		VPBROADCASTD(one.AsX(), one)
		shift = XMM()
		VMOVQ(Mem{Base: r.p, Disp: rowShift}, shift)
	}, func(r *byteRow) {
		x, y := r.load(r.src[0]), r.load(r.src[1])
		for i := range x {
			VPMULLD(f0, x[i], x[i])
			VPMULLD(f1, y[i], y[i])
			VPADDD(constant, x[i], x[i])
			VPADDD(y[i], x[i], x[i])
			odd := v.vec() // a tie goes up if the number below is odd
			VPSRAD(shift, x[i], odd)
			if v.lanes == 16 {
				VPANDD(one, odd, odd)
			} else {
				VPAND(one, odd, odd)
			}
			VPADDD(half, x[i], x[i])
			VPADDD(odd, x[i], x[i])
			VPSRAD(shift, x[i], x[i])
			VPMAXSD(lo, x[i], x[i])
			VPMINSD(hi, x[i], x[i])
			VPADDD(zero, x[i], x[i])
		}
		r.store(x)
		ADDQ(Imm(16), r.src[0])
		ADDQ(Imm(16), r.src[1])
		ADDQ(Imm(16), r.dst)
	})
}

// sumBytes adds n pixels of 16 channels to 16 sums.
func (v isa) sumBytes() {
	var acc []reg.VecVirtual
	v.rowKernel("byteSum", "int32", []string{"uint8"}, func(r *byteRow) {
		for i := range v.pieces() {
			acc = append(acc, v.vec())
			VMOVUPS(Mem{Base: r.dst, Disp: 32 * i}, acc[i])
		}
	}, func(r *byteRow) {
		for i, x := range r.load(r.src[0]) {
			VPADDD(x, acc[i], acc[i])
			VMOVUPS(acc[i], Mem{Base: r.dst, Disp: 32 * i})
		}
		ADDQ(Imm(16), r.src[0])
	})
}

// maxBytes is the greater of two, 64 at a time.
func (v isa) maxBytes() {
	v.rowKernel("byteMax", "uint8", []string{"uint8", "uint8"}, func(r *byteRow) {}, func(r *byteRow) {
		for i := range v.pieces() {
			x := v.vec()
			VMOVUPS(Mem{Base: r.src[0], Disp: 32 * i}, x)
			VPMAXUB(Mem{Base: r.src[1], Disp: 32 * i}, x, x)
			VMOVUPS(x, Mem{Base: r.dst, Disp: 32 * i})
		}
		for _, p := range []reg.Register{r.src[0], r.src[1], r.dst} {
			ADDQ(Imm(64), p)
		}
	})
}

// lookup replaces bytes by elements of a table of 256, 64 at a time.
func (v isa) lookup() {
	var table [4]reg.VecVirtual
	v.rowKernel("byteLookup", "uint8", []string{"uint8", "uint8"}, func(r *byteRow) {
		for i := range table {
			table[i] = ZMM()
			VMOVDQU32(Mem{Base: r.src[1], Disp: 64 * i}, table[i])
		}
	}, func(r *byteRow) {
		x, lo := ZMM(), ZMM()
		VMOVDQU32(Mem{Base: r.src[0]}, x)
		VMOVDQA32(x, lo)
		VPERMI2B(table[1], table[0], lo)
		k := K()
		VPMOVB2M(x, k)
		VPERMI2B(table[3], table[2], x)
		VPBLENDMB(x, lo, k, lo)
		VMOVDQU32(lo, Mem{Base: r.dst})
		ADDQ(Imm(64), r.src[0])
		ADDQ(Imm(64), r.dst)
	})
}
