package dataset

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/thriftc/thriftc/internal/regular"
	"github.com/thriftc/thriftc/ir/tensor"
)

var rawElems = map[string]tensor.Elem{"int8": tensor.I8, "uint8": tensor.U8}

// openNPY opens .npy files whose first dimension counts records, one after the other.
func openNPY(d *desc) (*store, error) {
	files, err := d.dataFiles()
	if err != nil {
		return nil, err
	}
	var parts []part
	var head *array
	for _, file := range files {
		a, err := openNPYFile(file)
		if err != nil {
			return nil, err
		}
		if head == nil {
			head = a
		}
		if a.elem != head.elem || !slices.Equal(a.shape[1:], head.shape[1:]) || a.order != head.order {
			return nil, fmt.Errorf("%s: %v%v, %s is %v%v", file, a.elem, a.shape, head.file, head.elem, head.shape)
		}
		parts = append(parts, a.part)
	}
	shape, size := head.perRecord()
	s := partStore(parts, size, func(b []byte) (record, error) {
		t, err := head.decode(b, shape)
		return record{tensors: []*tensor.Tensor{t}}, err
	})
	s.labels, err = d.arrayLabels(d.labels)
	return s, err
}

// arrayLabels reads a label file: an .npy array of whole numbers, or a table
// in the order of the records. No name means no labels.
func (d *desc) arrayLabels(name string) ([]int, error) {
	if name == "" {
		return nil, nil
	}
	if !strings.HasSuffix(name, ".npy") {
		t, err := d.readTable()
		if err != nil {
			return nil, err
		}
		return t.numbered()
	}
	file, err := d.find(name, "labels")
	if err != nil {
		return nil, err
	}
	f, err := regular.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t, err := readNPY(f, fi.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return tensorLabels(file, t)
}

// tensorLabels takes class numbers from an integer array.
func tensorLabels(name string, t *tensor.Tensor) ([]int, error) {
	if !t.Elem().IsInt() || t.Rank() == 0 || t.Len() != t.Shape()[0] {
		return nil, fmt.Errorf("%s: labels must be one whole number per record, not %v%v", name, t.Elem(), t.Shape())
	}
	out := make([]int, t.Len())
	for i, v := range t.Int64s() {
		if v < 0 || v > maxLabel {
			return nil, fmt.Errorf("%s: label %d of record %d is not a class number", name, v, i)
		}
		out[i] = int(v)
	}
	return out, nil
}

// openNPZ opens an npz file with one array for each input of the model, by
// name, and perhaps one with the labels.
func openNPZ(d *desc) (*store, error) {
	files, err := d.dataFiles()
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, d.errorf("files", "%d files; npz takes one", len(files))
	}
	file := files[0]
	arrays, names, err := openNPZArrays(file)
	if err != nil {
		return nil, err
	}
	s := &store{}
	if i := slices.Index(names, d.labels); i >= 0 {
		src, err := arrays[i].open()
		if err != nil {
			return nil, err
		}
		b := make([]byte, arrays[i].bytes())
		_, err = src.ReadAt(b, arrays[i].offset)
		src.Close()
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("%s: array %q: %w", file, names[i], err)
		}
		t, err := arrays[i].decode(b, arrays[i].shape)
		if err != nil {
			return nil, fmt.Errorf("%s: array %q: %w", file, names[i], err)
		}
		if s.labels, err = tensorLabels(fmt.Sprintf("%s: array %q", file, names[i]), t); err != nil {
			return nil, err
		}
		arrays, names = slices.Delete(arrays, i, i+1), slices.Delete(names, i, i+1)
	} else if s.labels, err = d.arrayLabels(d.labels); err != nil {
		return nil, err
	}
	if len(arrays) == 0 {
		return nil, fmt.Errorf("%s: no arrays for the model's inputs", file)
	}
	stores := make([]*store, len(arrays))
	for i, a := range arrays {
		if a.records != arrays[0].records {
			return nil, fmt.Errorf("%s: array %q has %d records, %q has %d", file, names[i], a.records, names[0], arrays[0].records)
		}
		shape, size := a.perRecord()
		stores[i] = partStore([]part{a.part}, size, func(b []byte) (record, error) {
			t, err := a.decode(b, shape)
			return record{tensors: []*tensor.Tensor{t}}, err
		})
	}
	s.n, s.inputs = arrays[0].records, names
	s.name = func(i int) string { return fmt.Sprintf("%s record %d", file, i) }
	s.open = func() (func(int) (record, error), func(), error) {
		var reads []func(int) (record, error)
		var dones []func()
		done := func() {
			for _, f := range dones {
				f()
			}
		}
		for _, st := range stores {
			read, d, err := st.open()
			if err != nil {
				done()
				return nil, nil, err
			}
			reads, dones = append(reads, read), append(dones, d)
		}
		return func(i int) (record, error) {
			var all record
			for _, read := range reads {
				r, err := read(i)
				if err != nil {
					return all, err
				}
				all.tensors = append(all.tensors, r.tensors...)
			}
			return all, nil
		}, done, nil
	}
	return s, nil
}

// openNPZArrays opens the arrays of an npz file. Stored ones are read in
// place, compressed ones are unpacked into memory.
func openNPZArrays(file string) (arrays []*array, names []string, err error) {
	z, err := openArchive(file)
	if err != nil {
		return nil, nil, err
	}
	defer z.Close()
	unpacked := uint64(0)
	err = eachArray(z, func(name string, f *zip.File) error {
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		a, err := openArray(r, int64(f.UncompressedSize64))
		if err != nil {
			return err
		}
		start, err := f.DataOffset()
		if err != nil {
			return err
		}
		a.file = file + " array " + name
		a.part.open = func() (source, error) { return regular.Open(file) }
		a.offset += start
		if f.Method != zip.Store {
			if unpacked += f.UncompressedSize64; unpacked > maxUnpacked {
				return errUnpacked
			}
			data, err := io.ReadAll(io.LimitReader(r, a.bytes()+1))
			if err != nil {
				return damaged(err)
			}
			if int64(len(data)) != a.bytes() {
				return fmt.Errorf("%d bytes after the header, expected %d", len(data), a.bytes())
			}
			a.offset = 0
			a.part.open = func() (source, error) { return inMemory{bytes.NewReader(data)}, nil }
		} else if _, err := io.Copy(io.Discard, r); err != nil { // records are read in place later, past the checksum
			return damaged(err)
		}
		arrays, names = append(arrays, a), append(names, name)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return arrays, names, nil
}

// openRaw opens files of nothing but int8 or uint8 numbers, records of one
// shape after the other.
func openRaw(d *desc) (*store, error) {
	files, err := d.dataFiles()
	if err != nil {
		return nil, err
	}
	size, err := tensor.NumElems(d.shape)
	if err != nil || size > maxPixels {
		return nil, d.errorf("shape", "%v is too large", d.shape)
	}
	var parts []part
	for _, file := range files {
		fi, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		if fi.Size() == 0 || fi.Size()%int64(size) != 0 {
			return nil, fmt.Errorf("%s: %d bytes are not a whole number of records of shape %v (%d bytes)", file, fi.Size(), d.shape, size)
		}
		parts = append(parts, part{file: file, open: func() (source, error) { return regular.Open(file) }, records: int(fi.Size() / int64(size))})
	}
	h := npyHeader{elem: d.elem}
	s := partStore(parts, size, func(b []byte) (record, error) {
		t, err := h.decode(b, d.shape)
		return record{tensors: []*tensor.Tensor{t}}, err
	})
	s.labels, err = d.arrayLabels(d.labels)
	return s, err
}
