// Package quantize is post-training quantisation: it replaces weights by
// integers and puts activations on integer grids, without training.
//
//	conv = Conv(x, W, b)              xq = thriftc.Quant(x, sx, 0, 8)
//	y = Relu(conv)            →       W' = DequantizeLinear(i8 W, sw)    per channel
//	                                  b' = DequantizeLinear(i32 b, sx·sw)
//	                                  conv = Conv(xq, W', b')
//	                                  y = Relu(conv), then quantised for its users
//
// Scales of activations come from one pass over calibration data, or without
// any from the statistics of batch norms. Rounding follows Nagel et al., "A
// White Paper on Neural Network Quantization" (arXiv 2106.08295); the pieces name
// their own sources. docs/quantize.md describes the method and what it measures.
package quantize

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "quantize",
	Doc: `Quantises weights and activations to integers without training.
Weights become integer constants followed by DequantizeLinear, activations pass through
thriftc.Quant, biases are i32. Needs calibration data, or batch norm statistics recorded by bn-stats.`,
	Kind: passes.Lossy,
	New:  func() passes.Pass { return New() },
}

// New returns the pass with its default options.
func New() *Quantize {
	return &Quantize{
		WeightBits: 8, ActBits: 8, InputBits: 8, WeightObserver: mse, Observer: mse, Percentile: 99.99,
		BiasCorrection: true, ReconSamples: 256, Sigmas: 6, SensitivitySamples: 32, MaxDrop: -1, MaxDropRelative: -1,
	}
}

// Quantize holds the options of the pass.
type Quantize struct {
	WeightBits int `help:"bits of the weights, 2 to 8"`
	ActBits    int `help:"bits of the activations, 2 to 8 or 16; 0 leaves them in float"`
	InputBits  int `help:"least bits of the graph's inputs, 0 to 16"`

	PerTensor      bool   `help:"one scale for each weight tensor instead of one for each output channel"`
	WeightAffine   bool   `help:"weights with a zero point"`
	Narrow         bool   `help:"leave out the least integer of signed weights, which makes the range symmetric"`
	WeightObserver string `help:"how the scales of weights are chosen: mse or minmax"`

	ActAffine  bool    `help:"activations with a zero point; otherwise signed, or unsigned where they are never negative"`
	SignedActs bool    `help:"signed integers for all activations, also for those that are never negative"`
	Observer   string  `help:"how the ranges of activations are chosen: minmax, percentile, mse or entropy"`
	Percentile float64 `help:"percentage of an activation's numbers that the percentile observer keeps in range"`
	Pow2       bool    `help:"scales are powers of two"`

	Exclude   []string `help:"patterns of the names of layers to leave in float, as in 'head/*', or of their operators, as in op:Gemm"`
	LayerBits []string `help:"other widths for layers: pattern:weights or pattern:weights/activations, as in conv1:8/8 or op:Gemm:8; the last match counts"`

	BiasCorrection bool `help:"make up for the mean error of rounded weights in the biases"`
	Recon          bool `help:"adaptive rounding: choose the integers of each layer by their effect on its outputs"`
	ReconSamples   int  `help:"calibration samples that adaptive rounding uses"`

	Sigmas     float64 `help:"without data: activations reach from mean − sigmas·σ to mean + sigmas·σ"`
	InputRange string  `help:"without data: least and greatest number in the graph's inputs, as in -1:1"`

	Sensitivity        bool `help:"measure what quantising each layer alone does to the outputs"`
	SensitivitySamples int  `help:"calibration samples that measuring sensitivity uses"`

	MaxDrop         float64 `help:"points of score that may be lost; raises bits or leaves layers in float until that holds; negative: no limit"`
	MaxDropRelative float64 `help:"like max-drop, in percent of the float score"`
}

