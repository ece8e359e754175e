package report

import "slices"

// Weighted returns the layers with weights: convolutions and matrix products.
func Weighted(layers []Layer) []Layer {
	return slices.DeleteFunc(slices.Clone(layers), func(l Layer) bool {
		return l.WeightBits == 0 || l.MACs == 0 || l.Op == "BatchNormalization"
	})
}

// PlotBits draws the widths of the layers to base.svg and base.png.
func PlotBits(base string, layers []Layer) error {
	p := Panel{YLabel: "bits", Curves: []Curve{{Name: "weights"}, {Name: "input activations"}}}
	for _, l := range Weighted(layers) {
		p.Bars = append(p.Bars, l.Name)
		p.Curves[0].Y = append(p.Curves[0].Y, float64(l.WeightBits))
		p.Curves[1].Y = append(p.Curves[1].Y, float64(l.ActivationBits))
	}
	if len(p.Bars) == 0 {
		return nil
	}
	return WritePlot(base, p)
}
