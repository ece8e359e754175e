package bitlength

import (
	"github.com/thriftc/thriftc/passes"
)

// controller adapts γ so that the size follows a reference, which falls from
// where it starts to the target in the first part of the training and then stays.
//
// To the controller the bit lengths are an integrator with a disturbance: with the
// rate r of their descent (momentum counted in), dn_i/dt = −r·(γ·λ_i + ∂L_task/∂n_i), so the
// size u changes by −k·γ plus what the task wants, k = r·Σ λ_i·∂u/∂n_i. A
// proportional-integral controller of time constant τ,
//
//	γ = v/k + e/(τ·k) + ∫e/(4·τ²·k)
//
// with the error e = u − reference and the reference's slope v, is critically damped:
// both poles lie at −1/(2τ). γ is never negative, and the integral stops while γ is cut off.
type controller struct {
	m     *model
	goal  *goal
	start float64 // size at the beginning, in bits

	gamma    *passes.TrainScalar
	integral *passes.TrainScalar // of e, in steps
	rounding *passes.TrainScalar // by how much rounding to whole widths enlarges the size, averaged
}

const (
	rampPart     = 0.6  // of the training, in which the reference falls
	responsePart = 0.04 // of the training is the controller's time constant
	controlEvery = 10   // steps
	momentumGain = 10   // momentum 0.9 multiplies the effect of a gradient, and delays it by as many steps
	roundingRate = 0.05 // of the average that rounding is
)

func newController(m *model, g *goal) *controller {
	return &controller{
		m: m, goal: g, start: g.bits(m.stored()),
		gamma:    &passes.TrainScalar{Name: "gamma", Input: m.gamma},
		integral: &passes.TrainScalar{Name: "integral"},
		rounding: &passes.TrainScalar{Name: "rounding"},
	}
}

func (c *controller) scalars() []*passes.TrainScalar {
	return []*passes.TrainScalar{c.gamma, c.integral, c.rounding}
}

// update sets γ for the next steps.
func (c *controller) update(w widths, step, steps int) {
	if steps == 0 {
		return
	}
	done := min(float64(step)/float64(steps)/rampPart, 1)
	u := c.goal.bits(w)
	c.rounding.Value += roundingRate * (c.goal.bits(c.m.whole(w, nil)) - u - c.rounding.Value)
	e := u + done*c.rounding.Value - (c.start + (c.goal.target-c.start)*done)
	k := c.gain(w)
	if k <= 0 {
		return // all are at their limit
	}
	tau := max(responsePart*float64(steps), 4*momentumGain)
	forward := 0.0
	if done < 1 {
		forward = max(c.start-c.goal.target, 0) / (rampPart * float64(steps))
	}
	sum := c.integral.Value + controlEvery*e
	gamma := (forward + e/tau + sum/(4*tau*tau)) / k
	if gamma > 0 || e > 0 {
		c.integral.Value = sum
	}
	c.gamma.Value = max(gamma, 0)
}

// gain is how fast the size falls for γ = 1, in bits a step.
func (c *controller) gain(w widths) float64 {
	const h = 1e-3
	u := c.goal.bits(w)
	k := 0.0
	for i, q := range c.m.quants {
		if !q.learned {
			continue
		}
		n := w[i]
		moved := make([]float64, len(n))
		free := 0
		for j, x := range n {
			if moved[j] = x; x > float64(c.m.o.MinBits)+h {
				moved[j] = x - h
				free++
			}
		}
		if free == 0 {
			continue
		}
		w[i] = moved
		k += q.lambda * (u - c.goal.bits(w)) / h / float64(len(n))
		w[i] = n
	}
	return c.m.o.BitsRate * momentumGain * k
}
