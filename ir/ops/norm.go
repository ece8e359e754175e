package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var epsilonSpec = floatAttr("epsilon", 1e-5, "ε, added to the variance")

// wantChannels checks that X has channels and that inputs 1 and 2 have one
// element for each.
func wantChannels(n *ir.Node) error {
	if err := wantFloat(n, 0, 1, 2); err != nil {
		return err
	}
	x := n.In[0].Type
	if x.Unranked {
		return nil
	}
	if x.Rank() < 2 {
		return fmt.Errorf("%s is %v, expected at least two dimensions", portName(n, 0), x)
	}
	for i := 1; i < 3; i++ {
		if t := n.In[i].Type; !t.Unranked && (t.Rank() != 1 || !t.Dims[0].MayEqual(x.Dims[1])) {
			return fmt.Errorf("%s is %v, expected shape [%v]", portName(n, i), t, x.Dims[1])
		}
	}
	return nil
}

// normCost counts the two sums and the scaling of a normalisation.
func normCost(n *ir.Node) ir.Cost {
	e := elemCount(n.Out[0].Type)
	return ir.Cost{MACs: 2 * e, Adds: 3 * e}
}

// groupNorm normalises every run of channels that make a group.
func groupNorm[T float](n *ir.Node, in []*tensor.Tensor, groups int) (*tensor.Tensor, error) {
	s := in[0].Shape()
	channels, plane := s[1], sizeOf(s[2:])
	if groups < 1 || channels%groups != 0 || in[1].Len() != channels || in[2].Len() != channels {
		return nil, fmt.Errorf("%d groups, %d scales and %d biases do not fit %d channels", groups, in[1].Len(), in[2].Len(), channels)
	}
	x, y := numbers[T](in[0]), make([]T, in[0].Len())
	scale, bias := numbers[T](in[1]), numbers[T](in[2])
	size := channels / groups * plane
	for g := range s[0] * groups {
		mean, variance := moments(x[g*size:][:size])
		root := sqrt(variance + T(n.Float("epsilon")))
		for i, v := range x[g*size:][:size] {
			c := (g*size + i) / plane % channels
			y[g*size+i] = fma(v-mean, scale[c]/root, bias[c])
		}
	}
	return fromNumbers(in[0].Elem(), y, s...), nil
}

const normDoc = `the mean and the mean square deviation are added in the
order of reductions (f32.Sum); with a = scale/√(var + ε), y = (x − mean)·a + bias,
the difference rounded and the rest in one fused multiply-add.`

var _ = define(ir.Op{
	Name: "InstanceNormalization", PerSample: byFirst, Since: 6,
	Roles: []ir.Role{1: ir.Gain, 2: ir.Bias},
	Doc:   "Normalises every channel of every sample over its spatial positions: " + normDoc,
	In:    "input, scale, B", Out: "output",
	Attrs: []ir.AttrSpec{epsilonSpec},
	Grad:  gradGroupNorm,
	Infer: func(n *ir.Node) ([]ir.Type, error) { return sameTypeOf(n, wantChannels(n)) },
	Cost:  normCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(groupNorm[float64](n, in, in[0].Shape()[1]))
		}
		return one(groupNorm[float32](n, in, in[0].Shape()[1]))
	},
})

var _ = define(ir.Op{
	Name: "GroupNormalization", Since: 21,
	Roles: []ir.Role{1: ir.Gain, 2: ir.Bias},
	Doc:   "Normalises every group of channels of every sample: " + normDoc,
	In:    "X, scale, bias", Out: "Y",
	Attrs: []ir.AttrSpec{epsilonSpec,
		{Name: "num_groups", Kind: ir.IntAttr, Required: true, Doc: "the number of groups, a divisor of the number of channels"},
		{Name: "stash_type", Kind: ir.IntAttr, Default: int64(1), Doc: "the ONNX type to compute in; f32 whatever it says, f64 for f64"},
	},
	Import: importGroupNorm,
	Export: exportGroupNorm,
	Grad:   gradGroupNorm,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantChannels(n); err != nil {
			return nil, err
		}
		x, g := n.In[0].Type, n.Int("num_groups")
		if g < 1 || x.Rank() > 1 && x.Dims[1].Known() && x.Dims[1].N%g != 0 {
			return nil, fmt.Errorf("X is %v, num_groups %d: expected a divisor of the number of channels", x, g)
		}
		return sameType(n)
	},
	Cost: normCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(groupNorm[float64](n, in, n.Int("num_groups")))
		}
		return one(groupNorm[float32](n, in, n.Int("num_groups")))
	},
})

