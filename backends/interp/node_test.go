package interp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// builder makes graphs for tests.
type builder struct {
	*ir.Rewriter
	t    testing.TB
	rand *rand.Rand
	in   []*tensor.Tensor
}

func newBuilder(t testing.TB, seed uint64) *builder {
	return &builder{ir.NewRewriter(ir.NewGraph("test", ops.Table())), t, rand.New(rand.NewPCG(seed, 1)), nil}
}

// data adds an input of normally distributed numbers.
func (b *builder) data(shape ...int) *ir.Value {
	b.in = append(b.in, normals(b.rand, shape...))
	return b.Input("x", ir.TensorType(tensor.F32, ir.Dims(shape...)...))
}

// weights adds a constant of normally distributed numbers.
func (b *builder) weights(shape ...int) *ir.Value { return b.Const("w", normals(b.rand, shape...)) }

// node adds a node; attrs are name, value pairs.
func (b *builder) node(op string, in []*ir.Value, attrs ...any) *ir.Value {
	b.t.Helper()
	n, err := b.Add(op, "", ir.MakeAttrs(attrs...), in)
	if err != nil {
		b.t.Fatal(err)
	}
	return n.Out[0]
}

// check compares the engine with the reference on the graph whose output is v,
// for all kernels and several numbers of threads; others is how many nodes
// the engine leaves to their operators.
func (b *builder) check(what string, v *ir.Value, others int) {
	b.t.Helper()
	b.Output(v)
	g := b.Graph()
	want, err := ir.Eval(b.t.Context(), g, b.in)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	for i, s := range simd.All() {
		x, err := New().Compile(b.t.Context(), g, backends.Options{Threads: 1 + i, Kernel: s.Name, NoWinograd: true})
		if err != nil {
			b.t.Fatalf("%s: %v", what, err)
		}
		for range 2 { // the second time with memory that holds anything
			in, got := make([]*tensor.Tensor, len(b.in)), make([]*tensor.Tensor, len(want))
			for j, t := range b.in {
				in[j] = guardedCopy(t)
			}
			for j, t := range want {
				got[j] = guardedCopy(t)
			}
			err := x.RunInto(b.t.Context(), in, got)
			if err != nil {
				b.t.Fatalf("%s: %v", what, err)
			}
			for j := range want {
				sameBits(b.t, fmt.Sprintf("%s %s", s.Name, what), got[j].Float32s(), want[j].Float32s())
			}
			arena := x.(*executable).arena
			arena = arena[:cap(arena)]
			for j := range arena {
				arena[j] = nan
			}
		}
		left := 0
		for _, s := range x.(*executable).plans[0].done() {
			if s.kind == evaluated {
				left++
			}
		}
		if left != others {
			b.t.Errorf("%s: %d nodes are left to their operators, want %d", what, left, others)
		}
		x.Close()
	}
}

func TestElementwise(t *testing.T) {
	for seed, shape := range [][]int{{2, 3, 5, 7}, {3, 40}, {100}, {}, {0, 3, 2, 2}, {2, 70, 1, 1}, {1, 2, 200, 100}} {
		for _, op := range []string{"Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Abs"} {
			b := newBuilder(t, uint64(seed))
			b.check(fmt.Sprint(op, shape), b.node(op, []*ir.Value{b.data(shape...)}), 0)
		}
		for _, op := range []string{"Add", "Sub", "Mul"} {
			b := newBuilder(t, uint64(seed))
			x := b.data(shape...)
			y := b.node(op, []*ir.Value{x, b.data(shape...)})
			y = b.node(op, []*ir.Value{y, b.Float("c", 0.7)})
			if len(shape) > 1 {
				per := make([]int, len(shape)-1)
				for i := range per {
					per[i] = 1
				}
				per[0] = shape[1]
				y = b.node(op, []*ir.Value{y, b.weights(per...)})
			}
			y = b.node(op, []*ir.Value{x, b.node("Relu", []*ir.Value{y})})
			b.check(fmt.Sprint(op, shape), y, 0)
		}
	}
}

