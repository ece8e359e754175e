package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/thriftc/thriftc/ir/onnxio"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Pair is the content of one ONNX test data set: the inputs of a model in
// order and the outputs that they should give.
type Pair struct {
	Dir     string // the folder
	In, Out []*tensor.Tensor
}

// PairDirs returns the folders test_data_set_N of dir in the order of their
// numbers, or dir itself when it holds input_0.pb.
func PairDirs(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, "input_0.pb")); err == nil {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		if s, ok := strings.CutPrefix(e.Name(), "test_data_set_"); ok && e.IsDir() {
			if n, err := strconv.Atoi(s); err == nil && strconv.Itoa(n) == s {
				numbers = append(numbers, n)
			}
		}
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s: neither input_0.pb nor test_data_set_* folders", dir)
	}
	slices.Sort(numbers)
	var out []string
	for _, n := range numbers {
		out = append(out, filepath.Join(dir, "test_data_set_"+strconv.Itoa(n)))
	}
	return out, nil
}

// ReadPair reads input_0.pb, input_1.pb … and output_0.pb … of a folder. A
// folder without outputs is good; one without inputs is not.
func ReadPair(dir string) (Pair, error) {
	p := Pair{Dir: dir}
	var err error
	if p.In, err = readTensors(dir, "input_"); err != nil {
		return p, err
	}
	if len(p.In) == 0 {
		return p, fmt.Errorf("%s: no input_0.pb", dir)
	}
	p.Out, err = readTensors(dir, "output_")
	return p, err
}

func readTensors(dir, prefix string) ([]*tensor.Tensor, error) {
	var out []*tensor.Tensor
	for {
		file := filepath.Join(dir, prefix+strconv.Itoa(len(out))+".pb")
		t, _, err := onnxio.ReadTensor(file)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, t)
	}
	left, err := filepath.Glob(filepath.Join(dir, prefix+"*.pb"))
	if err == nil && len(left) > len(out) {
		err = fmt.Errorf("%s: %s%d.pb is missing among %d files", dir, prefix, len(out), len(left))
	}
	return out, err
}

// openPairs opens ONNX test data sets. Each row along the first dimension of
// the inputs is a record.
func openPairs(d *desc) (*store, error) {
	dirs, err := PairDirs(d.base())
	if err != nil {
		return nil, d.errorf("path", "%v", err)
	}
	var first []int // number of each folder's first record
	s := &store{}
	for _, dir := range dirs {
		p, err := ReadPair(dir)
		if err != nil {
			return nil, err
		}
		for k, t := range p.In {
			if t.Rank() == 0 || t.Shape()[0] == 0 || t.Shape()[0] != p.In[0].Shape()[0] {
				return nil, fmt.Errorf("%s: input_%d.pb is %v%v; inputs need one common, not empty first dimension, the batch", dir, k, t.Elem(), t.Shape())
			}
		}
		first = append(first, s.n)
		s.n += p.In[0].Shape()[0]
	}
	s.name = func(i int) string {
		k := partOf(first, i)
		return fmt.Sprintf("%s row %d", dirs[k], i-first[k])
	}
	s.open = func() (func(int) (record, error), func(), error) {
		var mu sync.Mutex
		last, at := Pair{}, -1
		return func(i int) (record, error) {
			mu.Lock()
			defer mu.Unlock()
			if k := partOf(first, i); k != at {
				var err error
				if last, err = ReadPair(dirs[k]); err != nil {
					return record{}, err
				}
				at = k
			}
			var r record
			for _, t := range last.In {
				x, err := row(t, i-first[at])
				if err != nil {
					return record{}, fmt.Errorf("%s: %w", dirs[at], err)
				}
				r.tensors = append(r.tensors, x)
			}
			return r, nil
		}, func() {}, nil
	}
	return s, nil
}

// partOf finds the last of the ascending numbers that is at most i.
func partOf(first []int, i int) int {
	k, found := slices.BinarySearch(first, i)
	if !found {
		k--
	}
	return k
}

// row copies one index of the first dimension.
func row(t *tensor.Tensor, i int) (*tensor.Tensor, error) {
	if t.Rank() == 0 || i >= t.Shape()[0] {
		return nil, errors.New("changed while it was read")
	}
	out, err := tensor.Alloc(t.Elem(), t.Shape()[1:]...)
	if err != nil {
		return nil, err
	}
	n := out.Len()
	reflect.Copy(reflect.ValueOf(out.Container()), reflect.ValueOf(t.Container()).Slice(i*n, (i+1)*n))
	return out, nil
}

// stack joins tensors of one type along a new first dimension.
func stack(parts []*tensor.Tensor) (*tensor.Tensor, error) {
	out, err := tensor.Alloc(parts[0].Elem(), append([]int{len(parts)}, parts[0].Shape()...)...)
	if err != nil {
		return nil, fmt.Errorf("a batch of %d samples: %w", len(parts), err)
	}
	n := parts[0].Len()
	for i, p := range parts {
		reflect.Copy(reflect.ValueOf(out.Container()).Slice(i*n, (i+1)*n), reflect.ValueOf(p.Container()))
	}
	return out, nil
}
