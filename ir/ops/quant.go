package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// quantSpec is the arithmetic of one quantiser with the numbers of its inputs.
type quantSpec struct {
	lo, hi      float64 // the least and greatest integer
	round       func(float64) float64
	beforeRound bool // the zero point is added before rounding
}

var quantAttrs = []ir.AttrSpec{
	{Name: "axis", Kind: ir.IntAttr, Default: int64(1), Doc: "the dimension along which scale and zero_point run when they have more than one element"},
	{Name: "signed", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: the integer is signed"},
	{Name: "narrow", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the range is one smaller, symmetric if signed"},
	{Name: "rounding_mode", Kind: ir.StringAttr, Default: "ROUND", Doc: "ROUND (half to even), CEIL, FLOOR, UP (away from zero), DOWN (toward zero), HALF_UP (half away from zero), HALF_DOWN (half toward zero)"},
	{Name: "zero_point_order", Kind: ir.StringAttr, Default: "after_round", Doc: "after_round or before_round"},
}

var _ = define(ir.Op{
	Name:      "thriftc.Quant",
	Roles:     []ir.Role{1: ir.Setting, 2: ir.Setting, 3: ir.Setting},
	PerSample: quantPerSample,
	Doc: `Rounds x to the grid of a bits-wide integer and back: fake quantisation.
With zero_point_order "after_round" (ONNX QuantizeLinear then DequantizeLinear):
q = clamp(round(x / scale) + zero_point, lo, hi).
With "before_round" (QONNX Quant): q = round(clamp(x / scale + zero_point, lo, hi)).
Then y = (q − zero_point) · scale. The quotient, the sum with zero_point before
rounding and the final product are each rounded once to the type of x (f32 for
f16 and bf16, then y once more); everything between is exact. NaN becomes lo and
y is never −0. The orders agree when zero_point is 0.
signed: lo = −2^(bits−1) (+1 if narrow), hi = 2^(bits−1) − 1; otherwise lo = 0,
hi = 2^bits − 1 (−1 if narrow). bits is a whole number from 1 to 32. scale has
one element, or one per index of x along axis; so has zero_point, which must
be whole in the order "after_round".`,
	In: "x, scale, zero_point, bits", Out: "y",
	Bits: func(n *ir.Node) int {
		if b := n.ConstIn(3); b != nil {
			bits, _ := wholeBits(b)
			return bits
		}
		return 0
	},
	Attrs: quantAttrs,
	Grad:  gradQuant,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x := n.In[0].Type
		if !x.Elem.IsFloat() {
			return nil, fmt.Errorf("x is %v, expected floating point", x)
		}
		return []ir.Type{x.WithElem(x.Elem)}, checkQuant(n, 0)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		q, err := quantSpecOf(n, in[3])
		if err != nil {
			return nil, err
		}
		if in[0].Elem() == tensor.F64 {
			return fakeQuant(in, n.Int("axis"), q.apply64)
		}
		return fakeQuant(in, n.Int("axis"), func(x, s, z float64) float64 {
			return float64(q.apply32(float32(x), float32(s), float32(z)))
		})
	},
	Export: exportQuant,
})

// checkQuant checks the attributes of a quantiser, and the inputs scale, zero_point and
// bits after input at, which is x.
func checkQuant(n *ir.Node, at int) error {
	x := n.In[at].Type
	for i, what := range []string{"scale", "zero_point"} {
		t := n.In[at+i+1].Type
		if t.Elem != x.Elem {
			return fmt.Errorf("%s is %v, expected the element type of x, %v", what, t, x.Elem)
		}
		if err := checkAlongAxis(what, t, x, n.Int("axis")); err != nil {
			return err
		}
	}
	if b := n.In[at+3].Type; !b.Elem.IsFloat() || b.Rank() > 0 {
		return fmt.Errorf("bits is %v, expected a floating-point scalar", b)
	}
	if b := n.ConstIn(at + 3); b != nil {
		if _, err := wholeBits(b); err != nil {
			return err
		}
	}
	if roundings[n.Str("rounding_mode")] == nil {
		return fmt.Errorf("rounding_mode is %q", n.Str("rounding_mode"))
	}
	if o := n.Str("zero_point_order"); o != "after_round" && o != "before_round" {
		return fmt.Errorf("zero_point_order is %q, expected after_round or before_round", o)
	}
	return nil
}

// quantSpecOf returns the arithmetic of a quantiser of the given width.
func quantSpecOf(n *ir.Node, width *tensor.Tensor) (quantSpec, error) {
	bits, err := wholeBits(width)
	if err != nil {
		return quantSpec{}, err
	}
	lo, hi := QuantRange(bits, n.Int("signed") != 0, n.Int("narrow") != 0)
	return quantSpec{float64(lo), float64(hi), roundings[n.Str("rounding_mode")], n.Str("zero_point_order") == "before_round"}, nil
}

// fakeQuant maps f over in[0] with the scale and zero point of each element.
func fakeQuant(in []*tensor.Tensor, axis int, f func(x, s, z float64) float64) ([]*tensor.Tensor, error) {
	along, err := alongAxis(in[0].Shape(), axis, 0, in[1], in[2])
	if err != nil {
		return nil, err
	}
	x, s, z := in[0].Float64s(), in[1].Float64s(), in[2].Float64s()
	y := make([]float64, len(x))
	for i := range x {
		y[i] = f(x[i], s[along(i, len(s))], z[along(i, len(z))])
	}
	return []*tensor.Tensor{floatsOf(in[0].Elem(), y, in[0].Shape())}, nil
}

// floatsOf makes a tensor of a floating-point type of numbers that are already
// rounded to f32, or to f64 when that is the type.
func floatsOf(e tensor.Elem, y []float64, shape []int) *tensor.Tensor {
	if e == tensor.F64 {
		return tensor.Of(y, shape...)
	}
	f := make([]float32, len(y))
	for i, v := range y {
		f[i] = float32(v)
	}
	return tensor.FromFloat32s(e, f, shape...)
}

func (q quantSpec) apply32(x, s, z float32) float32 {
	if q.beforeRound {
		t := float32(x/s) + z
		return unsignZero(float32(float32(float32(q.round(q.clamp(float64(t))))-z) * s))
	}
	k := q.clamp(q.round(float64(float32(x/s))) + float64(z))
	return unsignZero(float32(float32(k-float64(z)) * s))
}

func (q quantSpec) apply64(x, s, z float64) float64 {
	if q.beforeRound {
		return unsignZero(float64((q.round(q.clamp(float64(x/s)+z)) - z) * s))
	}
	return unsignZero(float64((q.clamp(q.round(float64(x/s))+z) - z) * s))
}

// level returns the integer of x, given x / scale and the zero point.
func (q quantSpec) level(ratio, zero float64) float64 {
	if q.beforeRound {
		return q.round(q.clamp(ratio + zero))
	}
	return q.clamp(q.round(ratio) + zero)
}

// clamp limits t to the range; NaN becomes lo, as in ONNX Runtime.
func (q quantSpec) clamp(t float64) float64 {
	if !(t > q.lo) {
		return q.lo
	}
	return min(t, q.hi)
}

func unsignZero[T float32 | float64](x T) T {
	if x == 0 {
		return 0
	}
	return x
}

// roundings are the rounding modes of QONNX, to whole numbers.
var roundings = map[string]func(float64) float64{
	"ROUND": math.RoundToEven,
	"CEIL":  math.Ceil,
	"FLOOR": math.Floor,
	"UP": func(x float64) float64 {
		if x < 0 {
			return math.Floor(x)
		}
		return math.Ceil(x)
	},
	"DOWN":    math.Trunc,
	"HALF_UP": math.Round,
	"HALF_DOWN": func(x float64) float64 {
		t := math.Trunc(x)
		if math.Abs(x-t) > 0.5 {
			t += math.Copysign(1, x)
		}
		return t
	},
}

// QuantRange returns the least and greatest integer of a quantiser: all values
// of a bits-wide integer, or one fewer when narrow (symmetric if signed).
func QuantRange(bits int, signed, narrow bool) (lo, hi int64) {
	e := tensor.Uint(bits)
	if signed {
		e = tensor.Int(bits)
	}
	lo, hi = e.Range()
	switch {
	case narrow && signed:
		lo++
	case narrow:
		hi--
	}
	return lo, hi
}

// wholeBits reads a bit width from a one-element tensor.
func wholeBits(t *tensor.Tensor) (int, error) {
	if t.Len() != 1 {
		return 0, fmt.Errorf("bits has %d elements, expected 1", t.Len())
	}
	b := t.Float64s()[0]
	if b != math.Trunc(b) || !(b >= 1 && b <= 32) {
		return 0, fmt.Errorf("bits is %v, expected a whole number from 1 to 32", b)
	}
	return int(b), nil
}

// checkAlongAxis checks that a parameter of a quantiser has one element, or is
// one-dimensional with as many elements as x has along axis.
func checkAlongAxis(what string, t, x ir.Type, axis int) error {
	if dims, ok := t.Static(); ok {
		if k, err := tensor.NumElems(dims); err != nil || k == 1 {
			return err
		}
	}
	if t.Unranked || x.Unranked {
		return nil
	}
	if t.Rank() != 1 {
		return fmt.Errorf("%s is %v, expected a scalar or one dimension", what, t)
	}
	if axis < 0 {
		axis += x.Rank()
	}
	if axis < 0 || axis >= x.Rank() {
		return fmt.Errorf("axis is outside of %v", x)
	}
	if !t.Dims[0].MayEqual(x.Dims[axis]) {
		return fmt.Errorf("%s is %v, expected one element or %v as %v has along axis %d", what, t, x.Dims[axis], x, axis)
	}
	return nil
}

// alongAxis returns the function that maps the index of an element of x to
// that of its parameter, of which there are count. With a block size the
// parameters have x's shape but for axis, where one serves a block.
func alongAxis(shape []int, axis, block int, params ...*tensor.Tensor) (func(i, count int) int, error) {
	inner, size := 1, 0
	if axis < 0 {
		axis += len(shape)
	}
	if axis >= 0 && axis < len(shape) {
		size = shape[axis]
		for _, d := range shape[axis+1:] {
			inner *= d
		}
	}
	perLine := blocks(size, block)
	for _, p := range params {
		switch {
		case p.Len() == 1 && block == 0:
		case block == 0 && p.Rank() == 1 && p.Len() == size:
		case block > 0 && size > 0 && p.Rank() == len(shape) && p.Shape()[axis] == perLine && p.Len() == sizeOf(shape)/size*perLine:
		default:
			return nil, fmt.Errorf("parameter of shape %v does not fit x of shape %v along axis %d", p.Shape(), shape, axis)
		}
	}
	return func(i, count int) int {
		switch {
		case block > 0:
			return (i/inner/size*perLine+i/inner%size/block)*inner + i%inner
		case count == 1:
			return 0
		}
		return i / inner % count
	}, nil
}

// blocks returns in how many blocks so many elements lie, the last of which may be cut off.
func blocks(size, block int) int {
	if block < 1 || size < 1 {
		return 0
	}
	return (size-1)/block + 1
}

// QuantInfo are the constants of a thriftc.Quant node.
type QuantInfo struct {
	Scale       []float32 // one, or one per index along Axis
	Zero        []float32 // one, or as many as Scale
	Axis        int       // not negative when there is more than one scale and the rank is known
	Bits        int
	Signed      bool
	Narrow      bool
	Lo, Hi      int64 // the least and greatest integer
	Rounding    string
	BeforeRound bool // the zero point is added before rounding and is not 0
}

// QuantOf returns the constants of a thriftc.Quant node; false when the node
// is another operator or its scale, zero point or bits are computed.
func QuantOf(n *ir.Node) (QuantInfo, bool) {
	if n.Op.Name != "thriftc.Quant" || n.ConstIn(1) == nil || n.ConstIn(2) == nil || n.ConstIn(3) == nil {
		return QuantInfo{}, false
	}
	bits, err := wholeBits(n.ConstIn(3))
	if err != nil {
		return QuantInfo{}, false
	}
	q := QuantInfo{
		Scale: n.ConstIn(1).Float32s(), Zero: n.ConstIn(2).Float32s(), Axis: n.Int("axis"),
		Bits: bits, Signed: n.Int("signed") != 0, Narrow: n.Int("narrow") != 0, Rounding: n.Str("rounding_mode"),
	}
	if r := n.In[0].Type.Rank(); q.Axis < 0 && r >= 0 {
		q.Axis += r
	}
	q.Lo, q.Hi = QuantRange(bits, q.Signed, q.Narrow)
	if n.Str("zero_point_order") == "before_round" {
		for _, z := range q.Zero {
			q.BeforeRound = q.BeforeRound || z != 0
		}
	}
	return q, true
}

var _ = define(ir.Op{
	Name:  "thriftc.BipolarQuant",
	Roles: []ir.Role{1: ir.Setting},
	Doc: `Replaces x by its sign times scale: y = scale if x ≥ 0, otherwise −scale (NaN too).
The meaning of QONNX BipolarQuant. scale has one element, or one per index of x along axis.`,
	In: "x, scale", Out: "y",
	Grad: gradBipolarQuant,
	Bits: func(*ir.Node) int { return 1 },
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Default: int64(1), Doc: "the dimension along which scale runs when it has more than one element"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x, s := n.In[0].Type, n.In[1].Type
		if !x.Elem.IsFloat() || s.Elem != x.Elem {
			return nil, fmt.Errorf("x is %v and scale is %v, expected the same floating-point type", x, s)
		}
		return []ir.Type{x.WithElem(x.Elem)}, checkAlongAxis("scale", s, x, n.Int("axis"))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return fakeQuant([]*tensor.Tensor{in[0], in[1], in[1]}, n.Int("axis"), func(x, s, _ float64) float64 {
			if x >= 0 {
				return s
			}
			return -s
		})
	},
	Export: exportBipolarQuant,
})

