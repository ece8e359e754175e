package ort

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

func TestSession(t *testing.T) {
	Need(t)
	g := irtest.Parse(t, `graph {
  input %x: f32[N,2]
  %y = Relu(%x)
  output %y
}`, ops.Table())
	file := filepath.Join(t.TempDir(), "m.onnx")
	if err := onnxio.Write(file, g, onnxio.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	in := []Named{{"x", tensor.Of([]float32{-1, 2, 3, -4}, 2, 2)}}
	want, err := ir.Eval(t.Context(), g, []*tensor.Tensor{in[0].Tensor})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), file, in, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	irtest.Equal(t, "output", s.Out[0].Tensor, want[0])
	if !strings.Contains(s.Versions, "1.30") || !strings.Contains(s.Options, `"intraOpNumThreads":2`) {
		t.Errorf("%s with %s", s.Versions, s.Options)
	}
	for _, n := range []int{3, 5} {
		ms, cpu, err := s.Time(n)
		if err != nil || len(ms) != n || ms[0] <= 0 || ms[0] > 1000 || cpu <= 0 || cpu > 1000 {
			t.Errorf("%d runs took %v ms, of which %v by processors (%v)", n, ms, cpu, err)
		}
	}
	if _, err := Start(t.Context(), "nosuch.onnx", in, 1); err == nil || !strings.Contains(err.Error(), "nosuch.onnx") {
		t.Errorf("a model that is not there: %v", err)
	}
}
