package onnxio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/thriftc/thriftc/internal/onnxpb"
	"github.com/thriftc/thriftc/ir/tensor"
)

// errType is the error for types that thriftc does not have.
type errType struct{ name string }

func (e errType) Error() string { return "type " + e.name + " is not supported" }

func elemOf(dataType int32) (tensor.Elem, error) {
	if e := tensor.FromONNXType(int(dataType)); e != tensor.Invalid {
		return e, nil
	}
	d := onnxpb.TensorProto_DataType(dataType)
	if _, named := onnxpb.TensorProto_DataType_name[dataType]; named && d != onnxpb.TensorProto_UNDEFINED {
		return tensor.Invalid, errType{d.String()}
	}
	return tensor.Invalid, fmt.Errorf("%d is not an element type", dataType)
}

// ReadTensor reads a file that holds one TensorProto, as the ONNX test data
// sets do, and returns the tensor and its name.
func ReadTensor(path string) (*tensor.Tensor, string, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, "", err
	}
	t, name, err := DecodeTensor(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return t, name, nil
}

// DecodeTensor is ReadTensor for a file in memory.
func DecodeTensor(data []byte) (*tensor.Tensor, string, error) {
	var p onnxpb.TensorProto
	if len(data) == 0 {
		return nil, "", errors.New("the file is empty")
	}
	if err := unmarshal(data, &p); err != nil {
		return nil, "", err
	}
	t, err := decodeTensor(&p, &externalFiles{})
	return t, p.GetName(), err
}

