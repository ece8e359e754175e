package lowerint

import (
	"context"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func Test(t *testing.T) { passtest.Golden(t, Info) }

// exact is a graph in which every scale is a power of two and every sum fits 24 bits.
const exact = `graph {
  input %x: f32[2,3,9,8]
  const %b: f32[] = 8
  const %s: f32[] = 0.5
  const %t: f32[] = 0.25
  const %o: f32[] = 4
  const %z: f32[] = 0
  const %zp: f32[] = 100
  const %w1: i8[8,3,3,3] = random 1
  const %w2: u5[8,1,3,3] = random 2
  const %w2z: u5[] = 17
  const %w3: i4[6,8,1,1] = random 3
  const %w4: i8[10,36] = random 4
  const %ws: f32[8] = [0.5, 0.25, 0.125, 1, 2, 0.5, 0.25, 0.125]
  const %c: f32[8] = [1, -2.5, 3, 4.125, 0.5, 10, -100, 7]
  const %bq: i32[6] = [3, -50, 7, 500, 1, -1]
  %xq = thriftc.Quant(%x, %s, %zp, %b) {signed=0}
  %v1 = DequantizeLinear(%w1, %ws) {axis=0}
  %c1 = Conv(%xq, %v1, %c) {pads=[1,1,1,1]}
  %r1 = Relu(%c1)
  %q1 = thriftc.Quant(%r1, %o, %z, %b) {signed=0}
  %v2 = DequantizeLinear(%w2, %t, %w2z)
  %c2 = Conv(%q1, %v2) {group=8, pads=[1,1,0,0], strides=[2,1]}
  %q2 = thriftc.Quant(%c2, %o, %zp, %b) {signed=1}
  %v3 = DequantizeLinear(%w3, %s)
  %b3 = DequantizeLinear(%bq, %s)
  %c3 = Conv(%q2, %v3, %b3)
  %q3 = thriftc.Quant(%c3, %o, %zp, %b) {signed=0}
  %m = MaxPool(%q3) {kernel_shape=[2,2]}
  %a = AveragePool(%q3) {kernel_shape=[2,2]}
  %aq = thriftc.Quant(%a, %o, %z, %b) {signed=1}
  %sum = Add(%m, %aq)
  %sq = thriftc.Quant(%sum, %o, %zp, %b) {signed=0}
  %l = LeakyRelu(%sq)
  %lq = thriftc.Quant(%l, %o, %z, %b) {signed=1}
  %cut = AveragePool(%lq) {kernel_shape=[2,2], strides=[1,2]}
  %cq = thriftc.Quant(%cut, %o, %z, %b) {signed=1}
  %f = Flatten(%cq) {axis=1}
  %v4 = DequantizeLinear(%w4, %s)
  %g = Gemm(%f, %v4) {transB=1}
  %y = thriftc.Quant(%g, %o, %z, %b) {signed=1}
  output %q1
  output %q2
  output %q3
  output %sq
  output %lq
  output %y
}`

// exactGraph parses exact with weights drawn at random.
func exactGraph(t *testing.T) *ir.Graph {
	rng := rand.New(rand.NewPCG(1, 2))
	src := regexp.MustCompile(`random \d`).ReplaceAllString(exact, "splat 0")
	g := irtest.Parse(t, src, ops.Table())
	r := ir.NewRewriter(g)
	for _, v := range g.Consts {
		if v.Name[0] == 'w' && v.Type.Elem.IsInt() && v.Type.Rank() > 0 {
			lo, hi := v.Type.Elem.Range()
			q := make([]int64, v.Data.Len())
			for i := range q {
				q[i] = lo + rng.Int64N(hi-lo+1)
			}
			r.SetData(v, tensor.FromInt64s(v.Type.Elem, q, v.Data.Shape()...))
		}
	}
	return g
}

func lower(t *testing.T, g *ir.Graph) *ir.Graph {
	t.Helper()
	low := g.Clone()
	steps, err := (&passes.Table{Passes: []passes.Info{Info}}).Parse("lowerint")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := passes.Run(&passes.Context{Context: t.Context()}, low, steps, passes.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return low
}

// Where scales are powers of two the integer level computes the fake-quantised
// graph's results, bit for bit.
func TestPowersOfTwoAreExact(t *testing.T) {
	g := exactGraph(t)
	low := lower(t, g)
	for _, n := range low.Nodes {
		if n.Op.Name == "thriftc.Quant" {
			t.Errorf("%s is still there", n.Label())
		}
	}
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 0))
		x := make([]float32, 2*3*9*8)
		for i := range x {
			x[i] = float32(rng.NormFloat64() * 30)
		}
		in := []*tensor.Tensor{tensor.Of(x, 2, 3, 9, 8)}
		want, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), low, in)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			irtest.Equal(t, low.Outputs[i].Name, got[i], want[i])
			if v := want[i].Float32s(); !slices.ContainsFunc(v, func(x float32) bool { return x != v[0] }) {
				t.Errorf("%s is %v everywhere, which tests nothing", low.Outputs[i].Name, v[0])
			}
		}
	}
}