var _ = define(ir.Op{
	Name:  "thriftc.Trunc",
	Roles: []ir.Role{1: ir.Setting, 2: ir.Setting, 3: ir.Setting, 4: ir.Setting},
	Doc: `Drops low bits of a quantised value: QONNX Trunc.
t = round_half_even(x / scale + zero_point) / 2^shift, clamped to the range of a
bits-wide integer (bits 0: not clamped) and rounded by rounding_mode;
y = (t − out_zero_point) · out_scale. Every step is rounded to f32 once. Version 1
of QONNX has no clamp and the same scale and zero point on both sides; version 2
has shift = log2(out_scale / scale) and out_zero_point = zero_point / 2^shift.`,
	In: "x, scale, zero_point, out_scale, out_zero_point", Out: "y",
	Bits: func(n *ir.Node) int { return n.Int("bits") },
	Attrs: []ir.AttrSpec{
		{Name: "shift", Kind: ir.IntAttr, Required: true, Doc: "how many low bits are dropped"},
		{Name: "bits", Kind: ir.IntAttr, Default: int64(0), Doc: "width of the result, 0 for no limit"},
		{Name: "signed", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: the result is signed"},
		{Name: "narrow", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the range is one smaller, symmetric if signed"},
		{Name: "rounding_mode", Kind: ir.StringAttr, Default: "FLOOR", Doc: "as for thriftc.Quant"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		for i, v := range n.In {
			if v.Type.Elem != tensor.F32 {
				return nil, fmt.Errorf("%s is %v, expected f32", n.Op.Inputs()[i].Name, v.Type)
			}
			if dims, ok := v.Type.Static(); i > 0 && ok && !oneElement(dims) {
				return nil, fmt.Errorf("%s is %v, expected one element", n.Op.Inputs()[i].Name, v.Type)
			}
		}
		if roundings[n.Str("rounding_mode")] == nil {
			return nil, fmt.Errorf("rounding_mode is %q", n.Str("rounding_mode"))
		}
		if b, s := n.Int("bits"), n.Int("shift"); b < 0 || b > 32 || s < -64 || s > 64 {
			return nil, fmt.Errorf("bits is %d and shift %d, expected 0 to 32 and −64 to 64", b, s)
		}
		return []ir.Type{n.In[0].Type.WithElem(tensor.F32)}, nil
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		clamp := func(t float64) float64 { return t }
		if b := n.Int("bits"); b > 0 {
			lo, hi := QuantRange(b, n.Int("signed") != 0, n.Int("narrow") != 0)
			clamp = quantSpec{lo: float64(lo), hi: float64(hi)}.clamp
		}
		var p [4]float32
		for i := range p {
			if in[i+1].Len() != 1 {
				return nil, fmt.Errorf("%s has %d elements, expected 1", n.Op.Inputs()[i+1].Name, in[i+1].Len())
			}
			p[i] = in[i+1].Float32s()[0]
		}
		round, down := roundings[n.Str("rounding_mode")], float32(math.Ldexp(1, -n.Int("shift")))
		y := make([]float32, in[0].Len())
		for i, x := range in[0].Float32s() {
			t := float32(math.RoundToEven(float64(float32(x/p[0])+p[1]))) * down
			t = float32(round(clamp(float64(t))))
			y[i] = unsignZero(float32((t - p[3]) * p[2]))
		}
		return []*tensor.Tensor{tensor.Of(y, in[0].Shape()...)}, nil
	},
})

func oneElement(shape []int) bool {
	n, err := tensor.NumElems(shape)
	return err == nil && n == 1
}
