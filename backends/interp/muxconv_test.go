package interp

import (
	"fmt"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// places adds a constant of positions among so many taps.
func (b *builder) places(taps int, shape ...int) *ir.Value {
	n, _ := tensor.NumElems(shape)
	p := make([]uint8, n)
	for i := range p {
		p[i] = uint8(b.rand.IntN(taps))
	}
	return b.Const("p", tensor.Of(p, shape...))
}

// muxes runs convolutions of one weight per slice of random shapes.
func muxes(t *testing.T, seeds int) {
	for seed := range uint64(seeds) {
		b := newBuilder(t, seed)
		r := b.rand
		kh, kw := 1+r.IntN(4), 1+r.IntN(4)
		group := []int{1, 1, 1, 2, 3}[r.IntN(5)]
		ic, oc := group*(1+r.IntN(5)), group*(1+r.IntN(12))
		if r.IntN(8) == 0 {
			ic, oc = group*30, group*(20+r.IntN(20))
		}
		attrs := append(spatial(r, kh, kw), "group", group, "kernel_shape", []int{kh, kw})
		w := normals(r, oc, ic/group)
		for i := range tensor.Data[float32](w) {
			if r.IntN(5) == 0 {
				tensor.Data[float32](w)[i] = 0
			}
		}
		wide := 8 + r.IntN(20)
		if r.IntN(6) == 0 {
			wide = 8 + r.IntN(150)
		}
		in := []*ir.Value{b.data(r.IntN(4), ic, 8+r.IntN(12), wide), b.Const("w", w), b.places(kh*kw, oc, ic/group)}
		if r.IntN(2) == 0 {
			in = append(in, b.weights(oc))
		}
		v := b.after(b.node("thriftc.MuxConv", in, attrs...))
		if r.IntN(2) == 0 { // another reads it with a halo
			s, _ := v.Type.Static()
			v = b.node("thriftc.MuxConv", []*ir.Value{v, b.weights(4, s[1]), b.places(9, 4, s[1])}, "kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1})
			v = b.after(v)
		}
		b.check(fmt.Sprint("mux ", seed, attrs), v, 0)
	}
}

func TestMuxConv(t *testing.T) { muxes(t, 300) }

// mux adds a QMuxConv of x.
func (b *byteBuilder) mux(x *ir.Value) *ir.Value {
	r, s := b.rand, staticShape(x)
	c, group := s[1], 1
	if r.IntN(6) == 0 {
		for group = 1 + r.IntN(3); c%group > 0; group-- {
		}
	}
	oc := group * (1 + r.IntN(40))
	we := []tensor.Elem{tensor.I8, tensor.I8, tensor.I4, tensor.Int(2), tensor.Uint(5), tensor.U8}[r.IntN(6)]
	lo, hi := we.Range()
	kh, kw := 1+r.IntN(3), 1+r.IntN(4)
	attrs := spatial(r, kh, kw)
	if s[2] <= kh*2 || s[3] <= kw*2 || r.IntN(2) == 0 {
		kh, kw = 3, 3
		attrs = []any{"pads", []int{1, 1, 1, 1}}
	}
	attrs = append(attrs, "group", group, "kernel_shape", []int{kh, kw})
	in := []*ir.Value{x, b.ints(we, lo, hi, oc, c/group), b.places(kh*kw, oc, c/group), b.zeroOf(x), nil}
	if r.IntN(3) > 0 {
		size := int64(1) << []int{10, 10, 10, 24, 30}[r.IntN(5)]
		in[4] = b.ints(tensor.I32, -size, size, oc)
		if r.IntN(4) == 0 {
			attrs = append(attrs, "bias_shift", 1+r.IntN(4))
		}
	}
	return b.result("thriftc.QMuxConv", append(in, b.multiplier(float64(c/group)*5000, []int{1, oc}[r.IntN(2)])), attrs...)
}

// TestQMuxConv: bytes with one weight per slice, before and after other integer operators.
func TestQMuxConv(t *testing.T) {
	for seed := range uint64(300) {
		b := &byteBuilder{newBuilder(t, seed), map[*ir.Value]int64{}}
		r := b.rand
		zp, z := b.zero(b.byteType())
		x := b.data(r.IntN(3), 1+r.IntN(40), 3+r.IntN(20), 3+r.IntN(40))
		scale := b.Float("s", 0.02)
		v := b.node("QuantizeLinear", []*ir.Value{x, scale, zp})
		b.zeros[v] = z
		if r.IntN(2) == 0 {
			v = b.step(v)
		}
		for range 1 + r.IntN(2) {
			if s := staticShape(v); len(s) == 4 && s[2] > 2 && s[3] > 2 {
				v = b.mux(v)
			}
		}
		if r.IntN(2) == 0 {
			v = b.step(v)
		}
		b.check(fmt.Sprint("qmux ", seed), b.node("DequantizeLinear", []*ir.Value{v, scale, b.zeroOf(v)}), 0)
	}
}

// TestShift: a shift alone and before a convolution of 1×1, which takes it in.
func TestShift(t *testing.T) {
	for seed := range uint64(200) {
		b := newBuilder(t, seed)
		r := b.rand
		kh, kw := 1+r.IntN(4), 1+r.IntN(4)
		c := 1 + r.IntN(40)
		x := b.data(1+r.IntN(3), c, 8+r.IntN(12), 8+r.IntN(20))
		if r.IntN(2) == 0 {
			x = b.node("Conv", []*ir.Value{x, b.weights(c, c, 1, 1)}) // in blocks
		}
		v := b.node("thriftc.Shift", []*ir.Value{x, b.places(kh*kw, c)}, append(spatial(r, kh, kw), "kernel_shape", []int{kh, kw})...)
		steps := 1
		if seed%2 == 0 {
			in := []*ir.Value{v, b.weights(1+r.IntN(40), c, 1, 1)}
			if r.IntN(2) == 0 {
				in = append(in, b.weights(staticShape(in[1])[0]))
			}
			v = b.node("Conv", in, "strides", []int{1 + r.IntN(2), 1 + r.IntN(2)})
			steps = r.IntN(2)
		}
		if steps == 1 {
			v = b.after(v)
		}
		b.check(fmt.Sprint("shift ", seed), v, 0)
	}
}

// TestSkippedTaps: convolutions whose weights are zero in blocks of output
// channels, and for whole input channels.
func TestSkippedTaps(t *testing.T) {
	for seed := range uint64(100) {
		b := newBuilder(t, seed)
		r := b.rand
		ic, oc, kh, kw := 1+r.IntN(20), 1+r.IntN(100), 1+r.IntN(3), 1+r.IntN(3)
		w := normals(r, oc, ic, kh, kw)
		d := tensor.Data[float32](w)
		for block := 0; block < oc; block += 16 {
			for i := range ic * kh * kw {
				if r.IntN(3) > 0 {
					for o := block; o < min(oc, block+16); o++ {
						d[o*ic*kh*kw+i] = 0
					}
				}
			}
		}
		v := b.node("Conv", []*ir.Value{b.data(1+r.IntN(3), ic, 8+r.IntN(12), 8+r.IntN(20)), b.Const("w", w)}, spatial(r, kh, kw)...)
		b.check(fmt.Sprint("skip ", seed), b.after(v), 0)
	}
}

// BenchmarkSkip runs a convolution of which three quarters of the weights are zero, in blocks, and the same without zeros.
func BenchmarkSkip(b *testing.B) {
	for _, zeros := range []bool{false, true} {
		build := newBuilder(b, 1)
		w := normals(build.rand, 64, 64, 3, 3)
		for i := range tensor.Data[float32](w) {
			if zeros && (i/(16*64*9)+i/9%64)%4 > 0 {
				tensor.Data[float32](w)[i] = 0
			}
		}
		v := build.node("Conv", []*ir.Value{build.data(1, 64, 56, 56), build.Const("w", w)}, "pads", []int{1, 1, 1, 1})
		build.Output(v)
		x, err := New().Compile(b.Context(), build.Graph(), backends.Options{Threads: 1, NoWinograd: true})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint("zeros=", zeros), func(b *testing.B) {
			for b.Loop() {
				if _, err := x.Run(b.Context(), build.in); err != nil {
					b.Fatal(err)
				}
			}
		})
		x.Close()
	}
}

// TestMuxAllocates: convolutions of one weight per slice and shifts allocate nothing once they have run.
func TestMuxAllocates(t *testing.T) {
	b := newBuilder(t, 1)
	v := b.node("thriftc.MuxConv", []*ir.Value{b.data(2, 20, 16, 16), b.weights(40, 20), b.places(9, 40, 20)}, "kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1}, "strides", []int{2, 2})
	v = b.node("thriftc.Shift", []*ir.Value{v, b.places(9, 40)}, "kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1})
	v = b.node("Conv", []*ir.Value{v, b.weights(20, 40, 1, 1)})
	bytes := &byteBuilder{b, map[*ir.Value]int64{}}
	scale, zero := b.Float("s", 0.02), b.Const("z", tensor.Scalar(uint8(7)))
	v = b.node("QuantizeLinear", []*ir.Value{v, scale, zero})
	bytes.zeros[v] = 7
	v = bytes.mux(v)
	v = b.node("DequantizeLinear", []*ir.Value{v, scale, bytes.zeroOf(v)})
	b.Output(v)
	for _, threads := range []int{1, 2} {
		x, err := New().Compile(t.Context(), b.Graph(), backends.Options{Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		out, err := x.Run(t.Context(), b.in)
		if err != nil {
			t.Fatal(err)
		}
		run := func() {
			if err := x.RunInto(t.Context(), b.in, out); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 { // until every thread has its memory
			run()
		}
		if n := testing.AllocsPerRun(10, run); n != 0 {
			t.Errorf("%d threads: %v allocations a run", threads, n)
		}
		x.Close()
	}
}
