package main

import (
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"thriftc/backends"
	"thriftc/ir/onnxio/onnxpb"
)

// startup times inspect on a model, and reading its file and decoding the
// protobuf, in turn, and returns the milliseconds of each run.
func startup(tb testing.TB, runs int) (decode, inspect []float64) {
	const file = benchModels + "/imagenet/mobilenet_v2_1.0_224_ptq_deq/model.onnx"
	if _, err := os.Stat(file); err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal(err)
		}
		tb.Skipf("SKIPPED, no model to inspect: %v", err)
	}
	for range runs {
		start := time.Now()
		data, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		if err := proto.Unmarshal(data, &onnxpb.ModelProto{}); err != nil {
			tb.Fatal(err)
		}
		decode = append(decode, milliseconds(time.Since(start)))
		start = time.Now()
		root := newRoot()
		root.SetArgs([]string{"inspect", file})
		root.SetOut(io.Discard)
		if err := root.Execute(); err != nil {
			tb.Fatal(err)
		}
		inspect = append(inspect, milliseconds(time.Since(start)))
	}
	return decode, inspect
}

// inspect takes less than twice the time of reading the file and decoding it.
func TestInspectIsQuick(t *testing.T) {
	decode, inspect := startup(t, 15)
	a, b := slices.Min(decode), slices.Min(inspect)
	t.Logf("inspect %.1f ms, decoding %.1f ms, ratio %.2f", b, a, b/a)
	if b > 2*a {
		t.Errorf("inspect took %.1f ms, more than twice the %.1f ms of reading and decoding the file", b, a)
	}
}

func BenchmarkInspect(b *testing.B) {
	for b.Loop() {
		decode, inspect := startup(b, 50)
		b.ReportMetric(median(decode), "decode-ms")
		b.ReportMetric(median(inspect), "inspect-ms")
		b.ReportMetric(median(inspect)/median(decode), "ratio")
	}
}

// Making a plan takes less than ten inferences, or 20 ms.
func TestPlanIsQuick(t *testing.T) {
	for _, name := range []string{"cifar10/resnet20", "imagenet/mobilenet_v1_0.75_224", "imagenet/squeezenet1.0_deepcomp", "cifar10/mlperf_resnet8_int8_qdq"} {
		file := benchModels + "/" + name + "/model.onnx"
		if _, err := os.Stat(file); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("SKIPPED, no model to plan: %v", err)
		}
		g, err := readModel(file, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if g, err = withBatch(g, 1, nil); err != nil {
			t.Fatal(err)
		}
		in, err := timingInput(g, 1)
		if err != nil {
			t.Fatal(err)
		}
		var first, run []float64
		for range 5 {
			start := time.Now()
			exe, err := compileAt(t.Context(), g, engineOptions{backends.Options{Threads: 2}, "int"})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 4 {
				if _, err := exe.Run(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					first = append(first, milliseconds(time.Since(start)))
				} else {
					run = append(run, milliseconds(time.Since(start)))
				}
				start = time.Now()
			}
			exe.Close()
		}
		plan, once := slices.Min(first)-slices.Min(run), slices.Min(run)
		t.Logf("%s: planned in %.1f ms, an inference takes %.2f ms", name, plan, once)
		if plan > max(20, 10*once) {
			t.Errorf("%s: planning took %.1f ms, an inference takes %.2f ms", name, plan, once)
		}
	}
}
