package f32

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// ulps returns |got − want| in units of the last place of want as a float32
// (or of a float64 when wide).
func ulps(got, want float64, wide bool) float64 {
	if got == want || !wide && got == float64(float32(want)) || math.IsNaN(got) && math.IsNaN(want) {
		return 0
	}
	if math.IsNaN(got) != math.IsNaN(want) || math.IsInf(got, 0) || math.IsInf(want, 0) {
		return math.Inf(1)
	}
	_, e := math.Frexp(want)
	if wide {
		return math.Abs(got-want) / math.Ldexp(1, max(e-53, -1074))
	}
	return math.Abs(got-want) / math.Ldexp(1, max(e-24, -149))
}

// functions pairs each function with Go's own, which is an independent
// implementation within one ulp of float64.
var functions = []struct {
	name   string
	f32    func(float32) float32
	f64    func(float64) float64
	want   func(float64) float64
	lo, hi float64 // where random arguments lie
	wide   float64 // bound for f64, in units of the last place of a float64
}{
	{"Exp", Exp, Exp64, math.Exp, -120, 100, 3},
	{"Expm1", Expm1, Expm1_64, math.Expm1, -3, 80, 3},
	{"Log", Log, Log64, math.Log, 0, 1e6, 3},
	{"Log near 1", Log, Log64, math.Log, 0.9, 1.1, 4},
	{"Log1p", Log1p, Log1p64, math.Log1p, -1, 3, 4},
	{"Tanh", Tanh, Tanh64, math.Tanh, -10, 10, 5},
	{"Sigmoid", Sigmoid, Sigmoid64, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, -80, 80, 4},
	{"Softplus", Softplus, Softplus64, func(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, -60, 60, 5},
	{"Erf", Erf, Erf64, math.Erf, -5, 5, 12},
	{"Sin", Sin, Sin64, math.Sin, -1e4, 1e4, 3},
	{"Cos", Cos, Cos64, math.Cos, -1e4, 1e4, 3},
	{"Tan", Tan, Tan64, func(x float64) float64 { return math.Sin(x) / math.Cos(x) }, -1e4, 1e4, 6},
	{"Asin", Asin, Asin64, math.Asin, -1, 1, 12},
	{"Acos", Acos, Acos64, func(x float64) float64 { return 2 * math.Atan2(math.Sqrt(1-x), math.Sqrt(1+x)) }, -1, 1, 12},
	{"Atan", Atan, Atan64, math.Atan, -20, 20, 8},
	{"Sinh", Sinh, Sinh64, math.Sinh, -80, 80, 5},
	{"Cosh", Cosh, Cosh64, math.Cosh, -80, 80, 5},
	{"Asinh", Asinh, Asinh64, math.Asinh, -100, 100, 6},
	{"Acosh", Acosh, Acosh64, math.Acosh, 1, 100, 6},
	{"Atanh", Atanh, Atanh64, math.Atanh, -1, 1, 6},
}

func TestAgainstMath(t *testing.T) {
	special := []float64{0, math.Copysign(0, -1), 1, -1, 0.5, -0.5, 2, 88.72283, -103.97, 1e-30, -1e-30, 1e-45,
		3.4e38, -3.4e38, math.Inf(1), math.Inf(-1), math.NaN(), math.Pi, 11 * math.Pi / 2}
	for _, f := range functions {
		rng := rand.New(rand.NewPCG(1, 2))
		worst32, worst64 := 0.0, 0.0
		check := func(x float64) {
			x32 := float32(x)
			if u := ulps(float64(f.f32(x32)), f.want(float64(x32)), false); u > 0.501 {
				t.Errorf("%s(%v) = %v, want %v (%.3g ulp)", f.name, x32, f.f32(x32), f.want(float64(x32)), u)
			} else {
				worst32 = max(worst32, u)
			}
			worst64 = max(worst64, ulps(f.f64(x), f.want(x), true))
		}
		for _, x := range special {
			check(float64(float32(x)))
		}
		for range 20000 {
			x := f.lo + rng.Float64()*(f.hi-f.lo)
			check(x)
			check(max(f.lo, min(f.hi, x*math.Ldexp(1, -rng.IntN(40)))))
		}
		if worst64 > f.wide {
			t.Errorf("%s: float64 error %.2f ulp, bound %v", f.name, worst64, f.wide)
		}
		t.Logf("%-12s %.4f ulp of float32, %.2f ulp of float64", f.name, worst32, worst64)
	}
}

// TestSameBits pins the bits of all functions: they must not depend on the
// CPU, on fused multiply-adds, or on the version of Go.
func TestSameBits(t *testing.T) {
	h := fnv.New64a()
	rng := rand.New(rand.NewPCG(9, 10))
	put := func(x float64) {
		b := math.Float64bits(x)
		if x != x {
			b = 1
		}
		h.Write(binary.LittleEndian.AppendUint64(nil, b))
	}
	for _, f := range functions {
		for range 3000 {
			put(f.f64(f.lo + float64(rng.Float64()*(f.hi-f.lo))))
		}
	}
	for range 3000 {
		put(Pow64(rng.Float64()*10, float64(rng.Float64()*20)-10))
		put(Sin64(rng.Float64() * 1e30))
	}
	if got, want := h.Sum64(), uint64(0x52a73c5c9cf01c98); got != want {
		t.Errorf("hash of all results is %#x, want %#x", got, want)
	}
}

func TestSinLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	turns := new(big.Float).SetPrec(1400)
	for range 300 {
		x := math.Ldexp(1+rng.Float64(), 20+rng.IntN(1000))
		// fraction of x/(2π) in 1400 bits, then sine of a small angle
		turns.Mul(new(big.Float).SetPrec(1400).SetFloat64(x), bigTurn())
		whole, _ := turns.Int(nil)
		frac, _ := new(big.Float).Sub(turns, new(big.Float).SetPrec(1400).SetInt(whole)).Float64()
		want := math.Sin(frac * 2 * math.Pi)
		if got := Sin64(x); math.Abs(got-want) > 1e-14 {
			t.Errorf("Sin64(%v) = %v, want %v", x, got, want)
		}
	}
}

