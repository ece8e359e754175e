// Package passes says what a compiler pass is and runs sequences of passes.
// Package passes/all holds the table of all passes and their order.
package passes

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Pass is one transformation of a graph. A pass is a pointer to a struct whose
// exported fields are its options, set by their kebab-case names:
// quantize{weight-bits=4}. Fields have a `help` tag, and their values in what
// Info.New returns are the defaults.
type Pass interface {
	// Run changes g in place. On an error g is in an unspecified state.
	Run(c *Context, g *ir.Graph) error
}

// Kind says what a pass may do to the results of a graph.
type Kind uint8

// The kinds of passes.
const (
	Exact    Kind = iota // equal results up to float rounding that the pass's page states
	Lossy                // other results, by design
	Training             // changes parameters by gradient descent
)

func (k Kind) String() string { return [...]string{"exact", "lossy", "training"}[k] }

// Info describes a pass: what the table in passes/all lists.
type Info struct {
	Name string // kebab-case
	Doc  string // first sentence is the title
	Kind Kind
	New  func() Pass // the pass with its default options
}

// Context is what a pass may use of the world. Fields that a run does not
// have are nil; a pass that needs one says so in its error.
type Context struct {
	context.Context
	Seed    uint64          // all randomness comes from here
	Threads int             // worker threads; 0 means all cores
	Engine  backends.Engine // runs graphs

	// Calib gives calibration samples; nil when there is no data.
	Calib Samples
	// Score measures a graph on labelled data that the run may use for
	// choosing: top-1 accuracy in percent, higher is better. nil when there is none.
	Score func(ctx context.Context, g *ir.Graph) (float64, error)
	// Trainer fine-tunes graphs on the run's training data; nil when there is none.
	Trainer Trainer
	// Offer takes the finished graphs that a search finds on its way, so that the
	// best so far is kept whenever the run ends; nil when nobody wants them.
	Offer func(c Candidate) error
	// Until is when passes that search or train should be done, as with
	// --time-budget; zero: no limit.
	Until time.Time

	// Log takes messages for the user; warnings stand in the report.
	Log *slog.Logger
	// Progress, if not nil, is told how much of a named piece of work is done.
	Progress func(what string, done, total int)

	// Stats collects the counts and findings of the running pass for the
	// report, in order of Stat calls.
	stats []Stat
}

// Samples is a source of input tensors.
type Samples interface {
	// Len returns the number of samples.
	Len() int
	// Batches yields the samples in a fixed order, size at a time (fewer in
	// the last batch): the graph's inputs in order, batched along the first
	// dimension. It can be iterated any number of times and holds one batch in memory.
	Batches(size int) iter.Seq2[[]*tensor.Tensor, error]
}

// Stat is one finding of a pass.
type Stat struct {
	Name  string `json:"name"`
	Value any    `json:"value"` // a number, a string, or something that marshals to JSON
}

// Stat records a finding of the running pass.
func (c *Context) Stat(name string, value any) { c.stats = append(c.stats, Stat{name, value}) }

// Candidate is a finished graph that a search has found on its way.
type Candidate struct {
	Name  string // of the training that it comes from
	Graph *ir.Graph
	Size  float64 // what the search makes small; of equal accuracy the smaller is better
	Score float64 // as of Context.Score
	Least float64 // the score that it should have to keep to a budget; 0: there is none
}
