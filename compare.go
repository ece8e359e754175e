package thriftc

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/internal/bench"
	"github.com/thriftc/thriftc/internal/dataset"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Tolerance says which differences from a reference count as equal:
// |difference| ≤ Abs + Rel·|reference|. The zero value allows none.
type Tolerance struct{ Abs, Rel float64 }

// Difference is how one value of two models, or of a model and its reference,
// differs over all samples.
type Difference struct {
	Name      string
	MaxAbs    float64 // largest |a − b|
	At        string  // where that is: sample and index
	A, B      float64 // the two values there
	SQNR      float64 // signal to difference, decibels; +Inf when equal
	Outside   int     // elements outside the tolerance
	Elements  int
	Agreement float64 // fraction of rows with the same largest element

	rows, same int
	sig, noise float64
}

// add compares a with the reference b; first is the number of its first sample.
func (d *Difference) add(a, b *tensor.Tensor, tol Tolerance, first int) error {
	if !slices.Equal(a.Shape(), b.Shape()) {
		return fmt.Errorf("%s: shape %v, expected %v", d.Name, a.Shape(), b.Shape())
	}
	x, y := a.Float64s(), b.Float64s()
	perSample := len(x)
	if a.Rank() > 1 && a.Shape()[0] > 0 {
		perSample /= a.Shape()[0]
	}
	for i := range x {
		diff := math.Abs(x[i] - y[i])
		if x[i] == y[i] || math.IsNaN(x[i]) && math.IsNaN(y[i]) {
			diff = 0
		} else if math.IsNaN(diff) {
			diff = math.Inf(1)
		}
		if !(diff <= tol.Abs+tol.Rel*math.Abs(y[i])) {
			d.Outside++
		}
		if diff > d.MaxAbs || d.At == "" {
			d.MaxAbs, d.A, d.B = diff, x[i], y[i]
			d.At = fmt.Sprintf("sample %d, element %d", first+i/max(perSample, 1), i%max(perSample, 1))
		}
		d.sig += y[i] * y[i]
		d.noise += diff * diff
	}
	d.Elements += len(x)
	if perSample > 1 {
		for i := 0; i+perSample <= len(x); i += perSample {
			d.rows++
			if argmax(x[i:i+perSample]) == argmax(y[i:i+perSample]) {
				d.same++
			}
		}
	}
	return nil
}

func argmax(x []float64) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

func (d *Difference) finish() {
	if d.SQNR = math.Inf(1); d.noise > 0 {
		d.SQNR = 10 * math.Log10(d.sig/d.noise)
	}
	if d.Agreement = 1; d.rows > 0 {
		d.Agreement = float64(d.same) / float64(d.rows)
	}
}

// Comparison is how two models, or a model and its references, differ.
type Comparison struct {
	Equal  bool         // all outputs are within the tolerance
	Values []Difference // inner values in the order of the first model, then the outputs
}

// CompareOptions say what is compared and how.
type CompareOptions struct {
	Data      string // data description
	Samples   int    // how many samples of it, 0: all
	Tolerance Tolerance
	Threads   int // 0: all cores that the process may use
}

// Compare runs two models on the same samples and compares every value whose name and shape both have,
// then the outputs; a is the reference. If an output is outside the tolerance there is a comparison and an error of kind [Differ].
func Compare(ctx context.Context, a, b *Model, o CompareOptions) (*Comparison, error) {
	if len(a.Graph.Outputs) != len(b.Graph.Outputs) {
		return nil, &Error{Kind: Differ, Err: fmt.Errorf("%s has %d outputs, %s has %d", a.File, len(a.Graph.Outputs), b.File, len(b.Graph.Outputs))}
	}
	set, err := dataset.Open(o.Data)
	if err != nil {
		return nil, err
	}
	if o.Samples > 0 {
		set = set.Take(o.Samples)
	}
	names := commonValues(a.Graph, b.Graph)
	names = slices.DeleteFunc(names, func(n string) bool { return a.Graph.Value(n).IsOutput() || b.Graph.Value(n).IsOutput() })
	diffs := make([]Difference, len(names)+len(a.Graph.Outputs))
	for i := range diffs {
		if i < len(names) {
			diffs[i].Name = names[i]
		} else {
			diffs[i].Name = a.Graph.Outputs[i-len(names)].Name
		}
	}
	if err := runBoth(ctx, withOutputs(a.Graph, names), withOutputs(b.Graph, names), set, &o, diffs); err != nil {
		return nil, err
	}
	return conclude(diffs, len(a.Graph.Outputs), o.Tolerance)
}

// conclude finishes a comparison; the last values are outputs and decide it.
func conclude(diffs []Difference, outputs int, tol Tolerance) (*Comparison, error) {
	outside, worst := 0, &diffs[len(diffs)-outputs]
	for i := range diffs {
		d := &diffs[i]
		d.finish()
		if i >= len(diffs)-outputs {
			outside += d.Outside
			if d.MaxAbs > worst.MaxAbs {
				worst = d
			}
		}
	}
	c := &Comparison{Equal: outside == 0, Values: diffs}
	if !c.Equal {
		return c, &Error{Kind: Differ, Err: fmt.Errorf("results differ: output %q by up to %.4g at %s: %v, expected %v (%d elements outside |difference| ≤ %g + %g·|reference|)",
			worst.Name, worst.MaxAbs, worst.At, worst.A, worst.B, outside, tol.Abs, tol.Rel)}
	}
	return c, nil
}

