package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// The measurement of integers against floats; `make bench-levels` sets these.
var (
	benchLevels     = flag.String("bench-levels", "", "Markdown file to write")
	benchLevelsOnly = flag.String("bench-levels-only", "", "only models whose path contains this")
)

// levels is a model's times at rest of other work: processor time of one thread,
// milliseconds of each block.
type levels struct {
	name  string
	ours  bool      // quantised by thriftc
	ints  []float64 // the integer level
	quant []float64 // the quantised file, as it says, in floats
	float []float64 // the model without quantisers
	eval  []string  // operators at the integer level that have no kernel
}

// TestBenchLevels times every model beside the checkout with integers and with floats.
func TestBenchLevels(t *testing.T) {
	if *benchLevels == "" {
		t.Skip("a measurement: make bench-levels")
	}
	*benchORTCPU = true
	var rows []*levels
	var left []string
	for _, below := range []string{"models", "cases", "peers"} {
		root := filepath.Join(benchModels, "..", below)
		files, err := filepath.Glob(filepath.Join(root, "*", "model.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		deeper, err := filepath.Glob(filepath.Join(root, "*", "*", "model.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range append(files, deeper...) {
			dir, err := filepath.Rel(filepath.Join(root, ".."), filepath.Dir(file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(dir, *benchLevelsOnly) {
				continue
			}
			l, err := timeLevels(t, dir, file)
			if err != nil {
				left = append(left, fmt.Sprintf("%s: %v", dir, err))
				fmt.Fprintln(os.Stderr, "left out:", left[len(left)-1])
				continue
			}
			rows = append(rows, l)
			fmt.Fprintln(os.Stderr, strings.Join(l.row(), "  "))
		}
	}
	if len(rows) == 0 {
		t.Fatal("no model was measured")
	}
	if err := os.WriteFile(*benchLevels, []byte(describeLevels(rows, left)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// drawn is random samples to calibrate with.
type drawn [][]*tensor.Tensor

func (d drawn) Len() int { return len(d) }

func (d drawn) Batches(int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) {
		for _, in := range d {
			if !yield(in, nil) {
				return
			}
		}
	}
}

// quantised returns a copy of g with quantisers at the layers, and what is computed between them.
func quantised(ctx context.Context, g *ir.Graph) (*ir.Graph, error) {
	var samples drawn
	for seed := range uint64(4) {
		in, err := bench.Input(g, seed)
		if err != nil {
			return nil, err
		}
		samples = append(samples, in)
	}
	steps, err := all.Table.Parse("ptq")
	if err != nil {
		return nil, err
	}
	g = g.Clone()
	_, err = passes.Run(&passes.Context{Context: ctx, Engine: interp.New(), Calib: samples}, g, steps, passes.RunOptions{})
	return g, err
}

// timeLevels times one model, for one sample.
func timeLevels(t *testing.T, name, file string) (*levels, error) {
	l := &levels{name: name}
	g, err := onnxio.Read(file, ops.Table())
	if err != nil {
		return nil, err
	}
	if g, err = bench.WithBatch(g, 1, nil); err != nil {
		return nil, err
	}
	plain := g
	if isQuant := func(n *ir.Node) bool { return n.Op.Name == "thriftc.Quant" }; slices.ContainsFunc(g.Nodes, isQuant) {
		plain = g.Clone()
		r := ir.NewRewriter(plain)
		for _, n := range slices.Clone(plain.Nodes) {
			if isQuant(n) {
				r.ReplaceUses(n.Out[0], n.In[0])
			}
		}
		r.RemoveUnused()
	} else {
		l.ours = true
		if g, err = quantised(t.Context(), g); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(g.Nodes, isQuant) {
			return nil, errors.New("nothing in it is quantised")
		}
	}
	var sides []*side
	in, err := bench.Input(plain, benchSeed)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		g       *ir.Graph
		compile func(context.Context, *ir.Graph, backends.Options) (backends.Executable, error)
		ms      *[]float64
	}{{g, bench.CompileInteger, &l.ints}, {g, bench.Compile, &l.quant}, {plain, bench.Compile, &l.float}} {
		exe, err := s.compile(t.Context(), s.g, backends.Options{Threads: 1})
		if err != nil {
			return nil, err
		}
		defer exe.Close()
		out, err := exe.Run(t.Context(), in)
		if err != nil {
			return nil, err
		}
		if s.ms == &l.ints {
			steps, err := exe.(backends.Profiler).Profile(t.Context(), in)
			if err != nil {
				return nil, err
			}
			for _, p := range steps {
				if p.Kernel == "eval" && !slices.Contains(l.eval, p.Nodes[0].Op.Name) {
					l.eval = append(l.eval, p.Nodes[0].Op.Name)
				}
			}
		}
		sides = append(sides, &side{run: runner(t.Context(), exe, in, out), ms: s.ms})
	}
	return l, inTurn(sides)
}

// ratio is how long integers take, as a part of the time of other runs, by the least times.
func (l *levels) ratio(other []float64) float64 { return slices.Min(l.ints) / slices.Min(other) }

func (l *levels) row() []string {
	name := l.name
	if l.ours {
		name += ", our quantisers"
	}
	ms := func(x []float64) string { return fmt.Sprintf("%.4f", slices.Min(x)) }
	return []string{name, ms(l.ints), ms(l.quant), ms(l.float), fmt.Sprintf("%.2f", l.ratio(l.quant)), fmt.Sprintf("%.2f", l.ratio(l.float)), strings.Join(l.eval, " ")}
}

func describeLevels(rows []*levels, left []string) string {
	var b strings.Builder
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	command := "make bench-levels"
	if *benchORTQuick {
		command += " QUICK=1"
	}
	if *benchLevelsOnly != "" {
		command += " ONLY=" + *benchLevelsOnly
	}
	fmt.Fprintf(&b, "# Integers and floats\n\nWritten by `%s` on %s, commit %s, %s/%s, %s.\n%s\n\n", command, time.Now().UTC().Format("2006-01-02 15:04 MST"),
		bytes.TrimSpace(commit), runtime.GOOS, runtime.GOARCH, runtime.Version(), cpuWords())
	block, rounds := blocks()
	fmt.Fprintf(&b, "Milliseconds of processor time of one thread for one sample, the least of %d blocks of %g ms, all three in turn: `int` is the integer level; `float` the same file with its\n", rounds, block)
	b.WriteString("quantisers computed one by one in floats (`--level float`); `plain` the model without quantisers, whose convolutions may use Winograd's method. Models that came without quantisers were\n")
	b.WriteString("quantised on random numbers, with 8 bits. The last column lists the operators of the integer level for which the engine has no kernel.\n\n")
	t := &report.Table{Head: []string{"model", "int", "float", "plain", "int / float", "int / plain", "no kernel"}}
	logs, slower := 0.0, 0
	for _, l := range rows {
		t.Rows = append(t.Rows, l.row())
		logs += math.Log(l.ratio(l.quant))
		if l.ratio(l.quant) > 1 {
			slower++
		}
	}
	b.WriteString(markdown(t))
	if len(left) > 0 {
		fmt.Fprintf(&b, "\nLeft out:\n\n- %s\n", strings.Join(left, "\n- "))
	}
	fmt.Fprintf(&b, "\nslower with integers: %d of %d; geometric mean of int / float: %.3f\n", slower, len(rows), math.Exp(logs/float64(len(rows))))
	return b.String()
}