// bigTurn returns 1/(2π) to 1400 bits, by Machin's formula.
func bigTurn() *big.Float {
	const bits = 1500
	one := new(big.Int).Lsh(big.NewInt(1), bits)
	arctan := func(inv int64) *big.Int {
		sum, term := new(big.Int), new(big.Int).Quo(one, big.NewInt(inv))
		for k := int64(1); term.Sign() != 0; k += 2 {
			d := new(big.Int).Quo(term, big.NewInt(k))
			if k%4 == 1 {
				sum.Add(sum, d)
			} else {
				sum.Sub(sum, d)
			}
			term.Quo(term, big.NewInt(inv*inv))
		}
		return sum
	}
	quarter := new(big.Int).Sub(new(big.Int).Mul(big.NewInt(4), arctan(5)), arctan(239)) // π/4
	pi2 := new(big.Float).SetPrec(1400).SetInt(quarter.Lsh(quarter, 3))                  // 2π
	return new(big.Float).SetPrec(1400).Quo(new(big.Float).SetPrec(1400).SetInt(one), pi2)
}

func TestTurnTable(t *testing.T) {
	x := new(big.Float).SetPrec(1400).SetMantExp(bigTurn(), 64*len(turn))
	i, _ := x.Int(nil)
	var want [len(turn)]uint64
	mask := new(big.Int).SetUint64(math.MaxUint64)
	for k := len(turn) - 1; k >= 0; k-- {
		want[k] = new(big.Int).And(i, mask).Uint64()
		i.Rsh(i, 64)
	}
	if want != turn {
		t.Errorf("turn is %#x, want %#x", turn, want)
	}
}

func TestPow(t *testing.T) {
	vals := []float64{0, math.Copysign(0, -1), 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1.5, 33, 1e10, math.Inf(1), math.Inf(-1), math.NaN()}
	for _, x := range vals {
		for _, y := range vals {
			got, want := Pow(float32(x), float32(y)), float32(math.Pow(x, y))
			if math.Float32bits(got) != math.Float32bits(want) && !(got != got && want != want) {
				t.Errorf("Pow(%v, %v) = %v, want %v", x, y, got, want)
			}
			if g, w := Pow64(x, y), math.Pow(x, y); ulps(g, w, true) > 100 || math.Signbit(g) != math.Signbit(w) && g == g {
				t.Errorf("Pow64(%v, %v) = %v, want %v", x, y, g, w)
			}
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 50000 {
		x, y := float32(math.Exp(rng.NormFloat64()*10)), float32(rng.NormFloat64()*10)
		if u := ulps(float64(Pow(x, y)), math.Pow(float64(x), float64(y)), false); u > 0.501 && Pow(x, y) != float32(math.Pow(float64(x), float64(y))) {
			t.Errorf("Pow(%v, %v) = %v, want %v", x, y, Pow(x, y), math.Pow(float64(x), float64(y)))
		}
	}
}

func TestFMA(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	random := func() float32 {
		return math.Float32frombits(rng.Uint32()&0x807fffff | uint32(100+rng.IntN(60))<<23)
	}
	for i := range 300000 {
		x, y, z := random(), random(), random()
		k := float32(rng.IntN(9)-4) * 0x1p-23
		switch i % 5 {
		case 0: // the product is half a unit of z's last place, plus or minus far less
			_, e := math.Frexp(float64(z))
			x, y = 1+k, float32(math.Ldexp(float64(1-k), e-25))
		case 1: // the same below the normal range
			x, y, z = (1+k)*0x1p-75, (1-k)*0x1p-75, math.Float32frombits(rng.Uint32()&0x807fffff)
		case 2: // near cancellation
			z = -float32(x*y) * (1 + float32(rng.IntN(3)-1)*0x1p-23)
		}
		exact := new(big.Float).SetPrec(400).SetFloat64(float64(x) * float64(y))
		exact.Add(exact, new(big.Float).SetFloat64(float64(z)))
		want, _ := exact.Float32()
		if got := FMA(x, y, z); got != want {
			t.Fatalf("FMA(%v, %v, %v) = %v, want %v", x, y, z, got, want)
		}
	}
}
