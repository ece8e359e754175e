package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/backends"
)

// Profile says where the time of a run of a model goes.
type Profile struct {
	Model string        `json:"model"`
	Steps []ProfileStep `json:"steps"` // in the order of the run
}

// ProfileStep is a part of a run: a node and those computed together with it.
type ProfileStep struct {
	Name   string  `json:"name"`  // of the first node; "" where a value is only moved
	Op     string  `json:"op"`    // operators, joined by +
	Shape  string  `json:"shape"` // type of the result
	Kernel string  `json:"kernel"`
	MS     float64 `json:"ms"`     // median of the runs
	MACs   int64   `json:"macs"`   // of all samples
	GFLOPS float64 `json:"gflops"` // two operations for each multiply-accumulate; 0 where there are none
}

// NewProfile takes the median over profiled runs of the same executable on
// inputs of the same shapes, of which there must be at least one.
func NewProfile(model string, runs [][]backends.Step) *Profile {
	p := &Profile{Model: model, Steps: make([]ProfileStep, len(runs[0]))}
	for i, s := range runs[0] {
		var times []float64
		for _, r := range runs {
			times = append(times, float64(r[i].Time.Nanoseconds())/1e6)
		}
		slices.Sort(times)
		out := ProfileStep{Kernel: s.Kernel, MS: times[len(times)/2]}
		if len(s.Nodes) > 0 {
			out.Name = s.Nodes[0].Label()
		}
		var ops []string
		for _, n := range s.Nodes {
			ops = append(ops, n.Op.Name)
			if n.Op.Cost != nil {
				out.MACs += n.Op.Cost(n).MACs
			}
			if v := n.Output(0); v != nil {
				out.Shape = v.Type.String()
			}
		}
		out.Op = strings.Join(ops, "+")
		if out.MS > 0 {
			out.GFLOPS = 2 * float64(out.MACs) / out.MS / 1e6
		}
		p.Steps[i] = out
	}
	return p
}

// MS returns the sum of the steps' times.
func (p *Profile) MS() (sum float64) {
	for _, s := range p.Steps {
		sum += s.MS
	}
	return sum
}

// MACs returns the multiply-accumulates of a run.
func (p *Profile) MACs() (sum int64) {
	for _, s := range p.Steps {
		sum += s.MACs
	}
	return sum
}

// Table lists the most expensive steps, at most that many, or with most 0 all in the order of the run.
func (p *Profile) Table(most int) *Table {
	t := &Table{Head: []string{"node", "operators", "result", "kernel", "ms", "share %", "GFLOP/s"}}
	steps, total := p.Steps, p.MS()
	if most > 0 {
		steps = slices.Clone(steps)
		slices.SortStableFunc(steps, func(a, b ProfileStep) int { return cmp.Compare(b.MS, a.MS) })
		steps = steps[:min(most, len(steps))]
	}
	shown := 0.0
	for _, s := range steps {
		t.Add(s.Name, s.Op, s.Shape, s.Kernel, fmt.Sprintf("%.3f", s.MS), share(s.MS, total), rate(s.GFLOPS))
		shown += s.MS
	}
	t.Rule()
	if n := len(p.Steps) - len(steps); n > 0 {
		t.Add(fmt.Sprintf("%d more", n), "", "", "", fmt.Sprintf("%.3f", total-shown), share(total-shown, total), "")
	}
	t.Add("all", "", "", "", fmt.Sprintf("%.3f", total), share(total, total), rate(2*float64(p.MACs())/max(total, 1e-9)/1e6))
	return t
}

func share(x, total float64) string { return fmt.Sprintf("%.1f", 100*x/max(total, 1e-9)) }

func rate(gflops float64) string {
	if gflops == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", gflops)
}
