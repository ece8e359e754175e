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

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
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
	var exact map[string]bool
	if !o.NoWinograd {
		exact = exactConvs(g)
	}
	folded := g.Clone()
	st, err := takeState(folded, o.State)
	if err != nil {
		return nil, err
	}
	if err := fold(ctx, folded); err != nil {
		return nil, err
	}
	x := &executable{
		graph: folded, state: st, set: set, pool: newPool(threads),
		workers: make([]worker, threads), packs: map[packKey]any{}, evals: &evaluations{}, exact: exact,
	}
	for i := range x.workers {
		x.workers[i].id = i
	}
	x.task = func(worker, i int) { x.now.do(&x.workers[worker], i) }
	return x, nil
}

// maxPlans bounds the plans that an executable keeps: one per set of input shapes.
const maxPlans = 8

// maxArena bounds the arena, in floats: a small file can describe large results.
const maxArena = 4 << 30

type executable struct {
	graph   *ir.Graph // constant nodes already evaluated
	state   *state
	set     *simd.Set
	pool    *pool
	plans   []*plan // most recently used first
	arena   []float32
	workers []worker
	now     *phase              // whose tasks run
	task    func(worker, i int) // one of now
	packs   map[packKey]any     // weights as the kernels want them, for all plans
	evals   *evaluations
	exact   map[string]bool // see exactConvs; nil: no convolution may use Winograd's method
}

// Run implements backends.Executable.
func (x *executable) Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	return x.perform(ctx, in, nil, nil)
}

// RunInto implements backends.Executable.
func (x *executable) RunInto(ctx context.Context, in, out []*tensor.Tensor) error {
	if x.state != nil && len(x.state.updates) > 0 {
		return errors.New("the graph changes parameters: use Run")
	}
	if out == nil {
		out = []*tensor.Tensor{}
	}
	_, err := x.perform(ctx, in, out, nil)
	return err
}

// perform runs a plan for the shapes of in. The caller's outputs are put in out
// unless it is nil. The time of each step is put in *spent unless that is nil.
func (x *executable) perform(ctx context.Context, in, out []*tensor.Tensor, spent *[]time.Duration) ([]*tensor.Tensor, error) {
	if x.pool == nil {
		return nil, errors.New("the executable is closed")
	}
	if caller := len(x.graph.Inputs) - len(x.state.params); len(in) != caller {
		return nil, fmt.Errorf("the graph has %d inputs, got %d", caller, len(in))
	}
	if err := x.evals.wait(ctx); err != nil {
		return nil, err
	}
	in = x.state.inputs(in)
	p, err := x.plan(ctx, in)
	if err != nil {
		return nil, err
	}
	if p.arenaLen > maxArena {
		return nil, fmt.Errorf("the results between nodes: %w: they take %.1f GB, the limit is %d", tensor.ErrTooLarge, 4e-9*float64(p.arenaLen), 4*maxArena>>30)
	}
	if len(x.arena) < p.arenaLen {
		if err := tensor.Reserve(4 * int64(p.arenaLen)); err != nil {
			return nil, fmt.Errorf("the results between nodes: %w", err)
		}
		x.arena = newFloats(p.arenaLen)
	}
	if len(x.arena) > 0 {
		p.bind(x.arena)
	}
	if out == nil {
		out = make([]*tensor.Tensor, len(p.outputs))
		for i, o := range p.outputs {
			if o.direct {
				if out[i], err = tensor.Alloc(tensor.F32, o.shape...); err != nil {
					return nil, err
				}
			}
		}
	} else if err := p.accepts(out); err != nil {
		return nil, err
	}
	var times []time.Duration
	if spent != nil {
		*spent = make([]time.Duration, len(p.done()))
		times = *spent
	}
	if err := p.run(ctx, x, in, out, times); err != nil {
		return nil, err
	}
	return x.state.apply(out)
}

// parallel runs the tasks of a phase.
func (x *executable) parallel(ctx context.Context, ph *phase) error {
	x.now = ph
	return x.pool.parallel(ctx, ph.tasks, x.task)
}

// Profile implements backends.Profiler.
func (x *executable) Profile(ctx context.Context, in []*tensor.Tensor) ([]backends.Step, error) {
	if _, err := x.Run(ctx, in); err != nil { // plans, if it must, and warms up
		return nil, err
	}
	var spent []time.Duration
	if _, err := x.perform(ctx, in, nil, &spent); err != nil {
		return nil, err
	}
	steps := x.plans[0].done()
	out := make([]backends.Step, len(steps))
	for i, s := range steps {
		out[i] = backends.Step{Nodes: s.nodes, Kernel: s.name, Time: spent[i]}
	}
	return out, nil
}

// Memory implements backends.Profiler.
func (x *executable) Memory() (m backends.Memory) {
	if len(x.plans) > 0 {
		m.Arena = 4 * int64(x.plans[0].arenaLen)
	}
	for i := range x.workers {
		m.Scratch += 4 * int64(len(x.workers[i].scratch))
	}
	return m
}

// Close implements backends.Executable.
func (x *executable) Close() {
	if x.pool != nil {
		x.evals.wait(context.Background())
		x.pool.close()
	}
	*x = executable{}
}

// plan returns the plan for the shapes of in, made now or earlier.
func (x *executable) plan(ctx context.Context, in []*tensor.Tensor) (*plan, error) {
	for i, t := range in {
		v := x.graph.Inputs[i]
		if t == nil {
			return nil, fmt.Errorf("input %q is missing", v.Name)
		}
		if t.Elem() != v.Type.Elem && v.Type.Elem != tensor.Invalid {
			return nil, fmt.Errorf("input %q is %v, got %v", v.Name, v.Type, ir.TypeOf(t))
		}
	}
	i := slices.IndexFunc(x.plans, func(p *plan) bool { return p.fits(in) })
	if i < 0 {
		p, err := newPlan(ctx, x, in)
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
