package thriftc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

const (
	holdOut          = 0.2  // part of the data that is only reported on, without evaluation data
	scoreSamples     = 4000 // most samples of the data that a choice is scored on
	defaultPipeline  = "ptq"
	trainingPipeline = "bits" // with training data
)

// DefaultCalibSamples is how many samples calibrate where nothing else is said.
const DefaultCalibSamples = 300

// CompressOptions say what Compress does. What is nil or zero is as the recipe says, or else as the
// command does it by default.
type CompressOptions struct {
	Output string // folder to write; made if it is not there

	// Data descriptions. Data calibrates and chooses, TrainData trains, calibrates and
	// chooses, EvalData is only reported on; without it a part of Data is held out.
	Data, TrainData, EvalData string

	Recipe  string              // file of a recipe to follow; what is said beside it wins
	Passes  []string            // the pipeline, one or more passes with their options in each string; nil: ptq, or bits with TrainData
	Options map[string][]string // options that are set in every pass that has one of the name, such as "weight-bits": {"4"}

	MaxDrop      *float64 // budget: by how many percentage points top-1 may drop
	CalibSamples *int     // how many samples of Data calibrate: at least 1
	Format       string   // how quantisers are written: qdq, qcdq or qonnx
	Opset        *int     // to write; 0: 17, or what the model needs
	Batch        *int     // samples that the written model computes at once; 0: as the model says
	Seed         *uint64  // of all randomness

	TimeBudget time.Duration // for the whole run: training is planned to fit; 0: none
	Resume     bool          // go on with the interrupted run whose output folder this is
	Threads    int           // 0: all cores that the process may use

	DumpDir string // folder for the graph after every pass; "": none
	Command string // how report and recipe name the run; "": thriftc compress MODEL

	Log      *slog.Logger // takes messages and warnings; nil: none
	Progress Progress
}

// Measures is what is known about one model. Nil is not measured.
type Measures struct {
	Top1, Top5 *float64 // fractions of N samples
	N          int
	MSPerImage *float64 // milliseconds

	Bytes       int64 // of the file
	PackedBytes int64 // of all constants at their bit widths
	Parameters  int64
	MACs        int64 // multiply-accumulates of an image
	BOPs        int64 // bit operations of an image

	MeanBitsWeights, MeanBitsActivations float64 // over layers with weights; 0 where there are none
}

func measuresOf(m *report.Measures) Measures {
	return Measures{m.Top1, m.Top5, m.N, m.MSPerImage, m.Bytes, m.PackedBytes, m.Parameters, m.MACs, m.BOPs, m.MeanBitsWeights, m.MeanBitsActivations}
}

// Result is what a run came to: the main points of the report.json in its folder.
type Result struct {
	Before, After Measures // After is of the file that was written
	BudgetMet     bool     // what was asked for is kept; true when nothing was asked
	Warnings      []string
	NotMeasured   []string // what is unknown, each with its reason
	Epochs        float64  // of Train
}

func resultOf(r *report.Report) *Result {
	return &Result{Before: measuresOf(&r.Before), After: measuresOf(&r.After), BudgetMet: r.BudgetMet, Warnings: r.Warnings, NotMeasured: r.NotMeasured}
}

