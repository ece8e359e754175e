package quantize_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/all"
)

// measureEnv names the file that TestMeasure writes; without it the test is skipped.
const measureEnv = "THRIFTC_MEASURE_PTQ"

// memoryEnv is set in the processes whose memory TestMeasure looks at: the
// number of calibration samples and the folder of the unpacked images.
const memoryEnv = "THRIFTC_MEASURE_MEMORY"

// subject is a model with the data to calibrate on and to judge by.
type subject struct {
	model       string
	calib, eval string // data descriptions
	same        bool   // both are parts of one set: the first samples calibrate, the rest judge
	samples     int    // for calibration
}

const (
	cifar    = "kind: cifar10\npath: %s\nsplit: %s\npreprocess: {layout: nchw, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\n"
	imagenet = "kind: image-list\npath: %s\nlabels: labels.tsv\npreprocess: {resize: 256, crop: 224, color: rgb, layout: nchw, mean: [127.5, 127.5, 127.5], std: [127.5, 127.5, 127.5]}\n"
	kws      = "kind: raw\npath: %s\nfiles: [mfcc_49x10.i8]\nelem: int8\nshape: [1, 49, 10]\nlabels: labels.csv\ncolumns: [index, name, label]\npreprocess: {offset: 83, scale: 0.5847029}\n"
)

