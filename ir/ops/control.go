package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// maxIterations bounds the evaluation of a Loop or Scan: a trip count is a
// number in a file, which may say anything.
const maxIterations = 1 << 20

// maxNesting bounds loops in loops; inference visits an inner body up to three
// times for each visit of the outer one.
const maxNesting = 8

var _ = define(ir.Op{
	Name:      "If",
	Sequences: true,
	Doc:       "Runs one of two subgraphs, which take no inputs but use outer values, and returns its outputs.",
	Since:     11,
	In:        "cond", Out: "outputs*",
	Attrs: []ir.AttrSpec{
		{Name: "then_branch", Kind: ir.GraphAttr, Required: true, Doc: "what runs when cond is true"},
		{Name: "else_branch", Kind: ir.GraphAttr, Required: true, Doc: "what runs when cond is false"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantBool(n, 0); err != nil {
			return nil, err
		}
		var branches []*ir.Graph // those that can run
		var errs []error
		for _, name := range []string{"then_branch", "else_branch"} {
			g := n.Body(name)
			if len(g.Inputs) > 0 || len(g.Outputs) < len(n.Out) {
				return nil, fmt.Errorf("%s has %d inputs and %d outputs, expected 0 and %d", name, len(g.Inputs), len(g.Outputs), len(n.Out))
			}
			if err := ir.Infer(g); err != nil {
				errs = append(errs, err)
			} else {
				branches = append(branches, g)
			}
		}
		// Exporters write branches for shapes that the model does not have:
		// one that contradicts the shapes is one that is never taken.
		if len(branches) == 0 {
			return nil, errors.Join(errs...)
		}
		a, b := branches[0], branches[len(branches)-1]
		out := make([]ir.Type, len(n.Out))
		for i := range out {
			var err error
			if out[i], err = either(a.Outputs[i].Type, b.Outputs[i].Type); err != nil {
				return nil, fmt.Errorf("output %d of the branches: %w", i, err)
			}
		}
		return out, nil
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		branch := n.Body("else_branch")
		if c, err := truth(in[0]); err != nil {
			return nil, err
		} else if c {
			branch = n.Body("then_branch")
		}
		return ir.EvalBody(context.Background(), branch, nil, capturedBy(n, in), nil)
	},
	Cost: func(n *ir.Node) ir.Cost {
		a, b := bodyCost(n.Body("then_branch")), bodyCost(n.Body("else_branch"))
		return ir.Cost{MACs: max(a.MACs, b.MACs), Adds: max(a.Adds, b.Adds)}
	},
})

func wantBool(n *ir.Node, i int) error {
	if v := n.Input(i); v != nil && v.Type.Elem != tensor.Bool && v.Type.Elem != tensor.Invalid {
		return fmt.Errorf("%s is %v, expected bool", portName(n, i), v.Type)
	}
	return nil
}

// truth returns the element of a bool tensor that has one.
func truth(t *tensor.Tensor) (bool, error) {
	if t.Elem() != tensor.Bool || t.Len() != 1 {
		return false, fmt.Errorf("the condition is %v, expected one bool", ir.TypeOf(t))
	}
	return tensor.Data[bool](t)[0], nil
}

// capturedBy pairs the values that n's subgraphs capture with their tensors,
// which come after the inputs.
func capturedBy(n *ir.Node, in []*tensor.Tensor) map[*ir.Value]*tensor.Tensor {
	out := map[*ir.Value]*tensor.Tensor{}
	for i, v := range n.Captures() {
		out[v] = in[len(n.In)+i]
	}
	return out
}

func bodyCost(g *ir.Graph) ir.Cost {
	sum := ir.Cost{}
	for _, n := range g.Nodes {
		if n.Op.Cost != nil {
			sum = sum.Add(n.Op.Cost(n))
		}
	}
	return sum
}

// either returns the type of a value that has type a or b.
func either(a, b ir.Type) (ir.Type, error) {
	switch {
	case a.Elem != b.Elem:
		return a, fmt.Errorf("%v and %v have different elements", a, b)
	case a.Rank() != b.Rank() || a.Unranked:
		return ir.UnrankedType(a.Elem), nil
	}
	dims := slices.Clone(a.Dims)
	for i, d := range b.Dims {
		if d != dims[i] {
			dims[i] = ir.Unknown
		}
	}
	return ir.TensorType(a.Elem, dims...), nil
}

// inferLoop infers a body whose inputs from 'first' on have types that come
// around again as the outputs from 'back' on: they start as given and are
// widened until one iteration leaves them as they are.
func inferLoop(n *ir.Node, body *ir.Graph, first int, start []ir.Type, back int) error {
	depth := 0
	for g := body; g.Parent != nil; g = g.Parent {
		depth++
	}
	if depth > maxNesting {
		return fmt.Errorf("subgraphs are nested deeper than %d", maxNesting)
	}
	types := slices.Clone(start)
	for round := 0; ; round++ {
		for i, t := range types {
			body.Inputs[first+i].Type = t
		}
		if err := ir.Infer(body); err != nil {
			return err
		}
		same := true
		for i := range types {
			t, err := either(types[i], body.Outputs[back+i].Type)
			if err != nil {
				return fmt.Errorf("what goes around as input %d of the body: %w", first+i, err)
			}
			if !t.Equal(types[i]) {
				types[i], same = t, false
			}
		}
		if same {
			return nil
		}
		for i := range types {
			if round > 0 { // enough of following shapes
				types[i] = ir.UnrankedType(types[i].Elem)
			}
		}
	}
}

var _ = define(ir.Op{
	Name:      "Loop",
	Sequences: true,
	Doc: "Runs a subgraph M times or until its condition is false. The subgraph takes the iteration number, the condition and the carried " +
		"values, and returns the next condition, the carried values, and values that are stacked along a new first axis.",
	Since: 11,
	In:    "M?, cond?, v_initial*", Out: "v_final_and_scan_outputs*",
	Attrs: []ir.AttrSpec{{Name: "body", Kind: ir.GraphAttr, Required: true, Doc: "what runs in each iteration"}},
	Infer: inferLoopOp,
	Eval:  evalLoop,
	Cost: func(n *ir.Node) ir.Cost {
		trips, _ := loopTrips(n)
		c := bodyCost(n.Body("body"))
		return ir.Cost{MACs: c.MACs * max(trips, 1), Adds: c.Adds * max(trips, 1)}
	},
})

func inferLoopOp(n *ir.Node) ([]ir.Type, error) {
	if err := needInts(n, 0); err != nil {
		return nil, err
	}
	if err := wantBool(n, 1); err != nil {
		return nil, err
	}
	body := n.Body("body")
	carried := max(0, len(n.In)-2)
	if len(body.Inputs) != carried+2 || len(body.Outputs) < max(carried+1, len(n.Out)+1) {
		return nil, fmt.Errorf("the body has %d inputs and %d outputs, with %d carried values and %d outputs of the loop", len(body.Inputs), len(body.Outputs), carried, len(n.Out))
	}
	start := make([]ir.Type, carried)
	for i := range start {
		v := n.In[2+i]
		if v == nil {
			return nil, fmt.Errorf("input %d is missing", 2+i)
		}
		start[i] = v.Type.WithElem(v.Type.Elem)
	}
	for i, e := range []tensor.Elem{tensor.I64, tensor.Bool} {
		in := body.Inputs[i]
		if r := in.Type.Rank(); r > 1 {
			return nil, fmt.Errorf("input %q of the body is %v, expected a scalar", in.Name, in.Type)
		} else if r == 1 { // some exporters write [1]
			in.Type = ir.TensorType(e, ir.Fixed(1))
		} else {
			in.Type = ir.TensorType(e)
		}
	}
	if err := inferLoop(n, body, 2, start, 1); err != nil {
		return nil, err
	}
	out := make([]ir.Type, len(body.Outputs)-1)
	trips := ir.Unknown
	if k, ok := loopTrips(n); ok {
		trips = ir.Fixed(int(k))
	}
	for i := range out {
		if i < carried {
			out[i] = body.Inputs[2+i].Type
		} else {
			out[i] = stacked(body.Outputs[1+i].Type, 0, trips)
		}
	}
	return out, nil
}

// stacked returns the type of values of type t stacked along a new axis.
func stacked(t ir.Type, axis int, count ir.Dim) ir.Type {
	if t.Unranked {
		return ir.UnrankedType(t.Elem)
	}
	return ir.TensorType(t.Elem, slices.Insert(slices.Clone(t.Dims), axis, count)...)
}

// loopTrips returns how often a Loop runs when that is certain: M is known and
// the condition stays true.
func loopTrips(n *ir.Node) (int64, bool) {
	m, ok := knownInt(n, 0)
	if !ok || m < 0 {
		return 0, false
	}
	isTrue := func(v *ir.Value) bool {
		return v.IsConst() && v.Type.Elem == tensor.Bool && v.Data.Len() == 1 && tensor.Data[bool](v.Data)[0]
	}
	body := n.Body("body")
	v := body.Outputs[0]
	for v.Def != nil && (v.Def.Op.Name == "Identity" || v.Def.Op.Name == "Cast") {
		v = v.Def.In[0]
	}
	stays := isTrue(v) || v == body.Inputs[1] && n.Input(1) != nil && isTrue(n.In[1])
	return m, stays && (n.Input(1) == nil || isTrue(n.In[1]))
}

func evalLoop(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	body := n.Body("body")
	trips, running := int64(maxIterations)+1, true
	if len(n.In) > 0 && in[0] != nil {
		if in[0].Len() != 1 {
			return nil, fmt.Errorf("M is %v, expected one element", ir.TypeOf(in[0]))
		}
		trips = in[0].Int64s()[0]
	}
	if len(n.In) > 1 && in[1] != nil {
		var err error
		if running, err = truth(in[1]); err != nil {
			return nil, err
		}
	}
	captured := capturedBy(n, in)
	carried := slices.Clone(in[min(2, len(n.In)):len(n.In)])
	stacks := make([]stack, len(body.Outputs)-1-len(carried))
	shapeOne := func(i int) []int { return slices.Repeat([]int{1}, max(0, body.Inputs[i].Type.Rank())) }
	for i := int64(0); i < trips && running; i++ {
		if i >= maxIterations {
			return nil, fmt.Errorf("more than %d iterations", maxIterations)
		}
		args := append([]*tensor.Tensor{tensor.Of([]int64{i}, shapeOne(0)...), tensor.Of([]bool{running}, shapeOne(1)...)}, carried...)
		outs, err := ir.EvalBody(context.Background(), body, args, captured, nil)
		if err != nil {
			return nil, fmt.Errorf("iteration %d: %w", i, err)
		}
		if running, err = truth(outs[0]); err != nil {
			return nil, err
		}
		copy(carried, outs[1:])
		for j := range stacks {
			if err := stacks[j].push(outs[1+len(carried)+j]); err != nil {
				return nil, err
			}
		}
	}
	for j := range stacks {
		t, err := stacks[j].join(body.Outputs[1+len(carried)+j].Type, 0, false)
		if err != nil {
			return nil, err
		}
		carried = append(carried, t)
	}
	return carried, nil
}

// stack collects the values of an output of a body over the iterations.
type stack struct {
	parts []*tensor.Tensor
	bytes int
}

func (s *stack) push(t *tensor.Tensor) error {
	if s.bytes += 64 + t.Len()*t.Elem().ContainerBytes(); s.bytes > tensor.MaxBytes {
		return fmt.Errorf("%w: the outputs of %d iterations", tensor.ErrTooLarge, len(s.parts)+1)
	}
	if len(s.parts) > 0 && !slices.Equal(t.Shape(), s.parts[0].Shape()) {
		return fmt.Errorf("iterations give %v and %v", s.parts[0].Shape(), t.Shape())
	}
	s.parts = append(s.parts, t)
	return nil
}

// join stacks the values along a new axis, the last first if reversed; without
// any, unknown dimensions of their type count as 0.
func (s *stack) join(t ir.Type, axis int, reversed bool) (*tensor.Tensor, error) {
	rank := t.Rank()
	if len(s.parts) > 0 {
		rank = s.parts[0].Rank()
	}
	axis, err := axisOf(axis, max(0, rank)+1)
	if err != nil {
		return nil, err
	}
	if len(s.parts) == 0 {
		shape := make([]int, len(t.Dims))
		for i, d := range t.Dims {
			shape[i] = max(0, d.N)
		}
		return tensor.Alloc(t.Elem, slices.Insert(shape, axis, 0)...)
	}
	if reversed {
		slices.Reverse(s.parts)
	}
	shape := slices.Insert(slices.Clone(s.parts[0].Shape()), axis, 1)
	for i, p := range s.parts {
		s.parts[i] = p.Reshape(shape...)
	}
	return concat(axis, s.parts...)
}

var _ = define(ir.Op{
	Name: "Scan",
	Doc: "Runs a subgraph over the slices of its last inputs along an axis. The subgraph takes the state values and one slice of each " +
		"scanned input, and returns the next state and values that are stacked along a new axis.",
	Since: 11,
	In:    "initial_state_and_scan_inputs*", Out: "final_state_and_scan_outputs*",
	Attrs: []ir.AttrSpec{
		{Name: "body", Kind: ir.GraphAttr, Required: true, Doc: "what runs for each slice"},
		{Name: "num_scan_inputs", Kind: ir.IntAttr, Required: true, Doc: "how many of the inputs, at the end, are scanned"},
		{Name: "scan_input_axes", Kind: ir.IntsAttr, Doc: "the axis of each scanned input; absent: 0"},
		{Name: "scan_input_directions", Kind: ir.IntsAttr, Doc: "for each scanned input 0: forward, 1: from the end; absent: 0"},
		{Name: "scan_output_axes", Kind: ir.IntsAttr, Doc: "the new axis of each stacked output; absent: 0"},
		{Name: "scan_output_directions", Kind: ir.IntsAttr, Doc: "for each stacked output 0: appended, 1: prepended; absent: 0"},
	},
	Infer: inferScan,
	Eval:  evalScan,
	Cost: func(n *ir.Node) ir.Cost {
		c, trips := bodyCost(n.Body("body")), int64(1)
		if t := n.In[len(n.In)-1].Type; !t.Unranked {
			if a, err := axisOf(scanInt(n, "scan_input_axes", n.Int("num_scan_inputs")-1), t.Rank()); err == nil && t.Dims[a].Known() {
				trips = int64(t.Dims[a].N)
			}
		}
		return ir.Cost{MACs: c.MACs * trips, Adds: c.Adds * trips}
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset < 9 {
			return errors.New("the form of opset 8, with batches and sequence lengths, is not supported")
		}
		return nil
	},
})

// scanInt returns element i of a list attribute, 0 when it is absent.
func scanInt(n *ir.Node, name string, i int) int {
	if x := n.Ints(name); i < len(x) {
		return int(x[i])
	}
	return 0
}

// scanCounts returns the numbers of state values, scanned inputs and stacked outputs.
func scanCounts(n *ir.Node) (states, inputs, outputs int, err error) {
	body := n.Body("body")
	inputs = n.Int("num_scan_inputs")
	states = len(n.In) - inputs
	outputs = len(body.Outputs) - states
	if inputs < 1 || states < 0 || outputs < 0 || len(body.Inputs) != len(n.In) || len(n.Out) > len(body.Outputs) || slices.Contains(n.In, nil) {
		return 0, 0, 0, fmt.Errorf("%d inputs, %d of them scanned, and %d outputs do not fit a body of %d inputs and %d outputs",
			len(n.In), inputs, len(n.Out), len(body.Inputs), len(body.Outputs))
	}
	for _, a := range []struct {
		name string
		max  int
	}{{"scan_input_axes", inputs}, {"scan_input_directions", inputs}, {"scan_output_axes", outputs}, {"scan_output_directions", outputs}} {
		if len(n.Ints(a.name)) > a.max {
			return 0, 0, 0, fmt.Errorf("%s has %d elements, expected at most %d", a.name, len(n.Ints(a.name)), a.max)
		}
	}
	return states, inputs, outputs, nil
}

func inferScan(n *ir.Node) ([]ir.Type, error) {
	states, inputs, outputs, err := scanCounts(n)
	if err != nil {
		return nil, err
	}
	body := n.Body("body")
	length := ir.Unknown
	for i := range inputs {
		t := n.In[states+i].Type
		slice := ir.UnrankedType(t.Elem)
		if !t.Unranked {
			axis, err := axisOf(scanInt(n, "scan_input_axes", i), t.Rank())
			if err != nil {
				return nil, err
			}
			if length, err = unify(length, t.Dims[axis]); err != nil {
				return nil, fmt.Errorf("scanned inputs of different length: %w", err)
			}
			slice = ir.TensorType(t.Elem, slices.Delete(slices.Clone(t.Dims), axis, axis+1)...)
		}
		body.Inputs[states+i].Type = slice
	}
	start := make([]ir.Type, states)
	for i := range start {
		start[i] = n.In[i].Type.WithElem(n.In[i].Type.Elem)
	}
	if err := inferLoop(n, body, 0, start, 0); err != nil {
		return nil, err
	}
	out := make([]ir.Type, states+outputs)
	for i := range out {
		if i < states {
			out[i] = body.Inputs[i].Type
			continue
		}
		t := body.Outputs[i].Type
		axis, err := axisOf(scanInt(n, "scan_output_axes", i-states), max(0, t.Rank())+1)
		if err != nil && !t.Unranked {
			return nil, err
		}
		out[i] = stacked(t, axis, length)
	}
	return out, nil
}

func evalScan(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	states, inputs, outputs, err := scanCounts(n)
	if err != nil {
		return nil, err
	}
	body, captured := n.Body("body"), capturedBy(n, in)
	axes := make([]int, inputs)
	length := -1
	for i := range axes {
		t := in[states+i]
		if axes[i], err = axisOf(scanInt(n, "scan_input_axes", i), t.Rank()); err != nil {
			return nil, err
		}
		if k := t.Shape()[axes[i]]; length >= 0 && k != length {
			return nil, fmt.Errorf("scanned inputs of length %d and %d", length, k)
		} else if length = k; length > maxIterations {
			return nil, fmt.Errorf("more than %d iterations", maxIterations)
		}
	}
	out := slices.Clone(in[:states])
	stacks := make([]stack, outputs)
	for at := range length {
		args := slices.Clone(out)
		for i, axis := range axes {
			t, k := in[states+i], at
			if scanInt(n, "scan_input_directions", i) != 0 {
				k = length - 1 - at
			}
			s, err := cut(t, axis, k, 1)
			if err != nil {
				return nil, err
			}
			args = append(args, s.Reshape(slices.Delete(slices.Clone(s.Shape()), axis, axis+1)...))
		}
		res, err := ir.EvalBody(context.Background(), body, args, captured, nil)
		if err != nil {
			return nil, fmt.Errorf("iteration %d: %w", at, err)
		}
		copy(out, res[:states])
		for j := range stacks {
			if err := stacks[j].push(res[states+j]); err != nil {
				return nil, err
			}
		}
	}
	for j := range stacks {
		t, err := stacks[j].join(body.Outputs[states+j].Type, scanInt(n, "scan_output_axes", j), scanInt(n, "scan_output_directions", j) != 0)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}
