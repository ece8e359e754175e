package onnx

import (
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

const convGraph = `graph {
  input %x: f32[N,4,5,5]
  const %s: f32[] = 0.125
  const %z: f32[] = 0
  const %b: f32[] = 8
  const %w: i8[3,4,2,2] = [1, -2, 3, 4, 5, -6, 7, 8, 9, 10, -127, 12, 1, -2, 3, 4, 5, -6, 7, 8, 9, 10, -127, 12, 1, -2, 3, 4, 5, -6, 7, 8, 9, 10, -127, 12, 1, -2, 3, 4, 5, -6, 7, 8, 9, 10, -127, 12]
  const %ws: f32[3] = [0.25, 0.5, 0.125]
  const %bias: i32[3] = [70000, BIG, -3]
  const %bs: f32[] = 0.03
  %q = thriftc.Quant(%x, %s, %z, %b) {signed = 1}
  %d = DequantizeLinear(%w, %ws) {axis = 0}
  %c = DequantizeLinear(%bias, %bs)
  %v = Conv(%q, %d, %c) {auto_pad = "SAME_UPPER", strides = [2, 2]}
  %m = MaxPool(%v) {kernel_shape = [2, 2]}
  %y = thriftc.Quant(%m, %s, %z, %b) {signed = 1}
  output %y
}`

// What the readers of qonnx and qcdq look up without knowing ONNX's defaults is written out.
func TestForReaders(t *testing.T) {
	g := irtest.Parse(t, strings.Replace(convGraph, "BIG", "5", 1), ops.Table())
	for _, f := range []Format{QONNX, QCDQ} {
		c, problems := Lower(g, f, 17)
		if problems != nil {
			t.Fatal(problems)
		}
		for _, n := range c.Nodes {
			switch n.Op.Name {
			case "Conv":
				for name, want := range map[string][]int64{"kernel_shape": {2, 2}, "strides": {2, 2}, "dilations": {1, 1}, "pads": {0, 0, 1, 1}} {
					if got, _ := n.Attrs.Get(name).([]int64); !slices.Equal(got, want) {
						t.Errorf("%s: %s is %v, want %v", f, name, got, want)
					}
				}
				if n.Attrs.Get("group") != int64(1) || n.Attrs.Has("auto_pad") {
					t.Errorf("%s: Conv with %v", f, n.Attrs)
				}
			case "MaxPool":
				if !n.Attrs.Has("strides") || !n.Attrs.Has("pads") || !n.Attrs.Has("dilations") {
					t.Errorf("%s: MaxPool with %v", f, n.Attrs)
				}
			case "DequantizeLinear":
				if z := n.Input(2); z == nil || !slices.Equal(z.Data.Shape(), n.In[1].Data.Shape()) {
					t.Errorf("%s: %s has zero point %v", f, n.Label(), z)
				}
			case qonnxDomain + "Quant":
				want := 0
				if n.In[0].Type.Rank() == 1 {
					want = 1
				}
				if a, b := n.In[1].Type.Rank(), n.In[2].Type.Rank(); n.In[1].Data.Len() == 1 && (a != want || b != want) {
					t.Errorf("Quant %s of rank %d has scale and zero point of ranks %d and %d", n.Label(), n.In[0].Type.Rank(), a, b)
				}
			}
		}
		back := through(t, g, f, 17)
		want, err := ir.Eval(t.Context(), g, irtest.Inputs(g, 1))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ir.Eval(t.Context(), back, irtest.Inputs(g, 1))
		if err != nil {
			t.Fatal(err)
		}
		irtest.Equal(t, string(f), got[0], want[0])
	}
}

// A bias whose integers no float reaches has no Quant: its numbers are written.
func TestBigBias(t *testing.T) {
	// The nearest floats to −7572377 · 0.0006944215 are other integers.
	g := irtest.Parse(t, strings.NewReplacer("BIG", "-7572377", "0.03", "0.0006944215").Replace(convGraph), ops.Table())
	c, problems := Lower(g, QONNX, 17)
	if problems != nil {
		t.Fatal(problems)
	}
	for _, n := range c.Nodes {
		if n.Op.Name == "Conv" {
			if b := n.ConstIn(2); b == nil || b.Elem() != tensor.F32 {
				t.Errorf("the bias is %v", n.In[2])
			}
		}
	}
	in := irtest.Inputs(g, 1)
	want, err1 := ir.Eval(t.Context(), g, in)
	got, err2 := ir.Eval(t.Context(), through(t, g, QONNX, 17), in)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	irtest.Equal(t, "results", got[0], want[0])
}

// Limits that are no bit width's range have no Quant; what is left of the pair is named.
func TestNoForm(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[2]
  const %s: f32[] = 0.1
  const %z: i8[] = 0
  const %lo: i8[] = -5
  const %hi: i8[] = 5
  %q = QuantizeLinear(%x, %s, %z)
  %c = Clip(%q, %lo, %hi)
  %y = DequantizeLinear(%c, %s, %z)
  output %y
}`, ops.Table())
	_, problems := Lower(g, QONNX, 17)
	var names []string
	for _, p := range problems {
		names = append(names, p.Node)
	}
	if got := strings.Join(names, " "); got != "%q %y" {
		t.Errorf("problems of %s: %v", got, problems)
	}
	for _, f := range []Format{QDQ, QCDQ} {
		if _, problems := Lower(g, f, 17); problems != nil {
			t.Errorf("%s: %v", f, problems)
		}
	}
}

func TestRuntimeNotes(t *testing.T) {
	g := irtest.Parse(t, strings.Replace(convGraph, "BIG", "5", 1), ops.Table())
	four := irtest.Parse(t, strings.NewReplacer("BIG", "5", "%w: i8", "%w: i4", "-127", "-7", "12", "2", "10", "0", "9", "1", "8,", "7,").Replace(convGraph), ops.Table())
	seven := irtest.Parse(t, strings.NewReplacer("BIG", "5", "-127", "-64").Replace(convGraph), ops.Table())
	for _, c := range []struct {
		g      *ir.Graph
		format Format
		opset  int
		want   string
	}{
		{g, QDQ, 17, "saturate in %v; set session.x64quantprecision"},
		{g, QCDQ, 17, "saturate in %v"},
		{g, QONNX, 17, ""},
		{seven, QDQ, 17, ""},
		{four, QDQ, 21, "computes in float: %v; --opset 17"},
		{four, QDQ, 17, ""},
	} {
		got := strings.Join(RuntimeNotes(c.g, c.format, c.opset), "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s at opset %d: %q, want %q", c.format, c.opset, got, c.want)
		}
	}
}
