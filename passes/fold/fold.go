// Package fold computes at compile time what is the same in every run.
//
//	%s = Shape(%x)                             %y = Reshape(%x, [-1,512])
//	%n = Gather(%s, 0)
//	%m = Unsqueeze(%n, [0])              ->
//	%t = Concat(%m, [512])
//	%y = Reshape(%x, %t)
//
// Four things are done, in order of the nodes:
//   - a node whose inputs are all constants becomes constants;
//   - an integer vector whose elements shape inference knows becomes a constant;
//   - the target shape of a Reshape becomes a constant with a −1 or with zeros
//     where inference knows its result up to that;
//   - an If whose condition is a constant becomes the branch taken.
//
// Nothing is computed across a quantiser: what QuantizeLinear,
// DequantizeLinear, thriftc.Quant and their like take and return stays as it
// is, since folding them would turn integers of few bits into floats.
//
// A constant may be much larger than what it is computed from (ConstantOfShape,
// Expand, Tile). A result that is larger than the constants it comes from by
// more than max-growth bytes is not folded, and all results together grow a
// file by no more than 16 MiB. One that is the same number everywhere stays the node that it was
// unless it is smaller than that, and is known to the nodes that use it. This holds for weights
// as well: a file whose weights are a ConstantOfShape each stays as small as it came.
//
// Types that only the file declares are not believed here; everything follows
// from the types of the inputs.
package fold

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "fold",
	Doc: "Computes constants and shapes at compile time, never across a quantiser. " +
		"Results stay equal bit for bit.",
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{MaxGrowth: 64 << 10} },
}

const maxTotalGrowth = 16 << 20

type pass struct {
	MaxGrowth int `help:"bytes by which a folded result may exceed the constants that it comes from"`
}

func (p *pass) Validate() error {
	if p.MaxGrowth < 0 {
		return fmt.Errorf("max-growth is negative")
	}
	return nil
}

func (p *pass) Run(c *passes.Context, g *ir.Graph) error {
	f := &folder{c: c, maxGrowth: p.MaxGrowth, paid: map[*ir.Value]bool{}, uniform: map[*ir.Value]*tensor.Tensor{}}
	for again := true; again; {
		inlined := f.inlined
		f.inferred = inferAnew(g)
		if err := f.graph(g); err != nil {
			return err
		}
		again = f.inlined > inlined // inference now sees the branch
	}
	ir.NewRewriter(g).RemoveUnused()
	c.Stat("folded", f.folded)
	c.Stat("shapes", f.shapes)
	c.Stat("branches", f.inlined)
	c.Stat("too-large", f.tooLarge)
	return nil
}

type folder struct {
	c         *passes.Context
	maxGrowth int
	growth    int                          // of all results so far
	paid      map[*ir.Value]bool           // constants that made room for a result
	held      int                          // bytes of those in uniform
	uniform   map[*ir.Value]*tensor.Tensor // what is one number everywhere, and smaller as a node
	inferred  map[*ir.Value]*ir.Value      // what inference finds from the inputs alone

	folded, shapes, inlined, tooLarge int
}

// inferAnew returns, for every value, one with the type and contents that
// follow from the types of the graph's inputs.
func inferAnew(g *ir.Graph) map[*ir.Value]*ir.Value {
	c, m := g.CloneMap()
	ir.Infer(c) // an error means that some types need the file's declarations; they stay unranked
	return m
}

func (f *folder) graph(g *ir.Graph) error {
	r := ir.NewRewriter(g)
	for _, n := range slices.Clone(g.Nodes) {
		if err := f.c.Err(); err != nil {
			return err
		}
		for _, b := range n.Bodies() {
			if err := f.graph(b); err != nil {
				return err
			}
		}
		if n.Op.Name == "If" && n.ConstIn(0) != nil {
			if err := f.inline(r, n); err != nil {
				return err
			}
			continue
		}
		if n.Op.Name == "Reshape" {
			f.reshape(r, n)
		}
		for i, t := range f.results(n) {
			if v := n.Out[i]; t != nil && v != nil && len(v.Uses()) > 0 {
				f.replace(r, v, t)
			}
		}
	}
	return nil
}

// replace lets the users of v use a constant instead, which takes v's name
// unless v remains as an output of the graph.
func (f *folder) replace(r *ir.Rewriter, v *ir.Value, t *tensor.Tensor) {
	c := r.Const(v.Name, t)
	f.folded++
	unused := r.Bypass(v, c)
	if n := v.Def; unused && !slices.ContainsFunc(n.Out, func(o *ir.Value) bool { return o != nil && !o.Unused() }) {
		name := v.Name
		r.Erase(n)
		r.Rename(c, name)
	}
}

