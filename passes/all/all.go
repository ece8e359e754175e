// Package all is the table of all passes, the order in which they make sense,
// and the named pipelines. It is the first file to read: everything that the
// compiler does to a graph stands here.
package all

import (
	"thriftc/passes"
	"thriftc/passes/dce"
	"thriftc/passes/fold"
	"thriftc/passes/foldbn"
)

// Table lists the passes. A new pass is one line in Passes, and one in Order
// for each pass that it must not stand on the wrong side of.
var Table = &passes.Table{
	Passes: []passes.Info{
		fold.Info,
		dce.Info,
		foldbn.Info,
	},

	Order: []passes.Order{
		{Before: "fold", After: "foldbn", Reason: "statistics and weights that are computed from constants must be constants to be folded"},
	},

	Pipelines: []passes.Pipeline{
		{Name: "clean", Doc: "What every compression begins with: constants, no-ops and batch normalisation.",
			Steps: "fold,dce,foldbn,dce"},
	},
}
