package bench

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// sleeper is an executable that takes a known time.
type sleeper struct {
	backends.Executable
	time time.Duration
	log  func()
}

func (s sleeper) Run(context.Context, []*tensor.Tensor) ([]*tensor.Tensor, error) {
	time.Sleep(s.time)
	s.log()
	return nil, nil
}

func (s sleeper) RunInto(ctx context.Context, in, _ []*tensor.Tensor) error {
	_, err := s.Run(ctx, in)
	return err
}

func (sleeper) Close() {}

// Both models run as often as asked, in turn, and the first runs do not count.
func TestMeasureInTurn(t *testing.T) {
	var order []byte
	models := []*Timed{
		{Exe: sleeper{time: blockTime, log: func() { order = append(order, 'a') }}},
		{Exe: sleeper{time: blockTime * 2, log: func() { order = append(order, 'b') }}},
	}
	parts := []float64{}
	err := Timing{Runs: 3}.Measure(t.Context(), models, func(done float64) { parts = append(parts, done) })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(order), "aabbababab"; got != want {
		t.Errorf("ran in the order %s, want %s", got, want)
	}
	if !slices.IsSorted(parts) || parts[0] != 0 || parts[len(parts)-1] != 1 {
		t.Errorf("progress was %v", parts)
	}
	for i, m := range models {
		if len(m.Runs) != 3 || Median(m.Runs) < Milliseconds(blockTime)*float64(i+1) {
			t.Errorf("model %d: runs of %v ms", i, m.Runs)
		}
	}
}

func TestMeasureStopsAtLimit(t *testing.T) {
	m := &Timed{Exe: sleeper{time: time.Millisecond, log: func() {}}}
	start := time.Now()
	if err := (Timing{Limit: 60 * time.Millisecond}).Measure(t.Context(), []*Timed{m}, func(float64) {}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 60*time.Millisecond || d > 5*time.Second || len(m.Runs) < 3 {
		t.Errorf("took %v for %d runs", d, len(m.Runs))
	}
	slow := &Timed{Exe: sleeper{time: 10 * time.Millisecond, log: func() {}}}
	if err := (Timing{Limit: 1}).Measure(t.Context(), []*Timed{slow}, func(float64) {}); err != nil || len(slow.Runs) < 3 {
		t.Errorf("%d runs, at least 3 are promised (%v)", len(slow.Runs), err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}} {
		if got := Median(c.x); got != c.want {
			t.Errorf("median of %v is %v", c.x, got)
		}
	}
}

func TestTimingInput(t *testing.T) {
	g := ir.NewGraph("g", ops.Table())
	r := ir.NewRewriter(g)
	for _, e := range []tensor.Elem{tensor.F32, tensor.F16, tensor.U8, tensor.I8, tensor.Bool, tensor.I64} {
		r.Input(e.String(), ir.TensorType(e, ir.Fixed(4), ir.Fixed(50)))
	}
	in, err := Input(g, 7)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Input(g, 7)
	other, _ := Input(g, 8)
	for i, x := range in {
		if !tensor.Equal(x, again[i]) {
			t.Errorf("%v: not the same for the same seed", x.Elem())
		}
		if wide := x.Elem() == tensor.I64; tensor.Equal(x, other[i]) != wide {
			t.Errorf("%v: another seed, the same numbers: %v", x.Elem(), !wide)
		}
	}
	if lo, hi := slices.Min(in[3].Int64s()), slices.Max(in[3].Int64s()); lo > -64 || hi < 64 {
		t.Errorf("i8 from %d to %d", lo, hi)
	}
}

// A rebatched model computes for each sample what it computed for one.
func TestRebatch(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[1,2,2,2]
  const %w: f32[2,2,1,1] = [1, 2, 3, 4]
  const %s: i64[3] = [1, 4, -1]
  %a = Conv(%x, %w)
  %b = Reshape(%a, %s)
  output %b
}`, ops.Table())
	big, err := WithBatch(g, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 24)
	for i := range x {
		x[i] = float32(i)
	}
	all, err := ir.Eval(t.Context(), big, []*tensor.Tensor{tensor.Of(x, 3, 2, 2, 2)})
	if err != nil {
		t.Fatal(err)
	}
	var want []float32
	for i := range 3 {
		one, err := ir.Eval(t.Context(), g, []*tensor.Tensor{tensor.Of(x[8*i:8*i+8], 1, 2, 2, 2)})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, one[0].Float32s()...)
	}
	irtest.Equal(t, "three at once", all[0], tensor.Of(want, 3, 4, 2))
	if d := g.Inputs[0].Type.Dims[0].N; d != 1 {
		t.Errorf("the model itself now has batch %d", d)
	}
}

func TestRandomise(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[1,4,8,8]
  const %ws: i64[4] = [16, 4, 3, 3]
  const %v: f32[16] = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
  const %m: f32[16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
  %w = ConstantOfShape(%ws)
  %a = Conv(%x, %w)
  %b = BatchNormalization(%a, %v, %m, %m, %v)
  output %b
}`, ops.Table())
	one, err := Randomise(g, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := one.Nodes[0].ConstIn(1).Float32s()
	var squares float64
	for _, x := range w {
		squares += float64(x) * float64(x)
	}
	if v := squares / float64(len(w)); math.Abs(v-2.0/36) > 0.01 {
		t.Errorf("weights have variance %v, want 2/36", v)
	}
	bn := one.Nodes[1]
	if slices.Min(bn.ConstIn(4).Float32s()) <= 0 || bn.In[1] != bn.In[4] || bn.In[2] != bn.In[3] {
		t.Error("variances must be positive, and what was one value must stay one")
	}
	same, _ := Randomise(g, 1)
	other, _ := Randomise(g, 2)
	if !slices.Equal(w, same.Nodes[0].ConstIn(1).Float32s()) || slices.Equal(w, other.Nodes[0].ConstIn(1).Float32s()) {
		t.Error("weights must depend on the seed and on nothing else")
	}
	if g.Nodes[0].Op.Name != "ConstantOfShape" {
		t.Error("the model itself was changed")
	}
}
