package ir

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Rewriter changes one graph. All mutation goes through one, so that uses,
// producers, names and types stay consistent. It may be used while ranging
// over a copy of the graph's nodes.
type Rewriter struct {
	g      *Graph
	before *Node // where Add inserts; nil: at the end
}

// NewRewriter returns a rewriter that adds nodes at the end of g.
func NewRewriter(g *Graph) *Rewriter { return &Rewriter{g: g} }

// Graph returns the graph that r changes.
func (r *Rewriter) Graph() *Graph { return r.g }

// Before returns a rewriter of the same graph that adds nodes just before n.
func (r *Rewriter) Before(n *Node) *Rewriter { return &Rewriter{g: n.graph, before: n} }

// After returns a rewriter of the same graph that adds nodes just after n, in
// the order in which they are added.
func (r *Rewriter) After(n *Node) *Rewriter {
	i := slices.Index(n.graph.Nodes, n)
	if i < 0 {
		panic("ir: node " + n.Label() + " is not in its graph")
	}
	if i+1 < len(n.graph.Nodes) {
		return &Rewriter{g: n.graph, before: n.graph.Nodes[i+1]}
	}
	return &Rewriter{g: n.graph}
}

// manyTaken is how often a name is taken before Fresh remembers where it
// stopped counting, so that a file that repeats one name is read in linear time.
const manyTaken = 1000

// Fresh returns name, or name with a number appended if a value of the model
// already has it, and reserves it.
func (r *Rewriter) Fresh(name string) string { return r.fresh(name, false) }

// fresh is Fresh; names that nobody chose are unused ones: a value that goes leaves its
// name to none that has other numbers.
func (r *Rewriter) fresh(name string, unused bool) string {
	root := r.g.Root()
	names := root.names
	if name == "" {
		name = "v"
	}
	for out, i := name, 1; ; i++ {
		if taken, was := names[out]; !taken && !(unused && was) {
			names[out] = true
			if i > manyTaken {
				root.taken[name] = i
			}
			return out
		}
		if i == manyTaken {
			if root.taken == nil {
				root.taken = map[string]int{}
			}
			i = max(i, root.taken[name])
		}
		out = name + "_" + strconv.Itoa(i)
	}
}

func (r *Rewriter) newValue(name string, k ValueKind, t Type) *Value {
	return &Value{Name: r.Fresh(name), Kind: k, Type: t, graph: r.g}
}

// Input adds an input to the graph.
func (r *Rewriter) Input(name string, t Type) *Value {
	v := r.newValue(name, Input, t)
	r.g.Inputs = append(r.g.Inputs, v)
	return v
}

// Const adds a constant to the graph.
func (r *Rewriter) Const(name string, t *tensor.Tensor) *Value {
	v := r.newValue(name, Const, TypeOf(t))
	v.Data = t
	v.Contents = contentsOf(t)
	r.g.Consts = append(r.g.Consts, v)
	return v
}

// Param adds a parameter with its initial value to the graph.
func (r *Rewriter) Param(name string, t *tensor.Tensor) *Value {
	v := r.Const(name, t)
	v.Kind, v.Contents = Param, nil
	return v
}

// SetParam makes a constant a parameter, for all its uses; its tensor becomes
// the initial value.
func (r *Rewriter) SetParam(v *Value) {
	if !v.HasData() {
		panic("ir: %" + v.Name + " is neither a constant nor a parameter")
	}
	v.Kind, v.Contents = Param, nil
}

// SetConst makes a parameter a constant, for all its uses.
func (r *Rewriter) SetConst(v *Value) {
	if !v.HasData() {
		panic("ir: %" + v.Name + " is neither a constant nor a parameter")
	}
	v.Kind, v.Contents = Const, contentsOf(v.Data)
}

// Ints adds a one-dimensional i64 constant.
func (r *Rewriter) Ints(name string, x ...int64) *Value {
	return r.Const(name, tensor.Of(slices.Clone(x), len(x)))
}

