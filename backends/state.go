package backends

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// State holds the parameters of graphs by their names. Executables that are
// compiled with one State share it, as those of the training steps of several
// batch sizes do: what one changes (Graph.Updates) the next one sees. It must
// not be used by several goroutines at once.
type State struct {
	names  []string
	values map[string]*tensor.Tensor
}

// NewState returns a State without parameters; compiling a graph adds its own.
func NewState() *State { return &State{values: map[string]*tensor.Tensor{}} }

// Bind adds a parameter with its initial value, or checks that the State
// already has one of that name and type. Engines call it for every parameter
// of a graph that they compile.
func (s *State) Bind(v *ir.Value) error {
	have, ok := s.values[v.Name]
	if !ok {
		s.names = append(s.names, v.Name)
		s.values[v.Name] = v.Data
		return nil
	}
	if have.Elem() != v.Data.Elem() || !slices.Equal(have.Shape(), v.Data.Shape()) {
		return fmt.Errorf("parameter %s is %v, the state has %v", v.Name, ir.TypeOf(v.Data), ir.TypeOf(have))
	}
	return nil
}

// Names returns the names of the parameters in the order in which they were added.
func (s *State) Names() []string { return slices.Clone(s.names) }

// Get returns the present value of a parameter, nil when there is none of that
// name. Later runs do not change the tensor.
func (s *State) Get(name string) *tensor.Tensor { return s.values[name] }

// Set gives a parameter a value of its own type; callers must not change it afterwards.
func (s *State) Set(name string, t *tensor.Tensor) error {
	have, ok := s.values[name]
	switch {
	case !ok:
		return fmt.Errorf("there is no parameter %s", name)
	case have.Elem() != t.Elem() || !slices.Equal(have.Shape(), t.Shape()):
		return fmt.Errorf("parameter %s is %v, the new value %v", name, ir.TypeOf(have), ir.TypeOf(t))
	}
	s.values[name] = t
	return nil
}
