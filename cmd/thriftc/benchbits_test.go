package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
)

// bitsRow is a row of docs/results/bitpruning-BUDGET.md: a model and the options of bitlength.
type bitsRow struct{ model, options string }

// budget is the time of a row: a third for ResNet-8, which has a third of the MACs.
func (r bitsRow) budget(full time.Duration) time.Duration {
	if r.model == "mlperf_resnet8" {
		return full / 3
	}
	return full
}

var bitsRows = []bitsRow{
	{"resnet20", "target-bits=4"}, {"resnet20", "target-bits=3.2"},
	{"resnet20", "uniform=3"}, {"resnet20", "uniform=4"}, {"resnet20", "uniform=5"},
	{"mlperf_resnet8", "target-bits=4.5"},
	{"mlperf_resnet8", "uniform=3"}, {"mlperf_resnet8", "uniform=4"}, {"mlperf_resnet8", "uniform=5"},
	{"mlperf_resnet8", "target-bits=4.5,lambda=macs"}, {"mlperf_resnet8", "target-bits=4.5,lambda=footprint"},
	{"mlperf_resnet8", "max-drop=1"}, {"resnet20", "max-drop=0.5"},
	{"resnet20", "target-bits=4,lambda=macs"}, {"resnet20", "target-bits=4,lambda=footprint"},
	// Learned from the labels alone, as in the paper.
	{"resnet20", "target-bits=4,teacher-weight=0"}, {"resnet20", "target-bits=3.2,teacher-weight=0"},
	{"resnet20", "uniform=3,teacher-weight=0"}, {"resnet20", "uniform=4,teacher-weight=0"}, {"resnet20", "uniform=5,teacher-weight=0"},
	{"mlperf_resnet8", "target-bits=4.5,teacher-weight=0"},
	{"mlperf_resnet8", "uniform=3,teacher-weight=0"}, {"mlperf_resnet8", "uniform=4,teacher-weight=0"}, {"mlperf_resnet8", "uniform=5,teacher-weight=0"},
	{"mlperf_resnet8", "target-bits=4.5,lambda=macs,teacher-weight=0"}, {"mlperf_resnet8", "target-bits=4.5,lambda=footprint,teacher-weight=0"},
	{"mlperf_resnet8", "max-drop=1,teacher-weight=0"}, {"resnet20", "target-bits=4,lambda=macs,teacher-weight=0"},
}

// Preprocessing that the models were trained with.
var bitsPreprocess = map[string]string{
	"resnet20":       "{scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
	"mlperf_resnet8": "{scale: 1}",
}

