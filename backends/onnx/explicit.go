package onnx

import (
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
)

// explicit writes out the geometry of convolutions and poolings, which readers of qonnx
// and qcdq look up in the attributes without knowing ONNX's defaults. auto_pad becomes
// the padding that it means where the size is known.
func (l *lowering) explicit(n *ir.Node) {
	var kernel []int
	switch n.Op.Name {
	case "Conv", "ConvTranspose":
		w, ok := n.In[1].Type.Static()
		if !ok || len(w) < 3 {
			return
		}
		kernel = w[2:]
		l.r.SetAttr(n, "group", n.Int("group"))
	case "MaxPool", "AveragePool":
		for _, k := range n.Ints("kernel_shape") {
			kernel = append(kernel, int(k))
		}
	default:
		return
	}
	set := func(name string, v []int) {
		if spec := n.Op.Attr(name); spec != nil && !n.Attrs.Has(name) {
			l.r.SetAttr(n, name, v)
		}
	}
	rank := len(kernel)
	set("kernel_shape", kernel)
	set("strides", slices.Repeat([]int{1}, rank))
	if n.Op.Name != "AveragePool" { // which has none before opset 19
		set("dilations", slices.Repeat([]int{1}, rank))
	}
	switch auto := n.Str("auto_pad"); {
	case strings.HasPrefix(auto, "SAME"):
		if pads := samePads(n, kernel); pads != nil {
			l.r.DeleteAttr(n, "auto_pad")
			l.r.SetAttr(n, "pads", pads)
		}
	case auto == "VALID":
		l.r.DeleteAttr(n, "auto_pad")
		l.r.SetAttr(n, "pads", make([]int, 2*rank))
	default:
		l.r.DeleteAttr(n, "auto_pad")
		set("pads", make([]int, 2*rank))
	}
}

// samePads returns the padding that auto_pad SAME means, nil if the size is not known.
func samePads(n *ir.Node, kernel []int) []int {
	x := n.In[0].Type
	if n.Op.Name == "ConvTranspose" || x.Unranked || len(x.Dims) != len(kernel)+2 {
		return nil
	}
	strides, dilations := n.Ints("strides"), n.Ints("dilations")
	lo, hi := make([]int, len(kernel)), make([]int, len(kernel))
	for i, k := range kernel {
		if d := x.Dims[i+2]; !d.Known() {
			return nil
		}
		in, s, span := x.Dims[i+2].N, int(strides[i]), k
		if dilations != nil {
			span = (k-1)*int(dilations[i]) + 1
		}
		total := max(0, ((in+s-1)/s-1)*s+span-in)
		if lo[i] = total / 2; n.Str("auto_pad") == "SAME_LOWER" {
			lo[i] = total - total/2
		}
		hi[i] = total - lo[i]
	}
	return append(lo, hi...)
}
