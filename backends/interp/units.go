package interp

import (
	"slices"

	"thriftc/ir"
	"thriftc/ir/tensor"
)

// units chooses how each node of g is computed, in the order of execution.
func units(x *executable, g *ir.Graph) []unit {
	var out []unit
	for _, n := range g.Nodes {
		out = append(out, choose(x, n))
	}
	return out
}

func choose(x *executable, n *ir.Node) unit {
	if reshapes[n.Op.Name] && isView(n) {
		return unit{node: n, kind: viewed, in: n.In[:1], out: n.Out}
	}
	return unit{node: n, kind: evaluated, in: slices.Concat(n.In, n.Captures()), out: n.Out}
}

// reshapes are the operators whose result is their first input in another shape.
var reshapes = map[string]bool{"Reshape": true, "Flatten": true, "Squeeze": true, "Unsqueeze": true, "Identity": true}

// isView reports whether n's result can share the memory of its first input.
func isView(n *ir.Node) bool {
	a, b := n.In[0].Type, n.Out[0].Type
	from, ok1 := a.Static()
	to, ok2 := b.Static()
	if !ok1 || !ok2 || a.Elem != b.Elem || a.Elem == tensor.Invalid {
		return false
	}
	p, err1 := tensor.NumElems(from)
	q, err2 := tensor.NumElems(to)
	return err1 == nil && err2 == nil && p == q
}
