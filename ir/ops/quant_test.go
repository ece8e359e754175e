package ops

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// evalConst builds a graph of one node over constants and returns its first output.
func evalConst(t *testing.T, op string, attrs ir.Attrs, in ...*tensor.Tensor) *tensor.Tensor {
	t.Helper()
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	var vs []*ir.Value
	for _, x := range in {
		if x == nil {
			vs = append(vs, nil)
			continue
		}
		vs = append(vs, r.Const("c", x))
	}
	n, err := r.Add(op, "n", attrs, vs)
	if err != nil {
		t.Fatal(err)
	}
	r.Output(n.Out[0])
	out, err := ir.Eval(context.Background(), r.Graph(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := ir.TypeOf(out[0]); !n.Out[0].Type.Compatible(want) {
		t.Fatalf("inferred %v, computed %v", n.Out[0].Type, want)
	}
	return out[0]
}

func vec32(x ...float32) *tensor.Tensor { return tensor.Of(x, len(x)) }

func TestQuant(t *testing.T) {
	nan := float32(math.NaN())
	cases := []struct {
		name     string
		x, scale []float32
		zero     float32
		bits     float32
		attrs    ir.Attrs
		want     []float32
	}{
		{"int8 ties to even", []float32{0.25, 0.75, -0.25, -0.75, 100, -100}, []float32{0.5}, 0, 8, nil, []float32{0, 1, 0, -1, 63.5, -64}},
		{"narrow", []float32{-9, 9}, []float32{1}, 0, 4, ir.MakeAttrs("narrow", 1), []float32{-7, 7}},
		{"unsigned", []float32{-1, 2.5, 300}, []float32{1}, 0, 8, ir.MakeAttrs("signed", 0), []float32{0, 2, 255}},
		{"unsigned narrow", []float32{9}, []float32{1}, 0, 3, ir.MakeAttrs("signed", 0, "narrow", 1), []float32{6}},
		{"zero point after", []float32{-5, 0.5, 1.5, 5}, []float32{1}, 1, 2, ir.MakeAttrs("signed", 0), []float32{-1, 0, 2, 2}},
		{"zero point before", []float32{-5, 0.5, 1.5, 5}, []float32{1}, 1, 2, ir.MakeAttrs("signed", 0, "zero_point_order", "before_round"), []float32{-1, 1, 1, 2}},
		{"fractional zero point", []float32{0, 1}, []float32{1}, 0.25, 4, ir.MakeAttrs("zero_point_order", "before_round"), []float32{-0.25, 0.75}},
		{"per channel", []float32{1, 1, 1, 1}, []float32{1, 0.75}, 0, 8, nil, []float32{1, 1, 0.75, 0.75}},
		{"nan and infinities", []float32{nan, float32(math.Inf(1)), float32(math.Inf(-1))}, []float32{1}, 0, 4, nil, []float32{-8, 7, -8}},
		{"32 bits", []float32{3e9, -3e9}, []float32{1}, 0, 32, nil, []float32{2147483648, -2147483648}},
	}
	for _, c := range cases {
		x := tensor.Of(c.x, 1, len(c.scale), len(c.x)/len(c.scale))
		zero := make([]float32, len(c.scale))
		for i := range zero {
			zero[i] = c.zero
		}
		y := evalConst(t, "thriftc.Quant", c.attrs, x, vec32(c.scale...), vec32(zero...), tensor.Scalar(c.bits))
		if got := y.Float32s(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		for i, v := range y.Float32s() {
			if v == 0 && math.Signbit(float64(v)) {
				t.Errorf("%s: element %d is −0", c.name, i)
			}
		}
	}
}

// The table of rounding modes in the documentation of QONNX IntQuant.
func TestRoundingModes(t *testing.T) {
	x := []float32{5.5, 2.5, 1.6, 1.1, 1, -1, -1.1, -1.6, -2.5, -5.5}
	for mode, want := range map[string][]float32{
		"ROUND":     {6, 2, 2, 1, 1, -1, -1, -2, -2, -6},
		"CEIL":      {6, 3, 2, 2, 1, -1, -1, -1, -2, -5},
		"FLOOR":     {5, 2, 1, 1, 1, -1, -2, -2, -3, -6},
		"UP":        {6, 3, 2, 2, 1, -1, -2, -2, -3, -6},
		"DOWN":      {5, 2, 1, 1, 1, -1, -1, -1, -2, -5},
		"HALF_UP":   {6, 3, 2, 1, 1, -1, -1, -2, -3, -6},
		"HALF_DOWN": {5, 2, 2, 1, 1, -1, -1, -2, -2, -5},
	} {
		y := evalConst(t, "thriftc.Quant", ir.MakeAttrs("rounding_mode", mode), vec32(x...), vec32(1), vec32(0), tensor.Scalar[float32](8))
		if got := y.Float32s(); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", mode, got, want)
		}
	}
}

func TestQuantRefuses(t *testing.T) {
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Dims(2, 3)...))
	one, zero := r.Const("s", vec32(1)), r.Const("z", vec32(0))
	for name, in := range map[string][]*ir.Value{
		"bits 0":           {x, one, zero, r.Float("b", 0)},
		"bits 2.5":         {x, one, zero, r.Float("b", 2.5)},
		"bits 1e9":         {x, one, zero, r.Float("b", 1e9)},
		"scale of wrong C": {x, r.Const("s", vec32(1, 2)), zero, r.Float("b", 8)},
		"scale f64":        {x, r.Const("s", tensor.Scalar(1.0)), zero, r.Float("b", 8)},
	} {
		if _, err := r.Add("thriftc.Quant", "q", nil, in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBipolarQuant(t *testing.T) {
	y := evalConst(t, "thriftc.BipolarQuant", nil, tensor.Of([]float32{0, -0.1, 3, float32(math.NaN())}, 1, 2, 2), vec32(0.5, 2))
	if got, want := y.Float32s(), []float32{0.5, -0.5, 2, -2}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTrunc(t *testing.T) {
	one := vec32(1)
	x := vec32(5, 6, 7, -5, 100)
	for _, c := range []struct {
		attrs ir.Attrs
		out   float32
		want  []float32
	}{
		{ir.MakeAttrs("shift", 1), 1, []float32{2, 3, 3, -3, 50}},            // version 1
		{ir.MakeAttrs("shift", 1, "bits", 4), 2, []float32{4, 6, 6, -6, 14}}, // version 2
		{ir.MakeAttrs("shift", 1, "rounding_mode", "ROUND"), 2, []float32{4, 6, 8, -4, 100}},
	} {
		y := evalConst(t, "thriftc.Trunc", c.attrs, x, one, vec32(0), vec32(c.out), vec32(0))
		if got := y.Float32s(); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.attrs, got, c.want)
		}
	}
}
