package train

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
	"github.com/thriftc/thriftc/passes/grad"
)

// step is the graph of one training step: forward, loss, backward, updates. Its
// outputs are the loss without the penalty, the logits, and the gradient's norm.
type step struct {
	graph *ir.Graph
	feeds []feed // one for each input of graph

	// averaged maps the names of what is exported to those of their averages; nil without EMA.
	averaged map[string]string
}

// feed gives an input of the step graph its value.
type feed func(f *feeding) *tensor.Tensor

// feeding is what the inputs of a step are made of.
type feeding struct {
	batch   *dataset.Batch
	teacher *tensor.Tensor // logits; nil without a teacher
	step    int            // from 0
	steps   int            // planned in all
}

// stepBuilder builds the graph of a step out of a model in inference form.
type stepBuilder struct {
	t      *passes.TrainRun
	recipe *Recipe
	r      *ir.Rewriter
	out    step
	next   map[*ir.Value]*ir.Value // what updates change a parameter to
	order  []*ir.Value             // its keys in order
	rates  map[rateKey]*ir.Value
}

// rateKey tells learning rates apart.
type rateKey struct {
	peak     float64
	constant bool
}

// newStep builds the step graph for batches of the shapes of the training data.
func newStep(t *passes.TrainRun, recipe *Recipe, shapes [][]int) (*step, error) {
	g, err := bind(t.Graph, t.Scalars, recipe.Batch, shapes)
	if err != nil {
		return nil, err
	}
	b := &stepBuilder{t: t, recipe: recipe, r: ir.NewRewriter(g), next: map[*ir.Value]*ir.Value{}, rates: map[rateKey]*ir.Value{}}
	data := 0
	for _, v := range t.Graph.Inputs {
		i := slices.IndexFunc(t.Scalars, func(s *passes.TrainScalar) bool { return s.Input == v })
		if i >= 0 {
			s := t.Scalars[i]
			b.out.feeds = append(b.out.feeds, func(*feeding) *tensor.Tensor { return tensor.Scalar(float32(s.Value)) })
			continue
		}
		k := data
		b.out.feeds = append(b.out.feeds, func(f *feeding) *tensor.Tensor { return f.batch.In[k] })
		data++
	}
	for _, u := range g.Updates {
		b.update(u.Param, u.Next)
	}
	params, err := b.params()
	if err != nil {
		return nil, err
	}
	if !t.FrozenStatistics {
		if err := b.normalize(); err != nil {
			return nil, err
		}
	}
	loss, logits, err := b.loss()
	if err != nil {
		return nil, err
	}
	total := loss
	if t.Penalty != nil {
		if total, err = b.add("Add", "loss.total", nil, loss, g.Value(t.Penalty.Name)); err != nil {
			return nil, err
		}
	}
	b.r.SetOutputs(loss, logits)
	if err := grad.Check(total, params); err != nil {
		return nil, fmt.Errorf("the model cannot be trained:\n%w", err)
	}
	grads, err := grad.Build(total, params)
	if err != nil {
		return nil, err
	}
	norm, err := b.add("thriftc.Norm", "gradient.norm", nil, grads...)
	if err != nil {
		return nil, err
	}
	b.r.SetOutputs(loss, logits, norm)
	if err := b.optimize(params, grads, norm); err != nil {
		return nil, err
	}
	if recipe.EMA > 0 {
		if err := b.average(); err != nil {
			return nil, err
		}
	}
	var updates []ir.Update
	for _, p := range b.order {
		updates = append(updates, ir.Update{Param: p, Next: b.next[p]})
	}
	b.r.SetUpdates(updates)
	b.r.RemoveUnused()
	b.out.graph = g
	return &b.out, ir.Verify(g)
}

