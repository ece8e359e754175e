package all

import (
	"testing"

	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func TestTable(t *testing.T) {
	if err := Table.Validate(); err != nil {
		t.Error(err)
	}
}

// TestClean checks on random graphs that cleaning keeps results.
func TestClean(t *testing.T) { passtest.Random(t, Table, "clean", 150) }