// ComparePairs runs a model on the inputs of ONNX test data sets and compares its outputs with theirs: dir holds
// input_k.pb and output_k.pb, or folders test_data_set_N of such pairs. A quantised model may differ by one output step.
// If an output is outside the tolerance there is a comparison and an error of kind [Differ]. Data and Samples have no effect.
func ComparePairs(ctx context.Context, m *Model, dir string, o CompareOptions) (*Comparison, error) {
	g := m.Graph
	dirs, err := dataset.PairDirs(dir)
	if err != nil {
		return nil, err
	}
	exe, err := bench.Compile(ctx, g, backends.Options{Threads: o.Threads})
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	diffs := make([]Difference, len(g.Outputs))
	tols := make([]outputTolerance, len(g.Outputs))
	for i, v := range g.Outputs {
		diffs[i].Name, tols[i] = v.Name, toleranceOf(v, o.Tolerance)
	}
	for k, dir := range dirs {
		pair, err := dataset.ReadPair(dir)
		if err != nil {
			return nil, err
		}
		if len(pair.In) != len(g.Inputs) || len(pair.Out) != len(g.Outputs) {
			return nil, fmt.Errorf("%s holds %d inputs and %d outputs, the model has %d and %d", dir, len(pair.In), len(pair.Out), len(g.Inputs), len(g.Outputs))
		}
		got, err := exe.Run(ctx, pair.In)
		if err != nil {
			return nil, err
		}
		for i := range got {
			if err := diffs[i].add(got[i], pair.Out[i], o.Tolerance, k); err != nil {
				return nil, &Error{Kind: Differ, Err: err}
			}
			if tols[i].quantised {
				diffs[i].Outside = tols[i].outside(got[i], pair.Out[i], diffs[i].Outside)
			}
		}
	}
	return conclude(diffs, len(diffs), o.Tolerance)
}

// withOutputs returns a copy of g with the named values as additional first outputs.
func withOutputs(g *ir.Graph, names []string) *ir.Graph {
	c := g.Clone()
	var outs []*ir.Value
	for _, n := range names {
		outs = append(outs, c.Value(n))
	}
	ir.NewRewriter(c).SetOutputs(append(outs, c.Outputs...)...)
	return c
}

func runBoth(ctx context.Context, a, b *ir.Graph, set *dataset.Set, o *CompareOptions, diffs []Difference) error {
	srcA, err := set.For(a)
	if err != nil {
		return err
	}
	srcB, err := set.For(b)
	if err != nil {
		return err
	}
	exeA, err := bench.Compile(ctx, a, backends.Options{Threads: o.Threads})
	if err != nil {
		return err
	}
	defer exeA.Close()
	exeB, err := bench.Compile(ctx, b, backends.Options{Threads: o.Threads})
	if err != nil {
		return err
	}
	defer exeB.Close()
	next, stop := iterPull(srcB.Batches(1))
	defer stop()
	done := 0
	for inA, err := range srcA.Batches(1) {
		if err != nil {
			return err
		}
		inB, err := next()
		if err != nil {
			return err
		}
		outA, err := exeA.Run(ctx, inA)
		if err != nil {
			return err
		}
		outB, err := exeB.Run(ctx, inB)
		if err != nil {
			return err
		}
		for i := range diffs {
			if err := diffs[i].add(outB[i], outA[i], o.Tolerance, done); err != nil {
				return &Error{Kind: Differ, Err: err}
			}
		}
		done++
	}
	return nil
}

// commonValues returns the names of the float results that both graphs
// compute in the same shape, in a's order.
func commonValues(a, b *ir.Graph) []string {
	inB := map[string]*ir.Value{}
	for _, n := range b.Nodes {
		for _, v := range n.Out {
			if v != nil {
				inB[v.Name] = v
			}
		}
	}
	var out []string
	for _, n := range a.Nodes {
		for _, v := range n.Out {
			if v == nil || !v.Type.Elem.IsFloat() {
				continue
			}
			w := inB[v.Name]
			if w != nil && w.Type.Elem == v.Type.Elem && v.Type.Compatible(w.Type) && !slices.Contains(out, v.Name) {
				out = append(out, v.Name)
			}
		}
	}
	return out
}

// iterPull turns a sequence of batches into a function that returns the next.
func iterPull(seq iter.Seq2[[]*tensor.Tensor, error]) (next func() ([]*tensor.Tensor, error), stop func()) {
	pull, stop := iter.Pull2(seq)
	return func() ([]*tensor.Tensor, error) {
		t, err, ok := pull()
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		return t, err
	}, stop
}
