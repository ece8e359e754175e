package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// flagSums of simd.Tile: the sums of bytes themselves are stored.
const flagSums = 1 << 5

// The words of simd.Tile after the limits: an int32, and two bytes.
const (
	tileZero  = tileLimits + 8
	tileRange = tileZero + 4
)

// magic is 1.5·2²³: a float of that size has steps of one, so that adding it rounds to whole numbers.
const magic = 0x4b400000

// bytes writes the kernels for integers of 8 bits.
func (v isa) bytes() {
	if v.lanes == 16 {
		for i, most := range []int{14, 14, 9, 6} {
			for p := 1; p <= most; p++ {
				v.byteTile(fmt.Sprintf("byteConv%dx%d", i+1, p), i+1, p, (*byteConv).dense)
			}
		}
		for p := 1; p <= 8; p++ {
			v.byteTile(fmt.Sprintf("byteDepthwise%d", p), 1, p, (*byteConv).depthwise)
		}
		for p := 2; p <= 14; p += 2 {
			v.byteTile(fmt.Sprintf("bytePairs%d", p), 1, p, (*byteConv).pairs)
		}
		v.bytePeak()
	} else {
		for p := 1; p <= 3; p++ {
			v.byteTile(fmt.Sprintf("byteConv1x%d", p), 1, p, (*byteConv).denseWords)
		}
		v.byteTile("byteDepthwise1", 1, 1, (*byteConv).depthwiseWords)
		v.byteTile("bytePairs2", 1, 2, (*byteConv).depthwiseWords)
		for p := 1; p <= 8; p++ {
			v.byteMaxTile(p)
		}
	}
	v.byteRows()
}

// byteConv is what the parts of a tile of bytes share.
type byteConv struct{ conv }

