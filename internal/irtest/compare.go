// Package irtest helps tests of everything that reads or changes graphs: it
// compares graphs and tensors with messages that say where they differ, and
// draws random graphs.
package irtest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Equal fails the test unless the tensors have the same element type, shape and bits.
func Equal(t testing.TB, what string, got, want *tensor.Tensor) {
	t.Helper()
	if d := Diff(got, want, 0, 0); d != "" {
		t.Errorf("%s: %s", what, d)
	} else if !tensor.Equal(got, want) {
		t.Errorf("%s: equal numbers with different bits (sign of zero, or NaN)", what)
	}
}

// Close fails the test unless the tensors have the same element type and
// shape, and every element satisfies |got − want| ≤ abs + rel·|want|. NaN is
// close to NaN only, and an infinity to itself.
func Close(t testing.TB, what string, got, want *tensor.Tensor, abs, rel float64) {
	t.Helper()
	if d := Diff(got, want, abs, rel); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

// Diff says how two tensors differ by the measure of Close, "" if they do not:
// how many elements, the worst of them, where it lies.
func Diff(got, want *tensor.Tensor, abs, rel float64) string {
	if got == nil || want == nil {
		if got == want {
			return ""
		}
		return fmt.Sprintf("got %v, want %v", got, want)
	}
	if got.Elem() != want.Elem() || !slices.Equal(got.Shape(), want.Shape()) {
		return fmt.Sprintf("got %v, want %v", ir.TypeOf(got), ir.TypeOf(want))
	}
	if got.Elem() == tensor.String {
		if tensor.Equal(got, want) {
			return ""
		}
		return fmt.Sprintf("got %q, want %q", tensor.Data[string](got), tensor.Data[string](want))
	}
	if b := got.Elem().Bits(); b == 64 && got.Elem().IsInt() && tensor.Equal(got, want) {
		return "" // a float64 would hide differences
	}
	a, b := got.Float64s(), want.Float64s()
	bad, worst, over := 0, 0, -1.0
	for i := range a {
		d := math.Abs(a[i] - b[i])
		if a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i]) {
			d = 0
		} else if math.IsNaN(d) {
			d = math.Inf(1)
		}
		limit := abs + rel*math.Abs(b[i])
		if math.IsInf(b[i], 0) {
			limit = 0
		}
		if d > limit {
			bad++
			if d-limit > over {
				over, worst = d-limit, i
			}
		}
	}
	if bad == 0 {
		if got.Elem().Bits() == 64 && got.Elem().IsInt() {
			return "64-bit integers differ beyond the precision of a float64"
		}
		return ""
	}
	return fmt.Sprintf("%d of %d elements differ by more than %g + %g·|want|; worst at %v: got %v, want %v (difference %.3g)",
		bad, len(a), abs, rel, Index(worst, want.Shape()), a[worst], b[worst], math.Abs(a[worst]-b[worst]))
}

// Index returns the multi-dimensional index of flat element i.
func Index(i int, shape []int) []int {
	out := make([]int, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		out[d] = i % shape[d]
		i /= shape[d]
	}
	return out
}

// SameGraph fails the test unless the graphs are equal in everything: names,
// docs, metadata, types, attributes, tensors, and the order of all lists. It
// walks the graphs itself and does not trust the text form.
func SameGraph(t testing.TB, got, want *ir.Graph) {
	t.Helper()
	if d := graphDiff(got, want); d != "" {
		t.Errorf("graphs differ: %s", d)
	}
}

func graphDiff(a, b *ir.Graph) string {
	switch {
	case a.Name != b.Name || a.Doc != b.Doc:
		return fmt.Sprintf("name or doc: %q %q, want %q %q", a.Name, a.Doc, b.Name, b.Doc)
	case !slices.Equal(a.Meta, b.Meta):
		return fmt.Sprintf("metadata: %v, want %v", a.Meta, b.Meta)
	case len(a.Nodes) != len(b.Nodes):
		return fmt.Sprintf("%d nodes, want %d", len(a.Nodes), len(b.Nodes))
	case len(a.Updates) != len(b.Updates):
		return fmt.Sprintf("%d updates, want %d", len(a.Updates), len(b.Updates))
	}
	if d := valuesDiff(a.Inputs, b.Inputs); d != "" {
		return "inputs: " + d
	}
	if d := valuesDiff(a.Consts, b.Consts); d != "" {
		return "constants: " + d
	}
	if d := valuesDiff(a.Outputs, b.Outputs); d != "" {
		return "outputs: " + d
	}
	for i, n := range a.Nodes {
		if d := nodeDiff(n, b.Nodes[i]); d != "" {
			return fmt.Sprintf("node %d (%s %s): %s", i, n.Op.Name, n.Label(), d)
		}
	}
	for i, u := range a.Updates {
		if u.Param.Name != b.Updates[i].Param.Name || u.Next.Name != b.Updates[i].Next.Name {
			return fmt.Sprintf("update %d", i)
		}
	}
	return ""
}

