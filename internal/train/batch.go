package train

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// freeBatch returns a copy of a model that computes any number of samples at
// once: a first dimension of an input that is a number becomes a symbol, and
// where a reshape of activations names that number first, it keeps the first
// dimension instead. Whether the model can do that shows when its types are inferred.
func freeBatch(g *ir.Graph) *ir.Graph {
	c := g.Clone()
	fixed := map[int64]bool{}
	for _, v := range c.Inputs {
		if !v.Type.Unranked && len(v.Type.Dims) > 0 && v.Type.Dims[0].Known() {
			fixed[int64(v.Type.Dims[0].N)] = true
			v.Type.Dims = append([]ir.Dim{ir.Symbol("N")}, v.Type.Dims[1:]...)
		}
	}
	r := ir.NewRewriter(c)
	for _, n := range c.Nodes {
		if n.Op.Name != "Reshape" || n.In[0].HasData() || n.Int("allowzero") != 0 {
			continue
		}
		shape := n.ConstIn(1)
		if shape == nil || shape.Elem() != tensor.I64 || shape.Len() == 0 || !fixed[shape.Int64s()[0]] {
			continue
		}
		x := slices.Clone(shape.Int64s())
		x[0] = 0
		r.SetInput(n, 1, r.Ints(n.In[1].Name, x...))
	}
	r.RemoveUnusedConsts()
	return c
}

// bind returns a copy of a model with batches of one size and static shapes.
func bind(model *ir.Graph, scalars []*passes.TrainScalar, batch int, shapes [][]int) (*ir.Graph, error) {
	var all [][]int
	data := 0
	for _, v := range model.Inputs {
		if slices.ContainsFunc(scalars, func(s *passes.TrainScalar) bool { return s.Input == v }) {
			all = append(all, []int{})
			continue
		}
		all = append(all, append([]int{batch}, shapes[data]...))
		data++
	}
	g, err := ir.BindShapes(freeBatch(model), all)
	if err != nil {
		return nil, fmt.Errorf("the model does not compute batches of %d samples: %w", batch, err)
	}
	return g, nil
}
