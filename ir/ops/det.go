package ops

import (
	"fmt"
	"math"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ = define(ir.Op{
	Name: "Det", Since: 11,
	Doc: `The determinant of every square matrix of the last two dimensions, by elimination
in float64 with the largest pivot of each column; rounded once.`,
	In: "X", Out: "Y",
	Infer: func(n *ir.Node) ([]ir.Type, error) {
		if err := wantFloat(n, 0); err != nil {
			return nil, err
		}
		x := n.In[0].Type
		if x.Unranked {
			return []ir.Type{x}, nil
		}
		r := x.Rank()
		if r < 2 || !x.Dims[r-1].MayEqual(x.Dims[r-2]) {
			return nil, fmt.Errorf("X is %v, expected square matrices", x)
		}
		return []ir.Type{x.WithDims(x.Dims[:r-2]...)}, nil
	},
	Cost: func(n *ir.Node) ir.Cost {
		x := n.In[0].Type
		if x.Rank() < 2 || !x.Dims[x.Rank()-1].Known() {
			return ir.Cost{}
		}
		return ir.Cost{MACs: elemCount(x) * int64(x.Dims[x.Rank()-1].N) / 3}
	},
	Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		s := in[0].Shape()
		if len(s) < 2 || s[len(s)-1] != s[len(s)-2] {
			return nil, fmt.Errorf("X has shape %v, expected square matrices", s)
		}
		m, outer := s[len(s)-1], s[:len(s)-2]
		x := append([]float64{}, in[0].Float64s()...)
		y := make([]float64, sizeOf(outer))
		for i := range y {
			y[i] = determinant(x[i*m*m:][:m*m], m)
		}
		return one(floatsOf(in[0].Elem(), y, outer), nil)
	},
})

// determinant returns the determinant of an m×m matrix, which it overwrites.
func determinant(a []float64, m int) float64 {
	det := 1.0
	for c := range m {
		p := c
		for r := c + 1; r < m; r++ {
			if math.Abs(a[r*m+c]) > math.Abs(a[p*m+c]) {
				p = r
			}
		}
		if p != c {
			for j := range m {
				a[p*m+j], a[c*m+j] = a[c*m+j], a[p*m+j]
			}
			det = -det
		}
		pivot := a[c*m+c]
		det *= pivot
		if pivot == 0 {
			return det
		}
		for r := c + 1; r < m; r++ {
			f := a[r*m+c] / pivot
			for j := c; j < m; j++ {
				a[r*m+j] = math.FMA(-f, a[c*m+j], a[r*m+j])
			}
		}
	}
	return det
}