// Float adds a scalar f32 constant.
func (r *Rewriter) Float(name string, x float32) *Value { return r.Const(name, tensor.Scalar(x)) }

// Output appends v to the graph's outputs.
func (r *Rewriter) Output(v *Value) { r.g.Outputs = append(r.g.Outputs, v) }

// SetOutput replaces the graph's output i.
func (r *Rewriter) SetOutput(i int, v *Value) { r.g.Outputs[i] = v }

// SetOutputs replaces the graph's outputs.
func (r *Rewriter) SetOutputs(vs ...*Value) { r.g.Outputs = slices.Clone(vs) }

// SetUpdates replaces the graph's parameter updates.
func (r *Rewriter) SetUpdates(u []Update) { r.g.Updates = slices.Clone(u) }

// SetMeta adds or replaces an entry of the model's metadata; an empty value removes it.
func (r *Rewriter) SetMeta(key, value string) {
	g := r.g.Root()
	i, ok := slices.BinarySearchFunc(g.Meta, key, func(p Pair, k string) int {
		switch {
		case p.Key < k:
			return -1
		case p.Key > k:
			return 1
		}
		return 0
	})
	switch {
	case ok && value == "":
		g.Meta = slices.Delete(g.Meta, i, i+1)
	case ok:
		g.Meta[i].Value = value
	case value != "":
		g.Meta = slices.Insert(g.Meta, i, Pair{key, value})
	}
}

// Add inserts a node, infers its output types, and returns it. The operator
// is looked up by name; out names the outputs, "" in it means an absent
// optional one. Without out the node gets all its required outputs, named after the node.
func (r *Rewriter) Add(op, name string, attrs Attrs, in []*Value, out ...string) (*Node, error) {
	n, err := r.AddRaw(op, name, attrs, in, out...)
	if err != nil {
		return nil, err
	}
	if err := n.Infer(); err != nil {
		r.Erase(n)
		return nil, err
	}
	return n, nil
}

// AddRaw is Add without shape inference, for readers that import old forms:
// the outputs' types are Invalid until Node.Infer.
func (r *Rewriter) AddRaw(op, name string, attrs Attrs, in []*Value, out ...string) (*Node, error) {
	o := r.g.Ops.Lookup(op)
	if o == nil {
		return nil, fmt.Errorf("unknown operator %s", op)
	}
	n := &Node{Op: o, Name: name, Attrs: attrs, graph: r.g}
	if len(out) == 0 {
		for _, p := range o.Outputs() {
			if p.Optional {
				break
			}
			base := name
			if base == "" {
				base = o.Type()
			}
			if len(o.Outputs()) > 1 {
				base += "_" + p.Name
			}
			base = r.fresh(base, true)
			r.g.Root().names[base] = false // until the value has it
			out = append(out, base)
		}
	}
	for _, s := range out {
		if s == "" {
			n.Out = append(n.Out, nil)
			continue
		}
		v := r.newValue(s, Result, Type{Unranked: true})
		v.Def = n
		n.Out = append(n.Out, v)
	}
	for _, v := range in {
		n.In = append(n.In, v)
		n.use(len(n.In) - 1)
	}
	for _, b := range n.Bodies() {
		b.Parent = r.g
	}
	at := len(r.g.Nodes)
	if r.before != nil {
		if at = slices.Index(r.g.Nodes, r.before); at < 0 {
			panic("ir: rewriter inserts before a node that is not in the graph")
		}
	}
	r.g.Nodes = slices.Insert(r.g.Nodes, at, n)
	return n, nil
}

// Must1 is Add for operators with one output and inputs that cannot be wrong;
// it returns that output and panics on an error.
func (r *Rewriter) Must1(op, name string, attrs Attrs, in ...*Value) *Value {
	n, err := r.Add(op, name, attrs, in)
	if err != nil {
		panic(fmt.Sprintf("ir: adding %s: %v", op, err))
	}
	return n.Out[0]
}

