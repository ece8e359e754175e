package grad

import (
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

func parse(t *testing.T, src string) *ir.Graph {
	t.Helper()
	g, err := ir.Parse("t.tir", src, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A value with several uses, a node with several outputs, and one that does not matter.
func TestBuild(t *testing.T) {
	g := parse(t, `graph {
  input %x: f32[4]
  input %w: f32[2]
  const %two: i64[2] = [2, 2]
  %a, %b = Split(%x, %two) {axis = 0}
  %c = Mul(%a, %w)
  %d = Mul(%c, %a)
  %unused = Hardmax(%b)
  %y = ReduceSum(%d) {keepdims = 0}
  output %y
}`)
	y := g.Outputs[0]
	grads, err := Build(y, []*ir.Value{g.Inputs[1], g.Inputs[0]})
	if err != nil {
		t.Fatal(err)
	}
	r := ir.NewRewriter(g)
	for _, d := range grads {
		r.Output(d)
	}
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	out, err := ir.Eval(t.Context(), g, []*tensor.Tensor{tensor.Of([]float32{2, 3, 5, 7}, 4), tensor.Of([]float32{10, 100}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*tensor.Tensor{tensor.Scalar(float32(940)), tensor.Of([]float32{4, 9}, 2), tensor.Of([]float32{40, 600, 0, 0}, 4)} {
		if !tensor.Equal(out[i], want) {
			t.Errorf("output %d is %v, want %v", i, out[i].Float32s(), want.Float32s())
		}
	}
}

// What cannot be differentiated is named, all of it.
func TestObstacles(t *testing.T) {
	g := parse(t, `graph {
  input %x: f32[4]
  input %z: f32[4]
  %a = Hardmax(%x) name "first"
  %b = Add(%a, %x)
  %c = Hardmax(%b) name "second"
  %free = Hardmax(%z) name "beside"
  %d = Mul(%c, %free)
  %y = ReduceSum(%d) {keepdims = 0}
  output %y
}`)
	_, err := Build(g.Outputs[0], g.Inputs[:1])
	check := Check(g.Outputs[0], g.Inputs[:1])
	if err == nil || check == nil || err.Error() != check.Error() {
		t.Fatalf("Build says %v, Check %v", err, check)
	}
	for _, name := range []string{"first", "second"} {
		if !strings.Contains(err.Error(), "Hardmax "+name+" has no gradient") {
			t.Errorf("%v does not name %q", err, name)
		}
	}
	if strings.Contains(err.Error(), "beside") {
		t.Errorf("%v names a node that does not matter", err)
	}
	g = parse(t, "graph {\n  input %x: f32[1]\n  input %z: f32[1]\n  %y = Mul(%x, %x)\n  output %y\n}")
	if _, err := Build(g.Outputs[0], g.Inputs); err == nil || !strings.Contains(err.Error(), "%y does not depend on %z") {
		t.Errorf("got %v, want that %%y does not depend on %%z", err)
	}
}
