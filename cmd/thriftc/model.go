package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// readModel reads an .onnx or .tir file; what the reader repaired or ignored
// goes to notes.
func readModel(path string, notes io.Writer) (*ir.Graph, error) {
	g, _, err := readModelSize(path, notes)
	return g, err
}

// readModelSize is readModel that also returns the size in bytes of an .onnx
// file and its external data, 0 for a .tir file.
func readModelSize(path string, notes io.Writer) (*ir.Graph, int64, error) {
	switch filepath.Ext(path) {
	case ".tir":
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, 0, err
		}
		g, err := ir.Parse(path, string(src), ops.Table())
		return g, 0, err
	case ".onnx":
		r := onnxio.Reader{Ops: ops.Table(), Note: func(p onnxio.Problem) {
			fmt.Fprintf(notes, "thriftc: note: %s: %s\n", path, p)
		}}
		g, err := r.Read(path)
		return g, r.Bytes, err
	}
	return nil, 0, usageError("%s: a model's name ends in .onnx or .tir", path)
}

// addThreads adds the flag that all running commands share.
func addThreads(c *cobra.Command, threads *int) {
	c.Flags().Var((*threadCount)(threads), "threads", "worker threads; 0 means all cores")
}

// engineOptions say how a model is run.
type engineOptions struct {
	backends.Options
	level string // one of levelNames
}

var levelNames = []string{"int", "float"}

// addEngine adds the flags that choose how the engine runs a model.
func addEngine(c *cobra.Command, o *engineOptions) {
	o.level = "int"
	c.Flags().Var(&oneOf{&o.level, "level", levelNames}, "level", "arithmetic of what is quantised: int computes with integers where that is possible, float as the file says it")
	addThreads(c, &o.Threads)
	o.Kernel = "auto"
	c.Flags().Var(&oneOf{&o.Kernel, "name", kernelNames}, "kernel", "instruction set: "+strings.Join(kernelNames, ", "))
	c.Flags().BoolVar(&o.NoWinograd, "no-winograd", false, "compute every convolution in its operator's own order of operations")
}

var kernelNames = []string{"auto", "portable", "avx2", "avx512"}

// oneOf is a flag that takes one of some words.
type oneOf struct {
	to    *string
	what  string
	words []string
}

func (f *oneOf) String() string {
	if f.to == nil { // of the zero value, which pflag compares defaults with
		return ""
	}
	return *f.to
}

func (f *oneOf) Type() string { return f.what }

func (f *oneOf) Set(s string) error {
	if !slices.Contains(f.words, s) {
		return fmt.Errorf("is none of %s", strings.Join(f.words, ", "))
	}
	*f.to = s
	return nil
}

// threadCount is a flag that refuses negative numbers.
type threadCount int

func (t *threadCount) String() string { return strconv.Itoa(int(*t)) }
func (t *threadCount) Type() string   { return "int" }

func (t *threadCount) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return errors.New("is not a number of threads")
	}
	*t = threadCount(n)
	return nil
}

// byteSize is a flag that takes a number of bytes with an optional unit.
type byteSize int64

func (b *byteSize) String() string { return strconv.FormatInt(int64(*b), 10) }
func (b *byteSize) Type() string   { return "size" }

