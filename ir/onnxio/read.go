package onnxio

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/internal/onnxschema"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// maxNodes bounds the nodes of a model after its functions are expanded, so
// that a small file of functions that call functions cannot fill the memory.
const maxNodes = 1 << 18

// modelReader holds what is common to all graphs and functions of a model.
type modelReader struct {
	r        *Reader
	files    *externalFiles
	dense    int // bytes that sparse tensors may still take
	funcs    map[funcKey]*onnxpb.FunctionProto
	calls    []funcKey // functions being expanded
	nodes    int
	tensors  map[*onnxpb.TensorProto]*tensor.Tensor // those in functions, which are read at every call
	problems []Problem
	errs     []error
}

// scope is where names mean something: a graph, or one call of a function.
type scope struct {
	g      *ir.Graph
	rw     *ir.Rewriter
	vals   map[string]*ir.Value // nil: an optional function input that is absent
	bad    map[string]bool      // outputs of nodes that could not be read
	outer  *scope               // nil for functions, which see nothing of their caller
	opsets map[string]int

	declared map[string]*onnxpb.ValueInfoProto

	// In a function: what its attributes stand for, the prefix of its names,
	// and the names that its outputs have outside.
	attrs    map[string]*onnxpb.AttributeProto
	prefix   string
	rename   map[string]string
	function bool
}

// lookup finds a name; bad says that its node could not be read.
func (sc *scope) lookup(name string) (v *ir.Value, bad, ok bool) {
	for s := sc; s != nil; s = s.outer {
		if s.bad[name] {
			return nil, true, true
		}
		if v, ok := s.vals[name]; ok {
			return v, false, true
		}
	}
	return nil, false, false
}

// maxName is the longest name that is given to what comes out of a function:
// names are repeated at every call.
const maxName = 128

// name returns what a value or node of the file is called in the graph.
func (sc *scope) name(s string) string {
	if !sc.function || s == "" {
		return s
	}
	if outside, ok := sc.rename[s]; ok {
		return outside
	}
	return strings.ToValidUTF8(strings.Clone(tail(sc.prefix)+tail(s)), "")
}

// tail returns the end of a long name.
func tail(s string) string { return s[max(0, len(s)-maxName):] }

func (m *modelReader) errorf(format string, args ...any) {
	m.errs = append(m.errs, fmt.Errorf(format, args...))
}

func (m *modelReader) note(node, format string, args ...any) {
	if m.r.Note != nil {
		m.r.Note(Problem{node, fmt.Sprintf(format, args...)})
	}
}

// fail files an error with the unsupported things or with the broken ones.
func (m *modelReader) fail(what string, err error) {
	var t errType
	if errors.As(err, &t) {
		m.problems = append(m.problems, Problem{what, err.Error()})
	} else {
		m.errorf("%s: %w", what, err)
	}
}

