package onnxio

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// The opsets that can be written. Most runtimes of the last years load
// DefaultOpset; int4 and int2 weights need 21 and 25.
const (
	MinWriteOpset = 13
	DefaultOpset  = 17
	MaxWriteOpset = 25
)

// WriteOptions say what form a written model has.
type WriteOptions struct {
	// Opset is the version of the operators, MinWriteOpset to MaxWriteOpset.
	// 0 means DefaultOpset, or the first later one in which the model can be said.
	Opset int
	// IRVersion is the version of the file format, 4 to MaxIR; 0 means the one
	// that came with the opset.
	IRVersion int
	// ExternalThreshold is the size in bytes from which a tensor is stored in
	// a file beside the model. 0 means that all are stored in the model, unless
	// that would exceed the format's 2 GB.
	ExternalThreshold int
	// ForConverters declares the type of every computed value and constant, not only those
	// that inference would not find, and writes equal constants apart: the converters of other
	// tools look types up and change constants in place.
	ForConverters bool
	// Int2 stores weights of two bits as INT2 and UINT2 where the opset has them,
	// which ONNX Runtime 1.31 cannot load unless its optimisations are off. Otherwise they are
	// stored in four bits.
	Int2 bool
}

// irVersions lists the IR version that came with each opset from MinWriteOpset on.
var irVersions = [...]int{13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13}

// pageSize is the alignment of tensors in external files, so that readers can map them.
const pageSize = 4096

