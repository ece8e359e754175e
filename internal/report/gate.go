package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
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

// Gate checks every limit that is asked.
func (r *Report) Gate(l Limits) []Check {
	var out []Check
	compare := func(name string, limit *float64, value float64, known bool, least bool) {
		if limit == nil {
			return
		}
		c := Check{Name: name, Limit: *limit}
		word := "at most"
		if least {
			word = "at least"
		}
		if !known {
			c.Reason = fmt.Sprintf("not measured; asked for %s %s", word, num(*limit))
		} else {
			c.Value = &value
			c.Passed = value <= *limit
			if least {
				c.Passed = value >= *limit
			}
			c.Reason = fmt.Sprintf("%s, asked for %s %s", num(value), word, num(*limit))
		}
		out = append(out, c)
	}
	a, b := &r.Before, &r.After
	drop, dropKnown := r.Drop()
	compare("max-bytes", l.MaxBytes, float64(b.Bytes), b.Bytes > 0, false)
	compare("max-bytes-ratio", l.MaxBytesRatio, float64(b.Bytes)/float64(a.Bytes), a.Bytes > 0 && b.Bytes > 0, false)
	compare("max-parameters", l.MaxParameters, float64(b.Parameters), true, false)
	compare("max-macs", l.MaxMACs, float64(b.MACs), true, false)
	compare("max-bops", l.MaxBOPs, float64(b.BOPs), true, false)
	compare("max-drop", l.MaxDrop, drop, dropKnown, false)
	compare("min-top1", l.MinTop1, deref(b.Top1), b.Top1 != nil, true)
	compare("max-ms-ratio", l.MaxMSRatio, deref(b.MSPerImage)/deref(a.MSPerImage), b.MSPerImage != nil && deref(a.MSPerImage) > 0, false)
	compare("max-mean-bits", l.MaxMeanBits, b.MeanBitsWeights, b.MeanBitsWeights > 0, false)
	if l.RequireBudget {
		c := Check{Name: "require-budget", Passed: r.BudgetMet, Reason: "the run met its budget"}
		if !c.Passed {
			c.Reason = "the run did not meet its budget"
		}
		out = append(out, c)
	}
	if l.RefuseWarnings {
		n := float64(len(r.Warnings))
		compare("refuse-warnings", new(float64), n, true, false)
	}
	return out
}

func deref(p *float64) float64 {
	if p == nil {
		return 0
	}
	return *p
}

func num(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// Passed reports whether every check passed.
func Passed(checks []Check) bool {
	for _, c := range checks {
		if !c.Passed {
			return false
		}
	}
	return true
}

// WriteChecks prints one line for each check.
func WriteChecks(w io.Writer, checks []Check) error {
	for _, c := range checks {
		word := "pass"
		if !c.Passed {
			word = "FAIL"
		}
		if _, err := fmt.Fprintf(w, "%s  %-16s %s\n", word, c.Name, c.Reason); err != nil {
			return err
		}
	}
	return nil
}

// WriteJUnit writes the checks as one JUnit test suite, the XML that CI systems read.
func WriteJUnit(w io.Writer, suite string, checks []Check) error {
	type failure struct {
		Message string `xml:"message,attr"`
	}
	type testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Failure *failure `xml:"failure"`
	}
	type testsuite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	s := testsuite{Name: suite, Tests: len(checks)}
	for _, c := range checks {
		tc := testcase{Class: suite, Name: c.Name}
		if !c.Passed {
			s.Failures++
			tc.Failure = &failure{c.Reason}
		}
		s.Cases = append(s.Cases, tc)
	}
	data, err := xml.MarshalIndent(struct {
		XMLName xml.Name `xml:"testsuites"`
		Suite   testsuite
	}{Suite: s}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, data)
	return err
}
