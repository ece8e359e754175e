package simd

import "unsafe"

// Gather picks lanes of vectors from some sources, for N pixels: lane l of the
// result is lane Index[l] of the source whose Mask has bit l. Lanes of no source are
// zero, or stay what they are if More is not 0. Distances are in bytes.
//
// The assembly knows the words of this struct by their order.
type Gather struct {
	Y     unsafe.Pointer
	YDist int
	N     int
	More  int
	From  [GatherSources]GatherSource
}

// GatherSource is where some lanes come from.
type GatherSource struct {
	X     unsafe.Pointer
	Dist  int
	Index *[Block]int32
	Mask  uint64
}

// GatherSources is the most sources of one Gather.
const GatherSources = 4

// Gather computes g, which has so many sources and at least one pixel.
func (s *Set) Gather(sources int, g *Gather) {
	if s.gather != nil {
		s.gather[sources-1]((*uint64)(unsafe.Pointer(g)))
		return
	}
	for p := range g.N {
		y := vector(g.Y, p*g.YDist)
		if g.More == 0 {
			*y = [Block]float32{}
		}
		for _, f := range g.From[:sources] {
			x := vector(f.X, p*f.Dist)
			for l, i := range f.Index {
				if f.Mask>>l&1 != 0 {
					y[l] = x[i]
				}
			}
		}
	}
}

// ByteGather is a Gather of bytes, of which 16 lie beside each other in every pixel of the result.
//
// The assembly knows the words of this struct by their order.
type ByteGather struct {
	Y    unsafe.Pointer
	N    int
	More int
	From [GatherSources]ByteSource
}

// ByteSource is where some bytes come from: byte l of the result is byte Index[l], unless that is NoByte.
type ByteSource struct {
	X     unsafe.Pointer
	Dist  int
	Index *[Block]uint8
}

// NoByte is the index of a byte that a source does not give.
const NoByte = 0x80

// GatherBytes computes g, which has so many sources and at least one pixel. No two sources give the same
// byte, and bytes that are added to what is there are zero there.
func (s *Set) GatherBytes(sources int, g *ByteGather) {
	if s.bytes.gather != nil {
		s.bytes.gather[sources-1]((*uint64)(unsafe.Pointer(g)))
		return
	}
	for p := range g.N {
		y := (*[Block]uint8)(unsafe.Add(g.Y, p*Block))
		if g.More == 0 {
			*y = [Block]uint8{}
		}
		for _, f := range g.From[:sources] {
			x := (*[Block]uint8)(unsafe.Add(f.X, p*f.Dist))
			for l, i := range f.Index {
				if i != NoByte {
					y[l] |= x[i]
				}
			}
		}
	}
}
