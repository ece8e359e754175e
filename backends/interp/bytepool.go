package interp

import (
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// maxPoolBytes is MaxPool of bytes.
func maxPoolBytes(x *executable, n *ir.Node) (unit, bool) {
	w, ok := flatWindow(n)
	if !ok || n.In[0].HasData() {
		return unit{}, false
	}
	return unit{name: "pool", in: n.In[:1], arrange: inBlocks(1), make: func(in, out []*view, _ *step) []phase {
		return rowTasks(out[0], w.Kernel[0]*w.Kernel[1], func(k *worker, n, g, y int) { maxRow(x.set, k, w, in[0], out[0], n, g, y) })
	}}, true
}

// maxRow computes row y of a group, the pixels with the same taps at once.
func maxRow(s *simd.Set, k *worker, w *ops.Window, in, out *view, n, g, y int) {
	const most = 8
	dst := out.byteLine(n, g, y)
	i0, i1, _ := taps(w, 0, y)
	for x := 0; x < out.w; {
		j0, j1, _ := taps(w, 1, x)
		pixels := 1
		for pixels < most && x+pixels < out.w {
			a, b, _ := taps(w, 1, x+pixels)
			if a != j0 || b != j1 {
				break
			}
			pixels++
		}
		row := dst[x*simd.Block:][:pixels*simd.Block]
		if i0 == i1 || j0 == j1 {
			clear(row) // the least byte
			x += pixels
			continue
		}
		k.offsets = k.offsets[:0]
		at := 0
		for i := range i1 - i0 {
			for j := range j1 - j0 {
				next := i*w.Dilation[0]*in.row + j*w.Dilation[1]*in.block
				k.offsets = append(k.offsets, next-at)
				at = next
			}
		}
		first := in.at(n, g, y*w.Stride[0]-w.PadLo[0]+i0*w.Dilation[0]) + (x*w.Stride[1]-w.PadLo[1]+j0*w.Dilation[1])*in.block
		t := &k.stage
		*t = simd.Tile{X: in.ptr(first), Y: unsafe.Pointer(&row[0]), Off: &k.offsets[0], K: len(k.offsets), Dist: w.Stride[1] * in.block, YDist: out.block}
		s.BytesMax(pixels, t)
		x += pixels
	}
}

// meanBytes is thriftc.QAveragePool and thriftc.QGlobalAveragePool.
func meanBytes(x *executable, n *ir.Node) (unit, bool) {
	z, ok := scalarInt(n, 1)
	m := n.ConstIn(2)
	shape, static := n.In[0].Type.Static()
	if !ok || !static || m == nil || m.Len() != 1 || n.In[0].HasData() {
		return unit{}, false
	}
	zero := int32(z + offsetOf(n.In[0].Type.Elem))
	mult := slices.Repeat(m.Float32s(), simd.Block)
	p := &simd.ByteRow{Mult: unsafe.Pointer(&mult[0])}
	if !byteRange(n, 3, p) {
		return unit{}, false
	}
	u := unit{name: "pool", in: n.In[:1], arrange: inBlocks(1)}
	if n.Op.Name == "thriftc.QGlobalAveragePool" {
		wide := innerSize(shape) > 1<<16
		u.make = func(in, out []*view, _ *step) []phase {
			from, to := in[0], out[0]
			return rowTasks(to, from.h*from.w, func(k *worker, n, g, _ int) {
				sum := startSum(k, -zero*int32(from.h*from.w))
				for y := range from.h {
					x.set.SumBytes(sum, from.byteLine(n, g, y))
				}
				x.set.Requantise(to.byteLine(n, g, 0), sum[:], p, wide)
			})
		}
		return u, true
	}
	w, ok := flatWindow(n)
	if !ok {
		return unit{}, false
	}
	wide := w.Kernel[0]*w.Kernel[1] > 1<<16
	u.make = func(in, out []*view, _ *step) []phase {
		from, to := in[0], out[0]
		return rowTasks(to, w.Kernel[0]*w.Kernel[1], func(k *worker, n, g, y int) {
			i0, i1, _ := taps(w, 0, y)
			dst := to.byteLine(n, g, y)
			for ox := range to.w {
				j0, j1, _ := taps(w, 1, ox)
				sum := startSum(k, -zero*int32((i1-i0)*(j1-j0)))
				for i := i0; i < i1; i++ {
					row := from.byteLine(n, g, y*w.Stride[0]-w.PadLo[0]+i*w.Dilation[0])
					at := ox*w.Stride[1] - w.PadLo[1]
					if w.Dilation[1] == 1 {
						x.set.SumBytes(sum, row[(at+j0)*simd.Block:(at+j1)*simd.Block])
						continue
					}
					for j := j0; j < j1; j++ {
						x.set.SumBytes(sum, row[(at+j*w.Dilation[1])*simd.Block:][:simd.Block])
					}
				}
				x.set.Requantise(dst[ox*simd.Block:][:simd.Block], sum[:], p, wide)
			}
		})
	}
	return u, true
}

// startSum returns sums of the worker that start at v.
func startSum(k *worker, v int32) *[simd.Block]int32 {
	sum := (*[simd.Block]int32)(unsafe.Pointer(&k.temp(simd.Block)[0]))
	for i := range sum {
		sum[i] = v
	}
	return sum
}

// piece is neighbouring channels that come from neighbouring channels of an input.
type piece struct {
	in         int // −1: what fills
	from, to   int // the first channels
	count      int
	rows, cols []int // for every row and column of the output that of the input; −1: what fills
	images     []int
}

// moveBytes is Concat along channels, Slice, Pad and a Resize to the nearest of bytes: every element of the
// output is that of an input at places that each dimension decides alone, or what fills.
func moveBytes(_ *executable, n *ir.Node) (unit, bool) {
	to, _ := n.Out[0].Type.Static()
	if len(to) < 2 || len(to) > 4 {
		return unit{}, false
	}
	for i, v := range n.In {
		if v == nil {
			continue
		}
		if _, ok := v.Type.Static(); !ok || isByte(v.Type.Elem) && v.HasData() && (n.Op.Name == "Concat" || i == 0) {
			return unit{}, false
		}
	}
	axes, fill, ok := byteAxes(n)
	if !ok {
		return unit{}, false
	}
	inputs := n.In[:1]
	if n.Op.Name == "Concat" {
		inputs = n.In
	}
	fill ^= uint8(offsetOf(n.Out[0].Type.Elem))
	rows, movable := moveUnit(n)
	return unit{name: "move", in: inputs, arrange: func(lies []int) ([]want, want) {
		if movable && inRows(to) && !slices.ContainsFunc(lies, func(l int) bool { return l != 1 }) {
			return slices.Repeat([]want{plain}, len(inputs)), plain
		}
		return inBlocks(len(inputs))(lies)
	}, make: func(in, out []*view, s *step) []phase {
		y := out[0]
		if y.isRaw() {
			return rows.make(in, out, s)
		}
		pieces := axes.pieces(y)
		return rowTasks(y, 2, func(_ *worker, image, g, row int) {
			dst := y.byteLine(image, g, row)
			for _, p := range pieces[g] {
				p.move(dst, in, fill, image, row)
			}
		})
	}}, true
}

// sources says, for every index of each dimension of an output, whence it comes.
type byteSources struct {
	input []int    // by channel: which input
	at    [4][]int // by image, channel, row and column: the index there; −1: what fills
}

// byteAxes follows indices through a node.
func byteAxes(n *ir.Node) (s byteSources, fill uint8, ok bool) {
	to, _ := n.Out[0].Type.Static()
	rank := len(to)
	dim := func(i int) int { // of at
		if i < 2 {
			return i
		}
		return i + 4 - rank
	}
	for i := range s.at {
		s.at[i] = []int{0}
	}
	for i, d := range to {
		s.at[dim(i)] = make([]int, d)
		for j := range d {
			s.at[dim(i)][j] = j
		}
	}
	s.input = make([]int, to[1])
	if n.Op.Name == "Concat" {
		axis := n.Int("axis")
		if axis < 0 {
			axis += rank
		}
		if axis != 1 {
			return s, 0, false
		}
		at := 0
		for k, v := range n.In {
			d, _ := v.Type.Static()
			for j := range d[1] {
				s.input[at], s.at[1][at] = k, j
				at++
			}
		}
		return s, 0, true
	}
	if n.Op.Name == "Resize" {
		list, ok := ops.ResizeTapsOf(n)
		for _, t := range list {
			if t.Weights != nil {
				return s, 0, false
			}
			for i, at := range t.At {
				s.at[dim(t.Axis)][i] = at[0]
			}
		}
		return s, 0, ok
	}
	// What the node does to the numbers of an axis shows on a tensor of these numbers.
	from, _ := n.In[0].Type.Static()
	for i, d := range to {
		shape := slices.Repeat([]int{1}, rank)
		shape[i] = from[i]
		numbers := make([]int64, from[i])
		for j := range numbers {
			numbers[j] = int64(j)
		}
		got, ok := alongAxis(n, i, tensor.Of(numbers, shape...))
		if !ok || len(got) != d {
			return s, 0, false
		}
		s.at[dim(i)] = got
	}
	if n.Op.Name == "Pad" && n.Input(2) != nil {
		z := n.ConstIn(2)
		if z == nil || z.Len() != 1 {
			return s, 0, false
		}
		fill = uint8(z.Int64s()[0])
	}
	return s, fill, true
}

// alongAxis applies a Slice or Pad to numbers along one axis; −1 is what a Pad adds.
func alongAxis(n *ir.Node, axis int, numbers *tensor.Tensor) ([]int, bool) {
	g := ir.NewGraph("axis", n.Graph().Ops)
	r := ir.NewRewriter(g)
	in := []*ir.Value{r.Const("x", numbers)}
	rank := numbers.Rank()
	keep := func(v []int64, i, axis int) []int64 { // nothing but axis is changed
		v = slices.Clone(v)
		v[i] = 0
		return v
	}
	for i := 1; i < len(n.In); i++ {
		t := n.ConstIn(i)
		switch {
		case n.In[i] == nil:
			in = append(in, nil)
			continue
		case t == nil:
			return nil, false
		}
		in = append(in, r.Const("c", t))
	}
	switch n.Op.Name {
	case "Pad":
		if n.Input(3) != nil || n.Str("mode") != "constant" {
			return nil, false
		}
		pads := n.ConstIn(1).Int64s()
		for i := range rank {
			if i != axis {
				pads = keep(keep(pads, i, axis), rank+i, axis)
			}
		}
		in = []*ir.Value{in[0], r.Ints("pads", pads...), r.Const("fill", tensor.Scalar(int64(-1)))}
	case "Slice":
		axes := []int64(nil)
		if t := n.ConstIn(3); t != nil {
			axes = t.Int64s()
		}
		starts, ends := n.ConstIn(1).Int64s(), n.ConstIn(2).Int64s()
		steps := slices.Repeat([]int64{1}, len(starts))
		if t := n.ConstIn(4); t != nil {
			steps = t.Int64s()
		}
		at := -1
		for i := range starts {
			a := i
			if axes != nil {
				a = int(axes[i])
			}
			if a < 0 {
				a += rank
			}
			if a == axis {
				at = i
			}
		}
		if at < 0 {
			return intsOf(numbers), true
		}
		in = []*ir.Value{in[0], r.Ints("starts", starts[at]), r.Ints("ends", ends[at]), r.Ints("axes", int64(axis)), r.Ints("steps", steps[at])}
	default:
		return nil, false
	}
	m, err := r.Add(n.Op.Name, "", nil, in)
	if err != nil {
		return nil, false
	}
	args := make([]*tensor.Tensor, len(in))
	for i, v := range in {
		args[i] = v.Data
	}
	out, err := m.Eval(args)
	if err != nil {
		return nil, false
	}
	return intsOf(out[0]), true
}

func intsOf(t *tensor.Tensor) []int {
	out := make([]int, t.Len())
	for i, v := range t.Int64s() {
		out[i] = int(v)
	}
	return out
}

// pieces divides the channels of each group of y into runs that are copied at once.
func (s *byteSources) pieces(y *view) [][]piece {
	out := make([][]piece, y.groups())
	for c := range y.c {
		g, in, from := c/y.block, s.input[c], s.at[1][c]
		if from < 0 {
			in = -1
		}
		if k := len(out[g]); k > 0 {
			if last := &out[g][k-1]; last.in == in && (in < 0 || last.from+last.count == from && from%y.block != 0) {
				last.count++
				continue
			}
		}
		out[g] = append(out[g], piece{in: in, from: max(from, 0), to: c % y.block, count: 1, images: s.at[0], rows: s.at[2], cols: s.at[3]})
	}
	return out
}

// move writes the piece of a row.
func (p *piece) move(dst []uint8, in []*view, fill uint8, image, row int) {
	const block = simd.Block
	if p.in < 0 || p.images[image] < 0 || p.rows[row] < 0 {
		for x := range p.cols {
			set(dst[x*block+p.to:][:p.count], fill)
		}
		return
	}
	from := in[p.in]
	src := from.byteLine(p.images[image], p.from/block, p.rows[row])
	if p.count == block && len(p.cols) == from.w && slices.IsSorted(p.cols) && p.cols[0] == 0 {
		copy(dst, src)
		return
	}
	for x, sx := range p.cols {
		to := dst[x*block+p.to:][:p.count]
		if sx < 0 {
			set(to, fill)
			continue
		}
		copy(to, src[sx*block+p.from%block:])
	}
}
