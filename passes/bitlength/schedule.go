package bitlength

import (
	"fmt"
	"slices"
	"time"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// schedule runs the trainings of a pass.
type schedule struct {
	o *Bitlength
	c *passes.Context
	m *model

	began time.Time
	least float64 // the score that max-drop asks for; 0: any
}

// reserve is the part of the time budget that is left for scoring and writing.
const reserve = 0.03

// warmUp is the part of a training in which the rates rise.
const warmUp = 0.02

// share is how long a training may take: a part of the epochs and of the time that is left.
type share struct {
	epochs float64
	time   time.Duration
}

// atLeast is the part of its share of the whole time that a training gets even
// when those before it took longer than they were planned to.
const atLeast = 0.25

// shareOf returns a part of all epochs and a part of the time that is left.
func (s *schedule) shareOf(epochs, left float64) share {
	sh := share{epochs: s.o.Epochs * epochs}
	if !s.c.Until.IsZero() {
		part := func(d time.Duration, x float64) time.Duration { return time.Duration(float64(d) * x * (1 - reserve)) }
		sh.time = max(part(time.Until(s.c.Until), left), part(s.c.Until.Sub(s.began), epochs*atLeast))
	} else if s.o.Epochs == 0 {
		sh.epochs = defaultEpochs * epochs
	}
	return sh
}

// single trains for a target, a γ, or a uniform width.
func (s *schedule) single() error {
	if s.o.Uniform > 0 {
		if err := s.offer("untrained", s.m.stored(), data); err != nil {
			return err
		}
		return s.tune(fmt.Sprintf("uniform-%d", s.o.Uniform), s.shareOf(1, 1))
	}
	var g *goal
	if s.o.Gamma < 0 {
		g = s.m.goalOf()
	}
	if err := s.offer("untrained", s.m.stored(), data); err != nil {
		return err
	}
	if err := s.learn("learn", g, s.shareOf(s.o.Learn, s.o.Learn)); err != nil {
		return err
	}
	s.c.Stat("learned", s.m.learned())
	s.m.freeze(s.m.whole(s.m.stored(), g))
	if err := s.offer("rounded", s.m.stored(), data); err != nil {
		return err
	}
	return s.tune("tune", s.shareOf(1-s.o.Learn, 1))
}

// learn trains weights, ranges and bit lengths; without a goal γ is fixed.
func (s *schedule) learn(name string, g *goal, sh share) error {
	run := s.training(name, sh)
	run.Penalty, run.Schedule, run.Params = s.m.penalty, "constant", s.m.params
	if g == nil {
		gamma := &passes.TrainScalar{Name: "gamma", Input: s.m.gamma, Value: s.o.Gamma}
		run.Scalars = []*passes.TrainScalar{gamma}
	} else {
		control := newController(s.m, g)
		defer func() { s.c.Stat("gamma", control.gamma.Value) }()
		run.Scalars, run.Every = control.scalars(), controlEvery
		run.Each = func(p *passes.TrainProgress) (bool, error) {
			w := s.m.now(func(q *quantiser) []float32 {
				if !q.learned {
					return q.bits.Data.Float32s()
				}
				return p.Data(q.bits).Float32s()
			})
			control.update(w, p.Step, p.Steps)
			return false, nil
		}
	}
	return s.train(run)
}

// tune trains with the bit lengths as they are.
func (s *schedule) tune(name string, sh share) error {
	run := s.training(name, sh)
	run.Schedule, run.Reestimate = "cosine", reestimateBatches
	run.Params = slices.DeleteFunc(slices.Clone(s.m.params), func(p passes.TrainParam) bool {
		return slices.ContainsFunc(s.m.quants, func(q *quantiser) bool { return q.bits == p.Value })
	})
	w := s.m.stored()
	run.Each = func(p *passes.TrainProgress) (bool, error) {
		if p.Top1 == nil || p.Step == 0 {
			return false, nil
		}
		return false, s.candidate(name, w, p.Data, *p.Top1)
	}
	return s.train(run)
}

// reestimateBatches are run for the final statistics of batch norms.
const reestimateBatches = 50

func (s *schedule) training(name string, sh share) *passes.TrainRun {
	run := &passes.TrainRun{
		Name: name, Graph: s.m.t, Epochs: sh.epochs, Time: sh.time,
		Optimizer: "nesterov", Rate: s.o.Rate, WarmUp: warmUp, WeightDecay: s.o.WeightDecay,
	}
	if s.m.gamma != nil {
		run.Scalars = []*passes.TrainScalar{{Name: "gamma", Input: s.m.gamma}}
	}
	if s.o.TeacherWeight > 0 {
		run.Teacher, run.TeacherWeight = s.m.g, s.o.TeacherWeight
	}
	return run
}

func (s *schedule) train(run *passes.TrainRun) error {
	done, err := s.c.Trainer.Train(s.c, run)
	if err != nil {
		return fmt.Errorf("training %s: %w", run.Name, err)
	}
	s.c.Stat("training_"+run.Name, done)
	return nil
}

// data returns what stands in the graph.
func data(v *ir.Value) *tensor.Tensor { return v.Data }

// offer scores the graph with the given widths and hands it over as a candidate.
func (s *schedule) offer(name string, w widths, get func(*ir.Value) *tensor.Tensor) error {
	if s.c.Offer == nil || s.c.Score == nil {
		return nil
	}
	g, err := s.m.finished(w, get)
	if err != nil {
		return err
	}
	score, err := s.c.Score(s.c, g)
	if err != nil {
		return fmt.Errorf("scoring %s: %w", name, err)
	}
	return s.c.Offer(passes.Candidate{Name: name, Graph: g, Size: s.size(w), Score: score, Least: s.least})
}

// candidate is offer with a score that is known.
func (s *schedule) candidate(name string, w widths, get func(*ir.Value) *tensor.Tensor, score float64) error {
	if s.c.Offer == nil {
		return nil
	}
	g, err := s.m.finished(w, get)
	if err != nil {
		return err
	}
	return s.c.Offer(passes.Candidate{Name: name, Graph: g, Size: s.size(w), Score: score, Least: s.least})
}

// size is what a candidate is judged by besides its accuracy: with a target
// how far it is beyond it, in bits.
func (s *schedule) size(w widths) float64 {
	g := s.m.goalOf()
	if g.target > 0 && s.o.MaxDrop < 0 {
		return max(g.bits(w)-g.target, 0)
	}
	return g.bits(w)
}

// freeze makes the bit lengths what w says.
func (m *model) freeze(w widths) {
	r := ir.NewRewriter(m.t)
	for i, q := range m.quants {
		if !q.learned {
			continue
		}
		n := make([]float32, len(w[i]))
		for j, x := range w[i] {
			n[j] = float32(x)
		}
		r.SetData(q.bits, tensor.Of(n, q.bits.Data.Shape()...))
	}
}

// snapshot remembers all numbers of the graph for training.
func (m *model) snapshot() []*tensor.Tensor {
	var out []*tensor.Tensor
	for _, v := range m.t.Consts {
		out = append(out, v.Data)
	}
	return out
}

// restore puts back a snapshot.
func (m *model) restore(s []*tensor.Tensor) {
	r := ir.NewRewriter(m.t)
	for i, v := range m.t.Consts {
		r.SetData(v, s[i])
	}
}
