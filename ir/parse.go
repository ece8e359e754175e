package ir

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Parse reads a graph in the text form. Types of results may be left out where
// inference finds them; types that are given must agree with it. It reports up
// to 20 errors, each with file, line and column. Memory is bounded by the length of src plus
// 64 MiB (tensors given by one number), whatever src says.
func Parse(filename, src string, ops *Registry) (*Graph, error) {
	p := &parser{lex: lexer{src: src}, file: filename, vals: map[string]*Value{}, broken: map[*Value]bool{}}
	p.advance()
	g := NewGraph("", ops)
	p.root = g
	if p.graph(g, 0) && p.tok.kind != eofToken {
		p.errorf(p.tok.pos, "unexpected %v after the graph", p.tok)
	}
	return g, p.err()
}

const maxParseErrors = 20

type parser struct {
	lex    lexer
	tok    token
	file   string
	errs   []parseError
	root   *Graph
	vals   map[string]*Value // of the whole file: names are unique in it
	broken map[*Value]bool   // values whose definition had an error: what uses them is not complained about
	splat  int
}

type parseError struct {
	pos int
	msg string
}

// errorf records an error and returns false, for return statements.
func (p *parser) errorf(pos int, format string, args ...any) bool {
	p.errs = append(p.errs, parseError{pos, fmt.Sprintf(format, args...)})
	return false
}

func (p *parser) err() error {
	slices.SortStableFunc(p.errs, func(a, b parseError) int { return a.pos - b.pos })
	var errs []error
	line, last := 1, 0
	for i, e := range p.errs {
		if i == maxParseErrors {
			errs = append(errs, fmt.Errorf("%s: %d more errors", p.file, len(p.errs)-i))
			break
		}
		line += strings.Count(p.lex.src[last:e.pos], "\n")
		last = e.pos
		col := e.pos - strings.LastIndexByte(p.lex.src[:e.pos], '\n')
		errs = append(errs, fmt.Errorf("%s:%d:%d: %s", p.file, line, col, e.msg))
	}
	return errors.Join(errs...)
}

func (p *parser) advance() { p.tok = p.lex.next() }

func (p *parser) at(text string) bool {
	return p.tok.text == text && (p.tok.kind == punctToken || p.tok.kind == identToken)
}

