package quantize

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// maxGram is the largest number of inputs of a row for which a Gram matrix is
// gathered: 170 MB of float64.
const maxGram = 4608

// moments gathers what reconstruction needs of a layer: the moments of the
// inputs x̂ that its rows read, and of its float outputs y, at a sample of output
// positions. Its size does not depend on the number of samples.
type moments struct {
	l      *layer
	k      int // inputs of a row
	groups int
	rows   int // output channels of a group
	wanted int // output positions to look at in each sample

	n      float64
	xx     []*mat.SymDense // of each group: Σ x̂x̂ᵀ
	yx     []*mat.Dense    // Σ y x̂ᵀ
	sx, sy [][]float64     // Σ x̂, Σ y
}

// newMoments prepares for a layer, or says why it cannot be reconstructed.
func newMoments(l *layer, w *tensor.Tensor, samples int) (*moments, error) {
	m := &moments{l: l, groups: 1, rows: l.Rows, k: w.Len() / l.Rows}
	if l.BiasNode != l.Node && l.Node.Op.Name != "MatMul" && l.Node.Input(2) != nil {
		return nil, fmt.Errorf("what is added to its products is no constant row")
	}
	switch l.Node.Op.Name {
	case "Conv":
		m.groups = l.Node.Int("group")
		m.rows /= m.groups
	case "Gemm":
		if l.Node.Int("transA") != 0 {
			return nil, fmt.Errorf("its input is transposed")
		}
		if l.Node.Float("alpha") != 1 {
			return nil, fmt.Errorf("its products are multiplied by alpha")
		}
	case "MatMul":
		if l.W == 0 || w.Rank() != 2 {
			return nil, fmt.Errorf("its weights are not a matrix on the right")
		}
	default:
		return nil, fmt.Errorf("operator %s has no reconstruction", l.Node.Op.Name)
	}
	if m.k > maxGram {
		return nil, fmt.Errorf("a row reads %d inputs, more than %d", m.k, maxGram)
	}
	// Enough positions to determine k unknowns well, and few enough to be quick.
	positions := min(max(16*m.k, 8192), int(4e10)/(m.k*m.k))
	m.wanted = max(1, (positions+samples-1)/samples)
	for range m.groups {
		m.xx = append(m.xx, mat.NewSymDense(m.k, nil))
		m.yx = append(m.yx, mat.NewDense(m.rows, m.k, nil))
		m.sx = append(m.sx, make([]float64, m.k))
		m.sy = append(m.sy, make([]float64, m.rows))
	}
	return m, nil
}

// add counts a batch: x̂ are the inputs, y the outputs, first the number of samples before.
func (m *moments) add(x, y *tensor.Tensor, first int) error {
	if m.l.Node.Op.Name != "Conv" {
		return m.addRows(x, y, first)
	}
	geo, err := newGeometry(m.l.Node, x.Shape(), y.Shape())
	if err != nil {
		return err
	}
	xs, ys := x.Float32s(), y.Float32s()
	n := x.Shape()[0]
	xStep, yStep := len(xs)/n, len(ys)/n
	for s := range n {
		at := sampled(geo.outputs, m.wanted, first+s)
		px, py := make([]float64, len(at)*m.k), make([]float64, len(at)*m.rows)
		for g := range m.groups {
			for i, pos := range at {
				geo.patch(px[i*m.k:(i+1)*m.k], xs[s*xStep:(s+1)*xStep], g*m.k/geo.kernel, pos)
				for o := range m.rows {
					py[i*m.rows+o] = float64(ys[s*yStep+(g*m.rows+o)*geo.outputs+pos])
				}
			}
			m.count(g, px, py, len(at))
		}
		m.n += float64(len(at))
	}
	return nil
}

// addRows is add for matrix products: every row of x is a vector of inputs.
func (m *moments) addRows(x, y *tensor.Tensor, first int) error {
	xs, ys := x.Float32s(), y.Float32s()
	n := 1
	if x.Rank() > 1 {
		n = x.Shape()[0]
	}
	vectors := len(xs) / m.k / n
	for s := range n {
		at := sampled(vectors, m.wanted, first+s)
		px, py := make([]float64, 0, len(at)*m.k), make([]float64, 0, len(at)*m.rows)
		for _, pos := range at {
			i := s*vectors + pos
			for _, v := range xs[i*m.k : (i+1)*m.k] {
				px = append(px, float64(v))
			}
			for _, v := range ys[i*m.rows : (i+1)*m.rows] {
				py = append(py, float64(v))
			}
		}
		m.count(0, px, py, len(at))
		m.n += float64(len(at))
	}
	return nil
}

