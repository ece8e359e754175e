package ops

import (
	"fmt"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// opCase is one application of an operator with what it must give.
type opCase struct {
	op    string
	attrs ir.Attrs
	in    []*tensor.Tensor
	want  []*tensor.Tensor // nil: an error of Infer or Eval
}

func (c opCase) String() string {
	s := fmt.Sprint(c.op, c.attrs)
	for _, t := range c.in {
		if t != nil {
			s += fmt.Sprint(" ", ir.TypeOf(t), t.Container())
		}
	}
	return s
}

// addTo adds the case's node to a graph; input i is a constant if fixed says so.
func (c opCase) addTo(g *ir.Graph, outs int, fixed func(i int) bool) (*ir.Node, []*tensor.Tensor, error) {
	r := ir.NewRewriter(g)
	var vals []*ir.Value
	var args []*tensor.Tensor
	for i, t := range c.in {
		switch {
		case t == nil:
			vals = append(vals, nil)
		case fixed(i):
			vals = append(vals, r.Const("c", t))
		default:
			vals = append(vals, r.Input("x", ir.TypeOf(t)))
			args = append(args, t)
		}
	}
	var names []string
	for i := range outs {
		names = append(names, fmt.Sprint("y", i))
	}
	n, err := r.Add(c.op, "", append(ir.Attrs{}, c.attrs...), vals, names...)
	if err != nil {
		return nil, nil, err
	}
	r.SetOutputs(n.Out...)
	return n, args, nil
}

// run evaluates the case with all inputs constant, with all but the first, and
// with none, and checks that inference agrees.
func (c opCase) run(t *testing.T) {
	t.Helper()
	for _, fixed := range []func(i int) bool{
		func(int) bool { return true }, func(i int) bool { return i > 0 }, func(int) bool { return false },
	} {
		c.runWith(t, fixed)
	}
}

// runWith is run with the inputs constant that fixed names; when the first one
// is, inference must find the whole shape.
func (c opCase) runWith(t *testing.T, fixed func(i int) bool) {
	t.Helper()
	g := ir.NewGraph("g", Table())
	n, args, err := c.addTo(g, max(1, len(c.want)), fixed)
	if err != nil {
		if c.want != nil {
			t.Errorf("%v: %v", c, err)
		}
		return
	}
	got, err := ir.Eval(t.Context(), g, args)
	if err != nil {
		if c.want != nil {
			t.Errorf("%v: %v", c, err)
		}
		return
	}
	if c.want == nil {
		t.Errorf("%v: got %v %v, want an error", c, ir.TypeOf(got[0]), got[0].Container())
		return
	}
	checkElements(t, n.Op, c, got)
	for i, w := range c.want {
		if !tensor.Equal(got[i], w) {
			t.Errorf("%v: output %d is %v %v, want %v %v", c, i, ir.TypeOf(got[i]), got[i].Container(), ir.TypeOf(w), w.Container())
		}
		if it := n.Out[i].Type; !it.Compatible(ir.TypeOf(got[i])) {
			t.Errorf("%v: output %d is inferred %v, evaluated %v", c, i, it, ir.TypeOf(got[i]))
		} else if _, static := it.Static(); fixed(0) && !static && c.op != "NonZero" {
			t.Errorf("%v: output %d is inferred %v from constants", c, i, it)
		}
	}
}

func runCases(t *testing.T, cases []opCase) {
	t.Helper()
	for _, c := range cases {
		c.run(t)
	}
}

type (
	attrs = ir.Attrs
	ts    = []*tensor.Tensor
)

func seq(e tensor.Elem, shape ...int) *tensor.Tensor {
	n, _ := tensor.NumElems(shape)
	x := make([]int64, n)
	for i := range x {
		x[i] = int64(i)
	}
	t, err := cast(tensor.Of(x, shape...), e)
	if err != nil {
		panic(err)
	}
	return t
}

func ints(x ...int64) *tensor.Tensor { return tensor.Of(x, len(x)) }

func f32s(x []float32, shape ...int) *tensor.Tensor { return tensor.Of(x, shape...) }
