package simd

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// randomTile returns a tile over random memory, and its output.
func randomTile(r *rand.Rand, blocks, pixels, k int) (*Tile, []float32) {
	x, w := floats(r, 4096), floats(r, blocks*k*Block+1)
	dist := 4 * (1 + r.IntN(40))
	off, at := make([]int, k+1), 0
	for i := range k {
		next := 4 * r.IntN(4096-pixels*dist/4-Block)
		off[i], at = next-at, next
	}
	pixel := Block + r.IntN(3)
	y := floats(r, blocks*(pixels*pixel+5))
	param := func() unsafe.Pointer { return unsafe.Pointer(&floats(r, blocks*Block)[0]) }
	return &Tile{
		X: unsafe.Pointer(&x[0]), W: unsafe.Pointer(&w[0]), Y: unsafe.Pointer(&y[0]), Off: &off[0], K: k,
		Dist: dist, WBlock: 4 * k * Block, YBlock: 4 * (pixels*pixel + 5), YDist: 4 * pixel, Flags: r.IntN(32),
		Bias: param(), Mean: param(), Scale: param(), Shift: param(),
		Add: unsafe.Pointer(&floats(r, len(y)+40)[0]), AddBlock: 4 * (pixels*pixel + 9), AddDist: 4*pixel - 4,
		Lo: -2, Hi: 1.5,
	}, y
}

func TestConvTiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All()[1:] {
		for blocks := 1; s.ConvPixels(blocks) > 0; blocks++ {
			for pixels := 1; pixels <= s.ConvPixels(blocks); pixels++ {
				for _, k := range []int{0, 1, 2, 9, 40, 27, 16} {
					for _, depthwise := range []bool{false, true} {
						if depthwise && blocks > 1 {
							continue
						}
						tile, y := randomTile(r, blocks, pixels, k)
						start := append([]float32(nil), y...)
						tile.run(blocks, pixels, depthwise)
						want := append([]float32(nil), y...)
						copy(y, start)
						if depthwise {
							s.Depthwise(pixels, tile)
						} else {
							s.Conv(blocks, pixels, tile)
						}
						sameBits(t, fmt.Sprintf("%s %dx%d k=%d flags %b depthwise %v", s.Name, blocks, pixels, k, tile.Flags, depthwise), y, want)
					}
				}
			}
		}
	}
}

// BenchmarkConvTile measures tiles, and beside them the peak: fused multiply-adds on registers alone.
func BenchmarkConvTile(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range All()[1:] {
		b.Run(s.Name+"/peak", func(b *testing.B) {
			start := time.Now()
			flops := 0.0
			for b.Loop() {
				flops += float64(s.Peak(1000))
			}
			b.ReportMetric(flops/time.Since(start).Seconds()/1e9, "GFLOP/s")
		})
		for blocks := 1; s.ConvPixels(blocks) > 0; blocks++ {
			for _, pixels := range []int{s.ConvPixels(blocks), s.ConvPixels(blocks) / 2} {
				const k = 16 * 9
				x, w, y := floats(r, 3*(pixels+2)*Block), floats(r, blocks*k*Block), floats(r, blocks*pixels*Block)
				off := make([]int, k)
				at := 0
				for c := range Block {
					for i := range 3 {
						for j := range 3 {
							next := 4 * ((i*(pixels+2)+j)*Block + c)
							off[c*9+i*3+j], at = next-at, next
						}
					}
				}
				t := &Tile{X: unsafe.Pointer(&x[0]), W: unsafe.Pointer(&w[0]), Y: unsafe.Pointer(&y[0]), Off: &off[0], K: k,
					Dist: 64, WBlock: 64 * k, YBlock: 64 * pixels, YDist: 64}
				b.Run(fmt.Sprintf("%s/%dx%d", s.Name, blocks, pixels), func(b *testing.B) {
					start := time.Now()
					for b.Loop() {
						s.Conv(blocks, pixels, t)
					}
					b.ReportMetric(2*float64(k*blocks*pixels*Block)*float64(b.N)/time.Since(start).Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	}
}

func TestGather(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for trial := range 200 {
		n, sources := 1+r.IntN(20), 1+r.IntN(GatherSources)
		y := floats(r, n*20)
		g := &Gather{Y: unsafe.Pointer(&y[0]), YDist: 4 * (16 + r.IntN(4)), N: n, More: r.IntN(2)}
		for i := range sources {
			dist := 16 * (1 + r.IntN(2))
			g.From[i] = GatherSource{X: unsafe.Pointer(&floats(r, n*dist)[0]), Dist: 4 * dist, Index: new([16]int32)}
		}
		for l := range 16 {
			if s := &g.From[r.IntN(sources)]; r.IntN(8) > 0 {
				s.Mask |= 1 << l
				s.Index[l] = int32(r.IntN(16))
			}
		}
		start := append([]float32(nil), y...)
		Portable.Gather(sources, g)
		want := append([]float32(nil), y...)
		for _, s := range All()[1:] {
			copy(y, start)
			s.Gather(sources, g)
			sameBits(t, fmt.Sprint(s.Name, " trial ", trial), y, want)
		}
	}
}
