package interp

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir/tensor"
)

// layout is how the elements of a value lie in memory: planes of so many
// channels beside each other, with rows and columns around every plane that
// hold zeros, so that a convolution finds its padding there.
//
// Integers of 8 bits in blocks are u8: those of i8 are greater by 128 (see offsetOf).
type layout struct {
	block                    int   // 1: planar, row-major; simd.Block: blocked
	top, left, bottom, right int   // the halo
	fill                     uint8 // what the halo of bytes holds; 0 without a halo
}

var planar = layout{block: 1}

func (l layout) halo() bool { return l != layout{block: l.block} }

// widest returns l with a halo at least as wide as m's.
func (l layout) widest(m layout) layout {
	return layout{l.block, max(l.top, m.top), max(l.left, m.left), max(l.bottom, m.bottom), max(l.right, m.right), max(l.fill, m.fill)}
}

// view is the elements of a value in memory: images of c channels of h×w. The
// channels are in groups of block; pixel (y, x) of group g of image n begins at
// element origin + n·image + g·group + y·row + x·block. Lanes of the last group
// beyond the last channel hold anything.
type view struct {
	layout
	n, c, h, w        int
	image, group, row int
	origin            int
	size              int // elements, with the halo
	elem              tensor.Elem
	bytes             int  // of an element
	edged             bool // it has a halo
	shape             []int
	base              unsafe.Pointer // of the memory; set while a run may use it
	data              []float32      // the same memory, if the elements are f32
}

// newView returns the view of a value of some shape: dimension 1 is channels, the last is w.
func newView(shape []int, elem tensor.Elem, l layout) *view {
	v := &view{layout: l, n: 1, c: 1, h: 1, w: 1, elem: elem, bytes: elem.ContainerBytes(), edged: l.halo(), shape: shape}
	switch rank := len(shape); {
	case rank == 1:
		v.w = shape[0]
	case rank > 1:
		v.n, v.c = shape[0], shape[1]
		for i, d := range shape[2:] {
			if i == rank-3 {
				v.w = d
			} else {
				v.h *= d
			}
		}
	}
	v.row = (l.left + v.w + l.right) * l.block
	v.group = (l.top + v.h + l.bottom) * v.row
	v.image = v.groups() * v.group
	v.size = v.n * v.image
	v.origin = l.top*v.row + l.left*l.block
	return v
}

// place makes v the groups of channels of another view from first on.
func (v *view) place(whole *view, first int) {
	v.image = whole.image
	v.origin = whole.origin + first*whole.group
}

// groups returns the number of groups of channels.
func (v *view) groups() int { return (v.c + v.block - 1) / v.block }

// lanes returns how many channels a group has.
func (v *view) lanes(g int) int { return min(v.block, v.c-g*v.block) }

// at returns the element where a row begins.
func (v *view) at(n, g, y int) int { return v.origin + n*v.image + g*v.group + y*v.row }

// ptr returns the address of an element.
func (v *view) ptr(at int) unsafe.Pointer { return unsafe.Add(v.base, at*v.bytes) }

// line returns row y of a group.
func (v *view) line(n, g, y int) []float32 { return v.data[v.at(n, g, y):][:v.w*v.block] }

// span returns count elements from at after the start of row y of a group, over the rows after it
// if there is no halo between them.
func (v *view) span(n, g, y, at, count int) []float32 {
	if v.edged && at+count > v.w*v.block {
		v.refuse("rows with a halo are read as one")
	}
	return v.data[v.at(n, g, y)+at:][:count]
}

// plane returns all rows of a group of a view without a halo.
func (v *view) plane(n, g int) []float32 { return v.span(n, g, 0, 0, v.h*v.w*v.block) }

// floats returns how many floats of memory the view takes.
func (v *view) floats() int { return (v.size*v.bytes + 3) / 4 }

// all returns the elements of a planar view without a halo, in row-major order.
func (v *view) all() []float32 {
	if v.block > 1 || v.edged {
		v.refuse("elements are read in row-major order")
	}
	return v.data[:v.size]
}

// refuse ends a kernel that would read or write the wrong elements.
func (v *view) refuse(how string) {
	panic(fmt.Sprintf("%s, of a value that lies as %+v", how, v.layout))
}

// bind gives the view its memory.
func (v *view) bind(data []float32) {
	v.data, v.base = data, unsafe.Pointer(unsafe.SliceData(data))
}

// bindTensor makes the view one of a tensor, whose elements lie in row-major order.
func (v *view) bindTensor(t *tensor.Tensor) {
	switch d := t.Container().(type) {
	case []float32:
		v.bind(d)
	case []uint8:
		v.data, v.base = nil, unsafe.Pointer(unsafe.SliceData(d))
	case []int8:
		v.data, v.base = nil, unsafe.Pointer(unsafe.SliceData(d))
	case []int32:
		v.data, v.base = nil, unsafe.Pointer(unsafe.SliceData(d))
	}
}

// clearHalo zeroes the halo beside rows y0 to y1 of a group, and that above and
// below them where the plane ends.
func (v *view) clearHalo(n, g, y0, y1 int) {
	if !v.edged {
		return
	}
	if v.bytes == 1 {
		clearHaloOf(v, byteElems(v), v.fill, n, g, y0, y1)
	} else {
		clearHaloOf(v, v.data, 0, n, g, y0, y1)
	}
}

// clearHaloOf is clearHalo for elements of some type and what the halo is to hold.
func clearHaloOf[T float32 | uint8](v *view, data []T, fill T, n, g, y0, y1 int) {
	if y0 == y1 {
		return
	}
	start := v.at(n, g, 0)
	corner := start - v.top*v.row - v.left*v.block
	before, after := v.left*v.block, (v.w+v.right)*v.block // the halo of a row, from its first pixel
	if y0 == 0 {
		set(data[corner:start-before], fill)
	}
	at := start + y0*v.row
	set(data[at-before:at], fill)
	for y := y0 + 1; y < y1; y++ { // right of a row and left of the next
		set(data[at+v.w*v.block:at+v.row], fill)
		at += v.row
	}
	set(data[at+v.w*v.block:at+after], fill)
	if y1 == v.h {
		set(data[start-before+v.h*v.row:corner+v.group], fill)
	}
}

// set makes all elements x.
func set[T float32 | uint8](data []T, x T) {
	if x == 0 && len(data) > 4*simd.Block {
		clear(data)
		return
	}
	for x == 0 && len(data) >= simd.Block { // quicker than clear for so few
		*(*[simd.Block]T)(data) = [simd.Block]T{}
		data = data[simd.Block:]
	}
	if b, ok := any(data).([]uint8); ok {
		setBytes(b, uint8(x))
		return
	}
	for i := range data {
		data[i] = x
	}
}

// setBytes makes all elements x.
func setBytes(data []uint8, x uint8) {
	eight := uint64(x) * 0x0101010101010101
	for len(data) >= 8 {
		binary.LittleEndian.PutUint64(data, eight)
		data = data[8:]
	}
	for i := range data {
		data[i] = x
	}
}

// flat reports whether the rows of every group follow each other without a halo.
func flat(views ...*view) bool {
	for _, v := range views {
		if v != nil && v.halo() {
			return false
		}
	}
	return true
}

// blocked is the layout of convolutions.
var blocked = layout{block: simd.Block}
