package ir_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// reparse checks Parse(Print(g)) = g by a walk over both graphs.
func reparse(t *testing.T, g *ir.Graph) {
	t.Helper()
	text := ir.Format(g)
	h, err := ir.Parse("printed.tir", text, g.Ops)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	irtest.SameGraph(t, h, g)
	if again := ir.Format(h); again != text {
		t.Errorf("printed again differs:\n%s\nfirst:\n%s", again, text)
	}
	if ir.Fingerprint(g) != ir.Fingerprint(h) {
		t.Error("equal graphs with different fingerprints")
	}
}

func TestEveryAttributeAndType(t *testing.T) {
	g := ir.NewGraph("all \"of\" it\x00\xff", testOps)
	g.Doc = "line one\nline two\t€"
	r := ir.NewRewriter(g)
	r.SetMeta("producer", "py \"torch\"")
	r.SetMeta("", "no key")
	x := r.Input("x", ir.TensorType(tensor.F32, ir.Symbol("N"), ir.Unknown, ir.Fixed(0), ir.Symbol("batch size"), ir.Symbol("3"), ir.Symbol("?"), ir.Symbol("...")))
	x.Doc = "an \\ image"
	u := r.Input("onnx::Conv_1/%", ir.UnrankedType(tensor.Uint(3)))
	q := r.Input("0", ir.Type{Elem: tensor.Int(5), Dims: ir.Dims(2, 2), Quant: &ir.Quant{Scale: []float32{0.1, 1e-30}, ZeroPoint: []int64{-3, 4}, Axis: 1}})
	w := r.Param("w", tensor.Of([]float32{1, 2, 3}, 3))
	w.Type.Quant = &ir.Quant{Scale: []float32{1}, Axis: 2}
	body := ir.NewBody("then", g)
	b := ir.NewRewriter(body)
	body.Doc = "body"
	i := b.Input("i", ir.TensorType(tensor.I64))
	c := b.Const("inner", tensor.Scalar(int64(7)))
	_, _ = i, c
	inner, err := b.Add("Relu", "", nil, []*ir.Value{x}, "captured")
	if err != nil {
		t.Fatal(err)
	}
	b.Output(inner.Out[0])
	b.Output(i)
	n, err := r.Add("test.Any", "node name", ir.MakeAttrs(
		"i", math.MaxInt64, "f", float32(math.Copysign(0, -1)), "is", []int64{}, "fs", []float32{}, "ss", []string{}, "odd name", 1,
		"t", tensor.Of([]string{"a", "", "\""}, 3), "g", body, "elem", "bf16"), []*ir.Value{x, nil, u, q, nil}, "", "", "out")
	if err != nil {
		t.Fatal(err)
	}
	n.Doc = "node doc"
	n.Out[2].Doc = "value doc"
	n.Out[2].Type = ir.TensorType(tensor.BF16, ir.Unknown)
	nan := math.Float32frombits(0xffc12345)
	m, err := r.Add("test.Any", "", ir.MakeAttrs("f", nan, "fs", []float32{1, float32(math.Copysign(0, -1)), float32(math.Inf(-1)), nan, float32(math.NaN()), 1e10, 0.1}, "is", []int64{0, -1},
		"ss", []string{"x\ny", "z"}, "t", tensor.Scalar(float32(3))), []*ir.Value{n.Out[2], w}, "a", "", "b")
	if err != nil {
		t.Fatal(err)
	}
	r.Output(m.Out[0])
	r.Output(m.Out[0])
	r.Output(x)
	next, err := r.Add("Neg", "", nil, []*ir.Value{w})
	if err != nil {
		t.Fatal(err)
	}
	r.SetUpdates([]ir.Update{{Param: w, Next: next.Out[0]}})
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	reparse(t, g)
}

func elems() []tensor.Elem {
	out := []tensor.Elem{tensor.F16, tensor.BF16, tensor.F32, tensor.F64, tensor.Bool, tensor.Bipolar}
	for b := 1; b <= 64; b++ {
		out = append(out, tensor.Int(b), tensor.Uint(b))
	}
	return out
}

