package onnx

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// ONNX Runtime computes exactly what we say a quantised graph means.
func TestRuntimeAgrees(t *testing.T) {
	ort.Need(t)
	for _, c := range []struct {
		config
		format Format
		opset  int
		level  ort.Optimise
	}{
		{config{bits: 8, signed: true}, QDQ, 13, ort.Off},
		{config{bits: 8, signed: true, narrow: true, perChannel: true}, QDQ, 17, ort.All},
		{config{bits: 8, actZero: 128, weightZero: 3}, QDQ, 17, ort.Off},
		{config{bits: 5, actZero: 11, weightZero: 31}, QDQ, 17, ort.All},
		{config{bits: 4, signed: true, perChannel: true}, QDQ, 21, ort.Off},
		{config{bits: 3, perChannel: true}, QDQ, 21, ort.All},
		{config{bits: 2, signed: true}, QCDQ, 13, ort.Off},
		{config{bits: 1, perChannel: true, weightZero: 1}, QCDQ, 17, ort.All},
	} {
		t.Run(c.String()+" "+string(c.format)+" "+string(c.level), func(t *testing.T) {
			g := c.graph(t)
			x := data(g)
			want, err := ir.Eval(context.Background(), g, []*tensor.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "m.onnx")
			if err := Write(path, g, c.format, onnxio.WriteOptions{Opset: c.opset}); err != nil {
				t.Fatal(err)
			}
			got, err := ort.Run(context.Background(), path, [][]ort.Named{{{Name: "x", Tensor: x}}}, c.level)
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range want {
				if !tensor.Equal(got[0][i].Tensor, w) {
					t.Errorf("output %d differs: %v", i, firstDifference(got[0][i].Tensor, w))
				}
			}
		})
	}
}

func firstDifference(got, want *tensor.Tensor) []any {
	g, w := got.Float32s(), want.Float32s()
	for i := range g {
		if g[i] != w[i] {
			return []any{i, g[i], w[i]}
		}
	}
	return nil
}

// What ONNX Runtime 1.31 makes of these files by itself it then refuses, unless they are
// written with care: floats behind an operator that moves signed integers at opset 21, and
// weights per channel of layers that are not fused when x64quantprecision is set.
func TestRuntimeLoads(t *testing.T) {
	ort.Need(t)
	const head = `graph {
  input %x: f32[2,4,4,4]
  const %s: f32[] = 0.1
  const %z: f32[] = 0
  const %b: f32[] = 8
  const %shape: i64[2] = [2, -1]
  const %one: i64[1] = [1]
  const %two: i64[1] = [2]
  const %first: i64[1] = [0]
  const %w: i8[3,4,1,1] = [1, -2, 3, 4, 5, -6, 7, 8, 9, 10, -127, 12]
  const %v: i8[3,4,1,1] = [4, -2, 3, 4, 5, -6, 7, 8, 9, 127, -11, 12]
  const %ws: f32[3] = [0.01, 0.02, 0.03]
  const %p: i2[3,4,1,1] = [1, -2, 0, 1, 1, -2, 0, -1, 0, 1, -2, 1]
  %q = thriftc.Quant(%x, %s, %z, %b)
`
	for _, c := range []struct {
		name, body string
		opset      int
		level      ort.Optimise
	}{
		{"Reshape", `%m = Reshape(%q, %shape)
  %y = Sigmoid(%m)`, 21, ort.All},
		{"Transpose, output", `%y = Transpose(%q) {perm = [0, 2, 3, 1]}`, 21, ort.All},
		{"Slice", `%m = Slice(%q, %first, %one, %one)
  %y = Sigmoid(%m)`, 25, ort.All},
		{"MaxPool, Transpose", `%m = MaxPool(%q) {kernel_shape = [2, 2]}
  %n = Transpose(%m) {perm = [0, 2, 3, 1]}
  %y = Sigmoid(%n)`, 21, ort.All},
		{"Unsqueeze, Squeeze", `%m = Unsqueeze(%q, %one)
  %n = Squeeze(%m, %one)
  %y = Exp(%n)`, 23, ort.All},
		{"moved on from one of two users", `%m = Unsqueeze(%q, %one)
  %n = Squeeze(%m, %one)
  %e = Exp(%n)
  %k = Squeeze(%m, %one)
  %f = Sigmoid(%k)
  %y = Add(%e, %f)`, 21, ort.All},
		{"two bits", `%d = DequantizeLinear(%p, %ws) {axis = 0}
  %c = Conv(%q, %d)
  %y = thriftc.Quant(%c, %s, %z, %b)`, 25, ort.All},
		{"two heads", `%d = DequantizeLinear(%w, %ws) {axis = 0}
  %e = DequantizeLinear(%v, %ws) {axis = 0}
  %c = Conv(%q, %d)
  %f = Conv(%q, %e)
  %g = Exp(%c)
  %h = Sigmoid(%f)
  %y = Mul(%g, %h)`, 17, ort.Precise},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := irtest.Parse(t, head+"  "+c.body+"\n  output %y\n}", ops.Table())
			x := irtest.Inputs(g, 1)[0]
			want, err := ir.Eval(context.Background(), g, []*tensor.Tensor{x})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "m.onnx")
			if err := Write(path, g, QDQ, onnxio.WriteOptions{Opset: c.opset}); err != nil {
				t.Fatal(err)
			}
			for _, level := range []ort.Optimise{ort.Off, c.level} {
				got, err := ort.Run(context.Background(), path, [][]ort.Named{{{Name: "x", Tensor: x}}}, level)
				if err != nil {
					t.Fatalf("optimisations %s: %v", level, err)
				}
				if far := farthest(got[0][0].Tensor, want[0]); far > 1e-6 {
					t.Errorf("optimisations %s: differs by %g of the largest number", level, far)
				}
			}
		})
	}
}
