package train

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/internal/dataset"
)

// Recipe says how to train. Rates and shares are numbers, lengths of time are
// epochs. docs/training.md explains the keys; Default has their defaults.
type Recipe struct {
	Epochs float64 `yaml:"epochs" json:"epochs"`
	Batch  int     `yaml:"batch" json:"batch"` // samples of a step

	Loss           string  `yaml:"loss" json:"loss"`                       // cross-entropy or mse
	LabelSmoothing float64 `yaml:"label_smoothing" json:"label_smoothing"` // share of all classes in a label
	TeacherWeight  float64 `yaml:"teacher_weight" json:"teacher_weight"`   // share of the teacher in the loss
	Temperature    float64 `yaml:"temperature" json:"temperature"`         // of the teacher's and the student's logits

	Optimizer   string  `yaml:"optimizer" json:"optimizer"` // sgd, nesterov, adam or adamw
	Rate        float64 `yaml:"rate" json:"rate"`           // the largest learning rate
	Momentum    float64 `yaml:"momentum" json:"momentum"`   // sgd and nesterov
	Beta1       float64 `yaml:"beta1" json:"beta1"`         // adam and adamw
	Beta2       float64 `yaml:"beta2" json:"beta2"`
	Epsilon     float64 `yaml:"epsilon" json:"epsilon"`
	WeightDecay float64 `yaml:"weight_decay" json:"weight_decay"`
	DecayAll    bool    `yaml:"decay_all" json:"decay_all"` // also biases and batch norms
	Clip        float64 `yaml:"clip" json:"clip"`           // largest norm of the gradient; 0: any
	EMA         float64 `yaml:"ema" json:"ema"`             // averaged weights: how much stays at every step; 0: none

	Schedule   string    `yaml:"schedule" json:"schedule"`     // one-cycle, cosine, step or constant
	WarmUp     float64   `yaml:"warm_up" json:"warm_up"`       // part of the training in which the rate rises
	Milestones []float64 `yaml:"milestones" json:"milestones"` // step: parts of the training after which the rate falls
	Gamma      float64   `yaml:"gamma" json:"gamma"`           // step: to this part of itself

	Augment dataset.Augment `yaml:"augment" json:"augment"`

	// KeepFolded trains convolutions without batch norm as they are, instead of giving
	// a model that has none new ones for the time of the training.
	KeepFolded bool `yaml:"keep_folded" json:"keep_folded"`
	Reestimate int  `yaml:"reestimate" json:"reestimate"` // batches that batch norms are estimated on at the end; 0: running averages
	EvalEvery  int  `yaml:"eval_every" json:"eval_every"` // epochs between evaluations
	KeepBest   bool `yaml:"keep_best" json:"keep_best"`   // the result is the best evaluation on held-out data instead of the last step
	EarlyStop  int  `yaml:"early_stop" json:"early_stop"` // ends after so many evaluations without a better one; 0: never

	Checkpoints     int `yaml:"checkpoints" json:"checkpoints"`           // how many are kept
	CheckpointEvery int `yaml:"checkpoint_every" json:"checkpoint_every"` // steps between checkpoints; 0: an epoch
}

// Default returns the recipe for training a small network from scratch.
func Default() Recipe {
	return Recipe{
		Epochs: 30, Batch: 128,
		Loss: "cross-entropy", TeacherWeight: 0.9, Temperature: 4,
		Optimizer: "nesterov", Rate: 0.2, Momentum: 0.9, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8,
		WeightDecay: 5e-4,
		Schedule:    "one-cycle", WarmUp: 0.2, Milestones: []float64{0.5, 0.75}, Gamma: 0.1,
		EvalEvery: 1, Checkpoints: 2,
	}
}

var (
	losses     = []string{"cross-entropy", "mse"}
	optimizers = []string{"sgd", "nesterov", "adam", "adamw"}
	schedules  = []string{"one-cycle", "cosine", "step", "constant"}
)

// Check reports every setting that cannot be.
func (r *Recipe) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, s := range []struct {
		key, value string
		known      []string
	}{{"loss", r.Loss, losses}, {"optimizer", r.Optimizer, optimizers}, {"schedule", r.Schedule, schedules}} {
		if !slices.Contains(s.known, s.value) {
			bad("%s is %q; it can be %s", s.key, s.value, strings.Join(s.known, ", "))
		}
	}
	const most = 1e9
	for _, s := range []struct {
		key       string
		x, lo, hi float64
	}{
		{"epochs", r.Epochs, 0, most}, {"batch", float64(r.Batch), 1, 1 << 20},
		{"label_smoothing", r.LabelSmoothing, 0, 1}, {"teacher_weight", r.TeacherWeight, 0, 1}, {"temperature", r.Temperature, 1e-3, 1e3},
		{"rate", r.Rate, 0, 1e3}, {"momentum", r.Momentum, 0, 1}, {"beta1", r.Beta1, 0, 1}, {"beta2", r.Beta2, 0, 1}, {"epsilon", r.Epsilon, 0, 1},
		{"weight_decay", r.WeightDecay, 0, 1}, {"clip", r.Clip, 0, most}, {"ema", r.EMA, 0, 1},
		{"warm_up", r.WarmUp, 0, 1}, {"gamma", r.Gamma, 0, 1},
		{"reestimate", float64(r.Reestimate), 0, most}, {"eval_every", float64(r.EvalEvery), 1, most},
		{"early_stop", float64(r.EarlyStop), 0, most}, {"checkpoints", float64(r.Checkpoints), 1, 1000},
		{"checkpoint_every", float64(r.CheckpointEvery), 0, most},
	} {
		if !(s.x >= s.lo && s.x <= s.hi) {
			bad("%s is %g, expected %g to %g", s.key, s.x, s.lo, s.hi)
		}
	}
	for i, m := range r.Milestones {
		if !(m >= 0 && m <= 1) || i > 0 && m <= r.Milestones[i-1] {
			bad("milestones are %v, expected rising parts of the training from 0 to 1", r.Milestones)
			break
		}
	}
	if err := r.Augment.Check(); err != nil {
		bad("augment: %w", err)
	}
	return errors.Join(errs...)
}

// FineTune returns the recipe for training a trained network further.
func FineTune() Recipe {
	r := Default()
	r.Epochs, r.Rate, r.Schedule, r.WarmUp = 5, 0.01, "cosine", 0.1
	return r
}
