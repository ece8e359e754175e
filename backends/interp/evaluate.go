package interp

import (
	"context"
	"sync"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// An evaluator cannot be interrupted. So that a run ends soon after it is
// cancelled, nodes that may take long are evaluated beside it; what a cancelled run
// leaves behind is waited for by the next, whose memory it reads.

// mayTakeLong reports whether evaluating n could take some milliseconds.
func mayTakeLong(n *ir.Node) bool {
	const most = 1 << 14 // elements
	elements := 0
	for _, vs := range [][]*ir.Value{n.In, n.Out} {
		for _, v := range vs {
			if v == nil {
				continue
			}
			shape, ok := v.Type.Static()
			if !ok {
				return true
			}
			size, err := tensor.NumElems(shape)
			if err != nil || size > most {
				return true
			}
			elements += size
		}
	}
	return elements > most || len(n.Bodies()) > 0 || n.Op.Cost != nil && n.Op.Cost(n).MACs > 1<<20
}

// evaluations are those that cancelled runs of an executable left behind.
type evaluations struct {
	mu   sync.Mutex
	left []chan struct{} // each closed when it ends
}

// run is s.node.Eval that returns early when ctx is done.
func (e *evaluations) run(ctx context.Context, s *step, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	if !s.long || ctx.Done() == nil {
		return s.node.Eval(in)
	}
	var out []*tensor.Tensor
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		out, err = s.node.Eval(in)
	}()
	select {
	case <-ended:
		return out, err
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		e.left = append(e.left, ended)
		return nil, ctx.Err()
	}
}

// wait waits until all have ended. No run may be going on.
func (e *evaluations) wait(ctx context.Context) error {
	for len(e.left) > 0 {
		select {
		case <-e.left[0]:
			e.left = e.left[1:]
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
