package thriftc

import (
	"errors"

	"github.com/thriftc/thriftc/internal/report"
)

// Limits are what a gate asks of a report; nil fields are not asked.
type Limits struct {
	MaxBytes       *float64 // of the file
	MaxBytesRatio  *float64 // after / before
	MaxParameters  *float64
	MaxMACs        *float64
	MaxBOPs        *float64
	MaxDrop        *float64 // of top-1, in percentage points
	MinTop1        *float64 // fraction, 0 to 1
	MaxMSRatio     *float64 // time per image, after / before
	MaxMeanBits    *float64 // of the weights
	RequireBudget  bool     // budget_met must be true
	RefuseWarnings bool     // there must be no warnings
}

// Check is one limit held against a report. Value is nil when the report
// does not have it, which fails the check: only what was measured can pass.
type Check struct {
	Name   string   `json:"name"`
	Value  *float64 `json:"value"`
	Limit  float64  `json:"limit"`
	Passed bool     `json:"passed"`
	Reason string   `json:"reason"`
}

// Gate holds a report.json against limits, of which there must be one at least. If one is
// broken there are checks and an error of kind [Budget].
func Gate(reportFile string, l Limits) ([]Check, error) {
	r, err := report.Read(reportFile)
	if err != nil {
		return nil, err
	}
	rows := r.Gate(report.Limits(l))
	var checks []Check
	for _, c := range rows {
		checks = append(checks, Check(c))
	}
	switch {
	case len(checks) == 0:
		return nil, &Error{Usage, errors.New("no limit is given"), "'thriftc gate --help' lists them"}
	case !report.Passed(rows):
		return checks, &Error{Kind: Budget, Err: errors.New("the report breaks a limit")}
	}
	return checks, nil
}
