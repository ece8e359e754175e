package ops

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// ops lists a graph's operators in order.
func opList(g *ir.Graph) string {
	var names []string
	for _, n := range g.Nodes {
		names = append(names, n.Op.Name)
	}
	return strings.Join(names, " ")
}

func TestNormalizePairs(t *testing.T) {
	x := ir.TensorType(tensor.F32, ir.Dims(1, 2, 3)...)
	data := tensor.Of([]float32{-300, -1, 0.5, 1.5, 2.5, 300}, 1, 2, 3)
	i8 := func(v ...int64) *tensor.Tensor { return tensor.FromInt64s(tensor.I8, v, len(v)) }
	u8 := func(v ...int64) *tensor.Tensor { return tensor.FromInt64s(tensor.U8, v, len(v)) }
	cases := []struct {
		name           string
		scale, scale2  *tensor.Tensor
		zero, zero2    *tensor.Tensor
		clipLo, clipHi *tensor.Tensor
		attrs          ir.Attrs
		consumers      int
		outputs        int
		want           string // the operators afterwards
		bits           int
	}{
		{name: "int8", scale: vec32(0.5), zero: i8(3), want: "thriftc.Quant", bits: 8},
		{name: "uint8 without zero point", scale: vec32(0.5), want: "thriftc.Quant", bits: 8},
		{name: "absent and zero", scale: vec32(0.5), zero: u8(0), zero2: nil, want: "thriftc.Quant", bits: 8},
		{name: "per channel", scale: vec32(0.5, 2), zero: i8(1, -1), want: "thriftc.Quant", bits: 8},
		{name: "int4", scale: vec32(0.5), zero: tensor.FromInt64s(tensor.I4, []int64{1}, 1), want: "thriftc.Quant", bits: 4},
		{name: "three consumers share one", scale: vec32(0.5), zero: i8(0), consumers: 3,
			want: "thriftc.Quant thriftc.Quant thriftc.Quant thriftc.Quant", bits: 8},
		{name: "outputs keep their names", scale: vec32(0.5), zero: i8(0), outputs: 2, want: "thriftc.Quant thriftc.Quant", bits: 8},
		{name: "other scale", scale: vec32(0.5), scale2: vec32(0.25), zero: i8(0), want: "QuantizeLinear DequantizeLinear"},
		{name: "other zero point", scale: vec32(0.5), zero: i8(0), zero2: i8(1), want: "QuantizeLinear DequantizeLinear"},
		{name: "quotient in f16", scale: vec32(0.5), zero: i8(0), attrs: ir.MakeAttrs("precision", 10), want: "QuantizeLinear DequantizeLinear"},
		{name: "Clip to 4 bits", scale: vec32(0.5), zero: i8(0), clipLo: i8(-8), clipHi: i8(7), want: "thriftc.Quant", bits: 4},
		{name: "Clip to narrow 8 bits", scale: vec32(0.5), zero: i8(0), clipLo: i8(-127), want: "thriftc.Quant", bits: 8},
		{name: "Clip to unsigned 3 bits", scale: vec32(0.5), zero: u8(2), clipHi: u8(7), want: "thriftc.Quant", bits: 3},
		{name: "Clip to no width", scale: vec32(0.5), zero: i8(0), clipLo: i8(-5), clipHi: i8(7), want: "QuantizeLinear Clip DequantizeLinear"},
	}
	for _, c := range cases {
		r := ir.NewRewriter(ir.NewGraph("t", Table()))
		add := func(op, name string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
			n, err := r.Add(op, name, attrs, in)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			return n.Out[0]
		}
		constant := func(name string, x *tensor.Tensor) *ir.Value {
			if x == nil {
				return nil
			}
			return r.Const(name, x)
		}
		v := add("QuantizeLinear", "q", c.attrs, r.Input("x", x), r.Const("s", c.scale), constant("z", c.zero))
		if c.clipLo != nil || c.clipHi != nil {
			v = add("Clip", "c", nil, v, constant("lo", c.clipLo), constant("hi", c.clipHi))
		}
		scale2, zero2 := c.scale2, c.zero2
		if scale2 == nil {
			scale2 = c.scale
		}
		if zero2 == nil && c.name != "absent and zero" {
			zero2 = c.zero
		}
		for i := range max(c.consumers, c.outputs, 1) {
			d := add("DequantizeLinear", fmt.Sprintf("d%d", i), nil, v, r.Const("s", scale2), constant("z", zero2))
			if c.consumers > 0 {
				d = add("DequantizeLinear", "again", nil, add("QuantizeLinear", "again", nil, d, r.Const("s", vec32(1))), r.Const("s", vec32(1)))
			}
			r.Output(d)
		}
		g := r.Graph()
		names := []string{}
		for _, o := range g.Outputs {
			names = append(names, o.Name)
		}
		before, err := ir.Eval(context.Background(), g, []*tensor.Tensor{data})
		if err != nil {
			t.Fatal(err)
		}
		if err := Normalize(g); err != nil {
			t.Fatal(err)
		}
		if err := ir.Verify(g); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		after, err := ir.Eval(context.Background(), g, []*tensor.Tensor{data})
		if err != nil {
			t.Fatal(err)
		}
		if got := opList(g); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
		for i := range before {
			if !tensor.Equal(before[i], after[i]) {
				t.Errorf("%s: output %d was %v, is %v", c.name, i, before[i].Container(), after[i].Container())
			}
		}
		for i, o := range g.Outputs {
			if o.Name != names[i] {
				t.Errorf("%s: output %s is now named %s", c.name, names[i], o.Name)
			}
		}
		if q, ok := QuantOf(g.Nodes[0]); ok && q.Bits != c.bits {
			t.Errorf("%s: %d bits, want %d", c.name, q.Bits, c.bits)
		}
	}
}
