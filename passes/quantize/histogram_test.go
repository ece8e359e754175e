package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func normals(seed uint64, n int, scale float64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() * scale)
	}
	return out
}

// The sketch may depend on neither the order of the numbers nor how they come in portions.
func TestHistogramOrder(t *testing.T) {
	xs := append(normals(1, 3000, 0.1), append(normals(2, 50, 40), 0, 0, -1e-12, 3e-9)...)
	a := newHistogram()
	if err := a.add(xs); err != nil {
		t.Fatal(err)
	}
	b := newHistogram()
	slices.SortFunc(xs, func(x, y float32) int { return int(math.Copysign(1, math.Abs(float64(x))-math.Abs(float64(y)))) })
	for i := 0; i < len(xs); i += 7 {
		if err := b.add(xs[i:min(i+7, len(xs))]); err != nil {
			t.Fatal(err)
		}
	}
	if *a != *b {
		t.Error("another order gives another histogram")
	}
	c, d := newHistogram(), newHistogram()
	if err := c.add(xs[:2900]); err != nil {
		t.Fatal(err)
	}
	if err := d.add(xs[2900:]); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]*histogram{{c, d}, {d, c}} {
		m := *pair[0]
		m.merge(pair[1])
		if m != *a {
			t.Error("merging two histograms differs from one of all numbers")
		}
	}
}

func TestHistogramNotFinite(t *testing.T) {
	for _, x := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if err := newHistogram().add([]float32{1, x}); err == nil {
			t.Errorf("%v was counted", x)
		}
	}
}

// The search on the histogram must find a grid that is about as good on the
// numbers themselves as the best that an exhaustive search on them finds.
func TestMSEAgainstExact(t *testing.T) {
	for _, bits := range []int{2, 3, 4, 8} {
		for seed := range uint64(4) {
			xs := append(normals(seed, 20000, 1), 14, -9)
			h := newHistogram()
			if err := h.add(xs); err != nil {
				t.Fatal(err)
			}
			l := levelsOf(bits, true, false)
			g, err := l.fit(h, mse, 0, false, false)
			if err != nil {
				t.Fatal(err)
			}
			exact := func(s float32) float64 {
				sum := 0.0
				for _, x := range xs {
					d := float64(x) - grid{l, s, 0}.round(float64(x))
					sum += d * d
				}
				return sum
			}
			best := math.Inf(1)
			for s := 0.002; s < 14; s *= 1.02 {
				best = min(best, exact(float32(s)))
			}
			if got := exact(g.scale); got > best*1.03 {
				t.Errorf("%d bits: scale %v has error %v, the best has %v", bits, g.scale, got, best)
			}
		}
	}
}

func TestObservers(t *testing.T) {
	xs := append(normals(5, 100000, 1), 50) // one outlier
	h := newHistogram()
	if err := h.add(xs); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		observer     string
		affine, pow2 bool
		lo, hi       float64 // bounds of 127·scale
	}{
		{minMax, false, false, 49.999, 50.001},
		{minMax, false, true, 63, 64},
		{minMax, true, false, 27, 28},
		{percentile, false, false, 3, 5},
		{percentile, true, false, 3, 5},
		{mse, false, false, 28, 36},
		{entropy, false, false, 2.5, 10},
		{entropy, true, false, 2, 25},
	} {
		l := levelsOf(8, true, false)
		g, err := l.fit(h, c.observer, 1e-3, c.affine, c.pow2)
		if err != nil {
			t.Fatal(err)
		}
		if top := float64(g.scale) * 127; top < c.lo || top > c.hi {
			t.Errorf("%+v: 127·scale is %v", c, top)
		}
		if f, _ := math.Frexp(float64(g.scale)); c.pow2 && f != 0.5 {
			t.Errorf("%+v: scale %v is no power of two", c, g.scale)
		}
		if g.round(0) != 0 {
			t.Errorf("%+v: 0 becomes %v", c, g.round(0))
		}
	}
	if _, err := levelsOf(8, true, false).fit(h, "median", 0, false, false); err == nil {
		t.Error("an unknown observer is accepted")
	}
}

// TestHistogramCounts compares with counting one number after the other.
func TestHistogramCounts(t *testing.T) {
	negZero := float32(math.Copysign(0, -1))
	xs := append([]float32{negZero, 0, 0, 3e-9, negZero, -1e-12, 5e-20, -5e-20}, normals(4, 5000, 3)...)
	xs = append(xs, 0, negZero, 1, -1, 2, -2, math.MaxFloat32)
	for _, xs := range [][]float32{xs, xs[:len(xs)-1], xs[:8], {0, negZero}, {negZero, -3}, {}} {
		got, want := newHistogram(), newHistogram()
		if err := got.add(xs); err != nil {
			t.Fatal(err)
		}
		for _, x := range xs {
			want.n++
			if x == 0 {
				want.zeros++
				continue
			}
			want.min, want.max = min(want.min, x), max(want.max, x)
			a := float32(math.Abs(float64(x)))
			if float64(a) >= half*math.Ldexp(1, want.exp) {
				want.grow(a)
			}
			bins := &want.pos
			if x < 0 {
				bins = &want.neg
			}
			bins[int(float64(a)/math.Ldexp(1, want.exp))]++
		}
		if *got != *want {
			t.Errorf("%d numbers: %d zeros, %v to %v, exp %d; want %d, %v to %v, %d", len(xs), got.zeros, got.min, got.max, got.exp, want.zeros, want.min, want.max, want.exp)
		}
	}
}
