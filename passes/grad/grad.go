// Package grad is reverse-mode automatic differentiation of graphs.
//
// The gradients of a value are ordinary nodes of the same graph: walking from the
// value back to what it depends on, each node's operator adds the nodes that turn the
// gradients of its outputs into those of its inputs (ir.Op.Grad, beside the
// operator's definition), and the gradients of a value with several uses are added up.
//
//	y = f(x, w); l = loss(y)    →    y = f(x, w); l = loss(y); dy = loss'(y)·1; dw = f'(x, w)·dy
//
// The result is verified, printed, optimised and run like any graph; a step graph
// of package train is forward nodes, loss, these and the optimiser's update.
package grad

import (
	"errors"
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// Build adds to the graph of y, at its end, the nodes that compute the gradients of y
// (of the sum of its elements, when it is no scalar) with respect to wrt, and returns them
// in that order. Nodes are added in the order in which they can be run with the fewest
// activations alive: a node's gradients right when that of its output is complete, those
// of weights before those that go further back. It is an error if y does not depend on one
// of wrt, or if operators between have no gradient; all of them are named.
func Build(y *ir.Value, wrt []*ir.Value) ([]*ir.Value, error) {
	grads, err := ops.Gradients(ir.NewRewriter(y.Graph()), y, wrt, nil)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, d := range grads {
		if d == nil {
			errs = append(errs, fmt.Errorf("%%%s does not depend on %%%s in a way that has a gradient", y.Name, wrt[i].Name))
		}
	}
	return grads, errors.Join(errs...)
}

// Check returns an error that names every node between wrt and y that has no
// gradient, and why; nil if Build can go ahead.
func Check(y *ir.Value, wrt []*ir.Value) error {
	var errs []error
	for _, o := range ops.Obstacles(y, wrt) {
		errs = append(errs, errors.New(o.String()))
	}
	return errors.Join(errs...)
}