// shrink makes the step compute results again to need less memory, as far as
// that goes; log is told when it does not go far enough.
func (s *step) shrink(budget int64, log *slog.Logger) error {
	before, after, err := grad.Recompute(s.graph, budget, nil)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("memory of a step's results: %.0f MiB, by computing some again %.0f MiB", float64(before)/(1<<20), float64(after)/(1<<20))
	if after > budget {
		log.Warn(text + "; less is not possible: try a smaller batch")
	} else {
		log.Info(text)
	}
	return ir.Verify(s.graph)
}

// value returns what stands for a value of the training's graph.
func (b *stepBuilder) value(v *ir.Value) *ir.Value { return b.r.Graph().Value(v.Name) }

// add adds a node of which the first output is named, and returns that.
func (b *stepBuilder) add(op, name string, attrs ir.Attrs, in ...*ir.Value) (*ir.Value, error) {
	n, err := b.r.Add(op, name, attrs, in, name)
	if err != nil {
		return nil, err
	}
	return n.Out[0], nil
}

// input adds an input of one number.
func (b *stepBuilder) input(name string, x func(f *feeding) float64) *ir.Value {
	b.out.feeds = append(b.out.feeds, func(f *feeding) *tensor.Tensor { return tensor.Scalar(float32(x(f))) })
	return b.r.Input(name, ir.TensorType(tensor.F32))
}

// update makes next what p becomes.
func (b *stepBuilder) update(p, next *ir.Value) {
	if b.next[p] == nil {
		b.order = append(b.order, p)
	}
	b.next[p] = next
}

// params makes parameters of the values to train.
func (b *stepBuilder) params() ([]*ir.Value, error) {
	var out []*ir.Value
	var errs []error
	for _, p := range b.t.Params {
		v := b.value(p.Value)
		switch {
		case v == nil || !v.HasData():
			errs = append(errs, fmt.Errorf("%%%s is no weight of the model", p.Value.Name))
			continue
		case v.Type.Elem != tensor.F32:
			errs = append(errs, fmt.Errorf("%%%s is %v; weights of f32 can be trained", v.Name, v.Type))
			continue
		}
		b.r.SetParam(v)
		out = append(out, v)
	}
	if len(out)+len(errs) == 0 {
		errs = append(errs, errors.New("the model has no weights of f32 to train"))
	}
	return out, errors.Join(errs...)
}

// normalize replaces batch norms by those that use the statistics of the batch
// and update the running ones.
func (b *stepBuilder) normalize() error {
	for _, n := range slices.Clone(b.r.Graph().Nodes) {
		if n.Op.Name != "BatchNormalization" {
			continue
		}
		if !n.In[3].HasData() || !n.In[4].HasData() {
			return fmt.Errorf("%s: its running statistics are computed, so that training cannot update them", n.Label())
		}
		at := b.r.Before(n)
		name := n.Out[0].Name
		m, err := at.Add("thriftc.BatchNormTrain", n.Name, ir.MakeAttrs("epsilon", n.Float("epsilon")), n.In[:3], name, name+".batch_mean", name+".batch_var")
		if err != nil {
			return err
		}
		rate := at.Float(name+".rate", 1-n.Float("momentum"))
		for i, s := range n.In[3:5] {
			b.r.SetParam(s)
			from := s
			if b.next[s] != nil { // statistics that several norms share
				from = b.next[s]
			}
			next, err := at.Add("thriftc.MovingAverage", "", nil, []*ir.Value{from, m.Out[1+i], rate}, s.Name+".next")
			if err != nil {
				return err
			}
			b.update(s, next.Out[0])
		}
		b.r.ReplaceUses(n.Out[0], m.Out[0])
		b.r.Erase(n)
	}
	return nil
}

