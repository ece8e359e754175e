package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// comparison completes and defines a test on two numbers of one type, with
// broadcasting. f sees floats, u the type u64, i other integers.
func comparison(o ir.Op, f func(x, y float64) bool, i func(x, y int64) bool, u func(x, y uint64) bool) *ir.Op {
	o.Elementwise = true
	o.In, o.Out, o.Cost, o.Import = "A, B", "C", perElement, importBinary
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		t, err := inferArith(n)
		return []ir.Type{t.WithElem(tensor.Bool)}, err
	}
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		x, y := b[0], b[1]
		out := make([]bool, x.Len())
		switch e := x.Elem(); {
		case e.IsFloat():
			p, q := x.Float64s(), y.Float64s() // exact
			for k := range out {
				out[k] = f(p[k], q[k])
			}
		case e == tensor.U64:
			p, q := tensor.Data[uint64](x), tensor.Data[uint64](y)
			for k := range out {
				out[k] = u(p[k], q[k])
			}
		default:
			p, q := x.Int64s(), y.Int64s()
			for k := range out {
				out[k] = i(p[k], q[k])
			}
		}
		return one(tensor.Of(out, x.Shape()...), nil)
	}
	return define(o)
}

type ordered interface{ float64 | int64 | uint64 }

func greater[T ordered](x, y T) bool        { return x > y }
func greaterOrEqual[T ordered](x, y T) bool { return x >= y }
func less[T ordered](x, y T) bool           { return x < y }
func lessOrEqual[T ordered](x, y T) bool    { return x <= y }

var (
	_ = comparison(ir.Op{Name: "Greater", Since: 7, Doc: "Whether A > B, with broadcasting."}, greater[float64], greater[int64], greater[uint64])
	_ = comparison(ir.Op{Name: "GreaterOrEqual", Since: 12, Doc: "Whether A ≥ B, with broadcasting."}, greaterOrEqual[float64], greaterOrEqual[int64], greaterOrEqual[uint64])
	_ = comparison(ir.Op{Name: "Less", Since: 7, Doc: "Whether A < B, with broadcasting."}, less[float64], less[int64], less[uint64])
	_ = comparison(ir.Op{Name: "LessOrEqual", Since: 12, Doc: "Whether A ≤ B, with broadcasting."}, lessOrEqual[float64], lessOrEqual[int64], lessOrEqual[uint64])
)

var _ = define(ir.Op{
	Name: "Equal", Since: 7, Doc: "Whether A = B, with broadcasting; for numbers, bool and strings.",
	In: "A, B", Out: "C", Import: importBinary, Cost: perElement,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantLike(n, 0, 1); err != nil {
			return nil, err
		}
		t, err := broadcastType(tensor.Bool, n.In[0].Type, n.In[1].Type)
		return []ir.Type{t}, err
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		x, y := b[0], b[1]
		out := make([]bool, x.Len())
		switch e := x.Elem(); {
		case e == tensor.String:
			p, q := tensor.Data[string](x), tensor.Data[string](y)
			for k := range out {
				out[k] = p[k] == q[k]
			}
		case e.IsFloat():
			p, q := x.Float64s(), y.Float64s()
			for k := range out {
				out[k] = p[k] == q[k]
			}
		default:
			p, q := x.Int64s(), y.Int64s()
			for k := range out {
				out[k] = p[k] == q[k]
			}
		}
		return one(tensor.Of(out, x.Shape()...), nil)
	},
})

// logical completes and defines an operator on two truth values, with broadcasting.
func logical(o ir.Op, f func(x, y bool) bool) *ir.Op {
	o.Elementwise = true
	o.In, o.Out, o.Cost, o.Import, o.Since = "A, B", "C", perElement, importBinary, 7
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		for i, v := range n.In {
			if v.Type.Elem != tensor.Bool {
				return nil, fmt.Errorf("%s is %v, expected bool", portName(n, i), v.Type)
			}
		}
		t, err := broadcastType(tensor.Bool, n.In[0].Type, n.In[1].Type)
		return []ir.Type{t}, err
	}
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		b, err := broadcast(in...)
		if err != nil {
			return nil, err
		}
		x, y := tensor.Data[bool](b[0]), tensor.Data[bool](b[1])
		out := make([]bool, len(x))
		for k := range out {
			out[k] = f(x[k], y[k])
		}
		return one(tensor.Of(out, b[0].Shape()...), nil)
	}
	return define(o)
}

var (
	_ = logical(ir.Op{Name: "And", Doc: "Whether A and B, with broadcasting."}, func(x, y bool) bool { return x && y })
	_ = logical(ir.Op{Name: "Or", Doc: "Whether A or B or both, with broadcasting."}, func(x, y bool) bool { return x || y })
	_ = logical(ir.Op{Name: "Xor", Doc: "Whether either A or B, with broadcasting."}, func(x, y bool) bool { return x != y })
)
