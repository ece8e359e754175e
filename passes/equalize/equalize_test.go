package equalize

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func Test(t *testing.T) { passtest.Golden(t, Info) }

// chain is a network with every kind of layer and operator that pairs span.
func chain(t *testing.T) *ir.Graph {
	g := irtest.Parse(t, `graph {
  input %x: f32[N,3,8,8]
  const %w1: f32[8,3,3,3] = splat 0
  const %b1: f32[8] = splat 0
  const %w2: f32[8,1,3,3] = splat 0
  const %w3: f32[6,4,1,1] = splat 0
  const %b3: f32[6] = splat 0
  const %w4: f32[54,5] = splat 0
  const %w5: f32[4,5] = splat 0
  const %b5: f32[4] = splat 0
  %a = Conv(%x, %w1, %b1) {pads=[1,1,1,1]}
  %r = Relu(%a)
  %c = Conv(%r, %w2) {group=8,pads=[1,1,1,1],strides=[2,2]}
  %s = LeakyRelu(%c)
  %d = Conv(%s, %w3, %b3) {group=2}
  %u = Relu(%d)
  %p = MaxPool(%u) {kernel_shape=[2,2]}
  %f = Flatten(%p)
  %h = Gemm(%f, %w4)
  %k = Relu(%h)
  %y = Gemm(%k, %w5, %b5) {transB=1}
  output %y
}`, ops.Table())
	rng := rand.New(rand.NewPCG(1, 2))
	r := ir.NewRewriter(g)
	for _, v := range g.Consts {
		x := make([]float32, v.Data.Len())
		for i := range x {
			x[i] = float32(rng.NormFloat64() * math.Exp2(6*rng.Float64()))
		}
		r.SetData(v, tensor.Of(x, v.Data.Shape()...))
	}
	return g
}

func TestFunctionStays(t *testing.T) {
	g := chain(t)
	in := irtest.Inputs(g, 3)
	want, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		t.Fatal(err)
	}
	table := &passes.Table{Passes: []passes.Info{Info}}
	steps, err := table.Parse("equalize{sweeps=100}")
	if err != nil {
		t.Fatal(err)
	}
	res, err := passes.Run(&passes.Context{}, g, steps, passes.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p := res.Steps[0].Stats[0]; p.Name != "pairs" || p.Value != 4 {
		t.Errorf("stat %v, want 4 pairs", p)
	}
	got, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		t.Fatal(err)
	}
	top := 0.0
	for _, y := range want[0].Float64s() {
		top = max(top, math.Abs(y))
	}
	irtest.Close(t, "output", got[0], want[0], 1e-5*top, 0)
	// Each channel between the first two layers spans the same in both.
	n1, n2 := g.Nodes[0], g.Nodes[2]
	r1, r2 := spans(n1, outputOf(n1)), spans(n2, inputOf(n2))
	for i := range r1 {
		if math.Abs(r1[i]/r2[i]-1) > 0.01 {
			t.Errorf("channel %d spans %v and %v", i, r1[i], r2[i])
		}
	}
}

func spans(n *ir.Node, channel func(int) int) []float64 {
	out := make([]float64, 8)
	for i, w := range n.In[1].Data.Float64s() {
		out[channel(i)] = max(out[channel(i)], math.Abs(w))
	}
	return out
}

// TestAbsorb checks that moving a bias on keeps the function for inputs that
// leave the channel on, and takes the recorded mean along.
func TestAbsorb(t *testing.T) {
	g := irtest.Parse(t, `graph {
  meta "thriftc.moments/a" = "{\"mean\":[10,0],\"std\":[1,1]}"
  input %x: f32[N,1,2,2]
  const %w: f32[2,1,1,1] = [1, 1]
  const %b: f32[2] = [10, 0]
  const %v: f32[1,2,1,1] = [2, 1]
  %a = Conv(%x, %w, %b)
  %r = Relu(%a)
  %y = Conv(%r, %v)
  output %y
}`, ops.Table())
	in := []*tensor.Tensor{tensor.Of([]float32{-3, -1, 0.5, 2.5}, 1, 1, 2, 2)}
	want, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		t.Fatal(err)
	}
	o := &Equalize{Absorb: true}
	if err := o.Run(&passes.Context{}, g); err != nil {
		t.Fatal(err)
	}
	got, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		t.Fatal(err)
	}
	irtest.Close(t, "output", got[0], want[0], 1e-5, 0)
	if b := g.Nodes[0].In[2].Data.Float32s(); !slices.Equal(b, []float32{3, 0}) {
		t.Errorf("bias %v, want 3 and 0: 7 = 10 − 3·1 is moved", b)
	}
	if m, _, _ := passes.MomentsOf(g.Nodes[0].Out[0]); m.Mean[0] != 3 {
		t.Errorf("recorded mean %v, want 3", m.Mean[0])
	}
}
