package onnx

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/ort"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// observed lowers g to QDQ, makes every computed value an output, and returns
// that graph with what ONNX Runtime computes for each value, optimisations off.
func observed(t *testing.T, g *ir.Graph, x *tensor.Tensor) (*ir.Graph, map[string]*tensor.Tensor) {
	t.Helper()
	low, problems := Lower(g, QDQ, OpsetFor(g, QDQ))
	if problems != nil {
		t.Fatal(problems)
	}
	r := ir.NewRewriter(low)
	for _, n := range low.Nodes {
		for _, v := range n.Out {
			if v != nil && !v.IsOutput() {
				r.Output(v)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "all.onnx")
	if err := onnxio.Write(path, low, onnxio.WriteOptions{Opset: OpsetFor(g, QDQ)}); err != nil {
		t.Fatal(err)
	}
	out, err := ort.Run(context.Background(), path, [][]ort.Named{{{Name: low.Inputs[0].Name, Tensor: x}}}, ort.Off)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]*tensor.Tensor{low.Inputs[0].Name: x}
	for _, o := range out[0] {
		values[o.Name] = o.Tensor
	}
	return low, values
}

// histogram counts differences in units of the last place.
type histogram map[int]int

func (h histogram) String() string {
	var b strings.Builder
	for _, d := range slices.Sorted(maps.Keys(h)) {
		fmt.Fprintf(&b, " %d:%d", d, h[d])
	}
	return b.String()
}

// TestParity compares every quantised node with ONNX Runtime. A quantised node
// is what lies between DequantizeLinear and QuantizeLinear: it is fed with the
// integers that ONNX Runtime computed, and its integers are compared. The float
// results in between depend on the order of summation; how far they lie apart
// is printed, relative to the largest number of the tensor.
func TestParity(t *testing.T) {
	ort.Need(t)
	for _, m := range parityModels() {
		t.Run(filepath.Base(m), func(t *testing.T) {
			g := model(t, m)
			x := modelInput(t, m)
			low, values := observed(t, g, x)
			p := &parity{values: values, own: map[*ir.Value]*tensor.Tensor{}}
			all := histogram{}
			relative := map[string]float64{}
			for _, n := range low.Nodes {
				got := p.result(t, n)
				want := values[n.Out[0].Name]
				if n.Op.Name == "QuantizeLinear" {
					a, b := got.Int64s(), want.Int64s()
					for i := range a {
						d := int(max(a[i]-b[i], b[i]-a[i]))
						all[d]++
						if d > 1 {
							t.Errorf("%s: element %d is %d, ONNX Runtime's %d", n.Label(), i, a[i], b[i])
						}
					}
				} else if want.Elem().IsFloat() {
					relative[n.Op.Name] = max(relative[n.Op.Name], farthest(got, want))
				}
			}
			t.Logf("integers by how many steps they differ:%v", all)
			for _, op := range slices.Sorted(maps.Keys(relative)) {
				t.Logf("%-20s largest float difference %.2g of the largest number", op, relative[op])
				if relative[op] > 1e-5 {
					t.Errorf("%s: floats differ by %g", op, relative[op])
				}
			}
		})
	}
}

// With scales that are powers of two every product and sum is exact as long as
// accumulators stay below 2²⁴: then the floats are equal bit for bit.
func TestParityPowersOfTwo(t *testing.T) {
	ort.Need(t)
	for _, m := range parityModels() {
		t.Run(filepath.Base(m), func(t *testing.T) {
			g := model(t, m)
			powersOfTwo(g)
			x := modelInput(t, m)
			low, values := observed(t, g, x)
			p := &parity{values: values, own: map[*ir.Value]*tensor.Tensor{}}
			equal, unproven := 0, 0
			for _, n := range low.Nodes {
				why := unproved(n)
				got, want := p.result(t, n), values[n.Out[0].Name]
				if why != "" {
					unproven++
					t.Logf("not proven equal: %s %s: %s; largest difference %.2g", n.Op.Name, n.Label(), why, farthest(got, want))
					// What follows is compared on ONNX Runtime's result.
					p.own[n.Out[0]] = want
					continue
				}
				if farthest(got, want) != 0 {
					t.Errorf("%s %s differs", n.Op.Name, n.Label())
				}
				equal++
			}
			t.Logf("%d nodes equal, %d not proven", equal, unproven)
		})
	}
}

func parityModels() []string {
	if testing.Short() {
		return []string{"tiny/mlperf_kws_int8_qdq"}
	}
	return []string{"tiny/mlperf_kws_int8_qdq", "cifar10/mlperf_resnet8_int8_qdq", "imagenet/mobilenet_v1_0.5_160_qat_qdq"}
}

// parity computes nodes from what ONNX Runtime handed to DequantizeLinear.
type parity struct {
	values map[string]*tensor.Tensor    // ONNX Runtime's
	own    map[*ir.Value]*tensor.Tensor // ours, from ONNX Runtime's integers
}

func (p *parity) result(t *testing.T, n *ir.Node) *tensor.Tensor {
	t.Helper()
	in := make([]*tensor.Tensor, len(n.In))
	for i, v := range n.In {
		switch {
		case v == nil:
		case v.Data != nil:
			in[i] = v.Data
		case n.Op.Name == "DequantizeLinear" || v.Kind == ir.Input:
			in[i] = p.values[v.Name]
		default:
			in[i] = p.own[v]
		}
	}
	out, err := n.Eval(in)
	if err != nil {
		t.Fatal(err)
	}
	p.own[n.Out[0]] = out[0]
	return out[0]
}

// farthest returns the largest difference relative to the largest number.
func farthest(got, want *tensor.Tensor) float64 {
	a, b := got.Float64s(), want.Float64s()
	var d, largest float64
	for i := range b {
		d, largest = max(d, math.Abs(a[i]-b[i])), max(largest, math.Abs(b[i]))
	}
	if d == 0 {
		return 0
	}
	return d / largest
}

// powersOfTwo rounds every scale of g to a power of two, and gives biases the
// product of the scales of data and weights.
func powersOfTwo(g *ir.Graph) {
	r := ir.NewRewriter(g)
	for _, n := range g.Nodes {
		if n.Op.Name != "thriftc.Quant" && n.Op.Name != "DequantizeLinear" {
			continue
		}
		s := slices.Clone(n.ConstIn(1).Float32s())
		for i, v := range s {
			frac, exp := math.Frexp(float64(v))
			if frac < math.Sqrt2/2 {
				exp--
			}
			s[i] = float32(math.Ldexp(1, exp))
		}
		r.SetData(n.In[1], tensor.Of(s, n.ConstIn(1).Shape()...))
	}
	for _, n := range g.Nodes {
		if b := n.Input(2); (n.Op.Name == "Conv" || n.Op.Name == "Gemm") && b != nil {
			x, w := stepOf(n.In[0]), n.In[1].Def.ConstIn(1).Float32s()
			s := make([]float32, len(w))
			for i, v := range w {
				s[i] = x * v
			}
			scale := b.Def.In[1]
			r.SetInput(b.Def, 1, r.Const(scale.Name, tensor.Of(s, scale.Data.Shape()...)))
		}
	}
}

// stepOf returns the scale of the quantiser above v.
func stepOf(v *ir.Value) float32 {
	for v.Def.Op.Name != "thriftc.Quant" {
		v = v.Def.In[0]
	}
	return v.Def.ConstIn(1).Float32s()[0]
}

// unproved says why the result of a node of a power-of-two graph need not be
// exact; "" when it must be.
func unproved(n *ir.Node) string {
	switch n.Op.Name {
	case "Conv", "Gemm":
		// The largest |q − zero| of 8-bit data is 255.
		w := n.In[1].Def.ConstIn(0)
		q := w.Int64s()
		if n.Op.Name == "Gemm" && n.Int("transB") == 0 {
			return "weights are not transposed"
		}
		per := len(q) / w.Shape()[0]
		var largest int64
		for m := range w.Shape()[0] {
			sum := int64(0)
			if b := n.Input(2); b != nil {
				v := b.Def.ConstIn(0).Int64s()[m]
				sum = max(v, -v)
			}
			for _, v := range q[m*per : (m+1)*per] {
				sum += 255 * max(v, -v)
			}
			largest = max(largest, sum)
		}
		if largest >= 1<<24 {
			return fmt.Sprintf("an accumulator may reach %d", largest)
		}
	case "GlobalAveragePool":
		d := n.In[0].Type.Dims
		if len(d) != 4 || !d[2].Known() || !d[3].Known() {
			return "the window is not known"
		}
		if size := d[2].N * d[3].N; size&(size-1) != 0 {
			return fmt.Sprintf("the window has %d elements, no power of two", size)
		}
	case "Softmax":
		return "exponential"
	}
	return ""
}

func modelDir(name string) string { return filepath.Join("../../../shared/models", name) }

// checkOnRuntime compares a graph's output with that of ONNX Runtime on the
// exported file, on an input of noise.
func checkOnRuntime(t *testing.T, g *ir.Graph) {
	t.Helper()
	shape, ok := g.Inputs[0].Type.Static()
	if !ok {
		t.Fatalf("input is %v", g.Inputs[0].Type)
	}
	x := tensor.New(tensor.F32, shape...)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range x.Len() {
		tensor.Data[float32](x)[i] = rng.Float32()
	}
	want, err := ir.Eval(context.Background(), g, []*tensor.Tensor{x})
	if err != nil {
		t.Fatal(err)
	}
	ort.Need(t)
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := Write(path, g, QDQ, onnxio.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := ort.Run(context.Background(), path, [][]ort.Named{{{Name: g.Inputs[0].Name, Tensor: x}}}, ort.Off)
	if err != nil {
		t.Fatal(err)
	}
	last, ok := ops.QuantOf(g.Outputs[0].Def)
	if !ok {
		t.Fatal("the model does not end in a quantiser")
	}
	steps := histogram{}
	a, b := want[0].Float32s(), got[0][0].Tensor.Float32s()
	for i := range a {
		steps[int(math.Round(math.Abs(float64(a[i]-b[i]))/float64(last.Scale[0])))]++
	}
	t.Logf("output steps of difference:%v", steps)
	if len(steps) > 2 || steps[0] < len(a)*99/100 {
		t.Errorf("output steps of difference:%v", steps)
	}
}

// End to end on real data: ours and ONNX Runtime's classes of the exported
// file, with its quantised operators fused and not.
func TestAgreement(t *testing.T) {
	ort.Need(t)
	g := model(t, "tiny/mlperf_kws_int8_qdq")
	file, err := os.ReadFile("../../../shared/data/tiny/kws01/mfcc_49x10.i8")
	if err != nil {
		t.Fatal(err)
	}
	const samples = 200
	x := tensor.New(tensor.F32, samples, 1, 49, 10)
	for i := range x.Len() {
		tensor.Data[float32](x)[i] = float32(float32(int(int8(file[i]))-83) * 0.5847029)
	}
	want, err := ir.Eval(t.Context(), g, []*tensor.Tensor{x})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := Write(path, g, QDQ, onnxio.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, level := range []ort.Optimise{ort.Off, ort.Precise} {
		got, err := ort.Run(t.Context(), path, [][]ort.Named{{{Name: g.Inputs[0].Name, Tensor: x}}}, level)
		if err != nil {
			t.Fatal(err)
		}
		a, b := want[0].Float32s(), got[0][0].Tensor.Float32s()
		classes := len(a) / samples
		same, steps := 0, histogram{}
		scale := stepOf(g.Outputs[0].Def.In[0])
		for i := range samples {
			p, q := a[i*classes:(i+1)*classes], b[i*classes:(i+1)*classes]
			top := argmax(p)
			if q[argmax(q)] == q[top] {
				same++
			}
			for k := range p {
				d := math.Log(float64(p[k])/float64(p[top])) - math.Log(float64(q[k])/float64(q[top]))
				steps[int(math.Round(math.Abs(d)/float64(scale)))]++
			}
		}
		t.Logf("optimisations %s: same class %d of %d; steps of difference:%v", level, same, samples, steps)
		if same*100 < samples*99 {
			t.Errorf("optimisations %s: same class %d of %d", level, same, samples)
		}
	}
}
