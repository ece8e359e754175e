package bitlength

import (
	"errors"
	"fmt"
	"math"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// span is a range of numbers.
type span struct{ lo, hi float64 }

// calibrationBatch is how many samples are run at once.
const calibrationBatch = 32

// calibrate returns the least and greatest numbers on the edges of each site
// over the calibration data.
func calibrate(c *passes.Context, g *ir.Graph, sites []*site) ([]span, error) {
	if c.Engine == nil {
		return nil, errors.New("there is no engine to run the model with")
	}
	probe, vals := g.CloneMap()
	r := ir.NewRewriter(probe)
	var outs []*ir.Value
	var of []int // by output: its site
	for i, s := range sites {
		for _, v := range s.values() {
			b := &builder{r: r, prefix: v.Name}
			for _, op := range []string{"ReduceMin", "ReduceMax"} {
				y := b.add(op, "_limit", ir.MakeAttrs("keepdims", 0), vals[v])
				if b.err != nil {
					return nil, fmt.Errorf("%%%s: %w", v.Name, b.err)
				}
				outs, of = append(outs, y), append(of, i)
			}
		}
	}
	r.SetOutputs(outs...)
	r.RemoveUnused()
	exe, err := c.Engine.Compile(c, probe, backends.Options{Threads: c.Threads})
	if err != nil {
		return nil, fmt.Errorf("calibrating: %w", err)
	}
	defer exe.Close()
	spans := make([]span, len(sites))
	for in, err := range c.Calib.Batches(calibrationBatch) {
		if err != nil {
			return nil, fmt.Errorf("calibrating: %w", err)
		}
		out, err := exe.Run(c, in)
		if err != nil {
			return nil, fmt.Errorf("calibrating: %w", err)
		}
		for k, t := range out {
			x := t.Float64s()[0]
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return nil, fmt.Errorf("calibrating: %%%s holds numbers that are not finite", outs[k].Def.In[0].Name)
			}
			s := &spans[of[k]]
			s.lo, s.hi = min(s.lo, x), max(s.hi, x)
		}
	}
	return spans, nil
}
