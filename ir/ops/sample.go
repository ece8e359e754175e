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

var _ = define(ir.Op{
	Name: "GridSample",
	Doc: "Reads the input at the places that grid names: its last axis holds coordinates in −1…1, the last spatial axis first. " +
		"Places are computed in f32, interpolation is in f64 and rounded once.",
	Since: 20,
	In:    "X, grid", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "mode", Kind: ir.StringAttr, Default: "linear", Doc: "linear, nearest (half to even) or cubic (a = −0.75)"},
		{Name: "padding_mode", Kind: ir.StringAttr, Default: "zeros", Doc: "what lies outside: zeros, border (the edge) or reflection"},
		{Name: "align_corners", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "−1 and 1 are 1: the centres of the first and last elements, 0: their outer edges"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if m := n.Str("mode"); !slices.Contains([]string{"linear", "nearest", "cubic"}, m) {
			return nil, fmt.Errorf("mode is %q, expected linear, nearest or cubic", m)
		}
		if m := n.Str("padding_mode"); !slices.Contains([]string{"zeros", "border", "reflection"}, m) {
			return nil, fmt.Errorf("padding_mode is %q, expected zeros, border or reflection", m)
		}
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		if err := wantFloat(n, 1); err != nil {
			return nil, err
		}
		x, g := n.In[0].Type, n.In[1].Type
		if x.Unranked || g.Unranked {
			return types(ir.UnrankedType(x.Elem))
		}
		k := x.Rank() - 2
		if k < 1 || g.Rank() != k+2 || !g.Dims[k+1].MayEqual(ir.Fixed(k)) || !x.Dims[0].MayEqual(g.Dims[0]) {
			return nil, fmt.Errorf("X is %v, grid %v", x, g)
		}
		return types(ir.TensorType(x.Elem, append(slices.Clone(x.Dims[:2]), g.Dims[1:k+1]...)...))
	},
	Eval: evalGridSample,
	Cost: func(n *ir.Node) ir.Cost {
		taps := map[string]float64{"linear": 2, "cubic": 4}[n.Str("mode")]
		return ir.Cost{MACs: elemCount(n.Out[0].Type) * int64(math.Pow(taps, float64(max(0, n.In[0].Type.Rank()-2))))}
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset >= 20 {
			return nil
		}
		switch n.Attrs.Get("mode") {
		case nil, "bilinear":
			r.SetAttr(n, "mode", "linear")
		case "bicubic":
			r.SetAttr(n, "mode", "cubic")
		}
		return nil
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.In[0].Type.Rank() != 4 || opset < 16 {
			return fmt.Errorf("GridSample of %v does not exist at opset %d", n.In[0].Type, opset)
		}
		r.SetAttr(n, "mode", map[string]string{"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}[n.Str("mode")])
		return nil
	},
})

func evalGridSample(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	xs, gs := in[0].Shape(), in[1].Shape()
	k := len(xs) - 2
	if k < 1 || len(gs) != len(xs) || gs[k+1] != k || xs[0] != gs[0] || in[0].Len() == 0 && in[1].Len() > 0 {
		return nil, fmt.Errorf("X is %v, grid %v", ir.TypeOf(in[0]), ir.TypeOf(in[1]))
	}
	shape := append(slices.Clone(xs[:2]), gs[1:k+1]...)
	y, err := alloc[float64](shape...)
	if err != nil {
		return nil, err
	}
	x, grid := in[0].Float64s(), in[1].Float32s()
	s := gridSampler{mode: n.Str("mode"), padding: n.Str("padding_mode"), align: n.Int("align_corners") != 0, shape: xs[2:], strides: stridesOf(xs[2:])}
	volume, points := sizeOf(xs[2:]), sizeOf(gs[1:k+1])
	for b := range xs[0] {
		for p := range points {
			taps := s.taps(grid[(b*points+p)*k:][:k])
			for c := range xs[1] {
				plane := x[(b*xs[1]+c)*volume:][:volume]
				y[(b*xs[1]+c)*points+p] = s.read(plane, taps, 0, 0)
			}
		}
	}
	return one(cast(tensor.Of(y, shape...), in[0].Elem()))
}

type gridSampler struct {
	mode, padding  string
	align          bool
	shape, strides []int
}

// tap is one index along an axis, −1 where there is a zero, and its weight.
type tap struct {
	index  int
	weight float64
}

// taps returns what is read along each axis for a point of the grid.
func (s *gridSampler) taps(point []float32) [][]tap {
	out := make([][]tap, len(s.shape))
	for d, size := range s.shape {
		g := point[len(point)-1-d]
		c := (float32((g+1)*float32(size)) - 1) / 2
		if s.align {
			c = float32((g+1)/2) * float32(size-1)
		}
		at := float64(c)
		if s.mode == "nearest" {
			at = math.RoundToEven(at)
		}
		if at = s.near(at, size); math.IsNaN(at) {
			at = -2
		}
		low := math.Floor(at)
		r := at - low
		first, weights := int(low), []float64{1}
		switch s.mode {
		case "linear":
			weights = []float64{1 - r, r}
		case "cubic":
			first--
			weights = []float64{cubic(1+r, -0.75), cubic(r, -0.75), cubic(1-r, -0.75), cubic(2-r, -0.75)}
		}
		for i, w := range weights {
			out[d] = append(out[d], tap{s.index(first+i, size), w})
		}
	}
	return out
}

// near brings the coordinate of a point near the input, without changing what is read:
// linear and nearest move the point itself, as the padding says. Cubic leaves it where it is
// and moves the elements that it reads, as PyTorch and ONNX Runtime do.
func (s *gridSampler) near(c float64, size int) float64 {
	if s.mode != "cubic" {
		c = s.inside(c, size)
	} else if s.padding == "reflection" {
		lo, period := s.reflection(size)
		if period == 0 {
			return lo
		}
		c = lo + math.Mod(c-lo, period)
	}
	return max(float64(-2*size-4), min(c, float64(2*size+4))) // all zeros, or all the edge, out there
}

// reflection returns where the first mirror stands, and after how much reflections repeat.
func (s *gridSampler) reflection(size int) (lo, period float64) {
	if s.align {
		return 0, 2 * float64(size-1)
	}
	return -0.5, 2 * float64(size)
}

// inside brings a coordinate that lies outside back, if the padding asks for it.
func (s *gridSampler) inside(c float64, size int) float64 {
	lo, hi := -0.5, float64(size)-0.5
	if s.align {
		lo, hi = 0, float64(size-1)
	}
	switch {
	case c >= lo && c <= hi:
		return c
	case s.padding == "border":
		return max(0, min(c, float64(size-1)))
	case s.padding == "reflection":
		lo, period := s.reflection(size)
		if period == 0 {
			return lo
		}
		c = math.Mod(c-lo, period)
		if c < 0 {
			c += period
		}
		return lo + min(c, period-c)
	}
	return c
}

// index returns the index that is read for one that may lie outside, −1 for a zero.
func (s *gridSampler) index(i, size int) int {
	if i >= 0 && i < size {
		return i
	}
	if s.padding == "zeros" {
		return -1
	}
	return max(0, min(int(s.inside(float64(i), size)), size-1))
}

// read interpolates along axis d and those after it, from offset at.
func (s *gridSampler) read(x []float64, taps [][]tap, d, at int) float64 {
	if d == len(taps) {
		return x[at]
	}
	sum := 0.0
	for _, t := range taps[d] {
		if t.index >= 0 {
			sum += float64(t.weight * s.read(x, taps, d+1, at+t.index*s.strides[d]))
		}
	}
	return sum
}

// cubic is the kernel of cubic convolution with parameter a, at distance d ≥ 0.
func cubic(d, a float64) float64 {
	switch {
	case d <= 1:
		return float64(float64(float64((a+2)*d)-(a+3))*float64(d*d)) + 1
	case d < 2:
		return float64(float64(float64(float64(float64(a*d)-float64(5*a))*d)+float64(8*a))*d) - float64(4*a)
	}
	return 0
}

var _ = define(ir.Op{
	Name:  "AffineGrid",
	Doc:   "The grid for GridSample that an affine transform per batch makes, computed in f64 and rounded once.",
	Since: 20,
	In:    "theta, size", Out: "grid",
	Attrs: []ir.AttrSpec{{Name: "align_corners", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "as in GridSample"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		if err := needInts(n, 1); err != nil {
			return nil, err
		}
		e := n.In[0].Type.Elem
		size, ok := knownDims(n, 1)
		if !ok {
			return types(ir.UnrankedType(e))
		}
		k := len(size) - 2
		if want := ir.TensorType(e, ir.Unknown, ir.Fixed(k), ir.Fixed(k+1)); k < 2 || k > 3 || !n.In[0].Type.Compatible(want) {
			return nil, fmt.Errorf("theta is %v, size has %d elements", n.In[0].Type, len(size))
		}
		return types(ir.TensorType(e, slices.Concat(size[:1], size[2:], []ir.Dim{ir.Fixed(k)})...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		size, ts := intsOf(in[1]), in[0].Shape()
		k := len(size) - 2
		if k < 1 || len(ts) != 3 || ts[0] != size[0] || ts[1] != k || ts[2] != k+1 {
			return nil, fmt.Errorf("theta is %v, size %v", ir.TypeOf(in[0]), size)
		}
		shape := append(append([]int{size[0]}, size[2:]...), k)
		out, err := alloc[float64](shape...)
		if err != nil {
			return nil, err
		}
		theta := in[0].Float64s()
		at := make([]int, k+1)
		for p := range len(out) / k {
			for row := range k {
				m := theta[(at[0]*k+row)*(k+1):][:k+1]
				sum := m[k]
				for d := range k { // the last spatial axis is the first coordinate
					i, size := at[k-d], shape[k-d]
					c := float64(2*i+1)/float64(size) - 1
					if n.Int("align_corners") != 0 {
						c = 0
						if size > 1 {
							c = float64(2*i)/float64(size-1) - 1
						}
					}
					sum += float64(m[d] * c)
				}
				out[p*k+row] = sum
			}
			advance(at, shape[:k+1])
		}
		return one(cast(tensor.Of(out, shape...), in[0].Elem()))
	},
})

var _ = define(ir.Op{
	Name: "RoiAlign",
	Doc: "Pools regions into a fixed grid: each cell is the mean, or the maximum, of samples interpolated linearly. " +
		"As in ONNX Runtime the maximum is over the four weighted neighbours of every sample, not over their sums.",
	Since: 16,
	In:    "X, rois, batch_indices", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "mode", Kind: ir.StringAttr, Default: "avg", Doc: "avg or max"},
		{Name: "output_height", Kind: ir.IntAttr, Default: int64(1), Doc: "rows of cells"},
		{Name: "output_width", Kind: ir.IntAttr, Default: int64(1), Doc: "columns of cells"},
		{Name: "sampling_ratio", Kind: ir.IntAttr, Default: int64(0), Doc: "samples per cell and axis; 0: as many as the cell has elements, rounded up"},
		{Name: "spatial_scale", Kind: ir.FloatAttr, Default: float32(1), Doc: "what the regions' coordinates are multiplied by"},
		{Name: "coordinate_transformation_mode", Kind: ir.StringAttr, Default: "half_pixel", Doc: "half_pixel: element centres lie at .5; output_half_pixel: at whole numbers, and regions are at least 1 wide"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if m := n.Str("mode"); m != "avg" && m != "max" {
			return nil, fmt.Errorf("mode is %q, expected avg or max", m)
		}
		if m := n.Str("coordinate_transformation_mode"); m != "half_pixel" && m != "output_half_pixel" {
			return nil, fmt.Errorf("coordinate_transformation_mode is %q, expected half_pixel or output_half_pixel", m)
		}
		if n.Int("output_height") < 1 || n.Int("output_width") < 1 || n.Int("sampling_ratio") < 0 {
			return nil, errors.New("output_height and output_width must be positive, sampling_ratio not negative")
		}
		if err := needInts(n, 2); err != nil {
			return nil, err
		}
		return inferRois(n, 4, n.Int("output_height"), n.Int("output_width"))
	},
	Eval: evalRoiAlign,
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset < 16 {
			r.SetAttr(n, "coordinate_transformation_mode", "output_half_pixel")
		}
		return nil
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if n.Str("coordinate_transformation_mode") != "output_half_pixel" {
			return fmt.Errorf("coordinate_transformation_mode half_pixel does not exist at opset %d", opset)
		}
		r.DeleteAttr(n, "coordinate_transformation_mode")
		return nil
	},
})

// inferRois is the shape rule of RoiAlign and MaxRoiPool, whose regions have
// the given number of elements.
func inferRois(n *ir.Node, elements, height, width int) ([]ir.Type, error) {
	if err := wantFloat(n, 0, 1); err != nil {
		return nil, err
	}
	if err := wantRank(n, 0, 4); err != nil {
		return nil, err
	}
	if err := wantRank(n, 1, 2); err != nil {
		return nil, err
	}
	count, channels := ir.Unknown, ir.Unknown
	if t := n.In[1].Type; !t.Unranked {
		if count = t.Dims[0]; !t.Dims[1].MayEqual(ir.Fixed(elements)) {
			return nil, fmt.Errorf("rois are %v, expected %d elements each", t, elements)
		}
	}
	x := n.In[0].Type
	if !x.Unranked {
		channels = x.Dims[1]
	}
	return types(ir.TensorType(x.Elem, count, channels, ir.Fixed(height), ir.Fixed(width)))
}

func evalRoiAlign(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	xs := in[0].Shape()
	count, rows, cols := in[1].Shape()[0], n.Int("output_height"), n.Int("output_width")
	if in[2].Len() != count {
		return nil, fmt.Errorf("%d regions, batch_indices %v", count, ir.TypeOf(in[2]))
	}
	shape := []int{count, xs[1], rows, cols}
	y, err := alloc[float32](shape...)
	if err != nil {
		return nil, err
	}
	x, rois, scale := in[0].Float32s(), in[1].Float32s(), n.Float("spatial_scale")
	half := n.Str("coordinate_transformation_mode") == "half_pixel"
	for k := range count {
		batch, err := indexIn(in[2].Int64s()[k], xs[0])
		if err != nil {
			return nil, err
		}
		// Samples along one axis: for each cell a list of interpolated places.
		along := func(from, to float32, cells, size int) ([][]linearPlace, error) {
			lo, hi := float32(from*scale), float32(to*scale)
			if half {
				lo, hi = lo-0.5, hi-0.5
			}
			length := hi - lo
			if !half {
				length = max(length, 1)
			}
			cell := length / float32(cells)
			samples := float64(n.Int("sampling_ratio"))
			if samples == 0 {
				samples = math.Ceil(float64(cell))
			}
			if !(samples <= 1<<12) || math.IsNaN(float64(lo)) {
				return nil, fmt.Errorf("region %d, from %v to %v, takes %v samples a cell", k, lo, hi, samples)
			}
			out := make([][]linearPlace, cells)
			for c := range out {
				for s := range int(samples) {
					p := lo + float32(float32(c)*cell) + float32((float32(s)+0.5)*cell)/float32(samples)
					out[c] = append(out[c], placeIn(p, size))
				}
			}
			return out, nil
		}
		ys, err := along(rois[4*k+1], rois[4*k+3], rows, xs[2])
		if err != nil {
			return nil, err
		}
		xsAt, err := along(rois[4*k], rois[4*k+2], cols, xs[3])
		if err != nil {
			return nil, err
		}
		for c := range xs[1] {
			plane := x[(batch*xs[1]+c)*xs[2]*xs[3]:][:xs[2]*xs[3]]
			for r := range rows {
				for q := range cols {
					y[((k*xs[1]+c)*rows+r)*cols+q] = poolSamples(plane, xs[3], ys[r], xsAt[q], n.Str("mode") == "max")
				}
			}
		}
	}
	return results(tensor.FromFloat32s(in[0].Elem(), y, shape...))
}

// linearPlace is a place between two indices and their weights, 0 outside.
type linearPlace struct {
	low, high   int
	wLow, wHigh float32
}

func placeIn(p float32, size int) linearPlace {
	if p < -1 || p > float32(size) || size == 0 {
		return linearPlace{}
	}
	p = max(p, 0)
	low := int(p)
	if low >= size-1 {
		return linearPlace{size - 1, size - 1, 1, 0}
	}
	r := p - float32(low)
	return linearPlace{low, low + 1, 1 - r, r}
}

// poolSamples returns the mean, or the maximum, of the samples at all pairs of places.
func poolSamples(x []float32, width int, rows, cols []linearPlace, greatest bool) float32 {
	var terms []float32
	for _, r := range rows {
		for _, c := range cols {
			if r.wLow+r.wHigh == 0 || c.wLow+c.wHigh == 0 {
				terms = append(terms, 0)
				continue
			}
			v := [4]float32{
				float32(float32(r.wLow*c.wLow) * x[r.low*width+c.low]), float32(float32(r.wLow*c.wHigh) * x[r.low*width+c.high]),
				float32(float32(r.wHigh*c.wLow) * x[r.high*width+c.low]), float32(float32(r.wHigh*c.wHigh) * x[r.high*width+c.high]),
			}
			if greatest {
				terms = append(terms, max(v[0], v[1], v[2], v[3]))
			} else {
				terms = append(terms, v[0]+v[1]+v[2]+v[3])
			}
		}
	}
	switch {
	case len(terms) == 0:
		return 0
	case greatest:
		return slices.Max(terms)
	}
	return f32.Sum(terms) / float32(len(terms))
}

var _ = define(ir.Op{
	Name:  "MaxRoiPool",
	Doc:   "Pools regions (batch, x₁, y₁, x₂, y₂, rounded to whole elements, both ends included) into a grid of maxima; cells without an element are 0.",
	Since: 1,
	In:    "X, rois", Out: "Y",
	Attrs: []ir.AttrSpec{
		{Name: "pooled_shape", Kind: ir.IntsAttr, Required: true, Doc: "rows and columns of the grid"},
		{Name: "spatial_scale", Kind: ir.FloatAttr, Default: float32(1), Doc: "what the regions' coordinates are multiplied by"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		p := n.Ints("pooled_shape")
		if len(p) != 2 || min(p[0], p[1]) < 1 {
			return nil, fmt.Errorf("pooled_shape is %v, expected two positive numbers", p)
		}
		return inferRois(n, 5, int(p[0]), int(p[1]))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		xs, grid, scale := in[0].Shape(), n.Ints("pooled_shape"), n.Float("spatial_scale")
		shape := []int{in[1].Shape()[0], xs[1], int(grid[0]), int(grid[1])}
		y, err := alloc[float64](shape...)
		if err != nil {
			return nil, err
		}
		x, rois := in[0].Float64s(), in[1].Float32s()
		for k := range shape[0] {
			roi := rois[5*k:][:5]
			batch, err := indexIn(int64(roi[0]), xs[0])
			if err != nil {
				return nil, err
			}
			rows := poolCells(float32(roi[2]*scale), float32(roi[4]*scale), shape[2], xs[2])
			cols := poolCells(float32(roi[1]*scale), float32(roi[3]*scale), shape[3], xs[3])
			for c := range xs[1] {
				plane := x[(batch*xs[1]+c)*xs[2]*xs[3]:]
				for r := range rows {
					for q := range cols {
						best, any := math.Inf(-1), false
						for i := rows[r][0]; i < rows[r][1]; i++ {
							for j := cols[q][0]; j < cols[q][1]; j++ {
								best, any = max(best, plane[i*xs[3]+j]), true
							}
						}
						if any {
							y[((k*xs[1]+c)*shape[2]+r)*shape[3]+q] = best
						}
					}
				}
			}
		}
		return one(cast(tensor.Of(y, shape...), in[0].Elem()))
	},
})

// poolCells returns the first index and the one after the last of each cell of
// a region, cut to the input.
func poolCells(from, to float32, cells, size int) [][2]int {
	lo, hi := math.Round(float64(from)), math.Round(float64(to))
	cell := float32(max(hi-lo+1, 1)) / float32(cells)
	cut := func(x float64) int {
		if !(x > 0) {
			return 0
		}
		return int(min(x, float64(size)))
	}
	out := make([][2]int, cells)
	for i := range out {
		out[i][0] = cut(lo + math.Floor(float64(float32(float32(i)*cell))))
		out[i][1] = cut(lo + math.Ceil(float64(float32(float32(i+1)*cell))))
	}
	return out
}
