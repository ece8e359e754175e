package thriftc_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestPages checks that the index of the documentation names every page, and
// that the links of all pages lead to files.
func TestPages(t *testing.T) {
	pages := []string{"README.md"}
	err := filepath.WalkDir("docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var indexed []string
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			to := filepath.Join(filepath.Dir(page), string(m[1]))
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", page, err)
			}
			if page == filepath.Join("docs", "README.md") {
				indexed = append(indexed, to)
			}
		}
	}
	for _, page := range pages[1:] {
		if page != filepath.Join("docs", "README.md") && !slices.Contains(indexed, page) {
			t.Errorf("docs/README.md does not name %s", page)
		}
	}
}

// TestDependencies holds docs/dependencies.md against go.mod: the table names
// every module that the code requires directly, and no other.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				listed[m[1]] = true
			}
		}
	}
	for _, r := range mod.Require {
		if !r.Indirect && !listed[r.Path] {
			t.Errorf("docs/dependencies.md does not list %s", r.Path)
		}
		if r.Indirect && listed[r.Path] {
			t.Errorf("docs/dependencies.md lists %s, which the code does not import", r.Path)
		}
		delete(listed, r.Path)
	}
	for path := range listed {
		t.Errorf("docs/dependencies.md lists %s, which go.mod does not require", path)
	}
}

// TestOperatorExample compiles the operator that docs/operators.md shows into the table, and
// evaluates it and its gradient.
func TestOperatorExample(t *testing.T) {
	page, err := os.ReadFile("docs/operators.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```go\n// (ir/ops/square.go)\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatal("the example is not there")
	}
	const check = `package ops

import (
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func TestSquare(t *testing.T) {
	r := ir.NewRewriter(ir.NewGraph("g", Table()))
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Fixed(2)))
	n, err := r.Add("Square", "", nil, []*ir.Value{x})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Gradients(r, n.Out[0], []*ir.Value{x}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetOutputs(n.Out[0], d[0])
	out, err := ir.Eval(t.Context(), r.Graph(), []*tensor.Tensor{tensor.Of([]float32{3, -0.5}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*tensor.Tensor{tensor.Of([]float32{9, 0.25}, 2), tensor.Of([]float32{6, -1}, 2)} {
		if !tensor.Equal(out[i], want) {
			t.Errorf("output %d is %v, want %v", i, out[i], want)
		}
	}
}
`
	dir := t.TempDir()
	overlay := map[string]string{}
	for name, text := range map[string]string{string(m[1]): string(m[2]), "ir/ops/square_test.go": check} {
		file := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		abs, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		overlay[abs] = file
	}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "test", "-overlay", file, "-run", "^TestSquare$", "-v", "./ir/ops").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSquare") {
		t.Errorf("%v\n%s", err, out)
	}
}
