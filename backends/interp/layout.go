package interp

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// want is how a unit wants an input to lie: in blocks of so many channels, with at
// least such a halo; exact: without any.
type want struct {
	layout
	exact bool
}

var plain = want{planar, true}

// fits reports whether a value that lies as v lies as wanted.
func (w want) fits(v *view) bool {
	switch {
	case v.block != w.block:
		return false
	case w.exact:
		return !v.halo() && whole(v)
	case !w.halo():
		return true
	}
	return v.top >= w.top && v.left >= w.left && v.bottom >= w.bottom && v.right >= w.right && v.fill == w.fill
}

// arranger gives every value a layout, and puts a change of layout where a unit wants another.
type arranger struct {
	*plan
	set    *executable
	lying  map[*ir.Value][]int   // the slots that hold a value, as its unit made it first
	picked map[*ir.Value]*picked // values that are not made yet, see channels.go
	placed []placed              // by step
}

// placed is the unit of a step, and how it wants its inputs and gives its outputs: no entry for
// one that it takes as it is.
type placed struct {
	unit
	wants, given []want
}

// arrange makes the plan's slots and steps from units in order.
func (p *plan) arrange(g *ir.Graph, x *executable, list []unit) error {
	p.evals = x.evals
	a := &arranger{plan: p, set: x, lying: map[*ir.Value][]int{}, picked: map[*ir.Value]*picked{}}
	for _, v := range g.Inputs {
		p.inputs = append(p.inputs, a.hold(v, planar, foreign))
	}
	for _, v := range g.Consts {
		a.hold(v, planar, foreign)
	}
	for _, u := range list {
		for _, v := range u.in {
			if v != nil && a.lying[v] == nil && a.picked[v] == nil {
				return fmt.Errorf("%s %s: nothing computes %q before; this is an error of thriftc", u.node.Op.Name, u.node.Label(), v.Name)
			}
		}
		a.place(u)
	}
	for _, v := range g.Outputs {
		p.outputs = append(p.outputs, a.output(v))
	}
	for i := range p.slots {
		s := &p.slots[i]
		switch {
		case !s.hasView():
		case s.memory == aliased && s.layout.block > 1:
			s.layout = p.slots[s.of].layout
			s.view = newView(s.shape, s.elem, s.layout)
		default:
			s.view = newView(s.shape, s.elem, s.layout)
		}
	}
	for i := range p.slots {
		if s := &p.slots[i]; s.memory == aliased && s.layout.block > 1 {
			s.view.place(p.slots[s.of].view, s.group)
		}
	}
	for _, v := range g.Consts {
		p.slots[a.lying[v][0]].give(v.Data)
	}
	views := func(slots []int) []*view {
		out := make([]*view, len(slots))
		for i, s := range slots {
			if s >= 0 {
				out[i] = p.slots[s].view
			}
		}
		return out
	}
	for i, u := range a.placed {
		s := &p.steps[i]
		if err := a.check(s, u); err != nil {
			return err
		}
		if s.kind == computed {
			s.phases = u.make(views(s.in), views(s.out), s)
		}
	}
	for _, o := range p.outputs {
		if s := &p.slots[o.slot]; s.view != nil && !plain.fits(s.view) {
			return fmt.Errorf("output %q lies as %+v; this is an error of thriftc", s.name, s.layout)
		}
	}
	return nil
}

// check returns an error if a value does not lie as the unit of a step said that it reads or
// writes it. Values get their layouts from all who use them: a unit that is right about what
// it can read is right whatever else the graph does.
func (a *arranger) check(s *step, u placed) error {
	for i, list := range [2][]int{s.in, s.out} {
		for k, w := range [2][]want{u.wants, u.given}[i] {
			if list[k] < 0 {
				continue
			}
			if t := &a.slots[list[k]]; t.view != nil && !w.fits(t.view) {
				return s.wrap(fmt.Errorf("value %q lies as %+v, but the kernel %q needs %+v; this is an error of thriftc", t.name, t.layout, s.name, w))
			}
		}
	}
	return nil
}

// hold makes a slot for a value.
func (a *arranger) hold(v *ir.Value, l layout, m memory) int {
	s := slot{name: v.Name, memory: m, layout: l, elem: v.Type.Elem}
	if shape, ok := v.Type.Static(); ok {
		s.shape = shape
	}
	a.slots = append(a.slots, s)
	a.lying[v] = append(a.lying[v], len(a.slots)-1)
	return len(a.slots) - 1
}

