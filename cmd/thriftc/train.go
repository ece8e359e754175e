package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/internal/train/arch"
)

type trainOptions struct {
	lib    thriftc.TrainOptions
	epochs float64
	batch  int
	rate   float64
	seed   uint64
	asJSON bool
}

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
		RunE: func(c *cobra.Command, args []string) error { return o.train(c, args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.lib.TrainData, "train-data", "", "data description: to train on")
	f.StringVar(&o.lib.ValData, "val-data", "", "data description: to choose by, where the recipe chooses")
	f.StringVar(&o.lib.EvalData, "eval-data", "", "data description: reported on, never used to choose")
	f.StringVarP(&o.lib.Output, "output", "o", "", "folder to write")
	f.StringVar(&o.lib.Recipe, "recipe", "", "recipe to follow; flags given beside it win")
	f.Float64Var(&o.epochs, "epochs", 0, "how often to go through the data (default: the recipe's)")
	f.DurationVar(&o.lib.TimeBudget, "time-budget", 0, "train as many epochs as fit into this time, such as 45m")
	f.IntVar(&o.batch, "batch", 0, "samples of a step (default: the recipe's)")
	f.Float64Var(&o.rate, "rate", 0, "the largest learning rate (default: the recipe's)")
	f.StringVar(&o.lib.Teacher, "teacher", "", "model to imitate besides the labels")
	f.BoolVar(&o.lib.FromScratch, "from-scratch", false, "draw the weights of the model file anew")
	f.BoolVar(&o.lib.Resume, "resume", false, "go on from the last checkpoint in OUT")
	f.Var((*byteSize)(&o.lib.Memory), "memory-budget", "memory for a step's results, such as 200MiB: beyond it some are computed twice; 0: any")
	f.Uint64Var(&o.seed, "seed", 0, "of all randomness")
	f.StringVar(&o.lib.DumpDir, "dump-dir", "", "folder for the graph of a training step, as text (step.tir)")
	f.BoolVar(&o.asJSON, "json", false, "print JSON lines, as where the output is no terminal: one per evaluation, then the report")
	addThreads(c, &o.lib.Threads)
	return c
}

func (o *trainOptions) train(c *cobra.Command, model string) error {
	start := time.Now()
	if c.Flags().Changed("time-budget") && o.lib.TimeBudget == 0 {
		return usageError("--time-budget 0 is no length of time")
	}
	lib := o.lib
	lib.Command = commandLine(c, model)
	lib.Epochs = ifGiven(c, "epochs", &o.epochs)
	lib.Batch = ifGiven(c, "batch", &o.batch)
	lib.Rate = ifGiven(c, "rate", &o.rate)
	lib.Seed = ifGiven(c, "seed", &o.seed)
	bar := newProgress(c)
	defer bar.Clear()
	log := newLog(c.ErrOrStderr())
	w := c.OutOrStdout()
	asJSON := o.asJSON || !isTerminal(w)
	lib.Log, lib.Progress = log, bar.Update
	lib.Epoch = func(e thriftc.Epoch) {
		if asJSON {
			if err := json.NewEncoder(w).Encode(e); err != nil {
				log.Warn(err.Error())
			}
			return
		}
		bar.Clear()
		fmt.Fprintf(w, "epoch %5.4g   loss %.4f   train %5.2f %%%s%s   rate %.4g   %v\n", e.Epoch, e.Loss, 100*e.Accuracy,
			percent("held-out", e.Val), percent("eval", e.Eval), e.Rate, time.Duration(e.Seconds*float64(time.Second)).Round(time.Second))
	}
	res, err := thriftc.Train(c.Context(), model, lib)
	bar.Clear()
	if err != nil {
		return err
	}
	rep, err := report.Read(filepath.Join(lib.Output, "report.json"))
	if err != nil {
		return err
	}
	if asJSON {
		text, err := rep.Encode()
		if err != nil {
			return err
		}
		var line bytes.Buffer // after those of the epochs
		if err := json.Compact(&line, text); err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, line.String())
		return err
	}
	if err := rep.Table().Write(w, true); err != nil {
		return err
	}
	for _, s := range rep.NotMeasured {
		fmt.Fprintln(w, "not measured:", s)
	}
	_, err = fmt.Fprintf(w, "%g epochs in %v; written to %s: model.onnx, report.json, recipe.yaml, log.jsonl, curve.svg\n",
		res.Epochs, time.Since(start).Round(time.Second), lib.Output)
	return err
}

func percent(name string, x *float64) string {
	if x == nil {
		return ""
	}
	return fmt.Sprintf("   %s %5.2f %%", name, 100**x)
}
