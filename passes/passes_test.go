package passes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

var testOps = ir.NewRegistry(
	&ir.Op{Name: "Add", In: "A, B", Out: "C",
		Infer: func(n *ir.Node) ([]ir.Type, error) { return []ir.Type{n.In[0].Type}, nil },
		Eval: func(n *ir.Node, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
			x := slices.Clone(in[0].Float32s())
			for i, y := range in[1].Float32s() {
				x[i] += y
			}
			return []*tensor.Tensor{tensor.Of(x, in[0].Shape()...)}, nil
		}},
)

const testGraph = `graph "g" {
  input %x: f32[2]
  const %c: f32[2] = [1, 2]
  %y: f32[2] = Add(%x, %c)
  output %y
}
`

func parseTest(t *testing.T) *ir.Graph {
	t.Helper()
	g, err := ir.Parse("test.tir", testGraph, testOps)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

type Common struct {
	PerTensor bool `help:"one scale for a tensor"`
}

type allOptions struct {
	Common
	Bits      int      `help:"bits"`
	MaxKLDrop float64  `help:"drop"`
	Format    string   `help:"format"`
	Exclude   []string `help:"patterns"`
	hidden    int      //lint:ignore U1000 a field that is not exported must not become an option
}

func (*allOptions) Run(*Context, *ir.Graph) error { return nil }

func (o *allOptions) Validate() error {
	if o.Bits > 8 {
		return errors.New("bits is at most 8")
	}
	return nil
}

// funcPass is a pass made of a function, with no options.
type funcPass struct {
	run func(c *Context, g *ir.Graph) error
}

func (p *funcPass) Run(c *Context, g *ir.Graph) error { return p.run(c, g) }

func funcInfo(name string, k Kind, run func(c *Context, g *ir.Graph) error) Info {
	return Info{Name: name, Doc: "Does it.", Kind: k, New: func() Pass { return &funcPass{run} }}
}

// scaleConst multiplies the constant of testGraph.
func scaleConst(by float32) func(c *Context, g *ir.Graph) error {
	return func(c *Context, g *ir.Graph) error {
		v := g.Value("c")
		x := slices.Clone(v.Data.Float32s())
		for i := range x {
			x[i] *= by
		}
		ir.NewRewriter(g).SetData(v, tensor.Of(x, 2))
		c.Stat("scaled", len(x))
		return nil
	}
}

var testTable = &Table{
	Passes: []Info{
		{Name: "all", Doc: "Has every option. And more.", New: func() Pass { return &allOptions{Bits: 8, Format: "qdq"} }},
		funcInfo("noop", Exact, func(*Context, *ir.Graph) error { return nil }),
		funcInfo("nudge", Exact, scaleConst(1+1e-6)),
		funcInfo("double", Exact, scaleConst(2)),
		funcInfo("lossy", Lossy, scaleConst(2)),
		funcInfo("fail", Exact, func(*Context, *ir.Graph) error { return errors.New("no luck") }),
		funcInfo("crash", Exact, func(*Context, *ir.Graph) error { panic("ouch") }),
		funcInfo("spoil", Exact, func(c *Context, g *ir.Graph) error { g.Nodes[0].In[0] = g.Consts[0]; return nil }),
	},
	Order:     []Order{{"noop", "lossy", "it is more fun"}},
	Pipelines: []Pipeline{{"both", "Two of them.", "noop,all{bits=3}"}, {"more", "Nested.", "both,lossy"}},
}

func TestTable(t *testing.T) {
	if err := testTable.Validate(); err != nil {
		t.Error(err)
	}
	bad := &Table{
		Passes: []Info{
			{Name: "Bad", Doc: "no sentence", New: func() Pass { return &funcPass{} }},
			{Name: "opts", Doc: "Ok.", New: func() Pass { return &badOptions{} }},
			{Name: "invalid", Doc: "Ok.", New: func() Pass { return &allOptions{Bits: 9} }},
		},
		Order:     []Order{{"opts", "nope", "r"}, {"opts", "invalid", ""}},
		Pipelines: []Pipeline{{"p", "", "opts"}, {"q", "Doc.", "gone"}, {"r", "Doc.", "r"}},
	}
	err := bad.Validate()
	for _, want := range []string{`"Bad"`, "Bad: the doc", "opts: option no-help", "opts: option map", "invalid: the defaults", "opts before nope", "opts before invalid", "pipeline p", "pipeline q", "contain each other"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no mention of %q in\n%v", want, err)
		}
	}
}