// randomBits fills a tensor with anything its type can hold.
func randomBits(rng *rand.Rand, e tensor.Elem, n int) *tensor.Tensor {
	t := tensor.New(e, n)
	switch d := t.Container().(type) {
	case []float32:
		for i := range d {
			d[i] = math.Float32frombits(rng.Uint32())
		}
		return t
	case []float64:
		for i := range d {
			d[i] = math.Float64frombits(rng.Uint64())
		}
		return t
	case []uint16:
		for i := range d {
			d[i] = uint16(rng.Uint32()) >> (16 - e.Bits())
		}
		return t
	}
	x := make([]int64, n)
	for i := range x {
		switch u := rng.Uint64(); {
		case e == tensor.Bipolar:
			x[i] = 2*int64(u&1) - 1
		case e.IsSigned():
			x[i] = int64(u) >> (64 - e.Bits())
		default:
			x[i] = int64(u >> (64 - e.Bits()))
		}
	}
	return tensor.FromInt64s(e, x, n)
}

func TestEveryElementType(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	g := ir.NewGraph("", testOps)
	r := ir.NewRewriter(g)
	for _, e := range elems() {
		for _, n := range []int{0, 1, 5, 64, 65, 77} {
			r.Const(fmt.Sprintf("%v_%d", e, n), randomBits(rng, e, n))
		}
		r.Const(e.String()+"_scalar", randomBits(rng, e, 1).Reshape())
		one := randomBits(rng, e, 1)
		splat := tensor.New(e, 100)
		for i := range 100 {
			copyElem(splat, i, one)
		}
		r.Const(e.String()+"_splat", splat)
	}
	special := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.SmallestNonzeroFloat32, math.MaxFloat32, 0.1}
	for _, e := range []tensor.Elem{tensor.F16, tensor.BF16, tensor.F32, tensor.F64} {
		r.Const(e.String()+"_special", tensor.FromFloat32s(e, special, 2, 4))
	}
	r.Const("strings", tensor.Of(strings.Split(strings.Repeat("a\xff,", 100), ","), 101))
	r.Const("empty", tensor.New(tensor.F32, 3, 0, 1<<40))
	reparse(t, g)
}

func copyElem(dst *tensor.Tensor, i int, src *tensor.Tensor) {
	switch d := dst.Container().(type) {
	case []float32:
		d[i] = src.Container().([]float32)[0]
	case []float64:
		d[i] = src.Container().([]float64)[0]
	case []uint16:
		d[i] = src.Container().([]uint16)[0]
	case []uint64:
		d[i] = src.Container().([]uint64)[0]
	case []int64:
		d[i] = src.Container().([]int64)[0]
	case []int8:
		d[i] = src.Container().([]int8)[0]
	case []uint8:
		d[i] = src.Container().([]uint8)[0]
	}
}

func TestRandomGraphs(t *testing.T) {
	for seed := range uint64(50) {
		g := irtest.Random(t, testOps, seed, 20)
		if err := ir.Verify(g); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		reparse(t, g)
	}
}

func TestFingerprintSeesEverything(t *testing.T) {
	const base = `graph "g" {
  meta "k" = "v"
  input %x: f32[N,2]
  param %w: f32[2] = [1, 2]
  %y: f32[N,2] = test.Any(%x, %w) {i=1, t=tensor f32[1] [0]} name "n"
  %z: f32[2] = Neg(%w)
  output %y
  update %w = %z
}
`
	seen := map[[32]byte]string{ir.Fingerprint(irtest.Parse(t, base, testOps)): "base"}
	for _, change := range [][2]string{
		{`graph "g"`, `graph "h"`}, {`"v"`, `"w"`}, {`"k"`, `"l"`}, {`input %x: f32[N,2]`, `input %x: f32[N,2] doc "d"`}, {`N,`, `M,`},
		{`[1, 2]`, `[1, 3]`}, {`f32[2] = [1, 2]`, `f32[2] scale [1] = [1, 2]`}, {`%x, %w) {`, `%w, %x) {`}, {`i=1`, `i=2`}, {`[0]}`, `[-0]}`}, {`"n"`, `"m"`},
		{`output %y`, `output %z`}, {`  update %w = %z`, ``}, {`%y`, `%yy`}, {`%x, %w`, `%x, _, %w`}, {`= Neg`, `= Relu`},
	} {
		src := strings.ReplaceAll(base, change[0], change[1])
		if src == base {
			t.Fatalf("%q changes nothing", change)
		}
		f := ir.Fingerprint(irtest.Parse(t, src, testOps))
		if seen[f] != "" {
			t.Errorf("%q has the fingerprint of %q", change, seen[f])
		}
		seen[f] = change[1]
	}
}

