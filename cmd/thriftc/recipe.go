package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// recipe is a compression written down: everything but the model and the
// data. Its JSON schema is docs/recipe.schema.json.
type recipe struct {
	Version      int      `yaml:"thriftc"`                 // schema version: 1
	Passes       []string `yaml:"passes"`                  // one pass with its options each, in order
	Format       string   `yaml:"format,omitempty"`        // qdq, qcdq or qonnx
	Opset        int      `yaml:"opset,omitempty"`         // of the written model; 0: as low as the model allows, at least 17
	Seed         uint64   `yaml:"seed"`                    // of all randomness
	CalibSamples int      `yaml:"calib_samples,omitempty"` // how many samples calibrate
	MaxDrop      *float64 `yaml:"max_drop,omitempty"`      // accuracy budget, points of top-1
}

const recipeVersion = 1

// readRecipe reads and checks a recipe; errors name the file and the line.
func readRecipe(path string) (*recipe, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := parseRecipe(data)
	if err != nil {
		return nil, usageError("%s: %w", path, err)
	}
	return r, nil
}

func parseRecipe(data []byte) (*recipe, error) {
	const maxRecipe = 1 << 20
	if len(data) > maxRecipe {
		return nil, fmt.Errorf("a recipe of %d bytes is too large", len(data))
	}
	r := &recipe{}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(r); errors.Is(err, io.EOF) {
		return nil, errors.New("the recipe is empty")
	} else if err != nil {
		return nil, plainYAML(err)
	}
	var errs []error
	if r.Version != recipeVersion {
		errs = append(errs, fmt.Errorf("thriftc: %d is not a recipe version this program knows; write thriftc: %d", r.Version, recipeVersion))
	}
	if len(r.Passes) == 0 {
		errs = append(errs, errors.New("passes: at least one pass is needed"))
	}
	if r.CalibSamples < 0 {
		errs = append(errs, fmt.Errorf("calib_samples: %d is negative", r.CalibSamples))
	}
	if r.MaxDrop != nil && !(*r.MaxDrop >= 0) {
		errs = append(errs, fmt.Errorf("max_drop: %v is not a number of points ≥ 0", *r.MaxDrop))
	}
	return r, errors.Join(errs...)
}

var unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)

// plainYAML words the YAML package's errors for people who do not read Go.
func plainYAML(err error) error {
	var t *yaml.TypeError
	if !errors.As(err, &t) {
		return err
	}
	var errs []error
	for _, s := range t.Errors {
		s = unknownField.ReplaceAllString(s, `unknown key "$1"; known are `+recipeKeys)
		errs = append(errs, errors.New(s))
	}
	return errors.Join(errs...)
}

const recipeKeys = "thriftc, passes, format, opset, seed, calib_samples, max_drop"

func (r *recipe) pipeline() string { return strings.Join(r.Passes, ",") }

// encode returns the recipe as YAML, with the command that made it as a comment.
func (r *recipe) encode(command string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", strings.ReplaceAll(command, "\n", " "))
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(r); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}
