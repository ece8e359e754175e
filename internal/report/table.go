package report

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table is text in aligned columns.
type Table struct {
	Head []string
	Rows [][]string // shorter rows end in empty cells; a nil row is a rule
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Rule appends a line between rows, as before totals.
func (t *Table) Rule() { t.Rows = append(t.Rows, nil) }

// Write prints the table. Columns of numbers are aligned right, the others
// left. With color, for terminals, the head is bold. Characters that a terminal
// would obey rather than show are escaped: names come from foreign files.
func (t *Table) Write(w io.Writer, color bool) error {
	rows := make([][]string, 0, len(t.Rows)+1)
	for _, r := range append([][]string{t.Head}, t.Rows...) {
		var line []string
		for _, cell := range r {
			line = append(line, Printable(cell))
		}
		rows = append(rows, line)
	}
	width := make([]int, len(t.Head))
	left := make([]bool, len(t.Head))
	for i, r := range rows {
		for c, cell := range r[:min(len(r), len(width))] {
			width[c] = max(width[c], utf8.RuneCountInString(cell))
			left[c] = left[c] || i > 0 && !numeric(cell)
		}
	}
	b := bufio.NewWriter(w)
	for i, r := range rows {
		if r == nil {
			total := 2 * (len(width) - 1)
			for _, n := range width {
				total += n
			}
			r = []string{strings.Repeat("─", total)}
		}
		var line strings.Builder
		for c, cell := range r[:min(len(r), len(width))] {
			pad := strings.Repeat(" ", max(0, width[c]-utf8.RuneCountInString(cell)))
			if c > 0 {
				line.WriteString("  ")
			}
			if left[c] {
				line.WriteString(cell + pad)
			} else {
				line.WriteString(pad + cell)
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if color && i == 0 {
			text = "\x1b[1m" + text + "\x1b[0m"
		}
		b.WriteString(text + "\n")
	}
	return b.Flush()
}

// numeric reports whether a cell is a number, perhaps with a unit, or empty.
func numeric(s string) bool {
	return s == "" || s == "–" || strings.ContainsRune("0123456789+-−.", []rune(s)[0])
}

// Printable returns s with everything that is not a visible character or a
// space as a Go escape.
func Printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// Count writes a whole number with its digits in groups of three: 1,098,694.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	digits := strings.TrimPrefix(s, "-")
	var b strings.Builder
	b.WriteString(s[:len(s)-len(digits)])
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Table returns the summary as a table: layers that have parameters or
// arithmetic, or every one with all, and the totals.
func (s *Summary) Table(all bool) *Table {
	t := &Table{Head: []string{"layer", "op", "output", "parameters", "MACs", "w bits", "a bits", "bytes"}}
	bits := func(b int) string {
		if b == 0 {
			return ""
		}
		return strconv.Itoa(b)
	}
	for _, l := range s.Layers {
		if all || l.Parameters > 0 || l.MACs > 0 {
			t.Add(l.Name, l.Op, l.Shape, Count(l.Parameters), Count(l.MACs), bits(l.WeightBits), bits(l.ActivationBits), Count(l.PackedBytes))
		}
	}
	t.Rule()
	t.Add("in all", "", "", Count(s.Parameters), Count(s.MACs), meanBits(s.MeanBitsWeights), meanBits(s.MeanBitsActivations), Count(s.PackedBytes))
	return t
}

func meanBits(b float64) string {
	if b == 0 {
		return ""
	}
	return strconv.FormatFloat(b, 'f', 2, 64)
}

// Table returns the comparison of before and after.
func (r *Report) Table() *Table {
	t := &Table{Head: []string{"", "before", "after", "change"}}
	percent := func(label string, a, b *float64) {
		if a == nil && b == nil {
			return
		}
		change := "–"
		if a != nil && b != nil {
			change = strconv.FormatFloat(100*(*b-*a), 'f', 2, 64) + " points"
		}
		t.Add(label, known(a, 100, 2, " %"), known(b, 100, 2, " %"), change)
	}
	percent("top-1", r.Before.Top1, r.After.Top1)
	percent("top-5", r.Before.Top5, r.After.Top5)
	for _, c := range []struct {
		label string
		a, b  int64
	}{
		{"parameters", r.Before.Parameters, r.After.Parameters},
		{"bytes on disk", r.Before.Bytes, r.After.Bytes},
		{"bytes packed", r.Before.PackedBytes, r.After.PackedBytes},
		{"MACs", r.Before.MACs, r.After.MACs},
		{"bit operations", r.Before.BOPs, r.After.BOPs},
	} {
		t.Add(c.label, Count(c.a), Count(c.b), ratio(float64(c.a), float64(c.b)))
	}
	t.Add("mean weight bits", meanBits(r.Before.MeanBitsWeights), meanBits(r.After.MeanBitsWeights), ratio(r.Before.MeanBitsWeights, r.After.MeanBitsWeights))
	t.Add("mean activation bits", meanBits(r.Before.MeanBitsActivations), meanBits(r.After.MeanBitsActivations), ratio(r.Before.MeanBitsActivations, r.After.MeanBitsActivations))
	if a, b := r.Before.MSPerImage, r.After.MSPerImage; a != nil || b != nil {
		change := "–"
		if a != nil && b != nil {
			change = ratio(*a, *b)
		}
		t.Add("ms per image", known(a, 1, 3, ""), known(b, 1, 3, ""), change)
	}
	return t
}

func known(v *float64, factor float64, digits int, unit string) string {
	if v == nil {
		return "–"
	}
	return strconv.FormatFloat(*v*factor, 'f', digits, 64) + unit
}

func ratio(a, b float64) string {
	if a == 0 {
		return "–"
	}
	return strconv.FormatFloat(100*b/a, 'f', 1, 64) + " %"
}
