package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The words of simd.Tile, in order.
const (
	tileX = 8 * iota
	tileW
	tileY
	tileOff
	tileK
	tileDist
	tileWBlock
	tileYBlock
	tileYDist
	tileFlags
	tileBias
	tileMean
	tileScale
	tileShift
	tileAdd
	tileAddBlock
	tileAddDist
	tileLimits // two floats
)

// The flags of simd.Tile.
const (
	flagMore = 1 << iota
	flagBias
	flagNorm
	flagAdd
	flagClamp
)

// convTiles writes the tiles of convolutions: for every number of blocks of 16
// output channels, every number of pixels for which the sums fit into registers.
func (v isa) convTiles() {
	pixels := []int{6}
	if v.lanes == 16 {
		pixels = []int{16, 14, 9, 7}
	}
	for i, most := range pixels {
		for p := 1; p <= most; p++ {
			v.convTile(fmt.Sprintf("conv%dx%d", i+1, p), i+1, p, false)
		}
	}
	for p := 1; p <= pixels[0]; p++ {
		v.convTile(fmt.Sprintf("depthwise%d", p), 1, p, true)
	}
	v.pool("poolMax", func(x, acc reg.VecVirtual) { VMAXPS(acc, x, acc) }, false)
	v.pool("poolMean", func(x, acc reg.VecVirtual) { VADDPS(x, acc, acc) }, true)
	v.peak()
}

// conv is what the parts of a tile share.
type conv struct {
	isa
	blocks, pixels int
	t              reg.Register       // the address of the simd.Tile
	acc            [][]reg.VecVirtual // by vector of the blocks, by pixel
}

func (c *conv) vectors() int { return c.blocks * 16 / c.lanes }

// word loads a word of the arguments.
func (c *conv) word(disp int) reg.GPVirtual {
	r := GP64()
	MOVQ(Mem{Base: c.t, Disp: disp}, r)
	return r
}

// blocksAt addresses what belongs to each of up to four blocks that lie a step apart.
type blocksAt struct {
	base         reg.Register
	step, triple reg.Register // triple only with four blocks
}

func (c *conv) blocksAt(base, step reg.Register) blocksAt {
	b := blocksAt{base: base, step: step}
	if c.blocks == 4 {
		t := GP64()
		LEAQ(Mem{Base: step, Index: step, Scale: 2}, t)
		b.triple = t
	}
	return b
}

// mem is the operand for a vector of the blocks.
func (c *conv) mem(b blocksAt, vector int) Mem {
	m := Mem{Base: b.base, Disp: vector * 4 * c.lanes % 64}
	switch vector * c.lanes / 16 {
	case 1:
		m.Index, m.Scale = b.step, 1
	case 2:
		m.Index, m.Scale = b.step, 2
	case 3:
		m.Index, m.Scale = b.triple, 1
	}
	return m
}

// perPixel runs body for every pixel, with base advanced by dist in between.
func (c *conv) perPixel(base, dist reg.Register, body func(p int)) {
	for p := range c.pixels {
		body(p)
		if p+1 < c.pixels {
			ADDQ(dist, base)
		}
	}
}

// pixelAt returns operands for the input of each pixel, made of few registers
// that all move with the taps: a pixel is 0, 1, 2, 4 or 8 distances from one of them.
func (c *conv) pixelAt(x, dist reg.Register) (moving []reg.Register, at []Mem) {
	at = make([]Mem, c.pixels)
	done := make([]bool, c.pixels)
	for p := range at {
		if done[p] {
			continue
		}
		base := x
		if p > 0 { // p − 3 is the pixel of the base before
			r := GP64()
			LEAQ(Mem{Base: dist, Index: dist, Scale: 2}, r)
			ADDQ(moving[len(moving)-1], r)
			base = r
		}
		moving = append(moving, base)
		at[p], done[p] = Mem{Base: base}, true
		for _, s := range []int{1, 2, 4, 8} {
			if p+s < c.pixels && !done[p+s] {
				at[p+s], done[p+s] = Mem{Base: base, Index: dist, Scale: uint8(s)}, true
			}
		}
	}
	return moving, at
}

func (v isa) convTile(name string, blocks, pixels int, depthwise bool) {
	TEXT(name+v.name, NOSPLIT, "func(t *uint64)")
	Pragma("noescape")
	c := &conv{isa: v, blocks: blocks, pixels: pixels}
	c.t = Load(Param("t"), GP64())
	flags := c.word(tileFlags)
	for range c.vectors() {
		row := make([]reg.VecVirtual, pixels)
		for p := range row {
			row[p] = v.vec()
		}
		c.acc = append(c.acc, row)
	}

	TESTQ(U32(flagMore), flags)
	JNZ(LabelRef("more"))
	for _, row := range c.acc {
		for _, a := range row {
			v.zero(a)
		}
	}
	JMP(LabelRef("start"))
	Label("more")
	c.eachOutput(tileY, tileYBlock, tileYDist, func(m Mem, a reg.VecVirtual) { VMOVUPS(m, a) })

	Label("start")
	k := c.word(tileK)
	TESTQ(k, k)
	JZ(LabelRef("bias"))
	off := c.word(tileOff)
	moving, at := c.pixelAt(c.word(tileX), c.word(tileDist))
	w := c.blocksAt(c.word(tileW), c.wordIf(blocks > 1, tileWBlock))
	Label("loop")
	step := GP64()
	MOVQ(Mem{Base: off}, step)
	for _, r := range moving {
		ADDQ(step, r)
	}
	weights := make([]reg.VecVirtual, c.vectors())
	for i := range weights {
		weights[i] = v.vec()
		VMOVUPS(c.mem(w, i), weights[i])
	}
	for p := range pixels {
		switch {
		case depthwise:
			for i, wi := range weights {
				m := at[p]
				m.Disp = i * 4 * v.lanes
				VFMADD231PS(m, wi, c.acc[i][p])
			}
		case v.lanes == 16 && (blocks == 1 || blocks == 4): // no register for the input
			for i, wi := range weights {
				VFMADD231PS_BCST(at[p], wi, c.acc[i][p])
			}
		default:
			x := v.vec()
			VBROADCASTSS(at[p], x)
			for i, wi := range weights {
				VFMADD231PS(wi, x, c.acc[i][p])
			}
		}
	}
	ADDQ(Imm(64), w.base)
	ADDQ(Imm(8), off)
	DECQ(k)
	JNZ(LabelRef("loop"))

	Label("bias")
	flags = c.word(tileFlags)
	c.part("norm", flags, flagBias, func() {
		bias := c.word(tileBias)
		for i, row := range c.acc {
			b := v.vec()
			VMOVUPS(Mem{Base: bias, Disp: 4 * v.lanes * i}, b)
			for _, a := range row {
				VADDPS(b, a, a)
			}
		}
	})
	c.part("add", flags, flagNorm, func() {
		from := [3]reg.Register{c.word(tileMean), c.word(tileScale), c.word(tileShift)}
		for i, row := range c.acc {
			var p [3]reg.VecVirtual
			for j := range p {
				p[j] = v.vec()
				VMOVUPS(Mem{Base: from[j], Disp: 4 * v.lanes * i}, p[j])
			}
			for _, a := range row {
				VSUBPS(p[0], a, a)
				VFMADD213PS(p[2], p[1], a)
			}
		}
	})
	c.part("clamp", flags, flagAdd, func() {
		c.eachOutput(tileAdd, tileAddBlock, tileAddDist, func(m Mem, a reg.VecVirtual) { VADDPS(m, a, a) })
	})
	c.part("store", flags, flagClamp, func() {
		lo, hi := v.vec(), v.vec()
		VBROADCASTSS(Mem{Base: c.t, Disp: tileLimits}, lo)
		VBROADCASTSS(Mem{Base: c.t, Disp: tileLimits + 4}, hi)
		for _, row := range c.acc {
			for _, a := range row { // a NaN stays: the last operand is returned
				VMAXPS(a, lo, a)
				VMINPS(a, hi, a)
			}
		}
	})
	c.eachOutput(tileY, tileYBlock, tileYDist, func(m Mem, a reg.VecVirtual) { VMOVUPS(a, m) })
	VZEROUPPER()
	RET()
}

