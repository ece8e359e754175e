package thriftc

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/passes"
)

// journalEntry is a line of journal.jsonl: a finished model that a search has found.
type journalEntry struct {
	Name                string  `json:"name"`     // the training that it comes from
	Top1                float64 `json:"val_top1"` // held-out accuracy, 0 to 1
	Size                float64 `json:"size"`     // what the search makes small
	Best                bool    `json:"best"`     // the best up to here: model.onnx was written
	PackedBytes         int64   `json:"packed_bytes"`
	BOPs                int64   `json:"bops"`
	MeanBitsWeights     float64 `json:"mean_bits_weights"`
	MeanBitsActivations float64 `json:"mean_bits_activations"`
	Seconds             float64 `json:"seconds"` // since the start, or since the resumption
}

// search keeps what a pass finds on its way: the best model as model.onnx, all
// in journal.jsonl, and which of them no other beats in front.json.
type search struct {
	dir    string
	format onnx.Format
	opset  int
	batch  int     // 0: as the model says
	least  float64 // held-out accuracy that the best should have, 0 to 1; 0: any
	log    *slog.Logger
	start  time.Time

	entries []journalEntry
	best    *journalEntry
}

const (
	modelFile      = "model.onnx"
	journalFile    = "journal.jsonl"
	checkpointsDir = "checkpoints"
	settingsFile   = checkpointsDir + "/settings.json"
	maxJournal     = 64 << 20
)

// settings say which run a folder belongs to: what must be equal in the run that goes on with it.
type settings struct {
	Model  string `json:"model"` // fingerprint of the graph
	Recipe string `json:"recipe"`
	Data   string `json:"data"`
}

func settingsOf(g *ir.Graph, rec *recipe, d runData) settings {
	fp := ir.Fingerprint(g)
	r, t := *rec, *rec.Train
	t.Checkpoints, t.CheckpointEvery = 0, 0 // may change
	r.Train = &t
	text, err := r.encode("")
	if err != nil {
		panic(err) // numbers and texts
	}
	return settings{hex.EncodeToString(fp[:]), string(text), fmt.Sprintf("%s, %d and %d records", d.train.File(), d.train.Len(), d.tune.Len())}
}

