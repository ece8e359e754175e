package interp

import (
	"fmt"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Quantisers with learned bit lengths, forward and back, in blocks and plain, with what is fused behind them.
func TestBitQuant(t *testing.T) {
	for seed, c := range []struct {
		shape []int
		rows  bool // a range for each index along dimension 0
	}{
		{[]int{9, 16, 6, 5}, false}, {[]int{3, 40, 4, 4}, false}, {[]int{17, 3, 1, 9}, false}, {[]int{2, 20, 33, 31}, false},
		{[]int{20, 33}, false}, {[]int{5, 6, 7}, false}, {[]int{7, 600, 3, 3}, true}, {[]int{5, 16, 1, 1}, true}, {[]int{10, 64}, true},
	} {
		for _, grid := range []string{"zero", "symmetric"} {
			for _, bits := range []float32{2.3, 4, 8} {
				b := newBuilder(t, uint64(seed))
				x := b.data(c.shape...)
				span := []int{}
				if c.rows {
					span = append(span, c.shape[0])
					for range c.shape[1:] {
						span = append(span, 1)
					}
				}
				hi := b.node("Abs", []*ir.Value{b.data(span...)})
				n := b.Input("bits", ir.TypeOf(tensor.Scalar(bits)))
				b.in = append(b.in, tensor.Scalar(bits))
				y := b.node("thriftc.BitQuant", []*ir.Value{x, n, b.Float("lo", 0), hi}, "grid", grid)
				z := b.node("Relu", []*ir.Value{b.node("Add", []*ir.Value{y, b.data(c.shape...)})})
				b.checkAll(fmt.Sprint(c.shape, grid, bits), 0, b.gradients(z)...)
			}
		}
	}
}
