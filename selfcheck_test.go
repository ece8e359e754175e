package thriftc

import (
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

const checked = `graph {
  input %x: f32[N,4,6,6]
  const %w: f32[2,4,1,1] = [0.5, -0.25, 1, 2, 0.125, -3, 0.75, 1]
  %y = Conv(%x, %w)
  output %y
}`

// A written model that computes something else is found out before it is put into place.
func TestSelfCheck(t *testing.T) {
	made := irtest.Parse(t, checked, ops.Table())
	a := artefact{measurer: measurer{threads: 1, rep: &report.Report{}}}
	if err := a.selfCheck(t.Context(), made, made.Clone()); err != nil {
		t.Fatal(err)
	}
	if c := a.rep.Check; c == nil || c.Float != "equal" || c.Integer != "equal" || len(a.rep.NotMeasured) > 0 {
		t.Errorf("check %+v, not measured %q", c, a.rep.NotMeasured)
	}
	wrong := func(change float32) error {
		g := made.Clone()
		w := g.Value("w")
		ir.NewRewriter(g).SetData(w, tensor.Of([]float32{0.5 + change, -0.25, 1, 2, 0.125, -3, 0.75, 1 - change}, 2, 4, 1, 1))
		a.rep = &report.Report{}
		return a.selfCheck(t.Context(), made, g)
	}
	if err := wrong(3); err == nil || !strings.Contains(err.Error(), "the written model is wrong") {
		t.Errorf("a wrong model: %v", err)
	}
	if err := wrong(0.15); err != nil || len(a.rep.Warnings) != 2 || !strings.Contains(a.rep.Check.Float, " dB") {
		t.Errorf("a doubtful model: %v, warnings %q, check %+v", err, a.rep.Warnings, a.rep.Check)
	}
	big := irtest.Parse(t, strings.Replace(checked, "6,6", "6000,6000", 1), ops.Table())
	a.rep = &report.Report{}
	if err := a.selfCheck(t.Context(), big, big); err != nil || a.rep.Check != nil || len(a.rep.NotMeasured) != 1 {
		t.Errorf("a large model: %v, check %v, not measured %q", err, a.rep.Check, a.rep.NotMeasured)
	}
}