func readModel(r *Reader, p *onnxpb.ModelProto, files *externalFiles) (*ir.Graph, error) {
	m := &modelReader{r: r, files: files, dense: maxDense, tensors: map[*onnxpb.TensorProto]*tensor.Tensor{}}
	switch v := p.GetIrVersion(); {
	case p.Graph == nil:
		return nil, errors.New("not an ONNX model: it has no graph")
	case v < MinIR:
		return nil, &Unsupported{[]Problem{{"", fmt.Sprintf("IR version %d of the ONNX format, from before its first release, is not read (%d to %d are): export the model anew", v, MinIR, MaxIR)}}}
	case v > MaxIR:
		return nil, &Unsupported{[]Problem{{"", fmt.Sprintf("IR version %d of the ONNX format is not known (%d to %d are)", v, MinIR, MaxIR)}}}
	}
	opsets, err := m.opsets(p.OpsetImport)
	if err != nil {
		return nil, err
	}
	if len(p.TrainingInfo) > 0 {
		m.note("", "the model's training information is ignored")
	}
	if err := m.functions(p.Functions); err != nil {
		return nil, err
	}
	g := ir.NewGraph(p.Graph.GetName(), r.Ops)
	sc := &scope{g: g, rw: ir.NewRewriter(g), opsets: opsets}
	m.graph(sc, p.Graph)
	if err := m.failure(); err != nil {
		return nil, err
	}
	if err := restoreNames(sc, p.Graph); err != nil {
		return nil, err
	}
	meta, err := metaOf(p)
	if err != nil {
		return nil, err
	}
	g.Meta = meta
	if r.Ops.Normalize != nil {
		if err := r.Ops.Normalize(g); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// failure reports what went wrong so far. A broken model is broken whatever
// else it uses, but the unsupported parts are named too.
func (m *modelReader) failure() error {
	if len(m.problems) == 0 {
		return errors.Join(m.errs...)
	}
	u := &Unsupported{m.problems}
	if len(m.errs) == 0 {
		return u
	}
	return errors.Join(append(m.errs, errors.New(u.Error()))...)
}

func (m *modelReader) opsets(imports []*onnxpb.OperatorSetIdProto) (map[string]int, error) {
	out := map[string]int{}
	for _, o := range imports {
		d, v := domain(o.GetDomain()), int(o.GetVersion())
		if have, ok := out[d]; ok && have != v {
			return nil, fmt.Errorf("domain %q is imported in versions %d and %d", o.GetDomain(), have, v)
		}
		out[d] = v
		if d == "" && (v < MinOpset || v > MaxOpset) {
			return nil, &Unsupported{[]Problem{{"", fmt.Sprintf("opset %d is not supported (%d to %d are)", v, MinOpset, MaxOpset)}}}
		}
	}
	return out, nil
}

// domain returns a domain's short name.
func domain(s string) string {
	if s == "ai.onnx" {
		return ""
	}
	return s
}

// unversioned are the domains whose import may be missing: tools of the QONNX family rename the domain
// of nodes and leave the imports as they were, NNCF writes none for com.microsoft, and
// the programs that the files are meant for do not mind.
var unversioned = map[string]bool{"qonnx.custom_op.general": true, "onnx.brevitas": true, "finn.custom_op.general": true, "com.microsoft": true}

func opName(domain, opType string) string {
	if domain == "" {
		return opType
	}
	return domain + "." + opType
}

// producer is what the writer puts where the model does not say who made it.
const producer = "thriftc"

// Keys under which a model's own fields are kept in Graph.Meta.
const (
	metaProducer        = "onnx.producer_name"
	metaProducerVersion = "onnx.producer_version"
	metaDomain          = "onnx.domain"
	metaModelVersion    = "onnx.model_version"
	metaDoc             = "onnx.doc_string"
)

func metaOf(p *onnxpb.ModelProto) ([]ir.Pair, error) {
	var meta []ir.Pair
	add := func(key, value string) {
		if value != "" {
			meta = append(meta, ir.Pair{Key: key, Value: value})
		}
	}
	if p.GetProducerName() != producer {
		add(metaProducer, p.GetProducerName())
	}
	add(metaProducerVersion, p.GetProducerVersion())
	add(metaDomain, p.GetDomain())
	add(metaDoc, p.GetDocString())
	if p.GetModelVersion() != 0 {
		add(metaModelVersion, fmt.Sprint(p.GetModelVersion()))
	}
	for _, e := range p.MetadataProps {
		add(e.GetKey(), e.GetValue())
	}
	slices.SortFunc(meta, func(a, b ir.Pair) int { return cmp.Compare(a.Key, b.Key) })
	for i := 1; i < len(meta); i++ {
		if meta[i].Key == meta[i-1].Key {
			return nil, fmt.Errorf("metadata key %q stands twice", meta[i].Key)
		}
	}
	return meta, nil
}

// graph reads a graph or subgraph into sc. What goes wrong is filed with m.
func (m *modelReader) graph(sc *scope, p *onnxpb.GraphProto) {
	sc.vals, sc.bad = map[string]*ir.Value{}, map[string]bool{}
	sc.declared = map[string]*onnxpb.ValueInfoProto{}
	sc.g.Doc = p.GetDocString()
	for _, vs := range [2][]*onnxpb.ValueInfoProto{p.ValueInfo, p.Output} {
		for _, v := range vs {
			sc.declared[v.GetName()] = v
		}
	}
	initial := map[string]bool{}
	for _, t := range p.Initializer {
		initial[t.GetName()] = true
	}
	for _, t := range p.SparseInitializer {
		initial[t.GetValues().GetName()] = true
	}
	inputs := map[string]ir.Type{}
	for _, v := range p.Input {
		m.input(sc, v, initial, inputs)
	}
	m.initializers(sc, p, inputs)
	nodes, err := ordered(p.Node)
	if err != nil {
		m.errs = append(m.errs, err)
		return
	}
	for _, n := range nodes {
		if !m.node(sc, n) {
			return
		}
	}
	for _, o := range p.Output {
		v, bad, ok := sc.lookup(o.GetName())
		switch {
		case !ok:
			m.errorf("output %q of graph %q is not defined", o.GetName(), p.GetName())
			continue
		case bad || v == nil:
			continue
		}
		m.declare(sc, o.GetName(), v)
		if v.Graph() != sc.g { // a subgraph must define what it returns
			n, err := sc.rw.Add("Identity", "", nil, []*ir.Value{v}, sc.name(o.GetName()))
			if err != nil {
				m.errs = append(m.errs, err)
				continue
			}
			v = n.Out[0]
		}
		sc.rw.Output(v)
	}
}

func (m *modelReader) input(sc *scope, p *onnxpb.ValueInfoProto, initial map[string]bool, types map[string]ir.Type) {
	name := p.GetName()
	t, err := typeOf(p.Type)
	if err == nil && name == "" {
		err = errors.New("has no name")
	}
	if _, twice := types[name]; err == nil && twice {
		err = errors.New("is declared twice")
	}
	if err == nil && t.Elem == tensor.Invalid && sc.outer == nil && !initial[name] {
		err = errors.New("has no type")
	}
	types[name] = t
	if err != nil {
		m.fail(fmt.Sprintf("input %q", name), err)
		sc.bad[name] = true
		return
	}
	if initial[name] { // a default that callers may override: thriftc takes it as constant
		return
	}
	v := sc.rw.Input(sc.name(name), t)
	v.Doc = p.GetDocString()
	sc.vals[name] = v
}

func (m *modelReader) initializers(sc *scope, p *onnxpb.GraphProto, inputs map[string]ir.Type) {
	widths := trueWidths(p.QuantizationAnnotation)
	add := func(name, doc string, t *tensor.Tensor, err error) {
		if declared, ok := inputs[name]; err == nil && ok && declared.Elem != tensor.Invalid && !declared.Compatible(ir.TypeOf(t)) {
			err = fmt.Errorf("is %v, declared as %v", ir.TypeOf(t), declared)
		}
		if _, twice := sc.vals[name]; err == nil && twice {
			err = errors.New("the name stands for two values")
		}
		if err == nil && name == "" {
			err = errors.New("has no name")
		}
		if err == nil {
			err = checkNaN(t)
		}
		if err != nil {
			m.fail(fmt.Sprintf("initializer %q", name), err)
			sc.bad[name] = true
			return
		}
		if e := widths[name]; e != tensor.Invalid {
			t = narrowed(t, e)
		}
		v := sc.rw.Const(sc.name(name), t)
		v.Doc = doc
		sc.vals[name] = v
	}
	for _, t := range p.Initializer {
		data, err := m.tensor(sc, t)
		add(t.GetName(), t.GetDocString(), data, err)
	}
	for _, t := range p.SparseInitializer {
		data, err := densify(t, m.files, &m.dense)
		add(t.GetValues().GetName(), t.GetValues().GetDocString(), data, err)
	}
}

// tensor decodes a tensor, those of functions only once.
func (m *modelReader) tensor(sc *scope, p *onnxpb.TensorProto) (*tensor.Tensor, error) {
	if t := m.tensors[p]; t != nil {
		return t, nil
	}
	t, err := decodeTensor(p, m.files)
	if err == nil && sc.function {
		m.tensors[p] = t
	}
	return t, err
}

// checkNaN refuses weights that are not numbers: every result would be one.
func checkNaN(t *tensor.Tensor) error {
	bad := -1
	switch {
	case t.Elem() == tensor.F64:
		bad = slices.IndexFunc(tensor.Data[float64](t), func(x float64) bool { return x != x })
	case t.Elem().IsFloat():
		bad = slices.IndexFunc(t.Float32s(), func(x float32) bool { return x != x })
	}
	if bad >= 0 {
		return fmt.Errorf("element %d is not a number (NaN)", bad)
	}
	return nil
}

// declare refines v's type and documentation by what the file says of it.
func (m *modelReader) declare(sc *scope, name string, v *ir.Value) {
	p := sc.declared[name]
	if p == nil || v.Kind != ir.Result {
		return
	}
	if p.GetDocString() != "" {
		v.Doc = p.GetDocString()
	}
	t, err := typeOf(p.Type)
	if err != nil {
		m.fail(fmt.Sprintf("value %q", name), err)
		return
	}
	stale, err := declare(v, t)
	if err != nil {
		m.errorf("value %q: %w", name, err)
	} else if stale {
		m.note("%"+name, "declared as %v, but the operators give %v", t, v.Type)
	}
}

// node reads one node; it returns false when reading must stop.
func (m *modelReader) node(sc *scope, p *onnxpb.NodeProto) bool {
	if m.nodes++; m.nodes > maxNodes {
		if m.nodes == maxNodes+1 {
			m.errorf("the model has more than %d nodes", maxNodes)
		}
		return false
	}
	err := m.readNode(sc, p)
	if err == nil {
		return m.nodes <= maxNodes
	}
	for _, o := range p.Output {
		if o != "" {
			sc.bad[o] = true
		}
	}
	what := p.GetOpType() + " " + cmp.Or(sc.name(p.GetName()), label(p))
	if errors.As(err, new(skip)) {
		return m.nodes <= maxNodes
	}
	switch e := err.(type) {
	case unsupported: // import rules that add nodes may name this one themselves
		m.problems = append(m.problems, Problem{what, strings.TrimPrefix(e.Error(), what+": ")})
	case placed:
		m.errs = append(m.errs, e.error)
	default:
		m.fail(what, err)
	}
	return m.nodes <= maxNodes
}

// Kinds of errors of one node.
type (
	skip        struct{ error } // follows from another, which is reported
	unsupported struct{ error } // cannot be expressed
	placed      struct{ error } // names the node already
)

func (m *modelReader) readNode(sc *scope, p *onnxpb.NodeProto) error {
	d := domain(p.GetDomain())
	version, imported := sc.opsets[d]
	name := opName(d, p.GetOpType())
	op := m.r.Ops.Lookup(name)
	key := funcKey{d, p.GetOpType(), p.GetOverload()}
	fn := m.funcs[key]
	for i, o := range p.Output {
		if _, twice := sc.vals[o]; o != "" && (twice || slices.Contains(p.Output[:i], o)) {
			return fmt.Errorf("output %q stands for two values", o)
		}
	}
	switch {
	case name == "Constant":
		return m.constant(sc, p)
	case op == nil && fn == nil:
		return unsupported{fmt.Errorf("operator %s is not supported", name)}
	case !imported && fn == nil && unversioned[d]:
		version = 1
	case !imported && fn == nil:
		return fmt.Errorf("the model does not import domain %q", p.GetDomain())
	}
	in, inErr := sc.inputs(p)
	if op == nil {
		if inErr != nil {
			return inErr
		}
		return m.call(sc, p, key, fn, in)
	}
	attrs, err := m.attributes(sc, p)
	if err = cmp.Or(err, inErr); err != nil {
		return err
	}
	if d == "" {
		if err := atOpset(op, attrs, len(in), version); err != nil {
			return unsupported{err}
		}
	}
	for i := range attrs {
		if spec := op.Attr(attrs[i].Name); spec != nil && spec.Flag {
			if x, ok := attrs[i].Value.(int64); ok && x != 0 {
				attrs[i].Value = int64(1)
			}
		}
	}
	return m.build(sc, p, name, version, attrs, in)
}

// atOpset refuses an operator, attributes and inputs that the opset a model declares has not.
func atOpset(op *ir.Op, attrs ir.Attrs, inputs, opset int) error {
	if op.Name == "LayerNormalization" && opset < 17 {
		return nil // ONNX Runtime puts it into models of every opset
	}
	form, first := onnxschema.Lookup(op.Name, opset)
	switch {
	case form == nil && first > opset:
		return fmt.Errorf("operator %s exists from opset %d on, the model declares opset %d", op.Name, first, opset)
	case form == nil:
		return nil // of ONNX's experiments, or withdrawn: import rules judge
	}
	var errs []error
	for _, a := range attrs {
		if since := onnxschema.FirstWith(op.Name, a.Name); since > opset {
			errs = append(errs, fmt.Errorf("attribute %s of %s exists from opset %d on, the model declares opset %d", a.Name, op.Name, since, opset))
		}
	}
	if most := len(form.In); inputs > most && (most == 0 || !form.In[most-1].Repeats) {
		errs = append(errs, fmt.Errorf("has %d inputs, at most %d in opset %d", inputs, most, opset))
	}
	return errors.Join(errs...)
}

func (sc *scope) inputs(p *onnxpb.NodeProto) ([]*ir.Value, error) {
	var in []*ir.Value
	anyBad := false
	for _, s := range p.Input {
		if s == "" {
			in = append(in, nil)
			continue
		}
		v, bad, ok := sc.lookup(s)
		if !ok {
			return nil, fmt.Errorf("input %q is not defined", s)
		}
		anyBad = anyBad || bad
		in = append(in, v)
	}
	if anyBad {
		return nil, skip{errors.New("an input could not be read")}
	}
	for len(in) > 0 && in[len(in)-1] == nil {
		in = in[:len(in)-1]
	}
	return in, nil
}

// attributes converts a node's attributes, subgraphs included.
func (m *modelReader) attributes(sc *scope, p *onnxpb.NodeProto) (ir.Attrs, error) {
	var attrs ir.Attrs
	var errs []error
	for _, a := range p.Attribute {
		name := a.GetName()
		if ref := a.GetRefAttrName(); ref != "" {
			if !sc.function {
				return nil, fmt.Errorf("attribute %s refers to a function's attribute %s, but stands in no function", name, ref)
			}
			if a = sc.attrs[ref]; a == nil {
				continue // the call leaves it out: the operator's default holds
			}
		}
		if attrs.Has(name) {
			return nil, fmt.Errorf("attribute %s stands twice", name)
		}
		v, err := m.attribute(sc, a)
		if err != nil {
			errs = append(errs, fmt.Errorf("attribute %s: %w", name, err))
			continue
		}
		attrs.Set(name, v)
	}
	return attrs, errors.Join(errs...)
}

func (m *modelReader) attribute(sc *scope, a *onnxpb.AttributeProto) (any, error) {
	if err := checkFields(a); err != nil {
		return nil, err
	}
	switch a.GetType() {
	case onnxpb.AttributeProto_GRAPH:
		if a.G == nil {
			return nil, errors.New("is a graph without a value")
		}
		body := ir.NewBody(a.G.GetName(), sc.g)
		before := len(m.problems) + len(m.errs)
		m.graph(&scope{g: body, rw: ir.NewRewriter(body), outer: sc, opsets: sc.opsets, attrs: sc.attrs, prefix: sc.prefix, function: sc.function}, a.G)
		if len(m.problems)+len(m.errs) > before || len(body.Outputs) < len(a.G.Output) {
			return nil, skip{errors.New("a subgraph could not be read")}
		}
		return body, nil
	case onnxpb.AttributeProto_TENSOR:
		if a.T == nil {
			return nil, errors.New("is a tensor without a value")
		}
		return m.tensor(sc, a.T)
	case onnxpb.AttributeProto_SPARSE_TENSOR:
		if a.SparseTensor == nil {
			return nil, errors.New("is a sparse tensor without a value")
		}
		return densify(a.SparseTensor, m.files, &m.dense)
	}
	return attrOf(a)
}

// constant reads a Constant node, which becomes a constant and no node.
func (m *modelReader) constant(sc *scope, p *onnxpb.NodeProto) error {
	if len(p.Output) != 1 || p.Output[0] == "" || len(p.Input) > 0 {
		return errors.New("must have one output and no input")
	}
	attrs, err := m.attributes(sc, p)
	if err != nil {
		return err
	}
	if len(attrs) != 1 {
		return fmt.Errorf("has %d attributes, expected one that gives its value", len(attrs))
	}
	var t *tensor.Tensor
	switch x := attrs[0].Value.(type) {
	case *tensor.Tensor:
		t = x
	case float32:
		t = tensor.Scalar(x)
	case int64:
		t = tensor.Scalar(x)
	case string:
		t = tensor.Scalar(x)
	case []float32:
		t = tensor.Of(x, len(x))
	case []int64:
		t = tensor.Of(x, len(x))
	case []string:
		t = tensor.Of(x, len(x))
	default:
		return fmt.Errorf("attribute %s is not a value", attrs[0].Name)
	}
	if err := checkNaN(t); err != nil {
		return err
	}
	v := sc.rw.Const(sc.name(p.Output[0]), t)
	v.Doc = p.GetDocString()
	sc.vals[p.Output[0]] = v
	return nil
}

// build adds a node, turns it into today's form and infers its types.
func (m *modelReader) build(sc *scope, p *onnxpb.NodeProto, op string, version int, attrs ir.Attrs, in []*ir.Value) (err error) {
	outs := slices.Clone(p.Output)
	for len(outs) > 0 && outs[len(outs)-1] == "" {
		outs = outs[:len(outs)-1]
	}
	if len(outs) == 0 {
		return errors.New("has no output")
	}
	names := make([]string, len(outs))
	for i, o := range outs {
		names[i] = sc.name(o)
	}
	outs = slices.DeleteFunc(outs, func(o string) bool { return o == "" })
	g, before := sc.g, len(sc.g.Nodes)
	n, err := sc.rw.AddRaw(op, sc.name(p.GetName()), attrs, in, names...)
	if err != nil {
		return err
	}
	n.Doc = p.GetDocString()
	// While the node is imported its outputs are the graph's: whatever an
	// import rule puts in their place is then known, and keeps their names.
	g.Outputs = slices.DeleteFunc(slices.Clone(n.Out), func(v *ir.Value) bool { return v == nil })
	err = importNode(sc.rw.Before(n), n, version)
	results := g.Outputs
	g.Outputs = nil
	if err != nil {
		return err
	}
	for _, x := range g.Nodes[before:] {
		if x == n || slices.ContainsFunc(x.Out, func(v *ir.Value) bool { return v != nil && v.Type.Elem == tensor.Invalid }) {
			// In a subgraph the types of its inputs may not be known yet, and a
			// branch that never runs may be wrong; the enclosing node's rule judges.
			if err := inferNode(x); err != nil && g.Parent == nil {
				return err
			}
		}
	}
	for i, o := range outs {
		sc.vals[o] = results[i]
		m.declare(sc, o, results[i])
	}
	return nil
}

// importNode applies an operator's import rule. Rules meet nodes as they
// stand in the file, where older forms lack inputs of today's; a panic there
// means that inputs are missing which the rule needs.
func importNode(r *ir.Rewriter, n *ir.Node, version int) (err error) {
	if n.Op.Import == nil {
		return nil
	}
	defer func() {
		if p := recover(); p == nil {
			return
		} else if ports := n.CheckPorts(); ports != nil {
			err = placed{ports}
		} else {
			err = fmt.Errorf("malformed node: %v", p)
		}
	}()
	if err := n.Op.Import(r, n, version); err != nil {
		return unsupported{err}
	}
	return nil
}

func inferNode(n *ir.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed node: %v", p)
		}
	}()
	if err := n.Infer(); err != nil {
		return placed{err}
	}
	return nil
}

