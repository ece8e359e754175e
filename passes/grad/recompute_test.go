package grad

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// deep returns a chain of convolutions with batch norm and Relu, with a loss and the
// gradients of all kernels as outputs, and its inputs.
func deep(t *testing.T, layers int) (*ir.Graph, []*tensor.Tensor) {
	t.Helper()
	r := ir.NewRewriter(ir.NewGraph("deep", ops.Table()))
	rng := rand.New(rand.NewPCG(1, 2))
	numbers := func(shape ...int) *tensor.Tensor {
		x := make([]float32, tensor.New(tensor.F32, shape...).Len())
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return tensor.Of(x, shape...)
	}
	add := func(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
		n, err := r.Add(op, "", attrs, in)
		if err != nil {
			t.Fatal(err)
		}
		return n.Out[0]
	}
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(3), ir.Fixed(6), ir.Fixed(6)))
	in := []*tensor.Tensor{numbers(2, 3, 6, 6)}
	var wrt []*ir.Value
	v := x
	for range layers {
		w := r.Param("w", numbers(3, 3, 3, 3))
		wrt = append(wrt, w)
		v = add("Conv", ir.MakeAttrs("pads", []int{1, 1, 1, 1}), v, w)
		v = add("thriftc.BatchNormTrain", nil, v, r.Const("scale", tensor.Of([]float32{1, 2, 3}, 3)), r.Const("bias", tensor.Of([]float32{1, 0, 1}, 3)))
		v = add("Relu", nil, v)
	}
	loss := add("ReduceMean", ir.MakeAttrs("keepdims", 0), add("Mul", nil, v, v))
	grads, err := Build(loss, wrt)
	if err != nil {
		t.Fatal(err)
	}
	r.SetOutputs(append(grads, loss)...)
	return r.Graph(), in
}

func TestRecompute(t *testing.T) {
	g, in := deep(t, 8)
	want, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		t.Fatal(err)
	}
	nodes := len(g.Nodes)
	n := map[string]int{"N": 2}
	same, _, err := Recompute(g, 1<<30, n)
	if err != nil || len(g.Nodes) != nodes {
		t.Fatalf("a budget that is not needed changes the graph, %v", err)
	}
	for _, share := range []int64{80, 70, 0} {
		g, _ := deep(t, 8)
		budget := same * share / 100
		before, after, err := Recompute(g, budget, n)
		if err != nil {
			t.Fatal(err)
		}
		if before != same || after >= before || share > 0 && after > budget {
			t.Errorf("with a budget of %d the peak goes from %d to %d", budget, before, after)
		}
		if err := ir.Verify(g); err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, tensor.Equal) {
			t.Errorf("with a budget of %d results change", budget)
		}
		if text := fmt.Sprint(ir.Format(g)); strings.Count(text, "BatchNormTrain(") != 8 || strings.Count(text, "Conv(") != 8 {
			t.Errorf("with a budget of %d statistics or convolutions are computed again:\n%s", budget, text)
		}
	}
	if _, _, err := Recompute(g, 0, nil); err == nil || !strings.Contains(err.Error(), "its size is not known") {
		t.Errorf("without the batch: %v", err)
	}
}
