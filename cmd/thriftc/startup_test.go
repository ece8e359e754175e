package main

import (
	"io"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
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
		decode = append(decode, bench.Milliseconds(time.Since(start)))
		start = time.Now()
		root := newRoot()
		root.SetArgs([]string{"inspect", file})
		root.SetOut(io.Discard)
		if err := root.Execute(); err != nil {
			tb.Fatal(err)
		}
		inspect = append(inspect, bench.Milliseconds(time.Since(start)))
	}
	return decode, inspect
}

// BenchmarkInspect reports how long inspect takes on a model of 14 MB, as a multiple of
// reading the file and decoding it.
func BenchmarkInspect(b *testing.B) {
	for b.Loop() {
		decode, inspect := startup(b, 50)
		b.ReportMetric(bench.Median(decode), "decode-ms")
		b.ReportMetric(bench.Median(inspect), "inspect-ms")
		b.ReportMetric(bench.Median(inspect)/bench.Median(decode), "ratio")
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
			g, err := onnxio.Read(file, ops.Table())
			if err != nil {
				b.Fatal(err)
			}
			if g, err = bench.WithBatch(g, 1, nil); err != nil {
				b.Fatal(err)
			}
			in, err := bench.Input(g, 1)
			if err != nil {
				b.Fatal(err)
			}
			var first, later []float64
			for b.Loop() {
				start := time.Now()
				exe, err := bench.CompileInteger(b.Context(), g, backends.Options{Threads: 2})
				if err != nil {
					b.Fatal(err)
				}
				for i := range 4 {
					if _, err := exe.Run(b.Context(), in); err != nil {
						b.Fatal(err)
					}
					if i == 0 {
						first = append(first, bench.Milliseconds(time.Since(start)))
					} else {
						later = append(later, bench.Milliseconds(time.Since(start)))
					}
					start = time.Now()
				}
				exe.Close()
			}
			plan := bench.Median(first) - bench.Median(later)
			b.ReportMetric(plan, "plan-ms")
			b.ReportMetric(plan/bench.Median(later), "inferences")
		})
	}
}
