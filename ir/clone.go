package ir

import (
	"maps"
	"slices"
)

// Clone returns a copy of g and its subgraphs that shares only tensors, which
// are immutable, and the operator table. g must be a whole model, not a subgraph.
func (g *Graph) Clone() *Graph {
	c, _ := g.CloneMap()
	return c
}

// CloneMap is Clone, and also returns which value of the copy stands for
// which value of g.
func (g *Graph) CloneMap() (*Graph, map[*Value]*Value) {
	vals := map[*Value]*Value{}
	c := g.clone(nil, vals)
	c.names = maps.Clone(g.Root().names)
	c.Meta = slices.Clone(g.Meta)
	for _, u := range g.Updates {
		c.Updates = append(c.Updates, Update{vals[u.Param], vals[u.Next]})
	}
	return c, vals
}

func (g *Graph) clone(parent *Graph, vals map[*Value]*Value) *Graph {
	c := &Graph{Name: g.Name, Doc: g.Doc, Ops: g.Ops, Parent: parent}
	copyValue := func(v *Value) *Value {
		if v == nil {
			return nil
		}
		w := *v
		w.uses, w.graph, w.Def = nil, c, nil
		vals[v] = &w
		return &w
	}
	for _, v := range g.Inputs {
		c.Inputs = append(c.Inputs, copyValue(v))
	}
	for _, v := range g.Consts {
		c.Consts = append(c.Consts, copyValue(v))
	}
	for _, n := range g.Nodes {
		m := &Node{Op: n.Op, Name: n.Name, Doc: n.Doc, Attrs: slices.Clone(n.Attrs), graph: c}
		for i, v := range n.In {
			m.In = append(m.In, vals[v])
			m.use(i)
		}
		for i, a := range m.Attrs {
			if b, ok := a.Value.(*Graph); ok {
				m.Attrs[i].Value = b.clone(c, vals)
			}
		}
		for _, v := range n.Out {
			w := copyValue(v)
			if w != nil {
				w.Def = m
			}
			m.Out = append(m.Out, w)
		}
		c.Nodes = append(c.Nodes, m)
	}
	for _, v := range g.Outputs {
		c.Outputs = append(c.Outputs, vals[v])
	}
	return c
}
