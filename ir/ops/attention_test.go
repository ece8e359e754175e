package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// readNode reads one node as the file reader does, and evaluates what it became. With
// constant, all inputs but the first are constants.
func readNode(t *testing.T, op string, attrs ir.Attrs, in ts, outs int, constant bool) ([]*tensor.Tensor, error) {
	t.Helper()
	g := ir.NewGraph("g", Table())
	r := ir.NewRewriter(g)
	var vals []*ir.Value
	var args []*tensor.Tensor
	for i, x := range in {
		switch {
		case x == nil:
			vals = append(vals, nil)
		case constant && i > 0:
			vals = append(vals, r.Const("c", x))
		default:
			vals = append(vals, r.Input("x", ir.TypeOf(x)))
			args = append(args, x)
		}
	}
	names := make([]string, outs)
	for i := range names {
		names[i] = fmt.Sprint("y", i)
	}
	n, err := r.AddRaw(op, "", attrs, vals, names...)
	if err != nil {
		return nil, err
	}
	g.Outputs = slices.Clone(n.Out)
	if err := n.Op.Import(r.Before(n), n, 24); err != nil {
		return nil, err
	}
	if err := ir.Infer(g); err != nil {
		return nil, err
	}
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	for i, v := range g.Outputs {
		if v.Name != names[i] {
			t.Errorf("output %d is called %s", i, v.Name)
		}
	}
	return ir.Eval(t.Context(), g, args)
}

// at is an element of a tensor of rank 4.
func at(t *tensor.Tensor, i, j, k, l int) float64 {
	s := t.Shape()
	return float64(tensor.Data[float32](t)[((i*s[1]+j)*s[2]+k)*s[3]+l])
}

