package dataset

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// sharedDir returns a folder of the development data that stands beside the
// checkout, and skips the test where it does not, except in CI.
func sharedDir(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", "data", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the development data is missing: %v", err)
		}
		t.Skipf("SKIPPED, the development data is missing: %v", err)
	}
	return dir
}

// graphWith returns a graph that has nothing but inputs.
func graphWith(types ...ir.Type) *ir.Graph {
	g := ir.NewGraph("test", ir.NewRegistry())
	for i, t := range types {
		g.Inputs = append(g.Inputs, &ir.Value{Name: string(rune('x' + i)), Kind: ir.Input, Type: t})
	}
	return g
}

func image4(c, h, w int) ir.Type {
	return ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(c), ir.Fixed(h), ir.Fixed(w))
}

func writeDesc(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "desc.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSharedData opens real data of several kinds and looks at sums that were
// computed once with other tools.
func TestSharedData(t *testing.T) {
	cases := []struct {
		dir, desc string
		input     ir.Type
		n         int
		labels    []int // of the first records
	}{
		{"imagenet-sample", `
kind: image-list
labels: labels.tsv
preprocess: {resize: 256, crop: 224, color: rgb, layout: nchw, mean: [127.5, 127.5, 127.5], std: [127.5, 127.5, 127.5], label_offset: 1}`,
			image4(3, 224, 224), 729, []int{2, 3, 4}},
		{"mnist", "kind: idx\nsplit: test\npreprocess: {mean: 0.1307, std: 0.3081, scale: 0.00392156862745098}",
			image4(1, 28, 28), 10000, []int{7, 2, 1, 0, 4}},
		{"tiny/vww01", `
kind: image-list
files: [sheet_0.png, sheet_1.png, sheet_2.png, sheet_3.png, sheet_4.png]
tile: [96, 96]
labels: labels.csv
columns: [index, name, label]
preprocess: {scale: 0.00392156862745098}`, image4(3, 96, 96), 500, []int{1, 1, 1, 1}},
		{"tiny/kws01", `
kind: raw
files: [mfcc_49x10.i8]
elem: int8
shape: [1, 49, 10]
labels: labels.csv
columns: [index, name, label]
preprocess: {offset: 83, scale: 0.5847029}`, image4(1, 49, 10), 500, []int{7, 6, 5, 8}},
	}
	for _, c := range cases {
		t.Run(c.dir, func(t *testing.T) {
			set, err := Open(writeDesc(t, c.desc+"\npath: "+sharedDir(t, c.dir)))
			if err != nil {
				t.Fatal(err)
			}
			if set.Len() != c.n {
				t.Errorf("%d records, want %d", set.Len(), c.n)
			}
			for i, l := range c.labels {
				if set.Label(i) != l {
					t.Errorf("label %d is %d, want %d", i, set.Label(i), l)
				}
			}
			src, err := set.Take(25).For(graphWith(c.input))
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for b, err := range src.Batches(10) {
				if err != nil {
					t.Fatal(err)
				}
				if !ir.TypeOf(b[0]).Compatible(c.input) {
					t.Fatalf("batch is %v", ir.TypeOf(b[0]))
				}
				seen += b[0].Shape()[0]
			}
			if seen != 25 {
				t.Errorf("%d samples came, want 25", seen)
			}
		})
	}
}
