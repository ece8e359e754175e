package interp

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// unit is a step before values have memory.
type unit struct {
	node    *ir.Node
	fused   []*ir.Node // those after node that are computed with it
	name    string     // of the kernel
	kind    stepKind
	in, out []*ir.Value

	// arrange returns how the inputs are wanted and how the outputs are given when the inputs
	// lie in blocks of lies channels. Outputs that are not exact may get a halo, which the unit
	// clears. nil: all are plain.
	arrange func(lies []int) ([]want, want)
	// make returns the work, on views that have their memory when it runs. computed only.
	make func(in, out []*view, s *step) []phase
}

// source computes a value that stages may then change.
type source struct {
	name    string
	in      []*ir.Value
	with    []*ir.Node                      // nodes after the first that it computes too
	stages  []stage                         // those that belong to the node itself, such as a bias
	flat    bool                            // only flat stages may follow
	arrange func(lies []int) ([]want, want) // as of a unit, for in
	more    []*ir.Value                     // vectors that are computed beside the value
	// makeMore is make for a source with more, whose views follow that of the value.
	makeMore func(in, out []*view, stages []stage, others []*view, s *step) []phase
	// make returns the work; others are the operands of those stages that have one, and lie as out does.
	make func(in []*view, out *view, stages []stage, others []*view, s *step) []phase
}

// sources are the operators that have a kernel. A function returns false for a
// node that its kernel cannot compute. It is called for nodes with one output, of
// type f32 and known shape.
var sources = map[string]func(x *executable, n *ir.Node) (source, bool){
	"Add":               channelSource,
	"AveragePool":       poolSource,
	"Conv":              convSource,
	"ConvTranspose":     transposedSource,
	"Gemm":              gemmSource,
	"GlobalAveragePool": globalMeanSource,
	"MatMul":            matmulSource,
	"MaxPool":           poolSource,
	"Mul":               channelSource,
	"ReduceMean":        meanSource,
	"Resize":            resizeSource,
	"thriftc.MuxConv":   muxSource,
	"thriftc.Shift":     shiftSource,

	"BatchNormalization":      normSource,
	"thriftc.BitQuant":        bitQuantSource,
	"thriftc.AveragePoolGrad": averageGradSource,
	"thriftc.ConvGradInput":   gradInputSource,
	"thriftc.MaxPoolGrad":     maxGradSource,
}

// widerSources are sources for nodes with several outputs.
var widerSources = map[string]func(x *executable, n *ir.Node) (source, bool){
	"thriftc.BatchNormTrain":     normTrainSource,
	"thriftc.BatchNormTrainGrad": normGradSource,
	"thriftc.BitQuantGrad":       bitQuantGradSource,
}

// soloUnits are operators with a kernel that nothing can be fused into.
var soloUnits = map[string]func(x *executable, n *ir.Node) (unit, bool){
	"ReduceSum":              channelSumUnit,
	"thriftc.ConvGradWeight": gradWeightUnit,
	"thriftc.SGDUpdate":      sgdUnit,
}

// units chooses how each node of g is computed, in the order of execution.
func units(x *executable, g *ir.Graph) []unit {
	at := map[*ir.Node]unit{} // by the last node of the unit
	inside := map[*ir.Node]bool{}
	for _, n := range g.Nodes {
		if !inside[n] {
			u, last := choose(x, n, inside)
			at[last] = u
		}
	}
	var out []unit
	for _, n := range g.Nodes {
		if u, ok := at[n]; ok {
			out = append(out, u)
		}
	}
	return inOrder(out)
}

// inOrder puts off units that need what a later one computes: one that computes several
// values stands where the last node fused into it stood.
func inOrder(list []unit) []unit {
	missing := map[*ir.Value]bool{}
	for _, u := range list {
		for _, v := range u.out {
			missing[v] = true
		}
	}
	var out, waiting []unit
	take := func(u unit) bool {
		if slices.ContainsFunc(u.in, func(v *ir.Value) bool { return v != nil && missing[v] }) {
			return false
		}
		for _, v := range u.out {
			delete(missing, v)
		}
		out = append(out, u)
		return true
	}
	for _, u := range list {
		if !take(u) {
			waiting = append(waiting, u)
			continue
		}
		for i := 0; i < len(waiting); {
			if take(waiting[i]) {
				waiting = slices.Delete(waiting, i, i+1)
				i = 0
			} else {
				i++
			}
		}
	}
	return append(out, waiting...) // which arrange refuses
}

