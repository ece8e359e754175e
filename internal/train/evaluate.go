package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// evalBatch is how many samples an evaluation runs at once.
const evalBatch = 100

// exportedNames lists the constants and parameters of the training's graph that
// steps change, in order.
func (r *run) exportedNames() []string {
	var out []string
	for _, u := range r.step.graph.Updates {
		if v := r.t.Graph.Value(u.Param.Name); v != nil && v.HasData() {
			out = append(out, v.Name)
		}
	}
	return out
}

// value returns what a constant or parameter of the training's graph is now,
// averaged over the steps if they are.
func (r *run) value(name string) *tensor.Tensor {
	if a, ok := r.step.averaged[name]; ok {
		name = a
	}
	return r.state.Get(name)
}

// exported returns what the result would be if training ended now.
func (r *run) exported() map[string]*tensor.Tensor {
	out := map[string]*tensor.Tensor{}
	for _, name := range r.exportedNames() {
		out[name] = r.value(name)
	}
	return out
}

// inference returns a copy of the training's graph as it is evaluated: all
// parameters are constants, those of values hold other numbers, and scalars have their present values.
func (r *run) inference(values map[string]*tensor.Tensor) (*ir.Graph, error) {
	g := r.t.Graph.Clone()
	rw := ir.NewRewriter(g)
	rw.SetUpdates(nil)
	for _, s := range r.t.Scalars {
		if s.Input == nil {
			continue
		}
		in := g.Value(s.Input.Name)
		if in == nil || in.Kind != ir.Input {
			return nil, fmt.Errorf("the scalar %s is fed to %%%s, which is no input", s.Name, s.Input.Name)
		}
		rw.ReplaceUses(in, rw.Float(in.Name, float32(s.Value)))
		rw.RemoveInput(in)
	}
	for _, v := range g.Consts {
		if t := values[v.Name]; t != nil {
			rw.SetData(v, t)
		}
		if v.Kind == ir.Param {
			rw.SetConst(v)
		}
	}
	rw.RemoveUnused()
	return g, nil
}

// evaluate returns the present accuracy on labelled data, 0 to 1.
func (r *run) evaluate(ctx context.Context, set *dataset.Set) (float64, error) {
	g, err := r.inference(r.exported())
	if err != nil {
		return 0, err
	}
	g = freeBatch(g)
	src, err := set.For(g)
	if err != nil {
		return 0, err
	}
	exe, err := r.tr.compile(ctx, g, nil)
	if err != nil {
		return 0, err
	}
	defer exe.Close()
	acc, err := dataset.Evaluate(ctx, exe, src, evalBatch)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("evaluation after step %d: %w", r.Step, err)
	}
	return acc.Top1, err
}

// compileTeacher makes the executable that gives the teacher's logits.
func (r *run) compileTeacher(ctx context.Context, shapes [][]int) error {
	g, err := bind(r.t.Teacher, nil, r.recipe.Batch, shapes)
	if err != nil {
		return fmt.Errorf("teacher: %w", err)
	}
	rw := ir.NewRewriter(g)
	logits, err := logitsOf(rw)
	if err != nil {
		return fmt.Errorf("teacher: %w", err)
	}
	rw.SetOutputs(logits)
	rw.SetUpdates(nil)
	rw.RemoveUnused()
	if own := r.step.graph.Outputs[1].Type; !own.Compatible(logits.Type) {
		return fmt.Errorf("the teacher's logits are %v, the model's %v", logits.Type, own)
	}
	r.teacher, err = r.tr.compile(ctx, g, nil)
	return err
}

// finish makes the result: the best evaluation, and statistics measured anew.
func (r *run) finish(ctx context.Context) error {
	result := r.exported()
	if r.recipe.KeepBest && r.best != nil {
		result = r.best
	}
	if r.recipe.Reestimate > 0 {
		if err := r.reestimate(ctx, result); err != nil {
			return err
		}
	}
	r.result = result
	return nil
}

// reestimate replaces the running statistics in values by the means of those of
// the batches that would come next, augmented as in training: the weights are used to
// the statistics of such batches. (Where zero is black and not the mean, cropping changes
// them much: MLPerf Tiny's ResNet-8 lost four points with those of plain pictures.)
func (r *run) reestimate(ctx context.Context, values map[string]*tensor.Tensor) error {
	g, err := r.inference(values)
	if err != nil {
		return err
	}
	if g, err = bind(g, nil, r.recipe.Batch, r.feed.Shapes()); err != nil {
		return err
	}
	rw := ir.NewRewriter(g)
	var names []string
	var stats []*ir.Value
	for _, n := range slices.Clone(g.Nodes) {
		if n.Op.Name != "BatchNormalization" {
			continue
		}
		m, err := rw.Before(n).Add("thriftc.BatchNormTrain", n.Name, ir.MakeAttrs("epsilon", n.Float("epsilon")), n.In[:3])
		if err != nil {
			return err
		}
		names = append(names, n.In[3].Name, n.In[4].Name)
		stats = append(stats, m.Out[1], m.Out[2])
		rw.ReplaceUses(n.Out[0], m.Out[0])
		rw.Erase(n)
	}
	if len(stats) == 0 {
		return nil
	}
	rw.SetOutputs(stats...)
	rw.RemoveUnused()
	exe, err := r.tr.compile(ctx, g, nil)
	if err != nil {
		return err
	}
	defer exe.Close()
	next, stop, err := r.feed.Start(ctx, r.Step)
	if err != nil {
		return err
	}
	defer stop()
	sums := make([][]float64, len(stats))
	for range r.recipe.Reestimate {
		b, err := next()
		if err != nil {
			return err
		}
		out, err := exe.Run(ctx, b.In)
		if err != nil {
			return err
		}
		for i, t := range out {
			x := t.Float64s()
			if sums[i] == nil {
				sums[i] = make([]float64, len(x))
			}
			for k, v := range x {
				sums[i][k] += v
			}
		}
	}
	for i, s := range sums {
		mean := make([]float32, len(s))
		for k, v := range s {
			mean[k] = float32(v / float64(r.recipe.Reestimate))
		}
		values[names[i]] = tensor.Of(mean, len(mean))
	}
	return nil
}

// writeBack puts the result into the training's graph.
func (r *run) writeBack() {
	rw := ir.NewRewriter(r.t.Graph)
	for _, v := range r.t.Graph.Consts {
		if t := r.result[v.Name]; t != nil {
			rw.SetData(v, t)
		}
	}
}
