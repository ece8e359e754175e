package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// The measurement of convolutions with one weight per kernel slice; `make bench-mux` sets it.
var benchMuxOut = flag.String("bench-mux", "", "Markdown file to write")

// oneWeight builds ResNet-20 for 32×32 images, of so many base maps, whose
// 3×3 convolutions but the first have one weight per slice, at positions drawn by
// seed. Batch normalisation is in weights and biases already.
func oneWeight(maps int, seed uint64) *ir.Graph {
	g := ir.NewGraph("resnet20", ops.Table())
	r, rng := ir.NewRewriter(g), rand.New(rand.NewPCG(seed, uint64(maps)))
	normals := func(n int, scale float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64() * scale)
		}
		return x
	}
	conv := func(x *ir.Value, in, out, kernel, stride int, one bool) *ir.Value {
		w := normals(in*out*kernel*kernel, math.Sqrt(2/float64(in*kernel*kernel)))
		if one {
			for s := range in * out {
				slice := w[9*s:][:9]
				keep := rng.IntN(9)
				v := 3 * slice[keep]
				clear(slice)
				slice[keep] = v
			}
		}
		pad := kernel / 2
		return r.Must1("Conv", "", ir.MakeAttrs("pads", []int{pad, pad, pad, pad}, "strides", []int{stride, stride}),
			x, r.Const("w", tensor.Of(w, out, in, kernel, kernel)), r.Const("b", tensor.Of(normals(out, 0.1), out)))
	}
	relu := func(x *ir.Value) *ir.Value { return r.Must1("Relu", "", nil, x) }
	x := r.Input("input", ir.TensorType(tensor.F32, ir.Dims(1, 3, 32, 32)...))
	x = relu(conv(x, 3, maps, 3, 1, false))
	in := maps
	for stage, out := range []int{maps, 2 * maps, 4 * maps} {
		for block := range 3 {
			stride, short := 1, x
			if stage > 0 && block == 0 {
				stride = 2
				short = conv(x, in, out, 1, 2, false)
			}
			y := relu(conv(x, in, out, 3, stride, true))
			x = relu(r.Must1("Add", "", nil, conv(y, out, out, 3, 1, true), short))
			in = out
		}
	}
	x = r.Must1("Flatten", "", nil, r.Must1("GlobalAveragePool", "", nil, x))
	x = r.Must1("Gemm", "", nil, x, r.Const("w", tensor.Of(normals(in*10, 0.1), in, 10)))
	r.Output(x)
	r.Rename(x, "output")
	return g
}

// muxRow is the times of one network.
type muxRow struct {
	maps                 int
	mux, dense, theirs   []float64 // milliseconds of each run
	muxBytes, denseBytes []float64
	macs                 int64
	difference           float64
	others               float64 // part of the machine's time that other programs had
	versions             string
}

