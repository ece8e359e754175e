package interp

import (
	"fmt"
	"testing"

	"github.com/thriftc/thriftc/ir"
)

func TestConvTranspose(t *testing.T) {
	for seed := range uint64(150) {
		b := newBuilder(t, seed)
		r := b.rand
		kh, kw := 1+r.IntN(4), 1+r.IntN(4)
		ic, oc, group := 1+r.IntN(40), 1+r.IntN(40), 1
		switch r.IntN(4) {
		case 0: // depthwise
			group, oc = ic, 1
		case 1:
			group = 1 + r.IntN(4)
			ic = group * (1 + r.IntN(20))
			if oc = 1 + r.IntN(20); oc > 14 { // a block
				oc = 16
			}
		}
		stride, dilation := []int{1 + r.IntN(3), 1 + r.IntN(3)}, []int{1, 1}
		if r.IntN(4) == 0 {
			stride[0], dilation[0] = 1, 2
		}
		attrs := []any{"strides", stride, "dilations", dilation, "group", group, "output_padding", []int{r.IntN(stride[0]), r.IntN(stride[1])}}
		if r.IntN(3) > 0 {
			attrs = append(attrs, "pads", []int{r.IntN(kh), r.IntN(kw), r.IntN(kh), r.IntN(kw)})
		}
		x := b.data(r.IntN(3), ic, 4+r.IntN(9), 4+r.IntN(9))
		in := []*ir.Value{x, b.weights(ic, oc, kh, kw)}
		if r.IntN(4) == 0 {
			in[1] = b.data(ic, oc, kh, kw)
		}
		if r.IntN(2) == 0 {
			in = append(in, b.weights(oc*group))
		}
		v := b.node("ConvTranspose", in, attrs...)
		if s, _ := v.Type.Static(); s[2] < 1 || s[3] < 1 {
			continue
		}
		b.check(fmt.Sprint("conv transpose ", seed, attrs), b.after(v), 0)
	}
	b := newBuilder(t, 1)
	v := b.node("ConvTranspose", []*ir.Value{b.data(2, 5, 9), b.weights(5, 7, 4)}, "strides", []int{2}, "pads", []int{1, 0})
	b.check("one dimension", v, 0)
	b = newBuilder(t, 1)
	v = b.node("ConvTranspose", []*ir.Value{b.data(1, 4, 5, 5), b.weights(4, 3, 2, 2)}, "dilations", []int{2, 1}, "strides", []int{2, 2})
	b.check("strides and dilation", v, 1)
}
