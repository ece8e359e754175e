package irtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Random draws a graph of about size nodes, the same for the same seed and
// registry: a network of those operators in ops that it has a recipe for, with
// shared weights, values used several times, dead ends, several outputs, and,
// for odd seeds, a symbolic batch dimension.
func Random(t testing.TB, ops *ir.Registry, seed uint64, size int) *ir.Graph {
	t.Helper()
	g := ir.NewGraph(fmt.Sprintf("random%d", seed), ops)
	d := &drawer{t: t, r: ir.NewRewriter(g), rng: rand.New(rand.NewPCG(seed, 1))}
	batch := ir.Fixed(2)
	if seed%2 == 1 {
		batch = ir.Symbol("N")
	}
	c := 1 + d.rng.IntN(4)
	d.values = append(d.values, d.r.Input("x", ir.TensorType(tensor.F32, batch, ir.Fixed(c), ir.Fixed(6+d.rng.IntN(4)), ir.Fixed(7))))
	if d.rng.IntN(2) == 0 {
		d.values = append(d.values, d.r.Input("y", ir.TensorType(tensor.F32, batch, ir.Fixed(3))))
	}
	usable := slices.DeleteFunc(slices.Clone(recipes), func(rc recipe) bool { return ops.Lookup(rc.op) == nil })
	if len(usable) == 0 {
		t.Fatal("irtest: the registry has no operator with a recipe")
	}
	for tries := 0; len(g.Nodes) < size && tries < 20*size; tries++ {
		rc := usable[d.rng.IntN(len(usable))]
		rc.draw(d, rc.op, d.pick())
	}
	d.outputs()
	return g
}

// outputs makes values outputs: most of those that nothing uses, and a few others.
func (d *drawer) outputs() {
	for _, v := range slices.Concat(d.values, d.bytes) {
		if v.Unused() && v.Kind == ir.Result && d.rng.IntN(8) > 0 || d.rng.IntN(16) == 0 && v.Kind == ir.Result {
			d.r.Output(v)
		}
	}
	if len(d.r.Graph().Outputs) == 0 {
		d.r.Output(d.values[len(d.values)-1])
	}
}

// Inputs is InputsOf with every symbolic dimension 3.
func Inputs(g *ir.Graph, seed uint64) []*tensor.Tensor { return InputsOf(g, seed, 3) }

// InputsOf draws input tensors for g with every symbolic dimension n: floats
// between −2 and 2, integers between 0 and 3.
func InputsOf(g *ir.Graph, seed uint64, n int) []*tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 2))
	var out []*tensor.Tensor
	for _, v := range g.Inputs {
		shape := make([]int, len(v.Type.Dims))
		for i, d := range v.Type.Dims {
			if shape[i] = d.N; !d.Known() {
				shape[i] = n
			}
		}
		out = append(out, RandomTensor(rng, v.Type.Elem, shape...))
	}
	return out
}

// RandomTensor draws a tensor: floats between −2 and 2, bools and bipolars at
// even odds, other integers from 0 to 3 or as far as the type goes.
func RandomTensor(rng *rand.Rand, e tensor.Elem, shape ...int) *tensor.Tensor {
	n, _ := tensor.NumElems(shape)
	if e.IsFloat() {
		x := make([]float32, n)
		for i := range x {
			x[i] = rng.Float32()*4 - 2
		}
		return tensor.FromFloat32s(e, x, shape...)
	}
	x := make([]int64, n)
	_, hi := e.Range()
	for i := range x {
		if x[i] = rng.Int64N(min(hi, 3) + 1); e == tensor.Bipolar {
			x[i] = 2*rng.Int64N(2) - 1
		}
	}
	return tensor.FromInt64s(e, x, shape...)
}

type drawer struct {
	t      testing.TB
	r      *ir.Rewriter
	rng    *rand.Rand
	values []*ir.Value // float values to continue from

	// Of RandomLayouts only.
	channels []int               // the numbers of channels that convolutions have
	bytes    []*ir.Value         // i8 and u8 values to continue from
	zeros    map[*ir.Value]int64 // their zero points
	macs     int                 // multiply-adds so far
}

// pick prefers recent values, so that graphs grow deep as well as wide.
func (d *drawer) pick() *ir.Value {
	n := len(d.values)
	if d.rng.IntN(3) > 0 {
		return d.values[n-1-d.rng.IntN(min(n, 3))]
	}
	return d.values[d.rng.IntN(n)]
}

