package f32

import (
	"math"
	"math/bits"
)

// turn is 1/(2π) in binary: word i holds the bits with weights 2^(−64i−1) to
// 2^(−64i−64). 20 words serve every float64.
var turn = [20]uint64{
	0x28be60db9391054a, 0x7f09d5f47d4d3770, 0x36d8a5664f10e410, 0x7f9458eaf7aef158,
	0x6dc91b8e909374b8, 0x1924bba82746487, 0x3f877ac72c4a69cf, 0xba208d7d4baed121,
	0x3a671c09ad17df90, 0x4e64758e60d4ce7d, 0x272117e2ef7e4a0e, 0xc7fe25fff7816603,
	0xfbcbc462d6829b47, 0xdb4d9fb3c9f2c26d, 0xd3d18fd9a797fa8b, 0x5d49eeb1faf97c5e,
	0xcf41ce7de294a4ba, 0x9afed7ec47e35742, 0x1580cc11bf1edaea, 0xfc33ef0826bd0d87,
}

const (
	// π/2 in three parts; a multiple of the first two below 2²⁰ is exact.
	halfPi1 = 0x1.921fb544p0
	halfPi2 = 0x1.0b4611a6p-34
	halfPi3 = 0x1.3198a2e037073p-69
)

// reduce returns x − q·π/2 in −π/4…π/4 and q modulo 4, for finite x.
func reduce(x float64) (r float64, q int) {
	a := math.Abs(x)
	if a < 1<<20 {
		k := math.RoundToEven(float64(a * (2 / math.Pi)))
		r = ((a - float64(k*halfPi1)) - float64(k*halfPi2)) - float64(k*halfPi3)
		q = int(k) & 3
	} else {
		r, q = reduceLarge(a)
	}
	if x < 0 {
		return -r, -q & 3
	}
	return r, q
}

// reduceLarge is Payne and Hanek's reduction: of x/(2π) only the bits below
// the point matter, so the leading bits of 1/(2π) are left out.
func reduceLarge(x float64) (r float64, q int) {
	b := math.Float64bits(x)
	m := b&(1<<52-1) | 1<<52
	e := int(b>>52) - 1075 // x = m·2ᵉ, e ≥ −32
	word := func(i int) uint64 {
		// Bits e+64i … of turn; before the point there are zeros.
		p := e + 64*i
		if p < 0 {
			return turn[0] >> -p
		}
		w, s := p/64, p%64
		return turn[w]<<s | turn[w+1]>>(64-s)
	}
	// m·(three words), modulo one turn; the last product's low word is dropped.
	hi2, _ := bits.Mul64(m, word(2))
	hi1, lo1 := bits.Mul64(m, word(1))
	_, lo0 := bits.Mul64(m, word(0))
	f1, c := bits.Add64(lo1, hi2, 0)
	f0, _ := bits.Add64(lo0, hi1, c)
	// f0:f1 is a fraction of a turn: round it to quarters.
	q = int((f0 + 1<<61) >> 62)
	f0 -= uint64(q) << 62
	neg := int64(f0) < 0
	if neg {
		f1 = -f1
		f0 = ^f0
		if f1 == 0 {
			f0++
		}
	}
	s := bits.LeadingZeros64(f0)
	top := f0<<s | f1>>(64-s)
	r = float64(math.Ldexp(float64(top>>11), 11-64-s) * (2 * math.Pi))
	if neg {
		r = -r
	}
	return r, q & 3
}

func sinKernel(r float64) float64 { return float64(r * poly(float64(r*r), sinTerms)) }

func cosKernel(r float64) float64 { return poly(float64(r*r), cosTerms) }

// Sin64 returns the sine of x radians.
func Sin64(x float64) float64 {
	if math.IsNaN(x - x) {
		return math.NaN()
	}
	if x == 0 {
		return x
	}
	r, q := reduce(x)
	return quadrant(r, q)
}

// Cos64 returns the cosine of x radians.
func Cos64(x float64) float64 {
	if math.IsNaN(x - x) {
		return math.NaN()
	}
	r, q := reduce(x)
	return quadrant(r, (q+1)&3)
}

// quadrant returns sin(r + q·π/2).
func quadrant(r float64, q int) float64 {
	switch q {
	case 0:
		return sinKernel(r)
	case 1:
		return cosKernel(r)
	case 2:
		return -sinKernel(r)
	}
	return -cosKernel(r)
}

// Tan64 returns the tangent of x radians.
func Tan64(x float64) float64 {
	if math.IsNaN(x - x) {
		return math.NaN()
	}
	if x == 0 {
		return x
	}
	r, q := reduce(x)
	if q&1 == 0 {
		return sinKernel(r) / cosKernel(r)
	}
	return -cosKernel(r) / sinKernel(r)
}

// Atan64 returns the arc tangent in radians.
func Atan64(x float64) float64 {
	a := math.Abs(x)
	t := a
	if a > 1 {
		t = 1 / a
	}
	for range 3 { // atan t = 2·atan(t/(1+√(1+t²)))
		t /= 1 + math.Sqrt(1+float64(t*t))
	}
	y := float64(8 * float64(t*poly(float64(t*t), atanTerms)))
	if a > 1 {
		y = math.Pi/2 - y
	}
	return math.Copysign(y, x)
}

// Asin64 returns the arc sine in radians; NaN outside −1…1.
func Asin64(x float64) float64 {
	return Atan64(x / math.Sqrt(float64((1-x)*(1+x))))
}

// Acos64 returns the arc cosine in radians; NaN outside −1…1.
func Acos64(x float64) float64 {
	return 2 * Atan64(math.Sqrt(1-x)/math.Sqrt(1+x))
}
