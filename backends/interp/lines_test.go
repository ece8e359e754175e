package interp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// shapeOfRank returns a random shape with few elements.
func shapeOfRank(r *rand.Rand, rank int) []int {
	s := make([]int, rank)
	for i := range s {
		if s[i] = 1 + r.IntN(9); r.IntN(4) == 0 {
			s[i] = 1 + r.IntN(90)
		}
	}
	for rank > 2 && s[0]*s[1]*s[2]*s[rank-1] > 1<<15 {
		s[r.IntN(rank)] = 1
	}
	return s
}

// spoil puts special numbers into the inputs.
func (b *builder) spoil() {
	for _, t := range b.in {
		x := tensor.Data[float32](t)
		for range len(x) / 50 {
			x[b.rand.IntN(len(x))] = []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}[b.rand.IntN(5)]
		}
	}
}

func TestSoftmax(t *testing.T) {
	for seed := range uint64(80) {
		b := newBuilder(t, seed)
		r := b.rand
		shape := shapeOfRank(r, 1+r.IntN(4))
		op, axis := []string{"Softmax", "LogSoftmax"}[seed%2], r.IntN(2*len(shape))-len(shape)
		v := b.node(op, []*ir.Value{b.data(shape...)}, "axis", axis)
		if seed%5 == 0 {
			b.spoil()
		}
		b.check(fmt.Sprint(op, shape, axis), v, 0)
	}
	b := newBuilder(t, 1)
	b.check("long lines", b.node("Softmax", []*ir.Value{b.data(3, 1500)}), 0)
}

func TestReductions(t *testing.T) {
	for seed := range uint64(140) {
		b := newBuilder(t, seed)
		r := b.rand
		shape := shapeOfRank(r, 1+r.IntN(4))
		op := []string{"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL2"}[seed%6]
		in := []*ir.Value{b.data(shape...)}
		from := r.IntN(len(shape))
		to := from + 1 + r.IntN(len(shape)-from)
		if r.IntN(3) == 0 {
			to = len(shape)
		}
		var axes []int64
		for a := from; a < to; a++ {
			axes = append(axes, int64(a-r.IntN(2)*len(shape)))
		}
		if r.IntN(6) > 0 {
			in = append(in, b.Ints("axes", axes...))
		}
		v := b.node(op, in, "keepdims", r.IntN(2))
		if seed%4 == 0 {
			b.spoil()
		}
		b.check(fmt.Sprint(op, shape, axes), v, 0)
	}
	b := newBuilder(t, 1)
	b.check("axes apart", b.node("ReduceSum", []*ir.Value{b.data(2, 3, 4), b.Ints("axes", 0, 2)}), 1)
	b = newBuilder(t, 1)
	v := b.node("Relu", []*ir.Value{b.node("Conv", []*ir.Value{b.data(2, 5, 9, 7), b.weights(20, 5, 1, 1)})})
	b.check("mean of blocks", b.node("ReduceMean", []*ir.Value{v, b.Ints("axes", -1, 2)}, "keepdims", 0), 0)
}

func TestNormalisations(t *testing.T) {
	for seed := range uint64(60) {
		b := newBuilder(t, seed)
		r := b.rand
		shape := shapeOfRank(r, 2+r.IntN(3))
		x := b.data(shape...)
		var v *ir.Value
		switch seed % 4 {
		case 0:
			axis := r.IntN(len(shape))
			in := []*ir.Value{x, b.weights(shape[axis:]...)}
			if r.IntN(2) == 0 {
				in = append(in, b.weights(shape[axis:]...))
			}
			v = b.node("LayerNormalization", in, "axis", axis-r.IntN(2)*len(shape))
		case 1:
			v = b.node("InstanceNormalization", []*ir.Value{x, b.weights(shape[1]), b.data(shape[1])})
		case 2:
			v = b.node("GroupNormalization", []*ir.Value{x, b.weights(shape[1]), b.weights(shape[1])}, "num_groups", []int{1, shape[1]}[r.IntN(2)])
		case 3:
			attrs := []any{"size", 1 + r.IntN(6), "alpha", 0.3, "bias", 0.5}
			if r.IntN(3) == 0 {
				attrs = append(attrs, "beta", []float64{0.5, 1, 0.3}[r.IntN(3)])
			}
			v = b.node("LRN", []*ir.Value{x}, attrs...)
		}
		if seed%5 == 0 {
			b.spoil()
		}
		b.check(fmt.Sprint("seed ", seed, " ", v.Def.Op.Name, shape, v.Def.Attrs), v, 0)
	}
}

