package train

import (
	"math"

	"github.com/thriftc/thriftc/internal/f32"
)

// One-cycle training (Smith and Topin, arXiv 1708.07120) begins at 1/25 of the
// largest rate and ends at 1/10,000 of it.
const (
	cycleStart = 1. / 25
	cycleEnd   = 1e-4
)

// factor returns the learning rate of a step, counted from 0, as a part of the largest one.
func (r *Recipe) factor(step, steps int) float64 {
	at, warm := float64(step), math.Round(float64(r.WarmUp*float64(steps)))
	if at < warm {
		from := 0.0
		if r.Schedule == "one-cycle" {
			from = cycleStart
		}
		return from + float64((1-from)*((at+1)/(warm+1)))
	}
	part := (at - warm) / math.Max(float64(steps)-warm, 1) // 0 … 1 of what follows the warm-up
	switch r.Schedule {
	case "one-cycle":
		return cycleEnd + float64((1-cycleEnd)*halfCosine(part))
	case "cosine":
		return halfCosine(part)
	case "step":
		f := 1.0
		for _, m := range r.Milestones {
			if at >= float64(m*float64(steps)) {
				f *= r.Gamma
			}
		}
		return f
	}
	return 1
}

// halfCosine falls from 1 at 0 to 0 at 1.
func halfCosine(x float64) float64 { return (1 + f32.Cos64(float64(math.Pi*x))) / 2 }

// average returns how far averaged weights move towards the present ones at a
// step: 1 − ema, but more at the beginning, when there is little to average.
func (r *Recipe) average(step int) float64 {
	return 1 - math.Min(r.EMA, float64(1+step)/float64(10+step))
}