// TestMeasure quantises real models and judges the written files with ONNX
// Runtime. It takes minutes, and is run by `make bench-ptq`.
func TestMeasure(t *testing.T) {
	out := os.Getenv(measureEnv)
	if out == "" {
		t.Skip("SKIPPED: takes minutes; run make bench-ptq")
	}
	ort.Need(t)
	shared := mustAbs(t, "../../../shared")
	images := t.TempDir()
	unpack := exec.Command("go", "run", filepath.Join(shared, "tools/uncifx/main.go"), "-out", images, filepath.Join(shared, "data/cifar10"))
	if b, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("unpacking CIFAR-10: %v\n%s", err, b)
	}
	resnet := subject{"cifar10/resnet20", fmt.Sprintf(cifar, images, "train"), fmt.Sprintf(cifar, images, "test"), false, 256}
	mobilenet := subject{"imagenet/mobilenet_v1_0.75_224", fmt.Sprintf(imagenet, filepath.Join(shared, "data/imagenet-sample")), "", true, 128}
	words := subject{"tiny/mlperf_kws_dscnn", fmt.Sprintf(kws, filepath.Join(shared, "data/tiny/kws01")), "", true, 128}

	floats := map[string][2]float64{}
	var b strings.Builder
	fmt.Fprintf(&b, "# Post-training quantisation, measured\n\nWritten by `make bench-ptq` on %s, %s/%s, seed 0, 2 threads. Accuracy is top-1 in percent,\nmeasured by ONNX Runtime on the files (QDQ) with one thread and its default optimisations. The\npipeline is `ptq` with the options shown. Bytes are of the quantised file, as a part of the float one.\n\n",
		time.Now().UTC().Format("2006-01-02"), runtime.GOOS, runtime.GOARCH)
	b.WriteString("| model | calibration | options of quantize | samples judged | float | quantised | drop | engine | bytes | seconds |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range []struct {
		s       subject
		options string
		data    bool
		drop    float64 // points that may be lost
	}{
		{resnet, "", true, 0.3},
		{resnet, "observer=minmax", true, 0.3},
		{resnet, "observer=percentile", true, 0.3},
		{resnet, "observer=entropy", true, 1},
		{resnet, "pow2", true, 1},
		{resnet, "per-tensor", true, 1},
		{resnet, "weight-bits=4", true, 3},
		{resnet, "weight-bits=4,recon", true, 2},
		{resnet, "weight-bits=3,recon", true, 5},
		{resnet, "weight-bits=4,act-bits=4,recon", true, 10},
		{resnet, "input-range='-2.2:2.7'", false, 1},
		{resnet, "", false, 1},
		{mobilenet, "", true, 1},
		{mobilenet, "observer=minmax", true, 1},
		{mobilenet, "weight-bits=4,recon", true, 20},
		{mobilenet, "input-range=-1:1", false, 3},
		{mobilenet, "", false, 3},
		{words, "", true, 0.6},
	} {
		row, drop := measure(t, shared, c.s, c.options, c.data, floats)
		fmt.Fprintln(&b, row)
		t.Log(row)
		if drop > c.drop {
			t.Errorf("%s with %q loses %.2f points, more than %v", c.s.model, c.options, drop, c.drop)
		}
	}
	few, many := memory(t, 100, images), memory(t, 5000, images)
	fmt.Fprintf(&b, "\nLargest resident memory of a process that calibrates resnet20: %d MB with 100 samples, %d MB with 5,000 (GOGC=10; [calibration-memory.md](calibration-memory.md) has the rest).\n", few>>20, many>>20)
	if many > few+few/4 {
		t.Errorf("calibration takes %d bytes with 100 samples and %d with 5,000", few, many)
	}
	if err := os.WriteFile(filepath.Join(mustAbs(t, "../.."), out), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// measure returns a row of the table and how many points were lost. floats
// remembers accuracy and bytes of the float models.
func measure(t *testing.T, shared string, s subject, options string, data bool, floats map[string][2]float64) (string, float64) {
	t.Helper()
	g := model(t, shared, s.model)
	calib := open(t, s.calib)
	eval := calib.Skip(s.samples)
	if !s.same {
		eval = open(t, s.eval)
	}
	c := &passes.Context{Context: t.Context(), Engine: interp.New(), Threads: 2}
	from := "none"
	if data {
		from = fmt.Sprintf("%d samples", s.samples)
		src, err := calib.Take(s.samples).For(g)
		if err != nil {
			t.Fatal(err)
		}
		c.Calib = src
	}
	q := g.Clone()
	pipeline := "fold,dce,canonicalize,dce,bn-stats,foldbn,dce,quantize{" + options + "}"
	steps, err := all.Table.Parse(pipeline)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := passes.Run(c, q, steps, passes.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start).Seconds()
	engine := ours(t, q, eval)
	f, ok := floats[s.model]
	if !ok {
		f[0], f[1] = runtimeAccuracy(t, g, eval)
		floats[s.model] = f
	}
	float, floatBytes := f[0], f[1]
	quantised, bytes := runtimeAccuracy(t, q, eval)
	return fmt.Sprintf("| %s | %s | %s | %d | %.2f | %.2f | %.2f | %.2f | %.1f %% | %.1f |", s.model, from, options, eval.Len(),
		float, quantised, float-quantised, engine, 100*bytes/floatBytes, took), float - quantised
}

func model(t *testing.T, shared, name string) *ir.Graph {
	t.Helper()
	g, err := onnxio.Read(filepath.Join(shared, "models", name, "model.onnx"), ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func open(t *testing.T, desc string) *dataset.Set {
	t.Helper()
	file := filepath.Join(t.TempDir(), "desc.yaml")
	if err := os.WriteFile(file, []byte(desc), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := dataset.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// ours returns the accuracy on the project's own engine.
func ours(t *testing.T, g *ir.Graph, eval *dataset.Set) float64 {
	t.Helper()
	src, err := eval.For(g)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := interp.New().Compile(t.Context(), g, backends.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	a, err := dataset.Evaluate(t.Context(), exe, src, 16)
	if err != nil {
		t.Fatal(err)
	}
	return 100 * a.Top1
}

// runtimeAccuracy returns the accuracy on ONNX Runtime of the file that is
// written for g, and its bytes.
func runtimeAccuracy(t *testing.T, g *ir.Graph, eval *dataset.Set) (accuracy, bytes float64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "model.onnx")
	if err := onnx.Write(file, g, onnx.QDQ, onnxio.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	src, err := eval.For(g)
	if err != nil {
		t.Fatal(err)
	}
	right, at := 0, 0
	var runs [][]ort.Named
	flush := func() {
		outs, err := ort.Run(context.Background(), file, runs, ort.All)
		if err != nil {
			t.Fatal(err)
		}
		for _, out := range outs {
			y := out[0].Tensor.Float32s()
			n := out[0].Tensor.Shape()[0]
			for i := range n {
				row := y[i*len(y)/n : (i+1)*len(y)/n]
				best := 0
				for j, v := range row {
					if v > row[best] {
						best = j
					}
				}
				if best == src.Label(at) {
					right++
				}
				at++
			}
		}
		runs = nil
	}
	for in, err := range src.Batches(50) {
		if err != nil {
			t.Fatal(err)
		}
		if runs = append(runs, []ort.Named{{Name: g.Inputs[0].Name, Tensor: in[0]}}); len(runs) == 4 {
			flush()
		}
	}
	if len(runs) > 0 {
		flush()
	}
	return 100 * float64(right) / float64(at), float64(st.Size())
}

// memory returns the largest resident memory of a process that calibrates on n samples.
func memory(t *testing.T, n int, images string) int64 {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestCalibrate$")
	// GOGC: garbage that waits for the collector is not what is measured.
	cmd.Env = append(os.Environ(), "GOGC=10", fmt.Sprintf("%s=%d %s", memoryEnv, n, images))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The kernel's figure in getrusage starts at the parent's size; VmHWM does not.
	_, peak, _ := strings.Cut(string(out), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscanf(peak, "%d kB", &kb); err != nil {
		t.Fatalf("no VmHWM: %v\n%s", err, out)
	}
	return kb << 10
}

// TestCalibrate is what memory runs in a process of its own.
func TestCalibrate(t *testing.T) {
	var n int
	var images string
	if _, err := fmt.Sscanf(os.Getenv(memoryEnv), "%d %s", &n, &images); err != nil {
		t.Skip("SKIPPED: a part of TestMeasure")
	}
	g := model(t, mustAbs(t, "../../../shared"), "cifar10/resnet20")
	src, err := open(t, fmt.Sprintf(cifar, images, "train")).Take(n).For(g)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := all.Table.Parse("ptq")
	if err != nil {
		t.Fatal(err)
	}
	c := &passes.Context{Context: t.Context(), Engine: interp.New(), Threads: 2, Calib: src}
	if _, err := passes.Run(c, g, steps, passes.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.Write(status)
}