// part writes a part that only runs with a flag, and the label after it.
func (c *conv) part(next string, flags reg.Register, flag uint32, body func()) {
	TESTQ(U32(flag), flags)
	JZ(LabelRef(next))
	body()
	Label(next)
}

func (c *conv) wordIf(needed bool, disp int) reg.Register {
	if !needed {
		return nil
	}
	return c.word(disp)
}

// eachOutput runs body with the operand for each result in an array like the output.
func (c *conv) eachOutput(base, block, dist int, body func(m Mem, a reg.VecVirtual)) {
	at := c.blocksAt(c.word(base), c.wordIf(c.blocks > 1, block))
	c.perPixel(at.base, c.wordIf(c.pixels > 1, dist), func(p int) {
		for i := range c.acc {
			body(c.mem(at, i), c.acc[i][p])
		}
	})
}

// peak writes n rounds of fused multiply-adds on registers alone: as many at
// once as a tile has, none waiting for another.
func (v isa) peak() {
	TEXT("peak"+v.name, NOSPLIT, "func(n int)")
	n := Load(Param("n"), GP64())
	acc := make([]reg.VecVirtual, peakSums)
	for i := range acc {
		acc[i] = v.vec()
		v.zero(acc[i])
	}
	Label("loop")
	for _, a := range acc {
		VFMADD231PS(acc[0], acc[0], a)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// peakSums is how many sums a round of peak adds to.
const peakSums = 14

// pool writes a kernel that combines vectors at the offsets of a tile, for each
// of n pixels: four at once, so that none waits for the one before.
func (v isa) pool(name string, add func(x, acc reg.VecVirtual), mean bool) {
	TEXT(name+v.name, NOSPLIT, "func(n int, t *uint64)")
	Pragma("noescape")
	n := Load(Param("n"), GP64())
	c := &conv{isa: v, blocks: 1}
	c.t = Load(Param("t"), GP64())
	x, y := c.word(tileX), c.word(tileY)
	dist, yDist := c.word(tileDist), c.word(tileYDist)
	count, zero := v.vec(), v.vec()
	VBROADCASTSS(Mem{Base: c.t, Disp: tileLimits}, count)
	v.zero(zero)
	for _, pixels := range []int{4, 1} {
		label := func(s string) string { return fmt.Sprintf("%s%d", s, pixels) }
		acc := make([]reg.VecVirtual, pixels*c.vectors())
		for i := range acc {
			acc[i] = v.vec()
		}
		each := func(at reg.Register, body func(m Mem, i int)) {
			for i := range acc {
				body(Mem{Base: at, Disp: i % c.vectors() * 4 * v.lanes}, i)
				if (i+1)%c.vectors() == 0 && i+1 < len(acc) {
					ADDQ(dist, at)
				}
			}
		}
		Label(label("pixels"))
		CMPQ(n, Imm(uint64(pixels)))
		JLT(LabelRef(label("end")))
		from, off, k := GP64(), c.word(tileOff), c.word(tileK)
		MOVQ(x, from)
		ADDQ(Mem{Base: off}, from)
		at := GP64()
		MOVQ(from, at)
		each(at, func(m Mem, i int) { VMOVUPS(m, acc[i]) })
		DECQ(k)
		JZ(LabelRef(label("store")))
		Label(label("tap"))
		ADDQ(Imm(8), off)
		ADDQ(Mem{Base: off}, from)
		MOVQ(from, at)
		each(at, func(m Mem, i int) {
			r := v.vec()
			VMOVUPS(m, r)
			add(r, acc[i])
		})
		DECQ(k)
		JNZ(LabelRef(label("tap")))
		Label(label("store"))
		for i, a := range acc {
			if mean {
				VADDPS(zero, a, a) // sums start with +0
				VDIVPS(count, a, a)
			}
			VMOVUPS(a, Mem{Base: y, Disp: i % c.vectors() * 4 * v.lanes})
			if (i+1)%c.vectors() == 0 {
				ADDQ(dist, x)
				ADDQ(yDist, y)
			}
		}
		SUBQ(Imm(uint64(pixels)), n)
		JMP(LabelRef(label("pixels")))
		Label(label("end"))
	}
	VZEROUPPER()
	RET()
}
