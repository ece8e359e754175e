package arch

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
)

// resNet is the CIFAR network of He et al. (arXiv 1512.03385, section 4.2):
// three stages of n blocks with w, 2w and 4w channels. Shortcut pad is their
// option A, conv their option B.
func resNet(b *builder, s Spec, x *ir.Value, numbers []float64) (*ir.Value, error) {
	depth := int(numbers[0])
	n := (depth - 2) / 6
	if n < 1 || 6*n+2 != depth {
		return nil, depthError(numbers[0], "6n+2")
	}
	if s.Width == 0 {
		s.Width = 16
	}
	w := scaled(1, s.Width)
	x = b.convNorm("conv1", x, convolution{kernel: square(3), out: w, torch: true}, false)
	for stage := range 3 {
		for i := range n {
			name := fmt.Sprintf("layer%d.%d", stage+1, i)
			out, stride := w<<stage, 1
			if stage > 0 && i == 0 {
				stride = 2
			}
			y := b.convNorm(name+".conv1", x, convolution{kernel: square(3), stride: square(stride), out: out, torch: true}, false)
			y = b.convNorm(name+".conv2", y, convolution{kernel: square(3), out: out, torch: true}, true)
			if stride > 1 {
				x = b.shortcut(name+".shortcut", x, out, s.Shortcut)
			}
			x = b.relu(name+".relu", b.add("Add", name+".add", nil, y, x))
		}
	}
	return b.classify(x, s.Classes), nil
}

// shortcut halves the sides of x and brings it to out channels.
func (b *builder) shortcut(name string, x *ir.Value, out int, kind string) *ir.Value {
	if kind != "pad" {
		return b.convNorm(name, x, convolution{kernel: square(1), stride: square(2), out: out, torch: true}, true)
	}
	if b.err != nil {
		return x
	}
	big := int64(1) << 30 // beyond every side: up to the end
	extra := out - channels(x)
	x = b.add("Slice", name+".slice", nil, x,
		b.r.Ints(name+".starts", 0, 0), b.r.Ints(name+".ends", big, big), b.r.Ints(name+".axes", 2, 3), b.r.Ints(name+".steps", 2, 2))
	return b.add("Pad", name+".pad", nil, x, b.r.Ints(name+".pads", 0, int64(extra/2), 0, 0, 0, int64(extra-extra/2), 0, 0))
}

// resNetTiny is the ResNet-8 of the MLPerf Tiny benchmark (arXiv 2106.07597):
// biases everywhere, and shortcuts without batch normalisation.
func resNetTiny(b *builder, s Spec, x *ir.Value, _ []float64) (*ir.Value, error) {
	x = b.convNorm("conv1", x, convolution{kernel: square(3), out: 16, bias: true}, false)
	for stage := range 3 {
		name := fmt.Sprintf("stage%d", stage+1)
		out, stride := 16<<stage, min(stage+1, 2)
		y := b.convNorm(name+".conv1", x, convolution{kernel: square(3), stride: square(stride), out: out, bias: true}, false)
		y = b.convNorm(name+".conv2", y, convolution{kernel: square(3), out: out, bias: true}, true)
		if stage > 0 {
			x = b.conv(name+".shortcut", x, convolution{kernel: square(1), stride: square(2), out: out, bias: true})
		}
		x = b.relu(name+".relu", b.add("Add", name+".add", nil, y, x))
	}
	return b.classify(x, s.Classes), nil
}