// hasView reports whether kernels may read or write the slot's elements.
func (s *slot) hasView() bool {
	return s.shape != nil && (s.elem == tensor.F32 || s.elem == tensor.I8 || s.elem == tensor.U8 || s.elem == tensor.I32)
}

// place makes the step of a unit, or notes what its results are for later.
func (a *arranger) place(u unit) {
	if v := a.lastly(u.node); v != nil {
		u = channelsLast(u, v)
	} else if !a.joins(u) && a.pick(u) {
		return
	}
	a.placeNow(u, append([]*ir.Node{u.node}, u.fused...))
}

// placeNow makes the step of a unit; nodes are those that no step has yet.
func (a *arranger) placeNow(u unit, nodes []*ir.Node) {
	wants, first := slices.Repeat([]want{plain}, len(u.in)), plain
	if u.arrange != nil {
		lies := make([]int, len(u.in))
		for i, v := range u.in {
			if v != nil {
				lies[i] = a.slots[a.natural(v)].layout.block
			}
		}
		wants, first = u.arrange(lies)
	}
	s := step{node: u.node, nodes: nodes, name: u.name, kind: u.kind, long: u.kind == evaluated && mayTakeLong(u.node)}
	if a.joins(u) {
		s.kind, s.name = arranged, "view"
		if u.node.Op.Name == "Concat" {
			s.in, s.out = a.join(u)
		} else {
			s.in, s.out = a.cut(u)
		}
		a.steps, a.placed = append(a.steps, s), append(a.placed, placed{unit: u})
		return
	}
	given := slices.Repeat([]want{plain}, len(u.out))
	for i, v := range u.in {
		if v == nil {
			s.in = append(s.in, -1)
		} else {
			s.in = append(s.in, a.slotFor(v, wants[i]))
		}
	}
	for i, v := range u.out {
		switch {
		case v == nil:
			s.out = append(s.out, -1)
		case u.kind == viewed:
			k := a.hold(v, planar, aliased)
			a.slots[k].of, a.slots[k].exact = a.root(s.in[0]), true
			s.out = append(s.out, k)
		case u.kind == computed:
			if len(u.out) == 1 || v.Type.Rank() != 1 { // those are beside a value with channels
				given[i] = first
			}
			k := a.hold(v, given[i].layout, inArena)
			a.slots[k].exact = given[i].exact
			s.out = append(s.out, k)
		default:
			s.out = append(s.out, a.hold(v, planar, foreign))
		}
	}
	a.steps = append(a.steps, s)
	a.placed = append(a.placed, placed{u, wants, given})
}

// slotFor returns a slot in which v lies as wanted.
func (a *arranger) slotFor(v *ir.Value, w want) int {
	a.natural(v)
	for _, i := range a.lying[v] {
		s := &a.slots[i]
		if s.layout.block != w.block {
			continue
		}
		if w.exact {
			if r := &a.slots[a.root(i)]; !r.layout.halo() {
				s.exact, r.exact = true, true
				return i
			}
		} else if !w.halo() {
			return i
		} else if r := &a.slots[a.root(i)]; r.memory == inArena && !s.exact && !r.exact && (!r.layout.halo() || r.layout.fill == w.fill) {
			r.layout = r.layout.widest(w.layout)
			return i
		}
	}
	from := a.lying[v][0]
	to := a.hold(v, w.layout, inArena)
	a.slots[to].exact = w.exact
	a.change(from, to)
	return to
}

// change adds a step that copies a value from one slot to another.
func (a *arranger) change(from, to int) {
	a.steps = append(a.steps, step{name: "layout", kind: computed, in: []int{from}, out: []int{to}})
	relays := unit{make: func(in, out []*view, _ *step) []phase { return relay(a.set, in[0], out[0]) }}
	a.placed = append(a.placed, placed{unit: relays})
}

// output returns where an output's value is, in row-major order, once the plan has run.
func (a *arranger) output(v *ir.Value) output {
	i := a.natural(v)
	s := &a.slots[i]
	switch {
	case !s.hasView():
		return output{slot: i}
	case s.elem != tensor.F32:
		return output{slot: a.slotFor(v, plain)}
	}
	root := a.root(i)
	if r := &a.slots[root]; r.memory == inArena && !r.layout.halo() && r.layout.block == 1 {
		r.memory, r.exact = inOutput, true
		return output{slot: root, direct: true, shape: s.shape}
	} else if r.memory == foreign && r.layout.block == 1 {
		return output{slot: i}
	}
	to := a.hold(v, planar, inOutput)
	a.change(i, to)
	return output{slot: to, direct: true, shape: a.slots[to].shape}
}

