package interp

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// samples is a plan for several samples that are computed each by itself, from
// end to end by one worker: what lies between nodes then stays in its cache, and no
// thread waits for another.
type samples struct {
	plans  []*plan // of one sample, for each worker
	stride int     // floats of the arena for a worker
	n      int
	work   phase

	// The run that is going on.
	ctx     context.Context
	in, out []*tensor.Tensor
	spent   [][]time.Duration // by worker and step, if somebody asked
	mu      sync.Mutex
	failed  int // the first sample that failed, n if none did
	err     error
}

// perSample makes p compute every sample of a batch by itself if g allows that and it is faster.
func (p *plan) perSample(x *executable, g *ir.Graph) (bool, error) {
	if len(g.Inputs) == 0 || len(x.state.params) > 0 || len(g.Outputs) == 0 {
		return false, nil
	}
	n, workers := 0, x.pool.workers
	if s, ok := g.Inputs[0].Type.Static(); ok && len(s) > 1 {
		n = s[0]
	}
	if n < 2 || n < workers || n%workers > 0 && n < 4*workers || !alone(g, n) || !worthwhile(g, n) {
		return false, nil
	}
	one := withoutBatch(g, n)
	if one == nil {
		return false, nil
	}
	solo := *x // plans for one thread
	solo.pool = newPool(1)
	s := &samples{n: n}
	for range workers {
		q := &plan{}
		if err := q.arrange(one, &solo, units(&solo, one)); err != nil {
			return false, err
		}
		q.layOut()
		s.plans = append(s.plans, q)
		s.stride = (q.arenaLen + 15) &^ 15
	}
	byLabel := map[string]*ir.Node{}
	for _, m := range g.Nodes {
		byLabel[m.Label()] = m
	}
	for _, st := range s.plans[0].steps {
		for i, m := range st.nodes { // those of all samples
			if of := byLabel[m.Label()]; of != nil {
				st.nodes[i] = of
			}
		}
	}
	for i, v := range g.Outputs {
		p.slots = append(p.slots, slot{name: v.Name, shape: staticShape(v), elem: tensor.F32})
		p.outputs = append(p.outputs, output{slot: i, direct: true, shape: staticShape(v)})
	}
	p.arenaLen = workers * s.stride
	p.samples = s
	s.work = phase{n, func(w *worker, i int) { s.sample(w, i) }}
	return true, nil
}

// bind gives each worker's plan its part of the arena.
func (s *samples) bind(arena []float32) {
	for i, q := range s.plans {
		if s.stride > 0 {
			q.bind(arena[i*s.stride:][:s.stride])
		}
	}
}

func (s *samples) run(ctx context.Context, x *executable, in, out []*tensor.Tensor, spent []time.Duration) error {
	s.ctx, s.in, s.out, s.failed, s.err, s.spent = ctx, in, out, s.n, nil, nil
	if spent != nil {
		for range s.plans {
			s.spent = append(s.spent, make([]time.Duration, len(spent)))
		}
	}
	err := x.parallel(ctx, &s.work)
	for _, times := range s.spent {
		for i, t := range times {
			spent[i] += t / time.Duration(len(s.plans))
		}
	}
	s.ctx, s.in, s.out = nil, nil, nil
	if s.err != nil {
		return s.err
	}
	return err
}

// sample computes sample i.
func (s *samples) sample(w *worker, i int) {
	if err := s.one(w, i); err != nil {
		s.mu.Lock()
		if i < s.failed {
			s.failed, s.err = i, err
		}
		s.mu.Unlock()
	}
}

func (s *samples) one(w *worker, i int) error {
	q := s.plans[w.id]
	for k, slot := range q.inputs {
		q.slots[slot].part(s.in[k], i, s.n)
	}
	for k, o := range q.outputs {
		if o.direct {
			q.slots[o.slot].part(s.out[k], i, s.n)
		}
	}
	q.bindAliases()
	var spent []time.Duration
	if s.spent != nil {
		spent = s.spent[w.id]
	}
	if err := q.perform(s.ctx, func(ph *phase) error {
		for t := range ph.tasks {
			ph.do(w, t)
		}
		return s.ctx.Err()
	}, spent); err != nil {
		return err
	}
	for k, o := range q.outputs {
		if !o.direct {
			all := s.out[k].Float32s()
			size := len(all) / s.n
			copy(all[i*size:(i+1)*size], q.slots[o.slot].get().Float32s())
		}
	}
	return nil
}

