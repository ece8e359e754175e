package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"thriftc/ir/f32"
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

func TestTile(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All() {
		for rows := 1; rows <= s.Rows; rows++ {
			for vectors := 1; vectors <= max(s.Vectors, Wide); vectors++ {
				if vectors > s.Vectors && rows > 1 {
					continue
				}
				for _, k := range []int{0, 1, 2, 9, 40} {
					a, b := floats(r, k*rows), floats(r, 400)
					off, pos := make([]int, k), make([]int, vectors)
					for i := range off {
						off[i] = r.IntN(200)
					}
					for j := range pos {
						pos[j] = r.IntN(200 - s.Lanes)
					}
					ldc := vectors*s.Lanes + r.IntN(3)
					for _, more := range []bool{false, true} {
						c := floats(r, rows*ldc)
						want := append([]float32(nil), c...)
						for i := range rows {
							for j := range vectors {
								for l := range s.Lanes {
									at := i*ldc + j*s.Lanes + l
									if !more {
										want[at] = 0
									}
									for q, o := range off {
										want[at] = f32.FMA(a[q*rows+i], b[o+pos[j]+l], want[at])
									}
								}
							}
						}
						s.Tile(rows, a, off, b, pos, c, ldc, more)
						sameBits(t, fmt.Sprintf("%s %dx%d k=%d more=%v", s.Name, rows, vectors, k, more), c, want)
					}
				}
			}
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

func BenchmarkTile(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All()[1:] {
		for _, size := range [][2]int{{s.Rows, s.Vectors}, {s.Rows, 2}, {s.Rows, 1}, {1, Wide}} {
			rows, vectors := size[0], size[1]
			const k = 256
			n := vectors * s.Lanes
			a, x, c := floats(r, k*rows), floats(r, k*n), make([]float32, rows*n)
			off, pos := make([]int, k), make([]int, vectors)
			for i := range off {
				off[i] = i * n
			}
			for j := range pos {
				pos[j] = j * s.Lanes
			}
			b.Run(fmt.Sprintf("%s/%dx%d", s.Name, rows, vectors), func(b *testing.B) {
				start := time.Now()
				for b.Loop() {
					s.Tile(rows, a, off, x, pos, c, n, false)
				}
				b.ReportMetric(2*float64(k*rows*n)*float64(b.N)/time.Since(start).Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
