package lowerint

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// accLimit bounds the accumulators, which are i32.
const accLimit = 1<<31 - 1

// multiplierOf rounds x to an f32, with so few bits that its product with every
// accumulator up to a bound has no more than the 53 bits of an f64.
func multiplierOf(x float64, bound int64) float32 {
	most := min(24, 53-bits.Len64(uint64(bound)))
	frac, exp := math.Frexp(x)
	return float32(math.Ldexp(math.RoundToEven(math.Ldexp(frac, most)), exp-most))
}

// weights are the integers of a layer, seen as one row for each output channel.
type weights struct {
	value, zero *ir.Value // integers and, if not 0, their zero points
	scale       []float32 // one, or one per row
	up, down    []int64   // for each row, the sum of the positive elements less their zero point, and of the negative ones, negated
}

// weightsOf reads input i of n, DequantizeLinear of a constant, whose dimension
// axis numbers the output channels.
func weightsOf(n *ir.Node, i, axis int) (*weights, string) {
	d := n.In[i].Def
	if d == nil || d.Op.Name != "DequantizeLinear" || d.ConstIn(0) == nil || d.ConstIn(1) == nil {
		return nil, "its weights are no constant integers"
	}
	q := d.ConstIn(0)
	at := d.Int("axis")
	if at < 0 {
		at += q.Rank()
	}
	w := &weights{value: d.In[0], scale: d.ConstIn(1).Float32s()}
	switch {
	case q.Len() == 0 || len(w.scale) == 0:
		return nil, "its weights are empty"
	case d.Int("block_size") != 0 || d.Out[0].Type.Elem != tensor.F32:
		return nil, "its weights have scales for blocks, or are no f32"
	case !q.Elem().IsInt() || q.Elem().Bits() > 8:
		return nil, fmt.Sprintf("its weights are %v", q.Elem())
	case len(w.scale) > 1 && at != axis:
		return nil, "the scales of its weights do not run along the output channels"
	}
	zeros := []int64{0}
	if z := d.Input(2); z != nil {
		if !z.IsConst() {
			return nil, "the zero point of its weights is computed"
		}
		zeros = z.Data.Int64s()
		if slices.ContainsFunc(zeros, func(z int64) bool { return z != 0 }) {
			w.zero = z
		}
	}
	shape := q.Shape()
	inner := 1
	for _, s := range shape[axis+1:] {
		inner *= s
	}
	w.up, w.down = make([]int64, shape[axis]), make([]int64, shape[axis])
	switch x := q.Container().(type) {
	case []int8:
		sumRows(w, x, inner, zeros)
	case []uint8:
		sumRows(w, x, inner, zeros)
	}
	return w, ""
}

// sumRows fills up and down from elements of which inner belong to the same row.
func sumRows[T int8 | uint8](w *weights, x []T, inner int, zeros []int64) {
	rows := len(w.up)
	for i := 0; i < len(x) && inner > 0; i += inner {
		r := i / inner % rows
		zero, up, down := zeros[r%len(zeros)], int64(0), int64(0)
		for _, v := range x[i : i+inner] {
			d := int64(v) - zero
			up += max(d, 0)
			down += max(-d, 0)
		}
		w.up[r] += up
		w.down[r] += down
	}
}

// product is a layer at the integer level.
type product struct {
	op    string
	attrs ir.Attrs
	x     *integer
	w     *weights
	bias  []int64 // nil: none
	shift int     // of the sums before the bias is added
	bound int64   // of the accumulators
}

