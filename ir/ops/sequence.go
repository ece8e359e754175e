package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// A sequence is a tensor of rank 1 whose elements are tensors: its shape rule
// follows the element type of the members and their number, not their shapes.

// sequenceType returns the type of a sequence of n members.
func sequenceType(member tensor.Elem, n ir.Dim) ([]ir.Type, error) {
	return types(ir.TensorType(tensor.Sequence(member), n))
}

// wantSequence returns the member type and length of input 0.
func wantSequence(n *ir.Node) (tensor.Elem, ir.Dim, error) {
	t := n.In[0].Type
	switch {
	case t.Elem == tensor.Invalid: // in a body whose inputs are not known yet
		return tensor.Invalid, ir.Unknown, nil
	case !t.Elem.IsSequence():
		return 0, ir.Unknown, fmt.Errorf("%s is %v, expected a sequence", portName(n, 0), t)
	case t.Rank() != 1:
		return t.Elem.Member(), ir.Unknown, nil
	}
	return t.Elem.Member(), t.Dims[0], nil
}

// optional returns input i of an evaluation, nil when it is absent.
func optional(in []*tensor.Tensor, i int) *tensor.Tensor {
	if i < len(in) {
		return in[i]
	}
	return nil
}

// position returns the place in a sequence of 'members' that an input names,
// counted from the end when it is negative; it must be less than 'places'.
// Without the input it is 'otherwise'.
func position(t *tensor.Tensor, places, members, otherwise int) (int, error) {
	at := otherwise
	if t != nil {
		if t.Len() != 1 || !t.Elem().IsInt() {
			return 0, fmt.Errorf("position is %v, expected one integer", ir.TypeOf(t))
		}
		if at = int(t.Int64s()[0]); at < 0 {
			at += members
		}
	}
	if at < 0 || at >= places {
		return 0, fmt.Errorf("position %d is outside a sequence of %d", at, members)
	}
	return at, nil
}

var _ = define(ir.Op{
	Name:      "SequenceEmpty",
	Doc:       "A sequence without members.",
	Since:     11,
	Sequences: true,
	Out:       "output",
	Attrs:     []ir.AttrSpec{{Name: "dtype", Kind: ir.IntAttr, Default: int64(1), Doc: "the element type of later members, as ONNX numbers it"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		e := tensor.FromONNXType(n.Int("dtype"))
		if e == tensor.Invalid {
			return nil, fmt.Errorf("dtype %d is not supported", n.Int("dtype"))
		}
		return sequenceType(e, ir.Fixed(0))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return results(tensor.SequenceOf(tensor.FromONNXType(n.Int("dtype"))))
	},
})

var _ = define(ir.Op{
	Name:  "SequenceConstruct",
	Doc:   "The sequence of its inputs.",
	Since: 11,
	In:    "inputs*", Out: "output_sequence",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if len(n.In) == 0 || slices.Contains(n.In, nil) {
			return nil, fmt.Errorf("has no input, or an absent one among them")
		}
		for _, v := range n.In {
			if v.Type.Elem != n.In[0].Type.Elem {
				return nil, fmt.Errorf("inputs are %v and %v, expected one element type", n.In[0].Type, v.Type)
			}
		}
		return sequenceType(n.In[0].Type.Elem, ir.Fixed(len(n.In)))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return results(tensor.SequenceOf(in[0].Elem(), in...))
	},
})

var _ = define(ir.Op{
	Name:      "SequenceInsert",
	Doc:       "The sequence with a tensor inserted before position, at the end without one; a negative position counts from the end.",
	Since:     11,
	Sequences: true,
	In:        "input_sequence, tensor, position?", Out: "output_sequence",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		e, k, err := wantSequence(n)
		if err != nil {
			return nil, err
		}
		if x := n.In[1].Type; x.Elem != e && e != tensor.Invalid && x.Elem != tensor.Invalid {
			return nil, fmt.Errorf("tensor is %v, the sequence holds %v", x, e)
		}
		return sequenceType(e, sumDims(k, ir.Fixed(1)))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := in[0].Members()
		at, err := position(optional(in, 2), len(s)+1, len(s), len(s))
		if err != nil {
			return nil, err
		}
		return results(tensor.SequenceOf(in[1].Elem(), slices.Insert(slices.Clone(s), at, in[1])...))
	},
})

