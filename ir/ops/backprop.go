package ops

import (
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// backprop builds the gradient of one node out of other nodes. The first error
// is kept and returned by done.
type backprop struct {
	r   *ir.Rewriter
	n   *ir.Node
	err error
}

// add inserts a node and returns its first output.
func (b *backprop) add(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	if out := b.node(op, attrs, in, b.label()); out != nil {
		return out[0]
	}
	return nil
}

// node inserts a node with outputs of the given names.
func (b *backprop) node(op string, attrs ir.Attrs, in []*ir.Value, names ...string) []*ir.Value {
	if b.err != nil {
		return make([]*ir.Value, len(names))
	}
	m, err := b.r.Add(op, "", attrs, in, names...)
	if err != nil {
		b.err = err
		return make([]*ir.Value, len(names))
	}
	return m.Out
}

// label names what is computed for the node.
func (b *backprop) label() string {
	for _, v := range b.n.Out {
		if v != nil {
			return v.Name + "_grad"
		}
	}
	return "grad"
}

// fail keeps an error.
func (b *backprop) fail(format string, args ...any) *ir.Value {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
	return nil
}

// done returns the gradients of the inputs.
func (b *backprop) done(d ...*ir.Value) ([]*ir.Value, error) {
	if b.err != nil {
		return nil, b.err
	}
	return d, nil
}

// number returns a scalar constant of the element type of like.
func (b *backprop) number(like *ir.Value, x float64) *ir.Value {
	return b.r.Const(b.label()+"_const", floatsOf(like.Type.Elem, []float64{x}, nil))
}

// ints returns a one-dimensional i64 constant.
func (b *backprop) ints(x ...int64) *ir.Value { return b.r.Ints(b.label()+"_const", x...) }

func (b *backprop) plus(x, y *ir.Value) *ir.Value  { return b.add("Add", nil, x, y) }
func (b *backprop) minus(x, y *ir.Value) *ir.Value { return b.add("Sub", nil, x, y) }
func (b *backprop) times(x, y *ir.Value) *ir.Value { return b.add("Mul", nil, x, y) }
func (b *backprop) over(x, y *ir.Value) *ir.Value  { return b.add("Div", nil, x, y) }

// scaled returns x·k.
func (b *backprop) scaled(x *ir.Value, k float64) *ir.Value {
	if k == 1 || b.err != nil {
		return x
	}
	return b.times(x, b.number(x, k))
}

// shifted returns x + k.
func (b *backprop) shifted(x *ir.Value, k float64) *ir.Value {
	if b.err != nil {
		return x
	}
	return b.plus(x, b.number(x, k))
}

// sum returns the sum of x over axes, which stay with size 1.
func (b *backprop) sum(x *ir.Value, axes ...int64) *ir.Value {
	return b.add("ReduceSum", nil, x, b.ints(axes...))
}

// mean returns the mean of x over axes, which stay with size 1.
func (b *backprop) mean(x *ir.Value, axes ...int64) *ir.Value {
	return b.add("ReduceMean", nil, x, b.ints(axes...))
}

// where returns x where the condition holds, else y.
func (b *backprop) where(cond, x, y *ir.Value) *ir.Value { return b.add("Where", nil, cond, x, y) }

// compare returns whether x and the number k stand in a relation.
func (b *backprop) compare(op string, x *ir.Value, k float64) *ir.Value {
	if b.err != nil {
		return nil
	}
	return b.add(op, nil, x, b.number(x, k))
}

// reduceTo adds d up over the dimensions in which like was broadcast.
func (b *backprop) reduceTo(d, like *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	from, to := d.Type, like.Type
	if from.Unranked || to.Unranked || from.Rank() < to.Rank() {
		return b.fail("the gradient of %%%s, %v, from %v needs known ranks", like.Name, to, from)
	}
	lead := from.Rank() - to.Rank()
	var axes, gone []int64
	for i, have := range from.Dims {
		switch {
		case i < lead:
			axes, gone = append(axes, int64(i)), append(gone, int64(i))
		case to.Dims[i-lead] == ir.Fixed(1) && have != ir.Fixed(1):
			axes = append(axes, int64(i))
		case !to.Dims[i-lead].Same(have):
			return b.fail("whether %%%s, %v, was broadcast to %v cannot be told", like.Name, to, from)
		}
	}
	if len(axes) == 0 {
		return d
	}
	d = b.sum(d, axes...)
	if lead > 0 {
		d = b.add("Squeeze", nil, d, b.ints(gone...))
	}
	return d
}

// expandTo repeats d, which broadcasts to like, in the shape of like.
func (b *backprop) expandTo(d, like *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	if dims, ok := like.Type.Static(); ok {
		shape := make([]int64, len(dims))
		for i, k := range dims {
			shape[i] = int64(k)
		}
		return b.add("Expand", nil, d, b.ints(shape...))
	}
	return b.add("Expand", nil, d, b.add("Shape", nil, like))
}

// reshapeTo gives d the shape of like, which has as many elements.
func (b *backprop) reshapeTo(d, like *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	shape, free := make([]int64, like.Type.Rank()+1), 0
	if !like.Type.Unranked {
		shape = shape[:like.Type.Rank()]
		for i, k := range like.Type.Dims {
			if shape[i] = int64(k.N); !k.Known() || k.N == 0 {
				shape[i] = -1
				free++
			}
		}
	}
	if like.Type.Unranked || free > 1 {
		return b.add("Reshape", ir.MakeAttrs("allowzero", 1), d, b.add("Shape", nil, like))
	}
	y := b.add("Reshape", nil, d, b.ints(shape...))
	if b.err == nil {
		y.Type = like.Type.WithElem(d.Type.Elem)
	}
	return y
}

// zeros returns zeros of the shape of like.
func (b *backprop) zeros(like *ir.Value) *ir.Value {
	if b.err != nil {
		return nil
	}
	return b.expandTo(b.number(like, 0), like)
}

// spatial returns the numbers of the dimensions from 2 on.
func (b *backprop) spatial(v *ir.Value) []int64 {
	if v.Type.Unranked || v.Type.Rank() < 3 {
		b.fail("the gradient needs the shape of %%%s, it is %v", v.Name, v.Type)
		return nil
	}
	var out []int64
	for _, d := range v.Type.Dims[2:] {
		if !d.Known() {
			b.fail("the gradient needs the spatial dimensions of %%%s, it is %v", v.Name, v.Type)
			return nil
		}
		out = append(out, int64(d.N))
	}
	return out
}

// copyAttrs returns those attributes of the node that stand in it, by name.
func (b *backprop) copyAttrs(names ...string) ir.Attrs {
	var out ir.Attrs
	for _, a := range b.n.Attrs {
		if slices.Contains(names, a.Name) {
			out.Set(a.Name, a.Value)
		}
	}
	return out
}

// spatialSpec is the shape that a gradient with respect to a window's input has.
var spatialSpec = ir.AttrSpec{Name: "spatial", Kind: ir.IntsAttr, Required: true, Doc: "the spatial shape of the result, which that of dY does not tell"}

// spatialOf reads the attribute spatial: rank numbers that are good as dimensions.
func spatialOf(n *ir.Node, rank int) ([]int, error) {
	s := n.Ints("spatial")
	if len(s) != rank || rank < 1 {
		return nil, fmt.Errorf("spatial is %v, expected %d numbers", s, rank)
	}
	out := make([]int, rank)
	for i, d := range s {
		if d < 0 || d > 1<<31 {
			return nil, fmt.Errorf("spatial is %v, expected dimensions", s)
		}
		out[i] = int(d)
	}
	return out, nil
}

// windowBack returns the geometry of the window that made dY, of the given
// type, out of an input of the spatial shape that the attribute says.
func windowBack(n *ir.Node, kernel []int, dy ir.Type) (*Window, error) {
	in, err := spatialOf(n, dy.Rank()-2)
	if err != nil {
		return nil, err
	}
	win, err := windowOf(n, kernel, len(in))
	if err != nil {
		return nil, err
	}
	if err := win.resolve(n, in); err != nil {
		return nil, err
	}
	for i, d := range dy.Dims[2:] {
		if !d.MayEqual(ir.Fixed(win.Out[i])) {
			return nil, fmt.Errorf("dY is %v, but an input of %v gives %v", dy, in, win.Out)
		}
	}
	return win, nil
}

// imageGroups is the number of groups of images in which sums over a batch are
// taken: group g holds the images from g·N/imageGroups on, rounded down, and the
// sums of the groups are added in order. So threads may share the work and
// results stay the same.
const imageGroups = 8

// imageGroup returns the first image of group g, and the one after its last, of n.
func imageGroup(g, n int) (lo, hi int) { return g * n / imageGroups, (g + 1) * n / imageGroups }

// sameElem fails unless all inputs that are present have the element type of the first.
func sameElem(n *ir.Node) error {
	for i := range n.In {
		if err := wantFloat(n, 0, i); err != nil {
			return err
		}
	}
	return nil
}

// isOne reports whether v is the constant 1.
func isOne(v *ir.Value) bool {
	return v.IsConst() && v.Data.Len() == 1 && v.Type.Elem != tensor.String && v.Type.Elem.IsFloat() && v.Data.Float64s()[0] == 1
}
