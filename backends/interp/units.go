package interp

import (
	"slices"

	"thriftc/ir"
	"thriftc/ir/tensor"
)

// source computes a value that stages may then change.
type source struct {
	in     []*ir.Value
	stages []stage // those that belong to the node itself, such as a bias
	make   func(stages []stage) kernel
	flat   bool // only flat stages may follow
}

// sources are the operators that have a kernel. A function returns false for a
// node that its kernel cannot compute. It is called for nodes with one output, of
// type f32 and known shape.
var sources = map[string]func(x *executable, n *ir.Node) (source, bool){
	"AveragePool":       poolSource,
	"Conv":              convSource,
	"Gemm":              gemmSource,
	"GlobalAveragePool": globalMeanSource,
	"MatMul":            matmulSource,
	"MaxPool":           poolSource,
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
	return out
}

// choose returns the unit that starts with n and its last node. It adds the
// nodes after n that the unit computes to inside.
func choose(x *executable, n *ir.Node, inside map[*ir.Node]bool) (unit, *ir.Node) {
	if n.Op.Elements == ir.Kept && isView(n) {
		return unit{node: n, name: "view", kind: viewed, in: n.In[:1], out: n.Out}, n
	}
	if u, ok := moveUnit(n); ok {
		return u, n
	}
	src, ok := sourceOf(x, n)
	if !ok {
		return unit{node: n, name: "eval", kind: evaluated, in: slices.Concat(n.In, n.Captures()), out: n.Out}, n
	}
	last := n
	var fused []*ir.Node
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
		if !ok || src.flat && !s.flat {
			break
		}
		stages = append(stages, s)
		inside[m] = true
		fused = append(fused, m)
		last = m
	}
	return unit{node: n, fused: fused, name: x.set.Name, kind: computed, run: src.make(stages), in: slices.Concat(src.in, operandsOf(stages)), out: last.Out}, last
}

func sourceOf(x *executable, n *ir.Node) (source, bool) {
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
	a, b := n.In[0].Type, n.Out[0].Type
	from, ok1 := a.Static()
	to, ok2 := b.Static()
	if !ok1 || !ok2 || a.Elem != b.Elem || a.Elem == tensor.Invalid {
		return false
	}
	p, err1 := tensor.NumElems(from)
	q, err2 := tensor.NumElems(to)
	return err1 == nil && err2 == nil && p == q
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
		return source{in: []*ir.Value{v}, stages: []stage{s}, make: func(stages []stage) kernel { return rowsKernel(v, stages) }}, true
	}
	return source{}, false
}

// chunk is how many elements an element-wise task handles, about.
const chunk = 16 << 10

// rowsKernel copies its input and applies stages to it.
func rowsKernel(v *ir.Value, stages []stage) kernel {
	shape, _ := v.Type.Static()
	total, _ := tensor.NumElems(shape)
	row, channels := chunk, 1 // elements of a row, rows until the channels start again
	if slices.ContainsFunc(stages, func(s stage) bool { return !s.flat }) {
		if row = innerSize(shape); row == 1 {
			row = shape[1]
		} else {
			channels = shape[1]
		}
	}
	return func(c *call, in, out []*tensor.Tensor) error {
		x, y := tensor.Data[float32](in[0]), tensor.Data[float32](out[0])
		others := othersOf(stages, in, 1)
		if total == 0 {
			return nil
		}
		rows := (total + row - 1) / row
		perTask := max(1, chunk/row)
		return c.parallel((rows+perTask-1)/perTask, func(_, i int) {
			for r := i * perTask; r < min((i+1)*perTask, rows); r++ {
				lo, hi := r*row, min((r+1)*row, total)
				copy(y[lo:hi], x[lo:hi])
				applyAll(stages, y[lo:hi], others, r%channels, lo)
			}
		})
	}
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
	return []stage{addStage(x.set, b.Data.Float32s(), shape)}, true
}
