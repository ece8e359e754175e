package ops

import (
	"fmt"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "MatMul", Since: 1,
	Roles: []ir.Role{1: ir.Weight},
	PerSample: func(n *ir.Node) bool {
		return byFirst(n) && n.In[0].Type.Rank() > 1 && n.In[1].Data.Rank() == 2
	},
	Layer: &ir.Layer{Commutes: true, Channels: func(n *ir.Node, w int) (out, in int) {
		rank := n.In[w].Type.Rank()
		if w == 0 {
			return rank - 2, rank - 1
		}
		return rank - 1, rank - 2
	}},
	Doc: `The matrix product of the last two dimensions, the others broadcast; a
one-dimensional A is a row, a one-dimensional B a column, and that dimension is
dropped. Every output is the sum over k in order, starting at +0, each product
added with one rounding (fused multiply-add). Integers wrap. f16 and bf16 are
computed in f32 and rounded at the end.`,
	In: "A, B", Out: "Y",
	Grad: gradMatMul,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		a, b := n.In[0].Type, n.In[1].Type
		if !a.Elem.IsFloat() && !a.Elem.IsInt() {
			return nil, fmt.Errorf("A is %v, expected numbers", a)
		}
		if err := wantLike(n, 0, 1); err != nil {
			return nil, err
		}
		dims, err := matmulDims(a, b)
		if err != nil || a.Unranked || b.Unranked {
			return []ir.Type{ir.UnrankedType(a.Elem)}, err
		}
		return []ir.Type{ir.TensorType(a.Elem, dims...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		k := int64(1)
		if d := n.In[0].Type.Dims; len(d) > 0 && d[len(d)-1].Known() {
			k = int64(d[len(d)-1].N)
		}
		return ir.Cost{MACs: elemCount(n.Out[0].Type) * k}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		switch e := in[0].Elem(); {
		case e == tensor.F64:
			return one(matmul[float64](in[0], in[1]))
		case e.IsFloat():
			return one(matmul[float32](in[0], in[1]))
		}
		return one(matmul[int64](in[0], in[1]))
	},
})

// matmulDims returns the shape of a matrix product, nil if a rank is unknown.
func matmulDims(a, b ir.Type) ([]ir.Dim, error) {
	if a.Unranked || b.Unranked {
		return nil, nil
	}
	ra, rb := a.Rank(), b.Rank()
	if ra == 0 || rb == 0 {
		return nil, fmt.Errorf("the operands are %v and %v, expected at least one dimension", a, b)
	}
	k := b.Dims[max(rb-2, 0)]
	if !a.Dims[ra-1].MayEqual(k) {
		return nil, fmt.Errorf("the operands are %v and %v: the inner dimensions differ", a, b)
	}
	dims, err := broadcastDims(a.Dims[:max(ra-2, 0)], b.Dims[:max(rb-2, 0)])
	if err != nil {
		return nil, fmt.Errorf("the operands are %v and %v: %w", a, b, err)
	}
	if ra > 1 {
		dims = append(dims, a.Dims[ra-2])
	}
	if rb > 1 {
		dims = append(dims, b.Dims[rb-1])
	}
	return dims, nil
}

func matmul[T number](a, b *tensor.Tensor) (*tensor.Tensor, error) {
	dims, err := matmulDims(ir.TypeOf(a), ir.TypeOf(b))
	if err != nil {
		return nil, err
	}
	shape, _ := ir.TensorType(a.Elem(), dims...).Static()
	y, err := alloc[T](shape...)
	if err != nil {
		return nil, err
	}
	as, bs := a.Shape(), b.Shape()
	m, n := 1, 1
	if len(as) > 1 {
		m = as[len(as)-2]
	}
	if len(bs) > 1 {
		n = bs[len(bs)-1]
	}
	k := as[len(as)-1]
	batch, err := broadcastShape(as[:max(len(as)-2, 0)], bs[:max(len(bs)-2, 0)])
	if err != nil {
		return nil, err
	}
	x, w := numbers[T](a), numbers[T](b)
	ai := broadcastWalk(as[:max(len(as)-2, 0)], batch)
	bi := broadcastWalk(bs[:max(len(bs)-2, 0)], batch)
	for i := range sizeOf(batch) {
		mulAdd(y[i*m*n:], x[ai[i]*m*k:], w[bi[i]*k*n:], m, k, n)
	}
	return fromNumbers(a.Elem(), y, shape...), nil
}

// broadcastWalk returns, for every position of shape to, the flat position in
// shape from that broadcasts to it.
func broadcastWalk(from, to []int) []int {
	step := make([]int, len(to))
	for i, s := range stridesOf(from) {
		if from[i] != 1 {
			step[len(to)-len(from)+i] = s
		}
	}
	var out []int
	for i := range indexWalk(to, step, 0) {
		out = append(out, i)
	}
	return out
}

// mulAdd adds the m×k matrix a times the k×n matrix b to y, k in order.
func mulAdd[T number](y, a, b []T, m, k, n int) {
	for i := range m {
		for j := range k {
			axpy(y[i*n:], 1, b[j*n:], 1, a[i*k+j], n)
		}
	}
}

