package interp

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"thriftc/backends/interp/simd"
	"thriftc/ir/f32"
	"thriftc/ir/tensor"
)

func normals(r *rand.Rand, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.F32, shape...)
	for i := range tensor.Data[float32](t) {
		tensor.Data[float32](t)[i] = float32(r.NormFloat64())
	}
	return t
}

// plainConv is a convolution by its definition.
func plainConv(w *window, x, k []float32) []float32 {
	icg, ocg := w.ic/w.groups, w.oc/w.groups
	var out []float32
	for n := range w.n {
		for oc := range w.oc {
			for y := range w.oh {
				for x0 := range w.ow {
					var acc float32
					for c := range icg {
						for i := range w.kh {
							for j := range w.kw {
								iy, ix := y*w.sh+i*w.dh-w.top, x0*w.sw+j*w.dw-w.left
								var v float32
								if iy >= 0 && iy < w.ih && ix >= 0 && ix < w.iw {
									v = x[((n*w.ic+oc/ocg*icg+c)*w.ih+iy)*w.iw+ix]
								}
								acc = f32.FMA(k[((oc*icg+c)*w.kh+i)*w.kw+j], v, acc)
							}
						}
					}
					out = append(out, acc)
				}
			}
		}
	}
	return out
}

func randomWindow(r *rand.Rand) window {
	w := window{
		n: r.IntN(4), ih: 1 + r.IntN(20), iw: 1 + r.IntN(40),
		kh: 1 + r.IntN(4), kw: 1 + r.IntN(4), sh: 1 + r.IntN(3), sw: 1 + r.IntN(3),
		dh: 1 + r.IntN(2), dw: 1 + r.IntN(3), top: r.IntN(3), left: r.IntN(3), groups: 1,
	}
	w.ic, w.oc = 1+r.IntN(5), 1+r.IntN(20)
	switch r.IntN(4) {
	case 0:
		w.groups = 1 + r.IntN(3)
		w.ic, w.oc = w.ic*w.groups, w.oc*w.groups
	case 1: // depthwise
		w.groups = 1 + r.IntN(20)
		w.ic, w.oc = w.groups, w.groups*(1+r.IntN(2))
	case 2: // pointwise
		w.kh, w.kw, w.top, w.left = 1, 1, 0, 0
	}
	w.oh = max(0, w.ih+w.top+r.IntN(3)-(w.kh-1)*w.dh-1+w.sh) / w.sh
	w.ow = max(0, w.iw+w.left+r.IntN(3)-(w.kw-1)*w.dw-1+w.sw) / w.sw
	return w
}

func TestConvKernel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	sets := append(simd.All(), &simd.Set{Name: "wide", Lanes: 16, Rows: 8, Vectors: 3})
	for trial := range 300 {
		w := randomWindow(r)
		x := normals(r, w.n, w.ic, w.ih, w.iw)
		k := normals(r, w.oc, w.ic/w.groups, w.kh, w.kw)
		want := plainConv(&w, x.Float32s(), k.Float32s())
		for _, s := range sets {
			threads := 1 + trial%2
			p := newPool(threads)
			weights := packRows(s, k.Float32s(), w.groups, w.oc/w.groups, w.ic/w.groups*w.kh*w.kw)
			out := normals(r, w.n, w.oc, w.oh, w.ow)
			c := &call{ctx: t.Context(), pool: p, scratch: make([][]float32, threads)}
			if err := newConv(s, w, weights, threads, nil).run(c, []*tensor.Tensor{x}, []*tensor.Tensor{out}); err != nil {
				t.Fatalf("%+v: %v", w, err)
			}
			sameBits(t, fmt.Sprintf("%s %+v", s.Name, w), out.Float32s(), want)
			p.close()
		}
	}
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func BenchmarkConv(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct {
		name string
		w    window
	}{
		{"3x3 16 32x32", window{n: 1, ic: 16, ih: 32, iw: 32, oc: 16, oh: 32, ow: 32, kh: 3, kw: 3, top: 1, left: 1}},
		{"3x3 64 8x8", window{n: 1, ic: 64, ih: 8, iw: 8, oc: 64, oh: 8, ow: 8, kh: 3, kw: 3, top: 1, left: 1}},
		{"3x3 64 8x8 batch 32", window{n: 32, ic: 64, ih: 8, iw: 8, oc: 64, oh: 8, ow: 8, kh: 3, kw: 3, top: 1, left: 1}},
		{"3x3 256 14x14", window{n: 1, ic: 256, ih: 14, iw: 14, oc: 256, oh: 14, ow: 14, kh: 3, kw: 3, top: 1, left: 1}},
		{"1x1 192 28x28", window{n: 1, ic: 192, ih: 28, iw: 28, oc: 192, oh: 28, ow: 28, kh: 1, kw: 1}},
		{"1x1 768 7x7", window{n: 1, ic: 768, ih: 7, iw: 7, oc: 768, oh: 7, ow: 7, kh: 1, kw: 1}},
		{"depthwise 96 56x56", window{n: 1, ic: 96, ih: 56, iw: 56, oc: 96, oh: 56, ow: 56, kh: 3, kw: 3, top: 1, left: 1, groups: 96}},
		{"depthwise 384 14x14", window{n: 1, ic: 384, ih: 14, iw: 14, oc: 384, oh: 14, ow: 14, kh: 3, kw: 3, top: 1, left: 1, groups: 384}},
		{"stem 7x7", window{n: 1, ic: 3, ih: 224, iw: 224, oc: 64, oh: 112, ow: 112, kh: 7, kw: 7, sh: 2, sw: 2, top: 3, left: 3}},
	} {
		w := c.w
		w.groups, w.sh, w.sw, w.dh, w.dw = max(1, w.groups), max(1, w.sh), max(1, w.sw), 1, 1
		for _, s := range simd.All()[1:] {
			b.Run(c.name+" "+s.Name, func(b *testing.B) {
				k := normals(r, w.oc, w.ic/w.groups, w.kh, w.kw)
				x, y := normals(r, w.n, w.ic, w.ih, w.iw), normals(r, w.n, w.oc, w.oh, w.ow)
				p := newPool(1)
				defer p.close()
				v := newConv(s, w, packRows(s, k.Float32s(), w.groups, w.oc/w.groups, w.ic/w.groups*w.kh*w.kw), 1, nil)
				cl := &call{ctx: context.Background(), pool: p, scratch: make([][]float32, 1)}
				for b.Loop() {
					if err := v.run(cl, []*tensor.Tensor{x}, []*tensor.Tensor{y}); err != nil {
						b.Fatal(err)
					}
				}
				flops := 2 * float64(y.Len()) * float64(w.ic/w.groups*w.kh*w.kw)
				b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
