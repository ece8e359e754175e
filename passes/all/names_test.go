package all

import (
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// one is calibration data of a single batch.
type one []*tensor.Tensor

func (one) Len() int { return 3 }

func (o one) Batches(int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) { yield(o, nil) }
}

// TestNamesFollowNumbers: a computed value that has a name from before has the numbers from before, up to float
// rounding, after every pass that is exact, and after equalize without the limits that it drops. Weights keep their
// names when they are changed: they are the layer's weights still.
func TestNamesFollowNumbers(t *testing.T) {
	for _, info := range Table.Passes {
		if info.Kind != passes.Exact && info.Name != "equalize" {
			continue
		}
		t.Run(info.Name, func(t *testing.T) {
			kept, changed := 0, 0
			try := func(what string, g *ir.Graph, pass string) {
				steps, err := Table.Parse(pass)
				if err != nil {
					t.Fatal(err)
				}
				in := irtest.Inputs(g, 1)
				before := values(t, g, in)
				c := &passes.Context{Context: t.Context(), Engine: interp.New(), Threads: 1, Calib: one(in)}
				res, err := passes.Run(c, g, steps, passes.RunOptions{})
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if res.Steps[0].Changed {
					changed++
				}
				kept += sameNumbers(t, before, values(t, g, in))
				if t.Failed() {
					t.Fatal(what)
				}
			}
			for seed := range uint64(80) {
				try(fmt.Sprintf("seed %d", seed), irtest.Random(t, ops.Table(), seed, 25), info.Name)
			}
			files, err := filepath.Glob("../*/testdata/*.txtar")
			if err != nil || len(files) == 0 {
				t.Fatalf("no cases: %v", err)
			}
			for _, file := range files {
				a, err := txtar.ParseFile(file)
				if err != nil {
					t.Fatal(err)
				}
				parts := map[string]string{"pass": info.Name}
				for _, f := range a.Files {
					parts[f.Name] = string(f.Data)
				}
				if info.Kind == passes.Exact && parts["error"] == "" && strings.HasPrefix(parts["pass"], info.Name) {
					try(file, irtest.Parse(t, parts["in.tir"], ops.Table()), parts["pass"])
				}
			}
			if changed == 0 || kept == 0 {
				t.Errorf("%d graphs changed, %d values kept their names", changed, kept)
			}
		})
	}
}

// values computes every value that holds floating-point numbers, by name.
func values(t *testing.T, g *ir.Graph, in []*tensor.Tensor) map[string]*tensor.Tensor {
	t.Helper()
	out := map[string]*tensor.Tensor{}
	_, err := ir.EvalBody(t.Context(), g, in, nil, func(v *ir.Value, x *tensor.Tensor) {
		if v.Kind == ir.Result && x.Elem().IsFloat() {
			out[v.Name] = x
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameNumbers compares the values that both have, up to 1e-4 of the largest number in each, and returns how many they are.
func sameNumbers(t *testing.T, before, after map[string]*tensor.Tensor) int {
	t.Helper()
	n := 0
	for name, x := range before {
		y := after[name]
		if y == nil {
			continue
		}
		n++
		if !slices.Equal(x.Shape(), y.Shape()) {
			t.Errorf("%%%s is %v, and was %v", name, y.Shape(), x.Shape())
			continue
		}
		largest := 0.0
		for _, v := range x.Float64s() {
			if !math.IsInf(v, 0) {
				largest = max(largest, math.Abs(v))
			}
		}
		if d := irtest.Diff(y, x, 1e-4*largest, 0); d != "" {
			t.Errorf("%%%s has other numbers than before: %s", name, strings.SplitN(d, "\n", 2)[0])
		}
	}
	return n
}
