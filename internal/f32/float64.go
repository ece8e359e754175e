package f32

import "math"

// The functions with 64 in their name work in float64 with every product rounded before
// it is added, so that their bits do not depend on the CPU or the compiler. (A conversion keeps Go from fusing a product with
// a later addition; an assignment does not.)
// They are good to a few units in the last place of a float64; the float32
// functions round them once and are therefore all but always correctly rounded.

const (
	ln2Hi = 0x1.62e42feep-1 // 32 bits of ln 2, so that k·ln2Hi is exact
	ln2Lo = 0x1.a39ef35793c76p-33
	log2e = 1 / math.Ln2
)

// poly returns c[0] + c[1]·x + c[2]·x² + … by Horner's rule.
func poly(x float64, c []float64) float64 {
	p := c[len(c)-1]
	for i := len(c) - 2; i >= 0; i-- {
		p = float64(p*x) + c[i]
	}
	return p
}

// inverseFactorials returns n terms: 1/from!, sign/(from+step)!, 1/(from+2·step)!, …
func inverseFactorials(from, step, n int, sign float64) []float64 {
	out := make([]float64, 0, n)
	f, s := 1.0, 1.0 // k! is exact up to 18!, and rounded once each beyond
	for k := 0; len(out) < n; k++ {
		if k > 0 {
			f *= float64(k)
		}
		if k >= from && (k-from)%step == 0 {
			out = append(out, s/f)
			s *= sign
		}
	}
	return out
}

var (
	expTerms  = inverseFactorials(1, 1, 17, 1)  // (eˣ−1)/x in x, |x| ≤ ½
	sinTerms  = inverseFactorials(1, 2, 10, -1) // sin(x)/x in x², |x| ≤ π/4
	cosTerms  = inverseFactorials(0, 2, 10, -1) // cos(x) in x², |x| ≤ π/4
	logTerms  = oddInverses(12, 1)              // atanh(s)/s in s², |s| ≤ 0.172
	atanTerms = oddInverses(10, -1)             // atan(t)/t in t², |t| ≤ 0.099
)

// oddInverses returns 1, sign/3, 1/5, sign/7, …: n terms.
func oddInverses(n int, sign float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = 1 / float64(2*i+1)
		if i%2 == 1 {
			out[i] *= sign
		}
	}
	return out
}

// Exp64 returns eˣ.
func Exp64(x float64) float64 {
	switch {
	case math.IsNaN(x):
		return x
	case x > 709.8:
		return math.Inf(1)
	case x < -745.2:
		return 0
	}
	k := math.RoundToEven(float64(x * log2e))
	r := float64(x-float64(k*ln2Hi)) - float64(k*ln2Lo)
	y := float64(r*poly(r, expTerms)) + 1
	h := math.Floor(k / 2) // 2ᵏ itself may be out of range
	return float64(y * powerOfTwo(int(h)) * powerOfTwo(int(k-h)))
}

// powerOfTwo returns 2ᵏ for a k of −1022 to 1023.
func powerOfTwo(k int) float64 { return math.Float64frombits(uint64(k+1023) << 52) }

// Expm1_64 returns eˣ − 1, accurately near 0.
func Expm1_64(x float64) float64 {
	if math.Abs(x) <= 0.5 {
		return float64(x * poly(x, expTerms))
	}
	return Exp64(x) - 1
}

// Log64 returns the natural logarithm; NaN below 0.
func Log64(x float64) float64 {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 1):
		return x
	case x < 0:
		return math.NaN()
	case x == 0:
		return math.Inf(-1)
	}
	m, e := math.Frexp(x) // ½ ≤ m < 1
	if m < math.Sqrt2/2 {
		m *= 2
		e--
	}
	s := (m - 1) / (m + 1) // ln m = 2·atanh(s)
	k := float64(e)
	return float64(k*ln2Hi) + (float64(2*s*poly(float64(s*s), logTerms)) + float64(k*ln2Lo))
}

// Log1p64 returns ln(1 + x), accurately near 0.
func Log1p64(x float64) float64 {
	u := 1 + x
	switch {
	case u == 1 || math.IsInf(u, 1):
		return x
	case u == 0:
		return math.Inf(-1)
	}
	// What 1 + x lost is put back to first order.
	return Log64(u) + (x-(u-1))/u
}

