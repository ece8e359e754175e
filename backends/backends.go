// Package backends says what a backend is. An Engine runs graphs, an Emitter
// writes them for somebody else to run. Implementations live in the folders below.
package backends

import (
	"context"
	"io"

	"thriftc/hwtarget"
	"thriftc/ir"
	"thriftc/ir/tensor"
)

// Options configure a compilation.
type Options struct {
	Threads int // worker threads; 0 means all cores this process may use

	// Kernel is the instruction set whose kernels are used: "portable", "avx2" or
	// "avx512"; "" or "auto" means the best that the CPU has. Results do not depend on it.
	Kernel string
}

// Engine compiles graphs into something that runs.
type Engine interface {
	// Compile prepares g. Symbolic dimensions are bound by the shapes of the
	// inputs at run time. g must not be changed while the executable is in use.
	Compile(ctx context.Context, g *ir.Graph, o Options) (Executable, error)
}

// Executable is a compiled graph. Its methods must not be called concurrently.
type Executable interface {
	// Run computes the graph's outputs from its inputs, both in the graph's order.
	// Cancelling ctx makes it return early with ctx's error.
	Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error)
	// Close releases the executable's threads and memory.
	Close()
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
