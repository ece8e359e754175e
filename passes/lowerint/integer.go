package lowerint

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// grid is what a quantiser of one scale and at most 8 bits rounds to: integer q
// stands for (q − zero)·scale.
type grid struct {
	scale  float32
	zero   int64
	lo, hi int64 // the integers that occur
	elem   tensor.Elem
}

// gridOf returns the grid of a thriftc.Quant node, false if it has none that
// integer operators can compute.
func gridOf(n *ir.Node) (grid, bool) {
	q, ok := ops.QuantOf(n)
	if !ok || len(q.Scale) != 1 || len(q.Zero) != 1 || q.Bits > 8 || q.Rounding != "ROUND" || q.BeforeRound || n.In[0].Type.Elem != tensor.F32 {
		return grid{}, false
	}
	g := grid{scale: q.Scale[0], zero: int64(q.Zero[0]), lo: q.Lo, hi: q.Hi, elem: tensor.U8}
	if q.Lo < 0 {
		g.elem = tensor.I8
	}
	least, greatest := g.elem.Range()
	return g, g.zero >= least && g.zero <= greatest && float32(g.zero) == q.Zero[0] && g.scale > 0 && !math.IsInf(float64(g.scale), 0)
}

// step returns the integer to which x is rounded, as thriftc.Quant does.
func (g grid) step(x float32) int64 {
	t := math.RoundToEven(float64(float32(x/g.scale))) + float64(g.zero)
	if !(t > float64(g.lo)) {
		return g.lo
	}
	return int64(min(t, float64(g.hi)))
}

// number returns what integer q stands for.
func (g grid) number(q int64) float32 { return float32(q-g.zero) * g.scale }

// same reports whether integers of both grids stand for the same numbers; their ranges may differ.
func (g grid) same(h grid) bool { return g.scale == h.scale && g.zero == h.zero && g.elem == h.elem }

// clamp narrows the range to what is left after clamps, the last of which comes first.
func (g *grid) clamp(clamps []*ir.Node) {
	lo, hi := float32(math.Inf(-1)), float32(math.Inf(1))
	for _, n := range slices.Backward(clamps) {
		a, b := float32(0), float32(math.Inf(1))
		if n.Op.Name == "Clip" {
			a = float32(math.Inf(-1))
			if t := n.ConstIn(1); t != nil {
				a = t.Float32s()[0]
			}
			if t := n.ConstIn(2); t != nil {
				b = t.Float32s()[0]
			}
		}
		lo, hi = min(max(lo, a), b), min(max(hi, a), b)
	}
	g.lo, g.hi = g.step(lo), g.step(hi)
}

// limits returns the attributes lo and hi of an integer operator, as far as
// they are narrower than the element type.
func (g grid) limits() ir.Attrs {
	var a ir.Attrs
	least, greatest := g.elem.Range()
	if g.lo > least {
		a.Set("lo", g.lo)
	}
	if g.hi < greatest {
		a.Set("hi", g.hi)
	}
	return a
}

// integer is a value of the original graph whose elements lie on a grid, and
// the value that holds the integers once somebody wants them.
type integer struct {
	grid grid
	of   *ir.Value
	name string // of that value, which later may be another's
	v    *ir.Value
	make func(*integer) error // sets v

	stays bool // the value of the original graph is computed too
}

// value returns the integers that stand for v, of which l.ints knows.
func (l *lowering) value(v *ir.Value) (*ir.Value, error) {
	x := l.ints[v]
	if x.v == nil {
		if err := x.make(x); err != nil {
			return nil, err
		}
		l.made = append(l.made, x)
	}
	return x.v, nil
}

// set notes that y are the integers of v.
func (l *lowering) set(v, y *ir.Value, g grid) *integer {
	x := &integer{grid: g, of: v, name: v.Name, v: y}
	l.ints[v] = x
	l.made = append(l.made, x)
	return x
}

// zero returns the zero point of a grid as a constant.
func (l *lowering) zero(v *ir.Value, g grid) *ir.Value {
	return l.r.Const(v.Name+"_zero_point", tensor.FromInt64s(g.elem, []int64{g.zero}))
}

// dequantizer returns the inputs of DequantizeLinear for x.
func (l *lowering) dequantizer(x *integer) []*ir.Value {
	return []*ir.Value{x.v, l.r.Float(x.of.Name+"_scale", x.grid.scale), l.zero(x.of, x.grid)}
}

// quantize makes the integers of quantiser n from its float input.
func (l *lowering) quantize(x *integer, n *ir.Node) error {
	return l.quantizeAt(x, l.r.Before(n), n.In[0], n.Name)
}

