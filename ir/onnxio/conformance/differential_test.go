package conformance

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/backends/interp"
	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/internal/onnxschema"
	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

var (
	diffNodes = flag.Int("diff-nodes", 6, "random nodes of each operator that are compared with ONNX Runtime (make differential)")
	diffSeed  = flag.Uint64("diff-seed", 1, "the first seed of random nodes")
	diffOps   = flag.String("diff-ops", "*", "pattern of the operators that are compared")
)

// The opsets of random nodes: what is read, and what ONNX Runtime 1.30 has kernels for.
const firstOpset, lastOpset = 7, 24

// TestDifferential runs random nodes of every operator that draws knows, each in the form of a
// random opset, on the reference evaluators, the engine and ONNX Runtime. The official suite
// comes from another evaluator, and what that has wrong it cannot find.
func TestDifferential(t *testing.T) {
	ort.Need(t)
	many, err := ort.StartMany(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer many.Close()
	var names []string
	for name := range draws {
		if ok, _ := path.Match(*diffOps, name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	used := map[string]bool{}
	ran, refusedThere := 0, 0
	for _, name := range names {
		compared, drawn := 0, 0
		var reason error
		for i := range *diffNodes {
			c, ok := drawNode(name, *diffSeed+uint64(i))
			if !ok {
				continue
			}
			drawn++
			there, err := many.Run(c.model(), c.feeds(), ort.Off)
			if err != nil {
				if errors.Is(err, ort.ErrEnded) {
					t.Logf("%v: %v", c, err)
				}
				refusedThere++
				reason = err
				continue
			}
			compared++
			problem := c.compare(t, there)
			if problem == "" {
				continue
			}
			if k := known(c, problem); k != "" {
				used[k] = true
				continue
			}
			t.Errorf("%v: %s", c, problem)
		}
		ran += compared
		if 2*compared < drawn {
			t.Logf("%s: ONNX Runtime refuses %d of %d nodes, the last because: %v", name, drawn-compared, drawn, reason)
		}
	}
	t.Logf("%d nodes of %d operators from seed %d compared, %d that ONNX Runtime refuses", ran, len(names), *diffSeed, refusedThere)
	for _, why := range slices.Sorted(maps.Keys(used)) {
		t.Logf("known: %s", why)
	}
}

// randomNode is a model of one node.
type randomNode struct {
	op    string
	opset int
	seed  uint64
	form  *onnxschema.Operator
	attrs ir.Attrs
	in    []*tensor.Tensor // nil: left out
	fixed []bool           // inputs that are initialisers
	outs  int
	steps float64 // tolerance of integers
	loose float64 // tolerance, as a part of the greatest magnitude; 0: 1e-5
}

// drawNode draws node number seed of an operator; false where the drawn opset lacks it.
func drawNode(name string, seed uint64) (*randomNode, bool) {
	h := fnv.New64a()
	h.Write([]byte(name))
	r := &drawer{Rand: rand.New(rand.NewPCG(seed, h.Sum64()))}
	c := &randomNode{op: name, opset: firstOpset + r.IntN(lastOpset-firstOpset+1), seed: seed, outs: 1}
	if r.IntN(3) == 0 {
		c.opset = lastOpset - r.IntN(6)
	}
	if c.form, _ = onnxschema.Lookup(name, c.opset); c.form == nil {
		return nil, false
	}
	r.c = c
	draws[name](r)
	for len(c.in) > 0 && c.in[len(c.in)-1] == nil {
		c.in = c.in[:len(c.in)-1]
	}
	if most := len(c.form.In); most > 0 && !c.form.In[most-1].Repeats && len(c.in) > most {
		c.in = c.in[:most]
	}
	constant := r.IntN(2) == 0 || strings.HasPrefix(name, "QLinear") // of which computed scales are refused by name
	for i := range c.in {
		c.fixed = append(c.fixed, constant && i > 0)
	}
	return c, true
}

func (c *randomNode) String() string {
	var in []string
	for _, t := range c.in {
		switch {
		case t == nil:
			in = append(in, "-")
		case t.Len() <= 8:
			in = append(in, fmt.Sprintf("%v%v", ir.TypeOf(t), t.Container()))
		default:
			in = append(in, ir.TypeOf(t).String())
		}
	}
	return fmt.Sprintf("%s %d at opset %d %v (%s)", c.op, c.seed, c.opset, c.attrs, strings.Join(in, ", "))
}

func (c *randomNode) model() []byte {
	g := &onnxpb.GraphProto{Name: proto.String("g")}
	n := &onnxpb.NodeProto{OpType: proto.String(c.op), Name: proto.String("N")}
	for i, t := range c.in {
		if t == nil {
			n.Input = append(n.Input, "")
			continue
		}
		name := fmt.Sprintf("x%d", i)
		n.Input = append(n.Input, name)
		if c.fixed[i] {
			g.Initializer = append(g.Initializer, tensorProto(name, t))
			continue
		}
		shape := &onnxpb.TensorShapeProto{}
		for _, d := range t.Shape() {
			shape.Dim = append(shape.Dim, &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}})
		}
		g.Input = append(g.Input, &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{
			Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(t.Elem().ONNXType())), Shape: shape}},
		}})
	}
	for i := range c.outs {
		name := fmt.Sprintf("y%d", i)
		n.Output = append(n.Output, name)
		g.Output = append(g.Output, &onnxpb.ValueInfoProto{Name: proto.String(name)})
	}
	for _, a := range c.attrs {
		n.Attribute = append(n.Attribute, attrProto(a))
	}
	g.Node = []*onnxpb.NodeProto{n}
	data, err := proto.Marshal(&onnxpb.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Version: proto.Int64(int64(c.opset))}},
		Graph:       g,
	})
	if err != nil {
		panic(err)
	}
	return data
}

