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
