package dce

import (
	"testing"

	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func Test(t *testing.T) { passtest.Golden(t, Info) }

func TestRandom(t *testing.T) {
	passtest.Random(t, &passes.Table{Passes: []passes.Info{Info}}, "dce", 100)
}
