package interp

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// plan is a graph prepared for one set of input shapes.
type plan struct {
	shapes   [][]int
	samples  *samples // if each is computed by itself; then there are no steps
	steps    []step
	slots    []slot
	inputs   []int    // slots of the graph's inputs
	outputs  []output // of the graph
	blocks   []*block // of the arena
	arenaLen int      // in floats
	arena    *float32 // where the arena lay when the views were bound
	evals    *evaluations
}

// slot is a value, or a copy of one in another layout.
type slot struct {
	name   string
	shape  []int
	view   *view          // nil: shape or size of the elements are not known before the run
	tensor *tensor.Tensor // the value in row-major order, where an operator's Eval gives or takes it
	memory memory
	offset int  // in the arena
	of     int  // the slot whose memory this is, for aliased
	group  int  // the group of that slot's channels with which this begins, in blocked layout
	exact  bool // somebody needs the elements without a halo
	layout layout
	elem   tensor.Elem
}

// memory says whose memory a slot uses.
type memory uint8

const (
	foreign memory = iota // a constant's, an input's, or what Eval returns
	inArena
	inOutput // an output that the caller gets
	aliased  // another slot's
)

// output is a result of the graph.
type output struct {
	slot   int
	direct bool  // kernels write to the caller's memory
	shape  []int // direct only
}

// step computes the results of one node, or of a node and those fused into it.
type step struct {
	node    *ir.Node   // for Eval and for messages; nil for a change of layout
	nodes   []*ir.Node // node and those fused into it
	name    string     // of the kernel
	kind    stepKind
	long    bool    // evaluated only: it may take some milliseconds
	phases  []phase // computed only
	in, out []int   // slots, −1 where absent
	temps   []temp  // memory that only this step uses
	drop    []int   // slots whose tensors nothing needs after this step
}

// temp is memory of a step.
type temp struct {
	view   *view
	offset int // in the arena
}

// temp returns memory for floats that the step may use while it runs.
func (s *step) temp(shape []int, l layout) *view { return s.tempOf(tensor.F32, shape, l) }

// tempOf is temp for elements of some type.
func (s *step) tempOf(e tensor.Elem, shape []int, l layout) *view {
	v := newView(shape, e, l)
	s.temps = append(s.temps, temp{view: v})
	return v
}

// stepKind says how a step's results come by their memory.
type stepKind uint8

const (
	evaluated stepKind = iota // Op.Eval allocates, or returns what shares memory with the inputs
	computed                  // kernels write to memory that they are given
	viewed                    // the first input's memory with another shape
	arranged                  // inputs and outputs are parts of each other
)

// phase is independent tasks. A step's phases follow each other.
type phase struct {
	tasks int
	do    func(w *worker, i int)
}

// worker is what a task may use that no other task uses at the same time.
type worker struct {
	id       int
	tile     simd.Tile // of a convolution
	stage    simd.Tile // of a stage that follows it
	gather   simd.Gather
	picks    simd.ByteGather
	bytes    simd.ByteRow // of results in bytes
	partial  []int32      // sums of some taps of a tile of bytes
	mux      simd.Mux
	qmux     simd.QMux
	lanes    simd.Lanes
	outer    simd.Outer
	scratch  []float32
	offsets  []int
	wino     winoWork
	resample simd.Resample
}

// temp returns n floats of scratch memory, which hold anything.
func (w *worker) temp(n int) []float32 {
	if len(w.scratch) < n {
		w.scratch = newFloats(n)
	}
	return w.scratch[:n]
}

// tempBytes is temp for n bytes.
func (w *worker) tempBytes(n int) []uint8 {
	return unsafe.Slice((*uint8)(unsafe.Pointer(unsafe.SliceData(w.temp((n+3)/4)))), n)
}

