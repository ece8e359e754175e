package onnx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// RuntimeNotes says what a user of ONNX Runtime has to know of a quantised graph that is
// written in a dialect at an opset: which layers run as float there, and which saturate on
// some processors. docs/quantisation-dialects.md has the measurements.
func RuntimeNotes(g *ir.Graph, f Format, opset int) []string {
	if f == QONNX {
		return nil
	}
	var floats, saturating []string
	g.Walk(func(n *ir.Node) {
		if n.Op.Name != "DequantizeLinear" || n.ConstIn(0) == nil {
			return
		}
		q := n.ConstIn(0)
		for _, u := range n.Out[0].Uses() {
			if u.Index != 1 || !slices.Contains([]string{"Conv", "Gemm", "MatMul"}, u.Node.Op.Name) {
				continue
			}
			switch e := q.Elem(); {
			case e.IsInt() && e.Bits() <= 4 && f == QDQ && opset >= 21:
				floats = append(floats, u.Node.Label())
			case e == tensor.I8 && saturates(tensor.Data[int8](q)):
				saturating = append(saturating, u.Node.Label())
			}
		}
	})
	var out []string
	if len(floats) > 0 {
		out = append(out, fmt.Sprintf("weights of 4 bits are stored in 4 bits, with which ONNX Runtime computes in float: %s; --opset 17 stores them in 8, which it fuses", some(floats)))
	}
	if len(saturating) > 0 {
		out = append(out, fmt.Sprintf("on x64 processors without VNNI ONNX Runtime's sums of 8-bit products saturate in %s; set session.x64quantprecision to 1 there, or use --weight-bits 7", some(saturating)))
	}
	return out
}

// saturates reports whether the products of two weights with u8 activations may exceed 16 bits.
func saturates(weights []int8) bool {
	var first, second int // the two largest magnitudes
	for _, x := range weights {
		if w := max(int(x), -int(x)); w > first {
			first, second = w, first
		} else {
			second = max(second, w)
		}
	}
	return 255*(first+second) > 1<<15-1
}

// some lists the first few names.
func some(names []string) string {
	const show = 3
	if len(names) <= show {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more layers", strings.Join(names[:show], ", "), len(names)-show)
}
