package conformance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
)

// tolerance bounds |got − want| by abs + rel·|want|.
type tolerance struct{ rel, abs float64 }

// onnxTolerance is what the official runner of the suites uses. Integers,
// booleans and strings must be equal.
var onnxTolerance = tolerance{1e-3, 1e-7}

// evaluate reads a model, runs its data sets and compares the results.
func evaluate(c testCase, tol tolerance) error {
	g, err := onnxio.Decode(c.model, "", ops.Table())
	if err != nil {
		return err
	}
	if len(c.sets) == 0 {
		return errors.New("the test has no data set")
	}
	for k, set := range c.sets {
		in, err := decodeAll(set.in, g.Inputs)
		if err != nil {
			return err
		}
		want, err := decodeAll(set.out, g.Outputs)
		if err != nil {
			return err
		}
		for i, v := range g.Inputs[:min(len(in), len(g.Inputs))] {
			in[i] = asBF16(in[i], v.Type.Elem)
		}
		got, err := ir.Eval(context.Background(), g, in)
		if err != nil {
			return err
		}
		if len(got) != len(want) {
			return fmt.Errorf("data set %d: %d outputs, expected %d", k, len(got), len(want))
		}
		for i := range got {
			if got[i] == nil {
				return fmt.Errorf("data set %d: output %d is missing", k, i)
			}
			if err := compare(got[i], asBF16(want[i], got[i].Elem()), tol); err != nil {
				return fmt.Errorf("data set %d: output %d: %w", k, i, err)
			}
		}
	}
	return nil
}

// asBF16 returns the bfloat16 numbers whose bits t holds, if that is what is
// expected: the suites store them as uint16, which numpy has.
func asBF16(t *tensor.Tensor, e tensor.Elem) *tensor.Tensor {
	if e == tensor.BF16 && t.Elem() == tensor.U16 {
		return t.WithElem(e)
	}
	return t
}

// decodeAll decodes the files of a data set, which belong to the given values.
func decodeAll(files [][]byte, vals []*ir.Value) ([]*tensor.Tensor, error) {
	var out []*tensor.Tensor
	for i, f := range files {
		var t *tensor.Tensor
		var err error
		if i < len(vals) && vals[i].Type.Elem.IsSequence() {
			t, err = decodeSequence(f, vals[i].Type.Elem.Member())
		} else {
			t, _, err = onnxio.DecodeTensor(f)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// decodeSequence reads a SequenceProto, whose field 3 holds the tensors.
func decodeSequence(data []byte, e tensor.Elem) (*tensor.Tensor, error) {
	var members []*tensor.Tensor
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		size := protowire.ConsumeFieldValue(num, typ, data[max(n, 0):])
		if n < 0 || size < 0 {
			return nil, errors.New("not a SequenceProto")
		}
		if num == 3 && typ == protowire.BytesType {
			b, _ := protowire.ConsumeBytes(data[n:])
			t, _, err := onnxio.DecodeTensor(b)
			if err != nil {
				return nil, err
			}
			if t.Elem() != e {
				return nil, fmt.Errorf("%v in a sequence of %v", t.Elem(), e)
			}
			members = append(members, t)
		}
		data = data[n+size:]
	}
	return tensor.SequenceOf(e, members...), nil
}

// compare reports how got differs from want: in type, in shape, or in an
// element by more than tol.
func compare(got, want *tensor.Tensor, tol tolerance) error {
	if got.Elem() != want.Elem() || !slices.Equal(got.Shape(), want.Shape()) {
		return fmt.Errorf("is %v%v, expected %v%v", got.Elem(), got.Shape(), want.Elem(), want.Shape())
	}
	if want.Elem().IsSequence() {
		for i, m := range want.Members() {
			if err := compare(got.Members()[i], m, tol); err != nil {
				return fmt.Errorf("member %d: %w", i, err)
			}
		}
		return nil
	}
	if !want.Elem().IsFloat() {
		if !tensor.Equal(got, want) {
			return fmt.Errorf("is %s, expected %s", brief(got), brief(want))
		}
		return nil
	}
	a, b := got.Float64s(), want.Float64s()
	for i := range a {
		same := a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i])
		if !same && !(math.Abs(a[i]-b[i]) <= tol.abs+tol.rel*math.Abs(b[i])) {
			return fmt.Errorf("element %d is %g, expected %g (tolerance %g + %g relative)\n got %s\nwant %s", i, a[i], b[i], tol.abs, tol.rel, brief(got), brief(want))
		}
	}
	return nil
}

// brief prints the first elements of a tensor.
func brief(t *tensor.Tensor) string {
	s := fmt.Sprint(t.Container())
	if t.Elem().IsFloat() {
		s = fmt.Sprint(t.Float64s())
	}
	if len(s) > 400 {
		s = s[:400] + " …"
	}
	return fmt.Sprintf("%v%v %s", t.Elem(), t.Shape(), s)
}
