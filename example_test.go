package thriftc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Compress a model to 8 bits and look at what changed. The folder then holds
// model.onnx, report.json and recipe.yaml.
func ExampleCompress() {
	out, err := os.MkdirTemp("", "thriftc")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(out)
	res, err := thriftc.Compress(context.Background(), "testmodels/glyphs.onnx", thriftc.CompressOptions{
		Data:     "testmodels/glyphs/desc.yaml",
		EvalData: "testmodels/glyphs/test.yaml",
		MaxDrop:  new(1.0), // percentage points of top-1
		Output:   out,
	})
	if err != nil {
		log.Fatal(err) // of kind thriftc.Budget if the drop is larger; then there is a result, too
	}
	fmt.Printf("top-1 %.3f, before %.3f\n", *res.After.Top1, *res.Before.Top1)
	fmt.Printf("smaller: %v, budget met: %v\n", res.After.Bytes < res.Before.Bytes, res.BudgetMet)
	// Output:
	// top-1 0.995, before 0.996
	// smaller: true, budget met: true
}

// Options of the passes are set by their names; 'thriftc passes' lists them. Progress and
// messages go where the program wants them.
func ExampleCompress_options() {
	out, err := os.MkdirTemp("", "thriftc")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(out)
	pieces := map[string]bool{}
	res, err := thriftc.Compress(context.Background(), "testmodels/glyphs.onnx", thriftc.CompressOptions{
		Data:         "testmodels/glyphs/desc.yaml",
		CalibSamples: new(50),
		Options:      map[string][]string{"weight-bits": {"4"}, "exclude": {"logits"}},
		Output:       out,
		Progress:     func(what string, done, total int) { pieces[what] = done == total },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("mean bits of the weights:", res.After.MeanBitsWeights)
	fmt.Println("evaluated:", pieces["evaluating"])
	// Output:
	// mean bits of the weights: 8.666666666666666
	// evaluated: true
}

// The kind of an error says what to do about it.
func ExampleKindOf() {
	_, err := thriftc.Compress(context.Background(), "testmodels/glyphs.onnx", thriftc.CompressOptions{
		Options: map[string][]string{"weight-bits": {"40"}},
		Output:  "out",
	})
	fmt.Println(thriftc.KindOf(err), err)
	var e *thriftc.Error
	fmt.Println(errors.As(err, &e))
	// Output:
	// usage --weight-bits is 40, expected 2 to 8
	// true
}

// Train a small network from scratch for a part of an epoch.
func ExampleTrain() {
	out, err := os.MkdirTemp("", "thriftc")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(out)
	res, err := thriftc.Train(context.Background(), "arch:lenet{width=0.2}", thriftc.TrainOptions{
		TrainData: "testmodels/glyphs/desc.yaml",
		Epochs:    new(0.2),
		Output:    out,
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(out, "model.onnx"))
	fmt.Println(res.Epochs, "epochs, a model:", err == nil)
	// Output:
	// 0.2 epochs, a model: true
}

// Run a model on one image.
func ExampleRun() {
	m, err := thriftc.Open("testmodels/glyphs.onnx")
	if err != nil {
		log.Fatal(err)
	}
	in := m.Graph.Inputs[0]
	fmt.Println(in.Name, in.Type)
	out, err := thriftc.Run(context.Background(), m, map[string]*tensor.Tensor{in.Name: tensor.New(tensor.F32, 1, 1, 28, 28)}, thriftc.Engine{Threads: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(out["logits"].Shape())
	// Output:
	// image f32[N,1,28,28]
	// [1 10]
}

func ExampleEvaluate() {
	m, err := thriftc.Open("testmodels/glyphs.onnx")
	if err != nil {
		log.Fatal(err)
	}
	acc, err := thriftc.Evaluate(context.Background(), m, thriftc.EvaluateOptions{Data: "testmodels/glyphs/test.yaml"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.3f of %d\n", acc.Top1, acc.N)
	// Output:
	// 0.996 of 800
}

// A model does not differ from itself.
func ExampleCompare() {
	m, err := thriftc.Open("testmodels/glyphs.onnx")
	if err != nil {
		log.Fatal(err)
	}
	c, err := thriftc.Compare(context.Background(), m, m, thriftc.CompareOptions{Data: "testmodels/glyphs/test.yaml", Samples: 16})
	if err != nil {
		log.Fatal(err) // of kind thriftc.Differ if an output is outside the tolerance; then there is a comparison, too
	}
	last := c.Values[len(c.Values)-1]
	fmt.Println(c.Equal, last.Name, last.MaxAbs)
	// Output:
	// true logits 0
}

// Hold a report against limits, as a CI job would.
func ExampleGate() {
	out, err := os.MkdirTemp("", "thriftc")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(out)
	if _, err := thriftc.Compress(context.Background(), "testmodels/glyphs.onnx", thriftc.CompressOptions{Output: out}); err != nil {
		log.Fatal(err)
	}
	checks, err := thriftc.Gate(filepath.Join(out, "report.json"), thriftc.Limits{MaxBytesRatio: new(0.5), MaxDrop: new(1.0)})
	for _, c := range checks {
		fmt.Println(c.Name, c.Passed)
	}
	fmt.Println(err)
	// Output:
	// max-bytes-ratio true
	// max-drop false
	// the report breaks a limit
}
