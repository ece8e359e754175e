package ops

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Einsum", Since: 12,
	Layer: &ir.Layer{Commutes: true},
	Doc: `Einstein summation, as in "ij,jk->ik": letters name dimensions, and those that the
output lacks are summed over; "..." stands for broadcast dimensions. Every output
is the sum over the summed letters in the order in which they first stand in the
equation, the first outermost. It starts at +0; a term is the product of the
operands from left to right, each product rounded, and the last product is added
with one rounding (fused multiply-add).`,
	In: "Inputs*", Out: "Output",
	Attrs: []ir.AttrSpec{{Name: "equation", Kind: ir.StringAttr, Required: true, Doc: "the operands' letters, and after -> the output's; without -> those that stand once, sorted"}},
	Grad:  gradEinsum,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferArithOnly(n)
		if err != nil {
			return nil, err
		}
		shapes := make([][]ir.Dim, len(n.In))
		for i, v := range n.In {
			if v.Type.Unranked {
				return []ir.Type{ir.UnrankedType(t)}, nil
			}
			shapes[i] = v.Type.Dims
		}
		e, err := parseEinsum(n.Str("equation"), shapes)
		if err != nil {
			return nil, fmt.Errorf("equation %q: %w", n.Str("equation"), err)
		}
		dims := []ir.Dim{}
		for _, l := range e.out {
			dims = append(dims, e.size[l])
		}
		return []ir.Type{ir.TensorType(t, dims...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		shapes := make([][]ir.Dim, len(n.In))
		for i, v := range n.In {
			shapes[i] = v.Type.Dims
		}
		e, err := parseEinsum(n.Str("equation"), shapes)
		if err != nil { // of unknown rank
			return ir.Cost{}
		}
		c := elemCount(n.Out[0].Type)
		for _, l := range e.summed {
			if d := e.size[l]; d.Known() {
				c *= int64(d.N)
			}
		}
		return ir.Cost{MACs: c * int64(max(1, len(n.In)-1))}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		switch e := in[0].Elem(); {
		case e == tensor.F64:
			return one(einsum[float64](n, in))
		case e.IsFloat():
			return one(einsum[float32](n, in))
		}
		return one(einsum[int64](n, in))
	},
})

// inferArithOnly checks that all inputs are numbers of one type, and returns it.
func inferArithOnly(n *ir.Node) (tensor.Elem, error) {
	if len(n.In) == 0 || slices.Contains(n.In, nil) {
		return tensor.Invalid, errors.New("an input is missing")
	}
	e := n.In[0].Type.Elem
	if !e.IsFloat() && !e.IsInt() {
		return e, fmt.Errorf("%s is %v, expected numbers", portName(n, 0), n.In[0].Type)
	}
	for i := range n.In {
		if err := wantLike(n, 0, i); err != nil {
			return e, err
		}
	}
	return e, nil
}

// label names a dimension of an einsum: a letter, or for the dimensions of the
// ellipsis −1 (the last), −2, ….
type label rune

// equation is a parsed einsum with the sizes of its dimensions.
type equation struct {
	terms       [][]label // of each operand
	out, summed []label
	size        map[label]ir.Dim
}

