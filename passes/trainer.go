package passes

import (
	"context"
	"time"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Trainer fine-tunes graphs by gradient descent on the run's training data.
// It knows the data, augmentation, batch size and where checkpoints go; a pass
// that trains finds it in its Context and says the rest in a TrainRun.
type Trainer interface {
	// Train changes the numbers of t.Graph: when it returns without an error the
	// trained values, the running statistics of batch norms, and what
	// t.Graph.Updates change stand in the Data of the graph's constants and
	// parameters. The graph's structure stays as it is.
	//
	// The same graph, options, data and seed give the same bytes, whatever the
	// thread count and however often the run was interrupted and resumed.
	// When ctx ends, Train returns its error after writing a checkpoint.
	Train(ctx context.Context, t *TrainRun) (*Trained, error)
}

// TrainRun is one run of gradient descent on a graph in its inference form,
// whose first output holds the logits or probabilities of the classes. Train
// builds the loss, the backward pass and the updates itself.
type TrainRun struct {
	// Name tells the trainings of one run apart, in checkpoints, curves and
	// progress: kebab-case. With --resume a training that was interrupted goes
	// on from its last checkpoint, and one that was finished returns its result at once.
	Name string

	Graph *ir.Graph
	// Params are what is trained: Const or Param values of Graph with
	// floating-point elements. All others stay as they are, except what
	// Graph.Updates change: these updates (such as running ranges) belong to every step,
	// and are left out when the graph is evaluated.
	Params []TrainParam
	// Penalty is a scalar f32 that Graph computes from Params and Scalars, and
	// is added to the loss; nil: none.
	Penalty *ir.Value
	// Scalars are numbers that Each owns. They are kept in checkpoints.
	Scalars []*TrainScalar

	// Teacher, if not nil, is a graph with the same inputs and classes whose
	// outputs the training imitates: the loss is (1 − TeacherWeight) · cross-entropy +
	// TeacherWeight · KL divergence from the teacher (Hinton et al., arXiv 1503.02531).
	Teacher       *ir.Graph
	TeacherWeight float64

	// Epochs and Time say how long to train: the shorter of the two, of which one
	// may be 0. From Time the number of steps is fixed after measuring a few, and
	// kept in the checkpoint, so that the schedule is known and a resumed run has the same.
	Epochs float64
	Time   time.Duration

	Optimizer   string  // sgd (momentum 0.9), nesterov, adam or adamw; "": the trainer's choice
	Rate        float64 // peak learning rate; 0: the trainer's choice
	Schedule    string  // cosine (to 0), constant, step or one-cycle; "": the trainer's choice
	WarmUp      float64 // part of the training in which the rates rise from 0
	WeightDecay float64

	// FrozenStatistics normalises with the running statistics of batch norms,
	// as inference does, and leaves them as they are. Otherwise they are those of the batch, and
	// the running ones are updated.
	FrozenStatistics bool
	// Reestimate replaces the running statistics at the end by the mean of those of
	// so many batches of training data, without augmentation and without changing anything else.
	Reestimate int
	// KeepBest keeps the numbers of the best evaluation instead of the last step's.
	KeepBest bool

	// Each, if not nil, is called before the first step, after every Every-th
	// (0: after every epoch), and after the last one. It may change Scalars. Once it returns
	// stop, the training ends as if this had been its last step.
	Every int
	Each  func(p *TrainProgress) (stop bool, err error)
}

// TrainParam is a value to train and how its update differs from the others'.
type TrainParam struct {
	Value     *ir.Value
	Rate      float64 // peak learning rate instead of TrainRun.Rate; 0: that
	Constant  bool    // its rate does not follow the schedule, but for the warm-up
	Optimizer string  // instead of TrainRun.Optimizer; "": that
	NoDecay   bool    // no weight decay
	// Min and Max limit its elements after every update; both 0: no limit.
	Min, Max float64
}

// TrainScalar is a number that the caller of Train changes during training.
type TrainScalar struct {
	Name  string
	Input *ir.Value // scalar f32 input of Graph that is fed with Value; nil: none
	Value float64   // now; at the beginning the start value
}

// TrainProgress is what Each is told.
type TrainProgress struct {
	Step, Steps int     // steps done, and planned in all
	Epoch       float64 // epochs done
	Elapsed     time.Duration

	Loss     float64 // mean since the last call, without the penalty
	Accuracy float64 // on the augmented training batches since the last call, in percent
	// Top1 is the accuracy on the held-out part of the training data in
	// percent, measured at the ends of epochs; nil at other calls.
	Top1 *float64

	// Data returns the present value of one of Params, of a batch norm's
	// running statistics, or of a parameter that Graph.Updates change.
	Data func(v *ir.Value) *tensor.Tensor
}

// Trained is the result of a training.
type Trained struct {
	Steps   int            `json:"steps"`
	Epochs  float64        `json:"epochs"`
	Seconds float64        `json:"seconds"` // of training, those before an interruption included
	Curve   []TrainedPoint `json:"curve"`   // one point at the end of every epoch
}

// TrainedPoint is a point of a training curve.
type TrainedPoint struct {
	Epoch float64  `json:"epoch"`
	Loss  float64  `json:"loss"`
	Top1  *float64 `json:"top1,omitempty"` // held-out accuracy in percent
}

// RelativeRate is the part of the learning rate that suits weights of unusual scale, as
// folded batch norms and inputs of 0 … 255 leave them: with the rate in proportion to the
// mean square of the weights a step changes all by the same part. Weights as He et al.
// initialise them, of mean square 2 / fan-in, or larger ones get the whole rate. rows is
// how many outputs w has.
func RelativeRate(w *tensor.Tensor, rows int) float64 {
	sum := 0.0
	for _, x := range w.Float64s() {
		sum += x * x
	}
	return min(sum/float64(2*rows), 1)
}
