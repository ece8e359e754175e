package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir/ops"
)

// untested are operators of the default domain that no test of the suites
// passes with, each with its reason.
var untested = map[string]string{
	"ConcatFromSequence": "in simple/test_sequence_model*, which the index of node tests does not list",
	"GlobalLpPool":       "the suites have no test of it",
	"LpNormalization":    "the suites have no test of it",
	"MaxRoiPool":         "the suites have no test of it",
	"RMSNormalization":   "newer than the suites (opset 23)",
	"Attention":          "newer than the suites (opset 23); ir/ops has tests against the text",
	"BitCast":            "newer than the suites (opset 26)",
	"CumProd":            "newer than the suites (opset 26)",
	"SwiGLU":             "newer than the suites (opset 28)",
	"SequenceAt":         "in simple/test_sequence_model*, which the index of node tests does not list",
	"SequenceConstruct":  "in simple/test_sequence_model*, which the index of node tests does not list",
	"SequenceErase":      "in simple/test_sequence_model*, which the index of node tests does not list",
	"Swish":              "newer than the suites (opset 24)",
}

// TestOperatorsAreTested checks that every standard operator that thriftc
// knows occurs in a test of the official suites that is expected to pass.
// TestConformance then makes sure that it does.
func TestOperatorsAreTested(t *testing.T) {
	dir := shared(t, "onnx-node")
	seen := map[string]bool{}
	for _, a := range archives {
		skip := readSkips(t, filepath.Join("testdata", "skip-"+a.version+".txt"))
		data, err := os.ReadFile(filepath.Join(dir, "index-"+a.version+".tsv"))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			f := strings.Split(line, "\t")
			if len(f) < 3 || skip.reason(a.version+"/node/"+f[0]) != "" {
				continue
			}
			for _, op := range strings.FieldsFunc(f[2], func(r rune) bool { return r == ' ' || r == ',' }) {
				op, _, _ = strings.Cut(op, ":")
				seen[op] = true
			}
		}
	}
	for name := range untested {
		if ops.Table().Lookup(name) == nil {
			t.Errorf("%s is not in the operator table: take it out of the list", name)
		}
	}
	for _, o := range ops.Table().Ops() {
		if o.Domain() != "" {
			continue
		}
		switch reason := untested[o.Name]; {
		case seen[o.Name] && reason != "":
			t.Errorf("%s is tested: take it out of the list", o.Name)
		case !seen[o.Name] && reason == "":
			t.Errorf("%s is in the operator table, but in no test that passes", o.Name)
		}
	}
}