// WriteTensor writes a file that holds one TensorProto.
func WriteTensor(path, name string, t *tensor.Tensor) error {
	data, err := EncodeTensor(name, t)
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

func shapeOf(dims []int64) ([]int, error) {
	shape := make([]int, len(dims))
	for i, d := range dims {
		shape[i] = int(d)
	}
	_, err := tensor.NumElems(shape)
	return shape, err
}

// rawBytes returns the packed size of n elements.
func rawBytes(e tensor.Elem, n int) int {
	if e == tensor.Bool {
		return n
	}
	b := e.Bits()
	if b >= 8 {
		if n > math.MaxInt/(b/8) {
			return math.MaxInt
		}
		return n * (b / 8)
	}
	perByte := 8 / b
	return n/perByte + min(1, n%perByte)
}

// decodeTensor checks that the data has exactly the size that the shape asks
// for before it allocates anything.
func decodeTensor(p *onnxpb.TensorProto, files *externalFiles) (*tensor.Tensor, error) {
	e, err := elemOf(p.GetDataType())
	if err != nil {
		return nil, err
	}
	shape, err := shapeOf(p.Dims)
	if err != nil {
		return nil, err
	}
	if p.Segment != nil {
		return nil, errors.New("the tensor is cut into segments, which no ONNX version defines")
	}
	n, _ := tensor.NumElems(shape)
	raw := p.RawData
	external := p.GetDataLocation() == onnxpb.TensorProto_EXTERNAL
	typed := len(p.FloatData) + len(p.Int32Data) + len(p.StringData) + len(p.Int64Data) + len(p.DoubleData) + len(p.Uint64Data)
	switch {
	case external && (typed > 0 || len(raw) > 0), len(raw) > 0 && typed > 0:
		return nil, errors.New("the tensor's data is given twice")
	case e == tensor.String && (external || len(raw) > 0):
		return nil, errors.New("strings must be in string_data")
	case external:
		if raw, err = files.read(p.ExternalData, rawBytes(e, n)); err != nil {
			return nil, err
		}
	}
	if external || p.RawData != nil && typed == 0 && e != tensor.String {
		if len(raw) != rawBytes(e, n) {
			return nil, fmt.Errorf("%v%v takes %d bytes, the file has %d", e, shape, rawBytes(e, n), len(raw))
		}
		return fromRaw(e, raw, shape)
	}
	return fromTyped(e, p, shape, n, typed)
}

// fromRaw returns the tensor whose elements raw holds. It may keep raw.
func fromRaw(e tensor.Elem, raw []byte, shape []int) (*tensor.Tensor, error) {
	if e == tensor.F32 {
		if x, ok := asFloats(raw); ok {
			return tensor.Of(x, shape...), nil
		}
	}
	t, err := tensor.Alloc(e, shape...)
	if err != nil {
		return nil, err
	}
	switch d := t.Container().(type) {
	case []int8:
		unpack(d, raw, e.Bits())
	case []uint8:
		unpack(d, raw, e.Bits())
	default:
		_, err = binary.Decode(raw, binary.LittleEndian, d)
	}
	return t, err
}

// asFloats returns raw's bytes as the floats that they are on this machine, not
// copied: most of the time that reading a model would take is copying its weights.
func asFloats(raw []byte) ([]float32, bool) {
	const one = 0x3f800000 // the bits of 1, to see how this machine lays out numbers
	p := unsafe.Pointer(unsafe.SliceData(raw))
	if len(raw) == 0 || uintptr(p)%4 != 0 || binary.NativeEndian.Uint32([]byte{0, 0, 0x80, 0x3f}) != one {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(raw)/4), true
}

// unpack fills dst from elements of 2, 4 or 8 bits, the first in the lowest
// bits of a byte. For signed types shifting left and back extends the sign.
func unpack[T int8 | uint8](dst []T, raw []byte, bits int) {
	if bits == 8 {
		for i, b := range raw {
			dst[i] = T(b)
		}
		return
	}
	per, up := 8/bits, 8-bits
	for i := range dst {
		b := raw[i/per] >> (i % per * bits)
		dst[i] = T(b<<up) >> up
	}
}

// fromTyped reads the field that the data type prescribes (TensorProto's
// comments in the ONNX specification list them).
func fromTyped(e tensor.Elem, p *onnxpb.TensorProto, shape []int, n, typed int) (*tensor.Tensor, error) {
	have, want := 0, n
	switch e {
	case tensor.F32:
		have = len(p.FloatData)
	case tensor.F64:
		have = len(p.DoubleData)
	case tensor.I64:
		have = len(p.Int64Data)
	case tensor.U64, tensor.U32:
		have = len(p.Uint64Data)
	case tensor.String:
		have = len(p.StringData)
	default:
		have = len(p.Int32Data)
		if e.Bits() < 8 && e != tensor.Bool { // one packed byte per entry
			want = rawBytes(e, n)
		}
	}
	if have != typed {
		return nil, fmt.Errorf("the data of %v elements is in another type's field", e)
	}
	if have != want {
		return nil, fmt.Errorf("%v%v takes %d entries, the file has %d", e, shape, want, have)
	}
	switch e {
	case tensor.F32:
		return tensor.Of(p.FloatData, shape...), nil
	case tensor.F64:
		return tensor.Of(p.DoubleData, shape...), nil
	case tensor.I64:
		return tensor.Of(p.Int64Data, shape...), nil
	case tensor.U64:
		return tensor.Of(p.Uint64Data, shape...), nil
	case tensor.U32:
		d := make([]uint32, n)
		for i, v := range p.Uint64Data {
			if d[i] = uint32(v); uint64(d[i]) != v {
				return nil, fmt.Errorf("element %d is %d, outside u32", i, v)
			}
		}
		return tensor.Of(d, shape...), nil
	case tensor.String:
		d := make([]string, n)
		for i, s := range p.StringData {
			d[i] = string(s)
		}
		return tensor.Of(d, shape...), nil
	case tensor.F16, tensor.BF16, tensor.Bool:
		hi := int32(1)
		if e != tensor.Bool {
			hi = math.MaxUint16
		}
		t, err := tensor.Alloc(e, shape...)
		if err != nil {
			return nil, err
		}
		for i, v := range p.Int32Data {
			if v < 0 || v > hi {
				return nil, fmt.Errorf("entry %d of int32_data is %d, outside %v", i, v, e)
			}
			if e == tensor.Bool {
				tensor.Data[bool](t)[i] = v != 0
			} else {
				tensor.Data[uint16](t)[i] = uint16(v)
			}
		}
		return t, nil
	}
	if e.Bits() < 8 {
		raw := make([]byte, len(p.Int32Data))
		for i, v := range p.Int32Data {
			if v < -128 || v > 255 {
				return nil, fmt.Errorf("entry %d of int32_data is %d, more than a byte", i, v)
			}
			raw[i] = byte(v)
		}
		return fromRaw(e, raw, shape)
	}
	lo, hi := e.Range()
	x := make([]int64, n)
	for i, v := range p.Int32Data {
		if x[i] = int64(v); x[i] < lo || x[i] > hi {
			return nil, fmt.Errorf("element %d is %d, outside %v", i, v, e)
		}
	}
	return tensor.FromInt64s(e, x, shape...), nil
}

// encodeTensor stores every numeric type in raw_data.
func encodeTensor(name string, t *tensor.Tensor) (*onnxpb.TensorProto, error) {
	d := t.Elem().ONNXType()
	if d == 0 {
		return nil, fmt.Errorf("tensor %q: ONNX has no element type %v", name, t.Elem())
	}
	p := &onnxpb.TensorProto{Name: proto.String(name), DataType: proto.Int32(int32(d))}
	for _, n := range t.Shape() {
		p.Dims = append(p.Dims, int64(n))
	}
	if t.Elem() == tensor.String {
		for _, s := range tensor.Data[string](t) {
			p.StringData = append(p.StringData, []byte(s))
		}
		return p, nil
	}
	p.RawData = toRaw(t)
	return p, nil
}

func toRaw(t *tensor.Tensor) []byte {
	raw := make([]byte, 0, rawBytes(t.Elem(), t.Len()))
	switch d := t.Container().(type) {
	case []int8:
		raw = pack(raw, d, t.Elem().Bits())
	case []uint8:
		raw = pack(raw, d, t.Elem().Bits())
	default:
		out, err := binary.Append(raw, binary.LittleEndian, d)
		if err != nil {
			panic(err) // containers are slices of fixed-size numbers
		}
		raw = out
	}
	return raw
}

func pack[T int8 | uint8](raw []byte, d []T, bits int) []byte {
	per, mask := 8/bits, byte(1<<bits-1)
	for i, v := range d {
		if i%per == 0 {
			raw = append(raw, 0)
		}
		raw[len(raw)-1] |= byte(v) & mask << (i % per * bits)
	}
	return raw
}

// maxDense is the most bytes that the sparse tensors of one model may take
// once they are dense: the one place where a small file asks for much memory.
const maxDense = 256 << 20

// densify turns a sparse tensor into a dense one; budget counts down maxDense.
func densify(p *onnxpb.SparseTensorProto, files *externalFiles, budget *int) (*tensor.Tensor, error) {
	if p.Values == nil || p.Indices == nil {
		return nil, errors.New("a sparse tensor needs values and indices")
	}
	vals, err := decodeTensor(p.Values, files)
	if err != nil {
		return nil, err
	}
	idx, err := decodeTensor(p.Indices, files)
	if err != nil {
		return nil, err
	}
	shape, err := shapeOf(p.Dims)
	if err != nil {
		return nil, err
	}
	n, _ := tensor.NumElems(shape)
	e := vals.Elem()
	if cb := e.ContainerBytes(); n > *budget/cb {
		return nil, fmt.Errorf("%w: sparse tensors of more than %d bytes in all", tensor.ErrTooLarge, maxDense)
	}
	*budget -= n * e.ContainerBytes()
	nnz := vals.Len()
	linear := idx.Rank() == 1 && idx.Len() == nnz
	if vals.Rank() != 1 || idx.Elem() != tensor.I64 || !linear && (idx.Rank() != 2 || idx.Shape()[0] != nnz || idx.Shape()[1] != len(shape)) {
		return nil, fmt.Errorf("sparse tensor: values %v and indices %v do not fit shape %v", vals.Shape(), idx.Shape(), shape)
	}
	at := make([]int, nnz)
	for i := range at {
		if linear {
			at[i] = int(tensor.Data[int64](idx)[i])
		} else {
			for j, d := range shape {
				k := int(tensor.Data[int64](idx)[i*len(shape)+j])
				if k < 0 || k >= d {
					return nil, fmt.Errorf("sparse tensor: index %d is outside shape %v", k, shape)
				}
				at[i] = at[i]*d + k
			}
		}
		if at[i] < 0 || at[i] >= n || i > 0 && at[i] <= at[i-1] {
			return nil, errors.New("sparse tensor: indices must be inside the shape and rise")
		}
	}
	t, err := tensor.Alloc(e, shape...)
	if err != nil {
		return nil, err
	}
	scatter(t, vals, at)
	return t, nil
}

func scatter(dst, src *tensor.Tensor, at []int) {
	switch d := dst.Container().(type) {
	case []float32:
		scatterInto(d, src, at)
	case []float64:
		scatterInto(d, src, at)
	case []bool:
		scatterInto(d, src, at)
	case []string:
		scatterInto(d, src, at)
	case []int8:
		scatterInto(d, src, at)
	case []int16:
		scatterInto(d, src, at)
	case []int32:
		scatterInto(d, src, at)
	case []int64:
		scatterInto(d, src, at)
	case []uint8:
		scatterInto(d, src, at)
	case []uint16:
		scatterInto(d, src, at)
	case []uint32:
		scatterInto(d, src, at)
	case []uint64:
		scatterInto(d, src, at)
	}
}

func scatterInto[T tensor.Container](dst []T, src *tensor.Tensor, at []int) {
	for i, v := range tensor.Data[T](src) {
		dst[at[i]] = v
	}
}

// EncodeTensor returns the bytes of a file that WriteTensor would write.
func EncodeTensor(name string, t *tensor.Tensor) ([]byte, error) {
	p, err := encodeTensor(name, t)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(p)
}
