package bench

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// SizeError says why a model cannot be run with the sizes that were asked for.
type SizeError struct{ Err error }

func (e *SizeError) Error() string { return e.Err.Error() }
func (e *SizeError) Unwrap() error { return e.Err }

// WithBatch returns a copy of g for n samples at once, all dimensions of its
// inputs known: a first dimension that is a symbol becomes n, other symbols
// what dims says. A model that was written for a fixed batch is changed to
// another where that is possible: see rebatch. Sizes that cannot be had are a *SizeError.
func WithBatch(g *ir.Graph, n int, dims map[string]int) (*ir.Graph, error) {
	fixed := 0 // the batch of a model that has a fixed one
	bound := maps.Clone(dims)
	if bound == nil {
		bound = map[string]int{}
	}
	var errs []error
	var unused = maps.Clone(dims)
	for _, v := range g.Inputs {
		if v.Type.Unranked {
			errs = append(errs, fmt.Errorf("input %q: the model does not say its rank", v.Name))
			continue
		}
		for i, d := range v.Type.Dims {
			delete(unused, d.Sym)
			_, given := dims[d.Sym]
			switch {
			case d.Known():
				if i == 0 {
					fixed = max(fixed, d.N)
				}
			case d.Sym == "":
				errs = append(errs, fmt.Errorf("input %q is %v: dimension %d has no name by which it could be set", v.Name, v.Type, i))
			case given:
			case i == 0:
				bound[d.Sym] = n
			case bound[d.Sym] == 0:
				errs = append(errs, fmt.Errorf("input %q is %v: say --dim %s=SIZE", v.Name, v.Type, d.Sym))
			}
		}
	}
	for _, sym := range slices.Sorted(maps.Keys(unused)) {
		errs = append(errs, fmt.Errorf("--dim %s: no input has such a dimension", sym))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &SizeError{err}
	}
	out, err := ir.Bind(g, bound)
	if err != nil || fixed == 0 || fixed == n || n == 1 {
		return out, err
	}
	if out, err = rebatch(out, fixed, n); err != nil {
		return nil, &SizeError{fmt.Errorf("the model is written for batches of %d, and could not be changed to %d: %w", fixed, n, err)}
	}
	return out, nil
}

