package quantize

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// solution is a choice of grids and integers for a graph that is not changed yet.
type solution struct {
	o       *Quantize
	g       *ir.Graph
	p       *placement
	units   []*unit
	means   map[*layer][]float64
	skipped []skip
}

// graph returns a quantised copy of the graph; units with 0 bits stay in float.
func (s *solution) graph(units []*unit) (*ir.Graph, error) {
	p, err := s.o.gridsOf(place(units), s.p)
	if err != nil {
		return nil, err
	}
	t := copyOf(s.g)
	return t.r.Graph(), t.apply(p, units)
}

// Sensitivity is what quantising one layer alone does to the graph's outputs.
type Sensitivity struct {
	Layer string `json:"layer"`
	// SQNR is the power of the float outputs over that of the difference, in dB;
	// 200 when there is none.
	SQNR float64 `json:"sqnr_db"`
}

// settle measures sensitivities where asked, raises bits until the budget
// holds, and records what came out.
func (s *solution) settle(c *passes.Context) error {
	budget := s.o.MaxDrop >= 0 || s.o.MaxDropRelative >= 0
	var order []Sensitivity
	if s.o.Sensitivity || budget {
		if c.Calib == nil {
			return errors.New("sensitivity and max-drop need calibration data")
		}
		var err error
		if order, err = s.sensitivity(c); err != nil {
			return fmt.Errorf("measuring sensitivity: %w", err)
		}
		c.Stat("sensitivity", order)
	}
	if budget {
		if c.Score == nil {
			return errors.New("max-drop needs labelled data to measure the score on")
		}
		if err := s.meetBudget(c, order); err != nil {
			return err
		}
	}
	return s.report(c)
}

// sensitivity quantises each unit alone and compares the outputs on
// calibration data, most sensitive first.
func (s *solution) sensitivity(c *passes.Context) ([]Sensitivity, error) {
	float := results(s.g)
	if len(float) == 0 {
		return nil, errors.New("the graph has no f32 outputs")
	}
	var all []Sensitivity
	for i, u := range s.units {
		if u.bits == 0 {
			continue
		}
		// All others in float, without touching their choices.
		alone := *u
		g, err := s.graph([]*unit{&alone})
		if err != nil {
			return nil, err
		}
		probes := []probe{{s.g, float}, {g, results(g)}}
		signal, noise := make([]float64, len(float)), make([]float64, len(float))
		quiet := *c
		quiet.Progress = nil
		if err := stream(&quiet, "", s.o.SensitivitySamples, probes, func(j, _ int, t []*tensor.Tensor) error {
			y := t[1].Float32s()
			for k, x := range t[0].Float32s() {
				signal[j] += float64(x) * float64(x)
				noise[j] += square(float64(x) - float64(y[k]))
			}
			return nil
		}); err != nil {
			return nil, err
		}
		worst := 200.0
		for j := range float {
			worst = min(worst, decibel(signal[j], noise[j]))
		}
		all = append(all, Sensitivity{u.name(), worst})
		if c.Progress != nil {
			c.Progress("sensitivity", i+1, len(s.units))
		}
	}
	slices.SortStableFunc(all, func(a, b Sensitivity) int { return cmp.Compare(a.SQNR, b.SQNR) })
	return all, nil
}

// decibel returns the ratio of two powers in dB, at most 200.
func decibel(signal, noise float64) float64 {
	if noise <= 0 || signal/noise > 1e20 {
		return 200
	}
	return math.Round(1000*10*f32.Log64(signal/noise)/math.Ln10) / 1000
}

// results returns the graph's f32 outputs, or what a Softmax at the end makes
// them of: probabilities hide differences.
func results(g *ir.Graph) []*ir.Value {
	var out []*ir.Value
	for _, v := range g.Outputs {
		if v.Type.Elem != tensor.F32 {
			continue
		}
		if n := v.Def; n != nil && n.Op.Probabilities {
			v = n.In[0]
		}
		out = append(out, v)
	}
	return out
}

// rungs are the widths in bits that meetBudget raises units to.
var rungs = []int{4, 6, 8}

// trial is one choice of widths: the most sensitive raised units have rung
// bits, unless they started with more; the first none of all stay in float.
type trial struct {
	rung, raised, none int
	score              float64
	size               int // bits of all weights
}

