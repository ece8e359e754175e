package bitlength

import (
	"context"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/internal/irtest"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/ops"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// toy is a problem of three classes: images of 1×6×6 with a bright corner each, and noise.
type toy struct {
	images []*tensor.Tensor
	labels []*tensor.Tensor
}

const toyBatch = 8

func newToy(batches int) *toy {
	rng := rand.New(rand.NewPCG(11, 12))
	d := &toy{}
	for range batches {
		x, labels := make([]float32, toyBatch*36), make([]int64, toyBatch)
		for b := range toyBatch {
			labels[b] = rng.Int64N(3)
			at := [3]int{0, 3, 21}[labels[b]]
			for i := range 36 {
				x[b*36+i] = float32(0.6 * rng.NormFloat64())
			}
			for i := range 9 {
				x[b*36+at+i%3+i/3*6] += 1
			}
		}
		d.images = append(d.images, tensor.Of(x, toyBatch, 1, 6, 6))
		d.labels = append(d.labels, tensor.Of(labels, toyBatch))
	}
	return d
}

func (d *toy) Len() int { return len(d.images) * toyBatch }

func (d *toy) Batches(int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) {
		for _, x := range d.images {
			if !yield([]*tensor.Tensor{x}, nil) {
				return
			}
		}
	}
}

// accuracy is the top-1 accuracy in percent; extra are further inputs of the graph.
func (d *toy) accuracy(ctx context.Context, g *ir.Graph, extra ...*tensor.Tensor) (float64, error) {
	right := 0
	for k, x := range d.images {
		out, err := ir.Eval(ctx, g, append([]*tensor.Tensor{x}, extra...))
		if err != nil {
			return 0, err
		}
		y := out[0].Float32s()
		for i, label := range d.labels[k].Int64s() {
			row := y[i*3:][:3]
			if row[label] == slices.Max(row) {
				right++
			}
		}
	}
	return 100 * float64(right) / float64(d.Len()), nil
}

// descent is a Trainer of plain gradient descent on the reference evaluation.
type descent struct {
	data  *toy
	steps int
	runs  []*passes.TrainRun
	gamma []float64 // after every call of Each
}

func (d *descent) Train(ctx context.Context, run *passes.TrainRun) (*passes.Trained, error) {
	d.runs = append(d.runs, run)
	g, vals := run.Graph.CloneMap()
	r := ir.NewRewriter(g)
	label := r.Input("label", ir.TensorType(tensor.I64, g.Inputs[0].Type.Dims[0]))
	loss, err := r.Add("thriftc.SoftmaxCrossEntropy", "loss", nil, []*ir.Value{g.Outputs[0], label})
	if err != nil {
		return nil, err
	}
	total := loss.Out[0]
	if run.Penalty != nil {
		total = r.Must1("Add", "total", nil, total, vals[run.Penalty])
	}
	var wrt []*ir.Value
	for _, p := range run.Params {
		wrt = append(wrt, vals[p.Value])
	}
	grads, err := ops.Gradients(r, total, wrt, nil)
	if err != nil {
		return nil, err
	}
	outs := []*ir.Value{loss.Out[0]}
	for i, dv := range grads {
		if dv == nil {
			dv = wrt[i] // does not matter to the loss, as a range of 8 bits of zeros
		}
		outs = append(outs, dv)
	}
	for _, u := range g.Updates {
		outs = append(outs, u.Next)
	}
	r.SetOutputs(outs...)
	if err := ir.Verify(g); err != nil {
		return nil, err
	}
	scalars := func() []*tensor.Tensor {
		var out []*tensor.Tensor
		for _, s := range run.Scalars {
			if s.Input != nil {
				out = append(out, tensor.Scalar(float32(s.Value)))
			}
		}
		return out
	}
	velocity := map[*ir.Value][]float64{}
	get := func(v *ir.Value) *tensor.Tensor { return vals[v].Data }
	each := func(step int) error {
		if run.Each == nil {
			return nil
		}
		_, err := run.Each(&passes.TrainProgress{Step: step, Steps: d.steps, Data: get})
		if len(run.Scalars) > 0 {
			d.gamma = append(d.gamma, run.Scalars[0].Value)
		}
		return err
	}
	if err := each(0); err != nil {
		return nil, err
	}
	for step := range d.steps {
		k := step % len(d.data.images)
		out, err := ir.Eval(ctx, g, append(append([]*tensor.Tensor{d.data.images[k]}, scalars()...), d.data.labels[k]))
		if err != nil {
			return nil, err
		}
		for i, p := range run.Params {
			if grads[i] == nil {
				continue
			}
			rate := run.Rate
			if p.Rate > 0 {
				rate = p.Rate
			}
			x, dx := slices.Clone(wrt[i].Data.Float32s()), out[i+1].Float64s()
			if velocity[wrt[i]] == nil {
				velocity[wrt[i]] = make([]float64, len(x))
			}
			for j := range x {
				v := &velocity[wrt[i]][j]
				*v = 0.9**v + dx[j]
				x[j] -= float32(rate * *v)
				if p.Max > p.Min {
					x[j] = min(max(x[j], float32(p.Min)), float32(p.Max))
				}
			}
			r.SetData(wrt[i], tensor.Of(x, wrt[i].Data.Shape()...))
		}
		for i, u := range g.Updates {
			r.SetData(u.Param, out[1+len(wrt)+i])
		}
		if run.Every > 0 && (step+1)%run.Every == 0 {
			if err := each(step + 1); err != nil {
				return nil, err
			}
		}
	}
	back := ir.NewRewriter(run.Graph)
	for _, v := range run.Graph.Consts {
		back.SetData(v, vals[v].Data)
	}
	return &passes.Trained{Steps: d.steps}, nil
}

