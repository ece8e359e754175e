package irtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// RandomLayouts draws a graph as Random does, of about size nodes, for engines that lay values
// out as their users want them. Its values have few different shapes and several users each,
// which pad them differently, join them in different orders, take parts of them, add them to
// what they compute, or need them in row-major order. With integers, some are quantised and
// computed on by the operators on integers; without, some graphs have nodes of training steps.
func RandomLayouts(t testing.TB, ops *ir.Registry, seed uint64, size int, integers bool) *ir.Graph {
	t.Helper()
	g := ir.NewGraph(fmt.Sprintf("layouts%d", seed), ops)
	d := &drawer{t: t, r: ir.NewRewriter(g), rng: rand.New(rand.NewPCG(seed, 3)), zeros: map[*ir.Value]int64{}}
	all := []int{1, 3, 4, 5, 8, 12, 16, 16, 16, 17, 24, 32, 35, 48}
	for range 3 {
		d.channels = append(d.channels, d.one(all...))
	}
	batch := ir.Fixed(1 + d.rng.IntN(3))
	if seed%2 == 1 {
		batch = ir.Symbol("N")
	}
	h, w := d.one(1, 4, 5, 6, 7, 8, 12, 16), d.one(1, 5, 7, 8, 9, 12, 16, 17)
	steps := !integers && d.rng.IntN(4) == 0
	for i := range 1 + d.rng.IntN(2) {
		d.values = append(d.values, d.r.Input([]string{"x", "y"}[i], ir.TensorType(tensor.F32, batch, ir.Fixed(d.one(d.channels...)), ir.Fixed(h), ir.Fixed(w))))
	}
	if integers && d.rng.IntN(4) == 0 {
		v := d.r.Input("q", ir.TensorType(d.byteType(), batch, ir.Fixed(d.one(d.channels...)), ir.Fixed(h), ir.Fixed(w)))
		d.bytes = append(d.bytes, v)
	}
	for tries := 0; len(g.Nodes) < size && tries < 20*size; tries++ {
		if integers && d.rng.IntN(3) > 0 {
			d.drawBytes()
			continue
		}
		x := d.values[len(d.values)-1]
		if d.rng.IntN(3) > 0 { // old values get more users
			x = d.values[d.rng.IntN(len(d.values))]
		}
		if ops.Lookup("Conv") != nil && d.rng.IntN(3) == 0 {
			layoutConv(d, "Conv", x)
			continue
		}
		recipes := layoutRecipes
		if steps && d.rng.IntN(2) == 0 {
			recipes = gradientRecipes
		}
		if rc := recipes[d.rng.IntN(len(recipes))]; ops.Lookup(rc.op) != nil {
			rc.draw(d, rc.op, x)
		}
	}
	d.outputs()
	return g
}

// macsOfGraph bounds the multiply-adds of a sample of a graph, so that thousands of graphs are evaluated in a minute.
const macsOfGraph = 4 << 20

// spend reports whether the graph may have so many more multiply-adds.
func (d *drawer) spend(macs int) bool {
	if d.macs+macs > macsOfGraph {
		return false
	}
	d.macs += macs
	return true
}

func (d *drawer) one(of ...int) int { return of[d.rng.IntN(len(of))] }

// scaled returns a new constant with elements of about ±1/√terms: sums of so many products stay as large as the factors.
func (d *drawer) scaled(terms int, shape ...int) *ir.Value {
	n, _ := tensor.NumElems(shape)
	x := make([]float32, n)
	for i := range x {
		x[i] = (d.rng.Float32()*4 - 2) / float32(math.Sqrt(float64(terms)))
	}
	return d.r.Const("k", tensor.Of(x, shape...))
}

// onPlanes is for values of four dimensions of known positive size behind the first.
func onPlanes(draw func(d *drawer, op string, x *ir.Value, c, h, w int)) func(*drawer, string, *ir.Value) {
	return func(d *drawer, op string, x *ir.Value) {
		if s, ok := image(x); ok && s[0] <= 100 && s[1]*s[2] <= 400 {
			draw(d, op, x, s[0], s[1], s[2])
		}
	}
}

