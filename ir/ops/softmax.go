package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// alongAxisOp completes and defines an operator that maps every line of
// elements along the attribute axis to another line.
func alongAxisOp(o ir.Op, f func(y, x []float32), f64 func(y, x []float64)) *ir.Op {
	o.In, o.Out, o.Since, o.PerSample = "input", "output", 13, besideAxis
	o.Attrs = []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Default: int64(-1), Doc: "the dimension along which the operator works"}}
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Unranked {
			if _, err := axisOf(n.Int("axis"), x.Rank()); err != nil {
				return nil, err
			}
		}
		return floatType(n)
	}
	o.Cost = func(n *ir.Node) ir.Cost { return ir.Cost{Adds: 3 * elemCount(n.Out[0].Type)} }
	o.Import = importFlattening
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		axis, err := axisOf(n.Int("axis"), in[0].Rank())
		if err != nil {
			return nil, err
		}
		if in[0].Elem() == tensor.F64 {
			return one(mapLines(in[0], axis, f64), nil)
		}
		return one(mapLines(in[0], axis, f), nil)
	}
	return define(o)
}

// mapLines applies f to every line of x along axis.
func mapLines[T float](x *tensor.Tensor, axis int, f func(y, x []T)) *tensor.Tensor {
	s := x.Shape()
	src, y := numbers[T](x), make([]T, x.Len())
	size, inner := s[axis], sizeOf(s[axis+1:])
	line, out := make([]T, size), make([]T, size)
	for o := range sizeOf(s[:axis]) {
		for i := range inner {
			at := o*size*inner + i
			for k := range line {
				line[k] = src[at+k*inner]
			}
			f(out, line)
			for k, v := range out {
				y[at+k*inner] = v
			}
		}
	}
	return fromNumbers(x.Elem(), y, s...)
}

// importFlattening turns the form before opset 13, which works on all
// dimensions from axis on as if they were one, into today's.
func importFlattening(r *ir.Rewriter, n *ir.Node, opset int) error {
	if opset >= 13 {
		return nil
	}
	axis := 1
	if n.Attrs.Has("axis") {
		axis = n.Int("axis")
	}
	x := n.In[0].Type
	if x.Unranked {
		return fmt.Errorf("axis %d of opset %d means all dimensions from there on, and the rank of %v is not known", axis, opset, x)
	}
	if axis == x.Rank() && axis > 0 {
		axis = x.Rank() - 1
		if x.Dims[axis] != ir.Fixed(1) {
			return fmt.Errorf("axis %d is outside rank %d", axis+1, x.Rank())
		}
	}
	axis, err := axisOf(axis, x.Rank())
	if err != nil {
		return err
	}
	// Where all these dimensions but one are 1, that one is meant.
	long := -1
	for i := axis; i < x.Rank(); i++ {
		if x.Dims[i] != ir.Fixed(1) {
			if long >= 0 {
				long = -2
				break
			}
			long = i
		}
	}
	if long == -1 {
		long = axis
	}
	if long >= 0 {
		r.SetAttr(n, "axis", long)
		return nil
	}
	e := expansion{r: r.Before(n), n: n}
	shape := e.add("Shape", nil, n.In[0])
	flat := e.add("Flatten", ir.MakeAttrs("axis", axis), n.In[0])
	y := e.add(n.Op.Name, ir.MakeAttrs("axis", 1), flat)
	return e.become("Reshape", nil, y, shape)
}

var (
	_ = alongAxisOp(ir.Op{Name: "Softmax", Probabilities: true, Grad: gradSoftmax,
		Doc: "e^(x−m)/s along axis: m is the greatest element, s the sum of the rounded exponentials in the order of reductions (f32.Sum).",
	}, softmax[float32], softmax[float64])
	_ = alongAxisOp(ir.Op{Name: "LogSoftmax", Probabilities: true, Grad: gradSoftmax,
		Doc: "(x−m) − ln s along axis: m is the greatest element, s the sum of the rounded e^(x−m) in the order of reductions (f32.Sum).",
	}, logSoftmax[float32], logSoftmax[float64])
	_ = alongAxisOp(ir.Op{Name: "Hardmax",
		Doc: "1 for the first greatest element along axis, 0 for the others.",
	}, hardmax[float32], hardmax[float64])
)

func softmax[T float](y, x []T) {
	if len(x) == 0 {
		return
	}
	m := greatest(nil, x)
	for i, v := range x {
		y[i] = viaFloat64(f32.Exp64, v-m)
	}
	s := f32.Sum(y)
	for i, v := range y {
		y[i] = v / s
	}
}

func logSoftmax[T float](y, x []T) {
	if len(x) == 0 {
		return
	}
	m := greatest(nil, x)
	for i, v := range x {
		y[i] = viaFloat64(f32.Exp64, v-m)
	}
	l := viaFloat64(f32.Log64, f32.Sum(y))
	for i, v := range x {
		y[i] = (v - m) - l
	}
}

func hardmax[T float](y, x []T) {
	best := 0
	for i, v := range x {
		y[i] = 0
		if v > x[best] {
			best = i
		}
	}
	if len(y) > 0 {
		y[best] = 1
	}
}

