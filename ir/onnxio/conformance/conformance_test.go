package conformance

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

var archives = []struct{ version, file string }{
	{"v1.17.0", "onnx-backend-v1.17.0.tar.xz"},
	{"v1.8.1", "onnx-node-v1.8.1.tar.xz"},
}

// TestConformance runs the official backend tests. A test either passes or
// stands in testdata/skip-VERSION.txt; an entry there that passes, or that names no
// test, is a failure too.
func TestConformance(t *testing.T) {
	dir := shared(t, "onnx-node")
	for _, a := range archives {
		t.Run(a.version, func(t *testing.T) {
			skip := readSkips(t, filepath.Join("testdata", "skip-"+a.version+".txt"))
			var s summary
			runAll(t, readSuite(t, a.version, filepath.Join(dir, a.file)), skip, &s)
		})
	}
}

// runAll runs the cases of a suite by kind.
func runAll(t *testing.T, cases []testCase, skip *skips, s *summary) {
	byKind := map[string][]testCase{}
	var kinds []string
	for _, c := range cases {
		k := path.Base(path.Dir(c.name))
		if byKind[k] == nil {
			kinds = append(kinds, k)
		}
		byKind[k] = append(byKind[k], c)
	}
	for _, k := range kinds {
		t.Run(k, func(t *testing.T) {
			for _, c := range byKind[k] {
				t.Run(path.Base(c.name), func(t *testing.T) {
					s.add(k, verdict(t, evaluate(c, onnxTolerance), skip.reason(c.name)))
				})
			}
		})
	}
	s.finish(t, len(cases), skip)
}

type outcome int

const (
	passed outcome = iota
	skipped
	failed
)

// verdict judges a test by its error and by whether it was expected to fail.
func verdict(t *testing.T, err error, reason string) outcome {
	switch {
	case reason != "" && err == nil:
		t.Errorf("passes: take it out of the skip list")
		return failed
	case reason != "":
		t.Logf("skipped: %s: %v", reason, err)
		return skipped
	case err != nil:
		t.Error(err)
		return failed
	}
	return passed
}

// summary counts outcomes by kind of test.
type summary struct {
	kinds  []string
	counts map[string]*[3]int
}

func (s *summary) add(kind string, o outcome) {
	if s.counts == nil {
		s.counts = map[string]*[3]int{}
	}
	if s.counts[kind] == nil {
		s.counts[kind] = new([3]int)
		s.kinds = append(s.kinds, kind)
	}
	s.counts[kind][o]++
}

// finish prints the table, and when all n tests ran it checks that every entry
// of the skip list names one.
func (s *summary) finish(t *testing.T, n int, skip *skips) {
	t.Log("\n" + s.table())
	if s.total() < n { // a part was chosen with -run
		return
	}
	for _, e := range skip.entries {
		if e.matched == 0 {
			t.Errorf("the skip list's %s matches no test", e.pattern)
		}
	}
}

func (s *summary) total() int {
	n := 0
	for _, c := range s.counts {
		n += c[passed] + c[skipped] + c[failed]
	}
	return n
}

func (s *summary) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-20s %7s %7s %7s %7s\n", "suite", "tests", "passed", "skipped", "failed")
	for _, k := range s.kinds {
		c := s.counts[k]
		fmt.Fprintf(&b, "%-20s %7d %7d %7d %7d\n", k, c[0]+c[1]+c[2], c[passed], c[skipped], c[failed])
	}
	return b.String()
}
