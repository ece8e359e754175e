package onnxio

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
)

// funcKey identifies a function of the model.
type funcKey struct{ domain, name, overload string }

// maxCalls is how deep calls of functions may nest.
const maxCalls = 64

func (m *modelReader) functions(fs []*onnxpb.FunctionProto) error {
	m.funcs = map[funcKey]*onnxpb.FunctionProto{}
	for _, f := range fs {
		k := funcKey{domain(f.GetDomain()), f.GetName(), f.GetOverload()}
		if m.funcs[k] != nil {
			return fmt.Errorf("function %s is defined twice", opName(k.domain, k.name))
		}
		m.funcs[k] = f
	}
	return nil
}

// call expands a function in place of the node that calls it. A function's
// names are its own; it sees its inputs and attributes and nothing else.
// Operators in the registry come first, so a function is expanded only when
// thriftc does not know what it computes.
func (m *modelReader) call(sc *scope, p *onnxpb.NodeProto, key funcKey, f *onnxpb.FunctionProto, in []*ir.Value) error {
	if slices.Contains(m.calls, key) {
		return fmt.Errorf("function %s calls itself", opName(key.domain, key.name))
	}
	if len(m.calls) == maxCalls {
		return fmt.Errorf("calls of functions are nested more than %d deep", maxCalls)
	}
	if len(in) > len(f.Input) || len(p.Output) > len(f.Output) {
		return fmt.Errorf("calls a function of %d inputs and %d outputs with %d and %d", len(f.Input), len(f.Output), len(in), len(p.Output))
	}
	opsets, err := m.opsets(f.OpsetImport)
	if err != nil {
		return err
	}
	fs := &scope{
		g: sc.g, rw: sc.rw, opsets: opsets, function: true,
		vals: map[string]*ir.Value{}, bad: map[string]bool{},
		declared: map[string]*onnxpb.ValueInfoProto{},
		attrs:    map[string]*onnxpb.AttributeProto{},
		rename:   map[string]string{},
		prefix:   sc.name(label(p)) + "/",
	}
	if fs.prefix[0] == '%' {
		fs.prefix = fs.prefix[1:]
	}
	for i, name := range f.Input {
		if _, twice := fs.vals[name]; twice {
			return fmt.Errorf("function %s has two inputs %q", key.name, name)
		}
		fs.vals[name] = nil
		if i < len(in) {
			fs.vals[name] = in[i]
		}
	}
	if err := m.bindAttributes(sc, fs, p, f); err != nil {
		return err
	}
	for i, o := range p.Output {
		if o != "" {
			fs.rename[f.Output[i]] = sc.name(o)
		}
	}
	nodes, err := ordered(f.Node)
	if err != nil {
		return fmt.Errorf("function %s: %w", key.name, err)
	}
	m.calls = append(m.calls, key)
	defer func() { m.calls = m.calls[:len(m.calls)-1] }()
	for _, n := range nodes {
		if !m.node(fs, n) {
			return skip{fmt.Errorf("too large")}
		}
	}
	for i, o := range p.Output {
		if o == "" {
			continue
		}
		v, bad, ok := fs.lookup(f.Output[i])
		switch {
		case !ok:
			return fmt.Errorf("function %s does not define its output %q", key.name, f.Output[i])
		case bad:
			sc.bad[o] = true
		case v == nil:
			return fmt.Errorf("function %s returns its input %q, which the call leaves out", key.name, f.Output[i])
		default:
			sc.vals[o] = v
			m.declare(sc, o, v)
		}
	}
	return nil
}

// bindAttributes finds the attributes of a call: those of the node, where they
// may themselves refer to an enclosing function's, then the declared defaults.
func (m *modelReader) bindAttributes(sc, fs *scope, p *onnxpb.NodeProto, f *onnxpb.FunctionProto) error {
	for _, a := range p.Attribute {
		name := a.GetName()
		if ref := a.GetRefAttrName(); ref != "" {
			if a = sc.attrs[ref]; a == nil {
				continue
			}
		}
		if a.G != nil {
			return unsupported{fmt.Errorf("attribute %s of the function call is a graph", name)}
		}
		fs.attrs[name] = a
	}
	for _, a := range f.AttributeProto {
		if fs.attrs[a.GetName()] == nil {
			fs.attrs[a.GetName()] = a
		}
	}
	return nil
}
