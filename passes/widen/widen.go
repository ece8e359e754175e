// Package widen makes a model that computes in f16 or bf16 compute in f32, which is what layers are quantised from.
//
//	%y: f16 = Conv(%x: f16, %w: f16)    →    %a: f32 = Cast(%x); %b: f32 = Conv(%a, f32 %w); %y: f16 = Cast(%b)
//
// The inputs and outputs of the graph keep their types. The numbers that the model holds stay the same; what it
// computes from them is no longer rounded to fewer bits on the way. Constants that are no weights of layers
// and not small are stored as they were, with a Cast behind them.
package widen

import (
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "widen",
	Doc: `Computes in f32 what a model computes in f16 or bf16, so that it can be quantised.
Inputs and outputs keep their types. A model with quantisers stays as it is.`,
	Kind: passes.Lossy,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

// smallBytes is the most that a constant other than a weight takes as f32.
const smallBytes = 4096

// Run implements passes.Pass.
func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	halves, from, refused := 0, tensor.F16, ""
	g.Walk(func(n *ir.Node) {
		for _, v := range n.Out {
			if v != nil && isHalf(v.Type.Elem.Member()) {
				halves++
				from = v.Type.Elem.Member()
			}
		}
		switch {
		case refused != "":
		case n.Op.Bits != nil:
			refused = "the model is quantised already"
		case n.Op.Name == "BitCast" && (isHalf(n.In[0].Type.Elem) || isHalf(n.Out[0].Type.Elem)):
			refused = "it uses the bits of its numbers"
		}
		if refused != "" {
			refused = n.Label() + ": " + refused
		}
	})
	if halves == 0 {
		return nil
	}
	if refused == "" {
		trial := g.Clone()
		if err := convert(trial); err != nil {
			refused = err.Error()
		}
	}
	if refused != "" {
		c.Log.Warn("the model goes on computing in f16 or bf16, and layers that do are not quantised", "reason", refused)
		return nil
	}
	c.Stat("values", halves)
	ir.NewRewriter(g).SetMeta(passes.WidenedFrom, from.String())
	return convert(g)
}

func isHalf(e tensor.Elem) bool { return e == tensor.F16 || e == tensor.BF16 }

// wide returns the type that a value of type t gets.
func wide(t ir.Type) ir.Type {
	if isHalf(t.Elem) {
		return t.WithElem(tensor.F32)
	}
	if t.Elem.IsSequence() && isHalf(t.Elem.Member()) {
		return t.WithElem(tensor.Sequence(tensor.F32))
	}
	return t
}

// convert makes g compute in f32.
func convert(g *ir.Graph) error {
	outs := make([]tensor.Elem, len(g.Outputs))
	for i, v := range g.Outputs {
		outs[i] = v.Type.Elem
	}
	if err := inputs(g); err != nil {
		return err
	}
	if err := body(g); err != nil {
		return err
	}
	r := ir.NewRewriter(g)
	cast := map[*ir.Value]*ir.Value{}
	for i, v := range slices.Clone(g.Outputs) {
		if v.Type.Elem == outs[i] || !isHalf(outs[i]) {
			continue
		}
		if cast[v] == nil {
			name := v.Name
			r.Rename(v, name+"_f32")
			n, err := r.Add("Cast", "", ir.MakeAttrs("to", outs[i].ONNXType()), []*ir.Value{v}, name)
			if err != nil {
				return err
			}
			cast[v] = n.Out[0]
		}
		r.SetOutput(i, cast[v])
	}
	return nil
}

// inputs casts the graph's inputs for those that use them.
func inputs(g *ir.Graph) error {
	for _, v := range g.Inputs {
		uses := slices.Clone(v.Uses())
		if !isHalf(v.Type.Elem) || len(uses) == 0 {
			continue
		}
		r := ir.NewRewriter(g).Before(g.Nodes[0])
		n, err := r.Add("Cast", "", ir.MakeAttrs("to", tensor.F32.ONNXType()), []*ir.Value{v}, v.Name+"_f32")
		if err != nil {
			return err
		}
		for _, u := range uses {
			r.SetInput(u.Node, u.Index, n.Out[0])
		}
	}
	return nil
}

// body converts the constants and nodes of a graph or subgraph.
func body(g *ir.Graph) error {
	for _, v := range slices.Clone(g.Consts) {
		if isHalf(v.Type.Elem) {
			if err := constant(g, v); err != nil {
				return err
			}
		}
	}
	for _, n := range slices.Clone(g.Nodes) {
		for _, a := range slices.Clone(n.Attrs) {
			switch x := a.Value.(type) {
			case *ir.Graph:
				for _, v := range x.Inputs {
					v.Type = wide(v.Type)
				}
				if err := body(x); err != nil {
					return err
				}
			case *tensor.Tensor:
				if isHalf(x.Elem()) {
					ir.NewRewriter(g).SetAttr(n, a.Name, tensor.FromFloat32s(tensor.F32, x.Float32s(), x.Shape()...))
				}
			case int64:
				if slices.Contains([]string{"to", "dtype", "output_dtype"}, a.Name) && isHalf(tensor.FromONNXType(int(x))) {
					ir.NewRewriter(g).SetAttr(n, a.Name, tensor.F32.ONNXType())
				}
			}
		}
		for _, v := range n.Out {
			if v != nil {
				v.Type = wide(v.Type)
			}
		}
		if err := n.Infer(); err != nil {
			return err
		}
	}
	return nil
}

// constant makes v an f32 constant, or casts it for those that use it.
func constant(g *ir.Graph, v *ir.Value) error {
	r := ir.NewRewriter(g)
	t := tensor.FromFloat32s(tensor.F32, v.Data.Float32s(), v.Data.Shape()...)
	weight := slices.ContainsFunc(v.Uses(), func(u ir.Use) bool {
		l := u.Node.Op.Layer
		return l != nil && l.Channels != nil || u.Node.Op.Name == "BatchNormalization"
	})
	if weight || v.Data.Len()*4 <= smallBytes {
		lowest := float32(-65504) // of the type that it had: it stands for "nothing" where MaxPool is padded
		if v.Type.Elem == tensor.BF16 {
			lowest = -0x1.fep127
		}
		pads := !slices.ContainsFunc(v.Uses(), func(u ir.Use) bool { return u.Node.Op.Name != "Pad" })
		if pads && t.Len() == 1 && t.Float32s()[0] == lowest {
			t = tensor.FromFloat32s(tensor.F32, []float32{-math.MaxFloat32}, v.Data.Shape()...)
		}
		r.SetData(v, t)
		return nil
	}
	uses := slices.Clone(v.Uses())
	n, err := r.Before(g.Nodes[0]).Add("Cast", "", ir.MakeAttrs("to", tensor.F32.ONNXType()), []*ir.Value{v}, v.Name+"_f32")
	if err != nil {
		return fmt.Errorf("%%%s: %w", v.Name, err)
	}
	for _, u := range uses {
		r.SetInput(u.Node, u.Index, n.Out[0])
	}
	return nil
}
