package grad

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
)

// Recompute makes a graph need less memory by computing cheap results a second time
// where they are needed long after the first: those of element-wise operators,
// pooling and the normalisation of batch norm, whose statistics are kept. Results do not change.
// It goes on until the peak of live results is at most budget bytes, or nothing is left
// to gain, and returns the peaks before and after. dims binds symbolic dimensions, such as the batch,
// to the numbers that count. An engine's arena is a little larger than the peak.
func Recompute(g *ir.Graph, budget int64, dims map[string]int) (before, after int64, err error) {
	// What is gained in one place may cost in another: a trial on a copy tells where to stop.
	trial, err := newRecompute(g.Clone(), dims)
	if err != nil {
		return 0, 0, err
	}
	before, after = trial.peak, trial.peak
	steps, best := 0, 0
	for trial.peak > budget && steps < best+patience && trial.improve() {
		if steps++; trial.peak < after {
			after, best = trial.peak, steps
		}
	}
	r, err := newRecompute(g, dims)
	for range best {
		r.improve()
	}
	return before, after, err
}

// patience is how many values are tried without the peak falling.
const patience = 40

func newRecompute(g *ir.Graph, dims map[string]int) (*recompute, error) {
	r := &recompute{g: g, dims: dims, made: map[*ir.Node]bool{}}
	for _, n := range g.Nodes {
		for _, v := range n.Out {
			if v == nil {
				continue
			}
			if _, err := r.bytes(v); err != nil {
				return nil, err
			}
		}
	}
	r.measure()
	return r, nil
}

// recompute is the state of Recompute: when values live, in the order of the nodes.
type recompute struct {
	g    *ir.Graph
	dims map[string]int
	made map[*ir.Node]bool // nodes that compute something again

	at          map[*ir.Node]int
	first, last map[*ir.Value]int // when memory is written first and needed last
	peak        int64
	peakAt      int
}

// bytes returns the size of a value.
func (r *recompute) bytes(v *ir.Value) (int64, error) {
	n := int64(v.Type.Elem.ContainerBytes())
	for _, d := range v.Type.Dims {
		k, ok := d.N, d.Known()
		if !ok {
			k, ok = r.dims[d.Sym]
		}
		if !ok || v.Type.Unranked {
			return 0, fmt.Errorf("%%%s is %v: its size is not known", v.Name, v.Type)
		}
		n *= int64(k)
	}
	return n, nil
}

// root returns the value whose memory v shares.
func root(v *ir.Value) *ir.Value {
	for v.Def != nil && v.Def.Op.Elements == ir.Kept {
		v = v.Def.In[0]
	}
	return v
}

// measure finds when each value lives and where the peak is.
func (r *recompute) measure() {
	nodes := r.g.Nodes
	r.at = make(map[*ir.Node]int, len(nodes))
	r.first, r.last = map[*ir.Value]int{}, map[*ir.Value]int{}
	for i, n := range nodes {
		r.at[n] = i
		for _, v := range n.Out {
			if v != nil && root(v) == v {
				r.first[v], r.last[v] = i, i
			}
		}
		for _, v := range slices.Concat(n.In, n.Captures()) {
			if v != nil {
				r.last[root(v)] = i
			}
		}
	}
	for _, v := range r.g.Outputs {
		r.last[root(v)] = len(nodes)
	}
	for _, u := range r.g.Updates {
		r.last[root(u.Next)] = len(nodes)
	}
	change := make([]int64, len(nodes)+2)
	for _, n := range nodes {
		for _, v := range n.Out {
			if v == nil || root(v) != v {
				continue
			}
			size, _ := r.bytes(v)
			change[r.first[v]] += size
			change[r.last[v]+1] -= size
		}
	}
	r.peak, r.peakAt = 0, 0
	live := int64(0)
	for i := range nodes {
		if live += change[i]; live > r.peak {
			r.peak, r.peakAt = live, i
		}
	}
}