// importGroupNorm repeats the scales and biases of opset 18, one for each
// group, for the channels of the group.
func importGroupNorm(r *ir.Rewriter, n *ir.Node, opset int) error {
	if opset >= 21 || len(n.In) < 3 {
		return nil
	}
	x, g := n.In[0].Type, n.Int("num_groups")
	if x.Rank() < 2 || !x.Dims[1].Known() || g < 1 {
		return fmt.Errorf("X is %v, and the form of opset %d needs a known number of channels", x, opset)
	}
	each := int64(x.Dims[1].N / g)
	e := expansion{r: r.Before(n), n: n}
	for i := 1; i < 3; i++ {
		column := e.add("Reshape", nil, n.In[i], e.ints(int64(g), 1))
		wide := e.add("Expand", nil, column, e.ints(int64(g), each))
		flat := e.add("Reshape", nil, wide, e.ints(-1))
		if e.err != nil {
			return e.err
		}
		r.SetInput(n, i, flat)
	}
	return nil
}

// exportGroupNorm writes the operator with InstanceNormalization over groups
// and a scale and bias for every channel.
func exportGroupNorm(r *ir.Rewriter, n *ir.Node, opset int) error {
	x, g := n.In[0].Type, n.Int("num_groups")
	if x.Unranked {
		return fmt.Errorf("X is %v, and opset %d needs its rank", x, opset)
	}
	e := expansion{r: r.Before(n), n: n}
	oneEach := func(v float64) *ir.Value {
		return r.Const(n.Out[0].Name+"_const", floatsOf(x.Elem, slices.Repeat([]float64{v}, g), []int{g}))
	}
	groups := e.add("Reshape", nil, n.In[0], e.ints(0, int64(g), -1))
	normal := e.add("InstanceNormalization", ir.MakeAttrs("epsilon", n.Float("epsilon")), groups, oneEach(1), oneEach(0))
	back := e.add("Reshape", nil, normal, e.add("Shape", nil, n.In[0]))
	var axes []int64
	for i := 1; i < x.Rank()-1; i++ {
		axes = append(axes, int64(i))
	}
	scaled := e.add("Mul", nil, back, e.unsqueeze(n.In[1], axes...))
	return e.become("Add", nil, scaled, e.unsqueeze(n.In[2], axes...))
}

var axisFromSpec = ir.AttrSpec{Name: "axis", Kind: ir.IntAttr, Default: int64(-1), Doc: "the first of the dimensions over which to normalise"}

// wantTail checks that inputs 1 and 2 broadcast to the dimensions of X from axis on.
func wantTail(n *ir.Node) (axis int, err error) {
	if err := wantFloat(n, 0); err != nil {
		return 0, err
	}
	x := n.In[0].Type
	if x.Unranked {
		return 0, nil
	}
	if axis, err = axisOf(n.Int("axis"), x.Rank()); err != nil {
		return 0, err
	}
	for i := 1; i < 3; i++ {
		if v := n.Input(i); v != nil {
			if !v.Type.Elem.IsFloat() {
				return 0, fmt.Errorf("%s is %v, expected floating point", portName(n, i), v.Type)
			}
			if _, err := broadcastOnto(x, v.Type); err != nil {
				return 0, fmt.Errorf("%s: %w", portName(n, i), err)
			}
		}
	}
	return axis, nil
}

