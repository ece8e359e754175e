package interp_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// suite is graphs that every engine and level must agree on. Inputs whose names begin with w
// are weights: constants with random elements. The comment over a case says what it is about.
var suite = []struct{ name, graph string }{
	// The sum is fused into the product, whose pixels are one line unless x has a halo for the other.
	{"operand with a halo", `
		input %x: f32[N,16,5,7]
		input %w: f32[16,16,1,1]
		input %w3: f32[4,16,3,3]
		%c = Conv(%x, %w)
		%r = Relu(%c)
		%y = Add(%r, %x)
		%z = Conv(%x, %w3) {pads=[1,1,1,1]}
		output %y
		output %z`},
	{"residual block", `
		input %x: f32[N,3,9,8]
		input %w0: f32[16,3,3,3]
		input %w1: f32[16,16,3,3]
		input %w2: f32[16,16,3,3]
		input %w3: f32[32,16,1,1]
		%a = Conv(%x, %w0) {pads=[1,1,1,1]}
		%b = Relu(%a)
		%c = Conv(%b, %w1) {pads=[1,1,1,1]}
		%d = Relu(%c)
		%e = Conv(%d, %w2) {pads=[1,1,1,1]}
		%f = Add(%e, %b)
		%g = Relu(%f)
		%h = Conv(%g, %w3) {strides=[2,2]}
		%i = GlobalAveragePool(%h)
		%k = Flatten(%i)
		input %wk: f32[32,10]
		input %wb: f32[10]
		%l = Gemm(%k, %wk, %wb)
		output %l`},
	{"depthwise and squeeze", `
		input %x: f32[N,24,8,7]
		input %w0: f32[24,1,3,3]
		input %w1: f32[8,24,1,1]
		input %w2: f32[24,8,1,1]
		%a = Conv(%x, %w0) {pads=[1,1,1,1], group=24}
		%b = Relu(%a)
		%m = GlobalAveragePool(%b)
		%n = Conv(%m, %w1)
		%o = Relu(%n)
		%p = Conv(%o, %w2)
		%q = Sigmoid(%p)
		%r = Mul(%b, %q)
		output %r`},
	// Parts of a value are outputs themselves: they lie in blocks, or where the whole lies.
	{"parts are outputs", `
		input %x: f32[N,35,4,9]
		input %w0: f32[35,35,1,1]
		const %s: i64[2] = [16,19]
		%a = Conv(%x, %w0)
		%r = Relu(%a)
		%p, %q = Split(%r, %s) {axis=1}
		%j = Concat(%p, %q, %p) {axis=1}
		output %p
		output %q
		output %j`},
	{"parts of bytes are outputs", `
		input %x: f32[N,35,4,9]
		const %scale: f32[] = 0.03
		const %zero: i8[] = 6
		const %s: i64[2] = [16,19]
		%a = QuantizeLinear(%x, %scale, %zero)
		%p, %q = Split(%a, %s) {axis=1}
		%j = Concat(%p, %q, %p) {axis=1}
		output %p
		output %q
		output %j`},
	{"bytes are output and part", `
		input %x: f32[N,48,7,1]
		const %scale: f32[] = 0.03
		const %zero: u8[] = 9
		%a = QuantizeLinear(%x, %scale, %zero)
		%j = Concat(%a, %a) {axis=1}
		output %a
		output %j`},
	{"shuffle of channels", `
		input %x: f32[N,24,5,6]
		input %w0: f32[24,12,1,1]
		input %w1: f32[24,1,3,3]
		const %s5: i64[5] = [0,2,12,5,6]
		const %s4: i64[4] = [0,24,5,6]
		%a = Conv(%x, %w0) {group=2}
		%b = Relu(%a)
		%c = Reshape(%b, %s5)
		%d = Transpose(%c) {perm=[0,2,1,3,4]}
		%e = Reshape(%d, %s4)
		%f = Conv(%e, %w1) {group=24, pads=[1,1,1,1]}
		output %f`},
	// Every mean is one of zeros, most of them negative: sums start with +0.
	{"means of negative zeros", `
		input %x: f32[N,16,5,5]
		input %w0: f32[16,16,1,1]
		const %minus: f32[] = -1
		%a = Conv(%x, %w0)
		%b = Relu(%a)
		%c = Mul(%b, %minus)
		%d = AveragePool(%c) {kernel_shape=[2,2], pads=[0,0,1,1]}
		output %d`},
	{"windows wider than the image", `
		input %x: f32[N,5,6,1]
		%a = MaxPool(%x) {kernel_shape=[3,3], pads=[1,1,1,1]}
		%b = AveragePool(%x) {kernel_shape=[3,3], pads=[1,1,1,1]}
		%c = Add(%a, %b)
		output %c`},
	{"no elements", `
		input %x: f32[N,8,3,4]
		const %starts: i64[1] = [4]
		const %ends: i64[1] = [4]
		const %axes: i64[1] = [3]
		%a = Slice(%x, %starts, %ends, %axes)
		%b = Add(%a, %a)
		%c = Softmax(%b) {axis=1}
		%d = Relu(%c)
		output %d`},
	{"upsampled and joined", `
		input %x: f32[N,16,4,5]
		input %y: f32[N,8,8,10]
		input %w0: f32[16,16,3,3]
		input %w1: f32[12,24,3,3]
		const %scales: f32[4] = [1,1,2,2]
		%a = Conv(%x, %w0) {pads=[1,1,1,1]}
		%b = Relu(%a)
		%u = Resize(%b, _, %scales) {mode="nearest", coordinate_transformation_mode="asymmetric"}
		%j = Concat(%u, %y) {axis=1}
		%c = Conv(%j, %w1) {pads=[1,1,1,1]}
		%d = Relu(%c)
		output %d`},
	{"dilated, grouped, asymmetric", `
		input %x: f32[N,12,9,7]
		input %w0: f32[18,4,3,2]
		input %wb: f32[18]
		%a = Conv(%x, %w0, %wb) {group=3, dilations=[2,1], pads=[2,0,1,1], strides=[1,2]}
		%b = Relu(%a)
		output %b`},
	{"one dimension", `
		input %x: f32[N,6,40]
		input %w0: f32[9,6,5]
		%a = Conv(%x, %w0) {pads=[2,2]}
		%b = Relu(%a)
		%c = MaxPool(%b) {kernel_shape=[2], strides=[2]}
		output %c`},
	{"transposed", `
		input %x: f32[N,8,4,5]
		input %w0: f32[8,6,3,3]
		%a = ConvTranspose(%x, %w0) {strides=[2,2], pads=[1,1,1,1]}
		%b = Relu(%a)
		output %b`},
	// What would be fused into the first normalisation needs its other results.
	{"statistics of a sibling", `
		input %x: f32[N,16,5,5]
		input %w1: f32[16]
		input %w2: f32[16]
		%a, %mean, %var = thriftc.BatchNormTrain(%x, %w1, %w2)
		%b = BatchNormalization(%x, %w1, %w2, %mean, %var)
		%c = Relu(%a)
		%d = Add(%c, %b)
		output %d`},
	{"products of matrices", `
		input %x: f32[N,7,12]
		input %w0: f32[12,20]
		input %w1: f32[20]
		input %w2: f32[20,12]
		%a = MatMul(%x, %w0)
		%b = Add(%a, %w1)
		%c = Relu(%b)
		%d = MatMul(%c, %w2)
		%e = Add(%d, %x)
		output %e`},
}

