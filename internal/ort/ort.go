// Package ort runs ONNX files on ONNX Runtime, to check against it what
// thriftc computes and writes. It is used by tests and measurements only and
// needs node and the packages that `npm ci --ignore-scripts` installs in this folder.
package ort

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Named is a tensor with the name of a graph's input or output.
type Named struct {
	Name   string
	Tensor *tensor.Tensor
}

// Optimise says what ONNX Runtime may do to the graph before it runs.
type Optimise string

// Whether ONNX Runtime rewrites the graph.
const (
	Off Optimise = "off" // every node runs as it stands in the file
	All Optimise = "all" // ONNX Runtime's default: quantised operators are fused
	// Precise is All with the session entry session.x64quantprecision = 1. Without it the
	// kernels for u8 activations and s8 weights saturate on x64 processors that lack VNNI: the
	// results are right on every processor. Nor are activations rounded beside int4 blocks of weights
	// (session.qdq_matmulnbits_accuracy_level = 0). The model is loaded and run once by default too.
	Precise Optimise = "precise"
)

func dir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Available returns nil when ONNX Runtime can be run, otherwise what is missing.
func Available() error {
	if _, err := exec.LookPath("node"); err != nil {
		return errors.New("node is not installed")
	}
	if _, err := os.Stat(filepath.Join(dir(), "node_modules", "onnxruntime-node")); err != nil {
		return errors.New("onnxruntime-node is not installed: run npm ci --ignore-scripts in internal/ort")
	}
	return nil
}

type entry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Dims   []int  `json:"dims"`
	Offset int    `json:"offset"`
	Bytes  int    `json:"bytes"`
}

var typeNames = map[tensor.Elem]string{
	tensor.F32: "float32", tensor.F64: "float64", tensor.F16: "float16", tensor.BF16: "bfloat16",
	tensor.I8: "int8", tensor.U8: "uint8", tensor.I16: "int16", tensor.U16: "uint16", tensor.I32: "int32",
	tensor.U32: "uint32", tensor.I64: "int64", tensor.U64: "uint64", tensor.Bool: "bool",
}

// Run runs the model file once for each list of inputs and returns the
// outputs of each run in the order of the file. It takes one thread.
func Run(ctx context.Context, model string, runs [][]Named, o Optimise) ([][]Named, error) {
	tmp, err := os.MkdirTemp("", "thriftc-ort-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := writeInputs(tmp, runs); err != nil {
		return nil, err
	}
	if model, err = filepath.Abs(model); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "node", filepath.Join(dir(), "run.js"), model, tmp, string(o)).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ONNX Runtime: %s (%w)", bytes.TrimSpace(out), err)
	}
	return readOutputs(tmp)
}

// writeInputs hands the inputs of runs over in a folder, see tensors.js.
func writeInputs(folder string, runs [][]Named) error {
	var data bytes.Buffer
	list := [][]entry{}
	for _, run := range runs {
		in := []entry{}
		for _, t := range run {
			name := typeNames[t.Tensor.Elem()]
			if name == "" {
				return fmt.Errorf("input %s is %v, which cannot be handed over", t.Name, t.Tensor.Elem())
			}
			at := data.Len()
			if err := binary.Write(&data, binary.LittleEndian, t.Tensor.Container()); err != nil {
				return err
			}
			in = append(in, entry{t.Name, name, append([]int{}, t.Tensor.Shape()...), at, data.Len() - at})
		}
		list = append(list, in)
	}
	index, err := json.Marshal(list)
	return errors.Join(err, os.WriteFile(filepath.Join(folder, "in.json"), index, 0o600), os.WriteFile(filepath.Join(folder, "in.bin"), data.Bytes(), 0o600))
}

// readOutputs takes the outputs of runs from the folder.
func readOutputs(folder string) ([][]Named, error) {
	index, err := os.ReadFile(filepath.Join(folder, "out.json"))
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(folder, "out.bin"))
	if err != nil {
		return nil, err
	}
	var list [][]entry
	if err := json.Unmarshal(index, &list); err != nil {
		return nil, err
	}
	results := make([][]Named, len(list))
	for i, run := range list {
		for _, e := range run {
			t, err := decode(e, raw)
			if err != nil {
				return nil, err
			}
			results[i] = append(results[i], Named{e.Name, t})
		}
	}
	return results, nil
}

func decode(e entry, raw []byte) (*tensor.Tensor, error) {
	for elem, name := range typeNames {
		if name != e.Type {
			continue
		}
		t, err := tensor.Alloc(elem, e.Dims...)
		if err != nil {
			return nil, err
		}
		if e.Bytes != t.Len()*elem.ContainerBytes() || e.Offset+e.Bytes > len(raw) {
			return nil, fmt.Errorf("output %s is %v%v, got %d bytes", e.Name, elem, e.Dims, e.Bytes)
		}
		return t, binary.Read(bytes.NewReader(raw[e.Offset:e.Offset+e.Bytes]), binary.LittleEndian, t.Container())
	}
	return nil, fmt.Errorf("output %s is of type %s, which is not known", e.Name, e.Type)
}
