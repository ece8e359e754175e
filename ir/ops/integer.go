package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The operators of the integer level compute with i8 and u8 activations and i32
// accumulators, and have one rule to come back to eight bits:
//
//	y = clamp(round_half_even(acc · multiplier) + y_zero_point, lo, hi)
//
// A multiplier is an f32, so a whole number of 24 bits times a power of two: the
// rule is an integer multiplication and a shift. The product is exact for
// |acc| < 2²⁹; beyond that passes/lowerint gives the multiplier fewer bits. Where it
// is not exact all the same, it is rounded to f64 once.

// requantSpecs are the attributes of the rule.
var requantSpecs = []ir.AttrSpec{
	{Name: "lo", Kind: ir.IntAttr, Doc: "the least result; that of the element type if absent"},
	{Name: "hi", Kind: ir.IntAttr, Doc: "the greatest result; that of the element type if absent"},
}

var biasShiftSpec = ir.AttrSpec{Name: "bias_shift", Kind: ir.IntAttr, Default: int64(0), Doc: "the sum is shifted left by so many bits before the bias is added, 0 to 30"}

// RequantRange returns the least and the greatest result of an operator of the
// integer level whose output has element type e.
func RequantRange(n *ir.Node, e tensor.Elem) (lo, hi int64) {
	lo, hi = e.Range()
	if n.HasAttr("lo") {
		lo = max(lo, int64(n.Int("lo")))
	}
	if n.HasAttr("hi") {
		hi = min(hi, int64(n.Int("hi")))
	}
	return lo, hi
}

// requant is the rule with the numbers of a node.
type requant struct{ lo, hi, zero float64 }

func requantOf(n *ir.Node, zero *tensor.Tensor) (requant, error) {
	if zero.Len() != 1 {
		return requant{}, fmt.Errorf("y_zero_point has %d elements, expected one", zero.Len())
	}
	lo, hi := RequantRange(n, zero.Elem())
	return requant{float64(lo), float64(hi), float64(zero.Int64s()[0])}, nil
}

func (q requant) apply(acc int32, m float32) int64 {
	t := math.RoundToEven(float64(acc)*float64(m)) + q.zero
	return int64(max(q.lo, min(q.hi, t)))
}

// checkRequant checks the bias (input bias), multiplier (bias+1) and zero point
// (bias+2) of an operator with channels results, and returns the element type
// of its output: that of the zero point, i32 when there is no multiplier.
func checkRequant(n *ir.Node, bias int, channels ir.Dim) (tensor.Elem, error) {
	if s := n.Int("bias_shift"); s < 0 || s > 30 {
		return 0, fmt.Errorf("bias_shift is %d, expected 0 to 30", s)
	}
	if b := n.Input(bias); b != nil && b.Type.Elem != tensor.I32 {
		return 0, fmt.Errorf("%s is %v, expected i32", portName(n, bias), b.Type)
	}
	if err := checkBias(n, bias, channels); err != nil {
		return 0, err
	}
	m, z := n.Input(bias+1), n.Input(bias+2)
	if (m == nil) != (z == nil) {
		return 0, fmt.Errorf("multiplier and y_zero_point belong together")
	}
	if m == nil {
		return tensor.I32, nil
	}
	return checkMultiplier(n, bias+1, channels)
}

// checkMultiplier checks input i, a multiplier with one element or one per
// channel, and the zero point after it, and returns the zero point's type.
func checkMultiplier(n *ir.Node, i int, channels ir.Dim) (tensor.Elem, error) {
	m, z := n.In[i], n.In[i+1]
	if m.Type.Elem != tensor.F32 {
		return 0, fmt.Errorf("%s is %v, expected f32", portName(n, i), m.Type)
	}
	if dims, ok := m.Type.Static(); ok && !oneElement(dims) {
		if len(dims) != 1 || !ir.Fixed(dims[0]).MayEqual(channels) {
			return 0, fmt.Errorf("%s is %v, expected one element or %v", portName(n, i), m.Type, channels)
		}
	}
	if d := n.ConstIn(i); d != nil {
		for _, v := range d.Float32s() {
			if !(v > 0) || math.IsInf(float64(v), 0) {
				return 0, fmt.Errorf("%s has an element %v, expected positive numbers", portName(n, i), v)
			}
		}
	}
	if e := z.Type.Elem; e != tensor.I8 && e != tensor.U8 {
		return 0, fmt.Errorf("%s is %v, expected i8 or u8", portName(n, i+1), z.Type)
	}
	return z.Type.Elem, nil
}

// finishInteger adds the bias to exact sums and applies the rule; channel
// returns the index of element i in bias and multiplier.
func finishInteger(n *ir.Node, sum *tensor.Tensor, in []*tensor.Tensor, bias int, channel func(i int) int) ([]*tensor.Tensor, error) {
	acc := sum.Int64s()
	shift := n.Int("bias_shift")
	var b []int64
	if t := zeroAt(in, bias); t != nil {
		b = t.Int64s()
	}
	for i, v := range acc {
		v <<= shift
		if b != nil {
			v += b[channel(i)%len(b)]
		}
		acc[i] = int64(int32(v))
	}
	m := zeroAt(in, bias+1)
	if m == nil {
		return []*tensor.Tensor{tensor.FromInt64s(tensor.I32, acc, sum.Shape()...)}, nil
	}
	q, err := requantOf(n, in[bias+2])
	if err != nil {
		return nil, err
	}
	f := m.Float32s()
	for i, v := range acc {
		acc[i] = q.apply(int32(v), f[channel(i)%len(f)])
	}
	return []*tensor.Tensor{tensor.FromInt64s(in[bias+2].Elem(), acc, sum.Shape()...)}, nil
}