func parseEinsum(s string, shapes [][]ir.Dim) (*equation, error) {
	left, right, explicit := strings.Cut(strings.ReplaceAll(s, " ", ""), "->")
	parts := strings.Split(left, ",")
	if len(parts) != len(shapes) {
		return nil, fmt.Errorf("has %d operands, the node %d", len(parts), len(shapes))
	}
	e := &equation{size: map[label]ir.Dim{}}
	var order []label // in order of first appearance
	count := map[label]int{}
	ellipsis := 0
	for k, p := range parts {
		term, err := e.term(p, len(shapes[k]))
		if err != nil {
			return nil, err
		}
		for i, l := range term {
			d := shapes[k][i]
			if count[l]++; count[l] == 1 {
				order = append(order, l)
				e.size[l] = d
			} else {
				both, err := broadcastDims([]ir.Dim{e.size[l]}, []ir.Dim{d})
				if err != nil {
					return nil, fmt.Errorf("one dimension is both %v and %v", e.size[l], d)
				}
				e.size[l] = both[0]
			}
			ellipsis = max(ellipsis, -int(l))
		}
		e.terms = append(e.terms, term)
	}
	if explicit {
		letters := len(strings.Replace(right, "...", "", 1))
		if strings.Contains(right, "...") {
			letters += ellipsis
		}
		var err error
		if e.out, err = e.term(right, letters); err != nil {
			return nil, err
		}
	} else {
		for l := range ellipsis {
			e.out = append(e.out, label(l-ellipsis))
		}
		single := slices.DeleteFunc(slices.Clone(order), func(l label) bool { return l < 0 || count[l] > 1 })
		slices.Sort(single)
		e.out = append(e.out, single...)
	}
	for i, l := range e.out {
		if count[l] == 0 || slices.Contains(e.out[:i], l) {
			return nil, fmt.Errorf("the output's %q stands twice, or in no operand", rune(l))
		}
	}
	for _, l := range order {
		if !slices.Contains(e.out, l) {
			e.summed = append(e.summed, l)
		}
	}
	return e, nil
}

// term returns the labels of an operand of the given rank.
func (e *equation) term(s string, rank int) ([]label, error) {
	before, after, dots := strings.Cut(s, "...")
	extra := rank - len(before) - len(after)
	if extra < 0 || extra > 0 && !dots {
		return nil, fmt.Errorf("operand %q does not fit rank %d", s, rank)
	}
	var out []label
	for _, c := range before {
		out = append(out, label(c))
	}
	for i := range extra {
		out = append(out, label(i-extra))
	}
	for _, c := range after {
		out = append(out, label(c))
	}
	for _, l := range out {
		if l >= 0 && !(l >= 'a' && l <= 'z' || l >= 'A' && l <= 'Z') {
			return nil, fmt.Errorf("operand %q has %q, expected letters", s, rune(l))
		}
	}
	return out, nil
}

func einsum[T number](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	dims := make([][]ir.Dim, len(in))
	for i, t := range in {
		dims[i] = ir.Dims(t.Shape()...)
	}
	e, err := parseEinsum(n.Str("equation"), dims)
	if err != nil {
		return nil, err
	}
	sizes := func(ls []label) []int {
		out := make([]int, len(ls))
		for i, l := range ls {
			out[i] = e.size[l].N
		}
		return out
	}
	shape, inner := sizes(e.out), sizes(e.summed)
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(shape, inner)
	data := make([][]T, len(in))
	step := make([][]int, len(in)) // of each operand, by dimension of all
	for k, t := range in {
		data[k], step[k] = numbers[T](t), make([]int, len(all))
		strides := stridesOf(t.Shape())
		for i, l := range e.terms[k] {
			if t.Shape()[i] == 1 {
				continue // broadcast
			}
			j := slices.Index(e.out, l)
			if j < 0 {
				j = len(e.out) + slices.Index(e.summed, l)
			}
			step[k][j] += strides[i]
		}
	}
	at, pos := make([]int, len(all)), make([]int, len(in))
	terms, err := tensor.NumElems(inner)
	if err != nil {
		return nil, err
	}
	for o := range y {
		for range terms {
			for k := range in {
				pos[k] = 0
				for i, a := range at {
					pos[k] += a * step[k][i]
				}
			}
			p := T(1)
			last := len(in) - 1
			if last > 0 {
				p = data[0][pos[0]]
			}
			for k := 1; k < last; k++ {
				p = T(p * data[k][pos[k]])
			}
			axpy(y[o:], 1, data[last][pos[last]:], 1, p, 1)
			count(at, all)
		}
	}
	return fromNumbers(in[0].Elem(), y, shape...), nil
}
