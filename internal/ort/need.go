package ort

import (
	"os"
	"testing"
)

// Need skips the test when ONNX Runtime is not installed; where CI is set that
// is a failure.
func Need(t testing.TB) {
	t.Helper()
	err := Available()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skipf("NOT CHECKED against ONNX Runtime: %v", err)
	}
}
