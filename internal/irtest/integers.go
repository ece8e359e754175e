package irtest

import (
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func (d *drawer) byteType() tensor.Elem { return []tensor.Elem{tensor.U8, tensor.I8}[d.rng.IntN(2)] }

// ints returns a new constant of integers from lo to hi.
func (d *drawer) ints(e tensor.Elem, lo, hi int64, shape ...int) *ir.Value {
	n, _ := tensor.NumElems(shape)
	x := make([]int64, n)
	for i := range x {
		x[i] = lo + d.rng.Int64N(hi-lo+1)
	}
	return d.r.Const("q", tensor.FromInt64s(e, x, shape...))
}

// zeroOf returns the zero point of x as a constant. Some nodes see another: nothing says that they must agree.
func (d *drawer) zeroOf(x *ir.Value) *ir.Value {
	if d.rng.IntN(8) == 0 {
		lo, hi := x.Type.Elem.Range()
		return d.ints(x.Type.Elem, lo, hi)
	}
	return d.ints(x.Type.Elem, d.zeros[x], d.zeros[x])
}

// newZero draws the zero point of a result, which may be that of other values, so that they can be joined.
func (d *drawer) newZero() *ir.Value {
	if n := len(d.bytes); n > 0 && d.rng.IntN(2) == 0 {
		x := d.bytes[d.rng.IntN(n)]
		return d.ints(x.Type.Elem, d.zeros[x], d.zeros[x])
	}
	e := d.byteType()
	lo, hi := e.Range()
	z := []int64{lo, 0, lo + d.rng.Int64N(hi-lo+1)}[d.rng.IntN(3)]
	return d.ints(e, z, z)
}

// requantised adds a node whose last input is the zero point of its result.
func (d *drawer) requantised(op string, attrs ir.Attrs, in ...*ir.Value) {
	z := d.newZero()
	v := d.addAll(op, attrs, nil, append(in, z)...)[0]
	d.zeros[v] = z.Data.Int64s()[0]
}

// kept adds a node whose results have x's zero point.
func (d *drawer) kept(op string, attrs ir.Attrs, outs []string, x *ir.Value, others ...*ir.Value) []*ir.Value {
	out := d.addAll(op, attrs, outs, append([]*ir.Value{x}, others...)...)
	for _, v := range out {
		d.zeros[v] = d.zeros[x]
	}
	return out
}

// multiplier draws a multiplier, or one for each of m channels, that takes sums of so many
// products into the range of a byte.
func (d *drawer) multiplier(terms, m int) *ir.Value {
	x := make([]float32, d.one(1, m))
	for i := range x {
		x[i] = (0.2 + d.rng.Float32()) / float32(50*terms)
	}
	if len(x) == 1 {
		return d.r.Const("multiplier", tensor.Scalar(x[0]))
	}
	return d.r.Const("multiplier", tensor.Of(x, len(x)))
}

// drawBytes adds a node on integers, or one to or from them.
func (d *drawer) drawBytes() {
	if len(d.bytes) == 0 || d.rng.IntN(8) == 0 {
		x := d.values[d.rng.IntN(len(d.values))]
		if d.rng.IntN(4) == 0 {
			x = d.values[len(d.values)-1]
		}
		d.requantised("QuantizeLinear", nil, x, d.r.Float("scale", 0.03))
		return
	}
	x := d.bytes[len(d.bytes)-1]
	if d.rng.IntN(3) > 0 {
		x = d.bytes[d.rng.IntN(len(d.bytes))]
	}
	if s, ok := image(x); ok && s[0] <= 100 && s[1]*s[2] <= 400 && d.rng.IntN(3) > 0 {
		d.drawBytePlanes(x, s[0], s[1], s[2])
		return
	}
	switch d.rng.IntN(6) {
	case 0, 1:
		d.tail(d.add("DequantizeLinear", nil, x, d.r.Float("scale", 0.02), d.zeroOf(x)))
	case 2:
		e := d.byteType()
		lo, hi := e.Range()
		d.zeros[d.addAll("thriftc.Lookup", nil, nil, x, d.ints(e, lo, hi, 256))[0]] = 0
	case 3:
		d.kept("Clip", nil, nil, x, d.ints(x.Type.Elem, 3, 3), d.ints(x.Type.Elem, 99, 99))
	case 4:
		y := d.like(x, -1)
		d.requantised("thriftc.QAdd", ir.MakeAttrs("shift", 21), x, y, d.zeroOf(x), d.zeroOf(y), d.ints(tensor.I32, 1<<18, 1<<21, 2))
	case 5:
		if k, ok := matrix(x); ok && k <= 1000 {
			m := d.one(d.channels...)
			d.requantised("thriftc.QGemm", nil, x, d.ints(tensor.I8, -127, 127, k, m), d.zeroOf(x), nil, d.ints(tensor.I32, -999, 999, m), d.multiplier(k, m))
		}
	}
}

// drawBytePlanes adds a node on integers of four dimensions.
func (d *drawer) drawBytePlanes(x *ir.Value, c, h, w int) {
	switch d.rng.IntN(14) {
	case 0, 1, 2, 3, 4:
		attrs, shape, ok := d.window(c, h, w)
		if !ok {
			return
		}
		m, terms := shape[0], shape[1]*shape[2]*shape[3]
		in := []*ir.Value{x, d.ints(tensor.I8, -127, 127, shape...), d.zeroOf(x), nil, nil}
		if d.rng.IntN(4) == 0 {
			in[3] = d.ints(tensor.I8, -9, 9, m)
		}
		if d.rng.IntN(2) == 0 {
			in[4] = d.ints(tensor.I32, -999, 999, m)
		}
		if d.rng.IntN(3) > 0 {
			d.requantised("thriftc.QConv", attrs, append(in, d.multiplier(terms, m))...)
			return
		}
		sums := d.addSums("thriftc.QConv", attrs, in...)
		d.tail(d.add("DequantizeLinear", ir.MakeAttrs("axis", 1), sums, d.multiplier(60*terms, m)))
	case 5:
		m, k := d.one(d.channels...), d.one(1, 3)
		if d.spend(c * m * h * w) {
			d.requantised("thriftc.QMuxConv", ir.MakeAttrs("kernel_shape", []int{k, k}, "pads", d.around(k-1, k-1)),
				x, d.ints(tensor.I8, -127, 127, m, c), d.places(k*k, m, c), d.zeroOf(x), nil, d.multiplier(c, m))
		}
	case 6:
		d.kept("MaxPool", ir.MakeAttrs("kernel_shape", []int{2, 2}, "pads", []int{1, 0, 0, 1}, "strides", []int{1, 1 + d.rng.IntN(2)}), nil, x)
	case 7:
		d.requantised("thriftc.QAveragePool", ir.MakeAttrs("kernel_shape", []int{2, 2}, "pads", []int{1, 0, 0, 1}), x, d.zeroOf(x), d.r.Float("mean", 0.25))
	case 8:
		d.requantised("thriftc.QGlobalAveragePool", nil, x, d.zeroOf(x), d.r.Float("mean", 1/float32(h*w)))
	case 9:
		d.kept("Concat", ir.MakeAttrs("axis", 1), nil, x, d.like(x, 1), d.like(x, 1))
	case 10:
		if c > 1 {
			a := 1 + d.rng.Int64N(int64(c)-1)
			d.kept("Split", ir.MakeAttrs("axis", 1), []string{"part", "rest"}, x, d.r.Ints("sizes", a, int64(c)-a))
		}
	case 11:
		d.kept("Slice", nil, nil, x, d.r.Ints("starts", d.rng.Int64N(int64(c)), 0), d.r.Ints("ends", 1<<40, int64(h)), d.r.Ints("axes", 1, 2), d.r.Ints("steps", 1, 1+d.rng.Int64N(2)))
	case 12:
		d.kept("Pad", nil, nil, x, d.r.Ints("pads", 0, 0, 1, 0, 0, d.rng.Int64N(9), 0, 2), d.zeroOf(x))
	case 13:
		switch d.rng.IntN(4) {
		case 0:
			d.kept("Transpose", ir.MakeAttrs("perm", [][]int{{0, 2, 3, 1}, {0, 1, 3, 2}, {0, 3, 1, 2}}[d.rng.IntN(3)]), nil, x)
		case 1:
			d.kept("Reshape", nil, nil, x, d.r.Ints("shape", 0, int64(c), int64(w), int64(h)))
		case 2:
			d.kept("Resize", nil, nil, x, nil, d.r.Const("scales", tensor.Of([]float32{1, 1, 2, 1}, 4)))
		default:
			d.kept("Flatten", nil, nil, x)
		}
	}
}

// addSums adds a node whose result is i32, which nothing but the caller uses.
func (d *drawer) addSums(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	d.t.Helper()
	n, err := d.r.Add(op, "", attrs, in)
	if err != nil {
		d.t.Fatalf("irtest: recipe of %s: %v", op, err)
	}
	return n.Out[0]
}
