package onnx

import (
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

// Write lowers g to a dialect and writes it as onnxio.Write does. Opset 0 means that of
// OpsetFor, or the first later one in which the dialect can say the graph. The error is an
// *onnxio.Unsupported when it cannot.
func Write(path string, g *ir.Graph, f Format, o onnxio.WriteOptions) error {
	return lowered(g, f, o, func(c *ir.Graph, o onnxio.WriteOptions) error { return onnxio.Write(path, c, o) })
}

// lowered calls write with g in a dialect, and with later opsets while that cannot be said
// and the caller has not asked for one.
func lowered(g *ir.Graph, f Format, o onnxio.WriteOptions, write func(*ir.Graph, onnxio.WriteOptions) error) error {
	first, last := o.Opset, o.Opset
	if o.Opset == 0 {
		first, last = OpsetFor(g, f), onnxio.MaxWriteOpset
	}
	o.ForConverters = f != QDQ
	for o.Opset = first; ; o.Opset++ {
		c, problems := Lower(g, f, o.Opset)
		u := &onnxio.Unsupported{}
		for _, p := range problems {
			u.Problems = append(u.Problems, onnxio.Problem(p))
		}
		err := error(u)
		if problems == nil {
			err = write(c, o)
		}
		if err == nil || o.Opset == last || !errors.As(err, &u) {
			return err
		}
	}
}

// Emitter writes one file, model.onnx, in a dialect. It has no use for a target.
type Emitter struct {
	Format  Format
	Options onnxio.WriteOptions
}

var _ backends.Emitter = Emitter{}

// encode returns the file's bytes.
func (e Emitter) encode(g *ir.Graph) (data []byte, err error) {
	err = lowered(g, e.Format, e.Options, func(c *ir.Graph, o onnxio.WriteOptions) (err error) {
		data, err = onnxio.Encode(c, o)
		return err
	})
	return data, err
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
