package ops

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func bitQuantOf(t *testing.T, attrs ir.Attrs, x, bits, lo, hi *tensor.Tensor) *tensor.Tensor {
	t.Helper()
	return evalConst(t, "thriftc.BitQuant", attrs, x, bits, lo, hi)
}

// Rounded by hand from the definition of the paper's quantiser: no rounding here is a tie.
func TestBitQuantPaper(t *testing.T) {
	v := []float64{-1, -0.4, 0.05, 0.3, 0.8, 1.5}
	x := tensor.Of(v, len(v))
	lo, hi := tensor.Scalar(-1.0), tensor.Scalar(1.5)
	minmax := ir.MakeAttrs("grid", "minmax")
	for _, c := range []struct {
		n    float64
		want []float64
	}{
		{1, []float64{-1, -1, -1, 1.5, 1.5, 1.5}},
		{2, []float64{-1, -.166667, -.166667, .666667, .666667, 1.5}},
		{3, []float64{-1, -.285714, .071429, .428571, .785714, 1.5}},
		{2.25, []float64{-1, -.196429, -.107143, .607143, .696429, 1.5}},
	} {
		closeTo(t, bitQuantOf(t, minmax, x, tensor.Scalar(c.n), lo, hi).Float64s(), c.want, 1e-6)
	}
	// dQ/dn for every element alone.
	want := []float64{0, -.119048, .238095, -.238095, .119048, 0}
	for i, w := range want {
		dy := make([]float64, len(v))
		dy[i] = 1
		g := evalGrad(t, minmax, tensor.Of(dy, len(v)), x, tensor.Scalar(2.25), lo, hi)
		closeTo(t, g[1].Float64s(), []float64{w}, 1e-6)
	}
}

func evalGrad(t *testing.T, attrs ir.Attrs, in ...*tensor.Tensor) []*tensor.Tensor {
	t.Helper()
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	var vs []*ir.Value
	for _, x := range in {
		vs = append(vs, r.Const("c", x))
	}
	n, err := r.Add("thriftc.BitQuantGrad", "n", attrs, vs, "dx", "dbits", "dhi", "dlo")
	if err != nil {
		t.Fatal(err)
	}
	r.SetOutputs(n.Out...)
	out, err := ir.Eval(context.Background(), r.Graph(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func closeTo(t *testing.T, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= tol) {
			t.Errorf("got %v, want %v", got, want)
			return
		}
	}
}

// At whole widths the grids with a zero are those of thriftc.Quant, bit for bit.
func TestBitQuantIsQuant(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 500)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	x[7], x[8], x[9] = float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))
	for _, grid := range []string{gridZero, gridSymmetric} {
		for _, r := range [][2]float32{{-1.3, 1.7}, {0, 2}, {0.5, 2}, {-3, -1}, {0, 0}} {
			for b := 1; b <= 8; b++ {
				for _, pow2 := range []int{0, 1} {
					attrs := ir.MakeAttrs("grid", grid, "pow2", pow2)
					n := &ir.Node{Op: Table().Lookup("thriftc.BitQuant"), Attrs: attrs}
					g := BitGridOf(n, b, r[0], r[1])
					y := bitQuantOf(t, attrs, vec32(x...), tensor.Scalar(float32(b)), tensor.Scalar(r[0]), tensor.Scalar(r[1]))
					want := evalConst(t, "thriftc.Quant", ir.MakeAttrs("signed", grid == gridSymmetric), vec32(x...), tensor.Scalar(g.Scale), tensor.Scalar(g.Zero), tensor.Scalar(float32(b)))
					if !slices.Equal(y.Float32s(), want.Float32s()) {
						t.Fatalf("%s %v, %d bits, pow2 %d: got %v, want %v", grid, r, b, pow2, y.Float32s()[:12], want.Float32s()[:12])
					}
					if m, _ := math.Frexp(float64(g.Scale)); pow2 == 1 && m != 0.5 {
						t.Errorf("scale %v is no power of two", g.Scale)
					}
				}
			}
		}
	}
}

// Every group must be quantised as if it stood alone.
func TestBitQuantGroups(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := make([]float64, 2*3*4)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	bits := []float64{2.5, 3, 7.9}
	hi := []float64{1, 2, 0.5}
	all := tensor.Of(x, 2, 3, 4)
	attrs := ir.MakeAttrs("grid", gridSymmetric)
	y := bitQuantOf(t, attrs, all, tensor.Of(bits, 3, 1), tensor.Scalar(0.0), tensor.Of(hi, 1, 3, 1)).Float64s()
	dy := tensor.Of(slices.Repeat([]float64{1, -2, 0.5}, 8), 2, 3, 4)
	g := evalGrad(t, attrs, dy, all, tensor.Of(bits, 3, 1), tensor.Scalar(0.0), tensor.Of(hi, 1, 3, 1))
	for c := range 3 {
		var part, d, got, dx []float64
		for _, b := range []int{0, 1} {
			at := (b*3 + c) * 4
			part, d = append(part, x[at:at+4]...), append(d, dy.Float64s()[at:at+4]...)
			got, dx = append(got, y[at:at+4]...), append(dx, g[0].Float64s()[at:at+4]...)
		}
		in := []*tensor.Tensor{tensor.Of(part, 8), tensor.Scalar(bits[c]), tensor.Scalar(0.0), tensor.Scalar(hi[c])}
		closeTo(t, got, bitQuantOf(t, attrs, in[0], in[1], in[2], in[3]).Float64s(), 0)
		alone := evalGrad(t, attrs, append([]*tensor.Tensor{tensor.Of(d, 8)}, in...)...)
		closeTo(t, dx, alone[0].Float64s(), 0)
		closeTo(t, g[1].Float64s()[c:c+1], alone[1].Float64s(), 1e-12)
		closeTo(t, g[2].Float64s()[c:c+1], alone[2].Float64s(), 1e-12)
	}
	if s := g[1].Shape(); !slices.Equal(s, []int{3, 1}) {
		t.Errorf("gradient of bits has shape %v", s)
	}
}

