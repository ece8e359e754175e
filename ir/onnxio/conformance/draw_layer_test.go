package conformance

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/ir/tensor"
)

// window draws the attributes of windows over planes; kernel is nil where a weight says it.
// It returns the sizes of the planes and of the kernel.
func (r *drawer) window(dilated, ceil bool) (plane, kernel []int) {
	rank := pick(r, 1, 2, 2, 2, 3)
	var pads, tail, strides, dilations []int
	for range rank {
		k := 1 + r.IntN(4)
		d := 1
		if dilated && r.chance(2) {
			d = 1 + r.IntN(3)
		}
		span := (k-1)*d + 1
		p, q := r.IntN(k), r.IntN(k) // ONNX Runtime refuses pads as large as the kernel
		n := max(1, span-p-q) + r.IntN(7)
		plane, kernel = append(plane, n), append(kernel, k)
		pads, tail = append(pads, p), append(tail, q)
		strides, dilations = append(strides, 1+r.IntN(3)), append(dilations, d)
	}
	r.maybe("strides", strides)
	if slices.Max(dilations) > 1 {
		r.set("dilations", dilations)
		if r.c.attrs.Get("dilations") == nil { // not in this opset
			for i := range plane {
				plane[i] = max(plane[i], kernel[i])
			}
		}
	}
	switch r.IntN(5) {
	case 0:
		r.set("auto_pad", pick(r, "SAME_UPPER", "SAME_LOWER"))
	case 1:
		r.set("auto_pad", "VALID")
		for i := range plane {
			plane[i] += pads[i] + tail[i]
		}
	case 2:
		for i := range plane {
			plane[i] += pads[i] + tail[i]
		}
	default:
		r.set("pads", append(pads, tail...))
	}
	if ceil {
		r.flag("ceil_mode")
	}
	return plane, kernel
}

func pooling(r *drawer) {
	plane, kernel := r.window(r.has("dilations"), true)
	r.set("kernel_shape", kernel)
	r.flag("count_include_pad")
	if r.c.op == "LpPool" {
		r.maybe("p", pick(r, 1, 2, 3))
	}
	if r.c.op == "MaxPool" && r.chance(3) {
		r.c.outs = 2
		r.flag("storage_order")
	}
	r.in(r.of(r.elem(0), append([]int{1 + r.IntN(2), 1 + r.IntN(3)}, plane...)...))
}

