package conformance

import (
	"slices"

	"github.com/thriftc/thriftc/ir/tensor"
)

func init() {
	add(func(r *drawer) {
		s := r.shape(1, 4)
		mode := pick(r, "constant", "constant", "reflect", "edge", "wrap")
		if mode == "wrap" && r.c.opset < 19 {
			mode = "edge"
		}
		r.maybe("mode", mode)
		if r.c.attrs.Get("mode") == nil {
			mode = "constant"
		}
		e := r.elem(0)
		axes := make([]int, len(s))
		for i := range axes {
			axes[i] = i
		}
		some := r.c.opset >= 18 && r.chance(3)
		if some {
			axes = r.axes(len(s), 1)
		}
		pads := make([]int, 2*len(axes))
		for i, a := range axes {
			d := s[(a+len(s))%len(s)]
			for _, at := range []int{i, i + len(axes)} {
				switch pads[at] = r.IntN(4) - 1; mode {
				case "reflect":
					pads[at] = min(pads[at], d-1)
				case "wrap":
					pads[at] = min(pads[at], d)
				}
			}
			if pads[i]+pads[i+len(axes)]+d < 1 || d == 1 && (pads[i] < 0 || pads[i+len(axes)] < 0) {
				pads[i], pads[i+len(axes)] = 0, 0
			}
		}
		r.in(r.of(e, s...))
		if r.has("pads") {
			r.set("pads", pads)
			r.maybe("value", float32(1.5))
			return
		}
		r.in(int64s(pads...))
		r.optional(r.of(e))
		if some {
			r.in(int64s(axes...))
		}
	}, "Pad")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		axes := r.axes(len(s), 1)
		starts, ends, steps := make([]int, len(axes)), make([]int, len(axes)), make([]int, len(axes))
		old := r.has("starts")
		for i := range axes {
			starts[i], ends[i], steps[i] = r.IntN(9)-4, pick(r, -3, -1, 0, 1, 2, 3, 100, -100, 1<<40, -1<<40), pick(r, 1, 1, 2, 3, -1, -2)
			if old {
				ends[i] = max(-100, min(ends[i], 100))
			}
		}
		r.in(r.of(r.elem(0), s...))
		if old {
			r.set("starts", starts)
			r.set("ends", ends)
			r.set("axes", axes)
			return
		}
		r.in(int64s(starts...), int64s(ends...))
		if len(axes) == len(s) && r.chance(2) {
			r.in(nil)
		} else {
			r.in(int64s(axes...))
		}
		r.optional(int64s(steps...))
	}, "Slice")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		axis := r.axis(len(s))
		d := &s[(axis+len(s))%len(s)]
		*d += 2
		r.maybe("axis", axis)
		if r.c.attrs.Get("axis") == nil {
			s[0] += 2
			d = &s[0]
		}
		r.c.outs = 2
		r.in(r.of(r.elem(0), s...))
		first := r.IntN(*d)
		switch {
		case r.has("num_outputs") && r.chance(2):
			r.set("num_outputs", 2)
		case r.has("split") || !r.chance(3):
			r.list("split", first, *d-first)
		}
	}, "Split")
	add(func(r *drawer) {
		e, s := r.elem(0), r.shape(1, 4)
		axis := r.axis(len(s))
		r.set("axis", axis)
		for range 1 + r.IntN(3) {
			t := slices.Clone(s)
			t[(axis+len(s))%len(s)] = r.IntN(4)
			r.in(r.of(e, t...))
		}
	}, "Concat")
	add(func(r *drawer) {
		s := r.shape(1, 5)
		r.maybe("perm", r.Perm(len(s)))
		r.in(r.of(r.elem(0), s...))
	}, "Transpose")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		to := slices.Clone(s)
		switch r.IntN(4) {
		case 0:
			to = []int{-1}
		case 1:
			to[r.IntN(len(to))] = -1
		case 2:
			to[r.IntN(len(to))] = 0
		default:
			to = append([]int{1}, to...)
		}
		r.in(r.of(r.elem(0), s...), int64s(to...))
		if !slices.Contains(to, 0) {
			r.flag("allowzero")
		}
	}, "Reshape")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		axes := r.axes(len(s), 1)
		for _, a := range axes {
			s[(a+len(s))%len(s)] = 1
		}
		r.in(r.of(r.elem(0), s...))
		if !r.chance(4) {
			r.list("axes", axes...)
		}
	}, "Squeeze")
	add(func(r *drawer) {
		s := r.shape(0, 3)
		r.in(r.of(r.elem(0), s...))
		r.list("axes", r.axes(len(s)+2, 1)[:1]...)
	}, "Unsqueeze")
	add(func(r *drawer) {
		s := r.shape(0, 4)
		r.in(r.of(r.elem(0), r.alike(s)...))
		to := slices.Clone(s)
		for i := range to {
			if r.chance(4) {
				to[i] = 1
			}
		}
		if r.chance(3) {
			to = s
		}
		r.in(int64s(to...))
		if len(s) == 0 {
			r.c.in[1] = int64s(2, 1)
		}
	}, "Expand")
	add(func(r *drawer) {
		s := r.shape(1, 4)
		times := make([]int, len(s))
		for i := range times {
			times[i] = r.IntN(4)
		}
		r.in(r.of(r.elem(0), s...), int64s(times...))
	}, "Tile")
	index := func(r *drawer, n int, shape ...int) *tensor.Tensor {
		return r.wholes(pick(r, tensor.I64, tensor.I64, tensor.I32), -n, n, shape...)
	}
	add(func(r *drawer) {
		s := r.shape(1, 4)
		axis := r.axis(len(s))
		r.maybe("axis", axis)
		if r.c.attrs.Get("axis") == nil {
			axis = 0
		}
		r.in(r.of(r.elem(0), s...), index(r, s[(axis+len(s))%len(s)], r.shape(0, 2)...))
	}, "Gather")
	along := func(r *drawer) (data *tensor.Tensor, indices *tensor.Tensor) {
		s := r.shape(1, 3)
		axis := r.axis(len(s))
		r.set("axis", axis)
		at := (axis + len(s)) % len(s)
		to := slices.Clone(s)
		for i := range to {
			to[i] = 1 + r.IntN(s[i])
		}
		return r.of(r.elem(0), s...), index(r, s[at], to...)
	}
	add(func(r *drawer) {
		data, at := along(r)
		r.in(data, at)
	}, "GatherElements")
	add(func(r *drawer) {
		data, at := along(r)
		updates := r.of(data.Elem(), at.Shape()...)
		red := "none"
		if r.has("reduction") && !r.chance(3) {
			red = pick(r, "none", "add", "mul")
			if r.c.opset >= 18 {
				red = pick(r, "add", "mul", "min", "max")
			}
			r.set("reduction", red)
		}
		if red == "none" { // equal indices: any may win
			at = r.wholes(tensor.I64, 0, 1, slices.Repeat([]int{1}, at.Rank())...)
			updates = r.of(data.Elem(), at.Shape()...)
		}
		r.in(data, at, updates)
	}, "ScatterElements", "Scatter")
	add(func(r *drawer) {
		s := r.shape(2, 4)
		batch := 0
		if r.has("batch_dims") && r.chance(2) {
			batch = r.IntN(len(s) - 1)
			r.set("batch_dims", batch)
		}
		k := 1 + r.IntN(len(s)-batch)
		shape := append(slices.Clone(s[:batch]), r.shape(1, 2)...)
		least := slices.Min(s[batch : batch+k])
		shape[len(shape)-1] = k
		if len(shape) == batch {
			shape = append(shape, k)
		}
		r.in(r.of(r.elem(0), s...), r.wholes(tensor.I64, -least, least, shape...))
	}, "GatherND")
	add(func(r *drawer) {
		s := r.shape(1, 3)
		k := 1 + r.IntN(len(s))
		data := r.of(r.elem(0), s...)
		n := 1
		if r.has("reduction") && !r.chance(3) {
			n = 3
			red := pick(r, "add", "mul")
			if r.c.opset >= 18 {
				red = pick(r, "add", "mul", "min", "max")
			}
			r.set("reduction", red)
		}
		r.in(data, r.wholes(tensor.I64, 0, slices.Min(s[:k]), n, k), r.of(data.Elem(), append([]int{n}, s[k:]...)...))
	}, "ScatterND")
	blocks := func(r *drawer) (b, c int) {
		b = 1 + r.IntN(3)
		r.set("blocksize", b)
		r.maybe("mode", pick(r, "DCR", "CRD"))
		return b, 1 + r.IntN(3)
	}
	add(func(r *drawer) {
		b, c := blocks(r)
		r.in(r.of(r.float(), 1+r.IntN(2), c*b*b, 1+r.IntN(3), 1+r.IntN(3)))
	}, "DepthToSpace")
	add(func(r *drawer) {
		b, c := blocks(r)
		r.in(r.of(r.float(), 1+r.IntN(2), c, b*(1+r.IntN(3)), b*(1+r.IntN(3))))
	}, "SpaceToDepth")
	add(func(r *drawer) {
		s := r.shape(1, 2)
		r.maybe("axis", r.IntN(2*len(s)+2)-len(s)-1)
		depth := 2 + r.IntN(3)
		r.in(r.wholes(tensor.I64, -depth-1, depth+1, s...), tensor.Scalar(int64(depth)), r.of(pick(r, tensor.F32, tensor.I64), 2))
	}, "OneHot")
	add(func(r *drawer) {
		s := r.shape(2, 4)
		r.flag("upper")
		r.in(r.of(r.elem(0), s...))
		r.optional(tensor.Scalar(int64(r.IntN(9) - 4)))
	}, "Trilu")
	add(func(r *drawer) {
		r.maybe("k", r.IntN(5)-2)
		r.maybe("dtype", pick(r, tensor.F32, tensor.I64).ONNXType())
		r.in(r.of(r.elem(0), r.shape(2, 2)...))
	}, "EyeLike")
	add(func(r *drawer) {
		e := r.elem(0)
		step := pick(r, 1, 2, 3, -1, -2)
		if !e.IsSigned() {
			step = 1
		}
		r.in(numbersOf(e, []float64{float64(r.IntN(4))}), numbersOf(e, []float64{float64(r.IntN(12))}), numbersOf(e, []float64{float64(step)}))
	}, "Range")
	add(func(r *drawer) {
		s := r.shape(1, 3)
		n := size(s)
		if r.chance(2) {
			axis := r.axis(len(s))
			r.set("axis", axis)
			n = s[(axis+len(s))%len(s)]
		}
		r.in(r.of(r.elem(0), s...), r.of(tensor.Bool, 1+r.IntN(n)))
	}, "Compress")
	add(func(r *drawer) {
		s := r.shape(1, 3)
		if r.chance(2) {
			r.set("axis", r.axis(len(s)))
		}
		r.flag("sorted")
		r.c.outs = 1 + r.IntN(4)
		r.in(r.wholes(r.elem(0), 0, 3, s...))
	}, "Unique")
	add(func(r *drawer) {
		s := r.shape(2, 4)
		s[0], s[1] = s[0]+1, s[1]+1
		batch := 1
		if r.chance(2) {
			r.set("time_axis", 1)
			r.set("batch_axis", 0)
			batch = 0
		}
		r.in(r.of(r.elem(0), s...), r.wholes(tensor.I64, 1, s[1-batch]+1, s[batch]))
	}, "ReverseSequence")
	add(func(r *drawer) {
		s := r.shape(0, 3)
		r.maybe("value", r.of(pick(r, tensor.F32, tensor.I64, tensor.Bool, tensor.U8), 1))
		r.in(int64s(s...))
	}, "ConstantOfShape")
	add(func(r *drawer) {
		s := r.shape(2, 3)
		r.in(r.of(r.float(), append(s[:len(s)-2:len(s)-2], 3, 3)...))
		r.c.loose = 1e-4
	}, "Det")
	add(func(r *drawer) {
		s := r.shape(2, 4)
		axes := r.axes(len(s), 1)
		to := make([]int, len(axes))
		for i := range to {
			to[i] = 1 + r.IntN(6)
		}
		r.set("axes", axes)
		r.in(r.of(r.elem(0), s...), int64s(to...))
	}, "CenterCropPad")
}
