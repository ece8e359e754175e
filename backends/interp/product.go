package interp

import (
	"unsafe"

	"github.com/thriftc/thriftc/backends/interp/internal/simd"
)

// product is a convolution or a matrix product as tiles: for every image, panel of
// blocks of output channels and row of output pixels, some tiles beside each other.
// Elements may be of any size: only the tile function knows what they are.
type product struct {
	tile    func(w *worker, blocks, pixels int) // computes w.tile
	proto   simd.Tile                           // what all tiles share
	x, y, a walk                                // the input, the output, and what is added to it
	weights *view
	wImage  int      // bytes from the weights of an image to those of the next
	params  [4]*view // bias, mean, scale and shift of each output channel, where proto.Flags says so

	mode               mode
	images, rows       int
	split, lastSplit   []int // the pixels of each tile of a row, and of the last row
	panels             []panel
	imageParts         int // into so many parts the images, rows and panels are split for tasks
	rowParts, panParts int

	// done runs once a row of a panel is complete.
	done func(w *worker, image int, p *panel, row int)
}

// mode says what the rows of tiles are.
type mode uint8

const (
	byRow   mode = iota // the output's rows
	byLine              // pieces of the line of all pixels of an image
	byImage             // pieces of the line of images, which have one pixel each
)

// panel is blocks of output channels that are computed together.
type panel struct {
	block, blocks int
	x             int   // bytes from the start of the input to that of the panel's group
	taps          []int // bytes from each tap's input to the next one's
	passes        []pass
	lanes         int // of the only block, if the output has room for no more; else 0
}

// pass is some of the taps, between which results lie in the output.
type pass struct {
	from, n int
	at      int // bytes from the input of the first tap of all to that before from
}

// walk says where the tiles' elements lie in a view, in bytes.
type walk struct {
	view                         *view
	at, image, row, block, pixel int
}

func (k *walk) ptr(image, row int) unsafe.Pointer {
	return unsafe.Add(k.view.base, k.at+image*k.image+row*k.row)
}

// follow is the walk over a view's own rows; pixels run on over rows of so many
// pixels if the view is seen as one line.
func follow(v *view) walk {
	b := v.bytes
	return walk{view: v, at: v.origin * b, image: v.image * b, row: v.row * b, block: v.group * b, pixel: v.block * b}
}

// passBytes is how much of a panel's weights is used again from one row to the
// next: it should stay in the second-level cache.
const passBytes = 256 << 10

// passesOf splits taps evenly so that a panel's weights stay in the cache.
func passesOf(taps []int, blocks int, once bool) []pass {
	parts := 1
	if !once {
		parts = max(1, (len(taps)*blocks*4*simd.Block+passBytes-1)/passBytes)
	}
	var out []pass
	from, at, before := 0, 0, 0
	for _, n := range evenly(len(taps), parts) {
		out = append(out, pass{from, n, before})
		for _, d := range taps[from : from+n] {
			at += d
		}
		before, from = at, from+n
	}
	return out
}

// evenly splits n into so many parts, as equal as can be.
func evenly(n, parts int) []int {
	out := make([]int, parts)
	for i := range out {
		out[i] = n*(i+1)/parts - n*i/parts
	}
	return out
}

// tiling chooses how many of n blocks a panel has and how a row of so many
// pixels is split: what costs least. most returns how many pixels a tile of b blocks may have, 0 if there is
// none; cost is that of a tile of b blocks and p pixels.
func tiling(n, pixels int, most func(b int) int, cost func(b, p int) int) (blocks int, split []int) {
	best := 0
	for b := 1; b <= n && most(b) > 0; b++ {
		parts := evenly(pixels, (pixels+most(b)-1)/most(b))
		row := func(b int) (sum int) {
			for _, p := range parts {
				sum += cost(b, p)
			}
			return sum
		}
		all := n / b * row(b)
		if n%b > 0 {
			all += row(n % b)
		}
		if best == 0 || all < best {
			best, blocks, split = all, b, parts
		}
	}
	return blocks, split
}

// floatTiling is tiling for tiles of floats, by instructions.
func floatTiling(s *simd.Set, n, pixels int) (blocks int, split []int) {
	const store = 40 // of a tile beside the multiply-adds, in multiply-adds of a tap, for 64 taps
	return tiling(n, pixels, s.ConvPixels, func(b, p int) int { return max(64*b*p, 64*(b+p/2), 64*6) + store })
}

// panelsOf makes the panels of n blocks from first on.
func panelsOf(first, n, most, x int, taps []int, once bool) []panel {
	var out []panel
	for n > 0 {
		b := min(n, most)
		out = append(out, panel{block: first, blocks: b, x: x, taps: taps, passes: passesOf(taps, b, once)})
		first, n = first+b, n-b
	}
	return out
}

// taskWork is the least work of a task, in multiply-adds of a vector.
const taskWork = 10000

