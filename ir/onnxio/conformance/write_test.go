package conformance

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
)

// TestEveryOpset writes each model of the official suite at every opset, which the writer
// does only in forms that the opset has, and runs what it wrote: older forms must
// mean the same. Models that are refused at an opset are counted.
func TestEveryOpset(t *testing.T) {
	const a = 0
	skip := readSkips(t, filepath.Join("testdata", "skip-"+archives[a].version+".txt"))
	written, refused := 0, 0
	for _, c := range readSuite(t, archives[a].version, filepath.Join(shared(t, "onnx-node"), archives[a].file)) {
		if skip.reason(c.name) != "" {
			continue
		}
		g, err := onnxio.Decode(c.model, "", ops.Table())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for opset := onnxio.MinWriteOpset; opset <= onnxio.MaxWriteOpset; opset++ {
			data, err := onnxio.Encode(g, onnxio.WriteOptions{Opset: opset})
			var u *onnxio.Unsupported
			switch {
			case errors.As(err, &u):
				refused++
				continue
			case err == nil:
				err = evaluate(testCase{c.name, data, c.sets}, onnxTolerance)
			}
			if err != nil {
				t.Errorf("%s at opset %d: %v", c.name, opset, err)
			}
			written++
		}
	}
	t.Logf("%d models written and run, %d refused", written, refused)
	if written < 10*refused {
		t.Error("more is refused than before")
	}
}
