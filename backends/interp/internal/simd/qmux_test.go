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

// randomQMux returns a piece over random memory, and what it computes.
func randomQMux(r *rand.Rand, patches, pixels, quads, blocks int) (m *QMux, y, want []byte) {
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return b
	}
	x, w := random(64*patches*quads), random(128*quads*blocks)
	bias, scale := make([]int32, 16*blocks), make([]float64, 16*blocks)
	for i := range bias {
		bias[i] = int32(r.IntN(1<<16) - 1<<15)
		scale[i] = float64(float32(r.ExpFloat64() / 512))
	}
	for q := range quads * blocks {
		for i := range 64 {
			w[128*q+i] = byte(r.IntN(11)*4 + i%4) // the last pixel adds 20
		}
	}
	stride := 16*blocks + 3
	y = random(patches * pixels * stride)
	m = &QMux{X: unsafe.Pointer(&x[0]), XStep: 64 * patches, Quads: quads, W: unsafe.Pointer(&w[0]), Blocks: blocks,
		Bias: unsafe.Pointer(&bias[0]), Scale: unsafe.Pointer(&scale[0]), Shift: r.IntN(4), Zero: 3, Least: -3, Most: 200, YStep: 16}
	want = slices.Clone(y)
	for i := range patches * pixels {
		m.Y[i] = unsafe.Pointer(&y[i*stride])
		moved := i % pixels % 2 * 4
		moved += i % pixels / 2 * 16
		for o := range 16 * blocks {
			var acc int32
			for q := range quads {
				for c := range 4 {
					at := 128*(o/16*quads+q) + o%16*4 + c
					acc += int32(x[64*(q*patches+i/pixels)+int(w[at])+moved]) * int32(int8(w[at+64]))
				}
			}
			acc = acc<<m.Shift + bias[o]
			v := math.RoundToEven(float64(acc) * scale[o])
			want[i*stride+o] = byte(int(max(float64(m.Least), min(float64(m.Most), v))) + m.Zero)
		}
	}
	return m, y, want
}

func TestQMux(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All() {
		for _, pixels := range []int{1, 4} {
			if s.QMuxPatches(pixels)*pixels > QMuxPixels {
				t.Fatalf("%d patches of %d pixels", s.QMuxPatches(pixels), pixels)
			}
			for patches := 1; patches <= s.QMuxPatches(pixels); patches++ {
				for range 20 {
					m, y, want := randomQMux(r, patches, pixels, 1+r.IntN(5), 1+r.IntN(3))
					s.QMux(patches, pixels, m)
					if !slices.Equal(y, want) {
						t.Fatalf("%s %d patches of %d: got %v, want %v", s.Name, patches, pixels, y, want)
					}
				}
			}
		}
	}
}

func TestPatches(t *testing.T) {
	for _, s := range All() {
		if s.QMuxPatches(1) == 0 {
			continue
		}
		const n, row, srcStep = 3, 20 * 16, 32
		src := make([]byte, 4*row)
		for i := range src {
			src[i] = byte(i*7 + i>>8)
		}
		got, want := make([]byte, 4*(n+1)*64), make([]byte, 4*(n+1)*64)
		for p := range n {
			for q := range 4 {
				for i := range 64 {
					want[(q*(n+1)+p)*64+i] = src[p*srcStep+i/16*row+i/4%4*16+4*q+i%4]
				}
			}
		}
		s.Patches(n, unsafe.Pointer(&got[0]), (n+1)*64, unsafe.Pointer(&src[0]), srcStep, row)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", s.Name, got, want)
		}
	}
}

// BenchmarkQMux counts the products that are left, and for Patches bytes of the input.
func BenchmarkQMux(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All() {
		for _, pixels := range []int{1, 4} {
			if s.QMuxPatches(pixels) == 0 {
				continue
			}
			for _, patches := range []int{s.QMuxPatches(pixels), s.QMuxPatches(pixels) / 2} {
				const quads, blocks = 8, 2
				m, _, _ := randomQMux(r, patches, pixels, quads, blocks)
				b.Run(fmt.Sprintf("%s/%dx%d", s.Name, patches, pixels), func(b *testing.B) {
					start := time.Now()
					for b.Loop() {
						s.QMux(patches, pixels, m)
					}
					b.ReportMetric(2*float64(64*quads*blocks*patches*pixels)*float64(b.N)/time.Since(start).Seconds()/1e9, "GOP/s")
				})
			}
		}
	}
}
