// Package thriftc_test checks who imports whom.
package thriftc_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// rule says that packages whose path starts with from must not import a
// package whose path starts with any of forbidden.
type rule struct {
	from      string
	forbidden []string
	reason    string
}

// rules are of paths below the module's; the most specific of a path comes first.
var rules = []rule{
	{"ir/tensor", []string{"./"}, "tensors stand beneath everything"},
	{"internal/f32", []string{"./"}, "arithmetic stands beneath everything"},
	{"ir/onnxio", []string{"passes", "backends", "ir/ops", "cmd"}, "the reader takes the operator table as an argument"},
	{"ir/ops", []string{"passes", "backends", "ir/onnxio", "cmd"}, "operators know nothing of files, passes and engines"},
	{"ir", []string{"passes", "backends", "internal/train", "internal/dataset", "internal/report", "cmd"}, "the graph knows nothing of what is done to it"},
	{"backends", []string{"passes", "internal/train", "internal/dataset", "internal/report", "cmd"}, "a backend never imports a pass"},
	{"passes", []string{"backends/", "internal/train", "internal/dataset", "internal/report", "cmd"}, "a pass never imports a concrete backend"},
	{"internal/train", []string{"backends/", "internal/report", "cmd"}, "training is handed its engine and writes no reports"},
	{"internal/dataset", []string{"passes", "internal/train", "internal/report", "cmd"}, "data knows nothing of passes"},
	{".", []string{"cmd"}, "the library knows no command line"},
}

// only says which package alone may import a module.
var only = map[string][]string{
	"github.com/spf13/cobra":           {"cmd/thriftc"},
	"google.golang.org/protobuf":       {"ir/onnxio", "internal/onnxpb"},
	"github.com/owulveryck/onnx-go":    {"ir/onnxio"},
	"github.com/bufbuild/protocompile": {"internal/onnxpb"},
}

// module is the path by which others import this module: go.mod's first line.
func module(t *testing.T) string {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimPrefix(line, "module ")
}

// local returns a path of this module with "./" for the module's own; others as they are.
func local(module, path string) string {
	if rest, ok := strings.CutPrefix(path, module); ok && (rest == "" || rest[0] == '/') {
		return "." + rest
	}
	return path
}

func under(path, prefix string) bool {
	return path == strings.TrimSuffix(prefix, "/") && !strings.HasSuffix(prefix, "/") || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

func TestImportRules(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	n, name := 0, module(t)
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); n++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		for _, imp := range p.Imports {
			for _, msg := range violations(local(name, p.ImportPath), local(name, imp)) {
				t.Error(msg)
			}
		}
	}
	if n < 5 {
		t.Fatalf("go list found %d packages only", n)
	}
}

func violations(from, imp string) []string {
	var out []string
	for _, r := range rules {
		if !under(from, "./"+r.from) && from != r.from {
			continue
		}
		for _, f := range r.forbidden {
			if f != "./" {
				f = "./" + f
			}
			if under(imp, f) && !under(imp, "./"+r.from) {
				out = append(out, from+" imports "+imp+": "+r.reason)
			}
		}
		break
	}
	if imp == "." && !under(from, "./cmd") && from != "./internal/accept" {
		out = append(out, from+" imports the package at the root: only programs may")
	}
	// A pass is a folder of its own below passes; only passes/all may know others.
	if parts := strings.Split(strings.TrimPrefix(from, "./passes/"), "/"); under(from, "./passes/") && parts[0] != "all" {
		if under(imp, "./passes/") && !under(imp, "./passes/"+parts[0]) && !under(imp, "./passes/internal") {
			out = append(out, from+" imports "+imp+": a pass never imports another pass")
		}
	}
	for mod, allowed := range only {
		if !under(imp, mod) {
			continue
		}
		ok := false
		for _, a := range allowed {
			ok = ok || under(from, "./"+a)
		}
		if !ok {
			out = append(out, from+" imports "+imp+": only "+strings.Join(allowed, ", ")+" may")
		}
	}
	return out
}

func TestViolationsAreSeen(t *testing.T) {
	for _, c := range [][2]string{
		{"./ir/ops", "./ir/onnxio"},
		{"./ir", "./passes"},
		{"./passes/fold", "./passes/foldbn"},
		{"./passes/fold", "./backends/interp"},
		{"./backends/interp", "./passes"},
		{"./internal/report", "github.com/spf13/cobra"},
		{".", "./cmd/thriftc"},
		{"./passes/all", "."},
		{"./internal/bench", "."},
	} {
		if len(violations(c[0], c[1])) == 0 {
			t.Errorf("%s importing %s was not seen", c[0], c[1])
		}
	}
	for _, c := range [][2]string{
		{"./passes/all", "./passes/fold"},
		{"./passes", "./backends"},
		{"./ir/ops", "./internal/f32"},
		{"./backends/interp", "./backends/interp/kernel"},
		{"./cmd/thriftc", "."},
		{".", "./internal/train"},
	} {
		if v := violations(c[0], c[1]); len(v) != 0 {
			t.Error(v)
		}
	}
}
