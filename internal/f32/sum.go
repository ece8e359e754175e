package f32

// Sum adds x in the one order that all reductions use: element i goes to
// partial sum i mod 16, each partial sum adds its elements in order starting at
// +0, and the sixteen are added as a tree: j with j+8, then with j+4, j+2, j+1.
func Sum[T float32 | float64](x []T) T {
	var p [16]T
	for ; len(x) >= 16; x = x[16:] {
		for j, v := range x[:16] {
			p[j] += v
		}
	}
	for j, v := range x {
		p[j] += v
	}
	for w := 8; w > 0; w /= 2 {
		for j := range w {
			p[j] += p[j+w]
		}
	}
	return p[0]
}