func TestQuant(t *testing.T) {
	for seed, shape := range [][]int{{2, 3, 5, 7}, {3, 40}, {2, 5, 1, 1}} {
		for _, channels := range []int{1, shape[1]} {
			for _, signed := range []int{0, 1} {
				b := newBuilder(t, uint64(seed))
				scale, zero := make([]float32, channels), make([]float32, channels)
				for i := range scale {
					scale[i], zero[i] = 0.01+b.rand.Float32(), float32(b.rand.IntN(5)-2)
				}
				y := b.node("thriftc.Quant", []*ir.Value{b.data(shape...), b.Const("s", tensor.Of(scale, channels)),
					b.Const("z", tensor.Of(zero, channels)), b.Float("bits", 3)}, "signed", signed)
				b.check(fmt.Sprint(shape, channels, signed), b.node("Relu", []*ir.Value{y}), 0)
			}
		}
	}
}

// spatial returns random attributes of a convolution or pooling over planes of
// size h×w with windows of kh×kw.
func spatial(r *rand.Rand, kh, kw int) []any {
	a := []any{"strides", []int{1 + r.IntN(3), 1 + r.IntN(3)}, "dilations", []int{1 + r.IntN(2), 1 + r.IntN(2)}}
	switch r.IntN(4) {
	case 0:
		return append(a, "auto_pad", []string{"SAME_UPPER", "SAME_LOWER", "VALID"}[r.IntN(3)])
	case 1:
		return a
	}
	return append(a, "pads", []int{r.IntN(kh), r.IntN(kw), r.IntN(kh), r.IntN(kw)})
}

func TestConv(t *testing.T) {
	for seed := range uint64(100) {
		b := newBuilder(t, seed)
		r := b.rand
		kh, kw := 1+r.IntN(3), 1+r.IntN(4)
		group := []int{1, 1, 2, 5}[r.IntN(4)]
		ic, oc := group*(1+r.IntN(4)), group*(1+r.IntN(10))
		if r.IntN(3) == 0 { // depthwise
			group = ic
			oc = ic
		}
		attrs := append(spatial(r, kh, kw), "group", group)
		in := []*ir.Value{b.data(r.IntN(4), ic, 6+r.IntN(10), 8+r.IntN(20)), b.weights(oc, ic/group, kh, kw)}
		if r.IntN(2) == 0 {
			in = append(in, b.weights(oc))
		}
		v := b.node("Conv", in, attrs...)
		b.check(fmt.Sprint("conv ", seed, attrs), b.after(v), 0)
	}
}

// after adds some of the nodes that usually follow a convolution.
func (b *builder) after(v *ir.Value) *ir.Value {
	shape, _ := v.Type.Static()
	channels := func() *ir.Value {
		t := normals(b.rand, shape[1])
		for i, x := range tensor.Data[float32](t) {
			tensor.Data[float32](t)[i] = x*x + 0.1
		}
		return b.Const("c", t)
	}
	if b.rand.IntN(2) == 0 {
		v = b.node("BatchNormalization", []*ir.Value{v, channels(), channels(), channels(), channels()})
	}
	if b.rand.IntN(3) == 0 {
		v = b.node("Add", []*ir.Value{b.data(shape...), v})
	}
	switch b.rand.IntN(4) {
	case 0:
		v = b.node("Relu", []*ir.Value{v})
	case 1:
		v = b.node("Clip", []*ir.Value{v, b.Float("lo", 0), b.Float("hi", 6)})
	case 2:
		v = b.node("thriftc.Quant", []*ir.Value{v, b.Float("s", 0.1), b.Float("z", 3), b.Float("bits", 4)})
	}
	return v
}