type badOptions struct {
	NoHelp int
	Map    map[string]int `help:"not possible"`
}

func (*badOptions) Run(*Context, *ir.Graph) error { return nil }

func TestPipelineSyntax(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"", ""},
		{"noop", "noop"},
		{" noop , noop\n", "noop,noop"},
		{"noop{}", "noop"},
		{"all{bits=8}", "all"},
		{"all{ bits = 4 , per-tensor , }", "all{per-tensor=true,bits=4}"},
		{"all{max-kl-drop=1e-3,format='a,b}',exclude='conv1*'}", "all{max-kl-drop=0.001,format='a,b}',exclude=[conv1*]}"},
		{`all{exclude=[a,'b c',"d'e"],per-tensor=false}`, `all{exclude=[a,'b c',"d'e"]}`},
		{"all{exclude=[],format=''}", "all{format=''}"},
		{"more,noop", "noop,all{bits=3},lossy,noop"},
	} {
		steps, err := testTable.Parse(c.src)
		if err != nil {
			t.Errorf("%s: %v", c.src, err)
		} else if got := FormatPipeline(steps); got != c.want {
			t.Errorf("%s: got %s, want %s", c.src, got, c.want)
		}
	}
	for _, c := range []struct{ src, want string }{
		{"nope", `pipeline, column 1: unknown pass "nope"; there are all, both, crash, double, fail, lossy, more, noop, nudge, spoil`},
		{"noop,", "pipeline, column 6: expected the name of a pass, found the end"},
		{"noop noop", "pipeline, column 6: expected , or the end, found 'n'"},
		{"noop{x}", `pipeline, column 6: unknown option "x": noop has no options`},
		{"all{bit=1}", `pipeline, column 5: unknown option "bit" of all; it has per-tensor, bits, max-kl-drop, format, exclude`},
		{"all{hidden=1}", `unknown option "hidden"`},
		{"all{bits=x}", `column 5: option bits of all is a whole number, not "x"`},
		{"all{bits=99999999999999999999}", "is a whole number"},
		{"all{max-kl-drop=nan}", "is a number"},
		{"all{bits}", "column 9: option bits of all needs a value (int)"},
		{"all{bits=[1]}", "option bits of all is one int, not a list"},
		{"all{per-tensor=1}", `is true or false, not "1"`},
		{"all{bits=1,bits=2}", "column 12: option bits is given twice"},
		{"all{bits=1", "column 11: expected , or } after option bits, found the end"},
		{"all{format='a}", "column 12: quote is not closed"},
		{`all{format="a\q"}`, "column 12: quote is not closed, or holds a bad escape"},
		{"all{exclude=[a b]}", "expected , or ] in a list, found 'b'"},
		{"all{bits=}", "column 10: expected a value, found '}'"},
		{"noop,all{bits=9}", "pipeline, column 6: all: bits is at most 8"},
		{"lossy,noop", "pipeline: noop must come before lossy: it is more fun"},
	} {
		if _, err := testTable.Parse(c.src); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.src, err, c.want)
		}
	}
}

func FuzzPipeline(f *testing.F) {
	for _, s := range []string{"noop,noop", "all{bits=4,per-tensor}", `all{exclude=[a,'b c',"d\"e"],format=''}`, "more", "all{max-kl-drop=1e300}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		steps, err := testTable.Parse(src)
		if err != nil {
			return
		}
		text := FormatPipeline(steps)
		again, err := testTable.Parse(text)
		if err != nil || FormatPipeline(again) != text {
			t.Errorf("%q became %q, which reads as %q, %v", src, text, FormatPipeline(again), err)
		}
	})
}