// levels are the forms of a case that are run: passes, after which it is a graph of its own. Cases that
// have quantised values as they are have no others.
var levels = []struct{ name, steps string }{
	{"as it is", ""},
	{"quantised", "fold,dce,canonicalize,dce,quantize{input-range=-2:2}"},
	{"int", "fold,dce,canonicalize,dce,quantize{input-range=-2:2},lowerint"},
	{"4 bits", "fold,dce,canonicalize,dce,quantize{input-range=-2:2,weight-bits=4},lowerint"},
}

// TestSuite runs each case at each level with every kernel set, several numbers of threads and
// batch sizes: all give the bits of the operators' Eval.
func TestSuite(t *testing.T) {
	for i, c := range suite {
		g := suiteGraph(t, c.graph, uint64(i))
		quantised := slices.ContainsFunc(g.Nodes, func(n *ir.Node) bool { return n.Op.Name == "QuantizeLinear" })
		for _, l := range levels {
			if quantised && l.steps != "" {
				continue
			}
			t.Run(c.name+"/"+l.name, func(t *testing.T) {
				at := level(t, g, l.steps)
				if strings.Contains(l.steps, "lowerint") && slices.ContainsFunc(at.Nodes, isConv) {
					t.Error("a convolution of quantised values is left to floats")
				}
				for _, n := range []int{1, 3} {
					in := irtest.InputsOf(at, uint64(i), n)
					want, err := ir.Eval(t.Context(), at, in)
					if err != nil {
						t.Fatal(err)
					}
					for k, set := range simd.All() {
						x, err := interp.New().Compile(t.Context(), at, backends.Options{Kernel: set.Name, Threads: 1 + (i+k+n)%3, NoWinograd: true})
						if err != nil {
							t.Fatal(err)
						}
						defer x.Close()
						got, err := x.Run(t.Context(), in)
						if err != nil {
							t.Fatal(err)
						}
						for j := range want {
							irtest.Equal(t, fmt.Sprintf("%s, batch %d, output %d", set.Name, n, j), got[j], want[j])
						}
					}
				}
			})
		}
	}
}

func isConv(n *ir.Node) bool { return n.Op.Name == "Conv" }

// suiteGraph reads a case and gives it weights.
func suiteGraph(t *testing.T, text string, seed uint64) *ir.Graph {
	g := irtest.Parse(t, "graph {"+text+"\n}", ops.Table())
	rng, r := rand.New(rand.NewPCG(seed, 4)), ir.NewRewriter(g)
	for _, v := range slices.Clone(g.Inputs) {
		if strings.HasPrefix(v.Name, "w") {
			shape, _ := v.Type.Static()
			w := irtest.RandomTensor(rng, tensor.F32, shape...)
			r.ReplaceUses(v, r.Const(v.Name, w))
			r.RemoveInput(v)
		}
	}
	return g
}

// level returns g after passes.
func level(t *testing.T, g *ir.Graph, steps string) *ir.Graph {
	if steps == "" {
		return g
	}
	list, err := all.Table.Parse(steps)
	if err != nil {
		t.Fatal(err)
	}
	out := g.Clone()
	if _, err := passes.Run(&passes.Context{Context: t.Context()}, out, list, passes.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	return out
}
