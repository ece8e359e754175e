// Package f32 is float32 arithmetic that gives the same bits on every CPU. The
// operators' reference evaluators and the engine's portable kernels use it;
// the vector kernels are tested to agree with it bit for bit.
//
// Three things in Go differ between architectures and are avoided here: the
// compiler may fuse x*y+z unless the product is converted explicitly,
// math.Exp and math.Log have assembly versions, and float32(math.FMA(…)) of
// float64 operands rounds twice.
package f32

import "math"

// FMA returns x·y + z rounded once, to nearest even, as a hardware float32
// fused multiply-add does.
func FMA(x, y, z float32) float32 {
	s := float64(x)*float64(y) + float64(z) // the product is exact: 48 bits fit into 53
	// Rounding s again gives another result than rounding the exact sum only
	// where s lies halfway between two float32, or below their normal range.
	if b := math.Float64bits(s); b&(1<<29-1) != 1<<28 && b<<1 >= 897<<53 {
		return float32(s)
	}
	return fmaHalfway(x, y, z)
}

func fmaHalfway(x, y, z float32) float32 {
	p := float64(x) * float64(y)
	c := float64(z)
	s := p + c // p is exact: this rounds once, fused or not
	if s == 0 || math.IsInf(s, 0) || math.IsNaN(s) {
		return float32(s)
	}
	// The rounding error of p + c (Knuth's two-sum, exact), used to round s to
	// odd: then the final rounding to float32 is that of the exact sum.
	t := s - p                   // exact, and
	e := (p - (s - t)) + (c - t) // exact too
	if e != 0 {
		b := math.Float64bits(s)
		if b&1 == 0 {
			if (e > 0) == (s > 0) {
				b++
			} else {
				b--
			}
			s = math.Float64frombits(b)
		}
	}
	return float32(s)
}
