// Package onnx writes quantised graphs in the dialects of ONNX that other
// tools read. A graph's quantisers (thriftc.Quant, and DequantizeLinear of
// constant integers) become:
//
//   - qdq: QuantizeLinear → DequantizeLinear, one DequantizeLinear for each
//     consumer so that ONNX Runtime fuses them with the operators around;
//     weights are integers and DequantizeLinear;
//   - qcdq: the same with one DequantizeLinear for all consumers, which the converters
//     of qonnx take away with its QuantizeLinear, and every range that is narrower than its
//     8-bit integers is said by a Clip of the integers, weights included;
//   - qonnx: Quant and BipolarQuant of QONNX; weights are floats that lie on
//     the grid of their Quant.
//
// What a dialect cannot say with exactly the same results is refused.
package onnx

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Format is a dialect of ONNX for quantised graphs.
type Format string

// The dialects.
const (
	QDQ   Format = "qdq"
	QCDQ  Format = "qcdq"
	QONNX Format = "qonnx"
)

// Formats lists the dialects.
var Formats = []Format{QDQ, QCDQ, QONNX}

// Lower returns a copy of g in the given dialect, to be written at the given
// opset; g is not changed. When a node cannot be said in the dialect the graph
// is nil and every such node is listed.
func Lower(g *ir.Graph, f Format, opset int) (*ir.Graph, []backends.Problem) {
	if !slices.Contains(Formats, f) {
		return nil, []backends.Problem{{Reason: fmt.Sprintf("format %q is not known, expected one of %q", string(f), Formats)}}
	}
	if f == QCDQ && opset < 13 {
		return nil, []backends.Problem{{Reason: fmt.Sprintf("qcdq needs opset 13, because Clip of 8-bit integers is not in older ones; writing %d", opset)}}
	}
	c := g.Clone()
	l := &lowering{format: f, opset: opset}
	l.graph(c)
	if l.problems != nil {
		return nil, l.problems
	}
	return c, nil
}

type lowering struct {
	format   Format
	opset    int
	problems []backends.Problem

	r       *ir.Rewriter // of the graph at hand
	weights map[weightKey]*ir.Value
}

func (l *lowering) problem(n *ir.Node, format string, args ...any) {
	l.problems = append(l.problems, backends.Problem{Node: n.Label(), Reason: fmt.Sprintf(format, args...)})
}

func (l *lowering) graph(g *ir.Graph) {
	for _, n := range g.Nodes {
		for _, b := range n.Bodies() {
			l.graph(b)
		}
	}
	l.r, l.weights = ir.NewRewriter(g), map[weightKey]*ir.Value{}
	for _, n := range slices.Clone(g.Nodes) {
		switch n.Op.Name {
		case "thriftc.Quant", "thriftc.BipolarQuant":
			l.quantiser(n)
		case "thriftc.Trunc":
			l.trunc(n)
		case "DequantizeLinear":
			l.weight(n)
		}
		if l.format != QDQ {
			l.explicit(n)
		}
	}
	if l.format == QONNX && l.problems == nil {
		l.refuseIntegers(g)
	}
	switch {
	case l.problems != nil:
	case l.format == QDQ:
		l.onePerConsumer()
		l.endMoves()
	default:
		l.ownParameters()
	}
	l.r.RemoveUnusedConsts()
}

func (l *lowering) quantiser(n *ir.Node) {
	if l.format == QONNX {
		l.qonnxQuant(n)
		return
	}
	if b := n.ConstIn(3); l.format == QCDQ && b != nil && b.Float32s()[0] > 8 {
		l.problem(n, "qcdq has at most 8 bits for activations, this quantiser has %v", b.Float32s()[0])
		return
	}
	if err := n.Op.Export(l.r, n, l.opset); err != nil {
		l.problem(n, "%v", err)
	}
}

func (l *lowering) weight(n *ir.Node) {
	if s := n.In[1].Type; n.Attrs.Has("axis") && !s.Unranked && s.Rank() == 0 {
		l.r.DeleteAttr(n, "axis") // qonnx takes it for a promise of several scales
	}
	q := n.ConstIn(0)
	if q == nil {
		if l.format == QCDQ {
			l.ownZero(n, n.In[0].Type.Elem)
		}
		return
	}
	if s, ok := n.In[1].Type.Static(); l.opset < 13 && (!ok || tensorLen(s) > 1) {
		l.problem(n, "scales per channel need opset 13, writing %d", l.opset)
		return
	}
	switch l.format {
	case QONNX:
		l.qonnxWeight(n)
	case QCDQ:
		l.clipWeight(n)
	case QDQ:
		l.plainZero(n)
	}
}

