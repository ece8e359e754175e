package all

import (
	"testing"

	"thriftc/passes/passtest"
)

func TestTable(t *testing.T) {
	if err := Table.Validate(); err != nil {
		t.Error(err)
	}
}

// TestClean checks on random graphs that cleaning keeps results.
func TestClean(t *testing.T) { passtest.Random(t, Table, "clean", 150) }
