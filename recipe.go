package thriftc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/internal/regular"
	"github.com/thriftc/thriftc/internal/train"
)

// recipe is a compression or a training written down: everything but the model
// and the data. Its JSON schema is docs/recipe.schema.json.
type recipe struct {
	Version      int      `yaml:"thriftc"`                 // schema version: 1
	Passes       []string `yaml:"passes,omitempty"`        // one pass with its options each, in order
	Format       string   `yaml:"format,omitempty"`        // qdq, qcdq or qonnx
	Batch        int      `yaml:"batch,omitempty"`         // samples that the written model computes at once; 0: as the model says
	Opset        int      `yaml:"opset,omitempty"`         // of the written model; 0: as low as the model allows, at least 17
	Seed         uint64   `yaml:"seed"`                    // of all randomness
	CalibSamples int      `yaml:"calib_samples,omitempty"` // how many samples calibrate
	MaxDrop      *float64 `yaml:"max_drop,omitempty"`      // accuracy budget, points of top-1

	Train *train.Recipe `yaml:"train,omitempty"` // how to train; nil: the recipe does not say
}

const recipeVersion = 1

// maxRecipe bounds a recipe, in bytes.
const maxRecipe = 1 << 20

// readRecipe reads and checks a recipe; errors name the file and the line.
// What its train part leaves out is as in base.
func readRecipe(path string, base train.Recipe) (*recipe, error) {
	data, err := regular.Read(path, maxRecipe)
	if err != nil {
		return nil, err
	}
	r, err := parseRecipe(data, base)
	if err != nil {
		return nil, usageError("%s: %w", path, err)
	}
	return r, nil
}

func parseRecipe(data []byte, base train.Recipe) (*recipe, error) {
	if len(data) > maxRecipe {
		return nil, fmt.Errorf("a recipe of %d bytes is too large", len(data))
	}
	r := &recipe{Train: &base}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(r); errors.Is(err, io.EOF) {
		return nil, errors.New("the recipe is empty")
	} else if err != nil {
		return nil, plainYAML(err)
	}
	var given struct{ Train *yaml.Node }
	if err := yaml.Unmarshal(data, &given); err != nil {
		return nil, err
	}
	var errs []error
	if given.Train == nil {
		r.Train = nil
	} else if err := r.Train.Check(); err != nil {
		errs = append(errs, fmt.Errorf("train: %w", err))
	}
	if r.Version != recipeVersion {
		errs = append(errs, fmt.Errorf("thriftc: %d is not a recipe version this program knows; write thriftc: %d", r.Version, recipeVersion))
	}
	if len(r.Passes) == 0 && given.Train == nil {
		errs = append(errs, errors.New("passes: at least one pass is needed, or train"))
	}
	if r.CalibSamples < 0 {
		errs = append(errs, fmt.Errorf("calib_samples: %d is negative", r.CalibSamples))
	}
	if r.MaxDrop != nil && !(*r.MaxDrop >= 0) {
		errs = append(errs, fmt.Errorf("max_drop: %v is not a number of points ≥ 0", *r.MaxDrop))
	}
	return r, errors.Join(errs...)
}

var unknownField = regexp.MustCompile(`field (\S+) not found in type (\S+)`)

// plainYAML words the YAML package's errors for people who do not read Go.
func plainYAML(err error) error {
	var t *yaml.TypeError
	if !errors.As(err, &t) {
		return err
	}
	var errs []error
	for _, s := range t.Errors {
		if m := unknownField.FindStringSubmatch(s); m != nil {
			known := recipeKeys
			switch m[2] {
			case "train.Recipe":
				known = strings.Join(yamlKeys(reflect.TypeFor[train.Recipe]()), ", ")
			case "dataset.Augment":
				known = strings.Join(yamlKeys(reflect.TypeFor[dataset.Augment]()), ", ")
			}
			s = strings.Replace(s, m[0], fmt.Sprintf("unknown key %q; known are %s", m[1], known), 1)
		}
		errs = append(errs, errors.New(s))
	}
	return errors.Join(errs...)
}

var recipeKeys = strings.Join(yamlKeys(reflect.TypeFor[recipe]()), ", ")

// yamlKeys lists the keys of a struct in YAML.
func yamlKeys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		out = append(out, key)
	}
	return out
}

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
