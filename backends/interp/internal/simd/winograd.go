package simd

import (
	"unsafe"

	"github.com/thriftc/thriftc/internal/f32"
)

// The gradient of a 3×3 kernel by Winograd's method, F(3×3, 4×4): a tile of 4×4 gradients e of
// the outputs and the window of 6×6 inputs d that it saw give A'ᵀ[(G'·e·G'ᵀ) ⊙ (Bᵀ·d·B)]A', with the
// points and the Bᵀ of F(4×4, 3×3). The products are added over all tiles before A' is applied.

// WinoGrad computes G'·e·G'ᵀ for tiles of 4×4 gradients beside each other, 16 channels, without the
// factors that WinoKernelGrad applies. X is the first tile, the rest is as for Set.WinoIn.
func (s *Set) WinoGrad(t *WinoIn) {
	if s.winoGrad == nil {
		t.runGrad()
		return
	}
	s.winoGrad((*uint64)(unsafe.Pointer(t)))
	for l := s.Lanes; l < Block; l += s.Lanes {
		t.shift(4 * s.Lanes)
		s.winoGrad((*uint64)(unsafe.Pointer(t)))
	}
	t.shift(4 * (s.Lanes - Block))
}

func (t *WinoIn) runGrad() {
	for n := range t.Tiles {
		for l := range Block {
			var half [6][4]float32
			for j := range 4 {
				var e [4]float32
				for i := range e {
					e[i] = vector(t.X, 256*n+i*t.Row+64*j)[l]
				}
				for i, v := range gradColumn(e) {
					half[i][j] = v
				}
			}
			for i, h := range half {
				for j, v := range gradColumn(h) {
					vector(t.V, 64*n+(6*i+j)*t.Step)[l] = v
				}
			}
		}
	}
}

// gradColumn returns the polynomial e0 + e1·t + e2·t² + e3·t³ at the points 0, a, −a, b, −b and ∞.
func gradColumn(e [4]float32) [6]float32 {
	pair := func(square, point float32) (plus, minus float32) {
		even, odd := f32.FMA(square, e[2], e[0]), f32.FMA(square, e[3], e[1])
		return f32.FMA(point, odd, even), f32.FMA(-point, odd, even)
	}
	a, a1 := pair(squareA, pointA)
	b, b1 := pair(squareB, pointB)
	return [6]float32{e[0], a, a1, b, b1, e[3]}
}

// WinoKernelGrad puts the gradient of a 3×3 kernel into g: A'ᵀ·m·A' of the sums m of 36 products, with the
// factors of G', computed in float64 and rounded once.
func WinoKernelGrad(g []float32, m *[WinoResults]float32) {
	g = g[:9]
	var half [3][6]float64
	for j := range 6 {
		half[0][j], half[1][j], half[2][j] = kernelGradColumn(float64(m[j]), float64(m[6+j]), float64(m[12+j]), float64(m[18+j]), float64(m[24+j]), float64(m[30+j]))
	}
	for i, h := range half {
		a, b, c := kernelGradColumn(h[0], h[1], h[2], h[3], h[4], h[5])
		g[3*i], g[3*i+1], g[3*i+2] = float32(a), float32(b), float32(c)
	}
}

// kernelGradColumn returns A'ᵀ·m with the reciprocals of the products of each point's distances from the others.
func kernelGradColumn(zero, a, a1, b, b1, infinite float64) (x, y, z float64) {
	const farA, farB = 1 / (2 * squareA * (squareA - squareB)), 1 / (2 * squareB * (squareB - squareA))
	sumA, difA := float64((a+a1)*farA), float64((a-a1)*farA)
	sumB, difB := float64((b+b1)*farB), float64((b-b1)*farB)
	return float64(zero*(1/product)) + (sumA + sumB), float64(difA*pointA) + float64(difB*pointB),
		float64(sumA*squareA) + float64(sumB*squareB) + infinite
}
