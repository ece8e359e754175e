package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Operators that ONNX Runtime's optimiser and its weight quantiser write.

var _ = define(ir.Op{
	Name: microsoft + "FusedConv",
	Doc:  "Conv, plus Z, followed by an activation; read as these.",
	In:   "X, W, B?, Z?", Out: "Y",
	Attrs: append([]ir.AttrSpec{
		{Name: "activation", Kind: ir.StringAttr},
		{Name: "activation_params", Kind: ir.FloatsAttr},
	}, windowAttrs...),
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		e := expansion{r: r.Before(n), n: n}
		var attrs ir.Attrs
		for _, a := range windowAttrs {
			if n.Attrs.Has(a.Name) {
				attrs.Set(a.Name, n.Attrs.Get(a.Name))
			}
		}
		in := n.In[:min(len(n.In), 3)]
		if len(in) == 3 && in[2] == nil {
			in = in[:2]
		}
		x := e.add("Conv", attrs, in...)
		if e.err != nil {
			return e.err
		}
		if conv := Table().Lookup("Conv"); conv.Import != nil {
			if err := conv.Import(e.r, x.Def, opset); err != nil {
				return err
			}
		}
		if z := n.Input(3); z != nil {
			x = e.add("Add", nil, x, z)
		}
		return e.activate(n.Str("activation"), n.Floats("activation_params"), x)
	},
})

// activate makes the node the activation that ONNX Runtime names, of x.
func (e *expansion) activate(name string, params []float32, x *ir.Value) error {
	want := map[string]int{"": 0, "Relu": 0, "Tanh": 0, "Sigmoid": 0, "LeakyRelu": 1, "Clip": 2, "HardSigmoid": 2}
	if count, ok := want[name]; !ok || count != len(params) {
		return fmt.Errorf("activation %q with %d parameters is not supported", name, len(params))
	}
	switch name {
	case "":
		return e.become("Identity", nil, x)
	case "LeakyRelu":
		return e.become(name, ir.MakeAttrs("alpha", params[0]), x)
	case "HardSigmoid":
		return e.become(name, ir.MakeAttrs("alpha", params[0], "beta", params[1]), x)
	case "Clip":
		return e.become(name, nil, x, e.number(float64(params[0])), e.number(float64(params[1])))
	}
	return e.become(name, nil, x)
}

var _ = define(ir.Op{
	Name: microsoft + "MatMulNBits",
	Doc: "A times a constant matrix of N rows of K integers of 2, 4 or 8 bits, with a scale and a zero point for each block of a row; " +
		"read as DequantizeLinear of blocks and MatMul.",
	In: "A, B, scales, zero_points?, g_idx?, bias?", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "K", Kind: ir.IntAttr, Required: true},
		{Name: "N", Kind: ir.IntAttr, Required: true},
		{Name: "accuracy_level", Kind: ir.IntAttr, Default: int64(0), Doc: "what A may be rounded to; we do not"},
		{Name: "bits", Kind: ir.IntAttr, Default: int64(4)},
		{Name: "block_size", Kind: ir.IntAttr, Required: true, Doc: "a power of two, 16 at least"},
		{Name: "weight_prepacked", Kind: ir.IntAttr, Default: int64(0)},
	},
	Import: importMatMulNBits,
})

func importMatMulNBits(r *ir.Rewriter, n *ir.Node, _ int) error {
	k, cols, bits, block := n.Int("K"), n.Int("N"), n.Int("bits"), n.Int("block_size")
	if bits != 2 && bits != 4 && bits != 8 {
		return fmt.Errorf("bits is %d, expected 2, 4 or 8", bits)
	}
	if k < 1 || cols < 1 || k > 1<<24 || cols > 1<<24 || block < 16 || block > 1<<16 || block&(block-1) != 0 {
		return fmt.Errorf("K %d, N %d and block_size %d make no matrix", k, cols, block)
	}
	if n.Input(4) != nil {
		return fmt.Errorf("g_idx is not supported")
	}
	if n.Int("weight_prepacked") != 0 {
		return fmt.Errorf("weight_prepacked is not supported")
	}
	packed, scales := n.ConstIn(1), n.ConstIn(2)
	if packed == nil || scales == nil || n.Input(3) != nil && n.ConstIn(3) == nil {
		return fmt.Errorf("B, scales and zero_points must be constants")
	}
	blocks := (k + block - 1) / block
	if packed.Elem() != tensor.U8 || packed.Len() != cols*blocks*block*bits/8 || scales.Len() != cols*blocks || !scales.Elem().IsFloat() {
		return fmt.Errorf("B is %v and scales %v, expected %d rows of %d blocks of %d integers of %d bits", ir.TypeOf(packed), ir.TypeOf(scales), cols, blocks, block, bits)
	}
	elem := tensor.Uint(bits)
	weights := unpackRows(tensor.Data[uint8](packed), cols, k, blocks*block*bits/8, bits)
	zeros := make([]int64, cols*blocks)
	for i := range zeros {
		zeros[i] = 1 << (bits - 1)
	}
	if z := n.ConstIn(3); z != nil {
		row := (blocks*bits + 7) / 8
		if z.Elem() != tensor.U8 || z.Len() != cols*row {
			return fmt.Errorf("zero_points is %v, expected %d packed bytes", ir.TypeOf(z), cols*row)
		}
		zeros = unpackRows(tensor.Data[uint8](z), cols, blocks, row, bits)
	}
	e := expansion{r: r.Before(n), n: n}
	// The rows of B are the columns of what A is multiplied by.
	name := n.In[1].Name
	w := e.r.Const(name, columns(tensor.FromInt64s(elem, weights, cols, k)))
	s := e.r.Const(n.In[2].Name, columns(scales.Reshape(cols, blocks)))
	z := e.r.Const(name+"_zero_point", columns(tensor.FromInt64s(elem, zeros, cols, blocks)))
	d := e.add("DequantizeLinear", ir.MakeAttrs("axis", 0, "block_size", block), w, s, z)
	if e.err != nil {
		return e.err
	}
	if bias := n.Input(5); bias != nil {
		return e.become("Add", nil, e.add("MatMul", nil, n.In[0], d), bias)
	}
	return e.become("MatMul", nil, n.In[0], d)
}

// unpackRows returns rows of count integers of a few bits, which lie in stride bytes, the lowest bits first.
func unpackRows(data []uint8, rows, count, stride, bits int) []int64 {
	out := make([]int64, 0, rows*count)
	for r := range rows {
		line := data[r*stride:]
		for i := range count {
			at := i * bits
			out = append(out, int64(line[at/8]>>(at%8))&(1<<bits-1))
		}
	}
	return out
}

// columns returns the transpose of a matrix.
func columns(t *tensor.Tensor) *tensor.Tensor {
	y, err := transpose(t, []int{1, 0})
	if err != nil {
		panic(err) // the rank is 2
	}
	return y
}
