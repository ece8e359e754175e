package interp

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"thriftc/backends"
	"thriftc/backends/interp/simd"
	"thriftc/ir"
	"thriftc/ir/ops"
	"thriftc/ir/tensor"
)

// builder makes graphs for tests.
type builder struct {
	*ir.Rewriter
	t    *testing.T
	rand *rand.Rand
	in   []*tensor.Tensor
}

func newBuilder(t *testing.T, seed uint64) *builder {
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
		x, err := (&engine{s}).Compile(b.t.Context(), g, backends.Options{Threads: 1 + i})
		if err != nil {
			b.t.Fatalf("%s: %v", what, err)
		}
		for range 2 { // the second time with memory that has been used
			got, err := x.Run(b.t.Context(), b.in)
			if err != nil {
				b.t.Fatalf("%s: %v", what, err)
			}
			sameBits(b.t, fmt.Sprintf("%s %s", s.Name, what), got[0].Float32s(), want[0].Float32s())
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