// Write writes g to an ONNX file, and to path with ".data" appended what is
// stored outside. Files are written under a temporary name and renamed. The
// bytes depend on g and o only. g is not changed. The error is an *Unsupported
// when the operators or types cannot be written in that opset.
func Write(path string, g *ir.Graph, o WriteOptions) error {
	location := filepath.Base(path) + ".data"
	m, external, err := encode(g, o, location)
	if err == nil && len(external) == 0 && proto.Size(m) > maxFile {
		o.ExternalThreshold = 1024
		m, external, err = encode(g, o, location)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	data, err := marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(external) > 0 {
		if err := writeFile(filepath.Join(filepath.Dir(path), location), external...); err != nil {
			return err
		}
	}
	return writeFile(path, data)
}

// Encode returns the bytes that Write would write, with all tensors inside.
func Encode(g *ir.Graph, o WriteOptions) ([]byte, error) {
	o.ExternalThreshold = 0
	m, _, err := encode(g, o, "")
	if err != nil {
		return nil, err
	}
	return marshal(m)
}

func marshal(m proto.Message) ([]byte, error) {
	if n := proto.Size(m); n > maxFile {
		return nil, fmt.Errorf("the model takes %d bytes, more than the format's limit of 2 GB", n)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// encode returns the model and the parts of its external file. Without a wish the opset is
// the first one from the default on in which the model can be said.
func encode(g *ir.Graph, o WriteOptions, location string) (*onnxpb.ModelProto, [][]byte, error) {
	first, last, err := opsets(o.Opset)
	if err != nil {
		return nil, nil, err
	}
	for opset := first; ; opset++ {
		m, external, err := encodeAt(g, o, opset, last, location)
		var u *Unsupported
		if err == nil || opset == last || !errors.As(err, &u) {
			return m, external, err
		}
	}
}

// encodeAt encodes g at an opset; last is that up to which the caller would go.
func encodeAt(g *ir.Graph, o WriteOptions, opset, last int, location string) (*onnxpb.ModelProto, [][]byte, error) {
	version := cmp.Or(o.IRVersion, irVersions[opset])
	if version < 4 || version > MaxIR {
		return nil, nil, fmt.Errorf("IR version %d cannot be written (4 to %d can)", version, MaxIR)
	}
	low, err := lowerTo(g, opset, last, o.Int2)
	if err != nil {
		return nil, nil, err
	}
	w := &writer{
		domains: map[string]bool{"": true}, threshold: o.ExternalThreshold, location: location, types: moreThanInferred(g),
		names: uniqueNames(low.g), forConverters: o.ForConverters, widths: low.widths, merged: map[*ir.Value]string{},
	}
	p, err := w.graph(low.g)
	if err != nil {
		return nil, nil, err
	}
	m := &onnxpb.ModelProto{IrVersion: proto.Int64(int64(version)), Graph: p}
	for _, d := range sortedKeys(w.domains) {
		v := int64(1)
		if d == "" {
			v = int64(opset)
		}
		m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String(d), Version: proto.Int64(v)})
	}
	setMeta(m, g.Meta)
	if problems := verify(m); len(problems) > 0 {
		return nil, nil, &Unsupported{problems}
	}
	return m, w.external, nil
}

// uniqueNames returns the names of a model's nodes, those of subgraphs too. A name that
// stands again gets a number: readers refuse two nodes of one name.
func uniqueNames(g *ir.Graph) map[*ir.Node]string {
	taken := map[string]bool{}
	g.Walk(func(n *ir.Node) { taken[n.Name] = true })
	names := map[*ir.Node]string{}
	used := map[string]bool{"": true}
	next := map[string]int{}
	g.Walk(func(n *ir.Node) {
		name := n.Name
		for n.Name != "" && used[name] {
			next[n.Name]++
			if s := n.Name + "_" + strconv.Itoa(next[n.Name]); !taken[s] {
				name = s
			}
		}
		used[name], taken[name] = true, true
		names[n] = name
	})
	return names
}

// setMeta is the inverse of metaOf.
func setMeta(m *onnxpb.ModelProto, meta []ir.Pair) {
	m.ProducerName = proto.String(producer)
	for _, e := range meta {
		switch e.Key {
		case metaProducer:
			m.ProducerName = proto.String(e.Value)
			continue
		case metaProducerVersion:
			m.ProducerVersion = proto.String(e.Value)
			continue
		case metaDomain:
			m.Domain = proto.String(e.Value)
			continue
		case metaDoc:
			m.DocString = proto.String(e.Value)
			continue
		case metaModelVersion:
			if v, err := strconv.ParseInt(e.Value, 10, 64); err == nil {
				m.ModelVersion = proto.Int64(v)
				continue
			}
		}
		m.MetadataProps = append(m.MetadataProps, &onnxpb.StringStringEntryProto{Key: proto.String(e.Key), Value: proto.String(e.Value)})
	}
}

// moreThanInferred returns the types of computed values that inference alone
// would not find: these are written, the others can be computed again.
func moreThanInferred(g *ir.Graph) map[string]ir.Type {
	c, twin := g.CloneMap()
	if ir.Infer(c) != nil {
		return nil
	}
	types := map[string]ir.Type{}
	g.Walk(func(n *ir.Node) {
		for _, v := range n.Out {
			if v != nil && !v.Type.Equal(twin[v].Type) {
				types[v.Name] = v.Type
			}
		}
	})
	return types
}

type writer struct {
	domains       map[string]bool
	types         map[string]ir.Type // of values, where inference does not find them
	names         map[*ir.Node]string
	forConverters bool                   // every value has its value_info
	widths        map[string]tensor.Elem // true element types of widened constants
	merged        map[*ir.Value]string   // constants left out, and the name under which an equal one stands
	threshold     int
	location      string
	external      [][]byte
	offset        int
}

func (w *writer) graph(g *ir.Graph) (*onnxpb.GraphProto, error) {
	p := &onnxpb.GraphProto{Name: proto.String(cmp.Or(g.Name, "graph"))}
	if g.Doc != "" {
		p.DocString = proto.String(g.Doc)
	}
	for _, v := range g.Inputs {
		info, err := valueInfo(v, v.Type)
		if err != nil {
			return nil, err
		}
		p.Input = append(p.Input, info)
	}
	if err := w.initializers(g, p); err != nil {
		return nil, err
	}
	for _, n := range g.Nodes {
		np, err := w.node(n)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", n.Op.Name, n.Label(), err)
		}
		p.Node = append(p.Node, np)
		for _, v := range n.Out {
			if v == nil || v.IsOutput() {
				continue
			}
			t, more := w.types[v.Name]
			if !more && v.Doc == "" && !w.forConverters || v.Type.Elem.Member().ONNXType() == 0 {
				continue
			}
			if !more {
				t = v.Type
			}
			info, err := valueInfo(v, t)
			if err != nil {
				return nil, err
			}
			p.ValueInfo = append(p.ValueInfo, info)
		}
	}
	written := map[string]bool{}
	for _, v := range g.Outputs {
		info, err := valueInfo(v, v.Type)
		if err != nil {
			return nil, err
		}
		if written[v.Name] {
			return nil, fmt.Errorf("%%%s is an output of graph %q twice, which ONNX cannot say", v.Name, g.Name)
		}
		written[v.Name] = true
		p.Output = append(p.Output, info)
	}
	return p, nil
}

