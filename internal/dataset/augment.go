package dataset

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Augment says how training samples vary. It works on the numbers that go into
// the model, after preprocessing, where 0 usually is the mean. Everything drawn
// depends on the seed, the epoch and the sample's number alone. The zero value
// changes nothing.
type Augment struct {
	Crop       int     `yaml:"crop,omitempty" json:"crop,omitempty"`             // pads with so many zeros on all sides and crops to the old size at random
	Flip       bool    `yaml:"flip,omitempty" json:"flip,omitempty"`             // mirrors left and right, every second time
	Brightness float64 `yaml:"brightness,omitempty" json:"brightness,omitempty"` // b: distances from black times 1−b … 1+b
	Contrast   float64 `yaml:"contrast,omitempty" json:"contrast,omitempty"`     // c: distances from the channel's mean times 1−c … 1+c
	Saturation float64 `yaml:"saturation,omitempty" json:"saturation,omitempty"` // s: distances from the pixel's mean over the channels times 1−s … 1+s
	Cutout     int     `yaml:"cutout,omitempty" json:"cutout,omitempty"`         // zeros in a square of this side around a random pixel (arXiv 1708.04552)
	Mixup      float64 `yaml:"mixup,omitempty" json:"mixup,omitempty"`           // α: mixes pairs of a batch and their labels, share from Beta(α, α) (arXiv 1710.09412)
}

// Check reports every setting that means nothing.
func (a Augment) Check() error {
	var errs []error
	for _, s := range []struct {
		name      string
		x, lo, hi float64
	}{
		{"crop", float64(a.Crop), 0, maxSide}, {"cutout", float64(a.Cutout), 0, maxSide},
		{"brightness", a.Brightness, 0, 1}, {"contrast", a.Contrast, 0, 1}, {"saturation", a.Saturation, 0, 1},
		{"mixup", a.Mixup, 0, 100},
	} {
		if !(s.x >= s.lo && s.x <= s.hi) {
			errs = append(errs, fmt.Errorf("%s is %g, expected %g to %g", s.name, s.x, s.lo, s.hi))
		}
	}
	return errors.Join(errs...)
}

// pictures reports whether a needs samples that are pictures.
func (a Augment) pictures() bool {
	a.Mixup = 0
	return a != Augment{}
}

// plane says how a picture lies in memory.
type plane struct {
	channels, height, width int
	pixel, channel          int // steps to the next pixel and to the next channel
}

// planeOf returns the layout of a sample of the given shape.
func planeOf(shape []int, nhwc bool) (plane, error) {
	if len(shape) != 3 {
		return plane{}, fmt.Errorf("crop, flip, colour and cutout need samples of three dimensions, these have shape %v", shape)
	}
	if nhwc {
		return plane{shape[2], shape[0], shape[1], shape[2], 1}, nil
	}
	return plane{shape[0], shape[1], shape[2], 1, shape[1] * shape[2]}, nil
}

// apply writes the sample src, changed as drawn from rng, to dst. black is the
// number that a black pixel has in every channel.
func (a Augment) apply(dst, src []float32, p plane, black []float32, rng *rand.Rand) {
	dx, dy, mirror := 0, 0, false
	if a.Crop > 0 {
		dx, dy = rng.IntN(2*a.Crop+1)-a.Crop, rng.IntN(2*a.Crop+1)-a.Crop
	}
	if a.Flip {
		mirror = rng.IntN(2) == 1
	}
	for y := range p.height {
		for x := range p.width {
			from := x
			if mirror {
				from = p.width - 1 - x
			}
			sx, sy := from+dx, y+dy
			to := (y*p.width + x) * p.pixel
			at := (sy*p.width + sx) * p.pixel
			inside := sx >= 0 && sx < p.width && sy >= 0 && sy < p.height
			for c := range p.channels {
				v := float32(0)
				if inside {
					v = src[at+c*p.channel]
				}
				dst[to+c*p.channel] = v
			}
		}
	}
	a.color(dst, p, black, rng)
	if a.Cutout > 0 {
		cx, cy := rng.IntN(p.width), rng.IntN(p.height)
		for y := max(cy-a.Cutout/2, 0); y < min(cy-a.Cutout/2+a.Cutout, p.height); y++ {
			for x := max(cx-a.Cutout/2, 0); x < min(cx-a.Cutout/2+a.Cutout, p.width); x++ {
				for c := range p.channels {
					dst[(y*p.width+x)*p.pixel+c*p.channel] = 0
				}
			}
		}
	}
}

func (a Augment) color(d []float32, p plane, black []float32, rng *rand.Rand) {
	factor := func(s float64) float32 { return float32(1 + float64(s*(2*rng.Float64()-1))) } // twice a number is exact
	size := p.height * p.width
	around := func(f float32, center func(c int) float32) {
		for c := range p.channels {
			m := center(c)
			for i := range size {
				x := &d[i*p.pixel+c*p.channel]
				*x = m + float32(f*(*x-m))
			}
		}
	}
	if a.Brightness > 0 {
		around(factor(a.Brightness), func(c int) float32 { return black[c] })
	}
	if a.Contrast > 0 {
		around(factor(a.Contrast), func(c int) float32 {
			sum := 0.0
			for i := range size {
				sum += float64(d[i*p.pixel+c*p.channel])
			}
			return float32(sum / float64(size))
		})
	}
	if a.Saturation > 0 {
		f := factor(a.Saturation)
		for i := range size {
			gray := float32(0)
			for c := range p.channels {
				gray += d[i*p.pixel+c*p.channel]
			}
			gray /= float32(p.channels)
			for c := range p.channels {
				x := &d[i*p.pixel+c*p.channel]
				*x = gray + float32(f*(*x-gray))
			}
		}
	}
}

// mix replaces every sample of a batch and its target by a mixture with those
// of the sample that comes as far from the batch's end as it does from its beginning.
func (a Augment) mix(batch, target *tensor.Tensor, rng *rand.Rand) {
	// Rounded, so that mathematical functions which differ in the last bit do not matter.
	share := float32(math.Round(distuv.Beta{Alpha: a.Mixup, Beta: a.Mixup, Src: rng}.Rand()*(1<<16)) / (1 << 16))
	for _, t := range []*tensor.Tensor{batch, target} {
		d := tensor.Data[float32](t)
		n := t.Shape()[0]
		size := len(d) / n
		for i := range n / 2 {
			x, y := d[i*size:][:size], d[(n-1-i)*size:][:size]
			for k := range x {
				p, q := x[k], y[k]
				x[k] = float32(share*p) + float32((1-share)*q)
				y[k] = float32(share*q) + float32((1-share)*p)
			}
		}
	}
}
