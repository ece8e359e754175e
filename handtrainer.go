package thriftc

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train"
	"github.com/thriftc/thriftc/passes"
)

// checkTraining reports flags about training that do not fit the passes.
func (o *CompressOptions) checkTraining(steps []passes.Step) []error {
	var errs []error
	i := slices.IndexFunc(steps, func(s passes.Step) bool { return s.Info.Kind == passes.Training })
	switch {
	case i >= 0 && o.TrainData == "":
		errs = append(errs, fmt.Errorf("%s trains the model; give --train-data", steps[i].Info.Name))
	case i < 0 && o.TrainData != "":
		errs = append(errs, errors.New("--train-data: no pass of the pipeline trains; --data calibrates"))
	case o.TrainData != "" && o.Data != "":
		errs = append(errs, errors.New("--data and --train-data exclude each other: training data also calibrates, and a part of it is held out to choose by"))
	}
	if i < 0 && o.TimeBudget != 0 {
		errs = append(errs, errors.New("--time-budget: no pass of the pipeline trains"))
	}
	if i < 0 && o.Resume {
		errs = append(errs, errors.New("--resume: no pass of the pipeline trains"))
	}
	if o.TimeBudget < 0 {
		errs = append(errs, fmt.Errorf("--time-budget %v is no length of time", o.TimeBudget))
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
func (o *CompressOptions) handTrainer(pc *passes.Context, rec *recipe, data runData, found *search) {
	pc.Trainer = &train.Trainer{
		Engine: pc.Engine, Threads: o.Threads, Seed: rec.Seed, Recipe: *rec.Train, Data: data.train, Val: data.tune,
		Dir: filepath.Join(o.Output, checkpointsDir), Resume: o.Resume, Build: build(), Log: found.log, Progress: pc.Progress,
	}
	pc.Offer = found.offer
	if o.TimeBudget > 0 {
		pc.Until = found.start.Add(o.TimeBudget)
	}
}
