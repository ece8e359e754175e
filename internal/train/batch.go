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
	repeatConstants(c)
	r.RemoveUnusedConsts()
	return c
}

// repeatConstants repeats what is the same for every sample, and there once, where it is concatenated with
// what samples bring along another dimension than theirs.
func repeatConstants(g *ir.Graph) {
	repeated := false
	ofSamples := map[*ir.Value]bool{}
	for _, v := range g.Inputs {
		ofSamples[v] = true
	}
	for _, n := range slices.Clone(g.Nodes) {
		if slices.ContainsFunc(n.In, func(v *ir.Value) bool { return ofSamples[v] }) {
			for _, v := range n.Out {
				ofSamples[v] = v != nil
			}
		}
		if n.Op.Name != "Concat" || n.Int("axis") == 0 || n.Int("axis") == -n.Out[0].Type.Rank() || !ofSamples[n.Out[0]] {
			continue
		}
		r := ir.NewRewriter(g).Before(n)
		x := n.In[slices.IndexFunc(n.In, func(v *ir.Value) bool { return ofSamples[v] })]
		for i, v := range n.In {
			if d := v.Type.Dims; !ofSamples[v] && len(d) > 0 && d[0].Known() && d[0].N == 1 {
				count := r.Must1("Shape", "", ir.MakeAttrs("start", 0, "end", 1), x)
				shape := r.Must1("Concat", "", ir.MakeAttrs("axis", 0), count, r.Ints("once", slices.Repeat([]int64{1}, len(d)-1)...))
				r.SetInput(n, i, r.Must1("Expand", "", nil, v, shape))
				repeated = true
			}
		}
	}
	if repeated {
		ir.Infer(g) // the new shapes depend on the inputs, whose types have changed; an error shows again when they are bound
	}
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