// TestBenchBits learns bit lengths on the CIFAR-10 that THRIFTC_BENCH_BITS names, with
// the models in the folder THRIFTC_BENCH_MODELS, THRIFTC_BENCH_BUDGET for each row that
// matches THRIFTC_BENCH_ROWS, and writes docs/results/bitpruning-BUDGET.md after every row. A row that is
// done is not done again, and one that was interrupted goes on: `make bench-bitpruning` can be repeated until all are there.
func TestBenchBits(t *testing.T) {
	data, models, budget := os.Getenv("THRIFTC_BENCH_BITS"), os.Getenv("THRIFTC_BENCH_MODELS"), os.Getenv("THRIFTC_BENCH_BUDGET")
	if data == "" {
		t.Skip("trainings of hours: make bench-bitpruning")
	}
	ort.Need(t)
	only, err := regexp.Compile(os.Getenv("THRIFTC_BENCH_ROWS"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	full, err := time.ParseDuration(budget)
	if err != nil {
		t.Fatalf("BUDGET: %v", err)
	}
	work := filepath.Join(root, "bin", "bitpruning-"+budget)
	for _, r := range bitsRows {
		if !only.MatchString(r.model + " " + r.options) {
			continue
		}
		dir := filepath.Join(work, r.dir())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		for _, split := range []string{"train", "test"} {
			text := fmt.Sprintf("kind: cifar10\nsplit: %s\npath: %s\npreprocess: %s\n", split, data, bitsPreprocess[r.model])
			if err := os.WriteFile(split+".yaml", []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat("out/report.json"); err != nil {
			args := []string{
				"compress", filepath.Join(models, r.model, "model.onnx"), "--train-data", "train.yaml", "--eval-data", "test.yaml",
				"--passes", "bitlength{" + r.options + "}", "--time-budget", r.budget(full).String(), "--seed", "0", "--resume", "-o", "out",
			}
			// A budget that is not met on the evaluation data is a result, too.
			if code := run(context.Background(), args, os.Stdout, os.Stderr); code != 0 && code != exitBudget {
				t.Fatalf("%s %s: exit code %d", r.model, r.options, code)
			}
		}
		if _, err := os.Stat("ort.json"); err != nil {
			top1 := runtimeTop1(t, "out/model.onnx", "test.yaml")
			if err := os.WriteFile("ort.json", fmt.Appendf(nil, "%v", top1), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeBits(filepath.Join(root, "docs", "results"), work, budget, data, models); err != nil {
			t.Fatal(err)
		}
	}
}

// dir is the folder of a row.
func (r bitsRow) dir() string {
	return r.model + "-" + strings.NewReplacer("=", "-", ",", "-").Replace(r.options)
}

// runtimeTop1 is the accuracy of a file in ONNX Runtime.
func runtimeTop1(t *testing.T, model, desc string) float64 {
	t.Helper()
	g, err := onnxio.Read(model, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	set, err := dataset.Open(desc)
	if err != nil {
		t.Fatal(err)
	}
	src, err := set.For(g)
	if err != nil {
		t.Fatal(err)
	}
	right, at := 0, 0
	for in, err := range src.Batches(100) {
		if err != nil {
			t.Fatal(err)
		}
		outs, err := ort.Run(t.Context(), model, [][]ort.Named{{{Name: g.Inputs[0].Name, Tensor: in[0]}}}, ort.All)
		if err != nil {
			t.Fatal(err)
		}
		y := outs[0][0].Tensor.Float32s()
		classes := len(y) / in[0].Shape()[0]
		for i := range in[0].Shape()[0] {
			row, best := y[i*classes:][:classes], 0
			for c, v := range row {
				if v > row[best] {
					best = c
				}
			}
			if best == src.Label(at) {
				right++
			}
			at++
		}
	}
	return float64(right) / float64(at)
}

// writeBits writes the page and the plots of all rows that are done.
func writeBits(results, work, budget, data, models string) error {
	var table, layers strings.Builder
	for _, r := range bitsRows {
		dir := filepath.Join(work, r.dir())
		rep, err := report.Read(filepath.Join(dir, "out", "report.json"))
		if err != nil {
			continue // not done yet
		}
		raw, err := os.ReadFile(filepath.Join(dir, "ort.json"))
		if err != nil {
			continue
		}
		var runtime float64
		if err := json.Unmarshal(raw, &runtime); err != nil {
			return err
		}
		stats := map[string]any{}
		for _, p := range rep.Passes {
			for _, s := range p.Stats {
				stats[s.Name] = s.Value
			}
		}
		epochs := 0.0
		for name, v := range stats {
			if m, ok := v.(map[string]any); ok && strings.HasPrefix(name, "training_") {
				epochs += m["epochs"].(float64)
			}
		}
		a, b := rep.After, rep.Before
		fmt.Fprintf(&table, "| %s | `%s` | %.1f | %.0f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.1f | %s | %s | %s |\n",
			r.model, r.options, epochs, rep.WallSeconds/60, 100**b.Top1, 100**a.Top1, 100*(*b.Top1-*a.Top1), 100*runtime,
			stats["mean_bits"], a.MeanBitsWeights, a.MeanBitsActivations, a.MeanBitsWeightsByValue,
			report.Count(a.BOPs/1e6), report.Count(int64(stats["weight_bytes_effective"].(float64))), report.Count(a.Bytes))
		var w, x []string
		for _, l := range a.Layers {
			if l.WeightBits > 0 && l.MACs > 0 && (l.Op == "Conv" || l.Op == "Gemm") {
				w, x = append(w, fmt.Sprint(l.WeightBits)), append(x, fmt.Sprint(l.ActivationBits))
			}
		}
		fmt.Fprintf(&layers, "\n%s, `%s`: weights %s; input activations %s\n", r.model, r.options, strings.Join(w, " "), strings.Join(x, " "))
		if strings.HasPrefix(r.options, "uniform") {
			continue
		}
		if err := report.PlotBits(filepath.Join(dir, "bits"), a.Layers); err != nil {
			return err
		}
		svg, err := os.ReadFile(filepath.Join(dir, "bits.svg"))
		if err != nil {
			return err
		}
		name := fmt.Sprintf("bitpruning-%s-%s.svg", budget, r.dir())
		if err := os.WriteFile(filepath.Join(results, name), svg, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&layers, "\n![Bits of the layers](%s)\n", name)
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, `# Learned bit lengths, measured

Written by `+"`make bench-bitpruning BUDGET=%s`"+`, row by row, the last on %s. Every row is one run of at most that time (a third of it for
ResNet-8, which has a third of the MACs) from the float model, trained on the 50,000 training images of CIFAR-10 less the tenth that is held out, and judged on 5,000 test images that choose nothing; seed 0. `+"`uniform`"+` rows have the
same width everywhere and are fine-tuned for the same time. Bits are the mean over the weights and input activations of all convolutions and
matrix products, first and last included, each counting the same; the network's 8-bit input is not in it, and the operands of additions have 8 bits. BOPs are
MACs times the widths of both operands. Bytes are of the weights at their widths, and of the file, which holds int4 and int8.

    thriftc compress MODEL.onnx --train-data train.yaml --eval-data test.yaml --passes 'bitlength{OPTIONS}' --time-budget TIME -o out

| model | options | epochs | minutes | float top-1 %% | top-1 %% | drop | in ONNX Runtime | bits | weights | activations | weights, by value | BOPs, millions | weights, bytes | file, bytes |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`, budget, time.Now().Format(time.DateOnly))
	page.WriteString(strings.TrimPrefix(table.String(), "\n"))
	page.WriteString("\n## Bits of the layers\n")
	page.WriteString(layers.String())
	text := strings.NewReplacer(data, "CIFAR", models, "MODELS").Replace(page.String())
	return os.WriteFile(filepath.Join(results, fmt.Sprintf("bitpruning-%s.md", budget)), []byte(text), 0o644)
}
