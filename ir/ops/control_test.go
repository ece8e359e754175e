package ops

import (
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// bodyOf makes a body that takes inputs of the given types.
func bodyOf(parent *ir.Graph, in []ir.Type, fill func(r *ir.Rewriter, in []*ir.Value) []*ir.Value) *ir.Graph {
	g := ir.NewBody("body", parent)
	r := ir.NewRewriter(g)
	var vals []*ir.Value
	for _, t := range in {
		vals = append(vals, r.Input("b", t))
	}
	r.SetOutputs(fill(r, vals)...)
	return g
}

func evalTo(t *testing.T, g *ir.Graph, in []*tensor.Tensor, want ...*tensor.Tensor) {
	t.Helper()
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	got, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		if !tensor.Equal(got[i], w) {
			t.Errorf("output %d is %v, want %v", i, got[i].Container(), w.Container())
		}
		if !g.Outputs[i].Type.Compatible(ir.TypeOf(w)) {
			t.Errorf("output %d is inferred %v, is %v", i, g.Outputs[i].Type, ir.TypeOf(w))
		}
	}
}

var scalarI64, scalarBool = ir.TensorType(tensor.I64), ir.TensorType(tensor.Bool)

func TestIf(t *testing.T) {
	g := ir.NewGraph("g", Table())
	r := ir.NewRewriter(g)
	cond, x := r.Input("cond", scalarBool), r.Input("x", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(2)))
	// The first branch contradicts the shape of x, as exported models do where it is never taken.
	wrong := bodyOf(g, nil, func(r *ir.Rewriter, _ []*ir.Value) []*ir.Value {
		n, err := r.AddRaw("Squeeze", "", nil, []*ir.Value{x, r.Ints("axes", 1)}, "s")
		if err != nil {
			t.Fatal(err)
		}
		return n.Out
	})
	right := bodyOf(g, nil, func(r *ir.Rewriter, _ []*ir.Value) []*ir.Value { return []*ir.Value{r.Must1("Neg", "", nil, x)} })
	n, err := r.Add("If", "", ir.MakeAttrs("then_branch", wrong, "else_branch", right), []*ir.Value{cond}, "y")
	if err != nil {
		t.Fatal(err)
	}
	r.Output(n.Out[0])
	if got := n.Out[0].Type.String(); got != "f32[N,2]" {
		t.Errorf("inferred %s, want f32[N,2]", got)
	}
	evalTo(t, g, ts{tensor.Scalar(false), f32s([]float32{1, 2}, 1, 2)}, f32s([]float32{-1, -2}, 1, 2))
	if _, err := ir.Eval(t.Context(), g, ts{tensor.Scalar(true), f32s([]float32{1, 2}, 1, 2)}); err == nil {
		t.Error("the branch that contradicts the shapes ran")
	}
}

// loop sums 0…i and stacks the sums; step is captured from outside.
func loop(t *testing.T, cond func(r *ir.Rewriter, i *ir.Value) *ir.Value) *ir.Graph {
	t.Helper()
	g := ir.NewGraph("g", Table())
	r := ir.NewRewriter(g)
	m, step := r.Input("m", scalarI64), r.Input("step", scalarI64)
	body := bodyOf(g, []ir.Type{scalarI64, scalarBool, scalarI64}, func(r *ir.Rewriter, in []*ir.Value) []*ir.Value {
		sum := r.Must1("Add", "", nil, in[2], r.Must1("Mul", "", nil, in[0], step))
		return []*ir.Value{cond(r, in[0]), sum, r.Must1("Identity", "", nil, sum)}
	})
	start := r.Const("start", tensor.Scalar(int64(0)))
	n, err := r.Add("Loop", "", ir.MakeAttrs("body", body), []*ir.Value{m, nil, start}, "last", "all")
	if err != nil {
		t.Fatal(err)
	}
	r.SetOutputs(n.Out...)
	return g
}

