package interp

import (
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Values of 8 bits lie in blocks of 16 channels like floats, or of 4 where they have no more. There
// they are u8: an i8 is stored with 128 added, so that kernels know one type only; zero
// points move by as much. Planar values are as ONNX has them, unless they have a halo: a single channel
// lies so for a convolution, which reads four columns at once.

func isByte(e tensor.Elem) bool { return e == tensor.I8 || e == tensor.U8 }

// offsetOf is what blocked bytes are greater by than the integers of type e that they hold.
func offsetOf(e tensor.Elem) int64 {
	if e == tensor.I8 {
		return 128
	}
	return 0
}

// byteBlock is the number of channels in a block of a value that has so many.
func byteBlock(channels int) int {
	if channels <= 4 {
		return 4
	}
	return simd.Block
}

// byteElems returns the elements of a view of bytes, from the start of its memory to its last.
func byteElems(v *view) []uint8 {
	if v.size == 0 {
		return nil
	}
	return unsafe.Slice((*uint8)(v.base), v.at(v.n-1, v.groups()-1, v.h-1)+(v.w+v.right)*v.block+v.bottom*v.row)
}

// byteLine returns row y of a group.
func (v *view) byteLine(n, g, y int) []uint8 {
	return unsafe.Slice((*uint8)(v.ptr(v.at(n, g, y))), v.w*v.block)
}

// isRaw reports whether bytes are as ONNX has them.
func (v *view) isRaw() bool { return v.block == 1 && !v.halo() }

// relayBytes copies bytes from one layout to another.
func relayBytes(from, to *view) []phase {
	var flip uint8
	if from.isRaw() != to.isRaw() {
		flip = uint8(offsetOf(from.elem))
	}
	if from.block == to.block && flip == 0 {
		return rowTasks(to, 1, func(_ *worker, n, g, y int) { copy(to.byteLine(n, g, y), from.byteLine(n, g, y)) })
	}
	if to.h*to.w == 1 && flat(from, to) { // the channels of an image lie beside each other in both
		parts := 1 + to.size/chunk
		return []phase{{parts, func(_ *worker, i int) {
			for n, end := part(to.n, i, parts); n < end; n++ {
				dst := unsafe.Slice((*uint8)(to.ptr(to.at(n, 0, 0))), to.c)
				src := unsafe.Slice((*uint8)(from.ptr(from.at(n, 0, 0))), to.c)
				if flip != 0 {
					flipBytes(dst, src)
				} else {
					copy(dst, src)
				}
			}
		}}}
	}
	return rowTasks(to, 4, func(_ *worker, n, g, y int) {
		dst := to.byteLine(n, g, y)
		for l := range min(to.block, to.c-g*to.block) {
			c := g*to.block + l
			src := from.byteLine(n, c/from.block, y)[c%from.block:]
			for i := range to.w {
				dst[i*to.block+l] = src[i*from.block] ^ flip
			}
		}
	})
}

// flipBytes sets dst to the bytes of src with their first bit turned: i8 as they lie in blocks, and back.
func flipBytes(dst, src []uint8) {
	src = src[:len(dst)]
	for len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^0x8080808080808080)
		dst, src = dst[8:], src[8:]
	}
	for i, v := range src {
		dst[i] = v ^ 0x80
	}
}

// byteUnits are the operators on bytes whose kernels give bytes. A function returns
// false for a node that its kernel cannot compute; it is called for nodes with one output
// of static shape.
var byteUnits map[string]func(x *executable, n *ir.Node) (unit, bool)

func init() {
	byteUnits = map[string]func(x *executable, n *ir.Node) (unit, bool){
		"Clip":                       clipBytes,
		"Concat":                     moveBytes,
		"MaxPool":                    maxPoolBytes,
		"Pad":                        moveBytes,
		"Resize":                     moveBytes,
		"QuantizeLinear":             quantizeUnit,
		"Slice":                      moveBytes,
		"thriftc.Lookup":             lookupUnit,
		"thriftc.QAdd":               addUnit,
		"thriftc.QAveragePool":       meanBytes,
		"thriftc.QConv":              byteConvUnit,
		"thriftc.QGemm":              byteConvUnit,
		"thriftc.QGlobalAveragePool": meanBytes,
		"thriftc.QMuxConv":           qmuxUnit,
		"Flatten":                    sameBytes,
		"Reshape":                    sameBytes,
		"Squeeze":                    sameBytes,
	}
}

