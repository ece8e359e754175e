package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Progress tells how long work will still take: on a terminal as a bar, for work of over two seconds, and elsewhere
// as a line every ten seconds. A nil *Progress tells nothing. Its methods may be called by several goroutines.
type Progress struct {
	w       io.Writer
	now     func() time.Time
	columns func() int // of the terminal; nil: there is none
	prefix  string     // of lines

	mu    sync.Mutex
	what  string
	start time.Time
	drawn time.Time // when the bar was last drawn
	width int       // runes on the line, 0 when it is clear
}

// NewProgress returns a bar on w, a terminal of so many columns at present.
func NewProgress(w io.Writer, columns func() int) *Progress {
	return &Progress{w: w, now: time.Now, columns: columns}
}

// NewProgressLines returns lines on w, which begin with a prefix.
func NewProgressLines(w io.Writer, prefix string) *Progress {
	return &Progress{w: w, now: time.Now, prefix: prefix}
}

const (
	patience = 2 * time.Second        // how long work may take without a bar
	redraw   = 100 * time.Millisecond // least time between two drawings
	lineEach = 10 * time.Second       // time between two lines
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
	wait, between := patience, redraw
	if p.columns == nil {
		wait, between = lineEach, lineEach
	}
	if spent < wait || now.Sub(p.drawn) < between {
		return
	}
	p.drawn = now
	count := fmt.Sprintf("%d/%d", done, total)
	if done > 0 {
		left := time.Duration(float64(spent) / float64(done) * float64(total-done))
		count += ", " + left.Round(time.Second).String() + " left"
	}
	if p.columns == nil {
		fmt.Fprintf(p.w, "%s%s %s\n", p.prefix, Printable(what), count)
		return
	}
	line := fit(Printable(what), count, float64(done)/float64(total), p.columns()-1) // in the last column some terminals break the line
	width := utf8.RuneCountInString(line)
	fmt.Fprint(p.w, "\r"+line+strings.Repeat(" ", max(0, p.width-width)))
	p.width = width
}

// fit returns the line of a bar, in at most so many columns: first the bar gets shorter, then what and count are cut.
func fit(what, count string, part float64, columns int) string {
	bar := min(barWidth, columns-utf8.RuneCountInString(what)-utf8.RuneCountInString(count)-2)
	line := what + " " + count
	if bar >= 4 {
		filled := int(float64(bar) * part)
		line = what + " " + strings.Repeat("█", filled) + strings.Repeat("░", bar-filled) + " " + count
	}
	return string([]rune(line)[:min(max(columns, 0), utf8.RuneCountInString(line))])
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
	if p.width > 0 { // a narrower terminal has wrapped it; what is beyond its width stays
		fmt.Fprint(p.w, "\r"+strings.Repeat(" ", min(p.width, max(p.columns()-1, 0)))+"\r")
		p.width = 0
	}
}
