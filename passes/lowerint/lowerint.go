// Package lowerint takes a fake-quantised graph to the integer level.
//
//	xq = thriftc.Quant(x, sx, zx)            xi = QuantizeLinear(x, sx, zx)                     u8
//	W = DequantizeLinear(i8 Wq, sw)    →     yi = thriftc.QConv(xi, Wq, zx, bq, m, zy) {lo, hi}  u8
//	y = Relu(Conv(xq, W, b))                 yq = DequantizeLinear(yi, sy, zy)
//	yq = thriftc.Quant(y, sy, zy)
//
// A quantised number is s·(q − z). So the sums of a convolution are sx·sw·acc
// with acc = Σ (xi − zx)·Wq, an exact integer, and the quantiser after it is
//
//	q = clamp(round_half_even(acc·m) + zy, lo, hi)     m = sx·sw / sy
//
// (Jacob et al., "Quantization and Training of Neural Networks for Efficient
// Integer-Arithmetic-Only Inference", arXiv:1712.05877, section 2.2.) m is rounded
// to an f32, a whole number of 24 bits times a power of two. Relu and Clip
// between become lo and hi, which is exact because rounding is monotone; the bias
// becomes a whole number of accumulator steps. An Add of two quantised tensors is
// a sum of products with two whole multipliers, pools are sums, any element-wise
// function between two quantisers is a table of 256 entries, and what only moves
// elements moves integers.
//
// A layer is lowered only if its accumulator is proven to fit i32 for every
// input. m has 24 bits, or as many fewer as make its product with every accumulator
// exact in f64. What has no
// integer form stays float, between DequantizeLinear and QuantizeLinear. A
// layer whose result is not quantised ends in DequantizeLinear of its i32 sums.
//
// The results are those of the fake-quantised graph where its float arithmetic
// is exact: where scales are powers of two and sums fit 24 bits. Elsewhere an
// element may land on the neighbouring step when it lies that close to the border
// between two; the option compare counts these on data.
package lowerint