// refuseIntegers lists what is left of quantisation in the ways of ONNX itself, which
// readers of qonnx do not know.
func (l *lowering) refuseIntegers(g *ir.Graph) {
	for _, n := range g.Nodes {
		if n.Op.Bits != nil && n.Op.Domain() == "" || n.Op.Name == "ConvInteger" || n.Op.Name == "MatMulInteger" {
			l.problem(n, "qonnx has no %s: only pairs of QuantizeLinear and DequantizeLinear with constant scales, and a Clip between them to the range of a bit width, have a form there", n.Op.Name)
		}
	}
}

// clipWeight stores narrow integers in 8 bits and says their width by a Clip.
func (l *lowering) clipWeight(n *ir.Node) {
	q := n.ConstIn(0)
	e := q.Elem()
	switch {
	case n.Int("block_size") != 0:
		l.problem(n, "qcdq has no scales for blocks of a channel")
		return
	case !e.IsInt() || e.Bits() == 8 || e == tensor.I32:
		l.ownZero(n, e)
		return
	case e.Bits() > 8:
		l.problem(n, "qcdq has at most 8 bits for weights, these have %d", e.Bits())
		return
	}
	wide := tensor.U8
	if e.IsSigned() {
		wide = tensor.I8
	}
	constant := func(name string, t *tensor.Tensor) *ir.Value {
		return l.r.Const(name, tensor.FromInt64s(wide, t.Int64s(), t.Shape()...))
	}
	name := n.In[0].Name
	lo, hi := e.Range()
	clip, err := l.r.Before(n).Add("Clip", "", nil, []*ir.Value{
		constant(name+ops.EightBitSuffix, q),
		constant(name+"_min", tensor.FromInt64s(wide, []int64{lo})),
		constant(name+"_max", tensor.FromInt64s(wide, []int64{hi})),
	}, name+"_clipped")
	if err != nil {
		l.problem(n, "%v", err)
		return
	}
	z := n.Input(2)
	if z != nil && !z.IsConst() {
		l.problem(n, "the zero point is computed")
		return
	}
	l.r.SetInputs(n, clip.Out[0], n.In[1])
	if z == nil {
		l.ownZero(n, wide)
	} else {
		l.r.SetInputs(n, clip.Out[0], n.In[1], constant(z.Name+ops.EightBitSuffix, z.Data))
	}
}

// ownZero gives a DequantizeLinear without a zero point one of its own, which readers of qcdq need.
func (l *lowering) ownZero(n *ir.Node, e tensor.Elem) {
	s, ok := n.In[1].Type.Static()
	if n.Input(2) != nil || !ok {
		return
	}
	zero := l.r.Const(n.Out[0].Name+"_zero_point", tensor.FromInt64s(e, make([]int64, tensorLen(s)), s...))
	l.r.SetInputs(n, n.In[0], n.In[1], zero)
}

// plainZero leaves out the zero point of a weight where it is 0 and says nothing. s8 weights
// with several scales get one of their own: with session.x64quantprecision, which processors
// without VNNI need, ONNX Runtime 1.31 makes them u8 with a single zero point otherwise, and
// refuses that where the layer is not fused.
func (l *lowering) plainZero(n *ir.Node) {
	if z := n.Input(2); z != nil {
		if !z.IsConst() || slices.ContainsFunc(z.Data.Int64s(), func(v int64) bool { return v != 0 }) {
			return
		}
		l.r.SetInputs(n, n.In[:2]...)
	}
	if s, ok := n.In[1].Type.Static(); ok && tensorLen(s) > 1 && n.ConstIn(0).Elem() == tensor.I8 && n.Int("block_size") == 0 {
		l.ownZero(n, tensor.I8)
	}
}