// TestWideWindows: windows wider than the plane, so that every row or column has padding on both sides.
func TestWideWindows(t *testing.T) {
	for seed := range uint64(200) {
		b := newBuilder(t, seed)
		r := b.rand
		h, w, kh, kw, dh, dw := 1+r.IntN(4), 1+r.IntN(4), 1+r.IntN(5), 1+r.IntN(5), 1+r.IntN(2), 1+r.IntN(2)
		reach := func(k, d, in int) int { return max((k-1)*d+1-in, 0) }
		y, x := reach(kh, dh, h), reach(kw, dw, w)
		pads := []int{y/2 + r.IntN(2), x/2 + r.IntN(2), (y + 1) / 2, (x + 1) / 2}
		attrs := []any{"strides", []int{1 + r.IntN(3), 1 + r.IntN(3)}, "dilations", []int{dh, dw}, "pads", pads}
		channels := 1 + r.IntN(9)
		var v *ir.Value
		switch op := []string{"MaxPool", "AveragePool", "Conv", "Conv"}[seed%4]; op {
		case "Conv":
			group := 1
			if seed%8 < 4 {
				group = channels
			}
			v = b.node(op, []*ir.Value{b.data(1+r.IntN(2), channels, h, w), b.weights(channels, channels/group, kh, kw)}, append(attrs, "group", group)...)
		default:
			v = b.node(op, []*ir.Value{b.data(1+r.IntN(2), channels, h, w)}, append(attrs, "kernel_shape", []int{kh, kw}, "ceil_mode", r.IntN(2))...)
		}
		b.check(fmt.Sprint(seed, h, w, kh, kw, attrs), b.after(v), 0)
	}
}

func TestConvOneDimension(t *testing.T) {
	b := newBuilder(t, 1)
	b.check("conv1d", b.node("Conv", []*ir.Value{b.data(2, 4, 50), b.weights(6, 2, 5)}, "group", 2, "pads", []int{1, 2}, "strides", []int{2}), 0)
}

func TestMatrixProducts(t *testing.T) {
	for seed := range uint64(40) {
		b := newBuilder(t, seed)
		r := b.rand
		m, k, n := r.IntN(20), r.IntN(30), 1+r.IntN(120)
		if seed == 0 {
			m, k = 70, 1100
		}
		attrs := []any{"transA", r.IntN(2), "transB", r.IntN(2)}
		as, bs := []int{m, k}, []int{k, n}
		if attrs[1] == 1 {
			as = []int{k, m}
		}
		if attrs[3] == 1 {
			bs = []int{n, k}
		}
		in := []*ir.Value{b.data(as...), b.weights(bs...)}
		if r.IntN(3) == 0 {
			in[1] = b.data(bs...)
		}
		if r.IntN(2) == 0 {
			in = append(in, b.weights([][]int{{n}, {1, n}, {1}, {}}[r.IntN(4)]...))
			attrs = append(attrs, "beta", 0.3)
		}
		if r.IntN(2) == 0 {
			attrs = append(attrs, "alpha", 1.7)
		}
		b.check(fmt.Sprint("gemm ", seed, m, k, n, attrs), b.after(b.node("Gemm", in, attrs...)), 0)
	}
	for i, c := range [][2][]int{{{3, 4}, {4, 50}}, {{2, 3, 4}, {4, 5}}, {{2, 3, 7, 9}, {2, 3, 9, 65}}, {{2, 7, 9}, {1, 9, 5}},
		{{4, 1, 4}, {4, 4, 3}}, {{2, 3, 1, 16}, {2, 3, 16, 40}}, {{5, 1, 4}, {4, 3}}} {
		for _, constant := range []bool{false, true} {
			b := newBuilder(t, uint64(i))
			in := []*ir.Value{b.data(c[0]...), nil}
			if in[1] = b.Const("w", normals(b.rand, c[1]...)); !constant {
				in[1] = b.data(c[1]...)
			}
			b.check(fmt.Sprint("matmul ", c, constant), b.node("Relu", []*ir.Value{b.node("MatMul", in)}), 0)
		}
	}
}

