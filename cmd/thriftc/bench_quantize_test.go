package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
)

var (
	benchQuantize       = flag.String("bench-quantize", "", "measure thriftc compress against ONNX Runtime's quantize_static and write this page")
	benchQuantizePython = flag.String("bench-quantize-python", "", "the Python that has onnxruntime and onnx")
	benchQuantizeVGG    = flag.String("bench-quantize-vgg", "", "only write VGG-19 with random weights to this file")
	benchQuantizeRounds = flag.Int("bench-quantize-rounds", 5, "how often each of the two runs, in turn")
)

// quantizeStatic is ONNX Runtime's post-training quantisation with the settings nearest to ours.
const quantizeStatic = `
import sys
import numpy
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

model, data, out, name = sys.argv[1:]

class Reader(CalibrationDataReader):
    def __init__(self):
        self.samples = iter(numpy.load(data, mmap_mode="r"))
    def get_next(self):
        x = next(self.samples, None)
        return None if x is None else {name: numpy.array(x[None])}

quantize_static(model, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax)
`

// cost is what a process took.
type cost struct{ wall, cpu, peak float64 } // seconds, seconds of all threads, megabytes

// TestBenchQuantize runs thriftc compress and quantize_static in turn, as a user would, on the same files.
func TestBenchQuantize(t *testing.T) {
	if *benchQuantize == "" {
		t.Skip("asked for with make bench-quantize")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "thriftc")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var page strings.Builder
	fmt.Fprintf(&page, `# Time and memory of quantisation, measured

Written by %s on %s, %s/%s, %d threads, Go %s. %s of thriftc reads
the model and the calibration samples, quantises, writes the result, reads it back, and times it beside the original;
quantize_static of ONNX Runtime 1.31.1 (per channel, MinMax, QDQ) reads, quantises and writes. Both are whole
processes on the same files, %d of each in turn; medians. The weights of VGG-19 are random.

| model | samples | | seconds | processor seconds | peak memory in MB |
|---|---|---|---|---|---|
`, "`make bench-quantize`", time.Now().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), strings.TrimPrefix(runtime.Version(), "go"), "`compress`", *benchQuantizeRounds)
	vgg := filepath.Join(dir, "vgg19.onnx")
	// Another process makes it: what a process takes at its peak counts for those that it starts.
	if out, err := exec.Command(os.Args[0], "-test.run", "TestBenchQuantizeVGG$", "-bench-quantize-vgg", vgg).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range []struct {
		name, file, input string
		samples           int
	}{
		{"mobilenet_v1_0.75_224", "../../../shared/models/imagenet/mobilenet_v1_0.75_224/model.onnx", "input", 128},
		{"VGG-19", vgg, "data_0", 8},
	} {
		data := filepath.Join(dir, m.input+".npy")
		writeSamples(t, data, m.samples, 3, 224, 224)
		desc := filepath.Join(dir, m.input+".yaml")
		if err := os.WriteFile(desc, []byte("kind: npy\nfiles: ["+filepath.Base(data)+"]\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		var ours, theirs []cost
		for range *benchQuantizeRounds {
			ours = append(ours, measured(t, program, "compress", m.file, "--data", desc, "-o", filepath.Join(dir, "out")))
			theirs = append(theirs, measured(t, *benchQuantizePython, "-c", quantizeStatic, m.file, data, filepath.Join(dir, "peer.onnx"), m.input))
		}
		a, b := medians(ours), medians(theirs)
		for _, row := range []struct {
			name string
			c    cost
		}{{"thriftc", a}, {"quantize_static", b}} {
			fmt.Fprintf(&page, "| %s | %d | %s | %.1f | %.1f | %.0f |\n", m.name, m.samples, row.name, row.c.wall, row.c.cpu, row.c.peak)
		}
		fmt.Fprintf(&page, "| | | thriftc : quantize_static | %.2f | %.2f | %.2f |\n", a.wall/b.wall, a.cpu/b.cpu, a.peak/b.peak)
	}
	t.Log("\n" + page.String())
	if err := os.WriteFile(*benchQuantize, []byte(page.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBenchQuantizeVGG is the part of TestBenchQuantize that takes gigabytes.
func TestBenchQuantizeVGG(t *testing.T) {
	if *benchQuantizeVGG == "" {
		t.Skip("asked for by TestBenchQuantize")
	}
	light, err := onnxio.Read("../../../shared/models/light/light_vgg19/model.onnx", ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	random, err := bench.Randomise(light, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := onnxio.Write(*benchQuantizeVGG, random, onnxio.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// writeSamples writes an .npy file of random numbers in [−1, 1).
func writeSamples(t *testing.T, file string, shape ...int) {
	dims := strings.Trim(strings.ReplaceAll(fmt.Sprint(shape), " ", ", "), "[]")
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", dims)
	header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n"
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	binary.Write(&b, binary.LittleEndian, uint16(len(header)))
	b.WriteString(header)
	n := 1
	for _, d := range shape {
		n *= d
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, rnd := make([]float32, n/shape[0]), rand.New(rand.NewPCG(1, 1))
	for range shape[0] { // a sample at a time, to stay small
		for i := range x {
			x[i] = 2*rnd.Float32() - 1
		}
		if err := binary.Write(&b, binary.LittleEndian, x); err != nil {
			t.Fatal(err)
		}
		if _, err := b.WriteTo(f); err != nil {
			t.Fatal(err)
		}
	}
}

// measured runs a command to its end.
func measured(t *testing.T, name string, args ...string) cost {
	t.Helper()
	cmd := exec.Command(name, args...)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	c := cost{wall: time.Since(start).Seconds(), cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.peak = float64(u.Maxrss) * 1024 / 1e6
	}
	return c
}

func medians(all []cost) cost {
	of := func(f func(cost) float64) float64 {
		var x []float64
		for _, c := range all {
			x = append(x, f(c))
		}
		return bench.Median(x)
	}
	return cost{of(func(c cost) float64 { return c.wall }), of(func(c cost) float64 { return c.cpu }), of(func(c cost) float64 { return c.peak })}
}
