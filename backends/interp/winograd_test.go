package interp

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// newBlocked returns a view of random numbers: also beyond the last channel, but with zeros in the halo.
func newBlocked(r *rand.Rand, l layout, shape ...int) *view {
	v := newView(shape, tensor.F32, l)
	v.bind(make([]float32, v.size))
	for n := range v.n {
		for g := range v.groups() {
			for y := range v.h {
				for i := range v.line(n, g, y) {
					v.line(n, g, y)[i] = float32(r.NormFloat64())
				}
			}
		}
	}
	return v
}

// element returns an element of a view in blocks.
func element(v *view, n, c, y, x int) float32 {
	return v.line(n, c/v.block, y)[x*v.block+c%v.block]
}

// TestWinograd compares the kernel, with whatever may follow the sums, for
// random sizes, paddings and halos, with a convolution in float64, and all
// sets of kernels with each other.
func TestWinograd(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	halo := func() layout { return layout{simd.Block, r.IntN(4), r.IntN(4), r.IntN(4), r.IntN(4), 0} }
	worst := 0.0
	for trial := range 150 {
		n, ic, oc := r.IntN(3), 1+r.IntN(40), 1+r.IntN(70)
		oh, ow := 1+r.IntN(14), 1+r.IntN(19)
		top, left, bottom, right := r.IntN(3), r.IntN(3), r.IntN(3), r.IntN(3)
		ih, iw := max(1, oh+2-top-bottom), max(1, ow+2-left-right)
		oh, ow = ih+top+bottom-2, iw+left+right-2
		if oh < 1 || ow < 1 {
			continue
		}
		x, add := newBlocked(r, halo(), n, ic, ih, iw), newBlocked(r, halo(), n, oc, oh, ow)
		k, p := normals(r, oc, ic, 3, 3), normals(r, 4, oc).Float32s()
		after := store{flags: r.IntN(32) &^ simd.More, add: add, lo: -3, hi: 30}
		for i := range after.params {
			if i == 0 && after.flags&simd.Bias != 0 || i > 0 && after.flags&simd.Norm != 0 {
				after.params[i] = paramView(p[i*oc:][:oc], oc)
			}
		}
		weights := winoWeights(k.Float32s(), oc, ic, 1+trial%3)
		yHalo := halo()
		var first *view
		for i, s := range simd.All() {
			threads := 1 + (trial+i)%3
			y := newBlocked(r, yHalo, n, oc, oh, ow)
			for i := range y.data {
				y.data[i] = 77
			}
			v := newWinograd(s, x, y, top, left, weights, after, threads)
			if v.tiles > 3 && trial%3 == 0 {
				v.group, v.chunks = 3, 1+v.chunks%y.groups()
				v.place()
			}
			pool, workers := newPool(threads), make([]worker, threads)
			for _, ph := range v.phases() {
				if err := pool.parallel(t.Context(), ph.tasks, func(w, i int) { ph.do(&workers[w], i) }); err != nil {
					t.Fatal(err)
				}
			}
			pool.close()
			if first == nil {
				first = y
			}
			if i > 0 {
				sameBits(t, fmt.Sprint(s.Name, " ", trial), y.data, first.data)
			}
		}
		if n == 0 {
			continue
		}
		for i := range first.data { // the halo is cleared
			if first.data[i] == 77 {
				t.Fatalf("trial %d: element %d was not written", trial, i)
			}
		}
		for range 40 {
			m, o, y, x0 := r.IntN(n), r.IntN(oc), r.IntN(oh), r.IntN(ow)
			want, scale := 0.0, 0.0
			for c := range ic {
				for j, w := range k.Float32s()[(o*ic+c)*9:][:9] {
					if iy, ix := y+j/3-top, x0+j%3-left; iy >= 0 && iy < ih && ix >= 0 && ix < iw {
						want += float64(w) * float64(element(x, m, c, iy, ix))
					}
					scale += float64(w * w)
				}
			}
			if after.flags&simd.Bias != 0 {
				want += float64(p[o])
			}
			if after.flags&simd.Norm != 0 {
				want = (want-float64(p[oc+o]))*float64(p[2*oc+o]) + float64(p[3*oc+o])
				scale *= float64(p[2*oc+o]) * float64(p[2*oc+o])
			}
			if after.flags&simd.Add != 0 {
				want += float64(element(add, m, o, y, x0))
			}
			if after.flags&simd.Clamp != 0 {
				want = min(max(want, -3), 30)
			}
			// The error, in units of what the sum of as many random numbers is.
			e := math.Abs(float64(element(first, m, o, y, x0))-want) / math.Sqrt(scale+1)
			if worst = max(worst, e); e > 1e-5 {
				t.Fatalf("trial %d: output %v, want %v", trial, element(first, m, o, y, x0), want)
			}
		}
	}
	t.Logf("greatest error %.2g of the outputs' standard deviation", worst)
}

