package ops

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
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