// byteUnit returns the unit of a node that gives bytes.
func byteUnit(x *executable, n *ir.Node) (unit, bool) {
	f := byteUnits[n.Op.Name]
	if f == nil || len(n.Out) != 1 || !isByte(n.Out[0].Type.Elem) {
		return unit{}, false
	}
	if _, ok := n.Out[0].Type.Static(); !ok {
		return unit{}, false
	}
	u, ok := f(x, n)
	u.node, u.kind = n, computed
	if u.out = n.Out; len(u.fused) > 0 {
		u.out = u.fused[len(u.fused)-1].Out
	}
	return u, ok
}

// inBlocks is the arrangement of a unit whose inputs, of so many, and output lie in blocks of 16 channels.
func inBlocks(inputs int) func([]int) ([]want, want) {
	w := want{layout: blocked}
	return func([]int) ([]want, want) { return slices.Repeat([]want{w}, inputs), w }
}

// byteFollows is follows for bytes of some shape, of which all inputs lie as the first does.
func byteFollows(inputs int, shape []int) func([]int) ([]want, want) {
	return func(lies []int) ([]want, want) {
		w := want{layout: layout{block: lies[0]}}
		switch {
		case lies[0] == 1 && inRows(shape):
			w = plain
		case lies[0] == 1:
			w.block = byteBlock(shape[1])
		}
		return slices.Repeat([]want{w}, inputs), w
	}
}

// inRows reports whether bytes of such a shape that lie row-major stay so where they may: they are no images.
func inRows(shape []int) bool { return len(shape) == 3 || len(shape) > 4 }

// mapBytes is tasks that compute pieces of y from the same pieces of one or two inputs.
func mapBytes(y, a, b *view, f func(w *worker, dst, a, b []uint8)) []phase {
	if !flat(y, a, b) || !whole(y, a, b) {
		return rowTasks(y, 1, func(w *worker, n, g, row int) {
			var other []uint8
			if b != nil {
				other = b.byteLine(n, g, row)
			}
			f(w, y.byteLine(n, g, row), a.byteLine(n, g, row), other)
		})
	}
	parts := (y.size + chunk - 1) / chunk
	return []phase{{parts, func(w *worker, i int) {
		lo, hi := part(y.size, i, parts)
		var other []uint8
		if b != nil {
			other = byteElems(b)[lo:hi]
		}
		f(w, byteElems(y)[lo:hi], byteElems(a)[lo:hi], other)
	}}}
}

// whole reports whether images follow each other from the start of the memory.
func whole(views ...*view) bool {
	for _, v := range views {
		if v != nil && (v.origin != 0 || v.image != v.groups()*v.group) {
			return false
		}
	}
	return true
}

// scalarInt returns a constant integer of one element, which input i must be.
func scalarInt(n *ir.Node, i int) (int64, bool) {
	t := n.ConstIn(i)
	if t == nil || t.Len() != 1 {
		return 0, false
	}
	return t.Int64s()[0], true
}

// byteRange sets the limits and the zero point of results of n whose zero point is input i.
func byteRange(n *ir.Node, i int, p *simd.ByteRow) bool {
	z, ok := scalarInt(n, i)
	if !ok {
		return false
	}
	e := n.In[i].Type.Elem
	lo, hi := ops.RequantRange(n, e)
	p.Limit(lo-z, hi-z, z+offsetOf(e))
	return lo <= hi
}

// quantizeUnit is QuantizeLinear of floats with one scale, and the Clip that alone uses its result.
func quantizeUnit(x *executable, n *ir.Node) (unit, bool) {
	s := n.ConstIn(1)
	shape, ok := n.In[0].Type.Static()
	if !ok || len(shape) < 2 || n.In[0].Type.Elem != tensor.F32 || s == nil || s.Len() != 1 || s.Elem() != tensor.F32 || n.Int("block_size") != 0 || n.Int("precision") != 0 {
		return unit{}, false
	}
	e := n.Out[0].Type.Elem
	p := &simd.ByteRow{Scale: s.Float32s()[0]}
	z := int64(0)
	if n.Input(2) != nil {
		if z, ok = scalarInt(n, 2); !ok {
			return unit{}, false
		}
	}
	lo, hi := e.Range()
	out, fused := n.Out[0], []*ir.Node(nil)
	if uses := out.Uses(); len(uses) == 1 && !out.IsOutput() && uses[0].Node.Op.Name == "Clip" && uses[0].Index == 0 && uses[0].Node.Graph() == n.Graph() {
		if limit, ok := clipRange(uses[0].Node); ok && limit[0] <= limit[1] {
			lo, hi = limit[0], limit[1]
			fused = []*ir.Node{uses[0].Node}
			out = fused[0].Out[0]
		}
	}
	p.Limit(lo-z, hi-z, z+offsetOf(e))
	block := byteBlock(shape[1])
	if shape[1] == 1 {
		block = 1
	}
	rows := inRows(shape) && !slices.ContainsFunc(out.Uses(), func(u ir.Use) bool { return slices.Contains(windowed, u.Node.Op.Name) })
	return unit{name: "quantise", in: n.In[:1], fused: fused, arrange: func(lies []int) ([]want, want) {
		if lies[0] == 1 && rows {
			return []want{plain}, plain
		}
		if lies[0] == simd.Block && block == simd.Block {
			return []want{{layout: blocked}}, want{layout: blocked}
		}
		return []want{plain}, want{layout: layout{block: block}}
	}, make: func(in, out []*view, _ *step) []phase { return quantise(x.set, in[0], out[0], p) }}, true
}

