package quantize

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/thriftc/thriftc/backends"
	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
	"github.com/thriftc/thriftc/passes"
)

// batchBytes bounds the memory of the values observed at a time.
const batchBytes = 32 << 20

// maxBatch is the largest batch that calibration runs.
const maxBatch = 16

// probe is a graph and the values in it that calibration looks at.
type probe struct {
	g    *ir.Graph
	vals []*ir.Value
}

// stream runs the calibration samples through the graphs of probes, which
// observe equally many values, and hands those of each batch to see: value j of
// every probe, and the number of samples before the batch. Different j are seen concurrently, each in
// the order of the samples. With limit > 0 it stops after the batch that makes limit samples full.
func stream(c *passes.Context, what string, limit int, probes []probe, see func(j, first int, t []*tensor.Tensor) error) error {
	if c.Engine == nil {
		return errors.New("running calibration data needs an engine")
	}
	size, total := batchSize(probes), c.Calib.Len()
	if limit > 0 {
		total = min(total, limit)
	}
	runs := make([]*rerun, len(probes))
	for i, p := range probes {
		exe, err := compile(c, p)
		if err != nil {
			return err
		}
		defer exe.Close()
		runs[i] = &rerun{Executable: exe}
	}
	done := 0
	for in, err := range c.Calib.Batches(size) {
		if err != nil {
			return err
		}
		if err := c.Err(); err != nil {
			return err
		}
		n := firstDim(in)
		outs := make([][]*tensor.Tensor, len(probes[0].vals))
		for i := range probes {
			out, err := runs[i].run(c, in, n)
			if err != nil {
				return err
			}
			for j, t := range out {
				outs[j] = append(outs[j], t)
			}
		}
		jobs := make([]func() error, len(outs))
		for j, v := range probes[0].vals {
			jobs[j] = func() error {
				if err := see(j, done, outs[j]); err != nil {
					return fmt.Errorf("%%%s: %w", v.Name, err)
				}
				return nil
			}
		}
		if err := inParallel(c.Threads, jobs); err != nil {
			return err
		}
		if done += n; c.Progress != nil {
			c.Progress(what, done, total)
		}
		if done >= total {
			break
		}
	}
	if done == 0 {
		return errors.New("there are no calibration samples")
	}
	return nil
}

// rerun is an executable whose results are kept in the same memory from run to run.
type rerun struct {
	backends.Executable
	batch  int              // samples of the run before
	shapes [][]int          // of its results
	elems  []tensor.Elem    //
	own    []*tensor.Tensor // results of the runs from the second of a batch size on
}

// run runs a batch of n samples; the results hold until the next call.
func (r *rerun) run(c *passes.Context, in []*tensor.Tensor, n int) ([]*tensor.Tensor, error) {
	if n != r.batch {
		out, err := r.Run(c, in)
		r.batch, r.shapes, r.elems, r.own = n, nil, nil, nil
		for _, t := range out {
			r.shapes, r.elems = append(r.shapes, t.Shape()), append(r.elems, t.Elem())
		}
		return out, err // which may share memory with in
	}
	if r.own == nil {
		for j, shape := range r.shapes {
			t, err := tensor.Alloc(r.elems[j], shape...)
			if err != nil {
				return nil, err
			}
			r.own = append(r.own, t)
		}
	}
	return r.own, r.RunInto(c, in, r.own)
}

func firstDim(in []*tensor.Tensor) int {
	for _, t := range in {
		if t.Rank() > 0 {
			return t.Shape()[0]
		}
	}
	return 1
}

// compile prepares a copy of the probe's graph that computes its values only.
func compile(c *passes.Context, p probe) (backends.Executable, error) {
	g, vals := p.g.CloneMap()
	r := ir.NewRewriter(g)
	outs := make([]*ir.Value, len(p.vals))
	for j, v := range p.vals {
		outs[j] = vals[v]
	}
	r.SetOutputs(outs...)
	r.RemoveUnused()
	return c.Engine.Compile(c, g, backends.Options{Threads: c.Threads})
}

// batchSize chooses how many samples run at a time: what the model fixes, or
// as many as keep the observed values within batchBytes.
func batchSize(probes []probe) int {
	bytes := 0
	for _, p := range probes {
		for _, v := range p.g.Inputs {
			if len(v.Type.Dims) > 0 && v.Type.Dims[0].Known() {
				return max(1, v.Type.Dims[0].N)
			}
		}
		for _, v := range p.vals {
			n := 4
			for _, d := range v.Type.Dims {
				if d.Known() {
					n *= d.N
				}
			}
			bytes += n
		}
	}
	return min(max(batchBytes/max(bytes, 1), 1), maxBatch)
}

// inParallel runs jobs on the given number of goroutines (0: all cores) and
// returns the error of the first job that fails, in their order.
func inParallel(threads int, jobs []func() error) error {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	errs := make([]error, len(jobs))
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(threads, len(jobs)) {
		wg.Go(func() {
			for i := range next {
				errs[i] = jobs[i]()
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

// channelMeans gathers the mean of each channel of a value. Sums are per
// sample, so that they do not depend on the batches.
type channelMeans struct {
	axis int
	sum  []float64
	n    float64 // elements per channel
}

func (m *channelMeans) add(t *tensor.Tensor) {
	shape := t.Shape()
	axis := m.axis
	if axis < 0 {
		axis += len(shape)
	}
	channels, inner := shape[axis], 1
	for _, d := range shape[axis+1:] {
		inner *= d
	}
	if m.sum == nil {
		m.sum = make([]float64, channels)
	}
	x := t.Float32s()
	for i := 0; i < len(x); i += inner {
		s := 0.0
		for _, v := range x[i : i+inner] {
			s += float64(v)
		}
		m.sum[i/inner%channels] += s
	}
	m.n += float64(len(x) / channels)
}

func (m *channelMeans) mean() []float64 {
	out := make([]float64, len(m.sum))
	for i, s := range m.sum {
		out[i] = s / m.n
	}
	return out
}

// channelAxis returns the dimension of the layer's input that its weights sum over.
func (l *layer) channelAxis() int {
	n := l.Node
	switch {
	case n.HasAttr("group"): // a convolution
		return 1
	case l.W == 0 && n.In[1].Type.Rank() > 1:
		return -2
	case n.HasAttr("transA") && n.Int("transA") != 0:
		return 0
	}
	return -1
}