func newPlan(ctx context.Context, x *executable, in []*tensor.Tensor) (*plan, error) {
	p := &plan{}
	for _, t := range in {
		p.shapes = append(p.shapes, slices.Clone(t.Shape()))
	}
	g, err := ir.BindShapes(x.graph, p.shapes)
	if err != nil {
		return nil, err
	}
	if err := fold(ctx, g); err != nil {
		return nil, err
	}
	if alone, err := p.perSample(x, g); err != nil || alone {
		return p, err
	}
	if err := p.arrange(g, x, units(x, g)); err != nil {
		return nil, err
	}
	p.layOut()
	return p, nil
}

// done returns the steps that a run does.
func (p *plan) done() []step {
	if p.samples != nil {
		return p.samples.plans[0].steps
	}
	return p.steps
}

// fits reports whether the plan is for inputs of such shapes.
func (p *plan) fits(in []*tensor.Tensor) bool {
	for i, t := range in {
		if !slices.Equal(p.shapes[i], t.Shape()) {
			return false
		}
	}
	return true
}

// accepts reports whether outputs can be put into the tensors of out.
func (p *plan) accepts(out []*tensor.Tensor) error {
	if len(out) != len(p.outputs) {
		return fmt.Errorf("the graph has %d outputs, there is memory for %d", len(p.outputs), len(out))
	}
	for i, o := range p.outputs {
		if s := &p.slots[o.slot]; out[i] == nil {
			return fmt.Errorf("there is no memory for output %q", s.name)
		} else if o.direct && (out[i].Elem() != s.elem || !slices.Equal(out[i].Shape(), o.shape)) {
			return fmt.Errorf("output %q is %v%v, there is memory for %v", s.name, s.elem, o.shape, ir.TypeOf(out[i]))
		}
	}
	return nil
}

// bind gives the views their place in the arena.
func (p *plan) bind(arena []float32) {
	if p.arena == &arena[0] {
		return
	}
	p.arena = &arena[0]
	if p.samples != nil {
		p.samples.bind(arena)
		return
	}
	for i := range p.slots {
		s := &p.slots[i]
		if s.memory == inArena {
			s.view.bind(arena[s.offset:][:s.floats()])
			s.tensor = nil
		}
	}
	for _, s := range p.steps {
		for _, t := range s.temps {
			t.view.bind(arena[t.offset:][:t.view.floats()])
		}
	}
	for i := range p.slots { // after those they share memory with
		if s := &p.slots[i]; s.memory == aliased {
			p.alias(s)
		}
	}
}

// alias makes the view of s one of the memory that it shares.
func (p *plan) alias(s *slot) {
	of := p.slots[s.of].view
	s.view.data, s.view.base, s.tensor = of.data, of.base, nil
}

// run computes the plan's outputs. Those that out has are put there, those that are nil are made.
// The time of each step is put in spent unless that is nil.
func (p *plan) run(ctx context.Context, x *executable, in, out []*tensor.Tensor, spent []time.Duration) error {
	if p.samples != nil {
		return p.samples.run(ctx, x, in, out, spent)
	}
	for i, s := range p.inputs {
		p.slots[s].give(in[i])
	}
	for i, o := range p.outputs {
		if s := &p.slots[o.slot]; o.direct {
			s.tensor = nil
			s.view.bindTensor(out[i])
		}
	}
	p.bindAliases()
	if err := p.perform(ctx, func(ph *phase) error { return x.parallel(ctx, ph) }, spent); err != nil {
		return err
	}
	for i, o := range p.outputs {
		if o.direct {
			continue
		}
		if err := p.hand(&p.slots[o.slot], &out[i]); err != nil {
			return err
		}
	}
	return nil
}

// bindAliases makes views of those inputs and outputs that share the caller's memory.
func (p *plan) bindAliases() {
	for i := range p.slots {
		if s := &p.slots[i]; s.memory == aliased && s.view != nil && p.slots[s.of].memory != inArena {
			p.alias(s)
		}
	}
}

