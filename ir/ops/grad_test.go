package ops

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// gradCase is one application of an operator whose gradient is compared with
// differences. Inputs that hold f64 are differentiated, others are constants.
type gradCase struct {
	attrs ir.Attrs
	in    []*tensor.Tensor
	outs  int   // how many outputs there are; 0: the required ones
	skip  []int // f64 inputs that are taken as constants
	loss  []int // the outputs that are differentiated; nil: all of f64
}

// random returns f64 numbers from lo to hi that are no closer than 1e-3 to a
// multiple of 1/8, where some operators have kinks.
func random(seed uint64, lo, hi float64, shape ...int) *tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 7))
	x := make([]float64, sizeOf(shape))
	for i := range x {
		for x[i] = 0; math.Abs(math.Remainder(x[i], 0.125)) < 1e-3; {
			x[i] = lo + (hi-lo)*rng.Float64()
		}
	}
	return tensor.Of(x, shape...)
}

// straight are the operators whose gradient is not their derivative: gradients pass
// straight through their steps. Tests of their own say what they should be.
var straight = map[string]bool{"thriftc.Quant": true, "thriftc.BipolarQuant": true, "thriftc.BitQuant": true}

// TestGrad compares the gradient of every operator that has one with central
// differences in f64. An operator without a
// gradient must say why, and one with a gradient must have a case.
func TestGrad(t *testing.T) {
	for _, op := range Table().Ops() {
		cases := gradCases[op.Name]
		switch {
		case op.Infer == nil:
			continue
		case op.Grad == nil && op.NoGrad == "":
			t.Errorf("%s has neither a gradient nor a reason why it has none", op.Name)
		case straight[op.Name]:
			continue
		case op.Grad != nil && (op.NoGrad != "" || len(cases) == 0):
			t.Errorf("%s has a gradient but no case, or says why it has none", op.Name)
		case op.Grad == nil && len(cases) > 0:
			t.Errorf("%s has cases but no gradient", op.Name)
		}
		for i, c := range cases {
			t.Run(op.Name, func(t *testing.T) { checkGrad(t, op, c, uint64(i)) })
		}
	}
}

