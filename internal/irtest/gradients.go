package irtest

import (
	"github.com/thriftc/thriftc/ir"
)

// gradientRecipes are nodes of training steps, for RandomLayouts.
var gradientRecipes = []recipe{
	{"thriftc.ReluGrad", func(d *drawer, op string, x *ir.Value) { d.tail(d.add(op, nil, x, d.like(x, -1))) }},
	{"thriftc.ClipGrad", func(d *drawer, op string, x *ir.Value) {
		d.tail(d.add(op, nil, x, d.like(x, -1), d.r.Float("lo", -1), d.r.Float("hi", 1)))
	}},
	{"thriftc.MaxPoolGrad", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		d.tail(d.add(op, ir.MakeAttrs("kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1}), d.like(x, -1), x))
	})},
	{"thriftc.AveragePoolGrad", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		d.tail(d.add(op, ir.MakeAttrs("kernel_shape", []int{3, 3}, "pads", []int{1, 1, 1, 1}, "spatial", []int{h, w}), x))
	})},
	{"thriftc.ConvGradInput", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		m, k := d.one(d.channels...), d.one(1, 3)
		if d.spend(c * m * k * k * h * w) {
			d.tail(d.add(op, ir.MakeAttrs("spatial", []int{h, w}, "pads", d.around(k-1, k-1)), x, d.scaled(c*k*k, c, m, k, k)))
		}
	})},
	{"thriftc.ConvGradWeight", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) { // which are then weights
		dy, k := d.like(x, 1), d.one(1, 3)
		m := dy.Type.Dims[1].N
		if d.spend(2 * c * m * k * k * h * w) {
			pads := d.around(k-1, k-1)
			weights := d.add(op, ir.MakeAttrs("kernel_shape", []int{k, k}, "pads", pads), x, dy)
			d.tail(d.add("Conv", ir.MakeAttrs("pads", pads), x, weights))
		}
	})},
	{"thriftc.BatchNormTrain", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		out := d.addAll(op, nil, []string{"normal", "mean", "var"}, x, d.weight("gamma", c), d.weight("beta", c))
		d.tail(out[0])
		d.tail(d.add("BatchNormalization", nil, d.like(x, -1), d.weight("gamma", c), d.weight("beta", c), out[1], out[2]))
	})},
	{"thriftc.BatchNormTrainGrad", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		in := []*ir.Value{x, d.like(x, -1), d.weight("gamma", c), d.weight("mean", c), d.positive("var", c)}
		if d.rng.IntN(2) == 0 {
			in = append(in, d.like(x, -1))
		}
		d.tail(d.addAll(op, nil, []string{"dx", "dscale", "dbias"}, in...)[0])
	})},
	{"thriftc.BitQuantGrad", onPlanes(func(d *drawer, op string, x *ir.Value, c, h, w int) {
		d.tail(d.addAll(op, nil, []string{"dx", "dbits", "dhi"}, d.like(x, -1), x, d.r.Float("bits", 3.5), d.r.Float("low", -2), d.r.Float("high", 2))[0])
	})},
}