// logitsOf returns the logits [N, classes] behind a model's first output,
// which may be probabilities.
func logitsOf(r *ir.Rewriter) (*ir.Value, error) {
	g := r.Graph()
	if len(g.Outputs) == 0 {
		return nil, errors.New("the model has no output")
	}
	v := g.Outputs[0]
	if d := v.Def; d != nil && d.Op.Probabilities {
		v = d.In[0]
	}
	shape, ok := v.Type.Static()
	if !ok || len(shape) < 2 || v.Type.Elem != tensor.F32 {
		return nil, fmt.Errorf("the model's first output is %v, expected one f32 number for each class", v.Type)
	}
	if len(shape) > 2 {
		n, err := r.Add("Flatten", "", nil, []*ir.Value{v}, "logits")
		if err != nil {
			return nil, err
		}
		v = n.Out[0]
	}
	return v, nil
}

// loss adds the loss of the model's first output, and returns it and the logits.
func (b *stepBuilder) loss() (loss, logits *ir.Value, err error) {
	if logits, err = logitsOf(b.r); err != nil {
		return nil, nil, err
	}
	var errs []error
	add := func(op, name string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
		if len(errs) > 0 {
			return in[0]
		}
		v, err := b.add(op, name, attrs, in...)
		if err != nil {
			errs = append(errs, err)
			return in[0]
		}
		return v
	}
	number := func(name string, x float64) *ir.Value { return b.r.Float(name, float32(x)) }
	classes := logits.Type.Dims
	target := b.r.Input("target", ir.TensorType(tensor.F32, classes...))
	b.out.feeds = append(b.out.feeds, func(f *feeding) *tensor.Tensor { return f.batch.Target })
	if b.recipe.Loss == "mse" {
		d := add("Sub", "loss.difference", nil, logits, target)
		loss = add("ReduceMean", "loss.data", ir.MakeAttrs("keepdims", 0), add("Mul", "loss.square", nil, d, d))
	} else {
		loss = add("thriftc.SoftmaxCrossEntropy", "loss.data", ir.MakeAttrs("label_smoothing", float32(b.recipe.LabelSmoothing)), logits, target)
	}
	if w := b.t.TeacherWeight; b.t.Teacher != nil && w > 0 {
		// τ²·KL(p ‖ q) = τ²·(Σp·log p − Σp·log q), with p and q the softmax of the logits
		// divided by τ; the gradient's size then does not depend on τ (arXiv 1503.02531, section 2.1).
		tau := b.recipe.Temperature
		scale := number("teacher.scale", 1/tau)
		teacher := b.r.Input("teacher", ir.TensorType(tensor.F32, classes...))
		b.out.feeds = append(b.out.feeds, func(f *feeding) *tensor.Tensor { return f.teacher })
		cold := add("Mul", "teacher.logits", nil, teacher, scale)
		p := add("Softmax", "teacher.probabilities", nil, cold)
		entropy := add("Mul", "teacher.plogp", nil, p, add("LogSoftmax", "teacher.log", nil, cold))
		entropy = add("Mul", "teacher.entropy", nil, add("ReduceSum", "teacher.sum", ir.MakeAttrs("keepdims", 0), entropy), number("teacher.share", 1/float64(classes[0].N)))
		cross := add("thriftc.SoftmaxCrossEntropy", "teacher.cross", nil, add("Mul", "teacher.student", nil, logits, scale), p)
		kl := add("Add", "teacher.kl", nil, cross, entropy)
		loss = add("Add", "loss.sum", nil,
			add("Mul", "loss.labels", nil, loss, number("labels.weight", 1-w)),
			add("Mul", "loss.teacher", nil, kl, number("teacher.weight", w*tau*tau)))
	}
	return loss, logits, errors.Join(errs...)
}

