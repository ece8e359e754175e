package ops

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// randomPositions returns m×c positions among the taps of a kernel.
func randomPositions(r *rand.Rand, taps int, shape ...int) *tensor.Tensor {
	p := make([]uint8, sizeOf(shape))
	for i := range p {
		p[i] = uint8(r.IntN(taps))
	}
	return tensor.Of(p, shape...)
}

// TestMuxConv: MuxConv is Conv with one weight per slice, bit for bit, whatever the elements of
// X and W, and so is what Export makes of it; Shift is the depthwise Conv of ones.
func TestMuxConv(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		group, kh, kw := 1+r.IntN(2), 1+r.IntN(4), 1+r.IntN(4)
		m, c := group*(1+r.IntN(4)), 1+r.IntN(4)
		attrs := []any{"kernel_shape", []int{kh, kw}, "group", group, "strides", []int{1 + r.IntN(2), 1 + r.IntN(2)}, "dilations", []int{1 + r.IntN(2), 1 + r.IntN(2)}}
		if r.IntN(2) == 0 {
			attrs = append(attrs, "pads", []int{r.IntN(kh), r.IntN(kw), r.IntN(kh), r.IntN(kw)})
		} else {
			attrs = append(attrs, "auto_pad", []string{"SAME_UPPER", "SAME_LOWER", "VALID"}[r.IntN(3)])
		}
		e := []tensor.Elem{tensor.F32, tensor.F64, tensor.F16, tensor.BF16}[r.IntN(4)]
		x, w := randomTensor(r, e, []int{1 + r.IntN(2), group * c, 8 + r.IntN(4), 8 + r.IntN(4)}), randomTensor(r, e, []int{m, c})
		switch r.IntN(3) {
		case 0:
			w = randomInts(tensor.Int(3), func() int64 { return int64(r.IntN(8) - 4) }, m, c)
		case 1:
			w = randomInts(tensor.Bipolar, func() int64 { return int64(2*r.IntN(2) - 1) }, m, c)
		}
		p := randomPositions(r, kh*kw, m, c)
		bias := randomTensor(r, e, []int{m})
		dense := DenseMux(w, p, e, []int64{int64(kh), int64(kw)})
		want := evalConst(t, "Conv", ir.MakeAttrs(attrs...), x, dense, bias)
		got := evalConst(t, "thriftc.MuxConv", ir.MakeAttrs(attrs...), x, w, p, bias)
		if !tensor.Equal(got, want) {
			t.Fatalf("seed %d: %v %v: got %v, want %v", seed, attrs, e, got.Float64s(), want.Float64s())
		}

		channels := group * c
		sp := randomPositions(r, kh*kw, channels)
		ones := randomInts(tensor.Bipolar, func() int64 { return 1 }, channels, 1)
		attrs[3] = channels
		want = evalConst(t, "Conv", ir.MakeAttrs(attrs...), x, DenseMux(ones, sp.Reshape(channels, 1), e, []int64{int64(kh), int64(kw)}))
		attrs = append(attrs[:2], attrs[4:]...)
		got = evalConst(t, "thriftc.Shift", ir.MakeAttrs(attrs...), x, sp)
		if fmt.Sprint(got.Float64s()) != fmt.Sprint(want.Float64s()) {
			t.Fatalf("seed %d: shift %v %v: got %v, want %v", seed, attrs, e, got.Float64s(), want.Float64s())
		}
	}
}

