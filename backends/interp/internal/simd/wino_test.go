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

// TestWinoTransforms checks, in portable Go, that the transforms give a
// convolution, and that every other set gives the same bits.
func TestWinoTransforms(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const tiles = 3
	width := 4*tiles + 2
	for trial := range 96 {
		x, g := floats(r, 6*width*Block), floats(r, 9)
		in := &WinoIn{X: unsafe.Pointer(&x[0]), Row: 64 * width, Tiles: tiles, Step: 64 * (tiles + trial%2)}
		var first, outFirst []float32
		for _, s := range All() {
			v := make([]float32, WinoResults*(tiles+1)*Block)
			in.V = unsafe.Pointer(&v[0])
			s.WinoIn(in)
			if first == nil {
				first = slices.Clone(v)
			}
			sameBits(t, s.Name+" in", v, first)
			var all [WinoResults][Block]float32
			WinoKernel(&all, Block-1, g)
			for i := range all {
				u := all[i][Block-1]
				for j := range tiles * Block {
					v[i*in.Step/4+j] *= u
				}
			}
			out := &WinoOut{M: in.V, Step: in.Step, Row: 64 * width, Tiles: tiles, Rows: 1 + trial%4, Cols: 1 + trial/4%4, Flags: trial / 3 & (Bias | Norm | Add | Clamp)}
			out.Lo, out.Hi = -1, 1.5
			p, add := floats(rand.New(rand.NewPCG(3, 4)), 4*Block), floats(rand.New(rand.NewPCG(5, 6)), 6*width*Block)
			out.Bias, out.Mean, out.Scale, out.Shift = unsafe.Pointer(&p[0]), unsafe.Pointer(&p[16]), unsafe.Pointer(&p[32]), unsafe.Pointer(&p[48])
			out.Add, out.AddRow = unsafe.Pointer(&add[0]), 64*(width-1)
			y := slices.Repeat([]float32{7}, 6*width*Block)
			out.Y = unsafe.Pointer(&y[0])
			s.WinoOut(out)
			if outFirst == nil {
				outFirst = y
			}
			sameBits(t, fmt.Sprint(s.Name, " out ", out.Rows, out.Cols, out.Flags), y, outFirst)
			if out.Flags != 0 {
				continue
			}
			for i := range 4 {
				for j := range 4 * tiles {
					for l := range Block {
						got := float64(y[(i*width+j)*Block+l])
						if i >= out.Rows || j >= 4*(tiles-1)+out.Cols {
							if got != 7 {
								t.Fatalf("%s: an output that is not asked for was written", s.Name)
							}
							continue
						}
						want := 0.0
						for k, w := range g {
							want += float64(w) * float64(x[((i+k/3)*width+j+k%3)*Block+l])
						}
						if math.Abs(got-want) > 1e-5*9 {
							t.Fatalf("%s: output %d, %d is %v, want %v", s.Name, i, j, got, want)
						}
					}
				}
			}
		}
	}
}

func BenchmarkWinoTransforms(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	const tiles = 8
	x, v := floats(r, 6*(4*tiles+2)*Block), floats(r, WinoResults*tiles*Block)
	in := &WinoIn{X: unsafe.Pointer(&x[0]), V: unsafe.Pointer(&v[0]), Row: 64 * (4*tiles + 2), Tiles: tiles, Step: 64 * tiles}
	out := &WinoOut{M: in.V, Y: in.X, Step: in.Step, Row: in.Row, Tiles: tiles, Rows: 4, Cols: 4}
	for _, s := range All()[1:] {
		for name, f := range map[string]func(){"in": func() { s.WinoIn(in) }, "out": func() { s.WinoOut(out) }} {
			b.Run(s.Name+"/"+name, func(b *testing.B) {
				start := time.Now()
				for b.Loop() {
					f()
				}
				b.ReportMetric(float64(time.Since(start).Nanoseconds())/float64(b.N)/tiles, "ns/tile")
			})
		}
	}
}
