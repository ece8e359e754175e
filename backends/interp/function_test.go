package interp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// functionNodes returns a node of each operator in functions, of those with
// attributes several.
func functionNodes(t *testing.T) []*ir.Node {
	r := ir.NewRewriter(ir.NewGraph("functions", ops.Table()))
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Fixed(4)))
	var out []*ir.Node
	add := func(op string, attrs ...any) {
		n, err := r.Add(op, "", ir.MakeAttrs(attrs...), []*ir.Value{x})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	var names []string
	for op := range functions {
		names = append(names, op)
	}
	slices.Sort(names)
	for _, op := range names {
		add(op)
		for i, a := range functions[op].attrs {
			add(op, a, 0.3+float64(i))
			add(op, a, -1.7)
		}
	}
	add("Gelu", "approximate", "tanh")
	return out
}

// TestFunctions compares the kernels of functions with the operators on every
// exponent, special numbers and random bits.
func TestFunctions(t *testing.T) {
	random := 1 << 19
	if testing.Short() {
		random = 1 << 13
	}
	r := rand.New(rand.NewPCG(1, 2))
	var x []float32
	for e := range uint32(256) {
		for _, m := range []uint32{0, 1, 1 << 22, 1<<23 - 1, r.Uint32() & (1<<23 - 1)} {
			x = append(x, math.Float32frombits(e<<23|m), math.Float32frombits(1<<31|e<<23|m))
		}
	}
	for _, v := range []float64{709.8, 745.2, 22, 6, 3, 0.5, 0.25, 88.72283, 103.97, 103.98, 11, 4.2426} { // where functions change course
		f := float32(v)
		for _, y := range []float32{f, -f} {
			b := math.Float32bits(y)
			x = append(x, y, math.Float32frombits(b-1), math.Float32frombits(b+1))
		}
	}
	for range random / 2 {
		x = append(x, math.Float32frombits(r.Uint32()), float32(r.NormFloat64()*8))
	}
	for _, n := range functionNodes(t) {
		f := ops.Scalar(n)
		want := make([]float32, len(x))
		for i, v := range x {
			want[i] = f(v)
		}
		for _, s := range simd.All()[1:] {
			got := slices.Clone(x)
			functionOf(s, n)(got)
			for i, v := range want {
				if math.Float32bits(got[i]) != math.Float32bits(v) && (got[i] == got[i] || v == v) {
					t.Errorf("%s %s %v of %v (%#x) is %v (%#x), want %v (%#x)", s.Name, n.Op.Name, n.Attrs, x[i], math.Float32bits(x[i]),
						got[i], math.Float32bits(got[i]), v, math.Float32bits(v))
					break
				}
			}
			// Every length, and nothing written beyond the end.
			for k := range 40 {
				got := slices.Clone(x[100:200])
				functionOf(s, n)(got[:k])
				for i := range got {
					v := x[100+i]
					if i < k {
						v = want[100+i]
					}
					if math.Float32bits(got[i]) != math.Float32bits(v) && (got[i] == got[i] || v == v) {
						t.Fatalf("%s %s of %d elements: element %d is %v, want %v", s.Name, n.Op.Name, k, i, got[i], v)
					}
				}
			}
		}
	}
}

func BenchmarkFunctions(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	x, y := make([]float32, 4096), make([]float32, 4096)
	for i := range x {
		x[i] = float32(r.NormFloat64() * 2)
	}
	for _, name := range []string{"Exp", "Log", "Sigmoid", "Tanh", "Softplus", "Erf", "Gelu", "Mish", "Elu", "HardSwish"} {
		rw := ir.NewRewriter(ir.NewGraph("functions", ops.Table()))
		n, err := rw.Add(name, "", nil, []*ir.Value{rw.Input("x", ir.TensorType(tensor.F32, ir.Fixed(4)))})
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range simd.All() {
			f := functionOf(s, n)
			b.Run(fmt.Sprint(name, "/", s.Name), func(b *testing.B) {
				for b.Loop() {
					copy(y, x)
					f(y)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/element")
			})
		}
	}
}
