package quantize

import (
	"fmt"
	"math"
	"sort"

	"gonum.org/v1/gonum/mat"
)

// damping is added to the diagonal of a Gram matrix, as a fraction of its mean
// diagonal: few calibration samples must not let weights drift for nothing.
const damping = 0.01

// maxSweeps bounds coordinate descent; it ends long before in practice.
const maxSweeps = 50

// problem is the reconstruction of the rows of a weight matrix that read the
// same inputs x̂: make ŵ·x̂ close to the float layer's y for every row, where
// ŵ lies on the row's grid. With H = E[x̂x̂ᵀ] and t = E[y·x̂] of centred inputs and
// outputs (the bias takes up the means), the mean squared error of a row is
//
//	ŵᵀHŵ − 2tᵀŵ + E[y²],
//
// which rounds by the effect on the output, and also makes up for the error
// that earlier layers have put into x̂. This is adaptive rounding by layer-wise
// reconstruction (Nagel et al., arXiv 2004.10568, eq. 14) solved as by
// Frantar et al., arXiv 2210.17323 (GPTQ), from the regression target of
// least squares instead of from w, and polished by coordinate descent.
type problem struct {
	h     *mat.SymDense // K×K, damped
	chol  mat.Cholesky
	upper mat.TriDense // U of (H⁻¹ in the order perm) = UᵀU
	perm  []int        // columns by falling diagonal of H: what matters most is rounded first
	lift  float64      // what damping added to the diagonal
}

// newProblem damps and factors a Gram matrix, which it takes over.
func newProblem(h *mat.SymDense) (*problem, error) {
	k := h.SymmetricDim()
	p := &problem{h: h, perm: make([]int, k)}
	mean := 0.0
	for i := range k {
		mean += h.At(i, i) / float64(k)
		p.perm[i] = i
	}
	p.lift = damping * mean
	if p.lift == 0 {
		p.lift = 1 // inputs that never change
	}
	for i := range k {
		h.SetSym(i, i, h.At(i, i)+p.lift)
	}
	sort.SliceStable(p.perm, func(a, b int) bool { return h.At(p.perm[a], p.perm[a]) > h.At(p.perm[b], p.perm[b]) })
	permuted := mat.NewSymDense(k, nil)
	for i, a := range p.perm {
		for j := i; j < k; j++ {
			permuted.SetSym(i, j, h.At(a, p.perm[j]))
		}
	}
	var inverse mat.SymDense
	if !p.chol.Factorize(h) {
		return nil, fmt.Errorf("the Gram matrix of the inputs is not positive definite")
	}
	var c mat.Cholesky
	if !c.Factorize(permuted) {
		return nil, fmt.Errorf("the Gram matrix of the inputs is not positive definite")
	}
	if err := c.InverseTo(&inverse); err != nil {
		return nil, fmt.Errorf("inverting the Gram matrix of the inputs: %w", err)
	}
	if !c.Factorize(&inverse) {
		return nil, fmt.Errorf("the inverse Gram matrix of the inputs is not positive definite")
	}
	c.UTo(&p.upper)
	return p, nil
}

// row solves the problem for one row: w are the float weights, t = E[y·x̂]. It
// returns the integers and the grid, whose scale is refitted when refit is set.
func (p *problem) row(w, t []float64, g grid, refit bool) ([]int64, grid) {
	k := len(w)
	// Damping pulls toward w, so that directions which the data do not show keep their weights.
	target := make([]float64, k)
	for i := range t {
		target[i] = t[i] + float64(p.lift*w[i])
	}
	var free mat.VecDense
	if err := p.chol.SolveVecTo(&free, mat.NewVecDense(k, target)); err != nil {
		copy(free.RawVector().Data, w) // ill-conditioned: the float weights are a fair target
	}
	q := p.sequential(free.RawVector().Data, g)
	nearest := make([]int64, k)
	for i, x := range w {
		nearest[i] = g.index(x)
	}
	if p.error(nearest, target, g) < p.error(q, target, g) {
		q = nearest
	}
	for range 4 {
		p.descend(q, target, g)
		if !refit {
			break
		}
		s := p.bestScale(q, target, g)
		next := grid{g.levels, s, g.zero}
		if !(s > 0) || !(p.error(q, target, next) < p.error(q, target, g)) {
			break
		}
		g = next
	}
	return q, g
}

// sequential rounds column after column and lets the columns still to come
// make up for each error.
func (p *problem) sequential(free []float64, g grid) []int64 {
	k := len(free)
	w := make([]float64, k)
	for i, a := range p.perm {
		w[i] = free[a]
	}
	q := make([]int64, k)
	u := p.upper.RawTriangular()
	for i, a := range p.perm {
		q[a] = g.index(w[i])
		row := u.Data[i*u.Stride : i*u.Stride+k]
		e := (w[i] - g.value(q[a])) / row[i]
		for j := i + 1; j < k; j++ {
			w[j] -= float64(e * row[j])
		}
	}
	return q
}

func (g grid) value(q int64) float64 { return float64(q-g.zero) * float64(g.scale) }

// gradient returns Hŵ − t, half the error's gradient.
func (p *problem) gradient(q []int64, t []float64, g grid) []float64 {
	h := p.h.RawSymmetric()
	d := make([]float64, len(q))
	for i := range q {
		d[i] -= t[i]
		v := g.value(q[i])
		if v == 0 {
			continue
		}
		// H is stored above its diagonal.
		row := h.Data[i*h.Stride : i*h.Stride+h.N]
		for j := i; j < len(q); j++ {
			d[j] += float64(v * row[j])
		}
		for j := range i {
			d[j] += float64(v * h.Data[j*h.Stride+i])
		}
	}
	return d
}

// error returns ŵᵀHŵ − 2tᵀŵ, the part of the error that depends on ŵ.
func (p *problem) error(q []int64, t []float64, g grid) float64 {
	sum := 0.0
	for i, d := range p.gradient(q, t, g) {
		sum += float64(g.value(q[i]) * (d - t[i]))
	}
	return sum
}

// descend moves single integers by ±1 for as long as that lowers the error.
func (p *problem) descend(q []int64, t []float64, g grid) {
	h := p.h.RawSymmetric()
	d := p.gradient(q, t, g)
	s := float64(g.scale)
	for range maxSweeps {
		moved := false
		for _, i := range p.perm {
			step := s
			if d[i] > 0 {
				step = -s
			}
			next := q[i] + int64(math.Copysign(1, step))
			// The error changes by 2·step·dᵢ + step²·Hᵢᵢ.
			if next < g.lo || next > g.hi || float64(2*step*d[i])+float64(step*step*h.Data[i*h.Stride+i]) >= 0 {
				continue
			}
			q[i], moved = next, true
			row := h.Data[i*h.Stride : i*h.Stride+h.N]
			for j := i; j < len(q); j++ {
				d[j] += float64(step * row[j])
			}
			for j := range i {
				d[j] += float64(step * h.Data[j*h.Stride+i])
			}
		}
		if !moved {
			return
		}
	}
}

// bestScale returns the scale that minimises the error for fixed integers.
func (p *problem) bestScale(q []int64, t []float64, g grid) float32 {
	s, num, den := float64(g.scale), 0.0, 0.0
	for i, d := range p.gradient(q, t, g) {
		v := g.value(q[i])
		num += float64(v * t[i])
		den += float64(v * (d + t[i]))
	}
	return float32(s * num / den)
}
