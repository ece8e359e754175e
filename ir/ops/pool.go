package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var (
	kernelSpec = ir.AttrSpec{Name: "kernel_shape", Kind: ir.IntsAttr, Required: true, Doc: "the window's size in each spatial dimension"}
	ceilSpec   = ir.AttrSpec{Name: "ceil_mode", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: a last window may reach beyond the padded input, if it starts on the input or the padding before it"}
)

// inferPool is the shape rule of pooling.
func inferPool(n *ir.Node) (ir.Type, error) {
	x := n.In[0].Type
	if x.Unranked {
		return x, nil
	}
	if x.Rank() < 3 {
		return x, fmt.Errorf("X is %v, expected at least three dimensions", x)
	}
	win, err := windowOf(n, nil, x.Rank()-2)
	if err != nil {
		return x, err
	}
	dims := append([]ir.Dim{}, x.Dims...)
	for i := 2; i < len(dims); i++ {
		if dims[i], err = win.outDim(n, i-2, dims[i]); err != nil {
			return x, err
		}
	}
	return ir.Type{Elem: x.Elem, Dims: dims, Quant: x.Quant}, nil
}

// poolCost is one operation for each tap of each window.
func poolCost(n *ir.Node) ir.Cost {
	c := elemCount(n.Out[0].Type)
	for _, k := range n.Ints("kernel_shape") {
		c *= k
	}
	return ir.Cost{Adds: c}
}

// pool evaluates a pooling: f gets the elements of one window that lie in the
// input, in row-major order, and the number of positions that lie in the
// padded input; it returns the result and may note which tap it was.
// The flat position of that tap in x comes back in at, if at is wanted.
func pool[T number](n *ir.Node, in *tensor.Tensor, wantAt bool, f func(x []T, padded int) (y T, tap int)) (out *tensor.Tensor, at []int64, err error) {
	s := in.Shape()
	win, err := windowOf(n, nil, len(s)-2)
	if err != nil {
		return nil, nil, err
	}
	if err := win.resolve(n, s[2:]); err != nil {
		return nil, nil, err
	}
	shape := append([]int{s[0], s[1]}, win.Out...)
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, nil, err
	}
	if wantAt {
		if at, err = alloc[int64](shape...); err != nil {
			return nil, nil, err
		}
	}
	x := numbers[T](in)
	inPlane, outPlane := sizeOf(win.In), sizeOf(win.Out)
	pos := make([]int, len(win.Out))
	var taps []int
	var window []T
	for o := range outPlane {
		var padded int
		taps, padded = win.taps(pos, taps[:0])
		for p := range s[0] * s[1] {
			window = window[:0]
			for _, t := range taps {
				window = append(window, x[p*inPlane+t])
			}
			v, tap := f(window, padded)
			y[p*outPlane+o] = v
			if wantAt && tap < len(taps) {
				at[p*outPlane+o] = int64(p*inPlane + taps[tap])
			}
		}
		count(pos, win.Out)
	}
	return fromNumbers(in.Elem(), y, shape...), at, nil
}

// taps appends the flat input positions of the window at an output position,
// and returns also how many of its positions lie in the padded input.
func (w *Window) taps(pos []int, taps []int) ([]int, int) {
	padded := 1
	rank := len(pos)
	lo, hi := make([]int, rank), make([]int, rank) // the taps inside the input, along each axis
	start := make([]int, rank)
	for i, o := range pos {
		start[i] = o*w.Stride[i] - w.PadLo[i]
		d := w.Dilation[i]
		if start[i] < 0 {
			lo[i] = (-start[i] + d - 1) / d
		}
		inside := func(end int) int { // taps before position end
			if end <= start[i] {
				return 0
			}
			return min(w.Kernel[i], (end-1-start[i])/d+1)
		}
		hi[i] = inside(w.In[i])
		padded *= inside(w.In[i] + w.PadHi[i])
		if lo[i] >= hi[i] {
			hi[i] = lo[i]
		}
	}
	size := make([]int, rank)
	step := make([]int, rank)
	first := 0
	for i, s := range stridesOf(w.In) {
		size[i], step[i] = hi[i]-lo[i], s*w.Dilation[i]
		first += (start[i] + lo[i]*w.Dilation[i]) * s
	}
	for t := range indexWalk(size, step, first) {
		taps = append(taps, t)
	}
	return taps, padded
}

