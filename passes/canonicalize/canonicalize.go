// Package canonicalize gives things that can be said in several ways one form,
// so that later passes need to know only that one.
//
//	%p = Pad(%x, [0,0,1,1,0,0,1,1])            %y = Conv(%x, %w) {pads=[1,1,1,1]}
//	%y = Conv(%p, %w)                    ->
//
//	Sum(a, b, c)                         ->    Add(Add(a, b), c)
//	Add(const, x), Mul(const, x)         ->    Add(x, const), Mul(x, const)
//	Sub(x, const)                        ->    Add(x, −const)
//	Relu(Clip(x)), Clip(Relu(x)), Min(Relu(x), 6)  ->  Clip(x, lo, hi)
//	Clip(x, 0)                           ->    Relu(x)
//	AveragePool over the whole plane, ReduceMean over it  ->  GlobalAveragePool
//	Reshape(x, [N, −1])                  ->    Flatten(x) {axis=1}
//	Gemm(x, W, C) {alpha=α, beta=β}      ->    Gemm(x, α·W, β·C)
//	Gemm(x, W) {transA=1}                ->    Gemm(Transpose(x), W)
//
// A Pad is folded where it adds to spatial dimensions what the padding of the node after it means
// too: zeros for Conv and for AveragePool that counts its padding, and for MaxPool numbers that are
// never the largest. Every rule keeps results bit for bit, except that the order of
// addition of an AveragePool over the whole plane changes, that α is multiplied before the sum of a Gemm
// and not after it, and that NaNs may differ in sign.
package canonicalize

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "canonicalize",
	Doc: "Gives one form to what can be said in several: padding, sums, clipping, global pooling, flattening. " +
		"Results stay equal but for the order of addition in pools over a whole plane.",
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

// rules try to change a node, and report whether they did. By operator, in order.
var rules = map[string][]func(*ir.Rewriter, *ir.Node) bool{
	"Sum":         {sumToAdds},
	"Add":         {constantLast},
	"Mul":         {constantLast},
	"Sub":         {subToAdd},
	"Conv":        {padInto},
	"Gemm":        {transposeFirst, gemmFactors, rowOfOne},
	"MaxPool":     {padInto},
	"AveragePool": {padInto, wholePlane},
	"ReduceMean":  {meanOfPlane},
	"Min":         {minToClip},
	"Relu":        {reluOfClip},
	"Clip":        {clipOfRelu, clipToRelu},
	"Reshape":     {reshapeToFlatten},
}

func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	count := 0
	for changed := -1; changed != count; { // a rule may make room for another
		changed = count
		ir.NewRewriter(g).RemoveUnused()
		count += canonicalize(g)
		if err := c.Err(); err != nil {
			return err
		}
	}
	c.Stat("rewritten", count)
	return nil
}

func canonicalize(g *ir.Graph) (count int) {
	for _, n := range slices.Clone(g.Nodes) {
		for _, b := range n.Bodies() {
			count += canonicalize(b)
		}
		for _, rule := range rules[n.Op.Name] {
			if n.Out[0] != nil && !n.Out[0].Unused() && rule(ir.NewRewriter(g).Before(n), n) {
				count++
				break
			}
		}
	}
	return count
}

// become makes n an application of op to the given inputs, with the given attributes.
func become(r *ir.Rewriter, n *ir.Node, op string, attrs ir.Attrs, in ...*ir.Value) bool {
	r.SetOp(n, op)
	for _, a := range slices.Clone(n.Attrs) {
		r.DeleteAttr(n, a.Name)
	}
	for _, a := range attrs {
		r.SetAttr(n, a.Name, a.Value)
	}
	r.SetInputs(n, in...)
	return true
}

func isFloat(v *ir.Value) bool { e := v.Type.Elem; return e == tensor.F32 || e == tensor.F64 }

// sumToAdds holds for types that are not rounded between the additions only in Sum.
func sumToAdds(r *ir.Rewriter, n *ir.Node) bool {
	if len(n.In) < 2 || !isFloat(n.In[0]) {
		return false
	}
	acc := n.In[0]
	for _, x := range n.In[1 : len(n.In)-1] {
		acc = r.Must1("Add", "", nil, acc, x)
	}
	return become(r, n, "Add", nil, acc, n.In[len(n.In)-1])
}

func constantLast(r *ir.Rewriter, n *ir.Node) bool {
	if !n.In[0].IsConst() || n.In[1].IsConst() {
		return false
	}
	r.SetInputs(n, n.In[1], n.In[0])
	return true
}

func subToAdd(r *ir.Rewriter, n *ir.Node) bool {
	c := n.ConstIn(1)
	if c == nil || n.In[0].IsConst() || c.Elem() != tensor.F32 {
		return false
	}
	x := slices.Clone(c.Float32s())
	for i, v := range x {
		x[i] = -v
	}
	return become(r, n, "Add", nil, n.In[0], r.Const(n.In[1].Name, tensor.Of(x, c.Shape()...)))
}

// plane returns the shape of x's spatial dimensions, nil if it is not known.
func plane(x *ir.Value) []int64 {
	if x.Type.Rank() < 3 {
		return nil
	}
	var out []int64
	for _, d := range x.Type.Dims[2:] {
		if !d.Known() {
			return nil
		}
		out = append(out, int64(d.N))
	}
	return out
}