func (p *parser) accept(text string) bool {
	if p.at(text) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expect(text string) bool {
	if p.accept(text) {
		return true
	}
	return p.unexpected(text)
}

func (p *parser) unexpected(want string) bool {
	if p.tok.kind == badToken {
		return p.errorf(p.tok.pos, "%s", p.tok.text)
	}
	return p.errorf(p.tok.pos, "expected %s, found %v", want, p.tok)
}

func (p *parser) str(what string) (string, bool) {
	if p.tok.kind != stringToken {
		return "", p.unexpected("a quoted " + what)
	}
	s, ok := unquote(p.tok.text)
	if !ok {
		return "", p.errorf(p.tok.pos, "%s is not a well-formed string", p.tok)
	}
	p.advance()
	return s, true
}

// ident accepts an identifier, or any text in quotes.
func (p *parser) ident(what string) (string, bool) {
	if p.tok.kind == identToken {
		s := p.tok.text
		p.advance()
		return s, true
	}
	if p.tok.kind == stringToken {
		return p.str(what)
	}
	return "", p.unexpected(what)
}

// name accepts a value's name after %.
func (p *parser) name() (string, bool) {
	if p.tok.kind != nameToken {
		return "", p.unexpected("a value such as %x")
	}
	s := p.tok.text
	if s[0] == '"' {
		var ok bool
		if s, ok = unquote(s); !ok || s == "" {
			return "", p.errorf(p.tok.pos, "%v is not a well-formed name", p.tok)
		}
	}
	p.advance()
	return s, true
}

// graph parses from the keyword to the closing brace into g. It returns false
// when what follows cannot be made sense of.
func (p *parser) graph(g *Graph, depth int) bool {
	if depth > maxNesting {
		return p.errorf(p.tok.pos, "graphs nest deeper than %d", maxNesting)
	}
	if !p.expect("graph") {
		return false
	}
	if p.tok.kind == stringToken {
		s, ok := p.str("name")
		if !ok {
			return false
		}
		g.Name = s
	}
	if !p.expect("{") {
		return false
	}
	for !p.at("}") {
		if p.tok.kind == eofToken {
			return p.errorf(p.tok.pos, "graph %q is not closed by }", g.Name)
		}
		if len(p.errs) > 4*maxParseErrors {
			return false
		}
		if start := p.tok.pos; !p.statement(g, depth) && !p.recover(start) {
			return false
		}
	}
	p.advance()
	return true
}

// recover skips to where the next statement after that at start seems to begin.
func (p *parser) recover(start int) bool {
	for p.tok.kind != eofToken {
		if p.tok.pos > start && p.tok.first {
			switch p.tok.text {
			case "input", "const", "param", "output", "update", "doc", "meta", "_", "}":
				return true
			}
			if p.tok.kind == nameToken {
				return true
			}
		}
		p.advance()
	}
	return false
}

func (p *parser) statement(g *Graph, depth int) bool {
	start := p.tok
	switch {
	case start.kind == nameToken || p.at("_"):
		return p.node(g, depth)
	case p.accept("input"):
		d, ok := p.declaration(g)
		if !ok {
			return false
		}
		if d.typ.Elem == tensor.Invalid {
			return p.errorf(start.pos, "input %%%s needs a type", d.name)
		}
		r := NewRewriter(g)
		p.define(d, r.Input(d.name, d.typ))
	case p.at("const") || p.at("param"):
		return p.constant(g)
	case p.accept("output"):
		for {
			pos := p.tok.pos
			v, ok := p.use(g)
			if !ok {
				return false
			}
			if v.graph != g && !p.broken[v] {
				p.errorf(pos, "output %%%s is defined outside of its graph", v.Name)
			}
			g.Outputs = append(g.Outputs, v)
			if !p.accept(",") {
				return true
			}
		}
	case p.accept("doc"):
		s, ok := p.str("text")
		g.Doc = s
		return ok
	case p.accept("meta"):
		return p.meta(g, start.pos)
	case p.accept("update"):
		return p.update(g, start.pos)
	default:
		return p.unexpected("input, const, param, output, update, doc, meta, or %name = Operator(...)")
	}
	return true
}

func (p *parser) meta(g *Graph, pos int) bool {
	key, ok := p.str("key")
	if !ok || !p.expect("=") {
		return false
	}
	value, ok := p.str("value")
	if !ok {
		return false
	}
	i, dup := slices.BinarySearchFunc(g.Meta, key, func(m Pair, k string) int { return strings.Compare(m.Key, k) })
	switch {
	case g.Parent != nil:
		p.errorf(pos, "a subgraph has no metadata")
	case dup:
		p.errorf(pos, "metadata %q is given twice", key)
	default:
		g.Meta = slices.Insert(g.Meta, i, Pair{key, value})
	}
	return true
}

func (p *parser) update(g *Graph, pos int) bool {
	param, ok := p.use(g)
	if !ok || !p.expect("=") {
		return false
	}
	next, ok := p.use(g)
	if !ok || p.broken[param] || p.broken[next] {
		return ok
	}
	switch {
	case g.Parent != nil:
		p.errorf(pos, "a subgraph updates nothing")
	case param.Kind != Param:
		p.errorf(pos, "%%%s is not a parameter", param.Name)
	case !param.Type.Compatible(next.Type):
		p.errorf(pos, "update of %%%s: %v becomes %v", param.Name, param.Type, next.Type)
	default:
		g.Updates = append(g.Updates, Update{param, next})
	}
	return true
}

// declaration is %name, with an optional type and an optional doc.
type declaration struct {
	name, doc string
	typ       Type // element type Invalid: not given
	pos       int
}

func (p *parser) declaration(g *Graph) (d declaration, ok bool) {
	d.pos = p.tok.pos
	d.typ.Unranked = true
	if d.name, ok = p.name(); !ok {
		return d, false
	}
	if p.vals[d.name] != nil {
		p.errorf(d.pos, "%%%s is defined twice", d.name)
		for p.vals[d.name] != nil { // go on under another name, to see further errors
			d.name += "'"
		}
	}
	if p.accept(":") {
		if d.typ, ok = p.typ(); !ok {
			return d, false
		}
	}
	if p.accept("doc") {
		if d.doc, ok = p.str("text"); !ok {
			return d, false
		}
	}
	return d, true
}

func (p *parser) define(d declaration, v *Value) {
	v.Doc = d.doc
	p.vals[v.Name] = v
}

// use parses a value that must have been defined before, in g or a graph around it.
func (p *parser) use(g *Graph) (*Value, bool) {
	pos := p.tok.pos
	name, ok := p.name()
	if !ok {
		return nil, false
	}
	v := p.vals[name]
	if v == nil {
		p.errorf(pos, "%%%s is not defined before its use", name)
		v = &Value{Name: name, graph: g}
		p.broken[v] = true
		return v, true
	}
	for h := g; h != v.graph; h = h.Parent {
		if h == nil {
			if !p.broken[v] {
				p.errorf(pos, "%%%s is not visible here, it belongs to another subgraph", name)
			}
			v = &Value{Name: name, graph: g}
			p.broken[v] = true
			break
		}
	}
	return v, true
}

func (p *parser) constant(g *Graph) bool {
	isParam := p.at("param")
	p.advance()
	pos := p.tok.pos
	d, ok := p.declaration(g)
	if !ok {
		return false
	}
	if d.typ.Elem == tensor.Invalid {
		return p.errorf(pos, "constant %%%s needs a type", d.name)
	}
	if !p.expect("=") {
		return false
	}
	t, ok := p.tensor(d.typ, pos)
	if !ok {
		v := &Value{Name: d.name, graph: g}
		p.broken[v], p.vals[d.name] = true, v
		return false
	}
	r := NewRewriter(g)
	v := r.Const(d.name, t)
	if isParam {
		v.Kind, v.Contents = Param, nil
	}
	v.Type.Quant = d.typ.Quant
	p.define(d, v)
	return true
}

func (p *parser) typ() (Type, bool) {
	if p.tok.kind != identToken {
		return Type{}, p.unexpected("a type such as f32[N,3]")
	}
	e, err := tensor.ParseElem(p.tok.text)
	if err != nil {
		return Type{}, p.errorf(p.tok.pos, "%v", err)
	}
	p.advance()
	t := Type{Elem: e}
	if !p.expect("[") {
		return t, false
	}
	if p.accept("...") {
		t.Unranked = true
	} else if !p.at("]") {
		for {
			d, ok := p.dim()
			if !ok {
				return t, false
			}
			t.Dims = append(t.Dims, d)
			if !p.accept(",") {
				break
			}
		}
	}
	if !p.expect("]") {
		return t, false
	}
	if e.IsSequence() && (t.Unranked || len(t.Dims) != 1) {
		return t, p.errorf(p.tok.pos, "a sequence has one dimension, its length: %v[?]", e)
	}
	if p.at("scale") || p.at("zero") || p.at("axis") {
		return p.quant(t)
	}
	return t, true
}

func (p *parser) dim() (Dim, bool) {
	switch p.tok.kind {
	case numberToken:
		n, ok := p.int("a dimension")
		if !ok || n < 0 {
			return Dim{}, ok && p.errorf(p.tok.pos, "a dimension cannot be negative")
		}
		return Fixed(int(n)), true
	case identToken, stringToken:
		pos := p.tok.pos
		s, ok := p.ident("dimension")
		if ok && s == "" {
			return Dim{}, p.errorf(pos, "a symbol cannot be empty")
		}
		return Symbol(s), ok
	}
	if p.accept("?") {
		return Unknown, true
	}
	return Dim{}, p.unexpected("a dimension: a number, a symbol or ?")
}

func (p *parser) quant(t Type) (Type, bool) {
	q := &Quant{}
	pos := p.tok.pos
	if p.accept("scale") {
		v, ok := p.list(FloatsAttr)
		if !ok {
			return t, false
		}
		q.Scale = v.([]float32)
	}
	if p.accept("zero") {
		v, ok := p.list(IntsAttr)
		if !ok {
			return t, false
		}
		q.ZeroPoint = v.([]int64)
	}
	if p.accept("axis") {
		a, ok := p.int("an axis")
		if !ok {
			return t, false
		}
		q.Axis = int(a)
	}
	if len(q.ZeroPoint) > 0 && len(q.ZeroPoint) != len(q.Scale) {
		return t, p.errorf(pos, "%d zero points for %d scales", len(q.ZeroPoint), len(q.Scale))
	}
	t.Quant = q
	return t, true
}

func (p *parser) int(what string) (int64, bool) {
	if p.tok.kind != numberToken {
		return 0, p.unexpected(what)
	}
	n, err := strconv.ParseInt(p.tok.text, 10, 64)
	if err != nil {
		return 0, p.errorf(p.tok.pos, "%v is not an integer of 64 bits", p.tok)
	}
	p.advance()
	return n, true
}

func (p *parser) node(g *Graph, depth int) bool {
	var outs []declaration
	for {
		if p.accept("_") {
			outs = append(outs, declaration{})
		} else {
			d, ok := p.declaration(g)
			if !ok {
				return p.breakAll(g, outs)
			}
			for _, o := range outs {
				if o.name == d.name {
					p.errorf(d.pos, "%%%s is defined twice", d.name)
					return p.breakAll(g, outs)
				}
			}
			outs = append(outs, d)
		}
		if !p.accept(",") {
			break
		}
	}
	if !p.expect("=") {
		return p.breakAll(g, outs)
	}
	pos := p.tok.pos
	name, ok := p.ident("an operator")
	if !ok || !p.expect("(") {
		return p.breakAll(g, outs)
	}
	op := g.Ops.Lookup(name)
	bad := op == nil
	if bad {
		p.errorf(pos, "unknown operator %s", name)
	}
	var in []*Value
	for !p.at(")") {
		if p.accept("_") {
			in = append(in, nil)
		} else {
			v, ok := p.use(g)
			if !ok {
				return p.breakAll(g, outs)
			}
			bad = bad || p.broken[v]
			in = append(in, v)
		}
		if !p.accept(",") {
			break
		}
	}
	if !p.expect(")") {
		return p.breakAll(g, outs)
	}
	attrs, ok := p.attrs(g, op, depth)
	if !ok {
		return p.breakAll(g, outs)
	}
	var label, doc string
	if p.accept("name") {
		if label, ok = p.str("name"); !ok {
			return p.breakAll(g, outs)
		}
	}
	if p.accept("doc") {
		if doc, ok = p.str("text"); !ok {
			return p.breakAll(g, outs)
		}
	}
	if bad {
		p.breakAll(g, outs)
		return true
	}
	names := make([]string, len(outs))
	for i, d := range outs {
		names[i] = d.name
	}
	r := NewRewriter(g)
	n, err := r.AddRaw(name, label, attrs, in, names...)
	if err != nil {
		p.errorf(pos, "%v", err)
		return p.breakAll(g, outs)
	}
	n.Doc = doc
	for i, v := range n.Out {
		if v != nil {
			v.Type = outs[i].typ
			p.define(outs[i], v)
		}
	}
	if err := n.Infer(); err != nil {
		p.errorf(pos, "%v", err)
		for _, v := range n.Out {
			p.broken[v] = true
		}
		return true
	}
	for i, v := range n.Out {
		if v != nil && outs[i].typ.Elem != tensor.Invalid {
			v.Type = outs[i].typ // exactly as written, also where inference knows more
		}
	}
	return true
}

// breakAll defines the outputs of a statement that cannot be read, so that
// their uses are not reported as well. It returns false.
func (p *parser) breakAll(g *Graph, outs []declaration) bool {
	for _, d := range outs {
		if d.name != "" && p.vals[d.name] == nil {
			v := &Value{Name: d.name, graph: g}
			p.vals[d.name], p.broken[v] = v, true
		}
	}
	return false
}