func (v isa) byteTile(name string, blocks, pixels int, sums func(*byteConv)) {
	TEXT(name+v.name, NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	c := &byteConv{conv{isa: v, blocks: blocks, pixels: pixels}}
	c.t = Load(Param("t"), GP64())
	vectors := blocks
	if v.lanes == 8 {
		vectors = 4 // four channels of the output each, in two halves
	}
	for i := range vectors {
		row := make([]reg.VecVirtual, pixels)
		for p := range row {
			row[p] = v.vec()
			if v.lanes == 8 {
				v.zero(row[p])
			} else if p > 0 {
				VMOVDQA32(row[0], row[p])
			} else {
				VMOVDQU32(Mem{Base: c.word(tileBias), Disp: 64 * i}, row[0])
			}
		}
		c.acc = append(c.acc, row)
	}
	k := c.word(tileK)
	TESTQ(k, k)
	JZ(LabelRef("store"))
	sums(c)
	Label("store")
	if v.lanes == 8 {
		c.storeHalves()
		return
	}
	c.storeBytes()
	VZEROUPPER()
	RET()
}

// taps runs body for every step of K, with the input pointers moved to it and
// the weights' pointer, if there is one, moved by size after it.
func (c *byteConv) taps(moving []reg.Register, w reg.Register, size int, body func()) {
	k, off := c.word(tileK), c.word(tileOff)
	Label("loop")
	step := GP64()
	MOVQ(Mem{Base: off}, step)
	for _, r := range moving {
		ADDQ(step, r)
	}
	body()
	if w != nil {
		ADDQ(U32(uint32(size)), w)
	}
	ADDQ(Imm(8), off)
	DECQ(k)
	JNZ(LabelRef("loop"))
}

// dense adds the products of four input channels, broadcast, with 16 output channels.
func (c *byteConv) dense() {
	moving, at := c.pixelAt(c.word(tileX), c.word(tileDist))
	w := c.blocksAt(c.word(tileW), c.wordIf(c.blocks > 1, tileWBlock))
	c.taps(moving, w.base, 64, func() {
		weights := make([]reg.VecVirtual, c.blocks)
		for i := range weights {
			weights[i] = ZMM()
			VMOVDQU32(c.mem(w, i), weights[i])
		}
		for p := range c.pixels {
			x := ZMM()
			VPBROADCASTD(at[p], x)
			for i, wi := range weights {
				VPDPBUSD(wi, x, c.acc[i][p])
			}
		}
	})
}

// byteOrder is the table of order, once it is written.
var byteOrder Mem

// order loads the byte order that takes four pixels of 16 channels to 16
// channels of four pixels.
func (c *byteConv) order() reg.VecVirtual {
	if byteOrder.Base == nil {
		byteOrder = GLOBL("byteOrder", RODATA|NOPTR)
		for i := range 64 {
			DATA(i, U8(i%4*16+i/4))
		}
	}
	order := ZMM()
	VMOVDQU32(byteOrder, order)
	return order
}

// depthwise adds, for every channel, the products of four neighbouring pixels.
func (c *byteConv) depthwise() {
	order := c.order()
	moving, at := c.pixelAt(c.word(tileX), c.word(tileDist))
	w := c.word(tileW)
	c.taps(moving, w, 64, func() {
		wi := ZMM()
		VMOVDQU32(Mem{Base: w}, wi)
		for p := range c.pixels {
			x := ZMM()
			VPERMB(at[p], order, x)
			VPDPBUSD(wi, x, c.acc[0][p])
		}
	})
}

// pairs is depthwise for kernels at most three wide and stride 1: four
// pixels serve two outputs, with the weights one place on for the second.
func (c *byteConv) pairs() {
	order := c.order()
	x := c.word(tileX)
	w := c.word(tileW)
	c.taps([]reg.Register{x}, w, 128, func() {
		w0, w1 := ZMM(), ZMM()
		VMOVDQU32(Mem{Base: w}, w0)
		VMOVDQU32(Mem{Base: w, Disp: 64}, w1)
		for p := 0; p < c.pixels; p += 2 {
			y := ZMM()
			VPERMB(Mem{Base: x, Disp: 16 * p}, order, y)
			VPDPBUSD(w0, y, c.acc[0][p])
			VPDPBUSD(w1, y, c.acc[0][p+1])
		}
	})
}

// storeBytes stores sums, or requantised bytes: a float of a sum times its multiplier plus magic is, as
// an integer, magic plus the rounded product. Packing with saturation limits it to a byte.
func (c *byteConv) storeBytes() {
	TESTQ(U32(flagSums), c.word(tileFlags))
	JZ(LabelRef("requantise"))
	c.eachOutput(tileY, tileYBlock, tileYDist, func(m Mem, a reg.VecVirtual) { VMOVDQU32(a, m) })
	VZEROUPPER()
	RET()

	Label("requantise")
	mult, big := c.word(tileScale), c.roundingOffset()
	for i, row := range c.acc {
		m := ZMM()
		VMOVUPS(Mem{Base: mult, Disp: 64 * i}, m)
		for _, a := range row {
			VCVTDQ2PS(a, a)
			VFMADD213PS(big, m, a)
			VPADDD_BCST(Mem{Base: c.t, Disp: tileZero}, a, a)
		}
	}
	if packOrder.Base == nil {
		packOrder = GLOBL("packOrder", RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(i%4*4+i/4))
		}
	}
	order, lo, hi := ZMM(), ZMM(), ZMM()
	VMOVDQU32(packOrder, order)
	VPBROADCASTB(Mem{Base: c.t, Disp: tileRange}, lo)
	VPBROADCASTB(Mem{Base: c.t, Disp: tileRange + 1}, hi)
	for _, row := range c.acc {
		for p := 0; p < c.pixels; p += 4 { // 16 bytes of each of four pixels
			g := row[p:min(p+4, c.pixels)]
			last := g[len(g)-1]
			if len(g) > 1 {
				VPACKSSDW(g[1], g[0], g[0])
			} else {
				VPACKSSDW(g[0], g[0], g[0])
			}
			other := g[0]
			if len(g) > 2 {
				other = g[2]
				VPACKSSDW(last, g[2], g[2])
			}
			VPACKUSWB(other, g[0], g[0])
			VPERMD(g[0], order, g[0])
			VPMAXUB(lo, g[0], g[0])
			VPMINUB(hi, g[0], g[0])
		}
	}
	dist := c.word(tileYDist)
	CMPQ(dist, Imm(16))
	JNE(LabelRef("apart"))
	y := c.blocksAt(c.word(tileY), c.wordIf(c.blocks > 1, tileYBlock))
	for i, row := range c.acc {
		for p := 0; p < c.pixels; p += 4 {
			m := c.mem(y, i)
			m.Disp += 16 * p
			switch c.pixels - p {
			case 1:
				VMOVDQU32(row[p].AsX(), m)
			case 2:
				VMOVDQU32(row[p].AsY(), m)
			case 3:
				VMOVDQU32(row[p].AsY(), m)
				m.Disp += 32
				VEXTRACTI32X4(Imm(2), row[p], m)
			default:
				VMOVDQU32(row[p], m)
			}
		}
	}
	VZEROUPPER()
	RET()

	Label("apart")
	at := c.blocksAt(c.word(tileY), c.wordIf(c.blocks > 1, tileYBlock))
	c.perPixel(at.base, dist, func(p int) {
		for i, row := range c.acc {
			VEXTRACTI32X4(Imm(uint64(p%4)), row[p&^3], c.mem(at, i))
		}
	})
}

