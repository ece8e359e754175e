package ops

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func wantStrings(n *ir.Node) error {
	if t := n.In[0].Type; t.Elem != tensor.String && t.Elem != tensor.Invalid {
		return fmt.Errorf("%s is %v, expected strings", portName(n, 0), t)
	}
	return nil
}

var _ = define(ir.Op{
	Name: "StringNormalizer",
	Doc: "Leaves stop words out of a vector of strings, shape [C] or [1,C], and changes the case of the others. Without any left the " +
		"result is one empty string. Letters change as Unicode says for no language in particular.",
	Since: 10,
	In:    "X", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "case_change_action", Kind: ir.StringAttr, Default: "NONE", Doc: "LOWER, UPPER or NONE"},
		{Name: "is_case_sensitive", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: a stop word must be equal in case too"},
		{Name: "locale", Kind: ir.StringAttr, Doc: "the language; those that change letters in their own way (az, lt, tr) are refused"},
		{Name: "stopwords", Kind: ir.StringsAttr, Doc: "what is left out"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantStrings(n); err != nil {
			return nil, err
		}
		if a := n.Str("case_change_action"); a != "NONE" && a != "LOWER" && a != "UPPER" {
			return nil, fmt.Errorf("case_change_action is %q, expected NONE, LOWER or UPPER", a)
		}
		if l := strings.ToLower(n.Str("locale")); len(l) >= 2 && slices.Contains([]string{"az", "lt", "tr"}, l[:2]) {
			return nil, fmt.Errorf("locale %s is not supported", n.Str("locale"))
		}
		switch t := n.In[0].Type; {
		case t.Unranked:
			return types(t)
		case t.Rank() == 1:
			return types(ir.TensorType(tensor.String, ir.Unknown))
		case t.Rank() == 2 && t.Dims[0].MayEqual(ir.Fixed(1)):
			return types(ir.TensorType(tensor.String, ir.Fixed(1), ir.Unknown))
		default:
			return nil, fmt.Errorf("X is %v, expected [C] or [1,C]", t)
		}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		shape := slices.Clone(in[0].Shape())
		if len(shape) != 1 && (len(shape) != 2 || shape[0] != 1) {
			return nil, fmt.Errorf("X is %v, expected [C] or [1,C]", ir.TypeOf(in[0]))
		}
		key := strings.ToLower
		if n.Int("is_case_sensitive") != 0 {
			key = func(s string) string { return s }
		}
		stop := map[string]bool{}
		for _, s := range n.Strs("stopwords") {
			stop[key(s)] = true
		}
		var out []string
		for _, s := range tensor.Data[string](in[0]) {
			if stop[key(s)] {
				continue
			}
			switch n.Str("case_change_action") {
			case "LOWER":
				s = strings.ToLower(s)
			case "UPPER":
				s = strings.ToUpper(s)
			}
			out = append(out, s)
		}
		if len(out) == 0 {
			out = []string{""}
		}
		shape[len(shape)-1] = len(out)
		return results(tensor.Of(out, shape...))
	},
})

var _ = define(ir.Op{
	Name:  "RegexFullMatch",
	Doc:   "Whether each string matches a regular expression, in the syntax of RE2, from end to end.",
	Since: 20,
	In:    "X", Out: "Y",
	Attrs: []ir.AttrSpec{{Name: "pattern", Kind: ir.StringAttr, Required: true, Doc: "the regular expression"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		_, err := fullMatch(n)
		return []ir.Type{n.In[0].Type.WithElem(tensor.Bool)}, errors.Join(wantStrings(n), err)
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		re, err := fullMatch(n)
		if err != nil {
			return nil, err
		}
		out := tensor.New(tensor.Bool, in[0].Shape()...)
		for i, s := range tensor.Data[string](in[0]) {
			tensor.Data[bool](out)[i] = re.MatchString(s)
		}
		return results(out)
	},
})

func fullMatch(n *ir.Node) (*regexp.Regexp, error) {
	return regexp.Compile(`\A(?:` + n.Str("pattern") + `)\z`)
}
