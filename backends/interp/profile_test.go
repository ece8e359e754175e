package interp

import (
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Every node of the plan belongs to one step, and what follows a kernel to the kernel's.
func TestProfile(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[N,3,8,8]
  const %w: f32[3,3,1,1] = [1, 2, 3, 4, 5, 6, 7, 8, 9]
  %a = Conv(%x, %w) name "conv"
  %b = Relu(%a) name "relu"
  %p = MaxPool(%b) {kernel_shape = [2, 2]} name "pool"
  %c = Flatten(%p) name "flat"
  %d = Softmax(%c) name "soft"
  output %d
}`, ops.Table())
	x := compile(t, g, 1).(backends.Profiler)
	defer x.Close()
	steps, err := x.Profile(t.Context(), []*tensor.Tensor{tensor.New(tensor.F32, 2, 3, 8, 8)})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, s := range steps {
		if s.Kernel == "" || s.Time <= 0 {
			t.Errorf("step %d: kernel %q took %v", i, s.Kernel, s.Time)
		}
		for _, n := range s.Nodes {
			seen[n.Name]++
			if n.Name == "relu" && s.Nodes[0].Name != "conv" {
				t.Errorf("relu is computed with %s", s.Nodes[0].Name)
			}
			if shape, ok := n.Out[0].Type.Static(); !ok || shape[0] != 2 {
				t.Errorf("%s: its result is %v, of a run with two images", n.Name, n.Out[0].Type)
			}
		}
	}
	for _, name := range []string{"conv", "relu", "pool", "flat", "soft"} {
		if seen[name] != 1 {
			t.Errorf("%s is in %d steps", name, seen[name])
		}
	}
	if m := x.Memory(); m.Arena < 4*2*3*8*8 {
		t.Errorf("arena of %d bytes: it holds the result of the convolution", m.Arena)
	}
}
