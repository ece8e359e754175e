package passes

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Step is a pass in a pipeline, with its options set.
type Step struct {
	Info *Info
	Pass Pass
}

// String returns the step in the pipeline syntax, with the options that differ
// from their defaults.
func (s Step) String() string {
	defaults := fieldsOf(s.Info.New())
	var opts []string
	for i, f := range fieldsOf(s.Pass) {
		if v := formatOption(f.value); v != formatOption(defaults[i].value) {
			opts = append(opts, f.name+"="+v)
		}
	}
	if len(opts) == 0 {
		return s.Info.Name
	}
	return s.Info.Name + "{" + strings.Join(opts, ",") + "}"
}

// FormatPipeline returns steps in the syntax that Table.Parse reads.
func FormatPipeline(steps []Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, s.String())
	}
	return strings.Join(out, ",")
}

// Parse reads a pipeline such as
//
//	fold,quantize{bits=8,exclude=['conv1*',fc],per-tensor},dce
//
// A step is the name of a pass, with options in braces, or the name of a
// pipeline in the table, which stands for its steps; options of a pipeline are set in each of them that has one of the name. A value is a word, or
// any text in single quotes, or a Go string literal; a list stands in brackets, and one value will do for
// a list of one; a bool without a value is true. Errors say at which column. The order of the steps is
// checked with CheckOrder.
func (t *Table) Parse(src string) ([]Step, error) {
	steps, err := t.parse(src, 0)
	if err != nil {
		return nil, err
	}
	return steps, t.CheckOrder(steps)
}

func (t *Table) parse(src string, depth int) ([]Step, error) {
	if depth > len(t.Pipelines) {
		return nil, fmt.Errorf("pipelines contain each other")
	}
	p := &pipelineParser{src: src, table: t, depth: depth}
	var steps []Step
	for p.space(); p.pos < len(src) || len(steps) > 0; p.space() {
		s, err := p.step()
		if err != nil {
			return nil, err
		}
		steps = append(steps, s...)
		if p.space(); p.pos == len(src) {
			break
		}
		if !p.accept(',') {
			return nil, p.errorf(p.pos, "expected , or the end, found %s", p.here())
		}
	}
	return steps, nil
}

type pipelineParser struct {
	src   string
	pos   int
	table *Table
	depth int
}

func (p *pipelineParser) errorf(pos int, format string, args ...any) error {
	return fmt.Errorf("pipeline, column %d: %w", utf8.RuneCountInString(p.src[:pos])+1, fmt.Errorf(format, args...))
}

func (p *pipelineParser) here() string {
	if p.pos == len(p.src) {
		return "the end"
	}
	c, _ := utf8.DecodeRuneInString(p.src[p.pos:])
	return strconv.QuoteRune(c)
}

func (p *pipelineParser) space() {
	for p.pos < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *pipelineParser) accept(c byte) bool {
	p.space()
	if p.pos < len(p.src) && p.src[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *pipelineParser) word() string {
	start := p.pos
	for p.pos < len(p.src) && isWordRune(rune(p.src[p.pos])) {
		p.pos++
	}
	return p.src[start:p.pos]
}

func (p *pipelineParser) step() ([]Step, error) {
	pos := p.pos
	name := p.word()
	if name == "" {
		return nil, p.errorf(pos, "expected the name of a pass, found %s", p.here())
	}
	info := p.table.Lookup(name)
	if info == nil {
		for _, named := range p.table.Pipelines {
			if named.Name == name {
				steps, err := p.table.parse(named.Steps, p.depth+1)
				if err != nil {
					return nil, fmt.Errorf("pipeline %s: %w", name, err)
				}
				return steps, p.configure(pos, name, steps)
			}
		}
		return nil, p.errorf(pos, "unknown pass %q; there are %s", name, strings.Join(p.table.names(), ", "))
	}
	steps := []Step{{info, info.New()}}
	return steps, p.configure(pos, name, steps)
}

// configure reads options in braces, if there are any, sets each in the steps that have it, and
// validates them. name is that of the pass or pipeline at pos.
func (p *pipelineParser) configure(pos int, name string, steps []Step) error {
	if p.accept('{') {
		if err := p.options(name, steps); err != nil {
			return err
		}
	}
	for _, s := range steps {
		if v, ok := s.Pass.(Validator); ok {
			if err := v.Validate(); err != nil {
				return p.errorf(pos, "%s: %w", s.Info.Name, err)
			}
		}
	}
	return nil
}

func (p *pipelineParser) options(of string, steps []Step) error {
	byName := map[string][]field{}
	var names []string
	for _, s := range steps {
		for _, f := range fieldsOf(s.Pass) {
			if byName[f.name] == nil {
				names = append(names, f.name)
			}
			byName[f.name] = append(byName[f.name], f)
		}
	}
	seen := map[string]bool{}
	for !p.accept('}') {
		pos := p.pos
		name := p.word()
		fields := byName[name]
		switch {
		case name == "":
			return p.errorf(pos, "expected an option of %s or }, found %s", of, p.here())
		case fields == nil && len(names) == 0:
			return p.errorf(pos, "unknown option %q: %s has no options", name, of)
		case fields == nil:
			return p.errorf(pos, "unknown option %q of %s; it has %s", name, of, strings.Join(names, ", "))
		case seen[name]:
			return p.errorf(pos, "option %s is given twice", name)
		}
		seen[name] = true
		values, list := []string{"true"}, false
		if p.accept('=') {
			var err error
			if values, list, err = p.value(); err != nil {
				return err
			}
		} else if fields[0].typ != "bool" {
			return p.errorf(p.pos, "option %s of %s needs a value (%s)", name, of, fields[0].typ)
		}
		for _, f := range fields {
			if err := setOption(f, values, list); err != nil {
				return p.errorf(pos, "option %s of %s %w", name, of, err)
			}
		}
		if p.accept('}') {
			return nil
		}
		if !p.accept(',') {
			return p.errorf(p.pos, "expected , or } after option %s, found %s", name, p.here())
		}
		p.space()
	}
	return nil
}

func (p *pipelineParser) value() (values []string, list bool, err error) {
	if !p.accept('[') {
		p.space()
		v, err := p.scalar()
		return []string{v}, false, err
	}
	for !p.accept(']') {
		v, err := p.scalar()
		if err != nil {
			return nil, true, err
		}
		values = append(values, v)
		if !p.accept(',') && (p.pos == len(p.src) || p.src[p.pos] != ']') {
			return nil, true, p.errorf(p.pos, "expected , or ] in a list, found %s", p.here())
		}
		p.space()
	}
	return values, true, nil
}

func (p *pipelineParser) scalar() (string, error) {
	pos := p.pos
	if p.pos < len(p.src) {
		switch p.src[p.pos] {
		case '\'':
			end := strings.IndexByte(p.src[pos+1:], '\'')
			if end < 0 {
				return "", p.errorf(pos, "quote is not closed")
			}
			p.pos = pos + 1 + end + 1
			return p.src[pos+1 : p.pos-1], nil
		case '"':
			lit, err := strconv.QuotedPrefix(p.src[pos:])
			if err != nil {
				return "", p.errorf(pos, "quote is not closed, or holds a bad escape")
			}
			p.pos += len(lit)
			return strconv.Unquote(lit)
		}
	}
	w := p.word()
	if w == "" {
		return "", p.errorf(pos, "expected a value, found %s", p.here())
	}
	return w, nil
}
