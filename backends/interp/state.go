package interp

import (
	"slices"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// state is where the parameters of an executable's graph live. In the graph
// itself they are inputs after the caller's, and their next values are outputs
// after the caller's.
type state struct {
	shared  *backends.State
	params  []string // names of the inputs that follow the caller's
	updates []string // names of the parameters that the outputs after the caller's are for
	outputs int      // the caller's
}

// takeState turns the parameters of g, the engine's own copy, into inputs and
// its updates into outputs.
func takeState(g *ir.Graph, shared *backends.State) (*state, error) {
	if shared == nil {
		shared = backends.NewState()
	}
	s := &state{shared: shared, outputs: len(g.Outputs)}
	r := ir.NewRewriter(g)
	for _, u := range g.Updates {
		s.updates = append(s.updates, u.Param.Name)
		r.Output(u.Next)
	}
	r.SetUpdates(nil)
	for _, v := range slices.Clone(g.Consts) {
		if v.Kind != ir.Param {
			continue
		}
		if err := shared.Bind(v); err != nil {
			return nil, err
		}
		s.params = append(s.params, v.Name)
		r.ReplaceUses(v, r.Input(v.Name, v.Type))
	}
	r.RemoveUnusedConsts()
	return s, nil
}

// inputs returns the caller's inputs followed by the parameters.
func (s *state) inputs(in []*tensor.Tensor) []*tensor.Tensor {
	if len(s.params) == 0 {
		return in
	}
	in = slices.Clone(in)
	for _, name := range s.params {
		in = append(in, s.shared.Get(name))
	}
	return in
}

// apply updates the parameters and returns the caller's outputs.
func (s *state) apply(out []*tensor.Tensor) ([]*tensor.Tensor, error) {
	for i, name := range s.updates {
		if err := s.shared.Set(name, out[s.outputs+i]); err != nil {
			return nil, err
		}
	}
	return out[:s.outputs], nil
}
