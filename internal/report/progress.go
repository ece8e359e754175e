package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Progress draws a bar with the time left for work that takes over two
// seconds. A nil *Progress draws nothing: what to use where the output is no
// terminal. Its methods may be called by several goroutines.
type Progress struct {
	w   io.Writer
	now func() time.Time

	mu    sync.Mutex
	what  string
	start time.Time
	drawn time.Time // when the bar was last drawn
	width int       // runes on the line, 0 when it is clear
}

// NewProgress returns a bar on w, which must be a terminal.
func NewProgress(w io.Writer) *Progress { return &Progress{w: w, now: time.Now} }

const (
	patience = 2 * time.Second        // how long work may take without a bar
	redraw   = 100 * time.Millisecond // least time between two drawings
	barWidth = 24                     // runes
)

// Update says how much of a named piece of work is done. Another name starts
// another piece; with done ≥ total the bar goes away.
func (p *Progress) Update(what string, done, total int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if what != p.what || p.start.IsZero() {
		p.clear()
		p.what, p.start, p.drawn = what, now, time.Time{}
	}
	if done >= total {
		p.clear()
		p.start = time.Time{}
		return
	}
	spent := now.Sub(p.start)
	if spent < patience || now.Sub(p.drawn) < redraw {
		return
	}
	p.drawn = now
	filled := barWidth * done / total
	line := fmt.Sprintf("%s %s%s %d/%d", Printable(what), strings.Repeat("█", filled), strings.Repeat("░", barWidth-filled), done, total)
	if done > 0 {
		left := time.Duration(float64(spent) / float64(done) * float64(total-done))
		line += ", " + left.Round(time.Second).String() + " left"
	}
	width := utf8.RuneCountInString(line)
	fmt.Fprint(p.w, "\r"+line+strings.Repeat(" ", max(0, p.width-width)))
	p.width = width
}

// Clear removes the bar, so that something else can be printed.
func (p *Progress) Clear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *Progress) clear() {
	if p.width > 0 {
		fmt.Fprint(p.w, "\r"+strings.Repeat(" ", p.width)+"\r")
		p.width = 0
	}
}
