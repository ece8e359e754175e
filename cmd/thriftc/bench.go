package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/report"
)

type benchOptions struct {
	engine  engineOptions
	batch   int
	dims    map[string]string
	runs    int
	seconds float64
	seed    uint64
	random  bool
	profile string
	all     bool
	asJSON  bool
}

func newBench() *cobra.Command {
	var o benchOptions
	c := &cobra.Command{
		Use:   "bench MODEL [MODEL2]",
		Short: "Measure how fast a model runs, and where its time goes",
		Long: `Run a model on random inputs and print the median and the least time of a run, the
rate of its arithmetic (two operations for each multiply-accumulate), the memory
that results between nodes take, and the nodes that take longest. Two models run in turn and are
compared. The first runs, in which memory is set up and weights are packed, do not count.

Nodes that are computed together are one line. They are profiled in runs of their own.`,
		Example: `  thriftc bench testmodels/glyphs.onnx --batch 8
  thriftc bench before.onnx after.onnx --threads 2 --profile profile.html --json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error { return o.bench(c, args) },
	}
	f := c.Flags()
	f.IntVar(&o.batch, "batch", 1, "samples in a run: the first dimension of the inputs")
	f.StringToStringVar(&o.dims, "dim", nil, "sizes of the inputs' other symbolic dimensions, as NAME=SIZE")
	f.IntVar(&o.runs, "runs", 0, "runs of each model that are timed; 0: as many as --seconds allow")
	f.Float64Var(&o.seconds, "seconds", 3, "how long each model is timed, three runs at least; without effect if --runs is given")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the random numbers")
	f.BoolVar(&o.random, "random-weights", false, "replace floating-point weights by random numbers, for models that come without")
	f.StringVar(&o.profile, "profile", "", "HTML file to write with a flame graph of each model's nodes")
	f.BoolVar(&o.all, "all", false, "list all nodes in the order of the run")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	addEngine(c, &o.engine)
	return c
}

// benchResult is what is known about one model; times are of one run, of all its samples.
type benchResult struct {
	MedianMS     float64 `json:"median_ms"`
	MinMS        float64 `json:"min_ms"`
	Runs         int     `json:"runs"`
	GFLOPS       float64 `json:"gflops"`     // 2 · MACs over the median
	PeakBytes    int64   `json:"peak_bytes"` // of the memory that holds results between nodes
	ScratchBytes int64   `json:"scratch_bytes"`
	Model        string  `json:"model"`
	Batch        int     `json:"batch"`
	Threads      int     `json:"threads"` // 0: as many as cores
	Kernel       string  `json:"kernel"`
	Level        string  `json:"level"` // of what is quantised
	MACs         int64   `json:"macs"`
	CompileMS    float64 `json:"compile_ms"`   // until the first run starts
	FirstRunMS   float64 `json:"first_run_ms"` // including the plan for its shapes and the packing of weights

	Profile *report.Profile `json:"profile,omitempty"`
}

// profiledRuns is over how many runs the times of nodes are taken.
const profiledRuns = 9

func (o *benchOptions) bench(c *cobra.Command, files []string) error {
	dims, err := o.check()
	if err != nil {
		return err
	}
	results := make([]*benchResult, len(files))
	models := make([]*bench.Timed, len(files))
	for i, file := range files {
		m, err := openModel(c, file)
		if err != nil {
			return err
		}
		if err := m.CheckOutput("--profile", o.profile); err != nil {
			return err
		}
		if o.random {
			if m.Graph, err = bench.Randomise(m.Graph, o.seed); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		if m.Graph, err = bench.WithBatch(m.Graph, o.batch, dims); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		results[i] = &benchResult{Model: file, Threads: o.engine.Threads, Kernel: o.engine.Kernel, Level: o.engine.level}
		if models[i], err = o.prepare(c, m, results[i]); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		defer models[i].Exe.Close()
	}
	bar := newProgress(c)
	defer bar.Clear()
	t := bench.Timing{Runs: o.runs}
	if o.runs == 0 {
		t.Limit = time.Duration(o.seconds * float64(len(models)) * float64(time.Second))
	}
	err = t.Measure(c.Context(), models, func(done float64) { bar.Update("measuring", int(1000*done), 1000) })
	bar.Clear()
	if err != nil {
		return err
	}
	for i, m := range models {
		if err := results[i].fill(c, m); err != nil {
			return fmt.Errorf("%s: %w", files[i], err)
		}
	}
	if o.profile != "" {
		var profiles []*report.Profile
		for _, r := range results {
			profiles = append(profiles, r.Profile)
		}
		title := fmt.Sprintf("thriftc bench %s, batch %d", strings.Join(files, " "), o.batch)
		if err := atomicfile.Write(o.profile, func(w io.Writer) error { return report.WriteHTML(w, title, profiles...) }); err != nil {
			return err
		}
	}
	return o.print(c.OutOrStdout(), results)
}

// check checks the flags and returns --dim as numbers.
func (o *benchOptions) check() (map[string]int, error) {
	switch {
	case o.batch < 1:
		return nil, usageError("--batch %d: at least 1 is needed", o.batch)
	case o.runs < 0:
		return nil, usageError("--runs %d", o.runs)
	case !(o.seconds > 0 && o.seconds <= 86400):
		return nil, usageError("--seconds %g: more than 0 and at most a day", o.seconds)
	}
	dims := map[string]int{}
	for name, size := range o.dims {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 {
			return nil, usageError("--dim %s=%s: the size is not a number of at least 1", name, size)
		}
		dims[name] = n
	}
	return dims, nil
}

// prepare compiles a model and runs it once.
func (o *benchOptions) prepare(c *cobra.Command, m *thriftc.Model, r *benchResult) (*bench.Timed, error) {
	in, err := bench.Input(m.Graph, o.seed)
	if err != nil {
		return nil, err
	}
	r.Batch = bench.BatchOf(in)
	start := time.Now()
	exe, err := m.Compile(c.Context(), o.engine.engine())
	if err != nil {
		return nil, err
	}
	compiled := time.Now()
	r.CompileMS = bench.Milliseconds(compiled.Sub(start))
	if _, err := exe.Run(c.Context(), in); err != nil {
		exe.Close()
		return nil, err
	}
	r.FirstRunMS = bench.Milliseconds(time.Since(compiled))
	return &bench.Timed{Exe: exe, In: in}, nil
}

// fill takes the times of a model that has been measured, and profiles it.
func (r *benchResult) fill(c *cobra.Command, m *bench.Timed) error {
	exe := m.Exe.(backends.Profiler)
	var runs [][]backends.Step
	for range profiledRuns {
		steps, err := exe.Profile(c.Context(), m.In)
		if err != nil {
			return err
		}
		runs = append(runs, steps)
	}
	r.Profile = report.NewProfile(r.Model, runs)
	r.MACs = r.Profile.MACs()
	memory := exe.Memory()
	r.PeakBytes, r.ScratchBytes = memory.Arena, memory.Scratch
	r.MedianMS, r.MinMS, r.Runs = bench.Median(m.Runs), slices.Min(m.Runs), len(m.Runs)
	r.GFLOPS = 2 * float64(r.MACs) / r.MedianMS / 1e6
	return nil
}

func (o *benchOptions) print(w io.Writer, results []*benchResult) error {
	if o.asJSON {
		if o.profile == "" {
			for _, r := range results {
				r.Profile = nil
			}
		}
		if len(results) == 1 {
			return writeJSON(w, results[0])
		}
		return writeJSON(w, struct {
			Models []*benchResult `json:"models"`
			Ratio  float64        `json:"ratio"` // the second model's median over the first's
		}{results, results[1].MedianMS / results[0].MedianMS})
	}
	most := 20
	if o.all {
		most = 0
	}
	for i, r := range results {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s, batch %d: median %.3f ms, least %.3f ms of %d runs, %.1f GFLOP/s, results between nodes take %s bytes\n",
			report.Printable(r.Model), r.Batch, r.MedianMS, r.MinMS, r.Runs, r.GFLOPS, report.Count(r.PeakBytes))
		fmt.Fprintf(w, "compiled in %.1f ms, first run %.1f ms\n\n", r.CompileMS, r.FirstRunMS)
		if err := r.Profile.Table(most).Write(w, isTerminal(w)); err != nil {
			return err
		}
	}
	if len(results) == 2 {
		fmt.Fprintf(w, "\nratio of medians, second to first: %.3f\n", results[1].MedianMS/results[0].MedianMS)
	}
	return nil
}
