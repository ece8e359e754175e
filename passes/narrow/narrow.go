// Package narrow stores the constants that are left of what widen has widened as they were, where they are
// large, with a Cast behind them. Results stay equal bit for bit.
//
//	%y = Conv(%x, f32 %w)    →    %a: f32 = Cast(f16 %w); %y = Conv(%x, %a)
package narrow

import (
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "narrow",
	Doc: `Stores what is left in f32 of a model that came in f16 or bf16 as it came.
Constants of more than 4 KiB get a Cast behind them. Results stay equal bit for bit.`,
	Kind: passes.Exact,
	New:  func() passes.Pass { return &pass{} },
}

type pass struct{}

// smallBytes is the most that a constant may take and stay as it is.
const smallBytes = 4096

// Run implements passes.Pass.
func (*pass) Run(c *passes.Context, g *ir.Graph) error {
	elem, err := tensor.ParseElem(g.MetaValue(passes.WidenedFrom))
	if err != nil {
		return nil
	}
	r := ir.NewRewriter(g)
	r.SetMeta(passes.WidenedFrom, "")
	count := 0
	for _, v := range slices.Clone(g.Consts) {
		if v.Type.Elem != tensor.F32 || v.Data.Len()*4 <= smallBytes || v.IsOutput() {
			continue
		}
		x := v.Data.Float32s()
		t := tensor.FromFloat32s(elem, x, v.Data.Shape()...)
		if !slices.Equal(t.Float32s(), x) {
			continue
		}
		uses := slices.Clone(v.Uses())
		r.SetData(v, t)
		n, err := r.Before(g.Nodes[0]).Add("Cast", "", ir.MakeAttrs("to", tensor.F32.ONNXType()), []*ir.Value{v}, v.Name+"_f32")
		if err != nil {
			return err
		}
		for _, u := range uses {
			r.SetInput(u.Node, u.Index, n.Out[0])
		}
		count++
	}
	c.Stat("stored", count)
	return nil
}
