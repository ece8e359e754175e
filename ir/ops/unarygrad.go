package ops

import (
	"math"

	"github.com/thriftc/thriftc/ir"
)

// slope builds the derivative of y with respect to x at every element.
type slope func(b *backprop, x, y *ir.Value) *ir.Value

// gradSlope makes a gradient of an element-wise operator's derivative.
func gradSlope(s slope) func(*ir.Rewriter, *ir.Node, []*ir.Value) ([]*ir.Value, error) {
	return func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		b := backprop{r: r, n: n}
		return b.done(b.times(dout[0], s(&b, n.In[0], n.Out[0])))
	}
}

// fn returns op(x).
func (b *backprop) fn(op string, x *ir.Value) *ir.Value { return b.add(op, nil, x) }

func (b *backprop) square(x *ir.Value) *ir.Value { return b.times(x, x) }

// from returns k − x.
func (b *backprop) from(k float64, x *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	return b.minus(b.number(x, k), x)
}

// piece returns yes where x stands in the relation to k, else no.
func (b *backprop) piece(x *ir.Value, relation string, k float64, yes, no *ir.Value) *ir.Value {
	return b.where(b.compare(relation, x, k), yes, no)
}

// attr returns an attribute of the node as a number.
func (b *backprop) attr(name string) float64 { return float64(b.n.Float(name)) }

// slopes are the derivatives of the element-wise operators with one input.
var slopes = map[string]slope{
	"Exp":        func(b *backprop, x, y *ir.Value) *ir.Value { return y },
	"Log":        func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Reciprocal", x) },
	"Sqrt":       func(b *backprop, x, y *ir.Value) *ir.Value { return b.scaled(b.fn("Reciprocal", y), 0.5) },
	"Reciprocal": func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Neg", b.square(y)) },
	"Abs":        func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Sign", x) },
	"Neg":        func(b *backprop, x, y *ir.Value) *ir.Value { return b.number(x, -1) },
	"Erf": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.scaled(b.fn("Exp", b.fn("Neg", b.square(x))), 2/math.SqrtPi)
	},
	"Sin": func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Cos", x) },
	"Cos": func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Neg", b.fn("Sin", x)) },
	"Tan": func(b *backprop, x, y *ir.Value) *ir.Value { return b.shifted(b.square(y), 1) },
	"Asin": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.fn("Reciprocal", b.fn("Sqrt", b.from(1, b.square(x))))
	},
	"Acos": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.fn("Neg", b.fn("Reciprocal", b.fn("Sqrt", b.from(1, b.square(x)))))
	},
	"Atan": func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Reciprocal", b.shifted(b.square(x), 1)) },
	"Sinh": func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Cosh", x) },
	"Cosh": func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Sinh", x) },
	"Tanh": func(b *backprop, x, y *ir.Value) *ir.Value { return b.from(1, b.square(y)) },
	"Asinh": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.fn("Reciprocal", b.fn("Sqrt", b.shifted(b.square(x), 1)))
	},
	"Acosh": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.fn("Reciprocal", b.fn("Sqrt", b.shifted(b.square(x), -1)))
	},
	"Atanh":    func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Reciprocal", b.from(1, b.square(x))) },
	"Sigmoid":  func(b *backprop, x, y *ir.Value) *ir.Value { return b.times(y, b.from(1, y)) },
	"Softplus": func(b *backprop, x, y *ir.Value) *ir.Value { return b.fn("Sigmoid", x) },
	"Softsign": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.fn("Reciprocal", b.square(b.shifted(b.fn("Abs", x), 1)))
	},
	"LeakyRelu": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.piece(x, "Less", 0, b.number(x, b.attr("alpha")), b.number(x, 1))
	},
	"ThresholdedRelu": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.piece(x, "Greater", b.attr("alpha"), b.number(x, 1), b.number(x, 0))
	},
	"Shrink": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.piece(b.fn("Abs", x), "Greater", b.attr("lambd"), b.number(x, 1), b.number(x, 0))
	},
	"Elu": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.piece(x, "Less", 0, b.shifted(y, b.attr("alpha")), b.number(x, 1))
	},
	"Selu": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.piece(x, "LessOrEqual", 0, b.shifted(y, b.attr("gamma")*b.attr("alpha")), b.number(x, b.attr("gamma")))
	},
	"Celu": func(b *backprop, x, y *ir.Value) *ir.Value {
		return b.piece(x, "Less", 0, b.fn("Exp", b.over(x, b.number(x, b.attr("alpha")))), b.number(x, 1))
	},
	"HardSigmoid": func(b *backprop, x, y *ir.Value) *ir.Value {
		inside := b.add("And", nil, b.compare("Greater", y, 0), b.compare("Less", y, 1))
		return b.where(inside, b.number(x, b.attr("alpha")), b.number(x, 0))
	},
	"HardSwish": func(b *backprop, x, y *ir.Value) *ir.Value {
		middle := b.shifted(b.scaled(x, 1.0/3), 0.5)
		return b.piece(x, "Less", -3, b.number(x, 0), b.piece(x, "Greater", 3, b.number(x, 1), middle))
	},
	"Swish": func(b *backprop, x, y *ir.Value) *ir.Value {
		ax := b.scaled(x, b.attr("alpha"))
		s := b.fn("Sigmoid", ax)
		return b.times(s, b.shifted(b.times(ax, b.from(1, s)), 1))
	},
	"Mish": func(b *backprop, x, y *ir.Value) *ir.Value {
		t := b.fn("Tanh", b.fn("Softplus", x))
		return b.plus(t, b.times(x, b.times(b.from(1, b.square(t)), b.fn("Sigmoid", x))))
	},
	"Gelu": func(b *backprop, x, y *ir.Value) *ir.Value {
		if b.n.Str("approximate") == "tanh" {
			k := math.Sqrt2 / math.SqrtPi
			t := b.fn("Tanh", b.times(x, b.shifted(b.scaled(b.square(x), k*0.044715), k)))
			inner := b.shifted(b.scaled(b.square(x), 3*k*0.044715), k)
			return b.scaled(b.plus(b.shifted(t, 1), b.times(b.times(x, inner), b.from(1, b.square(t)))), 0.5)
		}
		normal := b.shifted(b.scaled(b.fn("Erf", b.scaled(x, 1/math.Sqrt2)), 0.5), 0.5)
		density := b.scaled(b.fn("Exp", b.scaled(b.square(x), -0.5)), 1/(math.Sqrt2*math.SqrtPi))
		return b.plus(normal, b.times(x, density))
	},
}
