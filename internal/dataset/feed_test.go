package dataset

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// numbered makes a labelled set of n gray pictures of 4×3 pixels, the first of
// which holds 1 to 12, the next 13 to 24; labels count up modulo 3. It returns the set as inputs of a model.
func numbered(t *testing.T, n int) *Source {
	t.Helper()
	dir := t.TempDir()
	x := make([]float32, n*12)
	labels := "index\n"
	for i := range x {
		x[i] = float32(i + 1)
	}
	for i := range n {
		labels += fmt.Sprintln(i % 3)
	}
	put(t, dir, "x.npy", npyOf(t, tensor.Of(x, n, 1, 4, 3)))
	put(t, dir, "labels.csv", []byte(labels))
	put(t, dir, "d.yaml", []byte("kind: npy\nfiles: [x.npy]\nlabels: labels.csv\n"))
	set, err := Open(filepath.Join(dir, "d.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	g := ir.NewGraph("g", ir.NewRegistry())
	ir.NewRewriter(g).Input("x", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Fixed(1), ir.Fixed(4), ir.Fixed(3)))
	src, err := set.For(g)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func batches(t *testing.T, f *Feed, from, n int) []*Batch {
	t.Helper()
	next, stop, err := f.Start(context.Background(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	var out []*Batch
	for range n {
		b, err := next()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func TestFeed(t *testing.T) {
	src := numbered(t, 10)
	feed := func(seed uint64, a Augment) *Feed {
		f, err := NewFeed(src, 4, 3, seed, a)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	all := Augment{Crop: 2, Flip: true, Brightness: 0.5, Contrast: 0.5, Saturation: 0.5, Cutout: 2, Mixup: 0.5}
	f := feed(1, all)
	if f.PerEpoch() != 2 {
		t.Fatalf("%d batches in an epoch", f.PerEpoch())
	}
	run := batches(t, f, 0, 6)
	for i, b := range batches(t, feed(1, all), 3, 3) {
		if want := run[3+i]; !tensor.Equal(b.In[0], want.In[0]) || !tensor.Equal(b.Target, want.Target) || !slices.Equal(b.Labels, want.Labels) {
			t.Errorf("batch %d differs when the feed starts at 3", 3+i)
		}
	}
	if tensor.Equal(run[0].In[0], run[2].In[0]) {
		t.Error("two epochs begin alike")
	}
	if tensor.Equal(run[0].In[0], batches(t, feed(2, all), 0, 1)[0].In[0]) {
		t.Error("two seeds begin alike")
	}
	// Without augmentation an epoch holds every sample at most once, with its label.
	seen := map[int]bool{}
	for _, b := range batches(t, feed(1, Augment{}), 0, 2) {
		for i, l := range b.Labels {
			x := b.In[0].Float32s()[12*i:][:12]
			n := int(x[0]) / 12
			if seen[n] || l != n%3 || x[11] != x[0]+11 || b.Target.Float32s()[3*i+l] != 1 {
				t.Errorf("sample %d: label %d, %v", n, l, x)
			}
			seen[n] = true
		}
	}
	if got := src.Set().Counts(4); !slices.Equal(got, []int{4, 3, 3, 0}) {
		t.Errorf("counts %v", got)
	}
}

// TestAugmentations looks at each one alone on many draws.
func TestAugmentations(t *testing.T) {
	src := numbered(t, 1)
	sample := src.set
	for _, c := range []struct {
		name  string
		a     Augment
		check func(x []float32) error
	}{
		{"crop", Augment{Crop: 1}, func(x []float32) error {
			// What is inside keeps its neighbours: one step right is 1, one step down 3.
			for i, v := range x {
				if v != 0 && i%3 < 2 && x[i+1] != 0 && x[i+1] != v+1 || v != 0 && i < 9 && x[i+3] != 0 && x[i+3] != v+3 {
					return fmt.Errorf("neighbours changed")
				}
			}
			return nil
		}},
		{"flip", Augment{Flip: true}, func(x []float32) error {
			if !slices.Equal(x[:3], []float32{1, 2, 3}) && !slices.Equal(x[:3], []float32{3, 2, 1}) {
				return fmt.Errorf("neither as it was nor mirrored")
			}
			return nil
		}},
		{"brightness", Augment{Brightness: 0.5}, func(x []float32) error { return ratio(x, x[11]/12, 0, 0.5, 1.5) }},
		{"contrast", Augment{Contrast: 0.5}, func(x []float32) error { return ratio(x, (x[11]-6.5)/5.5, 6.5, 0.5, 1.5) }},
		{"saturation", Augment{Saturation: 1}, func(x []float32) error { return ratio(x, 1, 0, 1, 1) }}, // of one channel
		{"cutout", Augment{Cutout: 2}, func(x []float32) error {
			zeros := 0
			for i, v := range x {
				if v == 0 {
					zeros++
				} else if v != float32(i+1) {
					return fmt.Errorf("element %d changed", i)
				}
			}
			if zeros != 1 && zeros != 2 && zeros != 4 {
				return fmt.Errorf("%d zeros", zeros)
			}
			return nil
		}},
	} {
		f, err := NewFeed(src, 1, 3, 7, c.a)
		if err != nil {
			t.Fatal(err)
		}
		different := map[float32]bool{}
		for i, b := range batches(t, f, 0, 64) {
			x := b.In[0].Float32s()
			if err := c.check(x); err != nil {
				t.Errorf("%s, draw %d: %v: %v", c.name, i, err, x)
			}
			different[x[0]] = true
		}
		if len(different) < 2 && c.name != "saturation" {
			t.Errorf("%s changes nothing", c.name)
		}
	}
	read, done, err := sample.store.open()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if ts, _ := sample.tensors(read, 0); ts[0].Float32s()[0] != 1 {
		t.Error("augmentation changed the data itself")
	}
}

// ratio checks that x is 1…12 scaled by f around a centre.
func ratio(x []float32, f, center float32, lo, hi float64) error {
	for i, v := range x {
		if want := center + f*(float32(i+1)-center); math.Abs(float64(v-want)) > 1e-4 {
			return fmt.Errorf("element %d is %v, want %v", i, v, want)
		}
	}
	if float64(f) < lo-1e-6 || float64(f) > hi+1e-6 {
		return fmt.Errorf("factor %v", f)
	}
	return nil
}

func TestMixup(t *testing.T) {
	f, err := NewFeed(numbered(t, 3), 3, 3, 1, Augment{Mixup: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches(t, f, 0, 5) {
		x, target := b.In[0].Float32s(), b.Target.Float32s()
		for i := range 3 {
			// The first pixels of the samples are 1, 13 and 25, so the mixture of the
			// pixels is that of the labels.
			want := target[3*i]*1 + target[3*i+1]*13 + target[3*i+2]*25
			if math.Abs(float64(x[12*i]-want)) > 1e-4 {
				t.Errorf("sample %d: %v, target %v", i, x[12*i], target[3*i:][:3])
			}
		}
		if target[3*1+b.Labels[1]] != 1 {
			t.Error("the sample in the middle is not as it was")
		}
	}
}

func TestFeedRefuses(t *testing.T) {
	src := numbered(t, 5)
	for _, c := range []struct {
		size, classes int
		a             Augment
		want          string
	}{
		{6, 3, Augment{}, "a batch of 6 samples is larger than the training data, which has 5"},
		{0, 3, Augment{}, "a batch of 0 samples"},
		{5, 3, Augment{Crop: -1}, "crop is -1"},
		{5, 3, Augment{Brightness: 2, Mixup: math.NaN()}, "brightness is 2, expected 0 to 1\nmixup is NaN"},
	} {
		if _, err := NewFeed(src, c.size, c.classes, 0, c.a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	f, err := NewFeed(src, 5, 2, 0, Augment{})
	if err != nil {
		t.Fatal(err)
	}
	next, stop, err := f.Start(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if _, err := next(); err == nil || !strings.Contains(err.Error(), "label 2, the model has 2 outputs") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f, _ = NewFeed(src, 1, 3, 0, Augment{})
	next, stop, err = f.Start(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	stop()
	for i := 0; ; i++ {
		if _, err := next(); err != nil {
			break
		} else if i > 10 {
			t.Fatal("the feed does not end")
		}
	}
}
