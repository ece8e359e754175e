package ops

import (
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The operators of the integer level in standard ONNX: exact sums by ConvInteger,
// MatMulInteger and the like, then the rule in f64, where all of it is exact:
//
//	Cast(f64) → Mul(multiplier) → Round → Add(y_zero_point) → Clip(lo, hi) → Cast

// integerExport builds the nodes that stand for n; the first error sticks.
type integerExport struct {
	r     *ir.Rewriter
	n     *ir.Node
	added int
	err   error
}

func exporting(r *ir.Rewriter, n *ir.Node) *integerExport {
	return &integerExport{r: r.Before(n), n: n}
}

func (e *integerExport) add(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	if e.err != nil {
		return nil
	}
	e.added++
	m, err := e.r.Add(op, labelled(e.n, fmt.Sprintf("_%d_%s", e.added, op)), attrs, in, e.n.Out[0].Name+"_"+op)
	if err != nil {
		e.err = err
		return nil
	}
	return m.Out[0]
}

func (e *integerExport) cast(x *ir.Value, to tensor.Elem) *ir.Value {
	return e.add("Cast", ir.MakeAttrs("to", to.ONNXType()), x)
}

func (e *integerExport) constant(what string, t *tensor.Tensor) *ir.Value {
	return e.r.Const(e.n.Out[0].Name+"_"+what, t)
}

func (e *integerExport) f64(what string, x float64) *ir.Value {
	return e.constant(what, tensor.Scalar(x))
}

// fixed returns constant input i.
func (e *integerExport) fixed(i int) *tensor.Tensor {
	t := e.n.ConstIn(i)
	if t == nil && e.err == nil {
		e.err = fmt.Errorf("%s must be a constant to be written in standard ONNX", portName(e.n, i))
	}
	return t
}

// bytes returns input i and its zero point, input i+2, as u8 with the same
// differences: ONNX Runtime's ConvInteger takes nothing else.
func (e *integerExport) bytes(i int) (x, zero *ir.Value) {
	v := e.n.In[i]
	offset := int64(0)
	if v.Type.Elem.IsSigned() {
		offset = 128
	}
	z := []int64{0}
	var zeroShape []int
	if e.n.Input(i+2) != nil {
		t := e.fixed(i + 2)
		if t == nil {
			return nil, nil
		}
		z, zeroShape = slices.Clone(t.Int64s()), t.Shape()
	}
	for j := range z {
		z[j] += offset
	}
	zero = e.constant("zero_point", tensor.FromInt64s(tensor.U8, z, zeroShape...))
	if t := e.n.ConstIn(i); t != nil {
		q := slices.Clone(t.Int64s())
		for j := range q {
			q[j] += offset
		}
		return e.constant("bytes", tensor.FromInt64s(tensor.U8, q, t.Shape()...)), zero
	}
	if offset == 0 {
		return v, zero
	}
	shift := e.constant("offset", tensor.Scalar(int32(offset)))
	return e.cast(e.add("Add", nil, e.cast(v, tensor.I32), shift), tensor.U8), zero
}

// finish adds the bias to i32 sums, applies the rule, and replaces the node.
// bias is the index of that input, −1 for none; along is the shape in which
// constants with one element per channel meet the sums.
func (e *integerExport) finish(sum *ir.Value, bias, multiplier int, along func(channels int) []int) error {
	if bias >= 0 {
		if s := e.n.Int("bias_shift"); s > 0 {
			sum = e.add("Mul", nil, sum, e.constant("shift", tensor.Scalar(int32(1)<<s)))
		}
		if e.n.Input(bias) != nil {
			if b := e.fixed(bias); b != nil {
				sum = e.add("Add", nil, sum, e.constant("bias", b.Reshape(along(b.Len())...)))
			}
		}
	}
	if e.n.Input(multiplier) != nil {
		m, z := e.fixed(multiplier), e.fixed(multiplier+1)
		if e.err != nil {
			return e.err
		}
		f := tensor.Of(slices.Clone(m.Float64s()), along(m.Len())...)
		if m.Len() == 1 {
			f = tensor.Scalar(m.Float64s()[0])
		}
		sum = e.rule(e.cast(sum, tensor.F64), e.constant("multiplier", f), z)
	}
	if e.err != nil {
		return e.err
	}
	replaceNode(e.r, e.n, sum)
	return nil
}

// rule requantises f64 sums.
func (e *integerExport) rule(sum, multiplier *ir.Value, zero *tensor.Tensor) *ir.Value {
	lo, hi := RequantRange(e.n, zero.Elem())
	y := e.add("Round", nil, e.add("Mul", nil, sum, multiplier))
	y = e.add("Add", nil, y, e.f64("y_zero_point", float64(zero.Int64s()[0])))
	y = e.add("Clip", nil, y, e.f64("lo", float64(lo)), e.f64("hi", float64(hi)))
	return e.cast(y, zero.Elem())
}

func exportQConv(r *ir.Rewriter, n *ir.Node, _ int) error {
	e := exporting(r, n)
	x, xz := e.bytes(0)
	w, wz := e.bytes(1)
	var attrs ir.Attrs
	for _, name := range []string{"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"} {
		if v := n.Attrs.Get(name); v != nil {
			attrs.Set(name, v)
		}
	}
	rank := n.In[0].Type.Rank()
	if rank < 0 {
		return fmt.Errorf("the rank of %%%s is not known", n.In[0].Name)
	}
	return e.finish(e.add("ConvInteger", attrs, x, w, xz, wz), 4, 5, func(channels int) []int {
		shape := slices.Repeat([]int{1}, rank-1)
		shape[0] = channels
		return shape
	})
}

func exportQGemm(r *ir.Rewriter, n *ir.Node, _ int) error {
	e := exporting(r, n)
	a, az := e.bytes(0)
	b, bz := e.bytes(1)
	if n.Int("transB") != 0 {
		b = e.add("Transpose", ir.MakeAttrs("perm", []int{1, 0}), b)
	}
	return e.finish(e.add("MatMulInteger", nil, a, b, az, bz), 4, 5, func(channels int) []int { return []int{channels} })
}

func exportQAdd(r *ir.Rewriter, n *ir.Node, _ int) error {
	e := exporting(r, n)
	m, z := e.fixed(4), e.fixed(5)
	if e.err != nil {
		return e.err
	}
	var p [2]*ir.Value
	for i := range p {
		zero := e.fixed(i + 2)
		if e.err != nil {
			return e.err
		}
		d := e.add("Sub", nil, e.cast(n.In[i], tensor.F64), e.f64("zero_point", float64(zero.Int64s()[0])))
		p[i] = e.add("Mul", nil, d, e.f64("multiplier", m.Float64s()[i]))
	}
	y := e.rule(e.add("Add", nil, p[0], p[1]), e.f64("scale", math.Ldexp(1, -n.Int("shift"))), z)
	if e.err != nil {
		return e.err
	}
	replaceNode(e.r, n, y)
	return nil
}

// exportQPool sums with a convolution of ones, which is exact.
func exportQPool(r *ir.Rewriter, n *ir.Node, _ int) error {
	e := exporting(r, n)
	m, zero, z := e.fixed(2), e.fixed(1), e.fixed(3)
	if e.err != nil {
		return e.err
	}
	x := n.In[0].Type
	var sum *ir.Value
	d := e.add("Sub", nil, e.cast(n.In[0], tensor.F32), e.constant("zero_point", tensor.Scalar(float32(zero.Int64s()[0]))))
	if n.Op.Name == "thriftc.QGlobalAveragePool" {
		axes := make([]int, 0, 2)
		for i := 2; i < x.Rank(); i++ {
			axes = append(axes, i)
		}
		axesOf := make([]int64, len(axes))
		for i, a := range axes {
			axesOf[i] = int64(a)
		}
		sum = e.add("ReduceSum", nil, e.cast(d, tensor.I32), e.r.Ints(n.Out[0].Name+"_axes", axesOf...))
	} else {
		if x.Unranked || !x.Dims[1].Known() {
			return fmt.Errorf("the number of channels of %%%s is not known", n.In[0].Name)
		}
		shape := []int{x.Dims[1].N, 1}
		for _, k := range n.Ints("kernel_shape") {
			shape = append(shape, int(k))
		}
		ones := slices.Repeat([]float32{1}, sizeOf(shape))
		var attrs ir.Attrs
		for _, name := range []string{"auto_pad", "dilations", "kernel_shape", "pads", "strides"} {
			if v := n.Attrs.Get(name); v != nil {
				attrs.Set(name, v)
			}
		}
		attrs.Set("group", int64(x.Dims[1].N))
		sum = e.add("Conv", attrs, d, e.constant("ones", tensor.Of(ones, shape...)))
	}
	y := e.rule(e.cast(sum, tensor.F64), e.f64("multiplier", m.Float64s()[0]), z)
	if e.err != nil {
		return e.err
	}
	replaceNode(e.r, n, y)
	return nil
}

func exportLookup(r *ir.Rewriter, n *ir.Node, _ int) error {
	e := exporting(r, n)
	at := e.cast(n.In[0], tensor.I64)
	if least, _ := n.In[0].Type.Elem.Range(); least != 0 {
		at = e.add("Sub", nil, at, e.constant("least", tensor.Scalar(least)))
	}
	y := e.add("Gather", nil, n.In[1], at)
	if e.err != nil {
		return e.err
	}
	replaceNode(e.r, n, y)
	return nil
}
