// Package thriftc compresses and trains ONNX models, runs them and compares them.
//
// [Compress] and [Train] read a model file and write a folder: the new model, a
// report of what changed, and a recipe that repeats the run. [Open] reads a model to [Run],
// [Evaluate] or [Compare]; [Gate] holds a report against limits. What these functions do, which files
// they write and in which form they read data is as for the commands of the same names:
// docs/cli.md, docs/data.md. docs/library.md begins with an example.
//
// Every function stops when its context is cancelled, and errors have a [Kind]. Functions do not
// print: what there is to say goes to a logger and to callbacks of the options.
package thriftc

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/regular"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Version is the release; [Commit] adds what was built.
const Version = "0.1.0"

// Commit returns the commit that the running program was built from, "" if it is not known.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// build tells builds apart whose numbers may differ.
func build() string { return strings.TrimSpace(Version + " " + Commit() + " " + runtime.GOARCH) }

// Model is a model that has been read.
type Model struct {
	File  string
	Graph *ir.Graph
	Bytes int64            // of the file and its external data; 0 for a .tir file
	Notes []onnxio.Problem // what the reader ignored or repaired

	files []string // File and its external data
}

// maxText bounds a .tir file, in bytes.
const maxText = 2 << 30

// Open reads a model: an .onnx file, or a .tir file, the text form of a graph.
// With an error the model has its File and Notes only.
func Open(file string) (*Model, error) { return open(file, false) }

// open is Open; strict refuses what other readers refuse.
func open(file string, strict bool) (*Model, error) {
	m := &Model{File: file, files: []string{file}}
	var err error
	switch filepath.Ext(file) {
	case ".tir":
		var src []byte
		if src, err = regular.Read(file, maxText); err == nil {
			m.Graph, err = ir.Parse(file, string(src), ops.Table())
		}
	case ".onnx":
		r := onnxio.Reader{Ops: ops.Table(), Strict: strict, Note: func(p onnxio.Problem) { m.Notes = append(m.Notes, p) }}
		m.Graph, err = r.Read(file)
		m.Bytes, m.files = r.Bytes, append(m.files, r.External...)
	default:
		err = usageError("%s: a model's name ends in .onnx or .tir", file)
	}
	return m, err
}

// CheckOutput refuses, with an error of kind [Usage], a file to write that is a file of the model, external
// data included, or one of other files that are read: under whatever name, links included. flag is what names it.
func (m *Model) CheckOutput(flag, file string, others ...string) error {
	for _, target := range []string{file, file + ".data"} { // a large model's weights
		if same := atomicfile.Same(target, slices.Concat(m.files, others)...); same != "" {
			return &Error{Usage, fmt.Errorf("%s %s would replace %s, which is read", flag, target, same), "give another name"}
		}
	}
	return nil
}

// Engine says how a model is run. Results depend on Float and NoWinograd, not on Threads and Kernel.
type Engine struct {
	Threads    int    // 0: all cores that the process may use
	Kernel     string // instruction set: auto, portable, avx2 or avx512; "" is auto
	NoWinograd bool   // compute every convolution in its operator's own order of operations
	Float      bool   // compute what is quantised with floats, as the file says it, instead of with integers where possible
}

func (e Engine) compile(ctx context.Context, g *ir.Graph) (backends.Executable, error) {
	o := backends.Options{Threads: e.Threads, Kernel: cmp.Or(e.Kernel, "auto"), NoWinograd: e.NoWinograd}
	if e.Float {
		return bench.Compile(ctx, g, o)
	}
	return bench.CompileInteger(ctx, g, o)
}

// Compile prepares a model to be run many times. Inputs and outputs of the result are in the
// order of m.Graph's; Close it when it is not needed any more.
func (m *Model) Compile(ctx context.Context, e Engine) (backends.Executable, error) {
	return e.compile(ctx, m.Graph)
}

// Run runs a model once on inputs by their names and returns its outputs by theirs.
func Run(ctx context.Context, m *Model, in map[string]*tensor.Tensor, e Engine) (map[string]*tensor.Tensor, error) {
	inputs := make([]*tensor.Tensor, len(m.Graph.Inputs))
	var names []string
	for i, v := range m.Graph.Inputs {
		inputs[i] = in[v.Name]
		names = append(names, fmt.Sprintf("%s: %v", v.Name, v.Type))
	}
	if len(in) != len(inputs) || slices.Contains(inputs, nil) {
		return nil, usageError("%s: the inputs are %s", m.File, strings.Join(names, ", "))
	}
	exe, err := m.Compile(ctx, e)
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	results, err := exe.Run(ctx, inputs)
	if err != nil {
		return nil, err
	}
	out := map[string]*tensor.Tensor{}
	for i, v := range m.Graph.Outputs {
		out[v.Name] = results[i]
	}
	return out, nil
}

// Accuracy is how often a classifier was right, in fractions of N samples.
type Accuracy struct {
	Top1 float64 `json:"top1"` // the label had the largest output
	Top5 float64 `json:"top5"` // the label was among the five largest
	N    int     `json:"n"`
}

// EvaluateOptions say how Evaluate measures.
type EvaluateOptions struct {
	Data     string // data description
	Batch    int    // samples that run at once; 0: 32
	Engine   Engine
	Progress Progress
}

// Progress is told how much of a named piece of work is done; nil is told nothing.
type Progress func(what string, done, total int)

// Evaluate measures how often the first output of a classifier is largest, or among
// the five largest, where the label says.
func Evaluate(ctx context.Context, m *Model, o EvaluateOptions) (Accuracy, error) {
	if o.Batch < 0 {
		return Accuracy{}, usageError("--batch %d: at least 1 is needed", o.Batch)
	}
	set, err := dataset.Open(o.Data)
	if err != nil {
		return Accuracy{}, err
	}
	if err := checkLabels(set, m.Graph); err != nil {
		return Accuracy{}, err
	}
	return accuracy(ctx, m.Graph, set, cmp.Or(o.Batch, evalBatch), o.Engine, o.Progress)
}
