package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// subject is a small float model with random weights.
type subject struct {
	name  string
	input []int // shape of one sample
	build func(b *builder, x *ir.Value) *ir.Value
}

var subjects = []subject{
	{"mlp", []int{16}, func(b *builder, x *ir.Value) *ir.Value {
		return b.gemm(b.relu(b.gemm(x, 16, 12)), 12, 5)
	}},
	{"plain", []int{3, 8, 8}, func(b *builder, x *ir.Value) *ir.Value {
		x = b.relu(b.conv(x, 3, 6, 3, 1))
		x = b.add("MaxPool", ir.MakeAttrs("kernel_shape", []int{2, 2}, "strides", []int{2, 2}), x)
		return b.head(b.relu(b.conv(x, 6, 8, 3, 1)), 8)
	}},
	{"residual", []int{4, 6, 6}, func(b *builder, x *ir.Value) *ir.Value {
		y := b.conv(b.relu(b.conv(x, 4, 4, 3, 1)), 4, 4, 3, 1)
		return b.head(b.relu(b.add("Add", nil, y, x)), 4)
	}},
	{"depthwise", []int{4, 6, 6}, func(b *builder, x *ir.Value) *ir.Value {
		x = b.relu(b.conv(x, 4, 4, 3, 4))
		return b.head(b.relu(b.conv(x, 4, 8, 1, 1)), 8)
	}},
	{"concat", []int{3, 6, 6}, func(b *builder, x *ir.Value) *ir.Value {
		x = b.add("Concat", ir.MakeAttrs("axis", 1), b.relu(b.conv(x, 3, 4, 1, 1)), b.relu(b.conv(x, 3, 4, 3, 1)))
		return b.head(b.relu(b.conv(x, 8, 8, 1, 1)), 8)
	}},
	{"tokens", []int{6, 16}, func(b *builder, x *ir.Value) *ir.Value {
		return b.matmul(b.relu(b.matmul(x, 16, 16)), 16, 8)
	}},
	{"moved", []int{3, 4, 4}, func(b *builder, x *ir.Value) *ir.Value {
		x = b.conv(x, 3, 4, 3, 1)
		x = b.add("Reshape", nil, x, b.r.Ints("shape", 0, -1))
		return b.add("Sigmoid", nil, x)
	}},
}

// builder adds nodes and random weights to a graph.
type builder struct {
	r   *ir.Rewriter
	rng *rand.Rand
	n   int
	err error
}

// graph returns the model.
func (s subject) graph() (*ir.Graph, error) {
	b := &builder{r: ir.NewRewriter(ir.NewGraph(s.name, ops.Table())), rng: rand.New(rand.NewPCG(1, uint64(len(s.name))))}
	dims := append([]ir.Dim{ir.Symbol("N")}, ir.Dims(s.input...)...)
	y := s.build(b, b.r.Input("x", ir.TensorType(tensor.F32, dims...)))
	if b.err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, b.err)
	}
	b.r.Output(y)
	return b.r.Graph(), nil
}

func (b *builder) add(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	if b.err != nil {
		return in[0]
	}
	b.n++
	name := fmt.Sprintf("%s_%d", op, b.n)
	n, err := b.r.Add(op, name, attrs, in, name+"_out")
	if err != nil {
		b.err = err
		return in[0]
	}
	return n.Out[0]
}

// weight draws a constant of which fan elements are summed.
func (b *builder) weight(what string, fan int, shape ...int) *ir.Value {
	n, _ := tensor.NumElems(shape)
	w := make([]float32, n)
	limit := float32(math.Sqrt(3 / float64(fan)))
	for i := range w {
		w[i] = limit * (float32(2*b.rng.Float32()) - 1) // exact: two is a power of two
	}
	return b.r.Const(fmt.Sprintf("%s_%d", what, b.n+1), tensor.Of(w, shape...))
}

func (b *builder) relu(x *ir.Value) *ir.Value { return b.add("Relu", nil, x) }

// conv is a convolution that keeps the size, from c channels to m, with kernels of k×k.
func (b *builder) conv(x *ir.Value, c, m, k, group int) *ir.Value {
	w := b.weight("weight", c/group*k*k, m, c/group, k, k)
	return b.add("Conv", ir.MakeAttrs("group", group, "kernel_shape", []int{k, k}, "pads", []int{k / 2, k / 2, k / 2, k / 2}), x, w, b.weight("bias", 12, m))
}

func (b *builder) gemm(x *ir.Value, k, m int) *ir.Value {
	return b.add("Gemm", ir.MakeAttrs("transB", 1), x, b.weight("weight", k, m, k), b.weight("bias", 12, m))
}

func (b *builder) matmul(x *ir.Value, k, m int) *ir.Value {
	return b.add("MatMul", nil, x, b.weight("weight", k, k, m))
}

// head ends a classifier of images with c channels.
func (b *builder) head(x *ir.Value, c int) *ir.Value {
	x = b.add("Flatten", ir.MakeAttrs("axis", 1), b.add("GlobalAveragePool", nil, x))
	return b.gemm(x, c, 5)
}
