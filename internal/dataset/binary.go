package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/thriftc/thriftc/internal/regular"
	"github.com/thriftc/thriftc/ir/tensor"
)

// part is a run of equally large records in a file.
type part struct {
	file    string
	open    func() (source, error) // opens the file, or what it decompresses to
	offset  int64                  // of the first record
	records int
}

// source is an open part.
type source interface {
	io.ReaderAt
	io.Closer
}

// openParts opens every part. The returned function finds record i.
func openParts(parts []part) (find func(i int) (source, part, int), closeAll func(), err error) {
	var open []source
	closeAll = func() {
		for _, s := range open {
			s.Close()
		}
	}
	for _, p := range parts {
		s, err := p.open()
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		open = append(open, s)
	}
	return func(i int) (source, part, int) {
		k := 0
		for ; i >= parts[k].records; k++ {
			i -= parts[k].records
		}
		return open[k], parts[k], i
	}, closeAll, nil
}

// partStore makes a store of equally large records; convert gets the bytes of one.
func partStore(parts []part, size int, convert func([]byte) (record, error)) *store {
	s := &store{}
	for _, p := range parts {
		s.n += p.records
	}
	s.name = func(i int) string {
		k := 0
		for ; i >= parts[k].records; k++ {
			i -= parts[k].records
		}
		return fmt.Sprintf("%s record %d", parts[k].file, i)
	}
	s.open = func() (func(int) (record, error), func(), error) {
		find, closeAll, err := openParts(parts)
		if err != nil {
			return nil, nil, err
		}
		return func(i int) (record, error) {
			src, p, k := find(i)
			buf := make([]byte, size)
			if _, err := src.ReadAt(buf, p.offset+int64(k)*int64(size)); err != nil {
				return record{}, fmt.Errorf("%s record %d: %w", p.file, k, noEOF(err))
			}
			r, err := convert(buf)
			if err != nil {
				err = fmt.Errorf("%s record %d: %w", p.file, k, err)
			}
			return r, err
		}, closeAll, nil
	}
	return s
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file ends early")
	}
	return err
}

