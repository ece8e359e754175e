package quantize

import (
	"errors"
	"math"
)

// half is the number of histogram bins on either side of zero.
const half = 2048

// minExp is the exponent of the narrowest bin; a tensor that is all below
// half·2^minExp is as good as zero.
const minExp = -60

// histogram is a sketch of the distribution of a tensor's elements whose size
// does not depend on how many there are. Bins are 2^exp wide and lie
// symmetrically about zero. A number outside doubles the width, which merges
// pairs of bins exactly; so the sketch depends on the multiset of numbers alone,
// and not on their order, the batch size or the number of threads.
type histogram struct {
	exp      int
	pos, neg [half]uint64 // bin k counts the x ≠ 0 with k·2^exp ≤ |x| < (k+1)·2^exp
	zeros    uint64
	n        uint64
	min, max float32 // exact; 0 is always inside
}

var errNotFinite = errors.New("calibration gave a value that is not a finite number")

func newHistogram() *histogram { return &histogram{exp: minExp} }

// add counts the elements of xs.
func (h *histogram) add(xs []float32) error {
	const sign = 1 << 31
	var counts [2][2 * half]uint32 // of every other element: equal neighbours need not wait for each other
	var zeros [2]uint32            // +0 and −0, which are counted in bin 0 too
	least, most := uint32(sign), int32(0)
	flush := func() {
		for k := range h.pos {
			h.pos[k] += uint64(counts[0][k]) + uint64(counts[1][k])
			h.neg[k] += uint64(counts[0][half+k]) + uint64(counts[1][half+k])
		}
		h.pos[0] -= uint64(zeros[0])
		h.neg[0] -= uint64(zeros[1])
		h.zeros += uint64(zeros[0]) + uint64(zeros[1])
		clear(counts[0][:])
		clear(counts[1][:])
		zeros = [2]uint32{}
	}
	width := float32(math.Ldexp(1, -h.exp))
	limit := math.Float32bits(half / width)
	for i, x := range xs {
		bits := math.Float32bits(x)
		a := bits &^ sign // |x|; the bits of numbers ≥ 0 are ordered as the numbers are
		if a >= limit {
			f := math.Float32frombits(a)
			if !(f <= math.MaxFloat32) {
				return errNotFinite
			}
			flush()
			h.grow(f)
			width = float32(math.Ldexp(1, -h.exp))
			limit = math.Float32bits(half / width)
		}
		most, least = max(most, int32(bits)), max(least, bits)
		zeros[bits>>31] += (a - 1) >> 31
		k := uint32(int32(math.Float32frombits(a) * width)) // exact: a power of two
		counts[i&1][(k|bits>>31*half)&(2*half-1)]++
	}
	flush()
	h.max = max(h.max, math.Float32frombits(uint32(most)))
	if least != sign { // −0 is no number below 0
		h.min = min(h.min, math.Float32frombits(least))
	}
	h.n += uint64(len(xs))
	return nil
}

// addTimes counts the elements of xs, each n times.
func (h *histogram) addTimes(xs []float32, n uint64) error {
	o := newHistogram()
	if err := o.add(xs); err != nil {
		return err
	}
	for k := range o.pos {
		o.pos[k] *= n
		o.neg[k] *= n
	}
	o.zeros, o.n = o.zeros*n, o.n*n
	h.merge(o)
	return nil
}

// grow widens the bins until a fits.
func (h *histogram) grow(a float32) {
	_, e := math.Frexp(float64(a)) // 2^(e−1) ≤ a < 2^e
	shift := e - 11 - h.exp        // half = 2^11
	for _, bins := range [2]*[half]uint64{&h.pos, &h.neg} {
		for k, c := range bins {
			if j := k >> shift; j != k {
				bins[k] = 0
				bins[j] += c
			}
		}
	}
	h.exp += shift
}

// merge adds the counts of o.
func (h *histogram) merge(o *histogram) {
	if o.n == o.zeros {
		h.n, h.zeros = h.n+o.n, h.zeros+o.zeros
		return
	}
	c := *o
	if m := max(-h.min, h.max); m != 0 && h.exp > c.exp {
		c.grow(m)
	} else if h.exp < c.exp {
		h.grow(max(-o.min, o.max))
	}
	for k := range h.pos {
		h.pos[k] += c.pos[k]
		h.neg[k] += c.neg[k]
	}
	h.n, h.zeros = h.n+c.n, h.zeros+c.zeros
	h.min, h.max = min(h.min, c.min), max(h.max, c.max)
}

// bin is a non-empty part of a histogram: count numbers near x.
type bin struct {
	x     float64
	count float64
}

// list returns the non-empty bins in ascending order of x, the exact zeros
// being one of their own.
func (h *histogram) list() []bin {
	w := math.Ldexp(1, h.exp)
	var out []bin
	for k := half - 1; k >= 0; k-- {
		if h.neg[k] > 0 {
			out = append(out, bin{-(float64(k) + 0.5) * w, float64(h.neg[k])})
		}
	}
	if h.zeros > 0 {
		out = append(out, bin{0, float64(h.zeros)})
	}
	for k := range h.pos {
		if h.pos[k] > 0 {
			out = append(out, bin{(float64(k) + 0.5) * w, float64(h.pos[k])})
		}
	}
	return out
}
