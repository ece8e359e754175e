package ops

import (
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Gradient of y = (a·b + a): values, and what it refuses.
func TestGradient(t *testing.T) {
	vec := ir.TensorType(tensor.F32, ir.Dims(2)...)
	build := func(op string, typeB ir.Type, xs []string) (*ir.Graph, error) {
		r := ir.NewRewriter(ir.NewGraph("t", Table()))
		a, b := r.Input("a", vec), r.Input("b", typeB)
		p := r.Must1("Mul", "", nil, a, b)
		in := []*ir.Value{p, a}
		if len(Table().Lookup(op).Inputs()) == 1 {
			in = in[:1]
		}
		y, err := r.Add(op, "", nil, in, "y")
		if err != nil {
			t.Fatal(err)
		}
		n, err := r.AddRaw("ai.onnx.preview.training.Gradient", "g", ir.MakeAttrs("xs", xs, "y", "y"), []*ir.Value{a, b}, "da", "db")
		if err != nil {
			t.Fatal(err)
		}
		r.SetOutputs(append([]*ir.Value{y.Out[0]}, n.Out...)...)
		if err := n.Op.Import(r, n, 1); err != nil {
			return nil, err
		}
		return r.Graph(), ir.Verify(r.Graph())
	}
	g, err := build("Add", vec, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := ir.Eval(t.Context(), g, []*tensor.Tensor{tensor.Of([]float32{2, 3}, 2), tensor.Of([]float32{5, -7}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]float32{{12, -18}, {6, -6}, {2, 3}} {
		if !tensor.Equal(out[i], tensor.Of(want, 2)) {
			t.Errorf("output %d is %v, want %v", i, out[i].Float32s(), want)
		}
	}
	for _, c := range []struct {
		op   string
		b    ir.Type
		xs   []string
		want string
	}{
		{"Hardmax", vec, []string{"a", "b"}, "Hardmax %y has no gradient: "},
		{"Add", ir.TensorType(tensor.F32, ir.Symbol("n")), []string{"a", "b"}, "cannot be told"},
		{"Add", vec, []string{"b", "a"}, `not the value "b"`},
		{"Add", vec, []string{"a"}, "2 inputs and 2 outputs for 1 xs"},
	} {
		if _, err := build(c.op, c.b, c.xs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %v, %v: got %v, want %q", c.op, c.b, c.xs, err, c.want)
		}
	}
}
