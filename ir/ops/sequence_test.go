package ops

import (
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

func parseGraph(t *testing.T, src string) *ir.Graph {
	t.Helper()
	g, err := ir.Parse("test", src, Table())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestSequenceText prints and parses a graph with a sequence, and runs it.
func TestSequenceText(t *testing.T) {
	src := `graph "g" {
  input %x: f32[2]
  input %s: seq_f32[?]
  const %i: i64[] = -1
  %a: seq_f32[?] = SequenceInsert(%s, %x, %i)
  %b: seq_f32[?] = SequenceErase(%a)
  %c: f32[...] = ConcatFromSequence(%b) {axis=0}
  output %b
  output %c
}
`
	g := parseGraph(t, src)
	if got := ir.Format(g); got != src {
		t.Errorf("printed as\n%s", got)
	}
	if err := ir.Verify(g); err != nil {
		t.Error(err)
	}
	vec := func(x ...float32) *tensor.Tensor { return tensor.Of(x, len(x)) }
	out, err := ir.Eval(t.Context(), g, []*tensor.Tensor{vec(1, 2), tensor.SequenceOf(tensor.F32, vec(3), vec(4))})
	if err != nil {
		t.Fatal(err)
	}
	if want := tensor.SequenceOf(tensor.F32, vec(3), vec(1, 2)); !tensor.Equal(out[0], want) || !tensor.Equal(out[1], vec(3, 1, 2)) {
		t.Errorf("got %v", out)
	}
}

func TestSequenceErrors(t *testing.T) {
	x := tensor.Of([]float32{1, 2, 3}, 3)
	for _, c := range []struct{ node, want string }{
		{"SequenceAt(%s, %big)", "position 3 is outside a sequence of 3"},
		{"SequenceAt(%s, %low)", "position -1 is outside a sequence of 3"},
		{"SequenceErase(%s, %big)", "position 3 is outside a sequence of 3"},
		{"SequenceErase(%empty)", "position -1 is outside a sequence of 0"},
		{"SequenceInsert(%empty, %x, %big)", "position 3 is outside a sequence of 0"},
		{"ConcatFromSequence(%empty) {axis=0}", "the sequence is empty"},
		{"ConcatFromSequence(%s) {axis=1}", "axis 1 is outside rank 1"},
		{"SplitToSequence(%x, %big) {axis=1}", "axis 1 is outside rank 1"},
		{"SplitToSequence(%x, %low)", "split is -4, expected at least 1"},
		{"SplitToSequence(%x, %sizes)", "does not add up to dimension 3"},
	} {
		g := parseGraph(t, `graph {
  input %x: f32[3]
  const %big: i64[] = 3
  const %low: i64[] = -4
  const %sizes: i64[2] = [1, 1]
  %s = SplitToSequence(%x)
  %empty = SequenceEmpty()
  %y = `+c.node+`
  output %y
}`)
		if _, err := ir.Eval(t.Context(), g, []*tensor.Tensor{x}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, expected %q", c.node, err, c.want)
		}
	}
}

// TestSequenceRefused: only operators that say so take sequences, and a
// sequence is no constant.
func TestSequenceRefused(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"%y = Relu(%s)", "input 0 is seq_f32[2], expected a tensor"},
		{"%y = SequenceConstruct(%s)", "input 0 is seq_f32[2], expected a tensor"},
		{"%y = SequenceAt(%i, %i)", "input_sequence is i64[], expected a sequence"},
		{"%y = SequenceInsert(%s, %i)", "tensor is i64[], the sequence holds f32"},
		{"const %y: seq_f32[0] = []", "a sequence is computed"},
		{"const %y: seq_seq_f32[0] = []", "unknown element type"},
	} {
		_, err := ir.Parse("test", "graph {\n  input %s: seq_f32[2]\n  const %i: i64[] = 0\n  "+c.line+"\n  output %y\n}", Table())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, expected %q", c.line, err, c.want)
		}
	}
}

func TestStringNormalizer(t *testing.T) {
	g := parseGraph(t, `graph {
  input %x: string[?]
  %y = StringNormalizer(%x) {case_change_action="UPPER", stopwords=["Ab"]}
  output %y
}`)
	for _, c := range []struct{ in, want []string }{
		{[]string{"aB", "cd", "É"}, []string{"CD", "É"}},
		{[]string{"ab", "AB"}, []string{""}},
	} {
		out, err := ir.Eval(t.Context(), g, []*tensor.Tensor{tensor.Of(c.in, len(c.in))})
		if err != nil || !tensor.Equal(out[0], tensor.Of(c.want, len(c.want))) {
			t.Errorf("%q: %v %v, expected %q", c.in, out, err, c.want)
		}
	}
}
