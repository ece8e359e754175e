package ir

import (
	"fmt"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Op is everything known about one operator. Ops are values in a table
// (package ops); nothing else in the program knows what an operator means.
type Op struct {
	// Name is the ONNX operator type; outside the default domain it is
	// prefixed, as in "thriftc.Quant" or "com.microsoft.FusedConv".
	Name string
	// Doc says what the operator computes, first sentence first.
	Doc string
	// Since is the first ONNX opset that has the form the IR uses; writing an
	// older one needs Export. 0 for operators outside the default domain.
	Since int
	// In and Out name the inputs and outputs: "X, W, B?"; "?" marks an
	// optional one, "*" a last one that repeats any number of times.
	In, Out string
	Attrs   []AttrSpec
	// Random: evaluating twice may give different results, so that nodes are
	// neither computed at compile time nor merged.
	Random bool
	// Elements says where the elements of the outputs come from.
	Elements Elements
	// Roles says what each input is; those beyond it are Data.
	Roles []Role
	// Layer: data are multiplied with weights. nil for all others.
	Layer *Layer
	// Elementwise: every element of the output is computed from those at its place in the inputs that are Data, broadcast.
	Elementwise bool
	// Pooling: every element of the first output is the largest, the mean or a norm of elements of one channel.
	Pooling bool
	// Homogeneous: f(s·x) = s·f(x) for every s > 0, as for Relu; all that pool are.
	Homogeneous bool
	// Probabilities: the output holds probabilities, or their logarithms, of the logits that the input holds.
	Probabilities bool
	// Epilogue: with one activation and constants it is computed together with what makes the activation,
	// before that is quantised.
	Epilogue bool
	// Combines: with several activations, or where it is no Epilogue, integer engines compute it on integers:
	// its operands have grids where its result has one.
	Combines bool

	// PerSample reports whether each index of dimension 0 of the outputs is computed from the same one of the inputs
	// alone, where all types are static and those inputs that are constants are the same for every index.
	// nil: it is not, or the operator is Elementwise, whose operands decide.
	PerSample func(n *Node) bool

	// Same returns the input that n's first output equals whatever it holds, nil if there is none:
	// n moves nothing, or adds zero. nil: never.
	Same func(n *Node) *Value

	// Sequences: the operator takes sequences; others are refused them before
	// Infer is called.
	Sequences bool

	// Infer returns the output types from the input types, attributes and
	// constant inputs. Dimensions it cannot tell are Unknown; inputs that
	// cannot be right are an error that says what was expected.
	// It may also set n.Out[i].Contents, which is nil when it is called, so that
	// shapes that the graph computes are followed; package ops has a helper.
	Infer func(n *Node) ([]Type, error)

	// Eval is the reference: plain, exact where integer, and in one stated
	// order of operations where float. Absent optional inputs are nil; after
	// the declared inputs come the values of n.Captures(). Inputs must not be
	// changed. nil: the operator cannot be evaluated.
	Eval func(n *Node, in []*tensor.Tensor) ([]*tensor.Tensor, error)

	// Grad builds the gradients of the inputs from those of the outputs, of which
	// those that nothing needs are nil; nil entries of the result mean no gradient.
	// nil: not differentiable.
	Grad func(r *Rewriter, n *Node, dout []*Value) ([]*Value, error)

	// NoGrad says why an operator with a floating-point input and output has no
	// Grad, to complete the sentence "it has no gradient: ...".
	NoGrad string

	// Cost returns the arithmetic of one evaluation at the node's static
	// shapes (symbolic dimensions count as 1). nil: no multiply-accumulates.
	Cost func(n *Node) Cost

	// Bits returns the width of the integers that the first output is, or stands
	// for; 0 when that is computed. Not nil: the operator is a quantiser, it puts
	// numbers on a grid or returns the numbers that integers stand for.
	Bits func(n *Node) int

	// Import turns a node as it was read, at the given opset of its domain,
	// into the form the IR uses: it may set attributes, add constant inputs,
	// or replace the node. It also refuses what cannot be read faithfully.
	// nil: every opset from the first on reads as it stands.
	Import func(r *Rewriter, n *Node, opset int) error

	// Export turns a node into a form that exists at the given opset of the
	// default domain: an older one, or for operators of ours their meaning in
	// standard ONNX. It is called when opset < Since or the domain is ours.
	// nil: cannot be written there.
	Export func(r *Rewriter, n *Node, opset int) error

	in, out []Port // parsed In and Out
}

// Elements says where the elements of an operator's outputs come from. Each
// constant promises what those before it promise.
type Elements uint8

const (
	// Computed: they may be new numbers.
	Computed Elements = iota
	// Selected: they are elements of the first input (of all, where the first
	// port repeats), or padding; their values may decide which, as in MaxPool.
	Selected
	// Moved: values do not decide, so that any others would be moved alike.
	Moved
	// Kept: those of the first input in the same order, in another shape at most.
	Kept
)

// Port is one formal input or output of an operator.
type Port struct {
	Name               string
	Optional, Variadic bool
}

// Cost is the arithmetic of evaluating a node once.
type Cost struct {
	MACs int64 // multiply-accumulates
	Adds int64 // additions, comparisons and other single operations
}

// Add returns the sum of two costs.
func (c Cost) Add(d Cost) Cost { return Cost{c.MACs + d.MACs, c.Adds + d.Adds} }

// Domain returns the operator's domain, "" for standard ONNX.
func (o *Op) Domain() string {
	if i := strings.LastIndexByte(o.Name, '.'); i >= 0 {
		return o.Name[:i]
	}
	return ""
}

// Type returns the operator's name without its domain.
func (o *Op) Type() string { return o.Name[strings.LastIndexByte(o.Name, '.')+1:] }

// Inputs returns the formal inputs; callers must not change them.
func (o *Op) Inputs() []Port { return o.in }

// Outputs returns the formal outputs; callers must not change them.
func (o *Op) Outputs() []Port { return o.out }

// Attr returns the declaration of an attribute, or nil.
func (o *Op) Attr(name string) *AttrSpec {
	for i := range o.Attrs {
		if o.Attrs[i].Name == name {
			return &o.Attrs[i]
		}
	}
	return nil
}

// Registry is a set of operators by name.
type Registry struct {
	// Normalize, if not nil, brings what spans several nodes of a graph that
	// has just been read to the form the IR uses, without changing results.
	Normalize func(*Graph) error

	byName map[string]*Op
	sorted []*Op
}

// NewRegistry makes a registry. It panics on a duplicate or malformed
// declaration, which is a mistake in the table and not in anybody's input.
func NewRegistry(ops ...*Op) *Registry {
	r := &Registry{byName: make(map[string]*Op, len(ops))}
	for _, o := range ops {
		if r.byName[o.Name] != nil {
			panic("ir: operator " + o.Name + " declared twice")
		}
		if o.Infer == nil && o.Import == nil {
			panic("ir: operator " + o.Name + " has neither a shape rule nor an import rule")
		}
		o.in, o.out = parsePorts(o.In), parsePorts(o.Out)
		for _, a := range o.Attrs {
			if a.Default != nil && KindOf(a.Default) != a.Kind {
				panic(fmt.Sprintf("ir: operator %s: default of %s is %T, not %v", o.Name, a.Name, a.Default, a.Kind))
			}
		}
		r.byName[o.Name] = o
		r.sorted = append(r.sorted, o)
	}
	slices.SortFunc(r.sorted, func(a, b *Op) int { return strings.Compare(a.Name, b.Name) })
	return r
}

func parsePorts(s string) []Port {
	var out []Port
	for f := range strings.SplitSeq(s, ",") {
		f = strings.TrimSpace(f)
		if f == "" {
			continue
		}
		name := strings.TrimRight(f, "?*")
		out = append(out, Port{name, strings.Contains(f, "?"), strings.Contains(f, "*")})
	}
	return out
}

// Lookup returns the operator with the given name (with its domain prefix), or nil.
func (r *Registry) Lookup(name string) *Op { return r.byName[name] }

// Ops returns all operators sorted by name.
func (r *Registry) Ops() []*Op { return r.sorted }
