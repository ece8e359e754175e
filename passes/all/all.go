// Package all is the table of all passes, the order in which they make sense,
// and the named pipelines. It is the first file to read: everything that the
// compiler does to a graph stands here.
package all

import (
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/bitlength"
	"github.com/thriftc/thriftc/passes/bnstats"
	"github.com/thriftc/thriftc/passes/canonicalize"
	"github.com/thriftc/thriftc/passes/dce"
	"github.com/thriftc/thriftc/passes/deadchannels"
	"github.com/thriftc/thriftc/passes/equalize"
	"github.com/thriftc/thriftc/passes/fold"
	"github.com/thriftc/thriftc/passes/foldbn"
	"github.com/thriftc/thriftc/passes/lowerint"
	"github.com/thriftc/thriftc/passes/muxify"
	"github.com/thriftc/thriftc/passes/narrow"
	"github.com/thriftc/thriftc/passes/quantize"
	"github.com/thriftc/thriftc/passes/unfoldbn"
	"github.com/thriftc/thriftc/passes/widen"
)

// Table lists the passes. A new pass is one line in Passes, and one in Order
// for each pass that it must not stand on the wrong side of.
var Table = &passes.Table{
	Passes: []passes.Info{
		fold.Info,
		dce.Info,
		widen.Info,
		deadchannels.Info,
		canonicalize.Info,
		bnstats.Info,
		foldbn.Info,
		equalize.Info,
		quantize.Info,
		unfoldbn.Info,
		bitlength.Info,
		narrow.Info,
		lowerint.Info,
		muxify.Info,
	},

	Order: []passes.Order{
		{Before: "fold", After: "canonicalize", Reason: "paddings and limits that are computed from constants must be constants to be recognised"},
		{Before: "fold", After: "widen", Reason: "what a cast keeps small in the file would be folded"},
		{Before: "widen", After: "canonicalize", Reason: "some forms have rules for f32 only"},
		{Before: "widen", After: "quantize", Reason: "layers of f32 are quantised"},
		{Before: "widen", After: "bitlength", Reason: "layers of f32 are quantised"},
		{Before: "canonicalize", After: "foldbn", Reason: "a Sub of a constant can be folded once it is an Add"},
		{Before: "fold", After: "foldbn", Reason: "statistics and weights that are computed from constants must be constants to be folded"},
		{Before: "bn-stats", After: "foldbn", Reason: "folding leaves no batch norm to take statistics from"},
		{Before: "foldbn", After: "equalize", Reason: "a batch norm between two layers hides them from each other"},
		{Before: "foldbn", After: "quantize", Reason: "weights are quantised with the scale of their batch norm in them"},
		{Before: "fold", After: "bitlength", Reason: "weights that are computed from constants must be constants to be trained"},
		{Before: "canonicalize", After: "bitlength", Reason: "layers are recognised in their canonical form"},
		{Before: "foldbn", After: "bitlength", Reason: "integers cannot be rescaled; bitlength folds the batch norms that it trained with itself"},
		{Before: "equalize", After: "bitlength", Reason: "integers cannot be rescaled"},
		{Before: "equalize", After: "quantize", Reason: "integers cannot be rescaled"},
		{Before: "widen", After: "narrow", Reason: "narrow puts back what widen has changed"},
		{Before: "quantize", After: "narrow", Reason: "layers of f32 are quantised"},
		{Before: "bitlength", After: "narrow", Reason: "layers of f32 are quantised"},
		{Before: "quantize", After: "lowerint", Reason: "integers come from what quantisers round to"},
		{Before: "foldbn", After: "dead-channels", Reason: "a channel is seen to be zero once its batch norm is in the bias"},
		{Before: "dead-channels", After: "quantize", Reason: "channels are removed from float weights"},
		{Before: "foldbn", After: "muxify", Reason: "batch normalisation is folded into convolutions that are not yet thriftc.MuxConv"},
		{Before: "quantize", After: "muxify", Reason: "weights are quantised in dense convolutions"},
		{Before: "lowerint", After: "muxify", Reason: "integers come from dense convolutions; muxify finds one weight per slice there too"},
	},

	Pipelines: []passes.Pipeline{
		{Name: "clean", Doc: "What every compression begins with: constants, no-ops, one form for everything, batch normalisation.",
			Steps: "fold,dce,canonicalize,dce,foldbn,dce"},
		{Name: "ptq", Doc: "Post-training quantisation, with or without calibration data.",
			Steps: "fold,dce,widen,canonicalize,dce,bn-stats,foldbn,dce,quantize,narrow"},
		{Name: "bits", Doc: "Bit lengths learned on training data; give a target or a max-drop.",
			Steps: "fold,dce,widen,canonicalize,dce,bitlength,narrow"},
	},
}
