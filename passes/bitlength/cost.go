package bitlength

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/passes"
)

// layerCost is what a bit of the layers that a pattern matches costs.
type layerCost struct {
	pattern              string
	weights, activations float64
}

// parseCost reads pattern:weights or pattern:weights/activations.
func parseCost(s string) (layerCost, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return layerCost{}, fmt.Errorf("%q, expected pattern:weights or pattern:weights/activations", s)
	}
	c := layerCost{pattern: s[:i]}
	w, a, both := strings.Cut(s[i+1:], "/")
	if !both {
		a = w
	}
	var err1, err2 error
	c.weights, err1 = strconv.ParseFloat(w, 64)
	c.activations, err2 = strconv.ParseFloat(a, 64)
	_, err3 := path.Match(c.pattern, "")
	if err1 != nil || err2 != nil || err3 != nil || !(c.weights >= 0 && c.activations >= 0) || math.IsInf(c.weights+c.activations, 0) {
		return layerCost{}, fmt.Errorf("%q: expected a pattern and costs that are not negative", s)
	}
	return c, nil
}

// costs sets the λ of the learned quantisers, which sum to 1.
func (m *model) costs() error {
	used := map[string]bool{}
	total := 0.0
	for _, q := range m.quants {
		if !q.learned {
			continue
		}
		switch m.o.Lambda {
		case lambdaMACs:
			q.lambda = float64(q.macs)
		case lambdaFootprint:
			q.lambda = float64(q.values)
		case lambdaTable:
			q.lambda = m.o.tableCost(q, used)
		default:
			q.lambda = 1
		}
		total += q.lambda
	}
	var errs []error
	for _, s := range m.o.Costs {
		if c, _ := parseCost(s); !used[c.pattern] {
			errs = append(errs, fmt.Errorf("costs: %q matches no layer", s))
		}
	}
	for _, q := range m.quants {
		if q.learned {
			if !(total > 0) {
				return errors.New("no layer costs anything, so that nothing would be learned")
			}
			q.lambda /= total
		}
	}
	return errors.Join(errs...)
}

// tableCost adds up what the cost table says of the layers that q feeds.
func (o *Bitlength) tableCost(q *quantiser, used map[string]bool) float64 {
	sum := 0.0
	for _, l := range q.layers() {
		cost := 1.0
		for _, s := range o.Costs {
			if c, _ := parseCost(s); passes.Matches(c.pattern, l.Node) {
				used[c.pattern] = true
				if cost = c.activations; q.unit != nil {
					cost = c.weights
				}
			}
		}
		sum += cost
	}
	return sum
}

// widths are the bit lengths of all quantisers, each with one or one per group.
type widths [][]float64

// now returns the present bit lengths; get returns the tensor of a value of t.
func (m *model) now(get func(q *quantiser) []float32) widths {
	w := make(widths, len(m.quants))
	for i, q := range m.quants {
		for _, n := range get(q) {
			w[i] = append(w[i], min(max(float64(n), 1), float64(max(m.o.MaxBits, m.o.InputBits, m.o.ResidualBits))))
		}
	}
	return w
}

// stored returns the bit lengths that stand in the graph.
func (m *model) stored() widths {
	return m.now(func(q *quantiser) []float32 { return q.bits.Data.Float32s() })
}

