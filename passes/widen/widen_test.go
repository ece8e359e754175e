package widen

import (
	"testing"

	"github.com/thriftc/thriftc/passes/internal/passtest"
)

func Test(t *testing.T) { passtest.Golden(t, Info) }
