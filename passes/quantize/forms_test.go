package quantize

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/canonicalize"
	"github.com/thriftc/thriftc/passes/widen"
)

// forms are layers and what surrounds them in the less usual forms that ONNX has for them. Constants named w…
// hold random numbers.
var forms = map[string]string{
	"a constant beyond the range of what it is concatenated with": `
  const %w1: f32[4,3,3,3] = splat 0
  const %c: f32[1,2,8,8] = splat 30
  const %w2: f32[3,6,1,1] = splat 0
  %a = Conv(%x, %w1) {pads=[1,1,1,1]}
  %d = Concat(%a, %c) {axis=1}
  %y = Conv(%d, %w2)
  output %y`,
	"constants in nested concatenations": `
  const %c: f32[1,1,8,8] = splat -9
  const %zero: i64[1] = [0]
  const %one: i64[1] = [1]
  const %three: i64[1] = [3]
  const %w2: f32[3,4,1,1] = splat 0
  %r = Relu(%x)
  %a = Concat(%c, %r) {axis=1}
  %t = Transpose(%a) {perm=[0,1,3,2]}
  %d = Slice(%t, %zero, %three, %one)
  %e = Concat(%c, %d) {axis=1}
  %y = Conv(%e, %w2)
  output %y`,
	"a constant in a concatenation that holds infinity": `
  const %c: f32[1,3,1,8] = splat -inf
  const %w2: f32[3,3,1,1] = splat 0
  %d = Concat(%c, %x) {axis=2}
  %m = MaxPool(%d) {kernel_shape=[2,2]}
  %y = Conv(%m, %w2)
  output %y`,
	"padding that a MaxPool never returns": `
  const %pads: i64[8] = [0, 0, 1, 1, 0, 0, 1, 1]
  const %lowest: f32[] = -3.4028235e38
  const %w1: f32[4,3,3,3] = splat 0
  const %w2: f32[3,4,1,1] = splat 0
  %a = Conv(%x, %w1) {pads=[1,1,1,1]}
  %p = Pad(%a, %pads, %lowest)
  %m = MaxPool(%p) {kernel_shape=[3,3], strides=[2,2], ceil_mode=1}
  %y = Conv(%m, %w2)
  output %y`,
	"finite padding that a MaxPool never returns": `
  const %pads: i64[8] = [0, 0, 1, 1, 0, 0, 1, 1]
  const %low: f32[] = -10000
  const %w2: f32[3,3,1,1] = splat 0
  %p = Pad(%x, %pads, %low)
  %m = MaxPool(%p) {kernel_shape=[3,3]}
  %y = Conv(%m, %w2)
  output %y`,
	"padding that a Conv reads": `
  const %pads: i64[8] = [0, 0, 1, 1, 0, 0, 1, 1]
  const %low: f32[] = -7
  const %w2: f32[3,3,3,3] = splat 0
  %p = Pad(%x, %pads, %low)
  %y = Conv(%p, %w2)
  output %y`,
	"alpha and beta": `
  const %w: f32[192,8] = splat 0
  const %wb: f32[8] = splat 0
  %f = Flatten(%x)
  %y = Gemm(%f, %w, %wb) {alpha=0.25, beta=-3.0}
  output %y`,
	"alpha of weights with other users": `
  const %w: f32[192,8] = splat 0
  const %wb: f32[1,8] = splat 0
  %f = Flatten(%x)
  %y = Gemm(%f, %w, %wb) {alpha=4.0}
  %z = Gemm(%f, %w, %wb) {beta=2.0}
  output %y, %z`,
	"one number added to a product": `
  const %w: f32[8,192] = splat 0
  const %b: f32[] = 5
  %f = Flatten(%x)
  %y = Gemm(%f, %w, %b) {transB=1}
  output %y`,
	"a computed addend": `
  const %w: f32[192,8] = splat 0
  const %w2: f32[192,8] = splat 0
  %f = Flatten(%x)
  %g = MatMul(%f, %w2)
  %y = Gemm(%f, %w, %g) {alpha=0.5, beta=4.0}
  output %y`,
	"transposed input": `
  const %w: f32[192,8] = splat 0
  const %wb: f32[8] = splat 0
  %f = Flatten(%x)
  %t = Transpose(%f) {perm=[1,0]}
  %r = Relu(%t)
  %y = Gemm(%r, %w, %wb) {transA=1}
  output %y`,
	"weights on the left of a vector": `
  const %lead: i64[3] = [0, 1, 2]
  const %w: f32[5,8] = splat 0
  %s = ReduceMean(%x, %lead) {keepdims=0}
  %y = MatMul(%w, %s)
  output %y`,
	"a stack of weights and a bias": `
  const %w: f32[3,8,6] = splat 0
  const %b: f32[6] = splat 2
  %m = MatMul(%x, %w)
  %y = Add(%m, %b)
  output %y`,
	"weights that two layers share, one without bias": `
  const %w: f32[3,3,3,3] = splat 0
  const %b: f32[3] = splat 1
  %a = Conv(%x, %w, %b) {pads=[1,1,1,1]}
  %r = Relu(%a)
  %y = Conv(%r, %w) {pads=[1,1,1,1]}
  output %y`,
	"weights that see other channels of their users": `
  const %w: f32[8,8] = splat 0
  %a = MatMul(%x, %w)
  %r = Relu(%a)
  %t = ReduceMean(%r, %axes) {keepdims=0}
  %y = Gemm(%t, %w) {transB=1}
  output %y`,
	"a computed bias": `
  const %w: f32[4,3,1,1] = splat 0
  const %all: i64[4] = [0, 1, 2, 3]
  const %four: i64[1] = [4]
  %s = ReduceMean(%x, %all) {keepdims=0}
  %b = Expand(%s, %four)
  %y = Conv(%x, %w, %b)
  output %y`,
	"inputs that never change": `
  const %w: f32[4,3,1,1] = splat 0
  const %b: f32[4] = splat 0.1
  const %w2: f32[2,4,1,1] = splat 0
  const %none: f32[] = 0
  %n = Mul(%x, %none)
  %a = Conv(%n, %w, %b)
  %y = Conv(%a, %w2)
  output %y`,
	"weights that vanish beside the bias": `
  const %tiny: f32[2,3,3,3] = splat 1e-30
  const %b: f32[2] = [5, -3]
  const %w2: f32[4,2,1,1] = splat 0
  %a = Conv(%x, %tiny, %b) {pads=[1,1,1,1]}
  %y = Conv(%a, %w2)
  output %y`,
	"a choice between a tensor and a constant": `
  const %w: f32[4,3,1,1] = splat 0
  const %c: f32[1,3,8,8] = splat 12
  const %limit: f32[] = 0.5
  %g = Greater(%x, %limit)
  %s = Where(%g, %x, %c)
  %y = Conv(%s, %w)
  output %y`,
	"the greater of a tensor and a constant": `
  const %w: f32[4,3,1,1] = splat 0
  const %c: f32[1,3,1,1] = [-0.5, 4, 0]
  %m = Max(%x, %c)
  %y = Conv(%m, %w)
  output %y`,
}

