package interp

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Weights that are zero for whole blocks of 16 output channels cost nothing: the
// panels of a convolution have only the taps for which one of their outputs has
// a weight. What pruning leaves in blocks, or input channels that nobody
// uses, is faster by as much as there is less to do. A product that is left
// out is one with zero: it would change a sum only if it were infinity or NaN times zero.

// usedTaps returns, for each block of output channels, for which taps it has
// weights, and the part of all that are used; nil where not enough are left out.
func (w *window) usedTaps(t []float32) (used [][]bool, part float64) {
	if w.groups != 1 || w.places != nil {
		return nil, 1
	}
	const worth = 0.9
	_, rows, k := w.weightRows()
	count, all := 0, k*blocksOf(rows)
	for o := 0; o < rows; o += simd.Block { // the first of each block says quickly that there is no hope
		for _, v := range t[o*k:][:k] {
			count += b2i(v != 0)
		}
	}
	if float64(count) >= worth*float64(all) {
		return nil, 1
	}
	used, count = make([][]bool, blocksOf(rows)), 0
	for b := range used {
		used[b] = make([]bool, k)
		for o := b * simd.Block; o < min((b+1)*simd.Block, rows); o++ {
			for i, v := range t[o*k:][:k] {
				used[b][i] = used[b][i] || v != 0
			}
		}
		for _, u := range used[b] {
			count += b2i(u)
		}
	}
	if part = float64(count) / float64(max(1, all)); part > worth {
		return nil, 1
	}
	return used, part
}

// skip leaves out the taps of panels that none of their blocks uses.
func (c *convolution) skip(p *product, used [][]bool) {
	_, rows, k := c.w.weightRows()
	kept := make([][]bool, len(p.panels))
	form := "skip"
	for i := range p.panels {
		n := &p.panels[i]
		kept[i] = slices.Clone(used[n.block])
		for _, u := range used[n.block+1 : n.block+n.blocks] {
			for j := range u {
				kept[i][j] = kept[i][j] || u[j]
			}
		}
		form += fmt.Sprint(" ", n.blocks)
	}
	t := c.weights.Data
	weights := packed(c.x, t, form, func() []float32 {
		dst, all := make([]float32, len(used)*k*simd.Block), make([]float32, k*simd.Block)
		for i := range p.panels {
			for b := p.panels[i].block; b < p.panels[i].block+p.panels[i].blocks; b++ {
				packBlock(all, t.Float32s(), b*simd.Block, rows, k)
				to := dst[b*k*simd.Block:]
				for j, keep := range kept[i] {
					if keep {
						copy(to[:simd.Block], all[j*simd.Block:])
						to = to[simd.Block:]
					}
				}
			}
		}
		return dst
	})
	p.weights = newView([]int{len(weights)}, tensor.F32, planar)
	p.weights.bind(weights)
	for i := range p.panels {
		n := &p.panels[i]
		var taps []int
		at, before := 0, 0
		for j, d := range n.taps {
			if at += d; kept[i][j] {
				taps, before = append(taps, at-before), at
			}
		}
		n.taps, n.passes = taps, passesOf(taps, n.blocks, p.images*p.rows == 1)
	}
}

// winogradSaves is the part of the taps with weights up to which leaving the others out
// takes less time than Winograd's method, which takes them all.
const winogradSaves = 0.4

// differ reports whether pairs of blocks use so many more taps together than each
// alone that tiles of one block do less.
func differ(used [][]bool, part float64) bool {
	count, all := 0, 0
	for b := 1; b < len(used); b += 2 {
		for i := range used[b] {
			count += b2i(used[b][i] || used[b-1][i])
			all++
		}
	}
	return all > 0 && float64(count)/float64(all) > 1.15*part
}
