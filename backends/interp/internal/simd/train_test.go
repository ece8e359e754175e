package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

func at(x []float32) unsafe.Pointer { return unsafe.Pointer(&x[0]) }

func TestOuter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All()[1:] {
		for n := 1; n <= s.OuterMost(); n++ {
			for _, lanes := range []bool{false, true} {
				rows, cols := 1+r.IntN(3), 1+r.IntN(9)
				x, w, y := floats(r, 9*20*Block+n*Block), floats(r, 9*12*Block), floats(r, n*Block)
				o := &Outer{X: at(x), W: at(w), Y: at(y), Cols: cols, Rows: rows, XPixel: 128, XRow: 64 * 19, WRow: 64 * 11}
				start := slices.Clone(y)
				o.run(n, lanes)
				want := slices.Clone(y)
				copy(y, start)
				if lanes {
					s.OuterLanes(n, o)
				} else {
					s.Outer(n, o)
				}
				sameBits(t, fmt.Sprintf("%s n=%d lanes %v %dx%d", s.Name, n, lanes, rows, cols), y, want)
			}
		}
	}
}

func TestLanes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	portable := &Set{Lanes: 8}
	for _, s := range All()[1:] {
		for _, masked := range []bool{false, true} {
			for _, n := range []int{0, 1, 5, 16, 37} {
				x, d, mask, p := floats(r, n*Block+1), floats(r, n*Block+1), floats(r, n*Block+1), floats(r, 4*Block)
				for name, f := range map[string]func(*Set, *Lanes){
					"NormSums": (*Set).NormSums, "GradSums": (*Set).GradSums, "NormRow": (*Set).NormRow, "GradRow": (*Set).GradRow,
				} {
					var got [2][]float32
					for i, set := range []*Set{portable, s} {
						y, sums := make([]float32, n*Block+1), floats(rand.New(rand.NewPCG(5, 5)), 2*16*Block)
						l := &Lanes{N: n, X: at(x), D: at(d), Y: at(y), Params: at(p), Sums: at(sums), At: 64 * 13}
						if masked {
							l.Mask = at(mask)
						}
						f(set, l)
						got[i] = append(y, sums...)
					}
					sameBits(t, fmt.Sprintf("%s %s n=%d masked %v", s.Name, name, n, masked), got[1], got[0])
				}
			}
		}
		x, m, y, want := floats(r, 67), floats(r, 67), make([]float32, 67), make([]float32, 67)
		m[3] = 0
		portable.Mask(want, x, m)
		s.Mask(y, x, m)
		sameBits(t, s.Name+" mask", y, want)
	}
}

// BenchmarkOuter measures sums of products beside the peak of the CPU.
func BenchmarkOuter(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All()[1:] {
		n := s.OuterMost()
		x, w, y := floats(r, 10*34*Block), floats(r, 4*34*Block), floats(r, n*Block)
		o := &Outer{X: at(x), W: at(w), Y: at(y), Cols: 32, Rows: 4, XPixel: 64, XRow: 64 * 34, WRow: 64 * 32}
		b.Run(s.Name, func(b *testing.B) {
			start := time.Now()
			for b.Loop() {
				s.Outer(n, o)
			}
			b.ReportMetric(2*float64(n*Block*o.Cols*o.Rows)*float64(b.N)/time.Since(start).Seconds()/1e9, "GFLOP/s")
		})
	}
}

func TestBits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	portable := &Set{Lanes: 8}
	var p BitParams
	p.Set(BitGrid{0.25, -2, 1, 1}, BitGrid{0.1, -4, 3, 3}, 0.375)
	for _, s := range All()[1:] {
		for _, n := range []int{0, 1, 5, 37} {
			x, d := floats(r, n*Block+1), floats(r, n*Block+1)
			if n > 1 {
				x[3], x[4], x[5] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
			}
			for name, f := range map[string]func(*Set, *Lanes){
				"BitRow":       (*Set).BitRow,
				"BitGrad":      func(s *Set, l *Lanes) { s.BitGrad(l, false) },
				"BitGrad flat": func(s *Set, l *Lanes) { s.BitGrad(l, true) },
			} {
				var got [2][]float32
				for i, set := range []*Set{portable, s} {
					y, sums := make([]float32, n*Block+1), floats(rand.New(rand.NewPCG(5, 5)), 2*16*Block)
					f(set, &Lanes{N: n, X: at(x), D: at(d), Y: at(y), Params: unsafe.Pointer(&p), Sums: at(sums), At: 64 * 13})
					got[i] = append(y, sums...)
				}
				sameBits(t, fmt.Sprintf("%s %s n=%d", s.Name, name, n), got[1], got[0])
			}
		}
	}
}

// TestWinoGrad checks, in portable Go, that the transforms give the gradient of a kernel, and that
// every other set gives the same bits.
func TestWinoGrad(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const tiles, width = 3, 4*3 + 2
	for trial := range 20 {
		x, e := floats(r, 6*width*Block), floats(r, 4*width*Block)
		step := 64 * (tiles + trial%2)
		in := &WinoIn{X: at(x), Row: 64 * width, Tiles: tiles, Step: step}
		v := make([]float32, WinoResults*(tiles+1)*Block)
		in.V = at(v)
		Portable.WinoIn(in)
		var first []float32
		for _, s := range All() {
			d := make([]float32, len(v))
			s.WinoGrad(&WinoIn{X: at(e), V: at(d), Row: 64 * width, Tiles: tiles, Step: step})
			if first == nil {
				first = d
			}
			sameBits(t, s.Name, d, first)
		}
		for l := range Block { // input channel l and output channel 15 − l
			var m [WinoResults]float32
			for i := range m {
				for n := range tiles {
					m[i] += v[i*step/4+n*Block+l] * first[i*step/4+n*Block+Block-1-l]
				}
			}
			var g [9]float32
			WinoKernelGrad(g[:], &m)
			for k, got := range g {
				want := 0.0
				for i := range 4 {
					for j := range 4 * tiles {
						want += float64(e[(i*width+j)*Block+Block-1-l]) * float64(x[((i+k/3)*width+j+k%3)*Block+l])
					}
				}
				if d := math.Abs(float64(got) - want); d > 2e-4 {
					t.Fatalf("trial %d, channel %d: %v for tap %d, want %v", trial, l, got, k, want)
				}
			}
		}
	}
}
