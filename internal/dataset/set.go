// Package dataset reads labelled data as a YAML description names it, and
// turns it into the input tensors of a model, a batch at a time. docs/data.md
// describes the YAML file. The order of records and the bytes of every batch
// depend on the files and the description alone.
package dataset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/thriftc/thriftc/internal/regular"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Set is an ordered selection of the records that a description names.
type Set struct {
	desc  *desc
	store *store
	index []int // record numbers
}

// store gives the records of one kind of data by number.
type store struct {
	n       int
	labels  []int    // as stored; nil: there are none
	classes []string // names of the classes, where the data has them
	inputs  []string // names of the model inputs that a record's tensors are for; nil: by position
	name    func(i int) string
	// open starts reading; read may be called by several goroutines at once.
	open func() (read func(i int) (record, error), done func(), err error)
}

// record is one sample as stored: an image, or the finished numbers of each
// model input without the batch dimension.
type record struct {
	image   picture
	tensors []*tensor.Tensor
}

// Open reads a data description and the index of what it names; the records
// themselves are read as they are used. Everything that is wrong with the
// description is in the error, with lines.
func Open(file string) (*Set, error) {
	data, err := regular.Read(file, maxDesc)
	if err != nil {
		return nil, err
	}
	d, err := parseDesc(file, data)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(d.base()); err != nil {
		return nil, d.errorf("path", "%v", err)
	}
	var s *store
	for _, k := range kinds {
		if k.name == d.kind {
			if s, err = k.open(d); err != nil {
				return nil, err
			}
		}
	}
	if s.n == 0 {
		return nil, d.errorf("kind", "no records")
	}
	if s.labels != nil && len(s.labels) != s.n {
		return nil, d.errorf("labels", "%d labels for %d records", len(s.labels), s.n)
	}
	if d.pre.LabelOffset < 0 && s.labels != nil && slices.Min(s.labels)+d.pre.LabelOffset < 0 {
		return nil, d.errorf("preprocess", "label_offset %d makes label %d negative", d.pre.LabelOffset, slices.Min(s.labels))
	}
	set := &Set{desc: d, store: s, index: make([]int, s.n)}
	for i := range set.index {
		set.index[i] = i
	}
	return set, nil
}

// Len returns the number of records.
func (s *Set) Len() int { return len(s.index) }

// Kind returns the description's kind.
func (s *Set) Kind() string { return s.desc.kind }

// File returns the name of the description.
func (s *Set) File() string { return s.desc.file }

// Preprocess returns how records become inputs.
func (s *Set) Preprocess() Preprocess { return s.desc.pre }

// Labelled reports whether the records have labels.
func (s *Set) Labelled() bool { return s.store.labels != nil }

// Label returns the class of record i with the label offset added, or −1 when
// there are no labels.
func (s *Set) Label(i int) int {
	if s.store.labels == nil {
		return -1
	}
	return s.store.labels[s.index[i]] + s.desc.pre.LabelOffset
}

// Classes returns the names of the classes where the data has them
// (image-folder), nil otherwise.
func (s *Set) Classes() []string { return s.store.classes }

// Name says which record i is, for messages: its file, or file and record number.
func (s *Set) Name(i int) string { return s.store.name(s.index[i]) }

func (s *Set) with(index []int) *Set { return &Set{s.desc, s.store, index} }

// Take returns the first n records, all of them when there are fewer.
func (s *Set) Take(n int) *Set { return s.with(s.index[:min(max(n, 0), len(s.index))]) }

// Skip returns all records but the first n.
func (s *Set) Skip(n int) *Set { return s.with(s.index[min(max(n, 0), len(s.index)):]) }

// Shuffle returns the records in an order that the seed alone determines.
func (s *Set) Shuffle(seed uint64) *Set {
	index := slices.Clone(s.index)
	rand.New(rand.NewPCG(seed, 0x64617461)).Shuffle(len(index), func(i, j int) { index[i], index[j] = index[j], index[i] })
	return s.with(index)
}

// Split divides the records at random, as the seed says: part b gets the
// given fraction of them, rounded to the nearest number but at least one, and
// part a the rest. Both keep the order of s.
func (s *Set) Split(seed uint64, fraction float64) (a, b *Set, err error) {
	if !(fraction > 0 && fraction < 1) {
		return nil, nil, fmt.Errorf("cannot split off a fraction of %g", fraction)
	}
	if len(s.index) < 2 {
		return nil, nil, errors.New("a single record cannot be split")
	}
	n := min(max(int(float64(fraction*float64(len(s.index)))+0.5), 1), len(s.index)-1)
	order := make([]int, len(s.index))
	for i := range order {
		order[i] = i
	}
	rand.New(rand.NewPCG(seed, 0x73706c6974)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	inB := make([]bool, len(order))
	for _, i := range order[:n] {
		inB[i] = true
	}
	var ia, ib []int
	for i, rec := range s.index {
		if inB[i] {
			ib = append(ib, rec)
		} else {
			ia = append(ia, rec)
		}
	}
	return s.with(ia), s.with(ib), nil
}
