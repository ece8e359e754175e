package interp

import (
	"encoding/binary"
	"hash/fnv"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Results are the same on every architecture, whatever the kernels: these
// numbers stand for their bits and were computed on amd64.
func TestSameBitsEverywhere(t *testing.T) {
	glyphs, err := onnxio.Read("../../testmodels/glyphs.onnx", ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	functions := irtest.Parse(t, `graph {
  input %x: f32[N,1,28,28]
  const %one: f32[1] = [1.5]
  %e = Exp(%x)
  %s = Sigmoid(%x)
  %t = Tanh(%x)
  %f = Erf(%x)
  %g = Gelu(%x)
  %l = Log(%e)
  %a = Add(%s, %t)
  %b = Mul(%f, %g)
  %c = Div(%a, %e)
  %d = Sub(%b, %c)
  %h = Softmax(%d) {axis = 3}
  %m = ReduceMean(%d) {keepdims = 1}
  %n = Mul(%h, %m)
  %k = InstanceNormalization(%d, %one, %one)
  %o = Add(%n, %k)
  %r = Add(%o, %l)
  output %r
}`, ops.Table())
	x := make([]float32, 3*28*28)
	for i := range x {
		x[i] = float32(i*2654435761%1000)/250 - 2
	}
	in := []*tensor.Tensor{tensor.Of(x, 3, 1, 28, 28)}
	for _, c := range []struct {
		name string
		g    *ir.Graph
		want uint64
	}{
		{"glyphs", glyphs, 0x345f173e305ba0c0},
		{"functions", functions, 0xa3855919ad53fdf3},
	} {
		for i, s := range simd.All() {
			exe, err := New().Compile(t.Context(), c.g, backends.Options{Kernel: s.Name, Threads: 1 + i})
			if err != nil {
				t.Fatal(err)
			}
			out, err := exe.Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			h := fnv.New64a()
			if err := binary.Write(h, binary.LittleEndian, out[0].Float32s()); err != nil {
				t.Fatal(err)
			}
			if got := h.Sum64(); got != c.want {
				t.Errorf("%s, %s: the bits are %#x, want %#x", c.name, s.Name, got, c.want)
			}
			exe.Close()
		}
	}
}
