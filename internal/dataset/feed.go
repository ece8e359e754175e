package dataset

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Feed gives the batches of a training: the samples of every epoch in an order
// of its own, augmented. Batch b is the same whenever it is asked for.
type Feed struct {
	src     *Source
	batch   int
	classes int
	seed    uint64
	augment Augment
	plane   plane
	black   []float32
}

// Batch is what one training step works on.
type Batch struct {
	In     []*tensor.Tensor // the model's inputs
	Labels []int            // classes before mixing
	Target *tensor.Tensor   // f32[N, classes]: the probability of each class
}

// NewFeed returns the batches of size samples each that a seed gives. Samples
// that are left over at the end of an epoch are left out of it.
func NewFeed(src *Source, size, classes int, seed uint64, a Augment) (*Feed, error) {
	set := src.set
	switch {
	case !src.Labelled():
		return nil, fmt.Errorf("%s: the training data has no labels", set.File())
	case slices.ContainsFunc(src.inputs, func(b binding) bool { return b.whole }):
		return nil, fmt.Errorf("%s: training needs a model whose inputs count the records in their first dimension", set.File())
	case size < 1:
		return nil, fmt.Errorf("a batch of %d samples", size)
	case size > src.Len():
		return nil, fmt.Errorf("%s: a batch of %d samples is larger than the training data, which has %d", set.File(), size, src.Len())
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	f := &Feed{src: src, batch: size, classes: classes, seed: seed, augment: a}
	if !a.pictures() {
		return f, nil
	}
	if len(src.inputs) != 1 || src.inputs[0].elem != tensor.F32 {
		return nil, errors.New("augmentation needs a model with one input of f32")
	}
	pre := set.Preprocess()
	var err error
	f.plane, err = planeOf(src.inputs[0].shape, pre.Layout == "nhwc")
	for c := range f.plane.channels {
		f.black = append(f.black, pre.map1(0, c))
	}
	return f, err
}

// PerEpoch returns the number of batches of an epoch.
func (f *Feed) PerEpoch() int { return f.src.Len() / f.batch }

// Shapes returns the shapes of the model's inputs without batch dimension.
func (f *Feed) Shapes() [][]int { return f.src.Shapes() }

// Size returns the number of samples of a batch.
func (f *Feed) Size() int { return f.batch }

const ahead = 2 // batches that are made before they are asked for

// Start makes batches from number b on, ahead of their use, until stop is
// called. After an error next returns that error.
func (f *Feed) Start(ctx context.Context, b int) (next func() (*Batch, error), stop func(), err error) {
	read, done, err := f.src.set.store.open()
	if err != nil {
		return nil, nil, err
	}
	type result struct {
		batch *Batch
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan result, ahead)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done()
		var order []int
		epoch := -1
		for ; ctx.Err() == nil; b++ {
			if e := b / f.PerEpoch(); e != epoch {
				epoch, order = e, f.order(e)
			}
			var r result
			r.batch, r.err = f.load(read, epoch, b, order[b%f.PerEpoch()*f.batch:][:f.batch])
			select {
			case out <- r:
			case <-ctx.Done():
			}
			if r.err != nil {
				return
			}
		}
	})
	next = func() (*Batch, error) {
		select {
		case r := <-out:
			return r.batch, r.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return next, func() { cancel(); wg.Wait() }, nil
}

// Streams of random numbers, so that the same seed does not give the same
// numbers for different purposes.
const (
	orderStream  = 0x6f72646572
	sampleStream = 0x73616d706c65
	mixStream    = 0x6d6978
)

func (f *Feed) rng(stream uint64, epoch, i int) *rand.Rand {
	return rand.New(rand.NewPCG(f.seed^stream, uint64(epoch)<<32|uint64(i)))
}

// order returns the numbers of the samples in the order of an epoch.
func (f *Feed) order(epoch int) []int { return f.rng(orderStream, epoch, 0).Perm(f.src.Len()) }

// load makes batch b of the samples with the given numbers.
func (f *Feed) load(read func(int) (record, error), epoch, b int, samples []int) (*Batch, error) {
	out := &Batch{Labels: make([]int, len(samples))}
	target := make([]float32, len(samples)*f.classes)
	for i, s := range samples {
		l := f.src.Label(s)
		if l < 0 || l >= f.classes {
			return nil, fmt.Errorf("%s: label %d, the model has %d outputs (0 to %d)", f.src.set.Name(s), l, f.classes, f.classes-1)
		}
		out.Labels[i] = l
		target[i*f.classes+l] = 1
	}
	out.Target = tensor.Of(target, len(samples), f.classes)
	parts := make([][]*tensor.Tensor, len(samples))
	errs := make([]error, len(samples))
	workers := min(runtime.GOMAXPROCS(0), len(samples))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(samples); i += workers {
				if parts[i], errs[i] = f.src.sample(read, samples[i]); errs[i] != nil || !f.augment.pictures() {
					continue
				}
				src := parts[i][0]
				t, err := tensor.Alloc(tensor.F32, src.Shape()...)
				if err != nil {
					errs[i] = err
					continue
				}
				f.augment.apply(tensor.Data[float32](t), tensor.Data[float32](src), f.plane, f.black, f.rng(sampleStream, epoch, samples[i]))
				parts[i] = []*tensor.Tensor{t}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	for k := range f.src.inputs {
		column := make([]*tensor.Tensor, len(samples))
		for i := range column {
			column[i] = parts[i][k]
		}
		t, err := stack(column)
		if err != nil {
			return nil, err
		}
		out.In = append(out.In, t)
	}
	if f.augment.Mixup > 0 {
		if len(out.In) != 1 || out.In[0].Elem() != tensor.F32 {
			return nil, errors.New("mixup needs a model with one input of f32")
		}
		f.augment.mix(out.In[0], out.Target, f.rng(mixStream, epoch, b))
	}
	return out, nil
}

// Shapes returns the shapes of the model's inputs without batch dimension.
func (s *Source) Shapes() [][]int {
	var out [][]int
	for _, b := range s.inputs {
		out = append(out, slices.Clone(b.shape))
	}
	return out
}

// Shape returns the shapes that the first record gives a model's inputs,
// without batch dimension.
func (s *Set) Shape() ([][]int, error) {
	if s.Len() == 0 {
		return nil, errors.New("no records")
	}
	read, done, err := s.store.open()
	if err != nil {
		return nil, err
	}
	defer done()
	ts, err := s.tensors(read, 0)
	if err != nil {
		return nil, err
	}
	var out [][]int
	for _, t := range ts {
		out = append(out, slices.Clone(t.Shape()))
	}
	return out, nil
}

// Counts returns how many records have each label from 0 to classes−1.
func (s *Set) Counts(classes int) []int {
	counts := make([]int, classes)
	for i := range s.Len() {
		if l := s.Label(i); l >= 0 && l < classes {
			counts[l]++
		}
	}
	return counts
}