// choose returns the unit that starts with n and its last node. It adds the
// nodes after n that the unit computes to inside.
func choose(x *executable, n *ir.Node, inside map[*ir.Node]bool) (unit, *ir.Node) {
	if u, ok := byteUnit(x, n); ok {
		last := n
		for _, m := range u.fused {
			inside[m] = true
			last = m
		}
		return u, last
	}
	if isView(n) {
		return unit{node: n, name: "view", kind: viewed, in: n.In[:1], out: n.Out}, n
	}
	if u, ok := moveUnit(n); ok {
		return u, n
	}
	if f := soloUnits[n.Op.Name]; f != nil {
		if u, ok := f(x, n); ok {
			return u, n
		}
	}
	src, ok := sourceOf(x, n)
	if !ok {
		if u, ok := plainUnit(x, n); ok {
			return u, n
		}
		return unit{node: n, name: "eval", kind: evaluated, in: slices.Concat(n.In, n.Captures()), out: n.Out}, n
	}
	last, fused := n, src.with
	for _, m := range fused {
		inside[m] = true
		last = m
	}
	stages := slices.Clone(src.stages)
	for {
		v := last.Out[0]
		if len(v.Uses()) != 1 || v.IsOutput() {
			break
		}
		m := v.Uses()[0].Node
		if m.Graph() != n.Graph() || inside[m] {
			break
		}
		s, ok := stageOf(x.set, m, v)
		if !ok || src.flat && !s.flat || s.other != nil && needs(s.other, src.more) {
			break
		}
		stages = append(stages, s)
		inside[m] = true
		fused = append(fused, m)
		last = m
	}
	return src.unit(n, fused, last.Out, stages), last
}

// needs reports whether v is computed from any of some values.
func needs(v *ir.Value, from []*ir.Value) bool {
	if len(from) == 0 {
		return false
	}
	seen := map[*ir.Node]bool{}
	var walk func(v *ir.Value) bool
	walk = func(v *ir.Value) bool {
		if v == nil || v.Def == nil || seen[v.Def] {
			return v != nil && slices.Contains(from, v)
		}
		seen[v.Def] = true
		return slices.Contains(from, v) || slices.ContainsFunc(v.Def.In, walk) || slices.ContainsFunc(v.Def.Captures(), walk)
	}
	return walk(v)
}

// unit makes a unit of a source and the stages that follow it.
func (src *source) unit(n *ir.Node, fused []*ir.Node, out []*ir.Value, stages []stage) unit {
	u := unit{node: n, fused: fused, name: src.name, kind: computed, in: slices.Concat(src.in, operandsOf(stages)), out: slices.Concat(out[:1], src.more)}
	u.arrange = func(lies []int) ([]want, want) {
		wants, out := slices.Repeat([]want{plain}, len(src.in)), plain
		if src.arrange != nil {
			wants, out = src.arrange(lies[:len(src.in)])
		}
		for range lies[len(src.in):] {
			wants = append(wants, out)
		}
		return wants, out
	}
	u.make = func(in, out []*view, s *step) []phase {
		if src.makeMore != nil {
			return src.makeMore(in[:len(src.in)], out, stages, in[len(src.in):], s)
		}
		return src.make(in[:len(src.in)], out[0], stages, in[len(src.in):], s)
	}
	return u
}

func sourceOf(x *executable, n *ir.Node) (source, bool) {
	if src, ok := byteSource(x, n); ok {
		return src, true
	}
	if f := widerSources[n.Op.Name]; f != nil {
		return f(x, n)
	}
	if len(n.Out) != 1 || n.Out[0].Type.Elem != tensor.F32 {
		return source{}, false
	}
	if _, ok := n.Out[0].Type.Static(); !ok {
		return source{}, false
	}
	if f := sources[n.Op.Name]; f != nil {
		if src, ok := f(x, n); ok {
			return src, true
		}
	}
	return elementwiseSource(x, n)
}

// isView reports whether n's result can share the memory of its first input.
func isView(n *ir.Node) bool {
	if n.Op.Elements != ir.Kept && !resting(n) || n.In[0].Type.Elem != n.Out[0].Type.Elem || n.In[0].Type.Elem != tensor.F32 && !isByte(n.In[0].Type.Elem) {
		return false
	}
	from, ok1 := n.In[0].Type.Static()
	to, ok2 := n.Out[0].Type.Static()
	if !ok1 || !ok2 {
		return false
	}
	p, err1 := tensor.NumElems(from)
	q, err2 := tensor.NumElems(to)
	return err1 == nil && err2 == nil && p == q
}