// productOf reads a Conv, Gemm or MatMul with a bias; nil with a reason if it
// has no integer form, without if that is not to be expected.
func (l *lowering) productOf(n *ir.Node, bias *ir.Value) (*product, string) {
	p := &product{op: "thriftc.QConv", x: l.ints[n.In[0]]}
	if p.x == nil {
		return nil, ""
	}
	axis := 0
	switch n.Op.Name {
	case "Conv":
		p.attrs = slices.Clone(n.Attrs)
	case "Gemm":
		if n.Float("alpha") != 1 || n.Float("beta") != 1 || n.Int("transA") != 0 {
			return nil, "it has alpha, beta or transA"
		}
		if axis = 1; n.Int("transB") != 0 {
			axis = 0
			p.attrs = ir.MakeAttrs("transB", 1)
		}
		p.op = "thriftc.QGemm"
	case "MatMul":
		if n.In[1].Type.Rank() != 2 {
			return nil, "its second operand has not two dimensions"
		}
		axis, p.op = 1, "thriftc.QGemm"
	}
	var reason string
	if p.w, reason = weightsOf(n, 1, axis); p.w == nil {
		return nil, reason
	}
	most := p.magnitudes()
	p.bound = slices.Max(append(most, 0))
	if bias != nil {
		if reason = p.readBias(bias, most); reason != "" {
			return nil, reason
		}
		for i := range most {
			b := p.bias[i%len(p.bias)]
			p.bound = max(p.bound, most[i]<<p.shift+max(b, -b))
		}
	}
	if p.bound > accLimit {
		return nil, fmt.Sprintf("its accumulators may reach %d, the limit is %d", p.bound, accLimit)
	}
	return p, ""
}

// magnitudes returns a bound of the sums of every row.
func (p *product) magnitudes() []int64 {
	g := p.x.grid
	below, above := max(g.zero-g.lo, 0), max(g.hi-g.zero, 0) // of the operand
	out := make([]int64, len(p.w.up))
	for i, up := range p.w.up {
		down := p.w.down[i]
		out[i] = max(up*above+down*below, up*below+down*above)
	}
	return out
}

// maxBiasShift bounds the bits below the accumulator's step that a bias keeps.
const maxBiasShift = 8

// readBias turns the bias into whole steps of the accumulator. One that does not
// lie on its grid gets finer steps, as many as the accumulators leave room for.
func (p *product) readBias(bias *ir.Value, most []int64) string {
	t := constant(bias)
	if t == nil || t.Elem() != tensor.F32 {
		return "its bias is no constant"
	}
	b := t.Float32s()
	if len(b) != 1 && len(b) != len(p.w.up) || t.Rank() > 0 && t.Shape()[t.Rank()-1] != len(b) {
		return fmt.Sprintf("its bias is %v", ir.TypeOf(t))
	}
	steps := make([]float64, max(len(b), len(p.w.scale)))
	for i := range steps {
		steps[i] = float64(p.x.grid.scale) * float64(p.w.scale[i%len(p.w.scale)])
	}
	if d := bias.Def; d != nil && d.Input(2) == nil { // the integers themselves: floats have only 24 bits
		s, near := d.ConstIn(1).Float32s(), true
		for i, step := range steps {
			near = near && math.Abs(float64(s[i%len(s)])-step) <= 1e-6*step
		}
		if near {
			p.bias = slices.Clone(d.ConstIn(0).Int64s())
			p.spread(len(steps))
			return ""
		}
	}
	p.bias = make([]int64, len(steps))
	for {
		fine, more := true, true
		for i, step := range steps {
			v := float64(b[i%len(b)]) / step * math.Ldexp(1, p.shift)
			if math.Abs(v) >= accLimit {
				return "its bias is beyond the range of its accumulators"
			}
			whole := math.RoundToEven(v)
			p.bias[i] = int64(whole)
			fine = fine && math.Abs(v-whole) <= 1e-6*math.Abs(v)
			more = more && 2*(float64(most[i%len(most)])*math.Ldexp(1, p.shift)+math.Abs(v)) < 1<<29
		}
		if fine || !more || p.shift == maxBiasShift {
			p.spread(len(p.w.up))
			return ""
		}
		p.shift++
	}
}

// spread repeats a bias of one element n times.
func (p *product) spread(n int) {
	if len(p.bias) == 1 && n > 1 {
		p.bias = slices.Repeat(p.bias, n)
	}
	if len(p.bias) == 1 && len(p.w.up) > 1 {
		p.bias = slices.Repeat(p.bias, len(p.w.up))
	}
}

