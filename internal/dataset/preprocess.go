package dataset

import (
	"fmt"
	"image"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/image/draw"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Preprocess says how a record becomes a model's input. Images are resized,
// cropped and brought to a colour order; then every number x of channel c
// becomes ((x − Offset)·Scale − Mean[c]) / Std[c], computed in float64 and
// rounded once to float32. Pixels count 0…255.
type Preprocess struct {
	Resize      []int     // nil: as it is; [s]: the shorter side becomes s; [width, height]
	Crop        []int     // nil: none; [s] or [width, height], taken from the centre
	Color       string    // "rgb", "bgr", "gray"; "": as stored
	Layout      string    // "nchw", "nhwc"; "" is nchw
	Offset      float64   // subtracted first
	Scale       float64   // then multiplied with
	Mean, Std   []float64 // nil, one number, or one per channel in the order of Color
	LabelOffset int       // added to every label
}

// maxSide and maxPixels bound images and shapes: a file of a hundred bytes can
// claim to be 65,535 pixels wide and high.
const (
	maxSide   = 1 << 16
	maxPixels = 1 << 26
)

func (c *checker) size(n *yaml.Node, key string) []int {
	v := c.ints(n, key, 1, maxSide)
	if len(v) > 2 {
		c.errorf(n.Line, "%s must be one number or [width, height]", key)
		return nil
	}
	return v
}

func (c *checker) preprocess(n *yaml.Node) Preprocess {
	p := Preprocess{Scale: 1}
	lines := c.mapping(n, "preprocess", []field{
		{"resize", func(n *yaml.Node) { p.Resize = c.size(n, "resize") }},
		{"crop", func(n *yaml.Node) { p.Crop = c.size(n, "crop") }},
		{"color", func(n *yaml.Node) { p.Color = c.oneOf(n, "color", "rgb", "bgr", "gray") }},
		{"layout", func(n *yaml.Node) { p.Layout = c.oneOf(n, "layout", "nchw", "nhwc") }},
		{"offset", func(n *yaml.Node) { p.Offset = c.float(n, "offset") }},
		{"scale", func(n *yaml.Node) { p.Scale = c.float(n, "scale") }},
		{"mean", func(n *yaml.Node) { p.Mean = c.floats(n, "mean") }},
		{"std", func(n *yaml.Node) { p.Std = c.floats(n, "std") }},
		{"label_offset", func(n *yaml.Node) { p.LabelOffset = c.int(n, "label_offset", -1<<20, 1<<20) }},
	})
	if lines["scale"] > 0 && p.Scale == 0 {
		c.errorf(lines["scale"], "scale is 0: every input would be the same")
		p.Scale = 1
	}
	for _, s := range p.Std {
		if s == 0 {
			c.errorf(lines["std"], "std holds a 0")
		}
	}
	channels := 0
	switch p.Color {
	case "rgb", "bgr":
		channels = 3
	case "gray":
		channels = 1
	}
	if channels > 0 {
		if err := p.checkChannels(channels); err != nil {
			c.errorf(n.Line, "%v", err)
		}
	}
	if w, h := p.fixedSize(); w*h > maxPixels {
		c.errorf(n.Line, "images of %d×%d are too large", w, h)
	}
	return p
}

// fixedSize returns the size that resize gives when it names both sides.
func (p *Preprocess) fixedSize() (w, h int) {
	if len(p.Resize) == 2 {
		return p.Resize[0], p.Resize[1]
	}
	return 0, 0
}

// ParsePreprocess reads what String wrote, or what stands after `preprocess:`
// in a data description.
func ParsePreprocess(s string) (Preprocess, error) {
	c := &checker{file: "preprocess"}
	root := c.root([]byte(s))
	if root == nil {
		return Preprocess{}, c.err()
	}
	p := c.preprocess(root)
	return p, c.err()
}

// String returns p as one line of YAML, always the same for the same p: what
// an artefact's metadata and the report hold.
func (p Preprocess) String() string {
	var b strings.Builder
	item := func(key, value string) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(key + ": " + value)
	}
	if p.Resize != nil {
		item("resize", sizeString(p.Resize))
	}
	if p.Crop != nil {
		item("crop", sizeString(p.Crop))
	}
	if p.Color != "" {
		item("color", p.Color)
	}
	if p.Layout != "" {
		item("layout", p.Layout)
	}
	if p.Offset != 0 {
		item("offset", num(p.Offset))
	}
	if p.Scale != 1 && p.Scale != 0 {
		item("scale", num(p.Scale))
	}
	if p.Mean != nil {
		item("mean", numList(p.Mean))
	}
	if p.Std != nil {
		item("std", numList(p.Std))
	}
	if p.LabelOffset != 0 {
		item("label_offset", strconv.Itoa(p.LabelOffset))
	}
	return "{" + b.String() + "}"
}

func sizeString(v []int) string {
	if len(v) == 1 {
		return strconv.Itoa(v[0])
	}
	return fmt.Sprintf("[%d, %d]", v[0], v[1])
}

