package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// lineHandler writes log records as plain lines for a person:
// "thriftc: warning: message (key value, …)".
type lineHandler struct {
	mu    sync.Mutex
	w     io.Writer
	attrs []slog.Attr
	warn  func(string) // if set, is told every warning
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
		if h.warn != nil {
			h.warn(msg)
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
