package ops

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The recurrent operators compute, per step, batch and unit, the product with
// the input and the one with the state separately, each by fused
// multiply-adds over k from +0, and then add x·W + h·R, the bias of W and the
// bias of R, in this order. f16 and bf16 are computed in f32, and only the
// outputs are rounded.

// recurrent is what RNN, GRU and LSTM do not share.
type recurrent struct {
	gates       int
	activations []string // per direction
	lstm        bool
}

var (
	rnn  = recurrent{1, []string{"Tanh"}, false}
	gru  = recurrent{3, []string{"Sigmoid", "Tanh"}, false}
	lstm = recurrent{4, []string{"Sigmoid", "Tanh", "Tanh"}, true}
)

var _ = defineRecurrent("RNN", "A recurrent layer: H = f(x·Wᵀ + h·Rᵀ + Wb + Rb).", rnn)
var _ = defineRecurrent("GRU", "A gated recurrent layer; gates in the order z, r, h: H = (1 − z)∘ĥ + z∘h.", gru, ir.AttrSpec{
	Name: "linear_before_reset", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the reset gate multiplies h·Rᵀ + Rb instead of h"})
var _ = defineRecurrent("LSTM", "A long short-term memory layer; gates in the order i, o, f, c: C = f∘c + i∘ĉ, H = o∘h(C).", lstm, ir.AttrSpec{
	Name: "input_forget", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: f is 1 − i"})

func defineRecurrent(name, doc string, kind recurrent, extra ...ir.AttrSpec) *ir.Op {
	in, out := "X, W, R, B?, sequence_lens?, initial_h?", "Y?, Y_h?"
	if kind.lstm {
		in, out = in+", initial_c?, P?", out+", Y_c?"
	}
	return define(ir.Op{
		Roles: []ir.Role{1: ir.Weight, 2: ir.Weight, 3: ir.Bias, 4: ir.Setting}, Layer: &ir.Layer{},
		Name:  name,
		Doc:   doc,
		Since: 14,
		In:    in, Out: out,
		Attrs: append([]ir.AttrSpec{
			{Name: "hidden_size", Kind: ir.IntAttr, Doc: "units; absent: as R says"},
			{Name: "direction", Kind: ir.StringAttr, Default: "forward", Doc: "forward, reverse or bidirectional"},
			{Name: "activations", Kind: ir.StringsAttr, Doc: "per direction; absent: " + fmt.Sprint(kind.activations)},
			{Name: "activation_alpha", Kind: ir.FloatsAttr, Doc: "parameters of those activations that have one, in order"},
			{Name: "activation_beta", Kind: ir.FloatsAttr, Doc: "second parameters of those activations that have two, in order"},
			{Name: "clip", Kind: ir.FloatAttr, Doc: "what the activations are applied to is cut to −clip…clip"},
			{Name: "layout", Kind: ir.IntAttr, Default: int64(0), Doc: "0: X is [steps, batch, features]; 1: [batch, steps, features], and batch comes first elsewhere too"},
		}, extra...),
		Infer: func(n *ir.Node) ([]ir.Type, error) { return inferRecurrent(n, kind) },
		Eval:  func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) { return evalRecurrent(n, in, kind) },
		Cost: func(n *ir.Node) ir.Cost {
			x, w := n.In[0].Type, n.In[1].Type
			if x.Rank() != 3 || w.Rank() != 3 {
				return ir.Cost{}
			}
			return ir.Cost{MACs: elemCount(x.WithDims(x.Dims[:2]...)) * (elemCount(w) + elemCount(n.In[2].Type))}
		},
		Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
			if n.Int("layout") != 0 {
				return fmt.Errorf("layout does not exist at opset %d", opset)
			}
			r.DeleteAttr(n, "layout")
			return nil
		},
	})
}

func directions(n *ir.Node) (int, error) {
	switch n.Str("direction") {
	case "forward", "reverse":
		return 1, nil
	case "bidirectional":
		return 2, nil
	}
	return 0, fmt.Errorf("direction is %q, expected forward, reverse or bidirectional", n.Str("direction"))
}

func inferRecurrent(n *ir.Node, kind recurrent) ([]ir.Type, error) {
	dirs, err := directions(n)
	if err != nil {
		return nil, err
	}
	if _, err := activationsOf[float32](n, kind, dirs); err != nil {
		return nil, err
	}
	if err := wantFloat(n, 0, 1, 2, 3, 5, 6, 7); err != nil {
		return nil, err
	}
	if v := n.Input(4); v != nil && v.Type.Elem != tensor.I32 {
		return nil, fmt.Errorf("sequence_lens is %v, expected i32", v.Type)
	}
	if l := n.Int("layout"); l != 0 && l != 1 {
		return nil, fmt.Errorf("layout is %d, expected 0 or 1", l)
	}
	hidden := ir.Unknown
	if r := n.In[2].Type; r.Rank() == 3 {
		hidden = r.Dims[2]
	}
	if n.HasAttr("hidden_size") {
		if hidden, err = unify(dimOf(int64(n.Int("hidden_size"))), hidden); err != nil || !hidden.Known() {
			return nil, fmt.Errorf("hidden_size is %d, R is %v", n.Int("hidden_size"), n.In[2].Type)
		}
	}
	steps, batch, features := ir.Unknown, ir.Unknown, ir.Unknown
	if x := n.In[0].Type; x.Rank() == 3 {
		steps, batch, features = x.Dims[0], x.Dims[1], x.Dims[2]
		if n.Int("layout") != 0 {
			steps, batch = batch, steps
		}
	}
	d, g := ir.Fixed(dirs), func(k int) ir.Dim { return volumeOf([]ir.Dim{ir.Fixed(k), hidden}).dim() }
	state := []ir.Dim{d, batch, hidden}
	y := []ir.Dim{steps, d, batch, hidden}
	if n.Int("layout") != 0 {
		state, y = []ir.Dim{batch, d, hidden}, []ir.Dim{batch, steps, d, hidden}
	}
	for i, want := range [][]ir.Dim{{ir.Unknown, ir.Unknown, features}, {d, g(kind.gates), features}, {d, g(kind.gates), hidden},
		{d, g(2 * kind.gates)}, {batch}, state, state, {d, g(3)}} {
		if v := n.Input(i); v != nil && !v.Type.Compatible(v.Type.WithDims(want...)) {
			return nil, fmt.Errorf("%s is %v, expected %v", portName(n, i), v.Type, v.Type.WithDims(want...))
		}
	}
	e := n.In[0].Type.Elem
	return types(ir.TensorType(e, y...), ir.TensorType(e, state...), ir.TensorType(e, state...))
}

// activationsOf returns the activation functions of all directions, in f32 or f64.
func activationsOf[T float32 | float64](n *ir.Node, kind recurrent, dirs int) ([]func(T) T, error) {
	names := n.Strs("activations")
	if len(names) == 0 {
		for range dirs {
			names = append(names, kind.activations...)
		}
	}
	if len(names) != dirs*len(kind.activations) {
		return nil, fmt.Errorf("%d activations, expected %d", len(names), dirs*len(kind.activations))
	}
	alphas, betas := n.Floats("activation_alpha"), n.Floats("activation_beta")
	param := func(list *[]float32, otherwise float32) T {
		if len(*list) == 0 {
			return T(otherwise)
		}
		p := (*list)[0]
		*list = (*list)[1:]
		return T(p)
	}
	out := make([]func(T) T, len(names))
	for i, name := range names {
		switch name {
		case "Relu":
			out[i] = func(x T) T { return max(x, 0) }
		case "Tanh":
			out[i] = in64[T](f32.Tanh64)
		case "Sigmoid":
			out[i] = in64[T](f32.Sigmoid64)
		case "Softplus":
			out[i] = in64[T](f32.Softplus64)
		case "Softsign":
			out[i] = func(x T) T { return x / (1 + max(x, -x)) }
		case "Affine":
			a, b := param(&alphas, 1), param(&betas, 0)
			out[i] = func(x T) T { return T(a*x) + b }
		case "LeakyRelu":
			a := param(&alphas, 0.01)
			out[i] = func(x T) T { return max(x, 0) + T(a*min(x, 0)) }
		case "ThresholdedRelu":
			a := param(&alphas, 1)
			out[i] = func(x T) T {
				if x > a {
					return x
				}
				return 0
			}
		case "ScaledTanh":
			a, b := param(&alphas, 1), param(&betas, 1)
			out[i] = func(x T) T { return T(a * T(f32.Tanh64(float64(T(b*x))))) }
		case "HardSigmoid":
			a, b := param(&alphas, 0.2), param(&betas, 0.5)
			out[i] = func(x T) T { return max(0, min(1, T(a*x)+b)) }
		case "Elu":
			a := param(&alphas, 1)
			out[i] = func(x T) T {
				if x < 0 {
					return T(a * T(f32.Expm1_64(float64(x))))
				}
				return x
			}
		default:
			return nil, fmt.Errorf("activation %q is not known", name)
		}
	}
	return out, nil
}

// in64 computes in f64 and rounds once.
func in64[T float32 | float64](f func(float64) float64) func(T) T {
	return func(x T) T { return T(f(float64(x))) }
}

func evalRecurrent(n *ir.Node, in []*tensor.Tensor, kind recurrent) ([]*tensor.Tensor, error) {
	in = append(slices.Clone(in), make([]*tensor.Tensor, 8)...)
	for i, rank := range []int{3, 3, 3} {
		if in[i].Rank() != rank {
			return nil, fmt.Errorf("%s is %v, expected three dimensions", portName(n, i), ir.TypeOf(in[i]))
		}
	}
	if in[0].Elem() == tensor.F64 {
		return runRecurrent(n, in, kind, (*tensor.Tensor).Float64s, math.FMA, func(x []float64, shape ...int) *tensor.Tensor { return tensor.Of(x, shape...) })
	}
	return runRecurrent(n, in, kind, (*tensor.Tensor).Float32s, f32.FMA, func(x []float32, shape ...int) *tensor.Tensor {
		return tensor.FromFloat32s(in[0].Elem(), x, shape...)
	})
}

// cell is one direction of a recurrent layer.
type cell[T float32 | float64] struct {
	n                *ir.Node
	gates            int
	features, hidden int
	w, r, b, p       []T // b and p may be nil
	act              []func(T) T
	fma              func(x, y, z T) T
	clip             T
}

// in returns what gate g of unit j gets from the input x, and what from the state h.
func (c *cell[T]) in(g, j int, x, h []T) (fromX, fromH T) {
	row := g*c.hidden + j
	for k, v := range c.w[row*c.features:][:c.features] {
		fromX = c.fma(x[k], v, fromX)
	}
	return fromX, c.fromState(g, j, h)
}

func (c *cell[T]) fromState(g, j int, h []T) (sum T) {
	for k, v := range c.r[(g*c.hidden+j)*c.hidden:][:c.hidden] {
		sum = c.fma(h[k], v, sum)
	}
	return sum
}

// biases returns the biases of W and R of a gate.
func (c *cell[T]) biases(g, j int) (w, r T) {
	if c.b == nil {
		return 0, 0
	}
	return c.b[g*c.hidden+j], c.b[(c.gates+g)*c.hidden+j]
}

func (c *cell[T]) cut(x T) T { return max(-c.clip, min(c.clip, x)) }

// gate returns activation a of gate g, with a peephole to state s if there is one.
func (c *cell[T]) gate(a, g, j int, x, h []T, peep int, s T) T {
	fx, fh := c.in(g, j, x, h)
	wb, rb := c.biases(g, j)
	sum := fx + fh + wb + rb
	if c.p != nil && peep >= 0 {
		sum += T(c.p[peep*c.hidden+j] * s)
	}
	return c.act[a](c.cut(sum))
}

// step returns the next hidden and cell state.
func (c *cell[T]) step(x, h, s []T) (nextH, nextS []T) {
	nextH, nextS = make([]T, c.hidden), make([]T, c.hidden)
	switch c.gates {
	case 1:
		for j := range nextH {
			nextH[j] = c.gate(0, 0, j, x, h, -1, 0)
		}
	case 3:
		z, r, rh := make([]T, c.hidden), make([]T, c.hidden), make([]T, c.hidden)
		for j := range h {
			z[j], r[j] = c.gate(0, 0, j, x, h, -1, 0), c.gate(0, 1, j, x, h, -1, 0)
			rh[j] = T(r[j] * h[j])
		}
		for j := range nextH {
			wb, rb := c.biases(2, j)
			fx, fh := c.in(2, j, x, rh)
			sum := fx + fh + wb + rb
			if c.n.Int("linear_before_reset") != 0 {
				sum = fx + T(r[j]*(c.fromState(2, j, h)+rb)) + wb
			}
			nextH[j] = T((1-z[j])*c.act[1](c.cut(sum))) + T(z[j]*h[j])
		}
	case 4:
		for j := range nextH {
			i := c.gate(0, 0, j, x, h, 0, s[j])
			f := 1 - i
			if c.n.Int("input_forget") == 0 {
				f = c.gate(0, 2, j, x, h, 2, s[j])
			}
			nextS[j] = T(f*s[j]) + T(i*c.gate(1, 3, j, x, h, -1, 0))
			nextH[j] = T(c.gate(0, 1, j, x, h, 1, nextS[j]) * c.act[2](nextS[j]))
		}
	}
	return nextH, nextS
}

func runRecurrent[T float32 | float64](n *ir.Node, in []*tensor.Tensor, kind recurrent, read func(*tensor.Tensor) []T,
	fma func(x, y, z T) T, write func([]T, ...int) *tensor.Tensor) ([]*tensor.Tensor, error) {
	dirs, err := directions(n)
	if err != nil {
		return nil, err
	}
	acts, err := activationsOf[T](n, kind, dirs)
	if err != nil {
		return nil, err
	}
	batchFirst := n.Int("layout") != 0
	xs := in[0].Shape()
	steps, batch, features, hidden := xs[0], xs[1], xs[2], in[2].Shape()[2]
	if batchFirst {
		steps, batch = batch, steps
	}
	part := func(i, d, size int) []T { // the part of input i that belongs to direction d
		if in[i] == nil {
			return nil
		}
		if in[i].Len() != dirs*size {
			panic(fmt.Sprintf("%s is %v, expected %d elements", portName(n, i), ir.TypeOf(in[i]), dirs*size))
		}
		return read(in[i])[d*size:][:size]
	}
	stateAt := func(d, b int) int { // of the first unit, in a state
		if batchFirst {
			return (b*dirs + d) * hidden
		}
		return (d*batch + b) * hidden
	}
	if err := fits(in[0].Elem(), []int{steps, dirs, batch, hidden}); err != nil {
		return nil, err
	}
	y := make([]T, steps*dirs*batch*hidden)
	lastH, lastS := make([]T, dirs*batch*hidden), make([]T, dirs*batch*hidden)
	x := read(in[0])
	for d := range dirs {
		c := &cell[T]{n: n, gates: kind.gates, features: features, hidden: hidden, act: acts[d*len(kind.activations):], fma: fma, clip: T(math.Inf(1))}
		c.w, c.r = part(1, d, kind.gates*hidden*features), part(2, d, kind.gates*hidden*hidden)
		c.b, c.p = part(3, d, 2*kind.gates*hidden), part(7, d, 3*hidden)
		if n.HasAttr("clip") {
			c.clip = T(n.Float("clip"))
		}
		for b := range batch {
			length := steps
			if in[4] != nil {
				if in[4].Len() != batch || in[4].Int64s()[b] < 0 || in[4].Int64s()[b] > int64(steps) {
					return nil, errors.New("sequence_lens do not fit the input")
				}
				length = int(in[4].Int64s()[b])
			}
			h, s := make([]T, hidden), make([]T, hidden)
			for i, state := range [][]T{h, s} {
				if t := in[5+i]; t != nil {
					copy(state, read(t)[stateAt(d, b):][:hidden])
				}
			}
			for k := range length {
				t := k
				if n.Str("direction") == "reverse" || d == 1 {
					t = length - 1 - k
				}
				xAt, yAt := (t*batch+b)*features, ((t*dirs+d)*batch+b)*hidden
				if batchFirst {
					xAt, yAt = (b*steps+t)*features, ((b*steps+t)*dirs+d)*hidden
				}
				h, s = c.step(x[xAt:][:features], h, s)
				copy(y[yAt:], h)
			}
			copy(lastH[stateAt(d, b):], h)
			copy(lastS[stateAt(d, b):], s)
		}
	}
	shape, state := []int{steps, dirs, batch, hidden}, []int{dirs, batch, hidden}
	if batchFirst {
		shape, state = []int{batch, steps, dirs, hidden}, []int{batch, dirs, hidden}
	}
	return results(write(y, shape...), write(lastH, state...), write(lastS, state...))
}