import (
	"slices"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "lowerint",
	Doc: `Turns a fake-quantised graph into one that computes with integers.
Quantisers of at most 8 bits and what stands between them become integer operators; accumulators are proven to
fit i32. The rest stays float. Exact where scales are powers of two; otherwise few elements move by one step.`,
	Kind: passes.Lossy,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct {
	Compare int `help:"calibration samples on which every layer is compared with the fake-quantised one"`
}

func (p *pass) Run(c *passes.Context, g *ir.Graph) error {
	var before *ir.Graph
	if p.Compare > 0 {
		before = g.Clone()
	}
	float, err := withoutKernel(c, g)
	if err != nil {
		return err
	}
	l, err := lowerExcept(c, g, float)
	if err != nil {
		return err
	}
	c.Stat("lowered", l.lowered)
	c.Stat("tables", l.tables)
	c.Stat("left-float", l.floats)
	if before == nil {
		return nil
	}
	return l.compare(before, p.Compare)
}

// lowerExcept takes g to the integer level, except those of its nodes whose numbers are in float.
func lowerExcept(c *passes.Context, g *ir.Graph, float map[int]bool) (*lowering, error) {
	l := &lowering{c: c, r: ir.NewRewriter(g), ints: map[*ir.Value]*integer{}, float: map[*ir.Node]bool{}, number: map[*ir.Node]int{}, stands: map[*ir.Node]*ir.Node{}}
	nodes := slices.Clone(g.Nodes)
	for i, n := range nodes {
		l.number[n], l.float[n] = i, float[i]
	}
	for _, n := range nodes {
		if err := l.node(n); err != nil {
			return nil, err
		}
		if err := c.Err(); err != nil {
			return nil, err
		}
	}
	if err := l.backToFloat(); err != nil {
		return nil, err
	}
	l.r.RemoveUnused()
	return l, nil
}

// withoutKernel returns the numbers of those nodes of g for whose integer operators the
// engine has no kernel though it has one for the nodes themselves: they are faster as they are.
func withoutKernel(c *passes.Context, g *ir.Graph) (map[int]bool, error) {
	engine, ok := c.Engine.(backends.Selector)
	if !ok {
		return nil, nil
	}
	var slow map[*ir.Node]bool // of g; asked for when needed: the engine makes floats of all weights to answer
	float := map[int]bool{}
	for { // what stays float changes what follows it
		trial := g.Clone()
		l, err := lowerExcept(&passes.Context{Context: c}, trial, float)
		if err != nil {
			return nil, err
		}
		unserved, err := engine.Unserved(c, trial)
		if err != nil {
			return nil, err
		}
		var left []int
		for _, m := range unserved {
			if n := l.stands[m]; n != nil && !float[l.number[n]] {
				left = append(left, l.number[n])
			}
		}
		if len(left) > 0 && slow == nil {
			list, err := engine.Unserved(c, g)
			if err != nil {
				return nil, err
			}
			slow = map[*ir.Node]bool{}
			for _, n := range list {
				slow[n] = true
			}
		}
		more := false
		for _, i := range left {
			if !slow[g.Nodes[i]] {
				float[i], more = true, true
			}
		}
		if !more {
			return float, nil
		}
	}
}

// lowering is the state of one run.
type lowering struct {
	c    *passes.Context
	r    *ir.Rewriter
	ints map[*ir.Value]*integer // of the values of the graph that have integers
	made []*integer             // those that are computed, in the order in which they were made

	float  map[*ir.Node]bool     // nodes that are not lowered, because the engine has no kernel
	number map[*ir.Node]int      // of each node of the graph before
	stands map[*ir.Node]*ir.Node // for which node of the graph before an integer operator stands

	lowered, tables int
	floats          []leftFloat
	checks          []check
}

// leftFloat is a node that could be expected to become an integer operator.
type leftFloat struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

func (l *lowering) leave(n *ir.Node, reason string) {
	l.floats = append(l.floats, leftFloat{n.Label(), reason})
}

// node looks at one node of the original graph, in topological order.
func (l *lowering) node(n *ir.Node) error {
	if l.float[n] {
		l.leave(n, "the engine has no kernel for its integers")
	}
	switch {
	case n.Op.Name == "thriftc.Quant":
		return l.quantiser(n)
	case isLayer(n):
		if l.quantised(n.Out[0]) == nil && !l.float[n] {
			return l.accumulate(n)
		}
	case moves(n):
		l.mover(n)
	}
	return nil
}

func isLayer(n *ir.Node) bool {
	return n.Op.Layer != nil && n.Op.Layer.Channels != nil && n.Op.Name != "ConvTranspose"
}

// only returns the node that alone uses v, nil if there is none.
func only(v *ir.Value) *ir.Node {
	if len(v.Uses()) != 1 || v.IsOutput() || v.Uses()[0].Node.Graph() != v.Graph() {
		return nil
	}
	return v.Uses()[0].Node
}

// quantised returns the quantiser that v reaches through clamps and a bias,
// if it has no other use.
func (l *lowering) quantised(v *ir.Value) *ir.Node {
	for {
		n := only(v)
		switch {
		case n == nil:
			return nil
		case n.Op.Name == "thriftc.Quant" && n.In[0] == v:
			if _, ok := gridOf(n); ok {
				return n
			}
			return nil
		case isClamp(n) && n.In[0] == v, n.Op.Name == "Add" && v.Def.Op.Name == "MatMul" && l.rowOf(n, v) != nil:
			v = n.Out[0]
		default:
			return nil
		}
	}
}

func isClamp(n *ir.Node) bool {
	if n.Op.Name == "Relu" {
		return true
	}
	if n.Op.Name != "Clip" {
		return false
	}
	for i := 1; i < 3; i++ {
		if n.Input(i) != nil && (n.ConstIn(i) == nil || n.ConstIn(i).Len() != 1) {
			return false
		}
	}
	return true
}

// quantiser gives the output of thriftc.Quant integers: computed by integer
// operators if what it quantises can be, otherwise from the float when wanted.
func (l *lowering) quantiser(n *ir.Node) error {
	g, ok := gridOf(n)
	if !ok {
		return nil
	}
	if !l.float[n] {
		if done, err := l.table(n, g); done || err != nil {
			return err
		}
	}
	clamps := []*ir.Node{}
	u := n.In[0]
	for u.Def != nil && isClamp(u.Def) && only(u) != nil {
		clamps = append(clamps, u.Def)
		u = u.Def.In[0]
	}
	g.clamp(clamps)
	if u.Def != nil && only(u) != nil && u.Def.Graph() == n.Graph() {
		y, err := l.fused(n, u.Def, g)
		if err != nil {
			return err
		}
		if y != nil {
			l.lowered++
			return nil
		}
	}
	full, _ := gridOf(n)
	l.ints[n.Out[0]] = &integer{grid: full, of: n.Out[0], name: n.Out[0].Name, make: func(i *integer) error { return l.quantize(i, n) }}
	return nil
}

// fused lowers node n with the quantiser q after it; nil if it cannot be.
func (l *lowering) fused(q, n *ir.Node, g grid) (*integer, error) {
	if l.float[n] {
		return nil, nil
	}
	switch n.Op.Name {
	case "Conv", "Gemm", "MatMul":
		return l.layer(q, n, n.Input(2), g)
	case "Add":
		for i := range 2 {
			m := n.In[i].Def
			if m == nil || m.Op.Name != "MatMul" || l.float[m] || only(m.Out[0]) == nil {
				continue
			}
			if b := l.rowOf(n, m.Out[0]); b != nil {
				return l.layer(q, m, b, g)
			}
		}
		return l.sum(q, n, g)
	case "AveragePool", "GlobalAveragePool":
		return l.pool(q, n, g)
	case "Concat":
		return l.concat(q, n, g)
	}
	return nil, nil
}

// rowOf returns the constant that n adds to v, if that is a bias for its last dimension.
func (l *lowering) rowOf(n *ir.Node, v *ir.Value) *ir.Value {
	b := n.In[0]
	if b == v {
		b = n.In[1]
	}
	t := constant(b)
	if t == nil || t.Rank() == 0 || t.Len() != t.Shape()[t.Rank()-1] {
		return nil
	}
	return b
}

// constant returns the elements of a constant or of DequantizeLinear of constants.
func constant(v *ir.Value) *tensor.Tensor {
	switch {
	case v == nil:
		return nil
	case v.IsConst():
		return v.Data
	case v.Def == nil || v.Def.Op.Name != "DequantizeLinear":
		return nil
	}
	in := make([]*tensor.Tensor, len(v.Def.In))
	for i, x := range v.Def.In {
		if x == nil {
			continue
		}
		if !x.IsConst() {
			return nil
		}
		in[i] = x.Data
	}
	out, err := v.Def.Eval(in)
	if err != nil {
		return nil
	}
	return out[0]
}

// moves reports whether n moves elements of its first input, or of all if
// they repeat, and nothing else, or chooses the greatest.
func moves(n *ir.Node) bool {
	if len(n.Out) == 0 || n.Out[0] == nil || len(n.Bodies()) > 0 {
		return false
	}
	if n.Op.Name == "MaxPool" {
		return n.Output(1) == nil
	}
	return n.Op.Elements >= ir.Moved && n.Op.Attr("to") == nil
}

// mover gives the outputs of n integers if the inputs whose elements it moves have
// integers on one grid.
func (l *lowering) mover(n *ir.Node) {
	count := 1
	if n.Op.Inputs()[0].Variadic {
		count = len(n.In)
	}
	var first *integer
	for _, v := range n.In[:count] {
		x := l.ints[v]
		if x == nil || first != nil && !first.grid.same(x.grid) {
			return
		}
		first = x
	}
	in := slices.Clone(n.In)
	if n.Op.Name == "Pad" && n.Str("mode") == "constant" {
		value := float32(0)
		if n.Input(2) != nil {
			t := n.ConstIn(2)
			if t == nil || t.Len() != 1 {
				return
			}
			value = t.Float32s()[0]
		}
		if first.grid.number(first.grid.step(value)) != value {
			return
		}
	}
	made := false
	for i, out := range n.Out {
		if out == nil {
			continue
		}
		if l.float[n] {
			l.ints[out] = &integer{grid: first.grid, of: out, name: out.Name, stays: true, make: func(x *integer) error { return l.quantizeAt(x, l.r.After(n), out, "") }}
			continue
		}
		l.ints[out] = &integer{grid: first.grid, of: out, name: out.Name, make: func(x *integer) error {
			if made {
				return nil
			}
			made = true
			for j, v := range n.In[:count] {
				y, err := l.value(v)
				if err != nil {
					return err
				}
				in[j] = y
			}
			if n.Op.Name == "Pad" && n.Str("mode") == "constant" {
				value := float32(0)
				if n.Input(2) != nil {
					value = n.ConstIn(2).Float32s()[0]
				}
				for len(in) < 3 {
					in = append(in, nil)
				}
				in[2] = l.r.Const(out.Name+"_value", tensor.FromInt64s(first.grid.elem, []int64{first.grid.step(value)}))
			}
			names := make([]string, len(n.Out))
			for j, v := range n.Out {
				if v != nil {
					names[j] = v.Name + "_integer"
				}
			}
			m, err := l.r.After(n).Add(n.Op.Name, n.Name, slices.Clone(n.Attrs), in, names...)
			if err != nil {
				return err
			}
			l.stands[m] = n
			for j, v := range n.Out {
				if v != nil {
					l.ints[v].v = m.Out[j]
					if j != i {
						l.made = append(l.made, l.ints[v])
					}
				}
			}
			return nil
		}}
	}
}

// backToFloat gives the float users of values that have become integers the
// numbers that these stand for.
func (l *lowering) backToFloat() error {
	for _, x := range l.made {
		if x.stays || x.of.Unused() {
			continue
		}
		dq, err := l.r.After(x.v.Def).Add("DequantizeLinear", "", nil, l.dequantizer(x), x.of.Name+"_dequantized")
		if err != nil {
			return err
		}
		l.r.ReplaceUses(x.of, dq.Out[0])
	}
	return nil
}

// scalar reports whether n applies a function to every element of v, whatever its place.
func scalar(n *ir.Node, v *ir.Value) bool {
	if len(n.Out) != 1 || len(n.Bodies()) > 0 {
		return false
	}
	if !(n.Op.Elementwise && n.Out[0].Type.Elem == v.Type.Elem) && !(n.Op.Name == "thriftc.Quant" && n.In[0] == v) {
		return false
	}
	for _, x := range n.In {
		if x != nil && x != v && (!x.IsConst() || x.Data.Len() != 1 || x.Data.Rank() > max(1, v.Type.Rank())) {
			return false
		}
	}
	return true
}
