package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func floats(r *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v (%#x), want %v (%#x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func TestRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	inf := float32(math.Inf(1))
	for n := range 70 {
		x, y := floats(r, n), floats(r, n)
		for i := range x {
			switch r.IntN(10) {
			case 0:
				x[i] = float32(math.NaN())
			case 1:
				x[i] = float32(r.IntN(9)-4) * 0.125 // ties of the quantiser
			case 2:
				x[i] = float32(math.Copysign(float64(inf), float64(y[i])))
			case 3:
				x[i] = float32(math.Copysign(0, float64(y[i])))
			case 4:
				x[i], y[i] = float32(math.Copysign(0, float64(y[i]))), 0
			}
		}
		for name, f := range map[string]func(s *Set, dst []float32){
			"Add":            func(s *Set, dst []float32) { s.Add(dst, x, y) },
			"Sub":            func(s *Set, dst []float32) { s.Sub(dst, x, y) },
			"Mul":            func(s *Set, dst []float32) { s.Mul(dst, x, y) },
			"AddScalar":      func(s *Set, dst []float32) { s.AddScalar(dst, x, 0.3) },
			"MulScalar":      func(s *Set, dst []float32) { s.MulScalar(dst, x, 0.3) },
			"Normalise":      func(s *Set, dst []float32) { s.Normalise(dst, x, 0.1, 0.3, -1.7) },
			"Quant":          func(s *Set, dst []float32) { s.Quant(dst, x, 0.25, -3, 4) },
			"Clamp":          func(s *Set, dst []float32) { s.Clamp(dst, x, 0, 1) },
			"Max in place":   func(s *Set, dst []float32) { copy(dst, y); s.Max(dst, x, dst) },
			"Max in place x": func(s *Set, dst []float32) { copy(dst, x); s.Max(dst, dst, y) },
			"Leaky":          func(s *Set, dst []float32) { s.Leaky(dst, x, -0.3) },
			"Every":          func(s *Set, dst []float32) { s.Every(dst[:(n+1)/2], x, 2); s.Every(dst[(n+1)/2:][:n/3], x, 3) },
			"Max":            func(s *Set, dst []float32) { s.Max(dst, x, y) },
		} {
			want := make([]float32, n)
			f(Portable, want)
			for _, s := range All()[1:] {
				got := make([]float32, n)
				f(s, got)
				sameBits(t, fmt.Sprintf("%s %s n=%d", s.Name, name, n), got, want)
			}
		}
	}
}
