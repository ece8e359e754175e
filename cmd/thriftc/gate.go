package main

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/thriftc/thriftc"
	"github.com/thriftc/thriftc/internal/report"
)

func newGate() *cobra.Command {
	var format string
	var l thriftc.Limits
	c := &cobra.Command{
		Use:   "gate REPORT.json",
		Short: "Hold a report against limits, for CI",
		Long: `Hold a report.json against limits and exit with 4 when one is broken. A limit on
something that was not measured is broken: only what was verified can pass.`,
		Example: "  thriftc gate out/report.json --max-bytes 200000 --max-drop 0.5 --format junit",
		Args:    cobra.ExactArgs(1),
	}
	f := c.Flags()
	limit := func(p **float64, name, unit, help string) { f.Var(&optionalFloat{p, unit}, name, help) }
	limit(&l.MaxBytes, "max-bytes", "size", "bytes of the model on disk, such as 300kB or 1.5MiB")
	limit(&l.MaxBytesRatio, "max-bytes-ratio", "ratio", "bytes on disk, after / before, such as 0.3 or 30%")
	limit(&l.MaxParameters, "max-parameters", "number", "number of parameters")
	limit(&l.MaxMACs, "max-macs", "number", "multiply-accumulates per image")
	limit(&l.MaxBOPs, "max-bops", "number", "bit operations per image")
	limit(&l.MaxDrop, "max-drop", "points", "drop in top-1, percentage points, such as 0.5 or 0.5%")
	limit(&l.MinTop1, "min-top1", "ratio", "top-1 afterwards, such as 0.92 or 92%")
	limit(&l.MaxMSRatio, "max-ms-ratio", "ratio", "time per image, after / before, such as 0.8 or 80%")
	limit(&l.MaxMeanBits, "max-mean-bits", "number", "mean bits of the weights")
	f.BoolVar(&l.RequireBudget, "require-budget", false, "the run must have met its own budget")
	f.BoolVar(&l.RefuseWarnings, "refuse-warnings", false, "the run must not have warned")
	f.StringVar(&format, "format", "text", "text, json or junit")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains([]string{"text", "json", "junit"}, format) {
			return usageError("--format %s: there are text, json and junit", format)
		}
		checks, failure := thriftc.Gate(args[0], l)
		if checks == nil {
			return failure
		}
		var rows []report.Check
		for _, check := range checks {
			rows = append(rows, report.Check(check))
		}
		var err error
		w := c.OutOrStdout()
		switch format {
		case "text":
			err = report.WriteChecks(w, rows)
		case "json":
			err = writeJSON(w, struct {
				Passed bool            `json:"passed"`
				Checks []thriftc.Check `json:"checks"`
			}{failure == nil, checks})
		case "junit":
			err = report.WriteJUnit(w, "thriftc gate "+args[0], rows)
		}
		return cmp.Or(err, failure)
	}
	return c
}

// optionalFloat is a flag that leaves its pointer nil unless it is given. Its unit is number, size (in bytes),
// ratio (30% is 0.3) or points (0.5% is 0.5).
type optionalFloat struct {
	p    **float64
	unit string
}

var _ pflag.Value = &optionalFloat{}

func (o *optionalFloat) String() string { return "" }
func (o *optionalFloat) Type() string   { return o.unit }

func (o *optionalFloat) Set(s string) error {
	parse, factor := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }, 1.0
	wrong := "is not a number"
	switch number, percent := strings.CutSuffix(s, "%"); {
	case o.unit == "size":
		parse, wrong = parseSize, "is not a size; write 300kB, 1.5MiB or a number of bytes"
	case o.unit == "ratio" && percent:
		s, factor = number, 100
	case o.unit == "points" && percent:
		s = number
	}
	v, err := parse(s)
	if err != nil || math.IsNaN(v) {
		return errors.New(wrong)
	}
	*o.p = new(v / factor)
	return nil
}
