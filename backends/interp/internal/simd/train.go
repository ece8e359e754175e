package simd

import (
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

// Outer is a sum of products over pixels in rows: for some n, at most Set.OuterMost,
//
//	y[i][l] += Σ_rows Σ_cols w[l] · x[i]              Outer
//	y[i][l] += Σ_rows Σ_cols w[l] · x[16·i + l]       OuterLanes
//
// with 16 lanes l, in that order of pixels, by fused multiply-adds. The vectors w of a row
// follow each other; other distances are in bytes. The assembly knows the words of this
// struct by their order.
type Outer struct {
	X, W, Y    unsafe.Pointer
	Cols, Rows int // at least 1
	XPixel     int // of x for neighbouring pixels
	XRow, WRow int // of neighbouring rows
}

// OuterMost is how many x a sum of products may have.
func (s *Set) OuterMost() int {
	if s.outer == nil {
		return Block
	}
	return len(s.outer)
}

// Outer adds the sums of products with n numbers of x.
func (s *Set) Outer(n int, t *Outer) {
	if s.outer == nil {
		t.run(n, false)
		return
	}
	s.outer[n-1]((*uint64)(unsafe.Pointer(t)))
}

// OuterLanes adds the sums of products with n vectors of x.
func (s *Set) OuterLanes(n int, t *Outer) {
	if s.outer == nil {
		t.run(n, true)
		return
	}
	s.outerLanes[n-1]((*uint64)(unsafe.Pointer(t)))
}

func (t *Outer) run(n int, lanes bool) {
	for r := range t.Rows {
		for c := range t.Cols {
			x, w := unsafe.Add(t.X, r*t.XRow+c*t.XPixel), vector(t.W, r*t.WRow+c*4*Block)
			for i := range n {
				y := vector(t.Y, i*4*Block)
				if lanes {
					for l, v := range vector(x, i*4*Block) {
						y[l] = f32.FMA(v, w[l], y[l])
					}
					continue
				}
				v := *(*float32)(unsafe.Add(x, 4*i))
				for l := range y {
					y[l] = f32.FMA(v, w[l], y[l])
				}
			}
		}
	}
}

// Lanes is work on N pixels of 16 channels that follow each other. The assembly knows the
// words of this struct by their order.
type Lanes struct {
	N          int
	X, D, Mask unsafe.Pointer // D counts as 0 where Mask is not greater than 0, if there is one
	Y          unsafe.Pointer
	Params     unsafe.Pointer // 16 floats each
	Sums       unsafe.Pointer // *[2][16][16]float32: partial sums by pixel modulo 16
	At         int            // 64 times the first pixel's partial sum
}

// NormSums adds d = x − p0 and d² to the partial sums.
func (s *Set) NormSums(t *Lanes) {
	if s.normSums != nil {
		s.normSums((*uint64)(unsafe.Pointer(t)))
		return
	}
	sums, p := t.sums(), vector(t.Params, 0)
	for i := range t.N {
		k := (t.At/64 + i) % 16
		for l, x := range vector(t.X, 64*i) {
			d := x - p[l]
			sums[0][k][l] += d
			sums[1][k][l] = f32.FMA(d, d, sums[1][k][l])
		}
	}
}

// GradSums adds D and D·(x − p0) to the partial sums.
func (s *Set) GradSums(t *Lanes) {
	if f := pick(s.gradSums, t); f != nil {
		f((*uint64)(unsafe.Pointer(t)))
		return
	}
	sums, p := t.sums(), vector(t.Params, 0)
	for i := range t.N {
		k := (t.At/64 + i) % 16
		for l, x := range vector(t.X, 64*i) {
			d := t.grad(i, l)
			sums[0][k][l] += d
			sums[1][k][l] = f32.FMA(d, x-p[l], sums[1][k][l])
		}
	}
}

// NormRow sets y = (x − p0)·p1 + p2, the difference rounded, the rest in one fused multiply-add.
func (s *Set) NormRow(t *Lanes) {
	if s.normRow != nil {
		s.normRow((*uint64)(unsafe.Pointer(t)))
		return
	}
	p0, p1, p2 := vector(t.Params, 0), vector(t.Params, 64), vector(t.Params, 128)
	for i := range t.N {
		y := vector(t.Y, 64*i)
		for l, x := range vector(t.X, 64*i) {
			y[l] = f32.FMA(x-p0[l], p1[l], p2[l])
		}
	}
}

// GradRow sets y = (x − p0)·p1 + (D·p2 + p3), both sums fused multiply-adds.
func (s *Set) GradRow(t *Lanes) {
	if f := pick(s.gradRow, t); f != nil {
		f((*uint64)(unsafe.Pointer(t)))
		return
	}
	p0, p1, p2, p3 := vector(t.Params, 0), vector(t.Params, 64), vector(t.Params, 128), vector(t.Params, 192)
	for i := range t.N {
		y := vector(t.Y, 64*i)
		for l, x := range vector(t.X, 64*i) {
			y[l] = f32.FMA(x-p0[l], p1[l], f32.FMA(t.grad(i, l), p2[l], p3[l]))
		}
	}
}

// pick returns the kernel of a pair: the second is for gradients with a mask.
func pick(f [2]func(t *uint64), t *Lanes) func(t *uint64) {
	if t.Mask != nil {
		return f[1]
	}
	return f[0]
}

func (t *Lanes) sums() *[2][16][Block]float32 { return (*[2][16][Block]float32)(t.Sums) }

func (t *Lanes) grad(i, l int) float32 {
	if t.Mask != nil && !(vector(t.Mask, 64*i)[l] > 0) {
		return 0
	}
	return vector(t.D, 64*i)[l]
}

// Mask sets dst to x where m is greater than 0, else to +0.
func (s *Set) Mask(dst, x, m []float32) {
	n := s.vectors2(s.mask, dst, x, m)
	for i := n; i < len(dst); i++ {
		if m[i] > 0 {
			dst[i] = x[i]
		} else {
			dst[i] = 0
		}
	}
}

// trainKernels are the kernels that only training uses; those that are nil run in Go.
type trainKernels struct {
	outer, outerLanes []func(t *uint64)  // by n, less one
	normSums, normRow func(t *uint64)    // of a Lanes
	gradSums, gradRow [2]func(t *uint64) // without and with a mask
	mask              func(n int, dst, x, m *float32)
	winoGrad          func(t *uint64) // of a WinoIn
}