// inputs returns the operands of the integer operator up to its bias.
func (l *lowering) inputs(name string, p *product) ([]*ir.Value, error) {
	x, err := l.value(p.x.of)
	if err != nil {
		return nil, err
	}
	in := []*ir.Value{x, p.w.value, l.zero(p.x.of, p.x.grid), p.w.zero}
	if p.shift > 0 {
		p.attrs.Set("bias_shift", int64(p.shift))
	}
	if p.bias != nil {
		b := make([]int32, len(p.bias))
		for i, v := range p.bias {
			b[i] = int32(v)
		}
		return append(in, l.r.Const(name+"_bias", tensor.Of(b, len(b)))), nil
	}
	return in, nil
}

// layer lowers n, with the bias that it adds, and the quantiser q after it.
func (l *lowering) layer(q, n *ir.Node, bias *ir.Value, g grid) (*integer, error) {
	p, reason := l.productOf(n, bias)
	if p == nil {
		if reason != "" {
			l.leave(n, reason)
		}
		return nil, nil
	}
	m := make([]float32, len(p.w.scale))
	for i, s := range p.w.scale {
		m[i] = multiplierOf(float64(p.x.grid.scale)*float64(s)/float64(g.scale)*math.Ldexp(1, -p.shift), p.bound)
		if !(m[i] >= 0x1p-126 && m[i] <= math.MaxFloat32) {
			l.leave(n, fmt.Sprintf("its multiplier would be %v", m[i]))
			return nil, nil
		}
	}
	in, err := l.inputs(n.Out[0].Name, p)
	if err != nil {
		return nil, err
	}
	if p.bias == nil {
		in = append(in, nil)
	}
	mt := tensor.Scalar(m[0])
	if len(m) > 1 {
		mt = tensor.Of(m, len(m))
	}
	in = append(in, l.r.Const(n.Out[0].Name+"_multiplier", mt), l.zero(q.Out[0], g))
	return l.emit(q, n, p.op, append(p.attrs, g.limits()...), in, g, p.x)
}

// emit adds the integer operator that stands for n and the quantiser q after it.
func (l *lowering) emit(q, n *ir.Node, op string, attrs ir.Attrs, in []*ir.Value, g grid, from ...*integer) (*integer, error) {
	var a ir.Attrs
	for _, x := range attrs {
		a.Set(x.Name, x.Value)
	}
	m, err := l.r.Before(q).Add(op, n.Name, a, in, q.Out[0].Name+"_integer")
	if err != nil {
		return nil, err
	}
	l.stands[m] = n
	y := l.set(q.Out[0], m.Out[0], g)
	l.checks = append(l.checks, check{m, from, y})
	return y, nil
}

// accumulate lowers a layer whose result is not quantised: the sums stay i32,
// and DequantizeLinear takes them to float.
func (l *lowering) accumulate(n *ir.Node) error {
	p, reason := l.productOf(n, n.Input(2))
	if p == nil {
		if reason != "" {
			l.leave(n, reason)
		}
		return nil
	}
	axis := 1
	if n.Op.Name != "Conv" {
		axis = n.Out[0].Type.Rank() - 1
	}
	if axis < 0 {
		return nil
	}
	in, err := l.inputs(n.Out[0].Name, p)
	if err != nil {
		return err
	}
	at := l.r.Before(n)
	m, err := at.Add(p.op, n.Name, p.attrs, in, n.Out[0].Name+"_sums")
	if err != nil {
		return err
	}
	l.stands[m] = n
	scale := make([]float32, len(p.w.scale))
	for i, s := range p.w.scale {
		scale[i] = float32(float64(p.x.grid.scale) * float64(s) * math.Ldexp(1, -p.shift))
	}
	st := tensor.Scalar(scale[0])
	var attrs ir.Attrs
	if len(scale) > 1 {
		st = tensor.Of(scale, len(scale))
		attrs = ir.MakeAttrs("axis", axis)
	}
	dq, err := at.Add("DequantizeLinear", "", attrs, []*ir.Value{m.Out[0], l.r.Const(n.Out[0].Name+"_scale", st)}, n.Out[0].Name+"_dequantized")
	if err != nil {
		return err
	}
	l.r.ReplaceUses(n.Out[0], dq.Out[0])
	l.lowered++
	return nil
}

