package dataset

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/internal/regular"
)

// table is a label table: tab or comma separated, with a header row unless
// the description names the columns.
type table struct {
	d      *desc
	file   string
	header []string
	rows   [][]string
	first  int // line of the first row
}

func (d *desc) readTable() (*table, error) {
	file, err := d.find(d.labels, "labels")
	if err != nil {
		return nil, err
	}
	data, err := regular.Read(file, maxTable)
	if err != nil {
		return nil, err
	}
	t := &table{d: d, file: file, header: d.columns, first: 1}
	if t.rows, err = parseTable(data); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if t.header == nil && len(t.rows) > 0 {
		t.header, t.rows, t.first = t.rows[0], t.rows[1:], 2
	}
	if len(t.rows) == 0 {
		return nil, fmt.Errorf("%s: no rows", file)
	}
	for i, r := range t.rows {
		if len(r) != len(t.header) {
			return nil, t.errorf(i, "%d fields, expected %d (%s)", len(r), len(t.header), strings.Join(t.header, ", "))
		}
	}
	return t, nil
}

// parseTable splits a table into fields: at tabs, without quoting, when its
// first line holds one, and as CSV by RFC 4180 otherwise.
func parseTable(data []byte) ([][]string, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if !bytes.ContainsRune(line, '\t') {
		r := csv.NewReader(bytes.NewReader(data))
		r.FieldsPerRecord = -1
		return r.ReadAll()
	}
	var out [][]string
	for s := range strings.Lines(string(data)) {
		out = append(out, strings.Split(strings.TrimRight(s, "\r\n"), "\t"))
	}
	return out, nil
}

// errorf makes an error that points at row i.
func (t *table) errorf(i int, format string, args ...any) error {
	return fmt.Errorf("%s: row %d: %s", t.file, i+t.first, fmt.Sprintf(format, args...))
}

func (t *table) column(name string) ([]string, error) {
	at := slices.Index(t.header, name)
	if at < 0 {
		return nil, fmt.Errorf("%s: no column %q among %s; columns: [...] in the description names the columns of a table without a header row",
			t.file, name, strings.Join(t.header, ", "))
	}
	out := make([]string, len(t.rows))
	for i, r := range t.rows {
		out[i] = strings.TrimSpace(r[at])
	}
	return out, nil
}

// labels reads the label column: the one that the description names, or the
// first of the given ones that exists. It also returns the name of the column.
func (t *table) labels(names ...string) (out []int, name string, err error) {
	name = names[0]
	for _, n := range slices.Backward(names) {
		if slices.Contains(t.header, n) {
			name = n
		}
	}
	if t.d.labelColumn != "" {
		name = t.d.labelColumn
	}
	col, err := t.column(name)
	if err != nil {
		return nil, name, err
	}
	out = make([]int, len(col))
	for i, s := range col {
		v, err := strconv.Atoi(s)
		if err != nil || v < 0 || v > maxLabel {
			return nil, name, t.errorf(i, "label %q in column %s is not a class number", s, name)
		}
		out[i] = v
	}
	return out, name, nil
}

// maxLabel is the largest class number.
const maxLabel = 1 << 24

// numbered reads the labels of records that the table has in order. A column
// index, unless it holds the labels, must count them from 0.
func (t *table) numbered() ([]int, error) {
	labels, column, err := t.labels("label", "index")
	if err != nil || column == "index" || !slices.Contains(t.header, "index") {
		return labels, err
	}
	index, err := t.column("index")
	if err != nil {
		return nil, err
	}
	for i, s := range index {
		if s != strconv.Itoa(i) {
			return nil, t.errorf(i, "index is %q, expected %d: rows must be in the order of the records", s, i)
		}
	}
	return labels, nil
}
