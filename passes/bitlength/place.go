package bitlength

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// unit is a set of layers that share their weights, mostly one.
type unit struct {
	layers []*passes.Layer
	weight *ir.Value
	axis   int // of the weights' output channels; −1: the layers see different ones
	q      *quantiser
}

// skip names a node that stays in float and says why.
type skip struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// unitsOf lists the layers with constant weights, in order, but for the
// excluded ones, and why others stay in float.
func (o *Bitlength) unitsOf(g *ir.Graph) (units []*unit, skipped []skip) {
	byWeight := map[*ir.Value]*unit{}
	for _, n := range g.Nodes {
		l, reason := passes.LayerOf(n)
		if l != nil && l.W < 0 {
			l, reason = nil, "it multiplies activations with each other"
		}
		if l != nil && slices.ContainsFunc(o.Exclude, func(p string) bool { return passes.Matches(p, n) }) {
			l, reason = nil, "excluded"
		}
		if reason != "" {
			skipped = append(skipped, skip{n.Label(), reason})
		}
		if l == nil {
			continue
		}
		w := n.In[l.W]
		u := byWeight[w]
		if u == nil {
			u = &unit{weight: w, axis: l.Axis}
			byWeight[w] = u
			units = append(units, u)
		}
		if u.layers = append(u.layers, l); u.axis != l.Axis {
			u.axis = -1
		}
	}
	units = slices.DeleteFunc(units, func(u *unit) bool {
		var nodes []*ir.Node
		for _, l := range u.layers {
			nodes = append(nodes, l.Node)
		}
		other := passes.OtherUser(u.weight, nodes)
		if other == nil {
			return false
		}
		for _, n := range nodes {
			skipped = append(skipped, skip{n.Label(), "its weights are needed in float by " + other.Op.Name + " " + other.Label() + " as well, so that integers would enlarge the model"})
		}
		return true
	})
	return units, skipped
}

// site is a set of edges whose activations share a quantiser's bit length and range.
type site struct {
	edges  []ir.Use // in order of discovery; an edge is an input of a node
	layers []*passes.Layer
	input  bool // carries an input of the graph
	fixed  bool // an operand of an addition, or a pool: its width is not learned
}