// sum lowers the addition of two tensors of integers.
func (l *lowering) sum(q, n *ir.Node, g grid) (*integer, error) {
	a, b := l.ints[n.In[0]], l.ints[n.In[1]]
	if a == nil || b == nil {
		return nil, nil
	}
	// The greater multiplier is as large as fits 21 bits.
	r := [2]float64{float64(a.grid.scale) / float64(g.scale), float64(b.grid.scale) / float64(g.scale)}
	_, exp := math.Frexp(max(r[0], r[1]))
	shift := 21 - exp
	if shift < 1 || shift > 30 {
		l.leave(n, fmt.Sprintf("the scales of its operands are %v and %v, that of its result %v", a.grid.scale, b.grid.scale, g.scale))
		return nil, nil
	}
	m := []int32{int32(math.RoundToEven(math.Ldexp(r[0], shift))), int32(math.RoundToEven(math.Ldexp(r[1], shift)))}
	var in []*ir.Value
	for _, x := range []*integer{a, b} {
		v, err := l.value(x.of)
		if err != nil {
			return nil, err
		}
		in = append(in, v)
	}
	in = append(in, l.zero(a.of, a.grid), l.zero(b.of, b.grid), l.r.Const(n.Out[0].Name+"_multipliers", tensor.Of(m, 2)), l.zero(q.Out[0], g))
	return l.emit(q, n, "thriftc.QAdd", append(ir.MakeAttrs("shift", shift), g.limits()...), in, g, a, b)
}

// pool lowers a mean.
func (l *lowering) pool(q, n *ir.Node, g grid) (*integer, error) {
	x := l.ints[n.In[0]]
	if x == nil {
		return nil, nil
	}
	count := 1
	op := "thriftc.Q" + n.Op.Name
	var attrs ir.Attrs
	if n.Op.Name == "GlobalAveragePool" {
		for _, d := range n.In[0].Type.Dims[2:] {
			if !d.Known() {
				l.leave(n, "the size of what it averages is not known")
				return nil, nil
			}
			count *= d.N
		}
	} else {
		padded := slices.ContainsFunc(n.Ints("pads"), func(p int64) bool { return p != 0 })
		if n.Int("ceil_mode") != 0 || n.Str("auto_pad") != "NOTSET" || padded && n.Int("count_include_pad") == 0 {
			l.leave(n, "the windows at its border have another number of elements")
			return nil, nil
		}
		for _, k := range n.Ints("kernel_shape") {
			count *= int(k)
		}
		for _, a := range n.Attrs {
			if ir.KindOf(a.Value) == ir.IntsAttr {
				attrs.Set(a.Name, a.Value)
			}
		}
	}
	m := float32(float64(x.grid.scale) / float64(g.scale) / float64(count))
	if count == 0 || int64(count)*255 >= 1<<29 || !(m >= 0x1p-126 && m <= math.MaxFloat32) {
		l.leave(n, fmt.Sprintf("it averages %d elements with multiplier %v", count, m))
		return nil, nil
	}
	v, err := l.value(x.of)
	if err != nil {
		return nil, err
	}
	in := []*ir.Value{v, l.zero(x.of, x.grid), l.r.Float(n.Out[0].Name+"_multiplier", m), l.zero(q.Out[0], g)}
	return l.emit(q, n, op, append(attrs, g.limits()...), in, g, x)
}

// concat lowers the joining of tensors on different grids.
func (l *lowering) concat(q, n *ir.Node, g grid) (*integer, error) {
	var in []*ir.Value
	for _, v := range n.In {
		if l.ints[v] == nil {
			return nil, nil
		}
	}
	for _, v := range n.In {
		y, err := l.converted(q, l.ints[v], g)
		if err != nil {
			return nil, err
		}
		in = append(in, y)
	}
	m, err := l.r.Before(q).Add("Concat", n.Name, slices.Clone(n.Attrs), in, q.Out[0].Name+"_integer")
	if err != nil {
		return nil, err
	}
	l.stands[m] = n
	return l.set(q.Out[0], m.Out[0], g), nil
}
