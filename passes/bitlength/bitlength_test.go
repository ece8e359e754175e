package bitlength

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// reference is an engine that evaluates operators one after the other.
type reference struct{}

type evaluation struct{ g *ir.Graph }

func (reference) Compile(_ context.Context, g *ir.Graph, _ backends.Options) (backends.Executable, error) {
	return evaluation{g}, nil
}

func (e evaluation) Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	return ir.Eval(ctx, e.g, in)
}

func (e evaluation) RunInto(context.Context, []*tensor.Tensor, []*tensor.Tensor) error { return nil }

func (evaluation) Close() {}

// The integer graph must compute what the graph for training computes at the same
// widths, whatever the options, but for the rounding of scales and biases.
func TestFinished(t *testing.T) {
	for _, options := range []string{
		"uniform=8", "uniform=4", "uniform=2", "uniform=4,weight-range=minmax", "uniform=5,act-range=ema", "uniform=4,per-tensor",
		"uniform=4,residual-bits=0", "uniform=3,granularity=channel,act-granularity=channel", "uniform=4,granularity=group,group-size=2,act-granularity=group",
		"uniform=6,granularity=network,act-granularity=network",
	} {
		t.Run(options, func(t *testing.T) {
			g := toyNet(t)
			table := &passes.Table{Passes: []passes.Info{Info}}
			steps, err := table.Parse("bitlength{float-bias," + options + "}")
			if err != nil {
				t.Fatal(err)
			}
			o := steps[0].Pass.(*Bitlength)
			c, _ := toyContext(t, 0)
			m, err := o.insert(c, g, false)
			if err != nil {
				t.Fatal(err)
			}
			if err := ir.Verify(m.t); err != nil {
				t.Fatal(err)
			}
			w := m.stored()
			if o.Granularity == perChannel || o.Granularity == perGroup {
				for i := range w { // different widths in one tensor
					for j := range w[i] {
						if len(w[i]) > 1 {
							w[i][j] = float64(2 + (i+j)%3)
						}
					}
				}
				for _, q := range m.quants {
					q.learned = true
				}
				m.freeze(w)
			}
			f, err := m.finished(w, data)
			if err != nil {
				t.Fatal(err)
			}
			if err := ir.Verify(f); err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			for _, n := range f.Nodes {
				if n.Name != "" && names[n.Name] {
					t.Errorf("two nodes are named %s", n.Name)
				}
				names[n.Name] = true
				if n.Op.Name == "BatchNormalization" || n.Op.Name == "thriftc.BitQuant" {
					t.Errorf("%s is left", n.Op.Name)
				}
			}
			x := newToy(1).images[0]
			want, err := ir.Eval(t.Context(), m.t, []*tensor.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			got, err := ir.Eval(t.Context(), f, []*tensor.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			far := 0
			for i, y := range want[0].Float64s() {
				if d := math.Abs(y - got[0].Float64s()[i]); d > 1e-4 {
					far++ // a number on the edge between two integers
				}
			}
			if far > len(want[0].Float64s())/10 {
				t.Errorf("%d of %d results differ", far, want[0].Len())
			}
		})
	}
}

// With a target the controller must bring the mean there, and the graph must have it.
func TestTargets(t *testing.T) {
	for _, options := range []string{"target-bits=3", "target-bytes=90", "target-bops=120000,lambda=macs", "target-bits=4,lambda=footprint", "target-bits=4,granularity=network,act-granularity=network", "target-bits=3.5,granularity=channel"} {
		t.Run(options, func(t *testing.T) {
			g := toyNet(t)
			c, tr := toyContext(t, 200)
			table := &passes.Table{Passes: []passes.Info{Info}}
			steps, err := table.Parse("bitlength{" + options + ",learn=0.5}")
			if err != nil {
				t.Fatal(err)
			}
			o := steps[0].Pass.(*Bitlength)
			m, err := o.insert(c, g, false)
			if err != nil {
				t.Fatal(err)
			}
			goal := m.goalOf()
			s := &schedule{o: o, c: c, m: m}
			before, err := c.Score(c, m.g)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.learn("learn", goal, share{}); err != nil {
				t.Fatal(err)
			}
			soft := m.stored()
			whole := m.whole(soft, goal)
			t.Logf("target %.2f: learned %.2f %v, whole %.2f %v, γ %.3g", goal.target, goal.bits(soft), soft, goal.bits(whole), whole, tr.gamma[len(tr.gamma)-1])
			if u := goal.bits(soft); u > goal.target+0.5 || u < goal.target-1 {
				t.Errorf("the size is %.2f, the target %.2f", u, goal.target)
			}
			if goal.bits(whole) > goal.target+1e-9 {
				t.Errorf("whole widths have size %.3f, the target is %.3f", goal.bits(whole), goal.target)
			}
			m.freeze(whole)
			if err := s.tune("tune", share{}); err != nil {
				t.Fatal(err)
			}
			f, err := m.finished(whole, data)
			if err != nil {
				t.Fatal(err)
			}
			after, err := c.Score(c, f)
			if err != nil {
				t.Fatal(err)
			}
			if after < before+20 || after < 80 {
				t.Errorf("the accuracy was %.1f %% untrained and is %.1f %%", before, after)
			}
		})
	}
}

// trainedToy is the toy network trained as well as it gets, and what it was trained with.
func trainedToy(t *testing.T) (*ir.Graph, *passes.Context) {
	t.Helper()
	g := toyNet(t)
	c, tr := toyContext(t, 100)
	o := New()
	o.Uniform = 8
	m, err := o.insert(c, g, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&schedule{o: o, c: c, m: m}).tune("float", share{}); err != nil {
		t.Fatal(err)
	}
	for _, v := range g.Consts {
		if w := m.val[m.g.Value(v.Name)]; w.Kind == ir.Const {
			ir.NewRewriter(g).SetData(v, w.Data)
		}
	}
	tr.steps = 60
	return g, c
}

// A search must return the smallest of its trials that keep to the budget, and offer all.
func TestSearch(t *testing.T) {
	g, c := trainedToy(t) // the one to stay close to
	float, err := c.Score(c, g)
	if err != nil {
		t.Fatal(err)
	}
	var offered []passes.Candidate
	c.Offer = func(x passes.Candidate) error {
		offered = append(offered, x)
		return nil
	}
	steps, err := (&passes.Table{Passes: []passes.Info{Info}}).Parse("bitlength{max-drop=2}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := passes.Run(c, g, steps, passes.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	score, err := c.Score(c, g)
	if err != nil {
		t.Fatal(err)
	}
	smallest := math.Inf(1)
	for _, x := range offered {
		t.Logf("%s: %.2f bits, %.1f %%", x.Name, x.Size, x.Score)
		if x.Score >= float-2 {
			smallest = min(smallest, x.Size)
		}
	}
	if score < float-2 {
		t.Errorf("the accuracy fell from %.1f to %.1f", float, score)
	}
	if smallest > 5 {
		t.Errorf("the smallest model has %.2f bits", smallest)
	}
	if len(offered) < 4 {
		t.Errorf("%d models were offered", len(offered))
	}
	bits, n := 0.0, 0.0
	for _, node := range g.Nodes {
		if node.Op.Name == "DequantizeLinear" && node.In[0].Type.Elem != tensor.I32 {
			bits, n = bits+float64(node.In[0].Type.Elem.Bits()), n+1
		}
	}
	for _, node := range g.Nodes {
		if l, _ := passes.LayerOf(node); l != nil || node.Op.Name == "Conv" || node.Op.Name == "Gemm" {
			if q, ok := ops.QuantOf(node.In[0].Def); ok && node.Label() != "first" {
				bits, n = bits+float64(q.Bits), n+1
			}
		}
	}
	if n != 5 || !nearly(bits/n, smallest, 1e-6) {
		t.Errorf("the result has %.3f bits in the mean of %v, the smallest offered %.3f", bits/n, n, smallest)
	}
}

// A float model that knows the held-out data by heart must not keep the search from going down.
func TestSearchKnownByHeart(t *testing.T) {
	g, c := trainedToy(t)
	plain := c.Score
	c.Score = func(ctx context.Context, g *ir.Graph) (float64, error) {
		score, err := plain(ctx, g)
		if !slices.ContainsFunc(g.Nodes, func(n *ir.Node) bool { return n.Op.Bits != nil }) {
			score += 10 // the float model
		}
		return score, err
	}
	var last passes.Candidate
	c.Offer = func(x passes.Candidate) error {
		last = x
		return nil
	}
	steps, err := (&passes.Table{Passes: []passes.Info{Info}}).Parse("bitlength{max-drop=2}")
	if err != nil {
		t.Fatal(err)
	}
	float, err := c.Score(c, g)
	if err != nil {
		t.Fatal(err)
	}
	res, err := passes.Run(c, g, steps, passes.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stats := map[string]any{}
	for _, s := range res.Steps[0].Stats {
		stats[s.Name] = s.Value
	}
	if reference := stats["score_reference"].(float64); last.Least != reference-2 || reference > float-5 {
		t.Errorf("the budget asks for %v; the reference has %v, the float model %v", last.Least, reference, float)
	}
	if bits := stats["mean_bits"].(float64); bits > 5 {
		t.Errorf("the search ended at %.2f bits", bits)
	}
}

func TestOptions(t *testing.T) {
	table := &passes.Table{Passes: []passes.Info{Info}}
	for _, c := range []struct{ options, want string }{
		{"target-bits=4,gamma=1", "exclude each other"},
		{"max-drop=1,uniform=4", "max-drop goes with a target or alone"},
		{"target-bits=9", "target-bits is 9"},
		{"uniform=1", "uniform is 1"},
		{"lambda=table,costs=conv", "pattern:weights"},
		{"costs=['conv:1']", "lambda=table"},
		{"lambda=watts", "lambda is"},
		{"learn=1", "learn is 1"},
		{"min-bits=0", "min-bits is 0"},
		{"group-size=0", "group-size"},
		{"teacher-weight=2", "teacher-weight"},
		{"exclude='['", "exclude"},
	} {
		steps, err := table.Parse("bitlength{" + c.options + "}")
		if err == nil {
			err = steps[0].Pass.(*Bitlength).Validate()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, expected one with %q", c.options, err, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	table := &passes.Table{Passes: []passes.Info{Info}}
	run := func(options string, change func(c *passes.Context)) error {
		steps, err := table.Parse("bitlength{" + options + "}")
		if err != nil {
			return err
		}
		c, _ := toyContext(t, 1)
		if change != nil {
			change(c)
		}
		_, err = passes.Run(c, toyNet(t), steps, passes.RunOptions{})
		return err
	}
	for _, c := range []struct {
		options, want string
		change        func(c *passes.Context)
	}{
		{"", "nothing says how far", nil},
		{"target-bits=4", "needs training data", func(c *passes.Context) { c.Trainer = nil }},
		{"max-drop=1", "labelled data", func(c *passes.Context) { c.Score = nil }},
		{"target-bits=4,pow2", "put foldbn before", nil},
		{"target-bits=4,exclude=nothing", "matches no layer", nil},
		{"target-bits=4,lambda=table,costs=['nothing:1']", "matches no layer", nil},
		{"target-bits=4,lambda=table,costs=['*:0']", "no layer costs anything", nil},
		{"target-bits=4,exclude=['first','second','last']", "no layers", nil},
	} {
		if err := run(c.options, c.change); err == nil || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: error %v, expected one with %q", c.options, err, c.want)
		}
	}
}

// once is calibration data of one batch.
type once []*tensor.Tensor

func (once) Len() int { return 1 }

func (o once) Batches(int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) { yield(o, nil) }
}

// On any graph the quantised one must verify, compute what the graph for training does, and
// with 8 bits stay close to the float graph.
func TestRandomGraphs(t *testing.T) {
	tried := 0
	for seed := range uint64(60) {
		g := irtest.Random(t, ops.Table(), seed, 25)
		in := irtest.Inputs(g, seed)
		want, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		c := &passes.Context{Context: t.Context(), Engine: reference{}, Calib: once(in), Log: slog.New(slog.DiscardHandler)}
		o := New()
		o.Uniform, o.FloatBias, o.ResidualBits = 8, true, int(8*(seed%2))
		if units, _ := o.unitsOf(g); len(units) == 0 {
			continue
		}
		tried++
		m, err := o.insert(c, g, false)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := ir.Verify(m.t); err != nil {
			t.Fatalf("seed %d: the graph for training: %v", seed, err)
		}
		f, err := m.finished(m.stored(), data)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := ir.Verify(f); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		trained, err := ir.Eval(t.Context(), m.t, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), f, in)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i := range want {
			if want[i].Elem() != tensor.F32 {
				continue
			}
			if d := distance(got[i], trained[i]); d > 0.05 {
				t.Errorf("seed %d: output %d is %.2g away from that of the graph for training\n%s", seed, i, d, ir.Format(f))
			}
			if d := distance(got[i], want[i]); d > 0.3 {
				t.Errorf("seed %d: output %d is %.2g away from the float graph's", seed, i, d)
			}
		}
	}
	if tried < 20 {
		t.Errorf("only %d graphs have layers", tried)
	}
}

// distance is the root mean square of the differences as a part of that of y.
func distance(x, y *tensor.Tensor) float64 {
	diff, size := 0.0, 0.0
	for i, v := range y.Float64s() {
		d := x.Float64s()[i] - v
		diff, size = diff+d*d, size+v*v
	}
	if size == 0 {
		return math.Sqrt(diff)
	}
	return math.Sqrt(diff / size)
}