func checkGrad(t *testing.T, op *ir.Op, c gradCase, seed uint64) {
	t.Helper()
	r := ir.NewRewriter(ir.NewGraph("grad", Table()))
	var in, wrt []*ir.Value
	var args []*tensor.Tensor
	for i, x := range c.in {
		switch {
		case x == nil:
			in = append(in, nil)
		case x.Elem() == tensor.F64 && !slices.Contains(c.skip, i):
			v := r.Input("x", ir.TypeOf(x))
			in, wrt, args = append(in, v), append(wrt, v), append(args, x)
		default:
			in = append(in, r.Const("c", x))
		}
	}
	var names []string
	for range c.outs {
		names = append(names, "y")
	}
	n, err := r.Add(op.Name, "node", c.attrs, in, names...)
	if err != nil {
		t.Fatal(err)
	}
	var loss *ir.Value
	for i, y := range n.Out {
		if y.Type.Elem != tensor.F64 || c.loss != nil && !slices.Contains(c.loss, i) {
			continue
		}
		shape, ok := y.Type.Static()
		if !ok {
			t.Fatalf("output %d is %v, expected a static shape", i, y.Type)
		}
		l := r.Must1("ReduceSum", "", ir.MakeAttrs("keepdims", 0), r.Must1("Mul", "", nil, y, r.Const("w", random(seed+100+uint64(i), -1, 1, shape...))))
		if loss == nil {
			loss = l
		} else {
			loss = r.Must1("Add", "", nil, loss, l)
		}
	}
	r.Output(loss)
	f := r.Graph().Clone()
	grads, err := Gradients(r, loss, wrt, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range grads {
		if d == nil {
			t.Fatalf("no gradient reaches input %d of those with f64", i)
		}
		if !d.Type.Compatible(wrt[i].Type) {
			t.Errorf("the gradient of %v is %v", wrt[i].Type, d.Type)
		}
		r.Output(d)
	}
	if err := ir.Verify(r.Graph()); err != nil {
		t.Fatal(err)
	}
	out, err := ir.Eval(t.Context(), r.Graph(), args)
	if err != nil {
		t.Fatal(err)
	}
	at := func(args []*tensor.Tensor) float64 {
		y, err := ir.Eval(t.Context(), f, args)
		if err != nil {
			t.Fatal(err)
		}
		return y[0].Float64s()[0]
	}
	const h = 1e-5
	for i, x := range args {
		if !slices.Equal(out[i+1].Shape(), x.Shape()) {
			t.Errorf("the gradient of an input of shape %v has shape %v", x.Shape(), out[i+1].Shape())
			continue
		}
		for j, v := range x.Float64s() {
			moved := slices.Clone(args)
			shift := func(h float64) float64 {
				y := slices.Clone(x.Float64s())
				y[j] = v + h
				moved[i] = tensor.Of(y, x.Shape()...)
				return at(moved)
			}
			want, got := (shift(h)-shift(-h))/(2*h), out[i+1].Float64s()[j]
			if !(math.Abs(want-got) <= 1e-6*max(1, math.Abs(want))) {
				t.Errorf("input %d, element %d: gradient %v, differences give %v", i, j, got, want)
			}
		}
	}
}

// The gradient of Quant is straight through inside the range, and that of the scale is
// what LSQ says; that of BipolarQuant is straight through up to 1.
func TestStraightThrough(t *testing.T) {
	x := tensor.Of([]float64{-9, -4.1, -0.6, 0.2, 1.3, 3.4, 3.6, 8}, 8)
	run := func(op string, in ...*tensor.Tensor) (dx, ds []float64) {
		r := ir.NewRewriter(ir.NewGraph("g", Table()))
		vs := []*ir.Value{r.Input("x", ir.TypeOf(in[0])), r.Input("s", ir.TypeOf(in[1]))}
		for _, c := range in[2:] {
			vs = append(vs, r.Const("c", c))
		}
		y := r.Must1("Mul", "", nil, r.Must1(op, "", nil, vs...), r.Const("w", tensor.Of([]float64{1, 2, 3, 4, 5, 6, 7, 8}, 8)))
		grads, err := Gradients(r, y, vs[:2], nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetOutputs(grads...)
		out, err := ir.Eval(t.Context(), r.Graph(), in[:2])
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Float64s(), out[1].Float64s()
	}
	// 3 bits, scale 0.5 and zero point 1: t = 2x + 1 lies in −4…3 for x from −2.5 to 1
	dx, ds := run("thriftc.Quant", x, tensor.Scalar(0.5), tensor.Scalar(1.0), tensor.Scalar(3.0))
	if want := []float64{0, 0, 3, 4, 0, 0, 0, 0}; !slices.Equal(dx, want) {
		t.Errorf("Quant passes %v, want %v", dx, want)
	}
	// q − z is −5, −5, −1, 0, 2, 2, 2, 2, from which x/scale is taken inside
	if want := -5*1 - 5*2 + (-1+1.2)*3 + (0-0.4)*4 + 2*(5+6+7+8); math.Abs(ds[0]-want) > 1e-12 {
		t.Errorf("the scale gets %v, want %v", ds[0], want)
	}
	dx, ds = run("thriftc.BipolarQuant", x, tensor.Scalar(0.5))
	if want := []float64{0, 0, 3, 4, 0, 0, 0, 0}; !slices.Equal(dx, want) {
		t.Errorf("BipolarQuant passes %v, want %v", dx, want)
	}
	if want := float64(-1 - 2 - 3 + 4 + 5 + 6 + 7 + 8); ds[0] != want {
		t.Errorf("the scale gets %v, want %v", ds[0], want)
	}
}