func valuesDiff(a, b []*ir.Value) string {
	if len(a) != len(b) {
		return fmt.Sprintf("%d values, want %d", len(a), len(b))
	}
	for i := range a {
		if d := valueDiff(a[i], b[i]); d != "" {
			return fmt.Sprintf("value %d: %s", i, d)
		}
	}
	return ""
}

func valueDiff(a, b *ir.Value) string {
	if a == nil || b == nil {
		if a == b {
			return ""
		}
		return "one is absent"
	}
	switch {
	case a.Name != b.Name || a.Doc != b.Doc || a.Kind != b.Kind:
		return fmt.Sprintf("%q %q kind %d, want %q %q kind %d", a.Name, a.Doc, a.Kind, b.Name, b.Doc, b.Kind)
	case !a.Type.Equal(b.Type):
		return fmt.Sprintf("%%%s is %v, want %v", a.Name, a.Type, b.Type)
	case (a.Data == nil) != (b.Data == nil):
		return fmt.Sprintf("%%%s: only one has data", a.Name)
	case a.Data != nil && !tensor.Equal(a.Data, b.Data):
		return fmt.Sprintf("%%%s: tensors differ: %s", a.Name, Diff(a.Data, b.Data, 0, 0))
	case len(a.Uses()) != len(b.Uses()):
		return fmt.Sprintf("%%%s has %d uses, want %d", a.Name, len(a.Uses()), len(b.Uses()))
	}
	return ""
}

func nodeDiff(a, b *ir.Node) string {
	if a.Op.Name != b.Op.Name || a.Name != b.Name || a.Doc != b.Doc {
		return fmt.Sprintf("%s %q %q, want %s %q %q", a.Op.Name, a.Name, a.Doc, b.Op.Name, b.Name, b.Doc)
	}
	if d := valuesDiff(a.In, b.In); d != "" {
		return "inputs: " + d
	}
	if d := valuesDiff(a.Out, b.Out); d != "" {
		return "outputs: " + d
	}
	if len(a.Attrs) != len(b.Attrs) {
		return fmt.Sprintf("%d attributes, want %d", len(a.Attrs), len(b.Attrs))
	}
	for i, x := range a.Attrs {
		y := b.Attrs[i]
		if x.Name != y.Name || !sameAttr(x.Value, y.Value) {
			return fmt.Sprintf("attribute %s=%v, want %s=%v", x.Name, x.Value, y.Name, y.Value)
		}
	}
	return ""
}

func sameAttr(a, b any) bool {
	bits := func(x float32) uint32 { return math.Float32bits(x) }
	switch x := a.(type) {
	case float32:
		y, ok := b.(float32)
		return ok && bits(x) == bits(y)
	case []int64:
		y, ok := b.([]int64)
		return ok && slices.Equal(x, y)
	case []float32:
		y, ok := b.([]float32)
		return ok && slices.EqualFunc(x, y, func(p, q float32) bool { return bits(p) == bits(q) })
	case []string:
		y, ok := b.([]string)
		return ok && slices.Equal(x, y)
	case *tensor.Tensor:
		y, ok := b.(*tensor.Tensor)
		return ok && tensor.Equal(x, y)
	case *ir.Graph:
		y, ok := b.(*ir.Graph)
		return ok && graphDiff(x, y) == ""
	}
	return a == b
}

// Parse reads a graph in the text form, and stops the test where that fails or
// the graph does not verify.
func Parse(t testing.TB, src string, ops *ir.Registry) *ir.Graph {
	t.Helper()
	g, err := ir.Parse("test.tir", src, ops)
	if err != nil {
		t.Fatalf("parse: %v\n%s", err, numbered(src))
	}
	if err := ir.Verify(g); err != nil {
		t.Fatalf("verify: %v\n%s", err, ir.Format(g))
	}
	return g
}

func numbered(src string) []byte {
	var b bytes.Buffer
	for i, line := range bytes.Split([]byte(src), []byte("\n")) {
		fmt.Fprintf(&b, "%4d %s\n", i+1, line)
	}
	return b.Bytes()
}
