package interp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// models is where the ONNX models are that the tests run.
const models = "../../../shared/models"

func readModel(t testing.TB, name string) *ir.Graph {
	t.Helper()
	if _, err := os.Stat(models); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, no models to run: %v", err)
	}
	g, err := onnxio.Read(filepath.Join(models, name, "model.onnx"), ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// pair reads the inputs and outputs of a reference run.
func pair(t testing.TB, g *ir.Graph, dir string) (in, out []*tensor.Tensor) {
	t.Helper()
	read := func(kind string, count int) (list []*tensor.Tensor) {
		for i := range count {
			x, _, err := onnxio.ReadTensor(filepath.Join(dir, fmt.Sprintf("%s_%d.pb", kind, i)))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, x)
		}
		return list
	}
	return read("input", len(g.Inputs)), read("output", len(g.Outputs))
}

func TestModelsMatchReferencePairs(t *testing.T) {
	readModel(t, "mnist/mnist-8_cntk")
	sets, err := filepath.Glob(models + "/*/*/test_data_set_0")
	if err != nil {
		t.Fatal(err)
	}
	quantised := map[string]bool{ // one step of a quantiser is more than the tolerance
		"cifar10/mlperf_resnet8_int8_qdq": true, "imagenet/mobilenet_v1_0.5_160_qat_qdq": true,
		"imagenet/mobilenet_v2_1.0_224_ptq_qdq": true, "tiny/mlperf_kws_int8_qdq": true,
	}
	for _, dir := range sets {
		name, _ := filepath.Rel(models, filepath.Dir(dir))
		if quantised[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if testing.Short() && strings.HasPrefix(name, "light/") {
				t.Skip("large: hundreds of megabytes of constant weights")
			}
			g := readModel(t, name)
			in, want := pair(t, g, dir)
			got, err := compile(t, g, 2).Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				irtest.Close(t, g.Outputs[i].Name, got[i], want[i], 1e-4, 1e-3)
			}
		})
	}
}

func TestModelsMatchEval(t *testing.T) {
	for _, name := range []string{"cifar10/mlperf_resnet8", "cifar10/mlperf_resnet8_int8_qdq", "tiny/mlperf_kws_int8_qdq",
		"cifar10/alibaba_ic_mbv2", "mnist/cnn_mnist_pytorch", "tiny/mlperf_ad_autoencoder"} {
		t.Run(name, func(t *testing.T) {
			g := readModel(t, name)
			sets, err := filepath.Glob(filepath.Join(models, name, "test_data_set_*"))
			if err != nil || len(sets) == 0 {
				t.Fatalf("no reference pairs: %v", err)
			}
			in, _ := pair(t, g, sets[0])
			want, err := ir.Eval(t.Context(), g, in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := compileWith(t, g, backends.Options{Threads: 2, NoWinograd: true}).Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				irtest.Equal(t, g.Outputs[i].Name, got[i], want[i])
			}
		})
	}
}

func BenchmarkModel(b *testing.B) {
	for _, name := range []string{"cifar10/resnet20", "imagenet/mobilenet_v1_0.75_224"} {
		g := readModel(b, name)
		for _, batch := range []int{1, 32} {
			b.Run(fmt.Sprint(name, " ", batch), func(b *testing.B) {
				x, err := New().Compile(b.Context(), g, backends.Options{Threads: 2})
				if err != nil {
					b.Fatal(err)
				}
				defer x.Close()
				bound, err := ir.Bind(g, map[string]int{g.Inputs[0].Type.Dims[0].Sym: batch})
				if err != nil {
					b.Fatal(err)
				}
				in := irtest.Inputs(bound, 1)
				for b.Loop() {
					if _, err := x.Run(b.Context(), in); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "images/s")
			})
		}
	}
}