// TestForms holds every form against the float model, with and without adaptive rounding, as it stands and after
// canonicalize.
func TestForms(t *testing.T) {
	table := &passes.Table{Passes: []passes.Info{canonicalize.Info, Info}}
	for name, body := range forms {
		for _, c := range []struct {
			pipeline string
			least    float64 // dB
		}{
			{"quantize", 26},
			{"canonicalize,quantize", 26},
			{"quantize{act-affine,signed-acts,weight-affine,observer=minmax}", 26},
			{"canonicalize,quantize{recon}", 26},
			{"quantize{recon}", 26},
			{"quantize{recon,weight-bits=4}", 9},
			{"canonicalize,quantize{recon,weight-bits=4}", 9},
		} {
			t.Run(name+"/"+c.pipeline, func(t *testing.T) {
				g := irtest.Parse(t, "graph {\n  input %x: f32[1,3,8,8]\n  const %axes: i64[2] = [0, 1]"+body+"\n}", ops.Table())
				fill(g)
				q := g.Clone()
				steps, err := table.Parse(c.pipeline)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := passes.Run(calibrated(1), q, steps, passes.RunOptions{}); err != nil {
					t.Fatal(err)
				}
				if got := worst(t, g, q); got < c.least {
					t.Errorf("outputs within %.1f dB, want at least %v", got, c.least)
				}
			})
		}
	}
}

// TestHalf quantises a model that computes in f16 or bf16, once it is widened.
func TestHalf(t *testing.T) {
	for _, elem := range []tensor.Elem{tensor.F16, tensor.BF16} {
		g := irtest.Parse(t, strings.ReplaceAll(strings.ReplaceAll(`graph {
  input %x: f32[1,3,8,8]
  const %w1: HALF[8,3,3,3] = splat 0
  const %w2: HALF[5,8] = splat 0
  const %wb: HALF[5] = splat 0
  %h = Cast(%x) {to=TYPE}
  %a = Conv(%h, %w1)
  %r = Relu(%a)
  %p = GlobalAveragePool(%r)
  %f = Flatten(%p)
  %y = Gemm(%f, %w2, %wb) {transB=1, alpha=2.0}
  output %y
}`, "HALF", elem.String()), "TYPE", strconv.Itoa(elem.ONNXType())), ops.Table())
		fill(g)
		q := g.Clone()
		steps, err := (&passes.Table{Passes: []passes.Info{widen.Info, canonicalize.Info, Info}}).Parse("widen,canonicalize,quantize{recon}")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := passes.Run(calibrated(1), q, steps, passes.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := worst(t, g, q); got < 30 {
			t.Errorf("%v: outputs within %.1f dB, want at least 30", elem, got)
		}
		weights := 0
		for _, v := range q.Consts {
			if v.Type.Elem == tensor.I8 {
				weights += v.Data.Len()
			}
		}
		if weights != 8*3*3*3+5*8 {
			t.Errorf("%v: %d numbers are stored in 8 bits, expected both weights", elem, weights)
		}
	}
}

// fill gives the constants named w… random numbers.
func fill(g *ir.Graph) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := ir.NewRewriter(g)
	for _, v := range g.Consts {
		if !strings.HasPrefix(v.Name, "w") {
			continue
		}
		x := make([]float32, v.Data.Len())
		for i := range x {
			x[i] = float32(rng.NormFloat64() / 4)
		}
		r.SetData(v, tensor.FromFloat32s(v.Type.Elem, x, v.Data.Shape()...))
	}
}

// worst measures how close the outputs of a quantised graph come to those of the float one, in dB.
func worst(t *testing.T, g, q *ir.Graph) float64 {
	t.Helper()
	signal, noise := make([]float64, len(g.Outputs)), make([]float64, len(g.Outputs))
	for in := range (samples{16, []int{3, 8, 8}}).Batches(1) {
		want, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), q, in)
		if err != nil {
			t.Fatal(err)
		}
		for j := range want {
			for i, y := range want[j].Float64s() {
				signal[j] += y * y
				noise[j] += square(y - got[j].Float64s()[i])
			}
		}
	}
	least := 200.0
	for j := range signal {
		least = min(least, decibel(signal[j], noise[j]))
	}
	return least
}
