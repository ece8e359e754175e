package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
)

// The measurement against ONNX Runtime; `make bench-ort` sets these.
var (
	benchORT      = flag.String("bench-ort", "", "list of models to time against ONNX Runtime: f32 or int8")
	benchORTOut   = flag.String("bench-ort-out", "", "Markdown file to write")
	benchORTQuick = flag.Bool("bench-ort-quick", false, "short blocks, few rounds")
	benchORTOnly  = flag.String("bench-ort-only", "", "only models whose name contains this")
	benchORTCPU   = flag.Bool("bench-ort-cpu", false, "one thread, and processor time instead of the clock's: for machines with other work")
	benchORTBatch = flag.Int("bench-ort-batch", 0, "only this batch")
)

const (
	benchModels = "../../../shared/models"
	benchSeed   = 1
)

// benchThreads is how many threads both engines use.
var benchThreads = 2

// contest is a model that both engines run.
type contest struct {
	name   string
	file   string // below benchModels, without /model.onnx
	random bool   // its weights are constants: they are drawn by benchSeed
	ranges string // of the input, to quantise it first; "" leaves it as it is
	float  string // the float model that it was made of, below benchModels, if there is one
}

var contests = map[string][]contest{
	"f32": {
		{name: "mobilenet_v1_0.75_224", file: "imagenet/mobilenet_v1_0.75_224"},
		{name: "mobilenet_v2_1.0_224_ptq_deq", file: "imagenet/mobilenet_v2_1.0_224_ptq_deq"},
		{name: "squeezenet1.0_deepcomp", file: "imagenet/squeezenet1.0_deepcomp"},
		{name: "light_resnet50", file: "light/light_resnet50", random: true},
		{name: "light_vgg19", file: "light/light_vgg19", random: true},
		{name: "resnet20", file: "cifar10/resnet20"},
		{name: "mlperf_resnet8", file: "cifar10/mlperf_resnet8"},
		{name: "ultraface_RFB-320_simplified", file: "dense/ultraface_RFB-320_simplified"},
		{name: "nanodet_m_416", file: "dense/nanodet_m_416"},
	},
	"int8": {
		{name: "mobilenet_v2_1.0_224_ptq_qdq", file: "imagenet/mobilenet_v2_1.0_224_ptq_qdq", float: "imagenet/mobilenet_v2_1.0_224_ptq_deq"},
		{name: "mobilenet_v1_0.5_160_qat_qdq", file: "imagenet/mobilenet_v1_0.5_160_qat_qdq"},
		{name: "mlperf_resnet8_int8_qdq", file: "cifar10/mlperf_resnet8_int8_qdq", float: "cifar10/mlperf_resnet8"},
		{name: "mlperf_kws_int8_qdq", file: "tiny/mlperf_kws_int8_qdq", float: "tiny/mlperf_kws_dscnn"},
		{name: "mobilenet_v1_0.75_224, our QDQ", file: "imagenet/mobilenet_v1_0.75_224", ranges: "-1:1", float: "imagenet/mobilenet_v1_0.75_224"},
		{name: "squeezenet1.0_deepcomp, our QDQ", file: "imagenet/squeezenet1.0_deepcomp", ranges: "-124:152", float: "imagenet/squeezenet1.0_deepcomp"},
		{name: "resnet20, our QDQ", file: "cifar10/resnet20", ranges: "-2.2:2.7", float: "cifar10/resnet20"},
	},
}

// outcome is one row of the result.
type outcome struct {
	contest
	batch        int
	ours, theirs []float64 // milliseconds of each run
	float        []float64 // of the float model on this engine, for int8
	plain        []float64 // the same without Winograd
	others       float64   // part of the machine's time that other programs had
	difference   float64   // of outputs, as a part of the largest absolute value
	versions     string
	options      string
}

func (o *outcome) ratio() float64 { return bench.Median(o.ours) / bench.Median(o.theirs) }

