package passes

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
)

// Option describes one option of a pass.
type Option struct {
	Name    string // kebab-case
	Type    string // bool, int, float, string or list
	Default string // as the pipeline syntax writes it
	Help    string
}

// Validator is implemented by passes that check their options before anything runs.
type Validator interface {
	// Validate reports what is wrong with the options, naming them in kebab-case.
	Validate() error
}

// Checker is implemented by passes that can tell beforehand, without running
// anything, why they would refuse a graph as it was read.
type Checker interface {
	Check(g *ir.Graph) []backends.Problem
}

// Refusal is the error of a pass for a graph that it does not support.
type Refusal struct{ Problems []backends.Problem }

func (r *Refusal) Error() string {
	var s []string
	for _, p := range r.Problems {
		if p.Node != "" {
			p.Reason = p.Node + ": " + p.Reason
		}
		s = append(s, p.Reason)
	}
	return strings.Join(s, "\n")
}

// Options lists the options of a pass in the order of its struct's fields.
func (i *Info) Options() []Option {
	var out []Option
	for _, f := range fieldsOf(i.New()) {
		out = append(out, Option{f.name, f.typ, formatOption(f.value), f.help})
	}
	return out
}

// Has reports whether the pass has an option of this name.
func (s Step) Has(name string) bool {
	return slices.ContainsFunc(fieldsOf(s.Pass), func(f field) bool { return f.name == name })
}

// Set sets an option by its name; several values make a list. Errors continue
// a sentence that begins with the option: "is a whole number, not …".
func (s Step) Set(name string, values ...string) error {
	for _, f := range fieldsOf(s.Pass) {
		if f.name != name {
			continue
		}
		if err := setOption(f, values, len(values) != 1); err != nil {
			return err
		}
		if v, ok := s.Pass.(Validator); ok {
			return v.Validate()
		}
		return nil
	}
	return fmt.Errorf("is not an option of %s", s.Info.Name)
}

type field struct {
	name, typ, help string
	value           reflect.Value
}

// fieldsOf lists the exported fields of the struct that p points to; embedded
// structs count as if their fields stood in p.
func fieldsOf(p Pass) []field {
	v := reflect.ValueOf(p)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil
	}
	return structFields(v.Elem())
}

func structFields(v reflect.Value) []field {
	var out []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			out = append(out, structFields(v.Field(i))...)
		case f.IsExported():
			out = append(out, field{kebab(f.Name), optionType(f.Type), f.Tag.Get("help"), v.Field(i)})
		}
	}
	return out
}

// optionType names the kind of an option, "" when a field cannot be one.
func optionType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int64:
		return "int"
	case reflect.Float32, reflect.Float64:
		return "float"
	case reflect.String:
		return "string"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "list"
		}
	}
	return ""
}

// kebab turns WeightBits into weight-bits and KLBins into kl-bins.
func kebab(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if unicode.IsUpper(c) {
			if i > 0 && (!unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
				b.WriteByte('-')
			}
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// setOption stores a value as the pipeline syntax gave it.
func setOption(f field, values []string, list bool) error {
	if list && f.typ != "list" {
		return fmt.Errorf("is one %s, not a list", f.typ)
	}
	if f.typ == "list" {
		s := reflect.MakeSlice(f.value.Type(), 0, len(values))
		for _, v := range values {
			s = reflect.Append(s, reflect.ValueOf(v).Convert(f.value.Type().Elem()))
		}
		f.value.Set(s)
		return nil
	}
	text := values[0]
	switch f.typ {
	case "bool":
		switch text {
		case "true":
			f.value.SetBool(true)
		case "false":
			f.value.SetBool(false)
		default:
			return fmt.Errorf("is true or false, not %q", text)
		}
	case "int":
		n, err := strconv.ParseInt(text, 10, f.value.Type().Bits())
		if err != nil {
			return fmt.Errorf("is a whole number, not %q", text)
		}
		f.value.SetInt(n)
	case "float":
		x, err := strconv.ParseFloat(text, f.value.Type().Bits())
		if err != nil || x-x != 0 { // neither infinite nor NaN
			return fmt.Errorf("is a number, not %q", text)
		}
		f.value.SetFloat(x)
	case "string":
		f.value.SetString(text)
	}
	return nil
}

func formatOption(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())
	case reflect.String:
		return quoteOption(v.String())
	}
	var parts []string
	for i := range v.Len() {
		parts = append(parts, quoteOption(v.Index(i).String()))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// quoteOption quotes a value where the syntax needs it: with ' unless the
// value has characters that only a Go string literal can show.
func quoteOption(s string) string {
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !isWordRune(c) }) < 0 {
		return s
	}
	if q := strconv.Quote(s); strings.Contains(s, "'") || strings.Contains(q, `\`) {
		return q
	}
	return "'" + s + "'"
}

func isWordRune(c rune) bool {
	return c < 0x80 && (unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("_-+./*@:", c))
}