var _ = define(ir.Op{
	Name: "LpNormalization", Since: 1,
	Doc: `x divided by the p-norm of its line along axis; a line of zeros stays. The powers
are rounded, then added in the order of reductions (f32.Sum).`,
	In: "input", Out: "output",
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Default: int64(-1), Doc: "the dimension along which to normalise"},
		{Name: "p", Kind: ir.IntAttr, Default: int64(2), Doc: "the norm: 1 or 2"},
	},
	Grad: gradLpNormalization,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Unranked {
			if _, err := axisOf(n.Int("axis"), x.Rank()); err != nil {
				return nil, err
			}
		}
		return sameTypeOf(n, wantNorm(n))
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		axis, err := axisOf(n.Int("axis"), in[0].Rank())
		if err != nil {
			return nil, err
		}
		if in[0].Elem() == tensor.F64 {
			return one(mapLines(in[0], axis, func(y, x []float64) { normalizeLine(n, y, x) }), nil)
		}
		return one(mapLines(in[0], axis, func(y, x []float32) { normalizeLine(n, y, x) }), nil)
	},
})

func normalizeLine[T float](n *ir.Node, y, x []T) {
	norm := lpNorm(n, x)
	for i, v := range x {
		if y[i] = v / norm; norm == 0 {
			y[i] = 0
		}
	}
}

// sameTypeOf is sameType unless a check before it failed.
func sameTypeOf(n *ir.Node, err error) ([]ir.Type, error) {
	if err != nil {
		return nil, err
	}
	return sameType(n)
}

var _ = define(ir.Op{
	Name: "LRN", PerSample: byFirst, Since: 1,
	Doc: `Local response normalisation: x/(bias + (α/size)·s)^β, where s is the sum of the
squares of the size channels around x's, in order. α/size, every square, the
product, the sum with bias, the power and the quotient are rounded once each.`,
	In: "X", Out: "Y",
	Attrs: []ir.AttrSpec{
		floatAttr("alpha", 0.0001, "α"), floatAttr("beta", 0.75, "β"), floatAttr("bias", 1, "what is added to the scaled sum"),
		{Name: "size", Kind: ir.IntAttr, Required: true, Doc: "the number of channels: ⌊(size−1)/2⌋ before x's, ⌈(size−1)/2⌉ after"},
	},
	Grad: gradLRN,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Unranked && x.Rank() < 2 {
			return nil, fmt.Errorf("X is %v, expected at least two dimensions", x)
		}
		if s := n.Int("size"); s < 1 || s > maxWindow {
			return nil, fmt.Errorf("size is %d", s)
		}
		return floatType(n)
	},
	Cost: func(n *ir.Node) ir.Cost {
		e := elemCount(n.Out[0].Type)
		return ir.Cost{MACs: e * int64(n.Int("size")), Adds: e}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(mapLines(in[0], 1, func(y, x []float64) { lrn(n, y, x) }), nil)
		}
		return one(mapLines(in[0], 1, func(y, x []float32) { lrn(n, y, x) }), nil)
	},
})

func lrn[T float](n *ir.Node, y, x []T) {
	size := n.Int("size")
	scale, bias, beta := T(n.Float("alpha"))/T(size), T(n.Float("bias")), float64(n.Float("beta"))
	before := (size - 1) / 2
	for c, v := range x {
		var s T
		for _, u := range x[max(0, c-before):min(len(x), c-before+size)] {
			s += T(u * u)
		}
		base := bias + T(scale*s)
		y[c] = v / viaFloat64(func(b float64) float64 { return f32.Pow64(b, beta) }, base)
	}
}

var _ = define(ir.Op{
	Name: "Flatten", Since: 9,
	PerSample: byFirst,
	Doc:       "X as a matrix: the product of the dimensions before axis by the product of the others.",
	In:        "input", Out: "output", Elements: ir.Kept, Grad: gradReshape,
	Attrs: []ir.AttrSpec{{Name: "axis", Kind: ir.IntAttr, Default: int64(1), Doc: "the first dimension that goes to the columns, 0 to the rank, or counted from the end"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x := n.In[0].Type
		if x.Unranked {
			return []ir.Type{x.WithDims(ir.Unknown, ir.Unknown)}, nil
		}
		axis, err := flattenAxis(n, x.Rank())
		if err != nil {
			return nil, err
		}
		t := x.WithDims(dimProduct(x.Dims[:axis]), dimProduct(x.Dims[axis:]))
		if x.Quant != nil && len(x.Quant.Scale) == 1 {
			t.Quant = x.Quant
		}
		return []ir.Type{t}, nil
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := in[0].Shape()
		axis, err := flattenAxis(n, len(s))
		if err != nil {
			return nil, err
		}
		return one(in[0].Reshape(sizeOf(s[:axis]), sizeOf(s[axis:])), nil)
	},
})

func flattenAxis(n *ir.Node, rank int) (int, error) {
	if a := n.Int("axis"); a != rank {
		return axisOf(a, rank)
	}
	return rank, nil
}

// dimProduct returns the product of dimensions: a symbol stays one if all the
// others are 1.
func dimProduct(dims []ir.Dim) ir.Dim {
	p := ir.Fixed(1)
	for _, d := range dims {
		switch {
		case d == ir.Fixed(0) || p == ir.Fixed(0):
			p = ir.Fixed(0)
		case p == ir.Fixed(1):
			p = d
		case d == ir.Fixed(1):
		case p.Known() && d.Known() && p.N <= math.MaxInt/d.N:
			p = ir.Fixed(p.N * d.N)
		default:
			p = ir.Unknown
		}
	}
	return p
}
