package conformance

import (
	"math"
	"slices"
	"strings"
)

// disagreement is a difference from ONNX Runtime that is not thriftc's mistake.
type disagreement struct {
	ops  []string
	when func(c *randomNode) bool
	why  string // who is right, by what
}

// disagreements are those that are known of ONNX Runtime 1.30.
var disagreements = []disagreement{
	{[]string{"MaxPool", "AveragePool", "LpPool"}, func(c *randomNode) bool { return same(c) && dilated(c) },
		"thriftc: with auto_pad SAME the text has ⌈in / stride⌉ outputs; ONNX Runtime pads as if the kernel were not dilated"},
	{[]string{"ConvTranspose"}, same,
		"thriftc: with auto_pad SAME the text has in · stride outputs; ONNX Runtime gives fewer where that takes negative padding"},
	{[]string{"NonZero"}, func(c *randomNode) bool { return c.in[0].Rank() == 0 },
		"thriftc: of a scalar the text says a result of shape [0, n], other than in numpy"},
	{[]string{"AffineGrid"}, func(c *randomNode) bool {
		return c.attrs.Get("align_corners") == int64(1) && slices.Contains(c.in[1].Int64s()[2:], 1)
	}, "thriftc: the text refers to PyTorch, where the only element along an axis lies in the middle"},
	{[]string{"HannWindow", "HammingWindow", "BlackmanWindow"}, func(c *randomNode) bool { return c.attrs.Get("periodic") == int64(0) && c.in[0].Int64s()[0] == 1 },
		"nobody: the text divides 0 by 0 for a window of one element; thriftc takes the limit"},
	{[]string{"Resize"}, keepsShape,
		"thriftc: ONNX Runtime copies the input where scales leave its shape as it is, whatever the text says of coordinates"},
	{[]string{"Resize"}, cropsAlong1,
		"thriftc: tf_crop_and_resize cuts the region out along every axis; ONNX Runtime leaves an axis of scale 1 whole"},
	{[]string{"Pad"}, func(c *randomNode) bool {
		return c.attrs.Get("mode") == "wrap" && len(c.in) > 1 && slices.Min(c.in[1].Int64s()) < 0
	}, "thriftc: with mode wrap and a negative padding ONNX Runtime leaves elements that it does not write"},
	{[]string{"Dropout"}, func(c *randomNode) bool { return c.outs == 2 && c.opset < 12 },
		"nobody: before opset 12 the text does not say what the mask is when nothing is dropped; ONNX Runtime gives zeros, thriftc what later opsets say"},
	{[]string{"Clip"}, func(c *randomNode) bool {
		return slices.ContainsFunc(c.in[0].Float64s(), func(x float64) bool { return math.IsInf(x, 0) })
	},
		"ONNX Runtime, by the letter: an absent limit is the type's least or greatest finite number. In thriftc it is none, as Clip(x, 0) is to be Relu(x)"},
}

// keepsShape reports whether scales of a Resize leave its input's shape as it is.
func keepsShape(c *randomNode) bool {
	if len(c.in) != 3 {
		return false
	}
	for i, s := range c.in[2].Float32s() {
		if d := c.in[0].Shape()[i]; int(s*float32(d)) != d {
			return false
		}
	}
	return true
}

// cropsAlong1 reports whether a Resize cuts out a region and has scale 1 along some axis.
func cropsAlong1(c *randomNode) bool {
	if c.attrs.Get("coordinate_transformation_mode") != "tf_crop_and_resize" || len(c.in) < 3 {
		return false
	}
	for i, d := range c.in[0].Shape()[2:] {
		if len(c.in) == 3 && c.in[2].Float32s()[i+2] == 1 || len(c.in) == 4 && c.in[3].Int64s()[i+2] == int64(d) {
			return true
		}
	}
	return false
}

func same(c *randomNode) bool {
	a, _ := c.attrs.Get("auto_pad").(string)
	return a == "SAME_UPPER" || a == "SAME_LOWER"
}

func dilated(c *randomNode) bool {
	d, _ := c.attrs.Get("dilations").([]int64)
	return slices.ContainsFunc(d, func(x int64) bool { return x > 1 })
}

// refusals are what thriftc refuses and ONNX Runtime runs, by words of the message.
var refusals = map[string]string{
	"that has no one meaning": "Resize of opset 10 by scales that shrink and enlarge: the text had one rule for each",
	"of bool[":                "sums, products and orders of truth values: the text does not say what they are",
}

// known returns why a difference is not thriftc's mistake, "" if nothing says so.
func known(c *randomNode, problem string) string {
	for words, why := range refusals {
		if strings.HasPrefix(problem, "refused") && strings.Contains(problem, words) {
			return why
		}
	}
	for _, d := range disagreements {
		if slices.Contains(d.ops, c.op) && d.when(c) {
			return d.why
		}
	}
	return ""
}
