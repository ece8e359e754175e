package quantize

import (
	"github.com/thriftc/thriftc/ir/tensor"
)

// rowsOf returns a weight tensor as one row per index along axis, each in the
// order of the remaining dimensions; axis −1 gives a single row.
func rowsOf(t *tensor.Tensor, axis int) [][]float64 {
	n, inner := rowShape(t.Shape(), axis)
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = make([]float64, 0, t.Len()/n)
	}
	for i, x := range t.Float32s() {
		r := i / inner % n
		rows[r] = append(rows[r], float64(x))
	}
	return rows
}

// rowShape returns the number of rows and how many neighbouring elements
// belong to the same one.
func rowShape(shape []int, axis int) (n, inner int) {
	if axis < 0 {
		size, _ := tensor.NumElems(shape)
		return 1, size
	}
	inner = 1
	for _, d := range shape[axis+1:] {
		inner *= d
	}
	return shape[axis], inner
}

// tensorOf is the inverse of rowsOf, for integers.
func tensorOf(rows [][]int64, shape []int, axis int, e tensor.Elem) *tensor.Tensor {
	n, inner := rowShape(shape, axis)
	size, _ := tensor.NumElems(shape)
	flat := make([]int64, size)
	next := make([]int, n)
	for i := range flat {
		r := i / inner % n
		flat[i] = rows[r][next[r]]
		next[r]++
	}
	return tensor.FromInt64s(e, flat, shape...)
}

// weightGrids chooses the grid of every row, or one for all. importance, if
// not nil, weighs the squared errors of a row's elements. least holds scales
// below which a row must not go; nil: no limit.
func (o *Quantize) weightGrids(rows [][]float64, importance func(row int) []float64, l levels, perTensor bool, least []float64) []grid {
	if perTensor {
		var all, weights []float64
		floor := 0.0
		for i, r := range rows {
			all = append(all, r...)
			if importance != nil {
				weights = append(weights, importance(i)...)
			}
			if least != nil {
				floor = max(floor, least[i])
			}
		}
		return []grid{o.weightGrid(all, weights, l, floor)}
	}
	out := make([]grid, len(rows))
	for i, r := range rows {
		var weights []float64
		if importance != nil {
			weights = importance(i)
		}
		floor := 0.0
		if least != nil {
			floor = least[i]
		}
		out[i] = o.weightGrid(r, weights, l, floor)
	}
	return out
}

func (o *Quantize) weightGrid(w, importance []float64, l levels, least float64) grid {
	lo, hi := 0.0, 0.0
	for _, x := range w {
		lo, hi = min(lo, x), max(hi, x)
	}
	g := l.gridFor(lo, hi, o.WeightAffine, o.Pow2)
	if o.WeightObserver == mse && (lo < 0 || hi > 0) {
		g = l.search(lo, hi, o.WeightAffine, o.Pow2, func(g grid) float64 {
			sum := 0.0
			for i, x := range w {
				d := x - g.round(x)
				if importance != nil {
					d *= float64(d * importance[i])
				} else {
					d *= d
				}
				sum += d
			}
			return sum
		})
	}
	if float64(g.scale) < least {
		g.scale = scaleOf(least, o.Pow2)
	}
	return g
}

// nearest rounds every weight of u to the nearest point of its row's grid.
func (u *unit) nearest(rows [][]float64) {
	u.codes = make([][]int64, len(rows))
	for i, r := range rows {
		u.codes[i] = make([]int64, len(r))
		for j, x := range r {
			u.codes[i][j] = u.gridOf(i).index(x)
		}
	}
}

// gridOf returns the grid of a row.
func (u *unit) gridOf(row int) grid { return u.grids[row%len(u.grids)] }
