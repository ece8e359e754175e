package quantize

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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

// reference is an engine that evaluates graphs with the operators' own evaluators.
type reference struct{}

type evaluation struct {
	backends.Executable
	g *ir.Graph
}

func (reference) Compile(_ context.Context, g *ir.Graph, _ backends.Options) (backends.Executable, error) {
	return evaluation{g: g}, nil
}

func (e evaluation) Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	return ir.Eval(ctx, e.g, in)
}

func (e evaluation) RunInto(ctx context.Context, in, out []*tensor.Tensor) error {
	got, err := e.Run(ctx, in)
	for i, t := range got {
		copy(tensor.Data[float32](out[i]), t.Float32s())
	}
	return err
}

func (evaluation) Close() {}

// samples are n images of smooth noise.
type samples struct {
	n     int
	shape []int
}

func (s samples) Len() int { return s.n }

func (s samples) Batches(size int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) {
		for i := 0; i < s.n; i += size {
			k := min(size, s.n-i)
			x := tensor.New(tensor.F32, append([]int{k}, s.shape...)...)
			d := tensor.Data[float32](x)
			for j := range k {
				rng := rand.New(rand.NewPCG(uint64(i+j), 7))
				v := 0.0
				for p := range len(d) / k {
					v = 0.7*v + rng.NormFloat64()
					d[j*len(d)/k+p] = float32(v)
				}
			}
			if !yield([]*tensor.Tensor{x}, nil) {
				return
			}
		}
	}
}

// network is a small CNN with random weights.
func network(t *testing.T) *ir.Graph {
	g := irtest.Parse(t, `graph {
  input %x: f32[N,3,8,8]
  const %w1: f32[8,3,3,3] = splat 0
  const %b1: f32[8] = splat 0
  const %w2: f32[8,1,3,3] = splat 0
  const %w3: f32[8,8,1,1] = splat 0
  const %b3: f32[8] = splat 0
  const %w4: f32[8,5] = splat 0
  const %b4: f32[5] = splat 0
  %a = Conv(%x, %w1, %b1) {pads=[1,1,1,1]} name "stem"
  %r = Relu(%a)
  %c = Conv(%r, %w2) {group=8,pads=[1,1,1,1]} name "body/dw"
  %s = Relu(%c)
  %d = Conv(%s, %w3, %b3) name "body/pw"
  %f = Add(%d, %r)
  %u = Relu(%f)
  %p = GlobalAveragePool(%u)
  %q = Flatten(%p)
  %y = Gemm(%q, %w4, %b4) name "head"
  output %y
}`, ops.Table())
	rng := rand.New(rand.NewPCG(1, 2))
	r := ir.NewRewriter(g)
	for _, v := range g.Consts {
		x := make([]float32, v.Data.Len())
		for i := range x {
			x[i] = float32(rng.NormFloat64() / 4)
		}
		r.SetData(v, tensor.Of(x, v.Data.Shape()...))
	}
	return g
}

// quantised runs the pass and returns the graph and its findings.
func quantised(t *testing.T, g *ir.Graph, options string, c *passes.Context) (*ir.Graph, map[string]any) {
	t.Helper()
	table := &passes.Table{Passes: []passes.Info{Info}}
	steps, err := table.Parse("quantize{" + options + "}")
	if err != nil {
		t.Fatal(err)
	}
	g = g.Clone()
	res, err := passes.Run(c, g, steps, passes.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stats := map[string]any{}
	for _, s := range res.Steps[0].Stats {
		stats[s.Name] = s.Value
	}
	return g, stats
}

func calibrated(threads int) *passes.Context {
	return &passes.Context{Threads: threads, Engine: reference{}, Calib: samples{20, []int{3, 8, 8}}}
}

// sqnr measures how close a quantised graph comes to the float one, in dB.
func sqnr(t *testing.T, g, q *ir.Graph) float64 {
	t.Helper()
	signal, noise := 0.0, 0.0
	for in := range (samples{16, []int{3, 8, 8}}).Batches(16) {
		want, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), q, in)
		if err != nil {
			t.Fatal(err)
		}
		for i, y := range want[0].Float64s() {
			signal += y * y
			noise += square(y - got[0].Float64s()[i])
		}
	}
	return decibel(signal, noise)
}

func TestAccuracy(t *testing.T) {
	g := network(t)
	for _, c := range []struct {
		options string
		least   float64 // dB
	}{
		{"", 34},
		{"observer=minmax", 34},
		{"observer=percentile", 34},
		{"observer=entropy", 25},
		{"act-affine", 34},
		{"act-affine,signed-acts,weight-affine", 34},
		{"weight-affine", 34},
		{"per-tensor", 30},
		{"pow2", 28},
		{"act-bits=0", 36},
		{"act-bits=16", 36},
		{"weight-bits=4", 12},
		{"weight-bits=4,recon", 18},
		{"weight-bits=4,recon,per-tensor", 15},
		{"weight-bits=4,recon,pow2", 15},
	} {
		q, _ := quantised(t, g, c.options, calibrated(2))
		if got := sqnr(t, g, q); got < c.least {
			t.Errorf("%q: outputs within %.1f dB, want at least %v", c.options, got, c.least)
		}
	}
}

