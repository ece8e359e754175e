// Package testmodels makes the project's own small model and its data:
// pictures of ten shapes, drawn from a seed, and a CNN that tells them apart.
// Nothing in it is trained by gradient descent. README.md says how it is made.
package testmodels

import (
	"math"
	"math/rand/v2"
)

// Side is the width and height of a picture in pixels, and Classes the number of shapes.
const (
	Side    = 28
	Classes = 10
)

// Names are the shapes in the order of their class numbers.
var Names = [Classes]string{"ring", "disc", "frame", "block", "triangle", "plus", "cross", "bars", "columns", "corner"}

// Pictures draws n pictures of gray bytes, Side·Side each, with their classes.
// Place, size, angle, line width, brightness and noise are drawn from the seed.
func Pictures(seed uint64, n int) (pixels, labels []byte) {
	rng := rand.New(rand.NewPCG(seed, 0x676c797068))
	between := func(lo, hi float64) float64 { return lo + (hi-lo)*rng.Float64() }
	for range n {
		class := rng.IntN(Classes)
		labels = append(labels, byte(class))
		cx, cy := between(10.5, 16.5), between(10.5, 16.5)
		size, width, angle := between(4.5, 8.5), between(0.8, 1.5), between(-0.3, 0.3)
		ground, ink, noise := between(0, 80), between(90, 170), between(8, 24)
		sin, cos := math.Sincos(angle)
		for y := range Side {
			for x := range Side {
				dx, dy := float64(x)-cx, float64(y)-cy
				cover := min(max(0.5-distance(class, cos*dx+sin*dy, cos*dy-sin*dx, size, width), 0), 1)
				v := ground + ink*cover + noise*(rng.Float64()+rng.Float64()-1)
				// Sixteen levels of gray are enough, and pack well.
				pixels = append(pixels, byte(16*min(max(math.Round(v/16), 0), 15)))
			}
		}
	}
	return pixels, labels
}

// distance is how far (u, v) lies outside the shape of radius s, drawn with
// lines of half width w; negative inside.
func distance(class int, u, v, s, w float64) float64 {
	box := func(u, v, a, b float64) float64 { return max(math.Abs(u)-a, math.Abs(v)-b) }
	switch Names[class] {
	case "ring":
		return math.Abs(math.Hypot(u, v)-s) - w
	case "disc":
		return math.Hypot(u, v) - s
	case "frame":
		return math.Abs(box(u, v, s, s)) - w
	case "block":
		return box(u, v, s, s)
	case "triangle":
		return math.Abs(max(v, 0.866*math.Abs(u)-0.5*v)-0.6*s) - w
	case "plus":
		return min(box(u, v, s, w), box(u, v, w, s))
	case "cross":
		u, v = 0.7071*(u+v), 0.7071*(u-v)
		return min(box(u, v, s, w), box(u, v, w, s))
	case "bars":
		return max(math.Abs(u)-s, math.Abs(math.Abs(v)-0.6*s)-w)
	case "columns":
		return max(math.Abs(v)-s, math.Abs(math.Abs(u)-0.6*s)-w)
	default: // corner
		return min(box(u+0.7*s, v, w, 0.7*s+w), box(u, v-0.7*s, 0.7*s+w, w))
	}
}
