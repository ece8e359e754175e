package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

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

type trainOptions struct {
	trainData, valData, evalData, recipe, teacher, output string

	epochs      float64
	budget      time.Duration
	batch       int
	rate        float64
	seed        uint64
	fromScratch bool
	resume      bool
	memory      byteSize
	dumpDir     string
	threads     int
	asJSON      bool
}

const archPrefix = "arch:"

func newTrain() *cobra.Command {
	var o trainOptions
	c := &cobra.Command{
		Use:   "train MODEL.onnx|arch:NAME --train-data DESC.yaml -o OUT/",
		Short: "Train a model, from a file or from scratch",
		Long: `Train a model file further, or a named architecture from scratch, and write a
folder with

  model.onnx       the trained model
  report.json      parameters, bytes, accuracy and time per image, before and after
  recipe.yaml      repeats the run: thriftc train MODEL --recipe recipe.yaml …
  log.jsonl        one line per evaluation
  curve.svg, .png  loss and accuracy
  checkpoints/     from which --resume goes on, bit for bit

Architectures: ` + arch.Names() + `.
Options stand in braces: arch:resnet20{width=32,shortcut=pad}.

--eval-data is only reported on. --val-data, or where the recipe chooses by
accuracy (keep_best, early_stop) a seeded 10 % of --train-data, is held out to
choose by. With --time-budget the number of epochs is fixed once a step's time is
measured; it is printed, and --epochs with it repeats the run. docs/training.md
explains the recipe.`,
		Example: `  thriftc train arch:resnet20 --train-data train.yaml --eval-data test.yaml --time-budget 45m -o out/
  thriftc train model.onnx --train-data train.yaml --epochs 5 --teacher big.onnx -o out/`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runTrain(c, args[0], &o) },
	}
	f := c.Flags()
	f.StringVar(&o.trainData, "train-data", "", "data description: to train on")
	f.StringVar(&o.valData, "val-data", "", "data description: to choose by, where the recipe chooses")
	f.StringVar(&o.evalData, "eval-data", "", "data description: reported on, never used to choose")
	f.StringVarP(&o.output, "output", "o", "", "folder to write")
	f.StringVar(&o.recipe, "recipe", "", "recipe to follow; flags given beside it win")
	f.Float64Var(&o.epochs, "epochs", 0, "how often to go through the data (default: the recipe's)")
	f.DurationVar(&o.budget, "time-budget", 0, "train as many epochs as fit into this time, such as 45m")
	f.IntVar(&o.batch, "batch", 0, "samples of a step (default: the recipe's)")
	f.Float64Var(&o.rate, "rate", 0, "the largest learning rate (default: the recipe's)")
	f.StringVar(&o.teacher, "teacher", "", "model to imitate besides the labels")
	f.BoolVar(&o.fromScratch, "from-scratch", false, "draw the weights of the model file anew")
	f.BoolVar(&o.resume, "resume", false, "go on from the last checkpoint in OUT")
	f.Var(&o.memory, "memory-budget", "memory for a step's results, such as 200MiB: beyond it some are computed twice; 0: any")
	f.Uint64Var(&o.seed, "seed", 0, "of all randomness")
	f.StringVar(&o.dumpDir, "dump-dir", "", "folder for the graph of a training step, as text (step.tir)")
	f.BoolVar(&o.asJSON, "json", false, "print JSON lines, as where the output is no terminal: one per evaluation, then the report")
	addThreads(c, &o.threads)
	return c
}

// holdOutToChoose is the part of the training data that a recipe chooses by
// without --val-data.
const holdOutToChoose = 0.1