func (d *drawer) add(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	d.t.Helper()
	n, err := d.r.Add(op, "", attrs, in)
	if err != nil {
		d.t.Fatalf("irtest: recipe of %s: %v", op, err)
	}
	d.values = append(d.values, n.Out[0])
	return n.Out[0]
}

// weight returns a constant of the given shape: now and then one that is there already.
func (d *drawer) weight(name string, shape ...int) *ir.Value {
	for _, c := range d.r.Graph().Consts {
		if c.Data.Elem() == tensor.F32 && slices.Equal(c.Data.Shape(), shape) && d.rng.IntN(2) == 0 {
			return c
		}
	}
	return d.r.Const(name, RandomTensor(d.rng, tensor.F32, shape...))
}

// positive returns a new constant with elements between 0.5 and 2, for variances.
func (d *drawer) positive(name string, n int) *ir.Value {
	x := make([]float32, n)
	for i := range x {
		x[i] = 0.5 + 1.5*d.rng.Float32()
	}
	return d.r.Const(name, tensor.Of(x, n))
}

type recipe struct {
	op   string
	draw func(d *drawer, op string, x *ir.Value)
}

func unary(d *drawer, op string, x *ir.Value) { d.add(op, nil, x) }

func binary(d *drawer, op string, x *ir.Value) {
	y := x
	switch d.rng.IntN(3) {
	case 0:
		for _, v := range d.values {
			if v.Type.Equal(x.Type) && d.rng.IntN(2) == 0 {
				y = v
			}
		}
	case 1:
		y = d.weight("scalar")
	default:
		if shape, ok := image(x); ok {
			y = d.weight("perchannel", shape[0], 1, 1)
		}
	}
	if d.rng.IntN(4) == 0 {
		x, y = y, x
	}
	d.add(op, nil, x, y)
}

// image returns the channels, height and width of a rank-4 value where they are known.
func image(x *ir.Value) ([3]int, bool) {
	if x.Type.Rank() != 4 {
		return [3]int{}, false
	}
	var out [3]int
	for i := range out {
		if out[i] = x.Type.Dims[i+1].N; out[i] < 1 {
			return out, false
		}
	}
	return out, true
}

func matrix(x *ir.Value) (cols int, ok bool) {
	return lastDim(x), x.Type.Rank() == 2 && lastDim(x) > 0
}

func lastDim(x *ir.Value) int {
	if r := x.Type.Rank(); r > 0 {
		return x.Type.Dims[r-1].N
	}
	return 0
}

func onImages(draw func(d *drawer, op string, x *ir.Value, c, h, w int)) func(*drawer, string, *ir.Value) {
	return func(d *drawer, op string, x *ir.Value) {
		if s, ok := image(x); ok && s[0] <= 16 && s[1] >= 3 && s[2] >= 3 && s[1] < 20 && s[2] < 20 {
			draw(d, op, x, s[0], s[1], s[2])
		}
	}
}

func onMatrices(draw func(d *drawer, op string, x *ir.Value, k int)) func(*drawer, string, *ir.Value) {
	return func(d *drawer, op string, x *ir.Value) {
		if k, ok := matrix(x); ok && k <= 1000 {
			draw(d, op, x, k)
		}
	}
}

