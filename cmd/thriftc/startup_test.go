package main

import (
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

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
