// Package thriftc_test checks who imports whom.
package thriftc_test

import (
	"encoding/json"
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

var rules = []rule{
	{"thriftc/ir/tensor", []string{"thriftc/"}, "tensors stand beneath everything"},
	{"thriftc/ir/f32", []string{"thriftc/"}, "arithmetic stands beneath everything"},
	{"thriftc/ir/onnxio", []string{"thriftc/passes", "thriftc/backends", "thriftc/ir/ops", "thriftc/cmd"}, "the reader takes the operator table as an argument"},
	{"thriftc/ir/ops", []string{"thriftc/passes", "thriftc/backends", "thriftc/ir/onnxio", "thriftc/cmd"}, "operators know nothing of files, passes and engines"},
	{"thriftc/ir", []string{"thriftc/passes", "thriftc/backends", "thriftc/train", "thriftc/dataset", "thriftc/report", "thriftc/cmd"}, "the graph knows nothing of what is done to it"},
	{"thriftc/backends", []string{"thriftc/passes", "thriftc/train", "thriftc/dataset", "thriftc/report", "thriftc/cmd"}, "a backend never imports a pass"},
	{"thriftc/passes", []string{"thriftc/backends/", "thriftc/train", "thriftc/dataset", "thriftc/report", "thriftc/cmd"}, "a pass never imports a concrete backend"},
	{"thriftc/train", []string{"thriftc/backends/", "thriftc/report", "thriftc/cmd"}, "training is handed its engine and writes no reports"},
	{"thriftc/dataset", []string{"thriftc/passes", "thriftc/train", "thriftc/report", "thriftc/cmd"}, "data knows nothing of passes"},
}

// only says which package alone may import a module.
var only = map[string][]string{
	"github.com/spf13/cobra":           {"thriftc/cmd/thriftc"},
	"google.golang.org/protobuf":       {"thriftc/ir/onnxio"},
	"github.com/owulveryck/onnx-go":    {"thriftc/ir/onnxio"},
	"github.com/bufbuild/protocompile": {"thriftc/ir/onnxio"},
}

func under(path, prefix string) bool {
	return path == strings.TrimSuffix(prefix, "/") && !strings.HasSuffix(prefix, "/") || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}

func TestImportRules(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	n := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); n++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		for _, imp := range p.Imports {
			for _, msg := range violations(p.ImportPath, imp) {
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
		if !under(from, r.from) {
			continue
		}
		for _, f := range r.forbidden {
			if under(imp, f) {
				if r.from == "thriftc/ir/tensor" || r.from == "thriftc/ir/f32" {
					if under(imp, r.from) {
						continue
					}
				}
				out = append(out, from+" imports "+imp+": "+r.reason)
			}
		}
		break // the most specific rule comes first
	}
	// A pass is a folder of its own below passes; only passes/all may know others.
	if parts := strings.Split(strings.TrimPrefix(from, "thriftc/passes/"), "/"); under(from, "thriftc/passes/") && parts[0] != "all" {
		if under(imp, "thriftc/passes/") && !under(imp, "thriftc/passes/"+parts[0]) {
			out = append(out, from+" imports "+imp+": a pass never imports another pass")
		}
	}
	for mod, allowed := range only {
		if !under(imp, mod) {
			continue
		}
		ok := false
		for _, a := range allowed {
			ok = ok || under(from, a)
		}
		if !ok {
			out = append(out, from+" imports "+imp+": only "+strings.Join(allowed, ", ")+" may")
		}
	}
	return out
}

func TestViolationsAreSeen(t *testing.T) {
	for _, c := range [][2]string{
		{"thriftc/ir/ops", "thriftc/ir/onnxio"},
		{"thriftc/ir", "thriftc/passes"},
		{"thriftc/passes/fold", "thriftc/passes/foldbn"},
		{"thriftc/passes/fold", "thriftc/backends/interp"},
		{"thriftc/backends/interp", "thriftc/passes"},
		{"thriftc/report", "github.com/spf13/cobra"},
	} {
		if len(violations(c[0], c[1])) == 0 {
			t.Errorf("%s importing %s was not seen", c[0], c[1])
		}
	}
	for _, c := range [][2]string{
		{"thriftc/passes/all", "thriftc/passes/fold"},
		{"thriftc/passes", "thriftc/backends"},
		{"thriftc/ir/ops", "thriftc/ir/f32"},
		{"thriftc/backends/interp", "thriftc/backends/interp/kernel"},
	} {
		if v := violations(c[0], c[1]); len(v) != 0 {
			t.Error(v)
		}
	}
}