func BenchmarkWinograd(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct{ n, ic, oc, hw int }{
		{1, 16, 16, 32}, {1, 32, 32, 16}, {1, 64, 64, 8}, {32, 64, 64, 8}, {1, 64, 64, 56}, {1, 128, 128, 28}, {1, 256, 256, 14}, {1, 512, 512, 7},
		{1, 64, 64, 224}, {1, 128, 128, 112}, {1, 256, 256, 56}, {1, 512, 512, 28}, {1, 512, 512, 14},
	} {
		for _, s := range simd.All()[2:] {
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%dx%dx%dx%d %s %d", c.n, c.ic, c.oc, c.hw, s.Name, threads), func(b *testing.B) {
					k := normals(r, c.oc, c.ic, 3, 3)
					x, y := newBlocked(r, layout{16, 1, 1, 1, 1, 0}, c.n, c.ic, c.hw, c.hw), newBlocked(r, layout{16, 1, 1, 1, 1, 0}, c.n, c.oc, c.hw, c.hw)
					v := newWinograd(s, x, y, 1, 1, winoWeights(k.Float32s(), c.oc, c.ic, threads), store{}, threads)
					ph := v.phases()[0]
					p := newPool(threads)
					defer p.close()
					ws := make([]worker, threads)
					for b.Loop() {
						p.parallel(context.Background(), ph.tasks, func(worker, i int) { ph.do(&ws[worker], i) })
					}
					flops := 2 * float64(y.n*c.oc*c.hw*c.hw) * float64(c.ic*9)
					b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
					b.ReportMetric(float64(v.group), "tiles")
				})
			}
		}
	}
}

