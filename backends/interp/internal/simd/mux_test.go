package simd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// randomMux returns a piece over random memory, and its output.
func randomMux(r *rand.Rand, vectors, lanes, most int) (*Mux, []float32) {
	x, outs := floats(r, 4096), 1+r.IntN(5)
	var taps []MuxTap
	counts := make([]int32, outs)
	for o := range counts {
		counts[o] = int32(r.IntN(most))
		for range counts[o] {
			taps = append(taps, MuxTap{int32(4 * r.IntN(2048)), float32(r.NormFloat64())})
		}
	}
	taps = append(taps, MuxTap{})
	plane := vectors*(lanes+3) + 5
	y := floats(r, outs*plane)
	param := func() unsafe.Pointer { return unsafe.Pointer(&floats(r, outs)[0]) }
	m := &Mux{Taps: unsafe.Pointer(&taps[0]), Counts: unsafe.Pointer(&counts[0]), Outs: outs,
		Y: unsafe.Pointer(&y[0]), YStep: 4 * plane, Flags: r.IntN(32),
		Bias: param(), Mean: param(), Scale: param(), Shift: param(),
		Add: unsafe.Pointer(&floats(r, len(y)+outs)[0]), AddStep: 4 * (plane + 1), Lo: -2, Hi: 1.5}
	for v := range vectors {
		m.X[v] = unsafe.Pointer(&x[r.IntN(2000)])
		m.YAt[v], m.AddAt[v] = 4*v*(lanes+3), 4*v*lanes
	}
	if r.IntN(3) == 0 {
		m.First(1 + r.IntN(lanes-1))
	}
	return m, y
}

func TestMux(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All() {
		for _, half := range []bool{false, true} {
			lanes := s.Lanes
			if half {
				lanes = 8
			}
			for vectors := 1; vectors <= MuxVectors; vectors++ {
				for i := range 40 {
					m, y := randomMux(r, vectors, lanes, 1+i)
					start := slices.Clone(y)
					again := *m
					m.run(vectors, lanes)
					want := slices.Clone(y)
					copy(y, start)
					s.Mux(vectors, half, &again)
					sameBits(t, fmt.Sprintf("%s %d vectors of %d, flags %b", s.Name, vectors, lanes, again.Flags), y, want)
				}
			}
		}
	}
}

// BenchmarkMux measures 24 input channels of rows of 32 pixels, one tap of 3×3 for each.
func BenchmarkMux(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	const channels, outs, pitch = 24, 16, 48
	for _, s := range All()[1:] {
		for _, half := range []bool{false, true} {
			lanes := s.Lanes
			if half {
				if lanes == 8 {
					continue
				}
				lanes = 8
			}
			for _, vectors := range []int{1, 2, 4, 6, 8} {
				rows := (vectors*lanes+31)/32 + 2
				x, y := floats(r, channels*rows*pitch+64), floats(r, outs*vectors*lanes)
				var taps []MuxTap
				for range outs {
					for c := range channels {
						taps = append(taps, MuxTap{int32(4 * (c*rows*pitch + r.IntN(3)*pitch + r.IntN(3))), 0.5})
					}
				}
				counts := slices.Repeat([]int32{channels}, outs)
				m := Mux{Taps: unsafe.Pointer(&taps[0]), Counts: unsafe.Pointer(&counts[0]), Outs: outs, Y: unsafe.Pointer(&y[0]), YStep: 4 * vectors * lanes}
				for v := range vectors {
					p := v * lanes
					m.X[v], m.YAt[v] = unsafe.Pointer(&x[p/32*pitch+p%32+15]), 4*p
				}
				b.Run(fmt.Sprintf("%s/%dx%d", s.Name, vectors, lanes), func(b *testing.B) {
					start := time.Now()
					for b.Loop() {
						again := m
						s.Mux(vectors, half, &again)
					}
					b.ReportMetric(2*float64(len(taps)*vectors*lanes)*float64(b.N)/time.Since(start).Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}
