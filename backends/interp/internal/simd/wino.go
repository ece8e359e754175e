package simd

import (
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

//go:generate sh ../asm/generate.sh wino

// Winograd's convolution F(4×4, 3×3): a tile of 4×4 outputs comes from a window
// of 6×6 inputs d and the kernel g as Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A, summed over the
// input channels between the brackets: 36 products where there were 144
// (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
// The interpolation points are 0, ±a, ±b and ∞; of those tried with few bits, these round
// least. All constants of Aᵀ and Bᵀ are exact in float32.
const (
	pointA = 0.6875
	pointB = 1.5

	squareA, squareB = pointA * pointA, pointB * pointB
	cubeA, cubeB     = squareA * pointA, squareB * pointB
	middle, product  = squareA + squareB, squareA * squareB
)

// WinoResults is how many products a tile takes.
const WinoResults = 36

// WinoKernel puts G·g·Gᵀ of a 3×3 kernel into column at of u, row by row,
// computed in float64 and rounded once.
func WinoKernel(u *[WinoResults][Block]float32, at int, g []float32) {
	g = g[:9]
	var half [6][3]float64
	for j := range 3 {
		half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j] = kernelColumn(float64(g[j]), float64(g[3+j]), float64(g[6+j]))
	}
	for i := range half {
		h, r := &half[i], u[6*i:][:6]
		a, b, c, d, e, f := kernelColumn(h[0], h[1], h[2])
		r[0][at], r[1][at], r[2][at], r[3][at], r[4][at], r[5][at] = float32(a), float32(b), float32(c), float32(d), float32(e), float32(f)
	}
}

// kernelColumn returns G·(x, y, z): the polynomial x + y·t + z·t² at the points 0, a, −a, b,
// −b and ∞, each times the reciprocal of the product of the point's distances from the others.
func kernelColumn(x, y, z float64) (zero, a, a1, b, b1, infinite float64) {
	const farA, farB = 1 / (2 * squareA * (squareA - squareB)), 1 / (2 * squareB * (squareB - squareA))
	even, odd := x+float64(z*squareA), float64(y*pointA)
	a, a1 = (even+odd)*farA, (even-odd)*farA
	even, odd = x+float64(z*squareB), float64(y*pointB)
	return x * (1 / product), a, a1, (even + odd) * farB, (even - odd) * farB, z
}

// WinoIn computes Bᵀ·d·B for the windows of some tiles beside each other, 16
// channels. Distances are in bytes. The assembly knows the words by their order.
type WinoIn struct {
	X     unsafe.Pointer // the first window; pixels are 64 bytes apart and tiles 4 pixels
	V     unsafe.Pointer // the results of the first tile; those of tiles are 64 bytes apart
	Row   int            // of X
	Tiles int            // at least 1
	Step  int            // of the 36 results
}

// WinoOut computes Aᵀ·m·A for some tiles beside each other, 16 channels, and
// then what a Tile does after its sums. Distances are in bytes.
type WinoOut struct {
	M          unsafe.Pointer // the sums of the first tile; those of tiles are 64 bytes apart
	Y          unsafe.Pointer // the outputs of the first tile; pixels are 64 bytes apart and tiles 4 pixels
	Step       int            // of the 36 sums
	Row        int            // of Y
	Tiles      int            // at least 1
	Rows, Cols int            // how many of the 4 rows there are, and of the last tile's 4 columns
	Flags      int            // Bias, Norm, Add and Clamp
	Bias       unsafe.Pointer // 16 floats; so are the next three
	Mean       unsafe.Pointer
	Scale      unsafe.Pointer
	Shift      unsafe.Pointer
	Add        unsafe.Pointer // like Y
	AddRow     int
	Lo, Hi     float32
}

// WinoIn transforms inputs.
func (s *Set) WinoIn(t *WinoIn) {
	if s.winoIn == nil {
		t.run()
		return
	}
	s.winoIn((*uint64)(unsafe.Pointer(t)))
	for l := s.Lanes; l < Block; l += s.Lanes {
		t.shift(4 * s.Lanes)
		s.winoIn((*uint64)(unsafe.Pointer(t)))
	}
	t.shift(4 * (s.Lanes - Block))
}

