package onnxio

import (
	"fmt"
	"maps"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func sortedKeys(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

// lowered is a copy of a graph in which every operator and type exists in ONNX.
type lowered struct {
	g      *ir.Graph
	widths map[string]tensor.Elem // true types of constants that had to be widened
}

// opsets returns the first and last opset to try for a wish, 0 being none.
func opsets(wish int) (first, last int, err error) {
	switch {
	case wish == 0:
		return DefaultOpset, MaxWriteOpset, nil
	case wish < MinWriteOpset || wish > MaxWriteOpset:
		return 0, 0, fmt.Errorf("opset %d cannot be written (%d to %d can)", wish, MinWriteOpset, MaxWriteOpset)
	}
	return wish, wish, nil
}

// lowerTo rewrites a copy of g for an opset; best is the opset up to which the
// caller would go for a narrower element type, int2 whether two-bit weights may be stored in two bits.
func lowerTo(g *ir.Graph, opset, best int, int2 bool) (*lowered, error) {
	u := &Unsupported{}
	if len(g.Updates) > 0 {
		u.Problems = append(u.Problems, Problem{"", "the graph updates parameters, which an ONNX model cannot"})
		return nil, u
	}
	l := &lowered{g: g.Clone(), widths: map[string]tensor.Elem{}}
	l.widen(l.g, opset, best, int2, u)
	if len(u.Problems) > 0 {
		return nil, u
	}
	if len(l.widths) > 0 {
		if err := ir.Infer(l.g); err != nil {
			return nil, fmt.Errorf("after widening constants: %w", err)
		}
	}
	export(l.g, opset, u)
	if len(u.Problems) == 0 {
		conform(l.g, opset, u)
	}
	if len(u.Problems) > 0 {
		return nil, u
	}
	return l, nil
}

// export calls the export rules until every node exists in the opset. Each
// node is exported once; nodes that a rule adds are exported in the next round.
func export(g *ir.Graph, opset int, u *Unsupported) {
	done := map[*ir.Node]bool{}
	for {
		var todo []*ir.Node
		g.Walk(func(n *ir.Node) {
			if !done[n] && (n.Op.Since > opset || ours(n.Op)) {
				todo = append(todo, n)
			}
		})
		if len(todo) == 0 || len(u.Problems) > 0 {
			break
		}
		for _, n := range todo {
			done[n] = true
			if n.Op.Export == nil {
				u.Problems = append(u.Problems, Problem{n.Op.Name + " " + n.Label(), fmt.Sprintf("operator cannot be written in opset %d", opset)})
				continue
			}
			if err := n.Op.Export(ir.NewRewriter(n.Graph()).Before(n), n, opset); err != nil {
				u.Problems = append(u.Problems, Problem{n.Op.Name + " " + n.Label(), err.Error()})
			}
		}
	}
	g.Walk(func(n *ir.Node) {
		if ours(n.Op) && len(u.Problems) == 0 {
			u.Problems = append(u.Problems, Problem{n.Op.Name + " " + n.Label(), "operator has no form in standard ONNX"})
		}
	})
}

func ours(o *ir.Op) bool { return o.Domain() == "thriftc" }

// widens reports whether an operator means the same on integers of a wider type
// with the same values: it moves elements, or reads them as numbers.
func widens(o *ir.Op) bool {
	return o.Elements >= ir.Moved || o.Name == "DequantizeLinear" || o.Layer != nil && ours(o)
}

// widen puts constants of types that ONNX lacks, such as i5, or that the opset
// lacks, such as i4 before 21, into the next wider one. That keeps the meaning
// only where elements are moved or read as numbers; arithmetic on odd widths
// has to be lowered by a dialect before.
func (l *lowered) widen(g *ir.Graph, opset, best int, int2 bool, u *Unsupported) {
	r := ir.NewRewriter(g)
	for _, v := range g.Consts {
		e := v.Type.Elem
		if e.ONNXType() != 0 && since(e) <= opset && (int2 || e.Bits() != 2 || !storage(v)) {
			continue
		}
		wide, from := container(e, best)
		if from > opset {
			u.Problems = append(u.Problems, Problem{"%" + v.Name, fmt.Sprintf("element type %v is written as %v, which needs opset %d, writing %d", e, wide, from, opset)})
			continue
		}
		l.widths[v.Name] = e
		r.SetData(v, tensor.FromInt64s(wide, v.Data.Int64s(), v.Data.Shape()...))
	}
	odd := func(v *ir.Value) bool {
		return v != nil && (v.Type.Elem.Member().ONNXType() == 0 || since(v.Type.Elem.Member()) > opset || l.widths[v.Name] != tensor.Invalid)
	}
	for _, v := range g.Inputs {
		if odd(v) {
			u.Problems = append(u.Problems, Problem{"%" + v.Name, fmt.Sprintf("input of element type %v, which opset %d lacks", v.Type.Elem, opset)})
		}
	}
	for _, n := range g.Nodes {
		if !widens(n.Op) && (slices.ContainsFunc(n.In, odd) || slices.ContainsFunc(n.Out, odd)) {
			u.Problems = append(u.Problems, Problem{n.Op.Name + " " + n.Label(), "uses an integer width that the opset lacks; export through a dialect, which says it in standard operators"})
		}
		for _, b := range n.Bodies() {
			l.widen(b, opset, best, int2, u)
		}
	}
}

// storage reports whether v is nothing but stored integers or their zero point: those of
// two bits are written in four, because ONNX Runtime 1.31 takes the DequantizeLinear away
// and then refuses the operator behind it.
func storage(v *ir.Value) bool {
	return !slices.ContainsFunc(v.Uses(), func(u ir.Use) bool { return u.Node.Op.Name != "DequantizeLinear" || !u.Node.In[0].HasData() })
}

// since returns the opset that brought an element type.
func since(e tensor.Elem) int {
	switch e {
	case tensor.Int(2), tensor.Uint(2):
		return 25
	case tensor.I4, tensor.U4:
		return 21
	}
	return 0
}

// container returns the ONNX type that holds e, and its opset: four bits if
// the caller would go to opset 21 for it, whole bytes otherwise. Two-bit
// containers are not chosen, since hardly any runtime knows them.
func container(e tensor.Elem, best int) (tensor.Elem, int) {
	of := tensor.Int
	if !e.IsSigned() {
		of = tensor.Uint
	}
	for _, bits := range []int{4, 8, 16, 32, 64} {
		wide := of(bits)
		if bits >= e.Bits() && since(wide) <= best && (e != tensor.Bipolar || bits == 8) {
			return wide, since(wide)
		}
	}
	return of(64), 0
}