// sampled returns wanted of total positions, evenly spaced, shifted from
// sample to sample.
func sampled(total, wanted, sample int) []int {
	step := max(1, total/wanted)
	out := make([]int, 0, wanted)
	for i := sample * 7 % step; i < total && len(out) < wanted; i += step {
		out = append(out, i)
	}
	return out
}

// count adds n vectors of inputs and outputs to the sums of a group.
func (m *moments) count(g int, px, py []float64, n int) {
	x := blas64.General{Rows: n, Cols: m.k, Stride: m.k, Data: px}
	y := blas64.General{Rows: n, Cols: m.rows, Stride: m.rows, Data: py}
	blas64.Syrk(blas.Trans, 1, x, 1, m.xx[g].RawSymmetric())
	blas64.Gemm(blas.Trans, blas.NoTrans, 1, y, x, 1, m.yx[g].RawMatrix())
	for i := range n {
		for j, v := range px[i*m.k : (i+1)*m.k] {
			m.sx[g][j] += v
		}
		for j, v := range py[i*m.rows : (i+1)*m.rows] {
			m.sy[g][j] += v
		}
	}
}

// centre turns the sums into covariances, when a bias can take up the means,
// or else into second moments about zero.
func (m *moments) centre(about bool) {
	for g := range m.groups {
		for i := range m.k {
			mi := m.sx[g][i] / m.n
			m.sx[g][i] = mi
			for o := range m.rows {
				c := m.yx[g].At(o, i) / m.n
				if about {
					c -= float64(mi * (m.sy[g][o] / m.n))
				}
				m.yx[g].Set(o, i, c)
			}
		}
		for i := range m.k {
			for j := i; j < m.k; j++ {
				c := m.xx[g].At(i, j) / m.n
				if about {
					c -= float64(m.sx[g][i] * m.sx[g][j])
				}
				m.xx[g].SetSym(i, j, c)
			}
		}
		for o := range m.rows {
			m.sy[g][o] /= m.n
		}
	}
}

// geometry says which inputs of a convolution meet at an output position.
type geometry struct {
	in, out                  []int // spatial sizes
	size                     []int // of the kernel
	strides, pads, dilations []int
	outputs                  int // output positions
	inputs                   int // input positions
	kernel                   int // kernel positions
}

func newGeometry(n *ir.Node, x, y []int) (*geometry, error) {
	d := len(x) - 2
	w := n.In[1].Type.Dims
	if d < 1 || len(w) != len(x) || len(y) != len(x) {
		return nil, fmt.Errorf("%s: input of shape %v, output of shape %v", n.Label(), x, y)
	}
	g := &geometry{in: x[2:], out: y[2:], outputs: 1, inputs: 1, kernel: 1}
	get := func(name string, i, def int) int {
		if v := n.Ints(name); i < len(v) {
			return int(v[i])
		}
		return def
	}
	for i := range d {
		k := w[i+2].N
		s, dil, pad := get("strides", i, 1), get("dilations", i, 1), get("pads", i, 0)
		if auto := n.Str("auto_pad"); auto == "SAME_UPPER" || auto == "SAME_LOWER" {
			total := max(0, (g.out[i]-1)*s+(k-1)*dil+1-g.in[i])
			if pad = total / 2; auto == "SAME_LOWER" {
				pad = total - total/2
			}
		}
		g.size, g.strides, g.dilations, g.pads = append(g.size, k), append(g.strides, s), append(g.dilations, dil), append(g.pads, pad)
		g.outputs *= g.out[i]
		g.inputs *= g.in[i]
		g.kernel *= k
	}
	return g, nil
}

// patch copies the inputs that meet at output position pos: the channels from
// first on that dst has room for, in the order of the weights.
func (g *geometry) patch(dst []float64, x []float32, first, pos int) {
	d := len(g.in)
	base := make([]int, d)
	for i := d - 1; i >= 0; i-- {
		base[i] = pos%g.out[i]*g.strides[i] - g.pads[i]
		pos /= g.out[i]
	}
	channels := len(dst) / g.kernel
	for k := range g.kernel {
		offset, inside, step, rest := 0, true, 1, k
		for i := d - 1; i >= 0; i-- {
			at := base[i] + rest%g.size[i]*g.dilations[i]
			rest /= g.size[i]
			inside = inside && at >= 0 && at < g.in[i]
			offset += at * step
			step *= g.in[i]
		}
		for c := range channels {
			v := 0.0
			if inside {
				v = float64(x[(first+c)*g.inputs+offset])
			}
			dst[c*g.kernel+k] = v
		}
	}
}