var _ = define(ir.Op{
	Name: "MaxPool", PerSample: byFirst, Since: 12,
	Pooling: true, Homogeneous: true,
	Doc: `The greatest element of every window; padding never counts. Taps are compared in
row-major order and an element replaces the one before only if it is greater, so
a NaN counts only as the first tap. Indices are the flat positions of the
maxima in X.`,
	In: "X", Out: "Y, Indices?", Elements: ir.Selected,
	Attrs: append([]ir.AttrSpec{kernelSpec, ceilSpec,
		{Name: "storage_order", Kind: ir.IntAttr, Default: int64(0), Doc: "1: Indices count the spatial positions in column-major order"},
	}, windowSpecs...),
	Import: importWindow,
	Grad:   gradMaxPool,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if e := n.In[0].Type.Elem; !e.IsFloat() && !e.IsInt() || e == tensor.U64 {
			return nil, fmt.Errorf("X is %v, expected numbers", n.In[0].Type)
		}
		t, err := inferPool(n)
		return []ir.Type{t, t.WithElem(tensor.I64)}, err
	},
	Cost: poolCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		switch e := in[0].Elem(); {
		case e == tensor.F64:
			return maxPool(n, in[0], math.Inf(-1))
		case e.IsFloat():
			return maxPool(n, in[0], float32(math.Inf(-1)))
		default:
			least, _ := e.Range()
			return maxPool(n, in[0], least)
		}
	},
})

func maxPool[T number](n *ir.Node, x *tensor.Tensor, least T) ([]*tensor.Tensor, error) {
	indices := n.Output(1) != nil
	y, at, err := pool(n, x, indices, func(x []T, _ int) (T, int) {
		best, tap := least, 0
		for i, v := range x {
			if i == 0 || v > best {
				best, tap = v, i
			}
		}
		return best, tap
	})
	if err != nil || !indices {
		return []*tensor.Tensor{y}, err
	}
	if n.Int("storage_order") != 0 {
		columnMajor(at, x.Shape()[2:])
	}
	return []*tensor.Tensor{y, tensor.Of(at, y.Shape()...)}, nil
}

// columnMajor renumbers positions in planes of a spatial shape from row-major
// to column-major order.
func columnMajor(at []int64, spatial []int) {
	plane := int64(sizeOf(spatial))
	for k, p := range at {
		rest, pos, step := p%plane, p/plane*plane, plane
		for i := len(spatial) - 1; i >= 0; i-- {
			d := int64(spatial[i])
			step /= d
			pos += rest % d * step
			rest /= d
		}
		at[k] = pos
	}
}

var _ = define(ir.Op{
	Name: "AveragePool", PerSample: byFirst, Since: 19,
	Pooling: true, Homogeneous: true, Combines: true,
	Doc: `The mean of every window: its elements inside the input, added in row-major
order, divided by their number, or with count_include_pad by the number of
positions inside the padded input.`,
	In: "X", Out: "Y",
	Attrs: append([]ir.AttrSpec{kernelSpec, ceilSpec,
		{Name: "count_include_pad", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the padding counts as zeros"},
	}, windowSpecs...),
	Import: importWindow,
	Export: exportUndilated(19),
	Grad:   gradAveragePool,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		t, err := inferPool(n)
		return []ir.Type{t}, err
	},
	Cost: poolCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return averagePool[float64](n, in[0])
		}
		return averagePool[float32](n, in[0])
	},
})

// exportUndilated writes a pooling for opsets in which it has no dilations.
func exportUndilated(since int) func(r *ir.Rewriter, n *ir.Node, opset int) error {
	return func(r *ir.Rewriter, n *ir.Node, opset int) error {
		for _, d := range n.Ints("dilations") {
			if d != 1 {
				return fmt.Errorf("dilations are %v, which needs opset %d", n.Ints("dilations"), since)
			}
		}
		r.DeleteAttr(n, "dilations")
		return nil
	}
}

func averagePool[T float](n *ir.Node, x *tensor.Tensor) ([]*tensor.Tensor, error) {
	withPad := n.Int("count_include_pad") != 0
	y, _, err := pool(n, x, false, func(x []T, padded int) (T, int) {
		if !withPad {
			padded = len(x)
		}
		if padded == 0 {
			return 0, 0
		}
		var sum T
		for _, v := range x {
			sum += v
		}
		return sum / T(padded), 0
	})
	return one(y, err)
}

var _ = define(ir.Op{
	Name: "LpPool", Since: 18,
	Pooling: true, Homogeneous: true,
	Doc: `The p-norm of every window: (Σ|x|ᵖ)^(1/p) over its elements inside the input. The
powers are rounded before they are added in row-major order.`,
	In: "X", Out: "Y",
	Attrs:  append([]ir.AttrSpec{kernelSpec, ceilSpec, pSpec}, windowSpecs...),
	Import: importWindow,
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.Int("ceil_mode") != 0 {
			return fmt.Errorf("ceil_mode is 1, which needs opset 18")
		}
		r.DeleteAttr(n, "ceil_mode")
		return exportUndilated(18)(r, n, opset)
	},
	Grad: gradLpPool,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantNorm(n); err != nil {
			return nil, err
		}
		t, err := inferPool(n)
		return []ir.Type{t}, err
	},
	Cost: poolCost,
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return lpPool[float64](n, in[0])
		}
		return lpPool[float32](n, in[0])
	},
})

