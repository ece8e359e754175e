package ir

import (
	"errors"
	"fmt"
	"slices"

	"gonum.org/v1/gonum/graph/simple"
	"gonum.org/v1/gonum/graph/topo"
)

// checkForm checks counts of inputs and outputs and the attributes against
// the operator's declaration.
func (n *Node) checkForm() error {
	errs := []error{n.CheckPorts()}
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s %s: %s", n.Op.Name, n.Label(), fmt.Sprintf(format, args...)))
	}
	for _, a := range n.Attrs {
		spec := n.Op.Attr(a.Name)
		if spec == nil {
			bad("attribute %s is not known", a.Name)
		} else if k := KindOf(a.Value); k != spec.Kind {
			bad("attribute %s is %v, expected %v", a.Name, k, spec.Kind)
		}
	}
	for _, spec := range n.Op.Attrs {
		if spec.Required && !n.Attrs.Has(spec.Name) {
			bad("attribute %s is missing", spec.Name)
		}
	}
	return errors.Join(errs...)
}

// CheckPorts checks that the inputs and outputs that the operator cannot do without
// are there, and that there are not more than it has. It names all that is wrong.
func (n *Node) CheckPorts() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s %s: %s", n.Op.Name, n.Label(), fmt.Sprintf(format, args...)))
	}
	check := func(what string, ports []Port, vals []*Value) {
		for i, p := range ports {
			if !p.Optional && !p.Variadic && (i >= len(vals) || vals[i] == nil) {
				bad("%s %d (%s) is missing", what, i, p.Name)
			}
		}
		if variadic := len(ports) > 0 && ports[len(ports)-1].Variadic; len(vals) > len(ports) && !variadic {
			bad("has %d %ss, expected at most %d", len(vals), what, len(ports))
		}
	}
	check("input", n.Op.Inputs(), n.In)
	if !slices.ContainsFunc(n.Out, func(v *Value) bool { return v != nil }) {
		bad("has no output")
	}
	if len(n.Out) > len(n.Op.Outputs()) {
		check("output", n.Op.Outputs(), n.Out)
	}
	return errors.Join(errs...)
}

// Verify checks everything that must hold of a graph between passes: every
// node's form, definitions before uses, consistent producers and uses, unique
// names, types that inference agrees with. It reports all that is wrong.
func Verify(g *Graph) error {
	v := &verifier{defined: map[*Value]bool{}, names: map[string]bool{}, uses: map[Use]*Value{}}
	v.graph(g)
	for u, val := range v.uses {
		if !slices.Contains(val.uses, u) {
			v.errorf("%s %s: input %d does not stand in the uses of %%%s", u.Node.Op.Name, u.Node.Label(), u.Index, val.Name)
		}
	}
	if len(v.errs) == 0 {
		c := g.Clone()
		if err := Infer(c); err != nil {
			v.errs = append(v.errs, err)
		} else {
			v.types(g, c)
		}
	}
	slices.SortStableFunc(v.errs, func(a, b error) int {
		switch {
		case a.Error() < b.Error():
			return -1
		case a.Error() > b.Error():
			return 1
		}
		return 0
	})
	return errors.Join(v.errs...)
}

type verifier struct {
	errs    []error
	defined map[*Value]bool
	names   map[string]bool
	uses    map[Use]*Value
}

func (v *verifier) errorf(format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf(format, args...))
}

func (v *verifier) define(g *Graph, val *Value) {
	switch {
	case val.Name == "":
		v.errorf("a value has no name")
	case v.names[val.Name]:
		v.errorf("two values are named %%%s", val.Name)
	}
	if !g.Root().names[val.Name] {
		v.errorf("%%%s: name is not registered with the graph", val.Name)
	}
	if val.graph != g {
		v.errorf("%%%s: is listed in a graph that it does not belong to", val.Name)
	}
	if val.HasData() != (val.Kind == Const || val.Kind == Param) {
		v.errorf("%%%s: only constants and parameters have data", val.Name)
	}
	if val.Data != nil && !val.Type.Compatible(TypeOf(val.Data)) {
		v.errorf("%%%s: type %v, data %v", val.Name, val.Type, TypeOf(val.Data))
	}
	v.names[val.Name] = true
	v.defined[val] = true
}