func openCIFAR10(d *desc) (*store, error) {
	return openCIFAR(d, 1, 0, 10, map[string][]string{
		"train": {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
		"test":  {"test_batch.bin"},
	})
}

func openCIFAR100(d *desc) (*store, error) {
	at, classes := 1, 100
	switch d.labels {
	case "", "fine":
	case "coarse":
		at, classes = 0, 20
	default:
		return nil, d.errorf("labels", "is %q; it can be fine or coarse", d.labels)
	}
	return openCIFAR(d, 2, at, classes, map[string][]string{"train": {"train.bin"}, "test": {"test.bin"}})
}

// openCIFAR opens files of records of labelBytes label bytes, of which the
// one at labelAt counts, and the red, green and blue planes of 32×32 pixels.
func openCIFAR(d *desc, labelBytes, labelAt, classes int, splits map[string][]string) (*store, error) {
	const pixels = 32 * 32
	size := labelBytes + 3*pixels
	if fi, err := os.Stat(d.base()); len(d.files) == 0 && (err != nil || fi.IsDir()) {
		if d.split == "" {
			return nil, d.errorf("kind", "%s needs split: train or test, or files", d.kind)
		}
		d.files = splits[d.split]
	}
	files, err := d.dataFiles()
	if err != nil {
		return nil, err
	}
	var parts []part
	var labels []int
	for _, file := range files {
		f, err := regular.Open(file)
		if err != nil {
			return nil, err
		}
		l, err := cifarLabels(f, size, labelAt, classes)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		labels = append(labels, l...)
		parts = append(parts, part{file: file, open: func() (source, error) { return regular.Open(file) }, records: len(l)})
	}
	s := partStore(parts, size, func(b []byte) (record, error) {
		m := image.NewRGBA(image.Rect(0, 0, 32, 32))
		b = b[labelBytes:]
		for i := range pixels {
			m.Pix[4*i], m.Pix[4*i+1], m.Pix[4*i+2], m.Pix[4*i+3] = b[i], b[pixels+i], b[2*pixels+i], 255
		}
		return record{image: picture{RGBA: m}}, nil
	})
	s.labels = labels
	return s, nil
}

// cifarLabels reads the label byte of every record.
func cifarLabels(f *os.File, size, at, classes int) ([]int, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() == 0 || fi.Size()%int64(size) != 0 {
		return nil, fmt.Errorf("%d bytes are not a whole number of %d-byte records", fi.Size(), size)
	}
	labels := make([]int, fi.Size()/int64(size))
	var b [1]byte
	for i := range labels {
		if _, err := f.ReadAt(b[:], int64(i)*int64(size)+int64(at)); err != nil {
			return nil, noEOF(err)
		}
		if int(b[0]) >= classes {
			return nil, fmt.Errorf("record %d has label %d; there are %d classes", i, b[0], classes)
		}
		labels[i] = int(b[0])
	}
	return labels, nil
}

// openIDX opens IDX files, the format of MNIST, gzipped or not: images as
// unsigned bytes of rank 3 and labels as unsigned bytes of rank 1.
func openIDX(d *desc) (*store, error) {
	if fi, err := os.Stat(d.base()); len(d.files) == 0 && (err != nil || fi.IsDir()) {
		prefix, ok := map[string]string{"train": "train", "test": "t10k"}[d.split]
		if !ok {
			return nil, d.errorf("kind", "idx needs split: train or test, or files")
		}
		for _, name := range []string{prefix + "-images-idx3-ubyte", prefix + "-labels-idx1-ubyte"} {
			if _, err := os.Stat(filepath.Join(d.base(), name)); err != nil {
				name += ".gz"
			}
			d.files = append(d.files, name)
		}
	}
	files, err := d.dataFiles()
	if err != nil {
		return nil, err
	}
	var parts []part
	var labels []int
	h, w := 0, 0
	for _, file := range files {
		src, err := openMaybeGzip(file)
		if err != nil {
			return nil, err
		}
		open := func() (source, error) { return regular.Open(file) }
		if _, ok := src.(inMemory); ok {
			open = func() (source, error) { return src, nil }
		}
		shape, l, err := readIDXHeader(src)
		src.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(shape) == 1 {
			labels = append(labels, l...)
			continue
		}
		if len(parts) > 0 && (shape[1] != h || shape[2] != w) {
			return nil, fmt.Errorf("%s: images of %d×%d, those before are %d×%d", file, shape[2], shape[1], w, h)
		}
		h, w = shape[1], shape[2]
		parts = append(parts, part{file: file, open: open, offset: 16, records: shape[0]})
	}
	if len(parts) == 0 {
		return nil, d.errorf("files", "none of the files holds images (IDX of rank 3)")
	}
	s := partStore(parts, h*w, func(b []byte) (record, error) {
		m := image.NewRGBA(image.Rect(0, 0, w, h))
		for i, v := range b {
			m.Pix[4*i], m.Pix[4*i+1], m.Pix[4*i+2], m.Pix[4*i+3] = v, v, v, 255
		}
		return record{image: picture{m, true}}, nil
	})
	if labels != nil && len(labels) != s.n {
		return nil, d.errorf("files", "%d labels for %d images", len(labels), s.n)
	}
	s.labels = labels
	return s, nil
}

// readIDXHeader returns the shape of an IDX file of unsigned bytes, after
// checking it against the file's length, and the contents when the rank is 1.
func readIDXHeader(src source) ([]int, []int, error) {
	head := make([]byte, 16)
	got, _ := src.ReadAt(head, 0)
	shape, err := idxShape(head[:got])
	if err != nil {
		return nil, nil, err
	}
	rank := len(shape)
	n, err := tensor.NumElems(shape)
	if err != nil {
		return nil, nil, err
	}
	if rank == 3 && (shape[1] < 1 || shape[2] < 1 || shape[1] > maxSide || shape[2] > maxSide || shape[1]*shape[2] > maxPixels) {
		return nil, nil, fmt.Errorf("images of %d×%d pixels", shape[2], shape[1])
	}
	// Only the bytes that exist are trusted: the last one that the header
	// promises must be there, and none after it.
	end := int64(4+4*rank) + int64(n)
	var b [2]byte
	if got, err := src.ReadAt(b[:], end-1); got != 1 || !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("the header says %v, which does not fit the file's length", shape)
	}
	if rank == 3 {
		return shape, nil, nil
	}
	buf := make([]byte, n)
	if _, err := src.ReadAt(buf, 8); err != nil && n > 0 {
		return nil, nil, noEOF(err)
	}
	labels := make([]int, n)
	for i, v := range buf {
		labels[i] = int(v)
	}
	return shape, labels, nil
}

// idxShape returns the shape that the first 16 bytes of an IDX file say, or fewer where
// the file ends before.
func idxShape(head []byte) ([]int, error) {
	if len(head) < 8 {
		return nil, errors.New("not an IDX file: the file ends early")
	}
	rank := int(head[3])
	if head[0] != 0 || head[1] != 0 || head[2] != 8 || rank != 1 && rank != 3 {
		return nil, errors.New("not an IDX file of unsigned bytes of rank 1 (labels) or 3 (images)")
	}
	if len(head) < 4+4*rank {
		return nil, errors.New("not an IDX file: the file ends early")
	}
	shape := make([]int, rank)
	for i := range shape {
		shape[i] = int(binary.BigEndian.Uint32(head[4+4*i:]))
	}
	return shape, nil
}

// maxUnpacked bounds what a compressed file may become in memory, in bytes.
const maxUnpacked = 1 << 30

// openMaybeGzip opens an IDX file for random access; one that ends in .gz is
// decompressed into memory, as far as its header says that it goes and one byte more.
func openMaybeGzip(file string) (source, error) {
	f, err := regular.Open(file)
	if err != nil || !strings.HasSuffix(file, ".gz") {
		return f, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, noEOF(err))
	}
	head, err := io.ReadAll(io.LimitReader(z, 16))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, noEOF(err))
	}
	shape, err := idxShape(head)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	n, err := tensor.NumElems(shape)
	if err != nil || n > maxUnpacked {
		return nil, fmt.Errorf("%s: more than %d bytes unpacked; gunzip it first", file, maxUnpacked)
	}
	data, err := io.ReadAll(io.MultiReader(bytes.NewReader(head), io.LimitReader(z, int64(4+4*len(shape)+n-len(head)+1))))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, noEOF(err))
	}
	return inMemory{bytes.NewReader(data)}, nil
}

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }
