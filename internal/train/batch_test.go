package train

import (
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// A model written for one sample gives every sample of a batch the constants that it concatenates with one.
func TestFreeBatchRepeatsConstants(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[1,2,2]
  const %k: f32[1,1,2] = [5, 7]
  const %shape: i64[2] = [1, 6]
  %a = Abs(%k)
  %c = Concat(%a, %x) {axis=1}
  %y = Reshape(%c, %shape)
  output %y
}`, ops.Table())
	x := tensor.Of([]float32{1, 2, 3, 4, 10, 20, 30, 40, 0, 0, 0, 1}, 3, 2, 2)
	free := freeBatch(g)
	if err := ir.Infer(free); err != nil {
		t.Fatal(err)
	}
	got, err := ir.Eval(t.Context(), free, []*tensor.Tensor{x})
	if err != nil {
		t.Fatal(err)
	}
	irtest.Equal(t, "y", got[0], tensor.Of([]float32{5, 7, 1, 2, 3, 4, 5, 7, 10, 20, 30, 40, 5, 7, 0, 0, 0, 1}, 3, 6))
}