// packOrder puts the double words of packed pixels in order, once it is written.
var packOrder Mem

// roundingOffset returns a vector of magic.
func (v isa) roundingOffset() reg.VecVirtual {
	r, big := GP32(), v.vec()
	MOVL(U32(magic), r)
	if v.lanes == 16 {
		VPBROADCASTD(r, big)
		return big
	}
	VMOVD(r, big.AsX())
	VPBROADCASTD(big.AsX(), big)
	return big
}

// denseWords is dense with 16-bit weights and products: a sum of an output channel lies in two lanes.
func (c *byteConv) denseWords() {
	moving, at := c.pixelAt(c.word(tileX), c.word(tileDist))
	w := c.word(tileW)
	c.taps(moving, w, 128, func() {
		x := make([]reg.VecVirtual, c.pixels)
		for p := range x {
			x[p] = YMM()
			VPBROADCASTD(at[p], x[p].AsX())
			VPMOVZXBW(x[p].AsX(), x[p])
		}
		y := YMM()
		for i := range c.acc {
			for p := range x {
				VPMADDWD(Mem{Base: w, Disp: 32 * i}, x[p], y)
				VPADDD(y, c.acc[i][p], c.acc[i][p])
			}
		}
	})
}

// depthwiseWords is depthwise, or pairs where there are two pixels, with 16-bit weights and products.
func (c *byteConv) depthwiseWords() {
	x, w := c.word(tileX), c.word(tileW)
	c.taps([]reg.Register{x}, w, 128*c.pixels, func() {
		var px [4]reg.VecVirtual
		for j := range px {
			px[j] = XMM()
			VMOVDQU(Mem{Base: x, Disp: 16 * j}, px[j])
		}
		var two [2][2]reg.VecVirtual // pixels 0 and 1, 2 and 3; low and high channels
		for j := range two {
			two[j] = [2]reg.VecVirtual{XMM(), XMM()}
			VPUNPCKLBW(px[2*j+1], px[2*j], two[j][0])
			VPUNPCKHBW(px[2*j+1], px[2*j], two[j][1])
		}
		for i := range c.acc {
			q := YMM()
			if i%2 == 0 {
				VPUNPCKLWD(two[1][i/2], two[0][i/2], q.AsX())
			} else {
				VPUNPCKHWD(two[1][i/2], two[0][i/2], q.AsX())
			}
			VPMOVZXBW(q.AsX(), q)
			for p := range c.pixels {
				y := YMM()
				VPMADDWD(Mem{Base: w, Disp: 128*p + 32*i}, q, y)
				VPADDD(y, c.acc[i][p], c.acc[i][p])
			}
		}
	})
}