var _ = define(ir.Op{
	Name:      "SequenceErase",
	Doc:       "The sequence without the member at position, the last one without a position; a negative position counts from the end.",
	Since:     11,
	Sequences: true,
	In:        "input_sequence, position?", Out: "output_sequence",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		e, k, err := wantSequence(n)
		if err != nil {
			return nil, err
		}
		if k = ir.Fixed(k.N - 1); k.N < 0 {
			k = ir.Unknown
		}
		return sequenceType(e, k)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := in[0].Members()
		at, err := position(optional(in, 1), len(s), len(s), len(s)-1)
		if err != nil {
			return nil, err
		}
		return results(tensor.SequenceOf(in[0].Elem().Member(), slices.Delete(slices.Clone(s), at, at+1)...))
	},
})

var _ = define(ir.Op{
	Name:      "SequenceAt",
	Doc:       "The member at position, which counts from the end when it is negative.",
	Since:     11,
	Sequences: true,
	In:        "input_sequence, position", Out: "tensor",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		e, _, err := wantSequence(n)
		return []ir.Type{ir.UnrankedType(e)}, err
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := in[0].Members()
		at, err := position(in[1], len(s), len(s), 0)
		if err != nil {
			return nil, err
		}
		return results(s[at])
	},
})

var _ = define(ir.Op{
	Name:      "SequenceLength",
	Doc:       "The number of members, as a scalar of i64.",
	Since:     11,
	Sequences: true,
	In:        "input_sequence", Out: "length",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		_, k, err := wantSequence(n)
		if err != nil {
			return nil, err
		}
		setContents(n, 0, []ir.Dim{k})
		return types(ir.TensorType(tensor.I64))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return results(tensor.Scalar(int64(len(in[0].Members()))))
	},
})

var _ = define(ir.Op{
	Name: "SplitToSequence",
	Doc: "Cuts a tensor along an axis: into pieces of the size that split, a scalar, gives (the last may be smaller), of the sizes " +
		"that it lists, or, without it, of size 1.",
	Since: 11,
	In:    "input, split?", Out: "output_sequence",
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Default: int64(0), Doc: "the axis, from the end when it is negative"},
		{Name: "keepdims", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "0: without split, members lack the axis"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		return sequenceType(n.In[0].Type.Elem, ir.Unknown)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x, split := in[0], optional(in, 1)
		axis, err := axisOf(n.Int("axis"), x.Rank())
		if err != nil {
			return nil, err
		}
		total := x.Shape()[axis]
		var sizes []int
		if split != nil && split.Rank() > 0 {
			sizes = intsOf(split)
		} else {
			size := 1
			if split != nil {
				size = intsOf(split)[0]
			}
			if size < 1 {
				return nil, fmt.Errorf("split is %d, expected at least 1", size)
			}
			for at := 0; at < total; at += min(size, total-at) {
				sizes = append(sizes, min(size, total-at))
			}
		}
		var members []*tensor.Tensor
		at := 0
		for _, size := range sizes {
			if size < 0 || size > total-at {
				return nil, fmt.Errorf("split %v does not fit dimension %d", sizes, total)
			}
			m, err := cut(x, axis, at, size)
			if err != nil {
				return nil, err
			}
			if split == nil && n.Int("keepdims") == 0 {
				m = m.Reshape(slices.Delete(slices.Clone(m.Shape()), axis, axis+1)...)
			}
			members = append(members, m)
			at += size
		}
		if at != total {
			return nil, fmt.Errorf("split %v does not add up to dimension %d", sizes, total)
		}
		return results(tensor.SequenceOf(x.Elem(), members...))
	},
})

var _ = define(ir.Op{
	Name:      "ConcatFromSequence",
	Doc:       "Joins the members of a sequence along an axis, or stacks them along a new one.",
	Since:     11,
	Sequences: true,
	In:        "input_sequence", Out: "concat_result",
	Attrs: []ir.AttrSpec{
		{Name: "axis", Kind: ir.IntAttr, Required: true, Doc: "the axis in the result, from the end when it is negative"},
		{Name: "new_axis", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the axis is new"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		e, _, err := wantSequence(n)
		return []ir.Type{ir.UnrankedType(e)}, err
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := slices.Clone(in[0].Members())
		if len(s) == 0 {
			return nil, fmt.Errorf("the sequence is empty: the shape of the result is not known")
		}
		stack := n.Int("new_axis") != 0
		rank := s[0].Rank()
		if stack {
			rank++
		}
		axis, err := axisOf(n.Int("axis"), rank)
		if err != nil {
			return nil, err
		}
		for i, m := range s {
			if stack && m.Rank() == rank-1 {
				s[i] = m.Reshape(slices.Insert(slices.Clone(m.Shape()), axis, 1)...)
			}
		}
		return one(concat(axis, s...))
	},
})
