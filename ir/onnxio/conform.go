package onnxio

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/internal/onnxschema"
	"github.com/thriftc/thriftc/ir"
)

// conform makes the attributes of g's nodes those of an opset. What the opset lacks goes
// where it says the default and is a problem elsewhere; a default that was another one
// then is written out.
func conform(g *ir.Graph, opset int, u *Unsupported) {
	g.Walk(func(n *ir.Node) {
		if n.Op.Domain() != "" {
			return
		}
		problem := func(format string, args ...any) {
			u.Problems = append(u.Problems, Problem{n.Op.Name + " " + n.Label(), fmt.Sprintf(format, args...)})
		}
		s, first := onnxschema.Lookup(n.Op.Name, opset)
		if s == nil {
			problem("operator is not in opset %d%s", opset, sinceOpset(first, opset))
			return
		}
		r := ir.NewRewriter(n.Graph())
		for _, a := range slices.Clone(n.Attrs) {
			switch spec := n.Op.Attr(a.Name); {
			case s.Attr(a.Name) != nil:
			case spec != nil && spec.Default != nil && attrText(a.Value) == attrText(spec.Default):
				r.DeleteAttr(n, a.Name)
			default:
				problem("attribute %s is not in opset %d%s", a.Name, opset, sinceOpset(onnxschema.FirstWith(n.Op.Name, a.Name), opset))
			}
		}
		for _, spec := range n.Op.Attrs {
			then := s.Attr(spec.Name)
			if then == nil || n.Attrs.Has(spec.Name) || spec.Default == nil || !then.HasDefault || then.Default == attrText(spec.Default) {
				continue
			}
			r.SetAttr(n, spec.Name, spec.Default)
		}
	})
}

// sinceOpset completes a sentence about what an opset lacks.
func sinceOpset(first, opset int) string {
	if first > opset {
		return fmt.Sprintf(", it needs %d", first)
	}
	return ""
}

// attrText returns an attribute's value in the form that onnxschema gives defaults in;
// values of other kinds have none and give "".
func attrText(v any) string {
	switch x := v.(type) {
	case int64:
		return strconv.FormatInt(x, 10)
	case float32:
		return floatText(x)
	case string:
		return x
	case []int64:
		return joined(x, func(i int64) string { return strconv.FormatInt(i, 10) })
	case []float32:
		return joined(x, floatText)
	case []string:
		return strings.Join(x, ",")
	}
	return ""
}

// floatText writes a float32 as Python writes the float64 of the same value.
func floatText(x float32) string {
	s := strconv.FormatFloat(float64(x), 'g', -1, 64)
	if !strings.ContainsAny(s, ".eIN") {
		s += ".0"
	}
	return s
}

func joined[T any](x []T, text func(T) string) string {
	parts := make([]string, len(x))
	for i, v := range x {
		parts[i] = text(v)
	}
	return strings.Join(parts, ",")
}