// TestAttention compares with the operator's text, element by element.
func TestAttention(t *testing.T) {
	normal := func(r *rand.Rand, shape ...int) *tensor.Tensor {
		n, _ := tensor.NumElems(shape)
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return tensor.Of(x, shape...)
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		batch, kv, per, queries, keys, size, vsize, past := 2, 1+r.IntN(2), 1+r.IntN(2), 1+r.IntN(3), 1+r.IntN(4), 4, 3, r.IntN(2)*2
		heads, total := kv*per, keys+past
		q, k, v := normal(r, batch, heads, queries, size), normal(r, batch, kv, total, size), normal(r, batch, kv, total, vsize)
		cut := func(x *tensor.Tensor, from, to int) *tensor.Tensor { // along the lengths
			y := tensor.New(tensor.F32, batch, kv, to-from, x.Shape()[3])
			d := tensor.Data[float32](y)
			for i := range d {
				s := y.Shape()
				d[i] = float32(at(x, i/(s[3]*s[2]*s[1]), i/(s[3]*s[2])%s[1], from+i/s[3]%s[2], i%s[3]))
			}
			return y
		}
		in := ts{q, cut(k, past, total), cut(v, past, total), nil, nil, nil}
		attrs := ir.MakeAttrs()
		outs := 1
		if past > 0 {
			in[4], in[5], outs = cut(k, 0, past), cut(v, 0, past), 3
		}
		var bias func(b, h, i, j int) float64
		switch r.IntN(3) {
		case 0:
			m := normal(r, queries, total)
			in[3] = m
			bias = func(_, _, i, j int) float64 { return float64(tensor.Data[float32](m)[i*total+j]) }
		case 1:
			m := make([]bool, batch*queries*total)
			for i := range m {
				m[i] = r.IntN(3) > 0
			}
			in[3] = tensor.Of(m, batch, 1, queries, total)
			bias = func(b, _, i, j int) float64 {
				if m[(b*queries+i)*total+j] {
					return 0
				}
				return math.Inf(-1)
			}
		}
		scale, softcap, causal, left := 0.5, 0.0, r.IntN(2) == 0, -1
		if r.IntN(2) == 0 {
			scale = 0.25
			attrs.Set("scale", float32(0.25))
		}
		if r.IntN(2) == 0 {
			softcap = 2
			attrs.Set("softcap", float32(2))
		}
		if causal {
			attrs.Set("is_causal", 1)
		}
		if r.IntN(3) == 0 {
			left = 1
			attrs.Set("left_window_size", 1)
		}
		flat := r.IntN(2) == 0
		if flat { // rank 3
			for i, x := range in[:3] {
				y, err := transpose(x, []int{0, 2, 1, 3})
				if err != nil {
					t.Fatal(err)
				}
				s := y.Shape()
				in[i] = y.Reshape(s[0], s[1], s[2]*s[3])
			}
			attrs.Set("q_num_heads", heads)
			attrs.Set("kv_num_heads", kv)
		}
		got, err := readNode(t, "Attention", attrs, in, outs, r.IntN(2) == 0)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		y := got[0]
		if flat {
			y, err = transpose(y.Reshape(batch, queries, heads, vsize), []int{0, 2, 1, 3})
			if err != nil {
				t.Fatal(err)
			}
		}
		for b := range batch {
			for h := range heads {
				for i := range queries {
					p, sum := make([]float64, total), 0.0
					for j := range total {
						for d := range size {
							p[j] += at(q, b, h, i, d) * at(k, b, h/per, j, d) * scale
						}
						if softcap > 0 {
							p[j] = softcap * math.Tanh(p[j]/softcap)
						}
						if bias != nil {
							p[j] += bias(b, h, i, j)
						}
						if causal && j > i+past || left >= 0 && i+past-j > left {
							p[j] = math.Inf(-1)
						}
						p[j] = math.Exp(p[j])
						sum += p[j]
					}
					for d := range vsize {
						want := 0.0
						for j := range total {
							if sum > 0 {
								want += p[j] / sum * at(v, b, h/per, j, d)
							}
						}
						// Without a mask nothing is said of rows in which nothing takes part.
						if g := at(y, b, h, i, d); math.Abs(g-want) > 1e-5 && (sum > 0 || in[3] != nil) {
							t.Fatalf("seed %d: [%d %d %d %d] is %g, want %g", seed, b, h, i, d, g, want)
						}
					}
				}
			}
		}
		if past > 0 && (!tensor.Equal(got[1], k) || !tensor.Equal(got[2], v)) {
			t.Fatalf("seed %d: the present keys or values are others", seed)
		}
	}
}

func TestAttentionRefuses(t *testing.T) {
	x := seq(tensor.F32, 1, 2, 3, 4)
	for _, c := range []struct {
		attrs ir.Attrs
		in    ts
	}{
		{nil, ts{x, x, seq(tensor.F32, 2, 3, 4)}},
		{nil, ts{x, x, x, nil, x}},
		{nil, ts{seq(tensor.F32, 1, 3, 8), seq(tensor.F32, 1, 3, 8), seq(tensor.F32, 1, 3, 8)}},
		{nil, ts{x, seq(tensor.F32, 1, 3, 3, 4), seq(tensor.F32, 1, 3, 3, 4)}},
		{nil, ts{x, x, x, tensor.Of(make([]bool, 2), 2)}},
		{ir.MakeAttrs("qk_matmul_output_mode", 4), ts{x, x, x}},
		{nil, ts{x, x, x, nil, nil, nil, ints(3)}},
	} {
		if _, err := readNode(t, "Attention", c.attrs, c.in, 1, false); err == nil {
			t.Errorf("%v of %d inputs was read", c.attrs, len(c.in))
		}
	}
}

