package ops

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// imported reads one node as the reader does, over an input x and constants.
func imported(t *testing.T, op string, attrs ir.Attrs, x ir.Type, in ...*tensor.Tensor) (*ir.Graph, error) {
	t.Helper()
	r := ir.NewRewriter(ir.NewGraph("t", Table()))
	vs := []*ir.Value{r.Input("x", x)}
	for _, c := range in {
		vs = append(vs, r.Const("c", c))
	}
	n, err := r.AddRaw(op, "n", attrs, vs, "y")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Op.Import(r, n, 1); err != nil {
		return nil, err
	}
	if err := n.Infer(); err != nil {
		return nil, err
	}
	r.Output(n.Out[0])
	if err := Normalize(r.Graph()); err != nil {
		return nil, err
	}
	r.RemoveUnusedConsts()
	return r.Graph(), ir.Verify(r.Graph())
}

func TestImportQONNX(t *testing.T) {
	x := ir.TensorType(tensor.F32, ir.Dims(1, 2, 2)...)
	data := tensor.Of([]float32{-3, 0.5, 1.5, 300}, 1, 2, 2)
	s := func(v float32) *tensor.Tensor { return tensor.Scalar(v) }
	cases := []struct {
		name, op string
		attrs    ir.Attrs
		in       []*tensor.Tensor
		want     []float32 // nil: refused
	}{
		{"scalar", "qonnx.custom_op.general.Quant", nil, []*tensor.Tensor{s(1), s(0), s(4)}, []float32{-3, 0, 2, 7}},
		{"IntQuant", "qonnx.custom_op.general.IntQuant", ir.MakeAttrs("signed", 0), []*tensor.Tensor{s(1), s(0), s(4)}, []float32{0, 0, 2, 15}},
		{"brevitas, lower case", "onnx.brevitas.Quant", ir.MakeAttrs("rounding_mode", "floor"), []*tensor.Tensor{s(1), s(0), s(4)}, []float32{-3, 0, 1, 7}},
		{"per channel", "finn.custom_op.general.Quant", nil, []*tensor.Tensor{tensor.Of([]float32{0.5, 2}, 1, 2, 1), s(0), s(8)}, []float32{-3, 0.5, 2, 254}},
		{"trailing dimensions", "finn.custom_op.general.Quant", nil, []*tensor.Tensor{tensor.Of([]float32{0.5, 2}, 2, 1), s(0), vec32(8)}, []float32{-3, 0.5, 2, 254}},
		{"zero point", "qonnx.custom_op.general.Quant", ir.MakeAttrs("signed", 0), []*tensor.Tensor{s(1), s(1), s(2)}, []float32{-1, 1, 1, 2}},
		{"1 bit", "qonnx.custom_op.general.Quant", nil, []*tensor.Tensor{s(2), s(0), s(1)}, []float32{-2, 2, 2, 2}},
		{"1 bit zero point", "qonnx.custom_op.general.Quant", nil, []*tensor.Tensor{s(2), s(1), s(1)}, nil},
		{"bipolar", "onnx.brevitas.BipolarQuant", nil, []*tensor.Tensor{tensor.Of([]float32{1, 2}, 1, 2, 1)}, []float32{-1, 1, 2, 2}},
		{"bits 2.5", "qonnx.custom_op.general.Quant", nil, []*tensor.Tensor{s(1), s(0), s(2.5)}, nil},
		{"two dimensions", "qonnx.custom_op.general.Quant", nil, []*tensor.Tensor{tensor.Of([]float32{1, 1, 1, 1}, 1, 2, 2), s(0), s(8)}, nil},
		{"integer scale", "qonnx.custom_op.general.Quant", nil, []*tensor.Tensor{tensor.Scalar(int32(1)), s(0), s(8)}, nil},
		{"rounding mode", "qonnx.custom_op.general.Quant", ir.MakeAttrs("rounding_mode", "NEAR"), []*tensor.Tensor{s(1), s(0), s(8)}, nil},
		{"FloatQuant", "qonnx.custom_op.general.FloatQuant", nil, []*tensor.Tensor{s(1)}, nil},
		{"Trunc 1", "qonnx.custom_op.general.Trunc", nil, []*tensor.Tensor{s(1), s(0), s(5), s(4)}, []float32{-2, 0, 1, 150}},
		{"Trunc 2", "qonnx.custom_op.general.Trunc", nil, []*tensor.Tensor{s(1), s(0), s(5), s(2), s(4)}, []float32{-4, 0, 2, 14}},
		{"Trunc with seven inputs", "qonnx.custom_op.general.Trunc", nil, []*tensor.Tensor{s(1), s(0), s(5), s(2), s(0), s(4)}, []float32{-4, 0, 2, 14}},
	}
	for _, c := range cases {
		g, err := imported(t, c.op, c.attrs, x, c.in...)
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), c.op+" n: ") {
				t.Errorf("%s: error is %v, expected one that names the node", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		y, err := ir.Eval(context.Background(), g, []*tensor.Tensor{data})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := y[0].Float32s(); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// A QONNX quantiser of constant weights becomes integers of its width.
func TestNormalizeConstant(t *testing.T) {
	w := tensor.Of([]float32{-0.9, 0.1, 3, 30}, 2, 2)
	for _, c := range []struct {
		name string
		op   string
		in   []*tensor.Tensor
		elem tensor.Elem
		want []int64
	}{
		{"per channel", "Quant", []*tensor.Tensor{tensor.Of([]float32{0.3, 1}, 2, 1), tensor.Scalar[float32](0), tensor.Scalar[float32](3)}, tensor.Int(3), []int64{-3, 0, 3, 3}},
		{"zero point", "Quant", []*tensor.Tensor{vec32(1), vec32(1), vec32(3)}, tensor.Int(3), []int64{0, 1, 3, 3}},
		{"fractional zero point", "Quant", []*tensor.Tensor{vec32(1), vec32(0.5), vec32(3)}, tensor.Invalid, nil},
		{"bipolar", "BipolarQuant", []*tensor.Tensor{vec32(0.3)}, tensor.Bipolar, []int64{-1, 1, 1, 1}},
	} {
		r := ir.NewRewriter(ir.NewGraph("t", Table()))
		vs := []*ir.Value{r.Const("w", w)}
		for _, x := range c.in {
			vs = append(vs, r.Const("c", x))
		}
		n, err := r.AddRaw("qonnx.custom_op.general."+c.op, "n", nil, vs, "y")
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Op.Import(r, n, 1); err != nil {
			t.Fatal(err)
		}
		if err := n.Infer(); err != nil {
			t.Fatal(err)
		}
		r.Output(n.Out[0])
		g := r.Graph()
		before, err := ir.Eval(context.Background(), g, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := Normalize(g); err != nil {
			t.Fatal(err)
		}
		if err := ir.Verify(g); err != nil {
			t.Fatal(err)
		}
		after, err := ir.Eval(context.Background(), g, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !tensor.Equal(before[0], after[0]) {
			t.Errorf("%s: %v became %v", c.name, before[0].Container(), after[0].Container())
		}
		if g.Outputs[0].Name != "y" || g.Nodes[0].Name != "n" {
			t.Errorf("%s: names are now %s and %s", c.name, g.Outputs[0].Name, g.Nodes[0].Name)
		}
		m := g.Nodes[len(g.Nodes)-1]
		if c.elem == tensor.Invalid {
			if m.Op.Name != "thriftc.Quant" {
				t.Errorf("%s: is now %s", c.name, m.Op.Name)
			}
		} else if q := m.ConstIn(0); m.Op.Name != "DequantizeLinear" || q.Elem() != c.elem || !slices.Equal(q.Int64s(), c.want) {
			t.Errorf("%s: got %s of %v %v, want %v", c.name, m.Op.Name, q.Elem(), q.Int64s(), c.want)
		}
	}
}
