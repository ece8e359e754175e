package simd

import (
	"math"
	"unsafe"
)

// A Tile of bytes is a piece of a convolution of integers: u8 inputs with i8 weights. A step adds the products of
// four bytes to the i32 sums, which wrap:
//
//	sum[b][p][l] = bias[b][l] + Σ_k Σ_i w[b][k][l][i] · x[off(k) + p·Dist + i]         Bytes
//	sum[b][p][l] = bias[b][l] + Σ_k Σ_i w[b][k][l][i] · x[off(k) + p·Dist + 16·i + l]  BytesDepthwise
//
// In the second the four are neighbouring pixels. Weights are i16 where Set.ByteWords says so. Bias has 16 int32 for each block. Then
//
//	y = clamp(round(sum·Scale + 1.5·2²³) as an integer + Zero, Range[0], Range[1])
//
// where the f32 product and sum are rounded once: so Zero is the zero point less RoundingBits,
// and the rounding is that to the nearest whole number, ties to even, if the sum fits 24 bits and the
// product 22. No other flags than Sums and, where weights are i16, Add count: then sums start from the
// i32 sums at Add, 16 for each pixel after each other, instead of Bias.

// Sums is the flag of a Tile of bytes whose i32 sums are stored instead of bytes.
// Kernels for which Set.ByteSums is true know nothing else.
const Sums = 1 << 5

// RoundingOffset is 1.5·2²³, at which floats are whole numbers, and RoundingBits its bits as an integer.
const (
	RoundingOffset = 1.5 * (1 << 23)
	RoundingBits   = 0x4b400000
)

// ByteRow is the parameters of the element-wise kernels on bytes. Each uses
// some of them; the assembly knows their order.
type ByteRow struct {
	Mult    unsafe.Pointer // 16 floats
	Lo, Hi  float32        // the least and greatest result less Zero: see Limit
	Zero    int32
	_       int32
	Scale   float32
	_       int32
	Factors [2]int32
	Sum     int32 // added to the products
	Half    int32 // 2^(Shift−1) − 1
	Shift   int64

	rounded [2]float32 // Lo and Hi plus RoundingOffset
}

// Limit sets the range of results less the zero point, and the zero point.
func (p *ByteRow) Limit(lo, hi, zero int64) {
	p.Lo, p.Hi, p.Zero = float32(lo), float32(hi), int32(zero)
	p.rounded = [2]float32{p.Lo + RoundingOffset, p.Hi + RoundingOffset}
}

// bytes is the kernels of a set for integers of 8 bits.
type byteKernels struct {
	conv       [][]func(t *uint64) // by blocks and pixels, both less one
	depthwise  []func(t *uint64)   // by pixels less one
	pairs      []func(t *uint64)   // by pairs of pixels less one
	turns      int                 // so many tiles after each other are one; 0: one
	words      bool
	maxTiles   []func(t *uint64) // by pixels less one
	gather     []func(g *uint64) // by sources less one
	sums       bool
	peak       func(n int)
	requantise func(n int, dst *uint8, src *int32, p *uint64)
	wide       func(n int, dst *uint8, src *int32, p *uint64)
	toFloats   func(n int, dst *float32, src *int32, p *uint64)
	quantise   func(n int, dst *uint8, src *float32, p *uint64)
	quantise4  func(n int, dst *uint8, a, b, c, d *float32, p *uint64)
	dequantise func(n int, dst *float32, src *uint8, p *uint64)
	add        func(n int, dst *uint8, a, b *uint8, p *uint64)
	sum        func(n int, dst *int32, src *uint8, p *uint64)
	max        func(n int, dst *uint8, a, b *uint8, p *uint64)
	lookup     func(n int, dst *uint8, src, table *uint8, p *uint64)
}

func (p *ByteRow) words() *uint64 { return (*uint64)(unsafe.Pointer(p)) }

// ByteSums reports whether tiles of bytes always store sums.
func (s *Set) ByteSums() bool { return s.bytes.sums }

// ByteWords reports whether the weights of tiles of bytes are i16.
func (s *Set) ByteWords() bool { return s.bytes.words }