// perform does the steps. parallel runs a phase. The time of each step is added to spent unless that is nil.
func (p *plan) perform(ctx context.Context, parallel func(ph *phase) error, spent []time.Duration) error {
	for i := range p.steps {
		s := &p.steps[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		var start time.Time
		if spent != nil {
			start = time.Now()
		}
		if err := p.exec(ctx, s, parallel); err != nil {
			return err
		}
		if spent != nil {
			spent[i] += time.Since(start)
		}
		for _, k := range s.drop {
			p.slots[k].tensor = nil
		}
	}
	return nil
}

func (p *plan) exec(ctx context.Context, s *step, parallel func(ph *phase) error) error {
	switch s.kind {
	case viewed:
		// The memory is shared, and the shape is the slot's.
		if to := &p.slots[s.out[0]]; p.slots[to.of].memory == foreign {
			p.alias(to)
		}
	case computed:
		for i := range s.phases {
			if err := parallel(&s.phases[i]); err != nil {
				return s.wrap(err)
			}
		}
	case evaluated:
		in := make([]*tensor.Tensor, len(s.in))
		for i, v := range s.in {
			if v >= 0 {
				in[i] = p.slots[v].get()
			}
		}
		out, err := p.evals.run(ctx, s, in)
		if err != nil {
			return err
		}
		for i, v := range s.out {
			if v < 0 {
				continue
			}
			if to := &p.slots[v]; to.shape != nil && !slices.Equal(out[i].Shape(), to.shape) {
				return s.wrap(fmt.Errorf("output %d has shape %v, expected %v", i, out[i].Shape(), to.shape))
			}
			p.slots[v].give(out[i])
		}
	}
	return nil
}

func (s *step) wrap(err error) error {
	if s.node == nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return fmt.Errorf("%s %s: %w", s.node.Op.Name, s.node.Label(), err)
}

// give makes t the value of a slot.
func (s *slot) give(t *tensor.Tensor) {
	s.tensor = t
	if s.view != nil {
		s.view.bindTensor(t)
	}
}

// get returns the value of a slot, which lies without a halo, as a tensor.
func (s *slot) get() *tensor.Tensor {
	switch {
	case s.tensor != nil:
	case s.elem == tensor.U8:
		s.tensor = tensor.Of(byteElems(s.view), s.shape...)
	case s.elem == tensor.I8:
		s.tensor = tensor.Of(unsafe.Slice((*int8)(s.view.base), s.view.size), s.shape...)
	default:
		s.tensor = tensor.Of(s.view.data[:s.view.size:s.view.size], s.shape...)
	}
	return s.tensor
}

// floats returns how many floats of the arena a slot takes.
func (s *slot) floats() int {
	if s.view.bytes == 1 {
		return s.view.floats() + simd.Block // kernels read beyond the last element
	}
	return s.view.floats()
}

// hand gives the caller the value of a slot in memory that no later run changes.
func (p *plan) hand(s *slot, out **tensor.Tensor) error {
	t := s.get()
	if *out == nil {
		var err error
		*out, err = p.keep(t)
		return err
	}
	if (*out).Elem() != t.Elem() || !slices.Equal((*out).Shape(), t.Shape()) {
		return fmt.Errorf("output %q is %v, there is memory for %v", s.name, ir.TypeOf(t), ir.TypeOf(*out))
	}
	reflect.Copy(reflect.ValueOf((*out).Container()), reflect.ValueOf(t.Container()))
	return nil
}

// keep returns t, or a copy where its memory may be the arena's.
func (p *plan) keep(t *tensor.Tensor) (*tensor.Tensor, error) {
	if t.Elem().IsSequence() {
		members := slices.Clone(t.Members())
		for i, m := range members {
			var err error
			if members[i], err = p.keep(m); err != nil {
				return nil, err
			}
		}
		return tensor.SequenceOf(t.Elem().Member(), members...), nil
	}
	if p.arena == nil || t.Elem().ContainerBytes() > 4 {
		return t, nil
	}
	c, err := tensor.Alloc(t.Elem(), t.Shape()...)
	if err != nil {
		return nil, err
	}
	reflect.Copy(reflect.ValueOf(c.Container()), reflect.ValueOf(t.Container()))
	return c, nil
}
