package quantize

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestWeightGrids compares the search with one that rounds every weight for
// every candidate, for rows in all directions, and with different numbers of threads.
func TestWeightGrids(t *testing.T) {
	w := irtest.RandomTensor(rand.New(rand.NewPCG(1, 2)), tensor.F32, 24, 7, 3, 3)
	weigh := func(row int) []float64 {
		out := make([]float64, 24*7*9)
		for i := range out {
			out[i] = float64((i*7+row)%5) + 0.5
		}
		return out
	}
	for _, axis := range []int{0, 1, 3, -1} {
		for _, weighted := range []bool{false, true} {
			for _, bits := range []int{2, 4, 8} {
				for _, perTensor := range []bool{axis < 0, true} {
					t.Run(fmt.Sprint(axis, weighted, bits, perTensor), func(t *testing.T) {
						o := New()
						m := rowsOf(w, axis)
						var importance func(int) []float64
						if weighted {
							importance = func(row int) []float64 { return weigh(row)[:m.cols] }
						}
						l := levelsOf(bits, true, false)
						got, err := o.weightGrids(t.Context(), 1, m, importance, l, perTensor, make([]float64, m.n))
						if err != nil {
							t.Fatal(err)
						}
						again, err := o.weightGrids(t.Context(), 5, m, importance, l, perTensor, make([]float64, m.n))
						if err != nil || !slices.Equal(got, again) {
							t.Errorf("with 5 threads: %v, %v, with one %v", again, err, got)
						}
						if want := plainSearch(m, importance, l, perTensor); !slices.Equal(got, want) {
							t.Errorf("got %v, want %v", got, want)
						}
					})
				}
			}
		}
	}
}

// plainSearch is weightGrids in the fewest words.
func plainSearch(m matrix, importance func(int) []float64, l levels, perTensor bool) []grid {
	var rows, weights [][]float64
	for i := range m.n {
		rows = append(rows, m.row(i))
		weights = append(weights, slices.Repeat([]float64{1}, m.cols))
		if importance != nil {
			weights[i] = importance(i)
		}
	}
	if perTensor {
		rows, weights = [][]float64{slices.Concat(rows...)}, [][]float64{slices.Concat(weights...)}
	}
	var out []grid
	for i, r := range rows {
		out = append(out, l.search(min(0, slices.Min(r)), max(0, slices.Max(r)), false, false, func(g grid, _ float64) float64 {
			sum := 0.0
			for j, x := range r {
				sum += square(x-g.round(x)) * weights[i][j]
			}
			return sum
		}))
	}
	return out
}

func TestRows(t *testing.T) {
	x := make([]float32, 2*3*4)
	for i := range x {
		x[i] = float32(i)
	}
	w := tensor.Of(x, 2, 3, 4)
	for axis, want := range map[int][]float32{-1: x, 0: x[12:], 1: {4, 5, 6, 7, 16, 17, 18, 19}, 2: {1, 4 + 1, 8 + 1, 12 + 1, 16 + 1, 20 + 1}} {
		m := rowsOf(w, axis)
		if got := m.rows(min(m.n-1, 1), min(m.n, 2)); !slices.Equal(got, want) {
			t.Errorf("axis %d: %v, want %v", axis, got, want)
		}
		c := newCodes(m, axis != 1)
		for i := range m.n {
			q := make([]int64, m.cols)
			for j, x := range m.row(i) {
				q[j] = int64(x)
			}
			c.set(i, q)
		}
		e := tensor.U8
		if c.signed {
			e = tensor.I8
		}
		if got := c.tensor(m, e, w.Shape()).Float32s(); !slices.Equal(got, x) {
			t.Errorf("axis %d: and back: %v", axis, got)
		}
	}
}

// TestSearchStops cancels the search after its first row.
func TestSearchStops(t *testing.T) {
	m := rowsOf(irtest.RandomTensor(rand.New(rand.NewPCG(1, 2)), tensor.F32, 50, 9), 0)
	for _, perTensor := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		rows := 0
		_, err := New().weightGrids(ctx, 1, m, func(int) []float64 {
			rows++
			cancel()
			return make([]float64, 9)
		}, levelsOf(8, true, false), perTensor, make([]float64, m.n))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("perTensor %v: %v", perTensor, err)
		}
		if !perTensor && rows != 1 {
			t.Errorf("%d rows were searched", rows)
		}
	}
}
