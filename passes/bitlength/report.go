package bitlength

import (
	"math"
	"slices"

	"github.com/thriftc/thriftc/passes"
)

// LayerReport is what became of one layer. Bits are effective ones: where
// channels differ, their mean. Containers are what holds the widest of them.
type LayerReport struct {
	Layer           string  `json:"layer"`
	WeightBits      float64 `json:"weight_bits"`
	ActBits         float64 `json:"act_bits"`
	WeightContainer int     `json:"weight_container_bits"` // 4 or 8, as ONNX has them
	ActContainer    int     `json:"act_container_bits"`
	MACs            int64   `json:"macs"`
	Weights         int64   `json:"weights"`
}

// Learned is a bit length before it is rounded, the mean where channels have their own.
type Learned struct {
	Of   string  `json:"of"` // the weights or the activation
	Bits float64 `json:"bits"`
}

// learned lists the bit lengths as they are.
func (m *model) learned() []Learned {
	var out []Learned
	w := m.stored()
	for i, q := range m.quants {
		if q.learned {
			out = append(out, Learned{q.name, rounded(meanOf(w[i]))})
		}
	}
	return out
}

// report records the widths.
func (m *model) report(c *passes.Context, w widths) {
	acts := map[*passes.Layer][]float64{}
	for i, q := range m.quants {
		if q.site != nil {
			for _, l := range q.site.layers {
				acts[l] = w[i]
			}
		}
	}
	var out []LayerReport
	effective, container := 0.0, 0.0
	for i, q := range m.quants {
		if q.unit == nil {
			continue
		}
		for _, l := range q.unit.layers {
			out = append(out, LayerReport{
				Layer: l.Node.Label(), WeightBits: rounded(meanOf(w[i])), ActBits: rounded(meanOf(acts[l])),
				WeightContainer: weightContainer(w[i]), ActContainer: actContainer(acts[l]),
				MACs: l.Node.Op.Cost(l.Node).MACs, Weights: q.values,
			})
		}
		effective += float64(q.values) * meanOf(w[i]) / 8
		container += float64(q.values) * float64(weightContainer(w[i])) / 8
	}
	c.Stat("layers", out)
	c.Stat("mean_bits", rounded(m.meanBits(w)))
	c.Stat("bops", m.bops(w))
	c.Stat("weight_bytes_effective", math.Ceil(effective))
	c.Stat("weight_bytes_container", math.Ceil(container))
	if len(m.skipped) > 0 {
		c.Stat("left_in_float", m.skipped)
	}
}

// weightContainer is the width in which ONNX stores the integers: int4 or int8.
func weightContainer(bits []float64) int {
	if slices.Max(bits) <= 4 {
		return 4
	}
	return 8
}

// actContainer is the width in which a runtime holds activations.
func actContainer(bits []float64) int {
	if slices.Max(bits) <= 8 {
		return 8
	}
	return 16
}

func rounded(x float64) float64 { return math.Round(1e4*x) / 1e4 }
