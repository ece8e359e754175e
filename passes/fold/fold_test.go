package fold

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func Test(t *testing.T) { passtest.Golden(t, Info) }

func TestRandom(t *testing.T) {
	passtest.Random(t, &passes.Table{Passes: []passes.Info{Info}}, "fold", 60)
}

// TestOmittedOutputs computes nodes that leave out outputs their operators have.
func TestOmittedOutputs(t *testing.T) {
	g := irtest.Parse(t, `graph {
  input %x: f32[2,4]
  const %k: f32[2,4] = [1, 2, 3, 4, 8, 7, 6, 5]
  const %one: f32[4] = [1, 1, 1, 1]
  const %two: i64[1] = [2]
  const %image: f32[1,1,2,2] = [1, 2, 3, 4]
  const %steps: f32[2,1,1] = [1, 2]
  const %w1: f32[1,1,1] = [1]
  const %w3: f32[1,3,1] = [1, 1, 1]
  const %w4: f32[1,4,1] = [1, 1, 1, 1]
  %layer = LayerNormalization(%k, %one)
  %drop = Dropout(%k)
  %bn = BatchNormalization(%k, %one, %one, %one, %one)
  %top = TopK(%k, %two)
  %unique = Unique(%k)
  %pool = MaxPool(%image) {kernel_shape = [2, 2]}
  %rnn = RNN(%steps, %w1, %w1) {hidden_size = 1}
  %gru = GRU(%steps, %w3, %w3) {hidden_size = 1}
  %lstm = LSTM(%steps, %w4, %w4) {hidden_size = 1}
  %quantised = DynamicQuantizeLinear(%k)
  %y = Add(%x, %k)
  %a = Sum(%layer, %drop, %bn)
  %b = Identity(%top)
  %c = Identity(%unique)
  %d = Identity(%pool)
  %e = Sum(%rnn, %gru, %lstm)
  %f = Identity(%quantised)
  output %a, %b, %d, %e, %c, %f, %y
}`, ops.Table())
	want, err := ir.Eval(t.Context(), g, []*tensor.Tensor{tensor.New(tensor.F32, 2, 4)})
	if err != nil {
		t.Fatal(err)
	}
	if err := Info.New().Run(&passes.Context{Context: t.Context(), Log: slog.New(slog.DiscardHandler)}, g); err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	got, err := ir.Eval(t.Context(), g, []*tensor.Tensor{tensor.New(tensor.F32, 2, 4)})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range g.Outputs[:4] {
		if slices.ContainsFunc(v.Def.In, func(in *ir.Value) bool { return !in.IsConst() }) {
			t.Errorf("%s is still computed from results", v.Name)
		}
	}
	for i := range want {
		irtest.Equal(t, g.Outputs[i].Name, got[i], want[i])
	}
}

// TestTotalGrowth asks for 300 results that are each just small enough, 19 MiB in all.
func TestTotalGrowth(t *testing.T) {
	var src strings.Builder
	src.WriteString("graph {\n  const %zero: f32[] = 0\n  const %n: f32[] = 16384\n  const %one: f32[] = 1\n")
	for i := range 300 {
		fmt.Fprintf(&src, "  %%a%d = Range(%%zero, %%n, %%one)\n  %%b%d = Neg(%%a%d)\n  output %%b%d\n", i, i, i, i)
	}
	src.WriteString("}")
	g := irtest.Parse(t, src.String(), ops.Table())
	if err := Info.New().Run(&passes.Context{Context: t.Context()}, g); err != nil {
		t.Fatal(err)
	}
	bytes := 0
	for _, c := range g.Consts {
		bytes += c.Data.Len() * c.Data.Elem().ContainerBytes()
	}
	if bytes < 15<<20 || bytes > 16<<20+3000 {
		t.Errorf("constants take %d bytes", bytes)
	}
}
