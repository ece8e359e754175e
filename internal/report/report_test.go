package report

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// quantised returns image → Quant(8) → Conv(i4 weights, dequantised; f32 bias)
// → Relu → Quant(3) → Flatten → Gemm(f32 weights through a 2-bit Quant).
func quantised(t *testing.T) *ir.Graph {
	t.Helper()
	g := ir.NewGraph("q", ops.Table())
	r := ir.NewRewriter(g)
	quant := func(name string, v *ir.Value, bits float32) *ir.Value {
		return r.Must1("thriftc.Quant", name, nil, v, r.Float("s", 0.5), r.Float("z", 0), r.Float("b", bits))
	}
	x := quant("q8", r.Input("image", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1), ir.Fixed(4), ir.Fixed(4))), 8)
	w := r.Const("w", tensor.OfElem(tensor.I4, make([]int8, 18), 2, 1, 3, 3))
	dq := r.Must1("DequantizeLinear", "dq", ir.MakeAttrs("axis", 0), w, r.Const("ws", tensor.Of([]float32{1, 2}, 2)))
	c := r.Must1("Conv", "conv", nil, x, dq, r.Const("bias", tensor.Of([]float32{1, 2}, 2)))
	c = quant("q3", r.Must1("Relu", "relu", nil, c), 3)
	c = r.Must1("Flatten", "flat", nil, c)
	fw := quant("q2", r.Const("fw", tensor.New(tensor.F32, 8, 5)), 2)
	r.Output(r.Must1("Gemm", "fc", nil, c, fw))
	return g
}