// TestBenchORT times models on this engine and on ONNX Runtime in turn.
func TestBenchORT(t *testing.T) {
	if *benchORT == "" {
		t.Skip("a measurement: make bench-ort")
	}
	list, ok := contests[*benchORT]
	if !ok {
		t.Fatalf("-bench-ort %s: there are f32 and int8", *benchORT)
	}
	ort.Need(t)
	if *benchORTCPU {
		benchThreads = 1
	}
	var rows []*outcome
	for _, c := range list {
		for _, batch := range []int{1, 32} {
			if !strings.Contains(c.name, *benchORTOnly) || *benchORTBatch != 0 && batch != *benchORTBatch {
				continue
			}
			o, err := c.run(t, batch)
			if err != nil {
				t.Errorf("%s, batch %d: %v", c.name, batch, err)
				continue
			}
			fmt.Fprintf(os.Stderr, "%-32s batch %2d: %9.3f ms, ONNX Runtime %9.3f ms, ratio %.3f, of least %.3f, difference %.2g, others %.0f %%\n", c.name, batch,
				bench.Median(o.ours), bench.Median(o.theirs), o.ratio(), slices.Min(o.ours)/slices.Min(o.theirs), o.difference, 100*o.others)
			rows = append(rows, o)
		}
	}
	if len(rows) == 0 {
		t.Fatal("nothing was measured")
	}
	text := describe(*benchORT, rows)
	t.Log("\n" + text)
	if *benchORTOut != "" {
		if err := os.WriteFile(*benchORTOut, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// prepare writes the model that both engines run to dir, where it is not the
// original file, and returns its name.
func (c *contest) prepare(dir string, batch int) (string, error) {
	file := filepath.Join(benchModels, c.file, "model.onnx")
	if c.ranges != "" {
		out := filepath.Join(dir, "qdq.onnx")
		pipeline := "fold,dce,canonicalize,dce,bn-stats,foldbn,dce,quantize{input-range=" + c.ranges + "}"
		if err := command("opt", "--passes="+pipeline, file, "-o", out); err != nil {
			return "", err
		}
		file = out
	}
	g, err := onnxio.Read(file, ops.Table())
	if err != nil {
		return "", err
	}
	fixed := true // the batch of the file
	for _, v := range g.Inputs {
		fixed = fixed && v.Type.Dims[0].Known() && v.Type.Dims[0].N != batch
	}
	if !c.random && !fixed {
		return file, nil
	}
	if c.random {
		if g, err = bench.Randomise(g, benchSeed); err != nil {
			return "", err
		}
	}
	if g, err = bench.WithBatch(g, batch, nil); err != nil {
		return "", err
	}
	file = filepath.Join(dir, "model.onnx")
	return file, onnxio.Write(file, g, onnxio.WriteOptions{})
}

// command runs thriftc.
func command(args ...string) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetErr(os.Stderr)
	return root.Execute()
}

// run times the model on both engines and compares their outputs.
func (c *contest) run(t *testing.T, batch int) (*outcome, error) {
	file, err := c.prepare(t.TempDir(), batch)
	if err != nil {
		return nil, err
	}
	g, err := onnxio.Read(file, ops.Table())
	if err != nil {
		return nil, err
	}
	if g, err = bench.WithBatch(g, batch, nil); err != nil {
		return nil, err
	}
	in, err := bench.Input(g, benchSeed)
	if err != nil {
		return nil, err
	}
	var named []ort.Named
	for i, x := range in {
		named = append(named, ort.Named{Name: g.Inputs[i].Name, Tensor: x})
	}
	theirs, err := ort.Start(t.Context(), file, named, benchThreads)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	exe, err := bench.CompileInteger(t.Context(), g, backends.Options{Threads: benchThreads})
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	out, err := exe.Run(t.Context(), in)
	if err != nil {
		return nil, err
	}
	o := &outcome{contest: *c, batch: batch, versions: theirs.Versions, options: theirs.Options}
	if o.difference, err = difference(g, out, theirs.Out); err != nil {
		return nil, err
	}
	// Requantisation is rounded in other places in ONNX Runtime: single steps of quantisers differ.
	if most := map[string]float64{"f32": 1e-3, "int8": 0.25}[*benchORT]; !(o.difference <= most) {
		return nil, fmt.Errorf("the outputs differ by %.3g of the largest value, at most %g is allowed", o.difference, most)
	}
	sides := []*side{{run: runner(t.Context(), exe, in, out), ms: &o.ours}, {run: theirRunner(theirs), ms: &o.theirs}}
	for i, ms := range []*[]float64{&o.float, &o.plain} {
		if c.float == "" {
			break
		}
		fg, err := onnxio.Read(filepath.Join(benchModels, c.float, "model.onnx"), ops.Table())
		if err != nil {
			return nil, err
		}
		fe, err := bench.Compile(t.Context(), fg, backends.Options{Threads: benchThreads, NoWinograd: i == 1})
		if err != nil {
			return nil, err
		}
		defer fe.Close()
		fout, err := fe.Run(t.Context(), in)
		if err != nil {
			return nil, err
		}
		sides = append(sides, &side{run: runner(t.Context(), fe, in, fout), ms: ms})
	}
	before := machineTime()
	err = inTurn(sides)
	theirs.Close() // its time counts from now on
	after := machineTime()
	o.others = max(0, (after.busy-before.busy)-(after.own-before.own)) / (after.all - before.all)
	return o, err
}

// cpuTime is seconds of processor time: of this process and its ended
// children, of all programs, and all there was, idle or not.
type cpuTime struct{ own, busy, all float64 }

func machineTime() (c cpuTime) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			c.own += time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
		}
	}
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, f := range strings.Fields(line) {
		x, _ := strconv.ParseFloat(f, 64)
		x /= 100 // ticks a second
		switch i {
		case 0, 9, 10: // the name; guests, which user time holds too
		case 4, 5: // idle, waiting for a disk
			c.all += x
		default:
			c.busy += x
			c.all += x
		}
	}
	return c
}