func TestLoop(t *testing.T) {
	forever := func(r *ir.Rewriter, _ *ir.Value) *ir.Value { return r.Const("true", tensor.Scalar(true)) }
	i64 := tensor.Scalar[int64]
	evalTo(t, loop(t, forever), ts{i64(4), i64(10)}, i64(60), ints(0, 10, 30, 60))
	evalTo(t, loop(t, forever), ts{i64(0), i64(10)}, i64(0), ints())
	below2 := func(r *ir.Rewriter, i *ir.Value) *ir.Value {
		return r.Must1("Less", "", nil, i, r.Const("two", tensor.Scalar(int64(2))))
	}
	evalTo(t, loop(t, below2), ts{i64(1 << 62), i64(1)}, i64(3), ints(0, 1, 3))
}

// A carried value that grows has no fixed shape.
func TestLoopGrows(t *testing.T) {
	g := ir.NewGraph("g", Table())
	r := ir.NewRewriter(g)
	m, x := r.Input("m", scalarI64), r.Input("x", ir.TensorType(tensor.F32, ir.Fixed(1)))
	body := bodyOf(g, []ir.Type{scalarI64, scalarBool, x.Type}, func(r *ir.Rewriter, in []*ir.Value) []*ir.Value {
		return []*ir.Value{r.Const("true", tensor.Scalar(true)), r.Must1("Concat", "", ir.MakeAttrs("axis", 0), in[2], in[2])}
	})
	n, err := r.Add("Loop", "", ir.MakeAttrs("body", body), []*ir.Value{m, nil, x}, "y")
	if err != nil {
		t.Fatal(err)
	}
	r.Output(n.Out[0])
	if got := n.Out[0].Type.String(); got != "f32[?]" {
		t.Errorf("inferred %s, want f32[?]", got)
	}
	evalTo(t, g, ts{tensor.Scalar(int64(2)), f32s([]float32{7}, 1)}, f32s([]float32{7, 7, 7, 7}, 4))
}

func TestScan(t *testing.T) {
	g := ir.NewGraph("g", Table())
	r := ir.NewRewriter(g)
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Fixed(2), ir.Symbol("T")))
	row := ir.TensorType(tensor.F32, ir.Fixed(2))
	body := bodyOf(g, []ir.Type{row, row}, func(r *ir.Rewriter, in []*ir.Value) []*ir.Value {
		sum := r.Must1("Add", "", nil, in[0], in[1])
		return []*ir.Value{sum, r.Must1("Identity", "", nil, sum)}
	})
	attrs := ir.MakeAttrs("body", body, "num_scan_inputs", 1, "scan_input_axes", []int{1}, "scan_input_directions", []int{1}, "scan_output_axes", []int{1})
	n, err := r.Add("Scan", "", attrs, []*ir.Value{r.Const("zero", f32s([]float32{0, 0}, 2)), x}, "last", "all")
	if err != nil {
		t.Fatal(err)
	}
	r.SetOutputs(n.Out...)
	if got := n.Out[1].Type.String(); got != "f32[2,T]" {
		t.Errorf("inferred %s, want f32[2,T]", got)
	}
	evalTo(t, g, ts{f32s([]float32{1, 2, 3, 4, 5, 6}, 2, 3)}, f32s([]float32{6, 15}, 2), f32s([]float32{3, 5, 6, 6, 11, 15}, 2, 3))
}

func TestNestingIsBounded(t *testing.T) {
	g := ir.NewGraph("g", Table())
	var nest func(parent *ir.Graph, depth int) (*ir.Node, error)
	nest = func(parent *ir.Graph, depth int) (*ir.Node, error) {
		var inner error
		r := ir.NewRewriter(parent)
		body := bodyOf(parent, []ir.Type{scalarI64, scalarBool}, func(r *ir.Rewriter, in []*ir.Value) []*ir.Value {
			if depth > 0 {
				_, inner = nest(r.Graph(), depth-1)
			}
			return []*ir.Value{r.Must1("Identity", "", nil, in[1]), r.Must1("Identity", "", nil, in[0])}
		})
		if inner != nil {
			return nil, inner
		}
		return r.Add("Loop", "", ir.MakeAttrs("body", body), []*ir.Value{r.Const("m", tensor.Scalar(int64(1)))}, "y")
	}
	if _, err := nest(g, maxNesting-1); err != nil {
		t.Errorf("%d levels: %v", maxNesting, err)
	}
	if _, err := nest(g, maxNesting); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Errorf("%d levels: got %v, want an error about nesting", maxNesting+1, err)
	}
}
