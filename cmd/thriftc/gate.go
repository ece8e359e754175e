package main

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"

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
	limit := func(p **float64, name, help string) { f.Var(optionalFloat{p}, name, help) }
	limit(&l.MaxBytes, "max-bytes", "bytes of the model on disk")
	limit(&l.MaxBytesRatio, "max-bytes-ratio", "bytes on disk, after / before")
	limit(&l.MaxParameters, "max-parameters", "number of parameters")
	limit(&l.MaxMACs, "max-macs", "multiply-accumulates per image")
	limit(&l.MaxBOPs, "max-bops", "bit operations per image")
	limit(&l.MaxDrop, "max-drop", "drop in top-1, percentage points")
	limit(&l.MinTop1, "min-top1", "top-1 afterwards, a fraction from 0 to 1")
	limit(&l.MaxMSRatio, "max-ms-ratio", "time per image, after / before")
	limit(&l.MaxMeanBits, "max-mean-bits", "mean bits of the weights")
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

// optionalFloat is a flag that leaves its pointer nil unless it is given.
type optionalFloat struct{ p **float64 }

var _ pflag.Value = optionalFloat{}

func (o optionalFloat) String() string { return "" }
func (o optionalFloat) Type() string   { return "number" }

func (o optionalFloat) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) {
		return errors.New("is not a number")
	}
	*o.p = &v
	return nil
}