// TestWinogradNodes runs convolutions that Winograd's method computes, with
// what follows them, on all kernels and numbers of threads: the bits are the same, and close to the
// operators', and equal to them without it.
func TestWinogradNodes(t *testing.T) {
	for seed := range uint64(25) {
		b := newBuilder(t, seed)
		r := b.rand
		x := b.data(1+r.IntN(3), 8+r.IntN(30), 8+r.IntN(20), 8+r.IntN(20))
		shape, _ := x.Type.Static()
		in := []*ir.Value{x, b.weights(16+r.IntN(40), shape[1], 3, 3)}
		if r.IntN(2) == 0 {
			in = append(in, b.weights(in[1].Data.Shape()[0]))
		}
		v := b.after(b.node("Conv", in, "pads", []int{r.IntN(2), r.IntN(2), 1, 1}))
		v = b.node("MaxPool", []*ir.Value{v}, "kernel_shape", []int{2, 2}, "strides", []int{2, 2})
		b.Output(v)
		g := b.Graph()
		want, err := ir.Eval(t.Context(), g, b.in)
		if err != nil {
			t.Fatal(err)
		}
		var first *tensor.Tensor
		for i, s := range simd.All() {
			x := compileWith(t, g, backends.Options{Threads: 1 + (i+int(seed))%3, Kernel: s.Name})
			got, err := x.Run(t.Context(), b.in)
			if err != nil {
				t.Fatal(err)
			}
			if kernels(x)["winograd"] != 1 {
				t.Fatalf("seed %d: kernels are %v", seed, kernels(x))
			}
			if first == nil {
				first = got[0]
				y, z := first.Float32s(), want[0].Float32s()
				tolerance := 1e-5 * math.Sqrt(float64(9*shape[1]))
				for _, n := range g.Nodes {
					switch n.Op.Name {
					case "BatchNormalization":
						gain := float32(0)
						for i, scale := range n.ConstIn(1).Float32s() {
							gain = max(gain, scale/f32.Sqrt(n.ConstIn(4).Float32s()[i]))
						}
						tolerance *= float64(gain)
					case "thriftc.Quant":
						tolerance = 0.101 // one step
					}
				}
				for j := range y {
					if d := math.Abs(float64(y[j] - z[j])); d > tolerance {
						t.Fatalf("seed %d: element %d is %v, the operators' %v", seed, j, y[j], z[j])
					}
				}
			}
			sameBits(t, fmt.Sprint(s.Name, " seed ", seed), got[0].Float32s(), first.Float32s())
		}
		x1 := compileWith(t, g, backends.Options{Threads: 2, NoWinograd: true})
		got, err := x1.Run(t.Context(), b.in)
		if err != nil {
			t.Fatal(err)
		}
		sameBits(t, fmt.Sprint("without Winograd, seed ", seed), got[0].Float32s(), want[0].Float32s())
	}
}

// kernels returns how many steps of the executable's plan use each kernel.
func kernels(x backends.Executable) map[string]int {
	out := map[string]int{}
	for _, s := range x.(*executable).plans[0].done() {
		out[s.name]++
	}
	return out
}

// TestWinogradLeavesQuantised: convolutions of quantised numbers are exact.
func TestWinogradLeavesQuantised(t *testing.T) {
	quant := func(b *builder, v *ir.Value) *ir.Value {
		return b.node("thriftc.Quant", []*ir.Value{v, b.Float("s", 0.125), b.Float("z", 0), b.Float("bits", 4)})
	}
	for what, make := range map[string]func(b *builder) *ir.Value{
		"input": func(b *builder) *ir.Value {
			return b.node("Conv", []*ir.Value{quant(b, b.data(1, 16, 12, 12)), b.weights(16, 16, 3, 3)})
		},
		"input through a pool": func(b *builder) *ir.Value {
			v := b.node("MaxPool", []*ir.Value{quant(b, b.data(1, 16, 24, 24))}, "kernel_shape", []int{2, 2})
			return b.node("Conv", []*ir.Value{b.node("Relu", []*ir.Value{v}), b.weights(16, 16, 3, 3)})
		},
		"weights": func(b *builder) *ir.Value {
			return b.node("Conv", []*ir.Value{b.data(1, 16, 12, 12), quant(b, b.weights(16, 16, 3, 3))})
		},
	} {
		b := newBuilder(t, 1)
		b.Output(make(b))
		x := compileWith(t, b.Graph(), backends.Options{})
		got, err := x.Run(t.Context(), b.in)
		if err != nil {
			t.Fatal(err)
		}
		if kernels(x)["winograd"] != 0 {
			t.Errorf("%s: kernels are %v", what, kernels(x))
		}
		want, err := ir.Eval(t.Context(), b.Graph(), b.in)
		if err != nil {
			t.Fatal(err)
		}
		sameBits(t, what, got[0].Float32s(), want[0].Float32s())
	}
	g := irtest.Parse(t, `graph {
  input %x: f32[1,16,12,12]
  const %b: f32[] = 3.5
  const %lo: f32[] = -1
  const %hi: f32[] = 1
  param %w: f32[16,16,3,3] = splat 0.5
  %q = thriftc.BitQuant(%w, %b, %lo, %hi)
  %y = Conv(%x, %q)
  %v = Add(%w, %b)
  output %y
  update %w = %v
}`, ops.Table())
	x := compileWith(t, g, backends.Options{State: backends.NewState()})
	if _, err := x.Run(t.Context(), irtest.Inputs(g, 1)); err != nil {
		t.Fatal(err)
	}
	if kernels(x)["winograd"] != 1 {
		t.Errorf("a training step: kernels are %v", kernels(x))
	}
}

