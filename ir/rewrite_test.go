package ir_test

import (
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// after runs change on a parsed graph, verifies it, and compares its text with want.
func after(t *testing.T, src string, change func(r *ir.Rewriter, g *ir.Graph), want string) {
	t.Helper()
	g := irtest.Parse(t, src, testOps)
	change(ir.NewRewriter(g), g)
	if err := ir.Verify(g); err != nil {
		t.Fatalf("%v\n%s", err, ir.Format(g))
	}
	w := ir.Format(irtest.Parse(t, want, testOps))
	if got := ir.Format(g); got != w {
		t.Errorf("got\n%s\nwant\n%s", got, w)
	}
}

const chain = `graph {
  input %x: f32[2]
  const %c: f32[2] = [1, 2]
  %a = Relu(%x)
  %b = Add(%a, %c)
  %d = Neg(%b)
  output %d
}`

func TestReplaceUses(t *testing.T) {
	after(t, chain, func(r *ir.Rewriter, g *ir.Graph) {
		r.ReplaceUses(g.Value("d"), g.Value("a"))
		r.RemoveUnused()
	}, `graph { input %x: f32[2] %d = Relu(%x) output %d }`)
	after(t, `graph { input %x: f32[2] %a = Relu(%x) %y = test.If(%x) {then=graph { %t = Neg(%a) output %t }} output %y }`,
		func(r *ir.Rewriter, g *ir.Graph) { r.ReplaceUses(g.Value("a"), g.Value("x")); r.RemoveUnused() },
		`graph { input %x: f32[2] %y = test.If(%x) {then=graph { %t = Neg(%x) output %t }} output %y }`)
	after(t, `graph { param %w: f32[] = 1 %n = Neg(%w) %m = Relu(%w) output %w update %w = %n }`,
		func(r *ir.Rewriter, g *ir.Graph) { r.ReplaceUses(g.Value("n"), g.Value("m")); r.RemoveUnused() },
		`graph { param %w: f32[] = 1 %m = Relu(%w) output %w update %w = %m }`)
}

func TestBypass(t *testing.T) {
	for _, c := range []struct {
		name, src, old, by string
		unused             bool
		want               string
	}{
		{"result", chain, "d", "b", true, `graph { input %x: f32[2] const %c: f32[2] = [1, 2] %a = Relu(%x) %d = Add(%a, %c) output %d }`},
		{"input", `graph { input %x: f32[2] %a = Relu(%x) %b = Neg(%a) output %a, %b }`, "a", "x", false,
			`graph { input %x: f32[2] %a = Relu(%x) %b = Neg(%x) output %a, %b }`},
		{"two outputs", `graph { input %x: f32[2] %a = Relu(%x) %b = Neg(%a) output %a, %b }`, "b", "a", false,
			`graph { input %x: f32[2] %a = Relu(%x) %b = Neg(%a) output %a, %b }`},
	} {
		t.Run(c.name, func(t *testing.T) {
			after(t, c.src, func(r *ir.Rewriter, g *ir.Graph) {
				if got := r.Bypass(g.Value(c.old), g.Value(c.by)); got != c.unused {
					t.Errorf("Bypass returned %v", got)
				}
				r.RemoveUnused()
			}, c.want)
		})
	}
}

func TestRemoveUnused(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[2]
  const %c: f32[2] = [1, 2]
  const %k: f32[2] = [3, 4]
  %a = Add(%x, %c)
  %b = Neg(%a)
  %y = test.If(%x) {then=graph { const %i: f32[] = 1 %t = Neg(%x) %u = Add(%k, %i) output %t }}
  output %y
}`, testOps)
	r := ir.NewRewriter(g)
	if n := r.RemoveUnused(); n != 6 {
		t.Errorf("removed %d, want 6: %%a %%b %%u and three constants\n%s", n, ir.Format(g))
	}
	if r.Fresh("u") != "u" || r.Fresh("c") != "c" || r.Fresh("t") == "t" {
		t.Error("the names of removed values are free again, and only they")
	}
}

func TestInlineBody(t *testing.T) {
	after(t, `graph {
  input %x: f32[2]
  %a = Relu(%x)
  %y, %z = test.If(%x) {then=graph {
    input %i: f32[2]
    const %k: f32[2] = [1, 2]
    %t = Add(%i, %k)
    %u = test.If(%t) {then=graph { %v = Neg(%t) output %v }}
    output %u, %i
  }}
  %e = Neg(%y)
  %f = Neg(%z)
  output %e, %f
}`, func(r *ir.Rewriter, g *ir.Graph) {
		n := g.Value("y").Def
		outs := r.Before(n).InlineBody(n.Body("then"), []*ir.Value{g.Value("a")})
		for i, v := range n.Out {
			r.ReplaceUses(v, outs[i])
		}
		r.Erase(n)
	}, `graph {
  input %x: f32[2]
  const %k: f32[2] = [1, 2]
  %a = Relu(%x)
  %t = Add(%a, %k)
  %u = test.If(%t) {then=graph { %v = Neg(%t) output %v }}
  %e = Neg(%u)
  %f = Neg(%a)
  output %e, %f
}`)
}

func TestSort(t *testing.T) {
	g := irtest.Parse(t, chain, testOps)
	r := ir.NewRewriter(g)
	n, err := r.Add("Neg", "late", nil, []*ir.Value{g.Value("x")})
	if err != nil {
		t.Fatal(err)
	}
	r.SetInput(g.Value("b").Def, 1, n.Out[0])
	if err := ir.Verify(g); err == nil || !strings.Contains(err.Error(), "%late is used before it is defined") {
		t.Errorf("verify: %v", err)
	}
	if err := r.Sort(); err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(g); err != nil {
		t.Error(err)
	}
	r.SetInput(n, 0, g.Value("d"))
	if err := r.Sort(); err == nil || !strings.Contains(err.Error(), "cycle") {
		t.Errorf("sorting a cycle: %v", err)
	}
}

func TestCloneIsApart(t *testing.T) {
	g := irtest.Parse(t, `graph {
  meta "k" = "v"
  param %w: f32[] = 1
  %y = test.If(%w) {then=graph { %t = Neg(%w) output %t }}
  output %y
  update %w = %y
}`, testOps)
	before := ir.Format(g)
	c := g.Clone()
	irtest.SameGraph(t, c, g)
	r := ir.NewRewriter(c)
	r.SetMeta("k", "other")
	r.SetData(c.Value("w"), tensor.Scalar(float32(5)))
	body := c.Nodes[0].Body("then")
	ir.NewRewriter(body).SetAttr(c.Nodes[0], "then", body)
	ir.NewRewriter(body).SetOp(body.Nodes[0], "Relu")
	if ir.Format(g) != before {
		t.Errorf("changing a clone changed the original:\n%s", ir.Format(g))
	}
	if err := ir.Verify(c); err != nil {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	const src = `graph {
  input %x: f32[2]
  param %w: f32[2] = [1, 2]
  %a = Relu(%x)
  %y = test.If(%a) {then=graph { %t = Neg(%a) output %t }}
  %n = Neg(%w)
  output %y
  update %w = %n
}`
	for _, c := range []struct {
		want  string
		spoil func(g *ir.Graph)
	}{
		{"two values are named %x", func(g *ir.Graph) { g.Value("a").Name = "x" }},
		{"a value has no name", func(g *ir.Graph) { g.Value("a").Name = "" }},
		{"%q: name is not registered", func(g *ir.Graph) { g.Value("a").Name = "q" }},
		{"only constants and parameters have data", func(g *ir.Graph) { g.Value("x").Data = tensor.Scalar(float32(1)) }},
		{"%w: type f32[2], data f32[]", func(g *ir.Graph) { g.Value("w").Data = tensor.Scalar(float32(1)) }},
		{"Relu %a: input 0 does not stand in the uses of %w", func(g *ir.Graph) { g.Nodes[0].In[0] = g.Value("w") }},
		{"input 0 (X) is missing", func(g *ir.Graph) { g.Nodes[0].In = nil }},
		{"has 2 inputs, expected at most 1", func(g *ir.Graph) { g.Nodes[0].In = append(g.Nodes[0].In, nil) }},
		{"has no output", func(g *ir.Graph) { g.Nodes[2].Out[0] = nil }},
		{"attribute k is not known", func(g *ir.Graph) { g.Nodes[0].Attrs.Set("k", 1) }},
		{"attribute then is int, expected graph", func(g *ir.Graph) { g.Nodes[1].Attrs.Set("then", 1) }},
		{"attribute then is missing", func(g *ir.Graph) { g.Nodes[1].Attrs = nil }},
		{"%a is used before it is defined", func(g *ir.Graph) { g.Nodes[0], g.Nodes[1] = g.Nodes[1], g.Nodes[0] }},
		{"subgraph has another parent", func(g *ir.Graph) { g.Nodes[1].Body("then").Parent = g.Clone() }},
		{"output %a names another producer", func(g *ir.Graph) { g.Value("a").Def = g.Nodes[2] }},
		{`an output of graph "" is not defined`, func(g *ir.Graph) { g.Outputs[0] = nil }},
		{"output %a of graph \"\" is defined outside of it", func(g *ir.Graph) { g.Nodes[1].Body("then").Outputs[0] = g.Value("a") }},
		{"update of %x: not a parameter", func(g *ir.Graph) { g.Updates[0].Param = g.Value("x") }},
		{"update of %w: f32[2] becomes f32[3]", func(g *ir.Graph) { g.Value("n").Type = ir.TensorType(tensor.F32, ir.Fixed(3)) }},
		{"output %a is f32[3], inferred f32[2]", func(g *ir.Graph) { g.Value("a").Type = ir.TensorType(tensor.F32, ir.Fixed(3)) }},
	} {
		g := irtest.Parse(t, src, testOps)
		c.spoil(g)
		if err := ir.Verify(g); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %s, got %v", c.want, err)
		}
	}
}
