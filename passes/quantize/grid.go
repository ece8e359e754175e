package quantize

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir/tensor"
)

// levels are the integers of a quantiser.
type levels struct{ lo, hi int64 }

// levelsOf returns the integers of the given width; narrow leaves out the
// least one of a signed range, which makes it symmetric.
func levelsOf(bits int, signed, narrow bool) levels {
	e := tensor.Uint(bits)
	if signed {
		e = tensor.Int(bits)
	}
	lo, hi := e.Range()
	if narrow && signed {
		lo++
	}
	return levels{lo, hi}
}

// grid is a uniform quantiser: q stands for (q − zero)·scale.
type grid struct {
	levels
	scale float32
	zero  int64
}

// round returns the nearest point of the grid, ties to the even integer.
func (g grid) round(x float64) float64 {
	s := float64(g.scale)
	return float64(g.index(x)-g.zero) * s
}

// index returns the integer of the nearest point of the grid.
func (g grid) index(x float64) int64 {
	q := math.RoundToEven(x/float64(g.scale)) + float64(g.zero)
	return int64(min(max(q, float64(g.lo)), float64(g.hi)))
}

// gridFor returns the grid that spans lo…hi (which include 0). A symmetric one
// has zero point 0; an affine one a zero point that makes 0 exact. With pow2
// the scale is the next larger power of two. An empty span gets scale 1.
func (l levels) gridFor(lo, hi float64, affine, pow2 bool) grid {
	g := grid{levels: l, scale: 1}
	span := float64(l.hi - l.lo)
	s := (hi - lo) / span
	if !affine {
		s = hi / float64(l.hi)
		if l.lo < 0 {
			s = max(s, lo/float64(l.lo))
		}
	}
	if g.scale = scaleOf(s, pow2); affine {
		g.zero = l.lo - int64(math.RoundToEven(lo/float64(g.scale)))
		g.zero = min(max(g.zero, l.lo), l.hi)
	}
	return g
}

// scaleOf returns s as a float32, or the next power of two, and never a scale
// that is zero, subnormal or infinite.
func scaleOf(s float64, pow2 bool) float32 {
	if s <= 0 {
		return 1
	}
	if pow2 {
		f, e := math.Frexp(s)
		if f == 0.5 {
			e--
		}
		s = math.Ldexp(1, e)
	}
	return float32(min(max(s, 0x1p-100), 0x1p100))
}

// An observer turns a distribution into a range.
const (
	minMax     = "minmax"     // all that was seen
	percentile = "percentile" // all but a few outliers
	mse        = "mse"        // least mean squared error of rounding and clipping
	entropy    = "entropy"    // least Kullback-Leibler divergence from the distribution
)

// shrinks are the fractions of the full range that searches try, largest first.
var shrinks = func() []float64 {
	var out []float64
	for i := 100; i >= 20; i-- {
		out = append(out, float64(i)/100)
	}
	for i := 19; i >= 3; i-- {
		out = append(out, float64(i)/100)
	}
	return out
}()

// maxSearchBits is the widest quantiser for which a histogram is fine enough
// to weigh rounding against clipping; wider ones span all that was seen.
const maxSearchBits = 9

// fit chooses a grid for a distribution. outliers is the fraction of numbers
// that percentile leaves out.
func (l levels) fit(h *histogram, observer string, outliers float64, affine, pow2 bool) (grid, error) {
	lo, hi := float64(h.min), float64(h.max)
	if l.lo >= 0 && !affine {
		lo = 0
	}
	full := l.gridFor(lo, hi, affine, pow2)
	if h.n == h.zeros || l.hi-l.lo >= 1<<maxSearchBits {
		return full, nil
	}
	bins := h.list()
	// Every grid has a point at zero; a peak of exact zeros, as Relu makes, says
	// nothing about the rest, and spreading it over its level would drown the divergence.
	nonzero := slices.DeleteFunc(slices.Clone(bins), func(b bin) bool { return b.x == 0 })
	var cost func(grid, float64) float64
	switch observer {
	case minMax:
		return full, nil
	case percentile:
		lo, hi = clipTails(bins, lo, hi, outliers, affine)
		return l.gridFor(lo, hi, affine, pow2), nil
	case mse:
		cost = func(g grid, most float64) float64 { return squaredError(bins, g, most) }
	case entropy:
		cost = func(g grid, _ float64) float64 { return divergence(nonzero, g) }
	default:
		return grid{}, fmt.Errorf("unknown observer %q, expected %s, %s, %s or %s", observer, minMax, percentile, mse, entropy)
	}
	return l.search(lo, hi, affine, pow2, cost), nil
}

