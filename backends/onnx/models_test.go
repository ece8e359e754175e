package onnx

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// model reads one of the real models; where they are not at hand the test is
// skipped, in continuous integration it fails.
func model(t *testing.T, name string) *ir.Graph {
	t.Helper()
	path := filepath.Join(modelDir(name), "model.onnx")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("NOT CHECKED: %v", err)
	}
	g, err := onnxio.Read(path, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func modelInput(t *testing.T, name string) *tensor.Tensor {
	t.Helper()
	x, _, err := onnxio.ReadTensor(filepath.Join(modelDir(name), "test_data_set_0", "input_0.pb"))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Real quantised models give their reference results: the same class, and
// before the softmax at most one step of the last quantiser.
func TestQuantisedModels(t *testing.T) {
	for m, outliers := range map[string]int{
		"tiny/mlperf_kws_int8_qdq":              0,
		"cifar10/mlperf_resnet8_int8_qdq":       0,
		"imagenet/mobilenet_v2_1.0_224_ptq_qdq": 0,
		// ONNX Runtime sums depthwise convolutions in another order. Four of
		// 1.4 million integers then fall on the other side of a border between
		// two (TestParity), and one of 1,001 results ends two steps away.
		"imagenet/mobilenet_v1_0.5_160_qat_qdq": 1,
	} {
		t.Run(filepath.Base(m), func(t *testing.T) {
			g := model(t, m)
			sets, err := filepath.Glob(filepath.Join(modelDir(m), "test_data_set_*"))
			if err != nil || len(sets) == 0 {
				t.Fatalf("no data: %v", err)
			}
			for _, s := range sets {
				x, _, err := onnxio.ReadTensor(filepath.Join(s, "input_0.pb"))
				if err != nil {
					t.Fatal(err)
				}
				want, _, err := onnxio.ReadTensor(filepath.Join(s, "output_0.pb"))
				if err != nil {
					t.Fatal(err)
				}
				got, err := ir.Eval(context.Background(), g, []*tensor.Tensor{x})
				if err != nil {
					t.Fatal(err)
				}
				compareClasses(t, filepath.Base(s), g, got[0].Float32s(), want.Float32s(), outliers)
			}
		})
	}
}

func compareClasses(t *testing.T, set string, g *ir.Graph, got, want []float32, outliers int) {
	t.Helper()
	last := g.Outputs[0].Def
	var step float64
	value := func(p []float32, i, top int) float64 { return float64(p[i]) }
	if last.Op.Name == "Softmax" {
		// The logits, but for a constant, are the logarithms of the results.
		last = last.In[0].Def
		value = func(p []float32, i, top int) float64 { return math.Log(float64(p[i])) - math.Log(float64(p[top])) }
	}
	if q, ok := ops.QuantOf(last); ok {
		step = float64(q.Scale[0])
	} else {
		t.Fatalf("the model ends in %s", last.Op.Name)
	}
	top := argmax(want)
	if k := argmax(got); got[k] != got[top] {
		t.Errorf("%s: class %d, reference %d", set, k, top)
	}
	// The unknown constant is the difference of the best, a whole number of steps.
	steps := map[int]int{}
	for i := range want {
		d := int(math.Round((value(got, i, top) - value(want, i, top)) / step))
		steps[d]++
		if d < -1 || d > 1 {
			outliers--
		}
	}
	t.Logf("%s: steps of difference: %v", set, steps)
	if outliers < 0 {
		t.Errorf("%s: steps of difference: %v", set, steps)
	}
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// The QONNX model, which ONNX Runtime cannot load, runs; and in standard
// operators ONNX Runtime computes the same.
func TestQONNXModel(t *testing.T) {
	g := model(t, "dense/espcn_subpixel_qonnx")
	for _, n := range g.Nodes {
		if n.Op.Domain() != "" && n.Op.Domain() != "thriftc" {
			t.Errorf("%s %s is left", n.Op.Name, n.Label())
		}
	}
	checkOnRuntime(t, g)
}
