package interp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestOperandLayouts: what follows a kernel reads a value that lies as others want it.
// Every kernel that stages may follow meets an operand that a convolution pads, that a
// convolution with one weight per slice pads, and that is a part of a larger value.
func TestOperandLayouts(t *testing.T) {
	pads := []int{1, 1, 1, 1}
	kernels := []struct {
		name string
		make func(b *builder, x *ir.Value) *ir.Value // of the shape of x, which has 16 channels
	}{
		{"pointwise", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("Conv", []*ir.Value{x, b.weights(16, 16, 1, 1)})
		}},
		{"convolution", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("Conv", []*ir.Value{x, b.weights(16, 16, 3, 3), b.weights(16)}, "pads", pads)
		}},
		{"groups", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("Conv", []*ir.Value{x, b.weights(16, 8, 1, 1)}, "group", 2)
		}},
		{"depthwise", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("Conv", []*ir.Value{x, b.weights(16, 1, 1, 1)}, "group", 16)
		}},
		{"transposed", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("ConvTranspose", []*ir.Value{x, b.weights(16, 16, 1, 1)})
		}},
		{"gradient", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("thriftc.ConvGradInput", []*ir.Value{x, b.weights(16, 16, 1, 1)}, "spatial", staticShape(x)[2:])
		}},
		{"one weight per slice", func(b *builder, x *ir.Value) *ir.Value {
			places := make([]int64, 16*16)
			for i := range places {
				places[i] = b.rand.Int64N(9)
			}
			return b.node("thriftc.MuxConv", []*ir.Value{x, b.weights(16, 16), b.Const("p", tensor.FromInt64s(tensor.U8, places, 16, 16))},
				"kernel_shape", []int{3, 3}, "pads", pads)
		}},
		{"max", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("MaxPool", []*ir.Value{x}, "kernel_shape", []int{3, 3}, "pads", pads)
		}},
		{"mean", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("AveragePool", []*ir.Value{x}, "kernel_shape", []int{3, 3}, "pads", pads)
		}},
		{"elementwise", func(b *builder, x *ir.Value) *ir.Value { return b.node("Sigmoid", []*ir.Value{x}) }},
		{"channels", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("Mul", []*ir.Value{x, b.node("GlobalAveragePool", []*ir.Value{x})})
		}},
		{"resize", func(b *builder, x *ir.Value) *ir.Value {
			s := staticShape(x)
			up := b.node("Resize", []*ir.Value{x, nil, nil, b.Ints("s", int64(s[0]), 16, int64(2*s[2]), int64(s[3]))})
			return b.node("Resize", []*ir.Value{up, nil, nil, b.Ints("s", int64(s[0]), 16, int64(s[2]), int64(s[3]))}, "mode", "linear")
		}},
		{"bit lengths", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("thriftc.BitQuant", []*ir.Value{x, b.Float("bits", 3.5), b.Float("lo", -2), b.Float("hi", 2)})
		}},
		{"sums of bytes", func(b *builder, x *ir.Value) *ir.Value {
			q := b.node("QuantizeLinear", []*ir.Value{x, b.Float("s", 0.02), b.Const("z", tensor.Scalar(uint8(128)))})
			w := make([]int64, 16*16)
			for i := range w {
				w[i] = b.rand.Int64N(255) - 127
			}
			sums := b.node("thriftc.QConv", []*ir.Value{q, b.Const("w", tensor.FromInt64s(tensor.I8, w, 16, 16, 1, 1)), b.Const("z", tensor.Scalar(uint8(128)))})
			return b.node("DequantizeLinear", []*ir.Value{sums, b.Float("s", 0.001)})
		}},
		{"bytes", func(b *builder, x *ir.Value) *ir.Value {
			z := b.Const("z", tensor.Scalar(int8(3)))
			q := b.node("QuantizeLinear", []*ir.Value{x, b.Float("s", 0.02), z})
			return b.node("DequantizeLinear", []*ir.Value{q, b.Float("s", 0.02), z})
		}},
	}
	users := []struct {
		name string
		make func(b *builder, x *ir.Value) *ir.Value // uses x and returns what it computes
	}{
		{"convolution", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("Conv", []*ir.Value{x, b.weights(5, 16, 5, 3)}, "pads", []int{2, 1, 2, 1})
		}},
		{"one weight per slice", func(b *builder, x *ir.Value) *ir.Value {
			return b.node("thriftc.MuxConv", []*ir.Value{x, b.weights(4, 16), b.Const("p", tensor.New(tensor.U8, 4, 16))}, "kernel_shape", []int{3, 3}, "pads", pads)
		}},
		{"part", func(b *builder, x *ir.Value) *ir.Value {
			whole := b.node("Concat", []*ir.Value{b.node("Conv", []*ir.Value{b.Graph().Inputs[0], b.weights(16, 16, 1, 1)}), x}, "axis", 1)
			return b.node("Conv", []*ir.Value{whole, b.weights(3, 32, 3, 3)}, "pads", pads)
		}},
	}
	seed := uint64(0)
	for _, k := range kernels {
		for _, u := range users {
			for _, made := range []string{"input", "blocks", "planes"} {
				seed++
				b := newBuilder(t, seed)
				x := b.data(2, 16, 5, 7)
				operand := x
				switch made {
				case "blocks":
					operand = b.node("Conv", []*ir.Value{x, b.weights(16, 16, 1, 1)})
				case "planes":
					operand = b.node("thriftc.MuxConv", []*ir.Value{x, b.weights(16, 16), b.Const("p", tensor.New(tensor.U8, 16, 16))}, "kernel_shape", []int{1, 1})
				}
				b.Output(u.make(b, operand))
				y := b.node("Relu", []*ir.Value{k.make(b, operand)})
				v := b.node("Mul", []*ir.Value{b.node("Add", []*ir.Value{y, operand}), operand})
				b.check(fmt.Sprint(k.name, " beside ", u.name, " of ", made), v, 0)
			}
		}
	}
}

