package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Real models at the integer level: the engine, with every kernel, and ONNX Runtime on the written file give the same
// integers. The softmax at the end is left out.
func TestIntegerModels(t *testing.T) {
	ort.Need(t)
	for _, name := range []string{"cifar10/mlperf_resnet8_int8_qdq", "tiny/mlperf_kws_int8_qdq", "imagenet/mobilenet_v1_0.5_160_qat_qdq"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			file := filepath.Join(benchModels, name, "model.onnx")
			if _, err := os.Stat(file); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skipf("NOT CHECKED on a real model: %v", err)
			}
			g, err := onnxio.Read(file, ops.Table())
			if err != nil {
				t.Fatal(err)
			}
			r := ir.NewRewriter(g)
			r.SetOutputs(g.Outputs[0].Def.In[0])
			r.RemoveUnused()
			if g, err = bench.Integer(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			v := g.Inputs[0]
			shape := []int{1}
			for _, d := range v.Type.Dims[1:] {
				shape = append(shape, d.N)
			}
			x := tensor.New(tensor.F32, shape...)
			for i := range tensor.Data[float32](x) {
				tensor.Data[float32](x)[i] = float32(i*7919%511-255) / 2
			}
			path := filepath.Join(t.TempDir(), "m.onnx")
			if err := onnxio.Write(path, g, onnxio.WriteOptions{Opset: 17}); err != nil {
				t.Fatal(err)
			}
			want, err := ort.Run(t.Context(), path, [][]ort.Named{{{Name: v.Name, Tensor: x}}}, ort.All)
			if err != nil {
				t.Fatal(err)
			}
			for _, kernel := range []string{"portable", "avx2", "avx512"} {
				exe, err := interp.New().Compile(t.Context(), g, backends.Options{Threads: 2, Kernel: kernel})
				if err != nil {
					t.Logf("%s: %v", kernel, err)
					continue
				}
				got, err := exe.Run(t.Context(), []*tensor.Tensor{x})
				exe.Close()
				if err != nil {
					t.Fatal(err)
				}
				if !tensor.Equal(got[0], want[0][0].Tensor) {
					t.Errorf("%s: %v and %v", kernel, got[0].Float32s(), want[0][0].Tensor.Float32s())
				}
			}
		})
	}
}