func (n *Node) use(i int) {
	if v := n.In[i]; v != nil {
		v.uses = append(v.uses, Use{n, i})
	}
}

func (n *Node) unuse(i int) {
	if v := n.In[i]; v != nil {
		v.uses = slices.DeleteFunc(v.uses, func(u Use) bool { return u == Use{n, i} })
	}
}

// SetInput makes v input i of n, adding absent inputs in between if need be.
func (r *Rewriter) SetInput(n *Node, i int, v *Value) {
	for len(n.In) <= i {
		n.In = append(n.In, nil)
	}
	n.unuse(i)
	n.In[i] = v
	n.use(i)
}

// SetInputs replaces all inputs of n.
func (r *Rewriter) SetInputs(n *Node, in ...*Value) {
	for i := range n.In {
		n.unuse(i)
	}
	n.In = slices.Clone(in)
	for i := range n.In {
		n.use(i)
	}
}

// SetOp makes n an application of another operator.
func (r *Rewriter) SetOp(n *Node, op string) {
	o := r.g.Ops.Lookup(op)
	if o == nil {
		panic("ir: unknown operator " + op)
	}
	n.Op = o
}

// SetAttr sets an attribute of n; values as for MakeAttrs.
func (r *Rewriter) SetAttr(n *Node, name string, v any) {
	n.Attrs = slices.Clone(n.Attrs)
	n.Attrs.Set(name, v)
}

// DeleteAttr removes an attribute of n.
func (r *Rewriter) DeleteAttr(n *Node, name string) {
	n.Attrs = slices.Clone(n.Attrs)
	n.Attrs.Delete(name)
}

// SetData replaces the tensor of a constant or parameter, for all its uses.
func (r *Rewriter) SetData(v *Value, t *tensor.Tensor) {
	if !v.HasData() {
		panic("ir: %" + v.Name + " is neither a constant nor a parameter")
	}
	v.Data, v.Type = t, TypeOf(t)
	if v.Kind == Const {
		v.Contents = contentsOf(t)
	}
}

// ReplaceUses makes every use of old, in subgraphs too, a use of v; graph
// outputs as well, and then v takes over old's name, because the names of
// outputs are part of the model's interface.
func (r *Rewriter) ReplaceUses(old, v *Value) {
	for _, u := range slices.Clone(old.uses) {
		r.SetInput(u.Node, u.Index, v)
	}
	for i, o := range old.graph.Outputs {
		if o != old {
			continue
		}
		old.graph.Outputs[i] = v
		if v.Kind == Result && !slices.Contains(old.graph.Outputs[:i], v) {
			v.Name, old.Name = old.Name, v.Name
		}
	}
	for i, u := range old.graph.Updates {
		if u.Next == old {
			old.graph.Updates[i].Next = v
		}
	}
}

// Bypass makes every use of old, in subgraphs too, a use of v, which must be
// defined wherever old is. Where old is an output of its graph it stays one
// unless v can take its place under its name: v must be computed by a node of
// the same graph and be no output yet. Bypass reports whether old is unused afterwards.
func (r *Rewriter) Bypass(old, v *Value) bool {
	if !old.IsOutput() || v.Kind == Result && v.graph == old.graph && !v.IsOutput() {
		r.ReplaceUses(old, v)
	} else {
		for _, u := range slices.Clone(old.uses) {
			r.SetInput(u.Node, u.Index, v)
		}
	}
	return old.Unused()
}

// RemoveInput removes an unused input from the graph.
func (r *Rewriter) RemoveInput(v *Value) {
	if v.Kind != Input || !v.Unused() {
		panic("ir: %" + v.Name + " is no input, or is used")
	}
	r.g.Inputs = slices.DeleteFunc(r.g.Inputs, func(w *Value) bool { return w == v })
	r.g.Root().names[v.Name] = false
}

// Rename gives v a new name, made unique if it is taken.
func (r *Rewriter) Rename(v *Value, name string) {
	if v.Name == name {
		return
	}
	r.g.Root().names[v.Name] = false
	v.Name = r.Fresh(name)
}

