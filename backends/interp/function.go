package interp

import (
	"github.com/thriftc/thriftc/backends/interp/internal/simd"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
)

// functions names the kernel (see simd.Set.Function) of each element-wise
// operator that has one, and the attributes that are its parameters.
var functions = map[string]struct {
	kernel string
	attrs  []string
}{
	"Abs":         {"abs", nil},
	"Ceil":        {"ceil", nil},
	"Celu":        {"celu", []string{"alpha"}},
	"Elu":         {"elu", []string{"alpha"}},
	"Erf":         {"erf", nil},
	"Exp":         {"exp", nil},
	"Floor":       {"floor", nil},
	"Gelu":        {"gelu", nil},
	"HardSigmoid": {"hardSigmoid", []string{"alpha", "beta"}},
	"HardSwish":   {"hardSwish", nil},
	"Log":         {"log", nil},
	"Mish":        {"mish", nil},
	"Neg":         {"neg", nil},
	"Reciprocal":  {"reciprocal", nil},
	"Round":       {"round", nil},
	"Selu":        {"selu", []string{"alpha", "gamma"}},
	"Sigmoid":     {"sigmoid", nil},
	"Softplus":    {"softplus", nil},
	"Softsign":    {"softsign", nil},
	"Sqrt":        {"sqrt", nil},
	"Swish":       {"swish", []string{"alpha"}},
	"Tanh":        {"tanh", nil},
}

// functionOf returns what applies an element-wise operator with one input to
// a row, in place; nil for other operators.
func functionOf(s *simd.Set, n *ir.Node) func(row []float32) {
	one := ops.Scalar(n)
	if one == nil {
		return nil
	}
	f := functions[n.Op.Name]
	if f.kernel == "gelu" && n.Str("approximate") == "tanh" {
		f.kernel = "geluTanh"
	}
	if kernel := s.Function(f.kernel); kernel != nil {
		var p []float64
		for _, a := range f.attrs {
			p = append(p, float64(n.Float(a)))
		}
		return func(row []float32) { kernel(row, row, p) }
	}
	return func(row []float32) {
		for i, x := range row {
			row[i] = one(x)
		}
	}
}
