// Package dce removes nodes that do not matter: those whose results nobody
// uses, those that return what they are given, and those that repeat another.
//
//	%a = Identity(%x)                          %y = Conv(%x, %w)
//	%b = Reshape(%a, [0,3,32,32])        ->    output %y
//	%y = Conv(%b, %w)
//	%z = Relu(%y)
//	output %y
//
// What a node returns is compared by shape: dimensions must certainly be
// equal, as numbers or as the same symbol, or follow from the number of elements.
// Graph outputs keep their names; where an input or a constant is also an
// output, the Identity between them stays.
package dce

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "dce",
	Doc: "Removes nodes and constants that nothing uses, nodes that change nothing, and repeated nodes. " +
		"Results stay equal bit for bit, except that x+0 and x−0 leave the sign of a zero alone.",
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	var same, merged int
	for {
		s, m := bypass(g), merge(g)
		if same, merged = same+s, merged+m; s+m == 0 {
			break
		}
	}
	c.Stat("no-effect", same)
	c.Stat("repeated", merged)
	c.Stat("unused", ir.NewRewriter(g).RemoveUnused())
	return nil
}

// bypass lets the users of every node that changes nothing use its input
// instead, and returns how many nodes have become unused by that.
func bypass(g *ir.Graph) (count int) {
	r := ir.NewRewriter(g)
	for _, n := range slices.Clone(g.Nodes) {
		for _, b := range n.Bodies() {
			count += bypass(b)
		}
		joinTransposes(r, n)
		if v := sameAs(n); v != nil && !n.Out[0].Unused() && r.Bypass(n.Out[0], v) {
			count++
		}
	}
	return count
}

// sameAs returns the value that n's only used output equals, or nil.
func sameAs(n *ir.Node) *ir.Value {
	x, y := n.Input(0), n.Output(0)
	if x == nil || y == nil || slices.ContainsFunc(n.Out[1:], func(v *ir.Value) bool { return v != nil && !v.Unused() }) {
		return nil
	}
	if n.Op.Elements == ir.Kept && n.Op.Name != "Identity" {
		return reshapeSource(n)
	}
	if n.Op.Same == nil {
		return nil
	}
	return n.Op.Same(n)
}

// reshapeSource goes up from n through nodes that only reshape, as long as
// they have the shape to be found at the top.
func reshapeSource(n *ir.Node) *ir.Value {
	var found *ir.Value
	for x := n.In[0]; ; x = x.Def.In[0] {
		if sameShape(x.Type, n.Out[0].Type) {
			found = x
		}
		if x.Def == nil || x.Def.Op.Elements != ir.Kept {
			return found
		}
	}
}

// sameShape reports whether two types with the same number of elements certainly have
// the same shape; one dimension may be in doubt.
func sameShape(a, b ir.Type) bool {
	if a.Unranked || b.Unranked || len(a.Dims) != len(b.Dims) {
		return false
	}
	doubt, positive := 0, 0
	for i, d := range a.Dims {
		if !d.Same(b.Dims[i]) {
			if doubt++; d.Known() && b.Dims[i].Known() {
				return false
			}
		} else if d.Known() && d.N > 0 {
			positive++
		}
	}
	return doubt == 0 || doubt == 1 && positive == len(a.Dims)-1
}

func perm(n *ir.Node) []int64 {
	if p := n.Ints("perm"); p != nil {
		return p
	}
	p := make([]int64, max(n.In[0].Type.Rank(), 0))
	for i := range p {
		p[i] = int64(len(p) - 1 - i)
	}
	if n.In[0].Type.Unranked {
		return nil
	}
	return p
}

// joinTransposes makes a Transpose of a Transpose one of its input.
func joinTransposes(r *ir.Rewriter, n *ir.Node) {
	if n.Op.Name != "Transpose" || n.In[0].Def == nil || n.In[0].Def.Op.Name != "Transpose" {
		return
	}
	first := n.In[0].Def
	p, q := perm(first), perm(n)
	if p == nil || q == nil {
		return
	}
	joined := make([]int64, len(q))
	for i, axis := range q {
		joined[i] = p[axis]
	}
	r.SetInput(n, 0, first.In[0])
	r.SetAttr(n, "perm", joined)
}

// merge lets the users of a node that repeats an earlier one use the earlier one's results.
func merge(g *ir.Graph) (count int) {
	r := ir.NewRewriter(g)
	seen := map[string][]*ir.Node{}
	for _, n := range slices.Clone(g.Nodes) {
		bodies := n.Bodies()
		for _, b := range bodies {
			count += merge(b)
		}
		if len(bodies) > 0 || n.Op.Random {
			continue
		}
		key := fmt.Sprint(n.Op.Name, len(n.Out))
		for _, v := range n.In {
			key += fmt.Sprintf(" %p", v)
		}
		i := slices.IndexFunc(seen[key], func(m *ir.Node) bool { return sameAttrs(m.Attrs, n.Attrs) && sameOutputs(m, n) })
		if i < 0 {
			seen[key] = append(seen[key], n)
			continue
		}
		changed := false
		for j, v := range n.Out {
			if v != nil && !v.Unused() {
				changed = r.Bypass(v, seen[key][i].Out[j]) || changed
			}
		}
		if changed {
			count++
		}
	}
	return count
}

// sameOutputs reports whether m has every output that n has.
func sameOutputs(m, n *ir.Node) bool {
	for i, v := range n.Out {
		if v != nil && m.Out[i] == nil {
			return false
		}
	}
	return true
}

func sameAttrs(a, b ir.Attrs) bool {
	return slices.EqualFunc(a, b, func(x, y ir.Attr) bool { return x.Name == y.Name && sameAttr(x.Value, y.Value) })
}

func sameAttr(a, b any) bool {
	if t, ok := a.(*tensor.Tensor); ok {
		u, ok := b.(*tensor.Tensor)
		return ok && tensor.Equal(t, u)
	}
	return reflect.DeepEqual(a, b) // a NaN differs from itself: such nodes stay apart
}
