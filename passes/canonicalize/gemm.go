package canonicalize

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// transposeFirst makes the transposition of a Gemm's computed first input a node, so that
// what multiplies activations with weights has one form.
func transposeFirst(r *ir.Rewriter, n *ir.Node) bool {
	x := n.In[0]
	if n.Int("transA") == 0 || x.IsConst() {
		return false
	}
	if t := x.Def; t != nil && t.Op.Name == "Transpose" && slices.Equal(t.Ints("perm"), []int64{1, 0}) {
		x = t.In[0]
	} else {
		x = r.Must1("Transpose", "", ir.MakeAttrs("perm", []int64{1, 0}), x)
	}
	r.SetInput(n, 0, x)
	r.DeleteAttr(n, "transA")
	return true
}

// gemmFactors takes α and β of a Gemm into its constants.
func gemmFactors(r *ir.Rewriter, n *ir.Node) bool {
	if n.In[0].Type.Elem != tensor.F32 {
		return false
	}
	changed := scaleInput(r, n, 1, "alpha") || scaleInput(r, n, 0, "alpha")
	if c := n.Input(2); n.Float("beta") != 1 && (c == nil || n.Float("beta") == 0) {
		r.SetInputs(n, n.In[0], n.In[1])
		r.DeleteAttr(n, "beta")
		return true
	}
	return scaleInput(r, n, 2, "beta") || changed
}

// scaleInput multiplies the constant input i of n by an attribute, which becomes 1. Where others use
// the constant as well they must want the same of it, as a copy of weights would be as large as they are;
// an addend is copied.
func scaleInput(r *ir.Rewriter, n *ir.Node, i int, attr string) bool {
	factor, v := n.Float(attr), n.Input(i)
	if factor == 1 || v == nil || !v.IsConst() {
		return false
	}
	x := slices.Clone(v.Data.Float32s())
	for j := range x {
		if x[j] *= factor; math.IsInf(float64(x[j]), 0) {
			return false
		}
	}
	scaled := tensor.Of(x, v.Data.Shape()...)
	alike := !v.IsOutput()
	for _, u := range v.Uses() {
		alike = alike && u.Node.Op == n.Op && u.Index == i && u.Node.Float(attr) == factor
	}
	switch {
	case alike:
		users := slices.Clone(v.Uses())
		r.SetData(v, scaled)
		for _, u := range users {
			r.DeleteAttr(u.Node, attr)
		}
	case i == 2:
		r.SetInput(n, 2, r.Const(v.Name, scaled))
		r.DeleteAttr(n, attr)
	default:
		return false
	}
	return true
}

// rowOfOne makes the one number that a Gemm adds a row, which is what a bias is.
func rowOfOne(r *ir.Rewriter, n *ir.Node) bool {
	c := n.ConstIn(2)
	if c == nil || c.Len() != 1 || c.Elem() != tensor.F32 {
		return false
	}
	cols := n.Out[0].Type.Dims[1]
	if !cols.Known() || cols.N < 2 && c.Rank() > 0 {
		return false
	}
	r.SetInput(n, 2, r.Const(n.In[2].Name, tensor.Of(slices.Repeat(c.Float32s(), cols.N), cols.N)))
	return true
}
