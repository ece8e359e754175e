package ops

import (
	"errors"
	"fmt"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// In these operators a sum over the images and positions of a channel is taken
// in 8 groups of images, as in thriftc.ConvGradWeight. Within a group element i goes
// to partial sum i mod 16, and the sixteen are added as in f32.Sum; then the
// groups are added in order.
const channelSumDoc = `
Sums over a channel are taken in the 8 groups of images of thriftc.ConvGradWeight:
within one in the order of reductions (f32.Sum), then the groups in order.`

var _ = define(ir.Op{
	Name:  "thriftc.BatchNormTrain",
	Roles: []ir.Role{1: ir.Gain, 2: ir.Bias},
	Doc: `Normalises every channel (dimension 1) with the statistics of X itself, and returns
them: Y = (X − mean)·a + B with a = scale/√(var + ε), rounded after each operation, the
difference rounded and the rest in one fused multiply-add. With k the mean of the
channel in the first image, in the order of reductions (f32.Sum), d = X − k, s = Σd,
t = Σd² (each square added by a fused multiply-add) and n the number of elements, mean =
k + s/n and var = max(0, (t − s·(s/n))/n), the biased variance, t − s·(s/n) in one fused
multiply-add.` + channelSumDoc,
	In: "X, scale, B", Out: "Y, mean, var",
	Attrs: []ir.AttrSpec{floatAttr("epsilon", 1e-5, "ε, added to the variance")},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		x := n.In[0].Type
		c, err := channelParams(n, 0, 1, 2)
		return []ir.Type{x.WithElem(x.Elem), ir.TensorType(x.Elem, c), ir.TensorType(x.Elem, c)}, err
	},
	Cost: func(n *ir.Node) ir.Cost {
		e := elemCount(n.In[0].Type)
		return ir.Cost{MACs: 2 * e, Adds: 3 * e}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return batchNormTrain[float64](n, in)
		}
		return batchNormTrain[float32](n, in)
	},
	Grad: func(r *ir.Rewriter, n *ir.Node, dout []*ir.Value) ([]*ir.Value, error) {
		if n.Output(1) == nil || n.Output(2) == nil {
			return nil, errors.New("the gradient needs the outputs mean and var")
		}
		if dout[1] != nil || dout[2] != nil {
			return nil, errors.New("the statistics have no gradient")
		}
		b := backprop{r: r, n: n}
		l := b.label()
		d := b.node("thriftc.BatchNormTrainGrad", b.copyAttrs("epsilon"), []*ir.Value{dout[0], n.In[0], n.In[1], n.Out[1], n.Out[2]}, l, l+"_scale", l+"_B")
		return b.done(d...)
	},
})

// channelParams checks that the first inputs named are alike and of rank 2 or
// more, that the others are vectors over their channels, and returns that dimension.
func channelParams(n *ir.Node, x int, vectors ...int) (ir.Dim, error) {
	t := n.In[x].Type
	if err := sameElem(n); err != nil {
		return ir.Unknown, err
	}
	c := ir.Unknown
	if !t.Unranked {
		if t.Rank() < 2 {
			return c, fmt.Errorf("%s is %v, expected at least two dimensions", portName(n, x), t)
		}
		c = t.Dims[1]
	}
	for _, i := range vectors {
		v := n.In[i].Type
		if !v.Unranked && (v.Rank() != 1 || !v.Dims[0].MayEqual(c)) {
			return c, fmt.Errorf("%s is %v, expected shape [%v]", portName(n, i), v, c)
		}
	}
	return c, nil
}

// channelSums returns two sums over channel c of x, which has channels and
// positions of a plane: add gets an element's index and both partial sums.
func channelSums[T float](images, channels, plane, c int, add func(i int, s, t *T)) (s, t T) {
	for g := range imageGroups {
		var ps, pt [16]T
		lo, hi := imageGroup(g, images)
		k := 0
		for b := lo; b < hi; b++ {
			for i := range plane {
				add((b*channels+c)*plane+i, &ps[k%16], &pt[k%16])
				k++
			}
		}
		for w := 8; w > 0; w /= 2 {
			for j := range w {
				ps[j] += ps[j+w]
				pt[j] += pt[j+w]
			}
		}
		if g == 0 {
			s, t = ps[0], pt[0]
		} else {
			s += ps[0]
			t += pt[0]
		}
	}
	return s, t
}

