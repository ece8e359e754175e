package interp

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Bytes with one weight per kernel slice: the input of a few pixels, of four
// channels, fits a vector of 64 bytes as a patch of four rows and columns. One permutation
// of it gives 16 output channels what each takes of the four channels, and one instruction multiplies
// and adds. Patches are made first, for all channels of some pixels.

// qmuxConv is a thriftc.QMuxConv node with constant weights.
type qmuxConv struct {
	x           *executable
	node        *ir.Node
	w           window
	weights     *tensor.Tensor
	places      []int64
	zero        int64 // of the input, as it lies in blocks
	bias        []int64
	mult        []float32
	shift       int
	least, most int64 // of results without their zero point
	add         int64 // the zero point, as results lie in blocks
	pixels      int   // of a patch: 4, two by two, or 1
}

// qmuxUnit is a QMuxConv that gives bytes. Where the permutation is missing, or the
// window is larger than a patch, it is the dense convolution with zeros.
func qmuxUnit(x *executable, n *ir.Node) (unit, bool) {
	in, ok := n.In[0].Type.Static()
	g, flat := flatWindow(n)
	weights, places := n.ConstIn(1), n.ConstIn(2)
	if !ok || !flat || weights == nil || places == nil || n.In[0].HasData() || n.ConstIn(5) == nil {
		return unit{}, false
	}
	c := &qmuxConv{x: x, node: n, w: geometryOf(n, g), weights: weights, places: places.Int64s(),
		zero: offsetOf(n.In[0].Type.Elem), mult: n.ConstIn(5).Float32s(), shift: n.Int("bias_shift")}
	w := &c.w
	if z := n.Input(3); z != nil {
		v, ok := scalarInt(n, 3)
		if !ok {
			return unit{}, false
		}
		c.zero += v
	}
	c.bias = make([]int64, w.oc)
	if n.Input(4) != nil {
		if n.ConstIn(4) == nil {
			return unit{}, false
		}
		copy(c.bias, n.ConstIn(4).Int64s())
	}
	z, ok := scalarInt(n, 6)
	e := n.Out[0].Type.Elem
	lo, hi := ops.RequantRange(n, e)
	if !ok || lo > hi || !smallEnough(w.ih+8+w.kh*w.dh, w.iw+8+w.kw*w.dw, max(1, in[1])) {
		return unit{}, false
	}
	c.least, c.most, c.add = lo-z, hi-z, z+offsetOf(e)
	if !c.permutes() {
		return c.dense(n)
	}
	c.pixels = 1
	if w.sh == 1 && w.sw == 1 && (w.kh-1)*w.dh < 3 && (w.kw-1)*w.dw < 3 {
		c.pixels = 4
	}
	return unit{name: "qmux", in: n.In[:1], arrange: c.arrange, make: c.phases}, true
}

// permutes reports whether the kernel can compute c: its sums, as it makes them, and their products
// with the multipliers must fit i32, and lose nothing in float64.
func (c *qmuxConv) permutes() bool {
	w := &c.w
	if w.groups != 1 || w.ic == 0 || (w.kh-1)*w.dh > 3 || (w.kw-1)*w.dw > 3 || c.x.set.QMuxPatches(1) == 0 {
		return false
	}
	q := c.weights.Int64s()
	for o := range w.oc {
		sum := int64(0)
		for _, v := range q[o*w.ic:][:w.ic] {
			if v < math.MinInt8 || v > math.MaxInt8 {
				return false
			}
			sum += max(v, -v)
		}
		if 255*sum<<c.shift+max(c.bias[o], -c.bias[o]) >= 1<<29 {
			return false
		}
	}
	return !slices.ContainsFunc(c.mult, func(m float32) bool { return m >= 4 })
}

// dense returns the unit of the convolution with zeros for absent weights.
func (c *qmuxConv) dense(n *ir.Node) (unit, bool) {
	kernel := ops.DenseMux(c.weights, n.ConstIn(2), tensor.F64, n.Ints("kernel_shape"))
	k := c.w.ic / c.w.groups * c.w.kh * c.w.kw
	d := &byteConv{x: c.x, node: n, w: c.w, zeros: []int64{0}, zero: c.zero, bias: c.bias, shift: c.shift, mult: c.mult, rows: [2]int{k, 1}}
	e := tensor.I8
	if c.weights.Elem().Kind() == tensor.UintKind {
		e = tensor.U8
	}
	t := tensor.FromInt64s(e, kernel.Int64s(), kernel.Shape()...)
	d.weights = &ir.Value{Kind: ir.Const, Type: ir.TypeOf(t), Data: t}
	d.out.Limit(c.least, c.most, c.add)
	return d.unit(n), c.zero >= 0 && c.zero <= 255
}

// arrange implements unit.arrange: patches reach as far as the halo.
func (c *qmuxConv) arrange([]int) ([]want, want) {
	w := &c.w
	l := w.halo()
	if l.halo() {
		l.fill = uint8(c.zero)
	}
	l.block = simd.Block
	h, wide := (w.oh-1)*w.sh+4, (w.ow-1)*w.sw+4
	if c.pixels == 4 {
		h, wide = (w.oh+1)&^1+2, (w.ow+1)&^1+2
	}
	l.bottom, l.right = max(l.bottom, h-w.top-w.ih), max(l.right, wide-w.left-w.iw)
	return []want{{layout: l}}, want{layout: blocked}
}

// packedMux is a qmuxConv's constants as the kernel wants them.
type packedMux struct {
	weights []uint8 // for each block and quad 64 places and 64 weights
	bias    []int32
	scale   []float64
}

