package simd

import (
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

//go:generate sh ../asm/generate.sh lines

// lineKernels are those of normalisations, reductions and resampling.
type lineKernels struct {
	div       func(n int, dst, x, y *float32)
	divScalar func(n int, dst, x *float32, s float32)
	mulAdd    func(n int, dst, x, y, z *float32)
	resample  func(t *uint64)

	leakyLanes func(n int, x, slopes *float32)
}

// Div sets dst = x / y.
func (s *Set) Div(dst, x, y []float32) {
	n := s.vectors2(s.lines.div, dst, x, y)
	for i := n; i < len(dst); i++ {
		dst[i] = x[i] / y[i]
	}
}

// DivScalar sets dst = x / c.
func (s *Set) DivScalar(dst, x []float32, c float32) {
	x = x[:len(dst)]
	n := 0
	if s.lines.divScalar != nil && len(dst) >= s.Lanes {
		s.lines.divScalar(len(dst)/s.Lanes, &dst[0], &x[0], c)
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		dst[i] = x[i] / c
	}
}

// MulAdd sets dst = x·y + z, rounded once.
func (s *Set) MulAdd(dst, x, y, z []float32) {
	x, y, z = x[:len(dst)], y[:len(dst)], z[:len(dst)]
	n := 0
	if s.lines.mulAdd != nil && len(dst) >= s.Lanes {
		s.lines.mulAdd(len(dst)/s.Lanes, &dst[0], &x[0], &y[0], &z[0])
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		dst[i] = f32.FMA(x[i], y[i], z[i])
	}
}

// LeakyLanes multiplies the negative elements of x, pixels of 16 channels, by
// the slopes of the channels.
func (s *Set) LeakyLanes(x, slopes []float32) {
	slopes = slopes[:Block]
	if s.lines.leakyLanes != nil && len(x) > 0 {
		s.lines.leakyLanes(len(x)/Block, &x[0], &slopes[0])
		return
	}
	for i, v := range x {
		if v < 0 {
			x[i] = v * slopes[i%Block]
		}
	}
}

// Sum is f32.Sum.
func (s *Set) Sum(x []float32) float32 {
	n := len(x) / 16
	if n < 2 || s.lines.div == nil {
		return f32.Sum(x)
	}
	var p [16]float32
	sum16(s.Lanes, n, &p[0], &x[0])
	for j, v := range x[16*n:] {
		p[j] += v
	}
	for w := 8; w > 0; w /= 2 {
		for j := range w {
			p[j] += p[j+w]
		}
	}
	return p[0]
}

// Resample interpolates a row of pixels with 16 channels each: a pixel is the
// sum over column taps of a weight times the sum over row taps of a weight
// times an input, from +0, each product and sum rounded to float64 and the
// result to float32. Distances are in bytes. The assembly knows the words by their order.
type Resample struct {
	X, Y       unsafe.Pointer // pixels of Y are 64 bytes apart
	Rows       *int           // the distances of the row taps from X
	RowWeights *float64
	RowTaps    int
	Cols       *int // the distances of the column taps, ColTaps for each pixel
	ColWeights *float64
	ColTaps    int
	Pixels     int // at least 1, as are RowTaps and ColTaps
}

// Resample computes pixels.
func (s *Set) Resample(t *Resample) {
	if s.lines.resample == nil {
		t.run()
		return
	}
	s.lines.resample((*uint64)(unsafe.Pointer(t)))
	if s.Lanes < Block {
		t.X, t.Y = unsafe.Add(t.X, 4*s.Lanes), unsafe.Add(t.Y, 4*s.Lanes)
		s.lines.resample((*uint64)(unsafe.Pointer(t)))
		t.X, t.Y = unsafe.Add(t.X, -4*s.Lanes), unsafe.Add(t.Y, -4*s.Lanes)
	}
}

func (t *Resample) run() {
	rows, rowWeights := unsafe.Slice(t.Rows, t.RowTaps), unsafe.Slice(t.RowWeights, t.RowTaps)
	cols, colWeights := unsafe.Slice(t.Cols, t.Pixels*t.ColTaps), unsafe.Slice(t.ColWeights, t.Pixels*t.ColTaps)
	for p := range t.Pixels {
		var sum [Block]float64
		for j := p * t.ColTaps; j < (p+1)*t.ColTaps; j++ {
			var column [Block]float64
			for i, at := range rows {
				for l, x := range vector(t.X, at+cols[j]) {
					column[l] += float64(float64(x) * rowWeights[i])
				}
			}
			for l, v := range column {
				sum[l] += float64(v * colWeights[j])
			}
		}
		y := vector(t.Y, 64*p)
		for l, v := range sum {
			y[l] = float32(v)
		}
	}
}
