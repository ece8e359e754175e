package ops

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// oddNumbers are what a broken or hostile file may say.
var oddNumbers = []int64{math.MinInt64, -1 << 33, -5, -2, -1, 0, 1, 2, 3, 4, 7, 1 << 33, 1 << 45, 1 << 62, math.MaxInt64}

func oddInt(rng *rand.Rand) int64 {
	if rng.IntN(3) > 0 {
		return int64(rng.IntN(5)) - 1
	}
	return oddNumbers[rng.IntN(len(oddNumbers))]
}

func oddTensor(rng *rand.Rand) *tensor.Tensor {
	elems := []tensor.Elem{tensor.F32, tensor.F32, tensor.F32, tensor.I64, tensor.I64, tensor.I64, tensor.I32, tensor.U8, tensor.Bool, tensor.F16, tensor.F64, tensor.U64, tensor.I4, tensor.String}
	e := elems[rng.IntN(len(elems))]
	shape := make([]int, rng.IntN(5))
	for i := range shape {
		shape[i] = []int{0, 1, 1, 2, 2, 3, 4}[rng.IntN(7)]
	}
	t := tensor.New(e, shape...)
	switch d := t.Container().(type) {
	case []float32:
		for i := range d {
			d[i] = []float32{0, 1, 2, -1, 0.5, 1e30, -3, float32(math.NaN()), float32(math.Inf(1))}[rng.IntN(9)]
		}
	case []int64:
		for i := range d {
			d[i] = oddInt(rng)
		}
	case []int32:
		for i := range d {
			d[i] = int32(oddInt(rng))
		}
	case []bool:
		for i := range d {
			d[i] = rng.IntN(2) == 0
		}
	}
	return t
}

// quoted returns the words in an attribute's documentation, which are
// what a string attribute may be.
func quoted(a ir.AttrSpec) []string {
	words := strings.FieldsFunc(a.Doc, func(r rune) bool { return strings.ContainsRune(" ,:;().", r) })
	if s, ok := a.Default.(string); ok {
		words = append(words, s)
	}
	return append(words, "odd")
}

func oddAttrs(rng *rand.Rand, op *ir.Op) (ir.Attrs, bool) {
	var out ir.Attrs
	for _, a := range op.Attrs {
		if !a.Required && rng.IntN(2) == 0 {
			continue
		}
		list := make([]int64, rng.IntN(5))
		floats, strs := make([]float32, len(list)), make([]string, len(list))
		for i := range list {
			list[i], floats[i] = oddInt(rng), float32(oddInt(rng))
			strs[i] = []string{"Tanh", "Relu", "Affine", "odd"}[rng.IntN(4)]
		}
		switch words := quoted(a); a.Kind {
		case ir.IntAttr:
			out.Set(a.Name, oddInt(rng))
		case ir.FloatAttr:
			out.Set(a.Name, float32(oddInt(rng)))
		case ir.StringAttr:
			out.Set(a.Name, words[rng.IntN(len(words))])
		case ir.IntsAttr:
			out.Set(a.Name, list)
		case ir.FloatsAttr:
			out.Set(a.Name, floats)
		case ir.StringsAttr:
			out.Set(a.Name, strs)
		case ir.TensorAttr:
			out.Set(a.Name, oddTensor(rng))
		default:
			return nil, false
		}
	}
	return out, true
}

// TestHostile applies every operator to random inputs and attributes: shape
// inference must not panic, evaluation must end in an error it meant, and where
// both succeed they must agree.
func TestHostile(t *testing.T) {
	for _, op := range Table().Ops() {
		if op.Infer == nil {
			continue
		}
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(800) {
				rng := rand.New(rand.NewPCG(seed, 1))
				a, ok := oddAttrs(rng, op)
				if !ok {
					return // needs a subgraph
				}
				c := opCase{op: op.Name, attrs: a}
				for range len(op.Inputs()) {
					c.in = append(c.in, oddTensor(rng))
				}
				if len(c.in) > 1 && rng.IntN(2) == 0 {
					c.in[1] = ints(oddInt(rng))
				}
				if len(c.in) > 0 && rng.IntN(2) == 0 { // alike, as most operators want it
					for i := range c.in {
						if rng.IntN(2) == 0 {
							c.in[i] = c.in[0]
						}
					}
				}
				if k := len(c.in); k > 0 && op.Inputs()[k-1].Optional {
					c.in = c.in[:1+rng.IntN(k)]
				}
				for i, p := range op.Inputs() {
					if p.Optional && i < len(c.in) && rng.IntN(2) == 0 {
						c.in[i] = nil
					}
				}
				outs := 1 + rng.IntN(max(1, len(op.Outputs())))
				checkHostile(t, c, outs, rng)
			}
		})
	}
}

func checkHostile(t *testing.T, c opCase, outs int, rng *rand.Rand) {
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("%v: inference panics: %v", c, p)
		}
	}()
	g := ir.NewGraph("g", Table())
	mask := rng.Uint64()
	n, args, err := c.addTo(g, outs, func(i int) bool { return mask>>i&1 == 0 })
	if err != nil {
		return
	}
	got, err := ir.Eval(t.Context(), g, args)
	if err != nil {
		if strings.Contains(err.Error(), "evaluation failed") {
			t.Errorf("%v: %v", c, err)
		}
		return
	}
	checkElements(t, n.Op, c, got)
	for i, v := range n.Out {
		if !v.Type.Compatible(ir.TypeOf(got[i])) {
			t.Errorf("%v: output %d is inferred %v, evaluated %v", c, i, v.Type, ir.TypeOf(got[i]))
		}
		if v.Contents == nil {
			continue
		}
		x := got[i].Int64s()
		if len(x) != len(v.Contents) || !slices.EqualFunc(x, v.Contents, func(k int64, d ir.Dim) bool { return !d.Known() || int64(d.N) == k }) {
			t.Errorf("%v: output %d is inferred to hold %v, holds %v", c, i, v.Contents, x)
		}
	}
}

// checkElements holds the results against what the operator declares of their elements.
func checkElements(t *testing.T, op *ir.Op, c opCase, got []*tensor.Tensor) {
	t.Helper()
	if op.Elements == ir.Computed || c.in[0].Elem() == tensor.String || c.in[0].Len() == 0 {
		return
	}
	if op.Elements == ir.Kept {
		if !tensor.Equal(c.in[0].Reshape(c.in[0].Len()), got[0].Reshape(got[0].Len())) {
			t.Errorf("%v: the elements are not those of the input", c)
		}
		return
	}
	padding := math.Inf(-1) // of windows that see nothing else
	if e := c.in[0].Elem(); !e.IsFloat() {
		least, _ := e.Range()
		padding = float64(least)
	}
	known := map[uint64]bool{0: true, math.Float64bits(padding): op.Elements == ir.Selected}
	for i, x := range c.in {
		if x != nil && x.Elem() == c.in[0].Elem() && (i == 0 || op.Inputs()[0].Variadic || op.Name == "Pad") {
			for _, v := range x.Float64s() {
				known[math.Float64bits(v)] = true
			}
		}
	}
	for _, v := range got[0].Float64s() {
		if !known[math.Float64bits(v)] {
			t.Errorf("%v: %v is no element of the input", c, v)
			return
		}
	}
}
