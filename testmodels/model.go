package testmodels

import (
	"context"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// builder adds layers to a graph.
type builder struct {
	r   *ir.Rewriter
	rng *rand.Rand
}

// Network returns the CNN with weights drawn from a seed.
func Network(seed uint64) (*ir.Graph, error) {
	g := ir.NewGraph("glyphs", ops.Table())
	g.Doc = "Ten drawn shapes in 28×28 gray pixels, 0 to 1; trained by thriftc."
	b := &builder{ir.NewRewriter(g), rand.New(rand.NewPCG(seed, 0x6d6f64656c))}
	v := b.r.Input("image", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1), ir.Fixed(Side), ir.Fixed(Side)))
	v = b.pool("pool1", b.conv("edges", v, 16, 1, 5, 1, true))
	v = b.conv("depthwise", v, 16, 1, 3, 16, true)
	v = b.conv("pointwise", v, 48, 16, 1, 1, true)
	skip := v
	v = b.conv("residual", v, 48, 48, 3, 1, false)
	v = b.r.Must1("Relu", "join.relu", nil, b.r.Must1("Add", "join", nil, v, skip))
	v = b.conv("mix", b.pool("pool2", v), 112, 48, 3, 1, true)
	v = b.r.Must1("Flatten", "features", nil, b.r.Must1("GlobalAveragePool", "pool3", nil, v))
	w := b.random(1, 112, 112, Classes)
	b.r.Output(b.r.Must1("Gemm", "logits", nil, v, b.r.Const("logits.weight", w), b.r.Const("logits.bias", constant(0, Classes))))
	return g, ir.Verify(g)
}

// conv adds a convolution with batch normalisation and, unless it is linear, ReLU.
func (b *builder) conv(name string, v *ir.Value, out, in, k, groups int, relu bool) *ir.Value {
	w := b.random(2, in*k*k, out, in, k, k)
	v = b.r.Must1("Conv", name, ir.MakeAttrs("pads", []int{k / 2, k / 2, k / 2, k / 2}, "group", groups), v, b.r.Const(name+".weight", w))
	ins := []*ir.Value{v}
	for i, s := range []string{"scale", "bias", "mean", "var"} {
		ins = append(ins, b.r.Const(name+".bn."+s, constant(float32(1-min(i%3, 1)), out)))
	}
	v = b.r.Must1("BatchNormalization", name+".bn", nil, ins...)
	if relu {
		v = b.r.Must1("Relu", name+".relu", nil, v)
	}
	return v
}

func (b *builder) pool(name string, v *ir.Value) *ir.Value {
	return b.r.Must1("MaxPool", name, ir.MakeAttrs("kernel_shape", []int{2, 2}, "strides", []int{2, 2}), v)
}

// random returns normal weights of variance gain / fan-in (He et al. 2015),
// rounded to multiples of 2⁻¹⁶, so that mathematical functions which differ in
// the last bit between machines give the same.
func (b *builder) random(gain float64, fanIn int, shape ...int) *tensor.Tensor {
	n := 1
	for _, s := range shape {
		n *= s
	}
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(math.Round(b.rng.NormFloat64()*math.Sqrt(gain/float64(fanIn))*(1<<16)) / (1 << 16))
	}
	return tensor.Of(w, shape...)
}

func constant(x float32, n int) *tensor.Tensor {
	d := make([]float32, n)
	for i := range d {
		d[i] = x
	}
	return tensor.Of(d, n)
}

// exact computes every convolution in its operator's own order of operations,
// so that the weights do not depend on which faster order the engine has.
type exact struct{ backends.Engine }

// Compile implements backends.Engine.
func (e exact) Compile(ctx context.Context, g *ir.Graph, o backends.Options) (backends.Executable, error) {
	o.NoWinograd = true
	return e.Engine.Compile(ctx, g, o)
}

// epochs is how often the network goes through its 1,600 pictures.
const epochs = 4

// Train trains the network on a data set, always in the same way.
func Train(g *ir.Graph, seed uint64, data *dataset.Set) error {
	recipe := train.Default()
	recipe.Epochs, recipe.Batch, recipe.Rate = epochs, 32, 0.05
	tr := &train.Trainer{
		Engine: exact{interp.New()}, Seed: seed, Recipe: recipe, Data: data,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	_, err := tr.Train(context.Background(), tr.Run("glyphs", g, false))
	return err
}
