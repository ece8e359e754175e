package onnxgo

import (
	"testing"

	gorgonia "gorgonia.org/tensor"

	"github.com/thriftc/thriftc/ir/tensor"
)

func TestConvert(t *testing.T) {
	for _, want := range []*tensor.Tensor{
		tensor.Of([]float32{1, 2, 3, 4, 5, 6}, 2, 3), tensor.Of([]int64{1}, 1), tensor.Of([]bool{true, false}, 2), tensor.Scalar(float32(2)), tensor.Of([]int8{-1}, 1, 1),
	} {
		g, err := toGorgonia(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fromGorgonia(g); err != nil || !tensor.Equal(got, want) {
			t.Errorf("%v%v became %v, %v", want.Elem(), want.Shape(), got, err)
		}
	}
	d := gorgonia.New(gorgonia.WithShape(2, 3), gorgonia.WithBacking([]float32{1, 2, 3, 4, 5, 6}))
	if err := d.T(); err != nil {
		t.Fatal(err)
	}
	if got, err := fromGorgonia(d); err != nil || !tensor.Equal(got, tensor.Of([]float32{1, 4, 2, 5, 3, 6}, 3, 2)) {
		t.Errorf("a transposed view became %v, %v", got, err)
	}
	if _, err := toGorgonia(tensor.New(tensor.F16, 2)); err == nil {
		t.Error("f16 was converted, which gorgonia lacks")
	}
}
