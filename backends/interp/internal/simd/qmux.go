package simd

import "unsafe"

// QMux is a piece of a convolution of bytes with one weight per kernel slice: for
// some patches of the input, each of one pixel or of two by two, and some blocks
// of 16 output channels. A patch is four rows of four pixels, for each
// quad of four channels 64 bytes in the order row, column, channel. Weights are,
// for each block and quad, 64 places and 64 weights in the order output,
// channel: what each output takes from the patch of the first pixel. The places of
// the other pixels are 4, 16 and 20 bytes on.
//
//	acc[o] = (Σ x[place[o][c]] · w[o][c]) · 2^Shift + bias[o]
//	y[o] = max(Least, min(Most, round_half_even(acc[o] · scale[o]))) + Zero
//
// acc is an i32; x is unsigned, w signed; the product with the scale is one in float64,
// and must lie within an i32.
//
// The assembly knows the words of this struct by their order.
type QMux struct {
	X           unsafe.Pointer // of the first quad of the first patch; patches are 64 bytes apart
	XStep       int            // bytes between quads
	Quads       int            // at least 1
	W           unsafe.Pointer
	Blocks      int            // at least 1
	Bias        unsafe.Pointer // 16 int32s for each block
	Scale       unsafe.Pointer // 16 float64s
	Shift, Zero int
	Least, Most int
	YStep       int // bytes between blocks
	// Y is where the 16 results go of each pixel of each patch. They are written
	// from the last pixel to the first, so pixels that are not wanted may go where a wanted one before them goes.
	Y [QMuxPixels]unsafe.Pointer
}

// QMuxPixels is the most pixels of a QMux.
const QMuxPixels = 24

// QMuxPatches returns the most patches of so many pixels, 1 or 4, that QMux
// computes at once; 0 if this set cannot.
func (s *Set) QMuxPatches(pixels int) int { return len(s.qmux[pixels/4]) }

// QMux computes some patches of 1 or 4 pixels.
func (s *Set) QMux(patches, pixels int, m *QMux) {
	s.qmux[pixels/4][patches-1]((*uint64)(unsafe.Pointer(m)))
}

// Patches makes n patches, of 16 channels each, of rows of pixels whose 16 channels lie beside
// each other and that are row bytes apart: the first patch from src on, the next
// srcStep bytes on. Patches are 64 bytes apart in dst, and quads dstStep.
func (s *Set) Patches(n int, dst unsafe.Pointer, dstStep int, src unsafe.Pointer, srcStep, row int) {
	if n > 0 {
		s.patches(n, (*uint8)(dst), dstStep, (*uint8)(src), srcStep, row)
	}
}
