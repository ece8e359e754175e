package ir

import (
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir/tensor"
)

// AttrKind is the type of an attribute.
type AttrKind uint8

// The attribute types, and the Go type of each.
const (
	IntAttr     AttrKind = iota + 1 // int64
	FloatAttr                       // float32
	StringAttr                      // string
	IntsAttr                        // []int64
	FloatsAttr                      // []float32
	StringsAttr                     // []string
	TensorAttr                      // *tensor.Tensor
	GraphAttr                       // *Graph
)

var attrKindNames = [...]string{"none", "int", "float", "string", "ints", "floats", "strings", "tensor", "graph"}

func (k AttrKind) String() string { return attrKindNames[k] }

// KindOf returns the kind of an attribute value, 0 when it is none of the Go
// types that attributes may have.
func KindOf(v any) AttrKind {
	switch v.(type) {
	case int64:
		return IntAttr
	case float32:
		return FloatAttr
	case string:
		return StringAttr
	case []int64:
		return IntsAttr
	case []float32:
		return FloatsAttr
	case []string:
		return StringsAttr
	case *tensor.Tensor:
		return TensorAttr
	case *Graph:
		return GraphAttr
	}
	return 0
}

// AttrSpec declares one attribute of an operator.
type AttrSpec struct {
	Name     string
	Kind     AttrKind
	Default  any  // of Kind's Go type; nil: no default
	Required bool // must be present
	// Flag: the integer says no (0) or yes. Where a model has another number
	// than 1 for yes, reading makes it 1.
	Flag bool
	Doc  string
}

// Attr is an attribute of a node.
type Attr struct {
	Name  string
	Value any // one of the Go types listed at AttrKind
}

// Attrs are a node's attributes, sorted by name. Attributes that equal the
// operator's default may be absent.
type Attrs []Attr

// MakeAttrs builds Attrs from name, value pairs. Values may also be int (kept
// as int64), []int, float64 (kept as float32) and bool (1 or 0). It panics on any other type.
func MakeAttrs(pairs ...any) Attrs {
	var a Attrs
	for i := 0; i < len(pairs); i += 2 {
		a.Set(pairs[i].(string), pairs[i+1])
	}
	return a
}

func attrValue(v any) any {
	switch x := v.(type) {
	case int:
		return int64(x)
	case bool:
		if x {
			return int64(1)
		}
		return int64(0)
	case float64:
		return float32(x)
	case []int:
		out := make([]int64, len(x))
		for i, n := range x {
			out[i] = int64(n)
		}
		return out
	}
	if KindOf(v) == 0 {
		panic(fmt.Sprintf("ir: %T cannot be an attribute", v))
	}
	return v
}

func (a Attrs) search(name string) (int, bool) {
	return slices.BinarySearchFunc(a, name, func(x Attr, n string) int { return strings.Compare(x.Name, n) })
}

// Get returns the attribute's value, or nil when it is absent.
func (a Attrs) Get(name string) any {
	if i, ok := a.search(name); ok {
		return a[i].Value
	}
	return nil
}

// Has reports whether the attribute is present.
func (a Attrs) Has(name string) bool { _, ok := a.search(name); return ok }

// Set adds or replaces an attribute; values as for MakeAttrs. For nodes that
// are in a graph, use Rewriter.SetAttr.
func (a *Attrs) Set(name string, v any) {
	v = attrValue(v)
	i, ok := a.search(name)
	if ok {
		(*a)[i].Value = v
	} else {
		*a = slices.Insert(*a, i, Attr{name, v})
	}
}

// Delete removes an attribute if it is present.
func (a *Attrs) Delete(name string) {
	if i, ok := a.search(name); ok {
		*a = slices.Delete(*a, i, i+1)
	}
}

// attr returns the node's attribute or the default in its operator's spec.
// Asking for an attribute that the operator does not declare is a programming
// error, except while an old form is being imported.
func (n *Node) attr(name string) any {
	if v := n.Attrs.Get(name); v != nil {
		return v
	}
	for i := range n.Op.Attrs {
		if n.Op.Attrs[i].Name == name {
			return n.Op.Attrs[i].Default
		}
	}
	return nil
}

func attrAs[T any](n *Node, name string) T {
	v, _ := n.attr(name).(T)
	return v
}

// HasAttr reports whether the attribute is present or has a default.
func (n *Node) HasAttr(name string) bool { return n.attr(name) != nil }

// Int returns an integer attribute, its default, or 0.
func (n *Node) Int(name string) int { return int(attrAs[int64](n, name)) }

// Float returns a float attribute, its default, or 0.
func (n *Node) Float(name string) float32 { return attrAs[float32](n, name) }

// Str returns a string attribute, its default, or "".
func (n *Node) Str(name string) string { return attrAs[string](n, name) }

// Ints returns an integer-list attribute, its default, or nil; callers must not change it.
func (n *Node) Ints(name string) []int64 { return attrAs[[]int64](n, name) }

// Floats returns a float-list attribute, its default, or nil; callers must not change it.
func (n *Node) Floats(name string) []float32 { return attrAs[[]float32](n, name) }

// Strs returns a string-list attribute, its default, or nil; callers must not change it.
func (n *Node) Strs(name string) []string { return attrAs[[]string](n, name) }

// TensorAttr returns a tensor attribute, its default, or nil.
func (n *Node) TensorAttr(name string) *tensor.Tensor { return attrAs[*tensor.Tensor](n, name) }

// Body returns a subgraph attribute, or nil.
func (n *Node) Body(name string) *Graph { return attrAs[*Graph](n, name) }