// values returns the values that the edges carry, each once.
func (s *site) values() []*ir.Value {
	var out []*ir.Value
	for _, e := range s.edges {
		if v := e.Node.In[e.Index]; !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// placer finds the edges to quantise.
type placer struct {
	of    map[ir.Use]*site
	sites []*site
	seen  map[*ir.Value]bool // values whose operands are on grids
}

// place finds the edges whose activations are quantised: the inputs of the
// units' layers, and with residual what integer inference computes on the way to those. Where
// operators only move numbers, the quantiser stands before them.
func place(units []*unit, residual bool) []*site {
	p := &placer{of: map[ir.Use]*site{}, seen: map[*ir.Value]bool{}}
	byValue := map[*ir.Value]*site{}
	for _, u := range units {
		for _, l := range u.layers {
			v := l.Node.In[l.X]
			s := byValue[v]
			if s == nil {
				s = &site{}
				byValue[v] = s
				p.sites = append(p.sites, s)
			}
			s.layers = append(s.layers, l)
			p.add(s, ir.Use{Node: l.Node, Index: l.X})
		}
	}
	for moved := true; moved; { // up through what only moves numbers
		moved = false
		for _, s := range slices.Clone(p.sites) {
			for _, v := range s.values() {
				if v.Def != nil && passes.Moved(v.Def) != nil && p.only(v, s) {
					p.lift(v, s)
					moved = true
				}
			}
		}
	}
	if residual {
		for _, s := range slices.Clone(p.sites) {
			for _, v := range s.values() {
				p.operands(v)
			}
		}
	}
	for _, s := range p.sites {
		for _, v := range s.values() {
			s.input = s.input || v.Kind == ir.Input
		}
	}
	return p.sites
}

// add puts an edge into s, joining s with the site that has it already.
func (p *placer) add(s *site, e ir.Use) {
	old := p.of[e]
	switch {
	case old == s:
	case old == nil:
		p.of[e] = s
		s.edges = append(s.edges, e)
	default:
		p.sites = slices.DeleteFunc(p.sites, func(t *site) bool { return t == old })
		s.layers, s.fixed = append(s.layers, old.layers...), s.fixed && old.fixed
		s.edges = append(s.edges, old.edges...)
		for _, e := range old.edges {
			p.of[e] = s
		}
	}
}

// only reports whether all uses of v are edges of s.
func (p *placer) only(v *ir.Value, s *site) bool {
	return !v.IsOutput() && !slices.ContainsFunc(v.Uses(), func(e ir.Use) bool { return p.of[e] != s })
}

// lift replaces the edges that carry v by those into what moves its numbers.
func (p *placer) lift(v *ir.Value, s *site) {
	for _, e := range v.Uses() {
		delete(p.of, e)
	}
	s.edges = slices.DeleteFunc(s.edges, func(e ir.Use) bool { return e.Node.In[e.Index] == v })
	for i := range passes.Moved(v.Def) {
		p.add(s, ir.Use{Node: v.Def, Index: i})
	}
}

// operands puts the operands of what computes v into sites of fixed width.
func (p *placer) operands(v *ir.Value) {
	if p.seen[v] {
		return
	}
	p.seen[v] = true
	for _, u := range passes.Operands(v) {
		for _, x := range p.sources(u) {
			p.operands(x)
		}
	}
}

// sources puts the uses of v other than by sites into one of fixed width,
// before what only moves numbers, and returns the values it is on.
func (p *placer) sources(v *ir.Value) []*ir.Value {
	if v.HasData() || v.Type.Elem != tensor.F32 {
		return nil
	}
	s := &site{fixed: true}
	p.sites = append(p.sites, s)
	var values []*ir.Value
	var climb func(v *ir.Value)
	climb = func(v *ir.Value) {
		if v.Def != nil && passes.Moved(v.Def) != nil {
			for i, u := range passes.Moved(v.Def) {
				if at := p.of[ir.Use{Node: v.Def, Index: i}]; at != nil && !at.fixed {
					continue // on the grid of a layer's input
				}
				climb(u)
			}
			return
		}
		values = append(values, v)
		for _, e := range inOrder(v) {
			if at := p.of[e]; at == nil || at.fixed {
				p.add(s, e)
			}
		}
	}
	climb(v)
	if len(s.edges) == 0 {
		p.sites = slices.DeleteFunc(p.sites, func(t *site) bool { return t == s })
	}
	return values
}

// inOrder returns the uses of v in its own graph in the order of its nodes.
func inOrder(v *ir.Value) []ir.Use {
	var out []ir.Use
	for _, e := range v.Uses() {
		if e.Node.Graph() == v.Graph() {
			out = append(out, e)
		}
	}
	at := func(n *ir.Node) int { return slices.Index(v.Graph().Nodes, n) }
	slices.SortFunc(out, func(a, b ir.Use) int {
		if a.Node != b.Node {
			return at(a.Node) - at(b.Node)
		}
		return a.Index - b.Index
	})
	return out
}

// normAfter returns the batch norm that alone uses n's output, if n is a layer
// whose output channels it scales and its numbers are constant.
func normAfter(n *ir.Node) *ir.Node {
	l, _ := passes.LayerOf(n)
	if l == nil || l.W < 0 || l.BiasNode != n && n.Op.Name != "MatMul" {
		return nil
	}
	out := n.Out[0]
	if len(out.Uses()) != 1 || out.IsOutput() {
		return nil
	}
	bn := out.Uses()[0].Node
	if bn.Op.Name != "BatchNormalization" || out.Uses()[0].Index != 0 || bn.Graph() != n.Graph() || bn.Int("training_mode") != 0 || out.Type.Rank() < 2 {
		return nil
	}
	for _, v := range bn.In[1:5] {
		if !v.HasData() {
			return nil
		}
	}
	return bn
}
