package bitlength

import (
	"fmt"
	"time"

	"thriftc/ir/tensor"
)

// rounds is into how many trainings the time of a search is divided.
const rounds = 8

// trial is a model that the search has trained.
type trial struct {
	size   float64 // in bits
	score  float64
	w      widths
	values []*tensor.Tensor
}

// search looks for the smallest model whose held-out accuracy stays within the
// budget. It starts from 8 bits everywhere and goes down in steps, each a training of bit
// lengths and a fine-tuning that continue from the smallest model that kept to the budget. After
// the first that did not, it halves the gap. A target is the end of it. Every trial is offered, so that the best so far can be kept.
func (s *schedule) search() error {
	float, err := s.c.Score(s.c, s.m.g)
	if err != nil {
		return fmt.Errorf("scoring the float model: %w", err)
	}
	least := float - s.o.MaxDrop
	g := s.m.goalOf()
	floor := max(g.target, float64(s.o.MinBits))
	untrained, err := s.judge("untrained", g)
	if err != nil {
		return err
	}
	best := *untrained // within the budget, or with the highest score
	failed := 0.0      // the largest size smaller than that which did not keep to it
	for k := 1; k <= rounds; k++ {
		if best.size-max(failed, floor) < 0.125 || !s.c.Until.IsZero() && time.Until(s.c.Until) < 0 {
			break
		}
		g.target = next(best.size, failed, floor)
		s.m.restore(best.values)
		left := 1 / float64(rounds-k+1)
		if err := s.learn(fmt.Sprintf("learn-%d", k), g, s.shareOf(s.o.Learn/rounds, left*s.o.Learn)); err != nil {
			return err
		}
		s.m.freeze(s.m.whole(s.m.stored(), g))
		left = left * (1 - s.o.Learn) / (1 - left*s.o.Learn)
		if err := s.tune(fmt.Sprintf("tune-%d", k), s.shareOf((1-s.o.Learn)/rounds, left)); err != nil {
			return err
		}
		t, err := s.judge(fmt.Sprintf("tune-%d", k), g)
		if err != nil {
			return err
		}
		switch {
		case t.score >= least && (t.size < best.size || best.score < least), best.score < least && t.score > best.score:
			best = *t
		case t.size <= failed:
			return s.keep(best, float, least) // there is nothing between
		default:
			failed = t.size
		}
	}
	return s.keep(best, float, least)
}

// keep makes a trial the result.
func (s *schedule) keep(best trial, float, least float64) error {
	s.m.restore(best.values)
	s.c.Stat("score_float", float)
	s.c.Stat("score_quantised", best.score)
	s.c.Stat("budget_met", best.score >= least)
	if best.score < least {
		s.c.Log.Warn("the budget is not met", "float", float, "quantised", best.score, "least", least)
	}
	return nil
}

// next is the size to try after the smallest that kept to the budget: three
// quarters of it, or half way to one that did not.
func next(best, failed, least float64) float64 {
	if failed > 0 {
		return (best + failed) / 2
	}
	return max(0.75*best, least)
}

// judge scores what stands in the graph and offers it.
func (s *schedule) judge(name string, g *goal) (*trial, error) {
	t := &trial{w: s.m.stored(), values: s.m.snapshot()}
	t.size = g.bits(t.w)
	graph, err := s.m.finished(t.w, data)
	if err != nil {
		return nil, err
	}
	if t.score, err = s.c.Score(s.c, graph); err != nil {
		return nil, fmt.Errorf("scoring %s: %w", name, err)
	}
	return t, s.candidate(name, t.w, data, t.score)
}
