package thriftc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/internal/train/arch"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// TrainOptions say what Train does. What is nil or zero is as the recipe says, or else as the command
// does it by default.
type TrainOptions struct {
	Output string // folder to write; made if it is not there

	// Data descriptions: to train on, to choose by where the recipe chooses, and to report on only.
	TrainData, ValData, EvalData string

	Recipe  string   // file of a recipe to follow; what is said beside it wins
	Teacher string   // model to imitate besides the labels; "": none
	Epochs  *float64 // how often to go through the data
	Batch   *int     // samples of a step
	Rate    *float64 // the largest learning rate
	Seed    *uint64  // of all randomness

	TimeBudget  time.Duration // train as many epochs as fit into this time; 0: no limit
	FromScratch bool          // draw the weights of a model file anew
	Resume      bool          // go on from the last checkpoint in Output
	Memory      int64         // bytes for a step's results: beyond it some are computed twice; 0: any
	Threads     int           // 0: all cores that the process may use

	DumpDir string // folder for the graph of a training step; "": none
	Command string // how report and recipe name the run; "": thriftc train MODEL

	Log      *slog.Logger // takes messages and warnings; nil: none
	Progress Progress
	Epoch    func(Epoch) // is told what every evaluation found; nil: is told nothing
}

// Epoch is a line of the log of a training: what stood at the end of an epoch.
type Epoch struct {
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

const archPrefix = "arch:"

// holdOutToChoose is the part of the training data that a recipe chooses by
// without --val-data.
const holdOutToChoose = 0.1

// makeRecipe joins the defaults, the recipe file and the options.
func (o *TrainOptions) makeRecipe(scratch bool, kind string) (*recipe, error) {
	base := train.FineTune()
	if scratch {
		base = train.Default()
	}
	if kind == "cifar10" || kind == "cifar100" {
		base.Augment = dataset.Augment{Crop: 4, Flip: true}
	}
	r := &recipe{Version: recipeVersion}
	if o.Recipe != "" {
		var err error
		if r, err = readRecipe(o.Recipe, base); err != nil {
			return nil, err
		}
	}
	if r.Train == nil {
		r.Train = &base
	}
	override(&r.Seed, o.Seed)
	override(&r.Train.Epochs, o.Epochs)
	override(&r.Train.Batch, o.Batch)
	override(&r.Train.Rate, o.Rate)
	err := r.Train.Check()
	switch {
	case o.TimeBudget < 0:
		err = errors.Join(err, fmt.Errorf("--time-budget %v is no length of time", o.TimeBudget))
	case o.TimeBudget > 0 && o.Epochs == nil:
		r.Train.Epochs = 0 // as many as fit
	case o.TimeBudget == 0 && r.Train.Epochs == 0:
		err = errors.Join(err, errors.New("epochs is 0: give --epochs or --time-budget"))
	}
	if err != nil {
		return nil, &Error{Kind: Usage, Err: err}
	}
	return r, nil
}

// trainData is the data of a training.
type trainData struct{ train, val, eval *dataset.Set }

func (o *TrainOptions) openData() (d trainData, err error) {
	var errs []error
	open := func(file string) *dataset.Set {
		if file == "" {
			return nil
		}
		s, err := dataset.Open(file)
		if err == nil && !s.Labelled() {
			err = fmt.Errorf("%s: there are no labels", file)
		}
		errs = append(errs, err)
		return s
	}
	d.train, d.val, d.eval = open(o.TrainData), open(o.ValData), open(o.EvalData)
	return d, errors.Join(errs...)
}

// open reads a model file, which must not be one that is written.
func (o *TrainOptions) open(file string, log *slog.Logger) (*Model, error) {
	m, err := openLogged(file, log)
	if err == nil {
		err = m.CheckOutput("-o", filepath.Join(o.Output, modelFile))
	}
	return m, err
}

// openModel reads the model to train or builds it.
func (o *TrainOptions) openModel(model string, d trainData, seed uint64, log *slog.Logger) (*ir.Graph, error) {
	name, isArch := strings.CutPrefix(model, archPrefix)
	if !isArch {
		m, err := o.open(model, log)
		return m.Graph, err
	}
	spec, err := arch.Parse(name)
	if err != nil {
		return nil, usageError("%w", err)
	}
	shapes, err := d.train.Shape()
	if err != nil {
		return nil, err
	}
	if len(shapes) != 1 || len(shapes[0]) != 3 || d.train.Preprocess().Layout == "nhwc" {
		return nil, &Error{Failed, fmt.Errorf("%s: %s takes pictures as channels, height, width; the records have shape %v", o.TrainData, model, shapes), "see layout in docs/data.md"}
	}
	spec.Input, spec.Classes = shapes[0], max(len(d.train.Classes()), 2)
	for i := range d.train.Len() {
		spec.Classes = max(spec.Classes, d.train.Label(i)+1)
	}
	return arch.Build(spec, ops.Table(), seed)
}

func (o *TrainOptions) check(model string) error {
	var errs []error
	if o.TrainData == "" {
		errs = append(errs, errors.New("--train-data is needed"))
	}
	errs = append(errs, checkOutput(o.Output))
	if o.FromScratch && strings.HasPrefix(model, archPrefix) {
		errs = append(errs, errors.New("--from-scratch is for model files; an architecture always is"))
	}
	if err := errors.Join(errs...); err != nil {
		return &Error{Kind: Usage, Err: err}
	}
	return nil
}

// Train trains a model file further, or a named architecture ("arch:resnet20") from scratch, and writes the
// folder o.Output. Log and checkpoints stand there while it runs, model, report and recipe when it is complete.
func Train(ctx context.Context, model string, o TrainOptions) (*Result, error) {
	start := time.Now()
	if err := o.check(model); err != nil {
		return nil, err
	}
	data, err := o.openData()
	if err != nil {
		return nil, err
	}
	rec, err := o.makeRecipe(strings.HasPrefix(model, archPrefix) || o.FromScratch, data.train.Kind())
	if err != nil {
		return nil, err
	}
	if data.val == nil && (rec.Train.KeepBest || rec.Train.EarlyStop > 0) {
		if data.train, data.val, err = data.train.Split(rec.Seed, holdOutToChoose); err != nil {
			return nil, &Error{Failed, fmt.Errorf("%s: %w", o.TrainData, err), "give --val-data"}
		}
	}
	rep := &report.Report{
		Version: Version, Model: model, Command: cmp.Or(o.Command, "thriftc train "+model), Seed: rec.Seed, Data: o.TrainData, EvalData: o.EvalData,
		Preprocess: data.train.Preprocess().String(), BudgetMet: true,
	}
	log := recording(o.Log, rep)
	g, err := o.openModel(model, data, rec.Seed, log)
	if err != nil {
		return nil, err
	}
	var teacher *ir.Graph
	if o.Teacher != "" {
		m, err := o.open(o.Teacher, log)
		if err != nil {
			return nil, err
		}
		teacher = m.Graph
	}
	out, err := newOutput(o.Output, o.Resume)
	if err != nil {
		return nil, err
	}
	defer out.close()
	ir.NewRewriter(g).SetMeta("thriftc.preprocess", rep.Preprocess)
	lines := &trainLog{dir: o.Output, log: log, told: o.Epoch}
	tr := &train.Trainer{
		Engine: interp.New(), Threads: o.Threads, Seed: rec.Seed, Recipe: *rec.Train,
		Data: data.train, Val: data.val, Eval: data.eval,
		Memory: o.Memory, Dir: filepath.Join(o.Output, checkpointsDir), Resume: o.Resume, Build: build(),
		Log: log, Progress: o.Progress, Point: lines.point,
	}
	before, unfolded := g.Clone(), false
	if !strings.HasPrefix(model, archPrefix) {
		if before, unfolded, err = o.prepareFile(ctx, tr, g); err != nil {
			return nil, err
		}
		rec.Train.Rate = tr.Recipe.Rate
	}
	if o.DumpDir != "" {
		tr.Dump = func(_ string, g *ir.Graph) error { return dumpStep(o.DumpDir, g) }
	}
	run := tr.Run("train", g, unfolded)
	run.Teacher = teacher
	if o.TimeBudget > 0 {
		run.Time = o.TimeBudget - time.Since(start)
	}
	done, err := tr.Train(ctx, run)
	if err != nil {
		return nil, err
	}
	if unfolded {
		if err := tr.Fold(ctx, g); err != nil {
			return nil, err
		}
	}
	if err := ops.Normalize(g); err != nil { // quantised weights are integers again
		return nil, err
	}
	rec.Train.Epochs = done.Epochs
	rep.Training = lines.points
	w := artefact{
		measurer: measurer{eval: data.eval, threads: o.Threads, rep: rep, progress: o.Progress}, out: out, rec: rec, start: start, format: onnx.QDQ,
	}
	// Training changes numbers only, so that the file was as large before.
	if err := w.write(ctx, before, g, 0, func() error { return lines.plot(out.path("curve")) }); err != nil {
		return nil, err
	}
	res := resultOf(rep)
	res.Epochs = done.Epochs
	return res, nil
}

// quantisedRate is the default learning rate for quantised models. They have no batch norms
// to hold the scale of activations: a 3-bit ResNet-20 diverged at 0.01, and at
// 0.0003 came from 83.5 to 88.4 % in 47 steps, both with a teacher.
const quantisedRate = 0.0003

// prepareFile brings a model from a file into the form to train, with batch norms where they
// were folded, floats behind quantisers where it has integers, and new weights if it starts
// from scratch, and returns it as it is before training.
func (o *TrainOptions) prepareFile(ctx context.Context, tr *train.Trainer, g *ir.Graph) (before *ir.Graph, unfolded bool, err error) {
	if unfolded, err = tr.Unfold(ctx, g); err != nil {
		return nil, false, err
	}
	if o.FromScratch {
		if err := train.Reinitialize(g, tr.Seed); err != nil {
			return nil, false, err
		}
	}
	before = g.Clone()
	n, err := ops.FakeQuantizeWeights(g)
	if err != nil {
		return nil, false, err
	}
	if n > 0 {
		tr.Log.Info(fmt.Sprintf("%d quantised weights and biases are trained as floats behind their quantisers; scales and widths stay as they are", n))
		if o.Rate == nil && o.Recipe == "" {
			tr.Recipe.Rate = quantisedRate
		}
	}
	if unfolded {
		tr.Log.Info("no batch norms: training with new ones, which are folded again at the end (keep_folded: true trains without)")
		err = tr.Fold(ctx, before)
	}
	return before, unfolded, err
}

// dumpStep writes the graph of a training step as text.
func dumpStep(dir string, g *ir.Graph) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, "step.tir"), func(w io.Writer) error { return ir.Print(w, g) })
}
