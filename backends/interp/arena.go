package interp

import (
	"cmp"
	"slices"
)

// layOut decides where in the arena each result lies, and after which step each
// tensor is dropped.
func (p *plan) layOut() {
	last := make([]int, len(p.slots)) // the last step that needs the slot's memory
	for i := range last {
		last[i] = -1
	}
	for _, o := range p.outputs {
		last[o.slot] = len(p.steps)
	}
	for i, s := range slices.Backward(p.steps) {
		until := i
		if s.kind != computed { // the results may share memory with the inputs
			for _, k := range s.out {
				if k >= 0 {
					until = max(until, last[k])
				}
			}
		}
		for _, k := range s.in {
			if k >= 0 {
				last[k] = max(last[k], until)
			}
		}
	}
	of := make([]*block, len(p.slots)) // the memory of each slot that lies in the arena
	for i := range p.steps {
		s := &p.steps[i]
		for _, k := range s.out {
			if k < 0 {
				continue
			}
			until := max(last[k], i)
			if until < len(p.steps) && s.kind == evaluated {
				p.steps[until].drop = append(p.steps[until].drop, k)
			}
			if p.slots[k].memory == aliased {
				k = p.slots[k].of
			}
			t := &p.slots[k]
			if t.memory != inArena {
				continue
			}
			if of[k] == nil { // parts of a value may be made before it
				of[k] = &block{from: i, size: (t.floats() + 15) &^ 15, offset: &t.offset}
				p.blocks = append(p.blocks, of[k])
			}
			of[k].to = max(of[k].to, until)
		}
		for k := range s.temps {
			t := &s.temps[k]
			p.blocks = append(p.blocks, &block{from: i, to: i, size: (t.view.floats() + 15) &^ 15, offset: &t.offset})
		}
	}
	p.arenaLen = pack(p.blocks)
}

// slack is the floats after the arena that kernels may read, though not use.
const slack = 16

// newFloats returns n floats with slack after them; tests put pages that cannot be
// read or written around them.
var newFloats = func(n int) []float32 { return make([]float32, n, n+slack) }

// block is a piece of the arena that is in use from one step to another, both included.
type block struct {
	from, to int
	size     int
	offset   *int
}

// pack places blocks so that those in use at the same time do not overlap, and
// returns the size of the arena: the best of several orders in which each block
// gets the lowest offset that is free.
func pack(blocks []*block) int {
	peak := busiest(blocks)
	atPeak := func(b *block) int { // blocks in use at the busiest step first
		if b.from <= peak && peak <= b.to {
			return 0
		}
		return 1
	}
	bySize := func(a, b *block) int { return cmp.Compare(b.size, a.size) }
	best := -1
	var offsets []int
	for _, order := range []func(a, b *block) int{
		bySize,
		func(a, b *block) int { return cmp.Or(cmp.Compare(atPeak(a), atPeak(b)), bySize(a, b)) },
		func(a, b *block) int { return cmp.Or(cmp.Compare(atPeak(a), atPeak(b)), cmp.Compare(a.from, b.from)) },
		func(a, b *block) int { return cmp.Compare(b.size*(b.to-b.from+1), a.size*(a.to-a.from+1)) },
		func(a, b *block) int { return cmp.Or(cmp.Compare(a.from, b.from), bySize(a, b)) },
	} {
		sorted := slices.SortedStableFunc(slices.Values(blocks), order)
		if total := place(sorted); best < 0 || total < best {
			best, offsets = total, offsets[:0]
			for _, b := range blocks {
				offsets = append(offsets, *b.offset)
			}
		}
	}
	for i, b := range blocks {
		*b.offset = offsets[i]
	}
	return max(best, 0)
}

// busiest returns the step at which the most memory is in use.
func busiest(blocks []*block) int {
	at, most := 0, 0
	for _, b := range blocks { // the most is in use where some block begins
		live := 0
		for _, q := range blocks {
			if q.from <= b.from && b.from <= q.to {
				live += q.size
			}
		}
		if live > most {
			at, most = b.from, live
		}
	}
	return at
}

// place gives each block the lowest offset that is free and returns the size of the arena.
func place(blocks []*block) int {
	var placed []*block // by offset
	total := 0
	for _, b := range blocks {
		at := 0
		for _, q := range placed {
			if q.to < b.from || b.to < q.from {
				continue
			}
			if at+b.size <= *q.offset {
				break
			}
			at = max(at, *q.offset+q.size)
		}
		*b.offset = at
		total = max(total, at+b.size)
		i, _ := slices.BinarySearchFunc(placed, at, func(q *block, at int) int { return cmp.Compare(*q.offset, at) })
		placed = slices.Insert(placed, i, b)
	}
	return total
}
