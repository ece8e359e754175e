package interp

import (
	"fmt"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// byteBuilder makes graphs of integer operators.
type byteBuilder struct {
	*builder
	zeros map[*ir.Value]int64
}

func (b *byteBuilder) byteType() tensor.Elem {
	return []tensor.Elem{tensor.U8, tensor.I8}[b.rand.IntN(2)]
}

func (b *byteBuilder) ints(e tensor.Elem, lo, hi int64, shape ...int) *ir.Value {
	n, _ := tensor.NumElems(shape)
	x := make([]int64, n)
	for i := range x {
		x[i] = lo + b.rand.Int64N(hi-lo+1)
	}
	return b.Const("c", tensor.FromInt64s(e, x, shape...))
}

func (b *byteBuilder) integer(e tensor.Elem, x int64) *ir.Value {
	return b.Const("z", tensor.FromInt64s(e, []int64{x}))
}

// zero draws a zero point, often at an end of the range.
func (b *byteBuilder) zero(e tensor.Elem) (*ir.Value, int64) {
	lo, hi := e.Range()
	z := []int64{lo, 0, lo + b.rand.Int64N(hi-lo+1)}[b.rand.IntN(3)]
	return b.integer(e, z), z
}

// zeroOf returns the zero point of x as a constant. Some nodes see another: nothing says that they must agree.
func (b *byteBuilder) zeroOf(x *ir.Value) *ir.Value {
	if b.rand.IntN(8) == 0 {
		z, _ := b.zero(x.Type.Elem)
		return z
	}
	return b.integer(x.Type.Elem, b.zeros[x])
}

// result adds a node whose last input is the zero point of its result.
func (b *byteBuilder) result(op string, in []*ir.Value, attrs ...any) *ir.Value {
	z, q := b.zero(b.byteType())
	if b.rand.IntN(2) == 0 {
		lo, hi := z.Type.Elem.Range()
		attrs = append(attrs, "lo", lo+b.rand.Int64N(40), "hi", hi-b.rand.Int64N(40))
	}
	v := b.node(op, append(in, z), attrs...)
	b.zeros[v] = q
	return v
}

// multiplier draws multipliers for sums of about the given size; some give ties.
func (b *byteBuilder) multiplier(size float64, n int) *ir.Value {
	m := make([]float32, n)
	for i := range m {
		m[i] = float32(b.rand.Float64() * 200 / size)
		if b.rand.IntN(3) == 0 {
			m[i] = 1.0 / 64
		}
	}
	if n == 1 {
		return b.Const("m", tensor.Scalar(m[0]))
	}
	return b.Const("m", tensor.Of(m, n))
}

// product adds a QConv or QGemm of x; sums says that it has no multiplier.
func (b *byteBuilder) product(x *ir.Value, sums bool) *ir.Value {
	r := b.rand
	s := staticShape(x)
	we := []tensor.Elem{tensor.I8, tensor.I8, tensor.I4, tensor.U8, tensor.Int(2), tensor.Uint(5)}[r.IntN(6)]
	lo, hi := we.Range()
	var attrs []any
	op, oc, k, wshape := "thriftc.QGemm", 1+r.IntN(50), s[len(s)-1], []int(nil)
	if len(s) < 4 {
		wshape = []int{k, oc}
		if r.IntN(2) == 0 {
			wshape = []int{oc, k}
			attrs = []any{"transB", 1}
		}
	} else {
		op = "thriftc.QConv"
		c, group := s[1], 1
		switch r.IntN(4) {
		case 0:
			group, oc = c, c*(1+r.IntN(10)/9)
		case 1:
			for group = 1 + r.IntN(3); c%group > 0; group-- {
			}
			oc = group * (1 + r.IntN(20))
		}
		kh, kw := 1+r.IntN(4), 1+r.IntN(5)
		if r.IntN(3) == 0 {
			kh, kw = 1, 1
		}
		wshape, k = []int{oc, c / group, kh, kw}, c/group*kh*kw
		attrs = append(spatial(r, kh, kw), "group", group)
		if s[2] <= kh*2 || s[3] <= kw*2 || r.IntN(3) == 0 {
			attrs = []any{"group", group, "pads", []int{kh / 2, kw / 2, kh / 2, kw / 2}}
		}
	}
	in := []*ir.Value{x, b.ints(we, lo, hi, wshape...), b.zeroOf(x), nil, nil}
	if we.Kind() == tensor.UintKind || r.IntN(4) == 0 {
		in[3] = b.ints(we, lo, hi, []int{}...)
		if r.IntN(2) == 0 {
			in[3] = b.ints(we, lo, hi, oc)
		}
	}
	if r.IntN(3) > 0 {
		size := int64(1) << []int{10, 10, 10, 24, 30}[r.IntN(5)] // some sums do not fit 24 bits
		in[4] = b.ints(tensor.I32, -size, size, oc)
		if r.IntN(4) == 0 {
			attrs = append(attrs, "bias_shift", 1+r.IntN(4))
		}
	}
	many := []int{1, oc}[r.IntN(2)]
	if sums {
		v := b.node(op, in, attrs...)
		m := b.multiplier(100, many)
		axis := 1
		if len(s) == 3 {
			axis = 2 - 3*r.IntN(2)
		}
		return b.node("DequantizeLinear", []*ir.Value{v, m}, "axis", axis)
	}
	return b.result(op, append(in, b.multiplier(float64(k)*5000, many)), attrs...)
}

// step adds some node after x, which is bytes.
func (b *byteBuilder) step(x *ir.Value) *ir.Value {
	r, s := b.rand, staticShape(x)
	spatialSize := len(s) == 4 && s[2]*s[3] > 0
	keep := func(v *ir.Value) *ir.Value {
		b.zeros[v] = b.zeros[x]
		return v
	}
	switch k := r.IntN(16); {
	case k == 0 && spatialSize:
		return keep(b.node("MaxPool", []*ir.Value{x}, "kernel_shape", []int{min(2, s[2]), min(3, s[3])}, "strides", []int{1 + r.IntN(2), 1 + r.IntN(2)}, "pads", []int{r.IntN(2), r.IntN(2), 0, r.IntN(2)}))
	case k == 1 && spatialSize:
		return b.result("thriftc.QAveragePool", []*ir.Value{x, b.zeroOf(x), b.multiplier(1000, 1)}, "kernel_shape", []int{min(2, s[2]), min(3, s[3])}, "strides", []int{1 + r.IntN(2), 1}, "pads", []int{r.IntN(2), r.IntN(2), 0, 0})
	case k == 2:
		e := b.byteType()
		lo, hi := e.Range()
		v := b.node("thriftc.Lookup", []*ir.Value{x, b.ints(e, lo, hi, 256)})
		b.zeros[v] = 0
		return v
	case k == 3:
		y := b.node("thriftc.Lookup", []*ir.Value{x, b.ints(tensor.U8, 0, 255, 256)})
		b.zeros[y] = r.Int64N(256)
		z := b.ints(tensor.I32, -1<<21, 1<<21, 2)
		return b.result("thriftc.QAdd", []*ir.Value{y, x, b.zeroOf(y), b.zeroOf(x), z}, "shift", 20+r.IntN(3))
	case k == 4:
		return keep(b.node("Concat", []*ir.Value{x, keep(b.node("Clip", []*ir.Value{x, nil, b.integer(x.Type.Elem, 77)})), x}, "axis", 1))
	case k == 5 && spatialSize:
		v := b.node("Slice", []*ir.Value{x, b.Ints("s", 0, 0), b.Ints("e", int64(s[3]), 9999), b.Ints("a", 3, 2), b.Ints("t", 2, 1+r.Int64N(2))})
		pads := b.Ints("p", 0, r.Int64N(20), 1, 0, 0, r.Int64N(20), 0, 2)
		return keep(b.node("Pad", []*ir.Value{v, pads, b.zeroOf(x)}))
	case k == 6 && spatialSize:
		v := b.result("thriftc.QGlobalAveragePool", []*ir.Value{x, b.zeroOf(x), b.multiplier(float64(100*s[2]*s[3]), 1)})
		if r.IntN(2) == 0 {
			f := b.node("Flatten", []*ir.Value{v})
			b.zeros[f] = b.zeros[v]
			return f
		}
		return v
	}
	return b.product(x, false)
}

// move adds a node that moves the elements of x, or several.
func (b *byteBuilder) move(x *ir.Value) *ir.Value {
	r, s := b.rand, staticShape(x)
	keep := func(v *ir.Value) *ir.Value {
		b.zeros[v] = b.zeros[x]
		return v
	}
	split := func(v *ir.Value, axis int) []*ir.Value {
		d := staticShape(v)[axis]
		first := 1 + r.IntN(d)
		if d > simd.Block && r.IntN(2) == 0 {
			first = simd.Block
		}
		if first == d {
			return []*ir.Value{v}
		}
		n, err := b.Add("Split", "", ir.MakeAttrs("axis", axis), []*ir.Value{v, b.Ints("parts", int64(first), int64(d-first))}, "left", "right")
		if err != nil {
			b.t.Fatal(err)
		}
		return []*ir.Value{keep(n.Out[0]), keep(n.Out[1])}
	}
	if len(s) == 3 {
		switch r.IntN(6) {
		case 0:
			return keep(b.node("Transpose", []*ir.Value{x}, "perm", [][]int{{0, 2, 1}, {1, 0, 2}, {2, 1, 0}}[r.IntN(3)]))
		case 1:
			return keep(b.node("Reshape", []*ir.Value{x, b.Ints("shape", int64(s[0]), int64(s[1]*s[2]), 1, 1)}))
		case 2:
			parts := split(x, 1+r.IntN(2))
			return parts[len(parts)-1]
		case 3:
			lo, hi := x.Type.Elem.Range()
			y := keep(b.node("thriftc.Lookup", []*ir.Value{x, b.ints(x.Type.Elem, lo, hi, 256)}))
			m := b.ints(tensor.I32, -1<<21, 1<<21, 2)
			return b.result("thriftc.QAdd", []*ir.Value{y, x, b.zeroOf(y), b.zeroOf(x), m}, "shift", 20+r.IntN(3))
		case 4:
			axis := 1 + r.IntN(2)
			v := split(x, axis)
			return keep(b.node("Concat", []*ir.Value{v[len(v)-1], keep(b.node("Clip", []*ir.Value{x, nil, b.integer(x.Type.Elem, 77)})), v[0]}, "axis", axis))
		}
		v := b.node("Slice", []*ir.Value{x, b.Ints("s", int64(s[2]-1)), b.Ints("e", -9999), b.Ints("a", 2), b.Ints("t", -1)})
		return keep(b.node("Pad", []*ir.Value{v, b.Ints("p", 0, r.Int64N(3), 1, 0, 0, 2), b.zeroOf(x)}))
	}
	switch r.IntN(8) {
	case 0: // a shuffle of channels
		groups := 1 + r.IntN(s[1])
		for s[1]%groups != 0 {
			groups--
		}
		v := b.node("Reshape", []*ir.Value{x, b.Ints("shape", int64(s[0]), int64(groups), int64(s[1]/groups), int64(s[2]), int64(s[3]))})
		v = b.node("Transpose", []*ir.Value{keep(v)}, "perm", []int{0, 2, 1, 3, 4})
		return keep(b.node("Reshape", []*ir.Value{keep(v), b.Ints("shape", int64(s[0]), int64(s[1]), int64(s[2]), int64(s[3]))}))
	case 1:
		v := split(x, 1)
		if len(v) == 2 && r.IntN(2) == 0 {
			return keep(b.node("Concat", []*ir.Value{v[1], v[0]}, "axis", 1))
		}
		return v[len(v)-1]
	case 2:
		v := keep(b.node("Transpose", []*ir.Value{x}, "perm", []int{0, 2, 3, 1}))
		if r.IntN(2) == 0 {
			return keep(b.node("Reshape", []*ir.Value{v, b.Ints("shape", int64(s[0]), int64(s[2]*s[3]), int64(s[1]))}))
		}
		return v
	case 3:
		v := keep(b.node("Reshape", []*ir.Value{x, b.Ints("shape", int64(s[0]), int64(s[1]), int64(s[2]*s[3]))}))
		return keep(b.node("Transpose", []*ir.Value{v}, "perm", []int{0, 2, 1}))
	case 4:
		return keep(b.node("Resize", []*ir.Value{x, nil, nil, b.Ints("sizes", int64(s[0]), int64(s[1]), int64(1+r.IntN(2*s[2])), int64(1+r.IntN(2*s[3])))}, "mode", "nearest"))
	case 5:
		if s[1]%4 == 0 {
			return keep(b.node("DepthToSpace", []*ir.Value{x}, "blocksize", 2, "mode", []string{"DCR", "CRD"}[r.IntN(2)]))
		}
		if s[2]%2 == 0 && s[3]%2 == 0 {
			return keep(b.node("SpaceToDepth", []*ir.Value{x}, "blocksize", 2))
		}
		return keep(b.node("Concat", []*ir.Value{x, x}, "axis", 2+r.IntN(2)))
	case 6:
		axis := 1 + r.IntN(3)
		at := make([]int64, 1+r.IntN(min(60, 2*s[axis])))
		for i := range at {
			at[i] = r.Int64N(int64(s[axis])) - int64(s[axis]*r.IntN(2))
		}
		return keep(b.node("Gather", []*ir.Value{x, b.Ints("index", at...)}, "axis", axis))
	}
	least, _ := x.Type.Elem.Range()
	return keep(b.node("Pad", []*ir.Value{x, b.Ints("p", 0, r.Int64N(20), 0, 0, 0, r.Int64N(20), 0, 0), b.integer(x.Type.Elem, []int64{0, least, 5}[r.IntN(3)])}))
}

// TestByteMoves: bytes that are moved between products, in images and in rows, on their
// way to floats.
func TestByteMoves(t *testing.T) {
	trials := 500
	if testing.Short() {
		trials = 120
	}
	for seed := range uint64(trials) {
		b := &byteBuilder{newBuilder(t, seed), map[*ir.Value]int64{}}
		r := b.rand
		shape := []int{1 + r.IntN(3), 1 + r.IntN(50), 1 + r.IntN(8), 1 + r.IntN(20)}
		if r.IntN(3) == 0 {
			shape = []int{1 + r.IntN(3), 1 + r.IntN(20), 1 + r.IntN(40)}
		}
		scale, e := b.Float("s", 0.02), b.byteType()
		zp, z := b.zero(e)
		v := b.node("QuantizeLinear", []*ir.Value{b.data(shape...), scale, zp})
		if r.IntN(3) == 0 {
			limit := b.integer(e, z+r.Int64N(20)-10)
			v = b.node("Clip", [][]*ir.Value{{v, limit}, {v, nil, limit}, {v, limit, limit}, {v, b.integer(e, 99), b.integer(e, 9)}}[r.IntN(4)])
		}
		b.zeros[v] = z
		for range 1 + r.IntN(4) {
			if x := v; r.IntN(3) == 0 {
				v = b.product(v, false)
			} else if v = b.move(v); r.IntN(8) == 0 {
				b.Output(x) // beside the result
			}
		}
		if r.IntN(3) == 0 {
			v = b.node("Relu", []*ir.Value{b.product(v, true)})
		} else {
			v = b.node("DequantizeLinear", []*ir.Value{v, scale, b.zeroOf(v)})
		}
		b.check(fmt.Sprint("moves ", seed), v, 0)
	}
}

// TestByteChains: integer operators after each other, from floats to floats.
func TestByteChains(t *testing.T) {
	trials := 400
	if testing.Short() {
		trials = 100
	}
	for seed := range uint64(trials) {
		b := &byteBuilder{newBuilder(t, seed), map[*ir.Value]int64{}}
		r := b.rand
		shape := []int{r.IntN(4), 1 + r.IntN(40)*r.IntN(4)/3, 1 + r.IntN(12), 1 + r.IntN(30)}
		if r.IntN(4) == 0 {
			shape = []int{r.IntN(20), 1 + r.IntN(200)}
		}
		x := b.data(shape...)
		if r.IntN(4) == 0 && len(shape) == 4 {
			x = b.node("Relu", []*ir.Value{b.randomConv(x, false)})
		}
		scale := b.Float("s", 0.02)
		e := b.byteType()
		zp, z := b.zero(e)
		v := b.node("QuantizeLinear", []*ir.Value{x, scale, zp})
		b.zeros[v] = z
		for range 1 + r.IntN(4) {
			x := v
			v = b.step(v)
			if x.Type.Rank() == 4 && r.IntN(4) == 0 { // two that pad the same values, and are joined if they fit
				y := b.product(x, false)
				if s, u := staticShape(v), staticShape(y); len(s) == 4 && s[2] == u[2] && s[3] == u[3] && v.Type.Elem == y.Type.Elem {
					j := b.node("Concat", []*ir.Value{v, y}, "axis", 1)
					b.zeros[j] = b.zeros[y]
					y = j
				}
				v = y
			}
		}
		if r.IntN(3) == 0 {
			v = b.node("LeakyRelu", []*ir.Value{b.product(v, true)})
		} else {
			v = b.node("DequantizeLinear", []*ir.Value{v, scale, b.zeroOf(v)})
		}
		b.check(fmt.Sprint("chain ", seed), v, 0)
	}
}

// Bytes as inputs and outputs of a graph, and between nodes without kernels.
func TestByteEnds(t *testing.T) {
	for seed := range uint64(40) {
		b := &byteBuilder{newBuilder(t, seed), map[*ir.Value]int64{}}
		e := b.byteType()
		lo, hi := e.Range()
		shape := []int{2, 1 + b.rand.IntN(20), 5, 6}
		n, _ := tensor.NumElems(shape)
		q := make([]int64, n)
		for i := range q {
			q[i] = lo + b.rand.Int64N(hi-lo+1)
		}
		b.in = []*tensor.Tensor{tensor.FromInt64s(e, q, shape...)}
		x := b.Input("x", ir.TensorType(e, ir.Dims(shape...)...))
		_, b.zeros[x] = b.zero(e)
		y := b.step(x)
		b.Output(x) // beside the result
		b.check(fmt.Sprint("ends ", seed), y, 0)
	}
}

// A run of integer kernels allocates nothing.
func TestByteAllocations(t *testing.T) {
	b := &byteBuilder{newBuilder(t, 5), map[*ir.Value]int64{}}
	v := b.node("QuantizeLinear", []*ir.Value{b.data(1, 5, 12, 13), b.Float("s", 0.02), b.integer(tensor.I8, 3)})
	b.zeros[v] = 3
	for range 12 {
		v = b.step(v)
	}
	v = b.product(v, true)
	b.Output(v)
	for _, s := range simd.All() {
		x, err := New().Compile(t.Context(), b.Graph(), backends.Options{Threads: 1, Kernel: s.Name})
		if err != nil {
			t.Fatal(err)
		}
		out, err := x.Run(t.Context(), b.in)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := x.RunInto(t.Context(), b.in, out); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", s.Name, n)
		}
		x.Close()
	}
}

