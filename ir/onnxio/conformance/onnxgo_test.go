package conformance

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/owulveryck/onnx-go"
	"github.com/owulveryck/onnx-go/backend"
	"github.com/owulveryck/onnx-go/backend/testbackend"
	_ "github.com/owulveryck/onnx-go/backend/testbackend/onnx"
	"google.golang.org/protobuf/proto"
	gorgonia "gorgonia.org/tensor"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio/onnxgo"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

var _ backend.ComputationBackend = (*onnxgo.Backend)(nil)

// TestOnnxGo runs the ready cases of onnx-go through its decoder and our
// implementation of its backend.
func TestOnnxGo(t *testing.T) {
	skip := readSkips(t, filepath.Join("testdata", "skip-onnxgo.txt"))
	cases := testbackend.GetAllRegisteredTests()
	slices.SortFunc(cases, func(a, b func() *testbackend.TestCase) int { return cmp.Compare(a().Title, b().Title) })
	var s summary
	for _, c := range cases {
		tc := c()
		t.Run(tc.Title, func(t *testing.T) {
			s.add("onnx-go", verdict(t, runOnnxGo(tc), skip.reason("onnx-go/"+tc.Title)))
		})
	}
	s.finish(t, len(cases), skip)
}

func runOnnxGo(tc *testbackend.TestCase) (err error) {
	defer func() { // onnx-go panics on some models that it cannot decode
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	var m onnxpb.ModelProto
	if err := proto.Unmarshal(tc.ModelB, &m); err != nil {
		return err
	}
	b := onnxgo.New(ops.Table(), int(m.OpsetImport[0].GetVersion()), func(g *ir.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		return ir.Eval(context.Background(), g, in)
	})
	model := onnx.NewModel(b)
	if err := model.UnmarshalBinary(tc.ModelB); err != nil {
		return err
	}
	for i, in := range tc.Input {
		if in, err = declared(in, m.Graph.Input[i]); err != nil {
			return err
		}
		if err := model.SetInput(i, in); err != nil {
			return err
		}
	}
	if err := b.Run(); err != nil {
		return err
	}
	out, err := model.GetOutputTensors()
	if err != nil {
		return err
	}
	if len(out) != len(tc.ExpectedOutput) {
		return fmt.Errorf("%d outputs, expected %d", len(out), len(tc.ExpectedOutput))
	}
	for i := range out {
		got, err := plain(out[i])
		if err != nil {
			return err
		}
		expected, err := declared(tc.ExpectedOutput[i], m.Graph.Output[i])
		if err != nil {
			return err
		}
		want, err := plain(expected)
		if err != nil {
			return err
		}
		if err := compare(got, want, onnxTolerance); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	return nil
}

// declared returns a tensor of a case in the type that the case's model declares.
// The program that made the cases turned int64 tensors of one element into
// float32, and scalars into lists of one.
func declared(g gorgonia.Tensor, info *onnxpb.ValueInfoProto) (gorgonia.Tensor, error) {
	t := info.GetType().GetTensorType()
	e := tensor.FromONNXType(int(t.GetElemType()))
	have, err := plain(g)
	if err != nil || have.Len() != 1 || !e.IsInt() || have.Elem() != tensor.F32 {
		return g, err
	}
	if len(t.GetShape().GetDim()) == 0 {
		have = have.Reshape()
	}
	x := have.Int64s()[0]
	if float32(x) != have.Float32s()[0] {
		return nil, fmt.Errorf("%v is not an integer", have.Float32s()[0])
	}
	var backing any
	switch e {
	case tensor.I64:
		backing = []int64{x}
	case tensor.I32:
		backing = []int32{int32(x)}
	default:
		return g, nil
	}
	if have.Rank() == 0 {
		if e == tensor.I64 {
			return gorgonia.New(gorgonia.FromScalar(x)), nil
		}
		return gorgonia.New(gorgonia.FromScalar(int32(x))), nil
	}
	return gorgonia.New(gorgonia.WithShape(1), gorgonia.WithBacking(backing)), nil
}

// plain converts the tensors of gorgonia that results come in.
func plain(g gorgonia.Tensor) (*tensor.Tensor, error) {
	shape := []int(g.Shape())
	switch x := g.Data().(type) {
	case []float32:
		return tensor.Of(x, shape...), nil
	case []float64:
		return tensor.Of(x, shape...), nil
	case []int64:
		return tensor.Of(x, shape...), nil
	case []int32:
		return tensor.Of(x, shape...), nil
	case []int8:
		return tensor.Of(x, shape...), nil
	case []uint8:
		return tensor.Of(x, shape...), nil
	case []bool:
		return tensor.Of(x, shape...), nil
	case float32:
		return tensor.Of([]float32{x}, shape...), nil
	case int64:
		return tensor.Of([]int64{x}, shape...), nil
	case bool:
		return tensor.Of([]bool{x}, shape...), nil
	}
	return nil, fmt.Errorf("elements of type %v", g.Dtype())
}
