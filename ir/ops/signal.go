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

// maxDFT bounds the length of a Fourier transform, whose sums are evaluated directly.
const maxDFT = 1 << 14

// dft returns the first bins values Σ_t x[t]·e^(∓2πi·k·t/n), in f64, added in
// the order of t; the inverse is divided by n. x holds n complex numbers.
func dft(x []complex128, bins int, inverse bool) []complex128 {
	n := len(x)
	turns := make([]complex128, n)
	for i := range turns {
		a := float64(2*math.Pi*float64(i)) / float64(n)
		turns[i] = complex(f32.Cos64(a), -f32.Sin64(a))
		if 4*i%n == 0 { // exact where it can be
			turns[i] = [4]complex128{1, -1i, -1, 1i}[4*i/n]
		}
		if inverse {
			turns[i] = complex(real(turns[i]), -imag(turns[i]))
		}
	}
	out := make([]complex128, bins)
	for k := range out {
		re, im := 0.0, 0.0
		for t, v := range x {
			w := turns[k*t%n]
			re += float64(real(v)*real(w)) - float64(imag(v)*imag(w))
			im += float64(real(v)*imag(w)) + float64(imag(v)*real(w))
		}
		if inverse {
			re, im = re/float64(n), im/float64(n)
		}
		out[k] = complex(re, im)
	}
	return out
}

// dftBins returns how many values of a transform of length n are kept.
func dftBins(n *ir.Node, length ir.Dim) ir.Dim {
	if n.Int("onesided") != 0 && length.Known() {
		return ir.Fixed(length.N/2 + 1)
	} else if n.Int("onesided") != 0 {
		return ir.Unknown
	}
	return length
}

