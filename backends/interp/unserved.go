package interp

import (
	"context"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
)

// Unserved implements backends.Selector.
func (engine) Unserved(ctx context.Context, g *ir.Graph) ([]*ir.Node, error) {
	shapes := make([][]int, len(g.Inputs))
	for i, v := range g.Inputs {
		for _, d := range v.Type.Dims {
			if !d.Known() {
				d = ir.Fixed(1)
			}
			shapes[i] = append(shapes[i], d.N)
		}
	}
	bound, err := ir.BindShapes(g, shapes)
	if err != nil {
		return nil, err
	}
	if err := fold(ctx, bound); err != nil {
		return nil, err
	}
	set, err := simd.Named("portable")
	if err != nil {
		return nil, err
	}
	left := map[string]bool{} // by the name of the first result
	for _, u := range units(&executable{graph: bound, set: set, packs: map[packKey]any{}}, bound) {
		if u.kind != evaluated {
			continue
		}
		for _, v := range u.node.Out {
			if v != nil {
				left[v.Name] = true
			}
		}
	}
	var out []*ir.Node
	for _, n := range g.Nodes {
		for _, v := range n.Out {
			if v != nil && left[v.Name] {
				out = append(out, n)
				break
			}
		}
	}
	return out, nil
}