func batchNormTrain[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	s := in[0].Shape()
	channels, plane := s[1], sizeOf(s[2:])
	if in[0].Len() == 0 {
		return nil, fmt.Errorf("X is %v, which has no elements to take statistics of", ir.TypeOf(in[0]))
	}
	x, y := numbers[T](in[0]), make([]T, in[0].Len())
	scale, bias := numbers[T](in[1]), numbers[T](in[2])
	if len(scale) != channels || len(bias) != channels {
		return nil, fmt.Errorf("scale has %d elements and B %d, expected %d", len(scale), len(bias), channels)
	}
	mean, variance := make([]T, channels), make([]T, channels)
	count, eps := T(s[0]*plane), T(n.Float("epsilon"))
	for c := range channels {
		k := f32.Sum(x[c*plane:][:plane]) / T(plane)
		s1, s2 := channelSums(s[0], channels, plane, c, func(i int, s, t *T) {
			d := x[i] - k
			*s += d
			*t = fma(d, d, *t)
		})
		mean[c] = k + s1/count
		variance[c] = max(0, fma(-s1, s1/count, s2)/count)
		a := scale[c] / sqrt(variance[c]+eps)
		for b := range s[0] {
			at := (b*channels + c) * plane
			for i, v := range x[at : at+plane] {
				y[at+i] = fma(v-mean[c], a, bias[c])
			}
		}
	}
	e := in[0].Elem()
	return []*tensor.Tensor{fromNumbers(e, y, s...), fromNumbers(e, mean, channels), fromNumbers(e, variance, channels)}, nil
}

var _ = define(ir.Op{
	Name: "thriftc.BatchNormTrainGrad",
	Doc: `The gradients of thriftc.BatchNormTrain with respect to X, scale and B. With a mask dY counts as
0 where mask is not greater than 0, as in thriftc.ReluGrad. With d = X − mean, i = 1/√(var + ε), a = scale/√(var + ε) and n the number of
elements of a channel: dB = ΣdY, dscale = i·ΣdY·d (products added by fused
multiply-adds), and dX = d·p + (dY·a + q), both fused multiply-adds, with
p = −(a·(i·dscale))/n and q = −(a·dB)/n.` + channelSumDoc,
	In: "dY, X, scale, mean, var, mask?", Out: "dX, dscale, dB",
	Attrs: []ir.AttrSpec{floatAttr("epsilon", 1e-5, "ε, added to the variance")},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		c, err := channelParams(n, 1, 2, 3, 4)
		if err != nil {
			return nil, err
		}
		dy, x := n.In[0].Type, n.In[1].Type
		if m := n.Input(5); !dy.Compatible(x) || m != nil && !m.Type.Compatible(x) {
			return nil, fmt.Errorf("dY, X and mask should be alike, dY is %v and X %v", dy, x)
		}
		return []ir.Type{x.WithElem(x.Elem), ir.TensorType(x.Elem, c), ir.TensorType(x.Elem, c)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		e := elemCount(n.In[0].Type)
		return ir.Cost{MACs: 3 * e, Adds: 3 * e}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if in[0].Elem() == tensor.F64 {
			return batchNormTrainGrad[float64](n, in)
		}
		return batchNormTrainGrad[float32](n, in)
	},
})

func batchNormTrainGrad[T float](n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	s := in[1].Shape()
	channels, plane := s[1], sizeOf(s[2:])
	dy, x, dx := numbers[T](in[0]), numbers[T](in[1]), make([]T, in[1].Len())
	for i, t := range in {
		if want := channels; t != nil && i >= 2 && i < 5 && t.Len() != want || t != nil && (i < 2 || i == 5) && t.Len() != len(dx) {
			return nil, fmt.Errorf("%s has shape %v, which does not fit X, %v", portName(n, i), t.Shape(), s)
		}
	}
	if len(in) > 5 && in[5] != nil {
		dy = reluGrad(dy, numbers[T](in[5]))
	}
	scale, mean, variance := numbers[T](in[2]), numbers[T](in[3]), numbers[T](in[4])
	dscale, db := make([]T, channels), make([]T, channels)
	count, eps := T(s[0]*plane), T(n.Float("epsilon"))
	for c := range channels {
		s1, s2 := channelSums(s[0], channels, plane, c, func(i int, s, t *T) {
			*s += dy[i]
			*t = fma(dy[i], x[i]-mean[c], *t)
		})
		std := sqrt(variance[c] + eps)
		i, a := 1/std, scale[c]/std
		db[c], dscale[c] = s1, T(i*s2)
		p, q := -T(a*T(i*dscale[c]))/count, -T(a*s1)/count
		for b := range s[0] {
			at := (b*channels + c) * plane
			for j := at; j < at+plane; j++ {
				dx[j] = fma(x[j]-mean[c], p, fma(dy[j], a, q))
			}
		}
	}
	e := in[0].Elem()
	return []*tensor.Tensor{fromNumbers(e, dx, s...), fromNumbers(e, dscale, channels), fromNumbers(e, db, channels)}, nil
}
