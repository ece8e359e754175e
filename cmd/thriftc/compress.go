package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

const (
	defaultCalibSamples = 300
	holdOut             = 0.2  // part of --data that is only reported on, without --eval-data
	scoreSamples        = 4000 // most samples of --data that a choice is scored on
	defaultPipeline     = "ptq"
	trainingPipeline    = "bits" // with training data
)

type compressOptions struct {
	data, trainData, evalData, recipe, passes, output string

	timeBudget                   time.Duration
	resume                       bool
	weightBits, actBits          int
	pow2, recon, perTensor       bool
	exclude                      []string
	format                       string
	opset, calibSamples, threads int
	targetBits, targetBops       float64
	targetBytes                  int
	maxDrop                      float64
	seed                         uint64
	dumpDir                      string
	asJSON                       bool
}

func newCompress() *cobra.Command {
	var o compressOptions
	c := &cobra.Command{
		Use:   "compress MODEL.onnx [--data DESC.yaml] -o OUT/",
		Short: "Compress a model and report what changed",
		Long: `Compress a model: fold it, quantise it, and write a folder with

  model.onnx    the compressed model
  report.json   parameters, bytes, MACs, accuracy and time per image, before and after
  recipe.yaml   repeats the run: thriftc compress MODEL --recipe recipe.yaml …

--data calibrates and chooses; --eval-data is only reported on. Passes that
train take --train-data instead: a seeded 10 % of it is held out to choose by. While
they train, the best model so far stands in the folder, with journal.jsonl and
front.json about all that were found; after an interruption --resume goes on. Without
--eval-data a seeded 20 % of --data is held out for the report and used for
nothing else. With no data at all the ranges come from the model itself, and
what was not measured is said.

With --train-data the widths of the layers are learned: give --target-bits (or
--target-bytes, --target-bops), or --max-drop alone for the smallest model that keeps to it.

--max-drop raises bits, or leaves layers in float, until top-1 on at most 4,000
samples of --data drops by no more than that many percentage points; when that cannot be had, the best model is
written all the same and the exit code is 4.`,
		Example: `  thriftc compress testmodels/glyphs.onnx --data testmodels/glyphs/desc.yaml -o out/
  thriftc compress model.onnx --data calib.yaml --eval-data test.yaml --weight-bits 4 --recon -o out/
  thriftc compress model.onnx --train-data train.yaml --target-bits 4 --time-budget 30m -o out/`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runCompress(c, args[0], &o) },
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "", "data description: calibrates and chooses")
	f.StringVar(&o.trainData, "train-data", "", "data description: trains, calibrates and chooses")
	f.DurationVar(&o.timeBudget, "time-budget", 0, "time for the whole run, such as 30m; training is planned to fit")
	f.BoolVar(&o.resume, "resume", false, "go on with the interrupted run whose output folder this is")
	f.StringVar(&o.evalData, "eval-data", "", "data description: reported on, never used to choose")
	f.StringVarP(&o.output, "output", "o", "", "folder to write")
	f.StringVar(&o.recipe, "recipe", "", "recipe to follow; flags given beside it win")
	f.StringVar(&o.passes, "passes", defaultPipeline, "the pipeline; 'thriftc passes' lists passes and pipelines; with --train-data the default is "+trainingPipeline)
	f.IntVar(&o.calibSamples, "calib-samples", defaultCalibSamples, "how many samples of --data calibrate")
	f.IntVar(&o.weightBits, "weight-bits", 8, "bits of weights, 2 to 8")
	f.IntVar(&o.actBits, "act-bits", 8, "bits of activations, 2 to 8")
	f.BoolVar(&o.pow2, "pow2", false, "scales are powers of two")
	f.BoolVar(&o.recon, "recon", false, "choose roundings by layer-wise reconstruction; for 4 bits and fewer")
	f.BoolVar(&o.perTensor, "per-tensor", false, "one weight scale per tensor instead of per channel")
	f.StringSliceVar(&o.exclude, "exclude", nil, "leave layers in float whose names match this pattern (repeatable)")
	f.Float64Var(&o.targetBits, "target-bits", 0, "learn bit lengths: their mean over weights and input activations of the layers")
	f.IntVar(&o.targetBytes, "target-bytes", 0, "learn bit lengths: bytes of the weights at their widths")
	f.Float64Var(&o.targetBops, "target-bops", 0, "learn bit lengths: bit operations of one image")
	f.Float64Var(&o.maxDrop, "max-drop", 0, "budget: top-1 may drop by this many percentage points")
	f.StringVar(&o.format, "format", "qdq", "how quantisers are written: qdq, qcdq or qonnx")
	f.IntVar(&o.opset, "opset", 0, "opset to write; 0 means 17, or what the model needs")
	f.Uint64Var(&o.seed, "seed", 0, "of all randomness")
	f.StringVar(&o.dumpDir, "dump-dir", "", "folder for the graph after every pass")
	f.BoolVar(&o.asJSON, "json", false, "print the report as JSON")
	addThreads(c, &o.threads)
	return c
}