// meetBudget raises the widths of units until the score is close enough to
// that of the float graph. For every rung it looks for the fewest of the most
// sensitive units that have to be raised to it, and keeps the rung with the
// smallest weights. Units stay in float only when eight bits for all are not enough.
func (s *solution) meetBudget(c *passes.Context, order []Sensitivity) error {
	float, err := c.Score(c, s.g)
	if err != nil {
		return fmt.Errorf("scoring the float graph: %w", err)
	}
	least := float - s.o.MaxDrop
	if s.o.MaxDropRelative >= 0 {
		least = float - float*s.o.MaxDropRelative/100
	}
	byName := map[string]*unit{}
	for _, u := range s.units {
		byName[u.name()] = u
	}
	var ranked []*unit
	for _, x := range order {
		ranked = append(ranked, byName[x.Layer])
	}
	start := make([]unit, len(ranked))
	shifts := map[*layer][]float64{}
	for i, u := range ranked {
		start[i] = *u
		for _, l := range u.layers {
			shifts[l] = l.shift
		}
	}
	set := func(t trial) error {
		for i, u := range ranked {
			*u = start[i]
			for _, l := range u.layers {
				l.shift = shifts[l]
			}
			if i < t.none {
				u.bits = 0
				for _, l := range u.layers {
					l.shift = nil
				}
				continue
			}
			if i >= t.raised {
				continue
			}
			u.bits = max(u.bits, t.rung)
			if u.actBits > 0 {
				u.actBits = max(u.actBits, t.rung)
			}
		}
		p, err := s.o.gridsOf(place(s.units), s.p)
		for i, u := range ranked {
			if i >= t.none && i < t.raised && start[i].bits < t.rung {
				err = errors.Join(err, s.o.roundNearest(c, p, u, s.means))
			}
		}
		return err
	}
	n := len(ranked)
	var best *trial
	tried, most := 0, 2+2*(len(rungs)+1)*bits.Len(uint(n))
	try := func(t trial) (bool, error) {
		if err := set(t); err != nil {
			return false, err
		}
		g, err := s.graph(s.units)
		if err != nil {
			return false, err
		}
		if t.score, err = c.Score(c, g); err != nil {
			return false, fmt.Errorf("scoring a quantised graph: %w", err)
		}
		for _, u := range ranked {
			t.size += u.size()
		}
		ok := t.score >= least
		switch {
		case best == nil, ok && best.score < least, ok && t.size < best.size, !ok && best.score < least && t.score > best.score:
			best = &t
		}
		tried++
		if c.Progress != nil {
			c.Progress("max-drop", tried, most)
		}
		return ok, nil
	}
	met, err := try(trial{})
	if err != nil {
		return err
	}
	if !met {
		for _, rung := range rungs {
			narrow := slices.ContainsFunc(start, func(u unit) bool { return u.bits < rung || u.actBits > 0 && u.actBits < rung })
			if !narrow {
				continue
			}
			ok, err := fewest(n, func(k int) (bool, error) { return try(trial{rung: rung, raised: k}) })
			if err != nil {
				return err
			}
			met = met || ok
		}
	}
	if !met {
		if met, err = fewest(n, func(k int) (bool, error) { return try(trial{rung: 8, raised: n, none: k}) }); err != nil {
			return err
		}
	}
	if c.Progress != nil {
		c.Progress("max-drop", most, most)
	}
	if err := set(*best); err != nil {
		return err
	}
	for i, u := range ranked {
		if i < best.none {
			s.skipped = append(s.skipped, skip{u.name(), "left in float by max-drop"})
		}
	}
	c.Stat("score_float", float)
	c.Stat("score_quantised", best.score)
	c.Stat("budget_met", met)
	if !met {
		c.Log.Warn("the budget is not met", "float", float, "quantised", best.score, "least", least)
	}
	return nil
}

// size returns the bits of the unit's weights.
func (u *unit) size() int {
	if u.weight == nil {
		return 0
	}
	width := u.bits
	if width == 0 {
		width = u.weight.Type.Elem.Bits()
	}
	return u.weight.Data.Len() * width
}

// fewest finds a small k in 1…n with f(k), trying 1, 2, 4, … and then halving
// the gap. The last call of f that was true is for the k that was found.
func fewest(n int, f func(int) (bool, error)) (bool, error) {
	lo := 0
	for k := 1; ; k = min(2*k, n) {
		ok, err := f(k)
		if err != nil {
			return false, err
		}
		if ok {
			for hi := k; hi-lo > 1; {
				mid := (lo + hi) / 2
				ok, err := f(mid)
				if err != nil {
					return false, err
				}
				if ok {
					hi = mid
				} else {
					lo = mid
				}
			}
			return true, nil
		}
		if k == n {
			return false, nil
		}
		lo = k
	}
}

// LayerReport is what became of one layer.
type LayerReport struct {
	Layer      string `json:"layer"`
	WeightBits int    `json:"weight_bits"`
	ActBits    int    `json:"act_bits"` // of its input; 0: float
	// SQNR is the power of the float weights over that of their rounding errors, in dB.
	SQNR float64 `json:"weight_sqnr_db,omitempty"`
}

// report records what became of the layers.
func (s *solution) report(c *passes.Context) error {
	final, err := s.o.gridsOf(place(s.units), s.p)
	if err != nil {
		return err
	}
	var out []LayerReport
	quantised := 0
	for _, u := range s.units {
		for _, l := range u.layers {
			r := LayerReport{Layer: l.Node.Label(), WeightBits: 32}
			if g := final.of[l.Node.In[l.X]]; g != nil {
				r.ActBits = g.bits
			}
			if u.bits > 0 {
				quantised++
			}
			if u.bits > 0 && u.weight != nil {
				r.WeightBits = u.bits
				signal, noise, err := u.noise(c, c.Threads)
				if err != nil {
					return err
				}
				r.SQNR = decibel(signal, noise)
			}
			out = append(out, r)
		}
	}
	c.Stat("layers_quantised", quantised)
	c.Stat("activations_quantised", len(final.of))
	c.Stat("layers", out)
	if len(s.skipped) > 0 {
		c.Stat("left_in_float", s.skipped)
	}
	return nil
}