// quantizeAt makes integers from floats, by nodes of which the first has a name.
func (l *lowering) quantizeAt(x *integer, at *ir.Rewriter, v *ir.Value, name string) error {
	in := l.dequantizer(x)
	in[0] = v
	q, err := at.Add("QuantizeLinear", name, nil, in, x.of.Name+"_integer")
	if err != nil {
		return err
	}
	x.v = q.Out[0]
	least, greatest := x.grid.elem.Range()
	if x.grid.lo == least && x.grid.hi == greatest {
		return nil
	}
	limit := func(k int64) *ir.Value {
		return l.r.Const(x.of.Name+"_limit", tensor.FromInt64s(x.grid.elem, []int64{k}))
	}
	c, err := at.Add("Clip", "", nil, []*ir.Value{x.v, limit(x.grid.lo), limit(x.grid.hi)}, x.of.Name+"_limited")
	if err != nil {
		return err
	}
	x.v = c.Out[0]
	return nil
}

// table lowers quantiser n if it is a function of one tensor of integers: the
// chain of element-wise operators up to it, evaluated for every integer, is a table.
func (l *lowering) table(n *ir.Node, g grid) (bool, error) {
	chain := []*ir.Node{n}
	v := n.In[0]
	for l.ints[v] == nil {
		d := v.Def
		if d == nil || only(v) == nil || d.Graph() != n.Graph() {
			return false, nil
		}
		from := -1
		for i, x := range d.In {
			if x != nil && !x.IsConst() {
				if from >= 0 {
					return false, nil
				}
				from = i
			}
		}
		if from < 0 || !scalar(d, d.In[from]) || d.Op.Name == "thriftc.Quant" {
			return false, nil
		}
		chain = append(chain, d)
		v = d.In[from]
	}
	x := l.ints[v]
	least, _ := x.grid.elem.Range()
	numbers := make([]float32, 256)
	for i := range numbers {
		numbers[i] = x.grid.number(least + int64(i))
	}
	t := tensor.Of(numbers, 256)
	for _, d := range slices.Backward(chain) {
		in := make([]*tensor.Tensor, len(d.In))
		for i, w := range d.In {
			switch {
			case w == nil:
			case w.IsConst():
				in[i] = w.Data.Reshape()
			default:
				in[i] = t
			}
		}
		out, err := d.Eval(in)
		if err != nil {
			return false, err
		}
		t = out[0]
	}
	steps := make([]int64, 256)
	got := grid{g.scale, g.zero, g.hi, g.lo, g.elem}
	identity := g.elem == x.grid.elem
	for i, y := range t.Float32s() {
		steps[i] = g.step(y)
		if q := least + int64(i); q >= x.grid.lo && q <= x.grid.hi {
			got.lo, got.hi = min(got.lo, steps[i]), max(got.hi, steps[i])
			identity = identity && steps[i] == q
		}
	}
	if identity {
		l.ints[n.Out[0]] = &integer{grid: got, of: n.Out[0], name: n.Out[0].Name, make: func(y *integer) (err error) {
			y.v, err = l.value(v)
			return err
		}}
		return true, nil
	}
	y, err := l.value(v)
	if err != nil {
		return true, err
	}
	m, err := l.r.Before(n).Add("thriftc.Lookup", n.Name, nil, []*ir.Value{y, l.r.Const(n.Out[0].Name+"_table", tensor.FromInt64s(g.elem, steps, 256))}, n.Out[0].Name+"_integer")
	if err != nil {
		return true, err
	}
	l.stands[m] = n
	l.set(n.Out[0], m.Out[0], got)
	l.tables++
	return true, nil
}

// converted returns the integers of x on grid g: by a table if they are on another.
func (l *lowering) converted(before *ir.Node, x *integer, g grid) (*ir.Value, error) {
	v, err := l.value(x.of)
	if err != nil {
		return nil, err
	}
	least, _ := x.grid.elem.Range()
	steps := make([]int64, 256)
	identity := g.elem == x.grid.elem
	for i := range steps {
		q := least + int64(i)
		steps[i] = g.step(x.grid.number(q))
		identity = identity && (steps[i] == q || q < x.grid.lo || q > x.grid.hi)
	}
	if identity {
		return v, nil
	}
	m, err := l.r.Before(before).Add("thriftc.Lookup", "", nil, []*ir.Value{v, l.r.Const(x.of.Name+"_table", tensor.FromInt64s(g.elem, steps, 256))}, x.of.Name+"_converted")
	if err != nil {
		return nil, err
	}
	l.tables++
	return m.Out[0], nil
}
