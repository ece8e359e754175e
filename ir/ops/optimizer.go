package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The operators with which a training step changes its parameters. Every
// operation in their formulas is rounded by itself, in the order of the
// parentheses and then from left to right.

const scaleDoc = `
scale, 1 if absent, multiplies the gradient first, as clipping does. rate, step and
scale are scalars.`

// inferUpdate checks inputs of which the first k have one shape and the others
// are scalars, and returns the type of the outputs that are like the first.
func inferUpdate(n *ir.Node, k int) (ir.Type, error) {
	t := n.In[0].Type
	if err := wantFloat(n, 0); err != nil {
		return t, err
	}
	for i, v := range n.In {
		switch {
		case v == nil:
		case v.Type.Elem != t.Elem:
			return t, fmt.Errorf("%s is %v, %s is %v", portName(n, i), v.Type, portName(n, 0), t)
		case i < k && !v.Type.Compatible(t):
			return t, fmt.Errorf("%s is %v, %s is %v", portName(n, i), v.Type, portName(n, 0), t)
		case i >= k && v.Type.Rank() > 0:
			return t, fmt.Errorf("%s is %v, expected a scalar", portName(n, i), v.Type)
		}
	}
	return t.WithElem(t.Elem), nil
}

// updateArgs returns the first k inputs, which have one length, and the scalars
// after them, 1 where absent.
func updateArgs[T float](n *ir.Node, in []*tensor.Tensor, k int) (x [][]T, scalars []T, err error) {
	for i := range n.Op.Inputs() {
		switch {
		case i < k:
			x = append(x, numbers[T](in[i]))
			if len(x[i]) != len(x[0]) {
				return nil, nil, fmt.Errorf("%s has %d elements, %s has %d", portName(n, i), len(x[i]), portName(n, 0), len(x[0]))
			}
		case i >= len(in) || in[i] == nil:
			scalars = append(scalars, 1)
		case in[i].Len() != 1:
			return nil, nil, fmt.Errorf("%s has %d elements, expected a scalar", portName(n, i), in[i].Len())
		default:
			scalars = append(scalars, numbers[T](in[i])[0])
		}
	}
	return x, scalars, nil
}

func updateCost(macs, adds int64) func(n *ir.Node) ir.Cost {
	return func(n *ir.Node) ir.Cost {
		e := elemCount(n.In[0].Type)
		return ir.Cost{MACs: macs * e, Adds: adds * e}
	}
}

// anyFloat evaluates in float64 where the first input is, in float32 otherwise.
func anyFloat(narrow, wide func(*ir.Node, []*tensor.Tensor) ([]*tensor.Tensor, error)) func(*ir.Node, []*tensor.Tensor) ([]*tensor.Tensor, error) {
	return func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return wide(n, in)
		}
		return narrow(n, in)
	}
}

