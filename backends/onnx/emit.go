package onnx

import (
	"cmp"
	"context"
	"errors"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/hwtarget"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
)

// OpsetFor returns the opset in which a graph is written when nobody asks for
// one: onnxio.DefaultOpset, or 21 where that stores weights of at most four
// bits in four bits, or where activations have more than eight bits.
func OpsetFor(g *ir.Graph, f Format) int {
	opset := onnxio.DefaultOpset
	g.Walk(func(n *ir.Node) {
		switch n.Op.Name {
		case "DequantizeLinear":
			if q := n.ConstIn(0); q != nil && f == QDQ && q.Elem().IsInt() && q.Elem().Bits() <= 4 {
				opset = 21
			}
		case "thriftc.Quant":
			if b := n.ConstIn(3); b != nil && f == QDQ && b.Float32s()[0] > 8 {
				opset = 21
			}
		}
	})
	return opset
}

// Write lowers g to a dialect and writes it as onnxio.Write does; opset 0
// means that of OpsetFor. The error is an *onnxio.Unsupported when the dialect
// cannot say the graph.
func Write(path string, g *ir.Graph, f Format, o onnxio.WriteOptions) error {
	c, o, err := lowered(g, f, o)
	if err != nil {
		return err
	}
	return onnxio.Write(path, c, o)
}

func lowered(g *ir.Graph, f Format, o onnxio.WriteOptions) (*ir.Graph, onnxio.WriteOptions, error) {
	o.Opset = cmp.Or(o.Opset, OpsetFor(g, f))
	c, problems := Lower(g, f, o.Opset)
	if problems == nil {
		return c, o, nil
	}
	u := &onnxio.Unsupported{}
	for _, p := range problems {
		u.Problems = append(u.Problems, onnxio.Problem(p))
	}
	return nil, o, u
}

// Emitter writes one file, model.onnx, in a dialect. It has no use for a target.
type Emitter struct {
	Format  Format
	Options onnxio.WriteOptions
}

var _ backends.Emitter = Emitter{}

// encode returns the file's bytes.
func (e Emitter) encode(g *ir.Graph) ([]byte, error) {
	c, o, err := lowered(g, e.Format, e.Options)
	if err != nil {
		return nil, err
	}
	return onnxio.Encode(c, o)
}

// Check lists every reason why Emit would fail.
func (e Emitter) Check(g *ir.Graph, _ *hwtarget.Target) []backends.Problem {
	_, err := e.encode(g)
	var u *onnxio.Unsupported
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &u):
		return []backends.Problem{{Reason: err.Error()}}
	}
	var out []backends.Problem
	for _, p := range u.Problems {
		out = append(out, backends.Problem(p))
	}
	return out
}

// Emit writes model.onnx.
func (e Emitter) Emit(_ context.Context, g *ir.Graph, _ *hwtarget.Target, s backends.Sink) error {
	data, err := e.encode(g)
	if err != nil {
		return err
	}
	w, err := s.Create("model.onnx")
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}
