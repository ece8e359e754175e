// Package conformance holds no code: its tests run the official ONNX backend
// suites, the ready cases of onnx-go, and real models with reference results,
// through the reader and the reference evaluators.
//
//	go test ./ir/onnxio/conformance -run 'Conformance/v1.17.0/node/test_resize' -v
package conformance

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// shared returns the folder of test data beside the checkout; without it the
// test is skipped, in continuous integration it fails.
func shared(t *testing.T, name string) string {
	dir := filepath.Join("..", "..", "..", "..", "shared", name)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the test data %s is missing", dir)
		}
		t.Skipf("SKIPPED: the test data %s is missing", dir)
	}
	return dir
}

// readArchive returns the files of a .tar.xz by name.
func readArchive(t *testing.T, file string) map[string][]byte {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := xz.NewReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			files[h.Name] = data
		}
	}
}

// testCase is one folder of a suite: a model and its data sets.
type testCase struct {
	name  string // "v1.17.0/node/test_abs"
	model []byte
	sets  []dataSet
}

// dataSet holds TensorProto files in the order of the model's inputs and outputs.
type dataSet struct{ in, out [][]byte }

// readSuite returns the cases of an archive of the official backend tests,
// sorted by name.
func readSuite(t *testing.T, version, file string) []testCase {
	files := readArchive(t, file)
	var cases []testCase
	for _, name := range slices.Sorted(maps.Keys(files)) {
		dir, ok := strings.CutSuffix(name, "/model.onnx")
		if !ok {
			continue
		}
		kind := path.Base(path.Dir(dir))
		c := testCase{name: version + "/" + kind + "/" + path.Base(dir), model: files[name]}
		for k := 0; ; k++ {
			set := dataSet{
				in:  numbered(files, fmt.Sprintf("%s/test_data_set_%d/input_", dir, k)),
				out: numbered(files, fmt.Sprintf("%s/test_data_set_%d/output_", dir, k)),
			}
			if len(set.out) == 0 {
				break
			}
			c.sets = append(c.sets, set)
		}
		cases = append(cases, c)
	}
	return cases
}

func numbered(files map[string][]byte, prefix string) [][]byte {
	var out [][]byte
	for i := 0; ; i++ {
		data, ok := files[fmt.Sprintf("%s%d.pb", prefix, i)]
		if !ok {
			return out
		}
		out = append(out, data)
	}
}

// skips is a list of tests that are expected to fail, each with its reason.
type skips struct {
	entries []*skipEntry
}

type skipEntry struct {
	pattern, reason string
	matched         int
}

// readSkips reads a skip list: a line holds a pattern (path.Match) over test
// names, blanks, and the reason; # starts a comment line.
func readSkips(t *testing.T, file string) *skips {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &skips{}
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		pattern, reason, _ := strings.Cut(line, " ")
		if reason = strings.TrimSpace(reason); reason == "" {
			t.Fatalf("%s:%d: no reason given", file, i+1)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			t.Fatalf("%s:%d: %v", file, i+1, err)
		}
		s.entries = append(s.entries, &skipEntry{pattern: pattern, reason: reason})
	}
	return s
}

// reason returns why a test is expected to fail, "" when it must pass.
func (s *skips) reason(name string) string {
	for _, e := range s.entries {
		if ok, _ := path.Match(e.pattern, name); ok {
			e.matched++
			return e.reason
		}
	}
	return ""
}
