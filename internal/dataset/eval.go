package dataset

import (
	"context"
	"fmt"
	"math"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Accuracy is how often a classifier was right, in fractions of N samples.
type Accuracy struct {
	Top1 float64 `json:"top1"` // the label had the largest output
	Top5 float64 `json:"top5"` // the label was among the five largest
	N    int     `json:"n"`
}

// NoClasses says why a model is no classifier, so that labels say nothing about its results.
type NoClasses struct{ Reason string }

func (e *NoClasses) Error() string { return e.Reason }

// Evaluate runs a classifier on all samples, batch at a time, and compares
// its first output, one number for each class, with the labels. Of equal
// outputs the one of the lowest class counts as larger. The error is a *NoClasses if the output is something else.
func Evaluate(ctx context.Context, exec backends.Executable, s *Source, batch int) (Accuracy, error) {
	if !s.Labelled() {
		return Accuracy{}, fmt.Errorf("%s: no labels to compare with", s.set.desc.file)
	}
	top1, top5, at := 0, 0, 0
	for in, err := range s.Batches(batch) {
		if err != nil {
			return Accuracy{}, err
		}
		out, err := exec.Run(ctx, in)
		if err != nil {
			return Accuracy{}, err
		}
		n := batch
		if s.batch > 0 {
			n = s.batch
		}
		n = min(n, s.Len()-at)
		ranks, err := s.ranks(out, at, n)
		if err != nil {
			return Accuracy{}, err
		}
		ranks = ranks[:min(n, s.set.Len()-at)] // without records that only fill the batch
		n = len(ranks)
		for _, r := range ranks {
			if r == 0 {
				top1++
			}
			if r < 5 {
				top5++
			}
		}
		at += n
	}
	return Accuracy{float64(top1) / float64(at), float64(top5) / float64(at), at}, nil
}

// ranks returns, for samples at to at+n, how many classes come before the label.
func (s *Source) ranks(out []*tensor.Tensor, at, n int) ([]int, error) {
	if len(out) == 0 || out[0].Elem() == tensor.String || out[0].Elem() == tensor.Bool {
		return nil, &NoClasses{"the model's first output holds no numbers to rank"}
	}
	shape := out[0].Shape()
	wide := 0 // dimensions that could be the classes
	for _, d := range shape[min(1, len(shape)):] {
		if d > 1 {
			wide++
		}
	}
	if wide != 1 || shape[0] != n {
		return nil, &NoClasses{fmt.Sprintf("the model's first output has shape %v for %d samples, which is not one number for each class", shape, n)}
	}
	all := out[0].Float64s()
	classes := len(all) / n
	ranks := make([]int, n)
	for i := range ranks {
		label := s.Label(at + i)
		if label >= classes {
			return nil, fmt.Errorf("%s: label %d, the model has %d outputs (0 to %d); see label_offset and label_column", s.set.Name(at+i), label, classes, classes-1)
		}
		scores := all[i*classes:][:classes]
		for c, x := range scores {
			if math.IsNaN(x) {
				return nil, fmt.Errorf("%s: output %d is NaN", s.set.Name(at+i), c)
			}
			if x > scores[label] || x == scores[label] && c < label {
				ranks[i]++
			}
		}
	}
	return ranks, nil
}
