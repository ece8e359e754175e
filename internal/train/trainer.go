// Package train trains graphs by gradient descent. It builds the graph of one
// step (forward, loss, backward by package grad, the optimiser's update), runs it
// over the training data, and keeps checkpoints from which a run goes on bit
// for bit. It knows no command line and no file format but its checkpoints.
package train

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// Trainer is a passes.Trainer: the data and everything else that the trainings
// of one run have in common.
type Trainer struct {
	Engine  backends.Engine
	Threads int
	Seed    uint64
	Recipe  Recipe // for what a TrainRun leaves open

	Data *dataset.Set // to train on
	Val  *dataset.Set // held out of the training data, to choose by; nil: nothing is chosen
	Eval *dataset.Set // only reported on; nil: nothing is

	// Memory is what the results of a step may take, in bytes; beyond it some are
	// computed again instead of kept, which changes no number. 0: any.
	Memory int64

	Dir    string // for checkpoints; empty: none are written
	Resume bool   // go on from the last checkpoint in Dir
	Build  string // of this program: going on from a checkpoint of another one is warned of

	Log      *slog.Logger
	Progress func(what string, done, total int) // may be nil
	// Dump, if not nil, is given the graph of a step before it runs.
	Dump func(name string, g *ir.Graph) error
	// Point, if not nil, is told the curve up to now after every evaluation, and
	// once when a run is resumed.
	Point func(name string, curve []Point)
}

// Point is one line of the log of a training: what stood at the end of an epoch.
type Point struct {
	Epoch    float64  `json:"epoch"`
	Step     int      `json:"step"`
	Loss     float64  `json:"loss"`                // mean of the epoch's steps, without penalties
	Accuracy float64  `json:"train_top1"`          // on the augmented training batches, 0 to 1
	Val      *float64 `json:"val_top1,omitempty"`  // on the held-out part, 0 to 1
	Eval     *float64 `json:"eval_top1,omitempty"` // on the evaluation data, 0 to 1
	Rate     float64  `json:"rate"`                // learning rate of the last step
	Norm     float64  `json:"gradient_norm"`       // largest of the epoch's steps
	Seconds  float64  `json:"seconds"`             // of training up to now
}

var _ passes.Trainer = (*Trainer)(nil)

// Train implements passes.Trainer. An error about the training itself, such as
// a loss that is no number, says what the user can change.
func (tr *Trainer) Train(ctx context.Context, t *passes.TrainRun) (*passes.Trained, error) {
	r, err := tr.prepare(ctx, t)
	if err != nil {
		return nil, err
	}
	defer r.close()
	done, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	if !done {
		if err := r.loop(ctx); err != nil {
			return nil, err
		}
	}
	r.writeBack()
	return r.trained(), nil
}

// merge returns the recipe of one training.
func (tr *Trainer) merge(t *passes.TrainRun) Recipe {
	c := tr.Recipe
	c.Epochs, c.WarmUp, c.WeightDecay = t.Epochs, t.WarmUp, t.WeightDecay
	c.TeacherWeight, c.Reestimate, c.KeepBest = t.TeacherWeight, t.Reestimate, t.KeepBest
	if t.Optimizer != "" {
		c.Optimizer = t.Optimizer
	}
	if t.Rate != 0 {
		c.Rate = t.Rate
	}
	if t.Schedule != "" {
		c.Schedule = t.Schedule
	}
	return c
}