// fewKernels is an engine that has no kernel for some operators, or none for integers alone.
type fewKernels struct {
	backends.Engine
	without []string
	floats  bool // for floats it has them
}

func (e fewKernels) Unserved(_ context.Context, g *ir.Graph) ([]*ir.Node, error) {
	var out []*ir.Node
	for _, n := range g.Nodes {
		if slices.Contains(e.without, n.Op.Name) && !(e.floats && n.Out[0].Type.Elem == tensor.F32) {
			out = append(out, n)
		}
	}
	return out, nil
}

// What the engine has no integer kernel for stays float, with the same results, and what follows it
// gets integers all the same; what it has no kernel for at either level becomes integers.
func TestWithoutKernels(t *testing.T) {
	for _, engine := range []fewKernels{
		{without: []string{"thriftc.QAdd"}},
		{without: []string{"thriftc.QConv"}},
		{without: []string{"thriftc.QGemm", "thriftc.Lookup"}},
		{without: []string{"thriftc.QAveragePool", "MaxPool"}, floats: true},
		{without: []string{"MaxPool"}},
	} {
		without := engine.without
		g := exactGraph(t)
		low := g.Clone()
		steps, err := (&passes.Table{Passes: []passes.Info{Info}}).Parse("lowerint")
		if err != nil {
			t.Fatal(err)
		}
		c := &passes.Context{Context: t.Context(), Engine: engine}
		if _, err := passes.Run(c, low, steps, passes.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		used := map[string]int{}
		for _, n := range low.Nodes {
			used[n.Op.Name]++
			if n.Op.Name == "MaxPool" && without[0] == "MaxPool" && n.Out[0].Type.Elem != tensor.U8 {
				t.Error("MaxPool stays float, though that has no kernel either")
			}
			if n.Op.Name == "MaxPool" && engine.floats && n.Out[0].Type.Elem != tensor.F32 {
				t.Error("MaxPool became integers, for which there is no kernel")
			}
		}
		for _, op := range without {
			if used[op] > 0 && op != "MaxPool" {
				t.Errorf("without %v there are %d of %s", without, used[op], op)
			}
		}
		if used["thriftc.QConv"]+used["thriftc.QGemm"] == 0 {
			t.Errorf("without %v nothing is left", without)
		}
		x := make([]float32, 2*3*9*8)
		rng := rand.New(rand.NewPCG(1, 0))
		for i := range x {
			x[i] = float32(rng.NormFloat64() * 30)
		}
		in := []*tensor.Tensor{tensor.Of(x, 2, 3, 9, 8)}
		want, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), low, in)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			irtest.Equal(t, low.Outputs[i].Name, got[i], want[i])
		}
	}
}