func TestSummarize(t *testing.T) {
	s := Summarize(quantised(t))
	conv, fc := s.Layers[0], s.Layers[len(s.Layers)-1]
	if len(s.Layers) != 4 {
		t.Fatalf("%d layers, want conv, relu, flat, fc: %+v", len(s.Layers), s.Layers)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"parameters", s.Parameters, int64(18 + 2 + 40)},
		{"macs", s.MACs, int64(2*2*2*9 + 40)},
		{"bops", s.BOPs, int64(72*4*8 + 40*2*3)},
		// i4 weights 9, bias 8, their scales 8; scale, zero and bits of three quantisers 36; 40 weights of 2 bits 10.
		{"packed bytes", s.PackedBytes, int64(9 + 8 + 8 + 36 + 10)},
		{"container bytes", s.ContainerBytes, int64(18 + 8 + 8 + 36 + 160)},
		{"mean weight bits", s.MeanBitsWeights, 3.0},
		{"mean by value", s.MeanBitsWeightsByValue, (18*4 + 40*2) / 58.0},
		{"mean activation bits", s.MeanBitsActivations, 3.0}, // the 8 bits of the input are aside
		{"conv", []any{conv.Name, conv.Op, conv.Shape, conv.WeightBits, conv.ActivationBits, conv.Parameters}, []any{"conv", "Conv", "f32[N,2,2,2]", 4, 8, int64(20)}},
		{"fc", []any{fc.Name, fc.WeightBits, fc.ActivationBits, fc.Parameters}, []any{"fc", 2, 3, int64(40)}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestSharedWeightsCountOnce(t *testing.T) {
	g := ir.NewGraph("shared", ops.Table())
	r := ir.NewRewriter(g)
	w := r.Const("w", tensor.New(tensor.F32, 3, 3))
	v := r.Input("x", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(3)))
	v = r.Must1("MatMul", "a", nil, v, w)
	r.Output(r.Must1("MatMul", "b", nil, v, w))
	s := Summarize(g)
	if s.Parameters != 9 || s.MACs != 18 || s.Layers[0].Parameters != 9 || s.Layers[1].Parameters != 0 || s.Layers[1].WeightBits != 32 {
		t.Errorf("%+v", s)
	}
}

// TestRolesDecide: whether an operand is constant, a weight or an activation follows from
// every input of what makes it, and from what it is to the operator.
func TestRolesDecide(t *testing.T) {
	fixed := func(d ...int) ir.Type {
		dims := make([]ir.Dim, len(d))
		for i, n := range d {
			dims[i] = ir.Fixed(n)
		}
		return ir.TensorType(tensor.F32, dims...)
	}
	for _, c := range []struct {
		name  string
		build func(r *ir.Rewriter) *ir.Value
		want  []any // parameters, BOPs, bits of weights and activations of the last layer, mean bits of activations, packed bytes
	}{
		{"embedding", func(r *ir.Rewriter) *ir.Value {
			ids := r.Input("ids", ir.TensorType(tensor.I64, ir.Fixed(4)))
			v := r.Must1("Gather", "table", nil, r.Const("t", tensor.New(tensor.F32, 2, 2)), ids)
			return r.Must1("MatMul", "product", nil, v, r.Const("w", tensor.New(tensor.F32, 2, 1)))
		}, []any{int64(6), int64(8 * 32 * 32), 32, 32, 32.0, int64(24)}},
		{"integer table", func(r *ir.Rewriter) *ir.Value {
			ids := r.Input("ids", ir.TensorType(tensor.I64, ir.Fixed(4)))
			v := r.Must1("Gather", "table", nil, r.Const("t", tensor.OfElem(tensor.I8, make([]int8, 4), 2, 2)), ids)
			v = r.Must1("DequantizeLinear", "dq", nil, v, r.Float("s", 1))
			return r.Must1("MatMul", "product", nil, v, r.Const("w", tensor.New(tensor.F32, 2, 1)))
		}, []any{int64(6), int64(8 * 8 * 32), 32, 8, 8.0, int64(4 + 4 + 8)}},
		{"joined", func(r *ir.Rewriter) *ir.Value {
			x := r.Must1("Relu", "relu", nil, r.Must1("Neg", "neg", nil, r.Input("x", fixed(1, 2))))
			q := r.Must1("thriftc.Quant", "q", nil, x, r.Float("s", 1), r.Float("z", 0), r.Float("b", 4))
			v := r.Must1("Concat", "join", ir.MakeAttrs("axis", 1), q, x)
			return r.Must1("MatMul", "product", nil, v, r.Const("w", tensor.New(tensor.F32, 4, 1)))
		}, []any{int64(4), int64(4 * 32 * 32), 32, 32, 32.0, int64(4 + 4 + 4 + 16)}},
		{"moved weights", func(r *ir.Rewriter) *ir.Value {
			w := r.Must1("Transpose", "turn", nil, r.Const("w", tensor.New(tensor.F32, 1, 2)))
			w = r.Must1("thriftc.Quant", "q", nil, w, r.Float("s", 1), r.Float("z", 0), r.Float("b", 4))
			return r.Must1("MatMul", "product", nil, r.Must1("Neg", "neg", nil, r.Input("x", fixed(1, 2))), w)
		}, []any{int64(2), int64(2 * 4 * 32), 4, 32, 32.0, int64(1 + 12)}},
		{"moved integers", func(r *ir.Rewriter) *ir.Value {
			w := r.Must1("Transpose", "turn", nil, r.Const("w", tensor.OfElem(tensor.I4, make([]int8, 2), 1, 2)))
			w = r.Must1("DequantizeLinear", "dq", nil, w, r.Float("s", 1))
			return r.Must1("MatMul", "product", nil, r.Must1("Neg", "neg", nil, r.Input("x", fixed(1, 2))), w)
		}, []any{int64(2), int64(2 * 4 * 32), 4, 32, 32.0, int64(1 + 4)}},
		{"two activations", func(r *ir.Rewriter) *ir.Value {
			x := r.Must1("Neg", "neg", nil, r.Input("x", fixed(2, 2)))
			q := r.Must1("thriftc.Quant", "q", nil, x, r.Float("s", 1), r.Float("z", 0), r.Float("b", 4))
			return r.Must1("MatMul", "product", nil, q, x)
		}, []any{int64(0), int64(8 * 4 * 32), 0, 32, 0.0, int64(12)}},
		{"zero points are no weights", func(r *ir.Rewriter) *ir.Value {
			x := r.Must1("Relu", "relu", nil, r.Input("x", ir.TensorType(tensor.I8, ir.Fixed(1), ir.Fixed(2))))
			return r.Must1("MatMulInteger", "product", nil, x, r.Const("w", tensor.OfElem(tensor.I8, make([]int8, 2), 2, 1)),
				r.Const("zx", tensor.OfElem(tensor.I8, make([]int8, 1))), r.Const("zw", tensor.OfElem(tensor.I8, make([]int8, 1))))
		}, []any{int64(2), int64(2 * 8 * 8), 8, 8, 0.0, int64(4)}},
	} {
		g := ir.NewGraph("g", ops.Table())
		r := ir.NewRewriter(g)
		r.Output(c.build(r))
		s := Summarize(g)
		l := s.Layers[len(s.Layers)-1]
		if got := []any{s.Parameters, s.BOPs, l.WeightBits, l.ActivationBits, s.MeanBitsActivations, s.PackedBytes}; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	tab := &Table{Head: []string{"layer", "n", "ß"}}
	tab.Add("é\x1b[2J", "1,234", "x")
	tab.Rule()
	tab.Add("all", "–")
	var b bytes.Buffer
	if err := tab.Write(&b, false); err != nil {
		t.Fatal(err)
	}
	want := "layer         n  ß\n" +
		"é\\x1b[2J  1,234  x\n" +
		"──────────────────\n" +
		"all           –\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	for n, s := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if Count(n) != s {
			t.Errorf("%d became %s", n, Count(n))
		}
	}
}

func pointer(v float64) *float64 { return &v }

func example() *Report {
	return &Report{
		Schema: Schema, Version: "test", Command: "thriftc compress <x>", BudgetMet: true, Warnings: []string{"slower"}, NotMeasured: []string{},
		Before: Measures{Top1: pointer(0.92), N: 100, MSPerImage: pointer(2), Summary: Summary{Bytes: 1000, Parameters: 10, Layers: []Layer{}}},
		After:  Measures{Top1: pointer(0.915), N: 100, Summary: Summary{Bytes: 250, Parameters: 10, MeanBitsWeights: 8, Layers: []Layer{}}},
		Passes: []passes.StepResult{},
	}
}

func TestReportFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	if err := example().Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, example()) {
		t.Errorf("came back as %+v", got)
	}
	data, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	after := m["after"].(map[string]any)
	for _, key := range []string{"top1", "parameters", "bytes", "macs", "bops", "mean_bits_weights", "mean_bits_activations", "ms_per_image", "layers"} {
		if _, ok := after[key]; !ok {
			t.Errorf("after lacks %s", key)
		}
	}
	for _, key := range []string{"seed", "command", "version", "wall_seconds", "budget_met", "warnings", "not_measured", "passes"} {
		if _, ok := m[key]; !ok {
			t.Errorf("the report lacks %s", key)
		}
	}
	if _, err := Decode([]byte(`{"schema": 2}`)); err == nil || !strings.Contains(err.Error(), "schema 2") {
		t.Errorf("a later schema was read: %v", err)
	}
}

func TestWarn(t *testing.T) {
	var r Report
	if first, again, other := r.Warn("a"), r.Warn("a"), r.Warn("b"); !first || again || !other || len(r.Warnings) != 2 {
		t.Errorf("%v %v %v %q", first, again, other, r.Warnings)
	}
}

func TestGate(t *testing.T) {
	l := Limits{MaxBytes: pointer(250), MaxBytesRatio: pointer(0.2), MaxDrop: pointer(0.51), MinTop1: pointer(0.92), MaxMSRatio: pointer(1), RequireBudget: true, RefuseWarnings: true}
	checks := example().Gate(l)
	want := `pass  max-bytes        250, asked for at most 250
FAIL  max-bytes-ratio  0.25, asked for at most 0.2
pass  max-drop         0.5, asked for at most 0.51
FAIL  min-top1         0.915, asked for at least 0.92
FAIL  max-ms-ratio     not measured; asked for at most 1
pass  require-budget   the run met its budget
FAIL  refuse-warnings  1, asked for at most 0
`
	var b bytes.Buffer
	if err := WriteChecks(&b, checks); err != nil || b.String() != want {
		t.Errorf("got\n%swant\n%s%v", b.String(), want, err)
	}
	if Passed(checks) || !Passed(checks[:1]) {
		t.Error("Passed is wrong")
	}
	b.Reset()
	if err := WriteJUnit(&b, "gate", checks[:2]); err != nil {
		t.Fatal(err)
	}
	wantXML := `<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="gate" tests="2" failures="1">
    <testcase classname="gate" name="max-bytes"></testcase>
    <testcase classname="gate" name="max-bytes-ratio">
      <failure message="0.25, asked for at most 0.2"></failure>
    </testcase>
  </testsuite>
</testsuites>
`
	if b.String() != wantXML {
		t.Errorf("got\n%s", b.String())
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	p := NewProgress(&b, func() int { return 80 })
	p.now = func() time.Time { return now }
	for i := range 20 {
		p.Update("calibrate", i, 20)
		if now.Sub(time.Unix(0, 0)) < patience && b.Len() > 0 {
			t.Fatalf("drawn after %v", now)
		}
		now = now.Add(500 * time.Millisecond)
	}
	if !strings.Contains(b.String(), "\rcalibrate ████████████░░░░░░░░░░░░ 10/20, 5s left") {
		t.Errorf("drew %q", b.String())
	}
	p.Update("calibrate", 20, 20)
	if !strings.HasSuffix(b.String(), " \r") {
		t.Errorf("the bar stays: %q", b.String())
	}
	var none *Progress
	none.Update("x", 1, 2)
	none.Clear()
}

// A bar is never wider than its terminal.
func TestProgressFits(t *testing.T) {
	for columns := range 100 {
		line := fit("evaluating", "1234/5000, 1m3s left", 0.4, columns)
		if n := utf8.RuneCountInString(line); n > columns {
			t.Errorf("%d columns: %q", columns, line)
		}
	}
	if got, want := fit("evaluating", "1/2", 0.5, 24), "evaluating ████░░░░░ 1/2"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := fit("evaluating", "1/2", 0.5, 15), "evaluating 1/2"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Where there is no terminal a line tells every ten seconds.
func TestProgressLines(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	p := NewProgressLines(&b, "thriftc: ")
	p.now = func() time.Time { return now }
	for i := range 25 {
		p.Update("training", i, 100)
		now = now.Add(time.Second)
	}
	p.Update("training", 100, 100)
	p.Clear()
	if got, want := b.String(), "thriftc: training 10/100, 1m30s left\nthriftc: training 20/100, 1m20s left\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	data, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		r.Gate(Limits{MaxBytes: pointer(1), MaxBytesRatio: pointer(1), MaxMSRatio: pointer(1), MaxDrop: pointer(1)})
		if err := r.Table().Write(&bytes.Buffer{}, false); err != nil {
			t.Error(err)
		}
		if _, err := r.Encode(); err != nil {
			t.Error(err)
		}
	})
}
