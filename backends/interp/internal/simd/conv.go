package simd

import (
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

// Block is how many channels lie beside each other in blocked layout, which is
// how many output channels a vector of weights holds.
const Block = 16

// Tile is a piece of a convolution: for some blocks of 16 output channels and
// some pixels that lie at equal distances, the sums over k taps in order with
// fused multiply-adds, from +0 or from what Y holds; then, as Flags say and in this order:
// + bias, (x − mean)·scale + shift, + another array, the clamp. Distances are in bytes.
//
//	y[b][p][l] = Σ_k w[b][k][l] · x[off(k) + p·Dist]             Conv
//	y[b][p][l] = Σ_k w[b][k][l] · x[off(k) + p·Dist + l]         Depthwise
//
// The assembly knows the words of this struct by their order.
type Tile struct {
	X, W, Y       unsafe.Pointer
	Off           *int // K distances: the first from X, then each from that of the tap before
	K             int
	Dist          int // of the input of neighbouring pixels
	WBlock        int // of the weights of neighbouring blocks: a block is K rows of 16
	YBlock, YDist int // of the results of neighbouring blocks and pixels
	Flags         int
	Bias          unsafe.Pointer // 16 floats for each block; so are the next three
	Mean          unsafe.Pointer
	Scale         unsafe.Pointer
	Shift         unsafe.Pointer
	Add           unsafe.Pointer
	AddBlock      int
	AddDist       int
	Lo, Hi        float32
	Zero          int32 // of tiles of bytes, as is Range
	Range         [2]uint8
}

// The parts of a tile that are optional.
const (
	More  = 1 << iota // start from what Y holds
	Bias              // add Bias
	Norm              // normalise with Mean, Scale and Shift
	Add               // add Add
	Clamp             // clamp to Lo and Hi, as Set.Clamp does
)

// ConvPixels returns how many pixels a tile of so many blocks may have; 0 if there is none.
func (s *Set) ConvPixels(blocks int) int {
	if blocks > len(s.conv) {
		return 0
	}
	return len(s.conv[blocks-1])
}

// Conv computes a tile.
func (s *Set) Conv(blocks, pixels int, t *Tile) {
	s.conv[blocks-1][pixels-1]((*uint64)(unsafe.Pointer(t)))
}

// Depthwise computes a tile of one block in which each output channel has its own
// input channel. It may have as many pixels as a tile of Conv.
func (s *Set) Depthwise(pixels int, t *Tile) { s.depthwise[pixels-1]((*uint64)(unsafe.Pointer(t))) }

// portableTiles is tiles in Go.
func portableTiles(blocks, most int, depthwise bool) []func(*uint64) {
	out := make([]func(*uint64), most)
	for i := range out {
		out[i] = func(t *uint64) { (*Tile)(unsafe.Pointer(t)).run(blocks, i+1, depthwise) }
	}
	return out
}

// vector returns the 16 floats at a distance from p.
func vector(p unsafe.Pointer, at int) *[Block]float32 { return (*[Block]float32)(unsafe.Add(p, at)) }

func (t *Tile) run(blocks, pixels int, depthwise bool) {
	for b := range blocks {
		for p := range pixels {
			var acc [Block]float32
			y := vector(t.Y, b*t.YBlock+p*t.YDist)
			if t.Flags&More != 0 {
				acc = *y
			}
			at := p * t.Dist
			for k, d := range unsafe.Slice(t.Off, t.K) {
				at += d
				w := vector(t.W, b*t.WBlock+k*4*Block)
				if depthwise {
					x := vector(t.X, at)
					for l := range acc {
						acc[l] = f32.FMA(x[l], w[l], acc[l])
					}
					continue
				}
				x := *(*float32)(unsafe.Add(t.X, at))
				for l := range acc {
					acc[l] = f32.FMA(x, w[l], acc[l])
				}
			}
			t.finish(&acc, b, p)
			*y = acc
		}
	}
}

// finish does what follows the sums.
func (t *Tile) finish(acc *[Block]float32, b, p int) {
	param := func(from unsafe.Pointer) *[Block]float32 { return vector(from, b*4*Block) }
	if t.Flags&Bias != 0 {
		for l, v := range param(t.Bias) {
			acc[l] += v
		}
	}
	if t.Flags&Norm != 0 {
		mean, scale, shift := param(t.Mean), param(t.Scale), param(t.Shift)
		for l := range acc {
			acc[l] = f32.FMA(acc[l]-mean[l], scale[l], shift[l])
		}
	}
	if t.Flags&Add != 0 {
		for l, v := range vector(t.Add, b*t.AddBlock+p*t.AddDist) {
			acc[l] += v
		}
	}
	if t.Flags&Clamp != 0 {
		for l, v := range acc {
			acc[l] = clamp(v, t.Lo, t.Hi)
		}
	}
}

// Peak runs n rounds of fused multiply-adds on registers, to measure how fast
// they can be at most, and returns the number of floating-point operations; 0 for portable kernels.
func (s *Set) Peak(n int) int {
	if s.peak == nil {
		return 0
	}
	const sums = 14
	s.peak(n)
	return 2 * sums * s.Lanes * n
}

// PoolMax computes the greatest of the K vectors at the offsets of a tile from
// each of n pixels. A later one counts only if it is greater.
func (s *Set) PoolMax(n int, t *Tile) {
	s.pool(n, t, s.poolMax, func(best, x float32) float32 {
		if x > best {
			return x
		}
		return best
	}, false)
}

// PoolMean computes the sum of the K vectors at the offsets of a tile from each of n
// pixels, in order, divided by Lo.
func (s *Set) PoolMean(n int, t *Tile) {
	s.pool(n, t, s.poolMean, func(sum, x float32) float32 { return sum + x }, true)
}

func (s *Set) pool(n int, t *Tile, f func(n int, t *uint64), add func(a, x float32) float32, mean bool) {
	if f != nil {
		f(n, (*uint64)(unsafe.Pointer(t)))
		return
	}
	for p := range n {
		at := p * t.Dist
		y := vector(t.Y, p*t.YDist)
		for k, d := range unsafe.Slice(t.Off, t.K) {
			at += d
			x := vector(t.X, at)
			if k == 0 {
				*y = *x
				continue
			}
			for l := range y {
				y[l] = add(y[l], x[l])
			}
		}
		if mean {
			for l := range y {
				y[l] = (y[l] + 0) / t.Lo // sums start with +0
			}
		}
	}
}
