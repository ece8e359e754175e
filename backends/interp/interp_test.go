package interp

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// testOps is a tiny operator table: the plan must not need to know operators.
var testOps = ir.NewRegistry(
	&ir.Op{Name: "Inc", In: "X", Out: "Y", Infer: sameType, Eval: func(_ *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x := slices.Clone(in[0].Float32s())
		for i := range x {
			x[i]++
		}
		return []*tensor.Tensor{tensor.Of(x, in[0].Shape()...)}, nil
	}},
	&ir.Op{Name: "Share", In: "X", Out: "Y", Infer: sameType, Eval: func(_ *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return in[:1], nil
	}},
	&ir.Op{Name: "Boom", In: "X", Out: "Y", Infer: sameType, Eval: func(*ir.Node, []*tensor.Tensor) ([]*tensor.Tensor, error) {
		panic("boom")
	}},
	&ir.Op{Name: "Liar", In: "X", Out: "Y", Infer: sameType, Eval: func(*ir.Node, []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return []*tensor.Tensor{tensor.Scalar[float32](0)}, nil
	}},
	&ir.Op{Name: "Shape", In: "X", Out: "Y", Infer: func(n *ir.Node) ([]ir.Type, error) {
		n.Out[0].Contents = n.In[0].Type.Dims
		return []ir.Type{ir.TensorType(tensor.I64, ir.Fixed(len(n.In[0].Type.Dims)))}, nil
	}},
)

func sameType(n *ir.Node) ([]ir.Type, error) { return []ir.Type{n.In[0].Type}, nil }

// chain builds a graph of operators of one input each.
func chain(t *testing.T, ops ...string) *ir.Graph {
	t.Helper()
	g := ir.NewGraph("g", testOps)
	r := ir.NewRewriter(g)
	v := r.Input("x", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(2)))
	for _, op := range ops {
		n, err := r.Add(op, "", nil, []*ir.Value{v})
		if err != nil {
			t.Fatal(err)
		}
		v = n.Out[0]
	}
	r.Output(v)
	return g
}

func compile(t *testing.T, g *ir.Graph, threads int) backends.Executable {
	t.Helper()
	return compileWith(t, g, backends.Options{Threads: threads})
}

func compileWith(t *testing.T, g *ir.Graph, o backends.Options) backends.Executable {
	t.Helper()
	x, err := New().Compile(t.Context(), g, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

func TestRunBatches(t *testing.T) {
	x := compile(t, chain(t, "Inc", "Share", "Inc"), 2)
	for _, n := range []int{1, 3, 0, 1, 5, 6, 7, 8, 9, 10, 11, 1} {
		in := tensor.New(tensor.F32, n, 2)
		out, err := x.Run(t.Context(), []*tensor.Tensor{in})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out[0].Shape(), in.Shape()) {
			t.Fatalf("shape %v, want %v", out[0].Shape(), in.Shape())
		}
		for _, v := range out[0].Float32s() {
			if v != 2 {
				t.Fatalf("batch %d: got %v", n, v)
			}
		}
	}
	if k := len(x.(*executable).plans); k != maxPlans {
		t.Errorf("%d plans kept, want %d", k, maxPlans)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []*tensor.Tensor
		want string
	}{
		{"no inputs", nil, "1 inputs, got 0"},
		{"missing", []*tensor.Tensor{nil}, `input "x" is missing`},
		{"element type", []*tensor.Tensor{tensor.New(tensor.I8, 1, 2)}, `input "x" is f32[N,2], got i8[1,2]`},
		{"shape", []*tensor.Tensor{tensor.New(tensor.F32, 1, 3)}, `input "x" is f32[N,2], got shape [1 3]`},
	} {
		_, err := compile(t, chain(t, "Inc"), 1).Run(t.Context(), c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestRunReportsTheNode(t *testing.T) {
	for op, want := range map[string]string{"Boom": "Boom %", "Liar": "has shape [], expected [1 2]", "Shape": ""} {
		g := chain(t, "Inc", op)
		if op == "Shape" { // inference knows the result: nothing to evaluate
			if _, err := compile(t, g, 1).Run(t.Context(), []*tensor.Tensor{tensor.New(tensor.F32, 1, 2)}); err != nil {
				t.Errorf("Shape: %v", err)
			}
			continue
		}
		_, err := compile(t, g, 1).Run(t.Context(), []*tensor.Tensor{tensor.New(tensor.F32, 1, 2)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", op, err, want)
		}
	}
}

func TestRunStops(t *testing.T) {
	x := compile(t, chain(t, "Inc"), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Run(ctx, []*tensor.Tensor{tensor.New(tensor.F32, 1, 2)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	x.Close()
	if _, err := x.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("closed: %v", err)
	}
}

func TestArena(t *testing.T) {
	offsets := make([]int, 5)
	blocks := []*block{
		{from: 0, to: 1, size: 16, offset: &offsets[0]},
		{from: 1, to: 2, size: 64, offset: &offsets[1]},
		{from: 2, to: 3, size: 32, offset: &offsets[2]},
		{from: 3, to: 4, size: 64, offset: &offsets[3]},
		{from: 0, to: 4, size: 16, offset: &offsets[4]},
	}
	all := slices.Clone(blocks)
	total := pack(blocks)
	if total != 112 { // steps 2 and 3 hold 64+32+16
		t.Errorf("arena of %d, want 112", total)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.from <= b.to && b.from <= a.to && *a.offset < *b.offset+b.size && *b.offset < *a.offset+a.size {
				t.Errorf("blocks %+v at %d and %+v at %d overlap", a, *a.offset, b, *b.offset)
			}
		}
	}
}

func TestCancelledRunReturns(t *testing.T) {
	b := newBuilder(t, 1)
	v := b.data(8, 64, 56, 56)
	for range 12 {
		v = b.node("Conv", []*ir.Value{v, b.weights(64, 64, 3, 3)}, "pads", []int{1, 1, 1, 1})
	}
	b.Output(v)
	x := compile(t, b.Graph(), 2)
	if _, err := x.(*executable).plan(t.Context(), b.in); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	start := time.Now()
	_, err := x.Run(ctx, b.in)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	t.Logf("returned %v after the start, cancelled at 5 ms", time.Since(start))
	if d := time.Since(start); d > time.Second { // far more than the 50 ms it may take: other work may run beside it
		t.Errorf("took %v", d)
	}
}

// Executables of one graph share its constants; each runs on its own.
func TestConcurrentExecutables(t *testing.T) {
	b := newBuilder(t, 2)
	v := b.node("Relu", []*ir.Value{b.node("Conv", []*ir.Value{b.data(2, 8, 20, 20), b.weights(12, 8, 3, 3)})})
	b.Output(v)
	want, err := ir.Eval(t.Context(), b.Graph(), b.in)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			x, err := New().Compile(t.Context(), b.Graph(), backends.Options{Threads: 1 + i%3, NoWinograd: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer x.Close()
			for range 5 {
				got, err := x.Run(t.Context(), b.in)
				if err != nil || !tensor.Equal(got[0], want[0]) {
					t.Errorf("differs, error %v", err)
				}
			}
		})
	}
	wait.Wait()
}
