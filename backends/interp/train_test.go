package interp

import (
	"fmt"
	"math"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// checkAll compares the engine with the reference on all of the values, for all
// kernels; others is how many nodes the engine leaves to their operators.
func (b *builder) checkAll(what string, others int, values ...*ir.Value) {
	b.t.Helper()
	for _, v := range values {
		b.Output(v)
	}
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
		for range 2 { // the second time with memory that has been used
			got, err := x.Run(b.t.Context(), b.in)
			if err != nil {
				b.t.Fatalf("%s: %v", what, err)
			}
			for j := range want {
				sameBits(b.t, fmt.Sprintf("%s %s output %d", s.Name, what, j), got[j].Float32s(), want[j].Float32s())
			}
		}
		left := 0
		for _, s := range x.(*executable).plans[0].steps {
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

// gradients returns those of all inputs of the builder with respect to y, weighted by another
// input.
func (b *builder) gradients(y *ir.Value) []*ir.Value {
	b.t.Helper()
	wrt := b.Graph().Inputs
	shape, _ := y.Type.Static()
	y = b.node("Mul", []*ir.Value{y, b.data(shape...)})
	grads, err := ops.Gradients(b.Rewriter, y, wrt, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return grads
}

func TestConvGradients(t *testing.T) {
	for seed := range uint64(60) {
		b := newBuilder(t, seed)
		r := b.rand
		kh, kw := 1+r.IntN(4), 1+r.IntN(4)
		ic, oc, group := 1+r.IntN(40), 1+r.IntN(90), 1
		switch {
		case seed%4 == 3:
			oc, group = ic, ic
			if ic == 1 {
				continue
			}
		case seed%4 == 1: // 16 channels are a block
			group = 2 + r.IntN(4)
			ic, oc = group*(1+r.IntN(20)), group*(1+r.IntN(20))
			if seed%8 == 1 {
				ic, oc = group*16, group*16*(1+r.IntN(2))
			}
		}
		strides, dilations := []int{1 + r.IntN(2), 1 + r.IntN(3)}, []int{1, 1}
		if seed%5 == 2 {
			strides, dilations = []int{1, 1 + r.IntN(2)}, []int{2, 1}
		}
		dims, k, pad := []int{4 + r.IntN(9), 4 + r.IntN(9)}, []int{kh, kw}, []int{r.IntN(kh), r.IntN(kw), r.IntN(kh), r.IntN(kw)}
		dims[0] += (kh - 1) * (dilations[0] - 1)
		if seed%7 == 4 {
			dims, k, pad, strides, dilations = dims[:1], k[:1], []int{pad[0], pad[2]}, strides[:1], dilations[:1]
		}
		x := b.data(append([]int{1 + r.IntN(18), ic}, dims...)...)
		w := b.data(append([]int{oc, ic / group}, k...)...)
		y := b.node("Conv", []*ir.Value{x, w}, "strides", strides, "dilations", dilations, "pads", pad, "group", group)
		b.checkAll(fmt.Sprint("seed ", seed), 0, b.gradients(y)...)
	}
}

func TestNormGradients(t *testing.T) {
	for seed, shape := range [][]int{{9, 16, 6, 5}, {3, 40, 4, 4}, {17, 3, 1, 9}, {1, 20, 8, 8}, {20, 33}, {5, 6, 7}} {
		b := newBuilder(t, uint64(seed))
		x, scale, bias := b.data(shape...), b.data(shape[1]), b.data(shape[1])
		n, err := b.Add("thriftc.BatchNormTrain", "", nil, []*ir.Value{x, scale, bias})
		if err != nil {
			t.Fatal(err)
		}
		y := b.node("Relu", []*ir.Value{b.node("Add", []*ir.Value{n.Out[0], b.data(shape...)})})
		out := append(b.gradients(y), n.Out[1], n.Out[2])
		b.checkAll(fmt.Sprint("shape ", shape), 0, out...)
	}
	b := newBuilder(t, 8)
	x := b.data(3, 20, 5, 6)
	y := b.node("BatchNormalization", []*ir.Value{x, b.data(20), b.data(20), b.data(20), b.node("Abs", []*ir.Value{b.data(20)})})
	b.checkAll("parameters that are computed", 0, b.node("Relu", []*ir.Value{y}))
	b = newBuilder(t, 9)
	shape := []int{9, 20, 5, 6}
	in := []*ir.Value{b.data(shape...), b.data(shape...), b.data(20), b.data(20), b.node("Abs", []*ir.Value{b.data(20)}), b.data(shape...)}
	n, err := b.Add("thriftc.BatchNormTrainGrad", "", nil, in)
	if err != nil {
		t.Fatal(err)
	}
	b.checkAll("with a mask", 0, n.Out...)
}

func TestPoolGradients(t *testing.T) {
	for seed := range uint64(20) {
		for _, op := range []string{"MaxPool", "AveragePool"} {
			b := newBuilder(t, seed)
			r := b.rand
			kh, kw := 1+r.IntN(4), 1+r.IntN(4)
			attrs := append([]any{"kernel_shape", []int{kh, kw}, "ceil_mode", r.IntN(2)}, spatial(r, kh, kw)...)
			if op == "AveragePool" {
				attrs = append(attrs, "count_include_pad", r.IntN(2))
			}
			x := b.data(1+r.IntN(3), 1+r.IntN(20), 9+r.IntN(5), 9+r.IntN(5))
			b.checkAll(fmt.Sprint(op, " seed ", seed), 0, b.gradients(b.node(op, []*ir.Value{x}, attrs...))...)
		}
	}
	b := newBuilder(t, 1)
	x := b.data(3, 20, 4, 5)
	b.checkAll("global", 0, b.gradients(b.node("GlobalAveragePool", []*ir.Value{x}))...)
}

// Winograd's method with weights that are no constants, forward and back: the same bits for all
// kernels and threads, and close to the operators' own order.
func TestWinogradGradients(t *testing.T) {
	for seed, shape := range [][]int{{3, 20, 14, 13}, {17, 16, 8, 8}, {9, 40, 16, 17}, {1, 16, 12, 12}} {
		winogradGradients(t, uint64(seed), shape, 24-4*seed)
	}
}

func winogradGradients(t *testing.T, seed uint64, shape []int, oc int) {
	b := newBuilder(t, seed)
	x, w := b.data(shape...), b.data(oc, shape[1], 3, 3)
	y := b.node("Conv", []*ir.Value{b.node("Relu", []*ir.Value{x}), w}, "pads", []int{1, 1, 1, 1})
	y = b.node("Add", []*ir.Value{b.node("Conv", []*ir.Value{y, b.data(oc, oc, 3, 3)}, "pads", []int{1, 1, 1, 1}), y})
	for _, v := range append(b.gradients(y), y) {
		b.Output(v)
	}
	want, err := ir.Eval(t.Context(), b.Graph(), b.in)
	if err != nil {
		t.Fatal(err)
	}
	var first []*tensor.Tensor
	for i, s := range simd.All() {
		e, err := New().Compile(t.Context(), b.Graph(), backends.Options{Threads: 1 + i, Kernel: s.Name})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		got, err := e.Run(t.Context(), b.in)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]int{}
		for _, s := range e.(*executable).plans[0].steps {
			names[s.name]++
		}
		if names["winograd"] != 2 || names["winograd input gradient"] != 2 || names["winograd weight gradient"] != 2 {
			t.Fatalf("kernels are %v, want two of Winograd's each way", names)
		}
		if first == nil {
			first = got
		}
		for j := range got {
			sameBits(t, fmt.Sprint(s.Name, " output ", j), got[j].Float32s(), first[j].Float32s())
			size := 0.0 // of an element, on average
			for _, v := range want[j].Float32s() {
				size += math.Abs(float64(v)) / float64(want[j].Len())
			}
			for k, v := range got[j].Float32s() {
				if d := math.Abs(float64(v - want[j].Float32s()[k])); d > 3e-5*size {
					t.Fatalf("output %d element %d is %v, the reference %v; on average their size is %v", j, k, v, want[j].Float32s()[k], size)
				}
			}
		}
	}
}

// Biases that are no constants, with what may follow them.
func TestLateBias(t *testing.T) {
	for seed := range uint64(12) {
		b := newBuilder(t, seed)
		oc := 1 + b.rand.IntN(40)
		y := b.node("Conv", []*ir.Value{b.data(2, 5, 7, 6), b.data(oc, 5, 3, 3), b.data(oc)}, "pads", []int{1, 1, 1, 1})
		if seed%2 == 0 {
			y = b.node("Add", []*ir.Value{y, b.weights(oc, 1, 1)})
		}
		b.checkAll(fmt.Sprint("Conv ", seed), 0, b.node("Relu", []*ir.Value{y}))
		b = newBuilder(t, seed)
		y = b.node("Gemm", []*ir.Value{b.data(9, 20), b.data(oc, 20), b.data(oc)}, "transB", 1)
		b.checkAll(fmt.Sprint("Gemm ", seed), 0, b.node("Relu", []*ir.Value{y}))
	}
	for _, shape := range [][]int{{5, 20, 3, 7}, {3, 33, 9}, {2, 16, 4, 4}} {
		b := newBuilder(t, 5)
		axes := []int64{0, 2, 3}[:len(shape)-1]
		b.checkAll(fmt.Sprint("sums of ", shape), 0, b.node("ReduceSum", []*ir.Value{b.data(shape...), b.Ints("axes", axes...)}, "keepdims", 0))
	}
	b := newBuilder(t, 1)
	b.checkAll("one column", 0, b.node("Gemm", []*ir.Value{b.data(9, 20), b.data(20, 1), b.data(1)}))
}

func TestSGDUpdate(t *testing.T) {
	for seed, shape := range [][]int{{3, 5, 7}, {1}, {2100}, {0}} {
		for _, nesterov := range []int{0, 1} {
			b := newBuilder(t, uint64(seed))
			in := []*ir.Value{b.data(shape...), b.data(shape...), b.data(shape...), b.data(), b.data()}
			n, err := b.Add("thriftc.SGDUpdate", "", ir.MakeAttrs("nesterov", nesterov, "weight_decay", 0.1), in[:4+seed%2])
			if err != nil {
				t.Fatal(err)
			}
			b.checkAll(fmt.Sprint("shape ", shape), 0, n.Out...)
		}
	}
}

func TestClipGradient(t *testing.T) {
	for _, shape := range [][]int{{3, 20, 5, 7}, {4, 300}} {
		for limits := range 4 {
			b := newBuilder(t, uint64(limits))
			in := []*ir.Value{b.data(shape...), nil, nil}
			for i := range 2 {
				if limits>>i&1 != 0 {
					in[i+1] = b.Float("limit", float32(i))
				}
			}
			b.checkAll(fmt.Sprint("shape ", shape, " limits ", limits), 0, b.gradients(b.node("Clip", in))...)
		}
	}
}
