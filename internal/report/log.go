package report

import (
	"fmt"
	"log/slog"
	"strings"
)

// LogLine words a log record for a person: "message (key value, …)". attrs are those of the logger.
func LogLine(r slog.Record, attrs []slog.Attr) string {
	var details []string
	add := func(a slog.Attr) bool {
		details = append(details, fmt.Sprintf("%s %v", a.Key, a.Value))
		return true
	}
	for _, a := range attrs {
		add(a)
	}
	r.Attrs(add)
	if len(details) == 0 {
		return r.Message
	}
	return r.Message + " (" + strings.Join(details, ", ") + ")"
}
