package quantize

import (
	"errors"
	"slices"

	"thriftc/ir"
	"thriftc/ir/tensor"
)

// layer is an operator that multiplies activations with constant weights, or
// with other activations, and so gains from integers.
type layer struct {
	node *ir.Node
	x, w int // indices of the inputs: activations, weights; w is −1 for a product of activations
	axis int // dimension of the weights that numbers the output channels
	rows int // output channels

	// The bias is input biasAt of biasNode: of node itself, or of an Add that
	// follows a MatMul. It may be absent. biasNode is nil when there is no place
	// for one, or something there that is no plain bias.
	biasNode *ir.Node
	biasAt   int

	shift []float64 // added to the bias, per output channel; nil: nothing
}

// bias returns the bias, nil when there is none.
func (l *layer) bias() *ir.Value {
	if l.biasNode == nil {
		return nil
	}
	return l.biasNode.Input(l.biasAt)
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
	codes  [][]int64 // the integers, one row per index of the weights along axis
	grids  []grid    // one, or one per row
}

// name is what patterns and reports call the unit: the label of its first layer.
func (u *unit) name() string { return u.layers[0].node.Label() }

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
		if l.w < 0 {
			units = append(units, &unit{layers: []*layer{l}})
			continue
		}
		w := n.In[l.w]
		if u := byWeight[w]; u != nil {
			u.layers = append(u.layers, l)
			if u.axis != l.axis {
				u.axis = -1 // one scale for all: the users see different channels
			}
			continue
		}
		u := &unit{layers: []*layer{l}, weight: w, axis: l.axis}
		byWeight[w] = u
		units = append(units, u)
	}
	return units, skipped
}

// layerOf describes n as a layer, or returns nil, with a reason if n is of a
// kind that often is one.
func layerOf(n *ir.Node) (*layer, string) {
	l := &layer{node: n, w: 1}
	switch n.Op.Name {
	case "Conv":
		l.biasNode, l.biasAt = n, 2
	case "ConvTranspose":
		l.axis, l.biasNode, l.biasAt = 1, n, 2
	case "Gemm":
		l.axis = 1 - n.Int("transB")
		if n.Float("alpha") == 1 && n.Float("beta") == 1 {
			l.biasNode, l.biasAt = n, 2
		}
	case "MatMul":
		switch a, b := n.In[0], n.In[1]; {
		case a.HasData() && !b.HasData():
			l.x, l.w, l.axis = 1, 0, a.Type.Rank()-2
		case b.HasData():
			l.axis = b.Type.Rank() - 1
		default:
			l.w = -1
		}
	default:
		return nil, ""
	}
	x := n.In[l.x]
	if x.Type.Elem != tensor.F32 {
		return nil, "its elements are " + x.Type.Elem.String() + ", only f32 is quantised"
	}
	if l.w < 0 {
		return l, ""
	}
	w := n.In[l.w]
	if !w.HasData() || x.HasData() || l.axis < 0 || w.Data.Len() == 0 {
		return nil, "its weights are not constant"
	}
	l.rows = w.Data.Shape()[l.axis]
	if n.Op.Name == "ConvTranspose" {
		l.rows *= n.Int("group")
	}
	if n.Op.Name == "MatMul" && l.w == 1 {
		l.biasNode, l.biasAt = biasAfter(n, l.rows)
	}
	if b := l.bias(); b != nil && !isRow(b, l.rows) {
		l.biasNode = nil
	}
	return l, ""
}

// isRow reports whether v is constant and has rows elements along its last dimension.
func isRow(v *ir.Value, rows int) bool {
	if !v.HasData() || v.Data.Rank() == 0 {
		return false
	}
	return v.Data.Len() == rows && v.Data.Shape()[v.Data.Rank()-1] == rows
}