// windowed are the operators that want bytes in blocks whatever their rank.
var windowed = []string{"MaxPool", "thriftc.QAveragePool", "thriftc.QConv", "thriftc.QGlobalAveragePool", "thriftc.QMuxConv"}

func quantise(s *simd.Set, from, to *view, p *simd.ByteRow) []phase {
	if to.isRaw() {
		raw := *p
		raw.Zero -= int32(offsetOf(to.elem))
		p = &raw
	}
	switch {
	case from.block == to.block:
		return rowTasks(to, 2, func(_ *worker, n, g, y int) { s.Quantise(to.byteLine(n, g, y), from.line(n, g, y), p) })
	case to.block == 4:
		return rowTasks(to, 2, func(_ *worker, n, _, y int) {
			var rows [4][]float32
			for l := range rows { // channels beyond the last are copies of it
				rows[l] = from.line(n, min(l, from.c-1), y)
			}
			s.Quantise4(to.byteLine(n, 0, y), &rows, p)
		})
	}
	return rowTasks(to, 4, func(w *worker, n, g, y int) {
		row := unsafe.Slice((*uint8)(unsafe.Pointer(&w.temp(to.w/4 + 1)[0])), to.w)
		dst := to.byteLine(n, g, y)
		for l := range min(to.block, to.c-g*to.block) {
			s.Quantise(row, from.line(n, g*to.block+l, y), p)
			for i, v := range row {
				dst[i*to.block+l] = v
			}
		}
	})
}

// dequantizeSource is DequantizeLinear of bytes with one scale.
func dequantizeSource(x *executable, n *ir.Node) (source, bool) {
	s := n.ConstIn(1)
	shape, ok := n.In[0].Type.Static()
	e := n.In[0].Type.Elem
	if !ok || len(shape) < 2 || !isByte(e) || n.In[0].HasData() || s == nil || s.Len() != 1 || s.Elem() != tensor.F32 || n.Int("block_size") != 0 {
		return source{}, false
	}
	z := int64(0)
	if n.Input(2) != nil {
		if z, ok = scalarInt(n, 2); !ok {
			return source{}, false
		}
	}
	p := &simd.ByteRow{Scale: s.Float32s()[0], Zero: int32(z + offsetOf(e))}
	return source{name: "dequantise", in: n.In[:1], arrange: func(lies []int) ([]want, want) {
		if lies[0] == 1 && inRows(shape) {
			return []want{plain}, plain
		}
		return []want{{layout: blocked}}, want{layout: blocked}
	}, make: func(in []*view, out *view, stages []stage, others []*view, _ *step) []phase {
		from := in[0]
		return pointwise(from, out, stages, others, func(w *worker, dst []float32, at int) {
			src := unsafe.Slice((*uint8)(from.ptr(at)), len(dst))
			if from.isRaw() && e == tensor.I8 {
				flipped := w.tempBytes(len(src))
				flipBytes(flipped, src)
				src = flipped
			}
			x.set.Dequantise(dst, src, p)
		})
	}}, true
}

// byteSource returns the source of a node that takes bytes to floats.
func byteSource(x *executable, n *ir.Node) (source, bool) {
	switch n.Op.Name {
	case "DequantizeLinear":
		return dequantizeSource(x, n)
	case "thriftc.QConv", "thriftc.QGemm":
		return byteSumsSource(x, n)
	}
	return source{}, false
}

