// Package onnxschema knows what every version of every operator of the default ONNX
// domain is: attributes, inputs, outputs and types. The facts are a table that
// `make schemas` prints from the onnx package.
package onnxschema

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

//go:embed schemas.txt
var text string

// Operator is one version of an operator.
type Operator struct {
	Name  string
	Since int // the opset that brought this version
	Attrs []Attr
	In    []Port
	Out   []Port
	// MinIn and MinOut are how many inputs and outputs a node lists at least, absent ones among them.
	MinIn, MinOut int
	// Gone: the operator exists no more from this version on.
	Gone bool

	types map[string][]string // of each type variable
}

// Attr is an attribute that a version of an operator knows.
type Attr struct {
	Name       string
	Kind       string // as in AttributeProto: INT, FLOATS, …
	Required   bool
	HasDefault bool
	Default    string // in decimal, lists with commas; strings as they are
}

// Port is a formal input or output.
type Port struct {
	Type     string // a type variable or a type
	Optional bool
	Repeats  bool
	OneType  bool // of one that repeats: all have one type
}

// Attr returns the attribute of a name, or nil.
func (o *Operator) Attr(name string) *Attr {
	for i := range o.Attrs {
		if o.Attrs[i].Name == name {
			return &o.Attrs[i]
		}
	}
	return nil
}

// Types returns the types that a port may have, such as f32, i8 or seq(f32).
func (o *Operator) Types(p Port) []string {
	if t, ok := o.types[p.Type]; ok {
		return t
	}
	return []string{p.Type}
}

// Variable reports whether ports of type name stand for several types.
func (o *Operator) Variable(name string) bool { return o.types[name] != nil }

// Lookup returns the operator as an opset has it, or nil where it is not there:
// then first is the first opset that has it, 0 if none has.
func Lookup(name string, opset int) (op *Operator, first int) {
	versions := table()[name]
	for i := range versions {
		if v := &versions[i]; v.Since <= opset {
			op = v
		}
	}
	if len(versions) > 0 {
		first = versions[0].Since
	}
	if op != nil && op.Gone {
		return nil, first
	}
	return op, first
}

// Names lists all operators, in the order of the table.
func Names() []string {
	var names []string
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, " "); ok && line[0] != '#' && line[0] != '=' && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	return names
}

// FirstWith returns the first opset in which an operator has an attribute, 0 if none has.
func FirstWith(name, attr string) int {
	for _, v := range table()[name] {
		if v.Attr(attr) != nil {
			return v.Since
		}
	}
	return 0
}

// table holds the versions of each operator, oldest first.
var table = sync.OnceValue(func() map[string][]Operator {
	sets := map[string][]string{}
	out := map[string][]Operator{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '=':
			f := strings.Fields(line[1:])
			sets[f[0]] = f[1:]
		default:
			o, err := parse(line, sets)
			if err != nil {
				panic(fmt.Sprintf("onnxschema: %q: %v", line, err)) // the table is part of the program
			}
			out[o.Name] = append(out[o.Name], o)
		}
	}
	return out
})

func parse(line string, sets map[string][]string) (Operator, error) {
	f := strings.Split(line, "|")
	if len(f) < 5 {
		return Operator{}, fmt.Errorf("%d fields", len(f))
	}
	name, since, _ := strings.Cut(f[0], " ")
	o := Operator{Name: name, Gone: len(f) > 5, types: map[string][]string{}}
	var err error
	if o.Since, err = strconv.Atoi(since); err != nil {
		return o, err
	}
	for _, s := range strings.Fields(f[1]) {
		a := Attr{}
		a.Name, s, _ = strings.Cut(s, ":")
		s, a.Default, a.HasDefault = strings.Cut(s, "=")
		a.Kind, a.Required = strings.TrimSuffix(s, "!"), strings.HasSuffix(s, "!")
		o.Attrs = append(o.Attrs, a)
	}
	if o.In, o.MinIn, err = ports(f[2]); err != nil {
		return o, err
	}
	if o.Out, o.MinOut, err = ports(f[3]); err != nil {
		return o, err
	}
	for _, s := range strings.Fields(f[4]) {
		v, n, _ := strings.Cut(s, "=")
		if o.types[v] = sets[n]; sets[n] == nil {
			return o, fmt.Errorf("no set %s", n)
		}
	}
	return o, nil
}

func ports(s string) (out []Port, least int, err error) {
	f := strings.Fields(s)
	if len(f) == 0 {
		return nil, 0, fmt.Errorf("no least number")
	}
	for _, p := range f[1:] {
		name := strings.TrimRight(p, "?*+")
		mark := p[len(name):]
		out = append(out, Port{Type: name, Optional: mark == "?", Repeats: mark == "*" || mark == "+", OneType: mark == "*"})
	}
	least, err = strconv.Atoi(f[0])
	return out, least, err
}