// improve makes the largest value that waits at the peak be computed again after it;
// false if there is none.
func (r *recompute) improve() bool {
	var best *ir.Value
	var bestSize int64
	for _, n := range r.g.Nodes[:r.peakAt] {
		for _, v := range n.Out {
			if v == nil || r.made[n] {
				continue
			}
			size, _ := r.bytes(v)
			if size > bestSize && r.waits(v) {
				best, bestSize = v, size
			}
		}
	}
	if best == nil {
		return false
	}
	i, late := r.uses(best)
	w := ir.NewRewriter(r.g).Before(r.g.Nodes[i])
	again := r.again(w, i, best, map[*ir.Value]*ir.Value{})
	for _, u := range late {
		w.SetInput(u.Node, u.Index, again)
	}
	r.measure()
	return true
}

// uses returns the uses of v after the peak, and where the first is.
func (r *recompute) uses(v *ir.Value) (first int, late []ir.Use) {
	first = len(r.g.Nodes)
	for _, u := range v.Uses() {
		if i, ok := r.at[u.Node]; ok && i > r.peakAt {
			late = append(late, u)
			first = min(first, i)
		}
	}
	return first, late
}

// waits reports whether v is alive at the peak only for uses after it, before which it
// can be computed again from what is alive then anyway.
func (r *recompute) waits(v *ir.Value) bool {
	if v.IsOutput() || root(v) != v || r.last[v] >= len(r.g.Nodes) {
		return false
	}
	i, late := r.uses(v)
	if len(late) == 0 {
		return false
	}
	for _, u := range v.Uses() {
		j, ok := r.at[u.Node]
		if !ok || j == r.peakAt { // in a subgraph, or needed now
			return false
		}
		if j < r.peakAt && u.Node.Op.Elements == ir.Kept { // shared memory may be needed later
			return false
		}
	}
	return r.cheap(v, i)
}

// cheap reports whether v can be computed again before node i from what lives until then.
func (r *recompute) cheap(v *ir.Value, i int) bool {
	n := v.Def
	if n == nil || n.Op.Random || len(n.Bodies()) > 0 {
		return false
	}
	in := n.In
	if n.Op.Name == "thriftc.BatchNormTrain" {
		if v != n.Out[0] || n.Output(1) == nil || n.Output(2) == nil {
			return false
		}
	} else {
		const most = 16 // operations per element
		size := int64(1)
		for _, d := range v.Type.Dims {
			size *= int64(max(d.N, 1))
		}
		if n.Op.Cost == nil && n.Op.Elements == ir.Computed {
			return false
		}
		if n.Op.Cost != nil {
			if c := n.Op.Cost(n); c.MACs+c.Adds > most*size {
				return false
			}
		}
	}
	for _, x := range in {
		if x == nil || x.Def == nil || r.last[root(x)] >= i {
			continue
		}
		if !r.cheap(x, i) {
			return false
		}
	}
	return true
}

// again computes v once more at w's position, before node here.
func (r *recompute) again(w *ir.Rewriter, here int, v *ir.Value, done map[*ir.Value]*ir.Value) *ir.Value {
	if done[v] != nil {
		return done[v]
	}
	n := v.Def
	op, in := n.Op.Name, slices.Clone(n.In)
	attrs := slices.Clone(n.Attrs)
	for i, x := range in {
		if x != nil && x.Def != nil && r.last[root(x)] < here {
			in[i] = r.again(w, here, x, done)
		}
	}
	if op == "thriftc.BatchNormTrain" { // the same numbers, with the statistics that are known
		op, in = "BatchNormalization", append(in, n.Out[1], n.Out[2])
	}
	names := make([]string, len(n.Out))
	index := slices.Index(n.Out, v)
	if op == "BatchNormalization" {
		names = names[:1]
	}
	names[index] = v.Name + "_again"
	m, err := w.Add(op, "", attrs, in, names...)
	if err != nil {
		panic(fmt.Sprintf("grad: computing %%%s again: %v", v.Name, err)) // the same node was in the graph
	}
	r.made[m] = true
	done[v] = m.Out[index]
	return m.Out[index]
}
