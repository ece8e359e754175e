package interp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func normals(r *rand.Rand, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.F32, shape...)
	for i := range tensor.Data[float32](t) {
		tensor.Data[float32](t)[i] = float32(r.NormFloat64())
	}
	return t
}

func sameBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) && (got[i] == got[i] || want[i] == want[i]) { // any NaN will do
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// randomConv adds a convolution of x with random attributes; computed says that its weights are no constant.
func (b *builder) randomConv(x *ir.Value, computed bool) *ir.Value {
	r := b.rand
	c := staticShape(x)[1]
	group, oc := 1, 1+r.IntN(50)
	switch r.IntN(4) {
	case 0: // depthwise, perhaps with several outputs for an input
		group, oc = c, c*(1+r.IntN(10)/9)
	case 1:
		for group = 1 + r.IntN(3); c%group > 0; group-- {
		}
		oc = group * []int{1 + r.IntN(20), 16}[r.IntN(2)]
	}
	kh, kw := 1+r.IntN(4), 1+r.IntN(4)
	if r.IntN(3) == 0 {
		kh, kw = 1, 1
	}
	weights := b.weights(oc, c/group, kh, kw)
	if computed {
		weights = b.data(oc, c/group, kh, kw)
	}
	in := []*ir.Value{x, weights}
	if r.IntN(2) == 0 {
		in = append(in, b.weights(oc))
	}
	attrs := append(spatial(r, kh, kw), "group", group)
	if s := staticShape(x); s[2] <= kh*2 || s[3] <= kw*2 || r.IntN(3) == 0 { // as most convolutions are
		attrs = []any{"group", group, "pads", []int{kh / 2, kw / 2, kh / 2, kw / 2}}
	}
	return b.node("Conv", in, attrs...)
}

// TestConvChains: convolutions after each other, with other nodes between them, so
// that their values have different layouts and halos.
func TestConvChains(t *testing.T) {
	trials := 250
	if testing.Short() {
		trials = 25
	}
	for seed := range uint64(trials) {
		b := newBuilder(t, seed)
		r := b.rand
		v := b.data(r.IntN(4), 1+r.IntN(40), 1+r.IntN(20), 1+r.IntN(40))
		first := v
		for range 1 + r.IntN(3) {
			if s := staticShape(v); s[2]*s[3] == 0 {
				break
			}
			switch r.IntN(8) {
			case 0:
				v = b.node("MaxPool", []*ir.Value{v}, "kernel_shape", []int{1, 2}, "strides", []int{1 + r.IntN(2), 1})
			case 1:
				v = b.node("Concat", []*ir.Value{v, v}, "axis", 1)
			case 2:
				v = b.node("Sigmoid", []*ir.Value{v})
			}
			v = b.after(b.randomConv(v, r.IntN(4) == 0))
			if first.Type.Equal(v.Type) {
				v = b.node("Add", []*ir.Value{v, first})
			}
			if r.IntN(3) == 0 {
				first = v
			}
		}
		if s := staticShape(v); r.IntN(3) == 0 && s[2]*s[3] > 0 {
			v = b.node("Flatten", []*ir.Value{b.after(b.node("GlobalAveragePool", []*ir.Value{v}))})
		}
		b.check(fmt.Sprint("chain ", seed), v, 0)
	}
}

func BenchmarkConv(b *testing.B) {
	for _, c := range []struct {
		name                                   string
		n, ic, size, oc, kernel, stride, group int
	}{
		{"3x3 16 32x32", 1, 16, 32, 16, 3, 1, 1},
		{"3x3 64 8x8", 1, 64, 8, 64, 3, 1, 1},
		{"3x3 64 8x8 batch 32", 32, 64, 8, 64, 3, 1, 1},
		{"3x3 64 56x56", 1, 64, 56, 64, 3, 1, 1},
		{"3x3 256 14x14", 1, 256, 14, 256, 3, 1, 1},
		{"3x3 512 7x7", 1, 512, 7, 512, 3, 1, 1},
		{"1x1 192 28x28", 1, 192, 28, 192, 1, 1, 1},
		{"1x1 768 7x7", 1, 768, 7, 768, 1, 1, 1},
		{"1x1 48 112x112", 1, 24, 112, 48, 1, 1, 1},
		{"depthwise 96 56x56", 1, 96, 56, 96, 3, 1, 96},
		{"depthwise 384 14x14", 1, 384, 14, 384, 3, 1, 384},
		{"stem 7x7", 1, 3, 224, 64, 7, 2, 1},
		{"stem 3x3", 1, 3, 224, 24, 3, 2, 1},
	} {
		for _, s := range simd.All()[1:] {
			b.Run(c.name+" "+s.Name, func(b *testing.B) {
				bd := newBuilder(b, 7)
				pad := c.kernel / 2
				x := bd.data(c.n, c.ic, c.size, c.size)
				v := bd.node("Relu", []*ir.Value{bd.node("Conv", []*ir.Value{x, bd.weights(c.oc, c.ic/c.group, c.kernel, c.kernel), bd.weights(c.oc)},
					"pads", []int{pad, pad, pad, pad}, "strides", []int{c.stride, c.stride}, "group", c.group)})
				bd.Output(v)
				e, err := New().Compile(b.Context(), bd.Graph(), backends.Options{Threads: 1, Kernel: s.Name})
				if err != nil {
					b.Fatal(err)
				}
				defer e.Close()
				if _, err := e.Run(b.Context(), bd.in); err != nil {
					b.Fatal(err)
				}
				p := e.(*executable).plans[0]
				for i := range p.steps {
					if p.steps[i].node == nil {
						continue
					}
					w := &worker{}
					for b.Loop() {
						for _, ph := range p.steps[i].phases {
							for k := range ph.tasks {
								ph.do(w, k)
							}
						}
					}
				}
				flops := 2 * float64(v.Type.Dims[2].N*v.Type.Dims[3].N*c.n*c.oc) * float64(c.ic/c.group*c.kernel*c.kernel)
				b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

// TestJoinAndCut: values that lie in each other, with halos that others of them want.
func TestJoinAndCut(t *testing.T) {
	for seed := range uint64(40) {
		if testing.Short() && seed > 12 {
			break
		}
		b := newBuilder(t, seed)
		r := b.rand
		x := b.data(1+r.IntN(3), 5, 7, 9)
		conv := func(v *ir.Value, oc, k int) *ir.Value {
			p := k / 2
			return b.after(b.node("Conv", []*ir.Value{v, b.weights(oc, staticShape(v)[1], k, k)}, "pads", []int{p, p, p, p}))
		}
		v := conv(x, 16*(1+r.IntN(3)), 3)
		for range 1 + r.IntN(3) {
			parts := []*ir.Value{conv(v, 16, 1), conv(v, 32, 3)}
			if r.IntN(2) == 0 {
				parts = append(parts, v, parts[0])
			}
			if r.IntN(2) == 0 {
				parts = append(parts, conv(parts[0], 5, 5))
			}
			v = b.node("Concat", parts, "axis", 1)
			if r.IntN(2) == 0 {
				c := staticShape(v)[1]
				n, err := b.Add("Split", "", ir.MakeAttrs("axis", 1), []*ir.Value{v, b.Ints("sizes", 16, 16, int64(c-32))}, "p", "q", "r")
				if err != nil {
					t.Fatal(err)
				}
				v = b.node("Concat", []*ir.Value{conv(n.Out[0], 16, 3), n.Out[1], n.Out[2], parts[1]}, "axis", 1)
			}
		}
		b.check(fmt.Sprint("join ", seed), v, 0)
	}
}

// TestChannels: nodes that rearrange channels between convolutions.
func TestChannels(t *testing.T) {
	for seed := range uint64(60) {
		if testing.Short() && seed > 20 {
			break
		}
		b := newBuilder(t, seed)
		r := b.rand
		x := b.data(1+r.IntN(2), 5, 6+r.IntN(4), 9)
		conv := func(v *ir.Value, oc int) *ir.Value {
			return b.node("Conv", []*ir.Value{v, b.weights(oc, staticShape(v)[1], 3, 3)}, "pads", []int{1, 1, 1, 1})
		}
		half := []int{29, 12, 24, 40}[r.IntN(4)]
		p, q := conv(x, half), b.node("LeakyRelu", []*ir.Value{conv(x, half)})
		for range 1 + r.IntN(3) {
			v := b.node("Concat", []*ir.Value{p, q}, "axis", 1)
			s := staticShape(v)
			if r.IntN(4) > 0 { // a channel shuffle
				v = b.node("Reshape", []*ir.Value{v, b.Ints("s", int64(s[0]), 2, int64(half), int64(s[2]), int64(s[3]))})
				if r.IntN(8) == 0 {
					v = b.node("Abs", []*ir.Value{v})
				}
				v = b.node("Transpose", []*ir.Value{v}, "perm", []int{0, 2, 1, 3, 4})
				if r.IntN(8) == 0 {
					v = b.node("Sigmoid", []*ir.Value{v})
				}
				v = b.node("Reshape", []*ir.Value{v, b.Ints("s", int64(s[0]), int64(s[1]), int64(s[2]), int64(s[3]))})
			}
			if r.IntN(3) == 0 {
				v = b.node("Slice", []*ir.Value{v, b.Ints("a", 3, 1), b.Ints("e", int64(s[1]), 100), b.Ints("axes", 1, 2), b.Ints("steps", 1+int64(r.IntN(2)), 1+int64(r.IntN(2)))})
				v = b.node("Pad", []*ir.Value{v, b.Ints("p", 0, 3, 0, 0, 0, int64(r.IntN(20)), 0, 0)})
				s = staticShape(v)
				half = s[1] / 2
			}
			n, err := b.Add("Split", "", ir.MakeAttrs("axis", 1), []*ir.Value{v, b.Ints("sizes", int64(half), int64(s[1]-half))}, "p", "q")
			if err != nil {
				t.Fatal(err)
			}
			p, q = n.Out[0], b.node("Relu", []*ir.Value{conv(n.Out[1], half)})
		}
		v := b.node("Concat", []*ir.Value{q, p}, "axis", 1)
		switch s := staticShape(v); r.IntN(4) {
		case 0:
			v = b.node("Transpose", []*ir.Value{v}, "perm", []int{0, 2, 3, 1})
		case 1:
			v = b.node("Reshape", []*ir.Value{v, b.Ints("s", int64(s[0]), int64(s[1]), int64(s[2]*s[3]))})
			v = b.node("Transpose", []*ir.Value{v}, "perm", []int{0, 2, 1})
		case 2:
			v = conv(v, 7)
		}
		b.check(fmt.Sprint("channels ", seed), v, 0)
	}
}

// TestConvShapes: thousands of single convolutions of random shapes on one kernel set each.
func TestConvShapes(t *testing.T) {
	trials := uint64(2400)
	if testing.Short() {
		trials = 300
	}
	sets := simd.All()
	for seed := range trials {
		b := newBuilder(t, 1000+seed)
		r := b.rand
		h, w := 1+r.IntN(8), 1+r.IntN(12)
		if r.IntN(6) == 0 {
			h, w = 1, 1
		}
		v := b.after(b.randomConv(b.data(r.IntN(4), 1+r.IntN(20), h, w), r.IntN(6) == 0))
		b.Output(v)
		want, err := ir.Eval(t.Context(), b.Graph(), b.in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		s := sets[int(seed)%len(sets)]
		x, err := New().Compile(t.Context(), b.Graph(), backends.Options{Threads: 1 + int(seed)%2, Kernel: s.Name, NoWinograd: true})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := x.Run(t.Context(), b.in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		sameBits(t, fmt.Sprint(s.Name, " seed ", seed), got[0].Float32s(), want[0].Float32s())
		x.Close()
	}
}

// TestManyTaps: more weights than a pass over the taps takes.
func TestManyTaps(t *testing.T) {
	for seed, attrs := range [][]any{
		{"pads", []int{1, 1, 1, 1}},
		{"strides", []int{2, 2}},
		{"group", 2, "pads", []int{1, 1, 1, 1}},
	} {
		b := newBuilder(t, uint64(seed))
		v := b.data(2, 260, 5, 9)
		in := 260
		if seed == 2 {
			in = 130
		}
		b.check(fmt.Sprint("taps ", attrs), b.after(b.node("Conv", []*ir.Value{v, b.weights(96, in, 3, 3), b.weights(96)}, attrs...)), 0)
	}
}