// TestBenchMux times networks with one weight per kernel slice against their dense twins.
func TestBenchMux(t *testing.T) {
	if *benchMuxOut == "" {
		t.Skip("a measurement: make bench-mux")
	}
	ort.Need(t)
	var rows []*muxRow
	for _, maps := range []int{16, 83} {
		row, err := timeMux(t, maps)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stderr, "%d maps: %s, dense %s, ONNX Runtime %s, int8 %s, dense %s\n", maps, timesOf(row.mux), timesOf(row.dense), timesOf(row.theirs), timesOf(row.muxBytes), timesOf(row.denseBytes))
		rows = append(rows, row)
	}
	text := describeMux(rows)
	fmt.Print(text)
	if err := os.WriteFile(*benchMuxOut, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func timeMux(t *testing.T, maps int) (*muxRow, error) {
	g := oneWeight(maps, benchSeed)
	file := filepath.Join(t.TempDir(), "model.onnx")
	if err := onnxio.Write(file, g, onnxio.WriteOptions{}); err != nil {
		return nil, err
	}
	in, err := bench.Input(g, benchSeed)
	if err != nil {
		return nil, err
	}
	theirs, err := ort.Start(t.Context(), file, []ort.Named{{Name: "input", Tensor: in[0]}}, benchThreads)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	row := &muxRow{maps: maps, versions: theirs.Versions}
	sides := []*side{{run: theirRunner(theirs), ms: &row.theirs}}
	const bytes = "fold,dce,canonicalize,dce,quantize{input-range=-3:3},lowerint"
	var outs []*tensor.Tensor
	for _, s := range []struct {
		passes string
		ms     *[]float64
	}{{"muxify", &row.mux}, {"dce", &row.dense}, {bytes + ",muxify", &row.muxBytes}, {bytes, &row.denseBytes}} {
		graph := g.Clone()
		steps, err := all.Table.Parse(s.passes)
		if err != nil {
			return nil, err
		}
		if _, err := passes.Run(&passes.Context{Context: t.Context()}, graph, steps, passes.RunOptions{}); err != nil {
			return nil, err
		}
		if s.ms == &row.mux {
			for _, n := range graph.Nodes {
				if n.Op.Cost != nil {
					row.macs += n.Op.Cost(n).MACs
				}
			}
		}
		exe, err := bench.Compile(t.Context(), graph, backends.Options{Threads: benchThreads})
		if err != nil {
			return nil, err
		}
		defer exe.Close()
		out, err := exe.Run(t.Context(), in)
		if err != nil {
			return nil, err
		}
		if len(outs) < 2 {
			d, err := difference(g, out, theirs.Out)
			if err != nil {
				return nil, err
			}
			if s.ms == &row.mux {
				row.difference = d
			}
			if d > 1e-3 {
				return nil, fmt.Errorf("the outputs differ by %.3g of the largest value", d)
			}
		}
		outs = append(outs, out[0])
		sides = append(sides, &side{run: runner(t.Context(), exe, in, out), ms: s.ms})
	}
	if !tensor.Equal(outs[2], outs[3]) {
		return nil, errors.New("the outputs of both int8 networks differ")
	}
	before := machineTime()
	err = inTurn(sides)
	theirs.Close() // its time counts from now on
	after := machineTime()
	row.others = max(0, (after.busy-before.busy)-(after.own-before.own)) / (after.all - before.all)
	return row, err
}

func describeMux(rows []*muxRow) string {
	var b strings.Builder
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	fmt.Fprintf(&b, "# One weight per kernel slice\n\nWritten by `make bench-mux` on %s, commit %s, %s/%s, %s, %s.\n%s\n\n", time.Now().UTC().Format("2006-01-02 15:04 MST"),
		bytes.TrimSpace(commit), runtime.GOOS, runtime.GOARCH, runtime.Version(), rows[0].versions, cpuWords())
	fmt.Fprintf(&b, `ResNet-20 for 32×32 images at batch 1, %d threads, with so many base maps. Its 3×3 convolutions but the first keep one weight per
kernel slice, at random positions. `+"`mux`"+` is what the pass muxify makes of it, `+"`dense`"+` the same function as dense convolutions with
zeros, on this engine and on ONNX Runtime; `+"`int8`"+` is the same networks quantised and lowered to integers, where both give
the same bits. All run in turn; milliseconds, the median and in brackets the least.
`+"`difference`"+` is that of mux to ONNX Runtime, as a part of the largest output; `+"`others`"+` is the part of the
machine's time that other programs had meanwhile: 0 %% is a machine at rest, and ONNX Runtime, whose threads spin, suffers most.

`, benchThreads)
	t := &report.Table{Head: []string{"base maps", "MMAC left", "mux", "dense", "ONNX Runtime, dense", "ONNX Runtime / mux", "of least", "mux, int8", "dense, int8", "dense / mux, int8", "of least", "difference", "others"}}
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{fmt.Sprint(r.maps), fmt.Sprintf("%.1f", float64(r.macs)/1e6), timesOf(r.mux), timesOf(r.dense), timesOf(r.theirs),
			fmt.Sprintf("%.2f", bench.Median(r.theirs)/bench.Median(r.mux)), fmt.Sprintf("%.2f", slices.Min(r.theirs)/slices.Min(r.mux)),
			timesOf(r.muxBytes), timesOf(r.denseBytes), fmt.Sprintf("%.2f", bench.Median(r.denseBytes)/bench.Median(r.muxBytes)), fmt.Sprintf("%.2f", slices.Min(r.denseBytes)/slices.Min(r.muxBytes)), fmt.Sprintf("%.1g", r.difference), fmt.Sprintf("%.0f %%", 100*r.others)})
	}
	b.WriteString(markdown(t))
	return b.String()
}

// TestOneWeight: the networks that are measured give the bits of the operators, dense and not.
func TestOneWeight(t *testing.T) {
	for _, maps := range []int{3, 16} {
		g := oneWeight(maps, benchSeed)
		in, err := bench.Input(g, benchSeed)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ir.Eval(t.Context(), g, in)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := all.Table.Parse("muxify")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := passes.Run(&passes.Context{Context: t.Context()}, g, steps, passes.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, kernel := range []string{"portable", "auto"} {
			exe, err := bench.Compile(t.Context(), g, backends.Options{Threads: 2, Kernel: kernel})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if out, err := exe.Run(t.Context(), in); err != nil || !tensor.Equal(out[0], want[0]) {
					t.Fatalf("%d maps, %s: %v, %v, want %v", maps, kernel, err, out[0].Float32s(), want[0].Float32s())
				}
			}
			exe.Close()
		}
	}
}
