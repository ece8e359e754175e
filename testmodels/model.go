package testmodels

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"thriftc/backends"
	"thriftc/backends/interp"
	"thriftc/ir"
	"thriftc/ir/ops"
	"thriftc/ir/tensor"
)

// builder adds layers to a graph and runs what is there, to estimate
// statistics of the pictures as it goes.
type builder struct {
	g   *ir.Graph
	r   *ir.Rewriter
	rng *rand.Rand
}

// Model fits the CNN to labelled pictures: the filters of the first
// convolution are derivatives of Gaussians, all others are random, batch
// normalisation takes its statistics from the pictures, and the last layer is
// the ridge regression of the classes on the features.
func Model(seed uint64, pixels, labels []byte) (*ir.Graph, error) {
	g := ir.NewGraph("glyphs", ops.Table())
	g.Doc = "Ten drawn shapes in 28×28 gray pixels, 0 to 1. Features are not trained; the last layer is a ridge regression."
	b := &builder{g, ir.NewRewriter(g), rand.New(rand.NewPCG(seed, 0x6d6f64656c))}
	x := b.r.Input("image", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1), ir.Fixed(Side), ir.Fixed(Side)))
	some := Tensor(pixels[:min(len(pixels), 256*Side*Side)])
	var err error
	conv := func(name string, v *ir.Value, w *tensor.Tensor, groups int, relu bool) *ir.Value {
		if err != nil {
			return v
		}
		k := w.Shape()[2] / 2
		v = b.r.Must1("Conv", name, ir.MakeAttrs("pads", []int{k, k, k, k}, "group", groups), v, b.r.Const(name+".weight", w))
		if v, err = b.norm(name, v, some); relu {
			v = b.r.Must1("Relu", name+".relu", nil, v)
		}
		return v
	}
	pool := func(name string, v *ir.Value) *ir.Value {
		return b.r.Must1("MaxPool", name, ir.MakeAttrs("kernel_shape", []int{2, 2}, "strides", []int{2, 2}), v)
	}
	v := conv("edges", x, gaborLike(), 1, true)
	v = pool("pool1", v)
	v = conv("depthwise", v, b.random(16, 1, 3), 16, true)
	v = conv("pointwise", v, b.random(48, 16, 1), 1, true)
	skip := v
	v = conv("residual", v, b.random(48, 48, 3), 1, false)
	v = b.r.Must1("Relu", "join.relu", nil, b.r.Must1("Add", "join", nil, v, skip))
	v = pool("pool2", v)
	v = conv("mix", v, b.random(112, 48, 3), 1, true)
	v = b.r.Must1("GlobalAveragePool", "pool3", nil, v)
	v = b.r.Must1("Flatten", "features", nil, v)
	if err != nil {
		return nil, err
	}
	w, bias, err := b.readout(v, Tensor(pixels), labels)
	if err != nil {
		return nil, err
	}
	b.r.Output(b.r.Must1("Gemm", "logits", nil, v, b.r.Const("logits.weight", w), b.r.Const("logits.bias", bias)))
	return g, ir.Verify(g)
}

// Tensor turns pictures into the model's input: bytes divided by 255.
func Tensor(pixels []byte) *tensor.Tensor {
	out := make([]float32, len(pixels))
	for i, p := range pixels {
		out[i] = float32(p) / 255
	}
	return tensor.Of(out, len(pixels)/(Side*Side), 1, Side, Side)
}

// gaborLike returns 16 filters of 5×5: first and second derivatives of a
// Gaussian in eight directions each.
func gaborLike() *tensor.Tensor {
	var w []float32
	for k := range 16 {
		sin, cos := math.Sincos(2 * math.Pi * float64(k%8) / 8)
		if k >= 8 {
			sin, cos = math.Sincos(math.Pi * float64(k%8) / 8)
		}
		for y := -2; y <= 2; y++ {
			for x := -2; x <= 2; x++ {
				t := cos*float64(x) + sin*float64(y)
				f := t
				if k >= 8 {
					f = 1 - t*t
				}
				w = append(w, round(f*math.Exp(-float64(x*x+y*y)/2)))
			}
		}
	}
	return tensor.Of(w, 16, 1, 5, 5)
}

// random returns normal weights of variance 2 / fan-in (He et al. 2015).
func (b *builder) random(out, in, k int) *tensor.Tensor {
	w := make([]float32, out*in*k*k)
	for i := range w {
		w[i] = round(b.rng.NormFloat64() * math.Sqrt(2/float64(in*k*k)))
	}
	return tensor.Of(w, out, in, k, k)
}

