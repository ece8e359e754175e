package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/internal/train"
)

// TestBenchTrain trains ResNet-20 on the CIFAR-10 that THRIFTC_BENCH_TRAIN
// names, from scratch, within THRIFTC_BENCH_BUDGET, and writes
// docs/results/resnet20-BUDGET.md with its curve. `make bench-train` runs it; with
// THRIFTC_BENCH_RESUME it goes on with the run before.
func TestBenchTrain(t *testing.T) {
	data, budget := os.Getenv("THRIFTC_BENCH_TRAIN"), os.Getenv("THRIFTC_BENCH_BUDGET")
	if data == "" {
		t.Skip("a training of an hour: make bench-train")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(root, "bin", "resnet20-"+budget)
	if os.Getenv("THRIFTC_BENCH_RESUME") == "" {
		if err := os.RemoveAll(work); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(work)
	for _, split := range []string{"train", "test"} {
		text := fmt.Sprintf("kind: cifar10\nsplit: %s\npath: %s\npreprocess: {scale: 0.00392156862745098, mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616]}\n", split, data)
		if err := os.WriteFile(split+".yaml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"train", "arch:resnet20", "--train-data", "train.yaml", "--eval-data", "test.yaml", "--time-budget", budget, "--seed", "0", "--resume", "-o", "out"}
	if code := run(context.Background(), args, os.Stdout, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	rep, err := report.Read("out/report.json")
	if err != nil {
		t.Fatal(err)
	}
	var curve []train.Point
	raw, err := json.Marshal(rep.Training)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &curve); err != nil {
		t.Fatal(err)
	}
	last := curve[len(curve)-1]
	name := "resnet20-" + budget
	var page strings.Builder
	fmt.Fprintf(&page, `# ResNet-20 on CIFAR-10, from scratch

%.2f %% of the %d test images after %g epochs (%d steps of 128 images) in %.1f minutes of wall time, evaluations included; seed %d.
%d parameters, running statistics included. Test images choose nothing: the result is the last step. Written by `+"`make bench-train BUDGET=%s`"+`.

    %s

With `+"`--epochs %g`"+` in place of the time budget the same weights come out, however fast the machine is.

![Loss and accuracy over the epochs](%s.svg)

| epoch | loss | train %% (augmented) | test %% | learning rate | minutes |
|---|---|---|---|---|---|
`, 100**rep.After.Top1, rep.After.N, last.Epoch, last.Step, rep.WallSeconds/60, rep.Seed, rep.After.Parameters, budget,
		strings.ReplaceAll(strings.ReplaceAll(rep.Command, " --resume=true", ""), data, "."), last.Epoch, name)
	for _, p := range curve {
		fmt.Fprintf(&page, "| %.4g | %.4f | %.2f | %.2f | %.4f | %.1f |\n", p.Epoch, p.Loss, 100*p.Accuracy, 100**p.Eval, p.Rate, p.Seconds/60)
	}
	results := filepath.Join(root, "docs", "results")
	svg, err := os.ReadFile("out/curve.svg")
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{name + ".md": []byte(page.String()), name + ".svg": svg} {
		if err := os.WriteFile(filepath.Join(results, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
