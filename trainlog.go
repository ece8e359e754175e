package thriftc

import (
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/internal/train"
)

// trainLog writes down what a training reports at the ends of epochs.
type trainLog struct {
	dir    string
	log    *slog.Logger
	told   func(Epoch) // may be nil
	points []train.Point
	n      int // points that have been told
}

// point writes the log as it stands and tells what is new.
func (l *trainLog) point(_ string, curve []train.Point) {
	l.points = curve
	err := atomicfile.Write(filepath.Join(l.dir, "log.jsonl"), func(w io.Writer) error {
		for _, p := range curve {
			if err := json.NewEncoder(w).Encode(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.log.Warn("the log cannot be written: " + err.Error())
	}
	if l.told != nil {
		for _, p := range curve[min(l.n, len(curve)):] {
			l.told(Epoch(p))
		}
	}
	l.n = len(curve)
}

// plot draws the curves to base.svg and base.png.
func (l *trainLog) plot(base string) error {
	if len(l.points) == 0 {
		return nil
	}
	var epochs, loss, right []float64
	sets := map[string]*report.Curve{"held-out": {Name: "held-out"}, "eval": {Name: "eval"}}
	add := func(name string, epoch float64, x *float64) {
		if x != nil {
			c := sets[name]
			c.X, c.Y = append(c.X, epoch), append(c.Y, 100**x)
		}
	}
	for _, p := range l.points {
		epochs, loss, right = append(epochs, p.Epoch), append(loss, p.Loss), append(right, 100*p.Accuracy)
		add("held-out", p.Epoch, p.Val)
		add("eval", p.Epoch, p.Eval)
	}
	accuracy := report.Panel{Title: "accuracy", XLabel: "epoch", YLabel: "top-1 in %", Curves: []report.Curve{{Name: "train (augmented)", X: epochs, Y: right}}}
	for _, name := range []string{"held-out", "eval"} {
		if len(sets[name].X) > 0 {
			accuracy.Curves = append(accuracy.Curves, *sets[name])
		}
	}
	return report.WritePlot(base, report.Panel{Title: "loss", XLabel: "epoch", YLabel: "loss", Curves: []report.Curve{{Name: "train", X: epochs, Y: loss}}}, accuracy)
}