type optionFlag struct {
	name   string
	values []string
}

// optionFlags are the flags that set the option of the same name of the passes that have one.
func optionFlags(o *compressOptions, r *recipe) []optionFlag {
	one := func(name, value string) optionFlag { return optionFlag{name, []string{value}} }
	flags := []optionFlag{
		one("weight-bits", strconv.Itoa(o.weightBits)),
		one("act-bits", strconv.Itoa(o.actBits)),
		one("pow2", strconv.FormatBool(o.pow2)),
		one("recon", strconv.FormatBool(o.recon)),
		one("per-tensor", strconv.FormatBool(o.perTensor)),
		{"exclude", o.exclude},
		one("target-bits", strconv.FormatFloat(o.targetBits, 'g', -1, 64)),
		one("target-bytes", strconv.Itoa(o.targetBytes)),
		one("target-bops", strconv.FormatFloat(o.targetBops, 'g', -1, 64)),
	}
	if r.MaxDrop != nil {
		flags = append(flags, one("max-drop", strconv.FormatFloat(*r.MaxDrop, 'g', -1, 64)))
	}
	return flags
}

// makeRecipe joins the recipe file and the flags into one recipe and its steps.
func makeRecipe(c *cobra.Command, o *compressOptions) (*recipe, []passes.Step, error) {
	r := &recipe{Version: recipeVersion, Passes: []string{o.passes}, Format: o.format, Opset: o.opset, Seed: o.seed, CalibSamples: o.calibSamples}
	if o.recipe != "" {
		var err error
		if r, err = readRecipe(o.recipe, train.Default()); err != nil {
			return nil, nil, err
		}
		if len(r.Passes) == 0 && !c.Flags().Changed("passes") {
			return nil, nil, usageError("%s: passes: at least one pass is needed", o.recipe)
		}
	}
	given := c.Flags().Changed
	switch {
	case given("passes"):
		r.Passes = []string{o.passes}
	case o.recipe == "" && o.trainData != "":
		r.Passes = []string{trainingPipeline}
	}
	if given("format") || r.Format == "" {
		r.Format = o.format
	}
	if given("opset") {
		r.Opset = o.opset
	}
	if given("seed") {
		r.Seed = o.seed
	}
	if given("calib-samples") || r.CalibSamples == 0 {
		r.CalibSamples = o.calibSamples
	}
	if given("max-drop") {
		r.MaxDrop = &o.maxDrop
	}
	steps, err := all.Table.Parse(r.pipeline())
	if err != nil {
		if o.recipe != "" && !given("passes") {
			err = fmt.Errorf("%s: passes: %w", o.recipe, err)
		}
		return nil, nil, usageError("%w", err)
	}
	var errs []error
	if r.CalibSamples < 1 {
		errs = append(errs, fmt.Errorf("--calib-samples %d: at least 1 is needed", r.CalibSamples))
	}
	if !slices.Contains(onnx.Formats, onnx.Format(r.Format)) {
		errs = append(errs, fmt.Errorf("--format %s: there are %s", r.Format, formatNames()))
	}
	if r.Opset != 0 && (r.Opset < onnxio.MinWriteOpset || r.Opset > onnxio.MaxWriteOpset) {
		errs = append(errs, fmt.Errorf("--opset %d cannot be written (%d to %d can)", r.Opset, onnxio.MinWriteOpset, onnxio.MaxWriteOpset))
	}
	if r.MaxDrop != nil && !(*r.MaxDrop >= 0) {
		errs = append(errs, fmt.Errorf("--max-drop %v is not a number of points ≥ 0", *r.MaxDrop))
	}
	if r.MaxDrop != nil && o.data == "" && o.trainData == "" {
		errs = append(errs, errors.New("a budget (--max-drop) needs labelled data to measure on; give --data or --train-data"))
	}
	errs = append(errs, checkTraining(c, o, steps)...)
	if o.trainData != "" && r.Train == nil {
		base := tuneRecipe(o.trainData)
		r.Train = &base
	}
	for _, f := range optionFlags(o, r) {
		if !given(f.name) && (f.name != "max-drop" || r.MaxDrop == nil) {
			continue
		}
		found := false
		for _, step := range steps {
			if !step.Has(f.name) {
				continue
			}
			found = true
			if err := step.Set(f.name, f.values...); err != nil {
				text, own := strings.CutPrefix(err.Error(), f.name)
				if !own {
					text = " " + text
				}
				errs = append(errs, errors.New("--"+f.name+text))
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("--%s: no pass of the pipeline has such an option: %s", f.name, r.pipeline()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, &exitError{code: exitUsage, err: err}
	}
	r.Passes = nil
	for _, s := range steps {
		r.Passes = append(r.Passes, s.String())
	}
	return r, steps, nil
}

// runData is the data of a compression: what may be used, and what is only reported on.
type runData struct{ train, tune, calib, eval *dataset.Set }

func openData(o *compressOptions, r *recipe, log *slog.Logger) (d runData, err error) {
	if o.evalData != "" {
		if d.eval, err = dataset.Open(o.evalData); err != nil {
			return d, err
		}
	}
	switch {
	case o.trainData != "":
		if d.train, err = dataset.Open(o.trainData); err != nil {
			return d, err
		}
		if !d.train.Labelled() {
			return d, fmt.Errorf("%s: there are no labels", o.trainData)
		}
		if d.train, d.tune, err = d.train.Split(r.Seed, holdOutToChoose); err != nil {
			return d, fmt.Errorf("%s: %w", o.trainData, err)
		}
		d.calib = d.train.Shuffle(r.Seed).Take(r.CalibSamples)
		return d, nil
	case o.data == "":
		return d, nil
	}
	if d.tune, err = dataset.Open(o.data); err != nil {
		return d, err
	}
	if d.eval == nil && d.tune.Labelled() {
		if d.tune, d.eval, err = d.tune.Split(r.Seed, holdOut); err != nil {
			return d, &exitError{exitFailed, fmt.Errorf("%s: %w", o.data, err), "give --eval-data"}
		}
	}
	if d.eval != nil && !d.eval.Labelled() {
		log.Warn("the evaluation data has no labels: accuracy is not measured")
		d.eval = nil
	}
	d.calib = d.tune.Shuffle(r.Seed).Take(r.CalibSamples)
	if d.calib.Len() < r.CalibSamples {
		log.Info(fmt.Sprintf("calibrating on all %d samples there are", d.calib.Len()))
	}
	return d, nil
}

func runCompress(c *cobra.Command, model string, o *compressOptions) error {
	start := time.Now()
	if filepath.Ext(model) == ".tir" {
		return &exitError{exitUsage, fmt.Errorf("%s: compress reads .onnx", model), "'thriftc opt --passes= " + model + " -o model.onnx' makes one"}
	}
	if o.output == "" {
		return usageError("-o is needed: the folder to write")
	}
	rec, steps, err := makeRecipe(c, o)
	if err != nil {
		return err
	}
	if st, err := os.Stat(o.output); err == nil && !st.IsDir() {
		return usageError("-o %s: is a file; give a folder", o.output)
	}
	rep := &report.Report{
		Version: version, Model: model, Command: commandLine(c, model), Seed: rec.Seed,
		Data: cmp.Or(o.trainData, o.data), EvalData: o.evalData, BudgetMet: true,
	}
	log := slog.New(&lineHandler{w: c.ErrOrStderr(), warn: rep.Warn})
	g, bytesBefore, err := readModelSize(model, c.ErrOrStderr())
	if err != nil {
		return err
	}
	data, err := openData(o, rec, log)
	if err != nil {
		return err
	}
	for _, s := range []*dataset.Set{data.tune, data.eval} {
		if s == nil {
			continue
		}
		if err := checkLabels(s, g); err != nil {
			return err
		}
	}
	if o.resume {
		if err := sweepOutput(o.output); err != nil {
			return err
		}
	}
	// The folder is tried before the work, which may take long.
	out, err := newOutput(o.output)
	if err != nil {
		return fmt.Errorf("-o %s cannot be written: %w", o.output, err)
	}
	defer out.discard()
	found := &search{dir: o.output, format: onnx.Format(rec.Format), opset: rec.Opset, log: log, start: start}
	after, err := compressGraph(c, g, rec, steps, data, o, found, rep)
	if err != nil {
		if found.best != nil && errors.Is(err, context.Canceled) {
			log.Info("interrupted; the best model so far is in " + o.output + ", and the same command with --resume goes on")
		}
		return err
	}
	w := artefact{
		measurer: measurer{c: c, eval: data.eval, threads: o.threads, rep: rep}, out: out, rec: rec, start: start,
		format: onnx.Format(rec.Format), opset: rec.Opset,
	}
	err = w.write(g, after, bytesBefore, func() error {
		judge(rep, rec)
		if data.train == nil {
			return nil
		}
		return errors.Join(found.plot(out.path("front")), plotBits(out.path("bits"), rep.After.Layers))
	})
	if err != nil {
		return err
	}
	if o.asJSON {
		var data []byte
		if data, err = rep.Encode(); err == nil {
			_, err = c.OutOrStdout().Write(data)
		}
	} else {
		if data.train != nil {
			err = printBits(c.OutOrStdout(), rep.After.Layers)
		}
		if err == nil {
			err = printReport(c.OutOrStdout(), rep, o.output)
		}
	}
	if err == nil && !rep.BudgetMet {
		err = &exitError{exitBudget, fmt.Errorf("the budget of %g points is not met; the best model is in %s", *rec.MaxDrop, o.output), "raise --weight-bits or --act-bits, add --recon, or allow a larger --max-drop"}
	}
	return err
}

// compressGraph runs the passes on a copy of g.
func compressGraph(c *cobra.Command, g *ir.Graph, rec *recipe, steps []passes.Step, data runData, o *compressOptions, found *search, rep *report.Report) (*ir.Graph, error) {
	bar := newProgress(c)
	defer bar.Clear()
	pc := &passes.Context{
		Context: c.Context(), Seed: rec.Seed, Threads: o.threads, Engine: interp.New(), Log: found.log,
		Progress: bar.Update,
	}
	if data.calib != nil {
		src, err := data.calib.For(g)
		if err != nil {
			return nil, err
		}
		pc.Calib = src
		if data.tune.Labelled() {
			judged := data.tune.Shuffle(rec.Seed + 1).Take(scoreSamples) // another order than calibration's
			pc.Score = func(ctx context.Context, g *ir.Graph) (float64, error) {
				acc, err := score(ctx, g, judged, o.threads)
				return 100 * acc.Top1, err
			}
		}
	}
	if data.train != nil {
		if err := found.open(o.resume); err != nil {
			return nil, err
		}
		handTrainer(pc, rec, data, o, found)
	}
	after := g.Clone()
	if data.tune != nil {
		rep.Preprocess = data.tune.Preprocess().String()
		ir.NewRewriter(after).SetMeta("thriftc.preprocess", rep.Preprocess)
	}
	res, err := passes.Run(pc, after, steps, passes.RunOptions{DumpDir: o.dumpDir, ReproDir: o.dumpDir})
	if err != nil {
		return nil, err
	}
	rep.Passes = res.Steps
	return after, nil
}

// commandLine is the command as the user would type it again, without the
// output folder, so that it does not differ between equal runs.
func commandLine(c *cobra.Command, model string) string {
	parts := []string{"thriftc", c.Name(), quoteArg(model)}
	c.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case slices.Contains([]string{"output", "json", "dump-dir", "threads", "resume"}, f.Name):
		case f.Value.Type() == "bool":
			parts = append(parts, "--"+f.Name+"="+f.Value.String())
		default:
			parts = append(parts, "--"+f.Name, quoteArg(strings.Trim(f.Value.String(), "[]")))
		}
	})
	return strings.Join(parts, " ")
}

func quoteArg(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"$`\\*?[]{}()<>|&;!#~") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