func TestKebab(t *testing.T) {
	for in, want := range map[string]string{"Bits": "bits", "WeightBits": "weight-bits", "KLBins": "kl-bins", "MaxKL": "max-kl", "Pow2": "pow2"} {
		if got := kebab(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func runTest(t *testing.T, pipeline string, o RunOptions) (*Result, error) {
	t.Helper()
	steps, err := testTable.Parse(pipeline)
	if err != nil {
		t.Fatal(err)
	}
	return Run(&Context{Seed: 7}, parseTest(t), steps, o)
}

func TestRun(t *testing.T) {
	res, err := runTest(t, "noop,lossy", RunOptions{Check: [][]*tensor.Tensor{{tensor.Of([]float32{0, 0}, 2)}, {tensor.Of([]float32{8, 0}, 2)}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range res.Steps {
		res.Steps[i].Seconds = 0
	}
	res.Seconds = 0
	got, err := json.Marshal(res)
	want := `{"pipeline":"noop,lossy","seconds":0,"steps":[` +
		`{"pass":"noop","kind":"exact","changed":false,"seconds":0,"nodes":1,"difference":0,"different_output":"y"},` +
		`{"pass":"lossy","kind":"lossy","changed":true,"seconds":0,"nodes":1,"stats":[{"name":"scaled","value":2}],"difference":1,"different_output":"y"}]}`
	if err != nil || string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRunFailures(t *testing.T) {
	in := [][]*tensor.Tensor{{tensor.Of([]float32{0, 0}, 2)}}
	for _, c := range []struct {
		pipeline string
		o        RunOptions
		want     string
	}{
		{"noop,fail", RunOptions{}, "pass 2 fail: no luck"},
		{"crash", RunOptions{}, "pass 1 crash: panic: ouch\ngoroutine"},
		{"spoil", RunOptions{}, "pass 1 spoil: the graph is not right afterwards: "},
		{"double", RunOptions{Check: in}, "pass 1 double: check: output y moved by 1 of its largest magnitude, an exact pass may move it by 0.0001"},
		{"nudge", RunOptions{Check: in, Tolerance: 1e-7}, "pass 1 nudge: check"},
		{"noop", RunOptions{Check: [][]*tensor.Tensor{{}}}, `check, before the first pass: graph "g" has 1 inputs, got 0`},
		{"noop", RunOptions{StartAfter: "fail"}, "start after fail: the pipeline has no such step"},
		{"noop", RunOptions{StopAfter: "2"}, "stop after 2: the pipeline has no such step"},
		{"noop,fail", RunOptions{StartAfter: "2", StopAfter: "1"}, "nothing is between"},
	} {
		if _, err := runTest(t, c.pipeline, c.o); err == nil || !strings.HasPrefix(err.Error(), c.want) && !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.pipeline, err, c.want)
		}
	}
	for _, o := range []RunOptions{{Check: in}, {StartAfter: "fail", StopAfter: "noop"}} {
		pipeline := "nudge"
		if o.StartAfter != "" {
			pipeline = "fail,lossy{},fail"
			o.StopAfter = "2"
		}
		if res, err := runTest(t, pipeline, o); err != nil || len(res.Steps) != 1 {
			t.Errorf("%s: %v", pipeline, err)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	steps, _ := testTable.Parse("noop")
	dir := t.TempDir()
	_, err := Run(&Context{Context: ctx}, parseTest(t), steps, RunOptions{ReproDir: filepath.Join(dir, "r")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "r")); err == nil {
		t.Error("cancelling left a reproducer")
	}
}

func TestDumpAndReproducer(t *testing.T) {
	dir := t.TempDir()
	_, err := runTest(t, "nudge,noop,all{exclude=it,bits=2},lossy,fail", RunOptions{DumpDir: filepath.Join(dir, "d"), ReproDir: dir})
	var pe *PassError
	if !errors.As(err, &pe) || pe.Number != 5 {
		t.Fatalf("got %v", err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "d", "*"))
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	if want := "[00-input.tir 00-input.txt 01-nudge.tir 01-nudge.txt 04-lossy.tir 04-lossy.txt]"; fmt.Sprint(names) != want {
		t.Errorf("dumped %v, want %v", names, want)
	}
	repro, err := os.ReadFile(filepath.Join(dir, "reproducer.tir"))
	last, err2 := os.ReadFile(filepath.Join(dir, "d", "04-lossy.tir"))
	if err != nil || err2 != nil || string(repro) != string(last) {
		t.Errorf("the reproducer is not the graph before the failure: %v %v", err, err2)
	}
	if _, err := ir.Parse("reproducer.tir", string(repro), testOps); err != nil {
		t.Error(err)
	}
	want := "thriftc opt --passes='fail' --seed=7 --threads=0 '" + filepath.Join(dir, "reproducer.tir") + "' -o reproduced.tir"
	if pe.Repro != want {
		t.Errorf("command\n%s, want\n%s", pe.Repro, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, "reproducer.txt"))
	if err != nil || string(text) != want+"\n\npass 5 fail: no luck\n" {
		t.Errorf("%q, %v", text, err)
	}
}
