package interp

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// box is a piece of an input that is copied to a piece of an output of the same shape.
type box struct {
	in, out      int // which input and output
	shape        []int
	from, to     []int // strides
	fromAt, toAt int   // where the first element is
}

// movers are the operators that only move elements; fill is what the output
// holds where no box lies. false: the operator's Eval does it.
var movers = map[string]func(n *ir.Node) (boxes []box, fill float32, ok bool){
	"Concat":       concatBoxes,
	"DepthToSpace": depthBoxes,
	"Gather":       gatherBoxes,
	"Pad":          padBoxes,
	"Slice":        sliceBoxes,
	"SpaceToDepth": depthBoxes,
	"Split":        splitBoxes,
	"Transpose":    transposeBoxes,
}

// moveUnit returns a node that only moves elements, floats or bytes, as a unit.
func moveUnit(n *ir.Node) (unit, bool) {
	f := movers[n.Op.Name]
	if f == nil || slices.Contains(n.Out, nil) {
		return unit{}, false
	}
	for _, v := range slices.Concat(n.In, n.Out) {
		if v == nil {
			continue
		}
		if _, ok := v.Type.Static(); !ok {
			return unit{}, false
		}
	}
	if e := n.In[0].Type.Elem; e != n.Out[0].Type.Elem || e != tensor.F32 && !isByte(e) {
		return unit{}, false
	}
	boxes, fill, ok := f(n)
	if !ok {
		return unit{}, false
	}
	inputs := n.In // those whose elements are moved
	if !n.Op.Inputs()[0].Variadic {
		inputs = n.In[:1]
	}
	return unit{node: n, name: "move", kind: computed, in: inputs, out: n.Out, make: func(in, out []*view, _ *step) []phase {
		if out[0].elem == tensor.F32 {
			return moves(boxes, fill, n.Op.Name == "Pad", in, out, (*view).all)
		}
		return moves(boxes, uint8(int64(fill)), n.Op.Name == "Pad", in, out, byteElems)
	}}, true
}

// moves returns the work of copying boxes of plain views, whose elements elems gives
// when it runs, into an output that is fill elsewhere if that is asked for.
func moves[T float32 | uint8](boxes []box, fill T, filled bool, in, out []*view, elems func(v *view) []T) (phases []phase) {
	if y := out[0]; filled {
		parts := 1 + y.size/chunk
		phases = append(phases, phase{parts, func(_ *worker, i int) {
			lo, hi := part(y.size, i, parts)
			row := elems(y)[lo:hi]
			for at := range row {
				row[at] = fill
			}
		}})
	}
	for _, b := range boxes {
		dst, src := out[b.out], in[b.in]
		total, _ := tensor.NumElems(b.shape)
		switch {
		case total == 0:
		case len(b.shape) == 0:
			phases = append(phases, phase{1, func(*worker, int) { elems(dst)[b.toAt] = elems(src)[b.fromAt] }})
		default:
			parts := min(b.shape[0], 1+total/chunk)
			phases = append(phases, phase{parts, func(_ *worker, i int) {
				lo, hi := part(b.shape[0], i, parts)
				copyRows(elems(dst), elems(src), hi-lo, b.shape[1:], b.to, b.from, b.toAt+lo*b.to[0], b.fromAt+lo*b.from[0])
			}})
		}
	}
	return phases
}

// copyRows copies n pieces of a shape, which may be single elements.
func copyRows[T float32 | uint8](dst, src []T, n int, shape, to, from []int, t, f int) {
	if len(shape) > 0 {
		for range n {
			copyRows(dst, src, shape[0], shape[1:], to[1:], from[1:], t, f)
			t, f = t+to[0], f+from[0]
		}
		return
	}
	if to[0] == 1 && from[0] == 1 {
		copy(dst[t:t+n], src[f:])
		return
	}
	for range n {
		dst[t] = src[f]
		t, f = t+to[0], f+from[0]
	}
}

func staticShape(v *ir.Value) []int {
	s, _ := v.Type.Static()
	return s
}

func strides(shape []int) []int {
	out, s := make([]int, len(shape)), 1
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = s
		s *= shape[i]
	}
	return out
}

// axisIn returns an axis, counted from the end if negative; it was checked by inference.
func axisIn(axis, rank int) int {
	if axis < 0 {
		axis += rank
	}
	return axis
}

func concatBoxes(n *ir.Node) ([]box, float32, bool) {
	to := strides(staticShape(n.Out[0]))
	axis := axisIn(n.Int("axis"), len(to))
	var out []box
	at := 0
	for i, v := range n.In {
		s := staticShape(v)
		out = append(out, box{in: i, shape: s, from: strides(s), to: to, toAt: at * to[axis]})
		at += s[axis]
	}
	return out, 0, true
}

func splitBoxes(n *ir.Node) ([]box, float32, bool) {
	from := strides(staticShape(n.In[0]))
	axis := axisIn(n.Int("axis"), len(from))
	var out []box
	at := 0
	for i, v := range n.Out {
		s := staticShape(v)
		out = append(out, box{out: i, shape: s, from: from, to: strides(s), fromAt: at * from[axis]})
		at += s[axis]
	}
	return out, 0, true
}