func TestParseByHand(t *testing.T) {
	g := irtest.Parse(t, `# comment
graph { input %x: f32[2,2] # trailing
const %c: f32[] = 1
const %d: f32[] = [1,]
const %s: f32[1000,1000] = splat 0.5
%y = Add(%x, %c,) %z = test.Any(%y, _, %"c") {f=1, fs=[1, 2.5], ss=[], is=[1,2],}
output %y, %z }`, testOps)
	if got := g.Value("y").Type.String(); got != "f32[2,2]" {
		t.Errorf("type of %%y is %s", got)
	}
	n := g.Nodes[1]
	if n.Float("f") != 1 || len(n.Floats("fs")) != 2 || n.Strs("ss") == nil || n.In[2] != g.Value("c") {
		t.Errorf("attributes or inputs of %s", ir.Format(g))
	}
	if len(g.Outputs) != 2 || g.Value("s").Data.Len() != 1e6 {
		t.Error("outputs or splat")
	}
	reparse(t, g)
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"empty", "", "test.tir:1:1: expected graph, found end of file"},
		{"not closed", "graph \"g\" {\n input %x: f32[]", `test.tir:2:17: graph "g" is not closed by }`},
		{"two graphs", "graph {} graph {}", "test.tir:1:10: unexpected graph after the graph"},
		{"string", "graph \"g\n{}", "test.tir:1:7: string is not closed before the end of the line"},
		{"several", `graph {
  input %x: f32[N]
  input %x: f32[N]
  %y = Reul(%x)
  %z = Relu(%y)
  %a = Relu(%nope)
  %b = test.Any(%x) {k=1}
  %c: f16[...] = Relu(%x)
  %d = Relu(
  %e = Relu(%x)
  output %d, %z, %what
}`, `test.tir:3:9: %x is defined twice
test.tir:4:8: unknown operator Reul
test.tir:6:13: %nope is not defined before its use
test.tir:7:8: test.Any %b: attribute k is not known
test.tir:8:18: Relu %c: output %c: inferred f32[N] contradicts the declared f16[...]
test.tir:10:3: %e is not defined before its use
test.tir:10:6: expected ), found =
test.tir:11:18: %what is not defined before its use`},
		{"infer", "graph { input %x: f32[]\n %y = test.Any(%x) {i=-1} }", "test.tir:2:7: test.Any %y: i is negative"},
		{"infer panics", "graph { input %x: f32[]\n %y = Panic(%x) }", "test.tir:2:7: Panic %y: shape inference failed: boom"},
		{"attr twice", "graph { input %x: f32[] %y = test.Any(%x) {i=1, i=2} }", "test.tir:1:49: attribute i is given twice"},
		{"attr kind", "graph { input %x: f32[] %y = test.Any(%x) {i=1.5} }", "test.tir:1:30: test.Any %y: attribute i is float, expected int"},
		{"mixed", `graph { input %x: f32[] %y = test.Any(%x) {is=[1, "a"]} }`, "test.tir:1:47: a list holds only one kind of value"},
		{"too few", "graph { const %c: f32[3] = [1, 2] }", "test.tir:1:15: f32[3] has 3 elements, 2 are given"},
		{"range", "graph { const %c: i5[1] = [16] }", `test.tir:1:28: "16" is not a value of type i5`},
		{"range i12", `graph { const %c: i12[1] = base64 "/38=" }`, "test.tir:1:15: element 0 is 32767, outside i12"},
		{"padding", `graph { const %c: i3[1] = base64 "CA==" }`, "test.tir:1:15: the unused bits of the last byte are not zero"},
		{"bipolar", "graph { const %c: bipolar[1] = [0] }", `test.tir:1:33: "0" is not a value of type bipolar`},
		{"nan", "graph { const %c: f32[1] = [nan:0x3f800000] }", `test.tir:1:29: "nan:0x3f800000" is not a value of type f32`},
		{"base64 size", `graph { const %c: f32[100] = base64 "AAAA" }`, "test.tir:1:15: f32[100] takes 400 bytes, about 3 are given"},
		{"terabyte", `graph { const %c: f32[1000000,1000000] = splat 0 }`, "test.tir:1:15: tensors given by one number take more than 64 MiB"},
		{"many splats", "graph {" + strings.Repeat("const %c: f32[4000000] = splat 0\n", 5), "test.tir:5:7: tensors given by one number take more than 64 MiB"},
		{"overflow", `graph { const %c: f32[4611686018427387904,4611686018427387904] = [] }`, "test.tir:1:15: f32[4611686018427387904,4611686018427387904] is not the type of a tensor: its shape must be fixed"},
		{"symbolic const", `graph { const %c: f32[N] = [] }`, "test.tir:1:15: f32[N] is not the type of a tensor: its shape must be fixed"},
		{"negative dim", `graph { input %c: f32[-1] }`, "test.tir:1:25: a dimension cannot be negative"},
		{"element type", `graph { input %c: f33[1] }`, `test.tir:1:19: unknown element type "f33"`},
		{"meta", "graph { meta \"a\" = \"b\"\n meta \"a\" = \"c\" }", `test.tir:2:2: metadata "a" is given twice`},
		{"update", "graph { input %x: f32[]\n update %x = %x }", "test.tir:2:2: %x is not a parameter"},
		{"update type", "graph { param %x: f32[] = 1 input %y: f32[2]\n update %x = %y }", "test.tir:2:2: update of %x: f32[] becomes f32[2]"},
		{"scope", "graph { input %x: f32[] %y = test.If(%x) {then=graph { %t = Relu(%x) output %t }}\n %z = Relu(%t) }",
			"test.tir:2:12: %t is not visible here, it belongs to another subgraph"},
		{"body output", "graph { input %x: f32[] %y = test.If(%x) {then=graph {\n output %x }} }", "test.tir:2:9: output %x is defined outside of its graph"},
		{"body name", "graph { input %x: f32[] %y = test.If(%x) {then=graph { %t = Relu(%x)\n output %t }, else=graph { %t = Relu(%x) output %t }} }",
			"test.tir:2:28: %t is defined twice"},
		{"character", "graph { ; }", "test.tir:1:9: unexpected character ';'"},
		{"nesting", strings.Repeat("graph { %y = test.If(_) {then=", 70), "graphs nest deeper than 64"},
		{"zero points", "graph { input %x: i8[2] scale [1.0,2.0] zero [1] }", "test.tir:1:25: 1 zero points for 2 scales"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ir.Parse("test.tir", c.src, testOps)
			if err == nil {
				t.Fatal("no error")
			}
			if got := err.Error(); got != c.want && (c.name == "several" || !strings.Contains(got, c.want)) {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestParseStopsComplaining(t *testing.T) {
	_, err := ir.Parse("x", "graph {\n"+strings.Repeat("%a = No()\n", 10000), testOps)
	if n := strings.Count(err.Error(), "\n"); n > 21 {
		t.Errorf("%d lines of errors", n)
	}
}

func TestPrintShort(t *testing.T) {
	g := irtest.Parse(t, "graph { const %c: f32[65] = splat 1 const %d: f32[2] = [1, 2] output %c, %d }", testOps)
	var b bytes.Buffer
	if err := ir.PrintShort(&b, g); err != nil {
		t.Fatal(err)
	}
	want := "graph \"\" {\n  const %c: f32[65] = ...\n  const %d: f32[2] = [1, 2]\n  output %c\n  output %d\n}\n"
	if b.String() != want {
		t.Errorf("got %s", &b)
	}
	if _, err := ir.Parse("short.tir", b.String(), testOps); err == nil {
		t.Error("a shortened graph parses")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`graph "g" { doc "d" meta "a" = "b" input %x: f32[N,?,"a b"] doc "x" output %x }`)
	f.Add(`graph { param %w: i5[2,2] scale [0.5,0.25] zero [1,-1] axis 1 = [1,2,3,-4] %n = Neg(%w) update %w = %n }`)
	f.Add(`graph { const %c: f32[...] = nan:0x7fc00001 const %b: u3[65] = base64 "AAAA" const %s: string[1] = ["a\x00"] }`)
	f.Add(`graph { input %x: bool[] %y, _, %"z z" = test.If(%x) {then=graph "t" { %t = Relu(%x) output %t, %t }} name "n" doc "d" }`)
	f.Add(`graph { input %x: f32[] _, %y: bf16[1] = test.Any(%x, _, %x) {f=-0.0, is=ints[], fs=[1.5,nan,-inf], ss=["a"], t=tensor bool[2] [true,false], "odd name"=1, elem="bf16"} output %y }`)
	for seed := range uint64(3) {
		f.Add(ir.Format(irtest.Random(f, testOps, seed, 8)))
	}
	f.Fuzz(func(t *testing.T, src string) {
		g, err := ir.Parse("fuzz.tir", src, testOps)
		if err != nil {
			return
		}
		if err := ir.Verify(g); err != nil {
			t.Fatalf("parsed, but does not verify: %v\n%s", err, src)
		}
		text := ir.Format(g)
		h, err := ir.Parse("printed.tir", text, testOps)
		if err != nil {
			t.Fatalf("printed text does not parse: %v\n%s", err, text)
		}
		irtest.SameGraph(t, h, g)
	})
}
