// Package bitlength learns how many bits each layer needs: BitPruning
// (Nikolić et al., arXiv 2002.03090).
//
//	conv = Conv(x, W)        →   wq = thriftc.BitQuant(W, n_w, …)      trained together with W,
//	                             xq = thriftc.BitQuant(x, n_x, …)      then n is rounded up and
//	                             conv = Conv(xq, wq)                   W fine-tuned once more
//
// A bit length n need not be whole: with b = ⌊n⌋ and a = n − b the quantiser
// interpolates, Q(x, n) = (1 − a)·Q(x, b) + a·Q(x, b+1), so that ∂L/∂n = Σ g·(Q(x, b+1) − Q(x, b)).
// The loss is L = L_task + γ·Σ λ_i·n_i with Σ λ_i = 1: γ is given, or adapted so
// that the bit lengths reach a target (control.go). What comes out is what the quantize pass
// makes: thriftc.Quant for activations, integer constants and DequantizeLinear for weights
// (finish.go). docs/bitpruning.md says what is the paper's and what is ours.
package bitlength

import (
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// Info describes the pass.
var Info = passes.Info{
	Name: "bitlength",
	Doc: `Learns the bit length of every layer's weights and activations by gradient descent (BitPruning).
The model is fine-tuned meanwhile, and once more with the widths rounded up. Needs training data. Give a
target (target-bits, target-bytes or target-bops), a max-drop, a gamma, or uniform for the same width everywhere.`,
	Kind: passes.Training,
	New:  func() passes.Pass { return New() },
}

// New returns the pass with its default options.
func New() *Bitlength {
	return &Bitlength{
		Gamma: -1, Lambda: lambdaEqual, Granularity: perLayer, ActGranularity: perLayer, GroupSize: 16,
		MinBits: 2, MaxBits: 8, InputBits: 8, ResidualBits: 8,
		WeightRange: rangeLearned, ActRange: rangeLearned, Freeze: freezeCeil,
		Learn: 0.5, Rate: 0.01, BitsRate: 0.1, RangeRate: 0.01, WeightDecay: 1e-4, TeacherWeight: 0.7, MaxDrop: -1,
	}
}

// Bitlength holds the options of the pass.
type Bitlength struct {
	TargetBits  float64 `help:"mean bits to reach, over the weights and input activations of all layers, each counting the same; 0: no target"`
	TargetBytes int     `help:"bytes to reach: weights packed at their widths; 0: no target"`
	TargetBops  float64 `help:"bit operations of one image to reach: MACs times the widths of both operands; 0: no target"`
	MaxDrop     float64 `help:"points of held-out accuracy that may be lost: looks for the smallest model that keeps to it, and no smaller than a target; negative: no limit"`
	Gamma       float64 `help:"strength of the regulariser, instead of a target; negative: chosen by the target"`
	Uniform     int     `help:"the same fixed width for all weights and activations, fine-tuned for the whole time; 0: learn"`

	Lambda string   `help:"what a bit of a layer costs: equal, macs, footprint (number of values), or table"`
	Costs  []string `help:"with lambda=table, cost of a bit: pattern:weights or pattern:weights/activations, as in 'conv1:4/2'; the last match counts, others cost 1"`

	Granularity    string `help:"what shares a bit length of weights: network, layer, channel or group (of group-size output channels)"`
	ActGranularity string `help:"what shares a bit length of activations: network, layer, channel or group (of group-size channels)"`
	GroupSize      int    `help:"channels of a group, at most; the largest divisor of the channels is taken"`

	MinBits      int `help:"least bits, 1 to 8; 1 leaves weights −s and 0"`
	MaxBits      int `help:"most bits, where learning starts"`
	InputBits    int `help:"bits of the network's input, which are not learned"`
	ResidualBits int `help:"bits of the operands of additions and average pools, which are not learned; 0 leaves them in float"`

	WeightRange string   `help:"range of weights: learned, or minmax (their largest magnitude at every step, as in the paper)"`
	ActRange    string   `help:"range of activations: learned, or ema (running mean of the largest of a batch)"`
	PerTensor   bool     `help:"one range for each weight tensor instead of one for each output channel"`
	Pow2        bool     `help:"scales are powers of two; batch norms must be folded before (foldbn)"`
	FloatBias   bool     `help:"leave biases in float instead of i32 at the scale of the accumulators"`
	KeepFolded  bool     `help:"do not put batch norms back behind convolutions that have none while training"`
	Freeze      string   `help:"how bit lengths become whole: ceil or round"`
	Exclude     []string `help:"patterns of the names of layers to leave in float, as in 'head/*', or of their operators, as in op:Gemm"`

	Epochs        float64 `help:"passes over the training data in all; 0: what the time budget allows, or 20"`
	Learn         float64 `help:"part of the time in which bit lengths are learned; the rest fine-tunes with fixed ones"`
	Rate          float64 `help:"peak learning rate of the weights"`
	BitsRate      float64 `help:"learning rate of the bit lengths (momentum 0.9)"`
	RangeRate     float64 `help:"learning rate of the logarithms of learned ranges (Adam)"`
	WeightDecay   float64 `help:"weight decay, of weights only"`
	TeacherWeight float64 `help:"part of the loss that imitates the float model, 0 to 1; the rest is that of the labels"`
}

// The values of options.
const (
	lambdaEqual     = "equal"
	lambdaMACs      = "macs"
	lambdaFootprint = "footprint"
	lambdaTable     = "table"

	perNetwork = "network"
	perLayer   = "layer"
	perChannel = "channel"
	perGroup   = "group"

	rangeMinMax  = "minmax"
	rangeLearned = "learned"
	rangeEMA     = "ema"

	freezeCeil  = "ceil"
	freezeRound = "round"
)

// defaultEpochs are trained when neither epochs nor a time budget are given.
const defaultEpochs = 20

// Validate implements passes.Validator.
func (o *Bitlength) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	word := func(name, value string, allowed ...string) {
		for _, a := range allowed {
			if value == a {
				return
			}
		}
		bad("%s is %q, expected one of %q", name, value, allowed)
	}
	word("lambda", o.Lambda, lambdaEqual, lambdaMACs, lambdaFootprint, lambdaTable)
	word("granularity", o.Granularity, perNetwork, perLayer, perChannel, perGroup)
	word("act-granularity", o.ActGranularity, perNetwork, perLayer, perChannel, perGroup)
	word("weight-range", o.WeightRange, rangeMinMax, rangeLearned)
	word("act-range", o.ActRange, rangeLearned, rangeEMA)
	word("freeze", o.Freeze, freezeCeil, freezeRound)
	if goals := o.goals(); goals > 1 {
		bad("target-bits, target-bytes, target-bops, gamma and uniform exclude each other; %d are given", goals)
	}
	if o.MaxDrop >= 0 && (o.Gamma >= 0 || o.Uniform > 0) {
		bad("max-drop goes with a target or alone, not with gamma or uniform")
	}
	if o.TargetBits < 0 || o.TargetBytes < 0 || o.TargetBops < 0 {
		bad("a target is negative")
	}
	if o.MinBits < 1 || o.MaxBits > 8 || o.MinBits >= o.MaxBits {
		bad("min-bits is %d and max-bits %d, expected 1 ≤ min-bits < max-bits ≤ 8", o.MinBits, o.MaxBits)
	}
	if o.TargetBits > 0 && (o.TargetBits < float64(o.MinBits) || o.TargetBits > float64(o.MaxBits)) {
		bad("target-bits is %v, expected min-bits to max-bits (%d to %d)", o.TargetBits, o.MinBits, o.MaxBits)
	}
	if o.Uniform != 0 && (o.Uniform < 2 || o.Uniform > 8) {
		bad("uniform is %d, expected 2 to 8, or 0", o.Uniform)
	}
	if o.InputBits < 2 || o.InputBits > 16 || o.ResidualBits != 0 && (o.ResidualBits < 2 || o.ResidualBits > 16) {
		bad("input-bits is %d and residual-bits %d, expected 2 to 16, or residual-bits 0", o.InputBits, o.ResidualBits)
	}
	if o.GroupSize < 1 {
		bad("group-size is %d, expected at least 1", o.GroupSize)
	}
	if !(o.Learn > 0 && o.Learn < 1) {
		bad("learn is %v, expected more than 0 and less than 1", o.Learn)
	}
	if o.Epochs < 0 || !(o.Rate > 0) || !(o.BitsRate > 0) || !(o.RangeRate > 0) || o.WeightDecay < 0 {
		bad("epochs and weight-decay must not be negative, and rate, bits-rate and range-rate must be positive")
	}
	if !(o.TeacherWeight >= 0 && o.TeacherWeight <= 1) {
		bad("teacher-weight is %v, expected 0 to 1", o.TeacherWeight)
	}
	for _, p := range o.Exclude {
		if _, err := path.Match(p, ""); err != nil {
			bad("exclude: pattern %q: %w", p, err)
		}
	}
	if len(o.Costs) > 0 && o.Lambda != lambdaTable {
		bad("costs are for lambda=table, lambda is %s", o.Lambda)
	}
	for _, s := range o.Costs {
		if _, err := parseCost(s); err != nil {
			bad("costs: %w", err)
		}
	}
	return errors.Join(errs...)
}