func (v *verifier) graph(g *Graph) {
	for _, val := range g.Inputs {
		v.define(g, val)
	}
	for _, val := range g.Consts {
		v.define(g, val)
	}
	for _, n := range g.Nodes {
		if n.graph != g {
			v.errorf("%s %s: is listed in a graph that it does not belong to", n.Op.Name, n.Label())
		}
		if err := n.checkForm(); err != nil {
			v.errs = append(v.errs, err)
		}
		for i, val := range n.In {
			if val == nil {
				continue
			}
			v.uses[Use{n, i}] = val
			if !v.defined[val] {
				v.errorf("%s %s: input %%%s is used before it is defined", n.Op.Name, n.Label(), val.Name)
			}
		}
		for _, b := range n.Bodies() {
			if b.Parent != g {
				v.errorf("%s %s: subgraph has another parent", n.Op.Name, n.Label())
			}
			v.graph(b)
		}
		for _, val := range n.Out {
			if val == nil {
				continue
			}
			if val.Def != n || val.Kind != Result {
				v.errorf("%s %s: output %%%s names another producer", n.Op.Name, n.Label(), val.Name)
			}
			v.define(g, val)
		}
	}
	for _, val := range g.Outputs {
		if val == nil || !v.defined[val] {
			v.errorf("an output of graph %q is not defined", g.Name)
		} else if val.graph != g {
			v.errorf("output %%%s of graph %q is defined outside of it", val.Name, g.Name)
		}
	}
	for _, u := range g.Updates {
		if u.Param.Kind != Param || !v.defined[u.Param] || !v.defined[u.Next] {
			v.errorf("update of %%%s: not a parameter of the graph, or no next value", u.Param.Name)
		} else if !u.Param.Type.Compatible(u.Next.Type) {
			v.errorf("update of %%%s: %v becomes %v", u.Param.Name, u.Param.Type, u.Next.Type)
		}
	}
}

// types compares the types of a graph with those of its freshly inferred copy.
func (v *verifier) types(g, c *Graph) {
	for i, n := range g.Nodes {
		for j, val := range n.Out {
			if val != nil && !val.Type.Compatible(c.Nodes[i].Out[j].Type) {
				v.errorf("%s %s: output %%%s is %v, inferred %v", n.Op.Name, n.Label(), val.Name, val.Type, c.Nodes[i].Out[j].Type)
			}
		}
	}
}

// topoOrder sorts g's nodes so that definitions come before uses, keeping the
// present order where it can.
func topoOrder(g *Graph) ([]*Node, error) {
	dg := simple.NewDirectedGraph()
	id := make(map[*Node]int64, len(g.Nodes))
	for i, n := range g.Nodes {
		id[n] = int64(i)
		dg.AddNode(simple.Node(i))
	}
	for _, n := range g.Nodes {
		for _, v := range slices.Concat(n.In, n.Captures()) {
			if v == nil || v.Def == nil {
				continue
			}
			if d, ok := id[v.Def]; ok {
				if d == id[n] {
					return nil, fmt.Errorf("%s %s: uses its own output", n.Op.Name, n.Label())
				}
				dg.SetEdge(simple.Edge{F: simple.Node(d), T: simple.Node(id[n])})
			}
		}
	}
	sorted, err := topo.SortStabilized(dg, nil)
	if cycles, ok := err.(topo.Unorderable); ok {
		var errs []error
		for _, c := range cycles {
			names := ""
			for _, x := range c {
				names += " " + g.Nodes[x.ID()].Label()
			}
			errs = append(errs, fmt.Errorf("nodes in a cycle:%s", names))
		}
		return nil, errors.Join(errs...)
	}
	out := make([]*Node, len(sorted))
	for i, x := range sorted {
		out[i] = g.Nodes[x.ID()]
	}
	return out, nil
}
