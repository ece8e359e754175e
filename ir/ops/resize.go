package ops

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var coordinateModes = []string{"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"}

var _ = define(ir.Op{
	Name:  "Resize",
	Roles: []ir.Role{1: ir.Setting, 2: ir.Setting, 3: ir.Shape}, Combines: true, PerSample: resizePerSample,
	Doc: "Resamples the input to other sizes. Source coordinates are computed in f32, as ONNX Runtime does; nearest only moves elements; " +
		"linear and cubic interpolate one axis after the other, the first axis first, in f64, and round once at the end " +
		"(toward zero for integers).",
	Since: 19,
	In:    "X, roi?, scales?, sizes?", Out: "Y",
	Grad: gradResize,
	Attrs: []ir.AttrSpec{
		{Name: "mode", Kind: ir.StringAttr, Default: "nearest", Doc: "nearest, linear or cubic"},
		{Name: "coordinate_transformation_mode", Kind: ir.StringAttr, Default: "half_pixel", Doc: "how an output index becomes an input coordinate: half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric, tf_crop_and_resize"},
		{Name: "nearest_mode", Kind: ir.StringAttr, Default: "round_prefer_floor", Doc: "round_prefer_floor, round_prefer_ceil, floor, ceil"},
		{Name: "cubic_coeff_a", Kind: ir.FloatAttr, Default: float32(-0.75), Doc: "the coefficient a of cubic interpolation"},
		{Name: "exclude_outside", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: what lies outside the input has no weight; 0: the edge is repeated"},
		{Name: "extrapolation_value", Kind: ir.FloatAttr, Default: float32(0), Doc: "what tf_crop_and_resize puts where a coordinate lies outside the input"},
		{Name: "antialias", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: when shrinking, linear and cubic filters are widened"},
		{Name: "axes", Kind: ir.IntsAttr, Doc: "the axes that roi, scales and sizes speak of; absent: all"},
		{Name: "keep_aspect_ratio_policy", Kind: ir.StringAttr, Default: "stretch", Doc: "what sizes mean: stretch exactly; not_larger, not_smaller: at most, at least, with one scale for all"},
	},
	Infer:  inferResize,
	Eval:   evalResize,
	Cost:   func(n *ir.Node) ir.Cost { return resizeCost(n) },
	Import: importResize,
	Export: exportResize,
})

var _ = define(ir.Op{
	Name:  "Upsample",
	Doc:   "Enlarges by scales; read as Resize, never present in a graph.",
	Since: 7,
	In:    "X, scales?", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "mode", Kind: ir.StringAttr, Default: "nearest", Doc: "nearest or linear"},
		{Name: "scales", Kind: ir.FloatsAttr, Doc: "one factor per dimension"},
		{Name: "height_scale", Kind: ir.FloatAttr, Doc: "opset 6: the factor of the height"},
		{Name: "width_scale", Kind: ir.FloatAttr, Doc: "opset 6: the factor of the width"},
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		scales := n.Floats("scales")
		if n.HasAttr("height_scale") {
			scales = []float32{1, 1, n.Float("height_scale"), n.Float("width_scale")}
		}
		in := n.Input(1)
		if in == nil {
			in = r.Const(n.Out[0].Name+"_scales", tensor.Of(slices.Clone(scales), len(scales)))
		}
		mode := n.Str("mode")
		if mode == "bilinear" {
			mode = "linear"
		}
		for _, a := range []string{"scales", "height_scale", "width_scale"} {
			r.DeleteAttr(n, a)
		}
		r.SetOp(n, "Resize")
		r.SetInputs(n, n.In[0], nil, in)
		r.SetAttr(n, "mode", mode)
		r.SetAttr(n, "coordinate_transformation_mode", "asymmetric")
		r.SetAttr(n, "nearest_mode", "floor")
		return nil
	},
})

