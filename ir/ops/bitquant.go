package ops

import (
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// bitQuantAttrs are shared by thriftc.BitQuant and its gradient.
var bitQuantAttrs = []ir.AttrSpec{
	{Name: "grid", Kind: ir.StringAttr, Default: gridZero, Doc: "zero: lo to hi moved so that 0 is a point; symmetric: signed, −hi to hi; minmax: exactly lo to hi"},
	{Name: "max_bits", Kind: ir.IntAttr, Default: int64(8), Doc: "the largest width, 2 to 16; bits are limited to 1 … max_bits"},
	{Name: "pow2", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the scale is the next power of two that is not smaller"},
	{Name: "fixed_range", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: no gradient flows into lo and hi"},
}

// The grids of thriftc.BitQuant.
const (
	gridZero      = "zero"
	gridSymmetric = "symmetric"
	gridMinMax    = "minmax"
)

var _ = define(ir.Op{
	Name:  "thriftc.BitQuant",
	Roles: []ir.Role{1: ir.Setting, 2: ir.Setting, 3: ir.Setting},
	Doc: `Fake quantisation with a bit length that need not be whole: BitPruning (arXiv 2002.03090).
With b = ⌊bits⌋ (at most max_bits − 1) and a = bits − b the result interpolates between two widths:
y = Q(x, b) + a · (Q(x, b+1) − Q(x, b)), the difference rounded, the rest one fused multiply-add.
Q(x, b) has L = 2^b − 1 steps. In every grid the quotient and the product are rounded once, ties
go to the even integer, and NaN goes to the lowest point.
zero: the range lo … hi with 0 in it, scale s = (hi − lo)/L, zero point z = round(−lo/s);
Q = clamp(round(x/s), −z, L − z) · s, as thriftc.Quant computes it.
symmetric: s = hi/(2^(b−1) − 1) (hi for 1 bit); Q = clamp(round(x/s), −2^(b−1), 2^(b−1) − 1) · s; lo is not used.
minmax: s = (hi − lo)/L; Q = lo + clamp(round((x − lo)/s), 0, L) · s in one fused multiply-add, as
the paper has it: 0 is not a point. A scale that would not be positive is 1; scales are kept within 2^±100.
bits, lo and hi broadcast to x: one for all, one for each channel, or for any other groups.
The gradient of x is that of y where x is in range and 0 outside (straight-through);
that of bits is Σ dy · (Q(x, b+1) − Q(x, b)).`,
	In: "x, bits, lo, hi", Out: "y",
	Attrs: bitQuantAttrs,
	Bits: func(n *ir.Node) int {
		if b := n.ConstIn(1); b != nil && b.Len() == 1 {
			return int(math.Ceil(b.Float64s()[0]))
		}
		return 0
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		return []ir.Type{n.In[0].Type.WithElem(n.In[0].Type.Elem)}, checkBitQuant(n, 0)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(bitQuant[float64](n, in))
		}
		return one(bitQuant[float32](n, in))
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		name := n.Out[0].Name + "_grad"
		out := []string{name, name + "_bits"}
		switch {
		case n.Int("fixed_range") != 0:
		case n.In[2].IsConst():
			out = append(out, name+"_hi")
		default:
			out = append(out, name+"_hi", name+"_lo")
		}
		m, err := r.Add("thriftc.BitQuantGrad", "", slices.Clone(n.Attrs), append([]*ir.Value{dout[0]}, n.In...), out...)
		if err != nil {
			return nil, err
		}
		return []*ir.Value{m.Out[0], m.Out[1], m.Output(3), m.Output(2)}, nil
	},
})

var _ = define(ir.Op{
	Name: "thriftc.BitQuantGrad",
	Doc: `The gradients of thriftc.BitQuant from dy, that of its result.
dx = dy · ((1−a)·i(b) + a·i(b+1)), i being 1 where rounding stays within the grid and 0 where x is clipped.
dbits = Σ dy · (Q(x, b+1) − Q(x, b)). The range is learned as in LSQ (arXiv 1902.08153): with the
rounded quotient k, before rounding r, and the clipped c, ∂Q/∂s = k − r in range and c outside, and s is
proportional to hi − lo (minmax: lo moves the points as well); zero points and powers of two count
as if they followed exactly. Terms are rounded once and added in the order of reductions (f32.Sum): of an x with three dimensions or more and
one parameter for all, those of a channel in one of eight groups of images (images n·N/8 up to (n+1)·N/8), and
these sums in order; else runs of at most 4,096 neighbouring elements with the same parameter. What comes of
channels, or of runs, is added in order in f64, and rounded once at the end.`,
	In: "dy, x, bits, lo, hi", Out: "dx, dbits, dhi?, dlo?",
	NoGrad: "a gradient of first order",
	Attrs:  bitQuantAttrs,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x := n.In[1].Type
		if !n.In[0].Type.Compatible(x) {
			return nil, fmt.Errorf("dy is %v and x is %v, expected the same type", n.In[0].Type, x)
		}
		var out []ir.Type
		for _, i := range []int{1, 2, 4, 3} {
			out = append(out, n.In[i].Type.WithElem(n.In[i].Type.Elem))
		}
		return out, checkBitQuant(n, 1)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return bitQuantGrad[float64](n, in)
		}
		return bitQuantGrad[float32](n, in)
	},
})

