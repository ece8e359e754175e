package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/passes"
)

// checkTraining reports flags about training that do not fit the passes.
func checkTraining(c *cobra.Command, o *compressOptions, steps []passes.Step) []error {
	var errs []error
	i := slices.IndexFunc(steps, func(s passes.Step) bool { return s.Info.Kind == passes.Training })
	switch {
	case i >= 0 && o.trainData == "":
		errs = append(errs, fmt.Errorf("%s trains the model; give --train-data", steps[i].Info.Name))
	case i < 0 && o.trainData != "":
		errs = append(errs, errors.New("--train-data: no pass of the pipeline trains; --data calibrates"))
	case o.trainData != "" && o.data != "":
		errs = append(errs, errors.New("--data and --train-data exclude each other: training data also calibrates, and a part of it is held out to choose by"))
	}
	for _, name := range []string{"time-budget", "resume"} {
		if i < 0 && c.Flags().Changed(name) {
			errs = append(errs, fmt.Errorf("--%s: no pass of the pipeline trains", name))
		}
	}
	if o.timeBudget < 0 {
		errs = append(errs, fmt.Errorf("--time-budget %v is no length of time", o.timeBudget))
	}
	return errs
}

// tuneRecipe is how passes train where no recipe says so: what they leave open.
func tuneRecipe(dataFile string) train.Recipe {
	r := train.FineTune()
	r.CheckpointEvery = 100
	if set, err := dataset.Open(dataFile); err == nil && (set.Kind() == "cifar10" || set.Kind() == "cifar100") {
		r.Augment = dataset.Augment{Crop: 4, Flip: true}
	}
	return r
}

// handTrainer gives the passes what training needs.
func handTrainer(pc *passes.Context, rec *recipe, data runData, o *compressOptions, found *search) {
	pc.Trainer = &train.Trainer{
		Engine: pc.Engine, Threads: o.threads, Seed: rec.Seed, Recipe: *rec.Train, Data: data.train, Val: data.tune,
		Dir: filepath.Join(o.output, checkpointsDir), Resume: o.resume, Build: build(), Log: found.log, Progress: pc.Progress,
	}
	pc.Offer = found.offer
	if o.timeBudget > 0 {
		pc.Until = found.start.Add(o.timeBudget)
	}
}
