package bitlength

import (
	"fmt"
	"time"

	"github.com/thriftc/thriftc/ir/tensor"
)

// rounds is into how many trainings the time of a search is divided.
const rounds = 7

// trial is a model that the search has trained.
type trial struct {
	size   float64 // in bits
	score  float64
	w      widths
	values []*tensor.Tensor
}

// search looks for the smallest model whose held-out accuracy stays within the
// budget. It starts from the most bits everywhere and goes down in steps, each a training of bit
// lengths and a fine-tuning that continue from the smallest model that kept to the budget. After
// the first that did not, it halves the gap. A target is the end of it. Every trial is offered, so that the best so far can be kept.
//
// The first training changes no bits and is the reference: a model that was made with the
// data that is now held out knows it by heart, and forgets some of it in any further training. That
// must not be blamed on bits, so the budget counts from the reference where it is less accurate.
func (s *schedule) search() error {
	float, err := s.c.Score(s.c, s.m.g)
	if err != nil {
		return fmt.Errorf("scoring the float model: %w", err)
	}
	s.least = float - s.o.MaxDrop
	g := s.m.goalOf()
	floor := max(g.target, float64(s.o.MinBits))
	untrained, err := s.judge("untrained", g)
	if err != nil {
		return err
	}
	if err := s.tune("reference", s.shareOf(1./rounds, 1./rounds)); err != nil {
		return err
	}
	reference, err := s.judge("reference", g)
	if err != nil {
		return err
	}
	s.c.Stat("score_reference", reference.score)
	if reference.score < float {
		s.least = reference.score - s.o.MaxDrop
		s.c.Log.Info(fmt.Sprintf("held-out top-1 falls from %.2f to %.2f %% by further training with %d bits everywhere; the budget counts from there", float, reference.score, s.o.MaxBits))
	}
	best := *reference // within the budget
	failed := 0.0      // the largest size smaller than that which did not keep to it
	for k := 2; k <= rounds; k++ {
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
		if t.score >= s.least && t.size < best.size {
			best = *t
		} else if t.size > failed {
			failed = t.size
		} else {
			break // there is nothing between
		}
	}
	if untrained.size <= best.size && untrained.score > best.score {
		best = *untrained
	}
	s.m.restore(best.values)
	s.c.Stat("score_float", float)
	s.c.Stat("score_quantised", best.score)
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