var recipes = []recipe{
	{"Relu", unary}, {"Sigmoid", unary}, {"Tanh", unary}, {"Abs", unary}, {"Neg", unary},
	{"Identity", unary}, {"Dropout", unary}, {"LeakyRelu", unary}, {"HardSigmoid", unary}, {"HardSwish", unary},
	{"Add", binary}, {"Sub", binary}, {"Mul", binary}, {"Max", binary}, {"Sum", binary},
	{"Clip", func(d *drawer, op string, x *ir.Value) {
		d.add(op, nil, x, d.r.Float("lo", 0), d.r.Float("hi", []float32{1, 6}[d.rng.IntN(2)]))
	}},
	{"Conv", onImages(drawConv)}, {"Conv", onImages(drawConv)}, {"Conv", onImages(drawConv)},
	{"ConvTranspose", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		m := 1 + d.rng.IntN(3)
		d.add(op, ir.MakeAttrs("strides", []int{1 + d.rng.IntN(2), 1}), x, d.weight("wt", c, m, 2, 2), d.weight("b", m))
	})},
	{"BatchNormalization", onImages(drawNorm)}, {"BatchNormalization", onImages(drawNorm)},
	{"MaxPool", onImages(drawPool)}, {"AveragePool", onImages(drawPool)},
	{"GlobalAveragePool", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) { d.add(op, nil, x) })},
	{"Pad", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		p := func() int64 { return d.rng.Int64N(2) }
		d.add(op, nil, x, d.r.Ints("pads", 0, 0, p(), p(), 0, 0, p(), p()))
	})},
	{"Transpose", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		perm := [][]int{{0, 1, 2, 3}, {0, 1, 3, 2}, {0, 2, 3, 1}, {0, 3, 1, 2}}[d.rng.IntN(4)]
		d.add(op, ir.MakeAttrs("perm", perm), x)
	})},
	{"Concat", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		d.add(op, ir.MakeAttrs("axis", 1), slices.Repeat([]*ir.Value{x}, 1+d.rng.IntN(2))...)
	})},
	{"Slice", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		end := []int64{int64(h), int64(h) - 1, 1 << 40}[d.rng.IntN(3)]
		d.add(op, nil, x, d.r.Ints("starts", d.rng.Int64N(2)), d.r.Ints("ends", end), d.r.Ints("axes", 2))
	})},
	{"Flatten", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) { d.add(op, ir.MakeAttrs("axis", 1), x) })},
	{"Reshape", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		shape := [][]int64{{0, int64(c * h * w)}, {0, -1, 1, int64(w)}, {0, int64(c), int64(h), int64(w)}}[d.rng.IntN(3)]
		d.add(op, nil, x, d.r.Ints("shape", shape...))
	})},
	{"ReduceMean", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		d.add(op, ir.MakeAttrs("keepdims", d.rng.IntN(2)), x, d.r.Ints("axes", 2, 3))
	})},
	{"Unsqueeze", onImages(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		v := d.add(op, nil, x, d.r.Ints("axes", 0))
		if d.r.Graph().Ops.Lookup("Squeeze") != nil {
			d.add("Squeeze", nil, v, d.r.Ints("axes", 0))
		}
	})},
	{"Gemm", onMatrices(func(d *drawer, op string, x *ir.Value, k int) {
		n := 1 + d.rng.IntN(5)
		if d.rng.IntN(2) == 0 {
			d.add(op, nil, x, d.weight("w", k, n), d.weight("b", n))
		} else {
			d.add(op, ir.MakeAttrs("transB", 1), x, d.weight("w", n, k))
		}
	})},
	{"MatMul", onMatrices(func(d *drawer, op string, x *ir.Value, k int) {
		v := d.add(op, nil, x, d.weight("w", k, 3))
		if d.rng.IntN(2) == 0 && d.r.Graph().Ops.Lookup("Add") != nil {
			d.add("Add", nil, v, d.weight("b", 3))
		}
	})},
}

func drawConv(d *drawer, op string, x *ir.Value, c, h, w int) {
	k := []int{1, 3, 3}[d.rng.IntN(3)]
	m, per := 1+d.rng.IntN(4), c
	attrs := ir.MakeAttrs("strides", []int{1 + d.rng.IntN(2), 1 + d.rng.IntN(2)})
	if d.rng.IntN(3) == 0 { // depthwise
		m, per = c, 1
		attrs.Set("group", c)
	}
	if d.rng.IntN(2) == 0 {
		attrs.Set("pads", []int{k / 2, k / 2, d.rng.IntN(2), k / 2})
	}
	in := []*ir.Value{x, d.weight("w", m, per, k, k)}
	if d.rng.IntN(2) == 0 {
		in = append(in, d.weight("b", m))
	}
	d.add(op, attrs, in...)
}

func drawNorm(d *drawer, op string, x *ir.Value, c, h, w int) {
	d.add(op, nil, x, d.weight("gamma", c), d.weight("beta", c), d.weight("mean", c), d.positive("var", c))
}

func drawPool(d *drawer, op string, x *ir.Value, c, h, w int) {
	d.add(op, ir.MakeAttrs("kernel_shape", []int{2, 2}, "strides", []int{1 + d.rng.IntN(2), 2}), x)
}
