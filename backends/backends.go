// Package backends says what a backend is. An Engine runs graphs, an Emitter
// writes them for somebody else to run. Implementations live in the folders below.
package backends

import (
	"context"
	"io"
	"time"

	"github.com/thriftc/thriftc/hwtarget"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Options configure a compilation.
type Options struct {
	Threads int // worker threads; 0 means all cores this process may use

	// Kernel is the instruction set whose kernels are used: "portable", "avx2" or
	// "avx512"; "" or "auto" means the best that the CPU has. Results do not depend on it.
	Kernel string

	// NoWinograd computes every convolution in its operator's own order of
	// operations, where a faster order may otherwise be chosen.
	NoWinograd bool

	// State holds the parameters of the graph, and of others that share it; nil
	// means a State of its own, which starts from the initial values.
	State *State
}

// Engine compiles graphs into something that runs.
type Engine interface {
	// Compile prepares g. Symbolic dimensions are bound by the shapes of the
	// inputs at run time. g must not be changed while the executable is in use.
	Compile(ctx context.Context, g *ir.Graph, o Options) (Executable, error)
}

// Selector is an Engine that says which nodes it has kernels for.
type Selector interface {
	Engine
	// Unserved returns the nodes of g, in its order, that no kernel computes: the
	// reference of their operators does, which is slow. Symbolic dimensions of inputs
	// are taken to be 1. The answer does not depend on the CPU.
	Unserved(ctx context.Context, g *ir.Graph) ([]*ir.Node, error)
}

// Executable is a compiled graph. Its methods must not be called concurrently.
type Executable interface {
	// Run computes the graph's outputs from its inputs, both in the graph's order.
	// Then it updates the parameters that the graph changes (Graph.Updates).
	// Cancelling ctx makes it return early with ctx's error and nothing updated;
	// in may then be read until the next call of a method returns.
	Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error)
	// RunInto is Run into the tensors of out, which have the types of the outputs
	// and share no memory with in. Once it has run with inputs of the same shapes
	// it allocates nothing where kernels compute every node. The graph must not
	// change parameters.
	RunInto(ctx context.Context, in, out []*tensor.Tensor) error
	// Close releases the executable's threads and memory.
	Close()
}

// Profiler is an Executable that says where its time and memory go.
type Profiler interface {
	Executable
	// Profile runs as Run does and returns the steps of the run in order.
	Profile(ctx context.Context, in []*tensor.Tensor) ([]Step, error)
	// Memory describes the last run.
	Memory() Memory
}

// Step is a part of a run: a node, or several that are computed together.
type Step struct {
	Nodes  []*ir.Node // in order, with the types of this run; not to be changed; none where a value is only moved
	Kernel string     // what computes them; "eval" is the operator's reference
	Time   time.Duration
}

// Memory is what a run needs, in bytes.
type Memory struct {
	Arena   int64 // results that are not the caller's, where they share one block
	Scratch int64 // temporary memory of kernels, all threads together
}

// Problem is a reason why a graph cannot be emitted.
type Problem struct {
	Node   string // label of the node, or "" for the whole graph
	Reason string // what is wrong and what to do
}

// Sink receives the files of an artefact; names are relative, with slashes.
type Sink interface {
	Create(name string) (io.WriteCloser, error)
}

// Emitter writes a graph in a foreign form.
type Emitter interface {
	// Check lists every reason why Emit would fail.
	Check(g *ir.Graph, t *hwtarget.Target) []Problem
	// Emit writes the artefact's files.
	Emit(ctx context.Context, g *ir.Graph, t *hwtarget.Target, s Sink) error
}