// side is what is timed in turn with others: run makes n runs and returns the milliseconds of each.
type side struct {
	run func(n int) ([]float64, error)
	ms  *[]float64
	n   int // runs in a block
}

func theirRunner(s *ort.Session) func(n int) ([]float64, error) {
	return func(n int) ([]float64, error) {
		ms, cpu, err := s.Time(n)
		if *benchORTCPU {
			ms = []float64{cpu}
		}
		return ms, err
	}
}

func runner(ctx context.Context, exe backends.Executable, in, out []*tensor.Tensor) func(n int) ([]float64, error) {
	return func(n int) ([]float64, error) {
		ms := make([]float64, n)
		before := machineTime().own
		for i := range ms {
			start := time.Now()
			if err := exe.RunInto(ctx, in, out); err != nil {
				return nil, err
			}
			ms[i] = bench.Milliseconds(time.Since(start))
		}
		if *benchORTCPU {
			return []float64{1000 * (machineTime().own - before) / float64(n)}, nil
		}
		return ms, nil
	}
}

// difference is the largest difference of two lists of outputs, as a part of the largest absolute value.
func difference(g *ir.Graph, a []*tensor.Tensor, b []ort.Named) (float64, error) {
	var apart, largest float64
	for i, v := range g.Outputs {
		at := slices.IndexFunc(b, func(n ort.Named) bool { return n.Name == v.Name })
		if at < 0 || !slices.Equal(a[i].Shape(), b[at].Tensor.Shape()) {
			return 0, fmt.Errorf("output %s is not the same", v.Name)
		}
		x, y := a[i].Float32s(), b[at].Tensor.Float32s()
		for j := range x {
			d := math.Abs(float64(x[j]) - float64(y[j]))
			if math.IsNaN(d) {
				return 0, fmt.Errorf("output %s is not a number", v.Name)
			}
			apart, largest = max(apart, d), max(largest, math.Abs(float64(y[j])))
		}
	}
	if largest == 0 {
		return 0, errors.New("all outputs are 0")
	}
	return apart / largest, nil
}

// blocks returns the length of a block in milliseconds and how many each engine has.
func blocks() (ms float64, rounds int) {
	if *benchORTQuick {
		return 100, 3
	}
	return 400, 7
}

// inTurn times in blocks of runs. The first run of a block does not count: the
// caches are another's. Between blocks threads that spin have time to sleep.
func inTurn(sides []*side) error {
	block, rounds := blocks()
	for round := range rounds + 1 { // the first is to find how many runs make a block
		for _, s := range sides {
			time.Sleep(20 * time.Millisecond)
			ms, err := s.run(max(s.n, 2))
			if err != nil {
				return err
			}
			if round > 0 {
				*s.ms = append(*s.ms, ms[min(1, len(ms)-1):]...)
				continue
			}
			if s.n = int(block / ms[len(ms)-1]); s.n > 10 { // once more, now warm
				if ms, err = s.run(s.n / 2); err != nil {
					return err
				}
				s.n = int(block/bench.Median(ms)) + 1
			}
		}
	}
	return nil
}

// geometricMean of what f says of each row.
func geometricMean(rows []*outcome, f func(*outcome) float64) float64 {
	sum := 0.0
	for _, o := range rows {
		sum += math.Log(f(o))
	}
	return math.Exp(sum / float64(len(rows)))
}