// root returns the slot whose memory a slot uses.
func (a *arranger) root(i int) int {
	if a.slots[i].memory == aliased {
		return a.slots[i].of
	}
	return i
}

// joins reports whether a unit is a Concat or Split that moves nothing.
func (a *arranger) joins(u unit) bool {
	return u.node.Op.Name == "Concat" && a.canJoin(u) || u.node.Op.Name == "Split" && a.canCut(u)
}

// inBlocks reports whether a value was made in blocks of channels.
func (a *arranger) inBlocks(v *ir.Value) bool {
	l := a.lying[v]
	return len(l) > 0 && a.slots[l[0]].layout.block > 1
}

// canJoin reports whether a Concat's inputs can be groups of channels of its output.
func (a *arranger) canJoin(u unit) bool {
	rank := len(staticShape(u.out[0]))
	return (rank == 3 || rank == 4) && axisIn(u.node.Int("axis"), rank) == 1 && a.fillBlocks(u.in) &&
		slices.ContainsFunc(u.in, a.inBlocks)
}

// canCut reports whether a Split's outputs can be groups of channels of its input.
func (a *arranger) canCut(u unit) bool {
	rank := len(staticShape(u.in[0]))
	l := a.lying[u.in[0]]
	return len(l) > 0 && a.slots[l[0]].layout.block == simd.Block && axisIn(u.node.Int("axis"), rank) == 1 && a.fillBlocks(u.out)
}

// fillBlocks reports whether the channels of all values but the last fill whole blocks.
func (a *arranger) fillBlocks(list []*ir.Value) bool {
	return !slices.ContainsFunc(list[:len(list)-1], func(v *ir.Value) bool { return staticShape(v)[1]%simd.Block != 0 })
}

// join lets the inputs of a Concat lie in its output: those that lie in the arena by themselves
// are made there to begin with, others are copied.
func (a *arranger) join(u unit) (in, out []int) {
	whole := a.hold(u.out[0], blocked, inArena)
	group := 0
	for _, v := range u.in {
		i := a.natural(v)
		if s, w := &a.slots[i], &a.slots[whole]; s.memory != inArena || s.exact || s.layout.block != simd.Block || i == whole ||
			s.layout.halo() && w.layout.halo() && s.layout.fill != w.layout.fill {
			from := i
			i = a.hold(v, blocked, inArena)
			a.change(from, i)
		}
		w := &a.slots[whole]
		w.layout = w.layout.widest(a.slots[i].layout)
		for k := range a.slots {
			if s := &a.slots[k]; k == i || s.memory == aliased && s.of == i {
				s.memory, s.of, s.group = aliased, whole, s.group+group
			}
		}
		in = append(in, i)
		group += blocksOf(staticShape(v)[1])
	}
	return in, []int{whole}
}

// cut makes the outputs of a Split parts of its input.
func (a *arranger) cut(u unit) (in, out []int) {
	i := a.lying[u.in[0]][0]
	group := a.slots[i].group
	for _, v := range u.out {
		if v == nil {
			out = append(out, -1)
			continue
		}
		k := a.hold(v, blocked, aliased)
		a.slots[k].of, a.slots[k].group, a.slots[k].exact = a.root(i), group, a.slots[i].exact
		out = append(out, k)
		group += blocksOf(staticShape(v)[1])
	}
	return []int{i}, out
}

// relay copies a value from one layout to another.
func relay(x *executable, from, to *view) []phase {
	if to.bytes == 1 {
		return relayBytes(from, to)
	}
	switch {
	case from.block == to.block:
		return rowTasks(to, 1, func(_ *worker, n, g, y int) { copy(to.line(n, g, y), from.line(n, g, y)) })
	case from.block == 1:
		return rowTasks(to, 2, func(_ *worker, n, g, y int) {
			x.set.ToBlocks(to.w, to.lanes(g), to.line(n, g, y), from.data[from.at(n, g*to.block, y):], from.group)
		})
	}
	parts := 1 + to.h*to.w*from.block/chunk
	return []phase{{from.n * from.groups() * parts, func(_ *worker, i int) {
		y0, y1 := part(to.h, i%parts, parts)
		n, g := i/parts/from.groups(), i/parts%from.groups()
		for y := y0; y < y1; y++ {
			x.set.ToPlanes(to.w, from.lanes(g), to.data[to.at(n, g*from.block, y):], to.group, from.line(n, g, y))
		}
		for c := range from.lanes(g) {
			to.clearHalo(n, g*from.block+c, y0, y1)
		}
	}}}
}