// search returns the grid of least cost among those that span a fraction of lo…hi. cost is
// also told the least cost so far: what it returns from there on need not be exact.
func (l levels) search(lo, hi float64, affine, pow2 bool, cost func(g grid, most float64) float64) grid {
	best, least, last := grid{}, math.Inf(1), grid{}
	for _, f := range shrinks {
		g := l.gridFor(lo*f, hi*f, affine, pow2)
		if g == last {
			continue
		}
		last = g
		if c := cost(g, least); c < least {
			best, least = g, c
		}
	}
	if math.IsInf(least, 1) {
		return l.gridFor(lo, hi, affine, pow2)
	}
	return best
}

// clipTails returns the range that leaves out a fraction of the numbers: of
// all by magnitude when symmetric, half on either side when affine.
func clipTails(bins []bin, lo, hi, outliers float64, affine bool) (float64, float64) {
	total := 0.0
	for _, b := range bins {
		total += b.count
	}
	// tail returns the magnitude beyond which at most allowed numbers lie.
	tail := func(order []bin, allowed, full float64) float64 {
		for _, b := range order {
			if allowed -= b.count; allowed < 0 {
				return min(math.Abs(b.x), full)
			}
		}
		return 0
	}
	if !affine {
		byMagnitude := append([]bin(nil), bins...)
		sort.SliceStable(byMagnitude, func(i, j int) bool { return math.Abs(byMagnitude[i].x) > math.Abs(byMagnitude[j].x) })
		t := tail(byMagnitude, outliers*total, max(-lo, hi))
		return max(lo, -t), min(hi, t)
	}
	var below, above []bin
	for i := range bins {
		if b := bins[i]; b.x < 0 {
			below = append(below, b)
		}
		if b := bins[len(bins)-1-i]; b.x > 0 {
			above = append(above, b)
		}
	}
	return -tail(below, outliers*total/2, -lo), tail(above, outliers*total/2, hi)
}

// squaredError returns the sum of squared errors of quantising the numbers, or
// some sum of at least most.
func squaredError(bins []bin, g grid, most float64) float64 {
	sum := 0.0
	for _, b := range bins {
		d := b.x - g.round(b.x)
		if sum += float64(b.count * float64(d*d)); sum >= most {
			break
		}
	}
	return sum
}

// smoothing is the mass that Q has, as a fraction of that of P, where it would have none.
const smoothing = 1e-4

// divergence returns the Kullback-Leibler divergence of the quantised
// distribution Q from the clipped one P, as in TensorRT's calibration: P gathers
// outliers in its outermost bins, and Q spreads the mass of a level evenly over
// the bins that round to it.
func divergence(bins []bin, g grid) float64 {
	lo, hi := float64(g.lo-g.zero)*float64(g.scale), float64(g.hi-g.zero)*float64(g.scale)
	half := float64(g.scale) / 2
	total, clipped := 0.0, 0.0
	kl := 0.0
	for i := 0; i < len(bins); {
		level := g.index(bins[i].x)
		j, mass, outside := i, 0.0, 0.0
		for ; j < len(bins) && g.index(bins[j].x) == level; j++ {
			if x := bins[j].x; x < lo-half || x > hi+half {
				outside += bins[j].count
			} else {
				mass += bins[j].count
			}
		}
		inside := 0
		for k := i; k < j; k++ {
			if x := bins[k].x; x >= lo-half && x <= hi+half {
				inside++
			}
		}
		if inside == 0 {
			// Outliers alone, and nothing at the edge of the range: Q has no mass there but what smoothing gives it.
			kl += float64(outside * f32.Log64(1/smoothing))
			total, clipped = total+outside, clipped+outside
			i = j
			continue
		}
		edge := -1 // the inside bin that takes the outliers
		if outside > 0 {
			if level == g.lo {
				for edge = i; bins[edge].x < lo-half; edge++ {
				}
			} else {
				for edge = j - 1; bins[edge].x > hi+half; edge-- {
				}
			}
		}
		for k := i; k < j; k++ {
			if x := bins[k].x; x < lo-half || x > hi+half {
				continue
			}
			p := bins[k].count
			if k == edge {
				p += outside
			}
			kl += float64(p * f32.Log64(p/(mass/float64(inside))))
		}
		total, clipped = total+mass+outside, clipped+outside
		i = j
	}
	if clipped == total {
		return math.Inf(1)
	}
	// P sums to total, Q to total − clipped: normalise both.
	return kl/total + f32.Log64((total-clipped)/total)
}