// makeRecipe joins the recipe file and the options into one recipe and its steps.
func (o *CompressOptions) makeRecipe() (*recipe, []passes.Step, error) {
	r := &recipe{Version: recipeVersion, Passes: []string{defaultPipeline}}
	switch {
	case o.Recipe != "":
		var err error
		if r, err = readRecipe(o.Recipe, train.Default()); err != nil {
			return nil, nil, err
		}
		if len(r.Passes) == 0 && o.Passes == nil {
			return nil, nil, usageError("%s: passes: at least one pass is needed", o.Recipe)
		}
	case o.TrainData != "":
		r.Passes = []string{trainingPipeline}
	}
	if o.Passes != nil {
		r.Passes = o.Passes
	}
	r.Format = cmp.Or(o.Format, r.Format, string(onnx.QDQ))
	r.CalibSamples = cmp.Or(r.CalibSamples, DefaultCalibSamples)
	override(&r.CalibSamples, o.CalibSamples)
	override(&r.Opset, o.Opset)
	override(&r.Batch, o.Batch)
	override(&r.Seed, o.Seed)
	if o.MaxDrop != nil {
		r.MaxDrop = o.MaxDrop
	}
	steps, err := all.Table.Parse(r.pipeline())
	if err != nil {
		if o.Recipe != "" && o.Passes == nil {
			err = fmt.Errorf("%s: passes: %w", o.Recipe, err)
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
	if r.Batch < 0 || r.Batch > 1<<20 {
		errs = append(errs, fmt.Errorf("--batch %d: expected 1 to %d", r.Batch, 1<<20))
	}
	if r.MaxDrop != nil && !(*r.MaxDrop >= 0) {
		errs = append(errs, fmt.Errorf("--max-drop %v is not a number of points ≥ 0", *r.MaxDrop))
	}
	if r.MaxDrop != nil && o.Data == "" && o.TrainData == "" {
		errs = append(errs, errors.New("a budget (--max-drop) needs labelled data to measure on; give --data or --train-data"))
	}
	errs = append(errs, o.checkTraining(steps)...)
	if o.TrainData != "" && r.Train == nil {
		base := tuneRecipe(o.TrainData)
		r.Train = &base
	}
	errs = append(errs, setOptions(steps, r.pipeline(), o.Options, r.MaxDrop)...)
	if err := errors.Join(errs...); err != nil {
		return nil, nil, &Error{Kind: Usage, Err: err}
	}
	r.Passes = nil
	for _, s := range steps {
		r.Passes = append(r.Passes, s.String())
	}
	return r, steps, nil
}

// override sets a value that is given.
func override[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

// setOptions sets options in the steps that have them, and reports those that none has.
func setOptions(steps []passes.Step, pipeline string, options map[string][]string, maxDrop *float64) (errs []error) {
	options = maps.Clone(options)
	if maxDrop != nil {
		if options == nil {
			options = map[string][]string{}
		}
		options["max-drop"] = []string{strconv.FormatFloat(*maxDrop, 'g', -1, 64)}
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		found := false
		for _, step := range steps {
			if !step.Has(name) {
				continue
			}
			found = true
			if err := step.Set(name, options[name]...); err != nil {
				text, own := strings.CutPrefix(err.Error(), name)
				if !own {
					text = " " + text
				}
				errs = append(errs, errors.New("--"+name+text))
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("--%s: no pass of the pipeline has such an option: %s", name, pipeline))
		}
	}
	return errs
}

// formatNames lists the dialects for messages.
func formatNames() string {
	var s []string
	for _, f := range onnx.Formats {
		s = append(s, string(f))
	}
	return strings.Join(s, ", ")
}

// runData is the data of a compression: what may be used, and what is only reported on.
type runData struct{ train, tune, calib, eval *dataset.Set }

func (o *CompressOptions) openData(r *recipe, log *slog.Logger) (d runData, err error) {
	if o.EvalData != "" {
		if d.eval, err = dataset.Open(o.EvalData); err != nil {
			return d, err
		}
	}
	switch {
	case o.TrainData != "":
		if d.train, err = dataset.Open(o.TrainData); err != nil {
			return d, err
		}
		if !d.train.Labelled() {
			return d, fmt.Errorf("%s: there are no labels", o.TrainData)
		}
		if d.train, d.tune, err = d.train.Split(r.Seed, holdOutToChoose); err != nil {
			return d, fmt.Errorf("%s: %w", o.TrainData, err)
		}
		d.calib = d.train.Shuffle(r.Seed).Take(r.CalibSamples)
		return d, nil
	case o.Data == "":
		return d, nil
	}
	if d.tune, err = dataset.Open(o.Data); err != nil {
		return d, err
	}
	if d.eval == nil && d.tune.Labelled() {
		if d.tune, d.eval, err = d.tune.Split(r.Seed, holdOut); err != nil {
			return d, &Error{Failed, fmt.Errorf("%s: %w", o.Data, err), "give --eval-data"}
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

// Compress compresses a model file and writes the folder o.Output, all at once when it is
// complete; with training data the best model so far stands there before. If a budget is not met, the best
// model is written, and there is a result and an error of kind [Budget].
func Compress(ctx context.Context, model string, o CompressOptions) (*Result, error) {
	start := time.Now()
	if filepath.Ext(model) == ".tir" {
		return nil, &Error{Usage, fmt.Errorf("%s: compress reads .onnx", model), "'thriftc opt --passes= " + model + " -o model.onnx' makes one"}
	}
	if err := checkOutput(o.Output); err != nil {
		return nil, err
	}
	rec, steps, err := o.makeRecipe()
	if err != nil {
		return nil, err
	}
	rep := &report.Report{
		Version: Version, Model: model, Command: cmp.Or(o.Command, "thriftc compress "+model), Seed: rec.Seed,
		Data: cmp.Or(o.TrainData, o.Data), EvalData: o.EvalData, BudgetMet: true,
	}
	log := recording(o.Log, rep)
	m, err := openLogged(model, log)
	if err != nil {
		return nil, err
	}
	data, err := o.openData(rec, log)
	if err != nil {
		return nil, err
	}
	for _, s := range []*dataset.Set{data.tune, data.eval} {
		if s == nil {
			continue
		}
		if err := checkLabels(s, m.Graph); err != nil {
			return nil, err
		}
	}
	if err := m.CheckOutput("-o", filepath.Join(o.Output, modelFile)); err != nil {
		return nil, err
	}
	// The folder is tried before the work, which may take long.
	out, err := newOutput(o.Output, o.Resume)
	if err != nil {
		return nil, err
	}
	defer out.close()
	if rec.Batch > 0 { // asked before the work, done behind it: passes take batches of their own
		if _, err := bench.FixBatch(m.Graph, rec.Batch); err != nil {
			return nil, fmt.Errorf("--batch %d: %w", rec.Batch, err)
		}
	}
	found := &search{dir: o.Output, format: onnx.Format(rec.Format), opset: rec.Opset, batch: rec.Batch, log: log, start: start}
	after, err := o.compressGraph(ctx, m.Graph, rec, steps, data, found, rep)
	if err != nil {
		if found.best != nil && errors.Is(err, context.Canceled) {
			log.Info("interrupted; the best model so far is in " + o.Output + ", and the same command with --resume goes on")
		}
		return nil, err
	}
	if rec.Batch > 0 {
		if after, err = bench.FixBatch(after, rec.Batch); err != nil {
			return nil, fmt.Errorf("--batch %d: %w", rec.Batch, err)
		}
	}
	w := artefact{
		measurer: measurer{eval: data.eval, threads: o.Threads, rep: rep, progress: o.Progress}, out: out, rec: rec, start: start,
		format: onnx.Format(rec.Format), opset: rec.Opset,
	}
	err = w.write(ctx, m.Graph, after, m.Bytes, func() error {
		judge(rep, rec)
		if data.train == nil {
			return nil
		}
		return errors.Join(found.plot(out.path("front")), report.PlotBits(out.path("bits"), rep.After.Layers))
	})
	if err != nil {
		return nil, err
	}
	if !rep.BudgetMet {
		err = &Error{Budget, fmt.Errorf("the budget of %g points is not met; the best model is in %s", *rec.MaxDrop, o.Output), "raise --weight-bits or --act-bits, add --recon, or allow a larger --max-drop"}
	}
	return resultOf(rep), err
}

// checkOutput checks that a folder is named and that no file has its name.
func checkOutput(dir string) error {
	if dir == "" {
		return usageError("-o is needed: the folder to write")
	}
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		return usageError("-o %s: is a file; give a folder", dir)
	}
	return nil
}

// compressGraph runs the passes on a copy of g.
func (o *CompressOptions) compressGraph(ctx context.Context, g *ir.Graph, rec *recipe, steps []passes.Step, data runData, found *search, rep *report.Report) (*ir.Graph, error) {
	pc := &passes.Context{
		Context: ctx, Seed: rec.Seed, Threads: o.Threads, Engine: interp.New(), Log: found.log,
		Progress: o.Progress,
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
				acc, err := accuracy(ctx, g, judged, evalBatch, Engine{Threads: o.Threads, Float: true}, nil)
				return 100 * acc.Top1, err
			}
		}
	}
	if data.train != nil {
		if err := found.open(o.Resume, settingsOf(g, rec, data)); err != nil {
			return nil, err
		}
		o.handTrainer(pc, rec, data, found)
	}
	after := g.Clone()
	if data.tune != nil {
		rep.Preprocess = data.tune.Preprocess().String()
		ir.NewRewriter(after).SetMeta("thriftc.preprocess", rep.Preprocess)
	}
	res, err := passes.Run(pc, after, steps, passes.RunOptions{DumpDir: o.DumpDir, ReproDir: o.DumpDir})
	if err != nil {
		return nil, err
	}
	rep.Passes = res.Steps
	return after, nil
}
