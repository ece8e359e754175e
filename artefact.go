package thriftc

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/thriftc/thriftc/backends/onnx"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
)

// artefact is what a run leaves: a model with its measurements and the recipe that repeats it.
type artefact struct {
	measurer
	out    *output
	rec    *recipe
	start  time.Time
	format onnx.Format
	opset  int // 0: the dialect's
}

// write writes model.onnx, compares it, as anybody would read it, with the model before, writes
// the report and the recipe, and puts all files into place. bytesBefore is the size of the file before, 0 if
// that was as large. extra is called when everything is measured, and may add files.
func (a *artefact) write(ctx context.Context, before, after *ir.Graph, bytesBefore int64, extra func() error) error {
	model := a.out.path(modelFile)
	if err := onnx.Write(model, after, a.format, onnxio.WriteOptions{Opset: a.opset}); err != nil {
		return err
	}
	written, err := open(model, true)
	if err != nil {
		return fmt.Errorf("the written model cannot be read back: %w", err)
	}
	if err := a.selfCheck(ctx, after, written.Graph); err != nil {
		return err
	}
	for _, text := range onnx.RuntimeNotes(written.Graph, a.format, cmp.Or(a.opset, onnx.OpsetFor(after, a.format))) {
		a.rep.Warn(text)
	}
	if err := a.measure(ctx, before, written.Graph, cmp.Or(bytesBefore, written.Bytes), written.Bytes); err != nil {
		return err
	}
	if err := extra(); err != nil {
		return err
	}
	a.rep.WallSeconds = time.Since(a.start).Seconds()
	text, err := a.rec.encode(a.rep.Command)
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.out.path("recipe.yaml"), text, 0o644); err != nil {
		return err
	}
	if err := a.rep.Write(a.out.path("report.json")); err != nil {
		return err
	}
	return a.out.commit()
}