var _ = define(ir.Op{
	Name: "thriftc.SGDUpdate",
	Doc: `One step of gradient descent with momentum μ and weight decay λ, as PyTorch counts it:
d = grad·scale + w·λ, m' = m·μ + d, w' = w − rate·s, where s is m', or with nesterov = 1
d + m'·μ.` + scaleDoc,
	In: "w, grad, m, rate, scale?", Out: "w_next, m_next",
	Attrs: []ir.AttrSpec{
		floatAttr("momentum", 0.9, "μ"),
		{Name: "nesterov", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: look ahead by one step of momentum (Sutskever et al. 2013)"},
		floatAttr("weight_decay", 0, "λ"),
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferUpdate(n, 3)
		return []ir.Type{t, t}, err
	},
	Cost: updateCost(4, 0),
	Eval: anyFloat(sgd[float32], sgd[float64]),
})

func sgd[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	x, s, err := updateArgs[T](n, in, 3)
	if err != nil {
		return nil, err
	}
	w, g, m := x[0], x[1], x[2]
	rate, scale := s[0], s[1]
	mu, decay, nesterov := T(n.Float("momentum")), T(n.Float("weight_decay")), n.Int("nesterov") != 0
	w1, m1 := make([]T, len(w)), make([]T, len(w))
	for i := range w {
		d := T(g[i]*scale) + T(w[i]*decay)
		m1[i] = T(m[i]*mu) + d
		step := m1[i]
		if nesterov {
			step = d + T(m1[i]*mu)
		}
		w1[i] = w[i] - T(rate*step)
	}
	e, shape := in[0].Elem(), in[0].Shape()
	return []*tensor.Tensor{fromNumbers(e, w1, shape...), fromNumbers(e, m1, shape...)}, nil
}

var _ = define(ir.Op{
	Name: "thriftc.AdamUpdate",
	Doc: `One step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) with weight decay λ, step
counting from 1: d = grad·scale + w·λ, m' = m·β₁ + d·(1 − β₁), v' = v·β₂ + (d·d)·(1 − β₂), w' =
w − (rate·(m'/(1 − β₁^step))) / (√(v'/(1 − β₂^step)) + ε). With decoupled = 1, AdamW
(Loshchilov and Hutter, arXiv 1711.05101): d = grad·scale, and w' starts from w − (rate·λ)·w.` + scaleDoc,
	In: "w, grad, m, v, rate, step, scale?", Out: "w_next, m_next, v_next",
	Attrs: []ir.AttrSpec{
		floatAttr("beta1", 0.9, "β₁"), floatAttr("beta2", 0.999, "β₂"), floatAttr("epsilon", 1e-8, "ε"),
		floatAttr("weight_decay", 0, "λ"),
		{Name: "decoupled", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: weight decay apart from the gradient (AdamW)"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferUpdate(n, 4)
		return []ir.Type{t, t, t}, err
	},
	Cost: updateCost(8, 4),
	Eval: anyFloat(adam[float32], adam[float64]),
})

func adam[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	x, s, err := updateArgs[T](n, in, 4)
	if err != nil {
		return nil, err
	}
	w, g, m, v := x[0], x[1], x[2], x[3]
	rate, step, scale := s[0], s[1], s[2]
	b1, b2, eps := T(n.Float("beta1")), T(n.Float("beta2")), T(n.Float("epsilon"))
	decay, decoupled := T(n.Float("weight_decay")), n.Int("decoupled") != 0
	c1, c2 := 1-T(f32.Pow64(float64(b1), float64(step))), 1-T(f32.Pow64(float64(b2), float64(step)))
	w1, m1, v1 := make([]T, len(w)), make([]T, len(w)), make([]T, len(w))
	for i := range w {
		d, from := T(g[i]*scale), w[i]
		if decoupled {
			from -= T(T(rate*decay) * w[i])
		} else {
			d += T(w[i] * decay)
		}
		m1[i] = T(m[i]*b1) + T(d*(1-b1))
		v1[i] = T(v[i]*b2) + T(T(d*d)*(1-b2))
		w1[i] = from - T(T(rate*(m1[i]/c1))/(sqrt(v1[i]/c2)+eps))
	}
	e, shape := in[0].Elem(), in[0].Shape()
	return []*tensor.Tensor{fromNumbers(e, w1, shape...), fromNumbers(e, m1, shape...), fromNumbers(e, v1, shape...)}, nil
}

var _ = define(ir.Op{
	Name: "thriftc.MovingAverage",
	Doc: `old + (new − old)·rate, each operation rounded: what running statistics and averaged
weights become. rate is a scalar.`,
	In: "old, new, rate", Out: "next",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferUpdate(n, 2)
		return []ir.Type{t}, err
	},
	Cost: updateCost(1, 1),
	Eval: anyFloat(movingAverage[float32], movingAverage[float64]),
})

func movingAverage[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	x, s, err := updateArgs[T](n, in, 2)
	if err != nil {
		return nil, err
	}
	y := make([]T, len(x[0]))
	for i, a := range x[0] {
		y[i] = a + T((x[1][i]-a)*s[0])
	}
	return []*tensor.Tensor{fromNumbers(in[0].Elem(), y, in[0].Shape()...)}, nil
}

var _ = define(ir.Op{
	Name: "thriftc.Norm",
	Doc: `The square root of the sum of the squares of all elements of all inputs, a scalar of type
f32. Squares are added in float64, one after the other, and rounded once at the end.`,
	In: "X*", Out: "norm",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		for i := range n.In {
			if err := wantFloat(n, i); err != nil {
				return nil, err
			}
		}
		return []ir.Type{ir.TensorType(tensor.F32)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		c := ir.Cost{}
		for _, v := range n.In {
			c.MACs += elemCount(v.Type)
		}
		return c
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		sum := 0.0
		for _, t := range in {
			if x, ok := t.Container().([]float32); ok {
				for _, v := range x {
					sum += float64(float64(v) * float64(v))
				}
				continue
			}
			for _, v := range t.Float64s() {
				sum += float64(v * v)
			}
		}
		return []*tensor.Tensor{tensor.Scalar(float32(math.Sqrt(sum)))}, nil
	},
})