// toyNet is a small residual network with batch norms, one with a negative
// scale and one with none, and a bias.
func toyNet(t *testing.T) *ir.Graph {
	t.Helper()
	weights := map[string][]int{"w1": {4, 1, 3, 3}, "w2": {4, 4, 3, 3}, "w3": {3, 16}}
	src := `graph "toy" {
  input %x: f32[N,1,6,6]
  const %w1: f32[4,1,3,3] = WEIGHTS
  const %g1: f32[4] = [0.9, -1.1, 1.3, 0.7]
  const %b1: f32[4] = [0.1, 0.2, -0.1, 0.3]
  const %m1: f32[4] = [0.05, -0.02, 0.1, 0]
  const %v1: f32[4] = [0.9, 1.1, 0.5, 0.8]
  const %w2: f32[4,4,3,3] = WEIGHTS
  const %g2: f32[4] = [0.5, 0.8, 0, -0.6]
  const %b2: f32[4] = [0, 0.1, 0.2, -0.2]
  const %m2: f32[4] = [0, 0.1, -0.1, 0.05]
  const %v2: f32[4] = [1.2, 0.7, 1, 0.6]
  const %w3: f32[3,16] = WEIGHTS
  const %b3: f32[3] = [0.1, 0, -0.1]
  %c1: f32[N,4,6,6] = Conv(%x, %w1) {pads=[1,1,1,1]} name "first"
  %n1: f32[N,4,6,6] = BatchNormalization(%c1, %g1, %b1, %m1, %v1)
  %r1: f32[N,4,6,6] = Relu(%n1)
  %c2: f32[N,4,6,6] = Conv(%r1, %w2) {pads=[1,1,1,1]} name "second"
  %n2: f32[N,4,6,6] = BatchNormalization(%c2, %g2, %b2, %m2, %v2)
  %a: f32[N,4,6,6] = Add(%n2, %r1)
  %r2: f32[N,4,6,6] = Relu(%a)
  %p: f32[N,4,2,2] = MaxPool(%r2) {kernel_shape=[3,3], strides=[3,3]}
  %f: f32[N,16] = Flatten(%p)
  %y: f32[N,3] = Gemm(%f, %w3, %b3) {transB=1} name "last"
  output %y
}`
	rng := rand.New(rand.NewPCG(1, 1))
	for _, name := range []string{"w1", "w2", "w3"} {
		n, _ := tensor.NumElems(weights[name])
		x := make([]string, n)
		for i := range x {
			x[i] = strconv.FormatFloat(0.4*rng.NormFloat64(), 'g', 6, 64)
		}
		src = strings.Replace(src, "WEIGHTS", "["+strings.Join(x, ", ")+"]", 1)
	}
	return irtest.Parse(t, src, ops.Table())
}

// toyContext is a context with the toy problem, its trainer and score.
func toyContext(t *testing.T, steps int) (*passes.Context, *descent) {
	d := newToy(8)
	tr := &descent{data: d, steps: steps}
	return &passes.Context{
		Context: t.Context(), Engine: reference{}, Calib: d, Trainer: tr,
		Score: func(ctx context.Context, g *ir.Graph) (float64, error) { return d.accuracy(ctx, g) },
	}, tr
}

func nearly(a, b, tol float64) bool { return math.Abs(a-b) <= tol }
