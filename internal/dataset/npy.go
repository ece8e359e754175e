package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/ir/tensor"
)

// The NPY format (numpy's NEP 1): magic, version, the length of a header, the
// header as a Python dictionary literal, and the elements.

const npyMagic = "\x93NUMPY"

// npyHeader is what stands before the elements.
type npyHeader struct {
	elem  tensor.Elem
	order binary.ByteOrder
	shape []int
	size  int64 // bytes up to the first element
}

// bytes returns the number of bytes of the elements; the shape was checked.
func (h *npyHeader) bytes() int64 {
	n, _ := tensor.NumElems(h.shape)
	return int64(n) * int64(h.elem.ContainerBytes())
}

var (
	npyDescr   = regexp.MustCompile(`'descr'\s*:\s*'([^']*)'`)
	npyFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`'shape'\s*:\s*\(([0-9,\sL]*)\)`)
)

var npyElems = map[string]tensor.Elem{
	"f2": tensor.F16, "f4": tensor.F32, "f8": tensor.F64, "b1": tensor.Bool,
	"i1": tensor.I8, "i2": tensor.I16, "i4": tensor.I32, "i8": tensor.I64,
	"u1": tensor.U8, "u2": tensor.U16, "u4": tensor.U32, "u8": tensor.U64,
}

// readNPYHeader reads versions 1, 2 and 3.
func readNPYHeader(r io.Reader) (*npyHeader, error) {
	var pre [12]byte
	if _, err := io.ReadFull(r, pre[:10]); err != nil || string(pre[:6]) != npyMagic {
		return nil, errors.New("not an NPY file")
	}
	h := &npyHeader{size: 10}
	n := int64(binary.LittleEndian.Uint16(pre[8:]))
	switch pre[6] {
	case 1:
	case 2, 3:
		if _, err := io.ReadFull(r, pre[10:]); err != nil {
			return nil, errors.New("the NPY header is cut off")
		}
		n, h.size = int64(binary.LittleEndian.Uint32(pre[8:])), 12
	default:
		return nil, fmt.Errorf("NPY version %d.%d is not known", pre[6], pre[7])
	}
	if n > 1<<16 {
		return nil, fmt.Errorf("an NPY header of %d bytes", n)
	}
	h.size += n
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, errors.New("the NPY header is cut off")
	}
	descr, fortran, shape := npyDescr.FindSubmatch(text), npyFortran.FindSubmatch(text), npyShape.FindSubmatch(text)
	if descr == nil || fortran == nil || shape == nil {
		return nil, fmt.Errorf("the NPY header %.80q lacks a plain descr, fortran_order or shape", text)
	}
	h.order = binary.LittleEndian
	typ := string(descr[1])
	if typ != "" && strings.IndexByte("<>|=", typ[0]) >= 0 {
		if typ[0] == '>' {
			h.order = binary.BigEndian
		}
		typ = typ[1:]
	}
	if h.elem = npyElems[typ]; h.elem == tensor.Invalid {
		return nil, fmt.Errorf("NPY element type %q cannot be used", descr[1])
	}
	h.shape = []int{}
	for f := range strings.SplitSeq(string(shape[1]), ",") {
		if f = strings.TrimRight(strings.TrimSpace(f), "L"); f == "" {
			continue
		}
		d, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("NPY shape (%s)", shape[1])
		}
		h.shape = append(h.shape, d)
	}
	if len(h.shape) > maxRank {
		return nil, fmt.Errorf("NPY array of rank %d", len(h.shape))
	}
	if n, err := tensor.NumElems(h.shape); err != nil {
		return nil, err
	} else if n > math.MaxInt/16 {
		return nil, fmt.Errorf("%w: shape %v", tensor.ErrTooLarge, h.shape)
	}
	if string(fortran[1]) == "True" && len(h.shape) > 1 {
		return nil, errors.New("the array is in Fortran order; save numpy.ascontiguousarray(x)")
	}
	return h, nil
}

// maxRank is the largest number of dimensions of an array; numpy has 64.
const maxRank = 64

// decode turns the bytes of elements into a tensor.
func (h *npyHeader) decode(b []byte, shape []int) (*tensor.Tensor, error) {
	t, err := tensor.Alloc(h.elem, shape...)
	if err != nil {
		return nil, err
	}
	if d, ok := t.Container().([]bool); ok {
		for i, v := range b {
			d[i] = v != 0
		}
		return t, nil
	}
	_, err = binary.Decode(b, h.order, t.Container())
	return t, err
}

// readNPY reads a whole array; size is the number of bytes that r holds.
func readNPY(r io.Reader, size int64) (*tensor.Tensor, error) {
	h, err := readNPYHeader(r)
	if err != nil {
		return nil, err
	}
	if h.size+h.bytes() != size {
		return nil, fmt.Errorf("%v%v takes %d bytes after the header, there are %d", h.elem, h.shape, h.bytes(), size-h.size)
	}
	if h.bytes() > tensor.MaxBytes {
		return nil, fmt.Errorf("%w: %v%v", tensor.ErrTooLarge, h.elem, h.shape)
	}
	if err := tensor.Reserve(2 * h.bytes()); err != nil {
		return nil, err
	}
	b := make([]byte, h.bytes())
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, damaged(err)
	}
	// An archive's checksum is compared where its member ends.
	if n, err := r.Read(make([]byte, 1)); n > 0 || err != nil && err != io.EOF {
		return nil, damaged(err)
	}
	return h.decode(b, h.shape)
}

// writeNPY writes an array as version 1.0. Element types that numpy does not
// have are written in a wider one that holds them exactly: bf16 as f4, i5 as i1.
func writeNPY(w io.Writer, t *tensor.Tensor) error {
	if t.Elem() == tensor.BF16 {
		t = tensor.Of(t.Float32s(), t.Shape()...)
	}
	typ := ""
	switch e := t.Elem(); {
	case e == tensor.String:
		return errors.New("text cannot be written as NPY")
	case e == tensor.Bool:
		typ = "|b1"
	case e.IsFloat():
		typ = "<f" + strconv.Itoa(e.ContainerBytes())
	case e.IsSigned():
		typ = "<i" + strconv.Itoa(e.ContainerBytes())
	default:
		typ = "<u" + strconv.Itoa(e.ContainerBytes())
	}
	if strings.HasSuffix(typ, "1") {
		typ = "|" + typ[1:]
	}
	dims := ""
	for _, d := range t.Shape() {
		dims += strconv.Itoa(d) + ", "
	}
	if t.Rank() != 1 {
		dims = strings.TrimSuffix(dims, ", ")
	} else {
		dims = strings.TrimSuffix(dims, " ")
	}
	head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", typ, dims)
	head += strings.Repeat(" ", 63-(len(npyMagic)+4+len(head))%64) + "\n" // the elements start at a multiple of 64
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(head)))
	if _, err := w.Write(append(b, head...)); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, t.Container())
}