// BytePixels returns how many pixels a tile of bytes of so many blocks may have; 0 if there is none.
func (s *Set) BytePixels(blocks int) int {
	if blocks > len(s.bytes.conv) {
		return 0
	}
	return len(s.bytes.conv[blocks-1]) * max(1, s.bytes.turns)
}

// ByteDepthwisePixels returns how many pixels a depthwise tile of bytes may
// have, and how many of paired pixels, 0 if there is no such tile.
func (s *Set) ByteDepthwisePixels() (single, paired int) {
	turns := max(1, s.bytes.turns)
	return len(s.bytes.depthwise) * turns, 2 * len(s.bytes.pairs) * turns
}

// Bytes computes a tile.
func (s *Set) Bytes(blocks, pixels int, t *Tile) {
	t.inTurns(pixels, 1, s.bytes.conv[blocks-1])
}

// inTurns computes a tile by several of kernels, whose numbers of pixels are multiples of unit.
func (t *Tile) inTurns(pixels, unit int, kernels []func(*uint64)) {
	most := unit * len(kernels)
	if pixels <= most {
		kernels[pixels/unit-1]((*uint64)(unsafe.Pointer(t)))
		return
	}
	x, y, add := t.X, t.Y, t.Add
	for at := 0; at < pixels; at += most {
		t.X, t.Y = unsafe.Add(x, at*t.Dist), unsafe.Add(y, at*t.YDist)
		if t.Flags&Add != 0 {
			t.Add = unsafe.Add(add, at*4*Block)
		}
		kernels[min(most, pixels-at)/unit-1]((*uint64)(unsafe.Pointer(t)))
	}
	t.X, t.Y, t.Add = x, y, add
}

// BytesDepthwise computes a tile of one block in which each output channel has its own
// input channel. It reads 64 bytes for every pixel and step.
func (s *Set) BytesDepthwise(pixels int, t *Tile) {
	t.inTurns(pixels, 1, s.bytes.depthwise)
}

// BytesPairs is BytesDepthwise with Dist 16 and an even number of pixels. Every step has two vectors of
// weights, for the first and for the second pixel of each pair, and both
// meet the bytes of the first.
func (s *Set) BytesPairs(pixels int, t *Tile) {
	t.inTurns(pixels, 2, s.bytes.pairs)
}

// BytesMax computes a tile of at most 8 pixels whose bytes are the greatest of the taps' bytes: X, Y,
// Off, K, Dist and YDist count. K is not 0.
func (s *Set) BytesMax(pixels int, t *Tile) {
	s.bytes.maxTiles[pixels-1]((*uint64)(unsafe.Pointer(t)))
}

// BytePeak runs n rounds of products of bytes on registers, and returns the number of
// multiply-adds; 0 where the CPU has no such instruction.
func (s *Set) BytePeak(n int) int {
	if s.bytes.peak == nil {
		return 0
	}
	s.bytes.peak(n)
	return 14 * 64 * n
}

// portableBytes is the kernels in Go.
var portableBytes = byteKernels{
	conv:      portableByteTiles(2, 4, byteDense),
	depthwise: portableByteTiles(1, 4, byteDepthwise)[0],
	maxTiles:  portableByteTiles(1, 8, byteMax)[0],
	sums:      true,
}

type byteForm uint8

const (
	byteDense byteForm = iota
	byteDepthwise
	bytePairs
	byteMax
)

func portableByteTiles(blocks, most int, form byteForm) [][]func(*uint64) {
	out := make([][]func(*uint64), blocks)
	for b := range out {
		for p := range most {
			out[b] = append(out[b], func(t *uint64) { (*Tile)(unsafe.Pointer(t)).runBytes(b+1, p+1, form) })
		}
	}
	return out
}