var _ = define(ir.Op{
	Name: "Gemm", Since: 7,
	Roles: []ir.Role{1: ir.Weight, 2: ir.Bias},
	PerSample: func(n *ir.Node) bool {
		c := n.Input(2)
		return n.Int("transA") == 0 && byFirst(n) && (c == nil || c.Data.Rank() < 2 || c.Data.Shape()[0] == 1)
	},
	Layer: &ir.Layer{Channels: func(n *ir.Node, w int) (out, in int) {
		if (n.Int("transB") != 0) == (w == 1) {
			return 0, 1
		}
		return 1, 0
	}},
	Doc: `α·A'·B' + β·C with A' = A or its transpose, likewise B', and C broadcast. The
matrix product is that of MatMul; then it is multiplied by α, and β·C is added,
with a rounding after each operation. Integers need whole α and β, and wrap.`,
	In: "A, B, C?", Out: "Y",
	Attrs: []ir.AttrSpec{
		floatAttr("alpha", 1, "α, the factor of the product"),
		floatAttr("beta", 1, "β, the factor of C"),
		{Name: "transA", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: A is transposed"},
		{Name: "transB", Kind: ir.IntAttr, Flag: true, Default: int64(0), Doc: "1: B is transposed"},
	},
	Import: func(r *ir.Rewriter, n *ir.Node, opset int) error {
		r.DeleteAttr(n, "broadcast") // opset 6: C broadcasts as it does today
		return nil
	},
	Grad: gradGemm,
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		a, b := n.In[0].Type, n.In[1].Type
		if !a.Elem.IsFloat() && !a.Elem.IsInt() {
			return nil, fmt.Errorf("A is %v, expected numbers", a)
		}
		if err := wantLike(n, 0, 1, 2); err != nil {
			return nil, err
		}
		for i := range 2 {
			if err := wantRank(n, i, 2); err != nil {
				return nil, err
			}
		}
		if al, be := n.Float("alpha"), n.Float("beta"); a.Elem.IsInt() && (al != float32(int64(al)) || be != float32(int64(be))) {
			return nil, fmt.Errorf("alpha is %v and beta %v, expected whole numbers for integers", al, be)
		}
		m, ka := matrixDims(a, n.Int("transA") != 0)
		kb, p := matrixDims(b, n.Int("transB") != 0)
		if !ka.MayEqual(kb) {
			return nil, fmt.Errorf("A is %v and B %v with transA %d, transB %d: the inner dimensions differ", a, b, n.Int("transA"), n.Int("transB"))
		}
		y := ir.TensorType(a.Elem, m, p)
		if c := n.Input(2); c != nil {
			if _, err := broadcastOnto(y, c.Type); err != nil {
				return nil, fmt.Errorf("C: %w", err)
			}
		}
		return []ir.Type{y}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		y := elemCount(n.Out[0].Type)
		c := ir.Cost{MACs: y}
		if _, k := matrixDims(n.In[0].Type, n.Int("transA") != 0); k.Known() {
			c.MACs *= int64(k.N)
		}
		if n.Input(2) != nil {
			c.Adds = y
		}
		return c
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		switch e := in[0].Elem(); {
		case e == tensor.F64:
			return one(gemm[float64](n, in))
		case e.IsFloat():
			return one(gemm[float32](n, in))
		}
		return one(gemm[int64](n, in))
	},
})

// matrixDims returns rows and columns of a matrix or its transpose.
func matrixDims(t ir.Type, transposed bool) (rows, cols ir.Dim) {
	switch {
	case t.Rank() != 2:
		return ir.Unknown, ir.Unknown
	case transposed:
		return t.Dims[1], t.Dims[0]
	}
	return t.Dims[0], t.Dims[1]
}

func gemm[T number](n *ir.Node, in []*tensor.Tensor) (*tensor.Tensor, error) {
	a, as := matrix[T](in[0], n.Int("transA") != 0)
	b, bs := matrix[T](in[1], n.Int("transB") != 0)
	y, err := alloc[T](as[0], bs[1])
	if err != nil {
		return nil, err
	}
	mulAdd(y, a, b, as[0], as[1], bs[1])
	if alpha := T(n.Float("alpha")); alpha != 1 {
		for i, v := range y {
			y[i] = T(v * alpha)
		}
	}
	if len(in) > 2 && in[2] != nil {
		c, err := expand(in[2], []int{as[0], bs[1]})
		if err != nil {
			return nil, err
		}
		beta := T(n.Float("beta"))
		for i, v := range numbers[T](c) {
			y[i] += T(v * beta)
		}
	}
	return fromNumbers(in[0].Elem(), y, as[0], bs[1]), nil
}

// matrix returns the elements and shape of a matrix or of its transpose.
func matrix[T number](t *tensor.Tensor, transposed bool) ([]T, []int) {
	x, s := numbers[T](t), t.Shape()
	if !transposed {
		return x, s
	}
	y := make([]T, 0, len(x))
	for j := range s[1] {
		for i := range s[0] {
			y = append(y, x[i*s[1]+j])
		}
	}
	return y, []int{s[1], s[0]}
}
