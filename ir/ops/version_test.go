package ops

import (
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// TestExportImport writes nodes in an older form and reads them back: they
// must still compute the same. A form that cannot say it must be refused.
func TestExportImport(t *testing.T) {
	x, img := seq(tensor.F32, 2, 3), seq(tensor.F32, 1, 1, 2, 2)
	grid := f32s([]float32{0, 0.5}, 1, 1, 1, 2)
	roi := f32s([]float32{0, 0, 2, 2}, 1, 4)
	half := func(m string) attrs { return ir.MakeAttrs("coordinate_transformation_mode", m) }
	for _, c := range []struct {
		opCase
		opset  int
		refuse bool
	}{
		{opCase{"Shape", ir.MakeAttrs("start", -1), ts{x}, nil}, 13, false},
		{opCase{"Shape", ir.MakeAttrs("end", 1), ts{x}, nil}, 13, false},
		{opCase{"ReduceMean", nil, ts{x, ints(1)}, nil}, 13, false},
		{opCase{"ReduceMax", ir.MakeAttrs("noop_with_empty_axes", 1), ts{x}, nil}, 13, false},
		{opCase{"ReduceL1", ir.MakeAttrs("keepdims", 0), ts{x}, nil}, 17, false},
		{opCase{"Pad", nil, ts{x, ints(1, 2), nil, ints(1)}, nil}, 17, false},
		{opCase{"Pad", ir.MakeAttrs("mode", "wrap"), ts{x, ints(1, 2, 0, 0)}, nil}, 18, true},
		{opCase{"Split", ir.MakeAttrs("axis", 1, "num_outputs", 2), ts{x}, nil}, 13, false},
		{opCase{"Split", ir.MakeAttrs("axis", 0, "num_outputs", 2), ts{x}, nil}, 13, false},
		{opCase{"Reshape", ir.MakeAttrs("allowzero", 1), ts{x, ints(3, 2)}, nil}, 13, false},
		{opCase{"Reshape", ir.MakeAttrs("allowzero", 1), ts{seq(tensor.F32, 0, 3), ints(3, 0)}, nil}, 13, true},
		{opCase{"CastLike", nil, ts{x, ints(1)}, nil}, 13, false},
		{opCase{"Resize", ir.MakeAttrs("axes", []int{3}), ts{img, nil, f32s([]float32{2}, 1)}, nil}, 13, false},
		{opCase{"Resize", ir.MakeAttrs("axes", []int{2}), ts{img, nil, nil, ints(5)}, nil}, 17, false},
		{opCase{"Resize", ir.MakeAttrs("antialias", 1), ts{img, nil, nil, ints(1, 1, 1, 1)}, nil}, 13, true},
		{opCase{"GridSample", ir.MakeAttrs("mode", "cubic"), ts{img, grid}, nil}, 16, false},
		{opCase{"GridSample", nil, ts{img, grid}, nil}, 13, true},
		{opCase{"RoiAlign", half("output_half_pixel"), ts{img, roi, ints(0)}, nil}, 13, false},
		{opCase{"RoiAlign", nil, ts{img, roi, ints(0)}, nil}, 13, true},
		{opCase{"ScatterElements", nil, ts{x, tensor.Of([]int64{1}, 1, 1), f32s([]float32{9}, 1, 1)}, nil}, 13, false},
		{opCase{"ScatterND", ir.MakeAttrs("reduction", "max"), ts{x, tensor.Of([]int64{1}, 1, 1), seq(tensor.F32, 1, 3)}, nil}, 17, true},
		{opCase{"RNN", ir.MakeAttrs("layout", 0), ts{seq(tensor.F32, 1, 1, 1), seq(tensor.F32, 1, 1, 1), seq(tensor.F32, 1, 1, 1)}, nil}, 13, false},
		{opCase{"DFT", nil, ts{img, nil, tensor.Scalar(int64(2))}, nil}, 17, false},
	} {
		g := ir.NewGraph("g", Table())
		outs := 1
		if c.op == "Split" {
			outs = 2
		}
		n, args, err := c.addTo(g, outs, func(i int) bool { return i > 0 })
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		want, err := ir.Eval(t.Context(), g, args)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if c.opset >= n.Op.Since {
			t.Errorf("%v: opset %d has the form of the IR", c, c.opset)
		}
		if err := n.Op.Export(ir.NewRewriter(g).Before(n), n, c.opset); (err != nil) != c.refuse {
			t.Errorf("%v: export to opset %d: got error %v, want one: %v", c, c.opset, err, c.refuse)
		}
		if c.refuse {
			continue
		}
		for _, m := range slices.Clone(g.Nodes) {
			if m.Op.Import != nil {
				if err := m.Op.Import(ir.NewRewriter(g).Before(m), m, c.opset); err != nil {
					t.Errorf("%v: import: %v", c, err)
				}
			}
		}
		if err := ir.Verify(g); err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		got, err := ir.Eval(t.Context(), g, args)
		if err != nil || !slices.EqualFunc(got, want, tensor.Equal) {
			t.Errorf("%v: written at opset %d it computes %v, %v", c, c.opset, got, err)
		}
	}
}