// part gives a slot the memory of sample i of n.
func (s *slot) part(t *tensor.Tensor, i, n int) {
	all := t.Float32s()
	size := len(all) / n
	s.tensor = nil
	s.view.bind(all[i*size : (i+1)*size : (i+1)*size])
}

// worthwhile reports whether samples by themselves are faster: not if weights
// that are used once for each sample, or more weights than stay in the cache, would be read again and again.
func worthwhile(g *ir.Graph, n int) bool {
	const cache = 4 << 20
	results, weights, once := 0, 0, 0
	for _, v := range g.Consts {
		weights += v.Data.Elem().ContainerBytes() * v.Data.Len()
	}
	for _, m := range g.Nodes {
		for _, v := range m.Out {
			if v == nil || isView(m) {
				continue
			}
			size, _ := tensor.NumElems(staticShape(v))
			results += v.Type.Elem.ContainerBytes() * size / n
		}
		if len(m.In) > 1 && m.In[1] != nil && m.In[1].HasData() {
			size, _ := tensor.NumElems(staticShape(m.Out[0]))
			if w := m.In[1].Data; w.Rank() > 1 && size/n < 4*w.Shape()[0]+4*w.Shape()[1] {
				once += w.Elem().ContainerBytes() * w.Len()
			}
		}
	}
	return (weights <= cache || weights <= results) && 2*once <= results
}

// alone reports whether every result for a sample, an index of dimension 0 of the
// inputs, depends on that sample only.
func alone(g *ir.Graph, n int) bool {
	batched := map[*ir.Value]bool{}
	has := func(v *ir.Value) bool {
		s, ok := v.Type.Static()
		return ok && len(s) > 0 && s[0] == n
	}
	for _, v := range g.Inputs {
		if !has(v) || v.Type.Elem != tensor.F32 {
			return false
		}
		batched[v] = true
	}
	for _, m := range g.Nodes {
		if len(m.Bodies()) > 0 || m.Op.Random || slices.ContainsFunc(m.In, func(v *ir.Value) bool { return v != nil && !batched[v] && !v.HasData() }) {
			return false
		}
		if !aloneNode(m, batched) {
			return false
		}
		for _, v := range m.Out {
			if v == nil || !has(v) {
				return false
			}
			batched[v] = true
		}
	}
	return !slices.ContainsFunc(g.Outputs, func(v *ir.Value) bool { return !batched[v] || v.Type.Elem != tensor.F32 })
}

// aloneNode reports whether a node computes each sample by itself.
func aloneNode(m *ir.Node, batched map[*ir.Value]bool) bool {
	switch {
	case len(m.In) == 0 || m.In[0] == nil:
		return false
	case m.Op.PerSample != nil:
		return batched[m.In[0]] && m.Op.PerSample(m)
	}
	return m.Op.Elementwise && sameOrBroadcast(m, batched)
}

// sameOrBroadcast reports whether all operands have the samples of the result, or are the same for all.
func sameOrBroadcast(m *ir.Node, batched map[*ir.Value]bool) bool {
	rank := len(staticShape(m.Out[0]))
	for _, v := range m.In {
		switch {
		case v == nil:
		case batched[v]:
			if len(staticShape(v)) != rank {
				return false
			}
		case v.Data.Rank() == rank && rank > 0 && v.Data.Shape()[0] != 1:
			return false
		}
	}
	return true
}

// withoutBatch returns g for one sample instead of n, nil if it cannot be changed.
func withoutBatch(g *ir.Graph, n int) *ir.Graph {
	one := g.Clone()
	for _, v := range one.Inputs {
		v.Type.Dims = append([]ir.Dim{ir.Fixed(1)}, v.Type.Dims[1:]...)
	}
	r := ir.NewRewriter(one)
	for _, m := range one.Nodes {
		at := m.Op.Input(ir.Shape)
		if at < 0 {
			continue
		}
		if shape := m.ConstIn(at); shape != nil && shape.Len() > 0 && shape.Int64s()[0] == int64(n) {
			to := slices.Clone(shape.Int64s())
			to[0] = 1
			r.SetInput(m, at, r.Ints(m.In[at].Name, to...))
		}
	}
	r.RemoveUnusedConsts()
	if ir.Infer(one) != nil {
		return nil
	}
	for i, m := range one.Nodes {
		for k, v := range m.Out {
			if v == nil {
				continue
			}
			a, ok1 := v.Type.Static()
			b, ok2 := g.Nodes[i].Out[k].Type.Static()
			if !ok1 || !ok2 || len(a) == 0 || a[0] != 1 || !slices.Equal(a[1:], b[1:]) {
				return nil
			}
		}
	}
	return one
}