// round rounds to a multiple of 2⁻¹⁶, so that mathematical functions which
// differ in the last bit between machines give the same weights.
func round(x float64) float32 { return float32(math.Round(x*(1<<16)) / (1 << 16)) }

// norm adds batch normalisation with the statistics of v on some pictures.
func (b *builder) norm(name string, v *ir.Value, some *tensor.Tensor) (*ir.Value, error) {
	x, err := b.run(v, some)
	if err != nil {
		return v, err
	}
	shape, data := x.Shape(), x.Float32s()
	channels, plane := shape[1], shape[2]*shape[3]
	stats := [4][]float32{}
	for c := range channels {
		sum, squares := 0.0, 0.0
		for n := range shape[0] {
			for _, f := range data[(n*channels+c)*plane:][:plane] {
				sum += float64(f)
				squares += float64(f * f)
			}
		}
		count := float64(shape[0] * plane)
		mean := sum / count
		for i, s := range []float64{0.5 + b.rng.Float64(), 0.2 * b.rng.NormFloat64(), mean, squares/count - float64(mean*mean)} {
			stats[i] = append(stats[i], round(s))
		}
	}
	in := []*ir.Value{v}
	for i, s := range []string{"scale", "bias", "mean", "var"} {
		in = append(in, b.r.Const(name+".bn."+s, tensor.Of(stats[i], channels)))
	}
	n, err := b.r.Add("BatchNormalization", name+".bn", nil, in, name+".bn")
	if err != nil {
		return v, err
	}
	return n.Out[0], nil
}

// run computes one value of the graph.
func (b *builder) run(v *ir.Value, x *tensor.Tensor) (*tensor.Tensor, error) {
	b.r.SetOutputs(v)
	defer b.r.SetOutputs()
	ctx := context.Background()
	exec, err := interp.New().Compile(ctx, b.g, backends.Options{})
	if err != nil {
		return nil, err
	}
	defer exec.Close()
	out, err := exec.Run(ctx, []*tensor.Tensor{x})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// readout returns weights and bias of the ridge regression of the classes,
// +1 for the right one and −1 for the others, on the features: with centred
// X and Y, (XᵀX + λ·I)·W = XᵀY.
func (b *builder) readout(features *ir.Value, x *tensor.Tensor, labels []byte) (w, bias *tensor.Tensor, err error) {
	f, err := b.run(features, x)
	if err != nil {
		return nil, nil, err
	}
	rows, cols := f.Shape()[0], f.Shape()[1]
	if rows != len(labels) {
		return nil, nil, fmt.Errorf("%d pictures, %d labels", rows, len(labels))
	}
	data := append([]float64{}, f.Float64s()...)
	X, Y := mat.NewDense(rows, cols, data), mat.NewDense(rows, Classes, nil)
	for i, l := range labels {
		for c := range Classes {
			Y.Set(i, c, -1)
		}
		Y.Set(i, int(l), 1)
	}
	meanX, meanY := centre(X), centre(Y)
	var gram, right, W mat.Dense
	gram.Mul(X.T(), X)
	right.Mul(X.T(), Y)
	sym := mat.NewSymDense(cols, nil)
	for i := range cols {
		for j := i; j < cols; j++ {
			sym.SetSym(i, j, gram.At(i, j))
		}
		sym.SetSym(i, i, gram.At(i, i)+ridge*float64(rows))
	}
	var chol mat.Cholesky
	if !chol.Factorize(sym) {
		return nil, nil, errors.New("the features are degenerate")
	}
	if err := chol.SolveTo(&W, &right); err != nil {
		return nil, nil, err
	}
	weights, biases := make([]float32, 0, cols*Classes), make([]float32, 0, Classes)
	for i := range cols {
		for c := range Classes {
			weights = append(weights, round(W.At(i, c)))
		}
	}
	for c := range Classes {
		s := meanY[c]
		for i, m := range meanX {
			s -= float64(m * W.At(i, c))
		}
		biases = append(biases, round(s))
	}
	return tensor.Of(weights, cols, Classes), tensor.Of(biases, Classes), nil
}

const ridge = 1e-3 // λ for each picture

// centre subtracts the mean of each column and returns the means.
func centre(m *mat.Dense) []float64 {
	rows, cols := m.Dims()
	means := make([]float64, cols)
	for j := range cols {
		for i := range rows {
			means[j] += m.At(i, j)
		}
		means[j] /= float64(rows)
		for i := range rows {
			m.Set(i, j, m.At(i, j)-means[j])
		}
	}
	return means
}
