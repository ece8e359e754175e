package interp

import (
	"fmt"
	"testing"

	"thriftc/ir"
	"thriftc/ir/tensor"
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
