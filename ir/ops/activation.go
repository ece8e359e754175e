package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func floatAttr(name string, def float32, doc string) ir.AttrSpec {
	return ir.AttrSpec{Name: name, Kind: ir.FloatAttr, Default: def, Doc: doc}
}

// wide makes a scalar of a function on float64, to be used where f32 results
// are that function's, rounded once.
func wide(f func(float64) float64) scalar { return scalar{narrow(f), f} }

var _ = elementwise(ir.Op{
	Name: "LeakyRelu", Since: 6, Doc: "α·x where x < 0, else x.",
	Epilogue: true, Homogeneous: true,
	Attrs: []ir.AttrSpec{floatAttr("alpha", 0.01, "α, the slope below 0")},
}, func(n *ir.Node) scalar {
	a := n.Float("alpha")
	return scalar{
		func(x float32) float32 {
			if x < 0 {
				return float32(a * x)
			}
			return x
		},
		func(x float64) float64 {
			if x < 0 {
				return float64(float64(a) * x)
			}
			return x
		},
	}
})

var _ = elementwise(ir.Op{
	Name: "ThresholdedRelu", Since: 10, Doc: "x where x > α, else 0.",
	Epilogue: true,
	Attrs:    []ir.AttrSpec{floatAttr("alpha", 1, "α, the threshold")},
}, func(n *ir.Node) scalar {
	a := n.Float("alpha")
	return wide(func(x float64) float64 { // exact
		if x > float64(a) {
			return x
		}
		return 0
	})
})

var _ = define(ir.Op{
	Name: "Shrink", Since: 9, Doc: "x + bias where x < −λ, x − bias where x > λ, else 0; integers are cut toward zero.",
	In: "input", Out: "output", Elementwise: true, Grad: gradSlope(slopes["Shrink"]),
	Attrs: []ir.AttrSpec{floatAttr("bias", 0, "what is taken from the magnitude"), floatAttr("lambd", 0.5, "λ, the threshold")},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantNumbers(n, 0); err != nil {
			return nil, err
		}
		return sameType(n)
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		l, b := float64(n.Float("lambd")), float64(n.Float("bias"))
		shrink := func(x float64) float64 { // of f32, the sum in float64 is good for one rounding
			switch {
			case x < -l:
				return x + b
			case x > l:
				return x - b
			}
			return 0
		}
		if in[0].Elem().IsInt() {
			return one(mapInt(in[0], func(x int64) int64 { return int64(shrink(float64(x))) }), nil)
		}
		return one(mapFloat(in[0], narrow(shrink), shrink))
	},
})

var _ = elementwise(ir.Op{
	Name: "Elu", Since: 6, Doc: "α·(eˣ − 1) where x < 0, else x; computed in float64 and rounded once.",
	Epilogue: true,
	Attrs:    []ir.AttrSpec{floatAttr("alpha", 1, "α, the limit at −∞ with the opposite sign")},
}, func(n *ir.Node) scalar {
	a := float64(n.Float("alpha"))
	return wide(func(x float64) float64 {
		if x < 0 {
			return float64(a * f32.Expm1_64(x))
		}
		return x
	})
})

var _ = elementwise(ir.Op{
	Name: "Selu", Since: 6, Doc: "γ·α·(eˣ − 1) where x ≤ 0, else γ·x; computed in float64 and rounded once.",
	Epilogue: true,
	Attrs: []ir.AttrSpec{
		floatAttr("alpha", 1.67326319217681884765625, "α"),
		floatAttr("gamma", 1.05070102214813232421875, "γ"),
	},
}, func(n *ir.Node) scalar {
	a, g := float64(n.Float("alpha")), float64(n.Float("gamma"))
	return wide(func(x float64) float64 {
		if x <= 0 {
			return float64(g * float64(a*f32.Expm1_64(x)))
		}
		return float64(g * x)
	})
})

var _ = elementwise(ir.Op{
	Name: "Celu", Since: 12, Doc: "max(0, x) + min(0, α·(e^(x/α) − 1)), computed in float64 and rounded once.",
	Epilogue: true,
	Attrs:    []ir.AttrSpec{floatAttr("alpha", 1, "α")},
}, func(n *ir.Node) scalar {
	a := float64(n.Float("alpha"))
	return wide(func(x float64) float64 { return max(x, 0) + min(0, float64(a*f32.Expm1_64(x/a))) })
})

// hardSigmoid returns max(0, min(1, α·x + β)), the product rounded before it is added.
func hardSigmoid(a, b float32) scalar {
	return scalar{
		func(x float32) float32 { return max(0, min(1, float32(a*x)+b)) },
		func(x float64) float64 { return max(0, min(1, float64(float64(a)*x)+float64(b))) },
	}
}

var _ = elementwise(ir.Op{
	Name: "HardSigmoid", Since: 6, Doc: "max(0, min(1, α·x + β)); the product is rounded before β is added.",
	Epilogue: true,
	Attrs:    []ir.AttrSpec{floatAttr("alpha", 0.2, "α"), floatAttr("beta", 0.5, "β")},
}, func(n *ir.Node) scalar { return hardSigmoid(n.Float("alpha"), n.Float("beta")) })

var _ = elementwise(ir.Op{
	Name: "HardSwish", Since: 14, Doc: "x·HardSigmoid(x) with α = 1/6 rounded to f32 and β = ½; every operation is rounded once.",
	Epilogue: true,
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		e := expansion{r: r.Before(n), n: n}
		h := e.add("HardSigmoid", ir.MakeAttrs("alpha", float32(1)/6, "beta", 0.5), n.In[0])
		return e.become("Mul", nil, n.In[0], h)
	},
}, func(*ir.Node) scalar {
	h := hardSigmoid(float32(1)/6, 0.5)
	return scalar{
		func(x float32) float32 { return float32(x * h.f32(x)) },
		func(x float64) float64 { return float64(x * h.f64(x)) },
	}
})