// trainRecipe joins the defaults, the recipe file and the flags.
func trainRecipe(c *cobra.Command, o *trainOptions, scratch bool, kind string) (*recipe, error) {
	base := train.FineTune()
	if scratch {
		base = train.Default()
	}
	if kind == "cifar10" || kind == "cifar100" {
		base.Augment = dataset.Augment{Crop: 4, Flip: true}
	}
	r := &recipe{Version: recipeVersion}
	if o.recipe != "" {
		var err error
		if r, err = readRecipe(o.recipe, base); err != nil {
			return nil, err
		}
	}
	if r.Train == nil {
		r.Train = &base
	}
	given := c.Flags().Changed
	if given("seed") || o.recipe == "" {
		r.Seed = o.seed
	}
	if given("epochs") {
		r.Train.Epochs = o.epochs
	}
	if given("batch") {
		r.Train.Batch = o.batch
	}
	if given("rate") {
		r.Train.Rate = o.rate
	}
	err := r.Train.Check()
	if given("time-budget") {
		if o.budget <= 0 {
			err = errors.Join(err, fmt.Errorf("--time-budget %v is no length of time", o.budget))
		}
		if !given("epochs") {
			r.Train.Epochs = 0 // as many as fit
		}
	} else if r.Train.Epochs == 0 {
		err = errors.Join(err, errors.New("epochs is 0: give --epochs or --time-budget"))
	}
	if err != nil {
		return nil, &exitError{code: exitUsage, err: err}
	}
	return r, nil
}

// trainData is the data of a training.
type trainData struct{ train, val, eval *dataset.Set }

func openTrainData(o *trainOptions) (d trainData, err error) {
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
	d.train, d.val, d.eval = open(o.trainData), open(o.valData), open(o.evalData)
	return d, errors.Join(errs...)
}

// trainModel reads the model to train or builds it.
func trainModel(c *cobra.Command, model string, o *trainOptions, d trainData, seed uint64) (*ir.Graph, error) {
	name, isArch := strings.CutPrefix(model, archPrefix)
	if !isArch {
		return readModel(model, c.ErrOrStderr())
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
		return nil, &exitError{exitFailed, fmt.Errorf("%s: %s takes pictures as channels, height, width; the records have shape %v", o.trainData, model, shapes), "see layout in docs/data.md"}
	}
	spec.Input, spec.Classes = shapes[0], max(len(d.train.Classes()), 2)
	for i := range d.train.Len() {
		spec.Classes = max(spec.Classes, d.train.Label(i)+1)
	}
	return arch.Build(spec, ops.Table(), seed)
}

func checkTrainFlags(model string, o *trainOptions) error {
	var errs []error
	if o.trainData == "" {
		errs = append(errs, errors.New("--train-data is needed"))
	}
	if o.output == "" {
		errs = append(errs, errors.New("-o is needed: the folder to write"))
	} else if st, err := os.Stat(o.output); err == nil && !st.IsDir() {
		errs = append(errs, fmt.Errorf("-o %s: is a file; give a folder", o.output))
	}
	if o.fromScratch && strings.HasPrefix(model, archPrefix) {
		errs = append(errs, errors.New("--from-scratch is for model files; an architecture always is"))
	}
	if len(errs) > 0 {
		return &exitError{code: exitUsage, err: errors.Join(errs...)}
	}
	return nil
}

