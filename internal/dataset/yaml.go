package dataset

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checker reads YAML nodes strictly and collects everything that is wrong,
// each error with file and line.
type checker struct {
	file string
	errs []error
}

func (c *checker) errorf(line int, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s:%d: %s", c.file, line, fmt.Sprintf(format, args...)))
}

func (c *checker) err() error { return errors.Join(c.errs...) }

// root parses a document and returns its top node, nil when there is none.
func (c *checker) root(data []byte) *yaml.Node {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %s", c.file, strings.TrimPrefix(err.Error(), "yaml: ")))
		return nil
	}
	if len(doc.Content) == 0 {
		c.errorf(1, "empty data description")
		return nil
	}
	return doc.Content[0]
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// field is one key that a mapping may have and what reads its value.
type field struct {
	key  string
	read func(n *yaml.Node)
}

// mapping reads a mapping whose keys are all among fields, and returns the
// line of each key that is present.
func (c *checker) mapping(n *yaml.Node, what string, fields []field) map[string]int {
	lines := map[string]int{}
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		c.errorf(n.Line, "%s must be a mapping of keys to values", what)
		return lines
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(fields, func(f field) bool { return f.key == k.Value })
		switch first, again := lines[k.Value]; {
		case at < 0:
			c.errorf(k.Line, "unknown key %q%s", k.Value, suggest(k.Value, fields))
		case again:
			c.errorf(k.Line, "%s is given twice, first in line %d", k.Value, first)
		default:
			lines[k.Value] = k.Line
			fields[at].read(v)
		}
	}
	return lines
}

// suggest returns a hint with the closest known key, or all of them when none is close.
func suggest(key string, fields []field) string {
	best, least := "", 3
	var all []string
	for _, f := range fields {
		all = append(all, f.key)
		if d := distance(strings.ToLower(key), f.key); d < least {
			best, least = f.key, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; known are " + strings.Join(all, ", ")
}

// distance is the number of single-character edits between two words, cut off
// for long ones.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diag
			if a[i] != b[j] {
				d = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}

func (c *checker) str(n *yaml.Node, key string) string {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		c.errorf(n.Line, "%s must be a word", key)
		return ""
	}
	return n.Value
}

func (c *checker) oneOf(n *yaml.Node, key string, words ...string) string {
	s := c.str(n, key)
	if s != "" && !slices.Contains(words, s) {
		c.errorf(n.Line, "%s is %q; it can be %s", key, s, strings.Join(words, ", "))
		return ""
	}
	return s
}

// maxItems bounds every list in a description.
const maxItems = 10000

// items returns the elements of a list, or the node itself when it is a scalar.
func (c *checker) items(n *yaml.Node, key string) []*yaml.Node {
	n = resolve(n)
	switch {
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		c.errorf(n.Line, "%s must be a value or a list", key)
	case len(n.Content) == 0:
		c.errorf(n.Line, "%s is an empty list", key)
	case len(n.Content) > maxItems:
		c.errorf(n.Line, "%s has %d entries; the limit is %d", key, len(n.Content), maxItems)
	default:
		return n.Content
	}
	return nil
}

func (c *checker) strs(n *yaml.Node, key string) []string {
	var out []string
	for _, e := range c.items(n, key) {
		out = append(out, c.str(e, key))
	}
	return out
}

func (c *checker) int(n *yaml.Node, key string, lo, hi int) int {
	n = resolve(n)
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < lo || v > hi {
		c.errorf(n.Line, "%s must be a whole number from %d to %d", key, lo, hi)
		return lo
	}
	return v
}

func (c *checker) ints(n *yaml.Node, key string, lo, hi int) []int {
	var out []int
	for _, e := range c.items(n, key) {
		out = append(out, c.int(e, key, lo, hi))
	}
	return out
}

func (c *checker) float(n *yaml.Node, key string) float64 {
	n = resolve(n)
	v, err := strconv.ParseFloat(n.Value, 64)
	if n.Kind != yaml.ScalarNode || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		c.errorf(n.Line, "%s must be a finite number", key)
		return 0
	}
	return v
}

func (c *checker) floats(n *yaml.Node, key string) []float64 {
	var out []float64
	for _, e := range c.items(n, key) {
		out = append(out, c.float(e, key))
	}
	return out
}
