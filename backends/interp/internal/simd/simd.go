// Package simd holds the inner loops of the engine, for AVX2 with FMA, for
// AVX-512, and in portable Go. All variants give the same bits: every output
// element is computed by the same operations in the same order, and a vector
// holds different outputs, never parts of one sum.
package simd

//go:generate sh ../asm/generate.sh mux
//go:generate sh ../asm/generate.sh relay
//go:generate sh ../asm/generate.sh qmux
//go:generate sh ../asm/generate.sh rows
//go:generate sh ../asm/generate.sh conv
//go:generate sh ../asm/generate.sh gather
//go:generate sh ../asm/generate.sh train
//go:generate sh ../asm/generate.sh bits
//go:generate sh ../asm/generate.sh i8

import (
	"fmt"
	"math"
	"strings"

	"github.com/thriftc/thriftc/internal/f32"
)

// Set is the kernels for one kind of CPU.
type Set struct {
	Name  string // portable, avx2 or avx512
	Lanes int    // floats in a vector

	conv               [][]func(t *uint64) // by blocks and pixels of a Tile, both less one
	depthwise          []func(t *uint64)   // by pixels, less one
	gather             []func(g *uint64)   // by sources, less one
	poolMax, poolMean  func(n int, t *uint64)
	peak               func(n int)
	mux                []func(m *uint64)    // by vectors, less one
	muxHalf            []func(m *uint64)    // the same for vectors of 8 lanes where others have 16
	qmux               [2][]func(m *uint64) // of one pixel and of four; by patches, less one
	patches            func(n int, dst *uint8, dstStep int, src *uint8, srcStep int, row int)
	toPlanes, toBlocks relayKernel
	trainKernels
	bitKernels

	winoIn, winoOut func(t *uint64)
	lines           lineKernels
	bytes           byteKernels

	add, sub, mul, max   func(n int, dst, x, y *float32)
	addScalar, mulScalar func(n int, dst, x *float32, s float32)
	clamp                func(n int, dst, x *float32, lo, hi float32)
	leaky                func(n int, dst, x *float32, slope, zero float32)
	normalise            func(n int, dst, x *float32, mean, a, b float32)
	quant                func(n int, dst, x *float32, scale, lo, hi, zero float32)
	even                 func(n int, dst, x *float32)
}

// Portable is the kernels in Go, which run everywhere.
var Portable = &Set{
	bytes: portableBytes,
	Name:  "portable", Lanes: 8,
	conv:      [][]func(*uint64){portableTiles(1, 6, false), portableTiles(2, 4, false)},
	depthwise: portableTiles(1, 6, true),
	mux:       portableMux(),
}

// All returns the kernels that this CPU can run, the slowest first.
func All() []*Set { return append([]*Set{Portable}, native...) }

// Named returns the kernels with a name, or the fastest that this CPU can run
// if the name is "" or "auto".
func Named(name string) (*Set, error) {
	all := All()
	if name == "" || name == "auto" {
		return all[len(all)-1], nil
	}
	var names []string
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return nil, fmt.Errorf("no kernels %q on this CPU, which can run auto, %s", name, strings.Join(names, ", "))
}

// Add sets dst = x + y. dst may be x or y here and below; all have dst's length.
func (s *Set) Add(dst, x, y []float32) {
	n := s.vectors2(s.add, dst, x, y)
	for i := n; i < len(dst); i++ {
		dst[i] = x[i] + y[i]
	}
}

// Sub sets dst = x − y.
func (s *Set) Sub(dst, x, y []float32) {
	n := s.vectors2(s.sub, dst, x, y)
	for i := n; i < len(dst); i++ {
		dst[i] = x[i] - y[i]
	}
}

// Mul sets dst = x · y.
func (s *Set) Mul(dst, x, y []float32) {
	n := s.vectors2(s.mul, dst, x, y)
	for i := n; i < len(dst); i++ {
		dst[i] = x[i] * y[i]
	}
}

// vectors2 applies a kernel to the whole vectors of dst and returns how many elements they are.
func (s *Set) vectors2(f func(n int, dst, x, y *float32), dst, x, y []float32) int {
	n := len(dst) / s.Lanes
	if f == nil || n == 0 {
		return 0
	}
	x, y = x[:len(dst)], y[:len(dst)]
	f(n, &dst[0], &x[0], &y[0])
	return n * s.Lanes
}

