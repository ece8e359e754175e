package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

type optOptions struct {
	passes, output, data       string
	format                     string
	opset, calibSamples, batch int
	seed                       uint64
	threads                    int
	dumpDir, check             string
	startAfter, stopAfter      string
	stats, time, asJSON        bool
}

func newOpt() *cobra.Command {
	var o optOptions
	c := &cobra.Command{
		Use:   "opt --passes=PIPELINE IN -o OUT",
		Short: "Run compiler passes on a graph",
		Long: `Run any pipeline of passes on a graph, from .onnx or .tir (the text form) to
either. 'thriftc passes' lists the passes and the named pipelines. When a pass
fails, the graph before it and the command that repeats the failure are written
to the folder named by --dump-dir, or beside OUT.`,
		Example: `  thriftc opt --passes=fold,canonicalize,foldbn,dce model.onnx -o model.tir
  thriftc opt --passes='quantize{weight-bits=4}' --data desc.yaml model.onnx -o small.onnx`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runOpt(c, args[0], &o) },
	}
	f := c.Flags()
	f.StringVar(&o.passes, "passes", "", "the pipeline: fold,quantize{weight-bits=8},…")
	f.StringVarP(&o.output, "output", "o", "", "file to write, .onnx or .tir; - prints the text form")
	f.StringVar(&o.data, "data", "", "data description for passes that calibrate")
	f.IntVar(&o.calibSamples, "calib-samples", thriftc.DefaultCalibSamples, "how many samples calibrate")
	f.StringVar(&o.format, "format", "qdq", "how quantisers are written to .onnx: qdq, qcdq or qonnx")
	f.IntVar(&o.batch, "batch", 0, "samples that the written graph computes at once; 0 means as the model says")
	f.IntVar(&o.opset, "opset", 0, "opset of a written .onnx; 0 means 17, or what the model needs")
	f.Uint64Var(&o.seed, "seed", 0, "of all randomness")
	f.StringVar(&o.dumpDir, "dump-dir", "", "folder for the graph after every pass")
	f.StringVar(&o.check, "check", "", "npz file with inputs: run the graph before and after every pass and compare")
	f.StringVar(&o.startAfter, "start-after", "", "skip the pipeline up to this pass (name or number)")
	f.StringVar(&o.stopAfter, "stop-after", "", "stop after this pass (name or number)")
	f.BoolVar(&o.stats, "stats", false, "print what every pass did")
	f.BoolVar(&o.time, "time", false, "print the time of every pass")
	f.BoolVar(&o.asJSON, "json", false, "print statistics and times as JSON")
	addThreads(c, &o.threads)
	return c
}

func runOpt(c *cobra.Command, in string, o *optOptions) error {
	if o.output == "" {
		return usageError("-o is needed")
	}
	steps, err := all.Table.Parse(o.passes)
	if err != nil {
		return usageError("--passes: %w", err)
	}
	if ext := filepath.Ext(o.output); o.output != "-" && ext != ".onnx" && ext != ".tir" {
		return usageError("-o %s: the name must end in .onnx or .tir", o.output)
	}
	m, err := openModel(c, in)
	if err != nil {
		return err
	}
	g := m.Graph
	if err := m.CheckOutput("-o", o.output, o.check, o.data); err != nil {
		return err
	}
	pc := &passes.Context{
		Context: c.Context(), Seed: o.seed, Threads: o.threads, Engine: interp.New(),
		Log: newLog(c.ErrOrStderr()),
	}
	if o.data != "" {
		set, err := dataset.Open(o.data)
		if err != nil {
			return err
		}
		src, err := set.Shuffle(o.seed).Take(o.calibSamples).For(g)
		if err != nil {
			return err
		}
		pc.Calib = src
	}
	ro := passes.RunOptions{DumpDir: o.dumpDir, StartAfter: o.startAfter, StopAfter: o.stopAfter, ReproDir: o.dumpDir}
	if ro.ReproDir == "" && o.output != "-" {
		ro.ReproDir = o.output + ".failed"
	}
	for _, dir := range []string{o.dumpDir, ro.ReproDir} {
		if dir != "" && atomicfile.Same(filepath.Dir(in), dir) != "" {
			return usageError("graphs are written to %s, where %s is, too: give another --dump-dir", dir, in)
		}
	}
	if o.check != "" {
		in, err := inputsFromNPZ(o.check, g)
		if err != nil {
			return err
		}
		ro.Check = [][]*tensor.Tensor{in}
	}
	res, err := passes.Run(pc, g, steps, ro)
	if err != nil {
		return err
	}
	if o.asJSON {
		if err := writeJSON(c.OutOrStdout(), res); err != nil {
			return err
		}
	} else if o.stats || o.time {
		printSteps(c.ErrOrStderr(), res, o)
	}
	if o.batch != 0 {
		if o.batch < 0 {
			return usageError("--batch %d: expected 1 or more", o.batch)
		}
		if g, err = bench.FixBatch(g, o.batch); err != nil {
			return fmt.Errorf("--batch %d: %w", o.batch, err)
		}
	}
	return writeModel(c.OutOrStdout(), o.output, g, o.format, o.opset)
}

func printSteps(w io.Writer, res *passes.Result, o *optOptions) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i, s := range res.Steps {
		changed := "unchanged"
		if s.Changed {
			changed = "changed"
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%d nodes", i+1, s.Pass, changed, s.Nodes)
		if o.time {
			fmt.Fprintf(tw, "\t%.3f s", s.Seconds)
		}
		if s.Difference != nil {
			fmt.Fprintf(tw, "\tdifference %.2g", *s.Difference)
		}
		fmt.Fprintln(tw)
		if o.stats {
			for _, st := range s.Stats {
				fmt.Fprintf(tw, "\t  %s: %v\n", st.Name, st.Value)
			}
		}
	}
	tw.Flush()
}

// inputsFromNPZ reads a graph's inputs, by name, from an npz file.
func inputsFromNPZ(path string, g *ir.Graph) ([]*tensor.Tensor, error) {
	arrays, err := dataset.ReadNPZ(path)
	if err != nil {
		return nil, err
	}
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, v := range g.Inputs {
		for _, a := range arrays {
			if a.Name == v.Name || len(arrays) == 1 && len(in) == 1 {
				in[i] = a.Tensor
			}
		}
		if in[i] == nil {
			return nil, fmt.Errorf("%s holds no array %q; the model's inputs are %s", path, v.Name, inputNames(g))
		}
	}
	return in, nil
}

// writeModel writes a graph as .onnx in a dialect, as .tir, or prints it ("-").
func writeModel(stdout io.Writer, path string, g *ir.Graph, format string, opset int) error {
	if path == "-" {
		return ir.Print(stdout, g)
	}
	if filepath.Ext(path) == ".tir" {
		var b bytes.Buffer
		if err := ir.Print(&b, g); err != nil {
			return err
		}
		return writeFile(path, b.Bytes())
	}
	if !slices.Contains(onnx.Formats, onnx.Format(format)) {
		return usageError("--format %s: there are %s", format, formatNames())
	}
	return onnx.Write(path, g, onnx.Format(format), onnxio.WriteOptions{Opset: opset})
}

// formatNames lists the dialects for messages.
func formatNames() string {
	var s []string
	for _, f := range onnx.Formats {
		s = append(s, string(f))
	}
	return strings.Join(s, ", ")
}

// writeFile writes a file that appears complete or not at all.
func writeFile(path string, data []byte) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
