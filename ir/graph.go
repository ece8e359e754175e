// Package ir is the typed graph that everything in thriftc reads, transforms
// and lowers. A Graph holds Nodes in topological order; Nodes use and define
// Values; edges are pointers, never names. Passes change graphs through a
// Rewriter only, which keeps producers, uses and names consistent.
package ir

import (
	"slices"

	"github.com/thriftc/thriftc/ir/tensor"
)

// ValueKind says where a value comes from.
type ValueKind uint8

// Where values come from.
const (
	Result ValueKind = iota // an output of a node
	Input                   // an input of the graph
	Const                   // a constant: Data never changes
	Param                   // a parameter: Data is its initial value
)

// Value is an edge of the graph: one definition and any number of uses.
// Sharing a Const or Param between nodes is weight sharing, and always meant.
type Value struct {
	Name string // unique in the graph and its subgraphs, never empty
	Kind ValueKind
	Type Type
	Doc  string
	Data *tensor.Tensor // Const and Param; nil otherwise
	Def  *Node          // Result: the node that computes it; nil otherwise

	// Contents is what shape inference knows about the elements of a small
	// integer value of rank 0 or 1, such as the result of Shape; nil if nothing.
	// A negative element, such as the -1 of a Reshape, is Unknown here.
	Contents []Dim

	uses  []Use
	graph *Graph
}

// Use is one place where a value is used: an input of a node.
type Use struct {
	Node  *Node
	Index int
}

// Uses returns the inputs of nodes, in subgraphs too, that v feeds, in no
// particular order; graph outputs are not among them. Callers must not change it.
func (v *Value) Uses() []Use { return v.uses }

// Graph returns the graph or subgraph in which v is defined.
func (v *Value) Graph() *Graph { return v.graph }

// IsConst reports whether v is a constant; v may be nil.
func (v *Value) IsConst() bool { return v != nil && v.Kind == Const }

// HasData reports whether v is a constant or a parameter; v may be nil.
func (v *Value) HasData() bool { return v != nil && v.Data != nil }

// IsOutput reports whether v is an output of the graph that defines it.
func (v *Value) IsOutput() bool { return slices.Contains(v.graph.Outputs, v) }

// Unused reports whether nothing depends on v.
func (v *Value) Unused() bool { return len(v.uses) == 0 && !v.IsOutput() && !v.graph.updates(v) }

// Node is one application of an operator.
type Node struct {
	Op    *Op
	Name  string // as in the file; may be empty
	Doc   string
	Attrs Attrs
	In    []*Value // an absent optional input is nil
	Out   []*Value // an absent optional output is nil

	graph *Graph
}

// Graph returns the graph or subgraph that holds n.
func (n *Node) Graph() *Graph { return n.graph }

// Label names the node for a person: its name, or its first output's.
func (n *Node) Label() string {
	if n.Name != "" {
		return n.Name
	}
	for _, v := range n.Out {
		if v != nil {
			return "%" + v.Name
		}
	}
	return n.Op.Name
}

// Input returns input i, nil when it is absent.
func (n *Node) Input(i int) *Value {
	if i < len(n.In) {
		return n.In[i]
	}
	return nil
}

// Output returns output i, nil when it is absent.
func (n *Node) Output(i int) *Value {
	if i < len(n.Out) {
		return n.Out[i]
	}
	return nil
}

// ConstIn returns the tensor of input i when it is a constant, nil otherwise.
func (n *Node) ConstIn(i int) *tensor.Tensor {
	if v := n.Input(i); v.IsConst() {
		return v.Data
	}
	return nil
}

// Bodies returns the node's subgraphs in the order of their attribute names.
func (n *Node) Bodies() []*Graph {
	var out []*Graph
	for _, a := range n.Attrs {
		if g, ok := a.Value.(*Graph); ok {
			out = append(out, g)
		}
	}
	return out
}

// Captures returns the values of enclosing graphs that the node's subgraphs
// use, each once, in order of first use.
func (n *Node) Captures() []*Value {
	var out []*Value
	seen := map[*Value]bool{}
	inside := map[*Graph]bool{}
	var visit func(g *Graph)
	see := func(v *Value) {
		if v != nil && !inside[v.graph] && !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	visit = func(g *Graph) {
		inside[g] = true
		for _, m := range g.Nodes {
			for _, v := range m.In {
				see(v)
			}
			for _, b := range m.Bodies() {
				visit(b)
			}
		}
		for _, v := range g.Outputs {
			see(v)
		}
	}
	for _, b := range n.Bodies() {
		visit(b)
	}
	return out
}

// Update says that running the graph changes a parameter: after a run, Param
// holds what Next was.
type Update struct{ Param, Next *Value }

// Pair is one entry of a model's metadata.
type Pair struct{ Key, Value string }

// Graph is a computation. Its slices are for reading; a Rewriter changes them.
type Graph struct {
	Name, Doc string
	Ops       *Registry
	Inputs    []*Value
	Outputs   []*Value
	Consts    []*Value // Const and Param values in the order of their creation
	Nodes     []*Node  // topological order
	Updates   []Update // top level only
	Meta      []Pair   // top level only: the model's metadata, sorted by key
	Parent    *Graph   // the enclosing graph of a subgraph

	names map[string]bool // top level: every value name in the graph and its subgraphs; false: those that have been
	taken map[string]int  // top level: for names that are taken very often, the last number that Fresh gave out
}

// NewGraph returns an empty graph over a set of operators.
func NewGraph(name string, ops *Registry) *Graph {
	return &Graph{Name: name, Ops: ops, names: map[string]bool{}}
}

// NewBody returns an empty subgraph of parent, to be set as an attribute of
// one of parent's nodes.
func NewBody(name string, parent *Graph) *Graph {
	return &Graph{Name: name, Ops: parent.Ops, Parent: parent}
}

// Root returns the outermost graph that encloses g.
func (g *Graph) Root() *Graph {
	for g.Parent != nil {
		g = g.Parent
	}
	return g
}

func (g *Graph) updates(v *Value) bool {
	for _, u := range g.Updates {
		if u.Param == v || u.Next == v {
			return true
		}
	}
	return false
}

// MetaValue returns the metadata entry with the given key, or "".
func (g *Graph) MetaValue(key string) string {
	for _, p := range g.Meta {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}

// Walk calls f for every node of g and of its subgraphs, in order, a node
// before the nodes of its subgraphs.
func (g *Graph) Walk(f func(*Node)) {
	for _, n := range g.Nodes {
		f(n)
		for _, b := range n.Bodies() {
			b.Walk(f)
		}
	}
}

// Value returns the value of the given name in g, not in its subgraphs, or nil.
func (g *Graph) Value(name string) *Value {
	for v := range g.values() {
		if v.Name == name {
			return v
		}
	}
	return nil
}

func (g *Graph) values() func(yield func(*Value) bool) {
	return func(yield func(*Value) bool) {
		for _, vs := range [2][]*Value{g.Inputs, g.Consts} {
			for _, v := range vs {
				if !yield(v) {
					return
				}
			}
		}
		for _, n := range g.Nodes {
			for _, v := range n.Out {
				if v != nil && !yield(v) {
					return
				}
			}
		}
	}
}