// results returns the values of n's outputs that are the same in every run, nil elsewhere.
func (f *folder) results(n *ir.Node) []*tensor.Tensor {
	if n.Op.Eval == nil || len(n.In) == 0 || len(n.Bodies()) > 0 || quantiser(n.Op) || n.Op.Random {
		return nil
	}
	args := make([]*tensor.Tensor, len(n.In))
	for i, v := range n.In {
		switch {
		case v == nil:
		case v.IsConst():
			args[i] = v.Data
		case f.uniform[v] != nil:
			args[i] = f.uniform[v]
		default:
			return f.known(n)
		}
	}
	growth, ok := f.growthOf(n)
	if !ok || growth > f.maxGrowth || f.growth+growth > maxTotalGrowth {
		f.tooLarge++
		return nil
	}
	if slices.ContainsFunc(n.Out, func(v *ir.Value) bool { return v != nil && v.Type.Elem.IsSequence() }) {
		return nil // a constant is a tensor
	}
	outs, err := n.Eval(args)
	if err != nil { // no reason to refuse the model: the node may stand in a branch that is never taken
		f.c.Log.Warn("constant operands cannot be computed with", "error", err)
		return nil
	}
	if growth > nodeBytes && len(outs) == 1 && isUniform(outs[0]) {
		if f.held += growth; f.held <= maxTotalGrowth {
			f.uniform[n.Out[0]] = outs[0]
		}
		return nil
	}
	f.growth += max(growth, 0)
	for _, v := range n.In {
		f.paid[v] = true
	}
	return outs
}

// nodeBytes is about what a node takes in a file.
const nodeBytes = 64

func isUniform(t *tensor.Tensor) bool {
	if t.Elem() == tensor.String {
		return false
	}
	x := t.Float64s()
	return !slices.ContainsFunc(x, func(v float64) bool { return math.Float64bits(v) != math.Float64bits(x[0]) })
}

// growthOf returns by how many bytes n's results are larger than the constants that they are computed from, and whether that is known.
// A constant that is several inputs, of this node or of others, is in the file once, so
// it makes room for one result only, and for none while others need it as it is.
func (f *folder) growthOf(n *ir.Node) (growth int, ok bool) {
	for i, v := range n.In {
		if v != nil && v.IsConst() && !f.paid[v] && !slices.Contains(n.In[:i], v) && !neededBeside(v) {
			growth -= v.Data.Len() * v.Data.Elem().ContainerBytes()
		}
	}
	for _, v := range n.Out {
		if v == nil {
			continue
		}
		w := f.inferred[v]
		shape, static := w.Type.Static()
		num, err := tensor.NumElems(shape)
		if !static || err != nil || num > tensor.MaxBytes {
			return 0, false
		}
		growth += num * w.Type.Elem.ContainerBytes()
	}
	return growth, true
}

// neededBeside reports whether v is an output, or an operand of a node that computes with something else as well.
func neededBeside(v *ir.Value) bool {
	return v.IsOutput() || slices.ContainsFunc(v.Uses(), func(u ir.Use) bool {
		return slices.ContainsFunc(u.Node.In, func(x *ir.Value) bool { return x != nil && !x.IsConst() })
	})
}

// known returns the outputs of n whose elements inference has found.
func (f *folder) known(n *ir.Node) []*tensor.Tensor {
	outs := make([]*tensor.Tensor, len(n.Out))
	for i, v := range n.Out {
		if v == nil || f.inferred[v].Contents == nil || !f.inferred[v].Type.Elem.IsInt() {
			continue
		}
		w := f.inferred[v]
		x := make([]int64, len(w.Contents))
		all := true
		for j, d := range w.Contents {
			x[j] = int64(d.N)
			all = all && d.Known()
		}
		if shape, static := w.Type.Static(); static && all && (len(shape) == 1 || len(shape) == 0 && len(x) == 1) {
			outs[i] = tensor.FromInt64s(w.Type.Elem, x, shape...)
		}
	}
	return outs
}

// reshape makes the target shape of n a constant where that can say it.
func (f *folder) reshape(r *ir.Rewriter, n *ir.Node) {
	x, y := f.inferred[n.In[0]], f.inferred[n.Out[0]]
	if n.In[1].IsConst() || x == nil || y.Type.Unranked { // nil: made by this pass
		return
	}
	target, ok := targetShape(x.Type, y.Type)
	if !ok {
		return
	}
	r.SetInput(n, 1, r.Ints(n.In[1].Name, target...))
	r.DeleteAttr(n, "allowzero")
	f.shapes++
}

// targetShape returns a constant second input of the Reshape from x to y: the
// numbers where they are known, −1 for one dimension that is not, and 0 (keep) for others
// that stay as they are.
func targetShape(x, y ir.Type) ([]int64, bool) {
	out := make([]int64, len(y.Dims))
	unknown := 0
	for i, d := range y.Dims {
		if out[i] = int64(d.N); d.N == 0 {
			return nil, false
		} else if d.N < 0 {
			unknown++
		}
	}
	for i, d := range y.Dims {
		if unknown > 1 && d.N < 0 && i < len(x.Dims) && d.Same(x.Dims[i]) {
			out[i] = 0
			unknown--
		}
	}
	return out, unknown <= 1
}

// inline puts the branch that a constant condition chooses in the place of an If.
func (f *folder) inline(r *ir.Rewriter, n *ir.Node) error {
	branch := "else_branch"
	if n.ConstIn(0).Int64s()[0] != 0 {
		branch = "then_branch"
	}
	at := r.Before(n)
	outs := at.InlineBody(n.Body(branch), nil)
	for i, v := range n.Out {
		if v == nil || v.Unused() || r.Bypass(v, outs[i]) {
			continue
		}
		id, err := at.Add("Identity", "", nil, []*ir.Value{outs[i]})
		if err != nil {
			return err
		}
		r.ReplaceUses(v, id.Out[0])
	}
	r.Erase(n)
	f.inlined++
	return nil
}

func quantiser(o *ir.Op) bool {
	return strings.Contains(strings.ToLower(o.Name), "quant") || o.Name == "thriftc.Trunc"
}