// valueInfo declares a value. What a branch returns that is never taken may have no type
// that could be inferred; subgraphs need none.
func valueInfo(v *ir.Value, t ir.Type) (*onnxpb.ValueInfoProto, error) {
	if g := v.Graph(); t.Elem == tensor.Invalid && g != g.Root() {
		return &onnxpb.ValueInfoProto{Name: proto.String(v.Name)}, nil
	}
	tp, err := typeProto(t)
	if err != nil {
		return nil, fmt.Errorf("%%%s: %w", v.Name, err)
	}
	info := &onnxpb.ValueInfoProto{Name: proto.String(v.Name), Type: tp}
	if v.Doc != "" {
		info.DocString = proto.String(v.Doc)
	}
	return info, nil
}

// initializers writes g's constants, equal ones once.
func (w *writer) initializers(g *ir.Graph, p *onnxpb.GraphProto) error {
	first := map[[sha256.Size]byte]string{}
	for _, v := range g.Consts {
		tp, err := encodeTensor(v.Name, v.Data)
		if err != nil {
			return err
		}
		if v.Doc != "" {
			tp.DocString = proto.String(v.Doc)
		}
		if !w.forConverters && !v.IsOutput() && v.Kind == ir.Const && !coincidence(v.Data) && !weightZero(v) {
			key := tensorKey(tp, w.widths[v.Name])
			if name, ok := first[key]; ok {
				w.merged[v] = name
				continue
			}
			first[key] = v.Name
		}
		if e := w.widths[v.Name]; e != tensor.Invalid {
			p.QuantizationAnnotation = append(p.QuantizationAnnotation, &onnxpb.TensorAnnotation{
				TensorName: proto.String(v.Name),
				QuantParameterTensorNames: []*onnxpb.StringStringEntryProto{
					{Key: proto.String(annotationKey), Value: proto.String(datatypeName(e))},
				},
			})
		}
		w.store(tp)
		p.Initializer = append(p.Initializer, tp)
		if w.forConverters {
			info, err := valueInfo(v, ir.TypeOf(v.Data))
			if err != nil {
				return err
			}
			p.ValueInfo = append(p.ValueInfo, info)
		}
	}
	return nil
}

// weightZero reports whether v is the zero point of stored integers. ONNX Runtime 1.31
// rewrites it with the weight when session.x64quantprecision is set, and refuses the second time.
func weightZero(v *ir.Value) bool {
	return slices.ContainsFunc(v.Uses(), func(u ir.Use) bool {
		return u.Index == 2 && u.Node.Op.Name == "DequantizeLinear" && u.Node.In[0].HasData()
	})
}

