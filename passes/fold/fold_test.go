package fold

import (
	"fmt"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func Test(t *testing.T) { passtest.Golden(t, Info) }

func TestRandom(t *testing.T) {
	passtest.Random(t, &passes.Table{Passes: []passes.Info{Info}}, "fold", 60)
}

// TestTotalGrowth asks for 300 results that are each just small enough, 19 MiB in all.
func TestTotalGrowth(t *testing.T) {
	var src strings.Builder
	src.WriteString("graph {\n  const %s: i64[1] = [16384]\n")
	for i := range 300 {
		fmt.Fprintf(&src, "  %%a%d = ConstantOfShape(%%s)\n  %%b%d = Neg(%%a%d)\n  output %%b%d\n", i, i, i, i)
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