// goals counts the ways in which the widths are asked for.
func (o *Bitlength) goals() int {
	n := 0
	for _, given := range []bool{o.TargetBits > 0, o.TargetBytes > 0, o.TargetBops > 0, o.Gamma >= 0, o.Uniform > 0} {
		if given {
			n++
		}
	}
	return n
}

// Check implements passes.Checker.
func (o *Bitlength) Check(g *ir.Graph) []backends.Problem {
	var found *ir.Node
	g.Walk(func(n *ir.Node) {
		if found == nil && n.Op.Bits != nil {
			found = n
		}
	})
	if found != nil {
		return []backends.Problem{{Node: found.Label(), Reason: "the model is quantised already (this is a " + found.Op.Name + "): learn the widths of the float model that it was made from"}}
	}
	var out []backends.Problem
	if o.Pow2 {
		for _, n := range g.Nodes {
			if bn := normAfter(n); bn != nil {
				out = append(out, backends.Problem{Node: bn.Label(), Reason: "this batch norm scales each channel of a layer, so that scales which are powers of two would not stay it: put foldbn before bitlength{pow2}"})
			}
		}
	}
	return out
}

// Run implements passes.Pass.
func (o *Bitlength) Run(c *passes.Context, g *ir.Graph) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.goals() == 0 && o.MaxDrop < 0 {
		return errors.New("nothing says how far the widths should fall: give target-bits, target-bytes, target-bops, max-drop, gamma or uniform")
	}
	if p := o.Check(g); p != nil {
		return &passes.Refusal{Problems: p}
	}
	if c.Trainer == nil || c.Calib == nil {
		return errors.New("bitlength trains the model and needs training data")
	}
	if o.MaxDrop >= 0 && c.Score == nil {
		return errors.New("max-drop needs labelled data to measure the accuracy on")
	}
	restored := 0
	if !o.KeepFolded && !o.Pow2 {
		var err error
		if restored, err = passes.UnfoldNorms(c, g); err != nil {
			return err
		}
		c.Stat("batch_norms_restored", restored)
	}
	m, err := o.insert(c, g, restored > 0)
	if err != nil {
		return err
	}
	s := &schedule{o: o, c: c, m: m, began: time.Now()}
	switch {
	case o.MaxDrop >= 0:
		err = s.search()
	default:
		err = s.single()
	}
	if err != nil {
		return err
	}
	w := m.stored()
	m.report(c, w)
	return m.finish(g, w, data)
}
