package onnxgo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	gorgonia "gorgonia.org/tensor"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/tensor"
)

func sortNodes(ns []*node) {
	slices.SortFunc(ns, func(a, b *node) int { return cmp.Compare(a.id, b.id) })
}

func sortedNames(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// tensorProto converts through the file form, which both sides share.
func tensorProto(name string, g gorgonia.Tensor) (*onnxpb.TensorProto, error) {
	t, err := fromGorgonia(g)
	if err != nil {
		return nil, err
	}
	data, err := onnxio.EncodeTensor(name, t)
	if err != nil {
		return nil, err
	}
	p := &onnxpb.TensorProto{}
	return p, proto.Unmarshal(data, p)
}

// fromGorgonia copies a tensor; those that are views or not in row-major order
// are brought into it first.
func fromGorgonia(g gorgonia.Tensor) (*tensor.Tensor, error) {
	d, ok := g.(*gorgonia.Dense)
	if !ok {
		return nil, fmt.Errorf("%T is not a dense tensor", g)
	}
	if d.RequiresIterator() || d.DataOrder().IsColMajor() {
		if d, ok = d.Materialize().(*gorgonia.Dense); !ok || d.DataOrder().IsColMajor() {
			return nil, fmt.Errorf("a tensor of shape %v is not in row-major order", g.Shape())
		}
	}
	shape := []int(d.Shape().Clone())
	switch x := d.Data().(type) {
	case []float32:
		return wrap(x, shape)
	case []float64:
		return wrap(x, shape)
	case []int8:
		return wrap(x, shape)
	case []int16:
		return wrap(x, shape)
	case []int32:
		return wrap(x, shape)
	case []int64:
		return wrap(x, shape)
	case []uint8:
		return wrap(x, shape)
	case []uint16:
		return wrap(x, shape)
	case []uint32:
		return wrap(x, shape)
	case []uint64:
		return wrap(x, shape)
	case []bool:
		return wrap(x, shape)
	case []string:
		return wrap(x, shape)
	case float32:
		return wrap([]float32{x}, shape)
	case float64:
		return wrap([]float64{x}, shape)
	case int32:
		return wrap([]int32{x}, shape)
	case int64:
		return wrap([]int64{x}, shape)
	case bool:
		return wrap([]bool{x}, shape)
	}
	return nil, fmt.Errorf("elements of type %v are not supported", d.Dtype())
}

func wrap[T tensor.Container](x []T, shape []int) (*tensor.Tensor, error) {
	if n, err := tensor.NumElems(shape); err != nil || n != len(x) {
		return nil, fmt.Errorf("%d elements do not fit shape %v", len(x), shape)
	}
	return tensor.Of(slices.Clone(x), shape...), nil
}

func toGorgonia(t *tensor.Tensor) (gorgonia.Tensor, error) {
	if t.Elem().Kind() != tensor.BoolKind && t.Elem().Bits()%32 != 0 && t.Elem() != tensor.I8 && t.Elem() != tensor.U8 && t.Elem() != tensor.I16 && t.Elem() != tensor.U16 {
		return nil, fmt.Errorf("gorgonia has no element type %v", t.Elem())
	}
	if t.Rank() > 0 {
		return gorgonia.New(gorgonia.WithShape(t.Shape()...), gorgonia.WithBacking(t.Container())), nil
	}
	switch x := t.Container().(type) {
	case []float32:
		return gorgonia.New(gorgonia.FromScalar(x[0])), nil
	case []float64:
		return gorgonia.New(gorgonia.FromScalar(x[0])), nil
	case []int32:
		return gorgonia.New(gorgonia.FromScalar(x[0])), nil
	case []int64:
		return gorgonia.New(gorgonia.FromScalar(x[0])), nil
	case []bool:
		return gorgonia.New(gorgonia.FromScalar(x[0])), nil
	}
	return nil, fmt.Errorf("gorgonia has no scalar of type %v", t.Elem())
}
