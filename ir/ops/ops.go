// Package ops is the operator table: one definition per operator, holding its
// attributes, shape rule, reference evaluation, gradient, cost, and how other
// forms map to and from it. Help texts, support tables and conformance tests
// iterate over the table; nothing else knows what an operator means.
//
// A file holds a family of operators and the helpers that only they need.
// Adding an operator means adding one define call and its test.
package ops

import (
	"sync"

	"github.com/thriftc/thriftc/ir"
)

var defined []*ir.Op

// define adds an operator to the table; it is called by the package's
// variable declarations only.
func define(o ir.Op) *ir.Op {
	if o.Grad == nil && o.NoGrad == "" {
		o.NoGrad = noGradient[o.Name]
	}
	defined = append(defined, &o)
	return &o
}

// Table returns the registry of all operators.
var Table = sync.OnceValue(func() *ir.Registry {
	r := ir.NewRegistry(defined...)
	r.Normalize = Normalize
	return r
})
