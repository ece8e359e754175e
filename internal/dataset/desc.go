package dataset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/thriftc/thriftc/ir/tensor"
)

// desc is a data description as it stands in a YAML file. docs/data.md is its reference.
type desc struct {
	file string // of the description itself
	dir  string // its folder

	kind, split, path   string
	files               []string
	labels, labelColumn string
	columns             []string
	tile                []int // width, height
	elem                tensor.Elem
	shape               []int
	pre                 Preprocess

	lines map[string]int
}

// kinds lists the kinds of data with the keys that each takes besides kind,
// path and preprocess, and the ones it cannot do without.
var kinds = []struct {
	name           string
	keys, required []string
	open           func(*desc) (*store, error)
}{
	{"image-folder", nil, nil, openFolder},
	{"image-list", []string{"labels", "label_column", "columns", "files", "tile"}, nil, openList},
	{"cifar10", []string{"split", "files"}, nil, openCIFAR10},
	{"cifar100", []string{"split", "files", "labels"}, nil, openCIFAR100},
	{"idx", []string{"split", "files"}, nil, openIDX},
	{"npy", []string{"files", "labels", "label_column", "columns"}, nil, openNPY},
	{"npz", []string{"files", "labels", "label_column", "columns"}, nil, openNPZ},
	{"onnx-pairs", nil, nil, openPairs},
	{"raw", []string{"files", "labels", "label_column", "columns", "elem", "shape"}, []string{"elem", "shape"}, openRaw},
}

func kindNames() []string {
	var out []string
	for _, k := range kinds {
		out = append(out, k.name)
	}
	return out
}

// maxDesc and maxTable bound the sizes of descriptions and label tables, in bytes.
const (
	maxDesc  = 1 << 20
	maxTable = 256 << 20
)

// parseDesc reads a description; file is its name, for messages and as the
// base of relative paths.
func parseDesc(file string, data []byte) (*desc, error) {
	c := &checker{file: file}
	d := &desc{file: file, dir: filepath.Dir(file), path: ".", pre: Preprocess{Scale: 1}}
	root := c.root(data)
	if root == nil {
		return nil, c.err()
	}
	d.lines = c.mapping(root, "a data description", []field{
		{"kind", func(n *yaml.Node) { d.kind = c.oneOf(n, "kind", kindNames()...) }},
		{"split", func(n *yaml.Node) { d.split = c.oneOf(n, "split", "train", "test") }},
		{"path", func(n *yaml.Node) { d.path = c.str(n, "path") }},
		{"files", func(n *yaml.Node) { d.files = c.strs(n, "files") }},
		{"labels", func(n *yaml.Node) { d.labels = c.str(n, "labels") }},
		{"label_column", func(n *yaml.Node) { d.labelColumn = c.str(n, "label_column") }},
		{"columns", func(n *yaml.Node) { d.columns = c.strs(n, "columns") }},
		{"tile", func(n *yaml.Node) { d.tile = c.size(n, "tile") }},
		{"elem", func(n *yaml.Node) { d.elem = rawElems[c.oneOf(n, "elem", "int8", "uint8")] }},
		{"shape", func(n *yaml.Node) { d.shape = c.ints(n, "shape", 1, maxSide) }},
		{"preprocess", func(n *yaml.Node) { d.pre = c.preprocess(n) }},
	})
	if d.lines["kind"] == 0 {
		c.errorf(root.Line, "kind is missing; it can be %s", strings.Join(kindNames(), ", "))
	}
	for _, k := range kinds {
		if k.name != d.kind {
			continue
		}
		for _, key := range sortedKeys(d.lines) {
			if key != "kind" && key != "path" && key != "preprocess" && !slices.Contains(k.keys, key) {
				c.errorf(d.lines[key], "%s means nothing for kind %s", key, d.kind)
			}
		}
		for _, key := range k.required {
			if d.lines[key] == 0 {
				c.errorf(d.lines["kind"], "kind %s needs %s", d.kind, key)
			}
		}
	}
	if d.split != "" && len(d.files) > 0 {
		c.errorf(d.lines["split"], "split and files both name the part; give one of them")
	}
	if len(d.tile) == 1 {
		d.tile = []int{d.tile[0], d.tile[0]}
	}
	return d, c.err()
}

func sortedKeys(m map[string]int) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// find resolves a file name of the description: absolute, or relative to path
// or to the description's folder, whichever has it.
func (d *desc) find(name, key string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	a, b := filepath.Join(d.folder(), name), filepath.Join(d.dir, name)
	fa, erra := os.Stat(a)
	fb, errb := os.Stat(b)
	switch {
	case erra == nil && errb == nil && !os.SameFile(fa, fb):
		return "", d.errorf(key, "both %s and %s exist; give a path that names one of them", a, b)
	case erra == nil:
		return a, nil
	case errb == nil:
		return b, nil
	case errors.Is(erra, os.ErrNotExist) && a != b:
		return "", d.errorf(key, "no such file: %s or %s", a, b)
	case errors.Is(erra, os.ErrNotExist):
		return "", d.errorf(key, "no such file: %s", a)
	}
	return "", d.errorf(key, "%v", erra)
}

// base returns the folder or file that path names.
func (d *desc) base() string {
	if filepath.IsAbs(d.path) {
		return d.path
	}
	return filepath.Join(d.dir, d.path)
}

// folder returns the folder that path names or in which the file path lies.
func (d *desc) folder() string {
	if fi, err := os.Stat(d.base()); err == nil && !fi.IsDir() {
		return filepath.Dir(d.base())
	}
	return d.base()
}

// errorf makes an error that points at a key of the description.
func (d *desc) errorf(key, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if line := d.lines[key]; line > 0 {
		return fmt.Errorf("%s:%d: %s: %s", d.file, line, key, msg)
	}
	return fmt.Errorf("%s: %s", d.file, msg)
}

// dataFiles returns the files that hold the records: those that the
// description names, or path itself when it is a file.
func (d *desc) dataFiles() ([]string, error) {
	if len(d.files) == 0 {
		if fi, err := os.Stat(d.base()); err != nil || fi.IsDir() {
			return nil, d.errorf("kind", "kind %s needs files, or a path that is a file", d.kind)
		}
		return []string{d.base()}, nil
	}
	var out []string
	var errs []error
	for _, name := range d.files {
		f, err := d.find(name, "files")
		out, errs = append(out, f), append(errs, err)
	}
	return out, errors.Join(errs...)
}
