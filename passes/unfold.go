package passes

import (
	"errors"
	"fmt"
	"math"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// unfoldedEpsilon is the epsilon of batch norms that UnfoldNorms adds.
const unfoldedEpsilon = 1e-5

// momentsBatch is how many samples are run at once.
const momentsBatch = 32

// UnfoldNorms puts a batch norm behind every convolution that has none, with the
// statistics of its outputs over the calibration data and a scale and shift that undo it, and
// returns how many. It is for training: a model whose batch norms were folded trains badly,
// because nothing holds the scale of its activations.
func UnfoldNorms(c *Context, g *ir.Graph) (int, error) {
	var convs []*Layer
	for _, n := range g.Nodes {
		l, _ := LayerOf(n)
		if l == nil || n.Op.Name != "Conv" || l.BiasNode != n || len(n.In[l.W].Uses()) > 1 {
			continue
		}
		out := n.Out[0]
		if !out.IsOutput() && !out.Unused() && out.Type.Rank() > 2 && out.Uses()[0].Node.Op.Name != "BatchNormalization" {
			convs = append(convs, l)
		}
	}
	if len(convs) == 0 {
		return 0, nil
	}
	mean, square, err := outputMoments(c, g, convs)
	if err != nil {
		return 0, err
	}
	r := ir.NewRewriter(g)
	for i, l := range convs {
		n, out := l.Node, l.Node.Out[0]
		name := out.Name + "_norm"
		var p [4][]float32 // scale, shift, mean, variance
		bias := make([]float64, l.Rows)
		if b := l.Bias(); b != nil {
			copy(bias, b.Data.Float64s())
		}
		for k, m := range mean[i] {
			v := float32(max(square[i][k]-m*m, 0))
			p[0] = append(p[0], float32(math.Sqrt(float64(v)+unfoldedEpsilon)))
			p[1], p[2], p[3] = append(p[1], float32(m)), append(p[2], float32(m-bias[k])), append(p[3], v)
		}
		in := []*ir.Value{out}
		for k, what := range []string{"_scale", "_shift", "_mean", "_variance"} {
			in = append(in, r.Const(name+what, tensor.Of(p[k], l.Rows)))
		}
		bn, err := r.After(n).Add("BatchNormalization", name, ir.MakeAttrs("epsilon", unfoldedEpsilon), in, name)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", n.Label(), err)
		}
		r.ReplaceUses(out, bn.Out[0])
		r.SetInput(bn, 0, out)
		held := out.Name
		r.Rename(out, held+"_layer")
		r.Rename(bn.Out[0], held) // it holds what the layer returned
		if l.Bias() != nil {
			r.SetInputs(n, n.In[:2]...)
		}
	}
	r.RemoveUnusedConsts()
	return len(convs), nil
}

// outputMoments returns the mean and the mean square of each channel of the layers'
// outputs over the calibration data.
func outputMoments(c *Context, g *ir.Graph, layers []*Layer) (mean, square [][]float64, err error) {
	if c.Engine == nil || c.Calib == nil {
		return nil, nil, errors.New("the statistics of batch norms are measured, which needs data")
	}
	probe, vals := g.CloneMap()
	r := ir.NewRewriter(probe)
	var outs []*ir.Value
	for _, l := range layers {
		v := vals[l.Node.Out[0]]
		axes := []int64{0}
		for i := 2; i < v.Type.Rank(); i++ {
			axes = append(axes, int64(i))
		}
		at := r.Ints(v.Name+"_axes", axes...)
		squared, err := r.Add("Mul", "", nil, []*ir.Value{v, v}, v.Name+"_squared")
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", l.Node.Label(), err)
		}
		for _, x := range []*ir.Value{v, squared.Out[0]} {
			m, err := r.Add("ReduceMean", "", ir.MakeAttrs("keepdims", 0), []*ir.Value{x, at}, x.Name+"_mean")
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", l.Node.Label(), err)
			}
			outs = append(outs, m.Out[0])
		}
	}
	r.SetOutputs(outs...)
	r.RemoveUnused()
	exe, err := c.Engine.Compile(c, probe, backends.Options{Threads: c.Threads})
	if err != nil {
		return nil, nil, err
	}
	defer exe.Close()
	sums := make([][]float64, len(outs))
	total := 0.0
	for in, err := range c.Calib.Batches(momentsBatch) {
		if err != nil {
			return nil, nil, err
		}
		out, err := exe.Run(c, in)
		if err != nil {
			return nil, nil, err
		}
		n := float64(in[0].Shape()[0])
		total += n
		for i, t := range out {
			if sums[i] == nil {
				sums[i] = make([]float64, t.Len())
			}
			for k, x := range t.Float64s() {
				sums[i][k] += n * x
			}
		}
	}
	for i, s := range sums {
		for k := range s {
			s[k] /= total
		}
		if i%2 == 0 {
			mean = append(mean, s)
		} else {
			square = append(square, s)
		}
	}
	return mean, square, nil
}