// TestWinogradError measures the error of real layers on real activations
// against float64, beside that of the operator's own order.
func TestWinogradError(t *testing.T) {
	g := readModel(t, "cifar10/resnet20")
	g, err := ir.BindShapes(g, [][]int{{1, 3, 32, 32}})
	if err != nil {
		t.Fatal(err)
	}
	in, _ := pair(t, g, models+"/cifar10/resnet20/test_data_set_0")
	r := ir.NewRewriter(g)
	var convs []*ir.Node
	for _, n := range g.Nodes {
		if n.Op.Name == "Conv" && n.In[1].Data.Shape()[2] == 3 && n.Ints("strides")[0] == 1 && n.In[0].Def != nil {
			convs = append(convs, n)
		}
	}
	for _, n := range convs {
		r.Output(n.In[0])
	}
	values, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		t.Fatal(err)
	}
	values = values[len(values)-len(convs):]
	var worst [2]float64
	for i, n := range convs {
		x, k := values[i], n.In[1].Data
		one := newBuilder(t, 1)
		one.in = []*tensor.Tensor{x}
		one.Output(one.node("Conv", []*ir.Value{one.Input("x", ir.TypeOf(x)), one.Const("w", k)}, "pads", []int{1, 1, 1, 1}))
		want := plainConv64(x, k)
		var rms [2]float64
		for j, o := range []backends.Options{{NoWinograd: true}, {}} {
			e := compileWith(t, one.Graph(), o)
			got, err := e.Run(t.Context(), one.in)
			if err != nil {
				t.Fatal(err)
			}
			if kernels(e)["winograd"] != j {
				t.Fatalf("%v: kernels are %v", n.Label(), kernels(e))
			}
			size, total, most := 0.0, 0.0, 0.0
			for at, v := range got[0].Float32s() {
				e := float64(v) - want[at]
				total += e * e
				size += want[at] * want[at]
				most = max(most, math.Abs(e))
			}
			rms[j] = math.Sqrt(total / size)
			worst[j] = max(worst[j], most/math.Sqrt(size/float64(len(want))))
		}
		t.Logf("%-24v direct %.2g, Winograd %.2g of the outputs' root mean square", n.Label(), rms[0], rms[1])
		if rms[1] > 1e-6 || rms[1] > 8*rms[0] {
			t.Errorf("%v: the error of Winograd's method is %.2g, that of the direct one %.2g", n.Label(), rms[1], rms[0])
		}
	}
	t.Logf("greatest error: direct %.2g, Winograd %.2g of the outputs' root mean square", worst[0], worst[1])
	if len(convs) < 16 || worst[1] > 2e-5 {
		t.Errorf("%d layers, greatest error %.2g", len(convs), worst[1])
	}
}

// plainConv64 is a 3×3 convolution with a padding of 1 in float64.
func plainConv64(x, k *tensor.Tensor) (out []float64) {
	s, a, w := x.Shape(), x.Float32s(), k.Float32s()
	for o := range k.Shape()[0] {
		for y := range s[2] {
			for x := range s[3] {
				sum := 0.0
				for c := range s[1] {
					for j := range 9 {
						if iy, ix := y+j/3-1, x+j%3-1; iy >= 0 && iy < s[2] && ix >= 0 && ix < s[3] {
							sum += float64(w[(o*s[1]+c)*9+j]) * float64(a[(c*s[2]+iy)*s[3]+ix])
						}
					}
				}
				out = append(out, sum)
			}
		}
	}
	return out
}