// TestDeterminism asks for the same graph whatever the number of threads.
func TestDeterminism(t *testing.T) {
	g := network(t)
	for _, options := range []string{"", "weight-bits=3,recon"} {
		a, _ := quantised(t, g, options, calibrated(1))
		b, _ := quantised(t, g, options, calibrated(4))
		if ir.Format(a) != ir.Format(b) {
			t.Errorf("%q: another number of threads gives another graph", options)
		}
	}
}

func TestMaxDrop(t *testing.T) {
	g := network(t)
	// Every weight of fewer bits than eight costs a point, any other but float a tenth.
	score := func(_ context.Context, g *ir.Graph) (float64, error) {
		s := 90.0
		for _, v := range g.Consts {
			switch {
			case !v.Type.Elem.IsInt() || v.Type.Elem == tensor.I32:
			case v.Type.Elem.Bits() < 8:
				s--
			default:
				s -= 0.1
			}
		}
		return s, nil
	}
	for _, c := range []struct {
		options string
		met     bool
		score   float64
		bits    []int // of the weights, sorted
	}{
		{"weight-bits=4,max-drop=5", true, 86, []int{4, 4, 4, 4}},
		{"weight-bits=4,max-drop=2.5", true, 87.8, []int{4, 4, 8, 8}},
		{"weight-bits=4,max-drop=0.25", true, 89.8, []int{8, 8}},
		{"weight-bits=4,max-drop-relative=1", true, 89.6, []int{8, 8, 8, 8}},
		{"max-drop=0", true, 90, nil},
	} {
		ctx := calibrated(2)
		ctx.Score = score
		q, stats := quantised(t, g, c.options, ctx)
		if stats["budget_met"] != c.met || math.Abs(stats["score_quantised"].(float64)-c.score) > 1e-9 {
			t.Errorf("%q: budget_met %v at score %v, want %v at %v", c.options, stats["budget_met"], stats["score_quantised"], c.met, c.score)
		}
		var bits []int
		for _, v := range q.Consts {
			if v.Type.Elem.IsInt() && v.Type.Elem != tensor.I32 {
				bits = append(bits, v.Type.Elem.Bits())
			}
		}
		if slices.Sort(bits); !slices.Equal(bits, c.bits) {
			t.Errorf("%q: weights of %v bits, want %v", c.options, bits, c.bits)
		}
	}
	// A score that no quantisation reaches.
	ctx := calibrated(2)
	calls := 0
	ctx.Score = func(context.Context, *ir.Graph) (float64, error) {
		calls++
		if calls == 1 {
			return 90, nil
		}
		return 50 + float64(calls%3), nil
	}
	if _, stats := quantised(t, g, "max-drop=1", ctx); stats["budget_met"] != false || stats["score_quantised"] != 52.0 {
		t.Errorf("budget_met is %v at score %v, want false at the best, 52", stats["budget_met"], stats["score_quantised"])
	}
}

// TestValidate wants everything that is wrong said at once.
func TestValidate(t *testing.T) {
	o := New()
	o.Observer, o.ActBits, o.InputRange, o.LayerBits, o.Exclude = "median", 9, "3", []string{"conv:1"}, []string{"["}
	err := o.Validate()
	for _, s := range []string{"observer", "act-bits", "input-range", "layer-bits", "exclude"} {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("the error does not name %s: %v", s, err)
		}
	}
	if err := New().Validate(); err != nil {
		t.Error(err)
	}
}

// TestSensitivity makes one layer much worse than the others.
func TestSensitivity(t *testing.T) {
	_, stats := quantised(t, network(t), "sensitivity,layer-bits=pw:2", calibrated(2))
	order := stats["sensitivity"].([]Sensitivity)
	if len(order) != 4 || order[0].Layer != "body/pw" || order[0].SQNR > order[1].SQNR-6 {
		t.Errorf("sensitivities %v, want body/pw first by far", order)
	}
}

// TestSharing keeps one constant for two users, and quantises it for both.
func TestSharing(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[N,2]
  const %w: f32[2,2] = [1, -0.5, 0.25, 1]
  %a = MatMul(%x, %w) name "one"
  %r = Relu(%a)
  %y = MatMul(%r, %w) name "two"
  output %y
}`, ops.Table())
	for _, options := range []string{"", "recon,weight-bits=4"} {
		q, _ := quantised(t, g, options, &passes.Context{Engine: reference{}, Calib: samples{20, []int{2}}})
		if n := strings.Count(ir.Format(q), "DequantizeLinear"); n != 1 {
			t.Errorf("%q: %d DequantizeLinear, want 1:\n%s", options, n, ir.Format(q))
		}
	}
	q, _ := quantised(t, g, "exclude=two", &passes.Context{Engine: reference{}, Calib: samples{20, []int{2}}})
	if strings.Contains(ir.Format(q), "DequantizeLinear") {
		t.Errorf("weights of an excluded layer are quantised for the other user")
	}
}

// TestLargeBias has a bias beyond 32 bits at the scale that the weights alone ask for.
func TestLargeBias(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[N,2]
  const %w: f32[2,1] = [1e-9, -1e-9]
  const %b: f32[1] = [1000]
  %y = Gemm(%x, %w, %b)
  output %y
}`, ops.Table())
	ctx := &passes.Context{Engine: reference{}, Calib: samples{20, []int{2}}}
	for _, options := range []string{"", "pow2", "recon"} {
		q, _ := quantised(t, g, options, ctx)
		out, err := ir.Eval(t.Context(), q, []*tensor.Tensor{tensor.Of([]float32{1, 1}, 1, 2)})
		if err != nil {
			t.Fatal(err)
		}
		if y := out[0].Float32s()[0]; math.Abs(float64(y)-1000) > 1e-3 {
			t.Errorf("%q: output %v, want 1000", options, y)
		}
	}
}

