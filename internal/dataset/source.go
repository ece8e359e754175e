package dataset

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/thriftc/thriftc/ir"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Source gives the records of a Set as inputs of one model.
type Source struct {
	set    *Set
	inputs []binding
	batch  int // how many records the model takes at a time; 0: any number
}

// binding says how a record becomes one input of the model.
type binding struct {
	name  string
	from  int // position among the record's tensors
	elem  tensor.Elem
	shape []int // without the batch dimension
	whole bool  // a record is all of the input, which has no batch dimension in front
	given []int // the record's own shape, which all records must have
}

// For binds the records to a model's inputs. It reads the first record and
// reports every input that does not fit it.
func (s *Set) For(g *ir.Graph) (*Source, error) {
	if s.Len() == 0 {
		return nil, errors.New("no records")
	}
	read, done, err := s.store.open()
	if err != nil {
		return nil, err
	}
	defer done()
	first, err := s.tensors(read, 0)
	if err != nil {
		return nil, err
	}
	if s.store.inputs == nil && len(first) != len(g.Inputs) {
		return nil, fmt.Errorf("%s: kind %s gives %d input(s), the model has %d: %s; kind: npz takes an array for each, by name", s.desc.file, s.desc.kind, len(first), len(g.Inputs), inputNames(g))
	}
	src := &Source{set: s}
	var errs []error
	for i, v := range g.Inputs {
		if s.store.inputs != nil {
			if i = slices.Index(s.store.inputs, v.Name); i < 0 {
				errs = append(errs, fmt.Errorf("%s: no array for the model's input %q among %q: name it so in the files of path or files", s.desc.file, v.Name, s.store.inputs))
				continue
			}
		}
		b, batch, err := bind(v, first[i].Shape())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.desc.file, err))
			continue
		}
		b.from = i
		if _, err := b.convert(first[i]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name(0), err))
		}
		if src.batch == 0 {
			src.batch = batch
		} else if batch != 0 && batch != src.batch {
			errs = append(errs, fmt.Errorf("%s: the model's input %s %v takes %d records at a time, others %d: the arrays' shapes say which dimension counts records", s.desc.file, v.Name, v.Type, batch, src.batch))
		}
		src.inputs = append(src.inputs, b)
	}
	if src.batch == 0 && !anyBatch(g) {
		src.batch = 1
	}
	return src, errors.Join(errs...)
}

// anyBatch reports whether a model whose inputs have a free first dimension computes as many
// results as there are records: some have it in their inputs' types alone.
func anyBatch(g *ir.Graph) bool {
	const n = 13 // is no factor of other dimensions by chance
	dims := map[string]int{}
	for _, v := range g.Inputs {
		if !v.Type.Unranked && v.Type.Rank() > 0 {
			dims[v.Type.Dims[0].Sym] = n
		}
	}
	many, err := ir.Bind(g, dims)
	if err != nil {
		return false
	}
	for _, v := range many.Outputs {
		if v.Type.Unranked {
			continue // known when it runs
		}
		if v.Type.Rank() == 0 || v.Type.Dims[0].Known() && v.Type.Dims[0].N%n != 0 {
			return false
		}
	}
	return true
}

func inputNames(g *ir.Graph) string {
	s := ""
	for i, v := range g.Inputs {
		if i > 0 {
			s += ", "
		}
		s += v.Name + " " + v.Type.String()
	}
	return s
}

// fit returns in which shape a record's numbers are what dims say: equal dimensions, or the same
// numbers in the same order with dimensions of 1 added or removed, or flattened.
func fit(dims []ir.Dim, given []int) (shape []int, ok bool) {
	if slices.EqualFunc(ir.Dims(given...), dims, ir.Dim.MayEqual) {
		return given, true
	}
	shape, static := (ir.Type{Dims: dims}).Static()
	if !static {
		return nil, false
	}
	squeezed := func(s []int) []int {
		return slices.DeleteFunc(slices.Clone(s), func(d int) bool { return d == 1 })
	}
	n, err1 := tensor.NumElems(given)
	m, err2 := tensor.NumElems(shape)
	flat := len(squeezed(shape)) <= 1 && n == m
	return shape, err1 == nil && err2 == nil && (flat || slices.Equal(squeezed(shape), squeezed(given)))
}

