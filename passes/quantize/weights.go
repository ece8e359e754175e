package quantize

import (
	"context"

	"github.com/thriftc/thriftc/ir/tensor"
)

// matrix is a weight tensor as one row per index along an axis, each in the
// order of the remaining dimensions.
type matrix struct {
	data  []float32
	n     int // rows
	inner int // neighbouring elements that belong to the same row
	cols  int
}

// rowsOf returns a weight tensor as rows along axis; axis −1 gives a single row.
func rowsOf(t *tensor.Tensor, axis int) matrix {
	m := matrix{data: t.Float32s(), n: 1, inner: t.Len(), cols: t.Len()}
	if axis < 0 {
		return m
	}
	m.n, m.inner = t.Shape()[axis], 1
	for _, d := range t.Shape()[axis+1:] {
		m.inner *= d
	}
	m.cols = t.Len() / max(m.n, 1)
	return m
}

// whole reports whether rows stand one behind the other.
func (m matrix) whole() bool { return m.inner == m.cols }

// rows returns rows lo to hi one behind the other, not to be changed: they may be the tensor's own.
func (m matrix) rows(lo, hi int) []float32 {
	if m.whole() {
		return m.data[lo*m.cols : hi*m.cols]
	}
	out := make([]float32, (hi-lo)*m.cols)
	for j := 0; j < m.cols; j += m.inner {
		for i := lo; i < hi; i++ {
			copy(out[(i-lo)*m.cols+j:], m.data[(j*m.n + i*m.inner):][:m.inner])
		}
	}
	return out
}

// row returns a row as float64.
func (m matrix) row(i int) []float64 {
	out := make([]float64, m.cols)
	for j, x := range m.rows(i, i+1) {
		out[j] = float64(x)
	}
	return out
}

// panelSize is about how many weights are worked on at a time.
const panelSize = 1 << 16

// panels calls f for all rows, in groups, on the given number of threads (0: all cores).
// f gets the number of the first row and the rows one behind the other, and is not called any
// more once ctx is done.
func (m matrix) panels(ctx context.Context, threads int, f func(first int, rows []float32) error) error {
	step := max(panelSize/max(m.cols, 1), 1)
	if !m.whole() {
		step = max(step, 16) // neighbours share cache lines
	}
	var jobs []func() error
	for lo := 0; lo < m.n; lo += step {
		jobs = append(jobs, func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return f(lo, m.rows(lo, min(lo+step, m.n)))
		})
	}
	return inParallel(threads, jobs)
}

// codes are the integers of a weight tensor, row by row; those of unsigned
// quantisers as the int8 of the same bits.
type codes struct {
	q      []int8
	cols   int
	signed bool
}

func newCodes(m matrix, signed bool) *codes {
	return &codes{make([]int8, m.n*m.cols), m.cols, signed}
}

// at returns an integer.
func (c *codes) at(row, col int) int64 {
	q := c.q[row*c.cols+col]
	if c.signed {
		return int64(q)
	}
	return int64(uint8(q))
}

// set sets a row.
func (c *codes) set(row int, q []int64) {
	for j, x := range q {
		c.q[row*c.cols+j] = int8(x)
	}
}

// tensor returns the integers in the order of the weights that they are of.
func (c *codes) tensor(m matrix, e tensor.Elem, shape []int) *tensor.Tensor {
	q := c.q
	if !m.whole() {
		q = make([]int8, len(c.q))
		for i := range m.n {
			for j := 0; j < m.cols; j += m.inner {
				copy(q[j*m.n+i*m.inner:], c.q[i*m.cols+j:][:m.inner])
			}
		}
	}
	if c.signed {
		return tensor.OfElem(e, q, shape...)
	}
	u := make([]uint8, len(q))
	for i, x := range q {
		u[i] = uint8(x)
	}
	return tensor.OfElem(e, u, shape...)
}

// weightGrids chooses the grid of every row, or one for all. importance, if
// not nil, weighs the squared errors of a row's elements. least holds scales
// below which a row must not go.
func (o *Quantize) weightGrids(ctx context.Context, threads int, m matrix, importance func(row int) []float64, l levels, perTensor bool, least []float64) ([]grid, error) {
	if perTensor {
		g, err := o.tensorGrid(ctx, threads, m, importance, l)
		floor := 0.0
		for _, s := range least {
			floor = max(floor, s)
		}
		return []grid{g.atLeast(floor, o.Pow2)}, err
	}
	out := make([]grid, m.n)
	err := m.panels(ctx, threads, func(first int, rows []float32) error {
		for i := first; len(rows) > 0; i++ {
			row := rows[:m.cols]
			rows = rows[m.cols:]
			if err := ctx.Err(); err != nil {
				return err
			}
			var weights []float64
			if importance != nil {
				weights = importance(i)
			}
			lo, hi := span(row)
			g := l.gridFor(lo, hi, o.WeightAffine, o.Pow2)
			if o.WeightObserver == mse && (lo < 0 || hi > 0) {
				g = l.search(lo, hi, o.WeightAffine, o.Pow2, func(g grid, most float64) float64 {
					return g.errors(row, weights, most)
				})
			}
			out[i] = g.atLeast(least[i], o.Pow2)
		}
		return nil
	})
	return out, err
}