// The gradient of bits is that of the function itself; those of the range are
// those of the function with its roundings held: what rounding added stays as it is.
func TestBitQuantGradient(t *testing.T) {
	const h = 1e-6
	rng := rand.New(rand.NewPCG(5, 6))
	for _, grid := range []string{gridZero, gridSymmetric, gridMinMax} {
		for _, bits := range []float64{1.5, 2.25, 3.9, 7.5} {
			attrs := ir.MakeAttrs("grid", grid)
			x, dy := make([]float64, 200), make([]float64, 200)
			for i := range x {
				x[i], dy[i] = 1.2*rng.NormFloat64(), rng.NormFloat64()
			}
			lo, hi := -1.1, 1.4
			loss := func(bits float64) float64 {
				sum := 0.0
				for i, y := range bitQuantOf(t, attrs, tensor.Of(x, 200), tensor.Scalar(bits), tensor.Scalar(lo), tensor.Scalar(hi)).Float64s() {
					sum += dy[i] * y
				}
				return sum
			}
			n := &ir.Node{Op: Table().Lookup("thriftc.BitQuant"), Attrs: attrs}
			b, a := BitSplit(bits, 8)
			// held is the function with the residues of rounding at lo, hi.
			held := func(newLo, newHi float64, dx float64) float64 {
				sum := 0.0
				for i := range x {
					for k, w := range []float64{1 - a, a} {
						at, now := BitGridOf(n, b+k, lo, hi), BitGridOf(n, b+k, newLo, newHi)
						r, q, c := at.at(x[i])
						if q == c {
							c += (x[i]+dx-now.Base)/now.Scale - r
						}
						sum += dy[i] * w * (now.Base + c*now.Scale)
					}
				}
				return sum
			}
			g := evalGrad(t, attrs, tensor.Of(dy, 200), tensor.Of(x, 200), tensor.Scalar(bits), tensor.Scalar(lo), tensor.Scalar(hi))
			dx := 0.0
			for _, v := range g[0].Float64s() {
				dx += v
			}
			for _, c := range []struct {
				what      string
				got, want float64
			}{
				{"bits", g[1].Float64s()[0], (loss(bits+h) - loss(bits-h)) / (2 * h)},
				{"lo", g[3].Float64s()[0], (held(lo+h, hi, 0) - held(lo-h, hi, 0)) / (2 * h)},
				{"hi", g[2].Float64s()[0], (held(lo, hi+h, 0) - held(lo, hi-h, 0)) / (2 * h)},
				{"x", dx, (held(lo, hi, h) - held(lo, hi, -h)) / (2 * h)},
			} {
				if math.Abs(c.got-c.want) > 1e-5*(1+math.Abs(c.want)) {
					t.Errorf("%s, %v bits: gradient of %s is %v, finite differences give %v", grid, bits, c.what, c.got, c.want)
				}
			}
		}
	}
}

func TestBitQuantLimits(t *testing.T) {
	x := vec32(-0.7, 0.3, 0.9)
	lo, hi := tensor.Scalar(float32(0)), tensor.Scalar(float32(1))
	same := func(a, b float32) {
		t.Helper()
		ya, yb := bitQuantOf(t, nil, x, tensor.Scalar(a), lo, hi), bitQuantOf(t, nil, x, tensor.Scalar(b), lo, hi)
		if !slices.Equal(ya.Float32s(), yb.Float32s()) {
			t.Errorf("%v bits give %v, %v bits %v", a, ya.Float32s(), b, yb.Float32s())
		}
	}
	same(0.2, 1)
	same(float32(math.NaN()), 1)
	same(9.5, 8)
	// At the upper limit the derivative is the one from below.
	g := evalGrad(t, nil, vec32(1, 1, 1), x, tensor.Scalar(float32(8)), lo, hi)
	y7, y8 := bitQuantOf(t, nil, x, tensor.Scalar(float32(7)), lo, hi).Float32s(), bitQuantOf(t, nil, x, tensor.Scalar(float32(8)), lo, hi).Float32s()
	closeTo(t, g[1].Float64s(), []float64{float64(y8[1] - y7[1] + y8[2] - y7[2])}, 1e-7)
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	v := func(shape ...int) *ir.Value { return r.Input("v", ir.TensorType(tensor.F32, ir.Dims(shape...)...)) }
	for _, c := range []struct {
		attrs ir.Attrs
		bits  *ir.Value
	}{
		{ir.MakeAttrs("grid", "round"), v()},
		{ir.MakeAttrs("max_bits", 17), v()},
		{nil, v(3)},
		{nil, v(1, 1, 1)},
	} {
		if _, err := r.Add("thriftc.BitQuant", "", c.attrs, []*ir.Value{v(2, 4), c.bits, v(), v()}); err == nil {
			t.Errorf("accepted %v with bits of type %v", c.attrs, c.bits.Type)
		}
	}
}
