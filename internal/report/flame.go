package report

import (
	_ "embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"io"
	"strings"
)

//go:embed flame.html
var flameSource string

var flameTemplate = template.Must(template.New("flame").Funcs(template.FuncMap{
	"num":   func(x float64) string { return fmt.Sprintf("%.3f", x) },
	"share": share,
	"rate":  rate,
}).Parse(flameSource))

// frame is a box of a flame graph. Left and Width are percents of the whole width.
type frame struct {
	Level       int
	Left, Width float64
	Label       string
	Detail      string
	Hue         uint32
}

// WriteHTML writes profiles as one HTML page that needs nothing else: for each
// model a flame graph over the time of a run, in the order of the run, and the
// table of its steps. Names with slashes are grouped.
func WriteHTML(w io.Writer, title string, profiles ...*Profile) error {
	type page struct {
		*Profile
		Total  float64
		Frames []frame
		Levels int
	}
	var pages []page
	for _, p := range profiles {
		frames := p.frames()
		levels := 0
		for _, f := range frames {
			levels = max(levels, f.Level+1)
		}
		pages = append(pages, page{p, p.MS(), frames, levels})
	}
	return flameTemplate.Execute(w, struct {
		Title string
		Pages []page
	}{title, pages})
}

// frames lays a profile out: the run, groups of nodes by the parts of their
// names, and the nodes.
func (p *Profile) frames() []frame {
	total := max(p.MS(), 1e-9)
	out := []frame{{Width: 100, Label: p.Model, Detail: fmt.Sprintf("%.3f ms", p.MS()), Hue: 30}}
	type group struct {
		part string
		at   int // in out
	}
	var open []group // those that the step before belongs to
	left := 0.0
	for _, s := range p.Steps {
		parts := strings.FieldsFunc(s.Name, func(r rune) bool { return r == '/' })
		if len(parts) == 0 {
			parts = []string{s.Op}
		}
		groups, name := parts[:len(parts)-1], parts[len(parts)-1]
		same := 0
		for same < min(len(open), len(groups)) && open[same].part == groups[same] {
			same++
		}
		open = open[:same]
		for i, g := range groups[same:] {
			open = append(open, group{g, len(out)})
			out = append(out, frame{Level: 1 + same + i, Left: left, Label: g, Hue: 210})
		}
		width := 100 * s.MS / total
		for _, g := range open {
			out[g.at].Width += width
			out[g.at].Detail = fmt.Sprintf("%.3f ms, %.1f %%", out[g.at].Width*total/100, out[g.at].Width)
		}
		detail := fmt.Sprintf("%s: %s, %s, %s: %.3f ms, %.1f %%", s.Name, s.Op, s.Shape, s.Kernel, s.MS, width)
		if s.MACs > 0 {
			detail += fmt.Sprintf(", %s MACs, %.1f GFLOP/s", Count(s.MACs), s.GFLOPS)
		}
		out = append(out, frame{Level: 1 + len(groups), Left: left, Width: width, Label: name, Detail: detail, Hue: hue(s.Op)})
		left += width
	}
	return out
}

// hue returns a colour for an operator, in degrees; fused ones look like their first.
func hue(op string) uint32 {
	first, _, _ := strings.Cut(op, "+")
	h := fnv.New32a()
	h.Write([]byte(first))
	return h.Sum32() % 360
}