func tensorProto(name string, t *tensor.Tensor) *onnxpb.TensorProto {
	data, err := onnxio.EncodeTensor(name, t)
	p := &onnxpb.TensorProto{}
	if err = errors.Join(err, proto.Unmarshal(data, p)); err != nil {
		panic(err)
	}
	return p
}

func attrProto(a ir.Attr) *onnxpb.AttributeProto {
	p := &onnxpb.AttributeProto{Name: proto.String(a.Name)}
	kind := onnxpb.AttributeProto_UNDEFINED
	switch x := a.Value.(type) {
	case int64:
		p.I, kind = proto.Int64(x), onnxpb.AttributeProto_INT
	case float32:
		p.F, kind = proto.Float32(x), onnxpb.AttributeProto_FLOAT
	case string:
		p.S, kind = []byte(x), onnxpb.AttributeProto_STRING
	case []int64:
		p.Ints, kind = x, onnxpb.AttributeProto_INTS
	case []float32:
		p.Floats, kind = x, onnxpb.AttributeProto_FLOATS
	case []string:
		for _, s := range x {
			p.Strings = append(p.Strings, []byte(s))
		}
		kind = onnxpb.AttributeProto_STRINGS
	case *tensor.Tensor:
		p.T, kind = tensorProto("", x), onnxpb.AttributeProto_TENSOR
	}
	p.Type = kind.Enum()
	return p
}

// feeds returns the inputs of the graph, in order.
func (c *randomNode) feeds() []ort.Named {
	var in []ort.Named
	for i, t := range c.in {
		if t != nil && !c.fixed[i] {
			in = append(in, ort.Named{Name: fmt.Sprintf("x%d", i), Tensor: t})
		}
	}
	return in
}

// compare says how what thriftc makes of the model differs from the given outputs.
func (c *randomNode) compare(t *testing.T, want []ort.Named) string {
	g, err := onnxio.Decode(c.model(), "", ops.Table())
	if err != nil {
		return fmt.Sprintf("refused: %v; ONNX Runtime gives %v", err, ir.TypeOf(want[0].Tensor))
	}
	var in []*tensor.Tensor
	for _, n := range c.feeds() {
		in = append(in, n.Tensor)
	}
	got, err := ir.Eval(t.Context(), g, in)
	if err != nil {
		return fmt.Sprintf("cannot be evaluated: %v; ONNX Runtime gives %v", err, ir.TypeOf(want[0].Tensor))
	}
	for i, w := range want {
		if d := c.differ(got[i], w.Tensor); d != "" {
			return fmt.Sprintf("output %d: %s", i, d)
		}
		if v := g.Outputs[i]; !v.Type.Compatible(ir.TypeOf(got[i])) {
			return fmt.Sprintf("output %d: inferred %v, evaluated %v", i, v.Type, ir.TypeOf(got[i]))
		}
	}
	x, err := interp.New().Compile(t.Context(), g, backends.Options{Threads: 1})
	if err != nil {
		return fmt.Sprintf("the engine: %v", err)
	}
	defer x.Close()
	again, err := x.Run(t.Context(), in)
	if err != nil {
		return fmt.Sprintf("the engine: %v", err)
	}
	for i := range got {
		if !slices.EqualFunc(again[i].Float64s(), got[i].Float64s(), func(a, b float64) bool { return a == b || a != a && b != b }) {
			return fmt.Sprintf("output %d: the engine gives %v, the reference %v", i, some(again[i]), some(got[i]))
		}
	}
	return ""
}

// differ says how two tensors differ, by more than rounding.
func (c *randomNode) differ(got, want *tensor.Tensor) string {
	if got.Elem() != want.Elem() || !slices.Equal(got.Shape(), want.Shape()) {
		return fmt.Sprintf("got %v, ONNX Runtime %v", ir.TypeOf(got), ir.TypeOf(want))
	}
	if got.Len() == 0 {
		return ""
	}
	g, w := got.Float64s(), want.Float64s()
	most := 0.0
	for _, v := range w {
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			most = max(most, math.Abs(v))
		}
	}
	allow := c.steps
	if e := got.Elem(); e.IsFloat() {
		part := c.loose
		if part == 0 {
			part = 1e-5
		}
		switch e {
		case tensor.F16:
			part = max(part, 2e-3)
		case tensor.BF16:
			part = max(part, 2e-2)
		}
		allow = part * max(most, 0.1)
	}
	for i := range w {
		if g[i] == w[i] || math.IsNaN(g[i]) && math.IsNaN(w[i]) || math.Abs(g[i]-w[i]) <= allow {
			continue
		}
		return fmt.Sprintf("element %d is %v, ONNX Runtime gives %v; got %v, there %v", i, g[i], w[i], some(got), some(want))
	}
	return ""
}

// some returns the first elements of a tensor.
func some(t *tensor.Tensor) string {
	v := t.Float64s()
	return fmt.Sprintf("%v%v", ir.TypeOf(t), v[:min(len(v), 12)])
}
