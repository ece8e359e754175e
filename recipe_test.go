package thriftc

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/train"
)

// The schema and the struct name the same keys.
func TestRecipeSchema(t *testing.T) {
	data, err := os.ReadFile("docs/recipe.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type object struct{ Properties map[string]json.RawMessage }
	check := func(name string, data []byte, typ reflect.Type) object {
		var o object
		if err := json.Unmarshal(data, &o); err != nil {
			t.Fatal(err)
		}
		inSchema, inStruct := slices.Sorted(maps.Keys(o.Properties)), slices.Sorted(slices.Values(yamlKeys(typ)))
		if !slices.Equal(inSchema, inStruct) {
			t.Errorf("%s: schema has %v, struct has %v", name, inSchema, inStruct)
		}
		return o
	}
	whole := check("recipe", data, reflect.TypeFor[recipe]())
	training := check("train", whole.Properties["train"], reflect.TypeFor[train.Recipe]())
	check("augment", training.Properties["augment"], reflect.TypeFor[dataset.Augment]())
}

func TestParseRecipe(t *testing.T) {
	for _, c := range []struct{ src, err string }{
		{"thriftc: 1\npasses: [fold]\n", ""},
		{"", "empty"},
		{"thriftc: 2\npasses: []\nmax_drop: -1\n", "passes: at least one"},
		{"thriftc: 2\npasses: [fold]\n", "2 is not a recipe version"},
		{"thriftc: 1\npasses: [fold]\nmax_drop: .nan\n", "max_drop"},
		{"thriftc: 1\npases: [fold]\n", "pases"},
		{"thriftc: [", "line 1"},
		{"thriftc: 1\ntrain: {epochs: 3, augment: {crop: 4}}\n", ""},
		{"thriftc: 1\ntrain: {optimizer: best, rate: -1}\n", "rate is -1"},
		{"thriftc: 1\ntrain: {speed: 3}\n", "unknown key \"speed\"; known are epochs, batch"},
		{"thriftc: 1\ntrain: {augment: {crup: 3}}\n", "unknown key \"crup\"; known are crop, flip"},
		{"thriftc: 1\ntrain:\n", "passes: at least one pass is needed, or train"},
	} {
		_, err := parseRecipe([]byte(c.src), train.Default())
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: got %v, want %q", c.src, err, c.err)
		}
	}
}

func TestRecipeRoundTrip(t *testing.T) {
	drop := 0.5
	r := &recipe{Version: 1, Passes: []string{"fold", "quantize{weight-bits=4}"}, Format: "qdq", Seed: 7, CalibSamples: 9, MaxDrop: &drop}
	data, err := r.encode("thriftc compress x")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseRecipe(data, train.Default())
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzRecipe(f *testing.F) {
	f.Add([]byte("thriftc: 1\npasses: [fold, 'quantize{weight-bits=4}']\nmax_drop: 0.5\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecipe(data, train.Default())
		if err == nil && len(r.Passes) == 0 && r.Train == nil {
			t.Error("accepted a recipe without passes")
		}
	})
}
