package ops

import (
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Helpers of shape rules: arithmetic with dimensions, and inputs whose
// elements inference knows.

// knownInts returns the elements of integer input i when all are known.
func knownInts(n *ir.Node, i int) ([]int64, bool) {
	v := n.Input(i)
	if v == nil {
		return nil, false
	}
	if v.IsConst() && (v.Type.Elem.IsInt() || v.Type.Elem == tensor.Bool) {
		return v.Data.Int64s(), true
	}
	if v.Contents == nil {
		return nil, false
	}
	out := make([]int64, len(v.Contents))
	for j, d := range v.Contents {
		if !d.Known() {
			return nil, false
		}
		out[j] = int64(d.N)
	}
	return out, true
}

// knownInt is knownInts for an input that holds one element.
func knownInt(n *ir.Node, i int) (int64, bool) {
	if x, ok := knownInts(n, i); ok && len(x) == 1 {
		return x[0], true
	}
	return 0, false
}

// knownDims returns the elements of integer input i as dimensions: from a
// constant or what inference knows. Negative constants become Unknown.
func knownDims(n *ir.Node, i int) ([]ir.Dim, bool) {
	v := n.Input(i)
	if v == nil {
		return nil, false
	}
	if v.Contents != nil {
		return v.Contents, true
	}
	if v.IsConst() && v.Type.Elem.IsInt() {
		out := make([]ir.Dim, v.Data.Len())
		for j, x := range v.Data.Int64s() {
			out[j] = dimOf(x)
		}
		return out, true
	}
	if k, ok := vectorLen(v.Type); ok && k <= maxRank {
		return unknownDims(k), true
	}
	return nil, false
}

// maxRank bounds the ranks that shape rules make out of the length of a vector.
const maxRank = 64

// vectorLen returns the length of a vector type, if it is known.
func vectorLen(t ir.Type) (int, bool) {
	if t.Rank() == 1 && t.Dims[0].Known() {
		return t.Dims[0].N, true
	}
	return 0, false
}

func dimOf(x int64) ir.Dim {
	if x < 0 {
		return ir.Unknown
	}
	return ir.Fixed(int(x))
}

func unknownDims(rank int) []ir.Dim {
	return slices.Repeat([]ir.Dim{ir.Unknown}, rank)
}

// setContents records the elements of output i, unless they are too many to follow.
func setContents(n *ir.Node, i int, c []ir.Dim) {
	if v := n.Output(i); v != nil && len(c) <= 64 {
		v.Contents = c
	}
}

// keepContents says that output 0, of type t, has the same elements in the
// same order as input 0.
func keepContents(n *ir.Node, t ir.Type) {
	if r := t.Rank(); (r == 0 || r == 1) && n.In[0].Contents != nil {
		setContents(n, 0, n.In[0].Contents)
	}
}

// volume is a product of dimensions: a number times symbols. It is nil when a
// factor is unknown or the number overflows.
type volume struct {
	n    int
	syms []string
}

func volumeOf(dims []ir.Dim) *volume {
	v := &volume{n: 1}
	for _, d := range dims {
		switch {
		case d.Known():
			if d.N != 0 && v.n > math.MaxInt/d.N {
				return nil
			}
			v.n *= d.N
		case d.Sym != "":
			v.syms = append(v.syms, d.Sym)
		default:
			return nil
		}
	}
	return v
}

// dim returns v as a dimension; a product with a symbol has no name unless it
// is that symbol.
func (v *volume) dim() ir.Dim {
	switch {
	case v == nil:
		return ir.Unknown
	case len(v.syms) == 0 || v.n == 0:
		return ir.Fixed(v.n)
	case len(v.syms) == 1 && v.n == 1:
		return ir.Symbol(v.syms[0])
	}
	return ir.Unknown
}

// over returns v/w, or nil if it cannot be told; ok is false when w certainly
// does not divide v.
func (v *volume) over(w *volume) (q *volume, ok bool) {
	if v == nil || w == nil || w.n == 0 {
		return nil, true
	}
	rest := slices.Clone(v.syms)
	for _, s := range w.syms {
		i := slices.Index(rest, s)
		if i < 0 {
			return nil, true
		}
		rest = slices.Delete(rest, i, i+1)
	}
	if v.n%w.n != 0 {
		return nil, len(rest) > 0
	}
	return &volume{v.n / w.n, rest}, true
}

// unify returns the dimension that is both a and b.
func unify(a, b ir.Dim) (ir.Dim, error) {
	switch {
	case !a.MayEqual(b):
		return a, fmt.Errorf("dimension %v is not %v", a, b)
	case a.Known(), a.Sym != "" && !b.Known():
		return a, nil
	}
	return b, nil
}

// sumDims adds dimensions; a sum with a symbol is unknown unless the rest is 0.
func sumDims(ds ...ir.Dim) ir.Dim {
	sum, sym := 0, ir.Dim{}
	for _, d := range ds {
		switch {
		case d.Known() && sum <= math.MaxInt-d.N:
			sum += d.N
		case d.Sym != "" && sym == ir.Dim{}:
			sym = d
		default:
			return ir.Unknown
		}
	}
	switch {
	case sym == ir.Dim{}:
		return ir.Fixed(sum)
	case sum == 0:
		return sym
	}
	return ir.Unknown
}

// needInts fails unless input i, if present, holds 32- or 64-bit integers.
func needInts(n *ir.Node, inputs ...int) error {
	for _, i := range inputs {
		if v := n.Input(i); v != nil && v.Type.Elem != tensor.I64 && v.Type.Elem != tensor.I32 && v.Type.Elem != tensor.Invalid {
			return fmt.Errorf("input %d (%s) is %v, expected i64 or i32", i, n.Op.Inputs()[min(i, len(n.Op.Inputs())-1)].Name, v.Type)
		}
	}
	return nil
}

// wantNumbers fails when an input holds neither integers, floating-point numbers nor bools.
func wantNumbers(n *ir.Node, inputs ...int) error {
	for _, i := range inputs {
		if e := n.In[i].Type.Elem; !e.IsFloat() && !e.IsInt() && e != tensor.Bool && e != tensor.Invalid {
			return fmt.Errorf("%s is %v, expected numbers", portName(n, i), n.In[i].Type)
		}
	}
	return nil
}

// toInput turns attribute name, a list of integers, into constant input i.
func toInput(r *ir.Rewriter, n *ir.Node, name string, i int) {
	if x, ok := n.Attrs.Get(name).([]int64); ok {
		r.SetInput(n, i, r.Ints(n.Out[0].Name+"_"+name, x...))
		r.DeleteAttr(n, name)
	}
}

// toAttr turns constant input i into attribute name, for older forms.
func toAttr(r *ir.Rewriter, n *ir.Node, i int, name string, opset int) error {
	if n.Input(i) == nil {
		return nil
	}
	t := n.ConstIn(i)
	if t == nil || !t.Elem().IsInt() {
		return fmt.Errorf("%s must be constant at opset %d", name, opset)
	}
	r.SetInputs(n, n.In[:i]...)
	r.SetAttr(n, name, slices.Clone(t.Int64s()))
	return nil
}