// layoutRecipes are what RandomLayouts draws from.
var layoutRecipes = []recipe{
	{"ConvTranspose", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		m, k, stride := d.one(d.channels...), 1+d.rng.IntN(3), 1+d.rng.IntN(2)
		if h*w <= 100 && d.spend(c*m*k*k*h*w) {
			d.tail(d.add(op, ir.MakeAttrs("strides", []int{stride, 1}, "pads", []int{0, k / 2, k / 2, 0}), x, d.scaled(c*k, c, m, k, k)))
		}
	})},
	{"thriftc.MuxConv", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		m, k := d.one(d.channels...), d.one(1, 3, 3, 5)
		if d.spend(c * m * h * w) {
			d.tail(d.add(op, ir.MakeAttrs("kernel_shape", []int{k, k}, "pads", d.around(k-1, k-1), "strides", []int{1, 1 + d.rng.IntN(4)/3}),
				x, d.scaled(c, m, c), d.places(k*k, m, c)))
		}
	})},
	{"thriftc.Shift", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		v := d.add(op, ir.MakeAttrs("kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1}), x, d.places(9, c))
		if m := d.one(d.channels...); d.rng.IntN(2) == 0 && d.spend(c*m*h*w) {
			d.tail(d.add("Conv", nil, v, d.scaled(c, m, c, 1, 1)))
		}
	})},
	{"MaxPool", onPlanes(layoutPool)}, {"AveragePool", onPlanes(layoutPool)},
	{"Add", joinSame}, {"Add", joinSame}, {"Mul", joinSame}, {"Sub", joinSame}, {"Max", joinSame},
	{"Relu", func(d *drawer, _ string, x *ir.Value) { d.tail(x) }},
	{"Concat", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		in := []*ir.Value{x}
		for range 1 + d.rng.IntN(2) {
			in = append(in, d.like(x, 1))
		}
		d.add(op, ir.MakeAttrs("axis", 1), in...)
	})},
	{"Split", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		if c < 2 {
			return
		}
		a := 1 + d.rng.IntN(c-1)
		if c > 16 && d.rng.IntN(2) == 0 {
			a = 16
		}
		d.addAll(op, ir.MakeAttrs("axis", 1), []string{"part", "rest"}, x, d.r.Ints("sizes", int64(a), int64(c-a)))
	})},
	{"Transpose", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) { // a shuffle of channels
		groups := d.one(2, 3, 4)
		if c%groups != 0 || d.r.Graph().Ops.Lookup("Reshape") == nil {
			return
		}
		v := d.add("Reshape", nil, x, d.r.Ints("s", 0, int64(groups), int64(c/groups), int64(h), int64(w)))
		v = d.add(op, ir.MakeAttrs("perm", []int{0, 2, 1, 3, 4}), v)
		d.add("Reshape", nil, v, d.r.Ints("s", 0, int64(c), int64(h), int64(w)))
	})},
	{"Transpose", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		v := d.add(op, ir.MakeAttrs("perm", []int{0, 2, 3, 1}), x)
		if m := d.one(d.channels...); d.rng.IntN(2) == 0 && d.spend(c*m*h*w) {
			v = d.add("MatMul", nil, v, d.scaled(c, c, m))
		}
		if d.rng.IntN(2) == 0 {
			d.add(op, ir.MakeAttrs("perm", []int{0, 3, 1, 2}), v)
		}
	})},
	{"Slice", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		step := int64(1 + d.rng.IntN(2))
		v := d.add(op, nil, x, d.r.Ints("starts", d.rng.Int64N(int64(c)), d.rng.Int64N(2)), d.r.Ints("ends", 1<<40, int64(w)+1),
			d.r.Ints("axes", 1, 3), d.r.Ints("steps", 1, step))
		if d.rng.IntN(2) == 0 && d.r.Graph().Ops.Lookup("Pad") != nil {
			d.add("Pad", nil, v, d.r.Ints("pads", 0, d.rng.Int64N(9), 0, 0, 0, d.rng.Int64N(9), 0, 0))
		}
	})},
	{"Pad", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		p := func() int64 { return d.rng.Int64N(3) }
		d.add(op, nil, x, d.r.Ints("pads", 0, 0, p(), p(), 0, 0, p(), p()))
	})},
	{"Resize", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		mode := []string{"nearest", "linear"}[d.rng.IntN(2)]
		scales := d.r.Const("scales", tensor.Of([]float32{1, 1, float32(1 + d.rng.IntN(2)), 1}, 4))
		d.tail(d.add(op, ir.MakeAttrs("mode", mode), x, nil, scales))
	})},
	{"GlobalAveragePool", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) { // squeeze and excite
		v := d.add(op, nil, x)
		if m := d.one(d.channels...); d.rng.IntN(2) == 0 && d.spend(2*c*m) {
			v = d.tail(d.add("Conv", nil, v, d.scaled(c, m, c, 1, 1)))
			v = d.add("Conv", nil, v, d.scaled(m, c, m, 1, 1))
		}
		if d.rng.IntN(3) > 0 {
			d.tail(d.add([]string{"Mul", "Add"}[d.rng.IntN(2)], nil, x, v))
		}
	})},
	{"Reshape", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		shapes := [][]int64{{0, int64(c), int64(w), int64(h)}, {0, int64(c), int64(h * w)}, {0, int64(c * h), 1, int64(w)}}
		d.add(op, nil, x, d.r.Ints("shape", shapes[d.rng.IntN(3)]...))
	})},
	{"Flatten", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		v := d.add(op, nil, x)
		if m := d.one(d.channels...); d.spend(c * h * w * m) {
			d.tail(d.add("Gemm", ir.MakeAttrs("transB", 1), v, d.scaled(c*h*w, m, c*h*w), d.weight("b", m)))
		}
	})},
	{"Softmax", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) { d.add(op, ir.MakeAttrs("axis", d.one(1, -1)), x) })},
	{"ReduceMean", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) { d.add(op, nil, x, d.r.Ints("axes", 1)) })},
	{"thriftc.BitQuant", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		d.tail(d.add(op, nil, x, d.r.Float("bits", 4.5), d.r.Float("low", -3), d.r.Float("high", 3)))
	})},
}