// tensorGrid chooses one grid for all rows. Errors are summed panel by panel,
// so that they do not depend on the number of threads.
func (o *Quantize) tensorGrid(ctx context.Context, threads int, m matrix, importance func(row int) []float64, l levels) (grid, error) {
	type panel struct {
		rows          []float32
		weights       []float64
		lo, hi, error float64
	}
	flat := m
	if importance == nil { // where the rows begin does not matter
		flat.cols = min(panelSize, max(len(m.data), 1))
		flat.n, flat.inner = (len(m.data)+flat.cols-1)/flat.cols, flat.cols
	}
	var all []*panel
	for i := range flat.n {
		p := &panel{}
		if importance == nil {
			p.rows = m.data[i*flat.cols : min((i+1)*flat.cols, len(m.data))]
		} else {
			p.rows, p.weights = m.rows(i, i+1), importance(i)
		}
		all = append(all, p)
	}
	lo, hi := 0.0, 0.0
	for _, p := range all {
		p.lo, p.hi = span(p.rows)
		lo, hi = min(lo, p.lo), max(hi, p.hi)
	}
	if o.WeightObserver != mse || lo == 0 && hi == 0 {
		return l.gridFor(lo, hi, o.WeightAffine, o.Pow2), ctx.Err()
	}
	g := l.search(lo, hi, o.WeightAffine, o.Pow2, func(g grid, most float64) float64 {
		sum := 0.0
		for at := 0; at < len(all) && sum < most && ctx.Err() == nil; at += 16 {
			group := all[at:min(at+16, len(all))]
			jobs := make([]func() error, len(group))
			for i, p := range group {
				jobs[i] = func() error {
					p.error = g.errors(p.rows, p.weights, most)
					return nil
				}
			}
			inParallel(threads, jobs) // no job fails
			for _, p := range group {
				sum += p.error
			}
		}
		return sum
	})
	return g, ctx.Err()
}

// span returns the least and the greatest number, and 0 if that is beyond them.
func span(x []float32) (lo, hi float64) {
	var a, b float32
	for _, v := range x {
		if v < a {
			a = v
		} else if v > b {
			b = v
		}
	}
	return float64(a), float64(b)
}

// atLeast returns g, with the scale least if its own is smaller.
func (g grid) atLeast(least float64, pow2 bool) grid {
	if float64(g.scale) < least {
		g.scale = scaleOf(least, pow2)
	}
	return g
}

// errors returns the sum of the squared errors of rounding x, each times its
// weight where there are any. Once the sum reaches most it may stop there.
func (g grid) errors(x []float32, weights []float64, most float64) float64 {
	const block = 64 // after which sums are compared
	s, inv := float64(g.scale), 1/float64(g.scale)
	lo, hi := float64(g.lo-g.zero), float64(g.hi-g.zero)
	sum := 0.0
	for len(x) > 0 && sum < most {
		part := x[:min(block, len(x))]
		if x = x[len(part):]; weights != nil {
			for i, v := range part {
				sum += float64(square(roundingError(v, s, inv, lo, hi)) * weights[i])
			}
			weights = weights[len(part):]
			continue
		}
		var a, b, c, d float64 // four sums: additions need not wait for each other
		for ; len(part) >= 4; part = part[4:] {
			a += square(roundingError(part[0], s, inv, lo, hi))
			b += square(roundingError(part[1], s, inv, lo, hi))
			c += square(roundingError(part[2], s, inv, lo, hi))
			d += square(roundingError(part[3], s, inv, lo, hi))
		}
		for _, v := range part {
			a += square(roundingError(v, s, inv, lo, hi))
		}
		sum += a + b + (c + d)
	}
	return sum
}

// roundingError returns the difference of v from the nearest q·s, lo ≤ q ≤ hi; inv is 1/s.
func roundingError(v float32, s, inv, lo, hi float64) float64 {
	// Adding and subtracting it rounds a number that is small beside it to the nearest integer, ties to even.
	const round = 3 << 51
	x := float64(v)
	q := float64(float64(x*inv)+round) - round
	if q > hi {
		q = hi
	} else if q < lo {
		q = lo
	}
	return x - float64(q*s)
}

// nearest rounds every weight of u to the nearest point of its row's grid.
func (u *unit) nearest(ctx context.Context, threads int, m matrix) error {
	u.codes = newCodes(m, u.signed)
	return m.panels(ctx, threads, func(first int, rows []float32) error {
		for i := first; len(rows) > 0; i++ {
			g, q := u.gridOf(i), u.codes.q[i*m.cols:][:m.cols]
			for j, x := range rows[:m.cols] {
				q[j] = int8(g.index(float64(x)))
			}
			rows = rows[m.cols:]
		}
		return nil
	})
}

// gridOf returns the grid of a row.
func (u *unit) gridOf(row int) grid { return u.grids[row%len(u.grids)] }

// noise returns the power of the weights and that of their rounding errors.
func (u *unit) noise(ctx context.Context, threads int) (signal, noise float64, err error) {
	m := rowsOf(u.weight.Data, u.axis)
	sums := make([][2]float64, m.n)
	err = m.panels(ctx, threads, func(first int, rows []float32) error {
		for i := first; len(rows) > 0; i++ {
			g, s := u.gridOf(i), &sums[i]
			for j, x := range rows[:m.cols] {
				w := float64(x)
				s[0] += float64(w * w)
				s[1] += square(w - g.value(u.codes.at(i, j)))
			}
			rows = rows[m.cols:]
		}
		return nil
	})
	for _, s := range sums {
		signal += s[0]
		noise += s[1]
	}
	return signal, noise, err
}
