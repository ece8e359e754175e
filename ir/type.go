package ir

import (
	"slices"
	"strconv"
	"strings"

	"github.com/thriftc/thriftc/ir/tensor"
)

// Dim is one dimension of a shape: a number, a symbol such as the batch size
// "N", or unknown. The zero value is the number 0.
type Dim struct {
	N   int    // ≥ 0: the number; −1: not a number
	Sym string // with N = −1: the symbol; empty means nothing is known
}

// Unknown is the dimension about which nothing is known; two unknown
// dimensions need not be equal.
var Unknown = Dim{N: -1}

// Fixed returns the dimension n.
func Fixed(n int) Dim { return Dim{N: n} }

// Symbol returns the dimension named s; equal names are equal dimensions.
func Symbol(s string) Dim { return Dim{N: -1, Sym: s} }

// Known reports whether d is a number.
func (d Dim) Known() bool { return d.N >= 0 }

// Same reports whether d and e are certainly equal.
func (d Dim) Same(e Dim) bool { return d == e && d != Unknown }

// MayEqual reports whether d and e can be equal: only two different numbers cannot.
func (d Dim) MayEqual(e Dim) bool { return !d.Known() || !e.Known() || d.N == e.N }

// String returns the number, the symbol (quoted unless it is an identifier), or "?".
func (d Dim) String() string {
	switch {
	case d.Known():
		return strconv.Itoa(d.N)
	case d.Sym != "":
		return identOrQuote(d.Sym)
	}
	return "?"
}

// Dims makes fixed dimensions from numbers.
func Dims(shape ...int) []Dim {
	out := make([]Dim, len(shape))
	for i, n := range shape {
		out[i] = Fixed(n)
	}
	return out
}

// Type is what is known about a value before it is computed.
type Type struct {
	Elem     tensor.Elem
	Dims     []Dim  // the shape; empty for a scalar
	Unranked bool   // not even the rank is known; Dims is then empty
	Quant    *Quant // what the integers mean; integer level only
}

// Quant says which real number an integer q stands for:
// (q − ZeroPoint)·Scale, per tensor or along Axis.
type Quant struct {
	Scale     []float32 // one, or one per index along Axis
	ZeroPoint []int64   // as many as Scale; empty means 0
	Axis      int       // meaningful when there is more than one scale
}

// TensorType returns the type of elements e with the given fixed or symbolic dimensions.
func TensorType(e tensor.Elem, dims ...Dim) Type { return Type{Elem: e, Dims: dims} }

// TypeOf returns t's type.
func TypeOf(t *tensor.Tensor) Type { return Type{Elem: t.Elem(), Dims: Dims(t.Shape()...)} }

// UnrankedType is a type of which only the element type is known.
func UnrankedType(e tensor.Elem) Type { return Type{Elem: e, Unranked: true} }

// Rank returns the number of dimensions, or −1 when it is unknown.
func (t Type) Rank() int {
	if t.Unranked {
		return -1
	}
	return len(t.Dims)
}

// Static returns the shape as numbers, and whether every dimension is one.
func (t Type) Static() ([]int, bool) {
	if t.Unranked {
		return nil, false
	}
	out := make([]int, len(t.Dims))
	for i, d := range t.Dims {
		if !d.Known() {
			return nil, false
		}
		out[i] = d.N
	}
	return out, true
}

// WithDims returns t with other dimensions and no Quant.
func (t Type) WithDims(dims ...Dim) Type { return Type{Elem: t.Elem, Dims: dims} }

// WithElem returns t with another element type and no Quant.
func (t Type) WithElem(e tensor.Elem) Type {
	return Type{Elem: e, Dims: t.Dims, Unranked: t.Unranked}
}

// Equal reports whether t and u say the same.
func (t Type) Equal(u Type) bool {
	if t.Elem != u.Elem || t.Unranked != u.Unranked || !slices.Equal(t.Dims, u.Dims) {
		return false
	}
	if t.Quant == nil || u.Quant == nil {
		return t.Quant == u.Quant
	}
	return t.Quant.Axis == u.Quant.Axis && slices.Equal(t.Quant.Scale, u.Quant.Scale) && slices.Equal(t.Quant.ZeroPoint, u.Quant.ZeroPoint)
}

// Compatible reports whether one value could have both types: the same
// element type, and shapes that no known dimension tells apart.
func (t Type) Compatible(u Type) bool {
	if t.Elem != u.Elem {
		return false
	}
	if t.Unranked || u.Unranked {
		return true
	}
	return slices.EqualFunc(t.Dims, u.Dims, Dim.MayEqual)
}

// String returns the type as the text form writes it, as in f32[N,3,32,32]
// or i4[8,16] scale [0.5] axis 0; an unknown rank is f32[...].
func (t Type) String() string {
	var b strings.Builder
	b.WriteString(t.Elem.String())
	b.WriteByte('[')
	if t.Unranked {
		b.WriteString("...")
	}
	for i, d := range t.Dims {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(d.String())
	}
	b.WriteByte(']')
	if q := t.Quant; q != nil {
		b.WriteString(" scale [")
		for i, s := range q.Scale {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(formatFloat(s))
		}
		b.WriteByte(']')
		if len(q.ZeroPoint) > 0 {
			b.WriteString(" zero [")
			for i, z := range q.ZeroPoint {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(strconv.FormatInt(z, 10))
			}
			b.WriteByte(']')
		}
		if len(q.Scale) > 1 || q.Axis != 0 {
			b.WriteString(" axis " + strconv.Itoa(q.Axis))
		}
	}
	return b.String()
}