// muxNode adds a MuxConv or Shift of an input of shape [1, 2, 5, 5].
func muxNode(op string, in ...*tensor.Tensor) (*ir.Rewriter, *ir.Node, error) {
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	vs := []*ir.Value{r.Input("x", ir.TensorType(tensor.F32, ir.Dims(1, 2, 5, 5)...))}
	for _, t := range in {
		vs = append(vs, r.Const("c", t))
	}
	n, err := r.Add(op, "", ir.MakeAttrs("kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1}), vs, "y")
	return r, n, err
}

func TestMuxConvRefuses(t *testing.T) {
	w := tensor.Of([]float32{1, 0, 3, 4}, 2, 2)
	p := tensor.Of([]uint8{0, 8, 4, 3}, 2, 2)
	for _, c := range []struct {
		op   string
		in   []*tensor.Tensor
		want string
	}{
		{"thriftc.MuxConv", []*tensor.Tensor{w, p}, ""},
		{"thriftc.MuxConv", []*tensor.Tensor{w, tensor.Of([]uint8{0, 9, 4, 3}, 2, 2)}, "element 1 of P is 9"},
		{"thriftc.MuxConv", []*tensor.Tensor{w, tensor.Of([]uint8{0, 1}, 2, 1)}, "expected the shape of W"},
		{"thriftc.MuxConv", []*tensor.Tensor{w, tensor.Of([]int8{0, 1, 2, 3}, 2, 2)}, "unsigned"},
		{"thriftc.MuxConv", []*tensor.Tensor{tensor.Of([]int32{1, 2, 3, 4}, 2, 2), p}, "at most 8 bits"},
		{"thriftc.MuxConv", []*tensor.Tensor{w.Reshape(4), p}, "expected [output channels"},
		{"thriftc.MuxConv", []*tensor.Tensor{tensor.Of([]float32{1, 2, 3}, 1, 3), tensor.Of([]uint8{1, 2, 3}, 1, 3)}, "should have 3 channels"},
		{"thriftc.Shift", []*tensor.Tensor{tensor.Of([]uint8{0, 8}, 2)}, ""},
		{"thriftc.Shift", []*tensor.Tensor{tensor.Of([]uint8{0, 8, 1}, 3)}, "one position for each"},
		{"thriftc.Shift", []*tensor.Tensor{tensor.Of([]uint8{0, 9}, 2)}, "element 1 of P is 9"},
	} {
		_, n, err := muxNode(c.op, c.in...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.op, err, c.want)
		}
		if err == nil && c.op == "thriftc.MuxConv" {
			if got := n.Op.Cost(n).MACs; got != 3*25 {
				t.Errorf("%d MACs, want 75: a weight of zero costs none", got)
			}
		}
	}
}

func TestMuxConvExport(t *testing.T) {
	for i, op := range []string{"thriftc.MuxConv", "thriftc.Shift", "thriftc.MuxConv"} {
		in := []*tensor.Tensor{vec32(1, 2, 3, 4).Reshape(2, 2), tensor.Of([]uint8{0, 8, 4, 3}, 2, 2)}
		if op == "thriftc.Shift" {
			in = []*tensor.Tensor{tensor.Of([]uint8{2, 7}, 2)}
		}
		r, n, err := muxNode(op, in...)
		if err != nil {
			t.Fatal(err)
		}
		if i == 2 { // weights stored as integers
			q := r.Before(n).Const("q", tensor.OfElem(tensor.I4, []int8{1, -8, 7, 0}, 2, 2))
			r.SetInput(n, 1, r.Before(n).Must1("DequantizeLinear", "", ir.MakeAttrs("axis", -2), q, r.Const("s", vec32(0.5, 2))))
		}
		r.Output(n.Out[0])
		x := []*tensor.Tensor{randomTensor(rand.New(rand.NewPCG(1, 1)), tensor.F32, []int{1, 2, 5, 5})}
		want, err := ir.Eval(t.Context(), r.Graph(), x)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Op.Export(r.Before(n), n, 17); err != nil {
			t.Fatal(err)
		}
		if n.Op.Name != "Conv" {
			t.Errorf("%s is written as %s", op, n.Op.Name)
		}
		got, err := ir.Eval(t.Context(), r.Graph(), x)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want[0].Float32s() {
			if got[0].Float32s()[i] != v {
				t.Fatalf("%s: element %d is %v as Conv, %v before", op, i, got[0].Float32s()[i], v)
			}
		}
	}
}

func randomInts(e tensor.Elem, draw func() int64, shape ...int) *tensor.Tensor {
	q := make([]int64, sizeOf(shape))
	for i := range q {
		q[i] = draw()
	}
	return tensor.FromInt64s(e, q, shape...)
}

// TestQMuxConv: QMuxConv is QConv with one weight per slice, and so is what Export makes of it.
func TestQMuxConv(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		group, kh, kw := 1+r.IntN(2), 1+r.IntN(4), 1+r.IntN(4)
		m, c := group*(1+r.IntN(4)), 1+r.IntN(4)
		attrs := []any{"kernel_shape", []int{kh, kw}, "group", group, "strides", []int{1 + r.IntN(2), 1 + r.IntN(2)},
			"pads", []int{r.IntN(kh), r.IntN(kw), r.IntN(kh), r.IntN(kw)}, "bias_shift", r.IntN(3), "lo", r.IntN(100)}
		w := randomInts(tensor.Int(8), func() int64 { return int64(r.IntN(256) - 128) }, m, c)
		if r.IntN(3) == 0 {
			w = randomInts(tensor.Uint(8), func() int64 { return int64(r.IntN(256)) }, m, c)
		}
		p := randomPositions(r, kh*kw, m, c)
		x := randomInts(tensor.U8, func() int64 { return int64(r.IntN(256)) }, 1+r.IntN(2), group*c, 5+r.IntN(4), 5+r.IntN(4))
		zero, yZero := tensor.Scalar(uint8(r.IntN(256))), tensor.Scalar(uint8(r.IntN(256)))
		bias := randomInts(tensor.I32, func() int64 { return int64(r.IntN(2000) - 1000) }, m)
		scale := tensor.FromFloat32s(tensor.F32, []float32{0.01 * r.Float32()})
		in := []*tensor.Tensor{x, w, p, zero, bias, scale, yZero}
		dense := DenseMux(w, p, tensor.F64, []int64{int64(kh), int64(kw)})
		q := tensor.FromInt64s(w.Elem(), dense.Int64s(), dense.Shape()...)
		want := evalConst(t, "thriftc.QConv", ir.MakeAttrs(attrs...), x, q, zero, nil, bias, scale, yZero)
		if got := evalConst(t, "thriftc.QMuxConv", ir.MakeAttrs(attrs...), in...); !tensor.Equal(got, want) {
			t.Fatalf("seed %d: %v: got %v, want %v", seed, attrs, got.Int64s(), want.Int64s())
		}
		b := ir.NewRewriter(ir.NewGraph("t", Table()))
		vs := []*ir.Value{b.Input("x", ir.TypeOf(x))}
		for _, c := range in[1:] {
			vs = append(vs, b.Const("c", c))
		}
		n, err := b.Add("thriftc.QMuxConv", "", ir.MakeAttrs(attrs...), vs, "y")
		if err != nil {
			t.Fatal(err)
		}
		b.Output(n.Out[0])
		if err := n.Op.Export(b.Before(n), n, 17); err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), b.Graph(), []*tensor.Tensor{x})
		if err != nil {
			t.Fatal(err)
		}
		if !tensor.Equal(got[0], want) {
			t.Fatalf("seed %d: %v: exported: got %v, want %v", seed, attrs, got[0].Int64s(), want.Int64s())
		}
	}
}
