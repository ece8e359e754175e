package irtest_test

import (
	"testing"

	"thriftc/ir"
	"thriftc/ir/irtest"
	"thriftc/ir/ops"
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
