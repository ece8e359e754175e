package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/internal/report"
)

type compressOptions struct {
	lib                        thriftc.CompressOptions
	passes, format             string
	opset, calibSamples, batch int
	maxDrop                    float64
	seed                       uint64
	asJSON                     bool
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
		RunE: func(c *cobra.Command, args []string) error { return o.compress(c, args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.lib.Data, "data", "", "data description: calibrates and chooses")
	f.StringVar(&o.lib.TrainData, "train-data", "", "data description: trains, calibrates and chooses")
	f.DurationVar(&o.lib.TimeBudget, "time-budget", 0, "time for the whole run, such as 30m; training is planned to fit")
	f.BoolVar(&o.lib.Resume, "resume", false, "go on with the interrupted run whose output folder this is")
	f.StringVar(&o.lib.EvalData, "eval-data", "", "data description: reported on, never used to choose")
	f.StringVarP(&o.lib.Output, "output", "o", "", "folder to write")
	f.StringVar(&o.lib.Recipe, "recipe", "", "recipe to follow; flags given beside it win")
	f.StringVar(&o.passes, "passes", "ptq", "the pipeline; 'thriftc passes' lists passes and pipelines; with --train-data the default is bits")
	f.IntVar(&o.calibSamples, "calib-samples", thriftc.DefaultCalibSamples, "how many samples of --data calibrate")
	f.Int("weight-bits", 8, "bits of weights, 2 to 8")
	f.Int("act-bits", 8, "bits of activations, 2 to 8 or 16; 0 leaves them in float")
	f.Bool("pow2", false, "scales are powers of two")
	f.Bool("recon", false, "choose roundings by layer-wise reconstruction; for 4 bits and fewer")
	f.Bool("per-tensor", false, "one weight scale per tensor instead of per channel")
	f.StringSlice("exclude", nil, "leave layers in float whose names, or as in op:Gemm operators, match this pattern (repeatable)")
	f.Bool("signed-acts", false, "signed integers for all activations, also for those that are never negative")
	f.String("input-range", "", "without data: least and greatest number in the model's inputs, as in -1:1")
	f.Float64("epochs", 0, "learn bit lengths: how often to go through the training data in all")
	f.Float64("target-bits", 0, "learn bit lengths: their mean over weights and input activations of the layers")
	f.Int("target-bytes", 0, "learn bit lengths: bytes of the weights at their widths")
	f.Float64("target-bops", 0, "learn bit lengths: bit operations of one image")
	f.Float64Var(&o.maxDrop, "max-drop", 0, "budget: top-1 may drop by this many percentage points")
	f.StringVar(&o.format, "format", "qdq", "how quantisers are written: qdq, qcdq or qonnx")
	f.IntVar(&o.batch, "batch", 0, "samples that the written model computes at once, where its inputs leave that open or can be changed; 0 means as the model says")
	f.IntVar(&o.opset, "opset", 0, "opset to write; 0 means 17, or what the model needs")
	f.Uint64Var(&o.seed, "seed", 0, "of all randomness")
	f.StringVar(&o.lib.DumpDir, "dump-dir", "", "folder for the graph after every pass")
	f.BoolVar(&o.asJSON, "json", false, "print the report as JSON")
	addThreads(c, &o.lib.Threads)
	return c
}

// passFlags are the flags that set the option of the same name of the passes that have one.
var passFlags = []string{"weight-bits", "act-bits", "pow2", "recon", "per-tensor", "signed-acts", "input-range", "exclude", "epochs", "target-bits", "target-bytes", "target-bops"}

func (o *compressOptions) compress(c *cobra.Command, model string) error {
	lib := o.lib
	lib.Command = commandLine(c, model)
	lib.Options = map[string][]string{}
	for _, name := range passFlags {
		if f := c.Flags().Lookup(name); f.Changed {
			lib.Options[name] = flagValues(f)
		}
	}
	if c.Flags().Changed("passes") {
		lib.Passes = []string{o.passes}
	}
	if c.Flags().Changed("format") {
		lib.Format = o.format
	}
	lib.Batch = ifGiven(c, "batch", &o.batch)
	lib.Opset = ifGiven(c, "opset", &o.opset)
	lib.CalibSamples = ifGiven(c, "calib-samples", &o.calibSamples)
	lib.MaxDrop = ifGiven(c, "max-drop", &o.maxDrop)
	lib.Seed = ifGiven(c, "seed", &o.seed)
	bar := newProgress(c)
	defer bar.Clear()
	lib.Log, lib.Progress = newLog(c.ErrOrStderr()), bar.Update
	res, failure := thriftc.Compress(c.Context(), model, lib)
	bar.Clear()
	if res == nil {
		return failure
	}
	rep, err := report.Read(filepath.Join(lib.Output, "report.json"))
	if err != nil {
		return err
	}
	w := c.OutOrStdout()
	if o.asJSON {
		text, err := rep.Encode()
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		return failure
	}
	if lib.TrainData != "" {
		if err := printBits(w, rep.After.Layers); err != nil {
			return err
		}
	}
	if err := printReport(w, rep, lib.Output); err != nil {
		return err
	}
	return failure
}

// ifGiven returns the value of a flag, nil if it was not given.
func ifGiven[T any](c *cobra.Command, flag string, value *T) *T {
	if !c.Flags().Changed(flag) {
		return nil
	}
	return value
}

// flagValues returns what a flag was given, several values for a list.
func flagValues(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
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
