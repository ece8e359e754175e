package report

import (
	"bytes"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestWritePlot(t *testing.T) {
	base := filepath.Join(t.TempDir(), "curve")
	p := Panel{Title: "loss", XLabel: "epoch", Curves: []Curve{{"train", []float64{1, 2, 3}, []float64{2, 1, 0.5}}, {"eval", []float64{1, 3}, []float64{2, 1}}}}
	if err := WritePlot(base, p, p); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(base + ".svg")
	if err != nil || !bytes.Contains(svg, []byte("<svg")) || bytes.Count(svg, []byte(">eval<")) != 2 {
		t.Errorf("%d bytes of SVG, %v", len(svg), err)
	}
	f, err := os.Open(base + ".png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if m, err := png.Decode(f); err != nil || m.Bounds().Dx() < 900 || m.Bounds().Dy() < 300 {
		t.Errorf("%v, %v", m.Bounds(), err)
	}
	if err := WritePlot(base, p, p); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(base + ".svg"); err != nil || !bytes.Equal(svg, again) {
		t.Errorf("a second plot differs, %v", err)
	}
	for _, c := range []Curve{{"short", []float64{1}, nil}, {"empty", nil, nil}, {"nan", []float64{1, 2}, []float64{1, math.NaN()}}} {
		if err := WritePlot(base, Panel{Curves: []Curve{c}}); err == nil {
			t.Errorf("%s: no error", c.Name)
		}
	}
}

func TestBars(t *testing.T) {
	base := filepath.Join(t.TempDir(), "bits")
	p := Panel{Bars: []string{"conv1", "fc"}, Curves: []Curve{{Name: "weights", Y: []float64{4, 3}}, {Name: "inputs", Y: []float64{8, 5}}}}
	if err := WritePlot(base, p); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(base + ".svg")
	if err != nil || !bytes.Contains(svg, []byte(">conv1<")) || !bytes.Contains(svg, []byte(">inputs<")) {
		t.Errorf("%d bytes of SVG, %v", len(svg), err)
	}
	p.Bars = p.Bars[:1]
	if err := WritePlot(base, p); err == nil {
		t.Error("two numbers for one name: no error")
	}
}