// restoreNames gives the values of the outermost graph the names they have in
// the file, where a value that was made while reading took one first, and
// makes sure that the outputs have theirs: they are the model's interface.
func restoreNames(sc *scope, p *onnxpb.GraphProto) error {
	holder := map[string]*ir.Value{}
	taken := false
	for name, v := range sc.vals {
		taken = taken || v.Name != name
	}
	if !taken {
		return nil
	}
	var index func(g *ir.Graph)
	index = func(g *ir.Graph) {
		for _, v := range slices.Concat(g.Inputs, g.Consts) {
			holder[v.Name] = v
		}
		for _, n := range g.Nodes {
			for _, v := range n.Out {
				if v != nil {
					holder[v.Name] = v
				}
			}
			for _, b := range n.Bodies() {
				index(b)
			}
		}
	}
	index(sc.g)
	claim := func(v *ir.Value, name string) {
		if h := holder[name]; h != nil && sc.vals[name] != h {
			delete(holder, h.Name)
			sc.rw.Rename(h, name+"_")
			holder[h.Name] = h
		}
		if holder[name] == nil {
			delete(holder, v.Name)
			sc.rw.Rename(v, name)
			holder[name] = v
		}
	}
	for _, n := range p.Node {
		for _, name := range n.Output {
			v := sc.vals[name]
			if v != nil && v.Name != name && v.Graph() == sc.g && sc.vals[v.Name] != v && v.Kind == ir.Result {
				claim(v, name)
			}
		}
	}
	for i, o := range p.Output {
		name := o.GetName()
		if v := sc.vals[name]; v != nil && v.Name != name {
			id, err := sc.rw.Add("Identity", "", nil, []*ir.Value{v})
			if err != nil {
				return err
			}
			claim(id.Out[0], name)
			sc.rw.SetOutput(i, id.Out[0])
			sc.vals[name] = id.Out[0]
		}
	}
	return nil
}
