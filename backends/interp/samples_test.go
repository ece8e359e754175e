package interp

import (
	"errors"
	"fmt"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestSamples: graphs of which every sample is computed by itself, and some of which it must not be.
func TestSamples(t *testing.T) {
	conv := func(b *builder, v *ir.Value) *ir.Value {
		return b.node("Conv", []*ir.Value{v, b.weights(12, staticShape(v)[1], 3, 3)}, "pads", []int{1, 1, 1, 1})
	}
	for _, c := range []struct {
		name  string
		alone bool
		make  func(b *builder) *ir.Value
	}{
		{"chain", true, func(b *builder) *ir.Value {
			v := conv(b, b.data(6, 5, 9, 8))
			v = b.node("Add", []*ir.Value{conv(b, b.node("Sigmoid", []*ir.Value{v})), v})
			v = b.node("MaxPool", []*ir.Value{v}, "kernel_shape", []int{2, 2})
			v = b.node("Mul", []*ir.Value{v, b.weights(1, 12, 1, 1)})
			return b.node("Gemm", []*ir.Value{b.node("Flatten", []*ir.Value{v}), b.weights(12*8*7, 3), b.weights(3)})
		}},
		{"reshape", true, func(b *builder) *ir.Value {
			v := b.node("Reshape", []*ir.Value{conv(b, b.data(6, 5, 9, 8)), b.Ints("s", 6, 4, 3, 72)})
			v = b.node("Softmax", []*ir.Value{b.node("Transpose", []*ir.Value{v}, "perm", []int{0, 2, 3, 1})}, "axis", 1)
			return b.node("Concat", []*ir.Value{v, v}, "axis", -1)
		}},
		{"output without a kernel", true, func(b *builder) *ir.Value {
			return b.node("LogSoftmax", []*ir.Value{conv(b, b.data(6, 5, 9, 8))}, "axis", 1)
		}},
		{"two inputs", true, func(b *builder) *ir.Value {
			return b.node("Mul", []*ir.Value{conv(b, b.data(6, 5, 9, 8)), b.data(6, 12, 9, 8)})
		}},
		{"integers", true, func(b *builder) *ir.Value {
			i := &byteBuilder{b, map[*ir.Value]int64{}}
			v := b.node("QuantizeLinear", []*ir.Value{b.data(6, 5, 9, 8), b.Float("s", 0.02), i.integer(tensor.U8, 7)})
			i.zeros[v] = 7
			for range 3 {
				v = i.product(v, false)
			}
			v = i.result("thriftc.QGlobalAveragePool", []*ir.Value{v, i.zeroOf(v), i.multiplier(5000, 1)})
			f := b.node("Flatten", []*ir.Value{v})
			i.zeros[f] = i.zeros[v]
			return i.product(f, true)
		}},
		{"reduction over samples", false, func(b *builder) *ir.Value {
			return b.node("ReduceSum", []*ir.Value{conv(b, b.data(6, 5, 9, 8)), b.Ints("axes", 0)}, "keepdims", 1)
		}},
		{"softmax over samples", false, func(b *builder) *ir.Value {
			return b.node("Softmax", []*ir.Value{conv(b, b.data(6, 5, 9, 8))}, "axis", 0)
		}},
		{"constant for each sample", false, func(b *builder) *ir.Value {
			return b.node("Add", []*ir.Value{conv(b, b.data(6, 5, 9, 8)), b.weights(6, 1, 1, 1)})
		}},
		{"samples as channels", false, func(b *builder) *ir.Value {
			v := b.node("Transpose", []*ir.Value{conv(b, b.data(6, 6, 9, 8))}, "perm", []int{1, 0, 2, 3})
			return conv(b, b.node("Reshape", []*ir.Value{v, b.Ints("s", 6, 12, 9, 8)}))
		}},
		{"broadcast to the samples", false, func(b *builder) *ir.Value {
			return b.node("Add", []*ir.Value{b.data(6, 6, 6), b.node("Relu", []*ir.Value{b.data(6, 6)})})
		}},
		{"backwards", false, func(b *builder) *ir.Value {
			v := conv(b, b.data(6, 5, 9, 8))
			return b.node("Slice", []*ir.Value{v, b.Ints("a", 5), b.Ints("b", -100), b.Ints("axes", 0), b.Ints("steps", -1)})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder(t, 1)
			v := c.make(b)
			b.Output(v)
			want, err := ir.Eval(t.Context(), b.Graph(), b.in)
			if err != nil {
				t.Fatal(err)
			}
			for _, threads := range []int{1, 2, 3} {
				x, err := New().Compile(t.Context(), b.Graph(), backends.Options{Threads: threads, NoWinograd: true})
				if err != nil {
					t.Fatal(err)
				}
				defer x.Close()
				for range 2 {
					got, err := x.Run(t.Context(), b.in)
					if err != nil {
						t.Fatal(err)
					}
					sameBits(t, fmt.Sprint(threads, " threads"), got[0].Float32s(), want[0].Float32s())
				}
				if alone := x.(*executable).plans[0].samples != nil; alone != c.alone {
					t.Errorf("%d threads: samples by themselves: %v", threads, alone)
				}
				if steps, err := x.(backends.Profiler).Profile(t.Context(), b.in); err != nil || len(steps) == 0 {
					t.Errorf("profile of %d steps, error %v", len(steps), err)
				}
			}
		})
	}
}

// An error in one sample is the run's.
func TestSamplesFail(t *testing.T) {
	b := newBuilder(t, 1)
	v := b.node("GlobalMaxPool", []*ir.Value{b.node("Relu", []*ir.Value{b.data(4, 3, 5)})})
	b.Output(v)
	x := compile(t, b.Graph(), 2).(*executable)
	if _, err := x.Run(t.Context(), b.in); err != nil {
		t.Fatal(err)
	}
	for _, q := range x.plans[0].samples.plans {
		for i := range q.steps {
			if q.steps[i].kind == evaluated {
				op := *q.steps[i].node.Op
				op.Eval = func(*ir.Node, []*tensor.Tensor) ([]*tensor.Tensor, error) { return nil, errBroken }
				q.steps[i].node.Op = &op
			}
		}
	}
	if _, err := x.Run(t.Context(), b.in); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

var errBroken = errors.New("broken")
