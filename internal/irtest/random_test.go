package irtest_test

import (
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// TestRandomRuns checks that random graphs over the whole operator table
// verify and run, whatever the seed, and print alike when drawn again.
func TestRandomRuns(t *testing.T) {
	for seed := range uint64(60) {
		g := irtest.Random(t, ops.Table(), seed, 25)
		if err := ir.Verify(g); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, ir.Format(g))
		}
		if _, err := ir.Eval(t.Context(), g, irtest.Inputs(g, seed)); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, ir.Format(g))
		}
		again, err := ir.Parse("again", ir.Format(g), ops.Table())
		if err != nil {
			t.Fatal(err)
		}
		irtest.SameGraph(t, again, g)
		irtest.SameGraph(t, irtest.Random(t, ops.Table(), seed, 25), g)
	}
}

// FuzzParse reads text with the whole operator table: whatever the shape rules
// are made to see, there is an error, or a graph that prints and reads back.
func FuzzParse(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(ir.Format(irtest.Random(f, ops.Table(), seed, 6)))
	}
	f.Add(`graph { input %x: f32[N,2] const %s: i64[2] = [-1, 4] %y = Reshape(%x, %s) %z = Gemm(%y, %y) {transB=1} output %z }`)
	f.Fuzz(func(t *testing.T, src string) {
		g, err := ir.Parse("fuzz.tir", src, ops.Table())
		if err != nil {
			return
		}
		text := ir.Format(g)
		h, err := ir.Parse("printed.tir", text, ops.Table())
		if err != nil {
			t.Fatalf("printed text does not parse: %v\n%s", err, text)
		}
		irtest.SameGraph(t, h, g)
	})
}