// spread chooses the tasks: enough for the threads to finish together, neither too small.
func (p *product) spread(threads int) {
	k, blocks, pixels := len(p.panels[0].taps), 0, sum(p.split)
	for _, n := range p.panels {
		blocks += n.blocks
	}
	work := p.images * p.rows * blocks * pixels * max(1, k)
	tasks := max(1, min(4*threads, work/taskWork))
	if tasks > 1 {
		tasks = (tasks + threads - 1) / threads * threads
	}
	p.imageParts, p.rowParts, p.panParts = min(p.images, tasks), 1, 1
	heavy := k*blocks*4*simd.Block > 2*passBytes
	if heavy { // the weights are worth more than the input
		p.panParts = min(len(p.panels), tasks)
		p.imageParts = min(p.images, (tasks+p.panParts-1)/p.panParts)
	}
	rest := (tasks + p.imageParts*p.panParts - 1) / (p.imageParts * p.panParts)
	if !heavy && p.rows >= rest {
		p.rowParts = rest
	} else if p.panParts == 1 {
		p.panParts = min(len(p.panels), rest)
		p.rowParts = min(p.rows, (rest+p.panParts-1)/p.panParts)
	} else {
		p.rowParts = min(p.rows, rest)
	}
}

func (p *product) phase() phase {
	return phase{p.imageParts * p.rowParts * p.panParts, p.task}
}

func (p *product) task(w *worker, i int) {
	p0, p1 := part(len(p.panels), i%p.panParts, p.panParts)
	i /= p.panParts
	r0, r1 := part(p.rows, i%p.rowParts, p.rowParts)
	i /= p.rowParts
	n0, n1 := part(p.images, i, p.imageParts)
	t := &w.tile
	*t = p.proto
	flags := t.Flags
	for j := p0; j < p1; j++ {
		n := &p.panels[j]
		p.setParams(t, n)
		for k := range n.passes {
			s := &n.passes[k]
			t.Flags = flags
			if k < len(n.passes)-1 {
				t.Flags &= simd.More
			}
			if k > 0 {
				t.Flags |= simd.More
			}
			if t.K = s.n; s.n > 0 {
				t.Off = &n.taps[s.from]
			}
			for image := n0; image < n1; image++ {
				t.W = unsafe.Add(p.weights.base, image*p.wImage+n.block*t.WBlock+s.from*4*simd.Block)
				for row := r0; row < r1; row++ {
					p.row(w, n, image, row, s.at)
					if k == len(n.passes)-1 && p.done != nil {
						p.done(w, image, n, row)
					}
				}
			}
		}
	}
}

// part returns the range of n things that part i of so many has.
func part(n, i, parts int) (from, to int) { return n * i / parts, n * (i + 1) / parts }

// setParams points a tile to the parameters of a panel's channels.
func (p *product) setParams(t *simd.Tile, n *panel) {
	for i, to := range [...]*unsafe.Pointer{&t.Bias, &t.Mean, &t.Scale, &t.Shift} {
		if v := p.params[i]; v != nil {
			*to = unsafe.Add(v.base, n.block*4*simd.Block)
		}
	}
}

// row computes the tiles of a row, with the inputs at bytes further.
func (p *product) row(w *worker, n *panel, image, row, at int) {
	t := &w.tile
	split := p.split
	if row == p.rows-1 {
		split = p.lastSplit
	}
	x := unsafe.Add(p.x.ptr(image, row), n.x+at)
	y := unsafe.Add(p.y.ptr(image, row), n.block*p.y.block)
	if p.a.view != nil {
		t.Add = unsafe.Add(p.a.ptr(image, row), n.block*p.a.block)
	}
	t.X, t.Y = x, y
	for i, pixels := range split {
		if i > 0 { // no pointer beyond the last tile
			done := split[i-1]
			t.X, t.Y = unsafe.Add(t.X, done*t.Dist), unsafe.Add(t.Y, done*t.YDist)
			if p.a.view != nil {
				t.Add = unsafe.Add(t.Add, done*t.AddDist)
			}
		}
		if n.lanes == 0 {
			p.tile(w, n.blocks, pixels)
		} else {
			p.partial(w, n.lanes, pixels)
		}
	}
}

// partial computes a tile whose output has room for some lanes only.
func (p *product) partial(w *worker, lanes, pixels int) {
	t := &w.tile
	results := w.temp(pixels * simd.Block)
	y, dist := t.Y, t.YDist
	t.Y, t.YDist = unsafe.Pointer(&results[0]), 4*simd.Block
	p.tile(w, 1, pixels)
	t.Y, t.YDist = y, dist
	for i := range pixels {
		copy(unsafe.Slice((*float32)(unsafe.Add(y, i*dist)), lanes), results[i*simd.Block:])
	}
}

// floatTile computes tiles of f32.
func floatTile(s *simd.Set) func(w *worker, blocks, pixels int) {
	return func(w *worker, blocks, pixels int) { s.Conv(blocks, pixels, &w.tile) }
}
