package interp

import (
	"context"
	"fmt"
	"slices"
	"time"

	"thriftc/ir"
	"thriftc/ir/tensor"
)

// plan is a graph prepared for one set of input shapes.
type plan struct {
	shapes   [][]int
	steps    []step
	values   []*tensor.Tensor // by value number: constants; nil where a run fills it
	inputs   []int            // value numbers of the graph's inputs
	outputs  []int            // value numbers of the graph's outputs
	arenaLen int              // in floats
}

// step computes the results of one node, or of a node and those fused into it.
type step struct {
	node  *ir.Node   // for Eval and for messages
	nodes []*ir.Node // node and those fused into it
	name  string     // of the kernel
	kind  stepKind
	run   kernel // computed only
	in    []int  // value numbers, −1 where absent
	out   []place
	drop  []int // values that nothing needs after this step
}

// stepKind says how a step's results come by their memory.
type stepKind uint8

const (
	evaluated stepKind = iota // Op.Eval allocates, or returns what shares memory with the inputs
	computed                  // a kernel writes to memory that it is given
	viewed                    // the first input's memory with another shape
)

// place says where a result goes.
type place struct {
	value  int   // −1: nobody wants it
	shape  []int // nil: not known before the run
	elem   tensor.Elem
	offset int // in the arena; −1: memory of its own
}

// kernel computes a step. The inputs' shapes are those of the plan; the
// outputs are allocated and hold anything.
type kernel func(c *call, in, out []*tensor.Tensor) error

// call is what a kernel may use while it runs.
type call struct {
	ctx     context.Context
	pool    *pool
	scratch [][]float32 // one per worker, grown as needed
}

// parallel runs n independent tasks on the pool.
func (c *call) parallel(n int, task func(worker, i int)) error {
	return c.pool.parallel(c.ctx, n, task)
}

// temp returns n floats of the worker's scratch memory, which hold anything.
func (c *call) temp(worker, n int) []float32 {
	if len(c.scratch[worker]) < n {
		c.scratch[worker] = make([]float32, n)
	}
	return c.scratch[worker][:n]
}

// unit is a step before values have numbers.
type unit struct {
	node    *ir.Node
	fused   []*ir.Node // those after node that are computed with it
	name    string     // of the kernel
	kind    stepKind
	run     kernel
	in, out []*ir.Value
}

func newPlan(ctx context.Context, x *executable, shapes [][]int) (*plan, error) {
	g, err := ir.BindShapes(x.graph, shapes)
	if err != nil {
		return nil, err
	}
	if err := fold(ctx, g); err != nil {
		return nil, err
	}
	p := &plan{}
	for _, s := range shapes {
		p.shapes = append(p.shapes, slices.Clone(s))
	}
	number := map[*ir.Value]int{}
	add := func(v *ir.Value) int {
		number[v] = len(p.values)
		p.values = append(p.values, v.Data)
		return number[v]
	}
	for _, v := range g.Inputs {
		p.inputs = append(p.inputs, add(v))
	}
	for _, v := range g.Consts {
		add(v)
	}
	for _, u := range units(x, g) {
		s := step{node: u.node, nodes: append([]*ir.Node{u.node}, u.fused...), name: u.name, kind: u.kind, run: u.run}
		for _, v := range u.in {
			if v == nil {
				s.in = append(s.in, -1)
			} else {
				s.in = append(s.in, number[v])
			}
		}
		for _, v := range u.out {
			pl := place{value: -1, offset: -1}
			if v != nil {
				pl.value, pl.elem = add(v), v.Type.Elem
				if shape, ok := v.Type.Static(); ok {
					pl.shape = shape
				}
			}
			s.out = append(s.out, pl)
		}
		p.steps = append(p.steps, s)
	}
	for _, v := range g.Outputs {
		p.outputs = append(p.outputs, number[v])
	}
	p.layOut()
	return p, nil
}

// run computes the plan's outputs. The time of each step is put in spent unless that is nil.
func (p *plan) run(ctx context.Context, x *executable, in []*tensor.Tensor, spent []time.Duration) ([]*tensor.Tensor, error) {
	env := slices.Clone(p.values)
	for i, v := range p.inputs {
		env[v] = in[i]
	}
	c := &call{ctx: ctx, pool: x.pool, scratch: x.scratch}
	for i := range p.steps {
		s := &p.steps[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var start time.Time
		if spent != nil {
			start = time.Now()
		}
		if err := s.exec(c, x.arena, env); err != nil {
			return nil, err
		}
		if spent != nil {
			spent[i] = time.Since(start)
		}
		for _, v := range s.drop {
			env[v] = nil
		}
	}
	out := make([]*tensor.Tensor, len(p.outputs))
	for i, v := range p.outputs {
		out[i] = env[v]
	}
	return out, nil
}

func (s *step) exec(c *call, arena []float32, env []*tensor.Tensor) error {
	in := make([]*tensor.Tensor, len(s.in))
	for i, v := range s.in {
		if v >= 0 {
			in[i] = env[v]
		}
	}
	var out []*tensor.Tensor
	var err error
	switch s.kind {
	case evaluated:
		if out, err = s.node.Eval(in); err != nil {
			return err
		}
	case viewed:
		out = []*tensor.Tensor{in[0].Reshape(s.out[0].shape...)}
	case computed:
		out = make([]*tensor.Tensor, len(s.out))
		for i, pl := range s.out {
			if out[i], err = pl.alloc(arena); err != nil {
				return s.wrap(err)
			}
		}
		if err := s.run(c, in, out); err != nil {
			return s.wrap(err)
		}
	}
	for i, pl := range s.out {
		if pl.value < 0 {
			continue
		}
		if pl.shape != nil && !slices.Equal(out[i].Shape(), pl.shape) {
			return s.wrap(fmt.Errorf("output %d has shape %v, expected %v", i, out[i].Shape(), pl.shape))
		}
		env[pl.value] = out[i]
	}
	return nil
}

func (s *step) wrap(err error) error {
	return fmt.Errorf("%s %s: %w", s.node.Op.Name, s.node.Label(), err)
}

func (pl *place) alloc(arena []float32) (*tensor.Tensor, error) {
	if pl.offset < 0 {
		return tensor.Alloc(pl.elem, pl.shape...)
	}
	n, err := tensor.NumElems(pl.shape)
	if err != nil {
		return nil, err
	}
	return tensor.Of(arena[pl.offset:pl.offset+n:pl.offset+n+slack], pl.shape...), nil
}
