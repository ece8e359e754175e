package bitlength

import (
	"errors"
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/internal/f32"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// model is a graph and its copy for training, in which quantisers with learned
// bit lengths stand.
type model struct {
	o       *Bitlength
	g       *ir.Graph               // as it was; finish changes it
	t       *ir.Graph               // with BitQuant
	val     map[*ir.Value]*ir.Value // of g to that of t
	units   []*unit
	sites   []*site
	quants  []*quantiser            // weights in order of the units, then activations: sites of fixed width first
	stored8 map[*ir.Value]*ir.Value // values of g to what their quantiser of fixed width makes of them in t
	skipped []skip

	params  []passes.TrainParam
	gamma   *ir.Value // input of t
	penalty *ir.Value
}

// quantiser is a bit length and a range, and where they are used.
type quantiser struct {
	name    string
	unit    *unit     // weights; nil: activations
	site    *site     // activations; nil: weights
	node    *ir.Node  // one of the BitQuant nodes
	bits    *ir.Value // Const of t, of one element or one per group
	learned bool
	hi      *ir.Value // Const or Param of t: the range, or its logarithm, when it is learned or followed; nil: computed
	signed  bool
	groups  int // of channels with bit lengths of their own; 1: one for all

	values, macs int64   // that its width costs memory and arithmetic for, of one image
	lambda       float64 // Σ over the learned ones is 1
}

// layers returns the layers that the quantiser feeds.
func (q *quantiser) layers() []*passes.Layer {
	if q.unit != nil {
		return q.unit.layers
	}
	return q.site.layers
}

// insert makes the copy for training: BitQuant on all weights and activations,
// the regulariser, and the list of what is trained. restored says that the graph came with its batch norms folded.
func (o *Bitlength) insert(c *passes.Context, g *ir.Graph, restored bool) (*model, error) {
	m := &model{o: o, g: g.Clone(), stored8: map[*ir.Value]*ir.Value{}}
	g = m.g
	m.units, m.skipped = o.unitsOf(g)
	if len(m.units) == 0 {
		return nil, errors.New("the graph has no layers with constant weights")
	}
	for _, p := range o.Exclude {
		if !slices.ContainsFunc(g.Nodes, func(n *ir.Node) bool { return passes.Matches(p, n) }) {
			return nil, fmt.Errorf("exclude: %q matches no layer", p)
		}
	}
	m.sites = place(m.units, o.ResidualBits > 0)
	ranges, err := calibrate(c, g, m.sites)
	if err != nil {
		return nil, err
	}
	m.t, m.val = g.CloneMap()
	m.trainable(restored)
	for _, u := range m.units {
		if err := m.weights(u); err != nil {
			return nil, err
		}
	}
	for _, fixed := range []bool{true, false} {
		for i, s := range m.sites {
			if s.fixed == fixed {
				if err := m.activations(s, ranges[i]); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := m.costs(); err != nil {
		return nil, err
	}
	return m, m.regularise()
}

// trainable lists the numbers of the model itself that are trained: weights and
// biases of layers, scales and shifts of batch norms. Where these were restored, the
// weights are of any scale, and so are their rates. rows is how many output channels weights have.
func (m *model) trainable(restored bool) {
	seen := map[*ir.Value]bool{}
	add := func(v *ir.Value, rows int) {
		if v.HasData() && v.Type.Elem == tensor.F32 && !seen[v] {
			seen[v] = true
			p := passes.TrainParam{Value: m.val[v], NoDecay: rows == 0}
			if rows > 0 && restored {
				p.Rate = m.o.Rate * passes.RelativeRate(v.Data, rows)
			}
			m.params = append(m.params, p)
		}
	}
	for _, n := range m.g.Nodes {
		if n.Op.Name == "BatchNormalization" && n.Int("training_mode") == 0 {
			add(n.In[1], 0)
			add(n.In[2], 0)
		}
		if l, _ := passes.LayerOf(n); l != nil && l.W >= 0 {
			add(n.In[l.W], l.Rows)
			if b := l.Bias(); b != nil {
				add(b, 0)
			}
		}
	}
}

// shape of x split so that axis has groups of its own: … groups, size/groups ….
func splitShape(x ir.Type, axis, groups int) []int64 {
	var out []int64
	for i, d := range x.Dims {
		switch {
		case i == axis:
			out = append(out, int64(groups), int64(d.N/groups))
		case !d.Known():
			out = append(out, 0) // stands before axis: as it is
		default:
			out = append(out, int64(d.N))
		}
	}
	return out
}

// groupsFor returns how many groups of n channels have bit lengths of their own.
func (o *Bitlength) groupsFor(granularity string, n int) int {
	switch granularity {
	case perChannel:
		return n
	case perGroup:
		size := min(o.GroupSize, n)
		for n%size != 0 {
			size--
		}
		return n / size
	}
	return 1
}

// initialBits makes the bit lengths of a quantiser.
func (m *model) initialBits(q *quantiser, fixed int, shared *ir.Value) {
	r := ir.NewRewriter(m.t)
	at := float32(m.o.MaxBits)
	if m.o.Uniform > 0 {
		at = float32(m.o.Uniform)
	}
	if fixed > 0 {
		at = float32(fixed)
	}
	q.learned = fixed == 0 && m.o.Uniform == 0
	if shared != nil {
		q.bits = shared
		return
	}
	var shape []int
	if q.groups > 1 {
		shape = []int{q.groups}
	}
	q.bits = r.Const(q.name+"_bits", tensor.Of(slices.Repeat([]float32{at}, q.groups), shape...))
	if q.learned {
		m.params = append(m.params, passes.TrainParam{
			Value: q.bits, Rate: m.o.BitsRate, Optimizer: "sgd", NoDecay: true, Min: float64(m.o.MinBits), Max: float64(m.o.MaxBits),
		})
	}
}

// sharedBits returns the bit length that all quantisers of one kind share with
// granularity network.
func (m *model) sharedBits(granularity string, weights bool) *ir.Value {
	if granularity != perNetwork {
		return nil
	}
	for _, q := range m.quants {
		if q.learned && (q.unit != nil) == weights {
			return q.bits
		}
	}
	return nil
}

// weights quantises the weights of a unit in t.
func (m *model) weights(u *unit) error {
	w := m.val[u.weight]
	q := &quantiser{name: u.weight.Name, unit: u, signed: true, groups: 1}
	u.q = q
	if u.axis >= 0 {
		q.groups = m.o.groupsFor(m.o.Granularity, w.Data.Shape()[u.axis])
	}
	m.initialBits(q, 0, m.sharedBits(m.o.Granularity, true))
	m.quants = append(m.quants, q)
	r := ir.NewRewriter(m.t).Before(m.val[u.layers[0].Node.Out[0]].Def)
	b := &builder{r: r, prefix: q.name}

	// The range, of the shape that broadcasts to the weights.
	var axes []int64
	shape := slices.Repeat([]int{1}, w.Data.Rank())
	for i, d := range w.Data.Shape() {
		if i == u.axis && !m.o.PerTensor {
			shape[i] = d
		} else {
			axes = append(axes, int64(i))
		}
	}
	var hi *ir.Value
	if m.o.WeightRange == rangeLearned {
		most := largest(w.Data, u.axis, m.o.PerTensor)
		for i, x := range most {
			most[i] = f32.Log(x)
		}
		hi = m.learnedRange(b, q, tensor.Of(most, shape...))
	} else {
		hi = b.add("ReduceMax", "_max", nil, b.add("Abs", "_abs", nil, w), r.Ints(q.name+"_axes", axes...))
	}
	y := m.bitQuant(b, q, w, u.axis, hi, true)
	if b.err != nil {
		return fmt.Errorf("%s: %w", u.layers[0].Node.Label(), b.err)
	}
	for _, l := range u.layers {
		r.SetInput(m.val[l.Node.Out[0]].Def, l.W, y)
	}
	q.values = int64(w.Data.Len())
	for _, l := range u.layers {
		q.macs += l.Node.Op.Cost(l.Node).MACs
	}
	return nil
}

// largest returns the largest magnitude of each channel, or of all, and 1 where all is 0.
func largest(w *tensor.Tensor, axis int, perTensor bool) []float32 {
	n, inner := 1, 1
	if axis >= 0 && !perTensor {
		n = w.Shape()[axis]
		for _, d := range w.Shape()[axis+1:] {
			inner *= d
		}
	}
	out := make([]float32, n)
	for i, x := range w.Float32s() {
		k := i / inner % n
		out[k] = max(out[k], x, -x)
	}
	for i, x := range out {
		if x == 0 {
			out[i] = 1
		}
	}
	return out
}

// learnedRange adds a range whose logarithm is trained.
func (m *model) learnedRange(b *builder, q *quantiser, log *tensor.Tensor) *ir.Value {
	q.hi = b.r.Const(q.name+"_log_range", log)
	m.params = append(m.params, passes.TrainParam{Value: q.hi, Rate: m.o.RangeRate, Optimizer: "adam", NoDecay: true})
	return b.add("Exp", "_range", nil, q.hi)
}

// bitQuant adds the quantiser of x; with groups x is reshaped around it so
// that its axis has them as a dimension.
func (m *model) bitQuant(b *builder, q *quantiser, x *ir.Value, axis int, hi *ir.Value, fixedRange bool) *ir.Value {
	grid := "zero"
	if q.signed {
		grid = "symmetric"
	}
	bits := q.bits
	back := ir.Type{}
	if q.groups > 1 {
		back = x.Type
		x = b.add("Reshape", "_split", nil, x, b.r.Ints(q.name+"_shape", splitShape(x.Type, axis, q.groups)...))
		ones := slices.Repeat([]int64{1}, back.Rank()-axis)
		bits = b.add("Reshape", "_bits_of_groups", nil, bits, b.r.Ints(q.name+"_shape", append([]int64{int64(q.groups)}, ones...)...))
		if hi.Type.Rank() > 0 {
			split := slices.Repeat([]int64{1}, back.Rank()+1)
			if d := hi.Type.Dims[axis]; d.N > 1 {
				split[axis], split[axis+1] = int64(q.groups), int64(d.N/q.groups)
			}
			hi = b.add("Reshape", "_range_of_groups", nil, hi, b.r.Ints(q.name+"_shape", split...))
		}
	}
	attrs := ir.MakeAttrs("grid", grid, "max_bits", max(m.o.MaxBits, m.o.InputBits, m.o.ResidualBits), "pow2", m.o.Pow2, "fixed_range", fixedRange && m.o.WeightRange != rangeLearned)
	if b.err != nil {
		return nil
	}
	lo := b.r.Float(q.name+"_low", 0)
	y := b.add("thriftc.BitQuant", "_quantized", attrs, x, bits, lo, hi)
	if b.err != nil {
		return nil
	}
	q.node = y.Def
	if q.groups > 1 {
		var shape []int64
		for _, d := range back.Dims {
			shape = append(shape, int64(max(d.N, 0)))
		}
		y = b.add("Reshape", "_joined", nil, y, b.r.Ints(q.name+"_shape", shape...))
	}
	return y
}

// activations quantises the edges of a site in t.
func (m *model) activations(s *site, at span) error {
	values := s.values()
	q := &quantiser{name: values[0].Name, site: s, signed: at.lo < 0, groups: 1}
	fixed := 0
	switch {
	case s.input:
		fixed = m.o.InputBits
	case s.fixed:
		fixed = m.o.ResidualBits
	}
	if x := values[0].Type; fixed == 0 && len(values) == 1 && x.Rank() > 1 && x.Dims[1].Known() && !slices.ContainsFunc(x.Dims[2:], func(d ir.Dim) bool { return !d.Known() }) {
		q.groups = m.o.groupsFor(m.o.ActGranularity, x.Dims[1].N)
	}
	var shared *ir.Value
	if fixed == 0 {
		shared = m.sharedBits(m.o.ActGranularity, false)
	}
	m.initialBits(q, fixed, shared)
	m.quants = append(m.quants, q)
	span := float32(max(at.hi, -at.lo))
	if span == 0 {
		span = 1
	}
	b := &builder{r: ir.NewRewriter(m.t).Before(m.t.Nodes[0]), prefix: q.name}
	var hi *ir.Value
	learned := !s.input && m.o.ActRange == rangeLearned
	switch {
	case learned:
		hi = m.learnedRange(b, q, tensor.Scalar(f32.Log(span)))
	case s.input:
		hi = b.r.Float(q.name+"_range", span)
	default:
		hi = b.r.Param(q.name+"_range", tensor.Scalar(span))
		q.hi = hi
	}
	for _, v := range values {
		x := m.val[v]
		if m.stored8[v] != nil { // what is in memory is read once more with the layer's width
			x = m.stored8[v]
		}
		b := &builder{r: m.after(x), prefix: v.Name}
		y := m.bitQuant(b, q, x, 1, hi, false)
		if s.fixed {
			m.stored8[v] = y
		}
		if b.err == nil && !learned {
			b.r.SetAttr(q.node, "fixed_range", 1)
		}
		if q.hi != nil && !learned {
			end := &builder{r: ir.NewRewriter(m.t), prefix: v.Name}
			m.follow(end, q, m.val[v])
			b.err = errors.Join(b.err, end.err)
		}
		if b.err != nil {
			return fmt.Errorf("%%%s: %w", v.Name, b.err)
		}
		for _, e := range s.edges {
			if e.Node.In[e.Index] == v {
				b.r.SetInput(m.val[e.Node.Out[0]].Def, e.Index, y)
			}
		}
	}
	for _, v := range values {
		q.values += elements(v.Type)
	}
	for _, l := range s.layers {
		q.macs += l.Node.Op.Cost(l.Node).MACs
	}
	return nil
}

// momentum of followed ranges.
const momentum = 0.99

// follow makes the range of q follow the largest magnitude of v.
func (m *model) follow(b *builder, q *quantiser, v *ir.Value) {
	if !q.signed {
		v = b.add("Relu", "_positive", nil, v)
	}
	most := b.add("ReduceMax", "_largest", ir.MakeAttrs("keepdims", 0), b.add("Abs", "_abs", nil, v))
	if b.err != nil {
		return
	}
	updates := slices.Clone(m.t.Updates)
	i := slices.IndexFunc(updates, func(u ir.Update) bool { return u.Param == q.hi })
	if i >= 0 { // several values with one range: the largest of them counts
		updates[i].Next = b.add("Max", "_followed", nil, updates[i].Next, most)
	} else {
		old := b.add("Mul", "_old", nil, q.hi, b.r.Float("momentum", momentum))
		now := b.add("Mul", "_now", nil, most, b.r.Float("momentum", 1-momentum))
		updates = append(updates, ir.Update{Param: q.hi, Next: b.add("Add", "_followed", nil, old, now)})
	}
	if b.err == nil {
		b.r.SetUpdates(updates)
	}
}

// elements returns the number of elements of one image's activation.
func elements(t ir.Type) int64 {
	n := int64(1)
	for i, d := range t.Dims {
		if d.Known() && i > 0 {
			n *= int64(d.N)
		}
	}
	return n
}

// after returns a rewriter of t behind what computes v, or before the first node that uses it.
func (m *model) after(v *ir.Value) *ir.Rewriter {
	r := ir.NewRewriter(m.t)
	if v.Def != nil {
		return r.After(v.Def)
	}
	return r.Before(inOrder(v)[0].Node)
}

// builder adds nodes and keeps the first error.
type builder struct {
	r      *ir.Rewriter
	prefix string
	err    error
}

func (b *builder) add(op, suffix string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	n, err := b.r.Add(op, "", attrs, in, b.prefix+suffix)
	if err != nil {
		b.err = err
		return nil
	}
	return n.Out[0]
}

// regularise adds γ·Σ λ_i·n_i; n_i is the mean where a quantiser has several.
func (m *model) regularise() error {
	b := &builder{r: ir.NewRewriter(m.t), prefix: "bits"}
	lambda := map[*ir.Value]float64{}
	var order []*ir.Value
	for _, q := range m.quants {
		if !q.learned {
			continue
		}
		if lambda[q.bits] == 0 {
			order = append(order, q.bits)
		}
		lambda[q.bits] += q.lambda
	}
	if len(order) == 0 {
		return nil
	}
	var sum *ir.Value
	for _, v := range order {
		n := v
		if v.Type.Rank() > 0 {
			n = b.add("ReduceMean", "_mean", ir.MakeAttrs("keepdims", 0), v)
		}
		term := b.add("Mul", "_term", nil, n, b.r.Float("lambda", float32(lambda[v])))
		if sum == nil {
			sum = term
		} else {
			sum = b.add("Add", "_sum", nil, sum, term)
		}
	}
	m.gamma = b.r.Input("gamma", ir.TypeOf(tensor.Scalar[float32](0)))
	m.penalty = b.add("Mul", "_penalty", nil, sum, m.gamma)
	return b.err
}
