// Package interp is the engine that runs graphs on the CPU. It computes the
// same bits as the operators' reference evaluators, whatever the number of
// threads, the batch size and the CPU's vector units.
//
// An executable plans once per set of input shapes: it folds what is constant,
// chooses a kernel for each node (fusing what follows a convolution into it),
// and lays the results out in one arena. A node without a kernel is evaluated
// by its operator's Eval.
package interp

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"thriftc/backends"
	"thriftc/backends/interp/simd"
	"thriftc/ir"
	"thriftc/ir/tensor"
)

// New returns the engine.
func New() backends.Engine { return engine{} }

type engine struct{}

// Compile implements backends.Engine.
func (engine) Compile(ctx context.Context, g *ir.Graph, o backends.Options) (backends.Executable, error) {
	if g.Parent != nil {
		return nil, fmt.Errorf("graph %q is a subgraph: only whole models can be compiled", g.Name)
	}
	if o.Threads < 0 {
		return nil, fmt.Errorf("%d threads", o.Threads)
	}
	set, err := simd.Named(o.Kernel)
	if err != nil {
		return nil, err
	}
	threads := o.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	folded := g.Clone()
	st, err := takeState(folded, o.State)
	if err != nil {
		return nil, err
	}
	if err := fold(ctx, folded); err != nil {
		return nil, err
	}
	return &executable{
		graph: folded, state: st, set: set, pool: newPool(threads),
		scratch: make([][]float32, threads), packs: map[packKey]any{},
	}, nil
}

// maxPlans bounds the plans that an executable keeps: one per set of input shapes.
const maxPlans = 8

type executable struct {
	graph   *ir.Graph // constant nodes already evaluated
	state   *state
	set     *simd.Set
	pool    *pool
	plans   []*plan // most recently used first
	arena   []float32
	scratch [][]float32     // of each worker
	packs   map[packKey]any // weights as the kernels want them, for all plans
}

// Run implements backends.Executable.
func (x *executable) Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	if x.pool == nil {
		return nil, errors.New("the executable is closed")
	}
	if caller := len(x.graph.Inputs) - len(x.state.params); len(in) != caller {
		return nil, fmt.Errorf("the graph has %d inputs, got %d", caller, len(in))
	}
	in = x.state.inputs(in)
	p, err := x.plan(ctx, in)
	if err != nil {
		return nil, err
	}
	if len(x.arena) < p.arenaLen {
		x.arena = make([]float32, p.arenaLen)
	}
	out, err := p.run(ctx, x, in, nil)
	if err != nil {
		return nil, err
	}
	return x.state.apply(out)
}

// Profile implements backends.Profiler.
func (x *executable) Profile(ctx context.Context, in []*tensor.Tensor) ([]backends.Step, error) {
	if _, err := x.Run(ctx, in); err != nil { // plans, if it must, and warms up
		return nil, err
	}
	p := x.plans[0]
	spent := make([]time.Duration, len(p.steps))
	if _, err := p.run(ctx, x, x.state.inputs(in), spent); err != nil {
		return nil, err
	}
	out := make([]backends.Step, len(p.steps))
	for i, s := range p.steps {
		out[i] = backends.Step{Nodes: s.nodes, Kernel: s.name, Time: spent[i]}
	}
	return out, nil
}

// Memory implements backends.Profiler.
func (x *executable) Memory() (m backends.Memory) {
	if len(x.plans) > 0 {
		m.Arena = 4 * int64(x.plans[0].arenaLen)
	}
	for _, s := range x.scratch {
		m.Scratch += 4 * int64(len(s))
	}
	return m
}

// Close implements backends.Executable.
func (x *executable) Close() {
	if x.pool != nil {
		x.pool.close()
	}
	*x = executable{}
}

// plan returns the plan for the shapes of in, made now or earlier.
func (x *executable) plan(ctx context.Context, in []*tensor.Tensor) (*plan, error) {
	shapes := make([][]int, len(in))
	for i, t := range in {
		v := x.graph.Inputs[i]
		if t == nil {
			return nil, fmt.Errorf("input %q is missing", v.Name)
		}
		if t.Elem() != v.Type.Elem && v.Type.Elem != tensor.Invalid {
			return nil, fmt.Errorf("input %q is %v, got %v", v.Name, v.Type, ir.TypeOf(t))
		}
		shapes[i] = t.Shape()
	}
	same := func(p *plan) bool { return slices.EqualFunc(p.shapes, shapes, slices.Equal[[]int]) }
	i := slices.IndexFunc(x.plans, same)
	if i < 0 {
		p, err := newPlan(ctx, x, shapes)
		if err != nil {
			return nil, err
		}
		i = min(len(x.plans), maxPlans-1)
		x.plans = append(x.plans[:i], p)
	}
	p := x.plans[i]
	copy(x.plans[1:], x.plans[:i])
	x.plans[0] = p
	return p, nil
}

// packKey names a constant in the form that a kernel wants.
type packKey struct {
	t    *tensor.Tensor
	form string
}

// packed returns a constant in the form that a kernel wants, which pack makes.
// A constant of the executable's graph is packed once for all plans.
func packed[T any](x *executable, t *tensor.Tensor, form string, pack func() T) T {
	key := packKey{t, form}
	if p, ok := x.packs[key]; ok {
		return p.(T)
	}
	p := pack()
	if slices.ContainsFunc(x.graph.Consts, func(v *ir.Value) bool { return v.Data == t }) {
		x.packs[key] = p
	}
	return p
}
