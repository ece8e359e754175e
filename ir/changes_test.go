package ir_test

import (
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestChanges exchanges a large tensor for an equal one, for another, and for what it was.
func TestChanges(t *testing.T) {
	ramp := func(last float32) *tensor.Tensor {
		x := make([]float32, 100)
		for i := range x {
			x[i] = float32(i)
		}
		x[99] = last
		return tensor.Of(x, 100)
	}
	g := irtest.Parse(t, `graph {
  input %x: f32[100]
  const %a: f32[100] = splat 1
  const %b: f32[100] = splat 1
  %y = test.Any(%x, %a, %b)
  output %y
}`, testOps)
	a, b := g.Consts[0], g.Consts[1]
	r := ir.NewRewriter(g)
	r.SetData(a, ramp(0))
	r.SetData(b, ramp(1))
	var c ir.Changes
	for i, step := range []struct {
		do   func()
		want bool
	}{
		{func() {}, true},
		{func() {}, false},
		{func() { r.SetData(a, ramp(0)) }, false},
		{func() { r.SetData(a, ramp(2)) }, true},
		{func() { r.SetData(a, ramp(0)) }, true},
		{func() { r.SetData(a, b.Data) }, true},
		{func() { r.SetData(a, ramp(1)) }, false},
		{func() { r.SetData(a, ramp(0)); r.SetData(b, ramp(1)) }, true},
		{func() { x := a.Data; r.SetData(a, b.Data); r.SetData(b, x) }, true},
		{func() { r.SetMeta("k", "v") }, true},
		{func() {}, false},
	} {
		if step.do(); c.Since(g) != step.want {
			t.Errorf("step %d: changed is %v", i, !step.want)
		}
	}
}