// Products of so many taps that some kernels take them in several passes.
func TestBytePasses(t *testing.T) {
	for seed := range uint64(12) {
		b := &byteBuilder{newBuilder(t, seed), map[*ir.Value]int64{}}
		r := b.rand
		e := b.byteType()
		zp, z := b.zero(e)
		shape := []int{1 + r.IntN(2), 70 + r.IntN(200), 3 + r.IntN(4), 1 + r.IntN(30)}
		if seed%3 == 0 {
			shape = []int{1 + r.IntN(30), 700 + r.IntN(900)}
		}
		v := b.node("QuantizeLinear", []*ir.Value{b.data(shape...), b.Float("s", 0.02), zp})
		b.zeros[v] = z
		if len(shape) == 4 {
			w := b.ints(tensor.I8, -128, 127, 1+r.IntN(40), shape[1], 3, 3)
			v = b.result("thriftc.QConv", []*ir.Value{v, w, zp, nil, nil, b.multiplier(1e6, 1)}, "pads", []int{1, 1, 1, 1})
		}
		if r.IntN(2) == 0 {
			v = b.product(v, true)
		} else {
			v = b.node("DequantizeLinear", []*ir.Value{b.product(v, false), b.Float("s", 0.02)})
		}
		b.check(fmt.Sprint("passes ", seed), v, 0)
	}
}