// FixBatch returns a copy of g that computes n samples at once and says so: a first dimension
// of an input that is a symbol becomes n, other dimensions stay. A model that was written for
// another fixed batch is changed where that is possible. What cannot be had is a *SizeError.
func FixBatch(g *ir.Graph, n int) (*ir.Graph, error) {
	bound := map[string]int{}
	fixed := 0
	var errs []error
	for _, v := range g.Inputs {
		switch {
		case v.Type.Unranked || len(v.Type.Dims) > 0 && !v.Type.Dims[0].Known() && v.Type.Dims[0].Sym == "":
			errs = append(errs, fmt.Errorf("input %q is %v: its first dimension has no name by which it could be set", v.Name, v.Type))
		case len(v.Type.Dims) == 0:
		case v.Type.Dims[0].Known():
			fixed = max(fixed, v.Type.Dims[0].N)
		default:
			bound[v.Type.Dims[0].Sym] = n
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &SizeError{err}
	}
	if len(bound) > 0 || fixed == n {
		return ir.Bind(g, bound)
	}
	out, err := rebatch(g, fixed, n)
	if err != nil {
		return nil, &SizeError{fmt.Errorf("the model is written for batches of %d, and could not be changed to %d: %w", fixed, n, err)}
	}
	return out, nil
}

// rebatch changes a model whose inputs have a fixed first dimension, from, to
// another. Constants that say shapes are changed with it. It fails when not
// all outputs grow in proportion.
func rebatch(g *ir.Graph, from, to int) (*ir.Graph, error) {
	before := slices.Clone(g.Outputs)
	g = g.Clone()
	for _, v := range g.Inputs {
		if len(v.Type.Dims) == 0 || v.Type.Dims[0].N != from {
			return nil, fmt.Errorf("input %q is %v", v.Name, v.Type)
		}
		v.Type.Dims = append([]ir.Dim{ir.Fixed(to)}, v.Type.Dims[1:]...)
	}
	r := ir.NewRewriter(g)
	for _, n := range g.Nodes {
		at := n.Op.Input(ir.Shape)
		if at < 0 {
			continue
		}
		shape := n.ConstIn(at)
		if shape == nil || shape.Elem() != tensor.I64 || shape.Len() == 0 || shape.Int64s()[0] != int64(from) {
			continue
		}
		x := slices.Clone(shape.Int64s())
		x[0] = int64(to)
		r.SetInput(n, at, r.Ints(n.In[at].Name, x...))
	}
	r.RemoveUnusedConsts()
	if err := ir.Infer(g); err != nil {
		return nil, err
	}
	for i, v := range g.Outputs {
		a, ok1 := before[i].Type.Static()
		b, ok2 := v.Type.Static()
		if !ok1 || !ok2 || len(a) == 0 || len(a) != len(b) || a[0]*to != b[0]*from || !slices.Equal(a[1:], b[1:]) {
			return nil, fmt.Errorf("output %q is %v, and would be %v", v.Name, before[i].Type, v.Type)
		}
	}
	return g, nil
}

// Randomise replaces the floating-point weights of convolutions, matrix
// products and batch normalisations, and constants that the graph fills with one
// number, by random numbers of a size that keeps activations in range.
func Randomise(g *ir.Graph, seed uint64) (*ir.Graph, error) {
	g = g.Clone()
	r := ir.NewRewriter(g)
	rnd := rand.New(rand.NewPCG(seed, 1))
	done := map[*ir.Value]*ir.Value{}
	for _, n := range slices.Clone(g.Nodes) {
		if (n.Op.Layer == nil || n.Op.Layer.Channels == nil) && n.Op.Name != "BatchNormalization" {
			continue
		}
		for i, v := range n.In {
			if i == 0 || v == nil || v.Type.Elem != tensor.F32 || !v.HasData() && (v.Def == nil || v.Def.Op.Name != "ConstantOfShape") {
				continue
			}
			shape, ok := v.Type.Static()
			if !ok {
				continue
			}
			if done[v] == nil {
				size, err := tensor.NumElems(shape)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", n.Label(), err)
				}
				x := make([]float32, size)
				lo, hi := weightRange(n, i, shape)
				for j := range x {
					x[j] = lo + float32((hi-lo)*rnd.Float32())
				}
				done[v] = r.Const(v.Name, tensor.Of(x, shape...))
			}
			r.SetInput(n, i, done[v])
		}
	}
	if len(done) == 0 {
		return nil, errors.New("there are no floating-point weights to randomise")
	}
	r.RemoveUnused()
	r.RemoveUnusedConsts()
	return g, nil
}

// weightRange returns the range from which input i of a node is drawn:
// uniform with variance 2/fan-in for weights (He et al., "Delving Deep into
// Rectifiers", eq. 10), around 0 for what is added. Batch normalisations scale by less than 1,
// so that sums of residual blocks do not grow beyond what a softmax tells apart.
func weightRange(n *ir.Node, i int, shape []int) (lo, hi float32) {
	switch {
	case n.Op.Name == "BatchNormalization" && i == 1:
		return 0.25, 0.75
	case n.Op.Name == "BatchNormalization" && i == 4:
		return 0.5, 1.5
	case i > 1 || len(shape) < 2:
		return -0.1, 0.1
	}
	fan := 1
	switch {
	case strings.HasPrefix(n.Op.Name, "Conv"):
		for _, d := range shape[1:] {
			fan *= d
		}
	case n.Op.Name == "Gemm" && n.Int("transB") != 0:
		fan = shape[1]
	default:
		fan = shape[len(shape)-2]
	}
	hi = float32(math.Sqrt(6 / float64(max(fan, 1))))
	return -hi, hi
}
