package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// run is one training that is going on.
type run struct {
	tr      *Trainer
	t       *passes.TrainRun
	recipe  Recipe
	step    *step
	feed    *dataset.Feed
	state   *backends.State
	exe     backends.Executable
	teacher backends.Executable
	started time.Time // of this process's part

	position
	id     identity
	best   map[string]*tensor.Tensor // with KeepBest: what Best stands for; nil before the first evaluation
	result map[string]*tensor.Tensor // of a finished run
}

// position is where a run stands: what a checkpoint holds besides tensors.
type position struct {
	Step    int     `json:"step"`    // steps done
	Steps   int     `json:"steps"`   // planned in all
	Due     bool    `json:"due"`     // what comes after the last step, such as an evaluation, is not done yet
	Done    bool    `json:"done"`    // the result is there
	Seconds float64 `json:"seconds"` // of training before this process

	Curve []Point `json:"curve"`
	First float64 `json:"first"` // loss of the first step
	Epoch tally   `json:"epoch"` // since the last point of the curve
	Since tally   `json:"since"` // since the last call of Each

	Best  float64 `json:"best"`  // largest held-out accuracy; −1 before the first evaluation
	Worse int     `json:"worse"` // evaluations since then

	Scalars []float64 `json:"scalars"`
}

// tally adds up what steps report.
type tally struct {
	Loss    float64 `json:"loss"`
	Right   int     `json:"right"`
	Samples int     `json:"samples"`
	Steps   int     `json:"steps"`
	Norm    float64 `json:"norm"`
}

func (t *tally) add(loss, norm float64, right, samples int) {
	t.Loss += loss
	t.Norm = max(t.Norm, norm)
	t.Right += right
	t.Samples += samples
	t.Steps++
}

func (t *tally) mean() (loss, accuracy float64) {
	if t.Steps == 0 {
		return 0, 0
	}
	return t.Loss / float64(t.Steps), float64(t.Right) / float64(t.Samples)
}

func (r *run) close() {
	if r.exe != nil {
		r.exe.Close()
	}
	if r.teacher != nil {
		r.teacher.Close()
	}
}

// epochs returns the epochs that a number of steps is, with no more digits than stepsOf
// needs to return that number.
func (r *run) epochs(steps int) float64 {
	exact := float64(steps) / float64(r.feed.PerEpoch())
	for digits := 1.0; digits < 1e9; digits *= 10 {
		if short := math.Round(exact*digits) / digits; r.stepsOf(short) == steps {
			return short
		}
	}
	return exact
}

func (r *run) elapsed() time.Duration {
	return time.Since(r.started) + time.Duration(r.Seconds*float64(time.Second))
}

// begin finds out how many steps to take, or goes on from a checkpoint; done
// says that it was the last one.
func (r *run) begin(ctx context.Context) (done bool, err error) {
	r.Best = -1
	for _, s := range r.t.Scalars {
		r.Scalars = append(r.Scalars, s.Value)
	}
	if r.tr.Dir != "" {
		r.id = r.identity()
	}
	if r.tr.Resume {
		found, err := r.resume()
		if err != nil {
			return false, err
		}
		if found {
			if r.tr.Point != nil {
				r.tr.Point(r.t.Name, r.Curve)
			}
			return r.Done, nil
		}
	}
	if r.tr.Dir != "" {
		if err := r.unused(); err != nil {
			return false, err
		}
	}
	r.Steps = r.stepsOf(r.t.Epochs)
	if r.t.Time > 0 {
		fit, err := r.measure(ctx)
		if err != nil {
			return false, err
		}
		if r.t.Epochs <= 0 || fit < r.Steps {
			r.Steps = fit
		}
		r.tr.Log.Info(fmt.Sprintf("training %g epochs (%d steps), which fit into %v", r.epochs(r.Steps), r.Steps, r.t.Time.Round(time.Second)))
	}
	if r.Steps < 1 {
		return false, fmt.Errorf("%g epochs are less than one step", r.t.Epochs)
	}
	if err := r.each(true, nil); err != nil {
		return false, err
	}
	return false, r.save() // shows that the folder can be written, and keeps the number of steps
}

