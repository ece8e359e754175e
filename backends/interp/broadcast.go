package interp

import (
	"slices"

	"thriftc/ir"
	"thriftc/ir/tensor"
)

// broadcastUnit is Add, Sub, Mul or Div of two arrays that broadcast to the output's shape.
func broadcastUnit(x *executable, n *ir.Node) (func(in []*view, out *view) phase, bool) {
	if len(n.In) != 2 || n.In[1].Type.Elem != tensor.F32 {
		return nil, false
	}
	shape, to, from := alike(staticShape(n.Out[0]), staticShape(n.In[0]), staticShape(n.In[1]))
	last := len(shape) - 1
	size := shape[last]
	vectors := map[string]func(dst, x, y []float32){"Add": x.set.Add, "Sub": x.set.Sub, "Mul": x.set.Mul, "Div": x.set.Div}[n.Op.Name]
	const most = 2048 // elements at once
	width := min(size, most)
	pieces := (size + width - 1) / width
	return func(in []*view, out *view) phase {
		all := out.size / size * pieces
		per := max(1, chunk/width)
		return phase{(all + per - 1) / per, func(w *worker, i int) {
			temp := w.temp(2 * width)
			piece := func(in, temp []float32, at, step, from, to int) []float32 {
				if step == 1 {
					return in[at+from : at+to]
				}
				for i := range to - from {
					temp[i] = in[at]
				}
				return temp[:to-from]
			}
			for p := i * per; p < min((i+1)*per, all); p++ {
				r := p / pieces
				lo := p % pieces * width
				hi := min(lo+width, size)
				a, b, rest := 0, 0, r
				for d := last - 1; d >= 0; d-- {
					k := rest % shape[d]
					rest /= shape[d]
					a, b = a+k*to[d], b+k*from[d]
				}
				vectors(out.data[r*size+lo:r*size+hi], piece(in[0].data, temp, a, to[last], lo, hi), piece(in[1].data, temp[width:], b, from[last], lo, hi))
			}
		}}
	}, true
}

// alike returns the shape of an array to which two of shapes a and b broadcast,
// with dimensions joined where they lie alike in both, and the strides of the
// two, 0 where they broadcast.
func alike(shape, a, b []int) (joined, as, bs []int) {
	spread := func(s []int) []int {
		out := slices.Concat(make([]int, len(shape)-len(s)), strides(s))
		for i, d := range s {
			if j := len(shape) - len(s) + i; d == 1 && shape[j] != 1 {
				out[j] = 0
			}
		}
		return out
	}
	pa, pb := spread(a), spread(b)
	for i := len(shape) - 1; i >= 0; i-- {
		if shape[i] == 1 {
			continue
		}
		if k := len(joined) - 1; k >= 0 && pa[i] == as[k]*joined[k] && pb[i] == bs[k]*joined[k] {
			joined[k] *= shape[i]
			continue
		}
		joined, as, bs = append(joined, shape[i]), append(as, pa[i]), append(bs, pb[i])
	}
	if len(joined) == 0 {
		return []int{1}, []int{1}, []int{1}
	}
	slices.Reverse(joined)
	slices.Reverse(as)
	slices.Reverse(bs)
	return joined, as, bs
}
