package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/regular"
	"github.com/thriftc/thriftc/passes"
)

// Schema is the version of report.json that this program writes. It grows
// when a field changes its meaning or goes; new fields do not change it.
const Schema = 1

// Report is what report.json holds about one run.
type Report struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"` // of thriftc
	Command string `json:"command"` // that was run
	Seed    uint64 `json:"seed"`
	Model   string `json:"model"` // the file that was read

	// The descriptions of the data, empty where there was none, and the
	// preprocessing that belongs to the artefact.
	Data       string `json:"data,omitempty"`
	EvalData   string `json:"eval_data,omitempty"`
	Preprocess string `json:"preprocess,omitempty"`

	Before Measures `json:"before"`
	After  Measures `json:"after"`

	// BudgetMet is whether the result keeps what was asked for, as with
	// --max-drop; true when nothing was asked.
	BudgetMet   bool     `json:"budget_met"`
	Warnings    []string `json:"warnings"`
	NotMeasured []string `json:"not_measured"` // what is unknown, each with its reason

	// Check is how the written model was held against the graph that the passes made; absent
	// where that was not done, as NotMeasured says.
	Check *SelfCheck `json:"check,omitempty"`

	Passes      []passes.StepResult `json:"passes"`
	Training    any                 `json:"training,omitempty"` // of train: its curve
	WallSeconds float64             `json:"wall_seconds"`
}

// SelfCheck holds the results of the written model on one random sample, as the engine runs it at
// each level of arithmetic, against the operators' own evaluation: "equal", or a
// signal-to-noise ratio such as "52.1 dB".
type SelfCheck struct {
	Float   string `json:"float_level"`
	Integer string `json:"integer_level"`
}

// Measures is what is known about one model; null is not measured.
type Measures struct {
	Top1       *float64 `json:"top1"` // fraction of N samples, 0 to 1
	Top5       *float64 `json:"top5"`
	N          int      `json:"n"`            // samples behind top1 and top5
	MSPerImage *float64 `json:"ms_per_image"` // milliseconds of wall time
	Summary
}

// Drop returns by how many percentage points top-1 fell, if it was measured.
func (r *Report) Drop() (points float64, ok bool) {
	if r.Before.Top1 == nil || r.After.Top1 == nil {
		return 0, false
	}
	return 100 * (*r.Before.Top1 - *r.After.Top1), true
}

// Warn adds a warning, and reports whether it was not there before.
func (r *Report) Warn(text string) bool {
	if slices.Contains(r.Warnings, text) {
		return false
	}
	r.Warnings = append(r.Warnings, text)
	return true
}

// Encode returns the report as indented JSON.
func (r *Report) Encode() ([]byte, error) {
	out := *r
	out.Schema = Schema
	out.Warnings = append([]string{}, r.Warnings...) // never null
	out.NotMeasured = append([]string{}, r.NotMeasured...)
	out.Passes = append([]passes.StepResult{}, r.Passes...)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(out)
	return b.Bytes(), err
}

// Write writes the report to a file, which appears complete or not at all.
func (r *Report) Write(file string) error {
	data, err := r.Encode()
	if err != nil {
		return err
	}
	return atomicfile.Write(file, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// maxReport bounds a report's size in bytes.
const maxReport = 256 << 20

// Read reads a report.json of this schema.
func Read(file string) (*Report, error) {
	data, err := regular.Read(file, maxReport)
	if err != nil {
		return nil, err
	}
	r, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// Decode reads the bytes of a report.json. Unknown fields are allowed: a later
// version may have added them.
func Decode(data []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("not a report: %w", err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("report of schema %d; this program reads schema %d", r.Schema, Schema)
	}
	return &r, nil
}