func (r *run) stepsOf(epochs float64) int {
	return int(math.Round(epochs * float64(r.feed.PerEpoch())))
}

// Measuring the time of a step: after warming up, so many steps at least and at
// most, and so long at least.
const (
	measureWarmUp   = 2
	measureLeast    = 5
	measureMost     = 50
	measureTime     = 4 * time.Second
	measureEvals    = 10   // batches of an evaluation
	measureReserved = 0.03 // of the time, for what was not measured
)

// measure returns how many steps fit into the time that is given, and leaves
// the state as it was. Training is planned in tenths of an epoch, so that
// the number of epochs that is printed gives the same steps again.
func (r *run) measure(ctx context.Context) (int, error) {
	before := r.snapshot()
	next, stop, err := r.feed.Start(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer stop()
	r.Steps = max(r.Steps, r.feed.PerEpoch())
	var spent []time.Duration
	for began := time.Now(); len(spent) < measureWarmUp+measureMost; {
		if n := len(spent) - measureWarmUp; n >= measureLeast && time.Since(began) > measureTime {
			break
		}
		at := time.Now()
		b, err := next()
		if err != nil {
			return 0, err
		}
		if _, _, _, err := r.one(ctx, b); err != nil {
			return 0, err
		}
		spent = append(spent, time.Since(at))
	}
	r.restore(before)
	spent = spent[measureWarmUp:]
	slices.Sort(spent)
	each := spent[len(spent)/2]
	epoch := each * time.Duration(r.feed.PerEpoch())
	for _, set := range []*dataset.Set{r.tr.Val, r.tr.Eval} {
		if set == nil {
			continue
		}
		part := set.Take(measureEvals * evalBatch)
		at := time.Now()
		if _, err := r.evaluate(ctx, part); err != nil {
			return 0, err
		}
		epoch += time.Since(at) * time.Duration(set.Len()) / time.Duration(part.Len()*r.recipe.EvalEvery)
	}
	left := time.Duration(float64(r.t.Time)*(1-measureReserved)) - time.Since(r.started)
	tenths := math.Floor(10 * float64(left) / float64(epoch))
	if steps := r.stepsOf(tenths / 10); tenths > 0 && steps > 0 {
		return steps, nil
	}
	return 0, fmt.Errorf("the time of %v is too short: a tenth of an epoch takes %v", r.t.Time, (epoch / 10).Round(time.Millisecond))
}

// snapshot returns the present state; tensors never change, so that it holds no copies.
func (r *run) snapshot() map[string]*tensor.Tensor {
	out := map[string]*tensor.Tensor{}
	for _, name := range r.state.Names() {
		out[name] = r.state.Get(name)
	}
	return out
}

func (r *run) restore(s map[string]*tensor.Tensor) {
	for _, name := range r.state.Names() {
		if err := r.state.Set(name, s[name]); err != nil {
			panic(err) // s is a snapshot of this state
		}
	}
}

// one takes a step with a batch and returns the loss, the gradient's norm, and
// how many samples the logits were right about.
func (r *run) one(ctx context.Context, b *dataset.Batch) (loss, norm float64, right int, err error) {
	f := &feeding{batch: b, step: r.Step, steps: r.Steps}
	if r.teacher != nil {
		out, err := r.teacher.Run(ctx, b.In)
		if err != nil {
			return 0, 0, 0, fmt.Errorf("teacher: %w", err)
		}
		f.teacher = out[0]
	}
	out, err := r.exe.Run(ctx, r.step.inputs(f))
	if err != nil {
		return 0, 0, 0, err
	}
	logits := out[1].Float32s()
	classes := len(logits) / len(b.Labels)
	for i, l := range b.Labels {
		row := logits[i*classes:][:classes]
		if row[l] == slices.Max(row) {
			right++
		}
	}
	return float64(out[0].Float32s()[0]), float64(out[2].Float32s()[0]), right, nil
}

// loop trains to the end. When ctx ends, it writes a checkpoint and returns ctx's error.
func (r *run) loop(ctx context.Context) error {
	next, stop, err := r.feed.Start(ctx, r.Step)
	if err != nil {
		return err
	}
	defer stop()
	first, last := r.Step, r.Step // where this process began, and its last checkpoint
	for err == nil && (r.Due || r.Step < r.Steps && !r.Done) {
		if !r.Due {
			if err = r.advance(ctx, next); err != nil {
				break
			}
			if r.tr.Progress != nil {
				r.tr.Progress("training", r.Step-first, r.Steps-first)
			}
		}
		if err = r.between(ctx); err != nil {
			break
		}
		every := r.recipe.CheckpointEvery
		if every == 0 {
			every = r.feed.PerEpoch()
		}
		if r.Step%every == 0 && r.Step < r.Steps && !r.Done {
			// A full disk may be cleared while training goes on.
			if err := r.save(); err != nil {
				r.tr.Log.Warn(err.Error() + "; training goes on, an earlier checkpoint stands")
			} else {
				last = r.Step
			}
		}
	}
	if err == nil {
		err = r.finish(ctx)
	}
	if ctx.Err() != nil {
		err = nil
		if r.Step != last {
			err = r.save()
		}
		if r.tr.Dir != "" && err == nil {
			r.tr.Log.Info(fmt.Sprintf("interrupted after step %d of %d; --resume goes on from there", r.Step, r.Steps))
		}
		return errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return err
	}
	r.Done = true
	if err := r.save(); err != nil {
		r.tr.Log.Warn(err.Error() + "; the result is there all the same")
	}
	return nil
}

// advance takes one step.
func (r *run) advance(ctx context.Context, next func() (*dataset.Batch, error)) error {
	b, err := next()
	if err != nil {
		return err
	}
	loss, norm, right, err := r.one(ctx, b)
	if err != nil {
		return err
	}
	switch {
	case !finite(loss):
		return r.diverged(fmt.Sprintf("the loss became %g", loss), r.Step+1)
	case !finite(norm):
		return r.diverged(fmt.Sprintf("the gradients exploded: their norm became %g with a loss of %g", norm, loss), r.Step+1)
	}
	if r.Step == 0 {
		r.First = loss
	}
	r.Step++
	r.Due = true
	r.Epoch.add(loss, norm, right, len(b.Labels))
	r.Since.add(loss, norm, right, len(b.Labels))
	return nil
}

// diverged says that training has failed, and what the user can do.
func (r *run) diverged(what string, step int) error {
	advice := fmt.Sprintf("the learning rate %g is probably too large; try a smaller one", r.recipe.Rate)
	if r.recipe.Clip == 0 {
		advice += ", or clip: 1 in the recipe"
	}
	if step <= 1 {
		advice = "this is the first step, so that the weights or the data must be at fault"
	}
	return fmt.Errorf("%s at step %d (epoch %.2f): %s", what, step, r.epochs(step), advice)
}

// notFinite returns the name of what is exported that holds an infinity or NaN, or "".
func (r *run) notFinite() string {
	for _, name := range r.exportedNames() {
		for _, x := range r.value(name).Float32s() {
			if x-x != 0 {
				return "%" + name
			}
		}
	}
	return ""
}

// between does what is due after a step: an evaluation, the caller's Each, an early end.
func (r *run) between(ctx context.Context) error {
	per := r.feed.PerEpoch()
	last := r.Step == r.Steps
	var top1 *float64
	if r.Step%(per*r.recipe.EvalEvery) == 0 || last {
		var err error
		if top1, err = r.point(ctx); err != nil {
			return err
		}
	}
	every := r.t.Every
	if every == 0 {
		every = per
	}
	if r.Step%every == 0 || last || r.Done {
		if err := r.each(false, top1); err != nil {
			return err
		}
	}
	r.Due = false
	return nil
}

// each calls the caller's Each.
func (r *run) each(first bool, top1 *float64) error {
	if r.t.Each == nil {
		return nil
	}
	p := &passes.TrainProgress{
		Step: r.Step, Steps: r.Steps, Epoch: r.epochs(r.Step), Elapsed: r.elapsed(),
		Data: func(v *ir.Value) *tensor.Tensor { return r.value(v.Name) },
	}
	p.Loss, p.Accuracy = r.Since.mean()
	p.Accuracy *= 100
	if top1 != nil {
		percent := 100 * *top1
		p.Top1 = &percent
	}
	r.Since = tally{}
	stop, err := r.t.Each(p)
	for i, s := range r.t.Scalars {
		r.Scalars[i] = s.Value
	}
	r.Done = r.Done || stop && !first
	return err
}

const (
	explosion = 1e3 // the norm of a gradient that is worth a warning
	worsening = 100 // how many times the first loss means that training has failed
)

// point evaluates and adds a point to the curve; it returns the held-out accuracy.
func (r *run) point(ctx context.Context) (*float64, error) {
	if name := r.notFinite(); name != "" {
		return nil, r.diverged("weights "+name+" became infinite or NaN", r.Step)
	}
	p := Point{Epoch: r.epochs(r.Step), Step: r.Step, Norm: r.Epoch.Norm}
	p.Loss, p.Accuracy = r.Epoch.mean()
	if p.Loss > worsening*max(r.First, 1) {
		return nil, r.diverged(fmt.Sprintf("training diverges: the mean loss of an epoch is %.3g, that of the first step was %.3g", p.Loss, r.First), r.Step)
	}
	p.Rate = r.recipe.Rate * r.recipe.factor(r.Step-1, r.Steps)
	if p.Norm > explosion {
		r.tr.Log.Warn(fmt.Sprintf("the gradients explode: their norm was up to %.3g in the epoch before %.4g; try a smaller learning rate than %g, or clip", p.Norm, p.Epoch, r.recipe.Rate))
	}
	for _, s := range []struct {
		set *dataset.Set
		to  **float64
	}{{r.tr.Val, &p.Val}, {r.tr.Eval, &p.Eval}} {
		if s.set == nil {
			continue
		}
		acc, err := r.evaluate(ctx, s.set)
		if err != nil {
			return nil, err
		}
		*s.to = &acc
	}
	if p.Val != nil {
		if *p.Val > r.Best {
			r.Best, r.Worse = *p.Val, 0
			if r.recipe.KeepBest {
				r.best = r.exported()
			}
		} else {
			r.Worse++
		}
		if r.recipe.EarlyStop > 0 && r.Worse >= r.recipe.EarlyStop {
			r.tr.Log.Info(fmt.Sprintf("stopped at epoch %g: %d evaluations without a better one than %.2f %%", p.Epoch, r.Worse, 100*r.Best))
			r.Done = true
		}
	}
	p.Seconds = r.elapsed().Seconds()
	r.Epoch = tally{}
	r.Curve = append(r.Curve, p)
	if r.tr.Point != nil {
		r.tr.Point(r.t.Name, r.Curve)
	}
	return p.Val, nil
}

// trained describes the finished run.
func (r *run) trained() *passes.Trained {
	out := &passes.Trained{Steps: r.Step, Epochs: r.epochs(r.Step), Seconds: r.elapsed().Seconds()}
	for _, p := range r.Curve {
		q := passes.TrainedPoint{Epoch: p.Epoch, Loss: p.Loss}
		if p.Val != nil {
			percent := 100 * *p.Val
			q.Top1 = &percent
		}
		out.Curve = append(out.Curve, q)
	}
	return out
}
