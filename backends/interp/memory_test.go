package interp

import (
	"errors"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// bound returns a model's graph for a batch, and inputs for it.
func boundModel(t testing.TB, name string, batch int) (*ir.Graph, []*tensor.Tensor) {
	t.Helper()
	g := readModel(t, name)
	if d := g.Inputs[0].Type.Dims[0]; d.Sym != "" {
		var err error
		if g, err = ir.Bind(g, map[string]int{d.Sym: batch}); err != nil {
			t.Fatal(err)
		}
	}
	return g, irtest.Inputs(g, 1)
}

// Models whose every node has a kernel.
var wholeModels = []string{"cifar10/resnet20", "cifar10/mlperf_resnet8", "cifar10/alibaba_ic_mbv2", "mnist/vnn_convnet_maxpool", "mnist/mnist-8_cntk",
	"imagenet/mobilenet_v1_0.75_224", "imagenet/squeezenet1.0_deepcomp", "tiny/mlperf_ad_autoencoder", "dense/ultraface_RFB-320_simplified", "dense/nanodet_m_416"}

// RunInto allocates nothing once it has run, whatever the number of threads.
func TestRunIntoAllocatesNothing(t *testing.T) {
	for _, name := range wholeModels {
		for _, threads := range []int{1, 2} {
			g, in := boundModel(t, name, 2)
			x := compile(t, g, threads)
			out, err := x.Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			want := append([]float32(nil), out[0].Float32s()...)
			clear(tensor.Data[float32](out[0]))
			if n := testing.AllocsPerRun(10, func() {
				if err := x.RunInto(t.Context(), in, out); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s, %d threads: %v allocations per run", name, threads, n)
			}
			sameBits(t, name, out[0].Float32s(), want)
		}
	}
}

func TestRunIntoRefuses(t *testing.T) {
	b := newBuilder(t, 1)
	b.Output(b.node("Relu", []*ir.Value{b.data(2, 3)}))
	x := compile(t, b.Graph(), 1)
	for _, c := range []struct {
		out  []*tensor.Tensor
		want string
	}{
		{nil, "the graph has 1 outputs, there is memory for 0"},
		{[]*tensor.Tensor{nil}, `there is no memory for output "Relu"`},
		{[]*tensor.Tensor{tensor.New(tensor.F32, 3, 2)}, `output "Relu" is f32[2 3], there is memory for f32[3,2]`},
		{[]*tensor.Tensor{tensor.New(tensor.I32, 2, 3)}, `output "Relu" is f32[2 3], there is memory for i32[2,3]`},
	} {
		if err := x.RunInto(t.Context(), b.in, c.out); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// The arena is at most a tenth larger than the most that lies in it at any one time.
func TestArenaPeak(t *testing.T) {
	for _, name := range append(wholeModels, "imagenet/mobilenet_v2_1.0_224_ptq_deq", "light/light_resnet50") {
		if testing.Short() && name == "light/light_resnet50" {
			continue
		}
		g, in := boundModel(t, name, 1)
		x, err := New().Compile(t.Context(), g, backends.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		p, err := x.(*executable).plan(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		most := 0
		for i := range p.steps {
			live := 0
			for _, b := range p.blocks {
				if b.from <= i && i <= b.to {
					live += b.size
				}
			}
			most = max(most, live)
		}
		if float64(p.arenaLen-slack) > 1.1*float64(most) {
			t.Errorf("%s: an arena of %d floats where at most %d are in use", name, p.arenaLen, most)
		}
		x.Close()
	}
}

// A graph of a few bytes whose results would take more memory than there is.
func TestArenaLimit(t *testing.T) {
	b := newBuilder(t, 1)
	v := b.node("Conv", []*ir.Value{b.data(1, 1, 1000, 1), b.weights(100, 1, 1, 1)}, "pads", []int{0, 0, 0, 50000})
	b.Output(b.node("Relu", []*ir.Value{b.node("GlobalAveragePool", []*ir.Value{v})}))
	if _, err := compile(t, b.Graph(), 1).Run(t.Context(), b.in); !errors.Is(err, tensor.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
}

// A graph of a few bytes whose constant would take more memory than any weights do.
func TestConstantLimit(t *testing.T) {
	b := newBuilder(t, 1)
	r := ir.NewRewriter(b.Graph())
	v := b.node("OneHot", []*ir.Value{r.Ints("i", 1), r.Ints("depth", 400_000_000), r.Const("values", tensor.Of([]float32{0, 1}, 2))})
	b.Output(b.node("Add", []*ir.Value{b.data(1), v}))
	if _, err := New().Compile(t.Context(), b.Graph(), backends.Options{}); !errors.Is(err, tensor.ErrTooLarge) {
		t.Errorf("error %v", err)
	}
}