// bind fits a record's shape to an input. It also returns how many records the input takes at a
// time, 0 when it is any number.
func bind(v *ir.Value, given []int) (b binding, batch int, err error) {
	b = binding{name: v.Name, elem: v.Type.Elem, shape: given, given: given}
	if v.Type.Unranked {
		return b, 0, nil
	}
	var want []ir.Dim
	if rank := v.Type.Rank(); rank > 0 {
		want = v.Type.Dims[1:]
		if v.Type.Dims[0].Known() {
			if batch = v.Type.Dims[0].N; batch == 0 {
				return b, 0, fmt.Errorf("the model's input %s %v is empty", v.Name, v.Type)
			}
		}
		if shape, ok := fit(want, given); ok {
			b.shape = shape
			return b, batch, nil
		}
		if len(given) == rank && given[0] == 1 { // a record that is a batch of one
			if shape, ok := fit(want, given[1:]); ok {
				b.shape = shape
				return b, batch, nil
			}
		}
	}
	if batch > 0 || v.Type.Rank() == 0 { // a state whose second dimension is the batch, a scalar
		if shape, ok := fit(v.Type.Dims, given); ok {
			b.shape, b.whole = shape, true
			return b, 1, nil
		}
	}
	hint := ""
	if len(given) == 3 && len(want) == 3 {
		chw, hwc := ir.Dims(given[2], given[0], given[1]), ir.Dims(given[1], given[2], given[0])
		switch {
		case slices.EqualFunc(hwc, want, ir.Dim.MayEqual):
			hint = "; set layout: nhwc in preprocess"
		case slices.EqualFunc(chw, want, ir.Dim.MayEqual):
			hint = "; set layout: nchw in preprocess"
		case want[0].N == 1 && given[0] == 3:
			hint = "; set color: gray in preprocess"
		case want[0].N == 3 && given[0] == 1:
			hint = "; set color: rgb in preprocess"
		case want[0].N == given[0] || want[2].N == given[2]:
			hint = "; set resize and crop in preprocess"
		}
	}
	return b, 0, fmt.Errorf("the model's input %s is %v, the data gives %v a record%s", v.Name, v.Type, given, hint)
}

// convert brings one record's numbers to the input's element type and shape.
func (b *binding) convert(t *tensor.Tensor) (*tensor.Tensor, error) {
	if !slices.Equal(t.Shape(), b.given) {
		return nil, fmt.Errorf("its shape is %v, the first record's is %v", t.Shape(), b.given)
	}
	if err := finite(t); err != nil {
		return nil, err
	}
	t = t.Reshape(b.shape...)
	switch {
	case t.Elem() == b.elem:
		return t, nil
	case t.Elem() == tensor.String || b.elem == tensor.String:
		return nil, fmt.Errorf("the model's input %s is %v, the data is %v", b.name, b.elem, t.Elem())
	case b.elem == tensor.F64:
		return tensor.Of(slices.Clone(t.Float64s()), t.Shape()...), nil
	case b.elem.IsFloat():
		return tensor.FromFloat32s(b.elem, t.Float32s(), t.Shape()...), nil
	}
	lo, hi := b.elem.Range()
	whole := make([]int64, t.Len())
	if t.Elem().IsFloat() {
		for i, x := range t.Float64s() {
			if x != math.Trunc(x) || x < float64(lo) || x > float64(hi) {
				return nil, fmt.Errorf("number %d is %g; the model's input %s takes whole numbers of %v", i, x, b.name, b.elem)
			}
			whole[i] = int64(x)
		}
	} else {
		for i, x := range t.Int64s() {
			if x < lo || x > hi {
				return nil, fmt.Errorf("number %d is %d; the model's input %s takes %v", i, x, b.name, b.elem)
			}
			whole[i] = x
		}
	}
	return tensor.FromInt64s(b.elem, whole, t.Shape()...), nil
}

