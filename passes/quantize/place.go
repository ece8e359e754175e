package quantize

import (
	"errors"
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// layer is a layer with what quantising it adds to its bias.
type layer struct {
	*passes.Layer
	shift []float64 // added to the bias, per output channel; nil: nothing
}

// unit is a set of layers that share their weights, mostly one: what is
// quantised or left in float as a whole.
type unit struct {
	layers  []*layer
	weight  *ir.Value // nil for a product of activations
	axis    int
	bits    int // of the weights; 0: the unit stays in float
	actBits int // of the activations it reads; 0: they stay in float

	levels levels
	signed bool
	codes  *codes
	grids  []grid // one, or one per row
}

// name is what patterns and reports call the unit: the label of its first layer.
func (u *unit) name() string { return u.layers[0].Node.Label() }

// skip names a node that stays in float and says why.
type skip struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// unitsOf lists what can be quantised in g, in order, and says why an
// operator that looks like it cannot.
func unitsOf(g *ir.Graph) (units []*unit, skipped []skip) {
	byWeight := map[*ir.Value]*unit{}
	for _, n := range g.Nodes {
		l, reason := layerOf(n)
		if reason != "" {
			skipped = append(skipped, skip{n.Label(), reason})
		}
		if l == nil {
			continue
		}
		if l.W < 0 {
			units = append(units, &unit{layers: []*layer{l}})
			continue
		}
		w := n.In[l.W]
		if u := byWeight[w]; u != nil {
			u.layers = append(u.layers, l)
			if u.axis != l.Axis {
				u.axis = -1 // one scale for all: the users see different channels
			}
			continue
		}
		u := &unit{layers: []*layer{l}, weight: w, axis: l.Axis}
		byWeight[w] = u
		units = append(units, u)
	}
	units = slices.DeleteFunc(units, func(u *unit) bool {
		if u.weight == nil {
			return false
		}
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

// layerOf is passes.LayerOf.
func layerOf(n *ir.Node) (*layer, string) {
	l, reason := passes.LayerOf(n)
	if l == nil {
		return nil, reason
	}
	return &layer{Layer: l}, reason
}

// group is a set of values that share one grid because operators move numbers
// between them.
type group struct {
	members []*ir.Value // in order of discovery
	sources []*ir.Value // those whose numbers are computed, or inputs of the graph
	consts  []ir.Use    // inputs of what moves numbers between members that are constants
	bits    int
	hist    *histogram // of the sources; nil without data
	signed  bool
	grid    grid
}

// constants returns the numbers that the group's constants hold. Infinity and the largest number stand for
// "nothing", and are no data.
func (g *group) constants() []float32 {
	var out []float32
	for _, e := range g.consts {
		for _, x := range e.Node.In[e.Index].Data.Float32s() {
			if -math.MaxFloat32 < x && x < math.MaxFloat32 {
				out = append(out, x)
			}
		}
	}
	return out
}

// placement says which values are quantised.
type placement struct {
	of     map[*ir.Value]*group
	groups []*group // in order of discovery
}

// place finds the values that units want quantised: the inputs of their
// layers, and what integer inference computes on the way to those.
func place(units []*unit) *placement {
	p := &placement{of: map[*ir.Value]*group{}}
	for _, u := range units {
		if u.bits == 0 || u.actBits == 0 {
			continue
		}
		for _, l := range u.layers {
			for i, v := range l.Node.In[:2] {
				if i == l.X || l.W < 0 {
					p.want(v, u.actBits)
				}
			}
		}
	}
	for _, g := range p.groups {
		for _, v := range g.members {
			if v.Def == nil || !slices.ContainsFunc(passes.Moved(v.Def), func(u *ir.Value) bool { return p.of[u] == g }) {
				g.sources = append(g.sources, v)
				continue
			}
			for i, u := range passes.Moved(v.Def) {
				if e := (ir.Use{Node: v.Def, Index: i}); u.HasData() && !slices.Contains(g.consts, e) {
					g.consts = append(g.consts, e)
				}
			}
		}
	}
	return p
}

// want marks v, and all that must be on a grid so that v can be computed on integers.
func (p *placement) want(v *ir.Value, bits int) {
	if v == nil || v.HasData() || v.Type.Elem != tensor.F32 {
		return
	}
	if g := p.of[v]; g != nil {
		g.bits = max(g.bits, bits)
		return
	}
	g := &group{members: []*ir.Value{v}, bits: bits}
	p.of[v] = g
	p.groups = append(p.groups, g)
	if v.Def == nil {
		return
	}
	from := passes.Moved(v.Def)
	if from == nil {
		for _, u := range passes.Operands(v) {
			p.want(u, bits)
		}
	}
	for _, u := range from {
		p.want(u, bits)
		if p.of[u] != nil {
			p.join(p.of[u], p.of[v])
		}
	}
}

// join makes one group of two.
func (p *placement) join(a, b *group) {
	if a == b {
		return
	}
	a.members, a.bits = append(a.members, b.members...), max(a.bits, b.bits)
	for _, v := range b.members {
		p.of[v] = a
	}
	p.groups = slices.DeleteFunc(p.groups, func(g *group) bool { return g == b })
}

// gridsOf takes over the grids that full, a placement for at least the same
// units, has for the values of p, and chooses new ones where p wants more bits;
// values of which full knows nothing stay in float.
func (o *Quantize) gridsOf(p, full *placement) (*placement, error) {
	var err error
	p.groups = slices.DeleteFunc(p.groups, func(g *group) bool {
		f := full.of[g.members[0]]
		if f == nil {
			for _, v := range g.members {
				delete(p.of, v)
			}
			return true
		}
		if g.signed, g.grid = f.signed, f.grid; g.bits > f.bits && f.hist != nil {
			err = errors.Join(err, o.fitGroup(g, f.hist))
		} else {
			g.bits = f.bits
		}
		return false
	})
	return p, err
}