// TestRefusedLayouts: a unit that gets a value in another layout than it said is an error, and
// so is a kernel that takes rows with a halo for one.
func TestRefusedLayouts(t *testing.T) {
	padded := layout{block: 16, top: 1, left: 2, bottom: 3, right: 4, fill: 7}
	for _, c := range []struct {
		want want
		lies layout
		fits bool
	}{
		{want{layout: blocked}, blocked, true},
		{want{layout: blocked}, padded, true},
		{want{layout: blocked}, planar, false},
		{want{layout: blocked, exact: true}, padded, false},
		{plain, planar, true},
		{plain, layout{block: 1, right: 1}, false},
		{want{layout: padded}, padded, true},
		{want{layout: padded}, blocked, false},
		{want{layout: padded}, layout{block: 16, top: 1, left: 2, bottom: 3, right: 3, fill: 7}, false},
		{want{layout: padded}, layout{block: 16, top: 2, left: 2, bottom: 3, right: 4, fill: 7}, true},
		{want{layout: padded}, layout{block: 16, top: 1, left: 2, bottom: 3, right: 4, fill: 8}, false},
	} {
		v := newView([]int{2, 16, 3, 3}, tensor.U8, c.lies)
		if got := c.want.fits(v); got != c.fits {
			t.Errorf("wanted %+v, lies %+v: fits is %v", c.want, c.lies, got)
		}
		a := &arranger{plan: &plan{slots: []slot{{name: "v", layout: c.lies, view: v}}}}
		err := a.check(&step{name: "conv", in: []int{0, -1}}, placed{wants: []want{c.want, plain}})
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), `"v"`) {
			t.Errorf("wanted %+v, lies %+v: error %v", c.want, c.lies, err)
		}
	}
	whole, part := newView([]int{2, 32, 3, 3}, tensor.F32, blocked), newView([]int{2, 16, 3, 3}, tensor.F32, blocked)
	part.place(whole, 1)
	if w := (want{layout: blocked, exact: true}); w.fits(part) || !w.fits(whole) {
		t.Error("a part of a value lies as if it were alone")
	}
	v := newView([]int{1, 16, 3, 3}, tensor.F32, layout{block: 16, right: 1})
	v.bind(make([]float32, v.size))
	v.span(0, 0, 1, 16, 2*16) // in the row
	for name, f := range map[string]func(){"span": func() { v.span(0, 0, 0, 0, 4*16) }, "plane": func() { v.plane(0, 0) }, "all": func() { v.all() }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of rows with a halo is no error", name)
				}
			}()
			f()
		}()
	}
}