func (c *qmuxConv) pack() *packedMux {
	w := &c.w
	blocks, quads := blocksOf(w.oc), (w.ic+3)/4
	p := &packedMux{make([]uint8, blocks*quads*128), make([]int32, blocks*simd.Block), make([]float64, blocks*simd.Block)}
	q := c.weights.Int64s()
	for o := range w.oc {
		sum := int64(0)
		for ch := range w.ic {
			pair := o*w.ic + ch
			place := int(c.places[pair])
			at := (o/simd.Block*quads+ch/4)*128 + o%simd.Block*4 + ch%4
			p.weights[at] = uint8((place/w.kw*w.dh*4+place%w.kw*w.dw)*4 + ch%4)
			p.weights[at+64] = uint8(q[pair])
			sum += q[pair]
		}
		p.bias[o] = int32(c.bias[o] - c.zero*sum<<c.shift)
		p.scale[o] = float64(c.mult[o%len(c.mult)])
	}
	return p
}

// qmuxTiles is the work of a convolution.
type qmuxTiles struct {
	c                  *qmuxConv
	in, out            *view
	packed             *packedMux
	across, down       int   // patches of an image
	cols               []int // the patches of each tile of a row of patches
	rows               int   // rows of patches of a tile
	rowParts, outParts int
}

// patchesAtOnce is how many patches a tile has, about: those of 64 channels fill the first-level cache.
const patchesAtOnce = 16

// phases implements unit.make.
func (c *qmuxConv) phases(in, out []*view, _ *step) []phase {
	if out[0].size == 0 {
		return nil
	}
	t := &qmuxTiles{c: c, in: in[0], out: out[0], across: c.w.ow, down: c.w.oh, outParts: 1}
	if c.pixels == 4 {
		t.across, t.down = (c.w.ow+1)/2, (c.w.oh+1)/2
	}
	t.packed = packed(c.x, c.weights, fmt.Sprintf("qmux %v %v %v %p %p", c.w, c.zero, c.shift, c.node.ConstIn(4), c.node.ConstIn(5)), c.pack)
	t.cols = evenly(t.across, (t.across+patchesAtOnce-1)/patchesAtOnce)
	t.rows = min(t.down, max(1, patchesAtOnce/t.across))
	t.rowParts = (t.down + t.rows - 1) / t.rows
	workers, tasks := c.x.pool.workers, c.w.n*t.rowParts
	if blocks := blocksOf(c.w.oc); tasks < 2*workers {
		t.outParts = min(blocks, (2*workers+tasks-1)/tasks)
	}
	return []phase{{tasks * t.outParts, t.task}}
}

// task computes some rows of patches of some output channels of an image.
func (t *qmuxTiles) task(k *worker, i int) {
	blocks := blocksOf(t.c.w.oc)
	b0, b1 := part(blocks, i%t.outParts, t.outParts)
	i /= t.outParts
	n, first := i/t.rowParts, i%t.rowParts*t.rows
	rows := min(t.rows, t.down-first)
	col := 0
	for _, cols := range t.cols {
		t.tile(k, n, first, rows, col, cols, b0, b1)
		col += cols
	}
	step := t.c.step()
	for g := b0; g < b1; g++ {
		t.out.clearHalo(n, g, first*step, min((first+rows)*step, t.out.h))
	}
}

// step is how many pixels of the output a patch has in each direction.
func (c *qmuxConv) step() int {
	if c.pixels == 4 {
		return 2
	}
	return 1
}

func (t *qmuxTiles) tile(k *worker, n, row, rows, col, cols, b0, b1 int) {
	c, s := t.c, t.c.x.set
	w, step := &c.w, c.step()
	patches := rows * cols
	groups, quads := t.in.groups(), (w.ic+3)/4
	memory := unsafe.Pointer(&k.temp(groups * 4 * patches * 16)[0])
	for g := range groups {
		for r := range rows {
			at := t.in.at(n, g, (row+r)*step*w.sh-w.top) + (col*step*w.sw-w.left)*simd.Block
			s.Patches(cols, unsafe.Add(memory, (4*g*patches+r*cols)*64), patches*64, t.in.ptr(at), step*w.sw*simd.Block, t.in.row)
		}
	}
	m := &k.qmux
	*m = simd.QMux{XStep: patches * 64, Quads: quads, W: unsafe.Pointer(&t.packed.weights[b0*quads*128]), Blocks: b1 - b0,
		Bias: unsafe.Pointer(&t.packed.bias[b0*simd.Block]), Scale: unsafe.Pointer(&t.packed.scale[b0*simd.Block]),
		Shift: c.shift, Zero: int(c.add), Least: int(c.least), Most: int(c.most), YStep: t.out.group}
	most := s.QMuxPatches(c.pixels)
	from := 0
	for _, some := range evenly(patches, (patches+most-1)/most) {
		m.X = unsafe.Add(memory, from*64)
		for p := range some {
			y, x := (row+(from+p)/cols)*step, (col+(from+p)%cols)*step
			to := t.out.ptr(t.out.at(n, b0, y) + x*simd.Block)
			m.Y[p*c.pixels] = to
			if c.pixels == 1 {
				continue
			}
			// A pixel beyond the image goes where one that is written later goes.
			right, below := to, to
			if x+1 < w.ow {
				right = unsafe.Add(to, simd.Block)
			}
			if y+1 < w.oh {
				below = unsafe.Add(to, t.out.row)
			}
			diagonal := to
			if x+1 < w.ow && y+1 < w.oh {
				diagonal = unsafe.Add(below, simd.Block)
			}
			m.Y[4*p+1], m.Y[4*p+2], m.Y[4*p+3] = right, below, diagonal
		}
		s.QMux(some, c.pixels, m)
		from += some
	}
}