func (t *Tile) runBytes(blocks, pixels int, form byteForm) {
	step := 64
	if form == bytePairs {
		step = 128
	}
	for b := range blocks {
		for p := range pixels {
			at, from := p*t.Dist, 0
			if form == byteMax {
				t.greatest(at, (*[Block]uint8)(unsafe.Add(t.Y, p*t.YDist)))
				continue
			}
			acc := *(*[Block]int32)(unsafe.Add(t.Bias, b*64))
			if t.Flags&Add != 0 {
				acc = *(*[Block]int32)(unsafe.Add(t.Add, p*64))
			}
			if form == bytePairs {
				at, from = p&^1*t.Dist, p%2*64
			}
			for k, d := range unsafe.Slice(t.Off, t.K) {
				at += d
				w := (*[4 * Block]int8)(unsafe.Add(t.W, b*t.WBlock+k*step+from))
				if form == byteDense {
					x := *(*[4]uint8)(unsafe.Add(t.X, at))
					for l := range acc {
						v := w[4*l:][:4]
						acc[l] += int32(x[0])*int32(v[0]) + int32(x[1])*int32(v[1]) + int32(x[2])*int32(v[2]) + int32(x[3])*int32(v[3])
					}
					continue
				}
				x := (*[4 * Block]uint8)(unsafe.Add(t.X, at))
				for l := range acc {
					for i := range 4 {
						acc[l] += int32(x[i*Block+l]) * int32(w[4*l+i])
					}
				}
			}
			y := unsafe.Add(t.Y, b*t.YBlock+p*t.YDist)
			if t.Flags&Sums != 0 {
				*(*[Block]int32)(y) = acc
				continue
			}
			mult := (*[Block]float32)(unsafe.Add(t.Scale, b*64))
			out := (*[Block]uint8)(y)
			for l, a := range acc {
				out[l] = t.byteOf(a, mult[l])
			}
		}
	}
}

// greatest sets out to the greatest bytes of the taps.
func (t *Tile) greatest(at int, out *[Block]uint8) {
	clear(out[:])
	for _, d := range unsafe.Slice(t.Off, t.K) {
		at += d
		for l, v := range *(*[Block]uint8)(unsafe.Add(t.X, at)) {
			out[l] = max(out[l], v)
		}
	}
}

// byteOf requantises a sum that fits 24 bits: in f64, where the product is exact,
// which rounds as the single rounding of the assembly does.
func (t *Tile) byteOf(sum int32, mult float32) uint8 {
	q := int32(math.RoundToEven(float64(sum)*float64(mult))) + t.Zero + RoundingBits
	return uint8(max(int32(t.Range[0]), min(int32(t.Range[1]), q)))
}

// Requantise sets n vectors of 16 bytes dst = clamp(round_half_even(sum·Mult), Lo, Hi) + Zero; wide
// if sums may be beyond 24 bits, up to 29.
func (s *Set) Requantise(dst []uint8, sums []int32, p *ByteRow, wide bool) {
	n := len(sums) / Block
	dst = dst[:n*Block]
	if n == 0 {
		return
	}
	f := s.bytes.requantise
	if wide {
		f = s.bytes.wide
	}
	if f != nil {
		f(n, &dst[0], &sums[0], p.words())
		return
	}
	mult := (*[Block]float32)(p.Mult)
	for i, a := range sums[:n*Block] {
		q := math.RoundToEven(float64(a) * float64(mult[i%Block]))
		dst[i] = uint8(int32(max(float64(p.Lo), min(float64(p.Hi), q))) + p.Zero)
	}
}

// SumsToFloats sets dst to the sums, rounded to floats, times Mult.
func (s *Set) SumsToFloats(dst []float32, sums []int32, p *ByteRow) {
	n := len(sums) / Block
	dst = dst[:n*Block]
	if n == 0 {
		return
	}
	if s.bytes.toFloats != nil {
		s.bytes.toFloats(n, &dst[0], &sums[0], p.words())
		return
	}
	mult := (*[Block]float32)(p.Mult)
	for i, a := range sums[:n*Block] {
		dst[i] = float32(a) * mult[i%Block]
	}
}

