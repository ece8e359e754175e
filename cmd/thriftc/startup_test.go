package main

import (
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/onnxpb"
)

// startup times inspect on a model, and reading its file and decoding the
// protobuf, in turn, and returns the milliseconds of each run.
func startup(tb testing.TB, runs int) (decode, inspect []float64) {
	const file = benchModels + "/imagenet/mobilenet_v2_1.0_224_ptq_deq/model.onnx"
	if _, err := os.Stat(file); err != nil {
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

// BenchmarkInspect reports how long inspect takes on a model of 14 MB, as a multiple of
// reading the file and decoding it.
func BenchmarkInspect(b *testing.B) {
	for b.Loop() {
		decode, inspect := startup(b, 50)
		b.ReportMetric(median(decode), "decode-ms")
		b.ReportMetric(median(inspect), "inspect-ms")
		b.ReportMetric(median(inspect)/median(decode), "ratio")
	}
}

// BenchmarkPlan reports how long an executable's first run takes beyond a later
// one, compilation included, and how many inferences that is.
func BenchmarkPlan(b *testing.B) {
	for _, name := range []string{
		"cifar10/resnet20", "imagenet/mobilenet_v1_0.75_224", "imagenet/squeezenet1.0_deepcomp",
		"cifar10/mlperf_resnet8_int8_qdq", "imagenet/mobilenet_v2_1.0_224_ptq_qdq", "imagenet/mobilenet_v1_0.5_160_qat_qdq",
	} {
		b.Run(name, func(b *testing.B) {
			file := benchModels + "/" + name + "/model.onnx"
			if _, err := os.Stat(file); err != nil {
				b.Skipf("SKIPPED, no model to plan: %v", err)
			}
			g, err := readModel(file, io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			if g, err = withBatch(g, 1, nil); err != nil {
				b.Fatal(err)
			}
			in, err := timingInput(g, 1)
			if err != nil {
				b.Fatal(err)
			}
			var first, later []float64
			for b.Loop() {
				start := time.Now()
				exe, err := compileAt(b.Context(), g, engineOptions{backends.Options{Threads: 2}, "int"})
				if err != nil {
					b.Fatal(err)
				}
				for i := range 4 {
					if _, err := exe.Run(b.Context(), in); err != nil {
						b.Fatal(err)
					}
					if i == 0 {
						first = append(first, milliseconds(time.Since(start)))
					} else {
						later = append(later, milliseconds(time.Since(start)))
					}
					start = time.Now()
				}
				exe.Close()
			}
			plan := median(first) - median(later)
			b.ReportMetric(plan, "plan-ms")
			b.ReportMetric(plan/median(later), "inferences")
		})
	}
}