func init() {
	add(pooling, "MaxPool", "AveragePool", "LpPool")
	add(func(r *drawer) {
		r.maybe("p", pick(r, 1, 2, 3))
		r.in(r.of(r.elem(0), r.shape(3, 5)...))
	}, "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
	add(func(r *drawer) {
		plane, kernel := r.window(true, false)
		r.maybe("kernel_shape", kernel)
		group := pick(r, 1, 1, 2, 3)
		in, out := 1+r.IntN(3), group*(1+r.IntN(3))
		r.maybe("group", group)
		if r.c.attrs.Get("group") == nil {
			in, group = in*group, 1
		}
		e := r.float()
		r.in(r.of(e, append([]int{1 + r.IntN(2), in * group}, plane...)...), r.of(e, append([]int{out, in}, kernel...)...))
		r.optional(r.of(e, out))
	}, "Conv")
	add(func(r *drawer) {
		plane, kernel := r.window(true, false)
		r.maybe("kernel_shape", kernel)
		group := pick(r, 1, 1, 2)
		r.set("group", group)
		in, out := group*(1+r.IntN(3)), 1+r.IntN(3)
		if s, ok := r.c.attrs.Get("strides").([]int64); ok && r.chance(2) {
			extra := make([]int, len(s))
			for i := range s {
				extra[i] = r.IntN(int(s[i]))
			}
			r.set("output_padding", extra)
		}
		e := r.float()
		r.in(r.of(e, append([]int{1 + r.IntN(2), in}, plane...)...), r.of(e, append([]int{in, out}, kernel...)...))
		r.optional(r.of(e, out*group))
	}, "ConvTranspose")
	// Where the processor lacks an instruction, ONNX Runtime sums pairs of products in
	// 16 bits, which saturate: 128·100·2 do not.
	add(func(r *drawer) {
		plane, kernel := r.window(true, false)
		for len(plane) != 2 { // ONNX Runtime has it for images
			r.c.attrs = nil
			plane, kernel = r.window(true, false)
		}
		out, in := 1+r.IntN(4), 1+r.IntN(3)
		e := pick(r, tensor.U8, tensor.I8)
		r.in(r.wholes(tensor.U8, 0, 128, append([]int{1, in}, plane...)...), r.wholes(e, 0, 100, append([]int{out, in}, kernel...)...))
		r.optional(r.wholes(tensor.U8, 0, 200))
		r.optional(r.wholes(e, 0, 20))
	}, "ConvInteger")
	add(func(r *drawer) {
		m, k, n := 1+r.IntN(5), 1+r.IntN(6), 1+r.IntN(5)
		a, b := []int{m, k}, []int{k, n}
		r.flags("transA", "transB")
		if r.c.attrs.Get("transA") == int64(1) {
			a = []int{k, m}
		}
		if r.c.attrs.Get("transB") == int64(1) {
			b = []int{n, k}
		}
		if r.chance(8) {
			r.set("transB", 2)
			b = []int{n, k}
		}
		r.maybe("alpha", float32(0.5))
		r.maybe("beta", pick[float32](r, 1.5, 0))
		e := r.float()
		r.in(r.of(e, a...), r.of(e, b...))
		c := r.of(e, pick(r, []int{m, n}, []int{n}, []int{1, n}, []int{m, 1}, []int{1}, []int{})...)
		if r.c.opset < 11 || r.chance(2) {
			r.in(c)
		}
	}, "Gemm")
	products := func(r *drawer, of func(i int, shape ...int) *tensor.Tensor) {
		m, k, n := 1+r.IntN(4), 1+r.IntN(5), 1+r.IntN(4)
		batch := r.shape(0, 2)
		a, b := append(slices.Clone(batch), m, k), append(r.alike(batch), k, n)
		switch r.IntN(6) {
		case 0:
			a = []int{k}
		case 1:
			b = []int{k}
		}
		r.in(of(0, a...), of(1, b...))
	}
	add(func(r *drawer) {
		e := r.elem(0)
		products(r, func(_ int, s ...int) *tensor.Tensor { return r.of(e, s...) })
	}, "MatMul")
	add(func(r *drawer) {
		e := pick(r, tensor.U8, tensor.I8)
		products(r, func(i int, s ...int) *tensor.Tensor {
			if i == 0 {
				return r.wholes(tensor.U8, 0, 128, s...)
			}
			return r.wholes(e, 0, 100, s...)
		})
		r.optional(r.wholes(tensor.U8, 0, 200))
		r.optional(r.wholes(e, 0, 20))
	}, "MatMulInteger")
	add(func(r *drawer) {
		r.set("equation", pick(r, "ij,jk->ik", "bij,bjk->bik", "ij->ji", "ii->i", "ij,ij->", "i,j->ij", "...ij,...jk->...ik", "ij,jk", "bij,bij->bi"))
		n := 2 + r.IntN(2)
		shape := map[string][][]int{"bij,bjk->bik": {{2, n, n}, {2, n, n}}, "ij->ji": {{n, 3}}, "ii->i": {{n, n}}, "i,j->ij": {{n}, {3}}, "...ij,...jk->...ik": {{2, 1, n, n}, {3, n, n}}, "bij,bij->bi": {{2, n, 3}, {2, n, 3}}}[r.c.attrs.Get("equation").(string)]
		if shape == nil {
			shape = [][]int{{n, n}, {n, n}}
		}
		for _, s := range shape {
			r.in(r.of(tensor.F32, s...))
		}
	}, "Einsum")
	recurrent := func(gates int) func(r *drawer) {
		return func(r *drawer) {
			steps, batch, in, hidden, dirs := 1+r.IntN(4), 1+r.IntN(2), 1+r.IntN(3), 1+r.IntN(3), 1
			r.set("hidden_size", hidden)
			switch r.IntN(3) {
			case 0:
				r.set("direction", "bidirectional")
				dirs = 2
			case 1:
				r.set("direction", "reverse")
			}
			r.flag("linear_before_reset")
			r.flag("input_forget")
			if r.chance(3) {
				r.set("clip", float32(0.7))
			}
			if r.chance(3) {
				var names []string
				for range dirs {
					names = append(names, map[int][]string{1: {"Relu"}, 3: {"Sigmoid", "Tanh"}, 4: {"Sigmoid", "Tanh", "Relu"}}[gates]...)
				}
				r.set("activations", names)
			}
			f := func(s ...int) *tensor.Tensor { return r.within(tensor.F32, -1, 1, s...) }
			r.in(f(steps, batch, in), f(dirs, gates*hidden, in), f(dirs, gates*hidden, hidden))
			r.optional(f(dirs, 2*gates*hidden))
			if r.chance(2) {
				r.in(nil)
			} else {
				r.in(r.wholes(tensor.I32, 1, steps+1, batch))
			}
			r.optional(f(dirs, batch, hidden))
			r.c.outs = 1 + r.IntN(2)
			if gates == 4 {
				r.optional(f(dirs, batch, hidden))
				r.optional(f(dirs, 3*hidden))
				r.c.outs = 1 + r.IntN(3)
			}
		}
	}
	add(recurrent(1), "RNN")
	add(recurrent(3), "GRU")
	add(recurrent(4), "LSTM")
	add(func(r *drawer) {
		rank := pick(r, 3, 4, 4)
		s := r.shape(rank, rank)
		s[rank-1] += r.IntN(4)
		r.maybe("mode", pick(r, "nearest", "linear", "cubic"))
		mode, _ := r.c.attrs.Get("mode").(string)
		r.maybe("coordinate_transformation_mode", pick(r, "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize", "half_pixel_symmetric"))
		coordinates, _ := r.c.attrs.Get("coordinate_transformation_mode").(string)
		if coordinates == "half_pixel_symmetric" && r.c.opset < 19 {
			coordinates = "asymmetric"
			r.set("coordinate_transformation_mode", coordinates)
		}
		if mode != "linear" && mode != "cubic" {
			r.maybe("nearest_mode", pick(r, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
		}
		if mode == "cubic" {
			r.maybe("cubic_coeff_a", float32(-0.5))
			r.flag("exclude_outside")
		}
		if (mode == "cubic" || mode == "linear") && coordinates != "tf_crop_and_resize" && r.chance(3) {
			r.flag("antialias")
		}
		r.maybe("extrapolation_value", float32(7))
		scales, sizes := make([]float64, rank), make([]int, rank)
		for i := range s {
			if scales[i], sizes[i] = 1, s[i]; i >= 2 {
				scales[i], sizes[i] = pick(r, 0.5, 0.6, 1, 1.3, 1.7, 2, 2.5, 3), 1+r.IntN(8)
				if float64(s[i])*scales[i] < 1 {
					scales[i] = 1
				}
			}
		}
		r.in(r.of(tensor.F32, s...))
		if r.c.opset < 11 {
			r.in(numbersOf(tensor.F32, scales, rank))
			return
		}
		roi := make([]float64, 2*rank)
		for i := range rank {
			if roi[i+rank] = 1; i >= 2 {
				roi[i], roi[i+rank] = pick(r, 0, 0.1, 0.3, -0.2), pick(r, 1, 0.8, 0.6, 1.2)
			}
		}
		if coordinates == "tf_crop_and_resize" {
			r.in(numbersOf(tensor.F32, roi, 2*rank))
		} else if r.c.opset < 13 {
			r.in(tensor.New(tensor.F32, 0))
		} else {
			r.in(nil)
		}
		if r.chance(2) {
			r.in(numbersOf(tensor.F32, scales, rank))
			return
		}
		if r.c.opset < 13 {
			r.in(tensor.New(tensor.F32, 0))
		} else {
			r.in(nil)
		}
		r.in(int64s(sizes...))
		if coordinates != "tf_crop_and_resize" && r.chance(3) {
			r.set("keep_aspect_ratio_policy", pick(r, "stretch", "not_larger", "not_smaller"))
			if r.c.attrs.Get("keep_aspect_ratio_policy") != nil {
				r.set("axes", []int{rank - 2, rank - 1})
				r.c.in[3] = int64s(sizes[rank-2:]...)
			}
		}
	}, "Resize")
	add(func(r *drawer) {
		s := r.shape(4, 4)
		r.maybe("mode", pick(r, "nearest", "linear"))
		scales := []float64{1, 1, pick(r, 1, 1.5, 2, 2.3), pick(r, 1, 1.5, 2, 3)}
		r.in(r.of(tensor.F32, s...))
		if r.has("scales") {
			r.set("scales", []float32{1, 1, float32(scales[2]), float32(scales[3])})
			return
		}
		r.in(numbersOf(tensor.F32, scales, 4))
	}, "Upsample")
	add(func(r *drawer) {
		rank := 2
		if r.c.opset >= 20 && r.chance(3) {
			rank = 3
		}
		modes := []string{"bilinear", "nearest", "bicubic"}
		if r.c.opset >= 20 {
			modes = []string{"linear", "nearest", "cubic"}
		}
		mode := modes[r.IntN(len(modes))]
		if rank == 3 && mode == "cubic" {
			mode = "linear"
		}
		r.maybe("mode", mode)
		r.maybe("padding_mode", pick(r, "zeros", "border", "reflection"))
		r.flag("align_corners")
		s, g := r.shape(rank+2, rank+2), r.shape(rank+2, rank+2)
		g[0], g[rank+1] = s[0], rank
		r.in(r.of(tensor.F32, s...), r.within(tensor.F32, -1.63, 1.71, g...))
		r.c.loose = 1e-4
	}, "GridSample")
	add(func(r *drawer) {
		rank := pick(r, 2, 3)
		n := 1 + r.IntN(2)
		s := append([]int{n}, r.shape(rank+1, rank+1)...)
		r.flag("align_corners")
		r.in(r.of(tensor.F32, n, rank, rank+1), int64s(s...))
	}, "AffineGrid")
	add(func(r *drawer) {
		n := 1 + r.IntN(3)
		rois := r.within(tensor.F32, 0, 5, n, 4).Float32s()
		for i := range n {
			rois[4*i+2], rois[4*i+3] = rois[4*i]+rois[4*i+2]+0.5, rois[4*i+1]+rois[4*i+3]+0.5
		}
		r.maybe("mode", pick(r, "avg", "max"))
		r.maybe("output_height", 1+r.IntN(3))
		r.maybe("output_width", 1+r.IntN(3))
		r.maybe("sampling_ratio", r.IntN(3))
		r.maybe("spatial_scale", float32(0.5))
		r.maybe("coordinate_transformation_mode", pick(r, "half_pixel", "output_half_pixel"))
		batch := 1 + r.IntN(2)
		r.in(r.of(tensor.F32, batch, 2, 6, 7), tensor.Of(rois, n, 4), r.wholes(tensor.I64, 0, batch, n))
	}, "RoiAlign")
	add(func(r *drawer) {
		n := 1 + r.IntN(3)
		rois := r.wholes(tensor.F32, 0, 4, n, 5).Float32s()
		for i := range n {
			rois[5*i], rois[5*i+3], rois[5*i+4] = 0, rois[5*i+1]+rois[5*i+3], rois[5*i+2]+rois[5*i+4]
		}
		r.set("pooled_shape", []int{1 + r.IntN(3), 1 + r.IntN(3)})
		r.in(r.of(tensor.F32, 1, 2, 7, 8), tensor.Of(rois, n, 5))
	}, "MaxRoiPool")
	scales := func(r *drawer, s []int, axis int) (shape []int) {
		d := s[(axis+len(s))%len(s)]
		switch {
		case r.c.opset >= 21 && r.chance(3):
			b := 1 + r.IntN(d)
			r.set("block_size", b)
			shape = slices.Clone(s)
			shape[(axis+len(s))%len(s)] = (d + b - 1) / b
		case r.c.opset >= 13 && r.chance(2):
			shape = []int{d}
		default:
			return nil
		}
		r.set("axis", axis)
		return shape
	}
	add(func(r *drawer) {
		e := pick(r, tensor.U8, tensor.I8)
		if r.c.opset >= 21 {
			e = pick(r, tensor.U8, tensor.I8, tensor.U16, tensor.I16)
		}
		s := r.shape(1, 4)
		shape := scales(r, s, r.axis(len(s)))
		scale := r.within(tensor.F32, 0.01, 0.5, shape...)
		if r.c.opset >= 21 && r.chance(3) {
			r.set("output_dtype", e.ONNXType())
			r.in(r.of(tensor.F32, s...), scale)
			return
		}
		r.in(r.of(tensor.F32, s...), scale)
		if !r.chance(4) {
			r.in(r.wholes(e, 0, 100, shape...))
		}
	}, "QuantizeLinear")
	add(func(r *drawer) {
		e := pick(r, tensor.U8, tensor.I8, tensor.I32)
		if r.c.opset >= 21 {
			e = pick(r, tensor.U8, tensor.I8, tensor.U16, tensor.I16)
		}
		s := r.shape(1, 4)
		shape := scales(r, s, r.axis(len(s)))
		f := tensor.F32
		if r.c.opset >= 19 {
			f = pick(r, tensor.F32, tensor.F16)
		}
		r.in(r.wholes(e, 0, 120, s...), r.within(f, 0.01, 0.5, shape...))
		if e != tensor.I32 && !r.chance(4) {
			r.in(r.wholes(e, 0, 100, shape...))
		}
	}, "DequantizeLinear")
	add(func(r *drawer) { r.c.outs = 3; r.in(r.of(tensor.F32, r.shape(1, 3)...)) }, "DynamicQuantizeLinear")
	add(func(r *drawer) {
		batch, boxes, classes := 1+r.IntN(2), 1+r.IntN(6), 1+r.IntN(2)
		x := r.within(tensor.F32, 0, 1, batch, boxes, 4)
		r.flag("center_point_box")
		r.in(x, r.within(tensor.F32, 0, 1, batch, classes, boxes), int64s(r.IntN(4)), numbersOf(tensor.F32, []float64{0.3}, 1))
		r.optional(numbersOf(tensor.F32, []float64{0.2}, 1))
	}, "NonMaxSuppression")
	add(func(r *drawer) {
		r.flag("periodic")
		r.in(tensor.Scalar(int64(1 + r.IntN(9))))
	}, "HannWindow", "HammingWindow", "BlackmanWindow")
	add(func(r *drawer) {
		n := 2 + r.IntN(5)
		parts := pick(r, 1, 2)
		r.flag("inverse")
		if parts == 1 && r.c.attrs.Get("inverse") != int64(1) {
			r.flag("onesided")
		}
		r.in(r.of(tensor.F32, 1+r.IntN(2), n, parts))
		r.optional(tensor.Scalar(int64(1 + r.IntN(7))))
		if r.has("axis") {
			r.set("axis", 1)
		} else if r.chance(2) {
			r.in(tensor.Scalar(int64(1)))
		}
		r.c.loose = 1e-4
	}, "DFT")
	add(func(r *drawer) {
		e := r.float()
		plane := []int{2 + r.IntN(3), 2 + r.IntN(3)}
		block := []int{1 + r.IntN(plane[0]), 1 + r.IntN(plane[1])}
		n := (plane[0] - block[0] + 1) * (plane[1] - block[1] + 1)
		r.in(r.of(e, 1, 2*block[0]*block[1], n), int64s(plane...), int64s(block...))
	}, "Col2Im")
	add(func(r *drawer) {
		s := r.shape(2, 4)
		x := r.of(tensor.F32, s...)
		r.maybe("reduction", pick(r, "none", "sum", "mean"))
		labels := append([]int{s[0]}, s[2:]...)
		if r.c.op == "NegativeLogLikelihoodLoss" {
			v := x.Float64s()
			y := make([]float64, len(v))
			for i := range v {
				y[i] = -math.Abs(v[i])
			}
			x = numbersOf(tensor.F32, y, s...)
		}
		r.in(x, r.wholes(tensor.I64, 0, s[1], labels...))
		r.optional(r.within(tensor.F32, 0.1, 1, s[1]))
		r.maybe("ignore_index", 0)
	}, "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
	add(func(r *drawer) {
		channels, n := 1+r.IntN(3), 2+r.IntN(3)
		x := r.of(tensor.F32, 1, channels, n, n)
		r.set("kernel_shape", []int{2, 2})
		r.set("strides", []int{2, 2})
		at := make([]int64, 0, x.Len())
		for c := range channels {
			for i := range n {
				for j := range n {
					at = append(at, int64(c*4*n*n+(2*i+r.IntN(2))*2*n+2*j+r.IntN(2)))
				}
			}
		}
		r.in(x, tensor.Of(at, 1, channels, n, n))
	}, "MaxUnpool")
	quantised := func(r *drawer, e tensor.Elem) (scale, zero *tensor.Tensor) {
		r.c.steps = 1
		return r.within(tensor.F32, 0.01, 0.2), r.wholes(e, 0, 100)
	}
	add(func(r *drawer) {
		plane, kernel := r.window(true, false)
		for len(plane) != 2 {
			r.c.attrs = nil
			plane, kernel = r.window(true, false)
		}
		group := pick(r, 1, 1, 2)
		r.set("group", group)
		out, in := group*(1+r.IntN(3)), 1+r.IntN(3)
		e := pick(r, tensor.U8, tensor.I8)
		xs, xz := quantised(r, tensor.U8)
		ws, wz := quantised(r, e)
		ys, yz := quantised(r, tensor.U8)
		if e == tensor.I8 && r.chance(2) {
			ws, wz = r.within(tensor.F32, 0.01, 0.2, out), r.wholes(e, 0, 1, out)
		}
		r.in(r.wholes(tensor.U8, 0, 128, append([]int{1, in * group}, plane...)...), xs, xz,
			r.wholes(e, 0, 100, append([]int{out, in}, kernel...)...), ws, wz, ys, yz)
		r.optional(r.wholes(tensor.I32, -500, 500, out))
	}, "QLinearConv")
	add(func(r *drawer) {
		e := pick(r, tensor.U8, tensor.I8)
		as, az := quantised(r, tensor.U8)
		bs, bz := quantised(r, e)
		ys, yz := quantised(r, tensor.U8)
		m, k, n := 1+r.IntN(4), 1+r.IntN(5), 1+r.IntN(4)
		r.in(r.wholes(tensor.U8, 0, 128, m, k), as, az, r.wholes(e, 0, 100, k, n), bs, bz, ys, yz)
	}, "QLinearMatMul")
	add(func(r *drawer) {
		step, frame := 1+r.IntN(3), 3+r.IntN(4)
		r.flag("onesided")
		r.in(r.of(tensor.F32, 1+r.IntN(2), frame+r.IntN(9), 1), tensor.Scalar(int64(step)))
		if r.chance(2) {
			r.in(r.of(tensor.F32, frame))
			r.optional(tensor.Scalar(int64(frame)))
		} else {
			r.in(nil, tensor.Scalar(int64(frame)))
		}
		r.c.loose = 1e-4
	}, "STFT")
	add(func(r *drawer) {
		bins, n := 2+r.IntN(4), 8+r.IntN(9)
		r.in(tensor.Scalar(int64(bins)), tensor.Scalar(int64(n)), tensor.Scalar(int64(8000)), tensor.Scalar(float32(0)), tensor.Scalar(float32(4000)))
	}, "MelWeightMatrix")
	add(func(r *drawer) {
		plane, kernel := 3+r.IntN(4), 1+r.IntN(3)
		in, out := 1+r.IntN(2), 1+r.IntN(2)
		size := plane - kernel + 1
		r.in(r.of(tensor.F32, 1, in, plane, plane), r.of(tensor.F32, out, in, kernel, kernel), r.of(tensor.F32, 1, 2*kernel*kernel, size, size))
		r.optional(r.of(tensor.F32, out))
		r.optional(r.within(tensor.F32, 0, 1, 1, kernel*kernel, size, size))
		r.c.loose = 1e-4
	}, "DeformConv")
}
