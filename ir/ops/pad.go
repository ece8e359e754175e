package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Pad",
	Same: sameIf(func(n *ir.Node) bool {
		p := n.ConstIn(1)
		return p != nil && isAll(p, 0)
	}),
	Roles: []ir.Role{1: ir.Setting, 3: ir.Setting}, PerSample: padPerSample,
	Doc: "Adds elements at the ends of dimensions, or removes them where pads is negative: removal comes first, " +
		"and what is added repeats what is left.",
	Since: 19,
	In:    "data, pads, constant_value?, axes?", Out: "output", Elements: ir.Moved,
	Attrs: []ir.AttrSpec{{Name: "mode", Kind: ir.StringAttr, Default: "constant",
		Doc: "constant: constant_value, or 0; reflect: mirrored, the edge not repeated; edge: the edge; wrap: from the other end"}},
	Grad: gradPad,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 1, 3); err != nil {
			return nil, err
		}
		if m := n.Str("mode"); !slices.Contains([]string{"constant", "reflect", "edge", "wrap"}, m) {
			return nil, fmt.Errorf("mode is %q, expected constant, reflect, edge or wrap", m)
		}
		if err := wantLike(n, 0, 2); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		if in.Unranked {
			return types(ir.UnrankedType(in.Elem))
		}
		pads, ok := knownInts(n, 1)
		axes, ok2 := knownInts(n, 3)
		if !ok || n.Input(3) != nil && !ok2 {
			return types(ir.TensorType(in.Elem, unknownDims(in.Rank())...))
		}
		before, after, err := padsOf(in.Rank(), pads, axes)
		if err != nil {
			return nil, err
		}
		dims := slices.Clone(in.Dims)
		for i, d := range dims {
			switch {
			case before[i] == 0 && after[i] == 0:
			case d.Known():
				if dims[i].N = d.N + before[i] + after[i]; dims[i].N < 0 {
					return nil, fmt.Errorf("pads %v remove more than %v has", pads, in)
				}
			default:
				dims[i] = ir.Unknown
			}
		}
		return types(ir.TensorType(in.Elem, dims...))
	},
	Eval:   evalPad,
	Import: importPad,
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.Str("mode") == "wrap" {
			return fmt.Errorf("mode wrap does not exist at opset %d", opset)
		}
		if opset >= 18 || n.Input(3) == nil {
			return nil
		}
		pads, axes, rank := n.ConstIn(1), n.ConstIn(3), n.In[0].Type.Rank()
		if pads == nil || axes == nil || rank < 0 {
			return fmt.Errorf("pads and axes must be constant at opset %d", opset)
		}
		before, after, err := padsOf(rank, pads.Int64s(), axes.Int64s())
		if err != nil {
			return err
		}
		all := make([]int64, 2*rank)
		for i := range rank {
			all[i], all[rank+i] = int64(before[i]), int64(after[i])
		}
		r.SetInputs(n, n.In[0], r.Ints("pads", all...), n.In[2])
		return nil
	},
})

func importPad(r *ir.Rewriter, n *ir.Node, opset int) error {
	if opset >= 11 {
		return nil
	}
	toInput(r, n, "pads", 1)
	if v, ok := n.Attrs.Get("value").(float32); ok {
		e := n.In[0].Type.Elem
		if !e.IsFloat() {
			return fmt.Errorf("data is %v, expected floating point", n.In[0].Type)
		}
		r.SetInput(n, 2, r.Const(n.Out[0].Name+"_value", tensor.FromFloat32s(e, []float32{v})))
		r.DeleteAttr(n, "value")
	}
	return nil
}

// padsOf returns how much is added before and after each dimension.
func padsOf(rank int, pads, axes []int64) (before, after []int, err error) {
	at := allAxes(rank)
	if axes != nil {
		if at, err = axesOf(axes, rank); err != nil {
			return nil, nil, err
		}
	}
	if len(pads) != 2*len(at) {
		return nil, nil, fmt.Errorf("%d pads for %d dimensions", len(pads), len(at))
	}
	const limit = 1 << 40
	before, after = make([]int, rank), make([]int, rank)
	for i, a := range at {
		b, e := pads[i], pads[len(at)+i]
		if max(b, e) > limit || min(b, e) < -limit {
			return nil, nil, fmt.Errorf("pads %v are too large", pads)
		}
		before[a], after[a] = int(b), int(e)
	}
	return before, after, nil
}

// padPerSample: nothing is added to dimension 0 or taken from it.
func padPerSample(n *ir.Node) bool {
	if !byFirst(n) {
		return false
	}
	axes := n.ConstIn(3)
	var at []int64
	if axes != nil {
		at = axes.Int64s()
	}
	before, after, err := padsOf(n.In[0].Type.Rank(), n.In[1].Data.Int64s(), at)
	return err == nil && before[0] == 0 && after[0] == 0
}

func evalPad(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	x := in[0]
	var axes []int64
	if len(in) > 3 && in[3] != nil {
		axes = in[3].Int64s()
	}
	before, after, err := padsOf(x.Rank(), in[1].Int64s(), axes)
	if err != nil {
		return nil, err
	}
	shape := make([]int, x.Rank())
	for d, k := range x.Shape() {
		shape[d] = k + before[d] + after[d]
	}
	if err := fits(x.Elem(), shape); err != nil {
		return nil, err
	}
	from := make([][]int, len(shape))
	for d, size := range shape {
		if from[d], err = padIndices(n.Str("mode"), x.Shape()[d], before[d], after[d], size); err != nil {
			return nil, err
		}
	}
	var fill *tensor.Tensor
	if len(in) > 2 && in[2] != nil {
		if fill = in[2]; fill.Len() != 1 {
			return nil, fmt.Errorf("constant_value is %v, expected one element", ir.TypeOf(fill))
		}
	}
	return one(mapAxes(x, from, fill))
}

// fits checks that a tensor of the shape can be made, before lists as long as
// one of its dimensions are.
func fits(e tensor.Elem, shape []int) error {
	k, err := tensor.NumElems(shape)
	if err == nil && (k > tensor.MaxBytes/max(1, e.ContainerBytes()) || slices.Max(append(shape, 0)) > tensor.MaxBytes) {
		err = fmt.Errorf("%w: shape %v", tensor.ErrTooLarge, shape)
	}
	return err
}

// padIndices returns, for each index of a padded dimension, the index of the
// input of size d that it repeats, −1 for the constant.
func padIndices(mode string, d, before, after, size int) ([]int, error) {
	lo, hi := max(0, -before), d-max(0, -after) // what is left of the input
	left := hi - lo
	if left <= 0 && size > 0 && (left < 0 || mode != "constant") {
		return nil, fmt.Errorf("nothing of a dimension %d is left to repeat", d)
	}
	out := make([]int, size)
	for j := range out {
		i := j - max(0, before)
		if i < 0 || i >= left {
			switch mode {
			case "constant":
				out[j] = -1
				continue
			case "edge":
				i = max(0, min(i, left-1))
			case "wrap":
				i = (i%left + left) % left
			case "reflect":
				if left == 1 {
					i = 0
					break
				}
				period := 2 * (left - 1)
				if i = (i%period + period) % period; i >= left {
					i = period - i
				}
			}
		}
		out[j] = lo + i
	}
	return out, nil
}