// wideResNet is WRN-d-k (Zagoruyko and Komodakis, arXiv 1605.07146) without
// dropout: normalisation and ReLU come before the convolutions. k may be a
// fraction: channels are rounded.
func wideResNet(b *builder, s Spec, x *ir.Value, numbers []float64) (*ir.Value, error) {
	n := (int(numbers[0]) - 4) / 6
	if n < 1 || 6*n+4 != int(numbers[0]) {
		return nil, depthError(numbers[0], "6n+4")
	}
	x = b.conv("conv1", x, convolution{kernel: square(3), out: 16, torch: true})
	for stage := range 3 {
		out := scaled(16<<stage, numbers[1])
		for i := range n {
			name := fmt.Sprintf("block%d.%d", stage+1, i)
			stride := 1
			if stage > 0 && i == 0 {
				stride = 2
			}
			pre := b.relu(name+".relu1", b.norm(name+".bn1", x))
			y := b.convNorm(name+".conv1", pre, convolution{kernel: square(3), stride: square(stride), out: out, torch: true}, false)
			y = b.conv(name+".conv2", y, convolution{kernel: square(3), out: out, torch: true})
			if b.err == nil && (channels(x) != out || stride > 1) {
				x = b.conv(name+".shortcut", pre, convolution{kernel: square(1), stride: square(stride), out: out, torch: true})
			}
			x = b.add("Add", name+".add", nil, y, x)
		}
	}
	return b.classify(b.relu("relu", b.norm("bn", x)), s.Classes), nil
}

// mobileNet is MobileNet (Howard et al., arXiv 1704.04861, table 1).
func mobileNet(b *builder, s Spec, x *ir.Value, _ []float64) (*ir.Value, error) {
	layers := []struct{ out, stride int }{
		{64, 1}, {128, 2}, {128, 1}, {256, 2}, {256, 1}, {512, 2},
		{512, 1}, {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1},
	}
	x = b.convNorm("conv1", x, convolution{kernel: square(3), stride: square(2), out: scaled(32, s.Width)}, false)
	for i, l := range layers {
		x = b.separable(fmt.Sprintf("block%d", i+1), x, scaled(l.out, s.Width), l.stride, false)
	}
	return b.classify(x, s.Classes), nil
}

// separable adds a depthwise and a pointwise convolution.
func (b *builder) separable(name string, x *ir.Value, out, stride int, bias bool) *ir.Value {
	c := channels(x)
	x = b.convNorm(name+".depthwise", x, convolution{kernel: square(3), stride: square(stride), out: c, group: c, bias: bias}, false)
	return b.convNorm(name+".pointwise", x, convolution{kernel: square(1), out: out, bias: bias}, false)
}

// dsCNN is the keyword spotter of the MLPerf Tiny benchmark (arXiv
// 2106.07597), after Zhang et al. (arXiv 1711.07128), without its dropout.
func dsCNN(b *builder, s Spec, x *ir.Value, _ []float64) (*ir.Value, error) {
	w := scaled(64, s.Width)
	x = b.convNorm("conv1", x, convolution{kernel: []int{10, 4}, stride: square(2), out: w, bias: true}, false)
	for i := range 4 {
		x = b.separable(fmt.Sprintf("block%d", i+1), x, w, 1, true)
	}
	return b.classify(x, s.Classes), nil
}

// leNet is LeNet-5 (LeCun et al. 1998, figure 2) with ReLU and maxima in place
// of its sigmoids and trained averages, and every input map feeding every output.
func leNet(b *builder, s Spec, x *ir.Value, _ []float64) (*ir.Value, error) {
	if s.Input[1] < 12 || s.Input[2] < 12 {
		return nil, fmt.Errorf("pictures of %d×%d are too small", s.Input[2], s.Input[1])
	}
	pool := func(name string, x *ir.Value) *ir.Value {
		return b.add("MaxPool", name, ir.MakeAttrs("kernel_shape", square(2), "strides", square(2)), x)
	}
	x = b.relu("conv1.relu", b.conv("conv1", x, convolution{kernel: square(5), out: scaled(6, s.Width), bias: true, torch: true}))
	x = pool("pool1", x)
	x = b.relu("conv2.relu", b.conv("conv2", x, convolution{kernel: square(5), out: scaled(16, s.Width), bias: true, valid: true}))
	x = b.add("Flatten", "features", nil, pool("pool2", x))
	for i, n := range []int{120, 84} {
		name := fmt.Sprintf("fc%d", i+1)
		x = b.relu(name+".relu", b.dense(name, x, scaled(n, s.Width), 2))
	}
	return b.dense("logits", x, s.Classes, 1), nil
}
