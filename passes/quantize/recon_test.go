package quantize

import (
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// layer makes a random row of weights, a Gram matrix of correlated inputs, and
// that of noisy copies of them with the cross products.
func correlated(seed uint64, k, n int, noise float64) (w []float64, h *mat.SymDense, t []float64) {
	r := rand.New(rand.NewPCG(seed, 2))
	mix := make([][]float64, k)
	w = make([]float64, k)
	for i := range mix {
		w[i] = r.NormFloat64()
		mix[i] = make([]float64, k/3)
		for j := range mix[i] {
			mix[i][j] = r.NormFloat64()
		}
	}
	h, t = mat.NewSymDense(k, nil), make([]float64, k)
	for range n {
		x := make([]float64, k)
		y := 0.0
		for j := range k / 3 {
			z := r.NormFloat64()
			for i := range x {
				x[i] += mix[i][j] * z
			}
		}
		for i := range x {
			x[i] += 0.3 * r.NormFloat64()
			y += w[i] * x[i]
			x[i] += noise * r.NormFloat64()
		}
		for i := range x {
			t[i] += y * x[i] / float64(n)
		}
		h.SymRankOne(h, 1/float64(n), mat.NewVecDense(k, x))
	}
	return w, h, t
}

func TestReconstructionBeatsNearest(t *testing.T) {
	for _, noise := range []float64{0, 0.5} {
		for _, bits := range []int{2, 3, 4} {
			var before, after float64
			for seed := range uint64(5) {
				w, h, cross := correlated(seed, 48, 2000, noise)
				yy := 0.0 // E[y²] ≈ wᵀHw when there is no noise; a lower bound of the error's offset
				for i := range w {
					for j := range w {
						yy += w[i] * w[j] * h.At(i, j)
					}
				}
				p, err := newProblem(mat.NewSymDense(48, append([]float64(nil), h.RawSymmetric().Data...)))
				if err != nil {
					t.Fatal(err)
				}
				l := levelsOf(bits, true, false)
				g := l.search(-3, 3, false, false, func(g grid, _ float64) float64 {
					sum := 0.0
					for _, x := range w {
						d := x - g.round(x)
						sum += d * d
					}
					return sum
				})
				target := make([]float64, len(w))
				nearest := make([]int64, len(w))
				for i, x := range w {
					nearest[i] = g.index(x)
					target[i] = cross[i] + p.lift*x
				}
				e0 := p.error(nearest, target, g)
				q0, _ := p.row(w, cross, g, false)
				q1, g1 := p.row(w, cross, g, true)
				e1, e2 := p.error(q0, target, g), p.error(q1, target, g1)
				if e2 > e1 {
					t.Errorf("refitting the scale raises the error from %v to %v", e1, e2)
				}
				// No single step may lower the error further.
				for i := range q0 {
					for _, d := range []int64{-1, 1} {
						q0[i] += d
						if q0[i] >= l.lo && q0[i] <= l.hi && p.error(q0, target, g) < e1-1e-9*yy {
							t.Errorf("%d bits: moving weight %d by %d lowers the error", bits, i, d)
						}
						q0[i] -= d
					}
				}
				before, after = before+e0+yy, after+e1+yy
			}
			if limit := map[float64]float64{0: 0.5, 0.5: 0.7}[noise]; after > before*limit {
				t.Errorf("%d bits, noise %v: error %v with reconstruction, %v with nearest rounding", bits, noise, after, before)
			}
		}
	}
}

// A layer whose inputs never change must come back as nearest rounding would have it.
func TestReconstructionWithoutData(t *testing.T) {
	p, err := newProblem(mat.NewSymDense(4, nil))
	if err != nil {
		t.Fatal(err)
	}
	g := grid{levelsOf(4, true, false), 0.25, 0}
	w := []float64{0.3, -0.9, 0.1, 1.2}
	q, _ := p.row(w, make([]float64, 4), g, false)
	for i := range w {
		if q[i] != g.index(w[i]) {
			t.Errorf("weight %v becomes %d", w[i], q[i])
		}
	}
}
