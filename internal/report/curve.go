package report

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/thriftc/thriftc/internal/atomicfile"
)

// Curve is a line of a plot.
type Curve struct {
	Name string
	X, Y []float64
}

// Panel is one plot of several curves with a common scale.
type Panel struct {
	Title, XLabel, YLabel string
	Curves                []Curve
	// Bars, if not empty, makes the curves bars, which stand beside each other over these names.
	Bars []string
}

// lineColors are told apart by people who do not see all colours (Okabe and Ito 2008).
var lineColors = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255},
	color.RGBA{204, 121, 167, 255}, color.RGBA{230, 159, 0, 255}, color.RGBA{86, 180, 233, 255},
}

// WritePlot draws panels beside each other, as SVG to base.svg and as PNG to
// base.png; each file appears complete or not at all.
func WritePlot(base string, panels ...Panel) error {
	const width, height = 13 * vg.Centimeter, 9 * vg.Centimeter
	var plots []*plot.Plot
	for _, p := range panels {
		q, err := p.plot()
		if err != nil {
			return err
		}
		plots = append(plots, q)
	}
	write := func(name string, c interface {
		vg.CanvasSizer
		io.WriterTo
	}) error {
		tiles := draw.Tiles{Cols: len(plots), Rows: 1, PadX: vg.Millimeter * 4}
		row := plot.Align([][]*plot.Plot{plots}, tiles, draw.New(c))[0]
		for i, p := range plots {
			p.Draw(row[i])
		}
		return atomicfile.Write(name, func(w io.Writer) error {
			_, err := c.WriteTo(w)
			return err
		})
	}
	w := vg.Length(0)
	for _, p := range panels {
		w += max(width, vg.Length(len(p.Bars))*0.65*vg.Centimeter)
	}
	if err := write(base+".svg", vgsvg.New(w, height)); err != nil {
		return err
	}
	return write(base+".png", vgimg.PngCanvas{Canvas: vgimg.New(w, height)})
}

func (p *Panel) plot() (*plot.Plot, error) {
	q := plot.New()
	q.Title.Text, q.X.Label.Text, q.Y.Label.Text = p.Title, p.XLabel, p.YLabel
	q.Add(plotter.NewGrid())
	q.Legend.Top = true
	if len(p.Bars) > 0 {
		return q, p.bars(q)
	}
	for i, c := range p.Curves {
		if len(c.X) != len(c.Y) || len(c.X) == 0 {
			return nil, fmt.Errorf("curve %s has %d and %d numbers", c.Name, len(c.X), len(c.Y))
		}
		xy := make(plotter.XYs, len(c.X))
		for k := range xy {
			xy[k].X, xy[k].Y = c.X[k], c.Y[k]
		}
		line, err := plotter.NewLine(xy)
		if err != nil {
			return nil, fmt.Errorf("curve %s: %w", c.Name, err)
		}
		line.Width = vg.Points(1.5)
		line.Color = lineColors[i%len(lineColors)]
		q.Add(line)
		if len(p.Curves) > 1 {
			q.Legend.Add(c.Name, line)
		}
		// The legend stands where a rising curve begins, and not where it ends.
		q.Legend.Left = q.Legend.Left || slices.Max(c.Y) == c.Y[len(c.Y)-1]
	}
	return q, nil
}

// bars draws the curves as bars from 0 up, the first of each name leftmost.
func (p *Panel) bars(q *plot.Plot) error {
	const all = 0.45 * vg.Centimeter // of a name
	width := all / vg.Length(len(p.Curves))
	most := 0.0
	for i, c := range p.Curves {
		if len(c.Y) != len(p.Bars) {
			return fmt.Errorf("%s has %d numbers for %d names", c.Name, len(c.Y), len(p.Bars))
		}
		bars, err := plotter.NewBarChart(plotter.Values(c.Y), width)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		bars.LineStyle.Width = 0
		bars.Color = lineColors[i%len(lineColors)]
		bars.Offset = vg.Length(width*vg.Length(i)) - (all-width)/2 // exact: halves
		q.Add(bars)
		q.Legend.Add(c.Name, bars)
		most = max(most, slices.Max(c.Y))
	}
	q.NominalX(p.Bars...)
	q.X.Tick.Label.Rotation, q.X.Tick.Label.XAlign, q.X.Tick.Label.YAlign = math.Pi/2, draw.XRight, draw.YCenter
	q.Y.Min, q.Y.Max = 0, 1.25*most // the legend stands above
	return nil
}