// Quantise sets dst = clamp(round_half_even(x / Scale), Lo, Hi) + Zero; NaN becomes Lo.
func (s *Set) Quantise(dst []uint8, x []float32, p *ByteRow) {
	x = x[:len(dst)]
	n := 0
	if s.bytes.quantise != nil && len(dst) >= Block {
		s.bytes.quantise(len(dst)/Block, &dst[0], &x[0], p.words())
		n = len(dst) / Block * Block
	}
	for i := n; i < len(dst); i++ {
		dst[i] = p.byteOf(x[i])
	}
}

func (p *ByteRow) byteOf(x float32) uint8 {
	q := float32(math.RoundToEven(float64(float32(x / p.Scale))))
	if !(q > p.Lo) {
		q = p.Lo
	} else if q > p.Hi {
		q = p.Hi
	}
	return uint8(int32(q) + p.Zero)
}

// Quantise4 is Quantise of four rows at once, whose bytes come to lie beside each other.
func (s *Set) Quantise4(dst []uint8, rows *[4][]float32, p *ByteRow) {
	count := len(dst) / 4
	n := 0
	if s.bytes.quantise4 != nil && count >= Block {
		s.bytes.quantise4(count/Block, &dst[0], &rows[0][0], &rows[1][0], &rows[2][0], &rows[3][0], p.words())
		n = count / Block * Block
	}
	for i := n; i < count; i++ {
		for j, row := range rows {
			dst[4*i+j] = p.byteOf(row[i])
		}
	}
}

// Dequantise sets dst = (x − Zero)·Scale.
func (s *Set) Dequantise(dst []float32, x []uint8, p *ByteRow) {
	x = x[:len(dst)]
	n := 0
	if s.bytes.dequantise != nil && len(dst) >= Block {
		s.bytes.dequantise(len(dst)/Block, &dst[0], &x[0], p.words())
		n = len(dst) / Block * Block
	}
	for i := n; i < len(dst); i++ {
		dst[i] = float32(int32(x[i])-p.Zero) * p.Scale
	}
}

// AddBytes sets dst = clamp(round_half_even((a·Factors[0] + b·Factors[1] + Sum) / 2^Shift), Lo, Hi) + Zero.
func (s *Set) AddBytes(dst, a, b []uint8, p *ByteRow) {
	a, b = a[:len(dst)], b[:len(dst)]
	n := 0
	if s.bytes.add != nil && len(dst) >= Block {
		s.bytes.add(len(dst)/Block, &dst[0], &a[0], &b[0], p.words())
		n = len(dst) / Block * Block
	}
	for i := n; i < len(dst); i++ {
		v := int32(a[i])*p.Factors[0] + int32(b[i])*p.Factors[1] + p.Sum
		v = (v + p.Half + v>>p.Shift&1) >> p.Shift
		dst[i] = uint8(max(int32(p.Lo), min(int32(p.Hi), v)) + p.Zero)
	}
}

// SumBytes adds the pixels of 16 channels in x to sum.
func (s *Set) SumBytes(sum *[Block]int32, x []uint8) {
	n := len(x) / Block
	if n == 0 {
		return
	}
	if s.bytes.sum != nil {
		s.bytes.sum(n, &sum[0], &x[0], nil)
		return
	}
	for i, v := range x[:n*Block] {
		sum[i%Block] += int32(v)
	}
}

// MaxBytes sets dst to the greater of a and b.
func (s *Set) MaxBytes(dst, a, b []uint8) {
	a, b = a[:len(dst)], b[:len(dst)]
	n := 0
	if s.bytes.max != nil && len(dst) >= 64 {
		s.bytes.max(len(dst)/64, &dst[0], &a[0], &b[0], nil)
		n = len(dst) &^ 63
	}
	for i := n; i < len(dst); i++ {
		dst[i] = max(a[i], b[i])
	}
}

// LookupBytes sets dst = table[x].
func (s *Set) LookupBytes(dst, x []uint8, table *[256]uint8) {
	x = x[:len(dst)]
	n := 0
	if s.bytes.lookup != nil && len(dst) >= 64 {
		s.bytes.lookup(len(dst)/64, &dst[0], &x[0], &table[0], nil)
		n = len(dst) &^ 63
	}
	for i := n; i < len(dst); i++ {
		dst[i] = table[x[i]]
	}
}
