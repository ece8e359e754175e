package simd

import (
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

// MuxTap is one product of a sum: where its input lies, in bytes from X, and its weight.
type MuxTap struct {
	Off    int32
	Weight float32
}

// MuxVectors is the most vectors that Mux computes at once.
const MuxVectors = 8

// Mux is a piece of a convolution over planar values whose outputs have few taps,
// each at a place of its own: for some output channels, one after the other,
// and some vectors of pixels,
//
//	y[o][v][l] = Σ_t Weight_t · x[v][Off_t + l]
//
// over the taps t of output o in order with fused multiply-adds, from +0 or from
// what Y holds; then, as Flags say, what follows the sums of a Tile. Distances are in bytes.
//
// The assembly knows the words of this struct by their order.
type Mux struct {
	Taps    unsafe.Pointer             // MuxTaps of all outputs
	Counts  unsafe.Pointer             // int32s: how many taps each output has
	Outs    int                        // at least 1
	X       [MuxVectors]unsafe.Pointer // of the first pixel of each vector
	Y       unsafe.Pointer
	YAt     [MuxVectors]int // of the results of each vector, from Y
	YStep   int             // of the results of the next output
	Flags   int
	Bias    unsafe.Pointer // one float for each output; so are the next three
	Mean    unsafe.Pointer
	Scale   unsafe.Pointer
	Shift   unsafe.Pointer
	Add     unsafe.Pointer
	AddAt   [MuxVectors]int
	AddStep int
	Lo, Hi  float32
	Mask    [8]int32 // with Partial: −1 for the lanes of Y and Add to touch, if there are 8, else 0
	Bits    int      // the same, as bits
	done    [3]int   // how far the parameters, Y and Add are, while a kernel runs
}

// Partial is a part of Mux: only the first lanes of Y and Add are touched.
const Partial = Clamp << 1

// First makes all vectors end after so many lanes, of which there may be 16.
func (m *Mux) First(lanes int) {
	m.Flags |= Partial
	m.Bits = 1<<lanes - 1
	m.Mask = [8]int32{}
	for i := range min(lanes, len(m.Mask)) {
		m.Mask[i] = -1
	}
}

// Mux computes so many vectors. A vector is Lanes pixels, or 8 if half.
func (s *Set) Mux(vectors int, half bool, m *Mux) {
	kernels := s.mux
	if half && s.muxHalf != nil {
		kernels = s.muxHalf
	}
	m.done = [3]int{}
	kernels[vectors-1]((*uint64)(unsafe.Pointer(m)))
}

// portableMux is mux in Go.
func portableMux() []func(*uint64) {
	out := make([]func(*uint64), MuxVectors)
	for i := range out {
		out[i] = func(m *uint64) { (*Mux)(unsafe.Pointer(m)).run(i+1, 8) }
	}
	return out
}

func (m *Mux) run(vectors, lanes int) {
	taps := m.Taps
	for o, n := range unsafe.Slice((*int32)(m.Counts), m.Outs) {
		param := func(list unsafe.Pointer) float32 { return *(*float32)(unsafe.Add(list, 4*o)) }
		list := unsafe.Slice((*MuxTap)(taps), n)
		var sums [MuxVectors][16]float32 // all before any is stored: vectors may overlap
		var bias, mean, scale, shift float32
		if m.Flags&Bias != 0 {
			bias = param(m.Bias)
		}
		if m.Flags&Norm != 0 {
			mean, scale, shift = param(m.Mean), param(m.Scale), param(m.Shift)
		}
		for v := range vectors {
			for l := range lanes {
				if m.Flags&Partial != 0 && m.Bits>>l&1 == 0 {
					break
				}
				y := (*float32)(unsafe.Add(m.Y, o*m.YStep+m.YAt[v]+4*l))
				var sum float32
				if m.Flags&More != 0 {
					sum = *y
				}
				for _, t := range list {
					sum = f32.FMA(t.Weight, *(*float32)(unsafe.Add(m.X[v], int(t.Off)+4*l)), sum)
				}
				if m.Flags&Bias != 0 {
					sum += bias
				}
				if m.Flags&Norm != 0 {
					sum = f32.FMA(sum-mean, scale, shift)
				}
				if m.Flags&Add != 0 {
					sum += *(*float32)(unsafe.Add(m.Add, o*m.AddStep+m.AddAt[v]+4*l))
				}
				if m.Flags&Clamp != 0 {
					sum = clamp(sum, m.Lo, m.Hi)
				}
				sums[v][l] = sum
			}
		}
		for v := range vectors {
			for l, sum := range sums[v][:lanes] {
				if m.Flags&Partial == 0 || m.Bits>>l&1 != 0 {
					*(*float32)(unsafe.Add(m.Y, o*m.YStep+m.YAt[v]+4*l)) = sum
				}
			}
		}
		taps = unsafe.Add(taps, len(list)*int(unsafe.Sizeof(MuxTap{})))
	}
}
