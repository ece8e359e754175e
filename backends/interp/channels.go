package interp

import (
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Nodes that only rearrange the channels of values in blocks (shuffles,
// concatenations and splits that do not fit blocks, slices, padding with channels of
// zeros) are not computed when they come up. It is noted which channel each of
// their results' channels is, and the vectors are put together once somebody needs them.

// picked is a value whose channels are channels of other values.
type picked struct {
	channels []channel
	outer    int       // of five dimensions, the channels are outer × the rest; 0: of four
	y, x     every     // which rows and columns
	flat     *ir.Value // instead: this value with its rows and columns in one dimension
	unit     unit      // that makes the value, for those that nobody can pick from
}

// channel is a channel of a value in blocks, or zeros if v is nil.
type channel struct {
	v *ir.Value
	c int
}

// every is every step-th position from one on.
type every struct{ from, step int }

// pick notes what the results of a unit are made of, if it only rearranges channels.
func (a *arranger) pick(u unit) bool {
	n := u.node
	if len(u.fused) > 0 || len(n.In) == 0 || n.In[0] == nil || !liesInBlocks(n.In[0].Type.Elem) || slices.Contains(n.Out, nil) {
		return false
	}
	var out []*picked
	switch n.Op.Name {
	case "Concat":
		out = a.pickConcat(n)
	case "Reshape":
		out = a.pickReshape(n)
	case "Transpose":
		out = a.pickTranspose(n)
	case "Split":
		out = a.pickSplit(n)
	case "Slice":
		out = a.pickSlice(n)
	case "Pad":
		out = a.pickPad(n)
	}
	if out == nil {
		return false
	}
	for i, p := range out {
		p.unit = u
		a.picked[n.Out[i]] = p
	}
	a.steps = append(a.steps, step{node: n, nodes: []*ir.Node{n}, name: "view", kind: arranged})
	a.placed = append(a.placed, placed{unit: u})
	return true
}

// liesInBlocks reports whether values of a type may lie in blocks of channels.
func liesInBlocks(e tensor.Elem) bool { return e == tensor.F32 || isByte(e) }

// channelsOf returns the channels of a value in blocks, or made of such; nil for others.
func (a *arranger) channelsOf(v *ir.Value) *picked {
	if p := a.picked[v]; p != nil {
		return p
	}
	if l := a.lying[v]; len(l) == 0 || a.slots[l[0]].layout.block != simd.Block || !liesInBlocks(a.slots[l[0]].elem) || v.Type.Rank() != 4 {
		return nil
	}
	return allChannels(v)
}

func allChannels(v *ir.Value) *picked {
	p := &picked{y: every{0, 1}, x: every{0, 1}}
	for c := range staticShape(v)[1] {
		p.channels = append(p.channels, channel{v, c})
	}
	return p
}

// simple reports whether all channels come from one value, at all its positions.
func (p *picked) simple() bool {
	return p.outer == 0 && p.flat == nil && p.y == every{0, 1} && p.x == every{0, 1} &&
		!slices.ContainsFunc(p.channels, func(c channel) bool { return c.v != p.channels[0].v || c.v == nil })
}

func (a *arranger) pickConcat(n *ir.Node) []*picked {
	if n.Out[0].Type.Rank() != 4 || axisIn(n.Int("axis"), 4) != 1 ||
		!slices.ContainsFunc(n.In, func(v *ir.Value) bool { return a.channelsOf(v) != nil }) {
		return nil
	}
	out := &picked{y: every{0, 1}, x: every{0, 1}}
	for _, v := range n.In {
		p := a.channelsOf(v)
		if p == nil || !p.simple() { // what is made of several is put together first, so that no vector has many sources
			a.slotFor(v, want{layout: blocked})
			p = allChannels(v)
		}
		out.channels = append(out.channels, p.channels...)
	}
	return []*picked{out}
}

func (a *arranger) pickReshape(n *ir.Node) []*picked {
	p := a.channelsOf(n.In[0])
	from, to := staticShape(n.In[0]), staticShape(n.Out[0])
	if p == nil || p.flat != nil || from[0] != to[0] {
		return nil
	}
	q := *p
	switch {
	case len(from) == 4 && len(to) == 5 && slices.Equal(from[2:], to[3:]):
		q.outer = to[1]
	case len(from) == 5 && len(to) == 4 && slices.Equal(from[3:], to[2:]):
		q.outer = 0
	case len(from) == 4 && len(to) == 3 && from[1] == to[1]:
		q = picked{flat: n.In[0]}
	default:
		return nil
	}
	return []*picked{&q}
}

func (a *arranger) pickTranspose(n *ir.Node) []*picked {
	p := a.picked[n.In[0]]
	if p == nil || p.outer == 0 || !slices.Equal(n.Ints("perm"), []int64{0, 2, 1, 3, 4}) {
		return nil
	}
	q := *p
	q.channels = nil
	q.outer = len(p.channels) / p.outer
	for i := range q.outer {
		for j := range p.outer {
			q.channels = append(q.channels, p.channels[j*q.outer+i])
		}
	}
	return []*picked{&q}
}

func (a *arranger) pickSplit(n *ir.Node) (out []*picked) {
	p := a.channelsOf(n.In[0])
	if p == nil || p.flat != nil || n.In[0].Type.Rank() != 4 || axisIn(n.Int("axis"), 4) != 1 {
		return nil
	}
	first := 0
	for _, v := range n.Out {
		q := *p
		q.channels = p.channels[first:][:staticShape(v)[1]]
		first += len(q.channels)
		out = append(out, &q)
	}
	return out
}

func (a *arranger) pickSlice(n *ir.Node) []*picked {
	p := a.channelsOf(n.In[0])
	if p == nil || p.flat != nil || n.In[0].Type.Rank() != 4 {
		return nil
	}
	boxes, _, ok := sliceBoxes(n)
	steps, _ := along(n, 4, 3, 4, 1)
	in, out := staticShape(n.In[0]), staticShape(n.Out[0])
	if !ok || in[0] != out[0] || slices.Contains(out, 0) || slices.ContainsFunc(steps, func(s int) bool { return s < 1 }) || steps[0] != 1 {
		return nil
	}
	// The box begins at an element whose index along each axis follows from its position.
	at, from := boxes[0].fromAt, make([]int, 4)
	for i, s := range strides(in) {
		from[i], at = at/s, at%s
	}
	q := *p
	q.channels = nil
	for i := range out[1] {
		q.channels = append(q.channels, p.channels[from[1]+i*steps[1]])
	}
	q.y = every{p.y.from + from[2]*p.y.step, p.y.step * steps[2]}
	q.x = every{p.x.from + from[3]*p.x.step, p.x.step * steps[3]}
	return []*picked{&q}
}

func (a *arranger) pickPad(n *ir.Node) []*picked {
	p := a.channelsOf(n.In[0])
	if p == nil || p.flat != nil || n.In[0].Type.Rank() != 4 {
		return nil
	}
	boxes, fill, ok := padBoxes(n)
	in, out := staticShape(n.In[0]), staticShape(n.Out[0])
	if e := n.In[0].Type.Elem; isByte(e) {
		fill += float32(offsetOf(e)) // 0 where blocks hold zeros
	}
	if !ok || fill != 0 || in[0] != out[0] || !slices.Equal(in[2:], out[2:]) || slices.Contains(out, 0) {
		return nil
	}
	q := *p
	before := boxes[0].toAt / strides(out)[1]
	q.channels = slices.Concat(make([]channel, before), p.channels, make([]channel, out[1]-in[1]-before))
	return []*picked{&q}
}

// natural returns the slot in which a value lies as it was made, which is now if it was only picked.
func (a *arranger) natural(v *ir.Value) int {
	if l := a.lying[v]; len(l) > 0 {
		return l[0]
	}
	p := a.picked[v]
	delete(a.picked, v)
	if p.outer > 0 || p.flat != nil {
		a.placeNow(p.unit, nil)
		return a.lying[v][0]
	}
	var in []int
	seen := map[*ir.Value]int{}
	for _, c := range p.channels {
		if _, ok := seen[c.v]; c.v != nil && !ok {
			seen[c.v] = len(in)
			in = append(in, a.slotFor(c.v, want{layout: blocked}))
		}
	}
	to := a.hold(v, blocked, inArena)
	a.steps = append(a.steps, step{name: "channels", kind: computed, in: in, out: []int{to}})
	gathers := unit{make: func(in, out []*view, _ *step) []phase {
		return p.gather(a.set.set, func(v *ir.Value) *view { return in[seen[v]] }, out[0])
	}}
	w := want{layout: blocked}
	a.placed = append(a.placed, placed{gathers, slices.Repeat([]want{w}, len(in)), []want{w}})
	return to
}

// lanes is lanes of a vector that come from one vector of a source.
type lanes struct {
	from  *view
	group int
	index *[simd.Block]int32
	mask  uint64
}

// gather returns the work of putting the vectors of a picked value together.
func (p *picked) gather(s *simd.Set, viewOf func(v *ir.Value) *view, out *view) []phase {
	blocks := make([][]lanes, out.groups())
	for i, c := range p.channels {
		if c.v == nil {
			continue
		}
		b, from := &blocks[i/simd.Block], viewOf(c.v)
		k := slices.IndexFunc(*b, func(l lanes) bool { return l.from == from && l.group == c.c/simd.Block })
		if k < 0 {
			k = len(*b)
			*b = append(*b, lanes{from: from, group: c.c / simd.Block, index: new([simd.Block]int32)})
		}
		l := &(*b)[k]
		l.mask |= 1 << (i % simd.Block)
		l.index[i%simd.Block] = int32(c.c % simd.Block)
	}
	if out.bytes == 1 {
		return p.gatherBytes(s, blocks, out)
	}
	return rowTasks(out, 2, func(w *worker, n, group, y int) {
		g := &w.gather
		g.Y, g.YDist, g.N, g.More = out.ptr(out.at(n, group, y)), 4*simd.Block, out.w, 0
		list := blocks[group]
		if len(list) == 0 {
			clear(out.line(n, group, y))
		}
		for len(list) > 0 {
			k := min(len(list), simd.GatherSources)
			for i, l := range list[:k] {
				at := l.from.at(n, l.group, p.y.from+y*p.y.step) + p.x.from*simd.Block
				g.From[i] = simd.GatherSource{X: unsafe.Pointer(&l.from.data[at]), Dist: 4 * simd.Block * p.x.step, Index: l.index, Mask: l.mask}
			}
			s.Gather(k, g)
			g.More, list = 1, list[k:]
		}
	})
}

// gatherBytes is gather for bytes.
func (p *picked) gatherBytes(s *simd.Set, blocks [][]lanes, out *view) []phase {
	index := make([][][simd.Block]uint8, len(blocks))
	for b, list := range blocks {
		for _, l := range list {
			var x [simd.Block]uint8
			for i := range x {
				if x[i] = simd.NoByte; l.mask>>i&1 != 0 {
					x[i] = uint8(l.index[i])
				}
			}
			index[b] = append(index[b], x)
		}
	}
	return rowTasks(out, 2, func(w *worker, n, group, y int) {
		g := &w.picks
		g.Y, g.N, g.More = out.ptr(out.at(n, group, y)), out.w, 0
		list, at := blocks[group], index[group]
		if len(list) == 0 {
			clear(out.byteLine(n, group, y))
		}
		for len(list) > 0 {
			k := min(len(list), simd.GatherSources)
			for i, l := range list[:k] {
				from := l.from.at(n, l.group, p.y.from+y*p.y.step) + p.x.from*simd.Block
				g.From[i] = simd.ByteSource{X: l.from.ptr(from), Dist: simd.Block * p.x.step, Index: &at[i]}
			}
			s.GatherBytes(k, g)
			g.More, list, at = 1, list[k:], at[k:]
		}
	})
}

// lastly returns the value in blocks of which a Transpose moves the channels to the last dimension.
func (a *arranger) lastly(n *ir.Node) *ir.Value {
	if n.Op.Name != "Transpose" || !liesInBlocks(n.In[0].Type.Elem) {
		return nil
	}
	v := n.In[0]
	if p := a.picked[v]; p != nil && p.flat != nil && slices.Equal(n.Ints("perm"), []int64{0, 2, 1}) {
		v = p.flat
	} else if !slices.Equal(n.Ints("perm"), []int64{0, 2, 3, 1}) {
		return nil
	}
	if a.channelsOf(v) == nil {
		return nil
	}
	return v
}

// channelsLast is the unit of a Transpose of v to its channels in the last dimension.
func channelsLast(u unit, v *ir.Value) unit {
	u.in = []*ir.Value{v}
	u.arrange = func([]int) ([]want, want) { return []want{{layout: blocked}}, plain }
	u.make = func(in, out []*view, _ *step) []phase {
		if x, y := in[0], out[0]; x.bytes == 1 {
			return toLast(x, y, x.byteLine, byteElems, uint8(offsetOf(x.elem)))
		}
		return toLast(in[0], out[0], in[0].line, func(v *view) []float32 { return v.data }, 0)
	}
	return u
}

// toLast copies x, in blocks, to y, whose last dimension is the channels. Bytes are changed by flip.
func toLast[T float32 | uint8](x, y *view, line func(n, g, y int) []T, elems func(v *view) []T, flip uint8) []phase {
	return []phase{{x.n * x.h, func(_ *worker, i int) {
		n, r := i/x.h, i%x.h
		to := elems(y)[i*x.w*x.c:][:x.w*x.c]
		for g := range x.groups() {
			row, c := line(n, g, r), g*x.block
			for j := range x.w {
				copy(to[j*x.c+c:][:min(x.block, x.c-c)], row[j*x.block:])
			}
		}
		if b, ok := any(to).([]uint8); ok && flip != 0 {
			flipBytes(b, b)
		}
	}}}
}