var pSpec = ir.AttrSpec{Name: "p", Kind: ir.IntAttr, Default: int64(2), Doc: "the norm: 1, 2, …"}

// wantNorm checks the first input and the attribute p of norms.
func wantNorm(n *ir.Node) error {
	if p := n.Int("p"); p < 1 {
		return fmt.Errorf("p is %d, expected 1 or more", p)
	}
	return wantFloat(n, 0)
}

// power returns |x|ᵖ rounded once.
func power[T float](x T, p int) T {
	x = T(math.Abs(float64(x)))
	switch p {
	case 1:
		return x
	case 2:
		return T(x * x)
	}
	return T(f32.Pow64(float64(x), float64(p)))
}

// root returns x^(1/p) rounded once.
func root[T float](x T, p int) T {
	switch p {
	case 1:
		return x
	case 2:
		return sqrt(x)
	}
	return T(f32.Pow64(float64(x), 1/float64(p)))
}

func lpPool[T float](n *ir.Node, x *tensor.Tensor) ([]*tensor.Tensor, error) {
	p := n.Int("p")
	y, _, err := pool(n, x, false, func(x []T, _ int) (T, int) {
		var sum T
		for _, v := range x {
			sum += power(v, p)
		}
		return root(sum, p), 0
	})
	return one(y, err)
}

// globalPool completes and defines a pooling over all spatial positions. f64
// and f get one channel of one sample in row-major order.
func globalPool(o ir.Op, f func(n *ir.Node, x []float32) float32, f64 func(n *ir.Node, x []float64) float64) *ir.Op {
	o.In, o.Out = "X", "Y"
	o.Infer = func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		x := n.In[0].Type
		if x.Unranked {
			return []ir.Type{x}, nil
		}
		if x.Rank() < 3 {
			return nil, fmt.Errorf("X is %v, expected at least three dimensions", x)
		}
		dims := append([]ir.Dim{}, x.Dims...)
		for i := 2; i < len(dims); i++ {
			if dims[i] == ir.Fixed(0) {
				return nil, fmt.Errorf("X is %v, which has no spatial positions", x)
			}
			dims[i] = ir.Fixed(1)
		}
		return []ir.Type{x.WithDims(dims...)}, nil
	}
	o.Cost = func(n *ir.Node) ir.Cost { return ir.Cost{Adds: elemCount(n.In[0].Type)} }
	o.Eval = func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return one(mapPlanes(n, in[0], f64))
		}
		return one(mapPlanes(n, in[0], f))
	}
	return define(o)
}

func mapPlanes[T float](n *ir.Node, x *tensor.Tensor, f func(n *ir.Node, x []T) T) (*tensor.Tensor, error) {
	shape := append([]int{}, x.Shape()...)
	for i := 2; i < len(shape); i++ {
		shape[i] = 1
	}
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	data, plane := numbers[T](x), sizeOf(x.Shape()[2:])
	for i := range y {
		y[i] = f(n, data[i*plane:][:plane])
	}
	return fromNumbers(x.Elem(), y, shape...), nil
}

var (
	_ = globalPool(ir.Op{Name: "GlobalAveragePool", Pooling: true, Homogeneous: true, Combines: true, PerSample: byFirst, Since: 1, Grad: gradGlobalAveragePool,
		Doc: "The mean over all spatial positions: their sum in the order of reductions (f32.Sum), divided by their number.",
	}, planeMean[float32], planeMean[float64])
	_ = globalPool(ir.Op{Name: "GlobalMaxPool", Pooling: true, Homogeneous: true, PerSample: byFirst, Since: 1, Elements: ir.Selected, Grad: gradGlobalMaxPool,
		Doc: "The greatest element over all spatial positions, compared in row-major order; a NaN counts only as the first.",
	}, greatest[float32], greatest[float64])
	_ = globalPool(ir.Op{Name: "GlobalLpPool", Pooling: true, Homogeneous: true, Since: 2, Grad: gradGlobalLpPool, Attrs: []ir.AttrSpec{pSpec},
		Doc: "The p-norm over all spatial positions: the powers are rounded, then added in the order of reductions (f32.Sum).",
	}, lpNorm[float32], lpNorm[float64])
)

func planeMean[T float](_ *ir.Node, x []T) T { return mean(x) }

func greatest[T float](_ *ir.Node, x []T) T {
	best := x[0]
	for _, v := range x {
		if v > best {
			best = v
		}
	}
	return best
}

func lpNorm[T float](n *ir.Node, x []T) T {
	p := n.Int("p")
	y := make([]T, len(x))
	for i, v := range x {
		y[i] = power(v, p)
	}
	return root(f32.Sum(y), p)
}