// storeHalves joins the two lanes of each channel, adds the bias, and stores the sums or requantised bytes.
func (c *byteConv) storeHalves() {
	each := func(body func(i, p int, a reg.VecVirtual)) {
		for p := range c.pixels {
			for i := 0; i < 4; i += 2 {
				body(i, p, c.acc[i][p])
			}
		}
	}
	each(func(i, p int, a reg.VecVirtual) {
		VPHADDD(c.acc[i+1][p], a, a)
		VPERMQ(Imm(0xd8), a, a)
	})
	TESTQ(U32(flagAdd), c.word(tileFlags))
	JNZ(LabelRef("earlier"))
	bias := c.word(tileBias)
	each(func(i, _ int, a reg.VecVirtual) { VPADDD(Mem{Base: bias, Disp: 16 * i}, a, a) })
	Label("whole")
	y, dist := c.word(tileY), c.word(tileYDist)
	TESTQ(U32(flagSums), c.word(tileFlags))
	JZ(LabelRef("requantise"))
	c.perPixel(y, dist, func(p int) {
		for i := 0; i < 4; i += 2 {
			VMOVDQU(c.acc[i][p], Mem{Base: y, Disp: 16 * i})
		}
	})
	VZEROUPPER()
	RET()

	Label("requantise")
	mult, big, zero := c.word(tileScale), c.roundingOffset(), YMM()
	VPBROADCASTD(Mem{Base: c.t, Disp: tileZero}, zero)
	for i := 0; i < 4; i += 2 {
		m := YMM()
		VMOVUPS(Mem{Base: mult, Disp: 16 * i}, m)
		for _, a := range c.acc[i] {
			VCVTDQ2PS(a, a)
			VFMADD213PS(big, m, a)
			VPADDD(zero, a, a)
		}
	}
	lo, hi := XMM(), XMM()
	VPBROADCASTB(Mem{Base: c.t, Disp: tileRange}, lo)
	VPBROADCASTB(Mem{Base: c.t, Disp: tileRange + 1}, hi)
	c.perPixel(y, dist, func(p int) { // four channels of each half in a lane, put in order at last
		a, other := c.acc[0][p], XMM()
		VPACKSSDW(c.acc[2][p], a, a)
		VPACKUSWB(a, a, a)
		VEXTRACTI128(Imm(1), a, other)
		VPUNPCKLDQ(other, a.AsX(), other)
		VPMAXUB(lo, other, other)
		VPMINUB(hi, other, other)
		VMOVDQU(other, Mem{Base: y})
	})
	VZEROUPPER()
	RET()

	Label("earlier")
	add := c.word(tileAdd)
	each(func(i, p int, a reg.VecVirtual) { VPADDD(Mem{Base: add, Disp: 64*p + 16*i}, a, a) })
	JMP(LabelRef("whole"))
}

// bytePeak writes n rounds of byte products on registers alone.
func (v isa) bytePeak() {
	TEXT("bytePeak"+v.name, NOSPLIT, "func(n int)")
	n := Load(Param("n"), GP64())
	acc := make([]reg.VecVirtual, peakSums)
	for i := range acc {
		acc[i] = v.vec()
		v.zero(acc[i])
	}
	x := v.vec()
	v.zero(x)
	Label("loop")
	for _, a := range acc {
		VPDPBUSD(x, x, a)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// byteMaxTile writes the greatest bytes of taps, of 16 channels. Longer vectors would not help.
func (v isa) byteMaxTile(pixels int) {
	TEXT(fmt.Sprintf("byteMaxTile%d%s", pixels, v.name), NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	c := &byteConv{conv{isa: v, blocks: 1, pixels: pixels}}
	c.t = Load(Param("t"), GP64())
	row := make([]reg.VecVirtual, pixels)
	for p := range row {
		row[p] = XMM()
		VPXOR(row[p], row[p], row[p])
	}
	c.acc = append(c.acc, row)
	moving, at := c.pixelAt(c.word(tileX), c.word(tileDist))
	c.taps(moving, nil, 0, func() {
		for p, a := range row {
			VPMAXUB(at[p], a, a)
		}
	})
	y, dist := c.word(tileY), c.word(tileYDist)
	c.perPixel(y, dist, func(p int) { VMOVDQU(row[p], Mem{Base: y}) })
	RET()
}