func TestBroadcast(t *testing.T) {
	for seed := range uint64(150) {
		b := newBuilder(t, seed)
		r := b.rand
		shape := shapeOfRank(r, 1+r.IntN(4))
		part := func() []int {
			s := slices.Clone(shape)
			for i := range s {
				if r.IntN(2) == 0 {
					s[i] = 1
				}
			}
			return s[r.IntN(2)*r.IntN(len(s)):]
		}
		first, second := shape, part()
		if r.IntN(3) == 0 {
			first = part()
		}
		if r.IntN(2) == 0 {
			first, second = second, first
		}
		op := []string{"Add", "Sub", "Mul", "Div"}[seed%4]
		in := []*ir.Value{b.data(first...), b.data(second...)}
		if r.IntN(4) == 0 {
			in[r.IntN(2)] = b.weights(second...)
			b.in = nil
			for _, v := range in {
				if !v.HasData() {
					s, _ := v.Type.Static()
					b.in = append(b.in, normals(r, s...))
				}
			}
			if len(b.in) < len(b.Graph().Inputs) {
				continue
			}
		}
		b.check(fmt.Sprint(op, first, second), b.node(op, in), 0)
	}
}

func TestResize(t *testing.T) {
	for seed := range uint64(150) {
		b := newBuilder(t, seed)
		r := b.rand
		shape := []int{1 + r.IntN(2), 1 + r.IntN(20), 1 + r.IntN(9), 1 + r.IntN(9)}[:3+r.IntN(2)]
		x := b.data(shape...)
		if r.IntN(2) == 0 {
			w := slices.Repeat([]int{1}, len(shape))
			w[0], w[1] = 1+r.IntN(20), shape[1]
			x = b.node("Conv", []*ir.Value{x, b.weights(w...)})
			shape[1] = w[0]
		}
		var sizes []int64
		scales := make([]float32, len(shape))
		for i, d := range shape {
			sizes, scales[i] = append(sizes, int64(d)), 1
			if i >= 2 && r.IntN(4) > 0 {
				sizes[i], scales[i] = 1+r.Int64N(20), []float32{2, 0.5, 1.7, 3, 0.9}[r.IntN(5)]
			}
		}
		in := []*ir.Value{x, nil, nil, b.Ints("sizes", sizes...)}
		if r.IntN(2) == 0 {
			in = []*ir.Value{x, nil, b.Const("scales", tensor.Of(scales, len(scales)))}
		}
		mode := []string{"nearest", "linear", "cubic"}[seed%3]
		coordinates := []string{"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"}[r.IntN(5)]
		n, err := b.Add("Resize", "", ir.MakeAttrs("mode", mode, "coordinate_transformation_mode", coordinates,
			"nearest_mode", []string{"round_prefer_floor", "floor", "ceil"}[r.IntN(3)], "antialias", r.IntN(2)), in)
		if err != nil {
			t.Fatal(err)
		}
		v := n.Out[0]
		out, _ := v.Type.Static()
		if slices.Contains(out, 0) {
			continue
		}
		others := 0
		if mode != "nearest" && slices.Equal(out, shape) && (len(in) > 3 || !slices.ContainsFunc(scales, func(s float32) bool { return s != 1 })) {
			others = 1 // it changes nothing
		}
		b.check(fmt.Sprint("seed ", seed, " ", mode, coordinates, shape, out), b.node("Relu", []*ir.Value{v}), others)
	}
}