// TestMoments checks the patches of every kind of convolution: with the float
// inputs, Σ y·xᵀ must be W·Σ x·xᵀ.
func TestMoments(t *testing.T) {
	for i, c := range []struct {
		w     []int
		attrs string
	}{
		{[]int{4, 3, 3, 3}, "pads=[1,1,1,1]"},
		{[]int{4, 3, 3, 2}, "pads=[0,1,2,0],strides=[2,1],dilations=[1,2]"},
		{[]int{6, 1, 3, 3}, "group=3,strides=[2,2],pads=[1,1,1,1]"},
		{[]int{4, 3, 2, 4}, `auto_pad="SAME_UPPER",strides=[2,3]`},
		{[]int{4, 3, 2, 4}, `auto_pad="SAME_LOWER",strides=[3,2]`},
		{[]int{4, 3, 1, 1}, ""},
	} {
		g := irtest.Parse(t, fmt.Sprintf(`graph {
  input %%x: f32[N,3,9,8]
  const %%w: f32[%d,%d,%d,%d] = splat 0
  %%y = Conv(%%x, %%w) {%s}
  output %%y
}`, c.w[0], c.w[1], c.w[2], c.w[3], c.attrs), ops.Table())
		in := irtest.Inputs(g, uint64(i))
		w := irtest.RandomTensor(rand.New(rand.NewPCG(uint64(i), 3)), tensor.F32, c.w...)
		ir.NewRewriter(g).SetData(g.Consts[0], w)
		y, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		l, reason := layerOf(g.Nodes[0])
		if l == nil {
			t.Fatal(reason)
		}
		m, err := newMoments(l, w, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.add(in[0], y[0], 0); err != nil {
			t.Fatal(err)
		}
		rows := rowsOf(w, 0)
		for o := range rows.n {
			r := rows.row(o)
			grp, row := o/m.rows, o%m.rows
			for j := range r {
				want := 0.0
				for k := range r {
					want += r[k] * m.xx[grp].At(k, j)
				}
				if got := m.yx[grp].At(row, j); math.Abs(got-want) > 1e-3*(1+math.Abs(want)) {
					t.Fatalf("case %d: Σ y·x is %v for output %d, input %d, want %v", i, got, o, j, want)
				}
			}
		}
	}
}

// TestClippedNormal compares with the moments of a normal distribution that
// Relu has cut off: φ(0)·σ… in closed form for mean 0, E = σ/√(2π), E[x²] = σ²/2.
func TestClippedNormal(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[N,1,2,2]
  %y = Relu(%x)
  output %y
}`, ops.Table())
	w := newPropagator(6)
	w.known[g.Inputs[0]] = w.normal([]float64{0}, []float64{2})
	if err := w.node(g.Nodes[0]); err != nil {
		t.Fatal(err)
	}
	d := w.known[g.Outputs[0]]
	mean := 2 / math.Sqrt(2*math.Pi)
	if math.Abs(d.mean[0]-mean) > 2e-3 || math.Abs(d.std[0]-math.Sqrt(2-mean*mean)) > 2e-3 || d.lo[0] != 0 || math.Abs(d.hi[0]-12) > 1e-6 {
		t.Errorf("Relu of N(0, 4) is %+v", d)
	}
}

// Weights that something else needs in float stay: integers would come on top of them.
func TestSharedWithFloat(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[1,3,8,8]
  const %w: f32[8,4] = splat 0
  const %i: i64[1] = [2]
  const %w2: f32[4,4] = splat 0
  %a = MatMul(%x, %w) name "tied"
  %e = Gather(%w, %i)
  %s = Add(%a, %e)
  %y = MatMul(%s, %w2)
  output %y
}`, ops.Table())
	fill(g)
	q, stats := quantised(t, g, "", calibrated(1))
	left, _ := stats["left_in_float"].([]skip)
	if len(left) != 1 || left[0].Node != "tied" || !strings.Contains(left[0].Reason, "Gather") {
		t.Errorf("left in float: %v", left)
	}
	if n := stats["layers_quantised"]; n != 1 {
		t.Errorf("%v layers are quantised, expected the other", n)
	}
	if q.Value("w") == nil || q.Value("w_quantized") != nil {
		t.Error("the weights are not there as they were")
	}
}