// belongs checks that a folder is of a run with these settings, or writes down that it is from now on.
func (s *search) belongs(resume bool, now settings) error {
	file := filepath.Join(s.dir, settingsFile)
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if resume {
		var before settings
		switch data, err := os.ReadFile(file); {
		case errors.Is(err, fs.ErrNotExist): // nothing was begun
		case err != nil:
			return err
		case json.Unmarshal(data, &before) != nil || before != now:
			var differ []string
			for what, d := range map[string]bool{"model": before.Model != now.Model, "recipe": before.Recipe != now.Recipe, "data": before.Data != now.Data} {
				if d {
					differ = append(differ, what)
				}
			}
			slices.Sort(differ)
			return fmt.Errorf("-o %s: the interrupted run had other settings: %s differ; repeat its command with --resume, or give another folder", s.dir, strings.Join(differ, ", "))
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(file, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// open reads the journal of a run that is resumed, or begins a new one. A last
// line that is not whole, as a full disk or a crash may leave it, is dropped.
func (s *search) open(resume bool, now settings) error {
	if err := s.belongs(resume, now); err != nil {
		return err
	}
	file := filepath.Join(s.dir, journalFile)
	if !resume {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJournal))
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		var e journalEntry
		if err := json.Unmarshal(line, &e); err != nil {
			s.log.Warn(fmt.Sprintf("%s: line %d is damaged; it and what follows is dropped", file, len(s.entries)+1))
			break
		}
		if s.entries = append(s.entries, e); e.Best {
			best := e
			s.best = &best
		}
	}
	return nil
}

// better reports whether a is a better result than b: within the budget, then
// smaller, then more accurate; outside of the budget the accuracy alone counts.
func (s *search) better(a, b *journalEntry) bool {
	switch in := a.Top1 >= s.least-1e-9; {
	case b == nil:
		return true
	case in != (b.Top1 >= s.least-1e-9):
		return in
	case in && a.Size != b.Size:
		return a.Size < b.Size
	}
	return a.Top1 > b.Top1
}

// offer is a passes.Context.Offer.
func (s *search) offer(c passes.Candidate) error {
	sum := report.Summarize(c.Graph)
	e := journalEntry{
		Name: c.Name, Top1: c.Score / 100, Size: c.Size, PackedBytes: sum.PackedBytes, BOPs: sum.BOPs,
		MeanBitsWeights: sum.MeanBitsWeights, MeanBitsActivations: sum.MeanBitsActivations, Seconds: time.Since(s.start).Seconds(),
	}
	if slices.ContainsFunc(s.entries, func(o journalEntry) bool { return o.Name == e.Name && o.Top1 == e.Top1 && o.Size == e.Size }) {
		return nil // a resumed run finds it again
	}
	s.least = c.Least / 100
	if e.Best = s.better(&e, s.best); e.Best {
		g := c.Graph
		if s.batch > 0 {
			var err error
			if g, err = bench.FixBatch(g, s.batch); err != nil {
				return err
			}
		}
		if err := onnx.Write(filepath.Join(s.dir, modelFile), g, s.format, onnxio.WriteOptions{Opset: s.opset}); err != nil {
			return err
		}
		best := e
		s.best = &best
	}
	s.entries = append(s.entries, e)
	s.log.Info(fmt.Sprintf("%s: held-out top-1 %.2f %%, %.2f bits for weights and %.2f for activations in the mean, %s bytes of constants%s",
		e.Name, 100*e.Top1, e.MeanBitsWeights, e.MeanBitsActivations, report.Count(e.PackedBytes), map[bool]string{true: "; written as the best so far"}[e.Best]))
	return s.write()
}

// write writes the journal and the front whole: they are small, and a reader never sees half a line.
func (s *search) write() error {
	if err := atomicfile.Write(filepath.Join(s.dir, journalFile), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for _, e := range s.entries {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	front := struct {
		Bytes []journalEntry `json:"bytes_against_accuracy"`
		BOPs  []journalEntry `json:"bops_against_accuracy"`
	}{pareto(s.entries, func(e journalEntry) int64 { return e.PackedBytes }), pareto(s.entries, func(e journalEntry) int64 { return e.BOPs })}
	return atomicfile.Write(filepath.Join(s.dir, "front.json"), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(front)
	})
}

// pareto returns the entries that are more accurate than all others of at most
// their size, by rising size.
func pareto(all []journalEntry, size func(journalEntry) int64) []journalEntry {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b journalEntry) int {
		return cmp.Or(cmp.Compare(size(a), size(b)), cmp.Compare(b.Top1, a.Top1))
	})
	out := []journalEntry{}
	most := math.Inf(-1)
	for _, e := range sorted {
		if e.Top1 > most {
			most = e.Top1
			out = append(out, e)
		}
	}
	return out
}

// plot draws the front to front.svg and front.png.
func (s *search) plot(base string) error {
	if len(s.entries) == 0 {
		return nil
	}
	panel := func(title, label string, unit float64, size func(journalEntry) int64) report.Panel {
		p := report.Panel{Title: title, XLabel: label, YLabel: "held-out top-1 in %"}
		c := report.Curve{Name: "front"}
		for _, e := range pareto(s.entries, size) {
			c.X, c.Y = append(c.X, float64(size(e))/unit), append(c.Y, 100*e.Top1)
		}
		p.Curves = append(p.Curves, c)
		return p
	}
	return report.WritePlot(base,
		panel("bytes", "constants at their widths in kB", 1e3, func(e journalEntry) int64 { return e.PackedBytes }),
		panel("bit operations", "bit operations of an image in millions", 1e6, func(e journalEntry) int64 { return e.BOPs }))
}
