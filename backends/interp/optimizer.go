package interp

import (
	"github.com/thriftc/thriftc/ir"
)

// sgdUnit is SGDUpdate.
func sgdUnit(x *executable, n *ir.Node) (unit, bool) {
	if !staticF32(n) || n.Output(0) == nil || n.Output(1) == nil {
		return unit{}, false
	}
	momentum, decay, nesterov := n.Float("momentum"), n.Float("weight_decay"), n.Int("nesterov") != 0
	s := x.set
	return unit{node: n, name: "update", kind: computed, in: n.In, out: n.Out, make: func(in, out []*view, _ *step) []phase {
		const piece = 1 << 10
		size := out[0].size
		return []phase{{(size + piece - 1) / piece, func(k *worker, i int) {
			lo, hi := i*piece, min((i+1)*piece, size)
			w, g, m, w1, m1 := in[0].data[lo:hi], in[1].data[lo:hi], in[2].data[lo:hi], out[0].data[lo:hi], out[1].data[lo:hi]
			rate, scale := in[3].data[0], float32(1)
			if len(in) > 4 && in[4] != nil {
				scale = in[4].data[0]
			}
			temp := k.temp(2 * piece)
			d, t := temp[:hi-lo], temp[piece:][:hi-lo]
			s.MulScalar(d, g, scale)
			s.MulScalar(t, w, decay)
			s.Add(d, d, t)
			s.MulScalar(m1, m, momentum)
			s.Add(m1, m1, d)
			step := m1
			if nesterov {
				s.MulScalar(t, m1, momentum)
				s.Add(d, d, t)
				step = d
			}
			s.MulScalar(t, step, rate)
			s.Sub(w1, w, t)
		}}}
	}}, true
}