// AddScalar sets dst = x + c.
func (s *Set) AddScalar(dst, x []float32, c float32) {
	x = x[:len(dst)]
	n := 0
	if s.addScalar != nil && len(dst) >= s.Lanes {
		s.addScalar(len(dst)/s.Lanes, &dst[0], &x[0], c)
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		dst[i] = x[i] + c
	}
}

// MulScalar sets dst = x · c.
func (s *Set) MulScalar(dst, x []float32, c float32) {
	x = x[:len(dst)]
	n := 0
	if s.mulScalar != nil && len(dst) >= s.Lanes {
		s.mulScalar(len(dst)/s.Lanes, &dst[0], &x[0], c)
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		dst[i] = x[i] * c
	}
}

// Normalise sets dst = (x − mean) · a + b: the difference is rounded, the rest
// is a fused multiply-add.
func (s *Set) Normalise(dst, x []float32, mean, a, b float32) {
	x = x[:len(dst)]
	n := 0
	if s.normalise != nil && len(dst) >= s.Lanes {
		s.normalise(len(dst)/s.Lanes, &dst[0], &x[0], mean, a, b)
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		dst[i] = f32.FMA(x[i]-mean, a, b)
	}
}

// Quant sets dst = clamp(round(x / scale), lo, hi) · scale, rounding to even,
// with NaN becoming lo, and without −0. lo and hi must be whole.
func (s *Set) Quant(dst, x []float32, scale, lo, hi float32) {
	x = x[:len(dst)]
	n := 0
	if s.quant != nil && len(dst) >= s.Lanes {
		s.quant(len(dst)/s.Lanes, &dst[0], &x[0], scale, lo, hi, 0)
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		q := float32(math.RoundToEven(float64(float32(x[i] / scale))))
		if !(q > lo) {
			q = lo
		} else if q > hi {
			q = hi
		}
		dst[i] = float32(q*scale) + 0
	}
}

// Clamp sets dst = x, or lo where x < lo, or hi where that is > hi. NaN and −0 stay.
func (s *Set) Clamp(dst, x []float32, lo, hi float32) {
	x = x[:len(dst)]
	n := 0
	if s.clamp != nil && len(dst) >= s.Lanes {
		s.clamp(len(dst)/s.Lanes, &dst[0], &x[0], lo, hi)
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		dst[i] = clamp(x[i], lo, hi)
	}
}

func clamp(v, lo, hi float32) float32 {
	if v < lo {
		v = lo
	}
	if v > hi {
		v = hi
	}
	return v
}

// Leaky sets dst = x, or slope · x where x < 0.
func (s *Set) Leaky(dst, x []float32, slope float32) {
	x = x[:len(dst)]
	n := 0
	if s.leaky != nil && len(dst) >= s.Lanes {
		s.leaky(len(dst)/s.Lanes, &dst[0], &x[0], slope, 0)
		n = len(dst) / s.Lanes * s.Lanes
	}
	for i := n; i < len(dst); i++ {
		if dst[i] = x[i]; x[i] < 0 {
			dst[i] = slope * x[i]
		}
	}
}

// Every sets dst to every stride-th element of x, from the first on.
// dst must not overlap x.
func (s *Set) Every(dst, x []float32, stride int) {
	if stride == 1 {
		copy(dst, x)
		return
	}
	n := 0
	if whole := min(len(dst), len(x)/2) / s.Lanes; stride == 2 && s.even != nil && whole > 0 {
		s.even(whole, &dst[0], &x[0])
		if n = whole * s.Lanes; n < len(dst) && len(x) >= 2*len(dst) { // the last vector overlaps
			at := len(dst) - s.Lanes
			s.even(1, &dst[at], &x[2*at])
			return
		}
	}
	for i := n; i < len(dst); i++ {
		dst[i] = x[i*stride]
	}
}

// Max sets dst to the greater of x and y: y where they are equal or either is NaN.
func (s *Set) Max(dst, x, y []float32) {
	n := s.vectors2(s.max, dst, x, y)
	if at := len(dst) - s.Lanes; n > 0 && n < len(dst) { // the last vector overlaps: a maximum may be taken twice
		s.max(1, &dst[at], &x[at], &y[at])
		return
	}
	for i := n; i < len(dst); i++ {
		if v := x[i]; v > y[i] {
			dst[i] = v
		} else {
			dst[i] = y[i]
		}
	}
}
