package dataset

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/regular"
	"github.com/thriftc/thriftc/ir/tensor"
)

// Named is a tensor with the name that an npz file has for it.
type Named struct {
	Name   string
	Tensor *tensor.Tensor
}

// ReadNPZ reads all arrays of an npz file in the order in which it holds them.
func ReadNPZ(file string) ([]Named, error) {
	z, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	var out []Named
	unpacked := uint64(0)
	err = eachArray(z, func(name string, f *zip.File) error {
		r, err := f.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		if f.Method != zip.Store {
			if unpacked += f.UncompressedSize64; unpacked > maxUnpacked {
				return errUnpacked
			}
		}
		t, err := readNPY(r, int64(f.UncompressedSize64))
		out = append(out, Named{name, t})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}

// archive is an open npz file and its size in bytes.
type archive struct {
	*zip.Reader
	io.Closer
	size uint64
}

func openArchive(file string) (*archive, error) {
	f, err := regular.Open(file)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		var z *zip.Reader
		if z, err = zip.NewReader(f, fi.Size()); err == nil {
			return &archive{z, f, uint64(fi.Size())}, nil
		}
		err = fmt.Errorf("%s: not a readable npz file: %w", file, err)
	}
	f.Close()
	return nil, err
}

// eachArray calls do for every member of an npz archive, refusing members
// that are no arrays, repeat a name, or claim more bytes than they can hold.
func eachArray(z *archive, do func(name string, f *zip.File) error) error {
	seen := map[string]bool{}
	for _, f := range z.File {
		name, ok := strings.CutSuffix(f.Name, ".npy")
		if !ok {
			return fmt.Errorf("member %q is no .npy array", f.Name)
		}
		if seen[name] {
			return fmt.Errorf("two arrays %q", name)
		}
		seen[name] = true
		// Deflate cannot shrink to less than about 1/1032.
		if f.CompressedSize64 > z.size || f.UncompressedSize64 > tensor.MaxBytes || f.UncompressedSize64 > 1100*f.CompressedSize64+1024 {
			return fmt.Errorf("array %q claims %d bytes", name, f.UncompressedSize64)
		}
		if err := do(name, f); err != nil {
			return fmt.Errorf("array %q: %w", name, err)
		}
	}
	return nil
}

var errUnpacked = fmt.Errorf("more than %d bytes unpacked; save it with numpy.savez instead of savez_compressed", maxUnpacked)

// damaged puts the errors of an archive's reader in words.
func damaged(err error) error {
	if errors.Is(err, zip.ErrChecksum) {
		return errors.New("the CRC-32 of its bytes is not the one that the file has for them: the file is damaged")
	}
	return noEOF(err)
}

// WriteNPZ writes tensors to an npz file, uncompressed and without times, so
// that equal tensors give equal bytes. The file appears complete or not at all.
func WriteNPZ(file string, arrays []Named) error {
	return atomicfile.Write(file, func(out io.Writer) error {
		z := zip.NewWriter(out)
		seen := map[string]bool{}
		for _, a := range arrays {
			if seen[a.Name] {
				return fmt.Errorf("%s: two arrays named %q", file, a.Name)
			}
			seen[a.Name] = true
			w, err := z.CreateHeader(&zip.FileHeader{Name: a.Name + ".npy", Method: zip.Store})
			if err != nil {
				return err
			}
			if err := writeNPY(w, a.Tensor); err != nil {
				return fmt.Errorf("%s: array %q: %w", file, a.Name, err)
			}
		}
		return z.Close()
	})
}

// array is an array in a file whose first dimension counts records.
type array struct {
	npyHeader
	part
}

// perRecord returns the shape and the bytes of one record.
func (a *array) perRecord() ([]int, int) {
	shape := a.shape[1:]
	n, _ := tensor.NumElems(shape)
	return shape, n * a.elem.ContainerBytes()
}

// openArray reads an array's header from src and checks it against size, the
// number of bytes there are.
func openArray(r io.Reader, size int64) (*array, error) {
	h, err := readNPYHeader(r)
	if err != nil {
		return nil, err
	}
	if h.size+h.bytes() != size {
		return nil, fmt.Errorf("%v%v takes %d bytes after the header, there are %d", h.elem, h.shape, h.bytes(), size-h.size)
	}
	if len(h.shape) == 0 {
		return nil, errors.New("a single number; expected an array whose first dimension counts the records")
	}
	a := &array{npyHeader: *h, part: part{offset: h.size, records: h.shape[0]}}
	if _, n := a.perRecord(); n == 0 {
		return nil, fmt.Errorf("records of shape %v are empty", h.shape[1:])
	}
	return a, nil
}

func openNPYFile(file string) (*array, error) {
	f, err := regular.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a, err := openArray(f, fi.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	a.part.file, a.part.open = file, func() (source, error) { return regular.Open(file) }
	return a, nil
}
