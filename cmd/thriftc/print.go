package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/thriftc/thriftc/internal/report"
)

// printReport prints what a person wants to know after a compression.
func printReport(w io.Writer, r *report.Report, dir string) error {
	if err := r.Table().Write(w, isTerminal(w)); err != nil {
		return err
	}
	for _, s := range r.NotMeasured {
		fmt.Fprintln(w, "not measured:", s)
	}
	for _, s := range r.Warnings {
		fmt.Fprintln(w, "warning:", s)
	}
	_, err := fmt.Fprintf(w, "written to %s: model.onnx, report.json, recipe.yaml\n", dir)
	return err
}

// printBits prints the widths of the layers.
func printBits(w io.Writer, layers []report.Layer) error {
	t := &report.Table{Head: []string{"layer", "operator", "weights", "weight bits", "input bits"}}
	for _, l := range report.Weighted(layers) {
		t.Add(l.Name, l.Op, report.Count(l.Parameters), strconv.Itoa(l.WeightBits), strconv.Itoa(l.ActivationBits))
	}
	return t.Write(w, isTerminal(w))
}