func describe(kind string, rows []*outcome) string {
	var b strings.Builder
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	fmt.Fprintf(&b, "# thriftc and ONNX Runtime, %s\n\n", kind)
	fmt.Fprintf(&b, "Written by `%s` on %s, commit %s, %s/%s, %s, %s.\n%s\n\n", benchCommand(kind), time.Now().UTC().Format("2006-01-02 15:04 MST"),
		bytes.TrimSpace(commit), runtime.GOOS, runtime.GOARCH, runtime.Version(), rows[0].versions, cpuWords())
	block, rounds := blocks()
	fmt.Fprintf(&b, "Threads of each engine: %d. Both load the same file, get the same inputs, and run in turn, in %d blocks of %g ms each; the first run of a block does not count.\n", benchThreads, rounds, block)
	fmt.Fprintf(&b, "Inputs and outputs exist before the clock starts; ONNX Runtime's time is that of `session.run`. Its options: `%s`.\n", rows[0].options)
	if *benchORTCPU {
		b.WriteString("Times are milliseconds of **processor time** for a run of the whole batch, as the operating system accounts for the process: the median of the blocks and, in\nbrackets, the least. ")
	} else {
		b.WriteString("Times are milliseconds on the clock for a run of the whole batch: the median of all runs and, in brackets, the least. ")
	}
	b.WriteString("`difference` is the largest of both\nengines' outputs, as a part of the largest absolute value.\n")
	t := &report.Table{Head: []string{"model", "batch", "thriftc", "ONNX Runtime", "ratio", "ratio of least", "difference", "others"}}
	if kind == "int8" {
		t.Head = append(t.Head, "our f32", "f32 / int8", "our f32 without Winograd", "f32 / int8")
		b.WriteString("`our f32` is this engine on the float model; `f32 / int8` is how many times faster int8 is.\n")
	}
	b.WriteString("`others` is the part of the machine's time that other programs had meanwhile: 0 % is a machine at rest.\n\n")
	for _, o := range rows {
		row := []string{o.name, fmt.Sprint(o.batch), timesOf(o.ours), timesOf(o.theirs), fmt.Sprintf("%.3f", o.ratio()),
			fmt.Sprintf("%.3f", slices.Min(o.ours)/slices.Min(o.theirs)), fmt.Sprintf("%.1g", o.difference), fmt.Sprintf("%.0f %%", 100*o.others)}
		for _, ms := range [][]float64{o.float, o.plain} {
			if len(ms) > 0 {
				row = append(row, timesOf(ms), fmt.Sprintf("%.2f", bench.Median(ms)/bench.Median(o.ours)))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	b.WriteString(markdown(t))
	fmt.Fprintf(&b, "\ngeometric mean of the ratios of least times: %.3f\n\n", geometricMean(rows, func(o *outcome) float64 { return slices.Min(o.ours) / slices.Min(o.theirs) }))
	fmt.Fprintf(&b, "geometric mean: %.3f\n", geometricMean(rows, (*outcome).ratio))
	return b.String()
}

func benchCommand(kind string) string {
	s := "make bench-ort"
	if kind == "int8" {
		s += "-int8"
	}
	if *benchORTCPU {
		s += " CPU=1"
	}
	if *benchORTQuick {
		s += " QUICK=1"
	}
	if *benchORTBatch != 0 {
		s += fmt.Sprint(" BATCH=", *benchORTBatch)
	}
	if *benchORTOnly != "" {
		s += " ONLY=" + *benchORTOnly
	}
	return s
}

func timesOf(ms []float64) string {
	return fmt.Sprintf("%.3f (%.3f)", bench.Median(ms), slices.Min(ms))
}

// markdown writes a table as Markdown.
func markdown(t *report.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(t.Head, " | "), strings.Repeat("---|", len(t.Head)))
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r, " | "))
	}
	return b.String()
}

// cpuWords says what the machine is.
func cpuWords() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return fmt.Sprintf("%d CPUs.", runtime.NumCPU())
	}
	field := func(name string) string {
		for _, line := range strings.Split(string(text), "\n") {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
				return strings.TrimSpace(v)
			}
		}
		return "?"
	}
	flags := strings.Fields(field("flags"))
	var has []string
	for _, f := range []string{"avx2", "fma", "avx512f", "avx512_vnni", "amx_int8"} {
		if slices.Contains(flags, f) {
			has = append(has, f)
		}
	}
	return fmt.Sprintf("CPU: %s (family %s, model %s), %d cores, with %s.",
		field("model name"), field("cpu family"), field("model"), runtime.NumCPU(), strings.Join(has, ", "))
}
