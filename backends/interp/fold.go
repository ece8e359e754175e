package interp

import (
	"context"
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
