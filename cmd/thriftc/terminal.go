package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/thriftc/thriftc/internal/report"
)

// lineHandler writes log records as plain lines for a person:
// "thriftc: warning: message (key value, …)".
type lineHandler struct {
	mu    sync.Mutex
	w     io.Writer
	attrs []slog.Attr
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	msg := report.LogLine(r, h.attrs)
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Level >= slog.LevelWarn {
		msg = "warning: " + msg
	}
	_, err := fmt.Fprintln(h.w, "thriftc:", readable(msg))
	return err
}

func (h *lineHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &lineHandler{w: h.w, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], a...)}
}

func (h *lineHandler) WithGroup(string) slog.Handler { return h }

// newProgress returns what tells how much of a command's work is done on its error output: a bar if that is a
// terminal, otherwise a line now and then.
func newProgress(c *cobra.Command) *report.Progress {
	w := c.ErrOrStderr()
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		return report.NewProgress(w, func() int {
			width, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80
			}
			return width
		})
	}
	return report.NewProgressLines(w, "thriftc: ")
}

// newLog returns the logger that shows messages as plain lines.
func newLog(w io.Writer) *slog.Logger { return slog.New(&lineHandler{w: w}) }

func isTerminal(w io.Writer) bool {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