var _ = define(ir.Op{
	Name:  "thriftc.QConv",
	Roles: []ir.Role{1: ir.Weight, 2: ir.Setting, 3: ir.Setting, 4: ir.Bias, 5: ir.Setting, 6: ir.Setting}, Layer: &ir.Layer{},
	PerSample: byFirst,
	Doc: `Convolution of integers: acc = Σ (x − x_zero_point)·(w − w_zero_point), exact;
acc · 2^bias_shift + bias wraps to i32. With multiplier (one, or one per output channel)
y = clamp(round_half_even(acc · multiplier) + y_zero_point, lo, hi), of the type of
y_zero_point; without, y = acc as i32. The padding counts as x_zero_point.
x is i8 or u8, w an integer of at most 8 bits; w_zero_point has one element, or one per output channel.`,
	In: "x, w, x_zero_point?, w_zero_point?, bias?, multiplier?, y_zero_point?", Out: "y",
	Attrs: append(append([]ir.AttrSpec{
		{Name: "group", Kind: ir.IntAttr, Default: int64(1), Doc: "the number of groups"},
		{Name: "kernel_shape", Kind: ir.IntsAttr, Doc: "the kernel's spatial shape; that of w if absent"},
		biasShiftSpec,
	}, requantSpecs...), windowSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantBytes(n); err != nil {
			return nil, err
		}
		if err := checkKernel(n, 0, 1); err != nil {
			return nil, err
		}
		channels := ir.Unknown
		if w := n.In[1].Type; !w.Unranked {
			channels = w.Dims[0]
		}
		e, err := checkRequant(n, 4, channels)
		if err != nil {
			return nil, err
		}
		y, err := convType(n, e)
		return []ir.Type{y}, err
	},
	Cost: integerCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, err := centred(in[0], zeroAt(in, 2), 1)
		if err != nil {
			return nil, fmt.Errorf("x_zero_point: %w", err)
		}
		w, err := centred(in[1], zeroAt(in, 3), 0)
		if err != nil {
			return nil, fmt.Errorf("w_zero_point: %w", err)
		}
		sum, err := conv[int64](n, []*tensor.Tensor{x, w})
		if err != nil {
			return nil, err
		}
		s := sum.Shape()
		plane := sizeOf(s[2:])
		return finishInteger(n, sum, in, 4, func(i int) int { return i / plane % s[1] })
	},
	Export: exportQConv,
})

func integerCost(n *ir.Node) ir.Cost {
	y := elemCount(n.Out[0].Type)
	k := int64(1)
	if n.Op.Name == "thriftc.QConv" {
		k = kernelCount(n.In[1].Type)
	} else if d := n.In[0].Type.Dims; len(d) > 0 && d[len(d)-1].Known() {
		k = int64(d[len(d)-1].N)
	}
	c := ir.Cost{MACs: y * k}
	if n.Input(4) != nil {
		c.Adds = y
	}
	return c
}

var _ = define(ir.Op{
	Name:  "thriftc.QGemm",
	Roles: []ir.Role{1: ir.Weight, 2: ir.Setting, 3: ir.Setting, 4: ir.Bias, 5: ir.Setting, 6: ir.Setting}, Layer: &ir.Layer{},
	PerSample: byFirst,
	Doc: `Matrix product of integers: acc = Σ (a − a_zero_point)·(b − b_zero_point) over the last
dimension of a and the first of b (the last if transB), then as thriftc.QConv does. b has two
dimensions; b_zero_point, bias and multiplier have one element or one per column of the product.`,
	In: "a, b, a_zero_point?, b_zero_point?, bias?, multiplier?, y_zero_point?", Out: "y",
	Attrs: append([]ir.AttrSpec{
		{Name: "transB", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: b is given transposed"},
		biasShiftSpec,
	}, requantSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantBytes(n); err != nil {
			return nil, err
		}
		a, b := n.In[0].Type, n.In[1].Type
		if b.Unranked || b.Rank() != 2 {
			return nil, fmt.Errorf("b is %v, expected two dimensions", b)
		}
		if n.Int("transB") != 0 {
			b = b.WithDims(b.Dims[1], b.Dims[0])
		}
		e, err := checkRequant(n, 4, b.Dims[1])
		if err != nil {
			return nil, err
		}
		dims, err := matmulDims(a, b)
		if err != nil || a.Unranked {
			return []ir.Type{ir.UnrankedType(e)}, err
		}
		return []ir.Type{ir.TensorType(e, dims...)}, nil
	},
	Cost: integerCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		a, err := centred(in[0], zeroAt(in, 2), -1)
		if err != nil {
			return nil, fmt.Errorf("a_zero_point: %w", err)
		}
		axis := 1
		if n.Int("transB") != 0 {
			axis = 0
		}
		b, err := centred(in[1], zeroAt(in, 3), axis)
		if err != nil {
			return nil, fmt.Errorf("b_zero_point: %w", err)
		}
		if axis == 0 {
			if b, err = transpose(b, []int{1, 0}); err != nil {
				return nil, err
			}
		}
		sum, err := matmul[int64](a, b)
		if err != nil {
			return nil, err
		}
		cols := b.Shape()[1]
		return finishInteger(n, sum, in, 4, func(i int) int { return i % cols })
	},
	Export: exportQGemm,
})

