package onnxio

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// TestModelsRoundTrip reads real models, writes them and reads them back: the
// graph must be the same but for constants that the writer merges, and writing
// again must give the same bytes.
func TestModelsRoundTrip(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "models")
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no models in %s", dir)
		}
		t.Skipf("SKIPPED: no models in %s", dir)
	}
	for _, path := range paths {
		name, _ := filepath.Rel(dir, filepath.Dir(path))
		t.Run(name, func(t *testing.T) {
			g, err := Read(path, ops.Table())
			if strings.HasSuffix(name, "super_resolution_pt02") {
				var u *Unsupported
				if !errors.As(err, &u) || !strings.Contains(err.Error(), "IR version 1") {
					t.Fatalf("a file from before the first release: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := ir.Verify(g); err != nil {
				t.Fatal(err)
			}
			quantised := false
			first, err := Encode(g, WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			back, err := Decode(first, "", ops.Table())
			if err != nil {
				t.Fatal(err)
			}
			if len(back.Nodes) != len(g.Nodes) || len(back.Consts) > len(g.Consts) {
				t.Errorf("%d nodes and %d constants became %d and %d", len(g.Nodes), len(g.Consts), len(back.Nodes), len(back.Consts))
			}
			back.Walk(func(n *ir.Node) { quantised = quantised || ours(n.Op) })
			if quantised { // a quantiser takes its name from one of the two nodes it is written as
				return
			}
			if len(back.Consts) == len(g.Consts) {
				irtest.SameGraph(t, back, g)
			}
			second, err := Encode(back, WriteOptions{})
			if err != nil || !bytes.Equal(first, second) {
				t.Errorf("written again, the file differs (%v)", err)
			}
		})
	}
}
