package simd

//go:generate sh ../asm/generate.sh math

// function applies a function of one number with parameters p to n elements.
type function func(n int, dst, x *float32, p *float64)

// Function returns a kernel that sets dst to a function of every element of x,
// which may be dst, with parameters p; nil if there is none for this set. It
// gives the bits of package f32's function, or of the operator's. The names
// are those of the table in math_amd64.go.
func (s *Set) Function(name string) func(dst, x []float32, p []float64) {
	f := functions[s.Name][name]
	if f == nil {
		return nil
	}
	none := []float64{0}
	return func(dst, x []float32, p []float64) {
		if len(dst) == 0 {
			return
		}
		if len(p) == 0 {
			p = none
		}
		x = x[:len(dst)]
		f(len(dst), &dst[0], &x[0], &p[0])
	}
}
