package interp

import (
	"context"
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// fold evaluates the nodes of g, an engine's own copy, that depend on
// constants only, and puts constants in the place of their results. Weights
// that a file stores as integers become float constants here.
func fold(ctx context.Context, g *ir.Graph) error {
	r := ir.NewRewriter(g)
	for _, n := range slices.Clone(g.Nodes) {
		if err := ctx.Err(); err != nil {
			return err
		}
		outs, err := foldNode(n)
		if err != nil {
			return err
		}
		for i, t := range outs {
			if v := n.Output(i); v != nil && t != nil {
				r.ReplaceUses(v, r.Const(v.Name, t))
			}
		}
	}
	r.RemoveUnused()
	return nil
}

// maxConstant is the largest constant, in bytes, that is computed from others. A few bytes of
// a file can ask for any size (OneHot, ConstantOfShape); the largest weights known to be
// made so take 411 MB.
const maxConstant = 1 << 30

// foldNode returns what the outputs of n are when they are the same in every
// run, nil where they are not.
func foldNode(n *ir.Node) ([]*tensor.Tensor, error) {
	args := make([]*tensor.Tensor, len(n.In))
	constant := n.Op.Eval != nil && !n.Op.Random && len(n.Bodies()) == 0
	for i, v := range n.In {
		if v != nil {
			args[i] = v.Data
			constant = constant && v.HasData()
		}
	}
	if constant {
		for _, v := range n.Out {
			if v == nil {
				continue
			}
			shape, _ := v.Type.Static()
			if num, err := tensor.NumElems(shape); err == nil && num > maxConstant/max(1, v.Type.Elem.ContainerBytes()) {
				return nil, fmt.Errorf("%s: %w: a constant %v, of more than %d bytes", n.Label(), tensor.ErrTooLarge, v.Type, maxConstant)
			}
		}
		return n.Eval(args)
	}
	// Inference knows what small integer results hold: shapes, mostly.
	outs := make([]*tensor.Tensor, len(n.Out))
	for i, v := range n.Out {
		if v == nil || v.Contents == nil || v.Type.Elem != tensor.I64 || slices.ContainsFunc(v.Contents, func(d ir.Dim) bool { return !d.Known() }) {
			continue
		}
		shape, ok := v.Type.Static()
		x := make([]int64, len(v.Contents))
		for j, d := range v.Contents {
			x[j] = int64(d.N)
		}
		if num, err := tensor.NumElems(shape); ok && err == nil && num == len(x) {
			outs[i] = tensor.Of(x, shape...)
		}
	}
	return outs, nil
}