var _ = define(ir.Op{
	Name: "LayerNormalization", Since: 17,
	Roles: []ir.Role{1: ir.Gain, 2: ir.Bias},
	Doc: `Normalises X over the dimensions from axis on: with the mean and the mean square
deviation added in the order of reductions (f32.Sum) and i = 1/√(var + ε),
y = ((x − mean)·i)·Scale + B, the last product and sum in one fused multiply-add
if there is a B, and every other operation rounded.`,
	In: "X, Scale, B?", Out: "Y, Mean?, InvStdDev?",
	Attrs: []ir.AttrSpec{axisFromSpec, epsilonSpec,
		{Name: "stash_type", Kind: ir.IntAttr, Default: int64(1), Doc: "the ONNX type of Mean and InvStdDev: 1 (f32); computing is in f32 too, in f64 for f64"},
	},
	Export: exportLayerNorm,
	Grad:   gradLayerNorm,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		axis, err := wantTail(n)
		if err != nil {
			return nil, err
		}
		if s := n.Int("stash_type"); s != 1 {
			return nil, fmt.Errorf("stash_type is %d, expected 1", s)
		}
		x := n.In[0].Type
		stat := ir.UnrankedType(tensor.F32)
		if !x.Unranked {
			dims := slices.Clone(x.Dims)
			for i := axis; i < len(dims); i++ {
				dims[i] = ir.Fixed(1)
			}
			stat = ir.TensorType(tensor.F32, dims...)
		}
		return []ir.Type{x.WithElem(x.Elem), stat, stat}, nil
	},
	Cost: normCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return layerNorm[float64](n, in)
		}
		return layerNorm[float32](n, in)
	},
})

// scaleAndBias expands inputs 1 and 2 to X's shape; a nil bias stays nil.
func scaleAndBias[T float](in []*tensor.Tensor) (scale, bias []T, err error) {
	s, err := expand(in[1], in[0].Shape())
	if err != nil {
		return nil, nil, err
	}
	if len(in) > 2 && in[2] != nil {
		b, err := expand(in[2], in[0].Shape())
		if err != nil {
			return nil, nil, err
		}
		bias = numbers[T](b)
	}
	return numbers[T](s), bias, nil
}

func layerNorm[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	s := in[0].Shape()
	axis, err := axisOf(n.Int("axis"), len(s))
	if err != nil {
		return nil, err
	}
	scale, bias, err := scaleAndBias[T](in)
	if err != nil {
		return nil, err
	}
	lines, size := sizeOf(s[:axis]), sizeOf(s[axis:])
	x, y := numbers[T](in[0]), make([]T, in[0].Len())
	means, invs := make([]float32, lines), make([]float32, lines)
	for l := range lines {
		m, variance := moments(x[l*size:][:size])
		inv := 1 / sqrt(variance+T(n.Float("epsilon")))
		means[l], invs[l] = float32(m), float32(inv)
		for i := l * size; i < (l+1)*size; i++ {
			v := T((x[i] - m) * inv)
			if bias != nil {
				y[i] = fma(v, scale[i], bias[i])
			} else {
				y[i] = T(v * scale[i])
			}
		}
	}
	stat := slices.Clone(s)
	for i := axis; i < len(s); i++ {
		stat[i] = 1
	}
	return []*tensor.Tensor{fromNumbers(in[0].Elem(), y, s...), tensor.Of(means, stat...), tensor.Of(invs, stat...)}, nil
}

func exportLayerNorm(r *ir.Rewriter, n *ir.Node, opset int) error {
	x := n.In[0].Type
	if n.Output(1) != nil || n.Output(2) != nil || x.Unranked {
		return fmt.Errorf("X is %v with %d outputs; opset %d needs a known rank and one output", x, len(n.Out), opset)
	}
	e := expansion{r: r.Before(n), n: n}
	d := e.add("Sub", nil, n.In[0], e.meanFrom(n.In[0], n.Int("axis")))
	variance := e.meanFrom(e.add("Mul", nil, d, d), n.Int("axis"))
	v := e.add("Div", nil, d, e.add("Sqrt", nil, e.add("Add", nil, variance, e.number(float64(n.Float("epsilon"))))))
	if n.Input(2) == nil {
		return e.become("Mul", nil, v, n.In[1])
	}
	return e.become("Add", nil, e.add("Mul", nil, v, n.In[1]), n.In[2])
}

// meanFrom adds the mean of v over the dimensions from axis on.
func (e *expansion) meanFrom(v *ir.Value, axis int) *ir.Value {
	if e.err != nil {
		return nil
	}
	if axis >= 0 {
		axis -= v.Type.Rank()
	}
	var axes []int64
	for ; axis < 0; axis++ {
		axes = append(axes, int64(axis))
	}
	return e.add("ReduceMean", nil, v, e.ints(axes...))
}

