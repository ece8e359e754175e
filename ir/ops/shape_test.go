package ops

import (
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func TestBroadcastDims(t *testing.T) {
	n, m := ir.Symbol("N"), ir.Symbol("M")
	for _, c := range []struct {
		a, b, want []ir.Dim
		fails      bool
	}{
		{ir.Dims(2, 3), ir.Dims(3), ir.Dims(2, 3), false},
		{ir.Dims(2, 1), ir.Dims(1, 3), ir.Dims(2, 3), false},
		{ir.Dims(0), ir.Dims(1), ir.Dims(0), false},
		{ir.Dims(2), ir.Dims(3), nil, true},
		{[]ir.Dim{n}, ir.Dims(1), []ir.Dim{n}, false},
		{[]ir.Dim{n}, ir.Dims(4), ir.Dims(4), false},
		{[]ir.Dim{n}, []ir.Dim{n}, []ir.Dim{n}, false},
		{[]ir.Dim{n}, []ir.Dim{m}, []ir.Dim{ir.Unknown}, false},
		{[]ir.Dim{ir.Unknown}, []ir.Dim{ir.Unknown}, []ir.Dim{ir.Unknown}, false},
	} {
		for range 2 {
			got, err := broadcastDims(c.a, c.b)
			if (err != nil) != c.fails || err == nil && !slices.Equal(got, c.want) {
				t.Errorf("broadcastDims(%v, %v) = %v, %v; want %v", c.a, c.b, got, err, c.want)
			}
			c.a, c.b = c.b, c.a
		}
	}
}

func TestExpand(t *testing.T) {
	got, err := expand(tensor.Of([]int32{1, 2}, 2, 1), []int{2, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int32{1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2}; !slices.Equal(tensor.Data[int32](got), want) {
		t.Errorf("got %v, want %v", got.Container(), want)
	}
}

func TestAxes(t *testing.T) {
	if got, err := axesOf([]int64{-1, 0}, 3); err != nil || !slices.Equal(got, []int{2, 0}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range [][]int64{{3}, {-4}, {0, -3}} {
		if got, err := axesOf(bad, 3); err == nil {
			t.Errorf("axesOf(%v) = %v, want an error", bad, got)
		}
	}
}
