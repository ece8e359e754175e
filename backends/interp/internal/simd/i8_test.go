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

func randomBytes(r *rand.Rand, n int) []uint8 {
	out := make([]uint8, n)
	for i := range out {
		out[i] = uint8(r.Uint32())
		if r.IntN(8) == 0 {
			out[i] = 255 * uint8(r.IntN(2))
		}
	}
	return out
}

// randomByteTile returns a tile over random memory, and its output.
func randomByteTile(r *rand.Rand, blocks, pixels, k, flags, weights int) (*Tile, []uint8) {
	x, w := randomBytes(r, 4096), randomBytes(r, blocks*k*weights+1)
	dist := 4 * (1 + r.IntN(40))
	off, at := make([]int, k+1), 0
	for i := range k {
		next := r.IntN(4096 - pixels*dist - 64)
		off[i], at = next-at, next
	}
	size := 16
	if flags&Sums != 0 {
		size = 64
	}
	pixel := size + r.IntN(2)*r.IntN(3)
	y := make([]uint8, blocks*(pixels*pixel+5)+64)
	earlier := make([]int32, pixels*Block)
	for i := range earlier {
		earlier[i] = int32(r.IntN(20000) - 10000)
	}
	bias, mult := make([]int32, blocks*Block), make([]float32, blocks*Block)
	for i := range bias {
		bias[i], mult[i] = int32(r.IntN(20000)-10000), float32(r.Float64()/500)
		if r.IntN(2) == 0 {
			mult[i] = 1.0 / 512 // ties
		}
	}
	zero := r.IntN(256)
	return &Tile{
		X: unsafe.Pointer(&x[0]), W: unsafe.Pointer(&w[0]), Y: unsafe.Pointer(&y[0]), Off: &off[0], K: k,
		Dist: dist, WBlock: k * weights, YBlock: pixels*pixel + 5, YDist: pixel, Flags: flags,
		Bias: unsafe.Pointer(&bias[0]), Add: unsafe.Pointer(&earlier[0]), Scale: unsafe.Pointer(&mult[0]),
		Zero: int32(zero) - RoundingBits, Range: [2]uint8{uint8(r.IntN(50)), uint8(255 - r.IntN(50))},
	}, y
}

func TestByteTiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	check := func(s *Set, name string, blocks, pixels int, form byteForm, f func(*Tile)) {
		for _, k := range []int{0, 1, 2, 9, 40} {
			for _, flags := range []int{0, Sums, Add, Add | Sums} {
				if flags&Add != 0 && (!s.ByteWords() || form == byteMax) {
					continue
				}
				if flags == 0 && s.ByteSums() && form != byteMax {
					continue
				}
				weights := 64
				if form == bytePairs {
					weights = 128
				}
				tile, y := randomByteTile(r, blocks, pixels, k, flags, weights)
				if form == bytePairs {
					tile.Dist = 16
				}
				tile.runBytes(blocks, pixels, form)
				want := slices.Clone(y)
				clear(y)
				if s.ByteWords() && form != byteMax {
					wide := make([]int16, blocks*k*weights+1)
					for i := range wide {
						wide[i] = int16(*(*int8)(unsafe.Add(tile.W, i)))
					}
					tile.W, tile.WBlock = unsafe.Pointer(&wide[0]), 2*tile.WBlock
				}
				f(tile)
				if !slices.Equal(y, want) {
					t.Errorf("%s %s %dx%d k=%d flags %d:\n%v\n%v", s.Name, name, blocks, pixels, k, flags, y, want)
				}
			}
		}
	}
	for _, s := range All()[1:] {
		for pixels := 1; pixels <= 8; pixels++ {
			check(s, "greatest", 1, pixels, byteMax, func(t *Tile) {
				if t.K > 0 {
					s.BytesMax(pixels, t)
				}
			})
		}
		for blocks := 1; s.BytePixels(blocks) > 0; blocks++ {
			for pixels := 1; pixels <= s.BytePixels(blocks); pixels++ {
				check(s, "dense", blocks, pixels, byteDense, func(t *Tile) { s.Bytes(blocks, pixels, t) })
			}
		}
		single, paired := s.ByteDepthwisePixels()
		for pixels := 1; pixels <= single; pixels++ {
			check(s, "depthwise", 1, pixels, byteDepthwise, func(t *Tile) { s.BytesDepthwise(pixels, t) })
		}
		for pixels := 2; pixels <= paired; pixels += 2 {
			check(s, "pairs", 1, pixels, bytePairs, func(t *Tile) { s.BytesPairs(pixels, t) })
		}
	}
}

// Sums up to 2²⁴, and multipliers that throw the result far out of range, keep the rounding right.
func TestByteRounding(t *testing.T) {
	for _, s := range All() {
		sums := []int32{1 << 24, -1 << 24, 1<<24 - 1, 1, -1, 3, -3, 5, 0, 2, 7, -7, 1000, -1000, 12345, -12345}
		for _, m := range []float32{0.5, 1, 0.25, 1e-3, 100, 1e30, 1.0 / 65536, 3e-39} {
			mult := make([]float32, Block)
			for i := range mult {
				mult[i] = m
			}
			p := &ByteRow{Mult: unsafe.Pointer(&mult[0])}
			p.Limit(-100, 155, 100)
			for _, wide := range []bool{false, true} {
				got := make([]uint8, Block)
				s.Requantise(got, sums, p, wide)
				for i, a := range sums {
					want := uint8(max(-100, min(155, math.RoundToEven(float64(a)*float64(m)))) + 100)
					if got[i] != want {
						t.Errorf("%s wide %v: %d · %v gives %d, expected %d", s.Name, wide, a, m, got[i], want)
					}
				}
			}
		}
	}
}