// TestPerImage: what squeeze-and-excitation networks do.
func TestPerImage(t *testing.T) {
	for seed := range uint64(40) {
		b := newBuilder(t, seed)
		r := b.rand
		n, c := 1+r.IntN(3), 1+r.IntN(40)
		v := b.data(n, c, 1+r.IntN(9), 2+r.IntN(9))
		if r.IntN(3) > 0 {
			v = b.node("Conv", []*ir.Value{v, b.weights(c, c, 1, 1)})
		}
		p := b.node("GlobalAveragePool", []*ir.Value{v})
		if r.IntN(3) == 0 {
			p = b.data(1, c, 1, 1)
		}
		p = b.node("HardSigmoid", []*ir.Value{p})
		in := []*ir.Value{v, p}
		if r.IntN(2) == 0 {
			in = []*ir.Value{p, v}
		}
		b.check(fmt.Sprint("per image ", seed), b.after(b.node([]string{"Mul", "Add"}[seed%2], in)), 0)
	}
}

func TestDepth(t *testing.T) {
	for seed := range uint64(40) {
		b := newBuilder(t, seed)
		r := b.rand
		block := 1 + r.IntN(3)
		var v *ir.Value
		if seed%2 == 0 {
			v = b.node("DepthToSpace", []*ir.Value{b.data(1+r.IntN(2), block*block*(1+r.IntN(4)), 1+r.IntN(9), 1+r.IntN(9))},
				"blocksize", block, "mode", []string{"DCR", "CRD"}[r.IntN(2)])
		} else {
			v = b.node("SpaceToDepth", []*ir.Value{b.data(1+r.IntN(2), 1+r.IntN(4), block*(1+r.IntN(9)), block*(1+r.IntN(9)))}, "blocksize", block)
		}
		b.check(fmt.Sprint("depth ", seed), b.node("Relu", []*ir.Value{v}), 0)
	}
	b := newBuilder(t, 1)
	b.check("dropout", b.node("Dropout", []*ir.Value{b.node("Relu", []*ir.Value{b.data(3, 4)})}), 0)
}

func TestLinesAllocateNothing(t *testing.T) {
	b := newBuilder(t, 1)
	in := func(v ...*ir.Value) []*ir.Value { return v }
	x := b.data(2, 20, 9, 10)
	v := b.node("ConvTranspose", in(x, b.weights(20, 24, 3, 3)), "strides", []int{2, 2})
	v = b.node("Mul", in(v, b.node("Sigmoid", in(b.node("GlobalAveragePool", in(v))))))
	v = b.node("LRN", in(v), "size", 5)
	v = b.node("InstanceNormalization", in(v, b.weights(24), b.weights(24)))
	v = b.node("Softmax", in(b.node("LogSoftmax", in(v), "axis", 1)))
	v = b.node("LayerNormalization", in(v, b.weights(21), b.weights(21)))
	v = b.node("Sub", in(v, b.node("ReduceSum", in(v, b.Ints("axes", 1)))))
	v = b.node("DepthToSpace", in(v), "blocksize", 2)
	v = b.node("Mul", in(v, b.node("ReduceMax", in(v, b.Ints("axes", 2, 3)))))
	b.Output(b.node("ReduceL2", in(v, b.Ints("axes", -1)), "keepdims", 0))
	exe := compile(t, b.Graph(), 1)
	out, err := exe.Run(t.Context(), b.in)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(5, func() {
		if err := exe.RunInto(t.Context(), b.in, out); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations in a run", n)
	}
	if k := kernels(exe); k["eval"] > 0 {
		t.Errorf("kernels are %v", k)
	}
}

func TestPRelu(t *testing.T) {
	for seed := range uint64(40) {
		b := newBuilder(t, seed)
		r := b.rand
		shape := shapeOfRank(r, 2+r.IntN(3))
		v := b.data(shape...)
		slopes := [][]int{{1}, slices.Concat([]int{shape[1]}, slices.Repeat([]int{1}, len(shape)-2))}[r.IntN(2)]
		if len(shape) == 4 && r.IntN(2) == 0 {
			v = b.node("Conv", []*ir.Value{v, b.weights(shape[1], shape[1], 1, 1)})
		} else if seed%5 == 0 {
			b.spoil()
		}
		b.check(fmt.Sprint("PRelu ", seed, shape, slopes), b.after(b.node("PRelu", []*ir.Value{v, b.weights(slopes...)})), 0)
	}
}
