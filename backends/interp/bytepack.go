package interp

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir/tensor"
)

// byteTap is a step of a panel: four channels from c on, or four columns from j on, at row i and column j.
type byteTap struct{ c, i, j int }

// bytePanel is the taps of some blocks of output channels, and their weights:
// 64 for each block and tap.
type bytePanel struct {
	block, blocks int
	taps          []byteTap
	weights       [][]int8 // by block
}

// packedBytes is a byteConv's constants as the kernels want them.
type packedBytes struct {
	panels  []bytePanel
	weights *view // blocks of stride bytes: i8, or i16 where kernels want these
	pairs   *view // the same for pairs of pixels, of 2·stride bytes, where these have a kernel
	stride  int
	bias    *view
	mult    *view
	late    []int64 // the bias where it is added after a shift
	wide    []bool  // by block: sums may not fit 24 bits, or 22 when they are multiplied
}

// matrix returns the weights without their zero point, a row for each output channel.
func (c *byteConv) matrix() []int16 {
	k := c.w.ic / c.w.groups * c.w.kh * c.w.kw
	m := make([]int16, c.w.oc*k)
	switch q := c.weights.Data.Container().(type) {
	case []int8:
		fillMatrix(c, m, q, k)
	case []uint8:
		fillMatrix(c, m, q, k)
	}
	return m
}

func fillMatrix[T int8 | uint8](c *byteConv, m []int16, q []T, k int) {
	for o := range c.w.oc {
		zero, row := int16(c.zeros[o%len(c.zeros)]), m[o*k:(o+1)*k]
		if c.rows[1] == 1 {
			for i, v := range q[o*k : (o+1)*k] {
				row[i] = int16(v) - zero
			}
			continue
		}
		for i := range row {
			row[i] = int16(q[o*c.rows[0]+i*c.rows[1]]) - zero
		}
	}
}

// pack makes panels of at most most blocks.
func (c *byteConv) pack(most, block int, depthwise, pairs bool) *packedBytes {
	w, m := &c.w, c.matrix()
	p := &packedBytes{}
	if depthwise {
		most = 1
	}
	blocks := blocksOf(w.oc)
	c.packRows(p, m, blocks)
	for b := 0; b < blocks; b += most {
		count := min(most, blocks-b)
		p.panels = append(p.panels, bytePanel{block: b, blocks: count, weights: make([][]int8, count)})
	}
	inParallel(c.x.pool.workers, len(p.panels), func(i int) {
		if depthwise || block == 1 {
			c.packColumns(&p.panels[i], m)
		} else {
			c.packChannels(&p.panels[i], m)
		}
	})
	for i := range p.panels {
		p.stride = max(p.stride, 64*len(p.panels[i].taps))
	}
	weights := make([]int8, blocks*p.stride)
	var twice []int8
	if pairs {
		twice = make([]int8, 2*len(weights))
	}
	for i := range p.panels {
		n := &p.panels[i]
		for j, from := range n.weights {
			copy(weights[(n.block+j)*p.stride:], from)
			for t := range len(from) / 64 * b2i(pairs) {
				to := twice[2*((n.block+j)*p.stride+64*t):]
				copy(to[:64], from[64*t:])
				for l := 0; l < 64; l += 4 {
					copy(to[64+l+1:64+l+4], from[64*t+l:])
				}
			}
		}
		n.weights = nil
	}
	words := c.x.set.ByteWords()
	p.weights, p.pairs = weightView(weights, words), weightView(twice, words)
	p.stride *= 1 + b2i(words)
	return p
}

// weightView returns a view of weights, as i16 if that is wanted.
func weightView(w []int8, words bool) *view {
	if !words {
		return &view{base: unsafe.Pointer(unsafe.SliceData(w))}
	}
	wide := make([]int16, len(w))
	for i, x := range w {
		wide[i] = int16(x)
	}
	return &view{base: unsafe.Pointer(unsafe.SliceData(wide))}
}