// finite reports the first NaN or infinity.
func finite(t *tensor.Tensor) error {
	if x, ok := t.Container().([]float32); ok {
		for i, v := range x {
			if v-v != 0 {
				return fmt.Errorf("number %d is %v", i, v)
			}
		}
	} else if t.Elem().IsFloat() {
		for i, v := range t.Float64s() {
			if v-v != 0 {
				return fmt.Errorf("number %d is %v", i, v)
			}
		}
	}
	return nil
}

// tensors reads and preprocesses record i.
func (s *Set) tensors(read func(int) (record, error), i int) ([]*tensor.Tensor, error) {
	r, err := read(s.index[i])
	if err != nil {
		return nil, err
	}
	if r.image.RGBA != nil {
		t, err := s.desc.pre.image(r.image)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name(i), err)
		}
		return []*tensor.Tensor{t}, nil
	}
	for k, t := range r.tensors {
		if r.tensors[k], err = s.desc.pre.numbers(t); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name(i), err)
		}
	}
	return r.tensors, nil
}

// Len returns the number of samples: of the records, and of the first ones again where the model
// takes a fixed number at a time and that does not divide theirs.
func (s *Source) Len() int {
	n := max(s.batch, 1)
	return (s.set.Len() + n - 1) / n * n
}

// Labelled reports whether the samples have labels.
func (s *Source) Labelled() bool { return s.set.Labelled() }

// Label returns the class of sample i, as Set.Label does.
func (s *Source) Label(i int) int { return s.set.Label(i % s.set.Len()) }

// Set returns the records that s gives.
func (s *Source) Set() *Set { return s.set }

// Batches yields the samples in order, size at a time (fewer in the last
// batch), as the model's inputs in its order; a model that takes a fixed number
// gets that many whatever size says, the first records again at the end. One batch is in memory at a time; its
// records are decoded in parallel, and the first one that fails ends the iteration.
func (s *Source) Batches(size int) iter.Seq2[[]*tensor.Tensor, error] {
	return func(yield func([]*tensor.Tensor, error) bool) {
		if s.batch > 0 {
			size = s.batch
		}
		if size < 1 {
			yield(nil, fmt.Errorf("batches of %d samples", size))
			return
		}
		read, done, err := s.set.store.open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer done()
		for at := 0; at < s.Len(); at += size {
			batch, err := s.load(read, at, min(at+size, s.Len()))
			if !yield(batch, err) || err != nil {
				return
			}
		}
	}
}

// load reads samples lo to hi into one batch.
func (s *Source) load(read func(int) (record, error), lo, hi int) ([]*tensor.Tensor, error) {
	samples := make([][]*tensor.Tensor, hi-lo)
	errs := make([]error, hi-lo)
	workers := min(runtime.GOMAXPROCS(0), hi-lo)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < hi-lo; i += workers {
				samples[i], errs[i] = s.sample(read, lo+i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	out := make([]*tensor.Tensor, len(s.inputs))
	for k := range out {
		parts := make([]*tensor.Tensor, hi-lo)
		for i := range parts {
			parts[i] = samples[i][k]
		}
		var err error
		if s.inputs[k].whole {
			out[k] = parts[0] // the only one
		} else if out[k], err = stack(parts); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sample returns sample i, one tensor for each input, without batch dimension.
func (s *Source) sample(read func(int) (record, error), i int) ([]*tensor.Tensor, error) {
	i %= s.set.Len()
	given, err := s.set.tensors(read, i)
	if err != nil {
		return nil, err
	}
	out := make([]*tensor.Tensor, len(s.inputs))
	for k := range s.inputs {
		if out[k], err = s.inputs[k].convert(given[s.inputs[k].from]); err != nil {
			return nil, fmt.Errorf("%s: %w", s.set.Name(i), err)
		}
	}
	return out, nil
}
