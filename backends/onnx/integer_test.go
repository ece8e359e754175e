package onnx

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// integerCase adds random operators of the integer level over x to a graph.
type integerCase struct {
	rng *rand.Rand
	r   *ir.Rewriter
	t   *testing.T
}

func (c *integerCase) ints(e tensor.Elem, lo, hi int64, shape ...int) *tensor.Tensor {
	n, err := tensor.NumElems(shape)
	if err != nil {
		c.t.Fatal(err)
	}
	x := make([]int64, n)
	for i := range x {
		x[i] = lo + c.rng.Int64N(hi-lo+1)
	}
	return tensor.FromInt64s(e, x, shape...)
}

func (c *integerCase) full(e tensor.Elem, shape ...int) *tensor.Tensor {
	lo, hi := e.Range()
	return c.ints(e, lo, hi, shape...)
}

func (c *integerCase) konst(t *tensor.Tensor) *ir.Value { return c.r.Const("c", t) }

func (c *integerCase) multiplier(typical float64, n int) *ir.Value {
	m := make([]float32, n)
	for i := range m {
		m[i] = float32((0.5 + c.rng.Float64()) / typical)
		if c.rng.IntN(3) == 0 {
			m[i] = 1.0 / 64 // ties
		}
	}
	if n == 1 {
		return c.konst(tensor.Scalar(m[0]))
	}
	return c.konst(tensor.Of(m, n))
}

func (c *integerCase) add(op string, attrs ir.Attrs, in ...*ir.Value) {
	n, err := c.r.Add(op, "", attrs, in)
	if err != nil {
		c.t.Fatal(err)
	}
	c.r.Output(n.Out[0])
}

// Operators of the integer level mean in standard ONNX exactly what they mean to us.
func TestIntegerOperatorsOnRuntime(t *testing.T) {
	ort.Need(t)
	for seed := range uint64(4) {
		xe := []tensor.Elem{tensor.U8, tensor.I8}[seed%2]
		ye := []tensor.Elem{tensor.U8, tensor.I8}[seed/2%2]
		t.Run(fmt.Sprintf("%v to %v", xe, ye), func(t *testing.T) {
			c := &integerCase{rand.New(rand.NewPCG(seed, 0)), ir.NewRewriter(ir.NewGraph("g", ops.Table())), t}
			x := c.r.Input("x", ir.TensorType(xe, ir.Dims(2, 4, 7, 6)...))
			m := c.r.Input("m", ir.TensorType(xe, ir.Dims(3, 20)...))
			xz, mz, yz := c.konst(c.full(xe)), c.konst(c.full(xe)), c.konst(c.full(ye))
			pads := ir.MakeAttrs("pads", []int{1, 0, 2, 1}, "strides", []int{2, 1}, "lo", 3, "hi", 90)
			c.add("thriftc.QConv", pads, x, c.konst(c.full(tensor.I8, 5, 4, 3, 3)), xz, nil, c.konst(c.ints(tensor.I32, -9000, 9000, 5)), c.multiplier(300, 5), yz)
			c.add("thriftc.QConv", ir.MakeAttrs("group", 4, "pads", []int{1, 1, 1, 1}), x, c.konst(c.full(tensor.U8, 8, 1, 3, 3)), xz, c.konst(c.full(tensor.U8)), nil, c.multiplier(200, 1), yz)
			c.add("thriftc.QConv", ir.MakeAttrs("bias_shift", 4), x, c.konst(c.full(tensor.Int(3), 5, 4, 1, 1)), xz, nil, c.konst(c.ints(tensor.I32, -900, 900, 5)), c.multiplier(400, 5), yz)
			c.add("thriftc.QConv", nil, x, c.konst(c.full(tensor.I8, 5, 4, 2, 2)), xz)
			c.add("thriftc.QGemm", ir.MakeAttrs("transB", 1), m, c.konst(c.full(tensor.I4, 6, 20)), mz, nil, c.konst(c.ints(tensor.I32, -9000, 9000, 6)), c.multiplier(100, 6), yz)
			c.add("thriftc.QGemm", nil, m, c.konst(c.full(tensor.U8, 20, 6)), mz, c.konst(c.full(tensor.U8)), nil, c.multiplier(300, 1), yz)
			c.add("thriftc.QAdd", ir.MakeAttrs("shift", 12), x, x, xz, c.konst(c.full(xe)), c.konst(tensor.Of([]int32{2048, -2047}, 2)), yz)
			c.add("thriftc.QAveragePool", ir.MakeAttrs("kernel_shape", []int{3, 2}, "pads", []int{1, 1, 0, 0}, "strides", []int{1, 2}), x, xz, c.multiplier(9, 1), yz)
			c.add("thriftc.QGlobalAveragePool", nil, x, xz, c.konst(tensor.Scalar[float32](1.0/32)), yz)
			c.add("thriftc.Lookup", nil, x, c.konst(c.full(ye, 256)))

			in := []*tensor.Tensor{c.full(xe, 2, 4, 7, 6), c.full(xe, 3, 20)}
			want, err := ir.Eval(context.Background(), c.r.Graph(), in)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "m.onnx")
			if err := onnxio.Write(path, c.r.Graph(), onnxio.WriteOptions{Opset: 17}); err != nil {
				t.Fatal(err)
			}
			got, err := ort.Run(context.Background(), path, [][]ort.Named{{{Name: "x", Tensor: in[0]}, {Name: "m", Tensor: in[1]}}}, ort.All)
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range want {
				if !tensor.Equal(got[0][i].Tensor, w) {
					t.Errorf("%s differs:\n%v\n%v", c.r.Graph().Outputs[i].Def.Op.Name, got[0][i].Tensor.Int64s(), w.Int64s())
				}
			}
		})
	}
}