func num(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func numList(v []float64) string {
	var s []string
	for _, x := range v {
		s = append(s, num(x))
	}
	return "[" + strings.Join(s, ", ") + "]"
}

// identity reports whether p leaves numbers as they are.
func (p *Preprocess) identity() bool {
	return p.Offset == 0 && p.Scale == 1 && p.Mean == nil && p.Std == nil
}

// map1 applies offset, scale, mean and std to a number of channel c.
func (p *Preprocess) map1(x float64, c int) float32 {
	x = (x - p.Offset) * p.Scale
	if m := perChannel(p.Mean, c, 0); m != 0 {
		x = float64(x) - m // the conversion keeps product and difference apart
	}
	return float32(x / perChannel(p.Std, c, 1))
}

func perChannel(v []float64, c int, none float64) float64 {
	switch len(v) {
	case 0:
		return none
	case 1:
		return v[0]
	}
	return v[c]
}

// checkChannels reports a mean or std that does not fit the number of channels.
func (p *Preprocess) checkChannels(c int) error {
	if len(p.Mean) > 1 && len(p.Mean) != c {
		return fmt.Errorf("mean has %d numbers, the data has %d channels", len(p.Mean), c)
	}
	if len(p.Std) > 1 && len(p.Std) != c {
		return fmt.Errorf("std has %d numbers, the data has %d channels", len(p.Std), c)
	}
	return nil
}

// target returns the size after resize: the longer side is cut, not rounded,
// to a whole number.
func (p *Preprocess) target(w, h int) (int, int) {
	switch len(p.Resize) {
	case 1:
		s := p.Resize[0]
		if w <= h {
			return s, int(int64(s) * int64(h) / int64(w))
		}
		return int(int64(s) * int64(w) / int64(h)), s
	case 2:
		return p.Resize[0], p.Resize[1]
	}
	return w, h
}

// picture is a decoded image: opaque RGBA, all three colours equal when gray.
type picture struct {
	*image.RGBA
	gray bool
}

// scale resizes m with x/image's BiLinear: the tent filter, widened by the
// factor when shrinking. The result is rounded to the nearest byte, for which
// it takes a detour over 16 bits: x/image itself cuts.
func scale(m *image.RGBA, w, h int) *image.RGBA {
	wide := image.NewRGBA64(image.Rect(0, 0, w, h))
	draw.BiLinear.Scale(wide, wide.Bounds(), m, m.Bounds(), draw.Src, nil)
	out := image.NewRGBA(wide.Bounds())
	for i := range out.Pix {
		out.Pix[i] = uint8((uint32(wide.Pix[2*i])<<8 + uint32(wide.Pix[2*i+1]) + 128) / 257)
	}
	return out
}

// resized returns m scaled and cropped as p says.
func (p *Preprocess) resized(m picture) (picture, error) {
	b := m.Bounds()
	if w, h := p.target(b.Dx(), b.Dy()); w != b.Dx() || h != b.Dy() {
		if w < 1 || h < 1 || w > maxSide || h > maxSide || w*h > maxPixels {
			return m, fmt.Errorf("resizing it from %d×%d makes it %d×%d pixels", b.Dx(), b.Dy(), w, h)
		}
		m.RGBA = scale(m.RGBA, w, h)
		b = m.Bounds()
	}
	if p.Crop == nil {
		return m, nil
	}
	w, h := p.Crop[0], p.Crop[len(p.Crop)-1]
	if w > b.Dx() || h > b.Dy() {
		return m, fmt.Errorf("%d×%d pixels are too few for crop %s", b.Dx(), b.Dy(), sizeString(p.Crop))
	}
	x, y := b.Min.X+(b.Dx()-w)/2, b.Min.Y+(b.Dy()-h)/2
	m.RGBA = m.SubImage(image.Rect(x, y, x+w, y+h)).(*image.RGBA)
	return m, nil
}

// image turns a picture into f32[C,H,W], or f32[H,W,C] with layout nhwc.
func (p *Preprocess) image(m picture) (*tensor.Tensor, error) {
	m, err := p.resized(m)
	if err != nil {
		return nil, err
	}
	order := []int{0, 1, 2} // which byte of a pixel each channel is
	switch {
	case p.Color == "gray" || p.Color == "" && m.gray:
		order = order[:1]
	case p.Color == "bgr":
		order = []int{2, 1, 0}
	}
	nc := len(order)
	if err := p.checkChannels(nc); err != nil {
		return nil, err
	}
	lut := make([][256]float32, nc)
	for c := range lut {
		for v := range lut[c] {
			lut[c][v] = p.map1(float64(v), c)
		}
	}
	b := m.Bounds()
	w, h := b.Dx(), b.Dy()
	out := make([]float32, nc*w*h)
	pixel, plane := 1, w*h // steps to the next pixel and to the next channel
	shape := []int{nc, h, w}
	if p.Layout == "nhwc" {
		pixel, plane, shape = nc, 1, []int{h, w, nc}
	}
	at := 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		row := m.Pix[m.PixOffset(b.Min.X, y):][:4*w]
		for ; len(row) > 0; row, at = row[4:], at+pixel {
			if nc == 1 {
				out[at] = lut[0][luma(row[0], row[1], row[2])]
				continue
			}
			for c, o := range order {
				out[at+c*plane] = lut[c][row[o]]
			}
		}
	}
	return tensor.Of(out, shape...), nil
}

// luma is the gray value of a colour by ITU-R BT.601 in 16-bit fixed point.
func luma(r, g, b uint8) uint8 {
	return uint8((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

// numbers applies p to a record that is a plain array. Its channels lie along
// the first dimension, or the last one with layout nhwc.
func (p *Preprocess) numbers(t *tensor.Tensor) (*tensor.Tensor, error) {
	if p.identity() {
		return t, nil
	}
	channels, inner := 1, 1
	if shape := t.Shape(); len(shape) > 0 {
		at := 0
		if p.Layout == "nhwc" {
			at = len(shape) - 1
		}
		channels = shape[at]
		for _, d := range shape[at+1:] {
			inner *= d
		}
	}
	if err := p.checkChannels(channels); err != nil {
		return nil, err
	}
	in := t.Float64s()
	out := make([]float32, len(in))
	for i, x := range in {
		out[i] = p.map1(x, i/inner%channels)
	}
	return tensor.Of(out, t.Shape()...), nil
}
