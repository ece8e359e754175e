package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

func TestLines(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 100 {
		x, y, z := floats(r, n), floats(r, n), floats(r, n)
		if n > 0 {
			x[r.IntN(n)], y[r.IntN(n)] = float32(math.Inf(1)), 0
		}
		for name, f := range map[string]func(s *Set, dst []float32){
			"Div":       func(s *Set, dst []float32) { s.Div(dst, x, y) },
			"DivScalar": func(s *Set, dst []float32) { s.DivScalar(dst, x, 0.3) },
			"MulAdd":    func(s *Set, dst []float32) { s.MulAdd(dst, x, y, z) },
			"Sum": func(s *Set, dst []float32) {
				for i := range dst {
					dst[i] = s.Sum(z[i:])
				}
			},
		} {
			want := make([]float32, n)
			f(Portable, want)
			for _, s := range All()[1:] {
				got := make([]float32, n)
				f(s, got)
				for i := range got {
					if got[i] == got[i] || want[i] == want[i] {
						sameBits(t, fmt.Sprintf("%s %s n=%d element %d", s.Name, name, n, i), got[i:i+1], want[i:i+1])
					}
				}
			}
		}
		if got := Portable.Sum(z); got != f32.Sum(z) {
			t.Fatalf("the sum of %d is %v", n, got)
		}
	}
}

func TestResample(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		in := &Resample{RowTaps: 1 + r.IntN(4), ColTaps: 1 + r.IntN(4), Pixels: 1 + r.IntN(9)}
		x := floats(r, 1000)
		in.X = unsafe.Pointer(&x[0])
		taps := func(n int) (*int, *float64) {
			at, w := make([]int, n), make([]float64, n)
			for i := range at {
				at[i], w[i] = 64*r.IntN(30), r.NormFloat64()
			}
			return &at[0], &w[0]
		}
		in.Rows, in.RowWeights = taps(in.RowTaps)
		in.Cols, in.ColWeights = taps(in.ColTaps * in.Pixels)
		var want []float32
		for _, s := range All() {
			y := make([]float32, Block*in.Pixels)
			in.Y = unsafe.Pointer(&y[0])
			s.Resample(in)
			if want == nil {
				want = y
			}
			sameBits(t, s.Name, y, want)
		}
	}
}