func TestByteRows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, s := range All()[1:] {
		for range 50 {
			n := r.IntN(200)
			a, b := randomBytes(r, n), randomBytes(r, n)
			x := floats(r, n)
			for i := range x {
				x[i] *= 20
				if r.IntN(20) == 0 {
					x[i] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0.25, 0.75}[r.IntN(5)]
				}
			}
			sums := make([]int32, n&^15)
			for i := range sums {
				sums[i] = int32(r.Uint32()) >> (3 + r.IntN(20))
			}
			mult := make([]float32, Block)
			for i := range mult {
				mult[i] = float32(math.Ldexp(1+r.Float64(), -r.IntN(20)))
			}
			zero := r.IntN(256)
			p := &ByteRow{Mult: unsafe.Pointer(&mult[0]), Scale: 0.5,
				Factors: [2]int32{int32(r.IntN(1 << 21)), -int32(r.IntN(1 << 21))}, Shift: int64(1 + r.IntN(21))}
			p.Limit(-int64(zero), int64(200-min(zero, 200)), int64(zero))
			p.Half, p.Sum = 1<<(p.Shift-1)-1, int32(r.IntN(1<<20))
			table := [256]uint8(randomBytes(r, 256))
			run := func(s *Set) []any {
				u := func() []uint8 { return make([]uint8, n) }
				f := func(n int) []float32 { return make([]float32, n) }
				var total [Block]int32
				out := []any{u()[:len(sums)], u()[:len(sums)], f(len(sums)), u(), u(), f(n), u(), u(), u(), &total}
				s.Requantise(out[0].([]uint8), sums, p, true)
				small := slices.Clone(sums)
				for i := range small {
					small[i] >>= 8
				}
				s.Requantise(out[1].([]uint8), small, p, false)
				s.SumsToFloats(out[2].([]float32), sums, p)
				s.Quantise(out[3].([]uint8), x, p)
				c := n / 4
				s.Quantise4(out[4].([]uint8)[:4*c], &[4][]float32{x[:c], x[c : 2*c], x[2*c : 3*c], x[3*c : 4*c]}, p)
				s.Dequantise(out[5].([]float32), a, p)
				s.AddBytes(out[6].([]uint8), a, b, p)
				s.MaxBytes(out[7].([]uint8), a, b)
				s.LookupBytes(out[8].([]uint8), a, &table)
				s.SumBytes(&total, a[:n&^15])
				return out
			}
			got, want := run(s), run(Portable)
			for i := range got {
				if g, w := fmt.Sprint(got[i]), fmt.Sprint(want[i]); g != w {
					t.Fatalf("%s: kernel %d on %d elements:\n%s\n%s", s.Name, i, n, g, w)
				}
			}
		}
	}
}

// BenchmarkByteTile measures tiles of bytes, requantisation included, and beside them the peak: products on registers alone.
func BenchmarkByteTile(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All()[1:] {
		b.Run(s.Name+"/peak", func(b *testing.B) {
			start := time.Now()
			macs := 0.0
			for b.Loop() {
				macs += float64(s.BytePeak(1000))
			}
			b.ReportMetric(macs/time.Since(start).Seconds()/1e9, "GMAC/s")
		})
		flags := 0
		if s.ByteSums() {
			flags = Sums
		}
		for blocks := 1; s.BytePixels(blocks) > 0; blocks++ {
			for _, k := range []int{8, 36, 144} {
				pixels := s.BytePixels(blocks)
				tile, _ := randomByteTile(r, blocks, pixels, k, flags, 128) // room for words
				off := make([]int, k)
				x := randomBytes(r, 64*1024)
				for i := range off {
					off[i] = 4
				}
				tile.X, tile.Off, tile.Dist = unsafe.Pointer(&x[0]), &off[0], 16
				b.Run(fmt.Sprintf("%s/%dx%d/k%d", s.Name, blocks, pixels, k), func(b *testing.B) {
					start := time.Now()
					for b.Loop() {
						s.Bytes(blocks, pixels, tile)
					}
					b.ReportMetric(64*float64(k*blocks*pixels)*float64(b.N)/time.Since(start).Seconds()/1e9, "GMAC/s")
				})
			}
		}
		single, paired := s.ByteDepthwisePixels()
		for pixels, f := range map[int]func(*Tile){single: func(t *Tile) { s.BytesDepthwise(single, t) }, paired: func(t *Tile) { s.BytesPairs(paired, t) }} {
			if pixels == 0 {
				continue
			}
			tile, _ := randomByteTile(r, 1, pixels, 3, flags, 256)
			tile.Dist = 16
			b.Run(fmt.Sprintf("%s/depthwise3x3x%d", s.Name, pixels), func(b *testing.B) {
				start := time.Now()
				for b.Loop() {
					f(tile)
				}
				b.ReportMetric(9*16*float64(pixels)*float64(b.N)/time.Since(start).Seconds()/1e9, "GMAC/s")
			})
		}
	}
}
