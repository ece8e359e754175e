package onnxio

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

func decodeText(t *testing.T, text string) *ir.Graph {
	t.Helper()
	g, err := Decode(encodeText(t, text), "", ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// again writes g and reads it back.
func again(t *testing.T, g *ir.Graph, o WriteOptions) (*ir.Graph, *onnxpb.ModelProto) {
	t.Helper()
	data, err := Encode(g, o)
	if err != nil {
		t.Fatal(err)
	}
	var m onnxpb.ModelProto
	if err := proto.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	back, err := Decode(data, "", ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	return back, &m
}

func TestWriteKeepsNames(t *testing.T) {
	g := decodeText(t, `producer_name: "p" producer_version: "v" domain: "d" model_version: 3 doc_string: "md" metadata_props { key: "k" value: "v" }`+
		graph(`doc_string: "gd" `+strings.Replace(x, `name: "x"`, `name: "x" doc_string: "xd"`, 1)+
			`initializer { name: "w" dims: 2 data_type: 1 float_data: 1 float_data: 2 doc_string: "wd" }`+
			node("Add", "x w", "s", `name: "add" doc_string: "nd"`)+node("Relu", "s", "y")+
			`value_info { name: "s" doc_string: "sd" }`+y))
	back, m := again(t, g, WriteOptions{})
	irtest.SameGraph(t, back, g)
	if !slices.Equal(back.Meta, g.Meta) || len(g.Meta) != 6 || back.Doc != "gd" {
		t.Errorf("metadata %v, doc %q, want %v", back.Meta, back.Doc, g.Meta)
	}
	if v := back.Value("s"); v.Doc != "sd" || v.Def.Name != "add" || v.Def.Doc != "nd" || back.Value("w").Doc != "wd" || back.Value("x").Doc != "xd" {
		t.Error("documentation was lost")
	}
	if m.GetIrVersion() != 8 || m.OpsetImport[0].GetVersion() != 17 || m.GetModelVersion() != 3 {
		t.Errorf("IR version %d, opset %d, model version %d", m.GetIrVersion(), m.OpsetImport[0].GetVersion(), m.GetModelVersion())
	}
}

func TestWriteInferredTypes(t *testing.T) {
	// Of s nothing but inference is needed; the rank of r is known from the file alone.
	g := decodeText(t, graph(x+`input { name: "shape" type { tensor_type { elem_type: 7 shape { dim { } } } } }`+node("Relu", "x", "s")+node("Reshape", "s shape", "r")+node("Neg", "r", "y")+y+
		`value_info { name: "r" type { tensor_type { elem_type: 1 shape { dim { dim_value: 3 } dim { } } } } }`))
	back, m := again(t, g, WriteOptions{})
	if len(m.Graph.ValueInfo) != 1 || m.Graph.ValueInfo[0].GetName() != "r" {
		t.Errorf("value_info %v, want r alone", m.Graph.ValueInfo)
	}
	if got := back.Value("r").Type.String(); got != "f32[3,?]" {
		t.Errorf("r is %s", got)
	}
}

func TestWriteForConverters(t *testing.T) {
	g := decodeText(t, graph(x+weight("w", 1, 2)+weight("v", 1, 2)+node("Add", "x w", "s")+node("Add", "s v", "y")+y))
	_, m := again(t, g, WriteOptions{ForConverters: true})
	var names []string
	for _, v := range m.Graph.ValueInfo {
		names = append(names, v.GetName())
	}
	if !slices.Equal(names, []string{"w", "v", "s"}) {
		t.Errorf("value_info of %q, want the constants and the computed value", names)
	}
}

// dequantized is a graph that adds to x a weight of element type e.
func dequantized(t *testing.T, e tensor.Elem, vals ...int64) *ir.Graph {
	t.Helper()
	g := ir.NewGraph("g", ops.Table())
	r := ir.NewRewriter(g)
	in := r.Input("x", ir.TensorType(tensor.F32, ir.Dims(len(vals))...))
	w := r.Const("w", tensor.FromInt64s(e, vals, len(vals)))
	d := r.Must1("DequantizeLinear", "dq", nil, w, r.Float("s", 0.5))
	r.Output(r.Must1("Add", "add", nil, in, d))
	return g
}

func TestWriteWidths(t *testing.T) {
	for _, c := range []struct {
		elem       tensor.Elem
		opset      int
		int2       bool
		wantOpset  int64
		wantType   onnxpb.TensorProto_DataType
		annotation string
		err        string
	}{
		{elem: tensor.I8, wantOpset: 17, wantType: onnxpb.TensorProto_INT8},
		{elem: tensor.I4, wantOpset: 21, wantType: onnxpb.TensorProto_INT4},
		{elem: tensor.U4, wantOpset: 21, wantType: onnxpb.TensorProto_UINT4},
		{elem: tensor.I4, opset: 17, wantOpset: 17, wantType: onnxpb.TensorProto_INT8, annotation: "INT4"},
		{elem: tensor.Int(2), wantOpset: 21, wantType: onnxpb.TensorProto_INT4, annotation: "INT2"},
		{elem: tensor.Int(2), opset: 25, wantOpset: 25, wantType: onnxpb.TensorProto_INT4, annotation: "INT2"},
		{elem: tensor.Int(2), opset: 25, int2: true, wantOpset: 25, wantType: onnxpb.TensorProto_INT2},
		{elem: tensor.Int(3), wantOpset: 21, wantType: onnxpb.TensorProto_INT4, annotation: "INT3"},
		{elem: tensor.Uint(3), opset: 17, wantOpset: 17, wantType: onnxpb.TensorProto_UINT8, annotation: "UINT3"},
		{elem: tensor.Int(5), wantOpset: 17, wantType: onnxpb.TensorProto_INT8, annotation: "INT5"},
		{elem: tensor.Bipolar, wantOpset: 17, wantType: onnxpb.TensorProto_INT8, annotation: "BIPOLAR"},
		{elem: tensor.I8, opset: 12, err: "opset 12 cannot be written (13 to 25 can)"},
	} {
		vals := []int64{1, 1, 1}
		g := dequantized(t, c.elem, vals...)
		if c.err != "" {
			if _, err := Encode(g, WriteOptions{Opset: c.opset, Int2: c.int2}); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v at opset %d: error %v, want %q", c.elem, c.opset, err, c.err)
			}
			continue
		}
		back, m := again(t, g, WriteOptions{Opset: c.opset, Int2: c.int2})
		if got := m.Graph.Initializer[0].GetDataType(); got != int32(c.wantType) || m.OpsetImport[0].GetVersion() != c.wantOpset {
			t.Errorf("%v: written as %v at opset %d, want %v at %d", c.elem, got, m.OpsetImport[0].GetVersion(), c.wantType, c.wantOpset)
		}
		if got := m.Graph.QuantizationAnnotation; c.annotation == "" && len(got) > 0 || c.annotation != "" && (len(got) != 1 || got[0].QuantParameterTensorNames[0].GetValue() != c.annotation) {
			t.Errorf("%v: annotations %v, want %q", c.elem, got, c.annotation)
		}
		irtest.SameGraph(t, back, g)
	}
}

func TestWriteRefuses(t *testing.T) {
	g := ir.NewGraph("g", ops.Table())
	r := ir.NewRewriter(g)
	in := r.Input("x", ir.TensorType(tensor.F32, ir.Dims(2)...))
	q := r.Must1("QuantizeLinear", "q", nil, in, r.Float("s", 1), r.Const("z", tensor.FromInt64s(tensor.Int(5), []int64{0})))
	r.Output(r.Must1("DequantizeLinear", "dq", nil, q, r.Float("s2", 1)))
	_, err := Encode(g, WriteOptions{})
	var u *Unsupported
	if !errors.As(err, &u) || len(u.Problems) != 1 || u.Problems[0].Node != "QuantizeLinear q" {
		t.Errorf("arithmetic on i5: %v", err)
	}

	p := ir.NewGraph("g", ops.Table())
	r = ir.NewRewriter(p)
	w := r.Param("w", tensor.Of([]float32{1}, 1))
	r.Output(r.Must1("Relu", "", nil, w))
	r.SetUpdates([]ir.Update{{Param: w, Next: p.Outputs[0]}})
	if _, err := Encode(p, WriteOptions{}); !errors.As(err, &u) || !strings.Contains(err.Error(), "updates parameters") {
		t.Errorf("updates: %v", err)
	}
}

func TestWriteMergesEqualConstants(t *testing.T) {
	g := ir.NewGraph("g", ops.Table())
	r := ir.NewRewriter(g)
	v := r.Input("x", ir.TensorType(tensor.F32, ir.Dims(2)...))
	for _, w := range [][]float32{{1, 2}, {1, 2}, {0, 0}, {0, 0}} {
		v = r.Must1("Add", "", nil, v, r.Const("w", tensor.Of(w, 2)))
	}
	r.Output(v)
	back, _ := again(t, g, WriteOptions{})
	// The two biases of zeros are equal by coincidence.
	if len(g.Consts) != 4 || len(back.Consts) != 3 || back.Nodes[0].In[1] != back.Nodes[1].In[1] || back.Nodes[2].In[1] == back.Nodes[3].In[1] {
		t.Errorf("%d constants were written as %d", len(g.Consts), len(back.Consts))
	}
}

func TestWriteExternal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	g := ir.NewGraph("g", ops.Table())
	r := ir.NewRewriter(g)
	v := r.Input("x", ir.TensorType(tensor.F32, ir.Dims(300)...))
	for i := range 3 {
		w := make([]float32, 300)
		for j := range w {
			w[j] = float32(i*j) + 0.5
		}
		v = r.Must1("Add", "", nil, v, r.Const("w", tensor.Of(w, 300)))
	}
	v = r.Must1("Add", "", nil, v, r.Float("small", 1))
	r.Output(v)
	if err := Write(path, g, WriteOptions{ExternalThreshold: 1000}); err != nil {
		t.Fatal(err)
	}
	back, err := Read(path, ops.Table())
	if err != nil {
		t.Fatal(err)
	}
	irtest.SameGraph(t, back, g)
	first, _ := os.ReadFile(path)
	data, err := os.ReadFile(path + ".data")
	if err != nil || len(data) != 2*pageSize+1200 || len(first) > 1000 {
		t.Errorf("data file of %d bytes, %v, model of %d bytes", len(data), err, len(first))
	}
	if err := Write(path, g, WriteOptions{ExternalThreshold: 1000}); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(path); !bytes.Equal(first, second) {
		t.Error("written again, the file differs")
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 {
		t.Errorf("files left: %v", entries)
	}
	if err := Write(filepath.Join(dir, "missing", "m.onnx"), g, WriteOptions{}); err == nil {
		t.Error("written into a folder that does not exist")
	}
}
