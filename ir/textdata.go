package ir

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/thriftc/thriftc/ir/tensor"
)

// The text form sees the elements of a tensor as little-endian bytes, each
// element in its container: one way for lists, splats, base64 and hashing.

// quietNaN gives the bits of the NaN that is written as plain nan.
var quietNaN = map[tensor.Elem]uint32{tensor.F32: 0x7fc00000, tensor.F16: 0x7e00, tensor.BF16: 0x7fc0}

func rawBytes(t *tensor.Tensor) []byte {
	raw, err := binary.Append(make([]byte, 0, t.Len()*t.Elem().ContainerBytes()), binary.LittleEndian, t.Container())
	if err != nil {
		panic(err) // containers are slices of fixed-size numbers
	}
	return raw
}

func fromRawBytes(e tensor.Elem, raw []byte, shape []int) (*tensor.Tensor, error) {
	t, err := tensor.Alloc(e, shape...)
	if err != nil {
		return nil, err
	}
	if len(raw) != t.Len()*e.ContainerBytes() {
		return nil, fmt.Errorf("%d elements given, %v needs %d", len(raw)/e.ContainerBytes(), TypeOf(t), t.Len())
	}
	_, err = binary.Decode(raw, binary.LittleEndian, t.Container())
	return t, err
}

// packedBytes returns the bytes that n elements take in base64 data, −1 on overflow.
func packedBytes(e tensor.Elem, n int) int {
	per := e.ContainerBytes() * 8
	if e.Bits() < 8 {
		per = e.Bits()
	}
	if n > (math.MaxInt-7)/per {
		return -1
	}
	return (n*per + 7) / 8
}

// packBits puts elements narrower than a byte close together, the first in the
// lowest bits; others stay as they are. Bipolar +1 is bit 1.
func packBits(e tensor.Elem, raw []byte) []byte {
	b := e.Bits()
	if b >= 8 {
		return raw
	}
	out := make([]byte, packedBytes(e, len(raw)))
	for i, v := range raw {
		if e == tensor.Bipolar {
			v = (v + 1) >> 1 & 1
		}
		x := uint16(v&(1<<b-1)) << (i * b % 8)
		out[i*b/8] |= byte(x)
		if x > 0xff {
			out[i*b/8+1] |= byte(x >> 8)
		}
	}
	return out
}

// unpackBits is the inverse of packBits for n elements; the padding must be zero.
func unpackBits(e tensor.Elem, packed []byte, n int) ([]byte, error) {
	b := e.Bits()
	if b >= 8 {
		return packed, nil
	}
	out := make([]byte, n)
	for i := range out {
		x := uint16(packed[i*b/8])
		if i*b/8+1 < len(packed) {
			x |= uint16(packed[i*b/8+1]) << 8
		}
		v := byte(x>>(i*b%8)) & (1<<b - 1)
		switch {
		case e == tensor.Bipolar:
			v = 2*v - 1
		case e.Kind() == tensor.IntKind && v>>(b-1) == 1:
			v |= 0xff << b
		}
		out[i] = v
	}
	if used := n * b % 8; used != 0 && packed[len(packed)-1]>>used != 0 {
		return nil, fmt.Errorf("the unused bits of the last byte are not zero")
	}
	return out, nil
}

// formatElem prints one element given by the bytes of its container.
func formatElem(e tensor.Elem, raw []byte) string {
	var bits uint64
	for i, b := range raw {
		bits |= uint64(b) << (8 * i)
	}
	switch e {
	case tensor.F64:
		x := math.Float64frombits(bits)
		if x != x {
			if bits == math.Float64bits(math.NaN()) {
				return "nan"
			}
			return "nan:0x" + strconv.FormatUint(bits, 16)
		}
		return plainInf(strconv.FormatFloat(x, 'g', -1, 64))
	case tensor.F32, tensor.F16, tensor.BF16:
		x := math.Float32frombits(uint32(bits))
		if e == tensor.F16 {
			x = tensor.F16ToF32(uint16(bits))
		} else if e == tensor.BF16 {
			x = tensor.BF16ToF32(uint16(bits))
		}
		if x != x {
			if uint32(bits) == quietNaN[e] {
				return "nan"
			}
			return "nan:0x" + strconv.FormatUint(bits, 16)
		}
		return plainInf(strconv.FormatFloat(float64(x), 'g', -1, 32))
	case tensor.Bool:
		return strconv.FormatBool(bits != 0)
	}
	if e.IsSigned() {
		shift := 64 - 8*len(raw)
		return strconv.FormatInt(int64(bits<<shift)>>shift, 10)
	}
	return strconv.FormatUint(bits, 10)
}

func plainInf(s string) string {
	switch s {
	case "+Inf":
		return "inf"
	case "-Inf":
		return "-inf"
	}
	return s
}

// parseElem is the inverse of formatElem: it returns the bits of the
// container. For a NaN with its bits shown, s is "nan:" and these.
func parseElem(e tensor.Elem, s string) (uint64, error) {
	bad := fmt.Errorf("%q is not a value of type %v", s, e)
	switch {
	case e == tensor.Bool:
		switch s {
		case "true":
			return 1, nil
		case "false":
			return 0, nil
		}
		return 0, bad
	case e.IsFloat():
		return parseFloatBits(e, s)
	case e.Kind() == tensor.UintKind:
		x, err := strconv.ParseUint(s, 10, e.Bits())
		if err != nil {
			return 0, bad
		}
		return x, nil
	case e.IsSigned():
		x, err := strconv.ParseInt(s, 10, max(e.Bits(), 2))
		if err != nil || e == tensor.Bipolar && x != 1 && x != -1 {
			return 0, bad
		}
		if e == tensor.Int(1) && x > 0 {
			return 0, bad
		}
		return uint64(x), nil
	}
	return 0, bad
}

func parseFloatBits(e tensor.Elem, s string) (uint64, error) {
	bad := fmt.Errorf("%q is not a value of type %v", s, e)
	if len(s) > 4 && s[:4] == "nan:" {
		b, err := strconv.ParseUint(s[4:], 0, e.Bits())
		if err != nil {
			return 0, bad
		}
		raw := binary.LittleEndian.AppendUint64(nil, b)[:e.ContainerBytes()]
		if t, err := fromRawBytes(e, raw, nil); err != nil || !math.IsNaN(t.Float64s()[0]) {
			return 0, bad
		}
		return b, nil
	}
	if s == "nan" {
		if e == tensor.F64 {
			return math.Float64bits(math.NaN()), nil
		}
		return uint64(quietNaN[e]), nil
	}
	size := 32
	if e == tensor.F64 {
		size = 64
	}
	x, err := strconv.ParseFloat(s, size)
	if err != nil {
		return 0, bad
	}
	switch e {
	case tensor.F64:
		return math.Float64bits(x), nil
	case tensor.F16:
		return uint64(tensor.F32ToF16(float32(x))), nil
	case tensor.BF16:
		return uint64(tensor.F32ToBF16(float32(x))), nil
	}
	return uint64(math.Float32bits(float32(x))), nil
}
