package interp

import "github.com/thriftc/thriftc/ir/tensor"

// byLines returns the work of a thriftc.QGemm of more than two dimensions, whose input and output lie
// row-major: rows are put in blocks, multiplied, and given to what put makes of their results in blocks.
func (c *byteConv) byLines(in, out *view, s *step, put func(y *view) []phase) []phase {
	x := s.tempOf(tensor.U8, []int{c.w.n, c.w.ic}, blocked)
	y := s.tempOf(out.elem, []int{c.w.n, c.w.oc}, blocked)
	flip := in.elem == tensor.I8
	parts := 1 + in.size/chunk
	phases := []phase{{parts, func(_ *worker, i int) {
		lo, hi := part(x.n, i, parts)
		from, to := byteElems(in), byteElems(x)
		for r := lo; r < hi; r++ {
			dst, src := to[r*x.image:][:x.c], from[r*x.c:]
			if flip {
				flipBytes(dst, src)
			} else {
				copy(dst, src)
			}
		}
	}}, c.product(x, y, nil).phase()}
	return append(phases, put(y)...)
}

// bytesOfLines is tasks that copy bytes from rows in blocks to those of a row-major array.
func bytesOfLines(y, out *view) []phase {
	parts := 1 + out.size/chunk
	return []phase{{parts, func(_ *worker, i int) {
		lo, hi := part(out.size, i, parts)
		dst := byteElems(out)[lo:hi]
		if fromLines(dst, byteElems(y), y.c, y.image, lo); out.elem == tensor.I8 {
			flipBytes(dst, dst)
		}
	}}}
}

// fromLines copies the elements from one on of rows of so many, which begin dist apart.
func fromLines[T float32 | uint8](dst, rows []T, row, dist, at int) {
	for len(dst) > 0 {
		r, c := at/row, at%row
		n := copy(dst, rows[r*dist+c:][:row-c])
		dst, at = dst[n:], at+n
	}
}