// biasAfter finds the Add of a constant row vector that alone uses n's output.
func biasAfter(n *ir.Node, rows int) (*ir.Node, int) {
	out := n.Out[0]
	if uses := out.Uses(); len(uses) == 1 && !out.IsOutput() && uses[0].Node.Op.Name == "Add" && uses[0].Node.Graph() == n.Graph() {
		at := 1 - uses[0].Index
		if b := uses[0].Node.In[at]; isRow(b, rows) && b.Data.Rank() <= out.Type.Rank() {
			return uses[0].Node, at
		}
	}
	return nil, 0
}

// moved returns the inputs whose numbers n moves without changing them, so that
// its outputs lie on their grid; nil if it computes new ones.
func moved(n *ir.Node) []*ir.Value {
	elements := n.Op.Elements
	switch n.Op.Name {
	case "Resize":
		if n.Str("mode") == "nearest" {
			elements = ir.Moved
		}
	case "Pad":
		if v := n.Input(2); n.Str("mode") == "constant" && v != nil && !(v.HasData() && v.Data.Len() == 1 && v.Data.Float64s()[0] == 0) {
			elements = ir.Computed
		}
	}
	switch {
	case elements == ir.Computed:
		return nil
	case n.Op.Inputs()[0].Variadic:
		return n.In
	}
	return n.In[:1]
}

// combines lists the operators other than layers that integer inference
// computes on integers: their inputs are quantised when their output is.
var combines = []string{"AveragePool", "GlobalAveragePool", "Mean", "ReduceMean", "ReduceSum", "Resize", "Sum"}

// binary lists the operators that are like combines when both operands are
// activations, and like epilogues when one is constant.
var binary = []string{"Add", "Div", "Max", "Min", "Mul", "Sub"}

// epilogues lists the operators of one activation that are computed together
// with what makes their input, before that is quantised.
var epilogues = []string{
	"BatchNormalization", "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu",
	"Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu",
}

// group is a set of values that share one grid because operators move numbers
// between them.
type group struct {
	members []*ir.Value // in order of discovery
	sources []*ir.Value // those whose numbers are computed, or inputs of the graph
	bits    int
	hist    *histogram // of the sources; nil without data
	signed  bool
	grid    grid
}

// placement says which values are quantised.
type placement struct {
	of     map[*ir.Value]*group
	groups []*group // in order of discovery
	seen   map[*ir.Value]bool
}

// place finds the values that units want quantised: the inputs of their
// layers, and what integer inference computes on the way to those.
func place(units []*unit) *placement {
	p := &placement{of: map[*ir.Value]*group{}, seen: map[*ir.Value]bool{}}
	for _, u := range units {
		if u.bits == 0 || u.actBits == 0 {
			continue
		}
		for _, l := range u.layers {
			for i, v := range l.node.In[:2] {
				if i == l.x || l.w < 0 {
					p.want(v, u.actBits)
				}
			}
		}
	}
	for _, g := range p.groups {
		for _, v := range g.members {
			if v.Def == nil || !slices.ContainsFunc(moved(v.Def), func(u *ir.Value) bool { return p.of[u] == g }) {
				g.sources = append(g.sources, v)
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
	from := moved(v.Def)
	if from == nil {
		p.operands(v, bits)
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

// operands marks the operands of the operators that compute v in one piece.
func (p *placement) operands(v *ir.Value, bits int) {
	n := v.Def
	if n == nil || p.seen[v] {
		return
	}
	p.seen[v] = true
	var acts []*ir.Value
	for _, u := range n.In {
		if u != nil && !u.HasData() {
			acts = append(acts, u)
		}
	}
	name := n.Op.Name
	switch {
	case slices.Contains(epilogues, name), slices.Contains(binary, name) && len(acts) == 1, moved(n) != nil:
		for _, u := range acts {
			p.operands(u, bits)
		}
	case slices.Contains(combines, name), slices.Contains(binary, name):
		for _, u := range acts {
			p.want(u, bits)
		}
	}
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