// resting reports whether n is a Dropout that does nothing.
func resting(n *ir.Node) bool {
	if n.Op.Name != "Dropout" || n.Output(1) != nil {
		return false
	}
	training := n.ConstIn(2)
	return n.Input(2) == nil || training != nil && !tensor.Data[bool](training)[0]
}

// elementwiseSource is a node that could be a stage, with nothing before it.
func elementwiseSource(x *executable, n *ir.Node) (source, bool) {
	for _, v := range n.In {
		if v == nil || v.HasData() {
			continue
		}
		s, ok := stageOf(x.set, n, v)
		if !ok {
			continue
		}
		return source{in: []*ir.Value{v}, name: "elementwise", stages: []stage{s}, arrange: follows,
			make: func(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
				return elementwise(in[0], out, stages, others)
			}}, true
	}
	return source{}, false
}

// follows is the arrangement of a unit that gives its output in the blocks in which its input lies.
func follows(lies []int) ([]want, want) {
	w := want{layout: layout{block: lies[0]}}
	return []want{w}, w
}

// chunk is how many elements an element-wise task handles, about.
const chunk = 16 << 10

// elementwise copies x to y and applies stages to it.
func elementwise(x, y *view, stages []stage, others []*view) []phase {
	return pointwise(x, y, stages, others, func(_ *worker, dst []float32, at int) { copy(dst, x.data[at:]) })
}

// pointwise sets y to what load makes of the elements of x from one on, and applies stages to it.
func pointwise(x, y *view, stages []stage, others []*view, load func(w *worker, dst []float32, at int)) []phase {
	if y.size == 0 {
		return nil
	}
	kind := inChannel
	switch {
	case y.block > 1:
		kind = inBlock
	case y.h*y.w == 1:
		kind = across
	}
	after := bind(stages, kind, others)
	if kind != inBlock && flat(append(others, x, y)...) && (kind == across || !slices.ContainsFunc(stages, func(s stage) bool { return !s.flat })) {
		// Rows of the whole array, or of all channels of an image.
		row := y.size
		if kind == across {
			row = y.c
		}
		perRow := (row + chunk - 1) / chunk
		return []phase{{y.size / row * perRow, func(w *worker, i int) {
			lo, hi := part(row, i%perRow, perRow)
			at := i / perRow * row
			piece := y.all()[at+lo : at+hi]
			load(w, piece, at+lo)
			for j := range after {
				var other []float32
				if o := after[j].other; o != nil {
					other = o.all()[at+lo : at+hi]
				}
				after[j].apply(w, piece, other, lo)
			}
		}}}
	}
	return rowTasks(y, 1, func(w *worker, n, g, row int) {
		load(w, y.line(n, g, row), x.at(n, g, row))
		finish(w, after, y, n, g, row, 0, y.w*y.block)
	})
}

// rowTasks is tasks that compute rows of y, each of which costs as much as so
// many copies of it, and clears the halo beside them.
func rowTasks(y *view, cost int, row func(w *worker, n, g, row int)) []phase {
	if y.size == 0 {
		return nil
	}
	planes := y.n * y.groups()
	size := y.h * y.w * y.block * cost
	perPlane := max(1, min(y.h, size/chunk)) // tasks of a plane
	perTask := max(1, min(planes, chunk/max(1, size)))
	tasks := perPlane * ((planes + perTask - 1) / perTask)
	return []phase{{tasks, func(w *worker, i int) {
		y0, y1 := part(y.h, i%perPlane, perPlane)
		first := i / perPlane * perTask
		for p := first; p < min(first+perTask, planes); p++ {
			n, g := p/y.groups(), p%y.groups()
			for r := y0; r < y1; r++ {
				row(w, n, g, r)
			}
			y.clearHalo(n, g, y0, y1)
		}
	}}}
}

// biasStages returns the addition of a constant with one element per index
// along axis 1 of shape as stages, none if b is absent; false if b is not constant.
func biasStages(x *executable, b *ir.Value, shape []int) ([]stage, bool) {
	if b == nil {
		return nil, true
	}
	if !b.HasData() || b.Data.Elem() != tensor.F32 || b.Data.Len() != shape[1] {
		return nil, false
	}
	return []stage{addStage(x.set, b.Data.Float32s())}, true
}
