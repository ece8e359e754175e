package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/report"
	"github.com/thriftc/thriftc/ir/tensor"
)

// lineHandler writes log records as plain lines for a person:
// "thriftc: warning: message (key value, …)".
type lineHandler struct {
	mu    sync.Mutex
	w     io.Writer
	attrs []slog.Attr
	warn  func(string) bool // if set, is told every warning; false: it is known and not printed
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var details []string
	add := func(a slog.Attr) bool {
		details = append(details, fmt.Sprintf("%s %v", a.Key, a.Value))
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	msg := r.Message
	if len(details) > 0 {
		msg += " (" + strings.Join(details, ", ") + ")"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Level >= slog.LevelWarn {
		if h.warn != nil && !h.warn(msg) {
			return nil
		}
		msg = "warning: " + msg
	}
	_, err := fmt.Fprintln(h.w, "thriftc:", msg)
	return err
}

func (h *lineHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &lineHandler{w: h.w, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], a...), warn: h.warn}
}

func (h *lineHandler) WithGroup(string) slog.Handler { return h }

// newProgress returns a progress bar on a command's error output if that is a
// terminal; otherwise one that draws nothing.
func newProgress(c *cobra.Command) *report.Progress {
	if !isTerminal(c.ErrOrStderr()) {
		return nil
	}
	return report.NewProgress(c.ErrOrStderr())
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// counting is an executable that tells a progress bar about every batch.
type counting struct {
	backends.Executable
	bar         *report.Progress
	done, total int
}

// Run runs the batch and counts its samples.
func (e *counting) Run(ctx context.Context, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	out, err := e.Executable.Run(ctx, in)
	if len(in) > 0 && in[0].Rank() > 0 {
		e.done += in[0].Shape()[0]
	}
	e.bar.Update("evaluating", e.done, e.total)
	return out, err
}
