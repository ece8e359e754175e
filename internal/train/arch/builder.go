package arch

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// builder adds layers to a graph. After an error it adds nothing more.
type builder struct {
	g   *ir.Graph
	r   *ir.Rewriter
	rng *rand.Rand
	err error
}

func newBuilder(name string, ops *ir.Registry, seed uint64) *builder {
	g := ir.NewGraph(name, ops)
	return &builder{g: g, r: ir.NewRewriter(g), rng: rand.New(rand.NewPCG(seed, 0x61726368))}
}

func (b *builder) input(shape []int) *ir.Value {
	return b.r.Input("input", ir.TensorType(tensor.F32, append([]ir.Dim{ir.Symbol("N")}, ir.Dims(shape...)...)...))
}

// add adds a node with one output, which has the node's name.
func (b *builder) add(op, name string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	if b.err != nil {
		return in[0]
	}
	n, err := b.r.Add(op, name, attrs, in, name)
	if err != nil {
		b.err = err
		return in[0]
	}
	return n.Out[0]
}

// normal returns weights of the given standard deviation, rounded to multiples
// of 2⁻²⁰, so that machines whose mathematical functions differ in the last bit
// draw the same.
func (b *builder) normal(std float64, shape ...int) *tensor.Tensor {
	t, err := tensor.Alloc(tensor.F32, shape...)
	if err != nil {
		b.err = err
		return tensor.Scalar[float32](0)
	}
	w := tensor.Data[float32](t)
	for i := range w {
		w[i] = float32(math.Round(b.rng.NormFloat64()*std*(1<<20)) / (1 << 20))
	}
	return t
}

func constant(x float32, n int) *tensor.Tensor {
	d := make([]float32, n)
	for i := range d {
		d[i] = x
	}
	return tensor.Of(d, n)
}

func channels(x *ir.Value) int { return x.Type.Dims[1].N }

// convolution describes a convolution; its zero fields are 1, or same padding.
type convolution struct {
	kernel []int // height, width
	stride []int
	out    int // channels
	group  int
	bias   bool
	torch  bool // pads kernel/2 on all sides; otherwise as TensorFlow's SAME, so that strides may pad one side only
	valid  bool // does not pad
}

// conv adds a convolution with He initialisation: variance 2 / fan-in.
func (b *builder) conv(name string, x *ir.Value, c convolution) *ir.Value {
	if b.err != nil {
		return x
	}
	group, stride := max(c.group, 1), c.stride
	if stride == nil {
		stride = []int{1, 1}
	}
	pads := make([]int, 4)
	for i, k := range c.kernel {
		total := 2 * (k / 2)
		if side := x.Type.Dims[2+i].N; !c.torch {
			total = max(((side+stride[i]-1)/stride[i]-1)*stride[i]+k-side, 0)
		}
		if c.valid {
			total = 0
		}
		pads[i], pads[2+i] = total/2, total-total/2
	}
	in := channels(x) / group
	fan := in * c.kernel[0] * c.kernel[1]
	ins := []*ir.Value{x, b.r.Const(name+".weight", b.normal(math.Sqrt(2/float64(fan)), c.out, in, c.kernel[0], c.kernel[1]))}
	if c.bias {
		ins = append(ins, b.r.Const(name+".bias", constant(0, c.out)))
	}
	attrs := ir.MakeAttrs("kernel_shape", c.kernel, "strides", stride, "pads", pads, "group", group)
	return b.add("Conv", name, attrs, ins...)
}

// norm adds batch normalisation: scale 1, bias 0, mean 0, variance 1.
func (b *builder) norm(name string, x *ir.Value) *ir.Value {
	if b.err != nil {
		return x
	}
	c := channels(x)
	return b.add("BatchNormalization", name, nil, x,
		b.r.Const(name+".weight", constant(1, c)), b.r.Const(name+".bias", constant(0, c)),
		b.r.Const(name+".running_mean", constant(0, c)), b.r.Const(name+".running_var", constant(1, c)))
}

func (b *builder) relu(name string, x *ir.Value) *ir.Value { return b.add("Relu", name, nil, x) }

// convNorm adds a convolution, batch normalisation and, unless linear, ReLU.
func (b *builder) convNorm(name string, x *ir.Value, c convolution, linear bool) *ir.Value {
	x = b.norm(name+".bn", b.conv(name, x, c))
	if linear {
		return x
	}
	return b.relu(name+".relu", x)
}

// dense adds a fully connected layer with the given gain: variance gain / inputs.
func (b *builder) dense(name string, x *ir.Value, out int, gain float64) *ir.Value {
	if b.err != nil {
		return x
	}
	in := channels(x)
	w := b.r.Const(name+".weight", b.normal(math.Sqrt(gain/float64(in)), out, in))
	return b.add("Gemm", name, ir.MakeAttrs("transB", 1), x, w, b.r.Const(name+".bias", constant(0, out)))
}

// classify averages over all pixels and adds the last layer.
func (b *builder) classify(x *ir.Value, classes int) *ir.Value {
	x = b.add("Flatten", "features", nil, b.add("GlobalAveragePool", "pool", nil, x))
	return b.dense("logits", x, classes, 1)
}

func square(k int) []int { return []int{k, k} }

// scaled returns n channels times a width, at least 1; width 0 is 1.
func scaled(n int, width float64) int {
	if width == 0 {
		width = 1
	}
	return max(int(math.Round(float64(float64(n)*width))), 1)
}

func depthError(d float64, rule string) error {
	return fmt.Errorf("depth %g is not %s with n ≥ 1", d, rule)
}