// optimize adds the optimiser's update of every parameter.
func (b *stepBuilder) optimize(params, grads []*ir.Value, norm *ir.Value) error {
	var scale *ir.Value
	if b.recipe.Clip > 0 {
		over, err := b.add("Div", "gradient.over", nil, b.r.Float("gradient.clip", float32(b.recipe.Clip)), norm)
		if err != nil {
			return err
		}
		if scale, err = b.add("Min", "gradient.scale", nil, over, b.r.Float("gradient.one", 1)); err != nil {
			return err
		}
	}
	var count *ir.Value // Adam's number of steps
	for i, p := range b.t.Params {
		w := params[i]
		slot := func(name string) *ir.Value {
			t, err := tensor.Alloc(tensor.F32, w.Data.Shape()...)
			if err != nil { // w itself was allocated
				panic(err)
			}
			return b.r.Param(w.Name+"."+name, t)
		}
		decay := b.recipe.WeightDecay
		if p.NoDecay {
			decay = 0
		}
		kind := p.Optimizer
		if kind == "" {
			kind = b.recipe.Optimizer
		}
		rate := b.rate(p)
		var op string
		var attrs ir.Attrs
		in, slots := []*ir.Value{w, grads[i]}, []*ir.Value{slot("momentum")}
		switch kind {
		case "adam", "adamw":
			op, slots = "thriftc.AdamUpdate", append(slots, slot("square"))
			if count == nil {
				count = b.input("step", func(f *feeding) float64 { return float64(f.step + 1) })
			}
			attrs = ir.MakeAttrs("beta1", float32(b.recipe.Beta1), "beta2", float32(b.recipe.Beta2), "epsilon", float32(b.recipe.Epsilon), "weight_decay", float32(decay))
			if kind == "adamw" {
				attrs.Set("decoupled", 1)
			}
			in = append(append(in, slots...), rate, count)
		case "sgd", "nesterov":
			op = "thriftc.SGDUpdate"
			attrs = ir.MakeAttrs("momentum", float32(b.recipe.Momentum), "weight_decay", float32(decay))
			if kind == "nesterov" {
				attrs.Set("nesterov", 1)
			}
			in = append(append(in, slots...), rate)
		default:
			return fmt.Errorf("there is no optimiser %q", kind)
		}
		if scale != nil {
			in = append(in, scale)
		}
		out := []string{w.Name + ".next"}
		for _, s := range slots {
			out = append(out, s.Name+".next")
		}
		n, err := b.r.Add(op, "", attrs, in, out...)
		if err != nil {
			return err
		}
		next := n.Out[0]
		if p.Min != 0 || p.Max != 0 {
			if next, err = b.add("Clip", w.Name+".limited", nil, next, b.r.Float(w.Name+".min", float32(p.Min)), b.r.Float(w.Name+".max", float32(p.Max))); err != nil {
				return err
			}
		}
		b.update(w, next)
		for k, s := range slots {
			b.update(s, n.Out[1+k])
		}
	}
	return nil
}

// rate returns the input for a parameter's learning rate.
func (b *stepBuilder) rate(p passes.TrainParam) *ir.Value {
	k := rateKey{p.Rate, p.Constant}
	if k.peak == 0 {
		k.peak = b.recipe.Rate
	}
	if b.rates[k] == nil {
		recipe := *b.recipe
		if k.constant {
			recipe.Schedule = "constant"
		}
		b.rates[k] = b.input("rate", func(f *feeding) float64 { return k.peak * recipe.factor(f.step, f.steps) })
	}
	return b.rates[k]
}

// average adds averages of everything that is exported.
func (b *stepBuilder) average() error {
	b.out.averaged = map[string]string{}
	move := b.input("average", func(f *feeding) float64 { return b.recipe.average(f.step) })
	for _, p := range slices.Clone(b.order) {
		if b.t.Graph.Value(p.Name) == nil { // the optimiser's own
			continue
		}
		mean := b.r.Param(p.Name+".average", p.Data)
		next, err := b.add("thriftc.MovingAverage", p.Name+".average.next", nil, mean, b.next[p], move)
		if err != nil {
			return err
		}
		b.out.averaged[p.Name] = mean.Name
		b.update(mean, next)
	}
	return nil
}

// inputs returns the tensors for the step graph's inputs.
func (s *step) inputs(f *feeding) []*tensor.Tensor {
	out := make([]*tensor.Tensor, len(s.feeds))
	for i, feed := range s.feeds {
		out[i] = feed(f)
	}
	return out
}

// finite reports whether x is a number.
func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