func transposeBoxes(n *ir.Node) ([]box, float32, bool) {
	s := staticShape(n.Out[0])
	from := make([]int, len(s))
	perm := n.Ints("perm")
	for i := range s {
		p := len(s) - 1 - i
		if perm != nil {
			p = int(perm[i])
		}
		from[i] = strides(staticShape(n.In[0]))[p]
	}
	return []box{{shape: s, from: from, to: strides(s)}}, 0, true
}

// depthBoxes is DepthToSpace and SpaceToDepth: both match channels of a deep
// array with places in blocks of b×b pixels of a wide one.
func depthBoxes(n *ir.Node) ([]box, float32, bool) {
	deep, wide, b := staticShape(n.In[0]), staticShape(n.Out[0]), n.Int("blocksize")
	toWide := n.Op.Name == "DepthToSpace"
	if !toWide {
		deep, wide = wide, deep
	}
	d, w := strides(deep), strides(wide)
	channel, place := d[1], d[1]*wide[1] // of the deep array: from a channel, and from a place in the block, to the next
	if n.Str("mode") == "CRD" {
		channel, place = d[1]*b*b, d[1]
	}
	// By channel, image, row, row in the block, column in the block, and column.
	x := box{
		shape: []int{wide[1], deep[0], deep[2], b, b, deep[3]},
		from:  []int{channel, d[0], d[2], b * place, place, 1},
		to:    []int{w[1], w[0], b * w[2], w[2], 1, b},
	}
	if !toWide {
		x.from, x.to = x.to, x.from
	}
	return []box{x}, 0, true
}

// along returns the numbers of input i, one for each axis that input axes
// lists, as one for each axis of rank; def elsewhere. false: not constant.
func along(n *ir.Node, i, axes, rank, def int) ([]int, bool) {
	out := slices.Repeat([]int{def}, rank)
	if n.Input(i) == nil {
		return out, true
	}
	x := n.ConstIn(i)
	if x == nil || n.Input(axes) != nil && n.ConstIn(axes) == nil {
		return nil, false
	}
	for j, v := range x.Int64s() {
		axis := j
		if a := n.ConstIn(axes); a != nil {
			axis = axisIn(int(a.Int64s()[j]), rank)
		}
		out[axis] = int(v)
	}
	return out, true
}

func sliceBoxes(n *ir.Node) ([]box, float32, bool) {
	in, out := staticShape(n.In[0]), staticShape(n.Out[0])
	starts, ok1 := along(n, 1, 3, len(in), 0)
	steps, ok2 := along(n, 4, 3, len(in), 1)
	if !ok1 || !ok2 {
		return nil, 0, false
	}
	b := box{shape: out, from: strides(in), to: strides(out)}
	for i, d := range in {
		s := starts[i]
		if s < 0 {
			s += d
		}
		if s = max(0, min(s, d)); steps[i] < 0 {
			s = min(s, d-1)
		}
		if out[i] > 0 {
			b.fromAt += s * b.from[i]
		}
		b.from[i] *= steps[i]
	}
	return []box{b}, 0, true
}

// padBoxes is Pad with a constant, that does not cut.
func padBoxes(n *ir.Node) ([]box, float32, bool) {
	in, out := staticShape(n.In[0]), staticShape(n.Out[0])
	if m := n.Str("mode"); m != "" && m != "constant" || n.ConstIn(1) == nil || n.Input(3) != nil && n.ConstIn(3) == nil {
		return nil, 0, false
	}
	fill := float32(0)
	if n.Input(2) != nil {
		v := n.ConstIn(2)
		if v == nil || v.Len() != 1 {
			return nil, 0, false
		}
		fill = v.Float32s()[0]
	}
	b := box{shape: in, from: strides(in), to: strides(out)}
	pads := n.ConstIn(1).Int64s()
	for j, p := range pads[:len(pads)/2] {
		axis := j
		if a := n.ConstIn(3); a != nil {
			axis = axisIn(int(a.Int64s()[j]), len(in))
		}
		if p < 0 || pads[len(pads)/2+j] < 0 {
			return nil, 0, false
		}
		b.toAt += int(p) * b.to[axis]
	}
	return []box{b}, fill, true
}

// maxGathered is how many pieces a Gather may copy.
const maxGathered = 64

// gatherBoxes is Gather with constant indices that lie in few runs.
func gatherBoxes(n *ir.Node) ([]box, float32, bool) {
	in := staticShape(n.In[0])
	index := n.ConstIn(1)
	if index == nil {
		return nil, 0, false
	}
	axis := axisIn(n.Int("axis"), len(in))
	from := strides(in)[axis] * in[axis] // of what lies before the axis
	outer, _ := tensor.NumElems(in[:axis])
	inner := strides(in)[axis]
	at := index.Int64s()
	var out []box
	for i := 0; i < len(at); {
		first := axisIn(int(at[i]), in[axis])
		run := 1
		for i+run < len(at) && axisIn(int(at[i+run]), in[axis]) == first+run {
			run++
		}
		if first < 0 || first+run > in[axis] || len(out) == maxGathered {
			return nil, 0, false
		}
		out = append(out, box{shape: []int{outer, run * inner}, from: []int{from, 1}, to: []int{len(at) * inner, 1}, fromAt: first * inner, toAt: i * inner})
		i += run
	}
	return out, 0, true
}