func TestPools(t *testing.T) {
	for seed := range uint64(60) {
		b := newBuilder(t, seed)
		r := b.rand
		kh, kw := 1+r.IntN(4), 1+r.IntN(4)
		attrs := append(spatial(r, kh, kw), "kernel_shape", []int{kh, kw}, "ceil_mode", r.IntN(2))
		op := "MaxPool"
		if seed%2 == 0 {
			op = "AveragePool"
			attrs = append(attrs, "count_include_pad", r.IntN(2))
		}
		v := b.node(op, []*ir.Value{b.data(1+r.IntN(2), 1+r.IntN(3), 8+r.IntN(10), 8+r.IntN(30))}, attrs...)
		b.check(fmt.Sprint(op, seed, attrs), b.after(v), 0)
	}
	for _, attrs := range [][]any{ // no window of a row lies inside it
		{"kernel_shape", []int{3, 3}, "strides", []int{3, 3}, "pads", []int{1, 1, 1, 1}, "dilations", []int{2, 2}, "ceil_mode", 1},
		{"kernel_shape", []int{5, 5}, "pads", []int{2, 2, 2, 2}, "dilations", []int{2, 2}},
		{"kernel_shape", []int{7, 7}, "pads", []int{3, 3, 3, 3}},
		{"kernel_shape", []int{1, 7}, "pads", []int{0, 3, 0, 3}},
	} {
		for _, op := range []string{"MaxPool", "AveragePool"} {
			for _, size := range []int{5, 6} {
				b := newBuilder(t, 1)
				b.check(fmt.Sprint(op, attrs, size), b.after(b.node(op, []*ir.Value{b.data(1, 2, size, size)}, attrs...)), 0)
			}
		}
	}
	b := newBuilder(t, 1)
	b.check("global", b.after(b.node("GlobalAveragePool", []*ir.Value{b.data(2, 5, 7, 9)})), 0)
}

func TestConvWithInfiniteWeights(t *testing.T) {
	b := newBuilder(t, 1)
	w := normals(b.rand, 2, 3, 3, 3)
	tensor.Data[float32](w)[5] = float32(math.Inf(1))
	b.check("infinite weight", b.node("Conv", []*ir.Value{b.data(1, 3, 8, 8), b.Const("w", w)}, "pads", []int{1, 1, 1, 1}), 1)
}

func TestMoves(t *testing.T) {
	for seed := range uint64(10) {
		b := newBuilder(t, seed)
		ints := func(x ...int64) *ir.Value { return b.Ints("i", x...) }
		x := b.data(3, 4, 50, 60)
		v := b.node("Transpose", []*ir.Value{x}, "perm", [][]int{{0, 2, 3, 1}, {3, 1, 0, 2}, {0, 1, 3, 2}, {1, 0, 2, 3}, {0, 1, 2, 3}}[seed%5])
		v = b.node("Slice", []*ir.Value{v, ints(1, -1, -100), ints(1000, -1000, 2), ints(1, -2, 0), ints(2, -3, 1)})
		v = b.node("Pad", []*ir.Value{v, ints(1, 0, 2, 0, 3, 0), b.Float("f", 0.5), ints(3, 0, -3)})
		v = b.node("Concat", []*ir.Value{v, v}, "axis", int(seed%5)-2)
		b.check(fmt.Sprint("moves ", seed), b.node("Relu", []*ir.Value{v}), 0)
	}
	b := newBuilder(t, 1)
	n, err := b.Add("Split", "", ir.MakeAttrs("axis", -1), []*ir.Value{b.data(2, 3, 7), b.Ints("sizes", 2, 4, 1)}, "p", "q", "r")
	if err != nil {
		t.Fatal(err)
	}
	b.check("split", b.node("Concat", []*ir.Value{n.Out[2], n.Out[0], n.Out[1]}, "axis", 2), 0)
	b = newBuilder(t, 2)
	v := b.node("Pad", []*ir.Value{b.data(2, 5), b.Ints("p", 0, -1, 1, 2)})
	b.check("cutting pad", v, 1)
}

// TestSequences: a graph with sequences runs on the reference evaluators.
func TestSequences(t *testing.T) {
	b := newBuilder(t, 1)
	x := b.data(3, 2)
	s := b.node("SplitToSequence", []*ir.Value{b.node("Relu", []*ir.Value{x})})
	s = b.node("Identity", []*ir.Value{s})
	s = b.node("SequenceInsert", []*ir.Value{s, b.weights(1, 2)})
	s = b.node("SequenceErase", []*ir.Value{s, b.Ints("i", 0)})
	constant := b.node("SequenceConstruct", []*ir.Value{b.weights(2, 2)})
	s = b.node("SequenceInsert", []*ir.Value{s, b.node("SequenceAt", []*ir.Value{constant, b.Ints("i", 0)})})
	b.check("sequence", b.node("ConcatFromSequence", []*ir.Value{s}, "axis", 0), 6)
}

var nan = float32(math.NaN())
