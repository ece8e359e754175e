package interp

import (
	"context"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestState runs a graph that changes its parameters: two that change places,
// and one that adds up the inputs and is also an output.
func TestState(t *testing.T) {
	const text = `
graph "sums" {
  input %x: f32[2]
  param %sum: f32[2] = [0,0]
  param %a: f32[2] = [1,2]
  param %b: f32[2] = [3,4]
  %next = Add(%sum, %x)
  output %next
  update %sum = %next
  update %a = %b
  update %b = %a
}
`
	g, err := ir.Parse("sums", text, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	s := backends.NewState()
	var exes [2]backends.Executable
	for i := range exes {
		if exes[i], err = New().Compile(ctx, g, backends.Options{State: s}); err != nil {
			t.Fatal(err)
		}
		defer exes[i].Close()
	}
	for i := range 3 {
		out, err := exes[i%2].Run(ctx, []*tensor.Tensor{tensor.Of([]float32{1, 10}, 2)})
		if err != nil {
			t.Fatal(err)
		}
		want := tensor.Of([]float32{float32(i + 1), float32(10 * (i + 1))}, 2)
		if len(out) != 1 || !tensor.Equal(out[0], want) || !tensor.Equal(s.Get("sum"), want) {
			t.Errorf("run %d: output %v, state %v, want %v", i, out[0].Float32s(), s.Get("sum").Float32s(), want.Float32s())
		}
	}
	if got := s.Get("a").Float32s(); got[0] != 3 || got[1] != 4 {
		t.Errorf("a is %v after three changes of places", got)
	}
	if err := s.Set("sum", tensor.Of([]float32{5}, 1)); err == nil {
		t.Error("a parameter took a value of another shape")
	}
	if err := s.Set("c", tensor.Of([]float32{5}, 1)); err == nil {
		t.Error("an unknown parameter took a value")
	}
	if _, err := exes[0].Run(ctx, nil); err == nil || err.Error() != "the graph has 1 inputs, got 0" {
		t.Errorf("without inputs: %v", err)
	}
}