// Erase removes a node whose outputs are not used.
func (r *Rewriter) Erase(n *Node) {
	for _, v := range n.Out {
		if v != nil && !v.Unused() {
			panic("ir: erasing " + n.Label() + ", whose output %" + v.Name + " is used")
		}
	}
	i := slices.Index(n.graph.Nodes, n)
	if i < 0 {
		panic("ir: erasing " + n.Label() + ", which is not in its graph")
	}
	n.graph.Nodes = slices.Delete(n.graph.Nodes, i, i+1)
	r.release(n)
}

// release drops the uses and names of a node that has left its graph, and of its subgraphs.
func (r *Rewriter) release(n *Node) {
	names := r.g.Root().names
	for j := range n.In {
		n.unuse(j)
	}
	for _, v := range n.Out {
		if v != nil {
			names[v.Name] = false
		}
	}
	for _, b := range n.Bodies() {
		for _, m := range b.Nodes {
			r.release(m)
		}
		for _, vs := range [2][]*Value{b.Inputs, b.Consts} {
			for _, v := range vs {
				names[v.Name] = false
			}
		}
	}
}

// RemoveUnused removes every node whose outputs nobody uses, and every unused
// constant or parameter, and returns how many of both went.
func (r *Rewriter) RemoveUnused() int {
	removed := 0
	for i := len(r.g.Nodes) - 1; i >= 0; i-- {
		n := r.g.Nodes[i]
		for _, b := range n.Bodies() {
			removed += (&Rewriter{g: b}).RemoveUnused()
		}
		if !slices.ContainsFunc(n.Out, func(v *Value) bool { return v != nil && !v.Unused() }) {
			r.g.Nodes = slices.Delete(r.g.Nodes, i, i+1)
			r.release(n)
			removed++
		}
	}
	return removed + r.RemoveUnusedConsts()
}

// RemoveUnusedConsts removes every unused constant or parameter of the graph,
// not of its subgraphs, and returns how many went.
func (r *Rewriter) RemoveUnusedConsts() int {
	names := r.g.Root().names
	before := len(r.g.Consts)
	r.g.Consts = slices.DeleteFunc(r.g.Consts, func(v *Value) bool {
		if v.Unused() {
			names[v.Name] = false
			return true
		}
		return false
	})
	return before - len(r.g.Consts)
}

// Sort puts the nodes into topological order, keeping the present order where
// it can; nodes of a cycle are returned as an error that names them.
func (r *Rewriter) Sort() error {
	order, err := topoOrder(r.g)
	if err != nil {
		return err
	}
	r.g.Nodes = order
	return nil
}

// InlineBody moves the nodes of a subgraph into the graph, at r's position,
// with args in place of the subgraph's inputs, and returns what its outputs
// have become. The subgraph is empty afterwards.
func (r *Rewriter) InlineBody(body *Graph, args []*Value) []*Value {
	outs := slices.Clone(body.Outputs)
	for i, in := range body.Inputs {
		for _, u := range slices.Clone(in.uses) {
			r.SetInput(u.Node, u.Index, args[i])
		}
		for j, o := range outs {
			if o == in {
				outs[j] = args[i]
			}
		}
		r.g.Root().names[in.Name] = false
	}
	for _, c := range body.Consts {
		c.graph = r.g
		r.g.Consts = append(r.g.Consts, c)
	}
	at := len(r.g.Nodes)
	if r.before != nil {
		at = slices.Index(r.g.Nodes, r.before)
	}
	r.g.Nodes = slices.Insert(r.g.Nodes, at, body.Nodes...)
	for _, n := range body.Nodes {
		n.graph = r.g
		for _, v := range n.Out {
			if v != nil {
				v.graph = r.g
			}
		}
		for _, b := range n.Bodies() {
			b.Parent = r.g
		}
	}
	body.Inputs, body.Outputs, body.Consts, body.Nodes = nil, nil, nil, nil
	return outs
}
