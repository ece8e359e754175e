package report

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
)

// profile is of a run of 10 ms: two nodes of a block, one outside.
func profile() *Profile {
	return &Profile{Model: "m.onnx", Steps: []ProfileStep{
		{Name: "/block/conv", Op: "Conv+Relu", Shape: "f32[1]", Kernel: "avx512", MS: 6, MACs: 3e6, GFLOPS: 1},
		{Name: "/block/pool", Op: "MaxPool", Kernel: "avx512", MS: 1},
		{Name: "<b>", Op: "Softmax", Kernel: "eval", MS: 3},
	}}
}

func TestProfileOfGraph(t *testing.T) {
	g := quantised(t)
	var run []backends.Step
	for i, n := range g.Nodes {
		run = append(run, backends.Step{Nodes: []*ir.Node{n}, Kernel: "k", Time: time.Duration(i+1) * time.Millisecond})
	}
	slow := append([]backends.Step{}, run...)
	slow[0].Time = time.Hour
	p := NewProfile("q", [][]backends.Step{run, slow, run})
	if p.MACs() != Summarize(g).MACs {
		t.Errorf("%d MACs, the summary says %d", p.MACs(), Summarize(g).MACs)
	}
	for i, s := range p.Steps {
		if s.MS != float64(i+1) {
			t.Errorf("step %d took %v ms, want the median %d", i, s.MS, i+1)
		}
		if want := 2 * float64(s.MACs) / s.MS / 1e6; s.GFLOPS != want {
			t.Errorf("step %d: %v GFLOP/s, want %v", i, s.GFLOPS, want)
		}
	}
}

func TestProfileTable(t *testing.T) {
	var b bytes.Buffer
	if err := profile().Table(2).Write(&b, false); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{"/block/conv  Conv+Relu", "60.0      1.0", "<b>          Softmax", "1 more", "10.000    100.0      0.6"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "MaxPool") {
		t.Errorf("the cheapest of three is among two:\n%s", got)
	}
}

func TestFrames(t *testing.T) {
	type box struct {
		level       int
		left, width float64
	}
	want := map[string]box{"m.onnx": {0, 0, 100}, "block": {1, 0, 70}, "conv": {2, 0, 60}, "pool": {2, 60, 10}, "<b>": {1, 70, 30}}
	frames := profile().frames()
	if len(frames) != len(want) {
		t.Errorf("%d frames, want %d: %v", len(frames), len(want), frames)
	}
	for _, f := range frames {
		w, ok := want[f.Label]
		if !ok || f.Level != w.level || math.Abs(f.Left-w.left) > 1e-9 || math.Abs(f.Width-w.width) > 1e-9 {
			t.Errorf("%q is at level %d from %v, wide %v, want %v", f.Label, f.Level, f.Left, f.Width, w)
		}
	}
}

// Names come from foreign files.
func TestHTMLEscapesNames(t *testing.T) {
	var b bytes.Buffer
	if err := WriteHTML(&b, "<script>", profile(), profile()); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if strings.Contains(got, "<b>") || strings.Count(got, "<script>") != 1 || strings.Count(got, "&lt;b&gt;") < 4 {
		t.Errorf("names are not escaped:\n%s", got)
	}
	if strings.Count(got, `class="flame"`) != 2 {
		t.Error("one flame graph for each model is expected")
	}
}