// TestMatMulNBits packs integers as ONNX Runtime's text says, the first in the lowest bits.
func TestMatMulNBits(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		bits := []int{2, 4, 8}[r.IntN(3)]
		const block = 16
		k, cols := 1+r.IntN(40), 1+r.IntN(5)
		blocks := (k + block - 1) / block
		packed, zeros := make([]uint8, cols*blocks*block*bits/8), make([]uint8, cols*((blocks*bits+7)/8))
		for i := range packed {
			packed[i] = uint8(r.Uint32())
		}
		for i := range zeros {
			zeros[i] = uint8(r.Uint32())
		}
		scales, x, bias := make([]float32, cols*blocks), make([]float32, 2*k), make([]float32, cols)
		for _, s := range [][]float32{scales, x, bias} {
			for i := range s {
				s[i] = float32(r.IntN(9)-4) / 4
			}
		}
		in := ts{tensor.Of(x, 2, k), tensor.Of(packed, cols, blocks, block*bits/8), tensor.Of(scales, cols*blocks), nil, nil, nil}
		zero := func(int, int) float32 { return float32(int(1) << (bits - 1)) }
		if r.IntN(2) == 0 {
			in[3] = tensor.Of(zeros, len(zeros))
			zero = func(n, b int) float32 {
				return float32(zeros[n*((blocks*bits+7)/8)+b*bits/8] >> (b * bits % 8) & (1<<bits - 1))
			}
		}
		if r.IntN(2) == 0 {
			in[5] = tensor.Of(bias, cols)
		}
		got, err := readNode(t, "com.microsoft.MatMulNBits", ir.MakeAttrs("K", k, "N", cols, "bits", bits, "block_size", block), in, 1, true)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for m := range 2 {
			for n := range cols {
				want := 0.0
				for i := range k {
					q := float32(packed[n*blocks*block*bits/8+i*bits/8] >> (i * bits % 8) & (1<<bits - 1))
					want += float64(x[m*k+i] * (q - zero(n, i/block)) * scales[n*blocks+i/block])
				}
				if in[5] != nil {
					want += float64(bias[n])
				}
				if g := float64(tensor.Data[float32](got[0])[m*cols+n]); math.Abs(g-want) > 1e-3 {
					t.Fatalf("seed %d: [%d %d] is %g, want %g", seed, m, n, g, want)
				}
			}
		}
	}
}

func TestFusedConv(t *testing.T) {
	x, w := f32s([]float32{1, -2, 3, -4}, 1, 1, 2, 2), f32s([]float32{2}, 1, 1, 1, 1)
	z := f32s([]float32{-1, 1, -9, 9}, 1, 1, 2, 2)
	for _, c := range []struct {
		activation string
		params     []float32
		in         ts
		want       []float32
	}{
		{"Relu", nil, ts{x, w}, []float32{2, 0, 6, 0}},
		{"Relu", nil, ts{x, w, f32s([]float32{1}, 1), z}, []float32{2, 0, 0, 2}},
		{"Clip", []float32{-3, 3}, ts{x, w, nil, z}, []float32{1, -3, -3, 1}},
		{"LeakyRelu", []float32{0.5}, ts{x, w}, []float32{2, -2, 6, -4}},
		{"", nil, ts{x, w}, []float32{2, -4, 6, -8}},
	} {
		attrs := ir.MakeAttrs("activation", c.activation)
		if c.params != nil {
			attrs.Set("activation_params", c.params)
		}
		got, err := readNode(t, "com.microsoft.FusedConv", attrs, c.in, 1, true)
		if err != nil {
			t.Errorf("%s: %v", c.activation, err)
		} else if want := f32s(c.want, 1, 1, 2, 2); !tensor.Equal(got[0], want) {
			t.Errorf("%s: got %v, want %v", c.activation, got[0], want)
		}
	}
	if _, err := readNode(t, "com.microsoft.FusedConv", ir.MakeAttrs("activation", "Elu"), ts{x, w}, 1, true); err == nil {
		t.Error("an unknown activation was read")
	}
}

func TestSwiGLU(t *testing.T) {
	got, err := readNode(t, "SwiGLU", ir.MakeAttrs("alpha", float32(0)), ts{f32s([]float32{2, -4}, 2), f32s([]float32{3, 5}, 2)}, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	if want := f32s([]float32{3, -10}, 2); !tensor.Equal(got[0], want) { // the sigmoid of 0 is a half
		t.Errorf("got %v, want %v", got[0], want)
	}
}
