package ir_test

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func sameType(n *ir.Node) ([]ir.Type, error) { return []ir.Type{n.In[0].Type}, nil }

func elementwise(f func(a, b float32) float32) func(*ir.Node, []*tensor.Tensor) ([]*tensor.Tensor, error) {
	return func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		a := slices.Clone(in[0].Float32s())
		b := in[len(in)-1].Float32s()
		for i := range a {
			a[i] = f(a[i], b[i%len(b)])
		}
		return []*tensor.Tensor{tensor.Of(a, in[0].Shape()...)}, nil
	}
}

// testOps is a registry for tests of ir alone: elementwise operators without
// broadcasting of the first operand, one with every kind of attribute, one with a body.
var testOps = ir.NewRegistry(
	&ir.Op{Name: "Relu", In: "X", Out: "Y", Infer: sameType, Eval: elementwise(func(a, _ float32) float32 { return max(a, 0) })},
	&ir.Op{Name: "Neg", In: "X", Out: "Y", Infer: sameType, Eval: elementwise(func(a, _ float32) float32 { return -a })},
	&ir.Op{Name: "Identity", In: "X", Out: "Y", Infer: sameType, Eval: elementwise(func(a, _ float32) float32 { return a })},
	&ir.Op{Name: "Add", In: "A, B", Out: "C", Infer: sameType, Eval: elementwise(func(a, b float32) float32 { return a + b })},
	&ir.Op{Name: "Panic", In: "X", Out: "Y", Infer: func(n *ir.Node) ([]ir.Type, error) { panic("boom") }},
	&ir.Op{Name: "test.If", In: "cond", Out: "Y*",
		Attrs: []ir.AttrSpec{{Name: "then", Kind: ir.GraphAttr, Required: true}, {Name: "else", Kind: ir.GraphAttr}},
		Infer: func(n *ir.Node) ([]ir.Type, error) {
			var out []ir.Type
			for _, v := range n.Body("then").Outputs {
				out = append(out, v.Type)
			}
			return out, nil
		}},
	&ir.Op{Name: "test.Any", In: "X, Y?, Z*", Out: "A?, B?, C?",
		Attrs: []ir.AttrSpec{
			{Name: "elem", Kind: ir.StringAttr}, {Name: "i", Kind: ir.IntAttr, Default: int64(3)}, {Name: "f", Kind: ir.FloatAttr},
			{Name: "is", Kind: ir.IntsAttr}, {Name: "fs", Kind: ir.FloatsAttr}, {Name: "ss", Kind: ir.StringsAttr},
			{Name: "t", Kind: ir.TensorAttr}, {Name: "g", Kind: ir.GraphAttr}, {Name: "odd name", Kind: ir.IntAttr},
		},
		Infer: func(n *ir.Node) ([]ir.Type, error) {
			e := tensor.F32
			if s := n.Str("elem"); s != "" {
				var err error
				if e, err = tensor.ParseElem(s); err != nil {
					return nil, err
				}
			}
			if n.Int("i") < 0 {
				return nil, fmt.Errorf("i is negative")
			}
			return []ir.Type{ir.UnrankedType(e), ir.UnrankedType(e), ir.UnrankedType(e)}, nil
		}},
)
