package onnx

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
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
