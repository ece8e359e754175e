package onnxio

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/internal/atomicfile"
	"github.com/thriftc/thriftc/internal/onnxpb"
)

// externalFiles reads tensor data from files beside a model. Locations are
// relative; the operating system keeps every access, through symbolic links
// too, inside the folder (os.Root).
type externalFiles struct {
	dir  string // "": external data is refused
	root *os.Root
	sums map[string]string // location -> SHA-1, so that a file is summed once
	used map[string]int64  // location -> bytes read so far
	size int64             // of all files that were read from
}

// maxReuse is how often tensors may share the bytes of an external file, on
// average: more, and a small file fills the memory.
const maxReuse = 4

func (x *externalFiles) close() {
	if x.root != nil {
		x.root.Close()
	}
}

// paths returns the paths of all files that were read from, sorted.
func (x *externalFiles) paths() []string {
	var out []string
	for location := range x.used {
		out = append(out, filepath.Join(x.dir, filepath.FromSlash(location)))
	}
	slices.Sort(out)
	return out
}

// read returns the want bytes that a tensor's external_data entries point to.
func (x *externalFiles) read(entries []*onnxpb.StringStringEntryProto, want int) ([]byte, error) {
	var location, checksum string
	offset, length := int64(0), int64(-1)
	for _, e := range entries {
		var err error
		switch e.GetKey() {
		case "location":
			location = e.GetValue()
		case "checksum":
			checksum = e.GetValue()
		case "offset":
			offset, err = strconv.ParseInt(e.GetValue(), 10, 64)
		case "length":
			length, err = strconv.ParseInt(e.GetValue(), 10, 64)
			if err == nil && length != int64(want) {
				err = fmt.Errorf("%d bytes, but the tensor takes %d", length, want)
			}
		}
		if err == nil && (offset < 0 || length < -1) {
			err = errors.New("negative number")
		}
		if err != nil {
			return nil, fmt.Errorf("external data: %s: %w", e.GetKey(), err)
		}
	}
	if x.dir == "" {
		return nil, errors.New("external data: the model was not read from a file, so there is no folder to look in")
	}
	if strings.ContainsAny(location, "\x00\\:") || !filepath.IsLocal(filepath.FromSlash(location)) {
		return nil, fmt.Errorf("external data: location %q is not a relative path inside the model's folder", location)
	}
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("external data in %q: %w", location, err)
	}
	if x.root == nil {
		root, err := os.OpenRoot(x.dir)
		if err != nil {
			return fail(err)
		}
		x.root = root
	}
	// Looked at before it is opened: opening a pipe would wait for ever.
	st, err := x.root.Stat(filepath.FromSlash(location))
	if err != nil {
		return fail(err)
	}
	if !st.Mode().IsRegular() {
		return fail(errors.New("not a regular file"))
	}
	if offset > st.Size() || int64(want) > st.Size()-offset {
		return fail(fmt.Errorf("%d bytes at offset %d end beyond the file's %d bytes", want, offset, st.Size()))
	}
	if x.used == nil {
		x.used = map[string]int64{}
	}
	if _, seen := x.used[location]; !seen {
		x.size += st.Size()
	}
	if x.used[location] += int64(want); x.used[location]/maxReuse > st.Size() {
		return fail(fmt.Errorf("the tensors ask for more than %d times the file's %d bytes", maxReuse, st.Size()))
	}
	f, err := x.root.Open(filepath.FromSlash(location))
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	if checksum != "" {
		if err := x.verify(f, location, checksum); err != nil {
			return fail(err)
		}
	}
	buf := make([]byte, want)
	if _, err := f.ReadAt(buf, offset); err != nil {
		return fail(err)
	}
	return buf, nil
}

func (x *externalFiles) verify(f *os.File, location, checksum string) error {
	sum, ok := x.sums[location]
	if !ok {
		h := sha1.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		if x.sums == nil {
			x.sums = map[string]string{}
		}
		sum = hex.EncodeToString(h.Sum(nil))
		x.sums[location] = sum
	}
	if !strings.EqualFold(sum, checksum) {
		return fmt.Errorf("the file's SHA-1 is %s, the model says %s", sum, checksum)
	}
	return nil
}

// writeFile writes the parts to a file one after the other.
func writeFile(path string, parts ...[]byte) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		for _, p := range parts {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
		return nil
	})
}