func (b *byteSize) Set(s string) error {
	number := strings.TrimRight(s, "KMGTiB")
	units := map[string]float64{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	unit, known := units[s[len(number):]]
	x, err := strconv.ParseFloat(number, 64)
	if err != nil || !known || !(x >= 0 && x*unit < 1<<62) {
		return errors.New("is not a size; write 200MiB, 0.5GB or a number of bytes")
	}
	*b = byteSize(x * unit)
	return nil
}

func compile(ctx context.Context, g *ir.Graph, o backends.Options) (backends.Executable, error) {
	return interp.New().Compile(ctx, g, o)
}

// compileAt compiles a model at the level that the user chose.
func compileAt(ctx context.Context, g *ir.Graph, o engineOptions) (backends.Executable, error) {
	if o.level == "int" {
		var err error
		if g, err = integerLevel(ctx, g); err != nil {
			return nil, err
		}
	}
	return compile(ctx, g, o.Options)
}

// integerLevel returns a copy of g that computes with integers where it can, or
// g itself if nothing in it is quantised.
func integerLevel(ctx context.Context, g *ir.Graph) (*ir.Graph, error) {
	if !slices.ContainsFunc(g.Nodes, func(n *ir.Node) bool { return n.Op.Name == "thriftc.Quant" }) {
		return g, nil
	}
	steps, err := all.Table.Parse("lowerint")
	if err != nil {
		return nil, err
	}
	g = g.Clone()
	_, err = passes.Run(&passes.Context{Context: ctx, Log: slog.New(slog.DiscardHandler)}, g, steps, passes.RunOptions{})
	return g, err
}

// evalBatch is how many samples run at once where the user does not say.
const evalBatch = 32

// score evaluates a classifier on labelled data.
func score(ctx context.Context, g *ir.Graph, s *dataset.Set, threads int) (dataset.Accuracy, error) {
	src, err := s.For(g)
	if err != nil {
		return dataset.Accuracy{}, err
	}
	exe, err := compile(ctx, g, backends.Options{Threads: threads})
	if err != nil {
		return dataset.Accuracy{}, err
	}
	defer exe.Close()
	return dataset.Evaluate(ctx, exe, src, evalBatch)
}

// checkLabels reports the labels that a classifier with a known number of
// classes has no output for.
func checkLabels(s *dataset.Set, g *ir.Graph) error {
	if !s.Labelled() || len(g.Outputs) == 0 {
		return nil
	}
	t := g.Outputs[0].Type
	if t.Unranked || len(t.Dims) != 2 || !t.Dims[1].Known() {
		return nil // found when the model runs
	}
	const show = 5
	var errs []error
	n := 0
	for i := range s.Len() {
		if s.Label(i) < t.Dims[1].N {
			continue
		}
		if n++; n <= show {
			errs = append(errs, fmt.Errorf("%s: %s: label %d, the model has %d outputs (0 to %d)", s.File(), s.Name(i), s.Label(i), t.Dims[1].N, t.Dims[1].N-1))
		}
	}
	if n > show {
		errs = append(errs, fmt.Errorf("and %d more", n-show))
	}
	if n == 0 {
		return nil
	}
	return &exitError{exitFailed, errors.Join(errs...), "see label_offset and label_column in docs/data.md"}
}

// commonValues returns the names of the float results that both graphs
// compute in the same shape, in a's order.
func commonValues(a, b *ir.Graph) []string {
	inB := map[string]*ir.Value{}
	for _, n := range b.Nodes {
		for _, v := range n.Out {
			if v != nil {
				inB[v.Name] = v
			}
		}
	}
	var out []string
	for _, n := range a.Nodes {
		for _, v := range n.Out {
			if v == nil || !v.Type.Elem.IsFloat() {
				continue
			}
			w := inB[v.Name]
			if w != nil && w.Type.Elem == v.Type.Elem && v.Type.Compatible(w.Type) && !slices.Contains(out, v.Name) {
				out = append(out, v.Name)
			}
		}
	}
	return out
}

// inputNames lists a graph's inputs for messages.
func inputNames(g *ir.Graph) string {
	var s []string
	for _, v := range g.Inputs {
		s = append(s, fmt.Sprintf("%s: %v", v.Name, v.Type))
	}
	return strings.Join(s, ", ")
}

// iterPull turns a sequence of batches into a function that returns the next.
func iterPull(seq iter.Seq2[[]*tensor.Tensor, error]) (next func() ([]*tensor.Tensor, error), stop func()) {
	pull, stop := iter.Pull2(seq)
	return func() ([]*tensor.Tensor, error) {
		t, err, ok := pull()
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		return t, err
	}, stop
}