func meanOf(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// meanBits is the mean over the weights of all layers and their input
// activations, each counting the same, without the network's input.
func (m *model) meanBits(w widths) float64 {
	sum, n := 0.0, 0
	for i, q := range m.quants {
		times := len(q.layers())
		if q.site != nil && q.site.input {
			times = 0
		}
		sum += float64(times) * meanOf(w[i])
		n += times
	}
	return sum / float64(n)
}

// bytes is the size of the weights packed at their widths.
func (m *model) bytes(w widths) float64 {
	sum := 0.0
	for i, q := range m.quants {
		if q.unit != nil {
			sum += float64(q.values) * meanOf(w[i]) / 8
		}
	}
	return sum
}

// bops is the sum over the layers of MACs times the widths of both operands.
func (m *model) bops(w widths) float64 {
	of := map[any]float64{} // by layer's node: the width of its activations
	for i, q := range m.quants {
		if q.site != nil {
			for _, l := range q.site.layers {
				of[l.Node] = meanOf(w[i])
			}
		}
	}
	sum := 0.0
	for i, q := range m.quants {
		if q.unit == nil {
			continue
		}
		for _, l := range q.unit.layers {
			sum += float64(l.Node.Op.Cost(l.Node).MACs) * meanOf(w[i]) * of[l.Node]
		}
	}
	return sum
}

// goal is a size to reach, in units that fall about in proportion to the bits:
// 8 stands for 8 bits everywhere.
type goal struct {
	size   func(widths) float64
	power  float64 // size falls with this power of the bits
	full   float64 // size at 8 bits
	target float64 // in units of bits
}

// bits returns the size at w in units of bits.
func (g *goal) bits(w widths) float64 { return 8 * f32.Pow64(g.size(w)/g.full, 1/g.power) }

// goalOf returns the goal of the options.
func (m *model) goalOf() *goal {
	switch {
	case m.o.TargetBytes > 0:
		return m.newGoal(m.bytes, 1, float64(m.o.TargetBytes))
	case m.o.TargetBops > 0:
		return m.newGoal(m.bops, 2, m.o.TargetBops)
	case m.o.TargetBits > 0:
		return m.newGoal(m.meanBits, 1, m.o.TargetBits)
	}
	return m.newGoal(m.sizeByLambda(), 1, 0)
}

// sizeByLambda is the size that max-drop makes smallest: that which lambda weighs.
func (m *model) sizeByLambda() func(widths) float64 {
	if m.o.Lambda == lambdaEqual {
		return m.meanBits
	}
	return func(w widths) float64 {
		sum := 0.0
		for i, q := range m.quants {
			if q.learned {
				sum += q.lambda * meanOf(w[i])
			}
		}
		return sum
	}
}

func (m *model) newGoal(size func(widths) float64, power, target float64) *goal {
	full := m.stored()
	for i := range full {
		if m.quants[i].learned {
			for j := range full[i] {
				full[i][j] = 8
			}
		}
	}
	g := &goal{size: size, power: power, full: size(full)}
	g.target = 8 * f32.Pow64(target/g.full, 1/power)
	return g
}

// slack is by how much noise may hold a bit length above a whole number that it
// is rounded down to, where it is otherwise rounded up.
const slack = 0.05

// whole rounds the learned bit lengths as freeze says. While a target is not
// met, those are rounded down that are the least above a whole number, and then the widest are narrowed.
// What a target leaves goes to those that lost the most by rounding.
func (m *model) whole(w widths, g *goal) widths {
	out := make(widths, len(w))
	type part struct {
		i, j int
		over float64 // above the next lower whole number
	}
	var up []part
	limit := slack
	if m.o.Freeze == freezeRound {
		limit = 0.5
	}
	for i, q := range m.quants {
		out[i] = slices.Clone(w[i])
		for j, n := range w[i] {
			if !q.learned {
				continue
			}
			low := math.Floor(n)
			if out[i][j] = low; n-low > limit {
				out[i][j]++
				if m.firstWith(q.bits) == q {
					up = append(up, part{i, j, n - low})
				}
			}
			out[i][j] = max(out[i][j], float64(m.o.MinBits))
		}
	}
	if g == nil || g.target <= 0 {
		return out
	}
	slices.SortStableFunc(up, func(a, b part) int { return cmp.Compare(a.over, b.over) })
	for g.bits(out) > g.target+1e-9 {
		if len(up) > 0 {
			m.narrow(out, up[0].i, up[0].j)
			up = up[1:]
			continue
		}
		widest, at := float64(m.o.MinBits), part{i: -1}
		for i, q := range m.quants {
			for j, n := range out[i] {
				if q.learned && n > widest {
					widest, at = n, part{i: i, j: j}
				}
			}
		}
		if at.i < 0 {
			break
		}
		m.narrow(out, at.i, at.j)
	}
	m.fill(out, w, g)
	return out
}

// fill adds bits while the target allows it, in the order of how far the learned
// bit lengths are above what they were rounded to.
func (m *model) fill(w, learned widths, g *goal) {
	type part struct{ i, j int }
	var order []part
	for i, q := range m.quants {
		for j := range w[i] {
			if q.learned && m.firstWith(q.bits) == q {
				order = append(order, part{i, j})
			}
		}
	}
	over := func(p part) float64 { return learned[p.i][p.j] - w[p.i][p.j] }
	for added := true; added; {
		added = false
		slices.SortStableFunc(order, func(a, b part) int { return cmp.Compare(over(b), over(a)) })
		for _, p := range order {
			if w[p.i][p.j] >= float64(m.o.MaxBits) {
				continue
			}
			before := g.bits(w)
			m.add(w, p.i, p.j, 1)
			if u := g.bits(w); u > g.target+1e-9 || u == before { // too much, or nothing that the target counts
				m.add(w, p.i, p.j, -1)
				continue
			}
			added = true
		}
	}
}

// narrow takes a bit from bit length j of quantiser i, unless it has the least.
func (m *model) narrow(w widths, i, j int) {
	if w[i][j] > float64(m.o.MinBits) {
		m.add(w, i, j, -1)
	}
}

// add changes bit length j of quantiser i, and of those that share it.
func (m *model) add(w widths, i, j int, bits float64) {
	for k, q := range m.quants {
		if q.bits == m.quants[i].bits {
			w[k][j] += bits
		}
	}
}

// firstWith returns the first quantiser that uses a bit length.
func (m *model) firstWith(bits *ir.Value) *quantiser {
	i := slices.IndexFunc(m.quants, func(q *quantiser) bool { return q.bits == bits })
	return m.quants[i]
}