// Pow64 returns xʸ with the special cases of IEEE 754's pow.
func Pow64(x, y float64) float64 {
	switch {
	case y == 0 || x == 1:
		return 1
	case math.IsNaN(x) || math.IsNaN(y):
		return math.NaN()
	}
	integer := math.Trunc(y) == y || math.IsInf(y, 0)
	odd := integer && math.Abs(y) < 1<<53 && math.Mod(y, 2) != 0
	a := math.Abs(x)
	var p float64
	switch {
	case a == 1: // −1 to an infinite power too
		p = 1
	case a == 0 || math.IsInf(a, 0) || math.IsInf(y, 0):
		if p = 0; (a > 1) == (y > 0) {
			p = math.Inf(1)
		}
	case integer && math.Abs(y) <= 32:
		p = 1 // exact for small integers
		for n, s := int(math.Abs(y)), a; n > 0; n >>= 1 {
			if n&1 == 1 {
				p *= s
			}
			s *= s
		}
		if y < 0 {
			p = 1 / p
		}
	case math.Abs(y) == 0.5:
		if p = math.Sqrt(a); y < 0 {
			p = 1 / p
		}
	default:
		p = Exp64(float64(y * Log64(a)))
	}
	negative := x < 0 || x == 0 && math.Signbit(x)
	switch {
	case negative && odd:
		return -p
	case x < 0 && !integer && !math.IsInf(x, 0):
		return math.NaN()
	}
	return p
}

// Tanh64 returns the hyperbolic tangent.
func Tanh64(x float64) float64 {
	if math.Abs(x) > 22 {
		return math.Copysign(1, x)
	}
	t := Expm1_64(2 * x)
	return t / (t + 2)
}

// Sinh64 returns the hyperbolic sine.
func Sinh64(x float64) float64 {
	a := math.Abs(x)
	if a > 700 {
		h := Exp64(a / 2)
		return math.Copysign(h/2*h, x)
	}
	t := Expm1_64(a)
	return math.Copysign((t+t/(t+1))/2, x)
}

// Cosh64 returns the hyperbolic cosine.
func Cosh64(x float64) float64 {
	a := math.Abs(x)
	if a > 700 {
		h := Exp64(a / 2)
		return float64(h / 2 * h)
	}
	e := Exp64(a)
	return (e + 1/e) / 2
}

// Asinh64 returns the inverse hyperbolic sine.
func Asinh64(x float64) float64 {
	a := math.Abs(x)
	if a > 1<<28 {
		return math.Copysign(Log64(a)+math.Ln2, x)
	}
	q := float64(a * a)
	return math.Copysign(Log1p64(a+q/(1+math.Sqrt(1+q))), x)
}

// Acosh64 returns the inverse hyperbolic cosine; NaN below 1.
func Acosh64(x float64) float64 {
	if x > 1<<28 {
		return Log64(x) + math.Ln2
	}
	if x < 1 {
		return math.NaN()
	}
	t := x - 1
	return Log1p64(t + math.Sqrt(float64(t*t)+2*t))
}

// Atanh64 returns the inverse hyperbolic tangent; NaN outside −1…1.
func Atanh64(x float64) float64 {
	a := math.Abs(x)
	return math.Copysign(Log1p64(2*a/(1-a))/2, x)
}

// Sigmoid64 returns 1/(1 + e⁻ˣ).
func Sigmoid64(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + Exp64(-x))
	}
	e := Exp64(x)
	return e / (1 + e)
}

// Softplus64 returns ln(1 + eˣ).
func Softplus64(x float64) float64 {
	return max(x, 0) + Log1p64(Exp64(-math.Abs(x)))
}

// Erf64 returns the error function.
func Erf64(x float64) float64 {
	a := math.Abs(x)
	switch {
	case math.IsNaN(x):
		return x
	case a > 6:
		return math.Copysign(1, x)
	case a > 3:
		// 1 − erfc by its continued fraction, from the inside out.
		q, f := 2*float64(a*a), 1.0
		for k := 50; k > 0; k-- {
			f = 1 + float64(k)/q/f
		}
		return math.Copysign(1-Exp64(-float64(a*a))/(a*sqrtPi)/f, x)
	}
	// 2/√π · e^(−x²) · Σ 2ᵏ·x^(2k+1)/(2k+1)!!, whose terms all have one sign.
	q := float64(a * a)
	term, sum := a, a
	for k := 1; term > sum*0x1p-56; k++ {
		term = float64(term * (2 * q / float64(2*k+1)))
		sum += term
	}
	return math.Copysign(2/sqrtPi*float64(Exp64(-q)*sum), x)
}

const sqrtPi = 1.77245385090551602729816748334114518279754945612238712821380779