func wholePlane(r *ir.Rewriter, n *ir.Node) bool {
	x := n.In[0]
	if !isFloat(x) || plane(x) == nil || !slices.Equal(n.Ints("kernel_shape"), plane(x)) || n.Str("auto_pad") != "NOTSET" ||
		slices.ContainsFunc(n.Ints("pads"), func(p int64) bool { return p != 0 }) || slices.ContainsFunc(n.Ints("dilations"), func(d int64) bool { return d != 1 }) {
		return false
	}
	return become(r, n, "GlobalAveragePool", nil, x)
}

// meanOfPlane is right for f32 and f64, where both operators add in the same order.
func meanOfPlane(r *ir.Rewriter, n *ir.Node) bool {
	x, axes := n.In[0], n.ConstIn(1)
	rank := x.Type.Rank()
	if rank < 3 || axes == nil || axes.Len() != rank-2 || !isFloat(x) {
		return false
	}
	seen := make([]bool, rank)
	for _, a := range axes.Int64s() {
		if a = (a + int64(rank)) % int64(rank); a < 2 {
			return false
		}
		seen[a] = true
	}
	if slices.Contains(seen[2:], false) {
		return false
	}
	if n.Int("keepdims") != 0 {
		return become(r, n, "GlobalAveragePool", nil, x)
	}
	return become(r, n, "Flatten", ir.MakeAttrs("axis", 1), r.Must1("GlobalAveragePool", "", nil, x))
}

// limits returns what x is clipped to, and what is clipped, where x is the result of a
// Clip by constants or of a Relu.
func limits(x *ir.Value) (lo, hi float64, source *ir.Value) {
	n := x.Def
	if n == nil || n.Op.Name == "Relu" {
		if n == nil {
			return 0, 0, nil
		}
		return 0, math.Inf(1), n.In[0]
	}
	if n.Op.Name != "Clip" {
		return 0, 0, nil
	}
	lo, hi = math.Inf(-1), math.Inf(1)
	for i, limit := range []*float64{&lo, &hi} {
		if v := n.Input(i + 1); v != nil {
			if !v.IsConst() {
				return 0, 0, nil
			}
			*limit = v.Data.Float64s()[0]
		}
	}
	return lo, hi, n.In[0]
}

// clip makes n clip x once more, to lo and hi, after what x is clipped to already.
func clip(r *ir.Rewriter, n *ir.Node, x *ir.Value, lo, hi float64) bool {
	lo0, hi0, source := limits(x)
	if source == nil || x.Type.Elem != tensor.F32 || !(lo0 <= hi0 && lo <= hi && lo <= hi0 && lo0 <= hi) {
		return false
	}
	if lo <= lo0 && hi0 <= hi {
		return r.Bypass(n.Out[0], x)
	}
	if len(x.Uses()) > 1 || x.IsOutput() {
		return false // both would be computed
	}
	limit := func(name string, v float64) *ir.Value {
		if math.IsInf(v, 0) {
			return nil
		}
		return r.Float(name, float32(v))
	}
	return become(r, n, "Clip", nil, source, limit("min", max(lo, lo0)), limit("max", min(hi, hi0)))
}

func minToClip(r *ir.Rewriter, n *ir.Node) bool {
	if len(n.In) != 2 {
		return false
	}
	for i, x := range n.In {
		if c := n.ConstIn(1 - i); c != nil && c.Len() == 1 && c.Rank() <= max(x.Type.Rank(), 0) && c.Float64s()[0] >= 0 {
			return clip(r, n, x, math.Inf(-1), c.Float64s()[0])
		}
	}
	return false
}

func reluOfClip(r *ir.Rewriter, n *ir.Node) bool {
	return clip(r, n, n.In[0], 0, math.Inf(1))
}

func clipOfRelu(r *ir.Rewriter, n *ir.Node) bool {
	lo, hi, source := limits(n.Out[0])
	return source != nil && clip(r, n, n.In[0], lo, hi)
}

func clipToRelu(r *ir.Rewriter, n *ir.Node) bool {
	lo, hi, source := limits(n.Out[0])
	if source == nil || !isFloat(source) || lo != 0 || hi < math.MaxFloat32 || math.Signbit(lo) {
		return false
	}
	return become(r, n, "Relu", nil, source)
}

// reshapeToFlatten recognises the Reshape that keeps the first dimension and joins the others.
func reshapeToFlatten(r *ir.Rewriter, n *ir.Node) bool {
	x, y := n.In[0].Type, n.Out[0].Type
	if x.Rank() < 2 || y.Rank() != 2 || !n.In[1].IsConst() || !y.Dims[1].Known() || y.Dims[1].N < 1 {
		return false
	}
	rest := 1
	for _, d := range x.Dims[1:] {
		if !d.Known() || d.N < 1 {
			return false
		}
		rest *= d.N
	}
	if rest != y.Dims[1].N {
		return false
	}
	return become(r, n, "Flatten", ir.MakeAttrs("axis", 1), n.In[0])
}