var _ = define(ir.Op{
	Name:  "DFT",
	Doc:   "The discrete Fourier transform along an axis, by its definition in f64. The last axis of input holds the real part, or both parts; that of the output both.",
	Since: 20,
	In:    "input, dft_length?, axis?", Out: "output",
	Attrs: []ir.AttrSpec{
		{Name: "inverse", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: the inverse, divided by the length"},
		{Name: "onesided", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: only the first half of the values and the one after it"},
		{Name: "axis", Kind: ir.IntAttr, Doc: "the axis, before opset 20; never present in a graph"},
	},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		if err := needInts(n, 1, 2); err != nil {
			return nil, err
		}
		if n.Int("inverse") != 0 && n.Int("onesided") != 0 {
			return nil, errors.New("the inverse cannot be onesided")
		}
		in := n.In[0].Type
		a, ok := int64(-2), true
		if n.Input(2) != nil {
			a, ok = knownInt(n, 2)
		}
		if in.Unranked || in.Rank() < 2 {
			return types(ir.UnrankedType(in.Elem))
		}
		if !ok {
			return types(ir.TensorType(in.Elem, append(unknownDims(in.Rank()-1), ir.Fixed(2))...))
		}
		axis, err := axisOf(int(a), in.Rank())
		if err != nil {
			return nil, err
		}
		if last := in.Dims[in.Rank()-1]; axis == in.Rank()-1 || last.Known() && last.N != 1 && last.N != 2 {
			return nil, fmt.Errorf("input is %v, axis %d; its last axis must have size 1 or 2 and be another", in, axis)
		}
		dims := slices.Clone(in.Dims)
		if n.Input(1) != nil {
			dims[axis] = ir.Unknown
			if k, ok := knownInt(n, 1); ok {
				dims[axis] = dimOf(k)
			}
		}
		dims[axis] = dftBins(n, dims[axis])
		dims[len(dims)-1] = ir.Fixed(2)
		return types(ir.TensorType(in.Elem, dims...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		x := in[0]
		a := int64(-2)
		if len(in) > 2 && in[2] != nil && in[2].Len() == 1 {
			a = in[2].Int64s()[0]
		}
		axis, err := axisOf(int(a), x.Rank())
		if err != nil {
			return nil, err
		}
		parts := 0
		if x.Rank() > 0 {
			parts = x.Shape()[x.Rank()-1]
		}
		if axis == x.Rank()-1 || parts != 1 && parts != 2 {
			return nil, fmt.Errorf("input is %v, axis %d", ir.TypeOf(x), axis)
		}
		have := x.Shape()[axis]
		length := have
		if len(in) > 1 && in[1] != nil && in[1].Len() == 1 {
			length = int(in[1].Int64s()[0])
		}
		if length < 1 || length > maxDFT {
			return nil, fmt.Errorf("the length is %d, expected 1 to %d", length, maxDFT)
		}
		bins := dftBins(n, ir.Fixed(length)).N
		shape := slices.Clone(x.Shape())
		shape[axis], shape[len(shape)-1] = bins, 2
		y, err := alloc[float64](shape...)
		if err != nil {
			return nil, err
		}
		v := x.Float64s()
		outer, _, inner := splitAt(x.Shape(), axis)
		inner /= parts
		line := make([]complex128, length)
		for o := range outer {
			for i := range inner {
				clear(line)
				for t := range min(length, have) {
					at := ((o*have+t)*inner + i) * parts
					if line[t] = complex(v[at], 0); parts == 2 {
						line[t] = complex(v[at], v[at+1])
					}
				}
				for k, c := range dft(line, bins, n.Int("inverse") != 0) {
					at := ((o*bins+k)*inner + i) * 2
					y[at], y[at+1] = real(c), imag(c)
				}
			}
		}
		return one(cast(tensor.Of(y, shape...), x.Elem()))
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		if opset >= 20 {
			return nil
		}
		axis := int64(1)
		if n.HasAttr("axis") {
			axis = int64(n.Int("axis"))
		}
		r.SetInput(n, 2, r.Const(n.Out[0].Name+"_axis", tensor.Scalar(axis)))
		r.DeleteAttr(n, "axis")
		return nil
	},
	Export: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		axis := int64(-2)
		if n.Input(2) != nil {
			var ok bool
			if axis, ok = knownInt(n, 2); !ok {
				return fmt.Errorf("axis must be constant at opset %d", opset)
			}
			r.SetInputs(n, n.In[:2]...)
		}
		k, err := axisOf(int(axis), n.In[0].Type.Rank())
		if err != nil || opset < 17 {
			return fmt.Errorf("a transform of %v cannot be written at opset %d", n.In[0].Type, opset)
		}
		r.SetAttr(n, "axis", k)
		return nil
	},
})

var _ = define(ir.Op{
	Name:  "STFT",
	Doc:   "Fourier transforms of frames of a signal [batch, length, 1 or 2], a frame beginning every frame_step; the output is [batch, frames, bins, 2].",
	Since: 17,
	In:    "signal, frame_step, window?, frame_length?", Out: "output",
	Attrs: []ir.AttrSpec{{Name: "onesided", Kind: ir.IntAttr, Flag: true, Default: int64(1), Doc: "1: only the first half of the values and the one after it"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0, 2); err != nil {
			return nil, err
		}
		if err := needInts(n, 1, 3); err != nil {
			return nil, err
		}
		if err := wantRank(n, 0, 3); err != nil {
			return nil, err
		}
		in := n.In[0].Type
		dims := unknownDims(3)
		if !in.Unranked {
			dims[0] = in.Dims[0]
			frame := in.Dims[1]
			if n.Input(3) != nil || n.Input(2) != nil {
				frame = ir.Unknown
			}
			if k, ok := knownInt(n, 3); ok {
				frame = dimOf(k)
			} else if w := n.Input(2); n.Input(3) == nil && w != nil && w.Type.Rank() == 1 {
				frame = w.Type.Dims[0]
			}
			dims[2] = dftBins(n, frame)
			if step, ok := knownInt(n, 1); ok && frame.Known() && in.Dims[1].Known() {
				if step < 1 || frame.N > in.Dims[1].N {
					return nil, fmt.Errorf("frames of %v every %d in %v", frame, step, in)
				}
				dims[1] = ir.Fixed(1 + int(int64(in.Dims[1].N-frame.N)/step))
			}
		}
		return types(ir.TensorType(in.Elem, append(dims, ir.Fixed(2))...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := in[0].Shape()
		if len(s) != 3 || s[2] != 1 && s[2] != 2 || in[1].Len() != 1 {
			return nil, fmt.Errorf("signal is %v, frame_step %v", ir.TypeOf(in[0]), ir.TypeOf(in[1]))
		}
		frame, step := int64(s[1]), in[1].Int64s()[0]
		var window []float64
		if len(in) > 2 && in[2] != nil {
			window = in[2].Float64s()
			frame = int64(len(window))
		}
		if len(in) > 3 && in[3] != nil && in[3].Len() == 1 {
			frame = in[3].Int64s()[0]
		}
		if frame < 1 || frame > min(maxDFT, int64(s[1])) || step < 1 || window != nil && int64(len(window)) != frame {
			return nil, fmt.Errorf("frames of %d every %d in %v", frame, step, ir.TypeOf(in[0]))
		}
		frames, bins := 1+int((int64(s[1])-frame)/step), dftBins(n, ir.Fixed(int(frame))).N
		shape := []int{s[0], frames, bins, 2}
		y, err := alloc[float64](shape...)
		if err != nil {
			return nil, err
		}
		x, line := in[0].Float64s(), make([]complex128, frame)
		for b := range s[0] {
			for f := range frames {
				for t := range line {
					at := (b*s[1] + f*int(step) + t) * s[2]
					re, im := x[at], 0.0
					if s[2] == 2 {
						im = x[at+1]
					}
					if window != nil {
						re, im = re*window[t], im*window[t]
					}
					line[t] = complex(re, im)
				}
				for k, c := range dft(line, bins, false) {
					at := ((b*frames+f)*bins + k) * 2
					y[at], y[at+1] = real(c), imag(c)
				}
			}
		}
		return one(cast(tensor.Of(y, shape...), in[0].Elem()))
	},
})

var _ = define(ir.Op{
	Name:  "MelWeightMatrix",
	Doc:   "The matrix [dft_length/2 + 1, num_mel_bins] of triangular filters on the mel scale, computed in f64.",
	Since: 17,
	In:    "num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz", Out: "output",
	Attrs: []ir.AttrSpec{{Name: "output_datatype", Kind: ir.IntAttr, Default: int64(1), Doc: "the element type, as numbered by ONNX"}},
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := needInts(n, 0, 1, 2); err != nil {
			return nil, err
		}
		for i := 3; i < 5; i++ {
			if err := wantFloat(n, i); err != nil {
				return nil, err
			}
		}
		e, err := dtypeOf(n, "output_datatype", tensor.F32)
		if err != nil {
			return nil, err
		}
		dims := unknownDims(2)
		if k, ok := knownInt(n, 1); ok && k >= 0 {
			dims[0] = dimOf(k/2 + 1)
		}
		if k, ok := knownInt(n, 0); ok {
			dims[1] = dimOf(k)
		}
		return types(ir.TensorType(e, dims...))
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		e, err := dtypeOf(n, "output_datatype", tensor.F32)
		if err != nil {
			return nil, err
		}
		for i, t := range in[:5] {
			if t.Len() != 1 {
				return nil, fmt.Errorf("%s is %v, expected one element", portName(n, i), ir.TypeOf(t))
			}
		}
		bins, length, rate := in[0].Int64s()[0], in[1].Int64s()[0], in[2].Int64s()[0]
		if bins < 0 || length < 0 || rate < 1 {
			return nil, fmt.Errorf("%d bins of a transform of %d at a rate of %d", bins, length, rate)
		}
		shape := []int{int(length/2 + 1), int(bins)}
		y, err := alloc[float64](shape...)
		if err != nil {
			return nil, err
		}
		mel := func(hz float64) float64 { return float64(2595 / math.Ln10 * f32.Log64(1+float64(hz/700))) }
		low, high := mel(in[3].Float64s()[0]), mel(in[4].Float64s()[0])
		step := (high - low) / float64(bins+2)
		at := make([]int, bins+2) // the row of each filter's edges
		for i := range at {
			hz := 700 * (f32.Exp64(float64(float64(float64(i)*step)+low)*math.Ln10/2595) - 1)
			row := math.Floor(float64(length+1) * hz / float64(rate))
			if !(row >= 0 && row < float64(shape[0])) {
				return nil, fmt.Errorf("edge %d of the filters lies outside the transform", i)
			}
			at[i] = int(row)
		}
		for i := range int(bins) {
			left, centre, right := at[i], at[i+1], at[i+2]
			for j := left; j <= centre; j++ {
				y[j*int(bins)+i] = 1
				if centre > left {
					y[j*int(bins)+i] = float64(j-left) / float64(centre-left)
				}
			}
			for j := centre; j < right; j++ {
				y[j*int(bins)+i] = float64(right-j) / float64(right-centre)
			}
		}
		return one(cast(tensor.Of(y, shape...), e))
	},
})
