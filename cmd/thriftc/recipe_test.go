package main

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The schema and the struct name the same keys.
func TestRecipeSchema(t *testing.T) {
	data, err := os.ReadFile("../../docs/recipe.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	var inSchema, inStruct []string
	for k := range schema.Properties {
		inSchema = append(inSchema, k)
	}
	for i := range reflect.TypeFor[recipe]().NumField() {
		key, _, _ := strings.Cut(reflect.TypeFor[recipe]().Field(i).Tag.Get("yaml"), ",")
		inStruct = append(inStruct, key)
	}
	slices.Sort(inSchema)
	slices.Sort(inStruct)
	if !slices.Equal(inSchema, inStruct) {
		t.Errorf("schema has %v, struct has %v", inSchema, inStruct)
	}
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
	} {
		_, err := parseRecipe([]byte(c.src))
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
	got, err := parseRecipe(data)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzRecipe(f *testing.F) {
	f.Add([]byte("thriftc: 1\npasses: [fold, 'quantize{weight-bits=4}']\nmax_drop: 0.5\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecipe(data)
		if err == nil && len(r.Passes) == 0 {
			t.Error("accepted a recipe without passes")
		}
	})
}
