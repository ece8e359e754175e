package ops

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// randomShapes are families of shapes that operators with several inputs are
// likely to accept together; others test what they refuse.
var randomShapes = [][][]int{
	{{2, 3}, {2, 3}, {2, 3}},
	{{2, 1, 4}, {3, 1}, {1}},
	{{2, 4, 5, 5}, {4, 4, 3, 3}, {4}, {4}, {4}},
	{{1, 4, 6, 5}, {6, 2, 1, 2}, {6}},
	{{2, 4, 5, 5}, {4}, {4}, {4}, {4}},
	{{1, 2, 7}, {2, 2, 3}, {2}},
	{{3, 4}, {4, 2}, {2}},
	{{2, 3, 4}, {4, 5}, {}},
	{{2, 3, 3}, {2, 3}, {3}},
	{{}, {}, {}},
	{{0, 3}, {3}, {1}},
	{{5}, {5}, {}},
}

func randomTensor(rng *rand.Rand, e tensor.Elem, shape []int) *tensor.Tensor {
	n := sizeOf(shape)
	if e.IsFloat() {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64() * 2)
		}
		return tensor.FromFloat32s(e, x, shape...)
	}
	x := make([]int64, n)
	for i := range x {
		x[i] = int64(rng.IntN(4))
	}
	return tensor.FromInt64s(e, x, shape...)
}

func randomAttr(rng *rand.Rand, s ir.AttrSpec) any {
	switch s.Kind {
	case ir.IntAttr:
		return int64(rng.IntN(6) - 2)
	case ir.FloatAttr:
		return float32(rng.NormFloat64())
	case ir.StringAttr:
		all := []string{"", "none", "sum", "mean", "tanh", "LEFT", "RIGHT", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "ij,jk->ik", "...ij->...", "bij", "x"}
		return all[rng.IntN(len(all))]
	case ir.IntsAttr:
		out := make([]int64, rng.IntN(6))
		for i := range out {
			out[i] = int64(rng.IntN(4)) - int64(rng.IntN(8)/7)
		}
		return out
	}
	return nil
}

// TestRandomNodes builds nodes of every operator with random inputs and
// attributes. They may be refused, but nothing may panic, and where inference
// and evaluation both succeed they must agree, with symbolic dimensions too.
func TestRandomNodes(t *testing.T) {
	elems := []tensor.Elem{tensor.F32, tensor.F32, tensor.F32, tensor.F64, tensor.F16, tensor.BF16, tensor.I32, tensor.I64, tensor.U8, tensor.U64, tensor.Bool, tensor.Int(5)}
	for _, op := range Table().Ops() {
		if op.Infer == nil || op.Eval == nil {
			continue
		}
		rng := rand.New(rand.NewPCG(11, 12))
		ran := 0
		for range 400 {
			ok, err := randomNode(rng, op, elems)
			if err != nil {
				t.Errorf("%s: %v", op.Name, err)
				break
			}
			if ok {
				ran++
			}
		}
		if ran == 0 {
			t.Logf("%s: no random node was accepted", op.Name)
		}
	}
}

// randomNode returns whether a random node could be evaluated, and an error
// when an operator misbehaves.
func randomNode(rng *rand.Rand, op *ir.Op, elems []tensor.Elem) (evaluated bool, err error) {
	shapes := randomShapes[rng.IntN(len(randomShapes))]
	e := elems[rng.IntN(len(elems))]
	var attrs ir.Attrs
	for _, s := range op.Attrs {
		if v := randomAttr(rng, s); v != nil && (s.Required || rng.IntN(4) == 0) {
			attrs.Set(s.Name, v)
		}
	}
	symbolic := rng.IntN(2) == 0
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	var in []*tensor.Tensor
	var vs []*ir.Value
	count := len(op.Inputs())
	if count > 0 && op.Inputs()[count-1].Variadic {
		count += rng.IntN(2)
	}
	for i := range count {
		if p := op.Inputs()[min(i, len(op.Inputs())-1)]; p.Optional && rng.IntN(3) == 0 {
			in, vs = append(in, nil), append(vs, nil)
			continue
		}
		ei := e
		if rng.IntN(12) == 0 {
			ei = elems[rng.IntN(len(elems))]
		}
		x := randomTensor(rng, ei, shapes[i%len(shapes)])
		typ := ir.TypeOf(x)
		for j := range typ.Dims {
			if symbolic && rng.IntN(2) == 0 {
				typ.Dims[j] = ir.Symbol(fmt.Sprintf("d%d_%d", i, j))
			}
		}
		if symbolic && rng.IntN(10) == 0 {
			typ = ir.UnrankedType(ei)
		}
		in, vs = append(in, x), append(vs, r.Input("x", typ))
	}
	n, err := r.Add(op.Name, "n", attrs, vs)
	if err != nil {
		if strings.Contains(err.Error(), "goroutine") || strings.Contains(err.Error(), "panic") {
			return false, err
		}
		return false, nil // refused
	}
	if symbolic { // as engines do: shapes are bound and inferred again before running
		b := ir.NewRewriter(ir.NewGraph("t", Table()))
		for i, x := range in {
			if x != nil {
				vs[i] = b.Input("x", ir.TypeOf(x))
			}
		}
		if _, err := b.Add(op.Name, "n", attrs, vs); err != nil {
			return false, nil
		}
	}
	out, err := n.Eval(in)
	if err != nil {
		if strings.Contains(err.Error(), "goroutine") {
			return false, fmt.Errorf("attributes %v, inputs %v: %w", n.Attrs, typesOf(in), err)
		}
		return false, nil
	}
	for i, v := range n.Out {
		if v != nil && !v.Type.Compatible(ir.TypeOf(out[i])) {
			return false, fmt.Errorf("attributes %v, inputs %v: output %d inferred as %v, evaluated as %v", n.Attrs, typesOf(in), i, v.Type, ir.TypeOf(out[i]))
		}
	}
	if op.Cost != nil {
		if c := op.Cost(n); c.MACs < 0 || c.Adds < 0 {
			return false, fmt.Errorf("attributes %v: cost %v", n.Attrs, c)
		}
	}
	return true, nil
}

func typesOf(in []*tensor.Tensor) []string {
	var out []string
	for _, x := range in {
		if x == nil {
			out = append(out, "-")
		} else {
			out = append(out, ir.TypeOf(x).String())
		}
	}
	return out
}
