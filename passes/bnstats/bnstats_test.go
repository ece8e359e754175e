package bnstats

import (
	"testing"

	"thriftc/passes/passtest"
)

func Test(t *testing.T) { passtest.Golden(t, Info) }