var _ = define(ir.Op{
	Name: "RMSNormalization", Since: 23,
	Roles: []ir.Role{1: ir.Gain},
	Doc: `Divides X by its root mean square over the dimensions from axis on, and multiplies
it by scale: with the rounded squares added in the order of reductions (f32.Sum)
and i = 1/√(mean + ε), y = (x·i)·scale, every operation rounded.`,
	In: "X, scale", Out: "Y",
	Attrs: []ir.AttrSpec{axisFromSpec, floatAttr("epsilon", 1e-5, "ε, added to the mean square"),
		{Name: "stash_type", Kind: ir.IntAttr, Default: int64(1), Doc: "the ONNX type to compute in; f32 whatever it says, f64 for f64"},
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.In[0].Type.Unranked {
			return fmt.Errorf("X is %v, and opset %d needs its rank", n.In[0].Type, opset)
		}
		e := expansion{r: r.Before(n), n: n}
		square := e.meanFrom(e.add("Mul", nil, n.In[0], n.In[0]), n.Int("axis"))
		v := e.add("Div", nil, n.In[0], e.add("Sqrt", nil, e.add("Add", nil, square, e.number(float64(n.Float("epsilon"))))))
		return e.become("Mul", nil, v, n.In[1])
	},
	Grad: gradLayerNorm,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		_, err := wantTail(n)
		return sameTypeOf(n, err)
	},
	Cost: normCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(rmsNorm[float64](n, in))
		}
		return one(rmsNorm[float32](n, in))
	},
})

func rmsNorm[T float](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	s := in[0].Shape()
	axis, err := axisOf(n.Int("axis"), len(s))
	if err != nil {
		return nil, err
	}
	scale, _, err := scaleAndBias[T](in)
	if err != nil {
		return nil, err
	}
	x, y := numbers[T](in[0]), make([]T, in[0].Len())
	size := sizeOf(s[axis:])
	squares := make([]T, size)
	for l := range sizeOf(s[:axis]) {
		for i, v := range x[l*size:][:size] {
			squares[i] = T(v * v)
		}
		inv := 1 / sqrt(f32.Sum(squares)/T(size)+T(n.Float("epsilon")))
		for i := l * size; i < (l+1)*size; i++ {
			y[i] = T(T(x[i]*inv) * scale[i])
		}
	}
	return fromNumbers(in[0].Elem(), y, s...), nil
}

var _ = define(ir.Op{
	Name: "MeanVarianceNormalization", Since: 9,
	Doc: `(x − mean)/(√var + 1e-9) over the given axes; the mean and the mean square
deviation are added in the order of reductions (f32.Sum), and every operation is
rounded.`,
	In: "X", Out: "Y",
	Attrs: []ir.AttrSpec{{Name: "axes", Kind: ir.IntsAttr, Default: []int64{0, 2, 3}, Doc: "the dimensions over which to normalise"}},
	Grad:  gradMeanVariance,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if x := n.In[0].Type; !x.Unranked {
			if _, err := axesOf(n.Ints("axes"), x.Rank()); err != nil {
				return nil, err
			}
		}
		return floatType(n)
	},
	Cost: normCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		axes, err := axesOf(n.Ints("axes"), in[0].Rank())
		if err != nil {
			return nil, err
		}
		if in[0].Elem() == tensor.F64 {
			return one(meanVariance[float64](in[0], axes), nil)
		}
		return one(meanVariance[float32](in[0], axes), nil)
	},
})

func meanVariance[T float](t *tensor.Tensor, axes []int) *tensor.Tensor {
	s := t.Shape()
	strides := stridesOf(s)
	var kept, keptStep, gone, goneStep []int
	for i, d := range s {
		if slices.Contains(axes, i) {
			gone, goneStep = append(gone, d), append(goneStep, strides[i])
		} else {
			kept, keptStep = append(kept, d), append(keptStep, strides[i])
		}
	}
	x, y := numbers[T](t), make([]T, t.Len())
	for at := range indexWalk(kept, keptStep, 0) {
		var set []T
		for i := range indexWalk(gone, goneStep, at) {
			set = append(set, x[i])
		}
		m, variance := moments(set)
		d := sqrt(variance) + 1e-9
		for i := range indexWalk(gone, goneStep, at) {
			y[i] = (x[i] - m) / d
		}
	}
	return fromNumbers(t.Elem(), y, s...)
}