// inParallel calls f for 0 to n−1 on so many threads.
func inParallel(threads, n int, f func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(threads, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// packRows makes bias and multipliers: the bias takes in what the zero point of the input adds to every sum.
// A channel that gives the same byte whatever its input loses its weights.
func (c *byteConv) packRows(p *packedBytes, m []int16, blocks int) {
	p.bias = newView([]int{blocks * simd.Block}, tensor.I32, planar)
	p.mult = newView([]int{blocks * simd.Block}, tensor.F32, planar)
	bias, mult := make([]int32, blocks*simd.Block), make([]float32, blocks*simd.Block)
	p.bias.base, p.mult.base = unsafe.Pointer(unsafe.SliceData(bias)), unsafe.Pointer(unsafe.SliceData(mult))
	if c.shift > 0 {
		p.late = make([]int64, blocks*simd.Block)
	}
	p.wide = make([]bool, blocks)
	k := len(m) / max(1, c.w.oc)
	for o := range c.w.oc {
		row := m[o*k : (o+1)*k]
		var positive, negative int64
		for _, v := range row {
			below := v & (v >> 15) // v if it is negative, else 0
			negative += int64(below)
			positive += int64(v - below)
		}
		b := int64(0)
		if c.bias != nil {
			b = c.bias[o]
		}
		up := (positive*(255-c.zero)-negative*c.zero)<<c.shift + b
		down := (negative*(255-c.zero)-positive*c.zero)<<c.shift + b
		sum := positive + negative
		mult[o] = c.mult[o%len(c.mult)]
		if q, ok := c.always(down, up, mult[o]); ok {
			clear(row)
			b, sum, up, down, mult[o] = q, 0, q, q, 1
		}
		bias[o] = int32(-c.zero * sum)
		if c.shift > 0 {
			p.late[o] = b
		} else {
			bias[o] += int32(b)
		}
		if up > exactSum || down < -exactSum || float64(max(up, -down))*float64(mult[o]) > exactProduct {
			p.wide[o/simd.Block] = true
		}
	}
}

// exactSum is how far whole numbers are exact in f32, exactProduct how far from
// simd.RoundingOffset f32 has steps of one.
const (
	exactSum     = 1 << 24
	exactProduct = 1<<22 - 1
)

// always returns the result less the zero point of all sums from one to another, if there is only one.
func (c *byteConv) always(from, to int64, mult float32) (int64, bool) {
	if c.floats || from < math.MinInt32 || to > math.MaxInt32 {
		return 0, false
	}
	q := func(sum int64) float64 {
		return max(float64(c.out.Lo), min(float64(c.out.Hi), math.RoundToEven(float64(sum)*float64(mult))))
	}
	return int64(q(from)), q(from) == q(to)
}

// packChannels makes the taps of a panel from four input channels each. What has no
// weights is left out. A weight that does not fit i8, because of its
// zero point, takes what is left of it to a further tap of the same bytes.
func (c *byteConv) packChannels(n *bytePanel, m []int16) {
	w := &c.w
	icg, ocg, area := w.ic/w.groups, w.oc/w.groups, w.kh*w.kw
	o0, o1 := n.block*simd.Block, min((n.block+n.blocks)*simd.Block, w.oc)
	from, to := o0/ocg*icg, ((o1-1)/ocg+1)*icg
	n.reserve((to - from + 3) / 4 * area)
	values, narrow := make([]int16, n.blocks*64), make([]int8, n.blocks*64)
	for ch := from &^ 3; ch < to; ch += 4 {
		for at := range area {
			var any, wide int16
			for o := o0; o < o1; o++ {
				first := o / ocg * icg
				v, b := values[(o-o0)*4:][:4], narrow[(o-o0)*4:][:4]
				if in := ch - first; in >= 0 && in+4 <= icg {
					row := m[(o*icg+in)*area+at:]
					v[0], v[1], v[2], v[3] = row[0], row[area], row[2*area], row[3*area]
				} else {
					for t := range v {
						if v[t] = 0; in+t >= 0 && in+t < icg {
							v[t] = m[(o*icg+in+t)*area+at]
						}
					}
				}
				any |= v[0] | v[1] | v[2] | v[3]
				wide |= (v[0]+128)>>8 | (v[1]+128)>>8 | (v[2]+128)>>8 | (v[3]+128)>>8 // 0 where all fit
				b[0], b[1], b[2], b[3] = int8(v[0]), int8(v[1]), int8(v[2]), int8(v[3])
			}
			tap := byteTap{ch, at / w.kw, at % w.kw}
			switch {
			case wide != 0:
				n.add(tap, values)
			case any != 0:
				n.taps = append(n.taps, tap)
				for b := range n.weights {
					n.weights[b] = append(n.weights[b], narrow[b*64:(b+1)*64]...)
				}
			}
		}
	}
}

// packColumns makes the taps from four neighbouring columns each: of a depthwise convolution, or one of a single channel.
func (c *byteConv) packColumns(n *bytePanel, m []int16) {
	w := &c.w
	o0, o1 := n.block*simd.Block, min((n.block+n.blocks)*simd.Block, w.oc)
	most := 4
	if w.dw > 1 {
		most = 1
	}
	values := make([]int16, n.blocks*64)
	for i := range w.kh {
		for j := 0; j < w.kw; j += most {
			clear(values)
			for o := o0; o < o1; o++ {
				copy(values[(o-o0)*4:], m[(o*w.kh+i)*w.kw+j:][:min(most, w.kw-j)])
			}
			n.add(byteTap{0, i, j}, values)
		}
	}
}

// reserve makes room for the weights of so many taps.
func (n *bytePanel) reserve(taps int) {
	n.taps = make([]byteTap, 0, taps)
	for b := range n.weights {
		n.weights[b] = make([]int8, 0, 64*taps)
	}
}

// add appends a tap, as often as its weights need; what it takes of them is gone from values.
func (n *bytePanel) add(tap byteTap, values []int16) {
	for more := true; more; {
		more = false
		n.taps = append(n.taps, tap)
		for b := range n.weights {
			var row [64]int8
			v := values[b*64:][:64]
			for l, x := range v {
				row[l] = int8(x)
				if x != int16(row[l]) {
					row[l] = int8(min(max(x, math.MinInt8), math.MaxInt8))
					more = true
				}
				v[l] -= int16(row[l])
			}
			n.weights[b] = append(n.weights[b], row[:]...)
		}
	}
}

// offsets returns the distances in bytes from tap to tap.
func (c *byteConv) offsets(n *bytePanel, in *view) []int {
	out := make([]int, len(n.taps))
	before := 0
	for k, t := range n.taps {
		at := t.c/in.block*in.group + t.c%in.block + t.i*c.w.dh*in.row + t.j*c.w.dw*in.block
		out[k], before = at-before, at
	}
	return out
}