func runTrain(c *cobra.Command, model string, o *trainOptions) error {
	start := time.Now()
	if err := checkTrainFlags(model, o); err != nil {
		return err
	}
	data, err := openTrainData(o)
	if err != nil {
		return err
	}
	rec, err := trainRecipe(c, o, strings.HasPrefix(model, archPrefix) || o.fromScratch, data.train.Kind())
	if err != nil {
		return err
	}
	if data.val == nil && (rec.Train.KeepBest || rec.Train.EarlyStop > 0) {
		if data.train, data.val, err = data.train.Split(rec.Seed, holdOutToChoose); err != nil {
			return &exitError{exitFailed, fmt.Errorf("%s: %w", o.trainData, err), "give --val-data"}
		}
	}
	g, err := trainModel(c, model, o, data, rec.Seed)
	if err != nil {
		return err
	}
	var teacher *ir.Graph
	if o.teacher != "" {
		if teacher, err = readModel(o.teacher, c.ErrOrStderr()); err != nil {
			return err
		}
	}
	ir.NewRewriter(g).SetMeta("thriftc.preprocess", data.train.Preprocess().String())
	rep := &report.Report{
		Version: version, Model: model, Command: commandLine(c, model), Seed: rec.Seed, Data: o.trainData, EvalData: o.evalData,
		Preprocess: data.train.Preprocess().String(), BudgetMet: true,
	}
	log := slog.New(&lineHandler{w: c.ErrOrStderr(), warn: rep.Warn})
	lines := &trainLog{c: c, dir: o.output, log: log, asJSON: o.asJSON}
	bar := newProgress(c)
	defer bar.Clear()
	lines.clear = bar.Clear
	tr := &train.Trainer{
		Engine: interp.New(), Threads: o.threads, Seed: rec.Seed, Recipe: *rec.Train,
		Data: data.train, Val: data.val, Eval: data.eval,
		Memory: int64(o.memory), Dir: filepath.Join(o.output, "checkpoints"), Resume: o.resume, Build: build(),
		Log: log, Progress: bar.Update, Point: lines.point,
	}
	before, unfolded := g.Clone(), false
	if !strings.HasPrefix(model, archPrefix) {
		if before, unfolded, err = prepareFile(c, tr, g, o.fromScratch); err != nil {
			return err
		}
		rec.Train.Rate = tr.Recipe.Rate
	}
	if o.dumpDir != "" {
		tr.Dump = func(_ string, g *ir.Graph) error { return dumpStep(o.dumpDir, g) }
	}
	run := tr.Run("train", g, unfolded)
	run.Teacher = teacher
	if o.budget > 0 {
		run.Time = o.budget - time.Since(start)
	}
	done, err := tr.Train(c.Context(), run)
	bar.Clear()
	if err != nil {
		return err
	}
	if unfolded {
		if err := tr.Fold(c.Context(), g); err != nil {
			return err
		}
	}
	if err := ops.Normalize(g); err != nil { // quantised weights are integers again
		return err
	}
	rec.Train.Epochs = done.Epochs
	rep.Training = lines.points
	return writeTrained(c, o, rec, rep, before, g, data, start, lines)
}

// quantisedRate is the default learning rate for quantised models. They have no batch norms
// to hold the scale of activations: a 3-bit ResNet-20 diverged at 0.01, and at
// 0.0003 came from 83.5 to 88.4 % in 47 steps, both with a teacher.
const quantisedRate = 0.0003

// prepareFile brings a model from a file into the form to train, with batch norms where they
// were folded, floats behind quantisers where it has integers, and new weights if it starts
// from scratch, and returns it as it is before training.
func prepareFile(c *cobra.Command, tr *train.Trainer, g *ir.Graph, fromScratch bool) (before *ir.Graph, unfolded bool, err error) {
	if unfolded, err = tr.Unfold(c.Context(), g); err != nil {
		return nil, false, err
	}
	if fromScratch {
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
		if !c.Flags().Changed("rate") && !c.Flags().Changed("recipe") {
			tr.Recipe.Rate = quantisedRate
		}
	}
	if unfolded {
		tr.Log.Info("no batch norms: training with new ones, which are folded again at the end (keep_folded: true trains without)")
		err = tr.Fold(c.Context(), before)
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

// writeTrained writes the artefact of a finished training.
func writeTrained(c *cobra.Command, o *trainOptions, rec *recipe, rep *report.Report, before, after *ir.Graph, data trainData, start time.Time, lines *trainLog) error {
	out, err := newOutput(o.output)
	if err != nil {
		return fmt.Errorf("-o %s cannot be written: %w", o.output, err)
	}
	defer out.discard()
	w := artefact{
		measurer: measurer{c: c, eval: data.eval, threads: o.threads, rep: rep}, out: out, rec: rec, start: start, format: onnx.QDQ,
	}
	// Training changes numbers only, so that the file was as large before.
	if err := w.write(before, after, 0, func() error { return lines.plot(out.path("curve")) }); err != nil {
		return err
	}
	if o.asJSON || !isTerminal(c.OutOrStdout()) {
		text, err := rep.Encode()
		if err != nil {
			return err
		}
		var line bytes.Buffer // after those of the epochs
		if err := json.Compact(&line, text); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), line.String())
		return err
	}
	if err := rep.Table().Write(c.OutOrStdout(), true); err != nil {
		return err
	}
	for _, s := range rep.NotMeasured {
		fmt.Fprintln(c.OutOrStdout(), "not measured:", s)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%g epochs in %v; written to %s: model.onnx, report.json, recipe.yaml, log.jsonl, curve.svg\n",
		rec.Train.Epochs, time.Since(start).Round(time.Second), o.output)
	return err
}
