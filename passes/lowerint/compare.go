package lowerint

import (
	"errors"
	"fmt"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// check is an integer operator with the values of the original graph that its
// operands and its result stand for.
type check struct {
	node *ir.Node
	from []*integer
	y    *integer
}

// Difference says how the results of an integer operator differ from the
// fake-quantised ones when its operands are the same.
type Difference struct {
	Node     string `json:"node"`
	Elements int    `json:"elements"`
	Differ   int    `json:"differ"`    // by any number of steps
	MaxSteps int64  `json:"max_steps"` // the greatest difference
}

// compare runs the fake-quantised graph on calibration samples and gives every
// integer operator the integers that it finds there.
func (l *lowering) compare(before *ir.Graph, samples int) error {
	if l.c.Calib == nil || l.c.Engine == nil {
		return errors.New("comparing needs calibration data and an engine")
	}
	byName := map[string]*ir.Value{}
	for _, v := range before.Inputs {
		byName[v.Name] = v
	}
	for _, n := range before.Nodes {
		for _, v := range n.Out {
			if v != nil {
				byName[v.Name] = v
			}
		}
	}
	r := ir.NewRewriter(before)
	at := map[string]int{}
	r.SetOutputs()
	need := func(x *integer) error {
		v := byName[x.name]
		if v == nil {
			return fmt.Errorf("%%%s is not in the graph before", x.name)
		}
		if _, ok := at[x.name]; !ok {
			at[x.name] = len(before.Outputs)
			r.Output(v)
		}
		return nil
	}
	for _, c := range l.checks {
		for _, x := range append([]*integer{c.y}, c.from...) {
			if err := need(x); err != nil {
				return err
			}
		}
	}
	exe, err := l.c.Engine.Compile(l.c, before, backends.Options{Threads: l.c.Threads})
	if err != nil {
		return err
	}
	defer exe.Close()
	all := make([]Difference, len(l.checks))
	done := 0
	for in, err := range l.c.Calib.Batches(1) {
		if err != nil {
			return err
		}
		if done == samples {
			break
		}
		out, err := exe.Run(l.c, in)
		if err != nil {
			return err
		}
		for i, c := range l.checks {
			if err := c.run(&all[i], func(x *integer) *tensor.Tensor { return x.grid.steps(out[at[x.name]]) }); err != nil {
				return err
			}
		}
		done++
		if l.c.Progress != nil {
			l.c.Progress("comparing layers", done, min(samples, l.c.Calib.Len()))
		}
	}
	var differ []Difference
	total := Difference{Node: "all"}
	for _, d := range all {
		total.Elements += d.Elements
		total.Differ += d.Differ
		total.MaxSteps = max(total.MaxSteps, d.MaxSteps)
		if d.Differ > 0 {
			differ = append(differ, d)
		}
	}
	l.c.Stat("compared-samples", done)
	l.c.Stat("compared", total)
	l.c.Stat("layers-that-differ", differ)
	return nil
}

// steps returns the integers of numbers that lie on the grid.
func (g grid) steps(x *tensor.Tensor) *tensor.Tensor {
	q := make([]int64, x.Len())
	for i, v := range x.Float32s() {
		q[i] = g.step(v)
	}
	return tensor.FromInt64s(g.elem, q, x.Shape()...)
}

func (c check) run(d *Difference, integers func(*integer) *tensor.Tensor) error {
	in := make([]*tensor.Tensor, len(c.node.In))
	for i, v := range c.node.In {
		switch {
		case v == nil:
		case v.IsConst():
			in[i] = v.Data
		case i < len(c.from):
			in[i] = integers(c.from[i])
		}
	}
	out, err := c.node.Eval(in)
	if err != nil {
		return err
	}
	got, want := out[0].Int64s(), integers(c.y).Int64s()
	d.Node = c.node.Label()
	for i, q := range got {
		d.Elements++
		if q != want[i] {
			d.Differ++
			d.MaxSteps = max(d.MaxSteps, max(q-want[i], want[i]-q))
		}
	}
	return nil
}