// Run implements passes.Pass.
func (o *Quantize) Run(c *passes.Context, g *ir.Graph) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if p := o.Check(g); p != nil {
		return &passes.Refusal{Problems: p}
	}
	units, skipped := unitsOf(g)
	skipped, err := o.choose(units, skipped)
	if err != nil {
		return err
	}
	if len(units) == 0 && len(skipped) > 0 {
		c.Log.Warn("no layer is quantised", "layer", skipped[0].Node, "reason", skipped[0].Reason)
	}
	p := place(units)
	o.widenInputs(g, p)
	means, err := o.ranges(c, g, p, units)
	if err != nil {
		return err
	}
	if err := o.round(c, g, p, units, means); err != nil {
		return err
	}
	s := &solution{o: o, g: g, p: p, units: units, means: means, skipped: skipped}
	if err := s.settle(c); err != nil {
		return err
	}
	passes.ClearMoments(ir.NewRewriter(g))
	final, err := o.gridsOf(place(units), p)
	if err != nil {
		return err
	}
	return itself(g).apply(final, units)
}

// Validate implements passes.Validator.
func (o *Quantize) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.WeightBits < 2 || o.WeightBits > 8 {
		bad("weight-bits is %d, expected 2 to 8", o.WeightBits)
	}
	if !isActBits(o.ActBits) {
		bad("act-bits is %d, expected 2 to 8, 16, or 0 for float", o.ActBits)
	}
	if o.InputBits < 0 || o.InputBits > 16 {
		bad("input-bits is %d, expected 0 to 16", o.InputBits)
	}
	if o.WeightObserver != mse && o.WeightObserver != minMax {
		bad("weight-observer is %q, expected mse or minmax", o.WeightObserver)
	}
	switch o.Observer {
	case minMax, percentile, mse, entropy:
	default:
		bad("observer is %q, expected minmax, percentile, mse or entropy", o.Observer)
	}
	if !(o.Percentile > 50 && o.Percentile <= 100) {
		bad("percentile is %v, expected more than 50 and at most 100", o.Percentile)
	}
	if !(o.Sigmas > 0) {
		bad("sigmas is %v, expected more than 0", o.Sigmas)
	}
	if _, err := o.inputRange(); err != nil {
		errs = append(errs, err)
	}
	if o.ReconSamples < 1 || o.SensitivitySamples < 1 {
		bad("recon-samples is %d and sensitivity-samples %d, expected at least 1", o.ReconSamples, o.SensitivitySamples)
	}
	if o.MaxDrop >= 0 && o.MaxDropRelative >= 0 {
		bad("max-drop and max-drop-relative exclude each other")
	}
	for _, s := range o.Exclude {
		if _, err := path.Match(s, ""); err != nil {
			bad("exclude: pattern %q: %w", s, err)
		}
	}
	for _, s := range o.LayerBits {
		if _, _, _, err := parseLayerBits(s); err != nil {
			bad("layer-bits: %w", err)
		}
	}
	return errors.Join(errs...)
}

// inputRange returns the two numbers of InputRange, nil when it is empty.
func (o *Quantize) inputRange() ([]float64, error) {
	if o.InputRange == "" {
		return nil, nil
	}
	a, b, _ := strings.Cut(o.InputRange, ":")
	lo, err1 := strconv.ParseFloat(a, 32)
	hi, err2 := strconv.ParseFloat(b, 32)
	if err1 != nil || err2 != nil || !(lo <= 0 && 0 <= hi && 0 < hi-lo && hi-lo <= math.MaxFloat32) {
		return nil, fmt.Errorf("input-range is %q, expected the least and the greatest number, as in -1:1, with 0 between them", o.InputRange)
	}
	return []float64{lo, hi}, nil
}

func isActBits(b int) bool { return b == 0 || b >= 2 && b <= 8 || b == 16 }

// parseLayerBits reads pattern:weights or pattern:weights/activations; the
// latter are −1 when not given.
func parseLayerBits(s string) (pattern string, weights, acts int, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, 0, fmt.Errorf("%q, expected pattern:weights or pattern:weights/activations", s)
	}
	pattern = s[:i]
	w, a, both := strings.Cut(s[i+1:], "/")
	acts = -1
	weights, err = strconv.Atoi(w)
	if err == nil && both {
		acts, err = strconv.Atoi(a)
	}
	if _, perr := path.Match(pattern, ""); perr != nil {
		return "", 0, 0, fmt.Errorf("pattern %q: %w", pattern, perr)
	}
	if err != nil || weights < 2 || weights > 8 || both && !isActBits(acts) {
		return "", 0, 0, fmt.Errorf("%q: expected 2 to 8 bits for weights, and 2 to 8, 16 or 0 for activations", s)
	}
	return pattern, weights, acts, nil
}

