package dataset

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// What a record of a shape becomes in an input, and how many the model takes at a time.
func TestBind(t *testing.T) {
	for _, c := range []struct {
		input       string
		given       []int
		records     int
		shape       []int // of each batch
		batches     int
		impossible  bool
		description string
	}{
		{"f32[N,1,28,28]", []int{1, 28, 28}, 5, []int{2, 1, 28, 28}, 3, false, "as it is"},
		{"f32[N,1,784,1]", []int{1, 28, 28}, 5, []int{2, 1, 784, 1}, 3, false, "a row among ones"},
		{"f32[N,784]", []int{1, 28, 28}, 4, []int{2, 784}, 2, false, "flattened"},
		{"f32[N,1,28,28]", []int{1, 1, 28, 28}, 4, []int{2, 1, 28, 28}, 2, false, "a batch of one"},
		{"f32[4,3]", []int{3}, 6, []int{4, 3}, 2, false, "a fixed batch, filled up"},
		{"f32[4,3]", []int{3}, 3, []int{4, 3}, 1, false, "a fixed batch, larger than the data"},
		{"f32[2,1,8]", []int{2, 1, 8}, 3, []int{2, 1, 8}, 3, false, "a state"},
		{"f32[2,1,8]", []int{2, 8}, 3, []int{2, 1, 8}, 3, false, "a state without its batch"},
		{"f32[]", []int{}, 3, []int{}, 3, false, "a scalar"},
		{"f32[N,3,8]", []int{8, 3}, 3, nil, 0, true, "turned around"},
		{"f32[2,8]", []int{3}, 3, nil, 0, true, "too few numbers"},
	} {
		g := irtest.Parse(t, "graph {\n  input %x: "+c.input+"\n  %y = Relu(%x)\n  output %y\n}", ops.Table())
		dir := t.TempDir()
		x := tensor.New(tensor.F32, append([]int{c.records}, c.given...)...)
		if err := WriteNPZ(filepath.Join(dir, "x.npz"), []Named{{"x", x}}); err != nil {
			t.Fatal(err)
		}
		desc := filepath.Join(dir, "d.yaml")
		if err := os.WriteFile(desc, []byte("kind: npz\npath: x.npz\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := Open(desc)
		if err != nil {
			t.Fatal(err)
		}
		src, err := set.For(g)
		if c.impossible {
			if err == nil {
				t.Errorf("%s: accepted", c.description)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.description, err)
			continue
		}
		batches := 0
		for in, err := range src.Batches(2) {
			if err != nil {
				t.Fatal(err)
			}
			if batches++; batches == 1 && !slices.Equal(in[0].Shape(), c.shape) {
				t.Errorf("%s: batches of %v, expected %v", c.description, in[0].Shape(), c.shape)
			}
		}
		if batches != c.batches {
			t.Errorf("%s: %d batches, expected %d", c.description, batches, c.batches)
		}
	}
}
