package thriftc

import (
	"context"
	"log/slog"
	"slices"

	"github.com/thriftc/thriftc/internal/report"
)

// recorder is a log handler that puts warnings into a report, and passes each on once only.
type recorder struct {
	slog.Handler
	rep   *report.Report
	attrs []slog.Attr
}

// recording returns a logger whose warnings stand in the report; log may be nil.
func recording(log *slog.Logger, rep *report.Report) *slog.Logger {
	var h slog.Handler = slog.DiscardHandler
	if log != nil {
		h = log.Handler()
	}
	return slog.New(&recorder{Handler: h, rep: rep})
}

// Enabled reports whether the record is wanted by the report or the logger behind.
func (h *recorder) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || h.Handler.Enabled(ctx, l)
}

// Handle handles a record.
func (h *recorder) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn && !h.rep.Warn(report.LogLine(r, h.attrs)) || !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs returns a handler whose records have more attributes.
func (h *recorder) WithAttrs(a []slog.Attr) slog.Handler {
	return &recorder{h.Handler.WithAttrs(a), h.rep, slices.Concat(h.attrs, a)}
}

// WithGroup returns a handler whose further attributes are in a group.
func (h *recorder) WithGroup(name string) slog.Handler {
	return &recorder{h.Handler.WithGroup(name), h.rep, h.attrs}
}

// openLogged opens a model and logs what the reader ignored or repaired.
func openLogged(file string, log *slog.Logger) (*Model, error) {
	m, err := Open(file)
	for _, n := range m.Notes {
		log.Info("note: " + file + ": " + n.String())
	}
	return m, err
}