var _ = elementwise(ir.Op{
	Name: "Swish", Since: 24, Doc: "x/(1 + e^(−α·x)), computed in float64 and rounded once.",
	Epilogue: true,
	Attrs:    []ir.AttrSpec{floatAttr("alpha", 1, "α")},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		e := expansion{r: r.Before(n), n: n}
		x := n.In[0]
		if a := n.Float("alpha"); a != 1 {
			x = e.add("Mul", nil, x, e.number(float64(a)))
		}
		return e.become("Mul", nil, n.In[0], e.add("Sigmoid", nil, x))
	},
}, func(n *ir.Node) scalar {
	a := float64(n.Float("alpha"))
	return wide(func(x float64) float64 { return float64(x * f32.Sigmoid64(float64(a*x))) })
})

var _ = define(ir.Op{
	Name: "SwiGLU", Since: 28,
	Doc: "Swish of A times B, as in gated linear units; read as Swish and Mul.",
	In:  "A, B", Out: "Y",
	Attrs: []ir.AttrSpec{floatAttr("alpha", 1, "α of Swish")},
	Import: func(r *ir.Rewriter, n *ir.Node, _ int) error {
		if err := wantLike(n, 0, 1); err != nil {
			return err
		}
		e := expansion{r: r.Before(n), n: n}
		gate := e.add("Swish", ir.MakeAttrs("alpha", n.Float("alpha")), n.In[0])
		return e.become("Mul", nil, gate, n.In[1])
	},
})

var _ = elementwise(ir.Op{
	Name: "Mish", Since: 18, Doc: "x·tanh(ln(1 + eˣ)), computed in float64 and rounded once.",
	Epilogue: true,
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		e := expansion{r: r.Before(n), n: n}
		t := e.add("Tanh", nil, e.add("Softplus", nil, n.In[0]))
		return e.become("Mul", nil, n.In[0], t)
	},
}, func(*ir.Node) scalar {
	return wide(func(x float64) float64 { return float64(x * f32.Tanh64(f32.Softplus64(x))) })
})

var _ = elementwise(ir.Op{
	Name: "Gelu", Since: 20,
	Epilogue: true,
	Doc: `x·Φ(x), Φ the normal distribution: x/2·(1 + erf(x/√2)), or with approximate "tanh"
x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))). Computed in float64 and rounded once.`,
	Attrs: []ir.AttrSpec{{Name: "approximate", Kind: ir.StringAttr, Default: "none", Doc: "none or tanh"}},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		e := expansion{r: r.Before(n), n: n}
		x := n.In[0]
		half := e.add("Mul", nil, x, e.number(0.5))
		var t *ir.Value
		if n.Str("approximate") == "tanh" {
			cube := e.add("Mul", nil, e.add("Mul", nil, e.add("Mul", nil, x, x), x), e.number(0.044715))
			t = e.add("Tanh", nil, e.add("Mul", nil, e.add("Add", nil, x, cube), e.number(math.Sqrt(2/math.Pi))))
		} else {
			t = e.add("Erf", nil, e.add("Div", nil, x, e.number(math.Sqrt2)))
		}
		return e.become("Mul", nil, half, e.add("Add", nil, t, e.number(1)))
	},
}, func(n *ir.Node) scalar {
	if n.Str("approximate") == "tanh" {
		return wide(func(x float64) float64 {
			cube := float64(0.044715 * float64(x*float64(x*x)))
			return float64(x / 2 * (1 + f32.Tanh64(float64(math.Sqrt2/math.SqrtPi*(x+cube)))))
		})
	}
	return wide(func(x float64) float64 { return float64(x / 2 * (1 + f32.Erf64(x/math.Sqrt2))) })
})

var _ = define(ir.Op{
	Name: "PRelu", Since: 7, Doc: "slope·x where x < 0, else x; slope broadcasts to X's shape.",
	Roles: []ir.Role{1: ir.Weight}, Elementwise: true, Epilogue: true, Homogeneous: true,
	In: "X, slope", Out: "Y",
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset >= 7 {
			return nil
		}
		return alignAxis(r, n, 1) // one slope for each channel
	},
	Grad: gradPRelu,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Elem.IsFloat() && !x.Elem.IsInt() {
			return nil, fmt.Errorf("X is %v, expected numbers", x)
		}
		if err := wantLike(n, 0, 1); err != nil {
			return nil, err
		}
		x := n.In[0].Type
		if _, err := broadcastOnto(x, n.In[1].Type); err != nil {
			return nil, err
		}
		return sameType(n)
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		slope, err := expand(in[1], in[0].Shape())
		if err != nil {
			return nil, err
		}
		return one(mapPairs(in[0], slope, arithmetic{
			f32: func(x, s float32) float32 {
				if x < 0 {
					return float32(x * s)
				}
				return x
			},
			f64: func(x, s float64) float64 {
				if x < 0 {
					return float64(x * s)
				}
				return x
			},
			i64: func(x, s int64) int64 {
				if x < 0 {
					return x * s
				}
				return x
			},
			u64: func(x, s uint64) uint64 { return x },
		}))
	},
})

// broadcastOnto checks that y broadcasts to the shape of x without changing
// it, and returns x.
func broadcastOnto(x, y ir.Type) (ir.Type, error) {
	t, err := broadcastType(x.Elem, x, y)
	if err == nil && !t.Unranked && (len(t.Dims) != len(x.Dims) || !x.Compatible(t)) {
		err = fmt.Errorf("%v does not broadcast to %v", y, x)
	}
	return x, err
}
