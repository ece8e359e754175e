package quantize

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// calibrate streams the calibration data once through the float graph and
// chooses the grids of all groups. It returns the mean input of every layer, per channel.
func (o *Quantize) calibrate(c *passes.Context, g *ir.Graph, p *placement, units []*unit) (map[*layer][]float64, error) {
	var vals []*ir.Value
	index := map[*ir.Value]int{}
	watch := func(v *ir.Value) int {
		i, ok := index[v]
		if !ok {
			i = len(vals)
			index[v] = i
			vals = append(vals, v)
		}
		return i
	}
	hists := map[int]*histogram{}
	for _, grp := range p.groups {
		for _, v := range grp.sources {
			hists[watch(v)] = newHistogram()
		}
	}
	means := map[int]map[int]*channelMeans{} // by value and axis
	of := map[*layer]*channelMeans{}
	for _, u := range units {
		if u.bits == 0 || u.weight == nil {
			continue
		}
		for _, l := range u.layers {
			i := watch(l.Node.In[l.X])
			if means[i] == nil {
				means[i] = map[int]*channelMeans{}
			}
			if means[i][l.channelAxis()] == nil {
				means[i][l.channelAxis()] = &channelMeans{axis: l.channelAxis()}
			}
			of[l] = means[i][l.channelAxis()]
		}
	}
	err := stream(c, "calibrate", 0, []probe{{g, vals}}, func(j, _ int, ts []*tensor.Tensor) error {
		t := ts[0]
		if h := hists[j]; h != nil {
			if err := h.add(t.Float32s()); err != nil {
				return err
			}
		}
		for _, m := range means[j] {
			m.add(t)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("calibrating: %w", err)
	}
	for _, grp := range p.groups {
		h := newHistogram()
		for _, v := range grp.sources {
			h.merge(hists[index[v]])
		}
		if err := h.addTimes(grp.constants(), uint64(c.Calib.Len())); err != nil {
			return nil, err
		}
		if err := o.fitGroup(grp, h); err != nil {
			return nil, err
		}
	}
	out := map[*layer][]float64{}
	for l, m := range of {
		out[l] = m.mean()
	}
	return out, nil
}

// fitGroup chooses the grid of a group whose numbers are distributed like h.
func (o *Quantize) fitGroup(grp *group, h *histogram) error {
	grp.hist, grp.signed = h, o.isSigned(float64(h.min))
	var err error
	grp.grid, err = levelsOf(grp.bits, grp.signed, false).fit(h, o.Observer, 1-o.Percentile/100, o.ActAffine, o.Pow2)
	return err
}

// isSigned reports whether activations down to lo get signed integers.
func (o *Quantize) isSigned(lo float64) bool {
	return o.SignedActs || !o.ActAffine && lo < 0
}

// correctBias makes up for the mean error that rounding the weights of u puts
// into the outputs of its layers: Δb = Σ (w − ŵ)·E[x] (Nagel et al.,
// arXiv 1906.04721, eq. 16). Zero padding is taken for data.
func (u *unit) correctBias(c *passes.Context, m matrix, means map[*layer][]float64) error {
	for _, l := range u.layers {
		mean := means[l]
		if mean == nil || l.BiasNode == nil || u.axis < 0 || l.W == 0 || l.Node.Op.Name == "MatMul" && u.weight.Data.Rank() != 2 {
			continue
		}
		groups := 1
		if l.Node.HasAttr("group") {
			groups = l.Node.Int("group")
		}
		share := 1.0 // of the kernel that meets an output, on average
		if l.Node.Op.Name == "ConvTranspose" {
			if groups > 1 {
				continue
			}
			for _, s := range l.Node.Ints("strides") {
				share /= float64(s)
			}
		}
		l.shift = make([]float64, l.Rows)
		in := len(mean) / groups // channels that a row reads
		kernel := m.cols / in
		err := m.panels(c, c.Threads, func(first int, rows []float32) error {
			for i := first; len(rows) > 0; i++ {
				g, from := u.gridOf(i), i/(m.n/groups)*in
				for j, w := range rows[:m.cols] {
					d := float64(w) - g.value(u.codes.at(i, j))
					l.shift[i] += float64(d * float64(share*mean[from+j/kernel]))
				}
				rows = rows[m.cols:]
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