// coincidence reports whether t is a float tensor of one repeated number, like
// freshly initialised biases: such tensors are equal by coincidence, and must
// not become one shared tensor when the file is read again.
func coincidence(t *tensor.Tensor) bool {
	if !t.Elem().IsFloat() || t.Len() < 2 {
		return false
	}
	x := t.Float64s()
	for _, v := range x[1:] {
		if v != x[0] {
			return false
		}
	}
	return true
}

func tensorKey(p *onnxpb.TensorProto, width tensor.Elem) [sha256.Size]byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %d %v ", p.GetDataType(), width, p.Dims)
	for _, s := range p.StringData {
		fmt.Fprintf(&b, "%q ", s)
	}
	b.Write(p.RawData)
	return sha256.Sum256(b.Bytes())
}

// store moves a tensor's data to the external file if it is large enough.
func (w *writer) store(p *onnxpb.TensorProto) {
	if w.threshold <= 0 || len(p.RawData) < w.threshold {
		return
	}
	if pad := -w.offset & (pageSize - 1); pad > 0 {
		w.external = append(w.external, make([]byte, pad))
		w.offset += pad
	}
	w.external = append(w.external, p.RawData)
	entry := func(key, value string) {
		p.ExternalData = append(p.ExternalData, &onnxpb.StringStringEntryProto{Key: proto.String(key), Value: proto.String(value)})
	}
	entry("location", w.location)
	entry("offset", strconv.Itoa(w.offset))
	entry("length", strconv.Itoa(len(p.RawData)))
	p.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	w.offset += len(p.RawData)
	p.RawData = nil
}

func (w *writer) node(n *ir.Node) (*onnxpb.NodeProto, error) {
	p := &onnxpb.NodeProto{OpType: proto.String(n.Op.Type())}
	if d := n.Op.Domain(); d != "" {
		p.Domain = proto.String(d)
		w.domains[d] = true
	}
	if name := w.names[n]; name != "" {
		p.Name = proto.String(name)
	}
	if n.Doc != "" {
		p.DocString = proto.String(n.Doc)
	}
	for _, v := range n.In {
		switch name, merged := w.merged[v]; {
		case v == nil:
			p.Input = append(p.Input, "")
		case merged:
			p.Input = append(p.Input, name)
		default:
			p.Input = append(p.Input, v.Name)
		}
	}
	for _, v := range n.Out {
		if v == nil {
			p.Output = append(p.Output, "")
		} else {
			p.Output = append(p.Output, v.Name)
		}
	}
	for _, a := range n.Attrs {
		ap, err := w.attribute(a)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", a.Name, err)
		}
		p.Attribute = append(p.Attribute, ap)
	}
	return p, nil
}

func (w *writer) attribute(a ir.Attr) (*onnxpb.AttributeProto, error) {
	p := &onnxpb.AttributeProto{Name: proto.String(a.Name)}
	var err error
	switch x := a.Value.(type) {
	case int64:
		p.Type, p.I = onnxpb.AttributeProto_INT.Enum(), proto.Int64(x)
	case float32:
		p.Type, p.F = onnxpb.AttributeProto_FLOAT.Enum(), proto.Float32(x)
	case string:
		p.Type, p.S = onnxpb.AttributeProto_STRING.Enum(), []byte(x)
	case []int64:
		p.Type, p.Ints = onnxpb.AttributeProto_INTS.Enum(), x
	case []float32:
		p.Type, p.Floats = onnxpb.AttributeProto_FLOATS.Enum(), x
	case []string:
		p.Type = onnxpb.AttributeProto_STRINGS.Enum()
		for _, s := range x {
			p.Strings = append(p.Strings, []byte(s))
		}
	case *tensor.Tensor:
		p.Type = onnxpb.AttributeProto_TENSOR.Enum()
		p.T, err = encodeTensor("", x)
	case *ir.Graph:
		p.Type = onnxpb.AttributeProto_GRAPH.Enum()
		p.G, err = w.graph(x)
	default:
		err = errors.New("has no value")
	}
	return p, err
}
