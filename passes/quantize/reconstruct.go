package quantize

import (
	"fmt"

	"gonum.org/v1/gonum/mat"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// maxStages bounds the passes over the calibration data that reconstruction
// takes: deeper models have several layers in one, which then do not see the
// rounding errors of each other.
const maxStages = 32

// reconstruct chooses the integers of all units by their effect on the
// outputs, from the first layer to the last, so that a layer can make up for
// errors of those before it. Layers that have no such solution are rounded to nearest.
func (o *Quantize) reconstruct(c *passes.Context, g *ir.Graph, p *placement, units []*unit, means map[*layer][]float64) error {
	var todo []*unit
	for _, u := range units {
		if u.bits > 0 && u.weight != nil {
			todo = append(todo, u)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	var done []*unit
	size := (len(todo) + maxStages - 1) / maxStages
	for i := 0; i < len(todo); i += size {
		stage := todo[i:min(i+size, len(todo))]
		what := fmt.Sprintf("reconstruct %s", stage[0].name())
		if err := o.reconstructStage(c, what, g, p, done, stage, means); err != nil {
			return fmt.Errorf("reconstructing %s: %w", stage[0].name(), err)
		}
		done = append(done, stage...)
	}
	return nil
}

func (o *Quantize) reconstructStage(c *passes.Context, what string, g *ir.Graph, p *placement, done, stage []*unit, means map[*layer][]float64) error {
	samples := min(o.ReconSamples, c.Calib.Len())
	quantised := copyOf(g)
	if err := quantised.apply(p, done); err != nil {
		return err
	}
	sums := map[*unit][]*moments{}
	var flat []*moments
	probes := []probe{{g: g}, {g: quantised.r.Graph()}}
	for _, u := range stage {
		var ms []*moments
		for _, l := range u.layers {
			m, err := newMoments(l, u.weight.Data, samples)
			if err != nil || u.axis < 0 {
				if err == nil {
					err = fmt.Errorf("its users see different output channels")
				}
				toNearest(c, u, err)
				ms = nil
				break
			}
			ms = append(ms, m)
		}
		if ms == nil {
			if err := o.roundNearest(c, p, u, means); err != nil {
				return err
			}
			continue
		}
		sums[u] = ms
		for _, m := range ms {
			flat = append(flat, m)
			probes[0].vals = append(probes[0].vals, m.l.Node.Out[0])
			probes[1].vals = append(probes[1].vals, quantised.node(m.l.Node).In[m.l.X])
		}
	}
	if len(flat) == 0 {
		return nil
	}
	if err := stream(c, what, samples, probes, func(j, first int, t []*tensor.Tensor) error {
		return flat[j].add(t[1], t[0], first)
	}); err != nil {
		return err
	}
	for _, u := range stage {
		if ms := sums[u]; ms != nil {
			err := o.solve(c, p, u, ms)
			if err != nil && c.Err() == nil {
				toNearest(c, u, err)
				err = o.roundNearest(c, p, u, means)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// toNearest says that a layer has no reconstruction.
func toNearest(c *passes.Context, u *unit, reason error) {
	c.Log.Warn("layer is rounded to nearest", "layer", u.name(), "reason", reason.Error())
}

// solve chooses the integers, grids and bias corrections of a unit from the
// moments of its layers.
func (o *Quantize) solve(c *passes.Context, p *placement, u *unit, ms []*moments) error {
	for _, m := range ms {
		m.centre(m.l.BiasNode != nil)
	}
	first := ms[0]
	for _, m := range ms[1:] { // shared weights serve all their users
		for g := range first.groups {
			first.xx[g].AddSym(first.xx[g], m.xx[g])
			first.yx[g].Add(first.yx[g], m.yx[g])
		}
	}
	problems := make([]*problem, first.groups)
	jobs := make([]func() error, first.groups)
	for g := range problems {
		jobs[g] = func() (err error) {
			problems[g], err = newProblem(first.xx[g])
			return err
		}
	}
	if err := inParallel(c.Threads, jobs); err != nil {
		return err
	}
	w := rowsOf(u.weight.Data, u.axis)
	group := func(row int) int { return row / first.rows }
	err := o.scaleRows(c, p, u, w, func(row int) []float64 {
		h := problems[group(row)].h
		d := make([]float64, first.k)
		for i := range d {
			d[i] = h.At(i, i)
		}
		return d
	})
	if err != nil {
		return err
	}
	refit := len(u.grids) == w.n && !o.Pow2
	floor := u.leastScale(p, w.n)
	u.codes = newCodes(w, u.signed)
	jobs = make([]func() error, w.n)
	for i := range w.n {
		jobs[i] = func() error {
			if err := c.Err(); err != nil {
				return err
			}
			r := w.row(i)
			t := mat.Row(nil, i%first.rows, first.yx[group(i)])
			q, g := problems[group(i)].row(r, t, u.gridOf(i), refit)
			if float64(g.scale) < floor[i] { // the bias would not fit
				q, g = problems[group(i)].row(r, t, u.gridOf(i), false)
			}
			if u.codes.set(i, q); refit {
				u.grids[i] = g
			}
			return nil
		}
	}
	if err := inParallel(c.Threads, jobs); err != nil {
		return err
	}
	for _, m := range ms {
		m.correct(u)
	}
	return nil
}

// correct sets the layer's bias correction so that its mean output is that of
// the float layer: Δb = E[y] − ŵ·E[x̂] − b.
func (m *moments) correct(u *unit) {
	l := m.l
	if l.BiasNode == nil {
		return
	}
	l.shift = make([]float64, l.Rows)
	var old []float64
	if b := l.Bias(); b != nil && l.BiasNode == l.Node { // y holds it already
		old = b.Data.Float64s()
	}
	for i := range l.shift {
		g := i / m.rows
		s := m.sy[g][i%m.rows]
		if old != nil {
			s -= old[i]
		}
		for j, x := range m.sx[g] {
			s -= float64(u.gridOf(i).value(u.codes.at(i, j)) * x)
		}
		l.shift[i] = s
	}
}
