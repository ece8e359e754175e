package interp

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

var (
	randomLayouts = flag.Int("random-layouts", 500, "how many random graphs TestRandomLayouts tries")
	randomFirst   = flag.Uint64("random-first", 0, "seed of the first graph")
)

// TestRandomLayouts: random graphs whose values have several users that want them to lie differently,
// every other one with integers, give the operators' own bits with every kernel
// set; with Winograd's method they are as close as its rounding allows.
func TestRandomLayouts(t *testing.T) {
	count := *randomLayouts
	if testing.Short() {
		count = min(count, 100)
	}
	failed, used := 0, map[string]int{} // kernels
	for seed := *randomFirst; seed < *randomFirst+uint64(count); seed++ {
		integers := seed/2%2 == 1
		g := irtest.RandomLayouts(t, ops.Table(), seed, 6+int(seed%20), integers)
		if seed%8 == 5 { // any operators
			g = irtest.Random(t, ops.Table(), seed, 6+int(seed%20))
		}
		err := againstEval(t, g, seed, used)
		if err == nil {
			continue
		}
		small := shrink(g, func(g *ir.Graph) bool { return againstEval(t, g, seed, used) != nil })
		t.Errorf("seed %d: %v\nthe least of its outputs that shows it:\n%s", seed, againstEval(t, small, seed, used), ir.Format(small))
		if failed++; failed == 5 {
			t.Fatal("and perhaps more")
		}
	}
	if count < 500 {
		return
	}
	for _, name := range []string{"add", "bit lengths", "bytes", "channels", "conv", "conv transpose", "dequantise", "elementwise", "gemm", "layout", "lines",
		"lookup", "move", "mux", "pool", "quantise", "resize", "shift", "shift and conv", "view", "winograd"} {
		if used[name] < 10 {
			t.Errorf("kernel %q is used %d times: the graphs should have more for it", name, used[name])
		}
	}
}

// againstEval runs g with every kernel set, each with one or two threads, for one or two batch sizes.
func againstEval(t *testing.T, g *ir.Graph, seed uint64, used map[string]int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	batches := []int{1 + int(seed/4%5)}
	if seed%3 == 0 {
		batches = append(batches, 1+int(seed%4))
	}
	var in, want [2][]*tensor.Tensor
	for i, n := range batches {
		in[i] = irtest.InputsOf(g, seed, n)
		var err error
		if want[i], err = ir.Eval(t.Context(), g, in[i]); err != nil {
			return fmt.Errorf("eval: %w", err)
		}
	}
	for k, set := range simd.All() {
		x, err := New().Compile(t.Context(), g, backends.Options{Kernel: set.Name, Threads: 1 + (int(seed)+k)%2, NoWinograd: true})
		if err != nil {
			return err
		}
		defer x.Close()
		for i := range batches {
			for range 2 { // the second time with memory that holds anything
				got, err := x.Run(t.Context(), in[i])
				if err != nil {
					return err
				}
				for name, n := range kernels(x) {
					used[name] += n
				}
				for j, w := range want[i] {
					if d := bitsDiffer(got[j], w); d != "" {
						return fmt.Errorf("%s, batch %d, output %%%s: %s", set.Name, batches[i], g.Outputs[j].Name, d)
					}
				}
				arena := x.(*executable).arena
				arena = arena[:cap(arena)]
				for j := range arena {
					arena[j] = nan
				}
			}
		}
	}
	return withWinograd(t, g, in[0], want[0], used)
}

// bitsDiffer says how tensors differ, "" if they do not; any NaN is as good as another.
func bitsDiffer(got, want *tensor.Tensor) string {
	if tensor.Equal(got, want) {
		return ""
	}
	if d := irtest.Diff(got, want, 0, 0); d != "" {
		return d
	}
	for i, v := range got.Float64s() {
		if w := want.Float64s()[i]; math.Signbit(v) != math.Signbit(w) && v == v {
			return fmt.Sprintf("element %d is %v, want %v", i, v, w)
		}
	}
	return ""
}

// withWinograd runs g with Winograd's method. Its sums are another order of operations: what
// follows may be as far from the operators' as that makes it, far less than a wrong operand does.
// Graphs that round, or mask by signs as gradients do, are not compared, for numbers may fall to either side.
func withWinograd(t *testing.T, g *ir.Graph, in, want []*tensor.Tensor, used map[string]int) error {
	if slices.ContainsFunc(g.Nodes, func(n *ir.Node) bool {
		return n.Op.Name == "QuantizeLinear" || n.Op.Name == "thriftc.BitQuant" || strings.HasSuffix(n.Op.Name, "Grad")
	}) {
		return nil
	}
	x, err := New().Compile(t.Context(), g, backends.Options{Threads: 2})
	if err != nil {
		return err
	}
	defer x.Close()
	got, err := x.Run(t.Context(), in)
	if err != nil {
		return err
	}
	if kernels(x)["winograd"] == 0 {
		return nil
	}
	used["winograd"]++
	for j, w := range want {
		most := 0.0
		for _, v := range w.Float64s() {
			most = max(most, math.Abs(v))
		}
		if d := irtest.Diff(got[j], w, 1e-4*most, 0); d != "" && most <= math.MaxFloat32 {
			return fmt.Errorf("with Winograd's method, output %%%s: %s", g.Outputs[j].Name, d)
		}
	}
	return nil
}

// shrink takes away outputs, and what only they need, as long as the graph fails.
func shrink(g *ir.Graph, fails func(g *ir.Graph) bool) *ir.Graph {
	for i := len(g.Outputs) - 1; i >= 0 && len(g.Outputs) > 1; i-- {
		less := g.Clone()
		less.Outputs = slices.Delete(less.Outputs, i, i+1)
		ir.NewRewriter(less).RemoveUnused()
		if fails(less) {
			g = less
		}
	}
	return g
}