// around draws paddings at both ends of rows and columns that add up to the given ones: the size stays.
func (d *drawer) around(rows, cols int) []int {
	top, left := (rows+1)/2, (cols+1)/2
	if d.rng.IntN(4) == 0 {
		top, left = d.rng.IntN(rows+1), d.rng.IntN(cols+1)
	}
	return []int{top, left, rows - top, cols - left}
}

// places draws one of so many taps for each element.
func (d *drawer) places(taps int, shape ...int) *ir.Value {
	n, _ := tensor.NumElems(shape)
	x := make([]int64, n)
	for i := range x {
		x[i] = d.rng.Int64N(int64(taps))
	}
	return d.r.Const("places", tensor.FromInt64s(tensor.U8, x, shape...))
}

// window draws the attributes of a convolution of c channels, h×w, and the shape of its
// weights; false if the graph has enough multiply-adds.
func (d *drawer) window(c, h, w int) (attrs ir.Attrs, weights []int, ok bool) {
	k := [][2]int{{1, 1}, {1, 1}, {3, 3}, {3, 3}, {5, 3}, {1, 3}, {2, 2}}[d.rng.IntN(7)]
	m, group := d.one(d.channels...), 1
	switch d.rng.IntN(5) {
	case 0:
		m, group = c, c
	case 1:
		if c%2 == 0 && m%2 == 0 {
			group = 2
		}
	}
	dilation := 1 + d.rng.IntN(8)/7
	attrs = ir.MakeAttrs("dilations", []int{dilation, dilation}, "group", group, "kernel_shape", k[:])
	size := h * w
	if rows, cols := (k[0]-1)*dilation, (k[1]-1)*dilation; d.rng.IntN(4) > 0 || h <= rows || w <= cols {
		attrs.Set("pads", d.around(rows, cols))
	} else {
		strides := []int{1 + d.rng.IntN(2), 1 + d.rng.IntN(2)}
		attrs.Set("strides", strides)
		size /= strides[0] * strides[1]
		if d.rng.IntN(2) == 0 {
			attrs.Set("pads", []int{d.rng.IntN(k[0]), d.rng.IntN(k[1]), d.rng.IntN(k[0]), d.rng.IntN(k[1])})
		}
	}
	return attrs, []int{m, c / group, k[0], k[1]}, d.spend(m * c / group * k[0] * k[1] * size)
}