// addUnit is thriftc.QAdd of tensors of one shape.
func addUnit(x *executable, n *ir.Node) (unit, bool) {
	p, ok := addRow(n)
	shape, static := n.Out[0].Type.Static()
	if !ok || !static || len(shape) < 2 {
		return unit{}, false
	}
	return unit{name: "add", in: n.In[:2], arrange: byteFollows(2, shape), make: func(in, out []*view, _ *step) []phase {
		flip := [3]bool{} // of the result and the operands
		if out[0].isRaw() {
			flip = [3]bool{out[0].elem == tensor.I8, in[0].elem == tensor.I8, in[1].elem == tensor.I8}
		}
		return mapBytes(out[0], in[0], in[1], func(w *worker, dst, a, b []uint8) {
			var flipped []uint8
			if flip[1] || flip[2] {
				flipped = w.tempBytes(2 * len(dst))
			}
			if flip[1] {
				flipBytes(flipped[:len(dst)], a)
				a = flipped[:len(dst)]
			}
			if flip[2] {
				flipBytes(flipped[len(dst):], b)
				b = flipped[len(dst):]
			}
			if x.set.AddBytes(dst, a, b, p); flip[0] {
				flipBytes(dst, dst)
			}
		})
	}}, true
}

// addRow returns the parameters of a thriftc.QAdd of two tensors of one shape.
func addRow(n *ir.Node) (*simd.ByteRow, bool) {
	m := n.ConstIn(4)
	if m == nil || !slices.EqualFunc(n.In[0].Type.Dims, n.In[1].Type.Dims, ir.Dim.Same) || n.In[0].HasData() || n.In[1].HasData() {
		return nil, false
	}
	p := &simd.ByteRow{Shift: int64(n.Int("shift"))}
	p.Half = 1<<(p.Shift-1) - 1
	for i, f := range m.Int64s() {
		z, ok := scalarInt(n, 2+i)
		if !ok {
			return nil, false
		}
		p.Factors[i] = int32(f)
		p.Sum -= int32((z + offsetOf(n.In[i].Type.Elem)) * f)
	}
	return p, byteRange(n, 5, p)
}

// tableUnit replaces bytes by elements of a table of those in blocks.
func tableUnit(x *executable, n *ir.Node, table *[256]uint8) (unit, bool) {
	shape, ok := n.Out[0].Type.Static()
	if !ok || len(shape) < 2 {
		return unit{}, false
	}
	return unit{name: "lookup", in: n.In[:1], arrange: byteFollows(1, shape), make: func(in, out []*view, _ *step) []phase {
		t := table
		if out[0].isRaw() {
			t = new([256]uint8)
			from, to := uint8(offsetOf(in[0].elem)), uint8(offsetOf(out[0].elem))
			for i := range t {
				t[i] = table[uint8(i)^from] ^ to
			}
		}
		return mapBytes(out[0], in[0], nil, func(_ *worker, dst, a, _ []uint8) { x.set.LookupBytes(dst, a, t) })
	}}, true
}

// lookupUnit is thriftc.Lookup in a table of bytes.
func lookupUnit(x *executable, n *ir.Node) (unit, bool) {
	t := n.ConstIn(1)
	if t == nil || n.In[0].HasData() {
		return unit{}, false
	}
	var table [256]uint8
	for i, q := range t.Int64s() { // entry 0 is for the least integer, which is 0 in blocks
		table[i] = uint8(q + offsetOf(t.Elem()))
	}
	return tableUnit(x, n, &table)
}

// clipBytes is Clip of bytes.
func clipBytes(x *executable, n *ir.Node) (unit, bool) {
	e := n.In[0].Type.Elem
	limit, ok := clipRange(n)
	if !ok || n.In[0].HasData() {
		return unit{}, false
	}
	least, _ := e.Range()
	var table [256]uint8
	for i := range table {
		table[i] = uint8(min(max(least+int64(i), limit[0]), limit[1]) + offsetOf(e))
	}
	return tableUnit(x, n, &table)
}

// clipRange returns the limits of a Clip of bytes, false if they are no constants.
func clipRange(n *ir.Node) (limit [2]int64, ok bool) {
	limit[0], limit[1] = n.In[0].Type.Elem.Range()
	for i := range limit {
		if n.Input(i+1) == nil {
			continue
		}
		q, ok := scalarInt(n, i+1)
		if !ok {
			return limit, false
		}
		limit[i] = q
	}
	return limit, true
}

// sameBytes is a node that gives an image of one pixel, or a row, another shape.
func sameBytes(_ *executable, n *ir.Node) (unit, bool) {
	from, ok := n.In[0].Type.Static()
	to, _ := n.Out[0].Type.Static()
	if !ok || len(from) < 2 || len(to) < 2 || from[0] != to[0] || from[1] != to[1] || innerSize(from) != 1 || innerSize(to) != 1 || n.In[0].HasData() {
		return unit{}, false
	}
	return unit{name: "copy", in: n.In[:1], arrange: byteFollows(1, from[:2]), make: func(in, out []*view, _ *step) []phase {
		return mapBytes(out[0], in[0], nil, func(_ *worker, dst, a, _ []uint8) { copy(dst, a) })
	}}, true
}
