// Package tensor holds element types and dense, immutable tensors: the values
// that flow through a graph. Bit width is part of the element type: a five-bit
// weight is an i5, held in memory in the next larger Go integer.
package tensor

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is the family of an element type.
type Kind uint8

// The families of element types.
const (
	InvalidKind  Kind = iota
	FloatKind         // IEEE binary16, binary32, binary64
	BFloatKind        // bfloat16
	IntKind           // two's complement, 1 to 64 bits
	UintKind          // unsigned, 1 to 64 bits
	BoolKind          // false, true
	BipolarKind       // −1, +1
	StringKind        // text
	SequenceKind      // a list of tensors that have one element type, its Member
)

// Elem is an element type: a kind and a width in bits. Elems compare with ==.
type Elem uint16

func elem(k Kind, bits int) Elem { return Elem(k)<<8 | Elem(bits) }

// The element types that ONNX names, and Bipolar. Int and Uint give the others.
const (
	Invalid Elem = 0
	F16          = Elem(FloatKind)<<8 | 16
	F32          = Elem(FloatKind)<<8 | 32
	F64          = Elem(FloatKind)<<8 | 64
	BF16         = Elem(BFloatKind)<<8 | 16
	I4           = Elem(IntKind)<<8 | 4
	I8           = Elem(IntKind)<<8 | 8
	I16          = Elem(IntKind)<<8 | 16
	I32          = Elem(IntKind)<<8 | 32
	I64          = Elem(IntKind)<<8 | 64
	U4           = Elem(UintKind)<<8 | 4
	U8           = Elem(UintKind)<<8 | 8
	U16          = Elem(UintKind)<<8 | 16
	U32          = Elem(UintKind)<<8 | 32
	U64          = Elem(UintKind)<<8 | 64
	Bool         = Elem(BoolKind)<<8 | 1
	Bipolar      = Elem(BipolarKind)<<8 | 1
	String       = Elem(StringKind) << 8
)

// Int returns the signed integer type of the given width, 1 to 64 bits.
func Int(bits int) Elem { return intElem(IntKind, bits) }

// Uint returns the unsigned integer type of the given width, 1 to 64 bits.
func Uint(bits int) Elem { return intElem(UintKind, bits) }

func intElem(k Kind, bits int) Elem {
	if bits < 1 || bits > 64 {
		return Invalid
	}
	return elem(k, bits)
}

// sequence is the bit that makes the type of a sequence from that of its members.
const sequence = 1 << 15

// Sequence returns the type of sequences whose members have elements e, which
// is not a sequence itself. A sequence is a tensor of rank 1 of tensors.
func Sequence(e Elem) Elem { return e | sequence }

// Member returns the element type of the members of a sequence, e itself for
// other types.
func (e Elem) Member() Elem { return e &^ sequence }

// IsSequence reports whether e is the type of a sequence.
func (e Elem) IsSequence() bool { return e&sequence != 0 }

// Kind returns e's family.
func (e Elem) Kind() Kind {
	if e.IsSequence() {
		return SequenceKind
	}
	return Kind(e >> 8)
}

// Bits returns e's width in bits; 0 for String, sequences and Invalid.
func (e Elem) Bits() int {
	if e.IsSequence() {
		return 0
	}
	return int(e & 0xff)
}

// IsFloat reports whether e is a floating-point type.
func (e Elem) IsFloat() bool { k := e.Kind(); return k == FloatKind || k == BFloatKind }

// IsInt reports whether e is a signed or unsigned integer type.
func (e Elem) IsInt() bool { k := e.Kind(); return k == IntKind || k == UintKind }

// IsSigned reports whether e can hold negative numbers.
func (e Elem) IsSigned() bool {
	switch e.Kind() {
	case FloatKind, BFloatKind, IntKind, BipolarKind:
		return true
	}
	return false
}

// Range returns the least and greatest value of an integer, bool or bipolar
// type; both are 0 for other types, and the greatest u64 is cut to the greatest i64.
func (e Elem) Range() (lo, hi int64) {
	b := e.Bits()
	switch e.Kind() {
	case IntKind:
		return -1 << (b - 1), 1<<(b-1) - 1
	case UintKind:
		if b >= 63 {
			return 0, 1<<63 - 1
		}
		return 0, 1<<b - 1
	case BoolKind:
		return 0, 1
	case BipolarKind:
		return -1, 1
	}
	return 0, 0
}

// ContainerBytes returns the bytes that one element takes in memory (not on
// disk, where narrow types are packed): the size of the Go type that holds it.
func (e Elem) ContainerBytes() int {
	switch b := e.Bits(); {
	case e.Kind() == StringKind:
		return 16
	case e.IsSequence():
		return 8
	case e == Invalid:
		return 0
	case b <= 8:
		return 1
	case b <= 16:
		return 2
	case b <= 32:
		return 4
	default:
		return 8
	}
}

// String returns e's name in the text form: f32, bf16, i5, u8, bool, bipolar, string, seq_f32.
func (e Elem) String() string {
	switch e.Kind() {
	case FloatKind:
		return "f" + strconv.Itoa(e.Bits())
	case BFloatKind:
		return "bf" + strconv.Itoa(e.Bits())
	case IntKind:
		return "i" + strconv.Itoa(e.Bits())
	case UintKind:
		return "u" + strconv.Itoa(e.Bits())
	case BoolKind:
		return "bool"
	case BipolarKind:
		return "bipolar"
	case StringKind:
		return "string"
	case SequenceKind:
		return "seq_" + e.Member().String()
	}
	return "invalid"
}

// ParseElem is the inverse of Elem.String.
func ParseElem(s string) (Elem, error) {
	switch s {
	case "f16":
		return F16, nil
	case "f32":
		return F32, nil
	case "f64":
		return F64, nil
	case "bf16":
		return BF16, nil
	case "bool":
		return Bool, nil
	case "bipolar":
		return Bipolar, nil
	case "string":
		return String, nil
	}
	if m, ok := strings.CutPrefix(s, "seq_"); ok {
		if e, err := ParseElem(m); err == nil && !e.IsSequence() {
			return Sequence(e), nil
		}
	}
	if len(s) >= 2 && (s[0] == 'i' || s[0] == 'u') && s[1] != '0' && s[1] != '+' && s[1] != '-' {
		if bits, err := strconv.Atoi(s[1:]); err == nil && bits >= 1 && bits <= 64 {
			if s[0] == 'i' {
				return Int(bits), nil
			}
			return Uint(bits), nil
		}
	}
	return Invalid, fmt.Errorf("unknown element type %q", s)
}
