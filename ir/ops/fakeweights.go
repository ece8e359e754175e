package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// FakeQuantizeWeights puts floats behind a quantiser in the place of constant
// integers and their DequantizeLinear, so that they can be trained, and
// returns how many. Scales, zero points and widths stay, and so does every
// result; Normalize turns the quantisers into integers again. Integers that
// would not come back equal (from about 2^24 on) and those with scales for
// blocks stay as they are.
func FakeQuantizeWeights(g *ir.Graph) (int, error) {
	r, count := ir.NewRewriter(g), 0
	done := map[fakeKey]*ir.Value{} // weights that several nodes share stay shared
	for _, n := range slices.Clone(g.Nodes) {
		if n.Op.Name != "DequantizeLinear" || !n.In[0].IsConst() || !n.In[1].IsConst() || n.Int("block_size") != 0 || n.Out[0].Type.Elem != tensor.F32 {
			continue
		}
		key := fakeKey{n.In[0], n.In[1], n.Input(2), n.Int("axis")}
		if v := done[key]; v != nil && !n.Out[0].IsOutput() {
			r.ReplaceUses(n.Out[0], v)
			r.Erase(n)
			continue
		}
		v, err := fakeQuantize(r.Before(n), n)
		if err != nil {
			return count, fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err)
		}
		if v != nil {
			done[key] = v
			count++
		}
	}
	r.RemoveUnusedConsts()
	return count, nil
}

type fakeKey struct {
	ints, scale, zero *ir.Value
	axis              int
}

// fakeQuantize replaces one DequantizeLinear and returns the floats; nil if it must stay.
func fakeQuantize(r *ir.Rewriter, n *ir.Node) (*ir.Value, error) {
	ints, scale := n.In[0].Data, n.In[1]
	elem := ints.Elem()
	in := []*tensor.Tensor{ints, scale.Data, nil}
	var zeros []float32
	var zeroShape []int
	if z := n.Input(2); z != nil {
		if !z.IsConst() {
			return nil, nil
		}
		in[2], zeros, zeroShape = z.Data, z.Data.Float32s(), z.Data.Shape()
	} else {
		zeros = []float32{0}
	}
	values, err := n.Eval(in)
	if err != nil {
		return nil, err
	}
	name := n.In[0].Name
	op, attrs := "thriftc.BipolarQuant", ir.Attrs(nil)
	args := []*ir.Value{r.Const(name+FloatSuffix, values[0]), scale}
	if scale.Data.Len() > 1 {
		attrs = ir.MakeAttrs("axis", n.Int("axis"))
	}
	if elem != tensor.Bipolar {
		op = "thriftc.Quant"
		attrs.Set("signed", elem.IsSigned())
		args = append(args, r.Const(name+"_zero_point", tensor.Of(zeros, zeroShape...)), r.Float(name+"_bits", float32(elem.Bits())))
	}
	m, err := r.Add(op, n.Name, attrs, args, n.Out[0].Name)
	if err != nil {
		return nil, err
	}
	data := make([]*tensor.Tensor, len(args))
	for i, a := range args {
		data[i] = a.Data
	}
	again, err := m.Eval(data)
	if err != nil {
		return nil, err
	}
	if !tensor.Equal(again[0], values[0]) {
		r.Erase(m)
		return nil, nil
	}
	replaceNode(r, n, m.Out[0])
	return m.Out[0], nil
}
