package passes

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Table is a set of passes with the order in which they make sense, and
// pipelines made of them.
type Table struct {
	Passes    []Info
	Order     []Order
	Pipelines []Pipeline
}

// Order says that where a pipeline has both passes, Before stands somewhere
// ahead of the first After.
type Order struct{ Before, After, Reason string }

// Pipeline is a named sequence of steps.
type Pipeline struct{ Name, Doc, Steps string }

// Lookup returns the pass of the given name, or nil.
func (t *Table) Lookup(name string) *Info {
	for i := range t.Passes {
		if t.Passes[i].Name == name {
			return &t.Passes[i]
		}
	}
	return nil
}

// names lists what a step can be called, sorted.
func (t *Table) names() []string {
	var out []string
	for _, i := range t.Passes {
		out = append(out, i.Name)
	}
	for _, p := range t.Pipelines {
		out = append(out, p.Name)
	}
	slices.Sort(out)
	return out
}

// CheckOrder reports every order constraint that steps violate, with its reason.
func (t *Table) CheckOrder(steps []Step) error {
	first := func(name string) int {
		return slices.IndexFunc(steps, func(s Step) bool { return s.Info.Name == name })
	}
	var errs []error
	for _, o := range t.Order {
		if b, a := first(o.Before), first(o.After); b >= 0 && a >= 0 && a < b {
			errs = append(errs, fmt.Errorf("pipeline: %s must come before %s: %s", o.Before, o.After, o.Reason))
		}
	}
	return errors.Join(errs...)
}

var kebabName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// Validate checks the table itself: names, options and their help, that
// constraints name passes of the table, and that the pipelines parse and obey them. It is for tests.
func (t *Table) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := map[string]bool{}
	for _, name := range t.names() {
		if seen[name] || !kebabName.MatchString(name) {
			bad("name %q stands twice or is not kebab-case", name)
		}
		seen[name] = true
	}
	for i := range t.Passes {
		info := &t.Passes[i]
		if !strings.HasSuffix(firstSentence(info.Doc), ".") {
			bad("%s: the doc does not begin with a sentence", info.Name)
		}
		seenOpt := map[string]bool{}
		for _, o := range info.Options() {
			if o.Type == "" || o.Help == "" || seenOpt[o.Name] {
				bad("%s: option %s has no help, stands twice, or has a type that cannot be an option", info.Name, o.Name)
			}
			seenOpt[o.Name] = true
		}
		if v, ok := info.New().(Validator); ok {
			if err := v.Validate(); err != nil {
				bad("%s: the defaults are not valid: %w", info.Name, err)
			}
		}
	}
	for _, o := range t.Order {
		if t.Lookup(o.Before) == nil || t.Lookup(o.After) == nil || o.Before == o.After || o.Reason == "" {
			bad("order %s before %s: unknown pass, or no reason", o.Before, o.After)
		}
	}
	for _, p := range t.Pipelines {
		if _, err := t.Parse(p.Steps); err != nil || p.Doc == "" {
			bad("pipeline %s: no doc, or %w", p.Name, err)
		}
	}
	return errors.Join(errs...)
}

func firstSentence(doc string) string {
	if i := strings.Index(doc, ". "); i >= 0 {
		return doc[:i+1]
	}
	return strings.TrimSpace(doc)
}
