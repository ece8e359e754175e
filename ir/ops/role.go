package ops

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// fixedChannels is Layer.Channels of weights whose dimensions have fixed meanings.
func fixedChannels(out, in int) func(*ir.Node, int) (int, int) {
	return func(*ir.Node, int) (int, int) { return out, in }
}

// byFirst is PerSample of operators that compute each index of dimension 0 from that of
// the first input, with what the others hold for all.
func byFirst(n *ir.Node) bool {
	return len(n.Out) == 1 && !slices.ContainsFunc(n.In[1:], func(v *ir.Value) bool { return v != nil && !v.HasData() })
}

// besideAxis is PerSample of operators that work along the attribute axis.
func besideAxis(n *ir.Node) bool {
	at, err := axisOf(n.Int("axis"), n.In[0].Type.Rank())
	return err == nil && at != 0
}

// quantPerSample is PerSample of quantisers, whose parameters must not run along dimension 0.
func quantPerSample(n *ir.Node) bool {
	return byFirst(n) && !slices.ContainsFunc(n.In[1:], func(v *ir.Value) bool {
		return v != nil && v.Data.Len() > 1 && (v.Data.Rank() == 1 && !besideAxis(n) || v.Data.Rank() > 1 && v.Data.Shape()[0] != 1)
	})
}

// sameShape reports whether two types certainly have the same shape.
func sameShape(a, b ir.Type) bool {
	return !a.Unranked && !b.Unranked && slices.EqualFunc(a.Dims, b.Dims, ir.Dim.Same)
}

// isAll reports whether every element of a tensor of numbers is x.
func isAll(t *tensor.Tensor, x float64) bool {
	return t.Elem() != tensor.String && !slices.ContainsFunc(t.Float64s(), func(v float64) bool { return v != x })
}

// sameIf is Same of operators that return their first input where a condition holds.
func sameIf(holds func(n *ir.Node) bool) func(*ir.Node) *ir.Value {
	return func(n *ir.Node) *ir.Value {
		if len(n.In) > 0 && holds(n) {
			return n.In[0]
		}
		return nil
	}
}

// alone: there is one input and one output, so that joining or splitting them changes nothing.
var alone = sameIf(func(n *ir.Node) bool { return len(n.In) == 1 && len(n.Out) == 1 })

// neutral is Same of operators on two numbers that return the first where the second
// is e, and the second where the first is if they commute.
func neutral(e float64, commutes bool) func(*ir.Node) *ir.Value {
	return func(n *ir.Node) *ir.Value {
		for i, x := range n.In {
			c := n.ConstIn(1 - i)
			if (i == 0 || commutes) && c != nil && isAll(c, e) && sameShape(x.Type, n.Out[0].Type) {
				return x
			}
		}
		return nil
	}
}
