package ir

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Eval runs g on the operators' reference evaluators. It is slow and defines
// what every engine must compute. Inputs are in the order of g.Inputs.
func Eval(ctx context.Context, g *Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	return EvalBody(ctx, g, in, nil, nil)
}

// EvalBody evaluates a graph or subgraph. captured gives the values of
// enclosing graphs, as returned by Node.Captures; observe, if not nil, is
// called with every result as soon as it is computed.
func EvalBody(ctx context.Context, g *Graph, in []*tensor.Tensor, captured map[*Value]*tensor.Tensor, observe func(*Value, *tensor.Tensor)) ([]*tensor.Tensor, error) {
	if len(in) != len(g.Inputs) {
		return nil, fmt.Errorf("graph %q has %d inputs, got %d", g.Name, len(g.Inputs), len(in))
	}
	env := make(map[*Value]*tensor.Tensor, len(captured)+len(in)+len(g.Consts))
	for v, t := range captured {
		env[v] = t
	}
	for i, v := range g.Inputs {
		if in[i].Elem() != v.Type.Elem && v.Type.Elem != tensor.Invalid {
			return nil, fmt.Errorf("input %q is %v, got %v", v.Name, v.Type, TypeOf(in[i]))
		}
		env[v] = in[i]
	}
	for _, v := range g.Consts {
		env[v] = v.Data
	}
	left := map[*Value]int{} // uses still to come, so that memory is freed early
	for _, n := range g.Nodes {
		for _, v := range append(n.Captures(), n.In...) {
			left[v]++
		}
	}
	for _, v := range g.Outputs {
		left[v]++
	}
	for _, u := range g.Updates {
		left[u.Next]++
	}
	for _, n := range g.Nodes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		operands := append(append(make([]*Value, 0, len(n.In)), n.In...), n.Captures()...)
		args := make([]*tensor.Tensor, len(operands))
		for i, v := range operands {
			if v == nil {
				continue
			}
			if args[i] = env[v]; args[i] == nil {
				return nil, fmt.Errorf("%s %s: %%%s has no value", n.Op.Name, n.Label(), v.Name)
			}
		}
		outs, err := n.Eval(args)
		if err != nil {
			return nil, err
		}
		for i, v := range n.Out {
			if v != nil {
				env[v] = outs[i]
				if observe != nil {
					observe(v, outs[i])
				}
			}
		}
		for _, v := range operands {
			if left[v]--; left[v] == 0 && v != nil && v.Kind == Result {
				delete(env, v)
			}
		}
	}
	out := make([]*tensor.Tensor, len(g.Outputs))
	for i, v := range g.Outputs {
		out[i] = env[v]
	}
	return out, nil
}

// Eval applies the node's operator to tensors with its reference evaluator:
// the inputs, nil where absent, followed by the captured values. The results
// are as many as the node's outputs. A panic of the evaluator becomes an error
// that names the node.
func (n *Node) Eval(in []*tensor.Tensor) (out []*tensor.Tensor, err error) {
	if n.Op.Eval == nil {
		return nil, fmt.Errorf("%s %s: operator cannot be evaluated", n.Op.Name, n.Label())
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s %s: evaluation failed: %v\n%s", n.Op.Name, n.Label(), p, debug.Stack())
		}
	}()
	if out, err = n.Op.Eval(n, in); err != nil {
		return nil, fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err)
	}
	if len(out) < len(n.Out) {
		return nil, fmt.Errorf("%s %s: evaluated to %d outputs, expected %d", n.Op.Name, n.Label(), len(out), len(n.Out))
	}
	return out[:len(n.Out)], nil // evaluators may return outputs that the node leaves out
}