// checkBitQuant checks the attributes and that bits, lo and hi fit x, which is input first.
func checkBitQuant(n *ir.Node, first int) error {
	x := n.In[first].Type
	if x.Elem != tensor.F32 && x.Elem != tensor.F64 {
		return fmt.Errorf("x is %v, expected f32 or f64", x)
	}
	for _, v := range n.In[first+1:] {
		if v.Type.Elem != x.Elem {
			return fmt.Errorf("%%%s is %v, expected the element type of x, %v", v.Name, v.Type, x.Elem)
		}
		if _, err := broadcastOnto(x, v.Type); err != nil {
			return err
		}
	}
	if g := n.Str("grid"); g != gridZero && g != gridSymmetric && g != gridMinMax {
		return fmt.Errorf("grid is %q, expected zero, symmetric or minmax", g)
	}
	if m := n.Int("max_bits"); m < 2 || m > 16 {
		return fmt.Errorf("max_bits is %d, expected 2 to 16", m)
	}
	return nil
}

// BitGrid is the grid of a thriftc.BitQuant at a whole number of bits.
type BitGrid[T float32 | float64] struct {
	Scale  T
	Lo, Hi T // the least and greatest integer, less the zero point
	Zero   T // the zero point; −lo/Scale in no grid but zero
	Base   T // minmax: added to the multiple of Scale
	Steps  T // hi − lo, or hi, as a multiple of Scale

	loScale, loBase T // how Scale·Steps and Base change with lo
}

// BitGridOf returns the grid of n, a thriftc.BitQuant or its gradient, at b bits for a range.
func BitGridOf[T float32 | float64](n *ir.Node, b int, lo, hi T) BitGrid[T] {
	levels := T(int(1)<<b - 1)
	g := BitGrid[T]{Hi: levels, Steps: levels, loScale: -1}
	grid := n.Str("grid")
	switch grid {
	case gridSymmetric:
		half := T(int(1) << (b - 1))
		g.Lo, g.Hi, g.Steps = -half, half-1, max(half-1, 1)
		lo, g.loScale = 0, 0
	case gridZero:
		lo, hi = min(lo, 0), max(hi, 0)
	default:
		g.Base, g.loBase = lo, 1
	}
	g.Scale = T(T(hi-lo) / g.Steps)
	switch {
	case !(g.Scale > 0):
		g.Scale = 1
	case n.Int("pow2") != 0:
		frac, e := math.Frexp(float64(g.Scale))
		if frac == 0.5 {
			e--
		}
		g.Scale = T(math.Ldexp(1, min(max(e, -100), 100)))
	default:
		g.Scale = min(max(g.Scale, 0x1p-100), 0x1p100)
	}
	if grid == gridZero {
		g.Zero = min(max(T(math.RoundToEven(float64(T(-lo/g.Scale)))), 0), levels)
		g.Lo, g.Hi = -g.Zero, levels-g.Zero
	}
	return g
}

// at returns x in steps of the grid, the same rounded, and clipped.
func (g *BitGrid[T]) at(x T) (r, k, c T) {
	r = T(T(x-g.Base) / g.Scale)
	k = T(math.RoundToEven(float64(r)))
	if !(k > g.Lo) { // NaN too
		return r, k, g.Lo
	}
	return r, k, min(k, g.Hi)
}

// Index returns the integer of the point that x goes to, less the zero point.
func (g *BitGrid[T]) Index(x T) T {
	_, _, c := g.at(x)
	return c
}

// point returns the number that c steps stand for.
func (g *BitGrid[T]) point(c T) T {
	if g.Base == 0 {
		return unsignZero(T(c * g.Scale))
	}
	return fma(c, g.Scale, g.Base)
}

// BitSplit returns the widths that a bit length of a BitQuant lies between:
// b, and b + 1 with the weight a.
func BitSplit[T float32 | float64](bits T, most int) (b int, a T) {
	if !(bits > 1) { // NaN too
		bits = 1
	}
	bits = min(bits, T(most))
	b = min(int(bits), most-1)
	return b, bits - T(b)
}

// bitGroups are the grids of a BitQuant and which elements of x each is for.
type bitGroups[T float32 | float64] struct {
	lower, upper []BitGrid[T] // at b and b + 1 bits
	a            []T
	inner        int   // neighbouring elements that have the same grids
	of           []int // by run of inner elements
	shape        []int // the common shape of bits, lo and hi
}