// prepare checks what is asked for, and makes everything that a run needs.
func (tr *Trainer) prepare(ctx context.Context, t *passes.TrainRun) (*run, error) {
	r := &run{tr: tr, t: t, recipe: tr.merge(t), started: time.Now()}
	if err := r.recipe.Check(); err != nil {
		return nil, err
	}
	if t.Epochs <= 0 && t.Time <= 0 {
		return nil, errors.New("neither a number of epochs nor a time to train is given")
	}
	if (r.recipe.KeepBest || r.recipe.EarlyStop > 0) && tr.Val == nil {
		return nil, errors.New("keep_best and early_stop choose by held-out data, of which there is none")
	}
	plain, err := r.inference(nil)
	if err != nil {
		return nil, err
	}
	src, err := tr.Data.For(freeBatch(plain))
	if err != nil {
		return nil, err
	}
	if r.step, err = newStep(t, &r.recipe, src.Shapes()); err != nil {
		return nil, err
	}
	if tr.Memory > 0 {
		if err := r.step.shrink(tr.Memory, tr.Log); err != nil {
			return nil, err
		}
	}
	if tr.Dump != nil {
		if err := tr.Dump(t.Name, r.step.graph); err != nil {
			return nil, err
		}
	}
	classes := r.step.graph.Outputs[1].Type.Dims[1].N
	if err := tr.checkLabels(classes); err != nil {
		return nil, err
	}
	if r.feed, err = dataset.NewFeed(src, r.recipe.Batch, classes, tr.Seed, r.recipe.Augment); err != nil {
		return nil, err
	}
	r.state = backends.NewState()
	if r.exe, err = tr.compile(ctx, r.step.graph, r.state); err != nil {
		return nil, err
	}
	if t.Teacher != nil && r.recipe.TeacherWeight > 0 {
		if err := r.compileTeacher(ctx, src.Shapes()); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

func (tr *Trainer) compile(ctx context.Context, g *ir.Graph, s *backends.State) (backends.Executable, error) {
	return tr.Engine.Compile(ctx, g, backends.Options{Threads: tr.Threads, State: s})
}

// checkLabels refuses labels that the model has no output for, and warns of
// classes that training will not see.
func (tr *Trainer) checkLabels(classes int) error {
	const show = 5
	var errs []error
	bad := 0
	for _, set := range []*dataset.Set{tr.Data, tr.Val, tr.Eval} {
		if set == nil || !set.Labelled() {
			continue
		}
		for i := range set.Len() {
			if l := set.Label(i); l >= classes || l < 0 {
				if bad++; bad <= show {
					errs = append(errs, fmt.Errorf("%s: %s: label %d, the model has %d outputs (0 to %d); see label_offset and label_column in the data description", set.File(), set.Name(i), l, classes, classes-1))
				}
			}
		}
	}
	if bad > show {
		errs = append(errs, fmt.Errorf("and %d more", bad-show))
	}
	if bad > 0 {
		return errors.Join(errs...)
	}
	if !tr.Data.Labelled() {
		return fmt.Errorf("%s: the training data has no labels", tr.Data.File())
	}
	counts := tr.Data.Counts(classes)
	var empty []int
	for c, n := range counts {
		if n == 0 {
			empty = append(empty, c)
		}
	}
	switch {
	case len(empty) == classes-1 && classes > 1:
		return fmt.Errorf("%s: all %d training samples are of one class; there is nothing to learn", tr.Data.File(), tr.Data.Len())
	case len(empty) > 0:
		tr.Log.Warn(fmt.Sprintf("%d of the model's %d classes have no training sample: %s", len(empty), classes, list(empty)))
	}
	return nil
}

// list writes the first numbers of a list.
func list(x []int) string {
	const show = 10
	s := fmt.Sprint(x[:min(len(x), show)])
	s = s[1 : len(s)-1]
	if len(x) > show {
		s += " …"
	}
	return s
}

// Run returns the training of all weights of g as the recipe says. unfolded says
// that Unfold gave it batch norms; its weights are of any scale then, and so are their rates.
func (tr *Trainer) Run(name string, g *ir.Graph, unfolded bool) *passes.TrainRun {
	c := &tr.Recipe
	params := Params(g, c.DecayAll)
	if unfolded {
		relativeRates(params, c.Rate)
	}
	return &passes.TrainRun{
		Name: name, Graph: g, Params: params, Epochs: c.Epochs,
		WarmUp: c.WarmUp, WeightDecay: c.WeightDecay, TeacherWeight: c.TeacherWeight, Reestimate: c.Reestimate, KeepBest: c.KeepBest,
	}
}
