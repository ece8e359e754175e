package passes

import (
	"path"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Layer is an operator that multiplies activations with constant weights, or
// with other activations, and so gains from integers.
type Layer struct {
	Node *ir.Node
	X, W int // indices of the inputs: activations, weights; W is −1 for a product of activations
	Axis int // dimension of the weights that numbers the output channels
	Rows int // output channels

	// The bias is input BiasAt of BiasNode: of Node itself, or of an Add that
	// follows a MatMul. It may be absent. BiasNode is nil when there is no place
	// for one, or something there that is no plain bias.
	BiasNode *ir.Node
	BiasAt   int
}

// Bias returns the bias, nil when there is none.
func (l *Layer) Bias() *ir.Value {
	if l.BiasNode == nil {
		return nil
	}
	return l.BiasNode.Input(l.BiasAt)
}

// LayerOf describes n as a layer, or returns nil, with a reason if n is of a
// kind that often is one.
func LayerOf(n *ir.Node) (*Layer, string) {
	op := n.Op.Layer
	if op == nil || op.Channels == nil {
		return nil, ""
	}
	l := &Layer{Node: n, W: n.Op.Input(ir.Weight)}
	if op.Commutes && !n.In[l.W].HasData() {
		if l.X, l.W = l.W, l.X; !n.In[l.W].HasData() {
			l.X, l.W = 0, -1
		}
	}
	plain := n.Op.Attr("alpha") == nil || n.Float("alpha") == 1 && n.Float("beta") == 1
	if b := n.Op.Input(ir.Bias); b >= 0 && plain {
		l.BiasNode, l.BiasAt = n, b
	}
	x := n.In[l.X]
	if x.Type.Elem != tensor.F32 {
		return nil, "its elements are " + x.Type.Elem.String() + ", only f32 is quantised"
	}
	if l.W < 0 {
		return l, ""
	}
	w := n.In[l.W]
	if l.Axis, _ = op.Channels(n, l.W); !w.HasData() || x.HasData() || l.Axis < 0 || w.Data.Len() == 0 {
		return nil, "its weights are not constant"
	}
	l.Rows = w.Data.Shape()[l.Axis]
	if l.Axis == 1 && n.HasAttr("group") {
		l.Rows *= n.Int("group")
	}
	if n.Op.Input(ir.Bias) < 0 && l.X == 0 {
		l.BiasNode, l.BiasAt = biasAfter(n, l.Rows)
	}
	if b := l.Bias(); b != nil && !isRow(b, l.Rows) {
		l.BiasNode = nil
	}
	return l, ""
}

// OtherUser returns a node that reads weights and is none of the layers that they are weights of, or nil. It would
// need them as they are beside their integers.
func OtherUser(weights *ir.Value, layers []*ir.Node) *ir.Node {
	for _, u := range weights.Uses() {
		if !slices.Contains(layers, u.Node) {
			return u.Node
		}
	}
	return nil
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

// Moved returns the inputs whose numbers n moves without changing them, so that
// its outputs lie on their grid; nil if it computes new ones.
func Moved(n *ir.Node) []*ir.Value {
	elements := n.Op.Elements
	switch n.Op.Name {
	case "Resize":
		if n.Str("mode") == "nearest" {
			elements = ir.Moved
		}
	case "Pad":
		if v := n.Input(2); n.Str("mode") == "constant" && v != nil && !(v.HasData() && v.Data.Len() == 1 && v.Data.Float64s()[0] == 0) && !padsMaxPools(n) {
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

// padsMaxPools reports whether all that reads what a Pad with a constant has added are MaxPools whose windows
// reach beyond it: a negative constant then only says "nothing", and any number as small as the least of the input would do.
func padsMaxPools(n *ir.Node) bool {
	value, pads := n.ConstIn(2), n.ConstIn(1)
	if value == nil || value.Len() != 1 || !(value.Float64s()[0] < 0) || pads == nil || n.Out[0].IsOutput() {
		return false
	}
	for _, u := range n.Out[0].Uses() {
		kernel := u.Node.Ints("kernel_shape")
		if u.Node.Op.Name != "MaxPool" || slices.Max(pads.Int64s()) >= slices.Min(kernel) {
			return false
		}
	}
	return true
}

// IsEpilogue reports whether n computes something from one activation that
// is computed together with what makes that, before it is quantised.
func IsEpilogue(n *ir.Node) bool {
	return n.Op.Epilogue && (!n.Op.Combines || len(activations(n)) == 1)
}

// Operands returns the values that must be on grids so that integer inference
// can compute v in one piece: the operands of what v is computed from through epilogues and movements.
func Operands(v *ir.Value) []*ir.Value {
	var out []*ir.Value
	seen := map[*ir.Value]bool{}
	var walk func(v *ir.Value)
	walk = func(v *ir.Value) {
		n := v.Def
		if n == nil || seen[v] {
			return
		}
		seen[v] = true
		switch acts := activations(n); {
		case IsEpilogue(n), Moved(n) != nil:
			for _, u := range acts {
				walk(u)
			}
		case n.Op.Combines:
			out = append(out, acts...)
		}
	}
	walk(v)
	return out
}

// activations returns the inputs of n that are computed, each as often as it is used.
func activations(n *ir.Node) []*ir.Value {
	var out []*ir.Value
	for _, u := range n.In {
		if u != nil && !u.HasData() {
			out = append(out, u)
		}
	}
	return out
}

// Matches reports whether a pattern of package path is for a node: it matches the whole name or what
// follows its last slash, or, after "op:", the operator, as in op:Gemm.
func Matches(pattern string, n *ir.Node) bool {
	if op, ok := strings.CutPrefix(pattern, "op:"); ok {
		is, _ := path.Match(op, n.Op.Name)
		return is
	}
	whole, _ := path.Match(pattern, n.Label())
	base, _ := path.Match(pattern, path.Base(n.Label()))
	return whole || base
}
