package dataset

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/thriftc/thriftc/ir/tensor"
)

// A byte of an array that has changed is found by the archive's checksum, in arrays that are
// stored and in those that are compressed, whether they are read at once or by records.
func TestDamagedNPZ(t *testing.T) {
	for _, method := range []uint16{zip.Store, zip.Deflate} {
		file := filepath.Join(t.TempDir(), "a.npz")
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, name := range []string{"x", "labels"} {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: method})
			if err == nil {
				err = writeNPY(w, tensor.Of([]int64{3, 1, 4, 1, 5, 9, 2, 6}, 8))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		z.Close()
		whole := b.Bytes()
		read := func(data []byte) (both [2]error) {
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, both[0] = ReadNPZ(file)
			_, _, both[1] = openNPZArrays(file)
			return both
		}
		if errs := read(whole); errs[0] != nil || errs[1] != nil {
			t.Fatal(errs)
		}
		// The data of the second member begin behind its 30 bytes of header and its name.
		at := bytes.LastIndex(whole[:bytes.Index(whole, []byte("PK\x01\x02"))], []byte("labels.npy")) + len("labels.npy")
		damagedBytes := bytes.Clone(whole)
		if method == zip.Store {
			at += bytes.Index(whole[at:], []byte{5, 0, 0, 0, 0, 0, 0, 0}) // a label
		} else {
			at += 20
		}
		damagedBytes[at] ^= 1
		for i, err := range read(damagedBytes) {
			if err == nil {
				t.Errorf("method %d, way %d: no error for a changed byte", method, i)
			} else if method == zip.Store && !strings.Contains(err.Error(), "CRC-32") {
				t.Errorf("method %d, way %d: %v", method, i, err)
			}
		}
	}
}

// A gzipped IDX file is unpacked as far as its header says, not to its end.
func TestGzipBeyondHeader(t *testing.T) {
	file := filepath.Join(t.TempDir(), "labels.gz")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte{0, 0, 8, 1, 0, 0, 0, 2, 1, 2})
	zeros := make([]byte, 1<<20)
	for range 64 {
		z.Write(zeros)
	}
	z.Close()
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := openMaybeGzip(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := src.(inMemory).Len(); n > 16 {
		t.Errorf("%d bytes were unpacked", n)
	}
	if _, _, err := readIDXHeader(src); err == nil || !strings.Contains(err.Error(), "length") {
		t.Errorf("error %v", err)
	}
}