func importResize(r *ir.Rewriter, n *ir.Node, opset int) error {
	if opset < 11 { // X, scales; the coordinates were asymmetric
		nearest := "floor"
		if s := n.ConstIn(1); s != nil && n.Str("mode") == "nearest" && s.Elem() == tensor.F32 {
			x := tensor.Data[float32](s)
			if slices.ContainsFunc(x, func(f float32) bool { return f < 1 }) {
				if nearest = "ceil"; slices.ContainsFunc(x, func(f float32) bool { return f > 1 }) {
					return fmt.Errorf("scales %v shrink and enlarge; at opset %d that has no one meaning", x, opset)
				}
			}
		}
		r.SetInputs(n, n.In[0], nil, n.Input(1))
		r.SetAttr(n, "coordinate_transformation_mode", "asymmetric")
		r.SetAttr(n, "nearest_mode", nearest)
		return nil
	}
	// Empty tensors stood for absent inputs up to opset 12, and still do in many files.
	for i := 1; i < len(n.In); i++ {
		if t := n.ConstIn(i); t != nil && t.Len() == 0 {
			r.SetInput(n, i, nil)
		}
	}
	if n.Str("coordinate_transformation_mode") == "tf_half_pixel_for_nn" {
		// Up to opset 12: half_pixel without its last step of −0.5, which another rounding makes good.
		nearest, ok := map[string]string{"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}[n.Str("nearest_mode")]
		if !ok || n.Str("mode") != "nearest" {
			return fmt.Errorf("tf_half_pixel_for_nn with mode %s and nearest_mode %s is not supported", n.Str("mode"), n.Str("nearest_mode"))
		}
		r.SetAttr(n, "coordinate_transformation_mode", "half_pixel")
		r.SetAttr(n, "nearest_mode", nearest)
	}
	return nil
}

func exportResize(r *ir.Rewriter, n *ir.Node, opset int) error {
	if n.Str("coordinate_transformation_mode") == "half_pixel_symmetric" {
		return fmt.Errorf("coordinate_transformation_mode half_pixel_symmetric does not exist at opset %d", opset)
	}
	if opset >= 18 {
		return nil
	}
	if n.Int("antialias") != 0 || n.Str("keep_aspect_ratio_policy") != "stretch" {
		return fmt.Errorf("antialias and keep_aspect_ratio_policy do not exist at opset %d", opset)
	}
	if opset < 13 && (n.Input(1) == nil || n.Input(2) == nil) {
		return fmt.Errorf("absent roi or scales do not exist at opset %d", opset)
	}
	if axes := n.Ints("axes"); axes != nil {
		out, static := n.Out[0].Type.Static()
		s, rank := n.ConstIn(2), n.In[0].Type.Rank()
		switch {
		case n.Input(1) != nil:
			return fmt.Errorf("axes do not exist at opset %d", opset)
		case s != nil && rank >= 0:
			at, err := axesOf(axes, rank)
			if err != nil {
				return err
			}
			all := slices.Repeat([]float32{1}, rank)
			for i, a := range at {
				all[a] = s.Float32s()[i]
			}
			r.SetInput(n, 2, r.Const("scales", tensor.Of(all, rank)))
		case n.Input(2) == nil && static:
			sizes := make([]int64, len(out))
			for i, d := range out {
				sizes[i] = int64(d)
			}
			r.SetInput(n, 3, r.Ints("sizes", sizes...))
		default:
			return fmt.Errorf("axes need constant scales or sizes at opset %d", opset)
		}
	}
	for _, a := range []string{"antialias", "axes", "keep_aspect_ratio_policy"} {
		r.DeleteAttr(n, a)
	}
	return nil
}

// resizeAxes returns the axes that a Resize speaks of.
func resizeAxes(n *ir.Node, rank int) ([]int, error) {
	if a := n.Ints("axes"); a != nil {
		return axesOf(a, rank)
	}
	return allAxes(rank), nil
}

// resizePerSample: dimension 0 keeps its size, and no region of it is cut out.
func resizePerSample(n *ir.Node) bool {
	return byFirst(n) && n.Str("coordinate_transformation_mode") != "tf_crop_and_resize" && n.In[0].Type.Dims[0] == n.Out[0].Type.Dims[0]
}

func inferResize(n *ir.Node) ([]ir.Type, error) {
	for _, c := range []struct {
		name   string
		values []string
	}{
		{"mode", []string{"nearest", "linear", "cubic"}},
		{"coordinate_transformation_mode", coordinateModes},
		{"nearest_mode", []string{"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}},
		{"keep_aspect_ratio_policy", []string{"stretch", "not_larger", "not_smaller"}},
	} {
		if !slices.Contains(c.values, n.Str(c.name)) {
			return nil, fmt.Errorf("%s is %q, expected one of %v", c.name, n.Str(c.name), c.values)
		}
	}
	if n.Str("coordinate_transformation_mode") == "tf_crop_and_resize" && n.Input(1) == nil {
		return nil, errors.New("tf_crop_and_resize needs roi")
	}
	if err := needInts(n, 3); err != nil {
		return nil, err
	}
	for _, i := range []int{1, 2} {
		if v := n.Input(i); v != nil && !v.Type.Elem.IsFloat() {
			return nil, fmt.Errorf("%s is %v, expected floating point", portName(n, i), v.Type)
		}
	}
	in := n.In[0].Type
	if n.Str("mode") != "nearest" && !in.Elem.IsFloat() && !in.Elem.IsInt() && in.Elem != tensor.Invalid {
		return nil, fmt.Errorf("cannot interpolate %v", in)
	}
	if in.Unranked {
		return types(ir.UnrankedType(in.Elem))
	}
	axes, err := resizeAxes(n, in.Rank())
	if err != nil {
		return nil, err
	}
	dims := slices.Clone(in.Dims)
	for _, a := range axes {
		dims[a] = ir.Unknown
	}
	t := ir.TensorType(in.Elem, dims...)
	scales, sizes := n.ConstIn(2), []int64(nil)
	if n.Input(3) != nil {
		ds, ok := knownDims(n, 3)
		if ok && len(ds) != len(axes) && len(ds) != 0 {
			return nil, fmt.Errorf("%d sizes for %d axes", len(ds), len(axes))
		}
		if ok && n.Str("keep_aspect_ratio_policy") == "stretch" && len(ds) > 0 {
			for i, a := range axes {
				dims[a] = ds[i]
			}
			return types(t)
		}
		if sizes, ok = knownInts(n, 3); !ok {
			return types(t)
		}
	} else if n.Input(2) == nil {
		return nil, errors.New("has neither scales nor sizes")
	} else if scales == nil {
		return types(t)
	}
	if scales != nil && scales.Elem() != tensor.F32 {
		return nil, fmt.Errorf("scales are %v, expected f32", n.In[2].Type)
	}
	if scales != nil && scales.Len() > 0 && scales.Len() != len(axes) {
		return nil, fmt.Errorf("%d scales for %d axes", scales.Len(), len(axes))
	}
	shape := make([]int, in.Rank())
	for i, d := range in.Dims {
		if shape[i] = d.N; !d.Known() {
			shape[i] = 1
		}
	}
	p, err := planResize(n, shape, axes, scales, sizes)
	if err != nil {
		return nil, err
	}
	for i, a := range axes {
		if d := in.Dims[a]; d.Known() && (sizes == nil || knownAlong(in.Dims, axes)) {
			dims[a] = ir.Fixed(p[i].size)
		} else if sizes == nil && p[i].scale == 1 {
			dims[a] = d
		}
	}
	return types(t)
}

func knownAlong(dims []ir.Dim, axes []int) bool {
	return !slices.ContainsFunc(axes, func(a int) bool { return !dims[a].Known() })
}

// resizeAxis is what happens to one axis.
type resizeAxis struct {
	axis, in, size int
	scale          float32
	lo, hi         float32 // roi
}

// planResize finds sizes and scales of the axes; sizes win over scales when both are given.
func planResize(n *ir.Node, shape, axes []int, scales *tensor.Tensor, sizes []int64) ([]resizeAxis, error) {
	p := make([]resizeAxis, len(axes))
	if len(sizes) > 0 {
		if len(sizes) != len(axes) {
			return nil, fmt.Errorf("%d sizes for %d axes", len(sizes), len(axes))
		}
		one := float32(0)
		for i, a := range axes {
			if sizes[i] < 0 || sizes[i] > tensor.MaxBytes || shape[a] == 0 && sizes[i] > 0 {
				return nil, fmt.Errorf("cannot resize %v to %v", shape, sizes)
			}
			p[i] = resizeAxis{axis: a, in: shape[a], size: int(sizes[i]), scale: 1, hi: 1}
			if shape[a] > 0 {
				p[i].scale = float32(sizes[i]) / float32(shape[a])
			}
			larger := n.Str("keep_aspect_ratio_policy") == "not_smaller"
			if i == 0 || (p[i].scale > one) == larger {
				one = p[i].scale
			}
		}
		if n.Str("keep_aspect_ratio_policy") != "stretch" {
			for i := range p {
				p[i].scale = one
				p[i].size = int(math.Floor(float64(float32(one*float32(p[i].in))) + 0.5))
			}
		}
		return p, nil
	}
	if scales == nil || scales.Len() != len(axes) {
		return nil, fmt.Errorf("expected %d scales", len(axes))
	}
	for i, s := range scales.Float32s() {
		d := shape[axes[i]]
		size := math.Floor(float64(float32(s * float32(d))))
		if !(s > 0) || size > tensor.MaxBytes {
			return nil, fmt.Errorf("cannot resize %v by %v", shape, scales.Float32s())
		}
		p[i] = resizeAxis{axis: axes[i], in: d, size: int(size), scale: s, hi: 1}
	}
	return p, nil
}

// source returns the input coordinate of an output index.
func (r resizeAxis) source(mode string, i int) float32 {
	x := float32(i)
	in, out := float32(r.in), float32(r.size)
	switch mode {
	case "asymmetric":
		return x / r.scale
	case "align_corners":
		if r.size == 1 {
			return 0
		}
		return float32(x*(in-1)) / (out - 1)
	case "tf_crop_and_resize":
		if r.size == 1 {
			return float32(float32(0.5*(r.lo+r.hi)) * (in - 1))
		}
		return float32(r.lo*(in-1)) + float32(float32(x*(r.hi-r.lo))*(in-1))/(out-1)
	case "pytorch_half_pixel":
		if r.size == 1 {
			return 0
		}
	case "half_pixel_symmetric":
		offset := float32(in / 2 * (1 - out/float32(r.scale*in)))
		return offset + (x+0.5)/r.scale - 0.5
	}
	return (x+0.5)/r.scale - 0.5
}

func evalResize(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	arg := func(i int) *tensor.Tensor {
		if i < len(in) && in[i] != nil && in[i].Len() > 0 {
			return in[i]
		}
		return nil
	}
	x := in[0]
	axes, err := resizeAxes(n, x.Rank())
	if err != nil {
		return nil, err
	}
	var sizes []int64
	if t := arg(3); t != nil {
		sizes = t.Int64s()
	}
	plan, err := planResize(n, x.Shape(), axes, arg(2), sizes)
	if err != nil {
		return nil, err
	}
	mode := n.Str("coordinate_transformation_mode")
	if mode == "tf_crop_and_resize" {
		roi := arg(1)
		if roi == nil || roi.Len() != 2*len(plan) {
			return nil, fmt.Errorf("expected a roi of %d numbers", 2*len(plan))
		}
		for i := range plan {
			plan[i].lo, plan[i].hi = roi.Float32s()[i], roi.Float32s()[len(plan)+i]
		}
	}
	shape := slices.Clone(x.Shape())
	for _, p := range plan {
		shape[p.axis] = p.size
	}
	if err := fits(tensor.F64, shape); err != nil {
		return nil, err
	}
	outside := make([][]bool, x.Rank())
	if mode == "tf_crop_and_resize" {
		for _, p := range plan {
			outside[p.axis] = make([]bool, p.size)
			for i := range p.size {
				c := p.source(mode, i)
				outside[p.axis][i] = c < 0 || c > float32(p.in-1)
			}
		}
	}
	if n.Str("mode") == "nearest" {
		return one(resizeNearest(n, x, plan, outside))
	}
	v, at := x.Float64s(), slices.Clone(x.Shape())
	for _, p := range plan {
		if p.size != p.in || p.scale != 1 || mode == "tf_crop_and_resize" {
			was := slices.Clone(at)
			at[p.axis] = p.size
			if err := fits(tensor.F64, at); err != nil {
				return nil, err
			}
			v = resizeAlong(n, v, was, p)
		}
	}
	if mode == "tf_crop_and_resize" {
		v = extrapolate(v, at, outside, float64(n.Float("extrapolation_value")))
	}
	return one(cast(tensor.Of(v, at...), x.Elem()))
}

// resizeNearest moves elements; those outside become the extrapolation value.
func resizeNearest(n *ir.Node, x *tensor.Tensor, plan []resizeAxis, outside [][]bool) (*tensor.Tensor, error) {
	from := make([][]int, x.Rank())
	for d, k := range x.Shape() {
		from[d] = allAxes(k)
	}
	for _, p := range plan {
		from[p.axis] = make([]int, p.size)
		for i := range p.size {
			if from[p.axis][i] = nearest(n, p, i); outside[p.axis] != nil && outside[p.axis][i] {
				from[p.axis][i] = -1
			}
		}
	}
	fill, err := cast(tensor.Scalar(n.Float("extrapolation_value")), x.Elem())
	if err != nil {
		fill = nil // strings; 0 is ""
	}
	return mapAxes(x, from, fill)
}

// nearest returns the input index of which output index i is made.
func nearest(n *ir.Node, p resizeAxis, i int) int {
	c := float64(p.source(n.Str("coordinate_transformation_mode"), i))
	switch n.Str("nearest_mode") {
	case "round_prefer_floor":
		c = math.Ceil(c - 0.5)
	case "round_prefer_ceil":
		c = math.Floor(c + 0.5)
	case "floor":
		c = math.Floor(c)
	case "ceil":
		c = math.Ceil(c)
	}
	return int(max(0, min(c, float64(p.in-1))))
}

// resizeAlong interpolates along one axis.
func resizeAlong(n *ir.Node, x []float64, shape []int, p resizeAxis) []float64 {
	outer, _, inner := splitAt(shape, p.axis)
	out := make([]float64, outer*p.size*inner)
	for i := range p.size {
		first, w := resizeWeights(n, p, i)
		for o := range outer {
			row := out[(o*p.size+i)*inner:][:inner]
			for j, c := range w {
				k := max(0, min(first+j, p.in-1))
				src := x[(o*p.in+k)*inner:][:inner]
				for e := range row {
					row[e] += float64(c * src[e])
				}
			}
		}
	}
	return out
}

// resizeWeights returns the weights of the input indices first, first+1, … of
// which output index i is made; indices outside mean the edge.
func resizeWeights(n *ir.Node, p resizeAxis, i int) (first int, w []float64) {
	c := float64(p.source(n.Str("coordinate_transformation_mode"), i))
	left := math.Ceil(c) - 1 // the pixel to the left, so that ratio is in (0, 1]
	ratio := c - left
	scale := 1.0
	if n.Int("antialias") != 0 {
		scale = min(1, float64(p.scale))
	}
	reach, kernel := 1.0, func(d float64) float64 { return max(0, 1-d) }
	if n.Str("mode") == "cubic" {
		a := float64(n.Float("cubic_coeff_a"))
		reach, kernel = 2, func(d float64) float64 { return cubic(d, a) }
	}
	start := int(math.Floor(-reach/scale)) + 1
	first = int(left) + start
	for j := start; j < 2-start; j++ {
		w = append(w, kernel(math.Abs(float64(scale*(float64(j)-ratio)))))
	}
	if n.Int("exclude_outside") != 0 {
		for j := range w {
			if first+j < 0 || first+j >= p.in {
				w[j] = 0
			}
		}
	}
	if n.Int("exclude_outside") != 0 || n.Int("antialias") != 0 {
		sum := f32.Sum(w)
		for j := range w {
			w[j] /= sum
		}
	}
	return first, w
}

// extrapolate replaces the elements with an index that lies outside.
func extrapolate(x []float64, shape []int, outside [][]bool, value float64) []float64 {
	out := slices.Clone(x)
	at := make([]int, len(shape))
	for i := range out {
		for d, k := range at {
			if outside[d] != nil && outside[d][k] {
				out[i] = value
			}
		}
		advance(at, shape)
	}
	return out
}

func resizeCost(n *ir.Node) ir.Cost {
	if n.Str("mode") == "nearest" {
		return ir.Cost{}
	}
	taps := int64(2)
	if n.Str("mode") == "cubic" {
		taps = 4
	}
	cost := ir.Cost{}
	if in, out := n.In[0].Type, n.Out[0].Type; in.Rank() == out.Rank() {
		for i := range in.Dims {
			if in.Dims[i] != out.Dims[i] {
				cost.MACs += taps * elemCount(out)
			}
		}
	}
	return cost
}

// ResizeTaps is how the elements along one axis of a Resize's result come from
// those of its input.
type ResizeTaps struct {
	Axis int
	// At holds, for each output index, the input indices of which it is made, as
	// many for each; there may be the same several times.
	At [][]int
	// Weights belong to At: the output is the sum of the products, in order, each product and sum
	// rounded to float64. nil: elements are moved.
	Weights [][]float64
}

// ResizeTapsOf returns the axes along which a Resize does something, in the
// order in which they are interpolated (from float64 to float64, rounded once
// after the last); false if it depends on more than the node, its constants
// and the static shape of its input, or cuts out a region.
func ResizeTapsOf(n *ir.Node) ([]ResizeTaps, bool) {
	shape, ok := n.In[0].Type.Static()
	if !ok || n.Str("coordinate_transformation_mode") == "tf_crop_and_resize" {
		return nil, false
	}
	args := make([]*tensor.Tensor, 4)
	for i := 2; i < 4; i++ {
		if n.Input(i) != nil {
			if args[i] = n.ConstIn(i); args[i] == nil {
				return nil, false
			}
		}
	}
	axes, err := resizeAxes(n, len(shape))
	if err != nil {
		return nil, false
	}
	var sizes []int64
	if args[3] != nil && args[3].Len() > 0 {
		sizes = args[3].Int64s()
	}
	plan, err := planResize(n, shape, axes, args[2], sizes)
	if err != nil {
		return nil, false
	}
	var out []ResizeTaps
	for _, p := range plan {
		if p.size == p.in && p.scale == 1 && n.Str("mode") != "nearest" {
			continue
		}
		t := ResizeTaps{Axis: p.axis, At: make([][]int, p.size)}
		for i := range t.At {
			if n.Str("mode") == "nearest" {
				t.At[i] = []int{nearest(n, p, i)}
				continue
			}
			first, w := resizeWeights(n, p, i)
			for j := range w {
				t.At[i] = append(t.At[i], max(0, min(first+j, p.in-1)))
			}
			t.Weights = append(t.Weights, w)
		}
		out = append(out, t)
	}
	return out, true
}
