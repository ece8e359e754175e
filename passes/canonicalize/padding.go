package canonicalize

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// padInto moves what a Pad adds into the padding of n, where both mean the same.
func padInto(r *ir.Rewriter, n *ir.Node) bool {
	pad := n.In[0].Def
	if pad == nil || pad.Op.Name != "Pad" || pad.Str("mode") != "constant" || n.Str("auto_pad") != "NOTSET" || n.Int("ceil_mode") != 0 {
		return false
	}
	added := padding(pad)
	rank := len(added) / 2
	if rank < 3 {
		return false
	}
	old := n.Ints("pads")
	if old == nil {
		old = make([]int64, 2*(rank-2))
	}
	sum := slices.Clone(old)
	for i, p := range added {
		axis := i % rank
		if p < 0 || p > 1<<20 || axis < 2 && p != 0 {
			return false
		}
		if axis >= 2 {
			sum[i/rank*(rank-2)+axis-2] += p
		}
	}
	if n.Op.Name != "Conv" {
		for i, k := range slices.Repeat(n.Ints("kernel_shape"), 2) {
			if sum[i] >= k { // runtimes refuse windows that lie in the padding
				return false
			}
		}
	}
	switch n.Op.Name {
	case "MaxPool":
		if n.Output(1) != nil || slices.ContainsFunc(n.Ints("dilations"), func(d int64) bool { return d != 1 }) || !neverLargest(pad) {
			return false
		}
	case "AveragePool":
		padded := slices.ContainsFunc(old, func(p int64) bool { return p != 0 })
		if !addsZeros(pad) || padded && n.Int("count_include_pad") == 0 {
			return false
		}
		r.SetAttr(n, "count_include_pad", 1)
	default:
		if !addsZeros(pad) {
			return false
		}
	}
	r.SetAttr(n, "pads", sum)
	r.SetInput(n, 0, pad.In[0])
	return true
}

// padding returns what a Pad adds before and after every dimension, nil where that is not known.
func padding(pad *ir.Node) []int64 {
	rank, pads := pad.In[0].Type.Rank(), pad.ConstIn(1)
	switch {
	case rank < 0 || pads == nil:
		return nil
	case pad.Input(3) == nil:
		return pads.Int64s()
	case pad.ConstIn(3) == nil:
		return nil
	}
	axes := pad.ConstIn(3).Int64s()
	out := make([]int64, 2*rank)
	for i, p := range pads.Int64s() {
		axis := int(axes[i%len(axes)]+int64(rank)) % rank
		out[i/len(axes)*rank+axis] = p
	}
	return out
}

func addsZeros(pad *ir.Node) bool {
	return pad.Input(2) == nil || pad.ConstIn(2) != nil && pad.ConstIn(2).Float64s()[0] == 0
}

// neverLargest reports whether what a Pad adds is no larger than anything it adds that to: it is the
// least number of its type, or no larger than what the input is clipped to.
func neverLargest(pad *ir.Node) bool {
	value := 0.0
	if v := pad.Input(2); v != nil {
		if !v.IsConst() {
			return false
		}
		value = v.Data.Float64s()[0]
	}
	lo, _, source := limits(pad.In[0])
	return source != nil && value <= lo || value <= lowest(pad.In[0].Type.Elem)
}

// lowest returns the least finite number of a type.
func lowest(e tensor.Elem) float64 {
	switch e {
	case tensor.F16:
		return -65504
	case tensor.BF16:
		return -0x1.fep127
	case tensor.F32:
		return -math.MaxFloat32
	case tensor.F64:
		return -math.MaxFloat64
	}
	lo, _ := e.Range()
	return float64(lo)
}