// Check implements passes.Checker: it names the first node of a quantised model.
func (o *Quantize) Check(g *ir.Graph) []backends.Problem {
	var found *ir.Node
	g.Walk(func(n *ir.Node) {
		if found == nil && (n.Op.Bits != nil || n.Op.Name == "ConvInteger" || n.Op.Name == "MatMulInteger") {
			found = n
		}
	})
	if found != nil {
		return []backends.Problem{{Node: found.Label(), Reason: "the model is quantised already (this is a " + found.Op.Name + "): quantise the float model that it was made from"}}
	}
	return nil
}

// choose sets the widths of the units, and lists those that stay in float.
// A pattern that no layer matches is an error.
func (o *Quantize) choose(units []*unit, skipped []skip) ([]skip, error) {
	used := map[string]bool{}
	for _, u := range units {
		u.bits, u.actBits = o.WeightBits, o.ActBits
		for _, l := range u.layers {
			for _, s := range o.LayerBits {
				if pattern, w, a, _ := parseLayerBits(s); passes.Matches(pattern, l.Node) {
					used[s] = true
					if u.bits = w; a >= 0 {
						u.actBits = a
					}
				}
			}
		}
		for _, l := range u.layers {
			for _, s := range o.Exclude {
				if passes.Matches(s, l.Node) {
					used[s] = true
					if u.bits != 0 {
						skipped = append(skipped, skip{l.Node.Label(), "excluded by " + s})
					}
					u.bits = 0
				}
			}
		}
	}
	var errs []error
	for _, s := range slices.Concat(o.LayerBits, o.Exclude) {
		if !used[s] {
			errs = append(errs, fmt.Errorf("%q matches no layer; the layers are %s", s, someOf(namesOf(units))))
		}
	}
	return skipped, errors.Join(errs...)
}

func namesOf(units []*unit) []string {
	var out []string
	for _, u := range units {
		for _, l := range u.layers {
			out = append(out, l.Node.Label())
		}
	}
	return out
}

// widenInputs gives groups that hold an input of the graph at least InputBits.
func (o *Quantize) widenInputs(g *ir.Graph, p *placement) {
	for _, v := range g.Inputs {
		if grp := p.of[v]; grp != nil {
			grp.bits = max(grp.bits, o.InputBits)
		}
	}
}

// ranges chooses the grids of the activations, from calibration data if there
// are any. It returns the mean inputs of the layers, as far as they are known.
func (o *Quantize) ranges(c *passes.Context, g *ir.Graph, p *placement, units []*unit) (map[*layer][]float64, error) {
	if c.Calib != nil {
		return o.calibrate(c, g, p, units)
	}
	return o.dataFree(c, g, p, units)
}

// round chooses the integers of all units.
func (o *Quantize) round(c *passes.Context, g *ir.Graph, p *placement, units []*unit, means map[*layer][]float64) error {
	if o.Recon {
		if c.Calib == nil {
			return errors.New("recon needs calibration data")
		}
		return o.reconstruct(c, g, p, units, means)
	}
	for i, u := range units {
		if err := o.roundNearest(c, p, u, means); err != nil {
			return err
		}
		if c.Progress != nil {
			c.Progress("round", i+1, len(units))
		}
	}
	return nil
}

// roundNearest rounds the weights of a unit to the nearest integers.
func (o *Quantize) roundNearest(c *passes.Context, p *placement, u *unit, means map[*layer][]float64) error {
	if u.bits == 0 || u.weight == nil {
		return nil
	}
	m := rowsOf(u.weight.Data, u.axis)
	if err := o.scaleRows(c, p, u, m, nil); err != nil {
		return err
	}
	if err := u.nearest(c, c.Threads, m); err != nil {
		return err
	}
	if o.BiasCorrection {
		return u.correctBias(c, m, means)
	}
	return nil
}

// scaleRows chooses the grids of the weights of a unit; importance as for weightGrids.
func (o *Quantize) scaleRows(c *passes.Context, p *placement, u *unit, m matrix, importance func(row int) []float64) (err error) {
	u.signed = !o.WeightAffine
	u.levels = levelsOf(u.bits, u.signed, o.Narrow)
	u.grids, err = o.weightGrids(c, c.Threads, m, importance, u.levels, o.PerTensor || m.n == 1, u.leastScale(p, m.n))
	return err
}