var layoutConv = onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
	attrs, shape, ok := d.window(c, h, w)
	if !ok {
		return
	}
	in := []*ir.Value{x, d.scaled(shape[1]*shape[2]*shape[3], shape...)}
	if d.rng.IntN(2) == 0 {
		in = append(in, d.weight("b", shape[0]))
	}
	d.tail(d.add(op, attrs, in...))
})

func layoutPool(d *drawer, op string, x *ir.Value, c, h, w int) {
	k := d.one(2, 3)
	attrs := ir.MakeAttrs("kernel_shape", []int{k, k}, "pads", []int{(k - 1) / 2, (k - 1) / 2, k / 2, k / 2})
	if d.rng.IntN(3) == 0 {
		attrs.Set("strides", []int{1 + d.rng.IntN(2), 2})
	}
	d.tail(d.add(op, attrs, x))
}

// like returns a value of x's type, but for dimension free if that is not negative: x, if there is no other.
func (d *drawer) like(x *ir.Value, free int) *ir.Value {
	var found []*ir.Value
	for _, list := range [][]*ir.Value{d.values, d.bytes} {
		for _, v := range list {
			if v.Type.Elem != x.Type.Elem || v.Type.Rank() != x.Type.Rank() {
				continue
			}
			same := true
			for i, dim := range v.Type.Dims {
				same = same && (i == free && dim.Known() || dim.Same(x.Type.Dims[i]))
			}
			if same {
				found = append(found, v)
			}
		}
	}
	return found[d.rng.IntN(len(found))]
}

func joinSame(d *drawer, op string, x *ir.Value) { d.tail(d.add(op, nil, x, d.like(x, -1))) }

// tail adds some of the nodes that engines compute together with the one before.
func (d *drawer) tail(v *ir.Value) *ir.Value {
	for range d.rng.IntN(4) {
		s, ok := image(v)
		switch k := d.rng.IntN(12); {
		case k < 3:
			v = d.add("Relu", nil, v)
		case k < 7:
			in := []*ir.Value{v, d.like(v, -1)}
			if d.rng.IntN(2) == 0 {
				slices.Reverse(in)
			}
			v = d.add([]string{"Add", "Add", "Mul", "Sub"}[d.rng.IntN(4)], nil, in...)
		case k == 7:
			v = d.add("Clip", nil, v, d.r.Float("lo", -1), d.r.Float("hi", 6))
		case k == 8 && ok:
			v = d.add("BatchNormalization", nil, v, d.weight("gamma", s[0]), d.weight("beta", s[0]), d.weight("mean", s[0]), d.positive("var", s[0]))
		case k == 9 && ok:
			v = d.add("PRelu", nil, v, d.weight("slope", s[0], 1, 1))
		case k == 10 && ok:
			v = d.add([]string{"Add", "Mul"}[d.rng.IntN(2)], nil, v, d.weight("c", s[0], 1, 1))
		default:
			v = d.add([]string{"Sigmoid", "LeakyRelu", "HardSwish", "Abs"}[d.rng.IntN(4)], nil, v)
		}
	}
	return v
}

// addAll is add for a node with several outputs, of which all are continued from.
func (d *drawer) addAll(op string, attrs ir.Attrs, outs []string, in ...*ir.Value) []*ir.Value {
	d.t.Helper()
	n, err := d.r.Add(op, "", attrs, in, outs...)
	if err != nil {
		d.t.Fatalf("irtest: recipe of %s: %v", op, err)
	}
	if n.Out[0].Type.Elem.IsFloat() {
		d.values = append(d.values, n.Out...)
	} else {
		d.bytes = append(d.bytes, n.Out...)
	}
	return n.Out
}
