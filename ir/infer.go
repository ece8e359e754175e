package ir

import (
	"errors"
	"fmt"

	"github.com/thriftc/thriftc/ir/tensor"
)

// maxContents is the longest integer value whose elements inference follows.
const maxContents = 64

func contentsOf(t *tensor.Tensor) []Dim {
	if t.Rank() > 1 || !t.Elem().IsInt() || t.Len() > maxContents {
		return nil
	}
	out := make([]Dim, t.Len())
	for i, x := range t.Int64s() {
		if out[i] = Fixed(int(x)); x < 0 {
			out[i] = Unknown
		}
	}
	return out
}

// Infer computes the types of n's outputs from those of its inputs. What an
// output's declared type says beyond that is kept; a contradiction is an error.
func (n *Node) Infer() error {
	if n.Op.Infer == nil {
		return fmt.Errorf("%s %s: operator %s has no present-day form", n.Op.Name, n.Label(), n.Op.Name)
	}
	if err := n.checkForm(); err != nil {
		return err
	}
	for i, v := range n.In {
		if v != nil && v.Type.Elem.IsSequence() && !n.Op.Sequences {
			return fmt.Errorf("%s %s: input %d is %v, expected a tensor", n.Op.Name, n.Label(), i, v.Type)
		}
	}
	for _, v := range n.Out {
		if v != nil {
			v.Contents = nil
		}
	}
	types, err := n.inferTypes()
	if err != nil {
		return fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err)
	}
	for i, v := range n.Out {
		if v == nil {
			continue
		}
		if i >= len(types) {
			return fmt.Errorf("%s %s: has %d outputs, expected at most %d", n.Op.Name, n.Label(), len(n.Out), len(types))
		}
		t, err := refine(types[i], v.Type)
		if err != nil {
			return fmt.Errorf("%s %s: output %%%s: %w", n.Op.Name, n.Label(), v.Name, err)
		}
		v.Type = t
	}
	return nil
}

// inferTypes calls the operator's shape rule; a panic in it, which is a
// mistake in the table, becomes an error, because files bring any input about.
func (n *Node) inferTypes() (types []Type, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("shape inference failed: %v", p)
		}
	}()
	return n.Op.Infer(n)
}

// refine joins an inferred type with what was known before.
func refine(inferred, known Type) (Type, error) {
	if known.Elem == tensor.Invalid {
		return inferred, nil
	}
	if !inferred.Compatible(known) {
		return Type{}, fmt.Errorf("inferred %v contradicts the declared %v", inferred, known)
	}
	if inferred.Unranked {
		known.Quant = inferred.Quant
		return known, nil
	}
	if known.Unranked {
		return inferred, nil
	}
	dims := make([]Dim, len(inferred.Dims))
	for i, d := range inferred.Dims {
		if dims[i] = d; !d.Known() && (known.Dims[i].Known() || d.Sym == "") {
			dims[i] = known.Dims[i]
		}
	}
	inferred.Dims = dims
	return inferred, nil
}

// Infer computes the types of all nodes' outputs in order, and reports every
// node for which that fails. Previously inferred types are forgotten.
func Infer(g *Graph) error {
	var errs []error
	for _, n := range g.Nodes {
		for _, v := range n.Out {
			if v != nil {
				v.Type = Type{Unranked: true}
			}
		}
		if err := n.Infer(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Bind returns a copy of g in which the symbolic dimensions named in dims are
// those numbers, with all types inferred anew.
func Bind(g *Graph, dims map[string]int) (*Graph, error) {
	c := g.Clone()
	for _, v := range c.Inputs {
		ds := make([]Dim, len(v.Type.Dims))
		for i, d := range v.Type.Dims {
			if n, ok := dims[d.Sym]; ok && !d.Known() && d.Sym != "" {
				d = Fixed(n)
			}
			ds[i] = d
		}
		v.Type.Dims = ds
	}
	return c, Infer(c)
}

// BindShapes is Bind for concrete input shapes: it matches each against the
// declared type of the input, and fails on a shape that does not fit.
func BindShapes(g *Graph, shapes [][]int) (*Graph, error) {
	if len(shapes) != len(g.Inputs) {
		return nil, fmt.Errorf("the graph has %d inputs, %d shapes were given", len(g.Inputs), len(shapes))
	}
	dims := map[string]int{}
	for i, v := range g.Inputs {
		if !v.Type.Unranked && len(v.Type.Dims) != len(shapes[i]) {
			return nil, fmt.Errorf("input %q is %v, got shape %v", v.Name, v.Type, shapes[i])
		}
		for j, d := range v.Type.Dims {
			n := shapes[i][j]
			if have, bound := dims[d.Sym]; d.Known() && d.N != n || d.Sym != "" && bound && have != n {
				return nil, fmt.Errorf("input %q is %v, got shape %v", v.Name, v.Type, shapes[i])
			}
			if d.Sym != "" {
				dims[d.Sym] = n
			}
		}
	}
	c := g.Clone()
	for i, v := range c.Inputs {
		v.Type.Unranked, v.Type.Dims = false, Dims(shapes[i]...)
	}
	return c, Infer(c)
}
