package thriftc_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir/ops"
)

// namesAllowed are the declarations outside ir/ops that may list operators by name, with the reason. What an
// operator is, and what its inputs are, is no reason: that stands in its define.
var namesAllowed = map[string]string{
	"backends/interp/broadcast.go broadcastUnit": "which kernel computes each",
	"backends/interp/bytes.go init":              "which kernel computes each",
	"backends/interp/bytes.go byteSource":        "which kernel computes each",
	"backends/interp/bytes.go windowed":          "kernels that read blocks",
	"passes/equalize/equalize.go pairFrom":       "each is seen through under its own condition",
	"backends/interp/channels.go pick":           "each moves channels in its own way",
	"backends/interp/function.go functions":      "which kernel computes each",
	"backends/interp/lines.go plainUnits":        "which kernel computes each",
	"backends/interp/move.go movers":             "each moves elements in its own way",
	"backends/interp/stage.go stageOf":           "which kernel computes each",
	"backends/interp/stage.go arithStage":        "which kernel computes each",
	"backends/interp/units.go sources":           "which kernel computes each",
	"backends/interp/units.go widerSources":      "which kernel computes each",
	"backends/interp/units.go soloUnits":         "which kernel computes each",
	"backends/onnx/explicit.go explicit":         "operators whose geometry readers of qonnx look up",
	"backends/onnx/lower.go graph":               "each quantiser has its own form in a dialect",
	"backends/onnx/lower.go moves":               "what ONNX Runtime does",
	"backends/onnx/notes.go RuntimeNotes":        "what ONNX Runtime fuses",
	"passes/canonicalize/canonicalize.go rules":  "each has its own rewriting",
	"passes/foldbn/foldbn.go mapOf":              "each has its own factor and shift",
	"passes/lowerint/layer.go productOf":         "each has its own integer form",
	"passes/lowerint/lowerint.go quantised":      "the bias of a MatMul is an Add",
	"passes/lowerint/lowerint.go fused":          "each has its own integer form",
	"passes/quantize/datafree.go node":           "each has its own distribution of results",
	"passes/quantize/patches.go newMoments":      "the products that can be reconstructed, each with its own rows",
	"quantstep.go toleranceOf":                   "each hands a step on in its own way",
}

// TestOperatorNames finds lists of operator names outside ir/ops and the random graphs of internal/irtest: a switch, a map or slice, or a chain of comparisons
// with three or more of them is a private copy of facts that belong into the operators' defines.
func TestOperatorNames(t *testing.T) {
	found := map[string]bool{}
	for _, l := range operatorLists(t, ".") {
		found[l.where] = true
		if namesAllowed[l.where] == "" {
			t.Errorf("%s: %s lists operators: %s\nif these have something in common, give ir.Op a field for it", l.at, l.where, strings.Join(l.names, ", "))
		}
	}
	for where := range namesAllowed {
		if !found[where] {
			t.Errorf("%s lists no operators any more: take it from namesAllowed", where)
		}
	}
}

type operatorList struct {
	where string // file and declaration
	at    token.Position
	names []string
}

func operatorLists(t *testing.T, root string) []operatorList {
	t.Helper()
	var out []operatorList
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == filepath.Join("ir", "ops") || path == filepath.Join("internal", "irtest") || name == "node_modules" || name == "testdata" || len(name) > 1 && name[0] == '.'):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				if names := namesIn(n); len(names) > 2 {
					out = append(out, operatorList{fmt.Sprintf("%s %s", filepath.ToSlash(path), declared(d, n)), files.Position(n.Pos()), names})
					_, chain := n.(*ast.BinaryExpr)
					return !chain
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// namesIn returns the different operators that a switch, a literal or a chain of || and && names itself.
func namesIn(n ast.Node) []string {
	var out []string
	add := func(e ast.Expr) {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if s, err := strconv.Unquote(l.Value); err == nil && ops.Table().Lookup(s) != nil && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	switch n := n.(type) {
	case *ast.SwitchStmt:
		for _, c := range n.Body.List {
			for _, e := range c.(*ast.CaseClause).List {
				add(e)
				if b, ok := e.(*ast.BinaryExpr); ok {
					chain(b, add)
				}
			}
		}
	case *ast.CompositeLit:
		for _, e := range n.Elts {
			switch e := e.(type) {
			case *ast.KeyValueExpr:
				add(e.Key)
				add(e.Value)
			case *ast.CompositeLit:
				if len(e.Elts) > 0 {
					add(e.Elts[0])
				}
			default:
				add(e)
			}
		}
	case *ast.BinaryExpr:
		chain(n, add)
	}
	return out
}

// chain calls add for what is compared in a chain of || and &&.
func chain(b *ast.BinaryExpr, add func(ast.Expr)) {
	for _, e := range []ast.Expr{b.X, b.Y} {
		for p, ok := e.(*ast.ParenExpr); ok; p, ok = e.(*ast.ParenExpr) {
			e = p.X
		}
		if inner, ok := e.(*ast.BinaryExpr); ok {
			chain(inner, add)
		} else if b.Op == token.EQL || b.Op == token.NEQ {
			add(e)
		}
	}
}

// declared names the function or variable of a declaration that n lies in.
func declared(d ast.Decl, n ast.Node) string {
	if f, ok := d.(*ast.FuncDecl); ok {
		return f.Name.Name
	}
	for _, s := range d.(*ast.GenDecl).Specs {
		if s.Pos() > n.Pos() || n.End() > s.End() {
			continue
		}
		switch s := s.(type) {
		case *ast.ValueSpec:
			return s.Names[0].Name
		case *ast.TypeSpec:
			return s.Name.Name
		}
	}
	return ""
}