// moves are the operators over which ONNX Runtime carries a DequantizeLinear further.
var moves = []string{"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "MaxPool"}

// endMoves quantises again what operators that move elements make of s8 integers, which
// changes no number, where floats follow. From opset 21 on ONNX Runtime 1.31 would do so by itself,
// with a QuantizeLinear of the wrong type that it then refuses.
func (l *lowering) endMoves() {
	if l.opset < 21 {
		return
	}
	todo := slices.Clone(l.r.Graph().Nodes)
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		if n.Op.Name != "DequantizeLinear" || n.In[0].IsConst() || n.In[0].Type.Elem != tensor.I8 || n.Int("block_size") != 0 {
			continue
		}
		if s, ok := n.In[1].Type.Static(); !ok || tensorLen(s) > 1 {
			continue
		}
		last := n.Out[0]
		for len(last.Uses()) == 1 && !last.IsOutput() {
			m := last.Uses()[0].Node
			if !slices.Contains(moves, m.Op.Name) || last.Uses()[0].Index != 0 || m.Graph() != l.r.Graph() {
				break
			}
			last = m.Out[0]
		}
		if last == n.Out[0] || slices.ContainsFunc(last.Uses(), func(u ir.Use) bool { return u.Node.Op.Name == "QuantizeLinear" }) {
			continue
		}
		again, err := l.quantiseAgain(last, n)
		if err != nil {
			l.problem(n, "%v", err)
			return
		}
		todo = append(todo, again...) // operators that move elements may follow those too
	}
}

// quantiseAgain puts QuantizeLinear and, for each user, a DequantizeLinear with the parameters
// of dq behind v, and returns the latter.
func (l *lowering) quantiseAgain(v *ir.Value, dq *ir.Node) ([]*ir.Node, error) {
	zero := dq.Input(2)
	if zero == nil {
		zero = l.r.Const(v.Name+"_zero_point", tensor.FromInt64s(tensor.I8, []int64{0}))
	}
	after := l.r.After(v.Def)
	users := slices.Clone(v.Uses())
	q, err := after.Add("QuantizeLinear", "", nil, []*ir.Value{v, dq.In[1], zero}, v.Name+"_again")
	if err != nil {
		return nil, err
	}
	kept := func() (*ir.Node, error) {
		return after.Add("DequantizeLinear", "", nil, []*ir.Value{q.Out[0], dq.In[1], zero}, v.Name+"_kept")
	}
	var all []*ir.Node
	if v.IsOutput() {
		d, err := kept()
		if err != nil {
			return nil, err
		}
		l.r.ReplaceUses(v, d.Out[0])
		l.r.SetInput(q, 0, v)
		all = append(all, d)
	}
	for _, u := range users {
		d, err := kept()
		if err != nil {
			return nil, err
		}
		l.r.SetInput(u.Node, u.Index, d.Out[0])
		all = append(all, d)
	}
	return all, nil
}

// ownParameters gives every quantiser constants of its own, because the converters of qonnx
// change them in place.
func (l *lowering) ownParameters() {
	taken := map[*ir.Value]bool{}
	for _, n := range l.r.Graph().Nodes {
		switch n.Op.Name {
		case "QuantizeLinear", "DequantizeLinear", qonnxDomain + "Quant", qonnxDomain + "BipolarQuant":
		default:
			continue
		}
		for i, v := range n.In {
			if v == nil || !v.IsConst() || len(v.Uses()) < 2 {
				continue
			}
			if taken[v] {
				l.r.SetInput(n, i, l.r.Const(v.Name, v.Data))
			}
			taken[v] = true
		}
	}
}

// onePerConsumer gives every use of a DequantizeLinear's result one of its own.
func (l *lowering) onePerConsumer() {
	g := l.r.Graph()
	for _, n := range slices.Clone(g.Nodes) {
		if n.Op.Name != "DequantizeLinear" {
			continue
		}
		uses := usesInOrder(n.Out[0])
		if n.Out[0].IsOutput() && len(uses) > 0 {
			uses = append([]ir.Use{{}}, uses...) // the output keeps the first
		}
		for i, u := range uses {
			if i == 0 {
				continue
			}
			label := ""
			if n.Name != "" {
				label = fmt.Sprintf("%s_%d", n.Name, i)
			}
			m, err := l.r.After(n).Add("DequantizeLinear", label, slices.Clone(n.Attrs), slices.Clone(n.In), fmt.Sprintf("%s_%d", n.Out[0].Name, i))
			if err != nil {
				l.problem(n, "%v", err)
				return
			}
			l.r.SetInput(u.Node, u.Index, m.Out[0])
		}
	}
}

// usesInOrder returns the uses of v in the order of the nodes, those in
// subgraphs after the others.
func usesInOrder(v *ir.Value) []ir.Use {
	at := map[*ir.Node]int{}
	v.Graph().Walk(func(n *ir.Node) { at[n] = len(at) })
	uses := slices.Clone(v.Uses())
	slices.SortFunc(uses, func(a, b ir.Use) int {
		if a.Node != b.Node {
			return at[a.Node] - at[b.Node]
		}
		return a.Index - b.Index
	})
	return uses
}

func tensorLen(shape []int) int {
	n, _ := tensor.NumElems(shape)
	return n
}
