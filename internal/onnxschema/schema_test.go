package onnxschema

import (
	"slices"
	"testing"
)

func TestLookup(t *testing.T) {
	names := Names()
	if len(names) < 190 || !slices.IsSorted(names) {
		t.Fatalf("%d names", len(names))
	}
	for _, name := range names {
		for opset := 1; opset <= 28; opset++ {
			if o, first := Lookup(name, opset); first == 0 || o != nil && (o.Since > opset || o.Name != name) {
				t.Errorf("%s at %d: %v, first %d", name, opset, o, first)
			}
		}
	}
	for _, c := range []struct {
		name      string
		opset     int
		since     int
		attr      string
		has       bool
		firstWith int
	}{
		{"ReduceMean", 17, 13, "noop_with_empty_axes", false, 18},
		{"ReduceMean", 19, 18, "noop_with_empty_axes", true, 18},
		{"ReduceSum", 13, 13, "noop_with_empty_axes", true, 13},
		{"Resize", 17, 13, "antialias", false, 18},
		{"Upsample", 13, 0, "mode", false, 1},
		{"Gelu", 17, 0, "approximate", false, 20},
	} {
		o, _ := Lookup(c.name, c.opset)
		since, has := 0, false
		if o != nil {
			since, has = o.Since, o.Attr(c.attr) != nil
		}
		if since != c.since || has != c.has || FirstWith(c.name, c.attr) != c.firstWith {
			t.Errorf("%s at opset %d: version %d, %s %t, first in %d", c.name, c.opset, since, c.attr, has, FirstWith(c.name, c.attr))
		}
	}
	conv, _ := Lookup("Conv", 13)
	if !conv.In[2].Optional || conv.In[1].Optional || !slices.Equal(conv.Types(conv.In[0]), []string{"f16", "f32", "f64"}) {
		t.Errorf("Conv %+v", conv)
	}
	loop, _ := Lookup("Loop", 16)
	if v := loop.In[2]; !v.Repeats || v.OneType || loop.MinIn != 2 {
		t.Errorf("Loop's inputs %+v", loop.In)
	}
}