// shift moves to other channels.
func (t *WinoIn) shift(by int) { t.X, t.V = unsafe.Add(t.X, by), unsafe.Add(t.V, by) }

// WinoOut transforms sums.
func (s *Set) WinoOut(t *WinoOut) {
	if s.winoOut == nil {
		t.run()
		return
	}
	s.winoOut((*uint64)(unsafe.Pointer(t)))
	for l := s.Lanes; l < Block; l += s.Lanes {
		t.shift(4 * s.Lanes)
		s.winoOut((*uint64)(unsafe.Pointer(t)))
	}
	t.shift(4 * (s.Lanes - Block))
}

func (t *WinoOut) shift(by int) {
	t.M, t.Y = unsafe.Add(t.M, by), unsafe.Add(t.Y, by)
	if t.Flags&Bias != 0 {
		t.Bias = unsafe.Add(t.Bias, by)
	}
	if t.Flags&Norm != 0 {
		t.Mean, t.Scale, t.Shift = unsafe.Add(t.Mean, by), unsafe.Add(t.Scale, by), unsafe.Add(t.Shift, by)
	}
	if t.Flags&Add != 0 {
		t.Add = unsafe.Add(t.Add, by)
	}
}

// inColumn returns Bᵀ·d.
func inColumn(d [6]float32) [6]float32 {
	pair := func(square, point float32) (plus, minus float32) {
		even, odd := f32.FMA(-square, d[2], d[4]), f32.FMA(-square, d[1], d[3])
		return f32.FMA(point, odd, even), f32.FMA(-point, odd, even)
	}
	a, a1 := pair(squareB, pointA)
	b, b1 := pair(squareA, pointB)
	return [6]float32{
		f32.FMA(product, d[0], f32.FMA(-middle, d[2], d[4])), a, a1, b, b1,
		f32.FMA(product, d[1], f32.FMA(-middle, d[3], d[5])),
	}
}

// outColumn returns Aᵀ·m.
func outColumn(m [6]float32) [4]float32 {
	s1, d1, s2, d2 := m[1]+m[2], m[1]-m[2], m[3]+m[4], m[3]-m[4]
	return [4]float32{
		m[0] + (s1 + s2),
		f32.FMA(pointB, d2, float32(pointA*d1)),
		f32.FMA(squareB, s2, float32(squareA*s1)),
		f32.FMA(cubeB, d2, float32(cubeA*d1)) + m[5],
	}
}

func (t *WinoIn) run() {
	for n := range t.Tiles {
		for l := range Block {
			var half [6][6]float32
			for j := range 6 {
				var d [6]float32
				for i := range d {
					d[i] = vector(t.X, 256*n+i*t.Row+64*j)[l]
				}
				for i, v := range inColumn(d) {
					half[i][j] = v
				}
			}
			for i, h := range half {
				for j, v := range inColumn(h) {
					vector(t.V, 64*n+(6*i+j)*t.Step)[l] = v
				}
			}
		}
	}
}

func (t *WinoOut) run() {
	for n := range t.Tiles {
		cols := 4
		if n == t.Tiles-1 {
			cols = t.Cols
		}
		var y [4][4][Block]float32
		for l := range Block {
			var half [4][6]float32
			for j := range 6 {
				var m [6]float32
				for i := range m {
					m[i] = vector(t.M, 64*n+(6*i+j)*t.Step)[l]
				}
				for i, v := range outColumn(m) {
					half[i][j] = v
				}
			}
			for i, h := range half {
				for j, v := range outColumn(h) {
					y[i][j][l] = v
				}
			}
		}
		after := Tile{Flags: t.Flags, Bias: t.Bias, Mean: t.Mean, Scale: t.Scale, Shift: t.Shift, AddDist: 64, Lo: t.Lo, Hi: t.Hi}
		for i := range t.Rows {
			if t.Add != nil {
				after.Add = unsafe.Add(t.Add, i*t.AddRow+256*n)
			}
			for j := range cols {
				after.finish(&y[i][j], 0, j)
				*vector(t.Y, i*t.Row+256*n+64*j) = y[i][j]
			}
		}
	}
}