// groupsOf reads bits, lo and hi.
func groupsOf[T float32 | float64](n *ir.Node, x []int, params []*tensor.Tensor) (*bitGroups[T], error) {
	p, err := broadcast(params...)
	if err != nil {
		return nil, err
	}
	q := &bitGroups[T]{inner: 1, shape: p[0].Shape()}
	if common, err := broadcastShape(x, q.shape); err != nil || !slices.Equal(common, x) {
		return nil, fmt.Errorf("parameters of shape %v do not broadcast to %v", q.shape, x)
	}
	bits, lo, hi := numbers[T](p[0]), numbers[T](p[1]), numbers[T](p[2])
	for i, n0 := range bits {
		b, a := BitSplit(n0, n.Int("max_bits"))
		q.lower = append(q.lower, BitGridOf(n, b, lo[i], hi[i]))
		q.upper = append(q.upper, BitGridOf(n, b+1, lo[i], hi[i]))
		q.a = append(q.a, a)
	}
	outer := len(x)
	for outer > 0 && (len(x)-outer >= len(q.shape) || q.shape[len(q.shape)-1-(len(x)-outer)] == 1) {
		outer--
		q.inner *= x[outer]
	}
	keep := max(len(q.shape)-(len(x)-outer), 0)
	q.of = broadcastWalk(q.shape[:keep], x[:outer])
	return q, nil
}

func bitQuant[T float32 | float64](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	q, err := groupsOf[T](n, in[0].Shape(), in[1:])
	if err != nil {
		return nil, err
	}
	x, y := numbers[T](in[0]), make([]T, in[0].Len())
	for i, v := range x {
		k := q.of[i/q.inner]
		y[i] = q.value(k, v)
	}
	return fromNumbers(in[0].Elem(), y, in[0].Shape()...), nil
}

// value quantises x with the grids of a group.
func (q *bitGroups[T]) value(group int, x T) T {
	lo, hi, a := &q.lower[group], &q.upper[group], q.a[group]
	if a == 1 {
		_, _, c := hi.at(x)
		return hi.point(c)
	}
	_, _, c := lo.at(x)
	y := lo.point(c)
	if a == 0 {
		return y
	}
	_, _, c = hi.at(x)
	return fma(a, hi.point(c)-y, y)
}

// bitRun is how many terms of the gradients of parameters are added at once.
const bitRun = 4096

func bitQuantGrad[T float32 | float64](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	shape := in[1].Shape()
	q, err := groupsOf[T](n, shape, in[2:])
	if err != nil {
		return nil, err
	}
	if !slices.Equal(in[0].Shape(), shape) {
		return nil, fmt.Errorf("dy has shape %v and x %v", in[0].Shape(), shape)
	}
	dy, x, dx := numbers[T](in[0]), numbers[T](in[1]), make([]T, in[1].Len())
	sums := make([][3]float64, len(q.a)) // of bits, hi and lo
	var terms [3][]T
	take := func(group, from, size int) {
		for i := from; i < from+size; i++ {
			var d [4]T
			d[0], d[1], d[2], d[3] = q.grad(group, x[i])
			dx[i] = T(dy[i] * d[0])
			for j := range terms {
				terms[j] = append(terms[j], T(dy[i]*d[j+1]))
			}
		}
	}
	if len(q.a) == 1 && len(shape) > 2 {
		plane := sizeOf(shape[2:])
		for c := range shape[1] {
			var total [3]T
			for g := range imageGroups {
				lo, hi := imageGroup(g, shape[0])
				for n := lo; n < hi; n++ {
					take(0, (n*shape[1]+c)*plane, plane)
				}
				for j := range terms {
					total[j] += f32.Sum(terms[j])
					terms[j] = terms[j][:0]
				}
			}
			for j, t := range total {
				sums[0][j] += float64(t)
			}
		}
	} else {
		for at := 0; at < len(x); {
			group, size := q.of[at/q.inner], min(bitRun, q.inner-at%q.inner)
			take(group, at, size)
			for j := range terms {
				sums[group][j] += float64(f32.Sum(terms[j]))
				terms[j] = terms[j][:0]
			}
			at += size
		}
	}
	out := []*tensor.Tensor{fromNumbers(in[1].Elem(), dx, shape...)}
	for j, p := range []*tensor.Tensor{in[2], in[4], in[3]} {
		total := make([]float64, p.Len())
		for i, k := range broadcastWalk(p.Shape(), q.shape) {
			total[k] += sums[i][j]
		}
		d := make([]T, len(total))
		for i, v := range total {
			d[i] = T(v)
		}
		out = append(out, fromNumbers(in[1].Elem(), d, p.Shape()...))
	}
	return out, nil
}

// grad returns the derivatives of value with respect to x, the bit length, hi and lo.
func (q *bitGroups[T]) grad(group int, x T) (dx, dbits, dhi, dlo T) {
	lower, upper, a := &q.lower[group], &q.upper[group], q.a[group]
	y0, dx0, dlo0, dhi0 := lower.grad(x)
	y1, dx1, dlo1, dhi1 := upper.grad(x)
	mix := func(u, v T) T { return fma(a, v-u, u) }
	return mix(dx0, dx1), y1 - y0, mix(dhi0, dhi1), mix(dlo0, dlo1)
}

// grad returns the point that x goes to and its derivatives.
func (g *BitGrid[T]) grad(x T) (y, dx, dlo, dhi T) {
	r, k, c := g.at(x)
	ds := c
	if k == c {
		dx, ds = 1, k-r
	}
	dhi = T(ds / g.Steps)
	return g.point(c), dx, fma(g.loScale, dhi, T(g.loBase*(1-dx))), dhi
}
