package interp

import (
	"cmp"
	"slices"

	"thriftc/ir/tensor"
)

// layOut decides for every result of a kernel where in the arena it lies, and
// after which step each value is dropped. Results lie in the arena unless the
// caller may still hold them after the run: the graph's outputs, and what may
// share memory with them.
func (p *plan) layOut() {
	const never = -1
	last := make([]int, len(p.values)) // the last step that needs the value's memory
	for v := range last {
		last[v] = never
	}
	escapes := make([]bool, len(p.values))
	for _, v := range p.outputs {
		escapes[v], last[v] = true, len(p.steps)
	}
	for i, s := range slices.Backward(p.steps) {
		until, escaping := i, false
		if s.kind != computed {
			for _, pl := range s.out {
				if pl.value >= 0 {
					until = max(until, last[pl.value])
					escaping = escaping || escapes[pl.value]
				}
			}
		}
		for _, v := range s.in {
			if v >= 0 {
				last[v] = max(last[v], until)
				escapes[v] = escapes[v] || escaping
			}
		}
	}
	var blocks []*block
	for i := range p.steps {
		s := &p.steps[i]
		for j := range s.out {
			pl := &s.out[j]
			if pl.value < 0 {
				continue
			}
			until := max(last[pl.value], i)
			if until < len(p.steps) {
				p.steps[until].drop = append(p.steps[until].drop, pl.value)
			}
			if s.kind == computed && pl.elem == tensor.F32 && !escapes[pl.value] {
				if n, err := tensor.NumElems(pl.shape); err == nil && n <= tensor.MaxBytes/4 {
					blocks = append(blocks, &block{from: i, to: until, size: (n + slack + 15) &^ 15, offset: &pl.offset})
				}
			}
		}
	}
	p.arenaLen = pack(blocks)
}

// slack is the floats after a result that kernels may read, though not use.
const slack = 16

// block is a piece of the arena that is in use from one step to another, both included.
type block struct {
	from, to int
	size     int
	offset   *int
}

// pack places blocks so that those in use at the same time do not overlap:
// the largest first, each at the lowest offset that is free. It returns the
// size of the arena.
func pack(blocks []*block) int {
	slices.SortStableFunc(blocks, func(a, b *block) int { return cmp.Compare(b.size, a.size) })
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
