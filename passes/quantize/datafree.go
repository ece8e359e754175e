package quantize

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// dist is what is assumed of a value's numbers, for each channel (dimension 1)
// or, with one entry, for all: a normal distribution, cut off at lo and hi.
type dist struct {
	mean, std, lo, hi []float64
}

func newDist(n int) *dist {
	return &dist{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
}

// at returns entry i of a slice of which one entry stands for all.
func at(x []float64, i int) float64 {
	if len(x) == 1 {
		return x[0]
	}
	return x[i]
}

// propagator derives distributions from batch norm statistics.
type propagator struct {
	sigmas float64
	known  map[*ir.Value]*dist
	rough  map[*ir.Value]bool // derived from a layer without batch norm
	points []float64          // of the quadrature, in standard deviations
	mass   []float64          // of the points, summing to 1
}

// dataFree chooses the grids of the activations without data: distributions
// start at batch norms, whose outputs have known moments, and at the input, and are
// followed through the graph as if channels were normal and independent. Groups of which
// nothing is known stay in float.
func (o *Quantize) dataFree(c *passes.Context, g *ir.Graph, p *placement, units []*unit) (map[*layer][]float64, error) {
	w := newPropagator(o.Sigmas)
	limits, err := o.inputRange()
	if err != nil {
		return nil, err
	}
	for _, v := range g.Inputs {
		if limits != nil {
			d := newDist(1)
			d.lo[0], d.hi[0] = limits[0], limits[1]
			d.mean[0], d.std[0] = (d.lo[0]+d.hi[0])/2, (d.hi[0]-d.lo[0])/4
			w.known[v] = d
		}
	}
	for _, n := range g.Nodes {
		if err := w.node(n); err != nil {
			return nil, err
		}
	}
	var unknown, rough []string
	p.groups = slices.DeleteFunc(p.groups, func(grp *group) bool {
		lo, hi := 0.0, 0.0
		for _, v := range grp.sources {
			d := w.known[v]
			if d == nil {
				unknown = append(unknown, v.Name)
				for _, v := range grp.members {
					delete(p.of, v)
				}
				return true
			}
			if w.rough[v] {
				rough = append(rough, v.Name)
			}
			lo, hi = min(lo, slices.Min(d.lo)), max(hi, slices.Max(d.hi))
		}
		for _, x := range grp.constants() {
			lo, hi = min(lo, float64(x)), max(hi, float64(x))
		}
		grp.signed = o.isSigned(lo)
		grp.grid = levelsOf(grp.bits, grp.signed, false).gridFor(lo, hi, o.ActAffine, o.Pow2)
		return false
	})
	if len(unknown) > 0 {
		c.Log.Warn(fmt.Sprintf("without data nothing is known of the range of %d of the activations, which stay in float: %s; give input-range where they depend on the input", len(unknown), someOf(unknown)))
		c.Stat("activations_without_range", unknown)
	}
	if len(rough) > 0 {
		c.Log.Warn(fmt.Sprintf("the ranges of %d activations are rough guesses, because layers before them have no batch norm: %s; measure the accuracy, or calibrate with data", len(rough), someOf(rough)))
		c.Stat("activations_with_rough_range", rough)
	}
	means := map[*layer][]float64{}
	for _, u := range units {
		for _, l := range u.layers {
			d := w.known[l.Node.In[l.X]]
			if d == nil || u.weight == nil || l.channelAxis() == -2 {
				continue
			}
			dims := l.Node.In[l.X].Type.Dims
			axis := l.channelAxis()
			if axis < 0 {
				axis += len(dims)
			}
			if axis != 1 && len(d.mean) > 1 || axis < 0 || axis >= len(dims) || !dims[axis].Known() {
				continue
			}
			m := make([]float64, dims[axis].N)
			for i := range m {
				m[i] = at(d.mean, i)
			}
			means[l] = m
		}
	}
	return means, nil
}

// someOf lists names for a message, and not too many.
func someOf(names []string) string {
	const most = 4
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// halfPoints is the number of quadrature points on either side of the mean.
const halfPoints = 48

func newPropagator(sigmas float64) *propagator {
	w := &propagator{sigmas: sigmas, known: map[*ir.Value]*dist{}, rough: map[*ir.Value]bool{}}
	sum := 0.0
	for i := -halfPoints; i <= halfPoints; i++ {
		z := sigmas * float64(i) / halfPoints
		m := f32.Exp64(-z * z / 2)
		w.points, w.mass = append(w.points, z), append(w.mass, m)
		sum += m
	}
	for i := range w.mass {
		w.mass[i] /= sum
	}
	return w
}

// node derives the distribution of n's first output, if it can.
func (w *propagator) node(n *ir.Node) error {
	out := n.Out[0]
	if out == nil || out.Type.Elem != tensor.F32 || len(out.Type.Dims) == 0 {
		return nil
	}
	if d, err := w.recorded(out); err != nil || d != nil {
		w.known[out] = d
		return err
	}
	var acts []*dist
	for _, v := range n.In {
		if v != nil && !v.HasData() {
			d := w.known[v]
			if d == nil {
				return nil
			}
			acts = append(acts, d)
			w.rough[out] = w.rough[out] || w.rough[v]
		}
	}
	if len(acts) == 0 {
		return nil
	}
	var d *dist
	name := n.Op.Name
	switch {
	case name == "BatchNormalization":
		if w.rough[out] = false; n.ConstIn(1) != nil && n.ConstIn(2) != nil {
			d = w.normal(n.ConstIn(2).Float64s(), n.ConstIn(1).Float64s())
		}
	case n.Op.Pooling && n.Op.Elements == ir.Selected, name == "AveragePool":
		d = acts[0]
	case name == "GlobalAveragePool":
		// The mean of many numbers spreads less; those of one channel are far from
		// independent, so that only a factor of two is counted on.
		d = newDist(len(acts[0].mean))
		for i, m := range acts[0].mean {
			d.mean[i], d.std[i] = m, acts[0].std[i]/2
			d.lo[i], d.hi[i] = max(acts[0].lo[i], m-w.sigmas*d.std[i]), min(acts[0].hi[i], m+w.sigmas*d.std[i])
		}
	case len(acts) == 2 && (name == "Add" || name == "Sub" || name == "Mul"):
		d = w.combine(name, acts[0], acts[1])
	case len(acts) == 1 && passes.IsEpilogue(n):
		d = w.function(n, acts[0])
	case len(acts) == 1 && n.Op.Layer != nil && name != "ConvTranspose":
		d = w.product(n, acts[0])
		w.rough[out] = true
	case passes.Moved(n) != nil:
		d = w.move(n)
	}
	if d != nil {
		w.known[out] = d
	}
	return nil
}

// recorded returns the distribution that bn-stats recorded for v.
func (w *propagator) recorded(v *ir.Value) (*dist, error) {
	m, ok, err := passes.MomentsOf(v)
	if err != nil || !ok {
		return nil, err
	}
	return w.normal(float64s(m.Mean), float64s(m.Std)), nil
}

func float64s(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

func (w *propagator) normal(mean, std []float64) *dist {
	d := newDist(len(mean))
	for i, m := range mean {
		s := math.Abs(std[i])
		d.mean[i], d.std[i], d.lo[i], d.hi[i] = m, s, m-w.sigmas*s, m+w.sigmas*s
	}
	return d
}

// combine treats the operands as independent.
func (w *propagator) combine(op string, a, b *dist) *dist {
	n := max(len(a.mean), len(b.mean))
	if len(a.mean) != n && len(a.mean) != 1 || len(b.mean) != n && len(b.mean) != 1 {
		return nil
	}
	d := newDist(n)
	for i := range n {
		ma, mb, va, vb := at(a.mean, i), at(b.mean, i), square(at(a.std, i)), square(at(b.std, i))
		ends := []float64{at(a.lo, i) + at(b.lo, i), at(a.hi, i) + at(b.hi, i)}
		mean, variance := ma+mb, va+vb
		switch op {
		case "Sub":
			mean, ends = ma-mb, []float64{at(a.lo, i) - at(b.hi, i), at(a.hi, i) - at(b.lo, i)}
		case "Mul":
			mean, variance = ma*mb, va*vb+va*mb*mb+vb*ma*ma
			ends = nil
			for _, x := range []float64{at(a.lo, i), at(a.hi, i)} {
				ends = append(ends, x*at(b.lo, i), x*at(b.hi, i))
			}
		}
		s := math.Sqrt(variance)
		d.mean[i], d.std[i] = mean, s
		d.lo[i], d.hi[i] = max(slices.Min(ends), mean-w.sigmas*s), min(slices.Max(ends), mean+w.sigmas*s)
	}
	return d
}

func square(x float64) float64 { return x * x }

// function follows a function of each number, by evaluating it at points of
// the normal distribution: for Relu and Clip these are the moments of the
// clipped normal distribution.
func (w *propagator) function(n *ir.Node, x *dist) *dist {
	c := len(x.mean)
	shape := make([]int, len(n.Out[0].Type.Dims))
	for i := range shape {
		shape[i] = 1
	}
	if len(shape) < 2 {
		return nil
	}
	shape[0], shape[1] = len(w.points), c
	in := tensor.New(tensor.F32, shape...)
	for j, z := range w.points {
		for i := range c {
			v := x.mean[i] + z*x.std[i]
			tensor.Data[float32](in)[j*c+i] = float32(min(max(v, x.lo[i]), x.hi[i]))
		}
	}
	args := make([]*tensor.Tensor, len(n.In))
	for i, v := range n.In {
		switch {
		case v == nil:
		case v.HasData():
			args[i] = v.Data
		default:
			args[i] = in
		}
	}
	out, err := n.Eval(args)
	if err != nil {
		return nil // constants that vary over positions: nothing is known per channel
	}
	y := out[0].Float64s()
	if len(y)%len(w.points) != 0 {
		return nil
	}
	c = len(y) / len(w.points)
	d := newDist(c)
	for i := range c {
		mean, sq := 0.0, 0.0
		d.lo[i], d.hi[i] = math.Inf(1), math.Inf(-1)
		for j, m := range w.mass {
			v := y[j*c+i]
			mean += m * v
			sq += m * v * v
			d.lo[i], d.hi[i] = min(d.lo[i], v), max(d.hi[i], v)
		}
		d.mean[i], d.std[i] = mean, math.Sqrt(max(0, sq-mean*mean))
	}
	return d
}

// product follows a layer without batch norm: inputs of different channels
// count as independent, and those that a kernel sees of one channel as
// independent or equal, whichever spreads more.
func (w *propagator) product(n *ir.Node, x *dist) *dist {
	l, _ := layerOf(n)
	if l == nil || l.W != 1 {
		return nil
	}
	groups := 1
	if n.HasAttr("group") {
		groups = n.Int("group")
	}
	rows := rowsOf(n.In[1].Data, l.Axis)
	mean, std := make([]float64, rows.n), make([]float64, rows.n)
	var b []float64
	if l.BiasNode == n && l.Bias() != nil {
		b = l.Bias().Data.Float64s()
	}
	channels := 0
	if dims := n.In[1].Data.Shape(); n.Op.Name == "Conv" {
		channels = dims[1]
	} else {
		channels = rows.cols
	}
	if len(x.mean) != 1 && len(x.mean) != channels*groups {
		return nil
	}
	kernel := rows.cols / channels
	for i := range rows.n {
		r := rows.row(i)
		first := i / (rows.n / groups) * channels
		m, apart, equal := 0.0, 0.0, 0.0
		for ch := range channels {
			sum, sq := 0.0, 0.0
			for _, v := range r[ch*kernel : (ch+1)*kernel] {
				sum += v
				sq += v * v
			}
			m += sum * at(x.mean, first+ch)
			apart += sq * square(at(x.std, first+ch))
			equal += sum * sum * square(at(x.std, first+ch))
		}
		if b != nil {
			m += b[i]
		}
		mean[i], std[i] = m, math.Sqrt(max(apart, equal))
	}
	return w.normal(mean, std)
}

// move follows an operator that moves numbers, by moving the means,
// deviations and limits of an image of each operand, and gathering per channel.
func (w *propagator) move(n *ir.Node) *dist {
	out := n.Out[0].Type
	if len(out.Dims) < 2 || !out.Dims[1].Known() {
		return nil
	}
	d := newDist(out.Dims[1].N)
	for _, part := range []struct {
		of   func(*dist) []float64
		dst  []float64
		join func(a, x float64, n int) float64
	}{
		{func(d *dist) []float64 { return d.mean }, d.mean, func(a, x float64, n int) float64 { return a + x/float64(n) }},
		{func(d *dist) []float64 { return d.std }, d.std, func(a, x float64, n int) float64 { return max(a, x) }},
		{func(d *dist) []float64 { return d.lo }, d.lo, func(a, x float64, n int) float64 { return min(a, x) }},
		{func(d *dist) []float64 { return d.hi }, d.hi, func(a, x float64, n int) float64 { return max(a, x) }},
	} {
		args := make([]*tensor.Tensor, len(n.In))
		for i, v := range n.In {
			switch {
			case v == nil || n.Op.Name == "Pad" && i == 2: // zero, or what is never returned
			case v.HasData():
				args[i] = v.Data
			default:
				if args[i] = image(v.Type, part.of(w.known[v])); args[i] == nil {
					return nil
				}
			}
		}
		res, err := n.Eval(args)
		if err != nil || res[0].Rank() < 2 || res[0].Shape()[1] != len(part.dst) {
			return nil
		}
		y := res[0].Float64s()
		inner := len(y) / res[0].Shape()[0] / len(part.dst)
		for i, x := range y {
			ch := i / inner % len(part.dst)
			part.dst[ch] = part.join(part.dst[ch], x, len(y)/len(part.dst))
		}
	}
	return d
}

// image returns a tensor of type t, with unknown dimensions 1, that is filled
// per channel; nil when the channels do not fit.
func image(t ir.Type, x []float64) *tensor.Tensor {
	shape := make([]int, len(t.Dims))
	inner := 1
	for i, d := range t.Dims {
		if shape[i] = 1; d.Known() {
			shape[i] = d.N
		}
		if i > 1 {
			inner *= shape[i]
		}
	}
	out, err := tensor.Alloc(tensor.F32, shape...)
	if err != nil || len(shape) < 2 || len(x) != 1 && len(x) != shape[1] {
		return nil
	}
	for i := range tensor.Data[float32](out) {
		tensor.Data[float32](out)[i] = float32(at(x, i/inner%shape[1]))
	}
	return out
}