var _ = define(ir.Op{
	Name:  "thriftc.QAdd",
	Roles: []ir.Role{2: ir.Setting, 3: ir.Setting, 4: ir.Setting, 5: ir.Setting}, Elementwise: true,
	Doc: `Sum of integers of different scales: with p = (a − a_zero_point)·multipliers[0] +
(b − b_zero_point)·multipliers[1], y = clamp(round_half_even(p / 2^shift) + y_zero_point, lo, hi).
The multipliers are at most 2²¹ in magnitude, so that p fits i32. a and b broadcast.`,
	In: "a, b, a_zero_point, b_zero_point, multipliers, y_zero_point", Out: "y",
	Attrs: append([]ir.AttrSpec{
		{Name: "shift", Kind: ir.IntAttr, Required: true, Doc: "1 to 30"},
	}, requantSpecs...),
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		for i := range 2 {
			if e := n.In[i].Type.Elem; e != tensor.I8 && e != tensor.U8 || n.In[i+2].Type.Elem != e {
				return nil, fmt.Errorf("%s is %v and %s %v, expected both i8 or both u8", portName(n, i), n.In[i].Type, portName(n, i+2), n.In[i+2].Type)
			}
		}
		if s := n.Int("shift"); s < 1 || s > 30 {
			return nil, fmt.Errorf("shift is %d, expected 1 to 30", s)
		}
		m, z := n.In[4].Type, n.In[5].Type
		if dims, ok := m.Static(); m.Elem != tensor.I32 || ok && (len(dims) != 1 || dims[0] != 2) {
			return nil, fmt.Errorf("multipliers is %v, expected i32[2]", m)
		}
		if d := n.ConstIn(4); d != nil {
			for _, v := range d.Int64s() {
				if v < -1<<21 || v > 1<<21 {
					return nil, fmt.Errorf("multiplier %d is beyond 2²¹", v)
				}
			}
		}
		if z.Elem != tensor.I8 && z.Elem != tensor.U8 {
			return nil, fmt.Errorf("y_zero_point is %v, expected i8 or u8", z)
		}
		t, err := broadcastType(z.Elem, n.In[0].Type, n.In[1].Type)
		return []ir.Type{t}, err
	},
	Cost: perElement,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		var p []int64
		var shape []int
		for i := range 2 {
			x, err := centred(in[i], in[i+2], 0)
			if err != nil {
				return nil, err
			}
			if shape, err = broadcastShape(in[0].Shape(), in[1].Shape()); err != nil {
				return nil, err
			}
			if x, err = expand(x, shape); err != nil {
				return nil, err
			}
			m := in[4].Int64s()[i]
			if p == nil {
				p = make([]int64, x.Len())
			}
			for j, v := range x.Int64s() {
				p[j] += v * m
			}
		}
		q, err := requantOf(n, in[5])
		if err != nil {
			return nil, err
		}
		scale := float32(math.Ldexp(1, -n.Int("shift")))
		for i, v := range p {
			p[i] = q.apply(int32(v), scale)
		}
		return []*tensor.Tensor{tensor.FromInt64s(in[5].Elem(), p, shape...)}, nil
	},
	Export: exportQAdd,
})

var _ = define(ir.Op{
	Name:      "thriftc.Lookup",
	Roles:     []ir.Role{1: ir.Setting},
	PerSample: byFirst,
	Doc: `Replaces every integer by an element of a table: y = table[x − least], least being the
least number of x's type. Any function of one quantised tensor is one, exactly. x is i8 or
u8, the table has 256 elements.`,
	In: "x, table", Out: "y",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x, t := n.In[0].Type, n.In[1].Type
		if x.Elem != tensor.I8 && x.Elem != tensor.U8 {
			return nil, fmt.Errorf("x is %v, expected i8 or u8", x)
		}
		if dims, ok := t.Static(); ok && (len(dims) != 1 || dims[0] != 256) {
			return nil, fmt.Errorf("table is %v, expected 256 elements", t)
		}
		return []ir.Type{x.WithElem(t.Elem)}, nil
	},
	Cost: perElement,
	Eval: func(_ *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		least, _ := in[0].Elem().Range()
		x := in[0].Int64s()
		return one(pick(in[1], in[0].Shape(), func(yield func(int) bool) {
			for _, v := range x {
				if !yield(int(v - least)) {
					return
				}
			}
		}))
	},
	Export: exportLookup,
})
