// Package passtest tests passes: golden files with a graph before and after,
// and random graphs whose results an exact pass must keep.
package passtest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

var update = flag.Bool("update", false, "rewrite the expected parts of golden files")

// Golden runs the cases testdata/*.txtar of a pass. A case has these parts:
//
//	-- pass --       the pass with options, as in a pipeline; optional
//	-- in.tir --     the graph before
//	-- want.tir --   the graph after
//	-- stats --      the pass's findings, one "name: JSON value" a line
//	-- error --      the error instead of the two parts above
//
// Where the pass is Exact, both graphs are also run on random inputs. With the test
// flag -update the last three parts are written instead of compared. context, if
// given, makes what the pass runs in.
func Golden(t *testing.T, info passes.Info, context ...func(*testing.T) *passes.Context) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	table := &passes.Table{Passes: []passes.Info{info}}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := &passes.Context{Context: t.Context()}
			for _, f := range context {
				c = f(t)
			}
			golden(t, c, table, file, a)
		})
	}
}

func golden(t *testing.T, c *passes.Context, table *passes.Table, file string, a *txtar.Archive) {
	parts := map[string]string{"pass": table.Passes[0].Name}
	for _, f := range a.Files {
		if _, ok := parts[f.Name]; ok && f.Name != "pass" || !strings.Contains(" pass in.tir want.tir stats error ", " "+f.Name+" ") {
			t.Fatalf("part %s is not known or stands twice", f.Name)
		}
		parts[f.Name] = string(f.Data)
	}
	steps, err := table.Parse(strings.TrimSpace(parts["pass"]))
	if err != nil {
		t.Fatal(err)
	}
	g := irtest.Parse(t, parts["in.tir"], ops.Table())
	got := run(t, c, g, steps)
	if *update {
		rewrite(t, file, a, got)
		return
	}
	for _, name := range []string{"want.tir", "stats", "error"} {
		if got[name] != parts[name] {
			t.Errorf("%s is not as expected (go test -update accepts it):\n%s", name, diff.Diff("want", []byte(parts[name]), "got", []byte(got[name])))
		}
	}
}

func run(t *testing.T, c *passes.Context, g *ir.Graph, steps []passes.Step) map[string]string {
	o := passes.RunOptions{}
	if steps[0].Info.Kind == passes.Exact {
		o.Check = [][]*tensor.Tensor{irtest.Inputs(g, 1), irtest.Inputs(g, 2)}
	}
	res, err := passes.Run(c, g, steps, o)
	if err != nil {
		return map[string]string{"error": err.Error() + "\n"}
	}
	var stats strings.Builder
	for _, s := range res.Steps[0].Stats {
		v, err := json.Marshal(s.Value)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&stats, "%s: %s\n", s.Name, v)
	}
	return map[string]string{"want.tir": ir.Format(g), "stats": stats.String()}
}

func rewrite(t *testing.T, file string, a *txtar.Archive, got map[string]string) {
	out := &txtar.Archive{Comment: a.Comment}
	for _, f := range a.Files {
		if f.Name == "pass" || f.Name == "in.tir" {
			out.Files = append(out.Files, f)
		}
	}
	for _, name := range []string{"want.tir", "stats", "error"} {
		if got[name] != "" {
			out.Files = append(out.Files, txtar.File{Name: name, Data: []byte(got[name])})
		}
	}
	if err := os.WriteFile(file, txtar.Format(out), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Random runs a pipeline of exact passes on count random graphs and checks their
// results; of a single pass also that a second run finds nothing more to do.
func Random(t *testing.T, table *passes.Table, pipeline string, count int) {
	t.Helper()
	for seed := range uint64(count) {
		g := irtest.Random(t, ops.Table(), seed, 25)
		before := ir.Format(g)
		in := irtest.Inputs(g, seed)
		steps, err := table.Parse(pipeline)
		if err != nil {
			t.Fatal(err)
		}
		_, err = passes.Run(&passes.Context{Context: t.Context()}, g, steps, passes.RunOptions{Check: [][]*tensor.Tensor{in}})
		if err != nil {
			t.Fatalf("seed %d: %v\nthe graph was\n%s\nand is\n%s", seed, err, before, ir.Format(g))
		}
		if len(steps) > 1 {
			continue
		}
		once := ir.Format(g)
		if _, err := passes.Run(&passes.Context{Context: t.Context()}, g, steps, passes.RunOptions{}); err != nil {
			t.Fatalf("seed %d, second run: %v", seed, err)
		}
		if twice := ir.Format(g); twice != once {
			t.Errorf("seed %d: the second run changed something:\n%s", seed, diff.Diff("once", []byte(once), "twice", []byte(twice)))
		}
	}
}
